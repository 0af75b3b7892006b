"""Grading on many machines: Dask sends submissions out, this process keeps the gradebook.

Each Dask worker process has a ``Grader`` of its own, with its zygotes, as a grader on one machine
has; a task is one submission, and returns its report. Answers must lie on the workers, as they do
where one grades alone: they need the same version of the course, and a report made by other checks
or in another environment is refused. A worker that dies costs nothing but time: Dask gives its
tasks to others, and the gradebook takes one row for each submission.
"""

from __future__ import annotations

import atexit
import itertools
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coursework import config
from coursework.errors import GradingError, NotIsolated, WorkerFailed
from coursework.gradebook import Gradebook
from coursework.reports import SubmissionReport
from coursework.submissions import Submission

if TYPE_CHECKING:
    from coursework.grader import Grader

AHEAD = 3  # tasks for each thread of the cluster that are sent before one comes back
PATIENCE = 30.0  # seconds in which a worker must be there

_lock = threading.Lock()  # of a worker process: references and judges use global seeds
_graders: dict[tuple, Any] = {}
_run, _numbers = uuid.uuid4().hex, itertools.count()


class NoCluster(GradingError):
    """The scheduler cannot be used; the message says why and what to do."""

    exit_code = 6


# On a worker ---------------------------------------------------------------------------------


def _grader(setup: dict) -> Grader:
    """This process's grader for ``setup``, made once."""
    from coursework.grader import Grader

    key = tuple(sorted(setup.items()))
    if key not in _graders:
        for old in _graders.values():
            old.pool.close()
        _graders.clear()
        root = Path(setup["root"])
        course = config.load(root) if config.is_course(root) else config.find()
        if setup["files"]:
            course = replace(course, checks=_placed(setup["files"]))
        _graders[key] = Grader(
            course, setup["lesson"], level=setup["level"], call_filter=setup["call_filter"]
        )
        atexit.register(_graders[key].pool.close)
    return _graders[key]


