"""A copy of the course's library without what an exercise asks for, to lie beside its answer.

Of the library it holds the modules that the lesson provides, and those that they import when they
are themselves imported. The names in ``Exercise.library`` are taken out of it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
import py_compile
import sys
from collections.abc import Iterable
from pathlib import Path


def root_of(course: Path, library: str) -> Path:
    """The folder that holds the library: the course's own, or where it is installed."""
    own = course / "reference"
    if not (own / library).is_dir():
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(library)
            for place in (spec and spec.submodule_search_locations) or ():
                return Path(place).parent
    return own


def module_file(root: Path, name: str) -> Path | None:
    """The file of module ``name`` ("undiffuse.data") below ``root``, or None."""
    base = root.joinpath(*name.split("."))
    if (base / "__init__.py").is_file():
        return base / "__init__.py"
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else None


def imported(tree: ast.Module, name: str, is_package: bool) -> set[str]:
    """Names of modules that ``tree`` imports when it is itself imported, with possible members.

    ``from a import b`` gives "a" and "a.b", since b may be a module. Imports inside functions
    and under ``if TYPE_CHECKING`` are left out.
    """
    found: set[str] = set()

    def walk(body: Iterable[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Import):
                found.update(a.name for a in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:
                    parts = name.split(".")
                    up = node.level - (1 if is_package else 0)
                    parent = parts[: len(parts) - up] if up else parts
                    module = ".".join([*parent, *([module] if module else [])])
                found.add(module)
                found.update(f"{module}.{a.name}" for a in node.names)
            elif isinstance(node, ast.If):
                if "TYPE_CHECKING" not in ast.unparse(node.test):
                    walk(node.body)
                walk(node.orelse)
            elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
                walk(node.body)
                for handler in getattr(node, "handlers", ()):
                    walk(handler.body)

    walk(tree.body)
    return found


def closure(root: Path, library: str, provides: Iterable[str]) -> tuple[dict[str, Path], set[str]]:
    """(modules of the library to be copied: name -> file, other packages that they import)."""
    files: dict[str, Path] = {}
    others: set[str] = set()
    todo = [library, *provides]
    while todo:
        name = todo.pop()
        if name.split(".")[0] != library:
            others.add(name.split(".")[0])
            continue
        path = module_file(root, name)
        if name in files or path is None:
            continue
        files[name] = path
        parts = name.split(".")
        todo += [".".join(parts[:i]) for i in range(1, len(parts))]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        todo += imported(tree, name, path.name == "__init__.py")
    return files, others - set(sys.builtin_module_names) - {"__future__", ""}


def without(source: str, names: Iterable[str]) -> str:
    """``source`` without the top-level definitions of ``names``; "Class.method" goes deeper."""
    names = set(names)
    if not names:
        return source
    tree = ast.parse(source)

    def keep(body: list[ast.stmt], prefix: str) -> list[ast.stmt]:
        kept: list[ast.stmt] = []
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if prefix + node.name in names:
                    continue
                if isinstance(node, ast.ClassDef):
                    node.body = keep(node.body, f"{prefix}{node.name}.") or [ast.Pass()]
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                bound = {prefix + t.id for t in targets if isinstance(t, ast.Name)}
                if bound & names:
                    continue
                if bound == {f"{prefix}__all__"} and isinstance(node.value, (ast.List, ast.Tuple)):
                    node.value.elts = [
                        e for e in node.value.elts if getattr(e, "value", None) not in names
                    ]
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                # A name that another module lacks now cannot be imported from it either.
                node.names = [a for a in node.names if prefix + (a.asname or a.name) not in names]
                if not node.names:
                    continue
            elif isinstance(node, (ast.If, ast.Try)):
                node.body = keep(node.body, prefix) or [ast.Pass()]
                node.orelse = keep(node.orelse, prefix)
            kept.append(node)
        return kept

    tree.body = keep(tree.body, "")
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def sources(
    root: Path, library: str, provides: Iterable[str], remove: Iterable[str]
) -> dict[str, str]:
    """Path below the copy -> text, of a library in ``root`` for one exercise.

    remove: dotted names; a module's own name removes the module. In a module that imports a
    removed name from its home, the import goes too.
    """
    remove = set(remove)
    files, _ = closure(root, library, provides)
    made: dict[str, str] = {}
    for name, path in sorted(files.items()):
        if name in remove or any(name.startswith(r + ".") for r in remove):
            continue
        text = path.read_text(encoding="utf-8")
        own = {r.removeprefix(name + ".") for r in remove if r.startswith(name + ".")}
        own |= _from_library(text, library, remove)
        made[path.relative_to(root).as_posix()] = without(text, own)
    return made


def _from_library(text: str, library: str, remove: set[str]) -> set[str]:
    """Names in ``text`` that are imported from where they are removed."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").startswith(library)
        ):
            for a in node.names:
                if any(r.endswith(f".{a.name}") for r in remove):
                    found.add(a.asname or a.name)
    return found


def stage(
    folder: Path, root: Path, library: str, provides: Iterable[str], remove: Iterable[str],
    data: Path | None = None,
) -> str:  # fmt: skip
    """Writes the copy below ``folder``, under a name made from its content; that name.

    The library lies in ``reference/``, compiled; ``data`` beside it is a link to the course's.
    """
    made = sources(root, library, provides, remove)
    digest = hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest()[:24]
    home = folder / digest
    if home.is_dir():
        return digest
    for path, text in made.items():
        file = home / "reference" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(file), dfile=path, invalidation_mode=unchecked, doraise=True)
    if not made:
        (home / "reference").mkdir(parents=True)
    if data is not None and data.is_dir():
        try:
            os.symlink(data, home / "data")
        except OSError:  # Windows without the right to make links
            (home / "data").mkdir()
    return digest
