"""What ten minutes of one core give of drum hits, of several seeds (lesson 11's longer cell).

    python tests/benchmarks/ten_minutes_drums.py [--seeds 0 1 2] [--seconds 600] [--threads 1]

For each seed: the network of lesson 11 trains on the drum hits by the shipped recipe's settings,
then draws as many hits as there are real ones in ``reference``, in the same shares, 25 steps of
DDIM with guidance 5, as the lesson does; a classifier that was trained apart says what it hears.
Printed with and without the downward expander: accuracy, its share of that on real hits, FD and
recall beside those of real hits. The bar: a share of at least 0.70, for each seed. Not a test: the
machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from undiffuse import judging, recipes, trainer
from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import draw
from undiffuse.sound import expand_downward

RECIPE = Path(__file__).parents[2] / "data/recipes/drums.toml"
NETWORK = {"channels": [64, 96, 128], "blocks": 1, "patch": 32, "classes": 8}
BAR, GUIDANCE, CALLS, THRESHOLD = 0.70, 5.0, 25, -25.0


def one_seed(seed: int, seconds: float, count: int) -> tuple[int, dict[str, judging.Quality]]:
    """(steps, what was measured of the hits as drawn and expanded)."""
    recipe = dataclasses.replace(
        recipes.load(RECIPE), name="ten-minutes", network=NETWORK, seconds=seconds,
        validate_every=0, ema=0.995, expander=None, seed=seed,
    )  # fmt: skip
    x, labels = recipe.training_data()
    run = trainer.train(recipe, x, labels)
    found = Checkpoint(recipe.name, run.model, run.schedule, recipe, tuple(x.shape[1:]))
    asked = judging.labels_like("drums", count)
    hits, _ = draw(found, count, calls=CALLS, seed=seed, solver="ddim", labels=asked,
                   guidance=GUIDANCE)  # fmt: skip
    ways = {"as drawn": hits, "expanded": expand_downward(hits, THRESHOLD)}
    return run.steps, {
        way: judging.judge_sounds(made, asked, "drums", (seed,), resamples=10)
        for way, made in ways.items()
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=79, help="hits, at most those in `reference`")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.seconds:g} s of {args.threads} threads a seed, {args.count} hits, guidance "
          f"{GUIDANCE:g}, DDIM of {CALLS} steps")  # fmt: skip
    shares = []
    for seed in args.seeds:
        steps, found = one_seed(seed, args.seconds, args.count)
        for way, q in found.items():
            share = q.accuracy / q.floor_accuracy
            shares.append(share)
            print(f"seed {seed}, {steps:,} steps, {way}: accuracy {q.accuracy:.3f} of "
                  f"{q.floor_accuracy:.3f} (share {share:.2f}), FD {q.fd:.2f} of {q.floor:.2f}, "
                  f"recall {q.recall:.2f} of {q.floor_recall:.2f}", flush=True)  # fmt: skip
    met = min(shares) >= BAR
    print(f"least share {min(shares):.2f} (bar {BAR:.2f}): {'met' if met else 'NOT met'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
