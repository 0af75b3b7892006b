"""Grades as tables: CSV for spreadsheets, Parquet with typed columns for everything else.

A cell of text that a spreadsheet would take for a formula gets an apostrophe before it: names and
findings come from strangers, and ``=HYPERLINK(...)`` in a name would run where it is opened.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coursework.errors import GradingError
from coursework.pages import whole
from coursework.reports import SubmissionReport
from coursework.safe import cell, plain

TYPES = {
    "student": "string",
    "lesson": "string",
    "verdict": "string",
    "exercise": "string",
    "title": "string",
    "status": "string",
    "points": "int32",
    "out_of": "int32",
    "finding": "string",
    "mistake": "string",
    "cases": "int32",
    "cases_passed": "int32",
    "level": "string",
    "isolated": "bool_",
    "seed": "int64",
    "submission": "string",
    "checks": "string",
    "environment": "string",
}


class NoParquet(GradingError):
    """pyarrow is not installed; the message says how to get it."""

    exit_code = 3


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV with a header, every cell safe; lines end as spreadsheets like it (CR LF)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(map(cell, columns))
    for row in rows:
        writer.writerow([cell(row.get(c)) for c in columns])
    return out.getvalue()


def wide(
    reports: Sequence[SubmissionReport],
    marked: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows, columns): a row a submission, a column an exercise.

    marked: (student, lesson) -> question -> points, which get a column each and count in "total".
    """
    marked = marked or {}
    ids = sorted({e.id for r in reports for e in r.exercises}, key=lambda i: i.zfill(5))
    questions = sorted({q for found in marked.values() for q in found})
    first = ["student", "lesson", "verdict", "points", "out_of"]
    columns = [*first, *ids, *questions, "total", "isolated", "level"]
    rows = []
    for r in reports:
        words = dict(marked.get((r.student, r.lesson), {}))
        row: dict[str, Any] = {c: getattr(r, c) for c in [*first, "isolated", "level"]}
        row |= {e.id: e.points for e in r.exercises} | words
        row["total"] = r.points + sum(words.values())
        rows.append(row)
    return rows, columns


def tidy(reports: Iterable[SubmissionReport]) -> list[dict[str, Any]]:
    """A row an exercise of a submission, with the columns of ``TYPES``; one that could not be read
    has a row without an exercise."""
    rows = []
    for r in reports:
        common = {c: getattr(r, c) for c in TYPES if hasattr(r, c)}
        if not r.exercises:
            rows.append({**dict.fromkeys(TYPES), **common})
        for e in r.exercises:
            found = e.finding
            row = {**common, "exercise": e.id, "title": e.title, "status": e.status}
            row |= {"points": e.points, "out_of": e.out_of}
            row["finding"] = found.kind if found else None
            row["mistake"] = found.name if found and found.kind == "misconception" else None
            row |= {"cases": len(e.cases), "cases_passed": sum(c.passed for c in e.cases)}
            rows.append(row)
    return rows


def write_parquet(reports: Iterable[SubmissionReport], path: Path) -> int:
    """Writes ``tidy`` rows to ``path``, whole or not at all; how many. Raises ``NoParquet``."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise NoParquet(
            'Parquet needs pyarrow: pip install -c constraints.txt -e ".[tables]"; --csv needs '
            "nothing"
        ) from None
    rows = tidy(reports)
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in TYPES.items()])
    columns = {
        n: [plain(v) if isinstance(v, str) else v for v in (r[n] for r in rows)] for n in TYPES
    }
    with whole(path) as part:
        pq.write_table(pa.table(columns, schema=schema), part)
    return len(rows)
