"""An experiment that new processes can import: runs that take no time, or as long as they say."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from undiffuse.experiments import Experiment


@dataclass(frozen=True)
class Roll:
    """One run. trace: a folder in which each measurement leaves a file of its own."""

    way: str = "plain"
    seed: int = 0
    trace: str = ""
    hold: bool = False


def measure(run: Roll) -> dict:
    """Notes that it was called, then gives figures that depend on the run alone."""
    if run.trace:
        name = f"{run.way}-{run.seed}-{os.getpid()}-{time.monotonic_ns()}"
        (Path(run.trace) / name).touch()
        while run.hold and not (Path(run.trace) / "go").exists():
            time.sleep(0.01)
    if run.way == "broken":
        raise ZeroDivisionError("nothing to divide by")
    torch = sys.modules.get("torch")  # new processes need none
    return {"fd": {"plain": 5.0, "better": 2.0}.get(run.way, 3.0) + 0.1 * run.seed,
            "threads": torch.get_num_threads() if torch else 1, "odd": float("nan")}  # fmt: skip


def runs(budget: str) -> list[Roll]:
    return [Roll(way, seed) for seed in range(3) for way in ("plain", "better")]


def conclude(found) -> dict:
    from undiffuse.experiments import separate

    ways = {w: [f["fd"] for r, f in found.items() if r.way == w] for w in ("plain", "better")}
    rows = [{"way": r.way, "seed": r.seed, "FD": f["fd"]} for r, f in found.items()]
    verdict = {"second": "better is better"}.get(separate(*ways.values()), "not separable")
    return {"C99-dice": {"rows": rows, "verdict": verdict, "ways": ways}}


def figure(name, result):
    from undiffuse import plots

    fig = plots.bar_with_spread(result["ways"], ylabel="FD")
    return fig, "Two bars; the right one is lower.", "Lower is better."


EXPERIMENT = Experiment(
    name="dice",
    about="nothing but a test",
    claims=("C99",),
    runs=runs,
    measure=measure,
    conclude=conclude,
    figure=figure,
)
