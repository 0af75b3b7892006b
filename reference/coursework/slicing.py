"""Cuts out of a notebook the statements that one answer needs, and nothing else.

The whole notebook never runs while grading: it trains, downloads and plots. From the names that
an answer uses (decorators, default values, base classes and annotations among them) its helpers
are found, then theirs, as a reader would: the last definition before the place of use, with the
statements that go on to fill it. Every statement keeps its line in its cell.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterable

from coursework.exercise import Exercise
from coursework.imports import Rules
from coursework.notebook import CALLS_CHECK, Cell, Extracted, Notebook
from coursework.statements import (
    FUNCTIONS,
    Statement,
    TooMuch,
    alias_name,
    index,
    label,
    raises_not_implemented,
)

SHOWS = {"figure", "compare", "check", "setup", "slow"}
END = 10**9
STEPS_LIMIT = 300_000  # definitions looked at for one answer; lessons need some thousands


class Slicer:
    """One exercise of one notebook; ``run`` gives what ``notebook.extract`` promises."""

    def __init__(
        self,
        notebook: Notebook,
        exercise: Exercise,
        library: str,
        provides: tuple[str, ...],
        skip: frozenset[str],
    ) -> None:
        self.notebook, self.exercise = notebook, exercise
        self.names = exercise.names
        self.skip = skip - set(self.names)
        self.index = index(notebook)
        self.rules = Rules(exercise, library, provides)
        self.chosen: dict[str, Statement] = {}
        self.needs: dict[Statement, list[tuple[str, Statement]]] = {}
        self.wanted: dict[Statement, set[str]] = {}
        self.unknown: set[str] = set()
        self.steps = 0
        self.point = (END, END)

    def run(self) -> Extracted:
        result = Extracted(self.exercise.id)
        for name in self.names:
            if found := self._choose(name):
                self.chosen[name] = found
        functions_left = [n for n in self.names if self._is_stub(self.chosen.get(n))]
        broken = self._broken_answer()
        lacks = [n for n in self.names if n not in self.chosen]
        if broken and (lacks or functions_left):
            cell, source, error = broken
            result.status = "error"
            text = getattr(error, "msg", None) or str(error)
            line = getattr(error, "lineno", None)
            result.says = f"SyntaxError: {text} ({label(cell)}" + (
                f", line {line})" if line else ")"
            )
            result.chunks = [(label(cell), source)]
            return result
        undone = lacks and all(self._left_undone(n) for n in lacks)
        if undone or (functions_left and len(functions_left) == len(self.names)):
            result.status, result.says = "not attempted", "not attempted yet"
            return result
        if lacks and not self.index.stars:
            verb = "is" if len(lacks) == 1 else "are"
            result.status = "missing"
            result.says = f"{' and '.join(lacks)} {verb} not defined in any cell"
            return result
        self._collect()
        included = sorted(self.wanted, key=lambda s: s.order)
        stars = [s for s in self.index.stars if self.rules.star_allowed(s.part.node)]
        refused = [s for s in self.index.stars if s not in stars]
        says = self.rules.broken_by(included, self.wanted)
        if not says and refused and self.unknown and not stars:
            says = self.rules.says_module(refused[0].part.node.module or "", label(refused[0].cell))
        if says:
            result.status, result.says = "forbidden", says
            return result
        result.chunks = self._chunks([*stars, *self._ordered(included)])
        return result

    # Which statements

    def _choose(self, name: str) -> Statement | None:
        """The last definition of ``name`` that is least a stub."""
        found = [s for s in self.index.by_name.get(name, ()) if s.part.binds[name]]
        own = [s for s in found if not s.part.is_import]
        own = [
            s
            for s in own
            if isinstance(s.part.node, (*FUNCTIONS, ast.ClassDef)) or not SHOWS & set(s.cell.tags)
        ] or own
        done = [s for s in own if not s.part.stubs]
        if not done:  # an import in place of the answer counts as one: the rules will say so
            tagged = self._tagged()
            done = [s for s in found if s.part.is_import and (not own or s.cell in tagged)]
        fewest = min((s.part.stubs for s in own), default=0)
        candidates = done or [s for s in own if s.part.stubs == fewest]
        candidates = candidates or [s for s in self.index.by_name.get(name, ())]
        return candidates[-1] if candidates else None

    def _is_stub(self, s: Statement | None) -> bool:
        return s is not None and isinstance(s.part.node, FUNCTIONS) and bool(s.part.stubs)

    def _tagged(self) -> list[Cell]:
        return [
            c
            for c in self.notebook.cells
            if c.kind == "code" and c.exercise == self.exercise.id and "answer" in c.tags
        ]

    def _left_undone(self, name: str) -> bool:
        """Whether the answer's cell ends at the top level with the stub's ``raise``."""
        cells = self._tagged()
        return any(
            s.cell in cells and raises_not_implemented(s.part.node) for s in self.index.statements
        )

    def _broken_answer(self) -> tuple[Cell, str, Exception] | None:
        names = "|".join(map(re.escape, self.names))
        defines = re.compile(
            rf"^\s*(?:(?:async\s+)?def|class)\s+(?:{names})\b|^(?:{names})\s*=", re.M
        )
        tagged = self._tagged()
        for cell, source, error in reversed(list(self.index.broken.values())):
            if any(cell is t for t in tagged) or defines.search(source):
                return cell, source, error
        return None

    def _collect(self) -> None:
        last = max(s.order[0] for s in self.chosen.values()) if self.chosen else END
        checks = [
            i
            for i, c in enumerate(self.notebook.cells)
            if i >= last and c.number and self.exercise.id in CALLS_CHECK.findall(c.source)
        ]
        self.point = ((checks or [last])[0], END)
        todo: list[Statement] = []
        for name, statement in self.chosen.items():
            for s in [statement, *self._changes_after(name, statement)]:
                todo += self._want(s, name)
        while todo:
            s = todo.pop()
            now, later = s.part.uses
            for names, point in ((now, s.order), (later, self.point)):
                for name in sorted(names):
                    if name in self.skip or (point is self.point and name in self.names):
                        continue
                    for d in self._reaching(name, point):
                        self.needs.setdefault(s, []).append((name, d))
                        todo += self._want(d, name)

    def _want(self, s: Statement, name: str) -> list[Statement]:
        new = s not in self.wanted
        self.wanted.setdefault(s, set()).add(name)
        return [s] if new else []

    def _changes_after(self, name: str, s: Statement) -> list[Statement]:
        later = [b for b in self.index.by_name[name] if s.order < b.order < self.point]
        return [b for b in later if not b.part.binds[name]]

    def _reaching(self, name: str, point: tuple[int, int]) -> list[Statement]:
        """The statements that make what ``name`` stands for at ``point``."""
        self.steps += len(self.index.by_name.get(name, ()))
        if self.steps > STEPS_LIMIT:
            raise TooMuch("the answer's cells depend on each other in too many ways")
        found = [s for s in self.index.by_name.get(name, ()) if not set(s.part.binds) <= self.skip]
        if any(s.part.binds[name] and not s.part.stubs for s in found):
            found = [s for s in found if not s.part.stubs]
        before = [s for s in found if s.order < point]
        if not before:
            # Cells are in another order than they were run in. A builtin's name is a helper only
            # where it is defined as one: `sum = 0` in a later cell means no harm.
            builtin = hasattr(builtins, name)
            helper = (*FUNCTIONS, ast.ClassDef)
            before = [
                s
                for s in found
                if s.order > point and (not builtin or isinstance(s.part.node, helper))
            ]
            if not before and not builtin and name not in self.chosen:
                self.unknown.add(name)
        made = []
        for s in reversed(before):
            made.append(s)
            if s.part.binds[name]:
                break
        return made

    # Their order and their text

    def _ordered(self, included: list[Statement]) -> list[Statement]:
        """Order of the notebook, but what a statement needs comes before it."""
        count = Counter(name for s in included for name in self.wanted[s])
        seen: set[Statement] = set()
        ordered: list[Statement] = []

        def visit(s: Statement) -> None:
            if s in seen:
                return
            seen.add(s)
            for name, d in sorted(self.needs.get(s, ()), key=lambda pair: pair[1].order):
                if count[name] == 1 or name in s.part.uses[0]:
                    visit(d)
            ordered.append(s)

        for s in included:
            visit(s)
        return ordered

    def _chunks(self, statements: Iterable[Statement]) -> list[tuple[str, str]]:
        runs: list[list[Statement]] = []
        for s in statements:
            if not runs or runs[-1][-1].cell is not s.cell or runs[-1][-1].order >= s.order:
                runs.append([])
            runs[-1].append(s)
        chunks = []
        for run in runs:
            lines: list[str] = []
            for s in run:
                text = self._text(s)
                if not text:
                    continue
                if len(lines) >= s.part.line:  # shares a line with the one before
                    lines[s.part.line - 1] += "; " + text
                    continue
                lines += [""] * (s.part.line - 1 - len(lines)) + text.split("\n")
            if lines:
                chunks.append((label(run[0].cell), self._with_future(lines) + "\n"))
        return chunks

    def _text(self, s: Statement) -> str:
        if not s.part.is_import or s in self.index.stars:
            return s.part.text
        kept = [
            a
            for a in s.part.node.names
            if alias_name(a) in self.wanted[s] and self.rules.brings(s.part.node, a)
        ]
        if len(kept) == len(s.part.node.names):
            return s.part.text
        part = type(s.part.node)(**{**dict(ast.iter_fields(s.part.node)), "names": kept})
        return ast.unparse(part) if kept else ""

    def _with_future(self, lines: list[str]) -> str:
        future = sorted(self.index.future.intersection(__future__.all_feature_names))
        if not future:
            return "\n".join(lines)
        first = f"from __future__ import {', '.join(future)}"
        if not lines[0].strip():
            lines[0] = first
        else:
            lines.insert(0, first)
        return "\n".join(lines)
