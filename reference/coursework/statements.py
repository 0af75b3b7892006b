"""The statements of a notebook: what each defines, and which names it uses and when."""

from __future__ import annotations

import ast
import contextlib
import symtable
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from coursework.notebook import Cell, Notebook, python_source

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
OWN_SCOPE = (*FUNCTIONS, ast.ClassDef, ast.Lambda)
# Methods that change what they are called on: `table.append(1)` belongs to what `table` is.
FILLS = {"append", "extend", "add", "update", "insert", "setdefault", "sort", "reverse", "pop"}
FILLS |= {"remove", "clear", "appendleft", "register", "eval", "train", "to", "requires_grad_"}
FILLS |= {"load_state_dict", "manual_seed"}
SHARED_LIMIT = 8_000  # characters of a cell that is kept when it has been read
STATEMENTS_LIMIT = 10_000  # the longest lesson has under a thousand


class TooMuch(ValueError):
    """Cells that would take hours to be cut."""


@dataclass(eq=False)
class Part:
    """One statement at the top level of some source, wherever that stands.

    text: its source. alone: whether it has its lines for itself. binds: name -> whether the
    statement replaces what the name stood for (``x = 1``), or only changes it (``x[3] = 1``, a loop
    that fills it). Most cells of a class's notebooks are the same: parts are shared, and nobody
    changes them.
    """

    node: ast.stmt
    text: str
    alone: bool
    binds: dict[str, bool] = field(default_factory=dict)

    @property
    def line(self) -> int:
        return min(
            [self.node.lineno, *(d.lineno for d in getattr(self.node, "decorator_list", ()))]
        )

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @cached_property
    def told(self) -> tuple[ast.AST, ...]:
        """Its imports, calls, attributes and names: what rules on imports look at."""
        kinds = (ast.Import, ast.ImportFrom, ast.Call, ast.Attribute, ast.Name)
        return tuple(n for n in ast.walk(self.node) if isinstance(n, kinds))

    @cached_property
    def uses(self) -> tuple[frozenset[str], frozenset[str]]:
        """Global names it reads when it runs, and those that its functions read when called."""
        now: set[str] = set()
        later: set[str] = set()

        def walk(table: symtable.SymbolTable, called: bool) -> None:
            at_top = table.get_type() == "module"
            for s in table.get_symbols():
                outside = at_top or s.is_global()
                if outside and (s.is_referenced() or (s.is_declared_global() and not at_top)):
                    (later if called else now).add(s.get_name())
            for child in table.get_children():
                at_once = child.get_type() != "function" or child.get_name().endswith(
                    ("comp", "genexpr")
                )
                walk(child, called or not at_once)

        if not self.is_import:
            with contextlib.suppress(*UNREADABLE):
                walk(symtable.symtable(self.text, "<cell>", "exec"), False)
                now -= set_before_read(self.node)
        return frozenset(now), frozenset(later)

    @cached_property
    def stubs(self) -> int:
        """How many of its functions or methods are still the stub."""
        if isinstance(self.node, FUNCTIONS):
            return int(is_stub(self.node))
        if isinstance(self.node, ast.ClassDef):
            return sum(is_stub(n) for n in self.node.body if isinstance(n, FUNCTIONS))
        return 0


@dataclass(eq=False)
class Statement:
    """One statement of a notebook. order: (place of the cell, place in the cell)."""

    cell: Cell
    order: tuple[int, int]
    part: Part


def label(cell: Cell) -> str:
    """What stands for the cell's file name in tracebacks."""
    return f"<cell {cell.number}>"


def alias_name(a: ast.alias) -> str:
    """The name that one part of an import binds."""
    return a.asname or a.name.split(".")[0]


def is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the function comes to ``raise NotImplementedError`` before any ``return``."""
    for statement in node.body:
        if isinstance(statement, ast.Return):
            return False
        if isinstance(statement, ast.Raise):
            return raises_not_implemented(statement)
    return False


def raises_not_implemented(node: ast.stmt) -> bool:
    """Whether ``node`` is ``raise NotImplementedError`` with or without a message."""
    if not isinstance(node, ast.Raise):
        return False
    what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(what, ast.Name) and what.id == "NotImplementedError"


def same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and what lies in it, outside functions, classes and loop names."""
    yield node
    if isinstance(node, OWN_SCOPE):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            yield from same_scope(child.iter)
            for test in child.ifs:
                yield from same_scope(test)
        else:
            yield from same_scope(child)


def set_before_read(node: ast.stmt) -> set[str]:
    """Names that the statement itself sets before it reads them: loop variables, steps within."""
    first: dict[str, bool] = {}

    def visit(part: ast.AST) -> None:
        if isinstance(part, ast.Name):
            first.setdefault(part.id, isinstance(part.ctx, ast.Store))
        elif isinstance(part, ast.AugAssign):
            visit(part.value)
            if name := _root(part.target):
                first.setdefault(name, False)
        elif not isinstance(part, OWN_SCOPE):
            children = list(ast.iter_child_nodes(part))
            # The right-hand side runs before the names on the left are set.
            source = getattr(part, "iter", None) or getattr(part, "value", None)
            if isinstance(source, ast.AST):
                children.sort(key=lambda c: c is not source)
            for child in children:
                visit(child)

    visit(node)
    return {name for name, stored in first.items() if stored}


