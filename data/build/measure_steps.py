"""Measure whether more network calls give better digits: data/results/C2-digits.json

Four solvers draw digits from the shipped checkpoint with 3 to 100 network calls, several seeds
each, and FD is measured beside the floor. On two cores this takes most of an hour with the
default 1,000 samples; lesson 08 quotes the result. Without ``--write`` the figures are only shown.

    python data/build/measure_steps.py                  # measure and show
    python data/build/measure_steps.py --write          # and write the result
    python data/build/measure_steps.py --keep FOLDER    # keep each run; go on after a stop

``course experiment C2`` does the same; here a checkpoint, a count and seeds may be chosen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import experiments  # noqa: E402 - found by the line above
from undiffuse.experiments import steps_digits  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write data/results/C2-digits.json")
    parser.add_argument("--keep", type=Path, help="folder that keeps each run as it comes")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--checkpoint", default="digits", help="name, or a .safetensors file")
    parser.add_argument("--count", type=int, default=1000, help="samples a figure (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if len(asked.seeds) < 2:
        parser.error("one seed has no spread: give two or more, three to publish")
    seeds = tuple(asked.seeds)
    runs = steps_digits.drawings(asked.checkpoint, asked.count, seeds, device=asked.device)

    def say(run: steps_digits.Drawing, outcome: dict, done: int, of: int) -> None:
        values = ", ".join(f"{k} {v:.3f}" for k, v in outcome["figures"].items())
        print(f"seed {run.seed}, {run.solver}, {run.calls} calls: {values} "
              f"({outcome['seconds']:.0f} s); {done} of {of}", flush=True)  # fmt: skip

    outcomes = experiments.finish(
        runs, steps_digits.measure, folder=asked.keep, workers=asked.workers, on_done=say
    )
    where = DATA / "results" if asked.write else ""
    command = "course experiment C2 --budget full"
    one = steps_digits.EXPERIMENT
    made = experiments.write_results(one, outcomes, "full", command, where)
    bar = made["C2-digits"]["few_steps"]
    said = "met" if bar["met"] else "not met"
    print(f"{bar['what']}: {bar['ratio']:.3f}, wanted {bar['wanted']}: {said}")


if __name__ == "__main__":
    main()
