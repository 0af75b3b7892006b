"""The bar of the efficient network: from cards and seconds to a verdict."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "build" / "measure_efficient.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("measure_efficient", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def card(*fds):
    seeds = {"seeds": [{"fd": fd} for fd in fds]}
    return {"quality": {"samplers": {"ddim_50": seeds, "dpmpp_2m_10": seeds}},
            "flops_per_call": 2e6, "parameters": 5}  # fmt: skip


@pytest.mark.parametrize(
    ("fds", "seconds", "met"),
    [((0.3, 0.35, 0.4), 0.2, True), ((0.3, 0.35, 0.7), 0.2, False), ((0.3, 0.3, 0.3), 0.3, False)],
)
def test_half_the_seconds_at_a_quarter_more_fd(script, fds, seconds, met):
    cards = {script.SHIPPED: card(0.2, 0.3, 0.4), script.EFFICIENT: card(*fds)}
    taken = {s: {script.SHIPPED: [0.4, 9.0, 0.5, 0.5, 0.1], script.EFFICIENT: [seconds] * 5}
             for s in script.SAMPLERS}  # fmt: skip
    rows = script.rows_of(cards, taken)
    assert len(rows) == 4 and rows[0]["FD"] == pytest.approx(0.3)
    assert (rows[0]["from"], rows[0]["to"], rows[0]["CPU seconds"]) == (0.2, 0.4, 0.5)
    verdict, bars = script.judge(rows)
    assert [b["met"] for b in bars] == [met] * 2
    assert bars[0]["share of CPU seconds"] == pytest.approx(seconds / 0.5)
    assert verdict.startswith("less will do" if met else "depends on what is wanted")
