"""Runs of an experiment on a machine that has torch, and not all that the command needs.

    python -m undiffuse.experiments little-data --budget gpu --workers 12 --keep FOLDER

As ``course experiment`` without its table and figure: the runs that FOLDER lacks are measured and
kept. Bring FOLDER to where the course is installed, and ``course experiment little-data --budget
gpu --keep FOLDER`` finds them done, and concludes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from undiffuse.experiments import BUDGETS, RunsFailed, find, finish, share


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m undiffuse.experiments")
    parser.add_argument("name", help="an experiment")
    parser.add_argument("--budget", choices=BUDGETS, default="full")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--job", metavar="I/N", default="1/1", help="every N-th run, from the I-th")
    parser.add_argument("--keep", type=Path, default=Path("runs/experiments"))
    asked = parser.parse_args(arguments)
    chosen = find(asked.name)
    runs = share(chosen.list_runs(asked.budget), *map(int, asked.job.split("/")))

    def say(run: object, outcome: dict, done: int, of: int) -> None:
        print(f"{done} of {of}, {outcome['seconds']:.0f} s: {run}", flush=True)

    try:
        finish(
            runs,
            chosen.measure,
            folder=chosen.folder(asked.keep),
            workers=asked.workers,
            version=chosen.version,
            on_done=say,
        )
    except RunsFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
