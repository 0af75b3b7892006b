"""The shape of Python code: what is left when names, comments and formatting are gone.

Code becomes a line of tokens, one or a few for each node of its syntax tree; names that the code
itself binds all look alike. From the tokens come fingerprints by winnowing (Schleimer, Wilkerson
and Aiken, "Winnowing: local algorithms for document fingerprinting", SIGMOD 2003): of the hashes
of all runs of K tokens, the least in each window of W. Two codes that share a run of W + K - 1
tokens share a fingerprint for certain, and one that shares fewer than K shares none.
"""

from __future__ import annotations

import ast
import warnings
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

K, W = 14, 6
PRIME, BASE = (1 << 61) - 1, 1_000_003
SILENT = (ast.Import, ast.ImportFrom, ast.Pass, ast.Global, ast.Nonlocal, ast.expr_context)
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)


@dataclass(frozen=True)
class Token:
    """A token and where it stands: the place of its piece of source, and the line there."""

    text: str
    piece: int
    line: int


def tokens(sources: Iterable[str]) -> list[Token]:
    """The tokens of ``sources``, in order; what is not Python gives none."""
    found: list[Token] = []
    for i, source in enumerate(sources):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
            walker = _Walker(tree)
            found += [Token(text, i, line) for text, line in walker.walk(tree, 1)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return found


class _Walker:
    """Tokens of one tree."""

    def __init__(self, tree: ast.AST) -> None:
        self.own: set[str] = set()
        self.meant: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.own.add(node.id)
            elif isinstance(node, ast.arg):
                self.own.add(node.arg)
            elif isinstance(node, NAMED) and node.name:
                self.own.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for a in node.names:
                    self.meant[a.asname or a.name.split(".")[0]] = a.name.split(".")[-1]

    def walk(self, node: ast.AST, line: int) -> Iterator[tuple[str, int]]:
        """(token, line) of ``node`` and what lies in it."""
        line = getattr(node, "lineno", line)
        if isinstance(node, SILENT) or _says_nothing(node):
            return
        if isinstance(node, ast.AugAssign):  # x += y and x = x + y look alike
            yield "Assign", line
            yield from self.walk(node.target, line)
            yield f"BinOp {type(node.op).__name__}", line
            yield from self.walk(node.target, line)
            yield from self.walk(node.value, line)
            return
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield "Assign", line
                yield from self.walk(node.target, line)
                yield from self.walk(node.value, line)
            return
        if not isinstance(node, (ast.Module, ast.arguments, ast.Expr)):
            yield self.name(node), line
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_comment", "type_params", "type_ignores"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(
                    child, (ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
                ):
                    yield from self.walk(child, line)

    def name(self, node: ast.AST) -> str:
        """The token of one node."""
        kind = type(node).__name__
        if isinstance(node, ast.Name):
            return "own" if node.id in self.own else self.meant.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f".{node.attr}"
        if isinstance(node, ast.Constant):
            return "text" if isinstance(node.value, (str, bytes)) else repr(node.value)
        if isinstance(node, ast.keyword):
            return f"{node.arg}="
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.BoolOp)):
            return f"{kind} {type(node.op).__name__}"
        if isinstance(node, ast.Compare):
            return f"{kind} {' '.join(type(op).__name__ for op in node.ops)}"
        return kind


def _says_nothing(node: ast.AST) -> bool:
    """A docstring, or a constant that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hashes(found: list[Token]) -> list[int]:
    """The hash of each run of ``K`` tokens."""
    values = [zlib.crc32(t.text.encode("utf-8", "replace")) for t in found]
    made: list[int] = []
    top, rolling = pow(BASE, K, PRIME), 0
    for i, value in enumerate(values):
        rolling = (rolling * BASE + value) % PRIME
        if i >= K:
            rolling = (rolling - values[i - K] * top) % PRIME
        if i >= K - 1:
            made.append(rolling)
    return made


def fingerprints(found: list[Token]) -> dict[int, list[int]]:
    """Hash -> where the runs of ``K`` tokens begin that it stands for."""
    every = hashes(found)
    chosen: dict[int, list[int]] = {}
    window: deque[int] = deque()  # places of rising hashes: the first is the least
    last = -1
    for i, h in enumerate(every):
        while window and every[window[-1]] >= h:
            window.pop()
        window.append(i)
        if window[0] <= i - W:
            window.popleft()
        if i >= min(W, len(every)) - 1 and window[0] != last:
            last = window[0]
            chosen.setdefault(every[last], []).append(last)
    return chosen
