"""Grades, kept in one SQLite file that only grows.

A row is a report. Its key says whose it is and what it came from: student, lesson, submission,
checks, environment and seed, the middle three as hashes of their content. The same command after
a crash finds what is done and goes on; a changed submission or changed checks are graded anew,
and the old row stays. What was released to students is kept beside, and grows in the same way.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from coursework.errors import GradebookError
from coursework.publishing import Published
from coursework.reports import SubmissionReport

VERSION = 2  # 2 has the table of released scores
KEY = ("student", "lesson", "submission", "checks", "environment", "seed")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS grades (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL, lesson TEXT NOT NULL, submission TEXT NOT NULL,
    checks TEXT NOT NULL, environment TEXT NOT NULL, seed INTEGER NOT NULL,
    path TEXT NOT NULL, graded TEXT NOT NULL, verdict TEXT NOT NULL,
    points INTEGER NOT NULL, out_of INTEGER NOT NULL, report TEXT NOT NULL,
    UNIQUE ({", ".join(KEY)})
);
CREATE TABLE IF NOT EXISTS published (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL, lesson TEXT NOT NULL, final TEXT NOT NULL, out_of TEXT NOT NULL,
    notes TEXT NOT NULL, published TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS grades_stay BEFORE DELETE ON grades
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
CREATE TRIGGER IF NOT EXISTS grades_keep BEFORE UPDATE ON grades
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
CREATE TRIGGER IF NOT EXISTS published_stay BEFORE DELETE ON published
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
CREATE TRIGGER IF NOT EXISTS published_keep BEFORE UPDATE ON published
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
"""


class Gradebook:
    """A gradebook in the file ``path``, made where there is none. A context manager.

    Several graders may use one file at a time: each row is written in a transaction of its own,
    and the first to finish a submission writes it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.added = 0
        with self._explained("open"):
            self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            # A rollback journal, flushed at each row: nothing is lost by kill or power failure.
            self.db.execute("PRAGMA journal_mode = DELETE")
            self.db.execute("PRAGMA synchronous = FULL")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and self._tables() - {"grades", "published"}:
                raise GradebookError(
                    f"{self.path} is a database of something else; it was left as it is"
                )
            if version > VERSION:
                raise GradebookError(
                    f"{self.path} was written by a newer version (format {version}, this one "
                    f"knows {VERSION}); it was left as it is"
                )
            if self.db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("its pages do not fit together")
            if version < VERSION or not {"grades", "published"} <= self._tables():
                self.db.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
                self.db.execute(f"PRAGMA user_version = {VERSION}")
                self.db.execute("COMMIT")
            # Fails at once, before hours of work, where nothing can be written.
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute("ROLLBACK")

    def _tables(self) -> set[str]:
        rows = self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}

    def __enter__(self) -> Gradebook:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self.db.close()

    def find(self, **key: str | int) -> SubmissionReport | None:
        """The report under ``key`` (all of ``KEY``), or None."""
        where = " AND ".join(f"{k} = ?" for k in KEY)
        with self._explained("read"):
            row = self.db.execute(
                f"SELECT report FROM grades WHERE {where}", [key[k] for k in KEY]
            ).fetchone()
        if row is None:
            return None
        report = SubmissionReport.from_dict(json.loads(row[0]))
        report.reused = True
        return report

    def before(self, **key: str | int) -> SubmissionReport | None:
        """The newest report on the same submission of the same student on the same seed, whatever
        graded it: ``key`` has student, lesson, submission and seed."""
        names = ("student", "lesson", "submission", "seed")
        where = " AND ".join(f"{k} = ?" for k in names)
        with self._explained("read"):
            row = self.db.execute(
                f"SELECT report FROM grades WHERE {where} ORDER BY id DESC LIMIT 1",
                [key[k] for k in names],
            ).fetchone()
        return SubmissionReport.from_dict(json.loads(row[0])) if row else None

    def add(self, report: SubmissionReport) -> bool:
        """Writes ``report``; False where another grader was first."""
        data = report.to_dict()
        values = [data[k] for k in KEY]
        values += [report.path, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())]
        values += [report.verdict, report.points, report.out_of]
        values.append(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
        names = (*KEY, "path", "graded", "verdict", "points", "out_of", "report")
        marks = ", ".join("?" * len(names))
        with self._explained("write"):
            done = self.db.execute(
                f"INSERT OR IGNORE INTO grades ({', '.join(names)}) VALUES ({marks})", values
            )
        self.added += done.rowcount
        return done.rowcount == 1

    def reports(self) -> list[SubmissionReport]:
        """Every report, oldest first."""
        with self._explained("read"):
            rows = self.db.execute("SELECT report FROM grades ORDER BY id").fetchall()
        return [SubmissionReport.from_dict(json.loads(text)) for (text,) in rows]

    def publish(self, rows: Iterable[Published]) -> None:
        """Writes scores as students are told them: all of ``rows``, or none."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        values = [
            (r.student, r.lesson, str(r.final), str(r.out_of), json.dumps(r.notes), now)
            for r in rows
        ]
        with self._explained("write"):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.db.executemany(
                    "INSERT INTO published (student, lesson, final, out_of, notes, published) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
                self.db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.db.execute("ROLLBACK")
                raise

    def published(self) -> dict[tuple[str, str], Published]:
        """What each student was told last, by student and lesson."""
        with self._explained("read"):
            rows = self.db.execute(
                "SELECT student, lesson, final, out_of, notes, published FROM published ORDER BY id"
            ).fetchall()
        return {
            (s, n): Published(s, n, Fraction(final), Fraction(out), tuple(json.loads(notes)), when)
            for s, n, final, out, notes, when in rows
        }

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """SQLite's errors as sentences that say what to do."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            raise GradebookError(self._sentence(str(error), name, doing)) from None

    def _sentence(self, text: str, name: str, doing: str) -> str:
        kept = f"{self.added} grades of this run are in it" if self.added else "nothing is lost"
        again = "the same command goes on from there"
        if "full" in text or name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return (
                f"the gradebook {self.path} cannot be written: the disk is full or fails ({text}); "
                f"{kept}. Make room: {again}"
            )
        if "readonly" in text or "read-only" in text:
            return f"the gradebook {self.path} is read-only; name another with --gradebook"
        if "unable to open" in text:
            return (
                f"the gradebook {self.path} cannot be opened or made: does its folder exist, and "
                "may you write there?"
            )
        if "locked" in text or "busy" in text:
            return (
                f"the gradebook {self.path} was in use by another grader for a minute; {kept}, and "
                f"{again}"
            )
        return (
            f"the gradebook {self.path} is damaged ({text}). It was left as it is: move it away to "
            "grade anew, and keep it for repair (sqlite3 FILE .recover)"
        )
