"""``course export`` and ``course import``: lessons and grades, from and to other systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coursework import exits
from coursework.formats.commands import Hold
from coursework.terminal import existing, find_course, lesson_number, say

if TYPE_CHECKING:
    from coursework.config import Course

Number = Annotated[str, typer.Argument(metavar="NN", help='A lesson: "02" or "2".')]

export = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write a lesson or grades for another system.\n\n"
    "Example: course export gradescope 02 autograder.zip",
)
importing = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Read grades of another system.\n\n"
    "Example: course import nbgrader grades.csv --gradebook grades.sqlite",
)


# Lessons ---------------------------------------------------------------------------------------


def _source(course: Course, number: str):
    """The source of a lesson that has checks and answers."""
    from coursework import build
    from coursework.formats import bundle

    bundle.require_answers(course)
    known = [s.number for s in build.sources(course) if s.checks]
    return build.sources(course, [lesson_number(number, known)])[0]


@export.command("gradescope")
def to_gradescope(
    number: Number,
    target: Annotated[Path, typer.Argument(metavar="ZIP", help="The file to write.")],
    visibility: Hold = None,
    seed: Annotated[int | None, typer.Option(help="Draws the inputs of the checks.")] = None,
) -> None:
    """Write the zip of a Gradescope autograder.

    Example: course export gradescope 02 autograder.zip --visibility 02.3=after_published
    """
    from coursework import checks as checks_of
    from coursework import grader
    from coursework.formats import gradescope
    from coursework.formats.rows import Visibility

    course = find_course()
    number = lesson_number(number, checks_of.lessons(course))
    seen = Visibility.parse(visibility or ())
    seed = grader.SEED if seed is None else seed
    names = gradescope.autograder(course, number, target, seen, seed)
    size = target.stat().st_size
    say(f"✓ {target}: {len(names)} files, {size / 1e6:.1f} MB. It holds the answers.")


@export.command("github-workflow")
def to_github_workflow(
    folder: Annotated[Path, typer.Argument(help="A student bundle, as `course release` makes it.")],
) -> None:
    """Write a GitHub workflow that checks a learner's repository at each push.

    Example: course export github-workflow ../class-week-1
    """
    from coursework.formats import workflow

    for path in workflow.write(folder):
        say(f"✓ {path}")


@export.command("nbgrader")
def to_nbgrader(
    number: Number,
    folder: Annotated[Path, typer.Argument(help="The course folder of nbgrader's.")],
) -> None:
    """Write a lesson as a source assignment of nbgrader.

    Example: course export nbgrader 02 ../nbgrader-course
    """
    from coursework.formats import nbgrader

    for path in nbgrader.export(_source(find_course(), number), folder):
        say(f"✓ {path}")
    say("The source holds the solutions; `nbgrader generate_assignment` takes them out.")


@export.command("otter")
def to_otter(
    number: Number,
    target: Annotated[Path, typer.Argument(metavar="ZIP", help="The file to write.")],
    visibility: Hold = None,
) -> None:
    """Write the autograder.zip with which otter-grader runs a lesson's checks.

    Example: course export otter 02 autograder.zip
    """
    from coursework import checks as checks_of
    from coursework.formats import otter
    from coursework.formats.rows import Visibility

    course = find_course()
    number = lesson_number(number, checks_of.lessons(course))
    names = otter.autograder(course, number, target, Visibility.parse(visibility or ()))
    say(f"✓ {target}: {len(names)} files. otter needs this course installed beside it.")


# Grades ----------------------------------------------------------------------------------------

Book = Annotated[Path, typer.Option("--gradebook", help="SQLite file that `course grade` wrote.")]
Sheet = Annotated[Path, typer.Argument(metavar="SHEET", help="CSV exported from there.")]
Target = Annotated[Path, typer.Argument(metavar="CSV", help="The file to write, to import there.")]
Lesson = Annotated[str | None, typer.Option(help="Whose points; else the only lesson there is.")]


ClassFile = Annotated[
    Path | None, typer.Option("--class", help="Its rules; else class.toml beside the gradebook.")
]


def _scores(book: Path, lesson: str | None, class_file: Path | None):
    from coursework import classroom, marks
    from coursework.formats import sheets
    from coursework.gradebook import Gradebook
    from coursework.scores import from_reports, scores

    rules = classroom.find(existing(book), named=class_file)
    with Gradebook(book) as grades:
        found = scores(from_reports(grades.reports(), marks.answers(grades)), rules)
    number = lesson.zfill(2) if lesson and lesson.isdigit() else lesson
    return sheets.final(found, number)


def _filled(target: Path, filled) -> None:
    target.write_text(filled.text, encoding="utf-8", newline="")
    say(f"✓ {target}: {len(filled.found)} students")
    for student in filled.unknown:
        say(f"! {student} has points, and the sheet has nobody of that id or name")
    if filled.without:
        say(f"! {len(filled.without)} in the sheet have no points: they keep what they had")
    if filled.unknown:
        raise typer.Exit(exits.NOT_RIGHT)


@export.command("canvas")
def to_canvas(
    sheet: Sheet,
    target: Target,
    gradebook: Book,
    assignment: Annotated[str, typer.Option(help="Its name or id in Canvas.")],
    lesson: Lesson = None,
    class_file: ClassFile = None,
) -> None:
    """Fill what counts in the end into a gradebook that Canvas exported.

    Example: course export canvas exported.csv filled.csv --gradebook g.sqlite --assignment 4711
    """
    from coursework.formats import canvas

    text = existing(sheet).read_text(encoding="utf-8-sig")
    _filled(target, canvas.fill(text, _scores(gradebook, lesson, class_file), assignment))


@export.command("moodle")
def to_moodle(
    sheet: Sheet,
    target: Target,
    gradebook: Book,
    item: Annotated[str, typer.Option(help="Column of a grade export to fill.")] = "Grade",
    lesson: Lesson = None,
    class_file: ClassFile = None,
) -> None:
    """Fill what counts in the end into a grading worksheet or a grade export of Moodle's.

    Example: course export moodle worksheet.csv filled.csv --gradebook grades.sqlite --lesson 02
    """
    from coursework.formats import moodle

    text = existing(sheet).read_text(encoding="utf-8-sig")
    _filled(target, moodle.fill(text, _scores(gradebook, lesson, class_file), item))


@importing.command("nbgrader")
def from_nbgrader(
    sheet: Annotated[Path, typer.Argument(metavar="CSV", help="What `nbgrader export` wrote.")],
    gradebook: Book,
) -> None:
    """Read nbgrader's grades into a gradebook; those that are there already stay.

    Example: course import nbgrader grades.csv --gradebook grades.sqlite
    """
    from coursework.formats import nbgrader
    from coursework.gradebook import Gradebook

    grades = nbgrader.read_grades(existing(sheet).read_text(encoding="utf-8"))
    reports = nbgrader.reports(grades)
    with Gradebook(gradebook) as book:
        added = sum(book.add(r) for r in reports)
    missing = len(grades) - len(reports)
    say(f"✓ {added} grades added, {len(reports) - added} were there, {missing} not handed in")
