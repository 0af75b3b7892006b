"""Claim 2: whether more network calls give better digits (lesson 08).

Four solvers draw digits from a shipped checkpoint with 3 to 100 network calls, and FD is measured
beside the floor. A run is one solver, one number of calls and one seed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse.experiments import Experiment

SOLVERS = {"DDIM": "ddim", "DDPM": "ddpm", "Heun": "heun", "DPM-Solver++": "dpmpp_2m"}
CALLS = (3, 5, 10, 20, 50)
MORE = {"DDPM": (100,)}  # noise in every step wants more of them
FEW, MANY = ("DPM-Solver++", 10), ("DDIM", 50)
WITHIN = 1.25  # what "few steps" may cost: FD of FEW over that of MANY
SEEDS = (0, 1, 2)
CHECKPOINT = "digits"


@dataclass(frozen=True)
class Drawing:
    """One run. checkpoint: by its name, or a file; mark: which weights it holds."""

    solver: str
    calls: int
    seed: int
    count: int
    checkpoint: str
    mark: str
    device: str = "cpu"


def fingerprint(path: Path) -> str:
    """Which weights were measured: the beginning of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def drawings(
    checkpoint: str = CHECKPOINT,
    count: int = 1000,
    seeds: tuple[int, ...] = SEEDS,
    calls: tuple[int, ...] = CALLS,
    device: str = "cpu",
) -> list[Drawing]:
    """All runs for one checkpoint."""
    from undiffuse import checkpoints

    mark = fingerprint(checkpoints.locate(checkpoint))
    return [
        Drawing(name, c, seed, count, checkpoint, mark, device)
        for seed in seeds
        for name in SOLVERS
        for c in (*calls, *MORE.get(name, ()))
        if calls == CALLS or c in calls
    ]


def runs(budget: str) -> list[Drawing]:
    """Small: a few digits with few calls, two seeds. GPU: as full, on the GPU."""
    if budget == "small":
        return drawings(count=20, seeds=(0, 1), calls=(3, 10, 50))
    return drawings(device="cuda" if budget == "gpu" else "cpu")


@functools.lru_cache(maxsize=1)
def _bench(checkpoint: str, count: int, device: str) -> tuple[Any, ...]:
    """The checkpoint, the judge, labels and real features, loaded once a process."""
    from undiffuse import checkpoints, classifiers, data, judging

    judge = classifiers.load("digits")
    reals = (
        classifiers.examine(judge, data.digits(split, count)[0])[0]
        for split in ("reference", "held_out")
    )
    return checkpoints.load(checkpoint, device), judge, judging.labels_like("digits", count), *reals


def measure(run: Drawing) -> dict[str, float]:
    """FD over the floor, recall and class accuracy of ``run.count`` samples."""
    from undiffuse import classifiers, metrics
    from undiffuse.draw import draw

    network, judge, labels, reference, held_out = _bench(run.checkpoint, run.count, run.device)
    images, _ = draw(
        network,
        run.count,
        calls=run.calls,
        seed=run.seed,
        solver=SOLVERS[run.solver],
        guidance=1.0,
        labels=labels,
    )
    features, logits = classifiers.examine(judge, images)
    floor = metrics.frechet_distance(held_out, reference)
    return {
        "FD / floor": metrics.frechet_distance(features, reference) / floor,
        "recall": metrics.precision_recall(reference, features)[1],
        "accuracy": float((logits.argmax(1) == labels).double().mean()),
        "floor": floor,
        "floor_recall": metrics.precision_recall(reference, held_out)[1],
    }