def _plain_targets(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _plain_targets(part)
    elif isinstance(target, ast.Starred):
        yield from _plain_targets(target.value)


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def bindings(node: ast.stmt) -> dict[str, bool]:
    """What a top-level statement defines; see ``Part.binds``."""
    found: dict[str, bool] = {}
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        for d in node.decorator_list:
            if isinstance(d.func if isinstance(d, ast.Call) else d, ast.Attribute):
                found[_root(d) or ""] = False
        found.pop("", None)
        found[node.name] = True
        return found
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for a in node.names:
            dotted = isinstance(node, ast.Import) and "." in a.name and not a.asname
            name = alias_name(a)
            found[name] = found.get(name, False) or not dotted
        return found
    for part in same_scope(node):
        if isinstance(part, ast.Await):
            return {}
        if isinstance(part, OWN_SCOPE) and part is not node:
            if hasattr(part, "name"):
                found.setdefault(part.name, False)
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            for name in bindings(part):
                found.setdefault(name, False)
        elif isinstance(part, (ast.Name, ast.Attribute, ast.Subscript)):
            if isinstance(part.ctx, ast.Store) and (name := _root(part)):
                found.setdefault(name, False)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            call = part.value.func
            if isinstance(call, ast.Attribute) and call.attr in FILLS and (name := _root(call)):
                found.setdefault(name, False)
        elif type(part).__name__ in ("ExceptHandler", "MatchAs", "MatchStar") and part.name:
            found.setdefault(part.name, False)
    if isinstance(node, ast.Assign):
        for target in node.targets:
            found.update(dict.fromkeys(_plain_targets(target), True))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        if node.value is None:
            return {}
        found[node.target.id] = True
    elif type(node).__name__ == "TypeAlias":
        found[node.name.id] = True
    return found


def parse(source: str) -> ast.Module:
    """The tree of a cell; top-level ``await`` is allowed, as in a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(source, "<cell>", "exec", flags, dont_inherit=True)


class Index:
    """All statements of a notebook by the names they bind, made once a notebook."""

    def __init__(self, notebook: Notebook) -> None:
        self.statements: list[Statement] = []
        self.broken: dict[int, tuple[Cell, str, Exception]] = {}
        self.by_name: dict[str, list[Statement]] = {}
        self.stars: list[Statement] = []
        self.future: set[str] = set()
        self.places = {c.number: i for i, c in enumerate(notebook.cells) if c.number}
        for cell in notebook.code:
            self._add(cell, self.places[cell.number])
        self._forget_decorators_of_modules()

    def _forget_decorators_of_modules(self) -> None:
        """``@torch.no_grad()`` changes nothing in torch; ``@f.register(int)`` changes f."""
        for name, found in self.by_name.items():
            if any(s.part.is_import and isinstance(s.part.node, ast.Import) for s in found):
                decorated = (*FUNCTIONS, ast.ClassDef)
                found[:] = [
                    s for s in found if s.part.binds[name] or not isinstance(s.part.node, decorated)
                ]

    def _add(self, cell: Cell, place: int) -> None:
        read = _read if len(cell.source) <= SHARED_LIMIT else _read.__wrapped__
        source, parts, error = read(cell.source)
        if error:
            self.broken[place] = cell, source, error
        for i, part in parts:
            statement, node = Statement(cell, (place, i), part), part.node
            self.statements.append(statement)
            if len(self.statements) > STATEMENTS_LIMIT:
                raise TooMuch(f"the notebook has over {STATEMENTS_LIMIT} statements")
            if isinstance(node, ast.ImportFrom):
                if node.module == "__future__":
                    self.future.update(a.name for a in node.names)
                    continue
                if any(a.name == "*" for a in node.names):
                    self.stars.append(statement)
                    continue
            for name in part.binds:
                self.by_name.setdefault(name, []).append(statement)


@lru_cache(256)
def _read(source: str) -> tuple[str, tuple[tuple[int, Part], ...], Exception | None]:
    """A cell's source as it was read, its parts with their places, and why it cannot be read."""
    try:
        tree = parse(source)
    except UNREADABLE:
        source = python_source(source)
        try:
            tree = parse(source)
        except UNREADABLE as error:
            try:
                source = textwrap.dedent(source)
                tree = parse(source)
            except UNREADABLE:
                return source, (), error
    lines = source.split("\n")
    ends = [0, *(n.end_lineno for n in tree.body)]
    starts = [*(n.lineno for n in tree.body[1:]), tree.body[-1].end_lineno + 1] if tree.body else []
    parts = []
    for i, node in enumerate(tree.body):
        alone = ends[i] < node.lineno and node.end_lineno < starts[i]
        try:
            part = Part(node, "", alone, bindings(node))
            if alone:
                part.text = "\n".join(lines[part.line - 1 : node.end_lineno])
            else:
                part.text = ast.unparse(node)
        except (RecursionError, ValueError):
            continue
        parts.append((i, part))
    return source, tuple(parts), None


def index(notebook: Notebook) -> Index:
    """The notebook's ``Index``, kept with it."""
    if "_index" not in notebook.__dict__:
        try:
            notebook.__dict__["_index"] = Index(notebook)
        except TooMuch as error:
            notebook.__dict__["_index"] = error
    found = notebook.__dict__["_index"]
    if isinstance(found, TooMuch):
        raise found
    return found
