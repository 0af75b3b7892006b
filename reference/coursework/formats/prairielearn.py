"""PrairieLearn's ``results.json`` of an external grader.

docs.prairielearn.com/externalGrading, "Grading results": ``score`` from 0 to 1, ``gradable``,
``format_errors``, ``message``, ``output``, ``images``, ``tests`` with points and max_points; at
most 1 MB. A test whose ``points`` are missing switches the points of all off, so each has them.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from coursework import display, safe
from coursework.formats import FormatError
from coursework.formats.rows import EVERYTHING, Visibility, notes, rows
from coursework.reports import SubmissionReport

SIZE_LIMIT = 1_000_000
IMAGE = re.compile(r'src="(data:image/png;base64,[A-Za-z0-9+/=]+)"')


def prairielearn(report: SubmissionReport, visibility: Visibility = EVERYTHING) -> str:
    """``results.json`` of one submission. PrairieLearn shows a student all of it, so rows that are
    held back count in the score and are not listed."""
    if report.verdict == "invalid notebook":
        result: dict[str, Any] = {
            "gradable": False,
            "format_errors": notes(report)[1:] or [report.verdict],
        }
        return _dump(result)
    everything = rows(report, visibility)
    shown = [r for r in everything if r.visibility == "visible"]
    out_of = sum(r.out_of for r in everything)
    if not out_of:
        raise FormatError("nothing in this submission earns points, so there is no score")
    lines = [f"{report.points} of {report.out_of} points", *notes(report)]
    if len(shown) < len(everything):
        lines = [f"{len(everything) - len(shown)} tests are not shown.", *report.notes]
    result = {
        "gradable": True,
        "score": sum(r.points for r in everything) / out_of,
        "message": "\n".join(lines),
        "tests": [
            {
                "name": r.name,
                "points": r.points,
                "max_points": r.out_of,
                "message": r.text,
                "images": [],
            }
            for r in shown
        ],
        "images": _images(report, visibility),
    }
    for characters in (None, 200, 60, 0):
        if len(_dump(result).encode()) <= SIZE_LIMIT:
            break
        result["images"] = []
        if characters is not None:
            _shorten(result, characters)
    return _dump(result)


def _dump(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=1, ensure_ascii=False) + "\n"


def _shorten(result: dict[str, Any], characters: int) -> None:
    for test in result["tests"]:
        test["message"] = safe.plain(test["message"], characters) if characters else ""
        test["name"] = safe.line(test["name"], max(characters, 40))


def _images(report: SubmissionReport, visibility: Visibility) -> list[dict[str, str]]:
    """Yours against the expected, for exercises all of whose cases are to be seen and whose values
    are still at hand (a report from a gradebook has none)."""
    found = []
    for exercise in report.exercises:
        seen = {visibility.of(exercise.id, group) for group in exercise.groups}
        hidden = any(getattr(c, "hidden", False) for c in exercise.cases)
        if exercise.status == "passed" or seen != {"visible"} or hidden:
            continue
        picture = display.best_picture(exercise)
        label = safe.line(f"{exercise.id} {exercise.title}")
        urls = IMAGE.findall(picture)
        if urls:
            names = ("yours", "expected")
            found += [{"label": f"{label}, {n}", "url": u} for n, u in zip(names, urls)]
        elif "<svg" in picture:
            drawn = picture[picture.index("<svg") : picture.index("</svg>") + 6]
            drawn = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
            data = base64.b64encode(drawn.encode()).decode()
            found.append({"label": label, "url": f"data:image/svg+xml;base64,{data}"})
    return found
