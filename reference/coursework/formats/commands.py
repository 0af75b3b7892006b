"""``--format`` of ``course grade``, ``course ci``, and the place of ``course export``."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coursework import exits
from coursework.terminal import (
    Trouble,
    existing,
    find_course,
    has_answers,
    lesson_number,
    say,
)

if TYPE_CHECKING:
    from coursework.formats.rows import Visibility
    from coursework.reports import SubmissionReport

FORMATS = (
    "junit",
    "github",
    "github-summary",
    "github-classroom",
    "classroom50",
    "gradescope",
    "prairielearn",
)
ONE = ("gradescope", "prairielearn")
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME[=FILE]",
        help=f"Write a report, again for each: {', '.join(FORMATS)}. Without =FILE it is printed.",
    ),
]
Hold = Annotated[
    list[str] | None,
    typer.Option(
        "--visibility",
        metavar="WHEN|ID[/GROUP]=WHEN",
        help="Who sees which test: visible, after_due_date, after_published, hidden.",
    ),
]


def register(app: typer.Typer) -> None:
    """Puts this module's commands into ``app``."""
    app.command()(ci)
    from coursework.formats import exporting

    app.add_typer(exporting.export, name="export")
    app.add_typer(exporting.importing, name="import")


# Reports ---------------------------------------------------------------------------------------


def parse(formats: list[str] | None) -> list[tuple[str, Path | None]]:
    """(name, file or None) of each; trouble for an unknown name or a folder that is not there."""
    found = []
    for text in formats or ():
        name, _, file = text.partition("=")
        if name not in FORMATS:
            raise Trouble(
                f"there is no format {name!r}; there are {', '.join(FORMATS)}", exits.NOT_FOUND
            )
        if file and not Path(file).absolute().parent.is_dir():
            raise Trouble(f"there is no folder to write {file} to", exits.NOT_FOUND)
        found.append((name, Path(file) if file else None))
    return found


@contextlib.contextmanager
def quoted() -> Iterator[None]:
    """In a log of GitHub's, nothing that is printed within can give orders."""
    token = secrets.token_hex(32) if os.environ.get("GITHUB_ACTIONS") else ""
    if token:
        say(f"::stop-commands::{token}")
    yield
    if token:
        say(f"::{token}::")


def tell(reports: list[SubmissionReport], visibility: Visibility) -> None:
    """What a learner may see, as text."""
    from coursework import safe
    from coursework.formats.rows import rows

    for report in reports:
        say(safe.line(f"Lesson {report.lesson or 'unknown'}, {Path(report.path).name}"))
        shown = [r for r in rows(report, visibility) if r.visibility == "visible"]
        for row in shown:
            points = f"{row.points} of {row.out_of} points"
            say(f"{'✓' if row.passed else '✗'} {row.name}, {points}")
            if row.text:
                say("    " + row.text.replace("\n", "\n    "))
        for note in report.notes:
            say(f"! {safe.line(note)}")


def write(
    wanted: list[tuple[str, Path | None]],
    reports: list[SubmissionReport],
    visibility: list[str] | None = None,
) -> None:
    """Writes ``reports`` in each of the formats that ``parse`` gave."""
    from coursework.formats import github
    from coursework.formats.rows import Visibility

    seen = Visibility.parse(visibility or ())
    for name, file in wanted:
        if name == "github" and file is None:
            github.publish(reports, say, visibility=seen)
            continue
        text = render(name, reports, seen)
        if name == "github-classroom" and file is None and "GITHUB_OUTPUT" in os.environ:
            with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as f:
                f.write(f"result={text}")
        elif file is None:
            with quoted():
                say(text.rstrip("\n"))
        else:
            file.write_text(text, encoding="utf-8", newline="\n")


def render(name: str, reports: list[SubmissionReport], visibility: Visibility) -> str:
    """``reports`` as the text of one format."""
    from coursework.formats import (
        bundle,
        classroom,
        github,
        gradescope,
        junit,
        prairielearn,
    )

    if name in ONE and len(reports) != 1:
        raise Trouble(
            f"{name} takes the report of one submission, and there are {len(reports)}",
            exits.INVALID,
        )
    if name == "junit":
        return junit.junit(reports)
    if name == "github":
        root = os.environ.get("GITHUB_WORKSPACE")
        lines = github.annotations(reports, Path(root) if root else None, visibility)
        return "".join(f"{line}\n" for line in lines)
    if name == "github-summary":
        return github.summary(reports, visibility)
    if name == "github-classroom":
        return classroom.encoded(classroom.github_classroom(reports, visibility)) + "\n"
    if name == "classroom50":
        return classroom.classroom50(reports, visibility=visibility)
    if name == "gradescope":
        return bundle.dumps(gradescope.results(reports[0], visibility)).decode()
    return prairielearn.prairielearn(reports[0], visibility)


def ci(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Notebooks of one learner."),
    ],
    lesson: Annotated[str | None, typer.Option(help="Of which they are; else each tells.")] = None,
    formats: Format = None,
    visibility: Hold = None,
    seed: Annotated[int | None, typer.Option(help="Draws the inputs of the checks.")] = None,
) -> None:
    """Check one learner's notebooks in their own repository, as a step of CI.

    In a student bundle the public inputs are checked, so that the points are feedback. Exit code 1
    says that points are missing in what was begun.

    Example: course ci work --format github --format junit=junit.xml
    """
    from coursework import checks as checks_of
    from coursework import feedback, grader
    from coursework.formats.rows import Visibility

    course = find_course()
    wanted = parse(formats)
    paths = [existing(p) for p in paths]
    if lesson is not None:
        lesson = lesson_number(lesson, checks_of.lessons(course))
    if seed is None:
        seed = grader.SEED if has_answers(course) else feedback.PUBLIC_SEED
    # All of it is one learner's, who can read the answers there are here anyway.
    made = grader.grade_many(paths, course, lesson, seed=seed, workers=1, allow_unisolated=True)
    if all(file or name == "github" for name, file in wanted):
        with quoted():
            tell(made, Visibility.parse(visibility or ()))
    write(wanted, made, visibility)
    begun = [r for r in made if any(e.status != "not attempted" for e in r.exercises)]
    unreadable = [r for r in made if not r.exercises]
    if any(r.points < r.out_of for r in begun or made) or unreadable:
        raise typer.Exit(exits.NOT_RIGHT)
