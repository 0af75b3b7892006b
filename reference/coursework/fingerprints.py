"""What an exercise's points depend on, as a hash: only what a change affects is graded anew.

In it are the exercise's own statements in the checks (its definition, cases, judge, drivers) and
in the answers (reference, misconceptions), with everything of the same file that those use, the
modules of the library behind them, and this package's engine. Not in it are comments, the way
code is laid out, titles, hints and minutes: those change no grade.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from coursework import library
from coursework.exercise import Exercise

# Modules of this package that a grade depends on: a change in one grades all anew.
ENGINE = ("exercise", "wire", "harness", "judge", "results", "recorded", "notebook", "slicing")
ENGINE += ("statements", "imports", "library")
NO_GRADE = {"title", "hints", "minutes", "difficulty", "core"}


@lru_cache
def engine() -> bytes:
    """Hash of this package's engine."""
    folder = Path(__file__).parent
    files = (folder / f"{name}.py" for name in ENGINE)
    return hashlib.sha256(b"".join(_code(f) for f in files)).digest()


def _code(path: Path) -> bytes:
    return ast.unparse(ast.parse(path.read_text(encoding="utf-8"))).encode()


class Statements:
    """The top-level statements of one file, by what they define and use."""

    def __init__(self, text: str) -> None:
        self.body = ast.parse(text).body
        self.bound = [frozenset(_bound(s)) for s in self.body]
        everything = frozenset().union(*self.bound) if self.bound else frozenset()
        self.used = [frozenset(_used(s)) & everything for s in self.body]
        made = [found for s in self.body if (found := _made(s))]
        self.makers = dict(made)  # exercise id -> name, the last where there are several
        self.names = frozenset(name for _, name in made)

    def of(self, id: str, reference: bool = False) -> list[int] | None:
        """Places of the statements that exercise ``id`` depends on; None where they cannot be
        told apart, and all count. reference: only those that its reference depends on."""
        name = self.makers.get(id)
        if name is None:
            return None
        others = self.names - {name}
        taken = {i for i, used in enumerate(self.used) if name in used | self.bound[i]}
        if reference:
            others = self.names
            taken = {i for i in taken if _spoken(self.body[i]) == (name, "reference")}
        names, done = set(), set()
        while taken - done:
            place = (taken - done).pop()
            done.add(place)
            names |= self.used[place]
            for i, bound in enumerate(self.bound):
                # What defines nothing may change what is used: TABLE["a"] = 1.
                changes = (
                    not bound and self.used[i] & names and _spoken(self.body[i])[0] not in others
                )
                if bound & names or changes:
                    taken.add(i)
        return sorted(taken)

    def texts(self, places: Iterable[int] | None) -> list[str]:
        """The statements at ``places`` (None: all), written in one way; of imports only what is
        used, once."""
        places = range(len(self.body)) if places is None else list(places)
        used = frozenset().union(*(self.used[i] for i in places))
        imported, others = set(), []
        for i in places:
            statement = self.body[i]
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                origin = ast.unparse(statement).partition("import ")[0]
                imported |= {
                    f"{origin}{a.name} as {a.asname}"
                    for a in statement.names
                    if (a.asname or a.name).split(".")[0] in used
                }
            else:
                others.append(ast.unparse(_Graded().visit(copy.deepcopy(statement))))
        return [*sorted(imported), *others]

    def imports(self, places: Iterable[int] | None) -> set[str]:
        """Modules that the statements at ``places`` import, wherever in them."""
        chosen = self.body if places is None else [self.body[i] for i in places]
        found: set[str] = set()
        for node in (n for s in chosen for n in ast.walk(s)):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        return found


class _Graded(ast.NodeTransformer):
    """Takes from the definition of an exercise what changes no grade."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Exercise":
            node.keywords = [k for k in node.keywords if k.arg not in NO_GRADE]
        return node


def _made(statement: ast.stmt) -> tuple[str, str] | None:
    """(id, name) where ``statement`` is ``name = Exercise(id="05.1", ...)`` or ``Answers``."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return None
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    call = statement.value
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    if not named or call.func.id not in ("Exercise", "Answers"):
        return None
    values = [k.value for k in call.keywords if k.arg == "id"] or call.args[:1]
    if values and isinstance(values[0], ast.Constant) and isinstance(targets[0], ast.Name):
        return str(values[0].value), targets[0].id
    return None


def _spoken(statement: ast.stmt) -> tuple[str, str]:
    """What a statement speaks to: ``@one.cases`` and ``one.judge(...)`` to ("one", "cases") and
    ("one", "judge")."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        nodes = statement.decorator_list
    else:
        nodes = [statement.value] if isinstance(statement, ast.Expr) else []
    for node in nodes:
        what = ""
        while isinstance(node, (ast.Call, ast.Attribute)):
            what = node.attr if isinstance(node, ast.Attribute) else what
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            return node.id, what
    return "", ""


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement gives a meaning; ``_`` is nobody's."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        names = [statement.name]
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        names = [(a.asname or a.name).split(".")[0] for a in statement.names]
    else:
        names = [
            n.id
            for n in ast.walk(statement)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]
    yield from (n for n in names if n != "_")


def _used(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement mentions, those in texts too: ``Given("twice")``."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@lru_cache(maxsize=64)
def _read(path: Path, stamp: bytes) -> Statements:
    return Statements(path.read_text(encoding="utf-8"))


def read(path: Path) -> Statements:
    """The statements of ``path`` as it is now."""
    return _read(path, hashlib.sha256(path.read_bytes()).digest())


def fingerprint(
    exercise: Exercise,
    checks: Path,
    used: Iterable[str],
    root: Path,
    package: str,
    provides: tuple[str, ...],
) -> str:
    """The hash of ``exercise``.

    checks: the folder with the course's checks. used: ids of exercises whose reference it is
    given. root: the folder of the library ``package``; provides: what the lesson provides of it.
    """
    total = hashlib.sha256(engine())
    modules = set(provides)
    number = exercise.lesson
    wanted = [(checks / f"lesson_{number}.py", exercise.id)]
    wanted += [
        (checks / "answers" / f"lesson_{id.split('.')[0]}.py", id) for id in (exercise.id, *used)
    ]
    for path, id in wanted:
        if not path.is_file():
            continue
        statements = read(path)
        places = statements.of(id, reference=id != exercise.id)
        modules |= statements.imports(places)
        for text in statements.texts(places):
            total.update(text.encode() + b"\0")
    recording = checks / "recorded" / f"{number}.bin"
    if recording.is_file():
        total.update(recording.read_bytes())
    files, _ = library.closure(root, package, sorted(m for m in modules if m))
    for name, path in sorted(files.items()):
        total.update(name.encode() + b"\0" + _library(path))
    total.update(repr((sorted(exercise.library), provides)).encode())
    return total.hexdigest()


def _library(path: Path) -> bytes:
    data = path.read_bytes()
    return _library_code(path, hashlib.sha256(data).digest())


@lru_cache(maxsize=512)
def _library_code(path: Path, stamp: bytes) -> bytes:
    return hashlib.sha256(_code(path)).digest()
