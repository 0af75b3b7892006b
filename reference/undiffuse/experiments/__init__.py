"""Experiments as code: what ``course experiment`` runs, and how their figures become verdicts.

An ``Experiment`` is a list of runs, each a frozen dataclass of plain settings with a seed, and a
function that measures one run. ``finish`` measures what is not yet kept, on one machine or several;
``separate`` and ``winner`` say what figures of several seeds may be said to show.

Every other module in this folder defines one experiment as ``EXPERIMENT``, or several as
``EXPERIMENTS``. Adding a file adds an experiment.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from undiffuse.experiments._engine import (
    BUDGETS,
    Experiment,
    ExperimentError,
    RunsFailed,
    finish,
    kept_runs,
    key_of,
    share,
    write_results,
)
from undiffuse.experiments._separable import (
    LEAST,
    NOT_SEPARABLE,
    SEEDS,
    compare,
    separate,
    winner,
)

__all__ = [
    "BUDGETS",
    "LEAST",
    "NOT_SEPARABLE",
    "SEEDS",
    "Experiment",
    "ExperimentError",
    "RunsFailed",
    "all_experiments",
    "compare",
    "find",
    "finish",
    "kept_runs",
    "key_of",
    "separate",
    "share",
    "winner",
    "write_results",
]


def all_experiments() -> dict[str, Experiment]:
    """Every experiment of the course by its name, in the order of the names."""
    found: dict[str, Experiment] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        several = getattr(module, "EXPERIMENTS", ())
        for one in (*several, *([module.EXPERIMENT] if hasattr(module, "EXPERIMENT") else [])):
            if one.name in found:
                raise ExperimentError(f"two experiments are called {one.name!r}")
            found[one.name] = one
    return dict(sorted(found.items()))


def find(name: str) -> Experiment:
    """The experiment called ``name``; ValueError with the nearest name where there is none."""
    known = all_experiments()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, cutoff=0.5)
        raise ValueError(
            f"there is no experiment {str(name)!r}"
            + (f"; did you mean {near[0]}?" if near else "")
            + f" (there are {', '.join(known) or 'none'})"
        )
    return known[name]
