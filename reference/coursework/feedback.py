"""``check("02.3")`` and ``hint("02.3")`` in a notebook: feedback at once, never a grade."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from coursework import checks as checks_of
from coursework import config, display, harness, judge, progress, recorded

PUBLIC_SEED = 1


@lru_cache
def _course() -> config.Course:
    return config.find()


@lru_cache(maxsize=32)
def _exercise(id: str):
    """(checks, exercise, oracle) of ``id``: live where the answers are, else from recordings."""
    course = _course()
    if (course.checks / "answers").is_dir():
        checks, exercise = checks_of.find_exercise(id, course.root)
        return checks, exercise, _live(exercise.lesson)
    checks, exercise = checks_of.find_exercise(id, course.root, answers=False)
    return checks, exercise, recorded.load(course, exercise.lesson)


@lru_cache
def _live(number: str) -> judge.LiveOracle:
    return judge.LiveOracle(checks_of.load(number, _course().root))


def learner_names(depth: int = 2) -> dict[str, Any]:
    """The names of the notebook, or of the module that called."""
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell = get_ipython()
        if shell is not None:
            return shell.user_ns
    return sys._getframe(depth).f_globals


@contextlib.contextmanager
def earlier_answers(names: dict[str, Any], exercise: Any) -> Iterator[list[str]]:
    """Correct versions of the exercises that this one uses stand in ``names`` meanwhile."""
    course, put = _course(), {}
    if (course.checks / "answers").is_dir():
        for id in exercise.uses:
            earlier, used = checks_of.find_exercise(id, course.root)
            for name in used.names:
                put[name] = earlier.answers[id].reference_defines[name]
    missing = object()
    before = {n: names.get(n, missing) for n in put}
    names.update(put)
    try:
        yield list(put)
    finally:
        for n, thing in before.items():
            if thing is missing:
                names.pop(n, None)
            else:
                names[n] = thing


def from_library(names: dict[str, Any], exercise: Any, library: str) -> str:
    """Which answer is the library's own object, "" if none."""
    for name in exercise.names:
        module = getattr(names.get(name), "__module__", None) or ""
        if module == library or module.startswith(library + "."):
            return f"{name} is {module}.{name} itself: this exercise asks you to write it"
    return ""


def run_check(
    id: str, names: dict[str, Any], seed: int = PUBLIC_SEED
) -> tuple[Any, judge.ExerciseResult]:
    """(exercise, result) of the answer in ``names``."""
    checks, exercise, oracle = _exercise(id)
    cases = exercise.make_cases(seed)
    borrowed = from_library(names, exercise, _course().library)
    if borrowed:
        outcomes = [harness.Outcome("forbidden", message=borrowed) for _ in cases]
    else:
        with earlier_answers(names, exercise):
            outcomes = harness.run_cases(
                names, exercise.names, cases, checks.module, exercise.limit
            )
    return exercise, judge.judge_exercise(exercise, oracle, cases, outcomes, seed)


def check(id: str, seed: int = PUBLIC_SEED) -> display.CheckDisplay | display.Note:
    """Checks your answer to exercise ``id`` ("02.3") and says what is right and what is not.

    seed: draws other inputs; the class is graded with seeds of its own. Shows each group of
    cases, the named mistake where it is a known one, and a picture of yours against the expected
    where that helps. Costs nothing, any number of times.
    """
    try:
        names = learner_names()
        exercise, result = run_check(str(id), names, seed)
    except (checks_of.UnknownExercise, config.CourseNotFound, recorded.NoRecording) as error:
        return display.Note(str(error))
    trouble = progress.note(_course(), exercise.id, result.points, result.out_of)
    return display.CheckDisplay(exercise, result, trouble)


def hint(id: str, level: int | None = None) -> display.Note:
    """The next hint for exercise ``id``, or hint number ``level`` (from 1). Hints cost nothing."""
    try:
        course = _course()
        _, exercise = checks_of.find_exercise(str(id), course.root, answers=False)
    except (checks_of.UnknownExercise, config.CourseNotFound) as error:
        return display.Note(str(error))
    count = len(exercise.hints)
    shown = progress.load(course).hints.get(exercise.id, 0)
    level = min(shown + 1, count) if level is None else level
    if not 1 <= level <= count:
        return display.Note(f"{exercise.id} has hints 1 to {count}, not {level}")
    progress.note_hint(course, exercise.id, level)
    more = f" (There are {count - level} more: hint({exercise.id!r}) again.)"
    text = exercise.hints[level - 1] + (more if level < count else "")
    return display.Note(text, f"Hint {level} of {count} for {exercise.id}")
