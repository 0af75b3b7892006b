"""What the command says: troubles as sentences with exit codes, results as text and tables."""

from __future__ import annotations

import difflib
import errno
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coursework import config, exits, safe

if TYPE_CHECKING:
    from coursework.config import Course
    from coursework.reports import SubmissionReport
    from coursework.results import ExerciseResult


class Trouble(Exception):
    """Something the user can mend: what to say, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def say(text: str = "") -> None:
    """Prints, without codes that would move the cursor; where the terminal lacks a sign (old
    Windows consoles), another stands for it."""
    text = safe.plain(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, plain in (("✓", "+"), ("✗", "x"), ("·", "-")):
            text = text.replace(sign, plain)
        text = text.encode(encoding, "replace").decode(encoding)
    print(text, flush=True)


def find_course() -> Course:
    try:
        return config.find()
    except config.CourseNotFound as error:
        raise Trouble(str(error), exits.NOT_FOUND) from None
    except KeyError:
        raise Trouble("pyproject.toml lacks parts of [tool.coursework]", exits.INVALID) from None


def lesson_number(text: str, known: list[str]) -> str:
    """ "2" and "02" are lesson 02, and so is "02_forward.ipynb"; typos suggest the nearest."""
    found = re.match(r"\d{1,2}(?!\d)", text)
    number = found[0].zfill(2) if found else text
    if number in known:
        return number
    near = difflib.get_close_matches(number, known, 1, 0.3)
    says = f"; did you mean {near[0]}?" if near else ""
    all_of_them = ", ".join(known) or "none"
    raise Trouble(f"there is no lesson {text!r}{says} (lessons: {all_of_them})", exits.NOT_FOUND)


def existing(path: Path) -> Path:
    """``path``, or trouble that names files that look like it."""
    if path.exists():
        return path
    folder = path.parent if path.parent.is_dir() else Path()
    names = [p.name for p in folder.iterdir() if p.suffix in (".ipynb", ".py")]
    near = difflib.get_close_matches(path.name, names, 1, 0.5)
    says = f"; did you mean {folder / near[0]}?" if near else ""
    raise Trouble(f"there is no {path}{says}", exits.NOT_FOUND)


def has_answers(course: Course) -> bool:
    """False in a student bundle."""
    return (course.checks / "answers").is_dir()


def tell(result: ExerciseResult) -> None:
    """One exercise: points, the named mistake, and the cases that fail by group."""
    from coursework import display

    say(f"{display.MARKS[result.status == 'passed']} {display.headline(result)}")
    title, says = display.mistake(result)
    if title:
        say(f"    {title}. {says}")
    for group, (points, out_of) in result.groups.items():
        failing = [c.name for c in result.cases if c.group == group and not c.passed]
        if failing:
            say(f"    {group}, {points} of {out_of} points: fails on {'; '.join(failing)}")


def table(found: list[SubmissionReport]) -> None:
    """One row a submission, with the points of each exercise; notes below."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lessons = sorted({r.lesson for r in found})
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for lesson in lessons:
        rows = [r for r in found if r.lesson == lesson]
        ids = sorted({e.id for r in rows for e in r.exercises})
        rows_table = Table(title=f"Lesson {lesson or 'unknown'}", title_justify="left")
        rows_table.add_column("submission")
        rows_table.add_column("points", justify="right")
        rows_table.add_column("verdict")
        for id in ids:
            rows_table.add_column(id, justify="right")
        for r in rows:
            points = {e.id: str(e.points) for e in r.exercises}
            cells = [
                r.student,
                f"{r.points}/{r.out_of}",
                r.verdict,
                *(points.get(i, "") for i in ids),
            ]
            rows_table.add_row(*(Text(safe.line(c)) for c in cells))
        console.print(rows_table)
    for r in found:
        for note in r.notes:
            say(f"! {r.student}: {note}")
    if found:
        say(f"{len(found)} graded, {sum(r.reused for r in found)} of them already in the gradebook")
        say(found[0].isolation)


def _kinds() -> list[tuple[str, str, int]]:
    """(module, class, exit code) of what is the user's to mend; looked up only when needed."""
    return [
        ("coursework.config", "CourseNotFound", exits.NOT_FOUND),
        ("coursework.checks", "UnknownExercise", exits.NOT_FOUND),
        ("coursework.notebook", "InvalidNotebook", exits.INVALID),
        ("coursework.exercise", "ExerciseError", exits.INVALID),
        ("coursework.build", "BuildError", exits.INVALID),
        ("coursework.release", "ReleaseError", exits.INVALID),
        ("coursework.recorded", "NoRecording", exits.NOT_FOUND),
        ("coursework.sandbox", "Unavailable", exits.NOT_ISOLATED),
        ("coursework.learn", "ServerFailed", exits.NO_WORKER),
    ]


def as_trouble(error: BaseException) -> Trouble | None:
    """``error`` as what to say and the exit code; None for a fault of this program."""
    if isinstance(error, Trouble):
        return error
    grading = getattr(sys.modules.get("coursework.errors"), "GradingError", ())
    if grading and isinstance(error, grading):
        return Trouble(str(error), error.exit_code)
    for module, name, code in _kinds():
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return Trouble(str(error), code)
    if isinstance(getattr(error, "exit_code", None), int):  # of the course's own commands
        return Trouble(str(error), error.exit_code)
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        text = f"{what}{error.strerror or error}"
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return Trouble(text, exits.NOT_FOUND)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return Trouble(f"{text} (is it read-only, or another user's?)", exits.STORAGE)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Trouble(
                f"{text} (the disk is full: nothing half-written is kept)", exits.STORAGE
            )
        return Trouble(text, exits.STORAGE)
    if isinstance(error, ModuleNotFoundError):
        return Trouble(
            f"{error.name} is not installed: pip install -c constraints.txt -e .", exits.NOT_FOUND
        )
    return None
