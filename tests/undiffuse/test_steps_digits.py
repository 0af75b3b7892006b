"""Claim 2: its runs, and how figures by calls become a verdict."""

from __future__ import annotations

import pytest

from undiffuse import data
from undiffuse.experiments import steps_digits as steps
from undiffuse.results import load_results


def outcomes(curve, budget="full"):
    """run -> figures, FD / floor being curve(solver, calls); seeds a little apart."""
    return {
        run: {
            "FD / floor": curve(run.solver, run.calls) * (1 + 0.01 * run.seed),
            "recall": 0.8,
            "accuracy": 0.99,
            "floor": 0.3,
            "floor_recall": 0.85,
        }
        for run in steps.runs(budget)
    }


def falling(solver, calls):
    return 1.5 + 20.0 / calls**2


def test_runs():
    runs = steps.runs("full")
    assert len(runs) == 3 * (4 * 5 + 1) and len({r.mark for r in runs}) == 1
    assert {r.calls for r in runs if r.solver == "DDPM"} == {3, 5, 10, 20, 50, 100}
    assert {r.calls for r in runs if r.solver == "DDIM"} == {3, 5, 10, 20, 50}
    small = steps.runs("small")
    assert {r.calls for r in small} == {3, 10, 50} and {r.seed for r in small} == {0, 1}


def test_result_has_what_the_shipped_one_of_its_kind_would():
    (made,) = steps.conclude(outcomes(falling)).values()
    assert made["curves"]["DDPM"].shape == (3, 6) and made["calls"]["Heun"] == (3, 5, 10, 20, 50)
    assert float(made["curves"]["DDIM"][2, 0]) == pytest.approx(falling("DDIM", 3) * 1.02)
    row = made["rows"][0]
    assert (row["solver"], row["calls"]) == ("DDIM", 3)
    assert row["lowest"] < row["FD / floor"] < row["highest"]
    assert made["verdict"].startswith("true up to a point")
    assert made["few_steps"]["met"] == (made["few_steps"]["ratio"] <= steps.WITHIN)


def test_the_small_budget_concludes():
    (made,) = steps.conclude(outcomes(falling, "small")).values()
    assert made["verdict"] and made["calls"]["DDPM"] == (3, 10, 50)


def test_few_steps_that_cost_too_much():
    def curve(solver, calls):
        return 3.0 if (solver, calls) == steps.FEW else falling(solver, calls)

    bar = steps.conclude(outcomes(curve))["C2-digits"]["few_steps"]
    assert bar["ratio"] == pytest.approx(3.0 / falling("DDIM", 50), rel=1e-6) and not bar["met"]


def test_figure_tells_the_ends():
    result = steps.conclude(outcomes(falling))["C2-digits"] | {"seeds": [0, 1, 2]}
    result["curves"] = {k: v.tolist() for k, v in result["curves"].items()}
    fig, alt, caption = steps.figure("C2-digits", result)
    assert "DDPM with 100 calls" in alt and "3 seeds" in caption
    assert fig.axes[0].get_xscale() == "log"


def test_shipped_results_can_be_read():
    found = load_results(data.folder() / "results")
    assert "C7-digits" in found and all(r["verdict"] for r in found.values())
