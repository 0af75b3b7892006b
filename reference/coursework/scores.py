"""From the points of a gradebook to what counts: a pure function of points and the class's rules.

Exactly: fractions, rounded only where they are shown. In this order: of a student's attempts (or
the group's) one is kept; points that a teacher gave replace those of an exercise; what was late
loses its share; points that a teacher gave for the whole lesson replace the result; the lowest
lessons are dropped; what is left is weighed.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from coursework.classroom import Class, LessonRules
from coursework.reports import SubmissionReport

if TYPE_CHECKING:
    from coursework.student_page import Answer

DAY = 86400
WORDS = "words"  # stands for all answers in words, where others are exercises


@dataclass(frozen=True)
class Points:
    """One graded submission. order: later ones are larger. handed_in: ISO time, or ""."""

    student: str
    lesson: str
    exercises: Mapping[str, int | Fraction]
    out_of: Mapping[str, int | Fraction]
    submission: str = ""
    late: bool = False
    handed_in: str = ""
    order: int = 0


@dataclass
class LessonScore:
    """points: as graded, with those a teacher gave; final: what counts, out of ``out_of``; days:
    begun days late; counted: False where dropped; notes: why it is not simply the points; order:
    of the attempt that is kept, -1 for none."""

    points: Fraction
    out_of: Fraction
    final: Fraction
    days: int = 0
    counted: bool = True
    handed_in: bool = True
    notes: list[str] = field(default_factory=list)
    order: int = -1

    @property
    def share(self) -> Fraction:
        """Of what can be had; 0 where nothing can."""
        return self.final / self.out_of if self.out_of else Fraction(0)


@dataclass
class StudentScore:
    """Lesson -> score, and the weighted share of those that count, between 0 and 1 (more only by
    a teacher's own points)."""

    student: str
    lessons: dict[str, LessonScore]
    total: Fraction


def from_reports(
    reports: Iterable[SubmissionReport],
    marked: Mapping[tuple[str, str], Iterable[Answer]] | None = None,
) -> list[Points]:
    """Points of a gradebook's reports, which come oldest first.

    marked: (student, lesson) -> answers in words that a person has given points. Once one student
    has some in a lesson, they can be had by all.
    """
    words: dict[tuple[str, str], tuple[Fraction, Fraction]] = {}
    for key, answers in (marked or {}).items():
        pairs = [(Fraction(str(a.points or 0)), Fraction(str(a.out_of))) for a in answers]
        words[key] = sum(p for p, _ in pairs), sum(o for _, o in pairs)
    most: defaultdict[str, Fraction] = defaultdict(Fraction)
    for (_, lesson), (_, out_of) in words.items():
        most[lesson] = max(most[lesson], out_of)
    found = []
    for order, r in enumerate(reports):
        exercises: dict[str, int | Fraction] = {e.id: e.points for e in r.exercises}
        out_of: dict[str, int | Fraction] = {e.id: e.out_of for e in r.exercises} or {"": r.out_of}
        if most[r.lesson]:
            exercises[WORDS] = words.get((r.student, r.lesson), (Fraction(0),))[0]
            out_of[WORDS] = most[r.lesson]
        found.append(
            Points(r.student, r.lesson, exercises, out_of, r.submission, r.late, r.handed_in, order)
        )
    return found


def counting(reports: Iterable[SubmissionReport], rules: Class) -> list[SubmissionReport]:
    """Of each student's attempts at a lesson the one that counts by the class's rules.

    In a group it may be another member's; it then stands under the student's own name. What is of
    no lesson, because it cannot be read, stands beside: the last of each student.
    """
    reports = list(reports)
    kept = {r.student: r for r in reports if not r.lesson}
    found = list(kept.values())
    for student, score in scores(from_reports(reports), rules).items():
        for one in score.lessons.values():
            if one.order >= 0:
                found.append(replace(reports[one.order], student=student))
    return sorted(found, key=lambda r: (r.lesson, r.student))


def told(score: LessonScore) -> list[str]:
    """What a student is told of a score that is not simply the points of the checks."""
    notes = list(score.notes)
    if score.final != score.points:
        notes.append(f"It counts {_shown(score.final)} of {_shown(score.out_of)} points.")
    return notes


def scores(points: Iterable[Points], rules: Class) -> dict[str, StudentScore]:
    """Student -> score, the roster's students first and in its order, then others by name."""
    of: defaultdict[tuple[str, str], dict[str, Points]] = defaultdict(dict)
    outs: dict[str, Fraction] = {}
    for p in sorted(points, key=lambda p: p.order):
        of[p.student, p.lesson][p.submission] = p  # graded again, the newest grading holds
        outs[p.lesson] = Fraction(sum(p.out_of.values()))
    known = list(rules.roster.ids) if rules.roster else []
    members = [s for group in rules.groups.values() for s in group]
    given = [o.student for o in rules.overrides]
    others = {s for s, _ in of} | set(members) | set(given)
    students = [*known, *sorted(others - set(known))]
    lessons = sorted(
        {n for _, n in of if n} | set(rules.lessons) | {o.lesson for o in rules.overrides}
    )
    team = {s: group for group in rules.groups.values() for s in group}
    found = {}
    for student in students:
        mine = {}
        for number in lessons:
            attempts = [
                p for s in team.get(student, (student,)) for p in of.get((s, number), {}).values()
            ]
            mine[number] = _lesson(student, number, attempts, outs.get(number, Fraction(0)), rules)
        _drop(mine, rules)
        found[student] = StudentScore(student, mine, _total(mine, rules))
    return found


def _lesson(
    student: str, number: str, attempts: list[Points], out_of: Fraction, rules: Class
) -> LessonScore:
    judged = [(_judged(student, p, rules), _when(p, rules), p.order) for p in attempts]
    for one, _, order in judged:
        one.order = order
    if judged and rules.keep == "best":
        score = max(judged, key=lambda j: (j[0].final, j[1], j[2]))[0]
    elif judged:
        score = max(judged, key=lambda j: (j[1], j[2]))[0]
    else:
        score = LessonScore(Fraction(0), out_of, Fraction(0), handed_in=False)
        score.notes.append("nothing was handed in")
    for given in rules.overrides:
        if (given.student, given.lesson, given.exercise) == (student, number, ""):
            score.final = given.points
            score.notes.append(f"{_shown(given.points)} points given: {given.reason}")
    return score


def _judged(student: str, p: Points, rules: Class) -> LessonScore:
    """One attempt, with points that were given for exercises, and what lateness costs."""
    earned = {id: Fraction(n) for id, n in p.exercises.items()}
    notes = []
    for given in rules.overrides:
        if (given.student, given.lesson) == (student, p.lesson) and given.exercise:
            earned[given.exercise] = given.points
            notes.append(f"{_shown(given.points)} points for {given.exercise}: {given.reason}")
    total, out_of = sum(earned.values(), Fraction(0)), Fraction(sum(p.out_of.values()))
    late, note = _days(student, p, rules)
    if note:
        notes.append(note)
    cut_off = rules.late.cut_off_days
    if late and cut_off is not None and late > cut_off:
        notes.append(f"later than {_shown(cut_off)} days: it counts nothing")
        return LessonScore(total, out_of, Fraction(0), math.ceil(late), notes=notes)
    days = math.ceil(late)
    share = min(Fraction(1), days * rules.late.percent_per_day / 100)
    base = total if rules.late.of == "earned" else out_of
    final = max(Fraction(0), total - share * base)
    if days and share:
        notes.append(f"{days} day{'s' * (days > 1)} late: {_shown(total - final)} points less")
    return LessonScore(total, out_of, final, days, notes=notes)


def _days(student: str, p: Points, rules: Class) -> tuple[Fraction, str]:
    """(days late, 0 within the grace; a note)."""
    own = rules.lessons.get(p.lesson, LessonRules())
    extended = [
        e
        for e in rules.extensions
        if e.student == student and p.lesson in (e.lessons or (p.lesson,))
    ]
    note = f"extension: {'; '.join(e.reason for e in extended)}" if extended else ""
    when = _time(p, rules)
    if when is None or (own.due is None and not any(e.until for e in extended)):
        if p.late and not extended:
            return rules.late.stamp_days, "stamped late, at a time that is not known"
        return Fraction(0), note
    ends = [own.due] if own.due else []
    for e in extended:
        if e.until:
            ends.append(e.until)
        elif own.due:
            ends.append(own.due + dt.timedelta(seconds=float(e.days * DAY)))
    passed = (when - max(ends)) / dt.timedelta(microseconds=1)
    seconds = Fraction(round(passed), 1_000_000)
    if seconds <= rules.late.grace_minutes * 60:
        return Fraction(0), note
    return seconds / DAY, note


def _time(p: Points, rules: Class) -> dt.datetime | None:
    try:
        when = dt.datetime.fromisoformat(p.handed_in)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=rules.timezone)


