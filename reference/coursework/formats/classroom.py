"""Results for GitHub Classroom and for Classroom 50, its free successor.

Classroom 50 (foundation50/classroom50): ``result.json`` as ``schemas/result-v1.schema.json`` and
the wiki's "Advanced Autograding" define it, and as its ``runner.py`` checks it. The runner's
environment says whose result it is (CLASSROOM, ASSIGNMENT, OWNER, SUBMISSION_TAG, COMMIT_URL...),
and scores are whole numbers.

GitHub Classroom (closed in August 2026, its actions go on): the output ``result`` of a grading
step, base64 of JSON with version, status, max_score and tests, which
``education/autograding-grading-reporter`` takes as ``NAME_RESULTS`` (its ``src/main.js``) and sums
(``src/notify-classroom.js``).
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from coursework import safe
from coursework.formats import FormatError
from coursework.formats.rows import EVERYTHING, Visibility, notes, rows
from coursework.reports import SubmissionReport

SCHEMA = "classroom50/result/v1"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ")
OUTPUT_LIMIT = 1000


def classroom50(
    reports: list[SubmissionReport],
    environ: Mapping[str, str] = os.environ,
    visibility: Visibility = EVERYTHING,
    now: float | None = None,
) -> str:
    """``result.json`` of all that one repository hands in. Raises ``FormatError`` where the
    environment lacks what the runner gives, or points are not whole."""
    commit = _wanted(environ, "COMMIT_URL")
    submission = _wanted(environ, "SUBMISSION_TAG")
    if not submission.startswith("submit/"):
        raise FormatError(f"SUBMISSION_TAG is {submission!r}; Classroom 50 wants submit/...")
    graded_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    tests = []
    for report in reports:
        for row in rows(report, visibility):
            test: dict[str, Any] = {
                "test-name": row.name,
                "passed": row.passed,
                "score": _whole(row.points),
                "max-score": _whole(row.out_of),
            }
            if row.visibility != "visible":
                test["test-name"] = f"{row.id} (held back)"
            elif row.text:
                test["output"] = safe.plain(row.text, OUTPUT_LIMIT)
            tests.append(test)
        if not report.exercises:
            out_of = _whole(report.out_of)
            text = safe.plain("\n".join(notes(report)), OUTPUT_LIMIT)
            name = f"lesson {report.lesson or '?'} can be read"
            tests.append(
                {
                    "test-name": name,
                    "passed": False,
                    "score": 0,
                    "max-score": out_of,
                    "output": text,
                }
            )
    result = {
        "schema": SCHEMA,
        "classroom": _wanted(environ, "CLASSROOM"),
        "assignment": _wanted(environ, "ASSIGNMENT"),
        "assignment_type": environ.get("ASSIGNMENT_TYPE") or "individual",
        "owner": environ.get("OWNER") or _wanted(environ, "USERNAME"),
        "submission": submission,
        "commit": commit,
        "release": _wanted(environ, "RELEASE_URL"),
        "review": environ.get("REVIEW_URL") or commit,
        "datetime": _submitted(submission, graded_at),
        "graded_at": graded_at,
        "score": sum(t["score"] for t in tests),
        "max-score": sum(t["max-score"] for t in tests),
        "tests": tests,
    }
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


def _submitted(tag: str, otherwise: str) -> str:
    """The instant in a tag "submit/2026-06-01T14-32-05Z-a1b2c3d". The runner puts the commit's
    own time in its place."""
    found = re.match(r"submit/(\d{4}-\d\d-\d\dT)(\d\d)-(\d\d)-(\d\dZ)", tag)
    text = f"{found[1]}{found[2]}:{found[3]}:{found[4]}" if found else ""
    return text if INSTANT.fullmatch(text) else otherwise


def _wanted(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        raise FormatError(
            f"the environment lacks {name}: classroom50 results are written where its runner "
            "calls (CLASSROOM, ASSIGNMENT, USERNAME, SUBMISSION_TAG, COMMIT_URL, RELEASE_URL)"
        )
    return environ[name]


def _whole(points: float) -> int:
    if points != int(points):
        raise FormatError(f"Classroom 50 counts whole points only, not {points}")
    return int(points)


def github_classroom(
    reports: list[SubmissionReport], visibility: Visibility = EVERYTHING
) -> dict[str, Any]:
    """The result of a grading step of GitHub Classroom, before it is encoded.

    status: pass, fail (points are missing) or error (a notebook could not be graded).
    """
    tests, status, out_of = [], "pass", 0
    for report in reports:
        out_of += report.out_of
        if not report.exercises:
            status = "error"
            text = safe.plain("\n".join(notes(report)), OUTPUT_LIMIT)
            tests.append(_test(f"lesson {report.lesson or '?'} can be read", 0, "error", text))
        for row in rows(report, visibility):
            seen = row.visibility == "visible"
            name = row.name if seen else f"{row.id} (held back)"
            text = safe.plain(row.text, OUTPUT_LIMIT) if seen else ""
            tests.append(_test(name, row.points, "pass" if row.passed else "fail", text))
            if not row.passed and status == "pass":
                status = "fail"
    return {"version": 1, "status": status, "max_score": out_of, "tests": tests}


def _test(name: str, score: float, status: str, message: str) -> dict[str, Any]:
    return {
        "name": safe.line(name),
        "status": status,
        "score": score,
        "message": message,
        "test_code": "",
        "filename": "",
        "line_no": 0,
        "execution_time": "0s",
    }


def encoded(result: dict[str, Any]) -> str:
    """``result`` as the one line that a step's output ``result`` holds."""
    return base64.b64encode(json.dumps(result).encode("utf-8")).decode("ascii")
