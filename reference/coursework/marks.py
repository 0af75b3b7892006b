"""Marks that a person gives, kept beside the grades: each stays for good, the newest counts.

Marks leave as a table (``collect``) and come back as one (``apply``). A row says which mark its
writer had seen, so that two who mark the same answer are told of it instead of one undoing the
other; an empty row never takes a mark away.
"""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursework import notebook, pages, safe, tables, words
from coursework.errors import GradingError
from coursework.gradebook import Gradebook
from coursework.student_page import Answer
from coursework.submissions import Submission
from coursework.words import Question, Written

COLUMNS = ("student", "lesson", "question", "title", "asks", "answer")
COLUMNS += ("points", "out_of", "comment", "seen")
WANTED = ("student", "lesson", "question", "points", "out_of", "comment", "seen")
SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL, lesson TEXT NOT NULL, question TEXT NOT NULL, title TEXT NOT NULL,
    points REAL, out_of REAL NOT NULL, comment TEXT NOT NULL,
    answer TEXT NOT NULL, marked TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS marks_stay BEFORE DELETE ON marks
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
CREATE TRIGGER IF NOT EXISTS marks_keep BEFORE UPDATE ON marks
BEGIN SELECT RAISE(ABORT, 'a gradebook only grows'); END;
"""


class BadMarks(GradingError):
    """A file of marks that cannot be read back; the message names the row. Nothing was written."""

    exit_code = 7


@dataclass(frozen=True)
class Mark:
    """One mark. points: None for a comment alone. answer: digest of what was marked."""

    student: str
    lesson: str
    question: str
    title: str
    points: float | None
    out_of: float
    comment: str
    answer: str = ""
    id: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.student, self.lesson, self.question

    def same(self, other: Mark) -> bool:
        """Whether both say the same of the same answer."""
        mine = self.points, self.out_of, self.comment, self.answer
        return mine == (other.points, other.out_of, other.comment, other.answer)


@dataclass
class Applied:
    """What ``apply`` did: how many rows, and each conflict as a sentence."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    empty: int = 0
    conflicts: list[str] = field(default_factory=list)


@dataclass
class Entry:
    """One answer to be marked, with the mark that it has."""

    student: str
    question: Question
    written: Written
    mark: Mark | None = None

    @property
    def seen(self) -> str:
        """What the table remembers: the answer, and the mark that was there."""
        return f"v{self.mark.id if self.mark else 0}-{self.written.digest}"

    @property
    def stale(self) -> bool:
        """Whether the answer has changed since it was marked."""
        return self.mark is not None and self.mark.answer != self.written.digest


def current(book: Gradebook) -> dict[tuple[str, str, str], Mark]:
    """The newest mark of each student, lesson and question."""
    with book._explained("read"):
        if "marks" not in book._tables():
            return {}
        rows = book.db.execute(
            "SELECT student, lesson, question, title, points, out_of, comment, answer, id "
            "FROM marks ORDER BY id"
        ).fetchall()
    return {m.key: m for m in (Mark(*row) for row in rows)}


def answers(book: Gradebook) -> dict[tuple[str, str], list[Answer]]:
    """Marked answers for feedback: (student, lesson) -> in the order of the questions."""
    found: dict[tuple[str, str], list[Answer]] = {}
    for mark in sorted(current(book).values(), key=lambda m: (m.lesson, _order(m.question))):
        out_of = 0 if mark.points is None else mark.out_of
        made = Answer(mark.title, mark.points or 0, out_of, mark.comment)
        found.setdefault((mark.student, mark.lesson), []).append(made)
    return found


def _order(id: str) -> tuple[str, int]:
    head = id.rstrip("0123456789")
    return head, int(id[len(head) :] or 0)


def gather(
    submissions: Iterable[Submission],
    asked: Iterable[Question],
    lessons: Mapping[str, notebook.Notebook],
    marks: Mapping[tuple[str, str, str], Mark],
) -> tuple[list[Entry], list[str]]:
    """(answers side by side: question by question, in the order of students; what was left out).

    Of several notebooks of a student for a lesson, the newest file counts.
    """
    asked, notes = list(asked), []
    books: dict[tuple[str, str], tuple[float, notebook.Notebook]] = {}
    for s in submissions:
        try:
            if s.problem:
                raise notebook.InvalidNotebook(s.problem)
            book = notebook.parse(s.data, s.path)
            when = s.path.stat().st_mtime if s.path.exists() else 0.0
        except (OSError, notebook.InvalidNotebook, RecursionError, MemoryError) as error:
            notes.append(f"{s.student}: {str(error) or 'the notebook is nested too deeply'}")
            continue
        key = s.student, notebook.lesson_of(book) or ""
        if key not in books or when >= books[key][0]:
            books[key] = when, book
    entries = []
    for q in asked:
        for (student, lesson), (_, book) in sorted(books.items()):
            if lesson == q.lesson:
                written = words.answer(book, lessons[q.lesson], q)
                entries.append(Entry(student, q, written, marks.get((student, lesson, q.id))))
    return entries, notes


