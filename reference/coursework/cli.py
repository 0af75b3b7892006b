"""The command ``course``. Everything heavy is imported where it is used: help answers at once."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core
import typer.main

from coursework import cli_class, cli_reports, exits
from coursework.formats import commands as formats
from coursework.terminal import (
    Trouble,
    as_trouble,
    existing,
    find_course,
    has_answers,
    lesson_number,
    say,
    table,
    tell,
)

if TYPE_CHECKING:
    from coursework.config import Course

app = typer.Typer(
    name="course",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Learn, check, grade, build and release the lessons of a course.\n\n"
    "Begin with: course learn",
    epilog=exits.epilog(),
)

Number = Annotated[str | None, typer.Argument(metavar="[NN]", help='A lesson: "02" or "2".')]
Numbers = Annotated[
    list[str] | None, typer.Argument(metavar="[NN...]", help="Lessons; without any, all of them.")
]
Notebook = Annotated[Path, typer.Argument(metavar="FILE", help="A notebook (.ipynb or .py).")]


@app.command()
def learn(
    number: Number = None,
    check: Annotated[
        bool, typer.Option("--check", help="Do all but stay open, and grade a lesson at the end.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser where there is one.")
    ] = True,
    port: Annotated[int | None, typer.Option(help="For JupyterLab; 8888 or the next free.")] = None,
    ip: Annotated[
        str, typer.Option(help="Where JupyterLab listens; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
) -> None:
    """Copy the lessons to work/ and open the next unsolved one.

    Looks at the machine first. An update of the course keeps your answers.

    Example: course learn 02
    """
    from coursework import copies
    from coursework import learn as learning

    course = find_course()
    if number is not None:
        number = lesson_number(number, list(copies.lessons(course)))
    say(f"{course.title}: {course.root}")
    made, fit = learning.prepare(course, say)
    by_number = {c.number: c.path for c in made}
    rows = learning.standing(course)
    say(f"✓ {learning.summary(rows)}" if rows else "! there are no lessons yet")
    ahead = learning.next_lesson(rows)
    number = number or (ahead.number if ahead else next(iter(by_number), None))
    lesson = by_number.get(number) if number else None
    if not check:
        learning.stay(course, lesson, browser, port, say, ip)
        return
    say(f"✓ {learning.try_server(course, lesson)}")
    shown = _show_graded(course, number)
    if not (fit and shown):
        raise typer.Exit(exits.NOT_RIGHT)


def _show_graded(course: Course, number: str | None) -> bool:
    """Grades the learner's copy of a lesson and its solution, for ``learn --check``."""
    from coursework import checks as checks_of
    from coursework import copies

    graded = [n for n in checks_of.lessons(course) if copies.of_lesson(course, n)]
    if not graded:
        say("! no lesson has checks: nothing to grade")
        return True
    chosen = "02" if "02" in graded else graded[0] if number not in graded else number
    say()
    mine = copies.of_lesson(course, chosen)
    say(f"Your copy of lesson {chosen} ({mine.name}), graded:")
    _check(course, mine)
    solution = sorted(course.solutions.glob(f"{chosen}_*.py"))
    if not solution:
        return True
    say()
    say(f"The solution of lesson {chosen} ({solution[0].name}), graded the same way:")
    return _check(course, solution[0])


@app.command()
def doctor() -> None:
    """Look at the machine: Python, torch, data, isolation, Jupyter.

    Example: course doctor
    """
    from coursework import doctor as looking

    good = True
    for line in looking.look(find_course()):
        say(str(line))
        good = good and line.state != "bad"
    if not good:
        raise typer.Exit(exits.NOT_RIGHT)


@app.command()
def status() -> None:
    """Show your points, what is next and the minutes left.

    Example: course status
    """
    from coursework import learn as learning
    from coursework.panel import Panel

    say(repr(Panel(learning.standing(find_course()))))


@app.command()
def check(file: Notebook) -> None:
    """Grade one notebook just as a class would.

    Prints points, the named mistake and which cases fail, for each exercise.

    Example: course check work/02_forward_diffusion.ipynb
    """
    if not _check(find_course(), existing(file)):
        raise typer.Exit(exits.NOT_RIGHT)


def _check(course: Course, file: Path) -> bool:
    """Grades ``file`` and prints every exercise; whether all points were reached."""
    from coursework import feedback, grader, progress

    # A bundle knows the outcomes of one seed only, and no grade is at stake there.
    seed = grader.SEED if has_answers(course) else feedback.PUBLIC_SEED
    report = grader.grade_file(file, course, seed=seed)
    for result in report.exercises:
        tell(result)
        # Points of the learner's own copy count as points of a check in the notebook do.
        if result.points and file.resolve().is_relative_to(course.work.resolve()):
            progress.note(course, result.id, result.points, result.out_of)
    for note in report.notes:
        say(f"! {note}")
    if report.verdict == "invalid notebook":
        raise Trouble(f"{file} could not be graded", exits.INVALID)
    lesson = f"lesson {report.lesson}, " if report.lesson else ""
    say(f"{lesson}{report.points} of {report.out_of} points ({report.isolation.split(' (')[0]})")
    return report.points == report.out_of


