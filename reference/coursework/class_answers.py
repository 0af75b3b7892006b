"""What of a class's notebooks is compared for similarity: each answer, and what was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from coursework import build, copies, notebook, similar
from coursework import checks as checks_of
from coursework.config import Course
from coursework.exercise import Checks
from coursework.library import root_of
from coursework.submissions import Submission


def pieces(
    submissions: Iterable[Submission], course: Course, lesson: str | None = None
) -> tuple[list[similar.Piece], list[str]]:
    """(answers that are there, sentences on notebooks that could not be read).

    Of several notebooks of a student for a lesson all count; one student's are never compared
    with each other.
    """
    found, notes = [], []
    for s in submissions:
        try:
            if s.problem:
                raise notebook.InvalidNotebook(s.problem)
            book = notebook.parse(s.data, s.path)
            number = lesson or notebook.lesson_of(book) or ""
            checks = checks_of.load(number, course.root, answers=False)
        except (notebook.InvalidNotebook, OSError, RecursionError, MemoryError) as error:
            notes.append(f"{s.student}: {str(error) or 'the notebook is nested too deeply'}")
            continue
        except checks_of.UnknownExercise:
            notes.append(f"{s.student}: nothing tells which lesson this is of")
            continue
        found += _of_book(book, s.student, checks, course)
    return found, notes


def _of_book(
    book: notebook.Notebook, student: str, checks: Checks, course: Course
) -> list[similar.Piece]:
    found = []
    for exercise in checks:
        supplied = [
            name
            for id in exercise.uses
            for name in checks_of.find_exercise(id, course.root, answers=False)[1].names
        ]
        try:
            got = notebook.extract(book, exercise, course.library, checks.lesson.provides, supplied)
        except Exception:  # nothing in a notebook makes this fail for the others
            continue
        if got.status == "ok" and got.chunks:
            sources = tuple(source for _, source in got.chunks)
            found.append(similar.Piece(student, exercise.id, sources))
    return found


def given(course: Course, numbers: Iterable[str], more: Sequence[Path] = ()) -> dict[str, set[int]]:
    """Exercise id -> what its lesson gives: stubs, published solution, accepted alternatives,
    known mistakes, the course's library, and the files in ``more`` (a sheet that you gave out)."""
    library = root_of(course.root, course.library) / course.library
    common = similar.known(_texts([*sorted(library.rglob("*.py")), *more]))
    sources = {s.number: s.path for s in build.sources(course)}
    lessons, made = copies.lessons(course), {}
    for number in numbers:
        paths = [course.checks / "answers" / f"lesson_{number}.py"]
        paths += [p for p in (lessons.get(number), sources.get(number)) if p]
        own = similar.known(_texts(p for p in paths if p.is_file()))
        for exercise in checks_of.load(number, course.root, answers=False):
            made[exercise.id] = common | own
    return made


def _texts(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        if path.suffix == ".ipynb":
            book = notebook.read(path)
            yield from (notebook.python_source(c.source) for c in book.code)
        else:
            yield path.read_text(encoding="utf-8", errors="replace")
