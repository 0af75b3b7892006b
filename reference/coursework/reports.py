"""What grading a submission gives: verdict, points, findings; as data and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coursework.results import CaseResult, ExerciseResult, Finding

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
    sentences that whoever reads the grade must see. name, ids, late, handed_in: as in
    ``Submission``. parts: for each exercise the hash of what its points depend on. reused: taken
    from the gradebook. before: what was there of the same submission, graded by other checks.
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
    name: str = ""
    ids: list[str] = field(default_factory=list)
    late: bool = False
    handed_in: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    reused: bool = False
    before: SubmissionReport | None = None

    def drop_values(self) -> None:
        """Forgets what answers gave and should have given, which only pictures need: large."""
        for case in (c for e in self.exercises for c in e.cases):
            case.got = case.expected = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        data = dict(self.__dict__)
        data["exercises"] = [e.to_dict() for e in self.exercises]
        del data["reused"], data["before"]
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
    result.picture = data.get("picture")
    for c in data["cases"]:
        case = CaseResult(c["name"], c["group"], c["passed"], _finding(c["finding"]))
        case.hidden = c.get("hidden", False)
        result.cases.append(case)
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
