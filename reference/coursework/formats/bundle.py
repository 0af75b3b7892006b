"""A course with its answers, made small enough to grade one lesson somewhere else.

For systems that grade on machines of their own. It holds solutions: it is for graders' eyes.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from coursework import checks as checks_of
from coursework.config import Course
from coursework.formats import FormatError
from coursework.release import NOT_DATA, TOP, needed

PACKAGE = Path(__file__).resolve().parents[1]
FIXED_TIME = (2020, 1, 1, 0, 0, 0)


def lessons_needed(course: Course, number: str) -> list[str]:
    """``number`` and the lessons whose exercises it builds on, sorted."""
    needed, ahead = set(), [number]
    while ahead:
        here = ahead.pop()
        if here in needed:
            continue
        needed.add(here)
        for exercise in checks_of.load(here, course.root, answers=False):
            ahead += [id.split(".")[0] for id in exercise.uses]
    return sorted(needed)


def require_answers(course: Course) -> None:
    """Raises where the course is a student bundle, which cannot grade."""
    if not (course.checks / "answers").is_dir():
        raise FormatError("this is a student bundle: it holds no answers to grade with")


def files(course: Course, number: str) -> Iterator[tuple[str, Path]]:
    """(place in the copy, file) of all that grades lesson ``number``."""
    require_answers(course)
    for name in (*TOP, "README.md"):
        if (course.root / name).is_file():
            yield name, course.root / name
    checks = course.checks.relative_to(course.root).as_posix()
    numbers = lessons_needed(course, number)
    for n in numbers:
        yield f"{checks}/lesson_{n}.py", course.checks / f"lesson_{n}.py"
        yield f"{checks}/answers/lesson_{n}.py", course.checks / "answers" / f"lesson_{n}.py"
    base = packages_base(course)
    for package in (PACKAGE, course.root / base / course.library):
        for path in _below(package):
            yield f"{base}/{package.name}/{path.relative_to(package).as_posix()}", path
    for path in _below(course.root / "data"):
        if not needed(course, path.relative_to(course.root / "data").as_posix(), set(numbers)):
            continue
        yield path.relative_to(course.root).as_posix(), path


def packages_base(course: Course) -> str:
    """The folder in the course in which its packages lie ("reference")."""
    text = (course.root / "pyproject.toml").read_text(encoding="utf-8")
    where = re.search(r'where\s*=\s*\["([^"]+)"\]', text)
    return where[1] if where else "reference"


def _below(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not NOT_DATA & set(inside[:-1]) and path.suffix != ".pyc":
            yield path


def zipped(target: Path, contents: dict[str, bytes | Path], executable: tuple[str, ...]) -> None:
    """Writes a zip file, the same to the byte for the same contents."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix: so that the executable bit counts
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            held = contents[name]
            data = held if isinstance(held, bytes) else held.read_bytes()
            archive.writestr(info, data)


def dumps(data: object) -> bytes:
    """JSON, the same to the byte for the same data."""
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode("utf-8")
