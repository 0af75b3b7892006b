"""Where a course lies and what it is called: ``[tool.coursework]`` in its pyproject.toml."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


class CourseNotFound(FileNotFoundError):
    """No course above the given folder; the message says where was looked and what helps."""


@dataclass(frozen=True)
class Course:
    """A course's folders (absolute) and names.

    commands: a module whose typer ``app`` holds commands of the course's own, or None.
    lesson_data: (pattern of files in data/, lessons that need them); other files go with all.
    drafts: numbers of lessons whose solutions may still be executed with the small budget.
    """

    root: Path
    title: str
    lessons: Path
    solutions: Path
    checks: Path
    work: Path
    library: str
    commands: str | None = None
    lesson_data: tuple[tuple[str, tuple[str, ...]], ...] = ()
    drafts: tuple[str, ...] = ()


@lru_cache
def load(root: Path) -> Course:
    """The course at ``root``."""
    with open(root / "pyproject.toml", "rb") as f:
        table = tomllib.load(f)["tool"]["coursework"]
    work = Path(os.environ.get("COURSE_WORK") or root / table["work"])
    return Course(
        root=root,
        title=table["title"],
        lessons=root / table["lessons"],
        solutions=root / table["solutions"],
        checks=root / table["checks"],
        work=work,
        library=table["library"],
        commands=table.get("commands"),
        lesson_data=tuple((p, tuple(n)) for p, n in table.get("lesson-data", {}).items()),
        drafts=tuple(table.get("drafts", ())),
    )


def find(start: Path | str | None = None) -> Course:
    """The course that ``start`` (the current folder) lies in.

    Looks at ``COURSE_ROOT``, then at the folder and those above it, then where this package lies
    (an editable installation).
    """
    named = os.environ.get("COURSE_ROOT")
    if named:
        if not is_course(Path(named)):
            raise CourseNotFound(f"COURSE_ROOT is {named!r}, which holds no course")
        return load(Path(named).resolve())
    here = Path(start or Path.cwd()).resolve()
    for folder in [here, *here.parents, *Path(__file__).resolve().parents]:
        if is_course(folder):
            return load(folder)
    raise CourseNotFound(
        f"no course in {here} or above it: go to the folder that holds the course's "
        "pyproject.toml, or set COURSE_ROOT to it"
    )


def is_course(folder: Path) -> bool:
    """Whether a course lies in ``folder``."""
    file = folder / "pyproject.toml"
    return file.is_file() and "[tool.coursework]" in file.read_text(encoding="utf-8")