@app.command()
def grade(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Submissions, or folders of them."),
    ],
    lesson: Annotated[
        str | None, typer.Option(help="Of which all submissions are; else each tells.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything as JSON; - prints it instead of a table.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write JUnit XML, a suite a submission.")
    ] = None,
    gradebook: Annotated[
        Path | None,
        typer.Option(help="SQLite file for grades; the same command goes on where it was stopped."),
    ] = None,
    allow_unisolated: Annotated[
        bool, typer.Option("--allow-unisolated", help="Grade a batch even without isolation.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Draws the inputs of the checks.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that grade; one a core by default.")
    ] = None,
    class_file: Annotated[
        Path | None,
        typer.Option(
            "--class", help="The class's rules; else class.toml beside the gradebook or the folder."
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="flat, folders, canvas, moodle or gradescope; else found out."),
    ] = None,
    variants: Annotated[
        Path | None, typer.Option(help="Folder of private variants and hidden cases.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Grade on the workers of the Dask scheduler at this address.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing to the gradebook; show differences.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Let new grades by changed checks replace old ones.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Release the scores that the gradebook then gives.")
    ] = False,
    allow_lower: Annotated[
        bool, typer.Option("--allow-lower", help="Lower scores that were released, too.")
    ] = False,
    format: formats.Format = None,
    visibility: formats.Hold = None,
) -> None:
    """Grade a notebook, or submissions: a folder, or a zip of Canvas, Moodle or Gradescope.

    In a folder, each notebook is a student's, or each folder in it. Changed checks are graded
    anew where they matter, and shown; --apply then writes those grades.

    Example: course grade submissions/ --lesson 02 --gradebook grades.sqlite --json grades.json
    """
    from coursework import checks as checks_of
    from coursework import reports
    from coursework.formats.junit import junit as to_junit

    wanted = formats.parse(format)
    course = find_course()
    if not has_answers(course):
        raise Trouble(
            "this bundle holds no answers, so it cannot grade; `course check FILE` works here",
            exits.NOT_FOUND,
        )
    paths = [existing(p) for p in paths]
    if lesson is not None:
        lesson = lesson_number(lesson, checks_of.lessons(course))
    for out in (json, junit):
        if out is not None and str(out) != "-" and not out.absolute().parent.is_dir():
            raise Trouble(
                f"there is no folder {out.parent} to write {out.name} to", exits.NOT_FOUND
            )
    quiet = json is not None and str(json) == "-"
    found, right = cli_class.graded(
        course,
        paths,
        cli_class.Wish(class_file, layout, variants, dry_run, apply, publish, allow_lower),
        quiet=quiet,
        lesson=lesson,
        **({} if seed is None else {"seed": seed}),
        workers=workers,
        gradebook=gradebook,
        allow_unisolated=allow_unisolated,
        scheduler=scheduler,
    )
    if quiet:
        print(reports.to_json(found), end="")
    else:
        table(found)
        if json is not None:
            json.write_text(reports.to_json(found), encoding="utf-8")
    if junit is not None:
        junit.write_text(to_junit(found), encoding="utf-8")
    formats.write(wanted, found, visibility)
    right()


@app.command()
def watch(file: Notebook) -> None:
    """Check a notebook now and at each save, until Ctrl-C.

    Example: course watch work/02_forward_diffusion.ipynb
    """
    import time

    from coursework import watch as watching

    course, path = find_course(), existing(file)

    def again() -> None:
        say(f"\n{time.strftime('%H:%M:%S')} {path.name}")
        try:
            _check(course, path)
        except Exception as error:
            trouble = as_trouble(error)
            if trouble is None:
                raise
            say(str(trouble))

    say(f"Watching {path}; stop with Ctrl-C.")
    try:
        watching.watch(path, again)
    except KeyboardInterrupt:
        say("\nStopped.")


@app.command()
def hint(
    id: Annotated[str, typer.Argument(metavar="ID", help='An exercise: "02.3".')],
    level: Annotated[
        int | None, typer.Option(min=1, help="Which hint; without it, the next one.")
    ] = None,
) -> None:
    """Show the next hint for an exercise.

    What was shown is remembered. Hints cost nothing.

    Example: course hint 02.3
    """
    from coursework import checks as checks_of
    from coursework import feedback

    course = find_course()
    _, exercise = checks_of.find_exercise(id, course.root, answers=False)
    if level is not None and level > len(exercise.hints):
        raise Trouble(f"{id} has hints 1 to {len(exercise.hints)}, not {level}", exits.NOT_FOUND)
    text = repr(feedback.hint(id, level))
    say(text.replace(f"hint({id!r}) again", f"course hint {id}"))


