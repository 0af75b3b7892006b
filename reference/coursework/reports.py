"""What grading a submission gives: verdict, points, findings; as data and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coursework.judge import CaseResult, ExerciseResult, Finding

# Verdict of a submission for each status of an exercise, the worst first.
VERDICTS = {
    "invalid": "invalid notebook",
    "crashed": "crashed",
    "out of memory": "out of memory",
    "timeout": "timeout",
    "forbidden import": "forbidden import",
    "missing": "missing answer",
}
ORDER = ("invalid notebook", *list(VERDICTS.values())[1:], "ok")


@dataclass
class SubmissionReport:
    """One graded submission.

    verdict: ok, timeout, out of memory, crashed, invalid notebook, missing answer or forbidden
    import: the worst that happened to any exercise; a wrong answer is ok. isolation: one
    sentence; isolated: whether it kept answers from the course's files and the network. notes:
    sentences that whoever reads the grade must see. reused: taken from the gradebook.
    """

    student: str
    path: str
    lesson: str
    verdict: str
    points: int
    out_of: int
    exercises: list[ExerciseResult] = field(default_factory=list)
    level: str = ""
    isolation: str = ""
    isolated: bool = True
    seed: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    submission: str = ""
    checks: str = ""
    environment: str = ""
    reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        data = dict(self.__dict__)
        data["exercises"] = [e.to_dict() for e in self.exercises]
        del data["reused"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SubmissionReport:
        """The inverse of ``to_dict``."""
        own = {k: v for k, v in data.items() if k != "exercises"}
        return cls(**own, exercises=[_exercise(e) for e in data["exercises"]])


def _finding(data: dict | None) -> Finding | None:
    return Finding(**data) if data else None


def _exercise(data: dict) -> ExerciseResult:
    known = ("id", "title", "status", "points", "out_of", "note")
    result = ExerciseResult(**{k: data[k] for k in known})
    result.groups = {g: (p[0], p[1]) for g, p in data["groups"].items()}
    result.finding = _finding(data["finding"])
    result.cases = [
        CaseResult(c["name"], c["group"], c["passed"], _finding(c["finding"]))
        for c in data["cases"]
    ]
    return result


def verdict(exercises: Iterable[ExerciseResult]) -> str:
    """The worst that happened in ``exercises``.

    A single answer that was handed in as something that is no result makes the submission
    "crashed": "invalid notebook" is said of files only.
    """
    found = {VERDICTS.get(e.status, "ok") for e in exercises}
    found = {"crashed" if v == "invalid notebook" else v for v in found}
    return next((v for v in ORDER if v in found), "ok")


def to_json(reports: Iterable[SubmissionReport]) -> str:
    """All reports as one JSON document."""
    reports = list(reports)
    data = {
        "submissions": [r.to_dict() for r in reports],
        "isolated": all(r.isolated for r in reports),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
