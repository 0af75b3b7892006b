"""Grades submissions: takes answers out, has them run elsewhere, judges what came out.

The judge, this process, holds the answers and never runs a learner's code; the processes of
``pool`` run learners' code and never hold an answer.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from coursework import checks as checks_of
from coursework import config, library, lockdown, notebook, sandbox
from coursework.classroom import Class
from coursework.errors import NotIsolated
from coursework.gradebook import Gradebook
from coursework.jobs import SLACK, Task
from coursework.lesson_grader import LessonGrader, UnknownLesson
from coursework.pool import Pool
from coursework.reports import SubmissionReport, verdict
from coursework.results import ExerciseResult
from coursework.submissions import Submission, collect, newest

SEED = 7  # not the seed that notebooks check with: outcomes of that one are handed out
CODE_LIMIT = 300_000


@dataclass
class Prepared:
    """A submission that is read, and not yet judged."""

    submission: Submission
    report: SubmissionReport
    lesson: LessonGrader | None = None
    book: notebook.Notebook | None = None
    seed: int = SEED
    results: dict[str, ExerciseResult] = field(default_factory=dict)
    started: float = 0.0


class Grader:
    """Grades submissions of one course on one seed. A context manager: processes end with it.

    lesson: of which all submissions are ("02"); None reads it from each. level: a name in
    ``sandbox.LEVELS``, None the best that is to be had. call_filter: whether system calls are
    filtered where they can be (tests of the other walls switch it off). slack: seconds that an
    answer's cells may take beside its cases. seed_of: a student's own seed, or None for ``seed``.
    """

    def __init__(
        self,
        course: config.Course | None = None,
        lesson: str | None = None,
        seed: int = SEED,
        level: str | None = None,
        workers: int = 1,
        call_filter: bool = True,
        slack: float = SLACK,
        seed_of: Callable[[str], int | None] | None = None,
    ) -> None:
        self.course = course or config.find()
        self.lesson, self.seed, self.seed_of = lesson, seed, seed_of
        self.level, self.forced = sandbox.available(level), level
        if lesson is not None:
            self._require(lesson)
        self.slack = slack
        if not self.level.isolated:
            lockdown.hide_memory()  # it holds the answers, and nothing else keeps a learner off
        data = self.course.root / "data"
        self.pool = Pool(
            self.level,
            self.course.root,
            self.course.library,
            workers,
            read=[data.resolve()] if data.is_dir() else [],
            preload=self._preload(),
            call_filter=call_filter,
        )
        self.lessons: dict[str, LessonGrader] = {}
        self.environment = environment_digest(self.level.name, call_filter)

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: Any) -> None:
        self.pool.close()

    def _require(self, number: str) -> None:
        try:
            answers = (self.course.checks / "answers").is_dir()
            checks_of.load(number, self.course, answers=answers)
        except checks_of.UnknownExercise as error:
            raise UnknownLesson(str(error)) from None

    def _preload(self) -> list[str]:
        """What modules that lessons provide import, and matplotlib's slow parts."""
        root, name = library.root_of(self.course.root, self.course.library), self.course.library
        names = [f"{name}.{p.stem}" for p in (root / name).glob("*") if p.stem != "__init__"]
        return sorted(library.closure(root, name, names)[1] - {"coursework"})

    def lesson_grader(self, number: str) -> LessonGrader:
        """The grader of lesson ``number``, made once."""
        if number not in self.lessons:
            self._require(number)
            self.lessons[number] = LessonGrader(
                self.course, number, self.seed, self.pool, self.slack
            )
        return self.lessons[number]

    def prepare(self, submission: Submission) -> Prepared:
        """Reads a submission; where it cannot be read, the report already says all."""
        seed = self.seed_of(submission.student) if self.seed_of else None
        seed = self.seed if seed is None else seed
        report = SubmissionReport(
            submission.student,
            str(submission.path),
            self.lesson or "",
            "invalid notebook",
            0,
            0,
            level=self.level.name,
            isolation=self.level.says,
            isolated=self.level.isolated,
            seed=seed,
            submission=submission.digest,
            environment=self.environment,
            name=submission.name,
            ids=list(submission.ids),
            late=submission.late,
            handed_in=submission.handed_in,
            notes=list(submission.notes),
        )
        if not self.level.isolated:
            report.notes.append(
                "Graded without isolation: the answer could read the course's files. "
                + self.level.says
            )
        made = Prepared(submission, report, seed=seed, started=time.monotonic())
        if self.lesson:
            lesson = self.lesson_grader(self.lesson)
            report.out_of = sum(e.out_of for e in lesson.checks)
            report.checks, report.parts = lesson.digest, dict(lesson.parts)
        if submission.problem:
            report.notes.append(submission.problem)
            return made
        try:
            book = notebook.parse(submission.data, submission.path)
            size = sum(len(c.source) for c in book.cells if c.kind == "code")
            if size > CODE_LIMIT:
                raise notebook.InvalidNotebook(
                    f"its cells have {size / 1e6:.1f} MB of code, more than the "
                    f"{CODE_LIMIT / 1e6:.1f} MB allowed"
                )
        except OSError as error:
            report.notes.append(f"{submission.path.name} cannot be read: {error.strerror or error}")
            return made
        except notebook.InvalidNotebook as error:
            report.notes.append(str(error))
            return made
        except (RecursionError, MemoryError):
            report.notes.append(f"{submission.path.name} is nested too deeply for a notebook")
            return made
        report.lesson = self.lesson or notebook.lesson_of(book) or ""
        if not report.lesson:
            report.notes.append("nothing tells which lesson this is of; name it with --lesson")
            return made
        try:
            lesson = self.lesson_grader(report.lesson)
        except UnknownLesson as error:
            report.notes.append(f"it says that it is of lesson {report.lesson}: {error}")
            return made
        report.checks, report.parts = lesson.digest, dict(lesson.parts)
        report.out_of = sum(e.out_of for e in lesson.checks)
        made.lesson = lesson
        made.book = book
        return made

    def keep(self, made: Prepared, before: SubmissionReport) -> None:
        """Takes from an earlier report on the same submission what changed checks do not affect."""
        made.report.before = before
        if made.lesson and before.environment == made.report.environment:
            for result in before.exercises:
                if before.parts.get(result.id, "") == made.report.parts.get(result.id):
                    made.results[result.id] = result

    def task(self, made: Prepared) -> Task:
        """What of a readable submission is to be run; the rest has its result at once."""
        jobs = []
        if made.lesson and len(made.results) < len(made.report.parts):
            made.lesson = made.lesson.for_seed(made.seed)
        if made.lesson:
            for exercise in made.lesson.checks:
                if exercise.id in made.results:
                    continue
                extracted = made.lesson.extract(made.book, exercise)
                if extracted.status == "ok" and extracted.chunks:
                    jobs.append(made.lesson.job(exercise, extracted))
                else:
                    made.results[exercise.id] = made.lesson.without_run(exercise, extracted)
        return Task(made, jobs)

    def finish(self, task: Task) -> SubmissionReport:
        """Judges what came out."""
        made: Prepared = task.key
        report = made.report
        if made.lesson:
            for exercise in made.lesson.checks:
                if exercise.id in task.outcomes:
                    outcomes = task.outcomes[exercise.id]
                    made.results[exercise.id] = made.lesson.result(exercise, outcomes)
            report.exercises = [made.results[e.id] for e in made.lesson.checks]
            report.points = sum(e.points for e in report.exercises)
            report.verdict = verdict(report.exercises)
        report.seconds = time.monotonic() - made.started
        return report

    def grade(
        self,
        submissions: Iterable[Submission],
        book: Gradebook | None = None,
        apply: bool = True,
        write: bool = True,
    ) -> Iterator[tuple[Submission, SubmissionReport]]:
        """Each submission with its report, as they are done; those in ``book`` come from there.

        apply: whether new grades of submissions that are in ``book``, by changed checks, are
        written there; what the change does not affect is not run again. write: whether anything is.
        """
        known: list[tuple[Submission, SubmissionReport]] = []

        def tasks() -> Iterator[Task]:
            for submission in submissions:
                made = self.prepare(submission)
                report = made.report
                if found := book and self.known(report, book):
                    known.append((submission, found))
                    continue
                if before := book and book.before(**_key(report)):
                    self.keep(made, before)
                yield self.task(made)

        for task in self.pool.run(tasks()):
            report = self.finish(task)
            if book is not None and write and (apply or report.before is None):
                book.add(report)
            yield from known
            known.clear()
            yield task.key.submission, report
        yield from known

    def known(self, report: SubmissionReport, book: Gradebook) -> SubmissionReport | None:
        """What ``book`` holds of the very same, with what is now known of its handing in."""
        rest = {"checks": report.checks, "environment": report.environment}
        found = book.find(**_key(report), **rest)
        if found:
            found.late, found.handed_in = report.late, report.handed_in
            found.name, found.ids = report.name, report.ids
        return found


