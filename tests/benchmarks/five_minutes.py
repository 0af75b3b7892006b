"""What lesson 05's training gives in its five minutes, of several seeds.

    python tests/benchmarks/five_minutes.py [--seeds 0 1 2] [--seconds 300] [--out FILE.json]

For each seed: the recipe ``data/recipes/lesson05.toml`` trains for so many seconds of wall time on
5,000 digits; then 1,000 samples with 50 network calls each, as the lesson draws them (a guided step
takes two calls), with labels in the shares of the reference set, judged by ``undiffuse.judging``.
Printed: FD as a multiple of the floor, class accuracy, recall, steps made, seconds to draw. Bars:
FD at most 4 times the floor and accuracy at least 0.95, for each seed. Not a test: the machine
should have nothing else to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from undiffuse import data, judging, recipes, trainer
from undiffuse.guidance import guided
from undiffuse.sampling import sample

RECIPE = Path(__file__).parents[2] / "data/recipes/lesson05.toml"
RATIO_BAR, ACCURACY_BAR = 4.0, 0.95
KEPT = ("fd", "floor", "ratio", "accuracy", "floor_accuracy", "recall", "memorisation")


def one_seed(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains, draws and judges with one seed."""
    recipe = dataclasses.replace(recipes.load(RECIPE), seconds=args.seconds, seed=seed)
    x, labels = data.digits("train", recipe.n)
    run = trainer.train(recipe, x, labels)
    network = run.model.eval()
    scale = recipe.guidance
    denoiser = network if scale == 1 else guided(network, network.null, scale)
    generator = torch.Generator().manual_seed(1000 + seed)
    wanted = judging.labels_like("digits", args.count)
    start = time.perf_counter()
    with torch.no_grad():
        parts = [
            sample(
                denoiser,
                run.schedule,
                (len(y), *x.shape[1:]),
                kind=recipe.prediction,
                calls=args.calls if scale == 1 else args.calls // 2,
                cond=y,
                generator=generator,
                clip=(-1.0, 1.0),
            )
            for y in wanted.split(250)
        ]
    drawing = time.perf_counter() - start
    found = judging.as_dict(judging.judge_images(torch.cat(parts), wanted, recipe.data, (seed,)))
    return {
        "seed": seed,
        "steps": run.steps,
        "train_seconds": run.seconds,
        "sample_seconds": drawing,
        **{key: found[key] for key in KEPT},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=50, help="of the network, for each sample")
    parser.add_argument("--out", type=Path, help="writes all figures as JSON")
    args = parser.parse_args()
    if args.calls < 2:
        parser.error(f"--calls is {args.calls}: at least 2 are needed, for one guided step")
    print(
        f"{args.seconds:g} s of training a seed, {torch.get_num_threads()} threads, {args.count} "
        f"samples of {args.calls} calls"
    )
    print(f"{'seed':>4}{'steps':>7}{'x floor':>9}{'accuracy':>10}{'recall':>8}{'drawing':>9}")
    found = []
    for seed in args.seeds:
        f = one_seed(seed, args)
        found.append(f)
        print(
            f"{seed:4}{f['steps']:7,}{f['ratio']:9.2f}{f['accuracy']:10.3f}{f['recall']:8.3f}"
            f"{f['sample_seconds']:7.1f} s",
            flush=True,
        )
    met = all(f["ratio"] <= RATIO_BAR and f["accuracy"] >= ACCURACY_BAR for f in found)
    print(
        f"worst FD {max(f['ratio'] for f in found):.2f} x floor (bar: at most {RATIO_BAR:g}), "
        f"worst accuracy {min(f['accuracy'] for f in found):.3f} (bar: at least {ACCURACY_BAR:g}): "
        f"{'met' if met else 'NOT met'}; mean FD "
        f"{statistics.mean(f['ratio'] for f in found):.2f} x floor"
    )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        report = {
            "seconds": args.seconds,
            "count": args.count,
            "calls": args.calls,
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "met": met,
            "seeds": found,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