def _when(p: Points, rules: Class) -> float:
    """For comparing attempts: when it was handed in; who does not say comes first."""
    when = _time(p, rules)
    return when.timestamp() if when else 0.0


def _drop(mine: dict[str, LessonScore], rules: Class) -> None:
    """Marks what does not count: the lowest shares, of equals the heavier, then the earlier."""

    def may(n: str) -> bool:
        return rules.lessons.get(n, LessonRules()).may_drop

    candidates = sorted(filter(may, mine), key=lambda n: (mine[n].share, -_weight(n, rules), n))
    drop = min(rules.drop_lowest, max(len(mine) - 1, 0))
    if rules.best_of is not None:
        drop = max(drop, len(mine) - rules.best_of)
    for number in candidates[:drop]:
        mine[number].counted = False
        mine[number].notes.append("dropped: one of the lowest")


def _weight(number: str, rules: Class) -> Fraction:
    return rules.lessons.get(number, LessonRules()).weight


def _total(mine: dict[str, LessonScore], rules: Class) -> Fraction:
    weights = {n: _weight(n, rules) for n, s in mine.items() if s.counted}
    everything = sum(weights.values(), Fraction(0))
    if not everything:
        return Fraction(0)
    return sum((w * mine[n].share for n, w in weights.items()), Fraction(0)) / everything


def _shown(value: Fraction) -> str:
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
