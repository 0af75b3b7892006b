"""Reports made by hand, for tests of pages and tables: nothing is graded, no torch is loaded."""

from __future__ import annotations

import numpy as np

from coursework import pictures
from coursework.reports import SubmissionReport
from coursework.results import CaseResult, ExerciseResult, Finding

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\x1b[31mred\x1b[0m \u202eevil"


def case(name: str, group: str, passed: bool, says: str = "", hidden: bool = False) -> CaseResult:
    found = None if passed else Finding("value", says or "12 of 12 values are off")
    return CaseResult(name, group, passed, found, hidden=hidden)


def curve(name: str = "linear", n: int = 60) -> dict:
    x = np.linspace(0, 3, n)
    return pictures.Picture("curve", name, 1, np.cos(2 * x), np.sin(2 * x) * 2).to_dict()


def image(name: str = "an image") -> dict:
    y, x = np.mgrid[0:28, 0:28]
    right = np.exp(-((x - 14.0) ** 2 + (y - 14) ** 2) / 40)
    return pictures.Picture("image", name, 0, right.T[::-1] * (1 - x / 28), right).to_dict()


def failed(id: str = "02.1", picture: dict | None = None, **more) -> ExerciseResult:
    """2 of 3 points, with a named mistake."""
    made = ExerciseResult(id, "Jump to any noise level", "partial", 2, 3, **more)
    made.groups = {"images": (2, 2), "sound": (0, 1)}
    made.cases = [case("square", "images", True), case("odd size", "images", True)]
    made.cases += [
        case("one clip", "sound", False),
        case("SECRET-CASE", "sound", False, hidden=True),
    ]
    made.finding = Finding(
        "misconception", "You take alpha_bar where its root belongs.", "no-roots"
    )
    made.picture = picture
    return made


def passed(id: str = "02.2") -> ExerciseResult:
    made = ExerciseResult(id, "And back", "passed", 4, 4, groups={"main": (4, 4)})
    made.cases = [case("row", "main", True)]
    return made


def report(student: str = "anna", exercises: list[ExerciseResult] | None = None, **more):
    exercises = [failed(), passed()] if exercises is None else exercises
    more = {
        "verdict": "ok",
        "points": sum(e.points for e in exercises),
        "out_of": sum(e.out_of for e in exercises),
        "isolation": "Full isolation (namespaces, Landlock)",
        "level": "full",
        "seed": 7,
        "submission": f"s-{student}",
        "checks": "c",
        "environment": "e",
        **more,
    }
    return SubmissionReport(student, f"/class/{student}.ipynb", "02", exercises=exercises, **more)
