"""Brings a learner's answers into a new version of a lesson.

Three notebooks meet: the lesson as it was when it was copied (the base), the learner's copy, and
the lesson now. What the learner wrote is kept: answers go into the answer cells by exercise,
notes into the remark cells, cells of their own after the same neighbour as before. What the
learner left alone becomes what the lesson says now.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import defaultdict

from coursework.notebook import Cell, Notebook
from coursework.statements import FUNCTIONS, UNREADABLE, is_stub, parse

ANSWER_ID = re.compile(r"answer-(\d\d)-(\d{1,2})$")


class Keys:
    """What a cell is known by across versions: its exercise, or else its id.

    Where an editor dropped tags and ids, an answer is still known by the name it defines.
    """

    def __init__(self, new: Notebook) -> None:
        self.defines = {
            name: c.exercise
            for c in new.cells
            if "answer" in c.tags and c.exercise
            for name in _defines(c)
        }

    def __call__(self, cell: Cell) -> tuple[str, str]:
        for kind in ("answer", "remark"):
            if kind in cell.tags and cell.exercise:
                return kind, cell.exercise
        if found := ANSWER_ID.match(cell.id):
            return "answer", f"{found[1]}.{found[2]}"
        if "remark" in cell.tags and cell.id:
            return "remark", cell.id
        if cell.kind == "code" and not cell.tags:
            for name in _defines(cell):
                if name in self.defines:
                    return "answer", self.defines[name]
        return "cell", cell.id or cell.source


def _defines(cell: Cell) -> list[str]:
    try:
        body = parse(cell.source).body
    except UNREADABLE:
        return []
    return [n.name for n in body if isinstance(n, (*FUNCTIONS, ast.ClassDef))]


def same(a: Cell, b: Cell) -> bool:
    """Whether the two say the same; spaces at line ends do not count."""
    return a.kind == b.kind and _bare(a.source) == _bare(b.source)


def _bare(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().split("\n"))


def untouched(cell: Cell, base: Cell | None, new: Cell | None) -> bool:
    """Whether an answer is still the stub: of the base, of the new version, or by its look."""
    if not cell.source.strip():
        return True
    if any(other is not None and same(cell, other) for other in (base, new)):
        return True
    if base is not None or "#" in cell.source:
        return False
    try:
        body = parse(cell.source).body
    except UNREADABLE:
        return False
    functions = [n for n in body if isinstance(n, FUNCTIONS)]
    return bool(functions) and len(functions) == len(body) and all(map(is_stub, functions))


def merge(mine: Notebook, new: Notebook, base: Notebook | None = None) -> list[Cell]:
    """The cells of ``new`` with what the learner wrote in ``mine``."""
    result = copy.deepcopy(new.cells)
    key = Keys(new)
    place = {key(c): c for c in result}
    bases: dict[tuple[str, str], Cell] = {}
    known = {(c.kind, _bare(c.source)) for c in new.cells}
    if base:
        bases = {key(c): c for c in base.cells}
        known |= {(c.kind, _bare(c.source)) for c in base.cells}
    by_text = {(c.kind, _bare(c.source)): c for c in result}
    own: defaultdict[int, list[Cell]] = defaultdict(list)
    answered: set[tuple[str, str]] = set()
    anchor = 0  # id() of the cell of the result after which own cells go
    for cell in mine.cells:
        k = key(cell)
        target, before = place.get(k), bases.get(k)
        if k[0] == "answer" and untouched(cell, before, target):
            anchor = id(target) if target is not None else anchor
            continue
        if k[0] in ("answer", "remark") and target is not None and k not in answered:
            anchor = id(target)
            if before is None or not same(cell, before):
                _take(target, cell)
                answered.add(k)
            continue
        twin = by_text.get((cell.kind, _bare(cell.source)))
        if twin is not None:
            anchor = id(twin)
            continue
        if (cell.kind, _bare(cell.source)) in known:
            anchor = id(target) if target is not None else anchor
            continue
        if target is not None and before is not None and k[0] == "cell":
            anchor = id(target)
            if same(before, target):  # changed by the learner, and by nobody else
                _take(target, cell)
                continue
        if cell.source.strip():
            own[anchor].append(_own(cell))
    merged = [*own[0]]
    for cell in result:
        merged += [cell, *own[id(cell)]]
    return merged


def _take(target: Cell, cell: Cell) -> None:
    target.source = cell.source
    target.outputs, target.attachments = copy.deepcopy((cell.outputs, cell.attachments))


def _own(cell: Cell) -> Cell:
    """A copy that no later update takes for the lesson's: it keeps its tags, not its id."""
    found = copy.deepcopy(cell)
    found.id = ""
    return found
