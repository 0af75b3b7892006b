"""Seconds for grading a class: ``python tests/benchmarks/grading.py [--lesson 02] [--copies 50]``.

Makes copies of a lesson's solution, some right and some wrong, grades them with ``course grade``'s
own function, and prints seconds per submission and the memory of the grader with all its
processes; then nbgrader on a lesson of three numpy lines, in the same run, where it is installed.
``--copies 100 1000`` shows how both grow, ``--level full process`` what isolation costs,
``--seeds`` what a seed for each student does. Not a test: the machine should have nothing else
to do.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nbformat

from coursework import checks, classroom, config, grader, notebook


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


class Memory(threading.Thread):
    """Looks at the memory of this process and all below it, again and again.

    What forked processes share counts once (PSS, from /proc; None where there is no such thing).
    """

    def __init__(self, pause: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.pause, self.found, self.over = pause, [], threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.pause):
            self.found.append(tree_bytes(os.getpid()))

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def mb(self, part: slice = slice(None)) -> int | None:
        """The most that was seen in ``part`` of the time."""
        seen = [n for n in self.found[part] if n]
        return round(max(seen) / 1e6) if seen else None


def tree_bytes(pid: int) -> int:
    """Proportional memory of process ``pid`` and all below it, 0 where that cannot be found out."""
    total = 0
    with contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total = 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += tree_bytes(int(child))
    return total


def our_seconds(
    lesson: str,
    copies: int,
    workers: int | None = None,
    level: str | None = None,
    seeds: bool = False,
) -> dict:
    """Grades ``copies`` notebooks; seconds with and without the start of the processes, memory."""
    course = config.find(Path(__file__).parent)
    books = [nbformat.writes(b) for b in variants(course, lesson)]
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        handed_in = Path(folder) / "handed-in"
        handed_in.mkdir()
        for i in range(copies):
            (handed_in / f"student{i:04}.ipynb").write_text(books[i % len(books)])
        text = '[class]\nseeds = "per student"\n' if seeds else ""
        rules = classroom.parse(text, Path(folder))
        begin = time.perf_counter()
        first: list[float] = []
        reports = grader.grade_many(
            handed_in,
            course,
            lesson,
            level=level,
            workers=workers,
            allow_unisolated=True,
            rules=rules,
            gradebook=Path(folder) / "grades.sqlite",
            on_result=lambda _: first.append(time.perf_counter()),
        )
        total = time.perf_counter() - begin
    full = sum(r.points == r.out_of for r in reports)
    half = len(memory.found) // 2
    return {
        "lesson": lesson,
        "exercises": len(reports[0].exercises),
        "submissions": len(reports),
        "with full points": full,
        "workers": workers or grader.cores(),
        "level": reports[0].level,
        "seeds": "per student" if seeds else "one",
        "seconds in all": round(total, 2),
        "seconds each": round(total / len(reports), 4),
        "seconds each after the first": round((first[-1] - first[0]) / max(1, len(first) - 1), 4),
        "seconds until the first": round(first[0] - begin, 2),
        "MB at most, first half": memory.mb(slice(half)),
        "MB at most, second half": memory.mb(slice(half, None)),
    }


def growth(found: list[dict]) -> dict:
    """How the seconds of the last count stand to those of the first, and whether bars are met."""
    key = "seconds each after the first"
    few, many = found[0], found[-1]
    ratio = many[key] / few[key] if few[key] else None
    memory = [m for f in found for m in (f["MB at most, first half"], f["MB at most, second half"])]
    memory = [m for m in memory if m]
    return {
        "under 0.3 s each": all(f["seconds each"] < 0.3 for f in found),
        "under 2 GB": max(memory) < 2000 if memory else None,
        "seconds each, of most to fewest": round(ratio, 3) if ratio else None,
        "within 10 %": ratio <= 1.1 if ratio and len(found) > 1 else None,
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
    parser.add_argument("--copies", type=int, nargs="+", default=[50])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--level", nargs="+", default=[None])
    parser.add_argument("--seeds", action="store_true", help="a seed for each student")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    ours = {}
    for level in args.level:
        found = [our_seconds(args.lesson, n, args.workers, level, args.seeds) for n in args.copies]
        ours[found[0]["level"]] = {"runs": found, "bars": growth(found)}
    if len(ours) == 2:
        key = "seconds each after the first"
        one, other = (v["runs"][-1][key] for v in ours.values())
        ours["ms each that the first level costs"] = round(1000 * (one - other), 1)
    figures = {
        "ours": ours,
        "nbgrader": nbgrader_seconds(min(max(args.copies), 10)),
        "cores": grader.cores(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
