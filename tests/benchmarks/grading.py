"""Seconds for grading a class: ``python tests/benchmarks/grading.py [--lesson 05] [--copies 300]``.

Makes copies of a lesson's solution, some right and some wrong, grades them with ``course grade``'s
own function, and prints seconds per submission and the memory of the grader with all its
processes; then, in the same run, what nbgrader and otter-grader take for as many exercises of a few
lines each, where they are to be had.
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
import zipfile
from pathlib import Path
from typing import Any

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


# nbgrader and otter-grader on an assignment of the same kind: as many exercises as the lesson has,
# each a few lines of torch with one test. Their environments are named by COURSE_NBGRADER_PYTHON
# and COURSE_OTTER_PYTHON (see tests/coursework/test_formats_clients.py).

SETUP = "import torch"
ANSWER = "def step_{i}(x, k):\n    return torch.exp(-x * k).cumsum(-1) + {i}"
TEST = (
    "x = torch.linspace(0, 1, 12).reshape(3, 4)\n"
    "wanted = torch.exp(-x * 2.0).cumsum(-1) + {i}\n"
    "assert torch.allclose(step_{i}(x, 2.0), wanted)"
)
OTTER_TEST = """from otter.test_files import test_case

OK_FORMAT = False
name = "q{i}"
points = None
all_or_nothing = False


@test_case(name="q{i}", points=1, hidden=False)
def test_1(env):
    torch, step_{i} = env["torch"], env["step_{i}"]
    {test}
"""


def assignment(exercises: int, tests: bool) -> Any:
    """A solved notebook; with ``tests``, nbgrader's cells and metadata."""

    def marked(id: str, **more: Any) -> dict:
        common = {"grade": False, "grade_id": id, "locked": False, "schema_version": 3}
        return {"nbgrader": {**common, "solution": False, "task": False, **more}}

    cells = [nbformat.v4.new_code_cell(SETUP)]
    for i in range(exercises):
        own = marked(f"a{i}", solution=True) if tests else {}
        cells.append(nbformat.v4.new_code_cell(ANSWER.format(i=i), metadata=own))
        if tests:
            text = f"### BEGIN HIDDEN TESTS\n{TEST.format(i=i)}\n### END HIDDEN TESTS"
            own = marked(f"t{i}", grade=True, locked=True, points=1)
            cells.append(nbformat.v4.new_code_cell(text, metadata=own))
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return book


def other_python(variable: str, module: str) -> str | None:
    """A Python that has ``module``: named by ``variable``, else this one, else None."""
    if os.environ.get(variable):
        return os.environ[variable]
    return sys.executable if importlib.util.find_spec(module) else None


def quietly(python: str, root: Path, *words: str) -> subprocess.CompletedProcess:
    """``python -m words`` in ``root``, with the programs of its own environment first."""
    path = f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {**os.environ, "PATH": path, "HOME": str(root), "IPYTHONDIR": str(root / ".ipython")}
    return subprocess.run([python, "-m", *words], cwd=root, env=own, capture_output=True, text=True)


def nbgrader_seconds(copies: int, exercises: int) -> dict | str:
    """nbgrader's seconds on an assignment of the same kind, or why there are none."""
    python = other_python("COURSE_NBGRADER_PYTHON", "nbgrader")
    if python is None:
        return "nbgrader is not installed (COURSE_NBGRADER_PYTHON names a Python that has it)"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "source" / "one").mkdir(parents=True)
        nbformat.write(assignment(exercises, True), root / "source" / "one" / "lesson.ipynb")
        (root / "nbgrader_config.py").write_text('c = get_config()\nc.CourseDirectory.root = "."\n')
        done = quietly(python, root, "nbgrader", "generate_assignment", "one")
        if done.returncode:
            return f"nbgrader failed: {done.stderr[-300:]}"
        solved = (root / "source" / "one" / "lesson.ipynb").read_text()
        for i in range(copies):
            place = root / "submitted" / f"student{i:03}" / "one"
            place.mkdir(parents=True)
            (place / "lesson.ipynb").write_text(solved)
        begin = time.perf_counter()
        done = quietly(python, root, "nbgrader", "autograde", "one", "--create")
        total = time.perf_counter() - begin
        if done.returncode:
            return f"nbgrader failed: {done.stderr[-300:]}"
    return {
        "submissions": copies, "exercises": exercises, "seconds each": round(total / copies, 4)
    }  # fmt: skip


def otter_seconds(copies: int, exercises: int) -> dict | str:
    """otter-grader's seconds on an assignment of the same kind, or why there are none."""
    python = other_python("COURSE_OTTER_PYTHON", "otter")
    if python is None:
        return "otter-grader is not installed (COURSE_OTTER_PYTHON names a Python that has it)"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with zipfile.ZipFile(root / "autograder.zip", "w") as archive:
            for i in range(exercises):
                test = TEST.format(i=i).replace("\n", "\n    ")
                archive.writestr(f"tests/q{i}.py", OTTER_TEST.format(i=i, test=test))
            archive.writestr("otter_config.json", json.dumps({"lang": "python", "pdf": False}))
        begin, score = time.perf_counter(), None
        for i in range(copies):
            out = root / f"out{i}"
            out.mkdir()
            nbformat.write(assignment(exercises, False), root / f"student{i}.ipynb")
            words = (
                "run",
                f"student{i}.ipynb",
                "-a",
                "autograder.zip",
                "-o",
                str(out),
                "--no-logo",
            )
            done = quietly(python, root, "otter", *words)
            if done.returncode:
                return f"otter-grader failed: {(done.stdout + done.stderr)[-300:]}"
            found = json.loads((out / "results.json").read_text())["tests"]
            score = sum(t.get("score", 0) for t in found)
        total = time.perf_counter() - begin
    return {
        "submissions": copies, "exercises": exercises, "points": score,
        "seconds each": round(total / copies, 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lesson", default="05")
    parser.add_argument("--copies", type=int, nargs="+", default=[50])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--level", nargs="+", default=[None])
    parser.add_argument("--seeds", action="store_true", help="a seed for each student")
    parser.add_argument("--others", type=int, default=10, help="copies for nbgrader and otter")
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
    count = next(v["runs"][0]["exercises"] for v in ours.values() if isinstance(v, dict))
    others = min(max(args.copies), args.others)
    figures = {
        "ours": ours,
        "nbgrader": nbgrader_seconds(others, count) if others else "left out",
        "otter-grader": otter_seconds(others, count) if others else "left out",
        "cores": grader.cores(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
