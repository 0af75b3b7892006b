"""Checks without answers: what the reference and the misconceptions gave, as recorded bytes.

A student bundle holds the cases, drivers and judges, which contain no answer, and for the public
seed the outcomes that an answer is compared with. The outcomes are data: there is no code in a
bundle that computes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from coursework import wire
from coursework.config import Course
from coursework.exercise import Case, Checks, Exercise
from coursework.harness import Outcome
from coursework.judge import LiveOracle

VERSION = 1


class NoRecording(FileNotFoundError):
    """The recording of a lesson's checks is missing or damaged; the message says which."""


def record(checks: Checks, seeds: tuple[int, ...] = (1,)) -> bytes:
    """Everything that ``check`` compares with on ``seeds``, for one lesson."""
    oracle = LiveOracle(checks)
    exercises: dict[str, dict] = {}
    for exercise in checks:
        exercises[exercise.id] = {}
        for seed in seeds:
            cases = exercise.make_cases(seed)
            wrong = [
                {
                    "name": name,
                    "says": says,
                    "outcomes": [_lean(o) for o in outcomes],
                }
                for name, says, detect, outcomes in oracle.misconceptions(exercise, cases, seed)
                if detect is None
            ]
            right = [_lean(o) for o in oracle.expected(exercise, cases, seed)]
            exercises[exercise.id][str(seed)] = {"expected": right, "misconceptions": wrong}
    message = {"version": VERSION, "lesson": checks.lesson.number, "exercises": exercises}
    return zlib.compress(wire.encode(message), 9)


def _lean(outcome: Outcome) -> dict:
    """Without what differs from run to run, so that recordings are the same to the byte."""
    data = outcome.to_dict()
    data.update(seconds=0.0, where="", stdout="")
    return data


class RecordedOracle:
    """Stands where ``LiveOracle`` does, for the recorded seeds."""

    def __init__(self, exercises: dict[str, dict]) -> None:
        self.exercises = exercises

    def _of(self, exercise: Exercise, seed: int) -> dict:
        try:
            return self.exercises[exercise.id][str(seed)]
        except KeyError:
            known = ", ".join(self.exercises.get(exercise.id, {})) or "none"
            raise NoRecording(
                f"this bundle holds no recording of {exercise.id} for seed {seed} "
                f"(recorded seeds: {known})"
            ) from None

    def expected(self, exercise: Exercise, cases: list[Case], seed: int) -> list[Outcome]:
        """What the reference gave."""
        return [Outcome.from_dict(o) for o in self._of(exercise, seed)["expected"]]

    def misconceptions(
        self, exercise: Exercise, cases: list[Case], seed: int
    ) -> Iterator[tuple[str, str, Any, list[Outcome]]]:
        """What each recorded misconception gave."""
        for m in self._of(exercise, seed)["misconceptions"]:
            yield m["name"], m["says"], None, [Outcome.from_dict(o) for o in m["outcomes"]]


def load(course: Course, number: str) -> RecordedOracle:
    """The recording of lesson ``number`` in a bundle."""
    path = course.checks / "recorded" / f"{number}.bin"
    try:
        message = wire.decode(zlib.decompress(path.read_bytes()))
    except FileNotFoundError:
        raise NoRecording(
            f"{path.name} is missing in {path.parent}: the checks of lesson {number} need it; "
            "unpack the bundle again"
        ) from None
    except (zlib.error, wire.WireError) as error:
        raise NoRecording(f"{path} is damaged ({error}); unpack the bundle again") from None
    if not isinstance(message, dict) or message.get("version") != VERSION:
        raise NoRecording(f"{path} is of another version than this course's tools")
    return RecordedOracle(message["exercises"])
