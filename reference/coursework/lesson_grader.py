"""One lesson as its grader sees it: what submissions are given, and what they are judged by."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from coursework import checks as checks_of
from coursework import (
    config,
    fingerprints,
    harness,
    judge,
    library,
    notebook,
    pictures,
    recorded,
)
from coursework.errors import GradingError
from coursework.exercise import Exercise
from coursework.harness import Outcome
from coursework.jobs import SLACK, Job
from coursework.pool import Pool
from coursework.results import ExerciseResult, Finding

STATUS = {"missing": "missing", "not attempted": "not attempted", "forbidden": "forbidden import"}
REFUSED_NAME = re.compile(
    r"No module named '(?P<module>[\w.]+)'"
    r"|cannot import name '(?P<name>\w+)' from '(?P<of>[\w.]+)'"
    r"|module '(?P<owner>[\w.]+)' has no attribute '(?P<attribute>\w+)'"
)


class UnknownLesson(GradingError):
    """No lesson of that number; the message suggests the nearest."""

    exit_code = 3


class LessonGrader:
    """One lesson on one seed: what every submission of it is given, and what it is judged by."""

    def __init__(
        self, course: config.Course, number: str, seed: int, pool: Pool, slack: float = SLACK
    ) -> None:
        self.course, self.seed, self.pool, self.slack = course, seed, pool, slack
        # A student bundle holds recorded outcomes in place of answers: enough for `course check`.
        self.live = (course.checks / "answers").is_dir()
        self.checks = checks_of.load(number, course, answers=self.live)
        self.oracle = judge.LiveOracle(self.checks) if self.live else recorded.load(course, number)
        self.cases = {e.id: e.make_cases(seed) for e in self.checks}
        self.used = {e.id: self._used(e) for e in self.checks}
        self._staged: dict[str, str] = {}

    def for_seed(self, seed: int) -> LessonGrader:
        """The same on another seed; what that costs in memory is freed with it."""
        if seed == self.seed:
            return self
        _ = self.digest, self.trains, self.library_root  # found once, for all
        other = copy.copy(self)
        other.seed = seed
        other.cases = {e.id: e.make_cases(seed) for e in self.checks}
        if self.live:
            other.oracle = judge.LiveOracle(self.checks)
        return other

    def _used(self, exercise: Exercise) -> dict[str, Any]:
        """Answers of the exercises that ``exercise`` uses: id -> ``Answers``, deepest first."""
        found: dict[str, Any] = {}

        def visit(id: str) -> None:
            if id not in found and id != exercise.id:
                checks, used = checks_of.find_exercise(id, self.course)
                for deeper in used.uses:
                    visit(deeper)
                found[id] = checks.answers[id]

        for id in exercise.uses if self.live else ():
            visit(id)
        return found

    @cached_property
    def library_root(self) -> Path:
        """The folder that holds the course's library."""
        return library.root_of(self.course.root, self.course.library)

    def staged(self, id: str) -> str:
        """Name of the folder with the library for exercise ``id``."""
        if id not in self._staged:
            self._staged[id] = library.stage(
                self.pool.stage,
                self.library_root,
                self.course.library,
                self.checks.lesson.provides,
                self.checks.exercises[id].library,
                self.course.root / "data",
            )
        return self._staged[id]

    @cached_property
    def parts(self) -> dict[str, str]:
        """For each exercise the hash of all that its points depend on, but the submission, the
        seed and the machine."""
        return {
            e.id: fingerprints.fingerprint(
                e,
                self.course.checks,
                self.used[e.id],
                self.library_root,
                self.course.library,
                tuple(self.checks.lesson.provides),
            )
            for e in self.checks
        }

    @cached_property
    def digest(self) -> str:
        """Hash of the parts."""
        return hashlib.sha256(repr(sorted(self.parts.items())).encode()).hexdigest()

    @cached_property
    def trains(self) -> bool:
        """Whether answers of this lesson are likely to use optimisers."""
        number = self.checks.lesson.number
        folders = self.course.checks, self.course.checks / "answers"
        files = [f / f"lesson_{number}.py" for f in folders]
        texts = [f.read_text(encoding="utf-8") for f in files if f.is_file()]
        return any(e.slow for e in self.checks) or any("optim." in t for t in texts)

    def job(self, exercise: Exercise, extracted: notebook.Extracted) -> Job:
        """What goes to the learner's process for one exercise."""
        cases = self.cases[exercise.id]
        given = "\n\n".join(a.given_source() for a in self.used[exercise.id].values())
        request = {
            "names": list(exercise.names),
            "chunks": [tuple(c) for c in extracted.chunks],
            "given": given,
            "cases": [harness.case_to_data(c) for c in cases],
            "limit": float(exercise.limit),
        }
        path = self.course.checks / f"lesson_{exercise.lesson}.py"
        folder = self.staged(exercise.id)
        lesson = exercise.lesson
        return Job(exercise.id, lesson, path, folder, request, self.slack, self.trains)

    def extract(self, book: notebook.Notebook, exercise: Exercise) -> notebook.Extracted:
        """The answer to ``exercise``, or why there is none; nothing in a notebook makes it fail."""
        skip = tuple(n for a in self.used[exercise.id].values() for n in a.reference_defines)
        provides = self.checks.lesson.provides
        try:
            return notebook.extract(book, exercise, self.course.library, provides, skip)
        except Exception as error:
            says = f"the cells could not be read: {type(error).__name__}: {error}"[:300]
            return notebook.Extracted(exercise.id, "error", [], says)

    def without_run(self, exercise: Exercise, extracted: notebook.Extracted) -> ExerciseResult:
        """The result of an exercise that has nothing to be run."""
        status = STATUS.get(extracted.status, "failed")
        result = ExerciseResult(exercise.id, exercise.title, status, 0, exercise.out_of)
        result.groups = {g: (0, p) for g, p in exercise.points.items()}
        kind = "error" if extracted.status == "error" else status
        result.finding = Finding(kind, extracted.says or status)
        return result

    def result(self, exercise: Exercise, outcomes: list[Outcome]) -> ExerciseResult:
        """Judges ``outcomes``; a value that makes a judge fail counts as a wrong one."""
        result = self._judged(exercise, outcomes)
        with contextlib.suppress(Exception):  # odd values cost the picture, never the result
            picture = pictures.best(result)
            result.picture = picture and picture.to_dict()
        return result

    def _judged(self, exercise: Exercise, outcomes: list[Outcome]) -> ExerciseResult:
        cases = self.cases[exercise.id]
        outcomes = [self._named(exercise, o) for o in outcomes]
        try:
            return judge.judge_exercise(exercise, self.oracle, cases, outcomes, self.seed)
        except Exception:
            expected = self.oracle.expected(exercise, cases, self.seed)
        for i, (case, got, right) in enumerate(zip(cases, outcomes, expected)):
            try:
                judge.judge_case(exercise, case, got, right)
            except Exception as error:
                text = f"the result cannot be compared: {type(error).__name__}: {error}"[:300]
                outcomes[i] = Outcome("invalid", message=text)
        return judge.judge_exercise(
            exercise, self.oracle, cases, outcomes, self.seed, diagnosis=False
        )

    def _named(self, exercise: Exercise, outcome: Outcome) -> Outcome:
        """An error that comes from a part of the library that is kept back gets its name."""
        match = outcome.status == "error" and REFUSED_NAME.search(outcome.message)
        if not match:
            return outcome
        found = match.groupdict()
        full = found["module"] or f"{found['of'] or found['owner']}." + (
            found["name"] or found["attribute"] or ""
        )
        asked = any(full == n or full.startswith(n + ".") for n in exercise.library)
        absent = full.split(".")[0] == self.course.library and (
            library.module_file(self.library_root, full) is not None
        )
        if not (asked or absent):
            return outcome
        why = "is what this exercise asks you to write" if asked else "is not for this lesson"
        return Outcome("forbidden", error=outcome.error, message=f"{full} {why}")