def _key(report: SubmissionReport) -> dict[str, Any]:
    return {k: getattr(report, k) for k in ("student", "lesson", "submission", "seed")}


@cache
def environment_digest(level: str, call_filter: bool) -> str:
    """Hash of what a grade depends on beside its inputs: versions, machine, isolation."""
    import numpy
    import torch

    versions = platform.python_version(), torch.__version__, numpy.__version__
    machine = platform.system(), platform.machine()
    text = repr((versions, machine, level, call_filter))
    return hashlib.sha256(text.encode()).hexdigest()


def grade_file(
    path: Path | str,
    course: config.Course | None = None,
    lesson: str | None = None,
    seed: int = SEED,
    level: str | None = None,
) -> SubmissionReport:
    """Grades one notebook, at the best level of isolation there is or at ``level``.

    Raises ``NothingToGrade``, ``UnknownLesson``, ``sandbox.Unavailable``, ``WorkerFailed``.
    """
    found = collect(path)
    with Grader(course, lesson, seed, level) as grader:
        return next(grader.grade(found[:1]))[1]


def grade_many(
    paths: Iterable[Path | str] | Path | str,
    course: config.Course | None = None,
    lesson: str | None = None,
    seed: int = SEED,
    level: str | None = None,
    workers: int | None = None,
    gradebook: Gradebook | Path | str | None = None,
    on_result: Callable[[SubmissionReport], Any] | None = None,
    allow_unisolated: bool = False,
    call_filter: bool = True,
    rules: Class | None = None,
    layout: str | None = None,
    apply: bool = True,
    write: bool = True,
    on_start: Callable[[int], Any] | None = None,
    scheduler: str | None = None,
) -> list[SubmissionReport]:
    """Grades notebooks, folders and zips of them; reports in the order of the submissions.

    Of a student's files of one lesson the newest is graded. workers: grading processes, one for
    each core by default. gradebook: each grade is written there as soon as it is known, and what
    is there already is not graded again. on_result: called with each report as it comes, complete;
    afterwards the values that cases gave are dropped from it. on_start: called with how many there
    are. rules: the class's roster and seeds. layout: see ``submissions.collect``. apply, write: see
    ``Grader.grade``. scheduler: address of a Dask scheduler whose workers do the grading. Raises
    what ``grade_file`` does, ``GradebookError``, and ``NotIsolated`` for more than one submission
    where answers cannot be kept from the course's files, unless ``allow_unisolated``; the reports
    then say so.
    """
    submissions = newest(enrolled(collect(paths, layout), rules), lesson)
    if len(submissions) > 1 and scheduler is None:
        require_isolation(sandbox.available(level), allow_unisolated)
    workers = min(workers or cores(), len(submissions))
    done: dict[Submission, SubmissionReport] = {}
    if on_start:
        on_start(len(submissions))
    with ExitStack() as stack:
        if isinstance(gradebook, (str, Path)):
            gradebook = stack.enter_context(Gradebook(gradebook))
        grader = stack.enter_context(
            Grader(
                course, lesson, seed, level, workers, call_filter, seed_of=rules and rules.seed_of
            )
        )
        if scheduler is None:
            graded = grader.grade(submissions, gradebook, apply, write)
        else:
            from coursework import cluster

            graded = cluster.grade(
                grader, submissions, scheduler, gradebook, apply, write, allow_unisolated
            )
        for submission, report in graded:
            done[submission] = report
            if on_result:
                on_result(report)
            report.drop_values()
    return [done[s] for s in submissions]


def enrolled(submissions: list[Submission], rules: Class | None) -> list[Submission]:
    """The same under the ids of the class's roster, where there is one."""
    if rules is None or rules.roster is None:
        return submissions
    found = []
    for s in submissions:
        id = rules.roster.match([*s.ids, s.student, s.name])
        note = (*s.notes, "not in the roster")
        found.append(replace(s, student=id) if id else replace(s, notes=note))
    return found


def require_isolation(level: sandbox.Level, allowed: bool) -> None:
    """Raises ``NotIsolated`` where a batch must not be graded."""
    if not level.isolated and not allowed:
        raise NotIsolated(
            f"{level.says}. A batch is not graded so: one submission could read the answers or "
            "change the others. Grade on a Linux machine that has namespaces or Landlock "
            "(`course doctor` says what is lacking), or add --allow-unisolated, which every "
            "report will then say"
        )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
