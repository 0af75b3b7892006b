"""Small mistakes made by machine from a right answer, to see whether the checks notice them.

Each mutant differs from the source in one place. A good check fails all but those that compute
the same thing (equivalent mutants, which a course lists with the reason).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SWAPS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


MODULES = ("torch", "np", "math", "F", "nn")


@dataclass(frozen=True)
class Mutant:
    """``source`` is the whole mutated source; ``key`` says where and what, stable across runs."""

    key: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of ``source``, each once, without those that only touch texts or errors."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    counts: dict[str, int] = {}
    for path in _places(tree):
        node = _at(tree, path)
        for describe, change in _changes(node):
            mutated = copy.deepcopy(tree)
            if not _apply(mutated, path, change):
                continue
            ast.fix_missing_locations(mutated)
            try:
                text = ast.unparse(mutated)
                compile(text, "<mutant>", "exec")
            except (SyntaxError, ValueError, AttributeError):
                continue
            if text in seen:
                continue
            seen.add(text)
            key = f"{_snippet(node)}: {describe}"
            counts[key] = counts.get(key, 0) + 1
            if counts[key] > 1:
                key += f" #{counts[key]}"
            yield Mutant(key, text)


def _snippet(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."


Path = tuple[tuple[str, int | None], ...]


def _places(tree: ast.AST) -> Iterator[Path]:
    def walk(node: ast.AST, path: Path) -> Iterator[Path]:
        yield path
        for name, value in ast.iter_fields(node):
            if _skipped(node, name):
                continue
            if isinstance(value, ast.AST):
                yield from walk(value, (*path, (name, None)))
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.AST) and not _is_text(item):
                        yield from walk(item, (*path, (name, i)))

    yield from walk(tree, ())


def _skipped(node: ast.AST, field: str) -> bool:
    if field in ("annotation", "returns", "decorator_list", "type_comment"):
        return True
    if isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Assert)):
        return True
    # An `if` that only raises guards against bad input; its message is no part of the answer.
    return isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in node.body)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node: ast.AST = tree
    for name, index in path:
        child = getattr(node, name)
        node = child if index is None else child[index]
    return node


def _apply(tree: ast.AST, path: Path, change: Callable[[ast.AST], ast.AST | None]) -> bool:
    if not path:
        return change(tree) is not None
    parent = _at(tree, path[:-1])
    name, index = path[-1]
    child = getattr(parent, name)
    new = change(child if index is None else child[index])
    if new is None:
        return False
    if index is None:
        setattr(parent, name, new)
    else:
        child[index] = new
    return True


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST | None]]]:
    """(description, function from a copy of the node to its replacement)."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        for new in SWAPS.get(type(node.op), ()):
            yield f"operator to {new.__name__}", _set("op", new)
    if isinstance(node, ast.BinOp):
        yield "left side only", lambda n: n.left
        yield "right side only", lambda n: n.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.Pow, ast.MatMult)):
            yield "sides swapped", _swap_sides
    if isinstance(node, ast.Compare):
        for new in SWAPS.get(type(node.ops[0]), ()):
            yield f"comparison to {new.__name__}", _set_item("ops", 0, new)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield "operator dropped", lambda n: n.operand
    if isinstance(node, ast.Constant):
        yield from _constants(node.value)
    if isinstance(node, ast.Call):
        yield from _calls(node)
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield "condition negated", _negate
    if isinstance(node, ast.Slice):
        if node.lower is not None:
            yield "start dropped", _clear("lower")
        if node.upper is not None:
            yield "end dropped", _clear("upper")
    if isinstance(node, (ast.Assign, ast.AugAssign)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield "statement dropped", lambda n: ast.Pass()
    if isinstance(node, ast.Return) and node.value is not None:
        yield "returns None", _clear("value")
    if isinstance(node, (ast.Break, ast.Continue)):
        yield "statement dropped", lambda n: ast.Pass()


def _constants(value: object) -> Iterator[tuple[str, Callable]]:
    if isinstance(value, bool):
        yield f"to {not value}", lambda n: ast.Constant(not n.value)
    elif isinstance(value, int):
        yield f"to {value + 1}", lambda n: ast.Constant(n.value + 1)
        if value > 0:
            yield f"to {value - 1}", lambda n: ast.Constant(n.value - 1)
    elif isinstance(value, float):
        yield f"to {value * 1.25 + 0.01:g}", lambda n: ast.Constant(n.value * 1.25 + 0.01)


def _calls(node: ast.Call) -> Iterator[tuple[str, Callable]]:
    if len(node.args) == 1 and not node.keywords:
        yield "call dropped", lambda n: n.args[0]
    if isinstance(node.func, ast.Attribute) and not (
        isinstance(node.func.value, ast.Name) and node.func.value.id in MODULES
    ):
        yield "method dropped", lambda n: n.func.value
    for i in range(len(node.args) - 1):
        yield f"arguments {i + 1} and {i + 2} swapped", _swap_arguments(i)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield f"{keyword.arg}= dropped", _drop_keyword(i)


def _set(field: str, kind: type) -> Callable:
    def change(n: ast.AST) -> ast.AST:
        setattr(n, field, kind())
        return n

    return change


def _set_item(field: str, index: int, kind: type) -> Callable:
    def change(n: ast.AST) -> ast.AST:
        getattr(n, field)[index] = kind()
        return n

    return change


def _clear(field: str) -> Callable:
    def change(n: ast.AST) -> ast.AST:
        setattr(n, field, None)
        return n

    return change


def _swap_sides(n: ast.AST) -> ast.AST:
    n.left, n.right = n.right, n.left
    return n


def _swap_arguments(i: int) -> Callable:
    def change(n: ast.AST) -> ast.AST:
        n.args[i], n.args[i + 1] = n.args[i + 1], n.args[i]
        return n

    return change


def _drop_keyword(i: int) -> Callable:
    def change(n: ast.AST) -> ast.AST:
        del n.keywords[i]
        return n

    return change


def _negate(n: ast.AST) -> ast.AST:
    n.test = ast.UnaryOp(ast.Not(), n.test)
    return n
