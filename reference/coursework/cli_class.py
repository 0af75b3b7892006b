"""What ``course`` does for a class: the rest of ``grade``, ``scores``, ``upgrade``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coursework import exits, safe
from coursework.terminal import Trouble, existing, find_course, say

if TYPE_CHECKING:
    from coursework.classroom import Class
    from coursework.config import Course
    from coursework.reports import SubmissionReport
    from coursework.scores import StudentScore

ClassFile = Annotated[
    Path | None,
    typer.Option("--class", help="The class's rules; else class.toml beside the gradebook."),
]


@dataclass
class Wish:
    """The options of ``course grade`` that are about a class."""

    class_file: Path | None = None
    layout: str | None = None
    variants: Path | None = None
    dry_run: bool = False
    apply: bool = False
    publish: bool = False
    allow_lower: bool = False


def graded(
    course: Course,
    paths: list[Path],
    wish: Wish,
    quiet: bool,
    gradebook: Path | None,
    **options: Any,
) -> tuple[list[SubmissionReport], Callable[[], None]]:
    """The reports, and what is to be said and done once they are shown."""
    from coursework import classroom, grader, layouts, meter, regrading
    from coursework import variants as private
    from coursework.names import nearest

    if wish.layout is not None and wish.layout not in layouts.LAYOUTS:
        near = nearest(wish.layout, layouts.LAYOUTS)
        known = ", ".join(layouts.LAYOUTS)
        raise Trouble(f"--layout is one of {known}, not {wish.layout!r}{near}", exits.USAGE)
    for name, asked in (("--publish", wish.publish), ("--apply", wish.apply)):
        if asked and (gradebook is None or wish.dry_run):
            raise Trouble(f"{name} needs --gradebook, and no --dry-run", exits.USAGE)
    rules = classroom.find(gradebook, paths[0], named=wish.class_file)
    with ExitStack() as stack:
        if wish.variants is not None:
            course = stack.enter_context(private.applied(course, existing(wish.variants)))
        shown = stack.enter_context(meter.Meter())
        found = grader.grade_many(
            paths,
            course,
            gradebook=gradebook,
            on_result=shown,
            on_start=shown.start,
            rules=rules,
            layout=wish.layout,
            apply=wish.apply,
            write=not wish.dry_run,
            **options,
        )

    def right() -> None:
        tell = _aside if quiet else say
        for line in regrading.lines(found, wish.apply):
            tell(line)
        pending = any(r.before for r in found) and not wish.apply
        lowered = wish.publish and not _publish(gradebook, rules, wish.allow_lower, tell)
        if pending or lowered:
            raise typer.Exit(exits.NOT_RIGHT)

    return found, right


def _aside(line: str) -> None:
    print(safe.plain(line), file=sys.stderr)


def _publish(gradebook: Path, rules: Class, allow_lower: bool, tell: Callable = say) -> bool:
    """Releases what the gradebook gives; False where something would have been lowered."""
    from coursework import marks, publishing
    from coursework.gradebook import Gradebook
    from coursework.scores import from_reports, scores

    with Gradebook(gradebook) as book:
        found = scores(from_reports(book.reports(), marks.answers(book)), rules)
        plan = publishing.plan(found, book.published())
        book.publish(plan.rows(allow_lower))
    for line in publishing.lines(plan, allow_lower):
        tell(line)
    return allow_lower or not plan.lowered


def scores(
    gradebook: Annotated[Path, typer.Argument(metavar="GRADEBOOK", help="Of course grade.")],
    class_file: ClassFile = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show what students have been told instead.")
    ] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Release these scores.")] = False,
    allow_lower: Annotated[
        bool, typer.Option("--allow-lower", help="Lower scores that were released, too.")
    ] = False,
) -> None:
    """Show what counts in the end: after lateness, extensions, given points and dropped lessons.

    Example: course scores grades.sqlite --class class.toml
    """
    from coursework import classroom, marks
    from coursework.gradebook import Gradebook
    from coursework.scores import from_reports
    from coursework.scores import scores as final

    gradebook = existing(gradebook)
    if published:
        with Gradebook(gradebook) as book:
            for one in book.published().values():
                from coursework.publishing import points

                notes = "".join(f"; {n}" for n in one.notes)
                say(f"{one.student}, lesson {one.lesson}: {points(one)}, {one.when}{notes}")
        return
    rules = classroom.find(gradebook, named=class_file)
    with Gradebook(gradebook) as book:
        found = final(from_reports(book.reports(), marks.answers(book)), rules)
    for line in score_lines(found):
        say(line)
    if publish and not _publish(gradebook, rules, allow_lower):
        raise typer.Exit(exits.NOT_RIGHT)


def score_lines(found: dict[str, StudentScore]) -> list[str]:
    """A table as text: a row a student, then the notes."""
    if not found:
        return ["nobody is in this gradebook"]
    numbers = sorted({n for s in found.values() for n in s.lessons})
    width = max(len("student"), *(len(s) for s in found))
    lines = [f"{'student':<{width}}  {'total':>6}  " + "  ".join(f"{n:>11}" for n in numbers)]
    for student, score in found.items():
        cells = []
        for n in numbers:
            one = score.lessons[n]
            text = f"{float(one.final):.4g}/{float(one.out_of):.4g}"
            cells.append(f"{text if one.counted else f'({text})':>11}")
        total = f"{100 * float(score.total):.1f}%"
        lines.append(f"{student:<{width}}  {total:>6}  " + "  ".join(cells))
    for student, score in found.items():
        lines += [
            f"! {student}, lesson {n}: {note}"
            for n, one in score.lessons.items()
            for note in one.notes
            if note != "nothing was handed in"
        ]
    return lines


def upgrade(
    new: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The newer one: a folder or zip.")],
) -> None:
    """Bring a student bundle up to date; your answers are carried over.

    Example: course upgrade ../week-2.zip
    """
    from coursework import upgrade as upgrading

    done = upgrading.upgrade(find_course(), existing(new))
    say(f"✓ {len(done.written)} files are new, {len(done.removed)} are gone")
    for name in done.aside:
        say(f"! you had changed it; your version is {name} now")
    for copied in done.copies:
        say(f"✓ {copied}")


def register(to: typer.Typer) -> None:
    """Adds the commands of this module to those of ``course``."""
    to.command()(scores)
    to.command()(upgrade)
