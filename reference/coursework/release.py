"""``course release FOLDER``: what a class gets, without solutions, the same to the byte each time.

A bundle holds the lessons, the library and the data, and of the checks the cases, drivers and
judges with the recorded outcomes of the public seed. Answers, solutions and the seeds of a
grading stay behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from coursework import build, copies, recorded, structure
from coursework import checks as checks_of
from coursework.config import Course
from coursework.exercise import Checks
from coursework.feedback import PUBLIC_SEED

TOP = ("pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "LICENSE-TEXTS")
TOP += ("CITATION.cff", ".gitignore", ".gitattributes", ".editorconfig")
NOT_DATA = {"build", "cache", "__pycache__"}
EPOCH = 1_577_836_800  # 2020-01-01: archives of two bundles are the same, too

README = """# {title}: lessons {numbers}

You need Python 3.11 or newer and, on Linux and macOS, `make`.

    make learn

makes an environment in `.venv`, looks at your machine, copies the lessons to `work/` and opens the
next one in JupyterLab. Where there is no `make` (Windows):

    python -m venv .venv
    .venv\\Scripts\\pip install -c constraints.txt -e .
    .venv\\Scripts\\python -m coursework learn

You work in `work/`; nothing else changes. In a notebook, `check("{first}")` tells you at once what
is right, and names a known mistake; `hint("{first}")` gives a hint. Both cost nothing. Hand in the
notebooks from `work/`.

This bundle was made from {course}. Its checks carry no answers, so they know one set of inputs;
the class is graded on others. Code: MIT ([LICENSE](LICENSE)); texts and notebooks: CC BY 4.0
([LICENSE-TEXTS](LICENSE-TEXTS)); data: as its cards in `data/` say.
"""


class ReleaseError(Exception):
    """A bundle cannot be made; the message says why."""


def release(course: Course, folder: Path, numbers: list[str] | None = None) -> list[str]:
    """Writes the bundle of lessons ``numbers`` (all) to ``folder``; its files, sorted.

    Raises ``ReleaseError`` for a folder that holds something, a lesson that is stale or gives
    away a solution, or a course without answers to record.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} is not an empty folder: name one that is new or empty")
    if folder.resolve().is_relative_to(course.root.resolve()):
        inside = folder.resolve().relative_to(course.root.resolve()).parts
        if inside and inside[0] not in ("build", "dist", "work"):
            raise ReleaseError(f"{folder} lies in the course itself: name a folder outside of it")
    if not (course.checks / "answers").is_dir():
        raise ReleaseError("this is a bundle already: it holds no answers to record checks from")
    sources = build.sources(course, numbers)
    if not sources:
        raise ReleaseError(f"{course.solutions.name}/ holds no lesson")
    lessons = copies.lessons(course)
    for s in sources:
        composed = build.dumps(build.compose(s, lesson=True))
        if s.number not in lessons or s.lesson_path.read_text(encoding="utf-8") != composed:
            raise ReleaseError(f"lesson {s.number} is stale: run `course build {s.number}` first")
    graded = [s for s in sources if s.checks]
    loaded = {s.number: checks_of.load(s.number, course.root) for s in graded}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _fill(course, folder, sources, loaded)
        _refuse_leaks(sources, folder)
    except ReleaseError:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for path in [*files, *(p for p in folder.rglob("*") if p.is_dir())]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))
    return [p.relative_to(folder).as_posix() for p in files]


def _fill(
    course: Course, folder: Path, sources: list[build.Source], loaded: dict[str, Checks]
) -> None:
    for name in TOP:
        if (course.root / name).is_file():
            _put(course.root / name, folder / name)
    for source in sources:
        _put(source.lesson_path, folder / source.lesson_path.relative_to(course.root))
    checks = folder / course.checks.relative_to(course.root)
    (checks / "recorded").mkdir(parents=True)
    for number, lesson_checks in loaded.items():
        _put(course.checks / f"lesson_{number}.py", checks / f"lesson_{number}.py")
        data = recorded.record(lesson_checks, (PUBLIC_SEED,))
        (checks / "recorded" / f"{number}.bin").write_bytes(data)
    for package in _packages(course):
        for file in _files(package):
            _put(file, folder / file.relative_to(course.root))
    for file in _files(course.root / "data"):
        _put(file, folder / file.relative_to(course.root))
    first = next((e.id for c in loaded.values() for e in c), "NN.N")
    made_from = build.compose(sources[0], lesson=True)["metadata"]["coursework"]["course"]
    text = README.format(
        title=course.title,
        numbers=", ".join(s.number for s in sources),
        first=first,
        course=made_from,
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
    about = {
        "course": made_from,
        "lessons": {
            s.number: {
                "checks_version": build.checks_version(course, s.number),
                "source_version": s.digest,
            }
            for s in sources
        },
    }
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    (folder / "release.json").write_text(text, encoding="utf-8", newline="\n")


def _packages(course: Course) -> list[Path]:
    """The folders of ``coursework`` and of the library, where the course keeps them."""
    text = (course.root / "pyproject.toml").read_text(encoding="utf-8")
    where = re.search(r'where\s*=\s*\["([^"]+)"\]', text)
    base = course.root / (where[1] if where else ".")
    return [p for name in ("coursework", course.library) if (p := base / name).is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not NOT_DATA & set(inside[:-1]) and path.suffix != ".pyc":
            yield path


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _refuse_leaks(sources: list[build.Source], folder: Path) -> None:
    course = sources[0].course
    for source in sources:
        for part in (course.lessons, course.checks):
            for file in _files(folder / part.relative_to(course.root)):
                if file.suffix == ".bin":
                    continue
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".ipynb":
                    cells = json.loads(text)["cells"]
                    text = "\n".join("".join(c["source"]) for c in cells)
                if found := structure.leaks(source, text):
                    where = file.relative_to(folder)
                    raise ReleaseError(f"{where} holds a line of a solution: {found[0]}")
