"""The toy course, and notebooks of its lessons, for tests of the machine that grades."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import nbformat

from coursework import config, grader, sandbox
from coursework.submissions import Submission

HERE = Path(__file__).parent
SOURCE = HERE / "toy"
SETUP = "import torch\nfrom coursework import check, hint\nfrom toy import tools\n"
SCALE = "def scale(x, k):\n    return x * k\n"
WRONG_SCALE = "def scale(x, k):\n    return x - k\n"
SHIFT = "def shift(x, k):\n    return x + k\n"
LINE = "def line(x, a, b):\n    return scale(x, a) + b\n"
FILL = "def fill(x):\n    return line(x, 2.0, 1.0)\n"
ISOLATED = tuple(n for n in sandbox.ISOLATED if not sandbox.lacks(n))
FORKED = tuple(n for n in ("full", "landlock", "process") if not sandbox.lacks(n))


def copy_course(folder: Path) -> config.Course:
    """A copy of the toy course in ``folder``."""
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return config.load(folder.resolve())


def cell(source: str, tag: str = "", exercise: str = ""):
    """A code cell, tagged as the builder does."""
    made = nbformat.v4.new_code_cell(source)
    if tag:
        made.metadata["tags"] = [tag]
    if exercise:
        made.metadata["exercise"] = exercise
    return made


def notebook(answers: dict[str, str], lesson: str = "01", extra: tuple[str, ...] = ()):
    """A notebook with ``answers`` (exercise id -> source), and untagged cells before them."""
    cells = [cell(SETUP, "setup"), *map(cell, extra)]
    for id, source in answers.items():
        cells += [cell(source, "answer", id), cell(f'check("{id}")', "check")]
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["coursework"] = {"lesson": lesson}
    return made


def lesson_01(scale: str = SCALE, shift: str = SHIFT, extra: tuple[str, ...] = ()):
    """A notebook of lesson 01; by default a right one."""
    return notebook({"01.1": scale, "01.2": shift}, "01", extra)


def write(path: Path, made) -> Path:
    """``made`` in the file ``path``."""
    nbformat.write(made, path)
    return path


def grade(with_grader: grader.Grader, path: Path, student: str = "anna"):
    """The report on the notebook in ``path``."""
    return next(iter(with_grader.grade([Submission(path, student)])))[1]


def points(report) -> dict[str, int]:
    """Exercise id -> points."""
    return {e.id: e.points for e in report.exercises}


def survivors(with_grader: grader.Grader, wait: float = 5.0) -> list[str]:
    """Processes that stem from a grader's pool and are not its workers; after at most ``wait``."""
    name = with_grader.pool.base.name.encode()
    own = {w.process.pid for w in with_grader.pool.workers}
    until = time.monotonic() + wait
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) not in own:
                    line = (entry / "cmdline").read_bytes()
                    if name in line:
                        found.append(f"{entry.name}: {line!r}")
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)
