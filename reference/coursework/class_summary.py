"""A class in figures: points, verdicts, mistakes, and the checks that nobody ran into.

No name of a student is in it, so that it can be shown to those who made the course.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coursework.reports import SubmissionReport

BINS = 10


@dataclass
class ExerciseSummary:
    """One exercise over a class. lost: points lost in all, those not attempted among them;
    statuses: status -> how many; mistakes: named mistake -> how many."""

    id: str
    title: str
    out_of: int
    count: int = 0
    attempted: int = 0
    full: int = 0
    lost: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    mistakes: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    @property
    def mean(self) -> float:
        """Mean points of all who handed in."""
        return self.out_of - self.lost / self.count if self.count else 0.0


@dataclass
class LessonSummary:
    """One lesson over a class. points: of each submission, sorted; bins: (from, to, how many)."""

    number: str
    out_of: float
    points: list[float]
    bins: list[tuple[float, float, int]]
    verdicts: Counter[str]
    levels: Counter[tuple[str, bool, str]]
    exercises: list[ExerciseSummary]
    quiet_cases: list[tuple[str, str]] = field(default_factory=list)
    quiet_mistakes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.points)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.points)

    @property
    def hardest(self) -> list[ExerciseSummary]:
        """The exercises, those that lost most points first."""
        return sorted(self.exercises, key=lambda e: (-e.lost, e.id))

    @property
    def mistakes(self) -> list[tuple[ExerciseSummary, str, int]]:
        """(exercise, named mistake, how many), the most frequent first."""
        found = [(e, name, n) for e in self.exercises for name, n in e.mistakes.items()]
        return sorted(found, key=lambda row: (-row[2], row[0].id, row[1]))


def summarise(
    reports: Iterable[SubmissionReport],
    known: Mapping[str, Iterable[str]] | None = None,
    marked: Mapping[tuple[str, str], tuple[float, float]] | None = None,
) -> list[LessonSummary]:
    """Each lesson of ``reports``, by number.

    known: exercise id -> the mistakes that its check can name, to say which nobody made. marked:
    (student, lesson) -> (points, out of) of answers in words, added to the points of the checks.
    """
    by_lesson: dict[str, list[SubmissionReport]] = {}
    for report in reports:
        by_lesson.setdefault(report.lesson, []).append(report)
    return [_lesson(n, found, known, marked or {}) for n, found in sorted(by_lesson.items())]


def _lesson(
    number: str,
    reports: list[SubmissionReport],
    known: Mapping[str, Iterable[str]] | None,
    marked: Mapping[tuple[str, str], tuple[float, float]],
) -> LessonSummary:
    extra = [marked.get((r.student, r.lesson), (0, 0)) for r in reports]
    points = sorted(r.points + mine for r, (mine, _) in zip(reports, extra))
    out_of = max((r.out_of + most for r, (_, most) in zip(reports, extra)), default=0)
    exercises = _exercises(reports)
    made = LessonSummary(
        number,
        out_of,
        points,
        _bins(points, out_of),
        Counter(r.verdict for r in reports),
        Counter((r.level, r.isolated, r.isolation) for r in reports),
        exercises,
    )
    for e in exercises:
        made.quiet_cases += [(e.id, name) for name, n in e.cases.items() if not n]
        if known and e.attempted:
            silent = [m for m in known.get(e.id, ()) if not e.mistakes[m]]
            made.quiet_mistakes += [(e.id, name) for name in silent]
    return made


def _exercises(reports: list[SubmissionReport]) -> list[ExerciseSummary]:
    made: dict[str, ExerciseSummary] = {}
    for e in (e for r in reports for e in r.exercises):
        one = made.setdefault(e.id, ExerciseSummary(e.id, e.title, e.out_of))
        one.count += 1
        one.attempted += e.status not in ("not attempted", "missing")
        one.full += e.points == e.out_of
        one.lost += e.out_of - e.points
        one.statuses[e.status] += 1
        named = e.finding is not None and e.finding.kind == "misconception"
        if named:
            one.mistakes[e.finding.name] += 1
        one.unnamed += not named and e.status in ("failed", "partial")
        for c in e.cases:
            one.cases[c.name] += not c.passed
    return sorted(made.values(), key=lambda e: [int(n) for n in e.id.split(".")])


def _bins(points: list[float], out_of: float) -> list[tuple[float, float, int]]:
    """At most ten bins of whole points over [0, out_of], each from its first to under the next."""
    if not out_of:
        return [(0, 0, len(points))]
    if out_of < BINS and all(p == int(p) for p in points):
        return [(p, p, points.count(p)) for p in range(int(out_of) + 1)]
    width = math.ceil(out_of / BINS)
    edges = [*range(0, math.ceil(out_of), width), out_of]
    counts = [0] * (len(edges) - 1)
    for p in points:
        counts[min(max(int(p // width), 0), len(counts) - 1)] += 1
    return list(zip(edges, edges[1:], counts))
