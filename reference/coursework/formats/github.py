"""GitHub Actions: a step summary, annotations, and logs that cannot give orders.

Workflow commands are lines of a log that begin with ``::``, so a student's output could set off
its own; between ``::stop-commands::TOKEN`` and ``::TOKEN::`` none is obeyed, and the token is
random. Escapes, and the limits of 1 MiB a summary and 10 annotations of a kind a step:
docs.github.com, "Workflow commands for GitHub Actions" and "Adding a job summary".
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath

from coursework import safe
from coursework.formats.rows import EVERYTHING, Row, Visibility, notes, rows
from coursework.reports import SubmissionReport

SUMMARY_LIMIT = 1_000_000
ANNOTATIONS = 10
MESSAGE_LIMIT = 1000


def data(text: object) -> str:
    """The message of a workflow command."""
    text = safe.plain(text, MESSAGE_LIMIT)
    return text.replace("%", "%25").replace("\n", "%0A")


def value(text: object) -> str:
    """The value of a property of a workflow command."""
    return data(safe.line(text)).replace(":", "%3A").replace(",", "%2C")


def command(name: str, message: str, **properties: object) -> str:
    """One workflow command, as a line."""
    given = ",".join(f"{k}={value(v)}" for k, v in properties.items() if v not in ("", None))
    return f"::{name}{' ' + given if given else ''}::{data(message)}"


def fenced(text: str, token: str | None = None) -> str:
    """``text`` for a log, with no line in it obeyed. Raises ``ValueError`` where it holds the
    token, which nobody can who has not seen it."""
    token = token or secrets.token_hex(32)
    if token in text:
        raise ValueError("the text holds the token that is to end it")
    return f"::stop-commands::{token}\n{safe.plain(text)}\n::{token}::"


def summary(reports: Iterable[SubmissionReport], visibility: Visibility = EVERYTHING) -> str:
    """The reports as Markdown: points in a table, what was found in fenced blocks below."""
    parts: list[str] = []
    for report in reports:
        everything = rows(report, visibility)
        shown = [r for r in everything if r.visibility == "visible"]
        held_back = len(everything) - len(shown)
        parts.append(f"## {_title(report, shown, held_back)}")
        if held_back:
            parts.append(f"{held_back} of its tests are not shown here.")
        if shown:
            parts.append(_table(shown))
        # A verdict could be that of a test which is held back.
        parts += [safe.fence(n) for n in (report.notes if held_back else notes(report))]
        parts += [
            f"### {safe.markdown(r.name)}\n\n{safe.fence(r.text)}"
            for r in shown
            if r.text and r.status != "not attempted"
        ]
    text, whole = "", True
    for part in parts:
        if len((text + part).encode()) > SUMMARY_LIMIT:
            whole = False
            break
        text += part + "\n\n"
    return text + ("" if whole else "The rest is left out: it is too long for a summary.\n")


def _title(report: SubmissionReport, shown: list[Row], held_back: int) -> str:
    lesson = f"Lesson {report.lesson}" if report.lesson else PurePath(report.path).name
    points, out_of = report.points, report.out_of
    if held_back:
        points, out_of = sum(r.points for r in shown), sum(r.out_of for r in shown)
    return safe.markdown(f"{lesson}: {points} of {out_of} points")


def _table(shown: list[Row]) -> str:
    lines = ["| test | points | result |", "|---|---:|---|"]
    for r in shown:
        result = "passed" if r.passed else r.status if r.status != "passed" else "failed"
        lines.append(
            f"| {safe.markdown(r.name)} | {r.points} of {r.out_of} | {safe.markdown(result)} |"
        )
    return "\n".join(lines)


def annotations(
    reports: Iterable[SubmissionReport],
    root: Path | None = None,
    visibility: Visibility = EVERYTHING,
) -> list[str]:
    """An ``::error`` line for each exercise that lacks visible points, at its answer's cell.

    At most 10, what GitHub shows of a step; the last then says how many more there are. root: of
    the repository, which paths are told from. What was not attempted is no error.
    """
    found: list[str] = []
    for report in reports:
        file = _relative(report.path, root)
        if not report.exercises:
            text = " ".join(notes(report)) or report.verdict
            found.append(command("error", text, file=file, line=1, title=report.verdict))
        by_exercise: dict[str, list[Row]] = {}
        for row in rows(report, visibility):
            if row.visibility == "visible" and row.text and row.status != "not attempted":
                by_exercise.setdefault(row.id, []).append(row)
        for id, lacking in by_exercise.items():
            lost = sum(r.out_of - r.points for r in lacking)
            title = f"{id} {lacking[0].title}: {lost} points missing"
            text = "\n".join(r.text for r in lacking)
            line = line_of(Path(report.path), id)
            found.append(command("error", text, file=file, line=line, title=title))
    if len(found) > ANNOTATIONS:
        more = len(found) - ANNOTATIONS + 1
        found[ANNOTATIONS - 1 :] = [command("error", f"{more} more: see the summary of this step")]
    return found


def _relative(path: str, root: Path | None) -> str:
    given = Path(path)
    try:
        return given.resolve().relative_to((root or Path.cwd()).resolve()).as_posix()
    except (OSError, ValueError):
        return given.name


def line_of(path: Path, id: str) -> int:
    """The line of the file on which the answer to the exercise ``id`` begins; 1 if not found."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # gone, not text, or no name that a file can have
        return 1
    lines = text.split("\n")
    if path.suffix == ".py":
        marks = (f'exercise="{id}"', f"exercise='{id}'")
        found = (i for i, x in enumerate(lines, 1) if x.startswith("# %%"))
        return next((i for i in found if any(m in lines[i - 1] for m in marks)), 1)
    try:
        cells = json.loads(text)["cells"]
        sources = [
            "".join(c["source"])
            for c in cells
            if c["cell_type"] == "code" and c["metadata"].get("exercise") == id
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 1
    first = next((s.split("\n", 1)[0] for s in sources if s.strip()), None)
    if first is None:
        return 1
    forms = {json.dumps(first, ensure_ascii=a)[1:-1] for a in (True, False)}
    return next((i for i, x in enumerate(lines, 1) if any(f'"{f}' in x for f in forms)), 1)


def publish(
    reports: list[SubmissionReport],
    say: Callable[[str], object],
    environ: Mapping[str, str] = os.environ,
    visibility: Visibility = EVERYTHING,
) -> None:
    """Annotations to the log, the summary and the outputs ``points`` and ``out-of`` to the files
    that GitHub named in ``environ``; away from GitHub, the summary to the log."""
    root = environ.get("GITHUB_WORKSPACE")
    for text in annotations(reports, Path(root) if root else None, visibility):
        say(text)
    page = summary(reports, visibility)
    if target := environ.get("GITHUB_STEP_SUMMARY"):
        with open(target, "a", encoding="utf-8", newline="\n") as f:
            f.write(page)
    else:
        say(fenced(page))
    if target := environ.get("GITHUB_OUTPUT"):
        shown = [r for x in reports for r in rows(x, visibility) if r.visibility == "visible"]
        points = sum(r.points for r in shown)
        out_of = sum(r.out_of for r in shown) + sum(x.out_of for x in reports if not x.exercises)
        with open(target, "a", encoding="utf-8", newline="\n") as f:
            f.write(f"points={points}\nout-of={out_of}\n")
