"""Gradescope: the zip of an autograder, and what it writes.

gradescope-autograders.readthedocs.io, "Autograder Specifications": the zip has ``setup.sh`` and
``run_autograder`` at its root and is unpacked to ``/autograder/source``; a submission lies in
``/autograder/submission``, and ``/autograder/results/results.json`` is wanted. Visibility is
visible, after_due_date, after_published or hidden, for each test; what is printed is for
instructors unless ``stdout_visibility`` says otherwise. Leaderboards are not used.

``python -m coursework.formats.gradescope ROOT`` is what ``run_autograder`` calls.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from coursework import checks as checks_of
from coursework import config, grader, safe
from coursework.config import Course
from coursework.errors import NothingToGrade
from coursework.formats import FormatError, bundle
from coursework.formats.rows import EVERYTHING, Row, Visibility, notes, rows
from coursework.reports import SubmissionReport

CONFIG = "autograder.json"
OUTPUT_LIMIT = 10_000

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
find_python() {
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \\
            > /dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}
if [ -z "$(find_python)" ]; then
    apt-get update
    apt-get install -y python3.12 python3.12-venv || apt-get install -y python3.11 python3.11-venv
fi
python="$(find_python)"
if [ -z "$python" ]; then
    echo "no Python 3.11 or newer is to be had here: choose a newer base image" >&2
    exit 1
fi
"$python" -m venv "$root/venv"
cd "$root/source/course"
constraints=()
if [ -f constraints.txt ]; then
    constraints=(-c constraints.txt)
fi
"$root/venv/bin/python" -m pip install --no-cache-dir "${constraints[@]}" \\
    --extra-index-url https://download.pytorch.org/whl/cpu -e .
"""

RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission. Both variables are for trying it elsewhere.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
python="${COURSE_PYTHON:-$root/venv/bin/python}"
export COURSE_ROOT="$root/source/course"
export PYTHONPATH="$COURSE_ROOT/@BASE@"
export PYTHONDONTWRITEBYTECODE=1
unset COURSE_WORK COURSE_ISOLATION || true
cd "$root"
exec "$python" -P -m coursework.formats.gradescope "$root"
"""


def autograder(
    course: Course,
    number: str,
    target: Path,
    visibility: Visibility = EVERYTHING,
    seed: int = grader.SEED,
) -> list[str]:
    """Writes the zip that grades lesson ``number``; the names in it, sorted.

    The same course gives the same bytes. Raises ``FormatError`` where the course cannot grade, or
    ``visibility`` names what the lesson does not have.
    """
    contents: dict[str, bytes | Path] = {
        f"course/{name}": path for name, path in bundle.files(course, number)
    }
    exercises = checks_of.load(number, course.root, answers=False)
    visibility.check({e.id: tuple(e.points) for e in exercises})
    contents["setup.sh"] = SETUP.encode()
    contents["run_autograder"] = RUN.replace("@BASE@", bundle.packages_base(course)).encode()
    contents[CONFIG] = bundle.dumps(
        {
            "lesson": number,
            "seed": seed,
            "visibility": visibility.default,
            "rules": visibility.rules,
            "points": sum(e.out_of for e in exercises),
        }
    )
    bundle.zipped(target, contents, ("setup.sh", "run_autograder"))
    return sorted(contents)


def results(
    report: SubmissionReport, visibility: Visibility = EVERYTHING, seconds: float = 0.0
) -> dict[str, Any]:
    """``results.json``: a test for each group of cases.

    Where not every test is visible, the text on the whole submission tells neither its points nor
    its verdict: either could be of what is hidden.
    """
    everything = rows(report, visibility)
    shown = [r for r in everything if r.visibility == "visible"]
    lines = notes(report)
    if len(shown) == len(everything):
        lines.insert(0, f"Lesson {report.lesson}: {report.points} of {report.out_of} points")
    else:
        lines = [safe.line(n) for n in report.notes]
        passed = sum(r.passed for r in shown)
        lines.insert(0, f"Lesson {report.lesson}: {passed} of {len(shown)} tests that you see pass")
    return {
        "score": sum(r.points for r in everything),
        "execution_time": round(seconds, 2),
        "output": "\n".join(lines),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": [_test(r, everything) for r in everything],
    }


def _test(row: Row, everything: list[Row]) -> dict[str, Any]:
    of_exercise = [r.group for r in everything if r.id == row.id]
    number = row.id
    if len(of_exercise) > 1:
        number += f".{of_exercise.index(row.group) + 1}"
    return {
        "number": number,
        "name": row.title + (f": {row.group}" if row.group != "main" else ""),
        "name_format": "text",
        "score": row.points,
        "max_score": row.out_of,
        "status": "passed" if row.passed else "failed",
        "output": safe.plain(row.text, OUTPUT_LIMIT),
        "output_format": "text",
        "visibility": row.visibility,
    }


def unreadable(message: str, out_of: float) -> dict[str, Any]:
    """``results.json`` for a submission without a notebook of the lesson in it."""
    test = {
        "name": "A notebook of this lesson was handed in",
        "score": 0,
        "max_score": out_of,
        "status": "failed",
        "output": safe.plain(message, OUTPUT_LIMIT),
        "output_format": "text",
        "visibility": "visible",
    }
    return {"score": 0, "output": test["output"], "output_format": "text", "tests": [test]}


def grade(root: Path) -> dict[str, Any]:
    """Grades what lies in ``root/submission`` and returns what is to be written.

    Of several notebooks the best counts. Notebooks of other lessons do not: an answer is looked
    for by its exercise's id.
    """
    started = time.monotonic()
    about = json.loads((root / "source" / CONFIG).read_text(encoding="utf-8"))
    course = config.load((root / "source" / "course").resolve())
    visibility = Visibility(about["visibility"], about["rules"])
    try:
        # Nobody else's answers are on this machine: what is to be had of isolation will do.
        made = grader.grade_many(
            root / "submission",
            course,
            about["lesson"],
            seed=about["seed"],
            workers=1,
            allow_unisolated=True,
        )
    except NothingToGrade:
        return unreadable("There is no notebook (.ipynb) in what you handed in.", about["points"])
    best = max(made, key=lambda r: r.points)
    print(f"{best.isolation}; seed {best.seed}; {best.verdict}; {best.points} of {best.out_of}")
    readable = [r for r in made if r.exercises]
    if not readable:
        return unreadable("\n".join(notes(best)), about["points"])
    if len(made) > 1:
        best.notes.append(f"The best of {len(made)} notebooks counts: {Path(best.path).name}")
    return results(best, visibility, time.monotonic() - started)


def main(root: Path) -> None:
    """Grades and writes ``root/results/results.json``, when nothing of the student's runs."""
    made = json.dumps(grade(root), indent=1, ensure_ascii=False) + "\n"
    folder = root / "results"
    folder.mkdir(exist_ok=True)
    part = folder / ".results.json.part"
    part.write_text(made, encoding="utf-8")
    os.replace(part, folder / "results.json")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except FormatError as error:
        sys.exit(str(error))