@app.command()
def build(
    numbers: Numbers = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is stale or wrong; execute nothing.")
    ] = False,
    lessons_only: Annotated[
        bool, typer.Option("--lessons-only", help="Make the lessons; execute nothing.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Folder for the measured results that lessons write.")
    ] = None,
    budget: Annotated[str, typer.Option(help="full or small; small is for trying out.")] = "full",
    force: Annotated[
        bool, typer.Option("--force", help="Execute solutions that are up to date, too.")
    ] = False,
) -> None:
    """Make lessons and executed solutions from their sources.

    Example: course build 02 03
    """
    import time

    from coursework import build as building
    from coursework import structure

    course = find_course()
    if budget not in ("full", "small"):
        raise Trouble(f"--budget is full or small, not {budget!r}", exits.USAGE)
    known = [s.number for s in building.sources(course)]
    if not known:
        raise Trouble(f"{course.solutions.name}/ holds no source of a lesson", exits.NOT_FOUND)
    chosen = [n if n in known else lesson_number(n, known) for n in numbers or ()]
    sources = building.sources(course, chosen or None)
    bad = [p for s in sources for p in structure.problems(s) or structure.lesson_problems(s)]
    if check:
        bad += [p for s in sources if not structure.problems(s) for p in building.stale(s)]
        for s in sources:
            if s.solution_path.is_file():
                bad += structure.output_problems(s.solution_path)
        bad += [] if chosen else building.orphans(course)
        for text in bad:
            say(f"✗ {text}")
        if bad:
            raise typer.Exit(exits.NOT_RIGHT)
        say(f"✓ lessons {', '.join(s.number for s in sources)} are as their sources say")
        return
    if bad:
        raise Trouble("\n".join(bad), exits.INVALID)
    failed = []
    for s in sources:
        changed = building.write(s.lesson_path, building.compose(s, lesson=True))
        say(f"✓ {s.lesson_path.name}" + ("" if changed else " (as it was)"))
        if lessons_only:
            continue
        if not force and not record and not building.stale(s):
            say(f"✓ {s.solution_path.name} is up to date")
            continue
        if not force and not record and (kept := building.with_old_outputs(s)):
            building.write(s.solution_path, kept)
            say(f"✓ {s.solution_path.name}: no code changed, outputs kept")
            continue
        start = time.monotonic()
        try:
            building.write(s.solution_path, building.execute(s, budget, record))
        except building.BuildError as error:
            failed.append(str(error))
            say(f"✗ {error}")
            continue
        say(f"✓ {s.solution_path.name} executed in {time.monotonic() - start:.0f} s")
        for text in structure.output_problems(s.solution_path):
            failed.append(text)
            say(f"✗ {text}")
    if failed:
        raise typer.Exit(exits.INVALID)


@app.command()
def release(
    folder: Annotated[
        Path, typer.Argument(help="Where to: a folder that is new or empty, or NAME.zip.")
    ],
    numbers: Numbers = None,
    variants: Annotated[
        Path | None,
        typer.Option(help="Folder of private variants; its hidden cases stay with you."),
    ] = None,
) -> None:
    """Write a student bundle without solutions.

    The same course gives the same bytes each time.

    Example: course release ../class-week-1 00 01
    """
    from coursework import build as building
    from coursework import release as releasing

    course = find_course()
    known = [s.number for s in building.sources(course)]
    chosen = [n if n in known else lesson_number(n, known) for n in numbers or ()]
    files = releasing.release(course, folder, chosen or None, variants)
    parts = [folder] if folder.is_file() else [folder / f for f in files]
    size = sum(p.stat().st_size for p in parts)
    say(f"✓ {folder}: {len(files)} files, {size / 1e6:.1f} MB, no solutions")


cli_class.register(app)
formats.register(app)
cli_reports.register(app)


def _command() -> typer.core.TyperGroup:
    """All commands: those above, and those of the course's own module where it names one."""
    from coursework import config

    group = typer.main.get_group(app)
    try:
        named = config.find().commands
    except (config.CourseNotFound, KeyError, ValueError):
        named = None  # the command itself will say what is wrong, or does not need a course
    if named:
        own = typer.main.get_group(importlib.import_module(named).app)
        for name in own.commands:
            group.add_command(own.commands[name], name)
    return group


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; user errors are told in a sentence, with an exit code by kind."""
    try:
        _command()(args=arguments, prog_name="course")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(exits.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(exits.OK)
    except Exception as error:
        trouble = as_trouble(error)
        if trouble is None:
            raise
        print(f"course: {trouble}", file=sys.stderr)
        sys.exit(trouble.code)
