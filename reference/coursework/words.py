"""Answers in words: which cells of a lesson ask for them, and what a learner wrote there.

A lesson asks in its ``remark`` cells. A learner writes into such a cell, between its lines, or in
a cell of their own below it; both belong to the answer.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coursework.errors import GradingError
from coursework.notebook import Cell, Notebook

PLACEHOLDER = re.compile(r"\*?\(write here\)\*?|\(edit this cell\)|…|\.\.\.")
SAME = 0.6  # share of a question's words that a cell without an id must have, in order


class BadQuestions(GradingError):
    """A file of questions that cannot be used; the message says what is wanted."""

    exit_code = 7


@dataclass(frozen=True)
class Question:
    """One question: id ("00.w1"), the lesson's cell that asks it, its points and what they are for.

    points: 0 where the question is not marked. asks: the cell's text.
    """

    id: str
    lesson: str
    cell: str
    title: str
    asks: str
    points: float = 0
    rubric: str = ""


@dataclass(frozen=True)
class Written:
    """What a learner wrote: lines with whether each is their own; own: all of those."""

    lines: tuple[tuple[str, bool], ...]

    @property
    def own(self) -> str:
        return "\n".join(line for line, new in self.lines if new).strip()

    @property
    def digest(self) -> str:
        """Twelve hex digits: another answer has another."""
        return hashlib.sha256(self.own.encode("utf-8", "replace")).hexdigest()[:12]


def questions(lesson: Notebook, number: str) -> list[Question]:
    """What a lesson asks in words, in its order."""
    asked = [c for c in lesson.cells if c.kind == "markdown" and "remark" in c.tags]
    return [
        Question(f"{number}.w{i}", number, c.id, _title(c.source), c.source)
        for i, c in enumerate(asked, 1)
    ]


def _title(text: str) -> str:
    bold = re.match(r"\s*\*\*(.+?)\*\*", text)
    first = bold[1] if bold else re.sub(r"^[\s\d.*>#-]+", "", text.strip()).split("\n")[0]
    first = re.sub(r"[*`$]", "", first).strip()
    return first if len(first) <= 70 else first[:67].rsplit(" ", 1)[0] + " …"


def dumps(asked: Iterable[Question]) -> str:
    """The questions as TOML, for a teacher to give points in."""
    parts = [
        "# Questions that are answered in words. Give points where you mark them: 0 leaves a\n"
        "# question out. The rubric is shown beside the answers while you mark, to you alone.\n"
    ]
    for q in asked:
        asks = "".join(f"#   {line}\n" for line in q.asks.strip().split("\n"))
        points = f"{q.points:g}"
        rows = {"id": q.id, "lesson": q.lesson, "cell": q.cell, "title": q.title}
        text = "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in rows.items())
        rubric = json.dumps(q.rubric, ensure_ascii=False)
        parts.append(f"{asks}[[question]]\n{text}points = {points}\nrubric = {rubric}\n")
    return "\n".join(parts)


def load(path: Path, known: Iterable[Question]) -> list[Question]:
    """The questions in ``path`` that have points. known: those of the lessons, by whose cells the
    texts are found. Raises ``BadQuestions``."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadQuestions(f"{path.name} is not TOML: {error}") from None
    by_cell = {(q.lesson, q.cell): q for q in known}
    found: list[Question] = []
    for i, row in enumerate(tree.get("question", ()), 1):
        where = f"{path.name}, question {i} ({row.get('id', 'without an id')})"
        points = row.get("points", 0)
        if isinstance(points, bool) or not isinstance(points, (int, float)) or not points >= 0:
            raise BadQuestions(f"{where}: points must be a number of at least 0, not {points!r}")
        base = by_cell.get((row.get("lesson"), row.get("cell")))
        if base is None:
            raise BadQuestions(
                f"{where}: lesson {row.get('lesson')!r} has no question in a cell "
                f"{row.get('cell')!r}; `course marks questions` writes what there is"
            )
        if any(q.id == row.get("id") for q in found) or not isinstance(row.get("id"), str):
            raise BadQuestions(f"{where}: an id of its own is wanted")
        title, rubric = str(row.get("title") or base.title), str(row.get("rubric", ""))
        if points:
            found.append(
                Question(row["id"], base.lesson, base.cell, title, base.asks, points, rubric)
            )
    if not found:
        raise BadQuestions(f"{path.name}: no question has points yet")
    return found


def answer(book: Notebook, lesson: Notebook, question: Question) -> Written:
    """What ``book`` says to ``question`` of ``lesson``; without lines of its own where nothing."""
    place = _find(book, question)
    if place is None:
        return Written(())
    asked = [_bare(line) for line in question.asks.split("\n")]
    lines = list(_marked(book.cells[place].source.split("\n"), asked))
    given = {c.source.strip() for c in lesson.cells} | {
        c.id for c in lesson.cells if c.id and c.kind == "markdown"
    }
    for cell in book.cells[place + 1 :]:
        if cell.kind != "markdown" or cell.tags or {cell.id, cell.source.strip()} & given:
            break
        lines += [("", False), *((line, True) for line in cell.source.split("\n"))]
    return Written(tuple(lines))


def _find(book: Notebook, question: Question) -> int | None:
    for i, cell in enumerate(book.cells):
        if cell.kind == "markdown" and question.cell and cell.id == question.cell:
            return i
    # An editor lost the ids: the cell that holds most of the question.
    best = max(
        ((_alike(cell, question), -i) for i, cell in enumerate(book.cells)), default=(0.0, 0)
    )
    return -best[1] if best[0] >= SAME else None


def _alike(cell: Cell, question: Question) -> float:
    if cell.kind != "markdown":
        return 0.0
    asked, said = question.asks.split(), cell.source.split()
    blocks = difflib.SequenceMatcher(None, asked, said, False).get_matching_blocks()
    return sum(b.size for b in blocks) / max(len(asked), 1)


def _bare(line: str) -> str:
    return re.sub(r"[\s*_]+", " ", PLACEHOLDER.sub("", line)).strip()


def _marked(lines: list[str], asked: list[str]) -> Iterable[tuple[str, bool]]:
    """Each line with whether it says something that the question's lines do not."""
    bare = [_bare(line) for line in lines]
    same = set()
    matcher = difflib.SequenceMatcher(None, asked, bare, False)
    for block in matcher.get_matching_blocks():
        same.update(range(block.b, block.b + block.size))
    for i, line in enumerate(lines):
        yield line, bool(bare[i]) and i not in same