def judge(runs: dict[str, Any], calls: dict[str, tuple[int, ...]]) -> tuple[str, dict]:
    """(verdict on C2, figures of the few-steps bar). runs: FD / floor, (seeds, calls)."""
    from undiffuse import metrics

    until = {name: metrics.last_gain(v) for name, v in runs.items()}
    worse = [
        name
        for name, v in runs.items()
        if v[:, -1].min() > v[:, until[name]].max()
        and v[:, -1].mean() > 1.05 * v[:, until[name]].mean()
    ]
    helped = [f"{name} {calls[name][k]}" for name, k in until.items() if k]
    still = [name for name, k in until.items() if k == len(calls[name]) - 1]
    if not helped:
        verdict = f"false from {min(c[0] for c in calls.values())} calls on: no solver gains"
    elif still:
        verdict = f"true up to a point, not yet reached by {', '.join(still)}"
    else:
        verdict = "true up to a point, then false"
    if helped:
        verdict += f". FD falls up to so many calls: {', '.join(helped)}"
        flat = [name for name, k in until.items() if not k]
        if flat:
            verdict += f"; not at all: {', '.join(flat)}"
    if worse:
        verdict += f"; it rises again: {', '.join(worse)}"
    best, at = min((float(v[:, k].mean()), (s, calls[s][k])) for s, v in runs.items()
                   for k in range(v.shape[1]))  # fmt: skip
    verdict += f". Lowest: {best:.2f} times the floor ({at[0]}, {at[1]} calls)"
    few, many = (runs[s][:, calls[s].index(c)] for s, c in (FEW, MANY))
    ratio = float(few.mean() / many.mean())
    bar = {
        "what": f"FD of {FEW[0]} with {FEW[1]} calls over that of {MANY[0]} with {MANY[1]}",
        "ratio": ratio,
        "by seed": (few / many).tolist(),
        "wanted": f"at most {WITHIN}",
        "met": ratio <= WITHIN,
    }
    return verdict, bar


def conclude(found: Mapping[Drawing, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """The verdict, the bar of few steps, and the curves."""
    import torch

    seeds = sorted({r.seed for r in found})
    calls = {name: tuple(sorted({r.calls for r in found if r.solver == name})) for name in SOLVERS}
    by = {(r.solver, r.calls, r.seed): f for r, f in found.items()}

    def column(name: str, c: int, key: str) -> list[float]:
        return [by[name, c, seed][key] for seed in seeds]

    curves = {
        name: torch.tensor(
            [column(name, c, "FD / floor") for c in calls[name]], dtype=torch.float64
        ).T
        for name in SOLVERS
    }
    verdict, bar = judge(curves, calls)
    rows = []
    for name in SOLVERS:
        for c in calls[name]:
            fd = column(name, c, "FD / floor")
            rows.append(
                {
                    "solver": name,
                    "calls": c,
                    "FD / floor": sum(fd) / len(fd),
                    "lowest": min(fd),
                    "highest": max(fd),
                    "recall": sum(column(name, c, "recall")) / len(fd),
                    "accuracy": sum(column(name, c, "accuracy")) / len(fd),
                }
            )
    run, figures = next(iter(found.items()))
    return {
        "C2-digits": {
            "rows": rows,
            "verdict": verdict,
            "n": run.count,
            "floor": figures["floor"],
            "floor_recall": figures["floor_recall"],
            "calls": calls,
            "curves": curves,
            "few_steps": bar,
            "checkpoint": run.mark,
        }
    }


def figure(name: str, result: Mapping[str, Any]) -> tuple[Any, str, str]:
    """FD over the floor for each solver."""
    from undiffuse import plots

    fig = plots.curves(
        result["curves"],
        result["calls"],
        xlabel="network calls",
        ylabel="FD over that of real digits",
        log_x=True,
        log_y=True,
        markers=True,
        floor=1.0,
        floor_name="real against real",
    )
    ends = "; ".join(
        f"{row['solver']} with {row['calls']} calls {row['FD / floor']:.3g}"
        for row in result["rows"]
        if row["calls"] in (result["calls"][row["solver"]][0], result["calls"][row["solver"]][-1])
    )
    alt = f"FD over its floor against network calls, for four solvers: {ends}."
    caption = (
        f"Lines: the median of {len(result['seeds'])} seeds; bands: their range. Each figure is of "
        f"{result['n']} samples."
    )
    return fig, alt, caption


EXPERIMENT = Experiment(
    name="C2",
    about="solvers with 3 to 100 network calls, on the shipped digits",
    claims=("C2",),
    runs=runs,
    measure=measure,
    conclude=conclude,
    figure=figure,
)
