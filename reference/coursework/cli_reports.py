"""Commands for a class: feedback, report, marks, similar, pseudonymise, identify, forget."""

from __future__ import annotations

import json as json_of
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coursework import exits
from coursework.terminal import Trouble, existing, find_course, has_answers, lesson_number, say

if TYPE_CHECKING:
    from coursework.config import Course
    from coursework.notebook import Notebook
    from coursework.reports import SubmissionReport
    from coursework.student_page import Answer
    from coursework.words import Question

Grades = Annotated[
    Path, typer.Argument(metavar="GRADES", help="A gradebook, or what grade --json wrote.")
]
Book = Annotated[Path, typer.Option(help="The gradebook: SQLite, as grade --gradebook writes it.")]
Paths = Annotated[
    list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Submissions, or folders of them.")
]
Who = Annotated[
    Path, typer.Option("--identities", help="The file that says who is behind a pseudonym.")
]
ClassFile = Annotated[
    Path | None, typer.Option("--class", help="The class's rules; else class.toml beside GRADES.")
]
Secret = Annotated[Path, typer.Option(help="The file that holds the class's secret.")]


def feedback(
    grades: Grades,
    folder: Annotated[Path, typer.Option("--out", help="Folder for the pages.")] = Path("feedback"),
    lesson: Annotated[str | None, typer.Option(help="Only this lesson.")] = None,
    student: Annotated[str | None, typer.Option(help="Only this student.")] = None,
    class_file: ClassFile = None,
) -> None:
    """Write a page of feedback for each student: points, mistakes, pictures, hints, comments.

    A page is complete in itself and holds nothing about anybody else. It is of the attempt that
    counts, and says what lateness cost and what a teacher gave.

    Example: course feedback grades.sqlite --out feedback
    """
    from coursework import pages, student_page

    found, answers, notes = _graded(grades, class_file)
    found = [r for r in found if lesson in (None, r.lesson) and student in (None, r.student)]
    if not found:
        raise Trouble(f"{grades} holds no grade of that kind", exits.NOT_FOUND)
    titles, hints = _titles(), _hints({r.lesson for r in found})
    names = pages.file_names(r.student for r in found)
    for r in found:
        key = r.student, r.lesson
        page = student_page.page(
            r, titles.get(r.lesson, ""), hints, answers.get(key, ()), notes[key]
        )
        part = f"lesson-{r.lesson}" if r.lesson else "lesson-unknown"
        pages.write(folder / part / f"{names[r.student]}.html", page)
    say(f"✓ {len(found)} pages in {folder}")


def report(
    grades: Grades,
    html: Annotated[Path | None, typer.Option(help="Write the class page.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a table, a row a submission.")] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a typed table, a row an exercise.")
    ] = None,
    class_file: ClassFile = None,
) -> None:
    """Write what a class did: a page without names, and tables with them.

    Of several attempts it takes the one that counts. Without an option, it prints the most
    important.

    Example: course report grades.sqlite --html class.html --csv class.csv
    """
    from coursework import class_page, class_summary, pages, tables

    found, answers, _ = _graded(grades, class_file)
    marked = {
        key: (sum(a.points or 0 for a in mine), sum(a.out_of for a in mine))
        for key, mine in answers.items()
    }
    known = _known_mistakes({r.lesson for r in found})
    lessons = class_summary.summarise(found, known, marked)
    if html is not None:
        pages.write(html, class_page.page(lessons, find_course().title, bool(known)))
        say(f"✓ {html}")
    if csv is not None:
        words = {
            k: {f"words: {a.title}": a.points or 0 for a in mine} for k, mine in answers.items()
        }
        pages.write(csv, tables.to_csv(*tables.wide(found, words)))
        say(f"✓ {csv}")
    if parquet is not None:
        parquet.parent.mkdir(parents=True, exist_ok=True)
        say(f"✓ {parquet}: {tables.write_parquet(found, parquet)} rows")
    for s in lessons:
        say(
            f"lesson {s.number or 'unknown'}: {len(s.points)} submissions, median {s.median:g} of "
            f"{s.out_of:g}, mean {s.mean:.1f}"
        )
        for e in s.hardest[:3]:
            say(f"  {e.id}: {e.lost} points lost, {e.full} of {e.count} have all")
        for e, name, n in s.mistakes[:3]:
            say(f"  {e.id}: {n} times {name.replace('-', ' ')}")


