"""Measure claims 1, 7, 8 and 12 on small trained models: data/results/C*-digits.json

    python data/build/measure_claims.py --write          # all four, with the full budget
    python data/build/measure_claims.py C7 --write       # one of them
    UNDIFFUSE_BUDGET=small python data/build/measure_claims.py   # a trial, nothing kept

``course experiment C7`` and so on, one after the other: the experiments themselves are in
``undiffuse.experiments.digit_claims``. What a run has found is kept in ``.course-cache/claims``, so
that a measurement that was stopped goes on where it was. (Delete the folder to measure again.)
Without ``--write`` nothing goes to data/, and the figures are printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import budget, experiments  # noqa: E402 - found by the line above

CLAIMS = ("C1", "C7", "C8", "C12")
KEPT = Path(".course-cache") / "claims"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(CLAIMS)}; none named: all")
    parser.add_argument("--write", action="store_true", help="write data/results/CLAIM-digits.json")
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time (default 2)")
    parser.add_argument(
        "--keep", type=Path, default=KEPT, help=f"folder of what trainings found (default {KEPT})"
    )
    chosen = parser.parse_args(arguments)
    if odd := sorted(set(chosen.claims) - set(CLAIMS)):
        parser.error(f"no claim is called {', '.join(odd)}; there are {', '.join(CLAIMS)}")
    if chosen.workers < 1:
        parser.error("workers must be at least 1")
    size = budget(full="full", small="small")
    if size == "small" and chosen.write:
        parser.error("figures of the small budget mean nothing and are not written")
    for claim in chosen.claims or CLAIMS:
        one = experiments.find(claim)
        outcomes = experiments.finish(
            one.list_runs(size),
            one.measure,
            folder=None if size == "small" else one.folder(chosen.keep),
            workers=chosen.workers,
            version=one.version,
            on_done=lambda run, outcome, done, of: print(
                f"{done} of {of} trainings; the last took {outcome['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            ),
        )
        command = f"course experiment {claim} --budget {size}"
        where = DATA / "results" if chosen.write else ""
        experiments.write_results(one, outcomes, size, command, where)


if __name__ == "__main__":
    main()