def to_csv(entries: Iterable[Entry]) -> str:
    """The table to be filled in."""
    rows = []
    for e in entries:
        mark = e.mark
        rows.append(
            {
                "student": e.student,
                "lesson": e.question.lesson,
                "question": e.question.id,
                "title": e.question.title,
                "asks": e.question.asks,
                "answer": e.written.own,
                "points": "" if mark is None or mark.points is None else mark.points,
                "out_of": e.question.points,
                "comment": mark.comment if mark else "",
                "seen": e.seen,
            }
        )
    return "\ufeff" + tables.to_csv(rows, COLUMNS)


def to_html(entries: Iterable[Entry], title: str) -> str:
    """The same as a page that writes the table: one question after the other."""
    by_question: dict[str, list[Entry]] = {}
    for e in entries:
        by_question.setdefault(e.question.id, []).append(e)
    groups = [(found[0].question, found) for found in by_question.values()]
    return pages.render(
        "marks.html", script="marks.js", title=title, groups=groups, columns=",".join(WANTED)
    )


def read(path: Path) -> list[tuple[Mark, int]]:
    """(mark, id of the mark that its writer had seen) of each row that says something.

    Raises ``BadMarks`` with the row for what is not as ``collect`` wrote it: another header, a
    number that is none or not from 0 to what the question is worth, a row there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadMarks(f"{path.name} is not UTF-8: save it as “CSV UTF-8”") from None
    first = text.split("\n", 1)[0]
    table = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    lacks = [c for c in WANTED if c not in (table.fieldnames or ())]
    if lacks:
        raise BadMarks(f"{path.name} lacks the columns {', '.join(lacks)}")
    found: dict[tuple[str, str, str], tuple[Mark, int]] = {}
    for row in table:
        where = f"{path.name}, line {table.line_num}"
        cells = {c: safe.uncell((row.get(c) or "").strip()) for c in (*WANTED, "title")}
        mark, seen = _mark(cells, where)
        if mark.key in found:
            raise BadMarks(f"{where}: {' '.join(mark.key)} is there twice")
        found[mark.key] = mark, seen
    return list(found.values())


def _mark(cells: Mapping[str, str], where: str) -> tuple[Mark, int]:
    def numeric(name: str) -> float:
        try:
            value = float(cells[name].replace(",", "."))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadMarks(f"{where}: {name} is {cells[name]!r}, where a number is wanted")
        return value

    lesson = cells["lesson"].zfill(2) if cells["lesson"].isdigit() else cells["lesson"]
    out_of = numeric("out_of")
    points = numeric("points") if cells["points"] else None
    if points is not None and not 0 <= points <= out_of:
        raise BadMarks(
            f"{where}: {points:g} points for {cells['student']}, {cells['question']}, which is "
            f"worth 0 to {out_of:g}"
        )
    seen = re.fullmatch(r"v(\d+)-([0-9a-f]{12})", cells["seen"])
    if not cells["student"] or not cells["question"] or seen is None:
        raise BadMarks(f"{where}: student, question and seen must be as they were collected")
    title = cells["title"] or cells["question"]
    made = Mark(
        cells["student"],
        lesson,
        cells["question"],
        title,
        points,
        out_of,
        cells["comment"],
        seen[2],
    )
    return made, int(seen[1])


def apply(path: Path, book: Gradebook, prefer: str | None = None) -> Applied:
    """Writes the marks in ``path`` to ``book``, in one transaction; the same file twice adds none.

    A mark that was given after the file was collected, and differs, is a conflict: it stays, and
    is named, unless ``prefer`` is "file" (the file's is written after it) or "book" (it stays).
    """
    rows, done = read(path), Applied()
    with book._explained("write"):
        book.db.executescript(SCHEMA)
        book.db.execute("BEGIN IMMEDIATE")
        try:
            there = current(book)
            for mark, seen in rows:
                if mark.points is None and not mark.comment:
                    done.empty += 1
                    continue
                old = there.get(mark.key)
                if old is not None and old.same(mark):
                    done.unchanged += 1
                    continue
                if old is not None and old.id != seen and prefer != "file":
                    if prefer == "book":
                        done.unchanged += 1
                    else:
                        done.conflicts.append(_conflict(old, mark))
                    continue
                _write(book, mark)
                done.added += old is None
                done.changed += old is not None
            book.db.execute("COMMIT")
        except BaseException:
            book.db.execute("ROLLBACK")
            raise
    return done


def _write(book: Gradebook, m: Mark) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values: tuple[Any, ...] = (m.student, m.lesson, m.question, m.title, m.points, m.out_of)
    book.db.execute(
        "INSERT INTO marks (student, lesson, question, title, points, out_of, comment, answer, "
        "marked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, m.comment, m.answer, now),
    )


def _conflict(old: Mark, new: Mark) -> str:
    def told(m: Mark) -> str:
        points = "no points" if m.points is None else f"{m.points:g} points"
        return f"{points}, {m.comment[:60]!r}"

    return (
        f"{new.student}, {new.question}: the gradebook has {told(old)}, given after this file was "
        f"collected; the file says {told(new)}"
    )
