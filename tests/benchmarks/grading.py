"""Seconds for grading a class: ``python tests/benchmarks/grading.py [--lesson 02] [--copies 50]``.

Makes copies of a lesson's solution, some right and some wrong, grades them with ``course grade``'s
own function, and prints seconds per submission; then nbgrader on a lesson of three numpy lines, in
the same run, where it is installed. Not a test: the machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nbformat

from coursework import checks, config, grader, notebook


def variants(course: config.Course, lesson: str) -> list:
    """Notebooks of the lesson: all right, one exercise wrong, nothing done."""
    built = sorted(course.solutions.glob(f"{lesson}_*.ipynb"))
    source = (built or sorted(course.solutions.glob(f"{lesson}_*.py")))[0]
    right = notebook.read(source)
    loaded = checks.load(lesson, course.root)

    def made(change: dict[str, str]):
        cells = []
        for c in right.cells:
            text = change.get(c.exercise, c.source) if "answer" in c.tags else c.source
            if c.kind == "code":
                cells.append(nbformat.v4.new_code_cell(text, metadata=c.metadata))
            else:
                cells.append(nbformat.v4.new_markdown_cell(c.source))
        book = nbformat.v4.new_notebook(cells=cells)
        book.metadata["coursework"] = {"lesson": lesson}
        return book

    found = [made({})]
    for exercise in loaded:
        answer = next(c for c in right.cells if c.exercise == exercise.id and "answer" in c.tags)
        found.append(made({exercise.id: answer.source.replace("+", "-").replace("sqrt", "abs")}))
        found.append(made({}))
    stubs = {
        e.id: "\n".join(f"def {n}(*a, **k):\n    raise NotImplementedError" for n in e.names)
        for e in loaded
    }
    return [*found, made(stubs)]


def our_seconds(lesson: str, copies: int, workers: int | None, level: str | None) -> dict:
    """Grades ``copies`` notebooks; seconds with and without the start of the processes."""
    course = config.find(Path(__file__).parent)
    books = [nbformat.writes(b) for b in variants(course, lesson)]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(copies):
            (Path(folder) / f"student{i:03}.ipynb").write_text(books[i % len(books)])
        begin = time.perf_counter()
        first: list[float] = []
        reports = grader.grade_many(
            folder,
            course,
            lesson,
            level=level,
            workers=workers,
            allow_unisolated=True,
            on_result=lambda _: first.append(time.perf_counter()),
        )
        total = time.perf_counter() - begin
    full = sum(r.points == r.out_of for r in reports)
    return {
        "lesson": lesson,
        "exercises": len(reports[0].exercises),
        "submissions": len(reports),
        "with full points": full,
        "workers": workers or grader.cores(),
        "level": reports[0].level,
        "seconds in all": round(total, 2),
        "seconds each": round(total / len(reports), 4),
        "seconds each after the first": round((first[-1] - first[0]) / (len(first) - 1), 4),
        "seconds until the first": round(first[0] - begin, 2),
    }


NBGRADER_TEST = (
    "### BEGIN HIDDEN TESTS\nimport numpy as np\n"
    "assert np.allclose(scale(np.arange(3.0), 2.0), [0, 2, 4])\n### END HIDDEN TESTS"
)


def nbgrader_seconds(copies: int) -> dict | str:
    """nbgrader's seconds on a lesson of three numpy lines, or why there are none."""
    if importlib.util.find_spec("nbgrader") is None:
        return "nbgrader is not installed"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        answer = nbformat.v4.new_code_cell(
            "import numpy as np\ndef scale(x, k):\n    return x * k",
            metadata={"nbgrader": {"grade": False, "grade_id": "a", "locked": False,
                                   "schema_version": 3, "solution": True, "task": False}},
        )  # fmt: skip
        test = nbformat.v4.new_code_cell(
            NBGRADER_TEST,
            metadata={"nbgrader": {"grade": True, "grade_id": "t", "locked": True, "points": 1,
                                   "schema_version": 3, "solution": False, "task": False}},
        )  # fmt: skip
        book = nbformat.v4.new_notebook(cells=[answer, test])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        (root / "source" / "one").mkdir(parents=True)
        nbformat.write(book, root / "source" / "one" / "lesson.ipynb")
        (root / "nbgrader_config.py").write_text('c = get_config()\nc.CourseDirectory.root = "."\n')
        run = [sys.executable, "-m", "nbgrader"]
        quiet = {"cwd": root, "capture_output": True, "text": True}
        done = subprocess.run([*run, "generate_assignment", "one"], **quiet)
        if done.returncode:
            return f"nbgrader failed: {done.stderr[-300:]}"
        released = (root / "release" / "one" / "lesson.ipynb").read_text()
        for i in range(copies):
            place = root / "submitted" / f"student{i:03}" / "one"
            place.mkdir(parents=True)
            (place / "lesson.ipynb").write_text(released)
        begin = time.perf_counter()
        done = subprocess.run([*run, "autograde", "one"], **quiet)
        total = time.perf_counter() - begin
        if done.returncode:
            return f"nbgrader failed: {done.stderr[-300:]}"
    return {"submissions": copies, "seconds each": round(total / copies, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lesson", default="02")
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--level")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    figures = {
        "ours": our_seconds(args.lesson, args.copies, args.workers, args.level),
        "nbgrader": nbgrader_seconds(min(args.copies, 10)),
        "cores": grader.cores(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
