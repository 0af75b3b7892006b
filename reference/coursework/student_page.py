"""Feedback for one student as a page: points, the named mistake, a picture, hints, comments.

What is shown of the checks is what a learner may know: of a hidden case it says that one failed,
and neither its name nor what was wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coursework import drawing, pages
from coursework.reports import SubmissionReport
from coursework.results import ExerciseResult

STATUS = {
    "passed": "passed",
    "partial": "partly right",
    "failed": "not right yet",
    "not attempted": "not attempted",
    "missing": "not found in the notebook",
    "timeout": "took too long",
    "out of memory": "ran out of memory",
    "crashed": "crashed",
    "forbidden import": "not your own",
    "invalid": "no result that can be read",
}
VERDICT = {
    "invalid notebook": "The file could not be graded.",
    "crashed": "An answer ended its process; it costs that exercise, and no other.",
    "timeout": "An answer took too long; it costs that exercise, and no other.",
    "out of memory": "An answer ran out of memory; it costs that exercise, and no other.",
}
HIDDEN = "a hidden case"


@dataclass
class Answer:
    """One answer in words as it was marked. points: None where it is not marked yet."""

    title: str
    points: float | None
    out_of: float
    comment: str = ""


def page(
    report: SubmissionReport,
    title: str = "",
    hints: Mapping[str, Sequence[str]] | None = None,
    answers: Sequence[Answer] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML.

    title: of the lesson. hints: exercise id -> its hints, shown where points are missing. answers:
    those in words that have been marked; their points are added. notes: more sentences about the
    points (a day late, say).
    """
    exercises = [_exercise(e, (hints or {}).get(e.id, ())) for e in report.exercises]
    rows = [*exercises]
    marked = [a for a in answers if a.points is not None]
    for a in (a for a in marked if a.out_of):
        rows.append(
            {
                "anchor": "words",
                "id": "",
                "title": a.title,
                "status": "marked",
                "full": a.points >= a.out_of,
                "points": number(a.points),
                "out_of": number(a.out_of),
            }
        )
    return pages.render(
        "student.html",
        student=report.student,
        lesson=report.lesson or "unknown",
        title=title,
        points=number(report.points + sum(a.points for a in marked)),
        out_of=number(report.out_of + sum(a.out_of for a in marked)),
        verdict=VERDICT.get(report.verdict, ""),
        notes=[*report.notes, *notes],
        rows=rows,
        exercises=exercises,
        answers=[
            {**vars(a), "points": number(a.points), "out_of": number(a.out_of)} for a in marked
        ],
        isolation=(report.isolation or "Graded").split(" (")[0],
    )


def number(value: float) -> str:
    """A count of points without needless zeros: 3, 2.5."""
    return f"{value:g}"


def _exercise(e: ExerciseResult, hints: Sequence[str]) -> dict[str, Any]:
    full = e.points == e.out_of
    mistake, says = ("", "") if full else explained(e)
    groups = []
    for name, (points, out_of) in e.groups.items() if e.cases else ():
        cases = [c for c in e.cases if c.group == name]
        passed = sum(c.passed for c in cases)
        groups.append(
            {
                "name": name,
                "passed": passed,
                "count": len(cases),
                "points": points,
                "out_of": out_of,
                "full": points == out_of,
            }
        )
    failing = [
        (HIDDEN, "") if c.hidden else (c.name, c.finding.says if c.finding else "")
        for c in e.cases
        if not c.passed
    ]
    return {
        "anchor": f"exercise-{e.id.replace('.', '-')}",
        "id": e.id,
        "title": e.title,
        "status": STATUS.get(e.status, e.status),
        "full": full,
        "points": e.points,
        "out_of": e.out_of,
        "mistake": mistake,
        "says": says,
        "picture": drawing.figure(e.picture),
        "groups": groups,
        "failing": failing,
        "hints": () if full else hints,
    }


def explained(e: ExerciseResult) -> tuple[str, str]:
    """(heading, sentences) on what is wrong with an exercise; ("", "") where nothing was done."""
    found = e.finding
    if found is None or e.status in ("passed", "not attempted"):
        return "", ""
    if found.kind == "misconception":
        return f"A known mistake: {found.name.replace('-', ' ')}", found.says
    failing = [c for c in e.cases if not c.passed]
    if not failing or not failing[0].hidden:
        return "What was seen", found.says
    shown = next((c.finding for c in failing if not c.hidden and c.finding), None)
    return "What was seen", shown.says if shown else "It fails on inputs that are not shown."
