"""What judging gives, as plain data: importing this costs nothing, so that reports can be read,
drawn and counted without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Finding:
    """One thing that is wrong: a kind ("misconception", "shape", ...) and a sentence or two."""

    kind: str
    says: str
    name: str = ""


@dataclass
class CaseResult:
    """One case as judged, with both values kept for display."""

    name: str
    group: str
    passed: bool
    finding: Finding | None = None
    got: Any = None
    expected: Any = None
    picture: str | None = None
    stdout: str = ""
    seconds: float = 0.0
    hidden: bool = False


@dataclass
class ExerciseResult:
    """An exercise as judged.

    status: passed, partial, failed, not attempted, missing, timeout, out of memory, crashed,
    forbidden import, invalid. groups: group -> (earned, out of). picture: of a failing case, as
    ``pictures`` writes it, or None.
    """

    id: str
    title: str
    status: str
    points: int
    out_of: int
    groups: dict[str, tuple[int, int]] = field(default_factory=dict)
    finding: Finding | None = None
    cases: list[CaseResult] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0
    picture: dict | None = None

    def to_dict(self) -> dict:
        """For JSON: everything but the values."""
        finding = self.finding and dict(self.finding.__dict__)
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "points": self.points,
            "out_of": self.out_of,
            "groups": {g: list(p) for g, p in self.groups.items()},
            "finding": finding,
            "cases": [
                {
                    "name": c.name,
                    "group": c.group,
                    "passed": c.passed,
                    "finding": c.finding and dict(c.finding.__dict__),
                    "hidden": c.hidden,
                }
                for c in self.cases
            ],
            "note": self.note,
            "picture": self.picture,
        }
