"""A learner's copies of the lessons in ``work/``: made, found, and brought up to date."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from coursework import build, merge
from coursework.config import Course
from coursework.notebook import Cell, InvalidNotebook, Notebook, read

BASES = ".lessons"  # in work/: each lesson as it was when it was copied


@dataclass(frozen=True)
class Copied:
    """What was done with one lesson: "new", "kept", "updated" or "damaged"."""

    number: str
    path: Path
    what: str
    kept_old: Path | None = None

    def __str__(self) -> str:
        if self.what == "updated":
            return (
                f"{self.path.name} is a new version, with your answers in it; "
                f"the old one is {self.kept_old.name}"
            )
        if self.what == "damaged":
            return f"{self.path.name} could not be read: it is {self.kept_old.name} now"
        return f"{self.path.name} {'was copied' if self.what == 'new' else 'was left alone'}"


def lessons(course: Course) -> dict[str, Path]:
    """Number -> lesson, in order."""
    found = {}
    for path in sorted(course.lessons.glob("*.ipynb")):
        if m := re.match(r"(\d\d[a-z]?)_", path.name):
            found[m[1]] = path
    return found


def title(path: Path) -> str:
    """The lesson's title, from its first heading."""
    try:
        heading = read(path).cells[0].source.strip().split("\n")[0]
    except (InvalidNotebook, IndexError, OSError):
        return path.stem
    return re.sub(r"^#+\s*(\d\d\w?\s*·\s*)?", "", heading) or path.stem


def of_lesson(course: Course, number: str) -> Path | None:
    """The learner's copy of lesson ``number``, also where the lesson has been renamed since."""
    lesson = lessons(course).get(number)
    if lesson is not None and (course.work / lesson.name).is_file():
        return course.work / lesson.name
    found = sorted(course.work.glob(f"{number}_*.ipynb")) if course.work.is_dir() else []
    found = [p for p in found if ".before-" not in p.name]
    return found[0] if found else None


def bring(course: Course, number: str) -> Copied:
    """Makes the copy of lesson ``number``, or brings it up to date; never loses a cell."""
    lesson = lessons(course)[number]
    target, base = course.work / lesson.name, course.work / BASES / lesson.name
    mine = of_lesson(course, number)
    if mine is None:
        _copy(lesson, target)
        _copy(lesson, base)
        return Copied(number, target, "new")
    new = read(lesson)
    try:
        old = read(mine)
    except InvalidNotebook:
        kept = _aside(mine, "damaged")
        mine.replace(kept)
        _copy(lesson, target)
        _copy(lesson, base)
        return Copied(number, target, "damaged", kept)
    if _version(old) == _version(new):
        return Copied(number, mine, "kept")
    old_base = course.work / BASES / mine.name
    try:
        before = read(old_base)
    except (InvalidNotebook, OSError):
        before = None
    cells = merge.merge(old, new, before)
    kept = _aside(mine, "before")
    shutil.copy2(mine, kept)
    build.write(target, as_json(cells, new))
    if mine != target:
        mine.unlink()
    _copy(lesson, base)
    return Copied(number, target, "updated", kept)


def _version(notebook: Notebook) -> tuple:
    own = notebook.metadata.get("coursework")
    own = own if isinstance(own, dict) else {}
    return own.get("source_version"), own.get("checks_version")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _aside(path: Path, why: str) -> Path:
    """A name that is free, beside ``path``: 02_x.before-2026-03-01.ipynb."""
    stem = f"{path.stem}.{why}-{time.strftime('%Y-%m-%d')}"
    kept, n = path.with_name(f"{stem}.ipynb"), 1
    while kept.exists():
        n += 1
        kept = path.with_name(f"{stem}-{n}.ipynb")
    return kept


def as_json(cells: list[Cell], new: Notebook) -> dict:
    """Cells as a notebook of format 4.5, with the metadata of ``new`` and an id for each cell."""
    made, used = [], set()
    for i, cell in enumerate(cells):
        id = cell.id
        if not id or id in used:
            text = f"{i}\0{cell.kind}\0{cell.source}"
            id = "own-" + hashlib.sha256(text.encode()).hexdigest()[:10]
        used.add(id)
        tree = {
            "cell_type": cell.kind,
            "id": id,
            "metadata": cell.metadata,
            "source": cell.source,
        }
        if cell.attachments:
            tree["attachments"] = cell.attachments
        if cell.kind == "code":
            tree.update(execution_count=None, outputs=cell.outputs)
        made.append(tree)
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": new.metadata, "cells": made}
