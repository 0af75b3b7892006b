"""Loads the checks of a lesson: the exercises, and their answers where those are wanted."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path

from coursework import config
from coursework.exercise import Answers, Checks, Exercise, ExerciseError, Lesson


class UnknownExercise(KeyError):
    """No exercise or lesson of that number; the message suggests the nearest."""

    def __str__(self) -> str:
        return self.args[0]


def load_module(path: Path, name: str):
    """The module in ``path``, under ``name``."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def lessons(course: config.Course | None = None) -> list[str]:
    """Numbers of the lessons that have checks: ["00", "01", ...]."""
    course = course or config.find()
    return sorted(
        p.stem.removeprefix("lesson_") for p in course.checks.glob("lesson_[0-9][0-9].py")
    )


def _course(root: Path | config.Course | None) -> config.Course:
    if isinstance(root, config.Course):
        return root
    return config.load(root) if root else config.find()


@lru_cache
def load(number: str, root: Path | config.Course | None = None, answers: bool = True) -> Checks:
    """The checks of lesson ``number`` ("02"); ``answers=False`` loads no answer. root: the course
    or where it lies; None finds it."""
    course = _course(root)
    path = course.checks / f"lesson_{number}.py"
    if not path.is_file():
        known = lessons(course)
        near = difflib.get_close_matches(number, known, 1, 0.0)
        raise UnknownExercise(
            f"there is no lesson {number!r} with checks"
            + (f"; did you mean {near[0]}?" if near else "")
            + f" (lessons: {', '.join(known) or 'none'})"
        )
    module = load_module(path, f"course_checks_{number}")
    exercises = {e.id: e for e in vars(module).values() if isinstance(e, Exercise)}
    for e in exercises.values():
        if e.lesson != number:
            raise ExerciseError(f"{path.name} holds {e.id}, of another lesson")
    lesson = getattr(module, "LESSON", Lesson(number))
    found: dict[str, Answers] = {}
    if answers:
        answer_path = course.checks / "answers" / f"lesson_{number}.py"
        answer_module = load_module(answer_path, f"course_answers_{number}")
        found = {a.id: a for a in vars(answer_module).values() if isinstance(a, Answers)}
        for e in exercises.values():
            if e.id not in found:
                raise ExerciseError(f"{answer_path.name} has no Answers({e.id!r})")
            lacks = set(e.names) - set(found[e.id].reference_defines)
            if lacks:
                raise ExerciseError(f"{e.id}: the reference lacks {', '.join(sorted(lacks))}")
    return Checks(lesson, dict(sorted(exercises.items())), found, module)


def find_exercise(
    id: str, root: Path | config.Course | None = None, answers: bool = True
) -> tuple[Checks, Exercise]:
    """The exercise ``id`` with its lesson's checks; a wrong id suggests the nearest."""
    course = _course(root)
    number = id.split(".")[0] if "." in id else id[:2]
    if number in lessons(course):
        checks = load(number, root, answers)
        if id in checks.exercises:
            return checks, checks.exercises[id]
    everything = [e.id for n in lessons(course) for e in load(n, root, answers)]
    near = difflib.get_close_matches(id, everything, 3, 0.5)
    raise UnknownExercise(
        f"there is no exercise {id!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
    )
