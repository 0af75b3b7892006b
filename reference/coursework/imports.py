"""What an answer may import while it is graded, and the sentence for what it may not."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

from coursework.exercise import Exercise
from coursework.statements import Statement, alias_name, label

GRADERS_OWN = re.compile(r"(coursework|tests|solutions|answers|conftest)(\.|$)|lesson_\d\d|course_")
FROM_COURSEWORK = {"check", "hint", "status"}


class Rules:
    """What an answer may import, and the sentence for what it may not."""

    def __init__(self, exercise: Exercise, library: str, provides: tuple[str, ...]) -> None:
        self.exercise, self.library, self.provides = exercise, library, provides

    def provided(self, module: str) -> bool:
        """Whether ``module`` is outside the library, provided, or holds what is provided."""
        if module.split(".")[0] != self.library:
            return True
        inside = any(module == p or module.startswith(p + ".") for p in self.provides)
        return inside or any(p.startswith(module + ".") for p in self.provides)

    def brings(self, node: ast.stmt, alias: ast.alias) -> bool:
        """Whether a top-level import is carried over; others are only judged where used."""
        if isinstance(node, ast.ImportFrom):
            return not (node.module == "coursework" and alias.name in FROM_COURSEWORK)
        return bool(alias.asname) or self.provided(alias.name)

    def star_allowed(self, node: ast.ImportFrom) -> bool:
        """Whether ``from module import *`` is carried over."""
        module = node.module or ""
        return self.provided(module) and not GRADERS_OWN.match(module)

    def broken_by(self, included: list[Statement], wanted: dict[Statement, set[str]]) -> str:
        """What the first forbidden import or use in ``included`` is, or ""."""
        aliases: dict[str, str] = {}
        for s in included:
            for node in s.part.told:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    for a in node.names:
                        top = node is s.part.node and alias_name(a) not in wanted[s]
                        if not top and (says := self._import(node, a, node is s.part.node, s)):
                            return says
                        if isinstance(node, ast.ImportFrom):
                            aliases[a.asname or a.name] = f"{node.module or ''}.{a.name}"
                        else:
                            aliases[alias_name(a)] = a.name if a.asname else alias_name(a)
        for s in included:
            if s.part.is_import:
                continue
            for node in s.part.told:
                says = self._dynamic(node, s) or self._chain(node, aliases, s)
                if says:
                    return says
        return ""

    def _import(self, node: ast.stmt, a: ast.alias, top: bool, s: Statement) -> str:
        if isinstance(node, ast.Import):
            if top and not a.asname and not self.provided(a.name):
                return ""  # binds the library's name only: its use is judged by `_chain`
            return self._module(a.name, s)
        if node.level:
            return ""
        module = node.module or ""
        if module == "coursework" and a.name in FROM_COURSEWORK:
            return ""
        return (
            self._asked(f"{module}.{a.name}", s)
            or self._module(module, s)
            or self._member(f"{module}.{a.name}", s)
        )

    def _dynamic(self, node: ast.AST, s: Statement) -> str:
        """``importlib.import_module("...")`` and ``__import__("...")``."""
        if not (isinstance(node, ast.Call) and node.args):
            return ""
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        first = node.args[0]
        if name not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
            return ""
        return self._module(first.value, s) if isinstance(first.value, str) else ""

    def _chain(self, node: ast.AST, aliases: dict[str, str], s: Statement) -> str:
        """``undiffuse.process.q_sample`` and the like, through whatever the import called it."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in aliases:
            return ""
        full = ".".join([aliases[node.id], *reversed(parts)])
        if full.split(".")[0] != self.library:
            return ""
        return self._member(full, s) if parts else ""

    def _asked(self, full: str, s: Statement) -> str:
        for asked in self.exercise.library:
            if full == asked or full.startswith(asked + "."):
                return f"{label(s.cell)} uses {asked}, which this exercise asks you to write"
        return ""

    def _member(self, full: str, s: Statement) -> str:
        if says := self._asked(full, s):
            return says
        top, *rest = full.split(".")
        if top == self.library and rest:
            module = f"{top}.{rest[0]}"
            if not self.provided(module) and self._is_module(rest[0]):
                return self.says_module(module, label(s.cell))
        return ""

    def _module(self, module: str, s: Statement) -> str:
        if GRADERS_OWN.match(module):
            return f"{label(s.cell)} imports {module}, which an answer may not use"
        if says := self._asked(module, s):
            return says
        if not self.provided(module):
            return self.says_module(module, label(s.cell))
        return ""

    def says_module(self, module: str, where: str) -> str:
        """The sentence for a module of the library that this lesson does not provide."""
        allowed = ", ".join(self.provides) or "nothing of it"
        return (
            f"{where} imports {module}: of {self.library}, answers of this lesson may use {allowed}"
        )

    def _is_module(self, name: str) -> bool:
        """Whether the library has a module ``name``; yes, where the library is not to be found."""
        try:
            spec = importlib.util.find_spec(self.library)
        except (ImportError, ValueError):
            spec = None
        folders = [Path(p) for p in (spec and spec.submodule_search_locations) or ()]
        if not folders:
            return True
        return any((f / f"{name}.py").is_file() or (f / name).is_dir() for f in folders)