def _placed(files: tuple[tuple[str, bytes], ...]) -> Path:
    """A folder with the teacher's checks, as long as this process lives."""
    place = tempfile.TemporaryDirectory(prefix="checks-")
    atexit.register(place.cleanup)
    for name, data in files:
        path = Path(place.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path(place.name)


def describe(setup: dict) -> dict:
    """What a worker is: its environment, and whether its isolation keeps answers apart."""
    with _lock:
        grader = _grader(setup)
        return {
            "environment": grader.environment,
            "isolated": grader.level.isolated,
            "says": grader.level.says,
        }


def grade_one(setup: dict, fields: dict, data: bytes, kept: dict | None, seed: int) -> dict:
    """The report on one submission, as plain data. fields: of ``Submission``; data: its bytes;
    kept: an earlier report on it, by other checks."""
    with _lock:
        grader = _grader(setup)
        grader.seed = seed
        path = Path(fields["path"])  # of this machine's kind
        made = grader.prepare(Sent(**{**fields, "path": path}, sent=data))
        if kept is not None:
            grader.keep(made, SubmissionReport.from_dict(kept))
        (task,) = grader.pool.run([grader.task(made)])
        return grader.finish(task).to_dict()


@dataclass(frozen=True)
class Sent(Submission):
    """A submission whose bytes came with it."""

    sent: bytes = b""

    @property
    def data(self) -> bytes:
        return self.sent


# Where the gradebook is ----------------------------------------------------------------------


def grade(
    grader: Grader,
    submissions: Iterable[Submission],
    scheduler: str,
    book: Gradebook | None,
    apply: bool,
    write: bool,
    allow_unisolated: bool,
) -> Iterator[tuple[Submission, SubmissionReport]]:
    """Like ``Grader.grade``, on the workers of the scheduler at address ``scheduler``.

    Raises ``NoCluster`` where there is no Dask, scheduler or worker, or the workers differ,
    ``NotIsolated``, and ``WorkerFailed`` at the end where a submission could not be graded; all
    others are in the gradebook then.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise NoCluster(
            "grading on a cluster needs Dask: pip install -c constraints.txt -e '.[cluster]'"
        ) from None
    setup = {
        "root": str(grader.course.root),
        "lesson": grader.lesson,
        "level": grader.forced,
        "call_filter": grader.pool.setup["filter"],
        "files": _own_checks(grader.course),
    }
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise NoCluster(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        threads = _look(client, setup, grader, scheduler, allow_unisolated)
        waiting = iter(submissions)
        running: dict[Any, tuple[Submission, SubmissionReport]] = {}
        finished = as_completed(loop=client.loop)
        failed: list[str] = []
        more = True
        while more or running:
            while more and len(running) < AHEAD * threads:
                submission = next(waiting, None)
                if submission is None:
                    more = False
                    break
                known, future, report = _send(client, grader, submission, setup, book)
                if known is not None:
                    if book is not None and write and not known.reused:
                        _add(book, known, apply)
                    yield submission, known
                    continue
                running[future] = submission, report
                finished.add(future)
            if not running:
                continue
            future = next(finished)
            submission, expected = running.pop(future)
            if future.status != "finished":
                failed.append(f"{submission.path.name}: {future.exception()!r}"[:300])
                continue
            report = SubmissionReport.from_dict(future.result())
            future.release()
            _same(report, expected)
            report.path, report.before = str(submission.path), expected.before
            if book is not None and write:
                _add(book, report, apply)
            yield submission, report
    if failed:
        raise WorkerFailed(
            f"{len(failed)} submissions were not graded, all others were; the same command tries "
            "them again. " + "; ".join(failed[:5])
        )


def _add(book: Gradebook, report: SubmissionReport, apply: bool) -> None:
    """Writes a grade; one by changed checks only where that is wished."""
    if apply or report.before is None:
        book.add(report)


def _own_checks(course: config.Course) -> tuple[tuple[str, bytes], ...]:
    """The checks where they are not those that lie in the course: private variants travel along."""
    if course.checks.resolve().is_relative_to(course.root.resolve()):
        return ()
    found = (p for p in sorted(course.checks.rglob("*.py")) if p.is_file())
    return tuple((p.relative_to(course.checks).as_posix(), p.read_bytes()) for p in found)


def _look(client: Any, setup: dict, grader: Grader, address: str, allowed: bool) -> int:
    """Threads of the cluster; the workers must be alike, and isolate. The gradebook's key has
    their environment, not this machine's."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise NoCluster(f"the scheduler at {address} has no worker: start one with dask worker")  # noqa: B904
    try:
        found = client.run(describe, setup)
    except Exception as error:
        raise NoCluster(
            f"a worker cannot grade: {type(error).__name__}: {error}. Workers need the same "
            "version of the course, in the same place or named by COURSE_ROOT"
        ) from None
    environments = {d["environment"] for d in found.values()}
    if len(environments) > 1:
        where = "; ".join(f"{a}: {d['environment'][:12]}" for a, d in sorted(found.items()))
        raise NoCluster(
            "the workers differ in Python, torch, machine or isolation, and so could grades: "
            + where
        )
    open_ones = [a for a, d in found.items() if not d["isolated"]]
    if open_ones and not allowed:
        raise NotIsolated(
            f"{open_ones[0]}: {found[open_ones[0]]['says']}. A batch is not graded so; "
            "--allow-unisolated does it, and every report then says so"
        )
    grader.environment = environments.pop()
    return max(1, sum(client.nthreads().values()))


def _send(
    client: Any, grader: Grader, submission: Submission, setup: dict, book: Gradebook | None
) -> tuple[SubmissionReport | None, Any, SubmissionReport]:
    """(the report where it is known, else None; the future; what is known before grading)."""
    made = grader.prepare(submission)
    report = made.report
    if found := book and grader.known(report, book):
        return found, None, report
    if before := book and book.before(
        student=report.student, lesson=report.lesson, submission=report.submission, seed=report.seed
    ):
        report.before = before
    if made.lesson is None:  # nothing of it can be run, and that is all there is to say
        return grader.finish(grader.task(made)), None, report
    names = ("student", "name", "ids", "late", "handed_in", "attempt", "notes")
    fields = {n: getattr(submission, n) for n in names} | {"path": submission.path.name}
    kept = report.before.to_dict() if report.before else None
    # Dask takes two tasks of one name for the same: each has its own.
    key = f"grade-{_run}-{next(_numbers)}"
    arguments = setup, fields, submission.data, kept, report.seed
    future = client.submit(grade_one, *arguments, key=key, pure=False, retries=2)
    return None, future, report


def _same(report: SubmissionReport, expected: SubmissionReport) -> None:
    """Refuses what was graded by something else than was asked for."""
    for name in ("checks", "environment", "submission", "seed"):
        if getattr(report, name) != getattr(expected, name):
            raise WorkerFailed(
                f"a worker has graded {expected.path} with another {name} than this machine "
                "would: all machines need the same version of the course, and workers the same "
                "versions of Python and torch"
            )
