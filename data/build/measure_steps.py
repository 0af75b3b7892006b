"""Measure whether more network calls give better digits: data/results/C2-digits.json

Four solvers draw digits from the shipped checkpoint with 3 to 100 network calls, several seeds
each, and FD is measured beside the floor. On two cores this takes most of an hour with the
default 1,000 samples; lesson 08 quotes the result. Without ``--write`` the figures are only shown.

    python data/build/measure_steps.py                  # measure and show
    python data/build/measure_steps.py --write          # and write the result
    python data/build/measure_steps.py --keep FILE      # keep each figure; go on after a stop
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import checkpoints, classifiers, data, judging, metrics  # noqa: E402
from undiffuse.draw import draw  # noqa: E402
from undiffuse.results import record  # noqa: E402 - found by the line above

SOLVERS = {"DDIM": "ddim", "DDPM": "ddpm", "Heun": "heun", "DPM-Solver++": "dpmpp_2m"}
CALLS = (3, 5, 10, 20, 50)
MORE = {"DDPM": (100,)}  # noise in every step wants more of them
FEW, MANY = ("DPM-Solver++", 10), ("DDIM", 50)
WITHIN = 1.25  # what "few steps" may cost: FD of FEW over that of MANY


def fingerprint(path: Path) -> str:
    """Which weights were measured: the beginning of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class Bench:
    """The checkpoint, the judge and the real digits, loaded once."""

    def __init__(self, name: str, n: int, device: str) -> None:
        self.network = checkpoints.load(name, device)
        self.judge = classifiers.load("digits")
        self.n = n
        self.labels = judging.labels_like("digits", n)
        self.reference, self.held_out = (
            classifiers.examine(self.judge, data.digits(split, n)[0])[0]
            for split in ("reference", "held_out")
        )
        self.floor = metrics.frechet_distance(self.held_out, self.reference)
        self.floor_recall = metrics.precision_recall(self.reference, self.held_out)[1]

    def measure(self, solver: str, calls: int, seed: int) -> dict[str, float]:
        """FD over the floor, recall and class accuracy of n samples."""
        images, _ = draw(
            self.network, self.n, calls=calls, seed=seed, solver=SOLVERS[solver], guidance=1.0,
            labels=self.labels,
        )  # fmt: skip
        features, logits = classifiers.examine(self.judge, images)
        return {
            "FD / floor": metrics.frechet_distance(features, self.reference) / self.floor,
            "recall": metrics.precision_recall(self.reference, features)[1],
            "accuracy": float((logits.argmax(1) == self.labels).double().mean()),
        }


def judge(runs: dict[str, torch.Tensor], calls: dict[str, tuple[int, ...]]) -> tuple[str, dict]:
    """(verdict on C2, figures of the few-steps bar). runs: FD / floor, (seeds, calls)."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write data/results/C2-digits.json")
    parser.add_argument("--keep", type=Path, help="file that keeps each figure as it comes")
    parser.add_argument("--checkpoint", default="digits", help="name, or a .safetensors file")
    parser.add_argument("--count", type=int, default=1000, help="samples a figure (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if len(asked.seeds) < 2:
        parser.error("one seed has no spread: give two or more, three to publish")

    bench = Bench(asked.checkpoint, asked.count, asked.device)
    mark = fingerprint(checkpoints.locate(asked.checkpoint))
    kept = json.loads(asked.keep.read_text()) if asked.keep and asked.keep.exists() else {}
    calls = {name: (*CALLS, *MORE.get(name, ())) for name in SOLVERS}
    print(f"checkpoint {mark}; n = {asked.count}; floor {bench.floor:.4f}", flush=True)

    found: dict[str, list[list[dict]]] = {name: [] for name in SOLVERS}
    for seed in asked.seeds:
        for name in SOLVERS:
            found[name].append([])
            for c in calls[name]:
                key = f"{mark} {asked.count} {name} {c} {seed}"
                if key not in kept:
                    start = time.perf_counter()
                    kept[key] = bench.measure(name, c, seed)
                    values = ", ".join(f"{k} {v:.3f}" for k, v in kept[key].items())
                    took = time.perf_counter() - start
                    print(f"seed {seed}, {name}, {c} calls: {values} ({took:.0f} s)", flush=True)
                    if asked.keep:
                        asked.keep.write_text(json.dumps(kept))
                found[name][-1].append(kept[key])

    runs = {
        name: torch.tensor([[v["FD / floor"] for v in row] for row in table], dtype=torch.float64)
        for name, table in found.items()
    }
    verdict, bar = judge(runs, calls)
    rows = []
    for name, table in found.items():
        for k, c in enumerate(calls[name]):
            fd = [row[k]["FD / floor"] for row in table]
            rows.append(
                {
                    "solver": name,
                    "calls": c,
                    "FD / floor": sum(fd) / len(fd),
                    "lowest": min(fd),
                    "highest": max(fd),
                    "recall": sum(row[k]["recall"] for row in table) / len(table),
                    "accuracy": sum(row[k]["accuracy"] for row in table) / len(table),
                }
            )
    if asked.write:
        os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    else:
        os.environ.pop("UNDIFFUSE_RESULTS", None)
    record(
        "C2-digits",
        rows,
        verdict=verdict,
        seeds=asked.seeds,
        n=asked.count,
        floor=bench.floor,
        floor_recall=bench.floor_recall,
        calls=calls,
        curves=runs,
        few_steps=bar,
        checkpoint=mark,
    )
    said = "met" if bar["met"] else "not met"
    print(f"{bar['what']}: {bar['ratio']:.3f}, wanted {bar['wanted']}: {said}")


if __name__ == "__main__":
    main()