marks_app = typer.Typer(
    no_args_is_help=True, help="Answers in words: collect them side by side, and read marks back."
)


@marks_app.command("questions")
def marks_questions(
    numbers: Annotated[list[str], typer.Argument(metavar="NN...", help="Lessons.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("questions.toml"),
) -> None:
    """Write which questions lessons ask in words, for you to give points in.

    Example: course marks questions 00 --out questions.toml
    """
    from coursework import pages, words

    course = find_course()
    known = [q for n in numbers for q in words.questions(*_lesson(course, n))]
    if out.exists():
        raise Trouble(f"{out} is there already, and may hold your points", exits.INVALID)
    pages.write(out, words.dumps(known))
    say(f"✓ {out}: {len(known)} questions, none of them worth a point yet")


@marks_app.command("collect")
def marks_collect(
    paths: Paths,
    questions: Annotated[Path, typer.Option(help="The questions and their points.")],
    gradebook: Book,
    out: Annotated[Path, typer.Option(help="A table (.csv) or a page (.html) to mark in.")],
) -> None:
    """Write answers in words side by side, with the marks that are there already.

    Example: course marks collect submissions --questions questions.toml
    --gradebook grades.sqlite --out marks.html
    """
    from coursework import marks, pages
    from coursework.gradebook import Gradebook
    from coursework.submissions import collect

    course = find_course()
    lessons, asked = _asked(course, existing(questions))
    submissions = collect([existing(p) for p in paths])
    with Gradebook(gradebook) as book:
        entries, notes = marks.gather(submissions, asked, lessons, marks.current(book))
    for note in notes:
        say(f"! {note}")
    if out.suffix.lower() in (".html", ".htm"):
        title = "lesson " + ", ".join(sorted(lessons))
        pages.write(out, marks.to_html(entries, title))
    elif out.suffix.lower() == ".csv":
        pages.write(out, marks.to_csv(entries))
    else:
        raise Trouble(f"--out is a .csv or a .html, not {out.name}", exits.USAGE)
    written = sum(bool(e.written.own) for e in entries)
    done = sum(e.mark is not None for e in entries)
    say(f"✓ {out}: {written} answers to {len(asked)} questions, {done} marked already")
    for e in entries:
        if e.stale:
            say(f"! {e.student}, {e.question.id}: the answer has changed since it was marked")


@marks_app.command("apply")
def marks_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The table, filled in.")],
    gradebook: Book,
    prefer: Annotated[
        str | None, typer.Option(help="Whose mark counts in a conflict: file or book.")
    ] = None,
) -> None:
    """Put marks and comments into the gradebook. The same file twice changes nothing.

    Example: course marks apply marks.csv --gradebook grades.sqlite
    """
    from coursework import marks
    from coursework.gradebook import Gradebook

    if prefer not in (None, "file", "book"):
        raise Trouble(f"--prefer is file or book, not {prefer!r}", exits.USAGE)
    with Gradebook(gradebook) as book:
        done = marks.apply(existing(file), book, prefer)
    say(
        f"✓ {done.added} new, {done.changed} changed, {done.unchanged} as they were, "
        f"{done.empty} rows not marked"
    )
    for text in done.conflicts:
        say(f"✗ {text}")
    if done.conflicts:
        say("These were not written. --prefer file or --prefer book decides.")
        raise typer.Exit(exits.NOT_RIGHT)


def similar(
    paths: Paths,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("similar.html"),
    lesson: Annotated[str | None, typer.Option(help="Of which all submissions are.")] = None,
    given: Annotated[
        list[Path] | None, typer.Option(help="More code that you gave out (.py, .ipynb).")
    ] = None,
) -> None:
    """Show answers that are similar, side by side. What it means is for you to find out.

    Example: course similar submissions --lesson 05 --out similar.html
    """
    from coursework import checks as checks_of
    from coursework import class_answers, pages
    from coursework import similar as similarity
    from coursework.submissions import collect

    course = find_course()
    if lesson is not None:
        lesson = lesson_number(lesson, checks_of.lessons(course))
    submissions = collect([existing(p) for p in paths])
    pieces, notes = class_answers.pieces(submissions, course, lesson)
    for note in notes:
        say(f"! {note}")
    numbers = sorted({p.exercise.split(".")[0] for p in pieces})
    left_out = class_answers.given(course, numbers, [existing(p) for p in given or ()])
    pairs, compared = similarity.compare(pieces, left_out)
    title = "lesson " + ", ".join(numbers) if numbers else "no lesson"
    pages.write(out, similarity.page(pairs, compared, title))
    for p in pairs:
        say(f"{p.first.exercise}: {p.first.student} and {p.second.student} are similar")
    say(f"✓ {out}: {len(pairs)} similar pairs among {sum(compared.values())} answers")


def pseudonymise(
    paths: Paths,
    out: Annotated[Path, typer.Option(help="Folder for the submissions under pseudonyms.")],
    identities: Who = Path("identities.csv"),
    secret: Secret = Path("class.secret"),
    roster: Annotated[
        Path | None, typer.Option(help='CSV with a column "id" and any others to know students by.')
    ] = None,
) -> None:
    """Copy submissions under pseudonyms; who is who stands in one file, for your eyes alone.

    Grade the copies: gradebook, feedback and reports then hold no name.

    Example: course pseudonymise handed-in --out submissions --roster roster.csv
    """
    from coursework import identities as identifying
    from coursework.roster import Roster
    from coursework.submissions import collect

    who = identifying.load(identities, secret)
    for row in Roster.read(existing(roster)).rows.values() if roster else ():
        who.add(row)
    done = identifying.take(collect([existing(p) for p in paths]), out, who)
    who.save(identities)
    say(f"✓ {out}: {done.copied} submissions copied, {done.students} students")
    if roster:
        for name in done.unknown:
            say(f"! {name} is not in {roster}")
    say(f"Who is who stands in {identities}: keep it apart from the rest.")


def identify(
    file: Annotated[Path, typer.Argument(metavar="CSV", help="A table with pseudonyms.")],
    out: Annotated[Path, typer.Option(help="The table to write.")],
    identities: Who = Path("identities.csv"),
    secret: Secret = Path("class.secret"),
    column: Annotated[str, typer.Option(help="What stands for a student then.")] = "id",
) -> None:
    """Put names or ids back into a table, for the system that your school uses.

    Example: course identify class.csv --out for-school.csv
    """
    from coursework import identities as identifying
    from coursework import pages

    who = identifying.load(existing(identities), secret)
    text, count = identifying.identify(existing(file).read_text(encoding="utf-8-sig"), who, column)
    pages.write(out, text)
    say(f"✓ {out}: {count} pseudonyms replaced")


def forget(
    student: Annotated[str, typer.Argument(help="A pseudonym, an id, a name or an address.")],
    folder: Annotated[Path, typer.Option("--class", help="The class's folder.")] = Path(),
    identities: Annotated[
        Path | None, typer.Option(help="Who is who; in the class's folder if not named.")
    ] = None,
    secret: Annotated[
        Path | None, typer.Option(help="The class's secret; in its folder if not named.")
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Another name that the student is known by.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")] = False,
) -> None:
    """Erase a student from everything in the class's folder, and look whether anything is left.

    Example: course forget u4711 --class . --yes
    """
    from coursework import forget as forgetting
    from coursework import identities as identifying

    terms = {student, *(also or ())}
    if (
        existing(folder).resolve() in (Path.home(), Path("/"))
        or (folder / "pyproject.toml").exists()
    ):
        raise Trouble(f"{folder} is no class's folder: name it with --class", exits.USAGE)
    identities = identities or folder / identifying.FILE
    secret = secret or folder / identifying.SECRET
    who = None
    if identities.exists():
        who = identifying.load(identities, secret)
        if pseudonym := who.find(student):
            terms |= {pseudonym, *(v for v in who.rows[pseudonym].values() if v.strip())}
    done = forgetting.forget(folder, terms, yes)
    if yes and who is not None and identities.exists():
        who = identifying.load(identities, secret)  # kept apart, it lies outside of the folder
        if pseudonym := who.find(student):
            del who.rows[pseudonym]
            who.save(identities)
            done.done.append(f"{identities}: 1 row erased")
    for text in done.done:
        say(f"{'✓' if yes else '·'} {text}")
    for text in done.left:
        say(f"✗ {text}")
    if not yes:
        say(f"Nothing is erased yet: {len(done.done)} files would change. Add --yes.")
    elif not (done.done or done.left):
        raise Trouble(f"nothing in {folder} is of {student}", exits.NOT_FOUND)
    elif done.left:
        raise typer.Exit(exits.NOT_RIGHT)
    else:
        say("Searched again: nothing is left here. Backups and mails are yours to see to.")


def _graded(
    path: Path, class_file: Path | None
) -> tuple[
    list[SubmissionReport],
    dict[tuple[str, str], list[Answer]],
    dict[tuple[str, str], list[str]],
]:
    """(the report that counts of each student and lesson, marked answers in words, what is to be
    said of the points)."""
    from collections import defaultdict

    from coursework import classroom, marks, scores
    from coursework.gradebook import Gradebook
    from coursework.reports import SubmissionReport

    rules = classroom.find(path, named=class_file)
    if existing(path).suffix == ".json":
        try:
            tree = json_of.loads(path.read_text(encoding="utf-8"))
            found = [SubmissionReport.from_dict(r) for r in tree["submissions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Trouble(
                f"{path} is not what grade --json writes: {error}", exits.INVALID
            ) from None
        answers = {}
    else:
        with Gradebook(path) as book:
            found, answers = book.reports(), marks.answers(book)
    said: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for student, score in scores.scores(scores.from_reports(found, answers), rules).items():
        for lesson, one in score.lessons.items():
            said[student, lesson] = scores.told(one)
    return scores.counting(found, rules), answers, said


def _titles() -> dict[str, str]:
    from coursework import copies

    return {number: copies.title(path) for number, path in copies.lessons(find_course()).items()}


def _checked(numbers: Iterable[str], answers: bool) -> Iterable:
    from coursework import checks as checks_of

    course = find_course()
    for number in sorted(set(numbers) & set(checks_of.lessons(course))):
        yield checks_of.load(number, course.root, answers=answers)


def _hints(numbers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {e.id: e.hints for checks in _checked(numbers, False) for e in checks}


def _known_mistakes(numbers: Iterable[str]) -> dict[str, list[str]]:
    if not has_answers(find_course()):
        return {}
    return {
        id: [m.name for m in a.misconceptions]
        for checks in _checked(numbers, True)
        for id, a in checks.answers.items()
    }


def _lesson(course: Course, number: str) -> tuple[Notebook, str]:
    from coursework import copies, notebook

    lessons = copies.lessons(course)
    number = lesson_number(number, list(lessons))
    return notebook.read(lessons[number]), number


def _asked(course: Course, file: Path) -> tuple[dict[str, Notebook], list[Question]]:
    """(the lessons that questions in ``file`` are of, the questions that have points)."""
    from coursework import copies, notebook, words

    known, lessons = [], {}
    for number, path in copies.lessons(course).items():
        lessons[number] = notebook.read(path)
        known += words.questions(lessons[number], number)
    asked = words.load(file, known)
    return {q.lesson: lessons[q.lesson] for q in asked}, asked


def register(app: typer.Typer) -> None:
    """Adds these commands to ``course``."""
    for command in (feedback, report, similar, pseudonymise, identify, forget):
        app.command()(command)
    app.add_typer(marks_app, name="marks")
