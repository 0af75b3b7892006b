"""Reads learners' notebooks, whatever an editor did to them, and finds the answers in them.

Reading is plain ``json`` with a small normalisation, not nbformat: a submission is read in a few
milliseconds, and a missing id, an unknown kernel or an old format costs nobody points.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursework.exercise import ID, Exercise

SIZE_LIMIT = 50 * 2**20
LISTS_LIMIT, VALUES_LIMIT = 1_000_000, 1_000_000  # a list of two bytes takes 64 in memory
PERCENT_LIMIT, CELLS_LIMIT = 1_000_000, 2000
HEADER = re.compile(r"\A\s*# ---\n(?:#.*\n)*?# ---\n")
CALLS_CHECK = re.compile(r"""\bcheck\(\s*["'](\d\d\.\d{1,2})["']""")
NOT_PYTHON = {"bash", "sh", "script", "html", "HTML", "javascript", "js", "latex", "markdown"}
NOT_PYTHON |= {"svg", "SVG", "perl", "ruby", "writefile", "file", "cmd", "system", "sx", "!"}


class InvalidNotebook(ValueError):
    """A file that is not a notebook; the message says in what way."""


@dataclass
class Cell:
    """One cell. kind: code, markdown or raw. number: its place among the non-empty code cells,
    from 1 (what Jupyter shows as ``[3]`` when all cells have run in order), or 0."""

    kind: str
    source: str
    metadata: dict = field(default_factory=dict)
    id: str = ""
    number: int = 0
    outputs: list = field(default_factory=list)
    attachments: dict = field(default_factory=dict)

    @property
    def tags(self) -> tuple[str, ...]:
        tags = self.metadata.get("tags")
        return tuple(t for t in tags if isinstance(t, str)) if isinstance(tags, list) else ()

    @property
    def exercise(self) -> str:
        """The exercise id in the cell's metadata, or ""."""
        value = self.metadata.get("exercise")
        return value if isinstance(value, str) and ID.match(value) else ""


@dataclass
class Notebook:
    """Cells in order, the notebook's metadata and where it came from."""

    cells: list[Cell]
    metadata: dict = field(default_factory=dict)
    path: Path | None = None
    nbformat: tuple[int, int] = (4, 5)

    @property
    def code(self) -> list[Cell]:
        """The non-empty code cells."""
        return [c for c in self.cells if c.number]


@dataclass
class Extracted:
    """What of a notebook belongs to one exercise.

    status: "ok"; "not attempted" (the stub is untouched); "missing" (no answer is there); "error"
    (the answer's cell is not Python); "forbidden" (it imports what it may not). says: a sentence
    for every status but "ok". chunks: (label, source), in the order to run them, the label
    naming the cell and the lines being where they are in that cell.
    """

    id: str
    status: str = "ok"
    chunks: list[tuple[str, str]] = field(default_factory=list)
    says: str = ""


def read(path: Path | str) -> Notebook:
    """The notebook in ``path``: ``.ipynb`` of format 3 or 4, or a ``.py`` in percent format.

    Raises ``InvalidNotebook`` for a file that is empty, over 50 MB, not text, not JSON or not a
    notebook, and ``OSError`` where the file cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise InvalidNotebook(
            f"{path.name} has {size / 1e6:.0f} MB, more than the {SIZE_LIMIT / 1e6:.0f} MB "
            "allowed: clear its outputs and save it again"
        )
    return parse(path.read_bytes(), path)


def parse(data: bytes, path: Path | str = "notebook.ipynb") -> Notebook:
    """The notebook in ``data``; ``path`` names it and tells ``.py`` from ``.ipynb``."""
    path = Path(path)
    if not data.strip():
        raise InvalidNotebook(f"{path.name} is empty")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidNotebook(f"{path.name} is not a text file") from None
    if path.suffix == ".py":
        return _parse_percent(text, path)
    if text.count("[") + text.count("{") > LISTS_LIMIT or text.count(",") > VALUES_LIMIT:
        raise InvalidNotebook(
            f"{path.name} holds more lists or values than a notebook: clear its outputs and save "
            "it again"
        )
    try:
        tree = json.loads(text)
    except RecursionError:
        raise InvalidNotebook(f"{path.name} is nested too deeply for a notebook") from None
    except ValueError as error:
        raise InvalidNotebook(f"{path.name} is not JSON: {error}") from None
    return _normalise(tree, path)


def _parse_percent(text: str, path: Path) -> Notebook:
    import jupytext

    text = _lines(text)
    # jupytext takes a time that grows faster than the text, and reads a header as YAML, whose
    # aliases can stand for more than all memory. Nothing of a header is needed.
    text = HEADER.sub("", text).lstrip("\n")
    if len(text) > PERCENT_LIMIT or text.count("# %%") > CELLS_LIMIT:
        raise InvalidNotebook(
            f"{path.name} has {len(text) / 1e6:.1f} MB and {text.count('# %%')} cells, more than "
            f"the {PERCENT_LIMIT / 1e6:.0f} MB and {CELLS_LIMIT} cells allowed in a .py file"
        )
    try:
        tree = jupytext.reads(text, fmt="py:percent")
    except Exception as error:
        raise InvalidNotebook(f"{path.name} is not in percent format: {error}") from None
    return _normalise(tree, path)


def _normalise(tree: Any, path: Path) -> Notebook:
    def refuse(why: str) -> InvalidNotebook:
        return InvalidNotebook(f"{path.name} is not a notebook: {why}")

    if not isinstance(tree, dict):
        raise refuse(f"it holds a JSON {type(tree).__name__}, where an object is wanted")
    major, minor = tree.get("nbformat", 4), tree.get("nbformat_minor", 0)
    if major not in (3, 4) or isinstance(major, bool):
        raise refuse(f"format {major!r} is not known; save it as format 4")
    cells = tree.get("cells")
    if major == 3 and cells is None:
        sheets = tree.get("worksheets")
        sheets = [s for s in sheets if isinstance(s, dict)] if isinstance(sheets, list) else None
        cells = sheets and [c for s in sheets for c in s.get("cells") or []]
    if not isinstance(cells, list):
        raise refuse("it has no list of cells")
    found, number = [], 0
    for i, raw in enumerate(cells, 1):
        if not isinstance(raw, dict):
            raise refuse(f"cell {i} is a {type(raw).__name__}, where an object is wanted")
        kind = raw.get("cell_type")
        source = raw.get("source", raw.get("input", ""))
        if isinstance(source, list) and all(isinstance(s, str) for s in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise refuse(f"the source of cell {i} is not text")
        if kind not in ("code", "markdown", "raw"):
            kind = "markdown" if kind in ("heading", "html") else "raw"
        metadata = raw.get("metadata")
        outputs, attached = raw.get("outputs"), raw.get("attachments")
        cell = Cell(
            kind,
            _lines(source),
            metadata if isinstance(metadata, dict) else {},
            raw["id"] if isinstance(raw.get("id"), str) else "",
            outputs=outputs if isinstance(outputs, list) else [],
            attachments=attached if isinstance(attached, dict) else {},
        )
        if kind == "code" and source.strip():
            number += 1
            cell.number = number
        found.append(cell)
    metadata = tree.get("metadata")
    minor = minor if isinstance(minor, int) else 0
    return Notebook(found, metadata if isinstance(metadata, dict) else {}, path, (major, minor))


def _lines(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    if not text.isascii():  # half a surrogate pair can be written in JSON, and compiled never
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def lesson_of(notebook: Notebook) -> str | None:
    """Number of the lesson that ``notebook`` is of ("02"), or None where nothing tells.

    Looks at the metadata that the builder wrote, then at the exercise ids of cells, then at the
    calls of ``check``, then at the file's name.
    """
    own = notebook.metadata.get("coursework")
    number = own.get("lesson") if isinstance(own, dict) else None
    if isinstance(number, str) and re.fullmatch(r"\d\d", number):
        return number
    ids = [c.exercise for c in notebook.cells if c.exercise]
    ids = ids or [i for c in notebook.code for i in CALLS_CHECK.findall(c.source)]
    if ids:
        return Counter(i[:2] for i in ids).most_common(1)[0][0]
    named = re.match(r"(?:.*[^0-9])?(\d\d)[_\-. ]", notebook.path.name) if notebook.path else None
    return named[1] if named else None


def extract(
    notebook: Notebook,
    exercise: Exercise,
    library: str,
    provides: Iterable[str],
    skip_names: Iterable[str] = (),
) -> Extracted:
    """The learner's answer to ``exercise`` with all that it needs of the other cells.

    library: the package whose parts are asked for ("undiffuse"). provides: its modules that
    answers may import. skip_names: names that the grader supplies itself.
    """
    from coursework.slicing import Slicer

    return Slicer(notebook, exercise, library, tuple(provides), frozenset(skip_names)).run()


def python_source(source: str) -> str:
    """``source`` of a cell with IPython's own syntax made harmless, every line in its place.

    ``%magic``, ``!command`` and ``name?`` become ``pass``, ``x = !ls`` becomes ``x = None``,
    ``%time statement`` the statement; cells in another language become blank.
    """
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is not None and lines[first].lstrip().startswith("%%"):
        words = lines[first].lstrip()[2:].split()
        if not words or words[0] in NOT_PYTHON:
            return "\n" * (len(lines) - 1)
        lines[first] = ""
    depth, quote, joined = 0, "", False
    for i, line in enumerate(lines):
        if not depth and not quote and not joined:
            lines[i] = line = _without_magic(line)
        depth, quote, joined = _scan(line, depth, quote)
    return "\n".join(lines)


ASSIGNS_MAGIC = re.compile(r"^(\s*[A-Za-z_][\w, .]*=\s*)[%!]")


def _without_magic(line: str) -> str:
    text = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    timed = re.match(r"%time\s+(?!-)(.+)", text)
    if timed:
        return indent + timed[1]
    if text[:1] in ("%", "!", "?"):
        return indent + "pass"
    if text.endswith("?") and "#" not in text:
        return indent + "pass"
    assigned = ASSIGNS_MAGIC.match(line)
    return f"{assigned[1]}None" if assigned else line


def _scan(line: str, depth: int, quote: str) -> tuple[int, str, bool]:
    """Bracket depth, open triple quote and whether the line is continued, after ``line``."""
    i, single = 0, ""
    while i < len(line):
        c = line[i]
        if quote or single:
            end = quote or single
            if c == "\\":
                i += 1
            elif line.startswith(end, i):
                i += len(end) - 1
                quote = single = ""
        elif c in "\"'":
            if line.startswith(c * 3, i):
                quote = c * 3
                i += 2
            else:
                single = c
        elif c == "#":
            return depth, quote, False
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth = max(0, depth - 1)
        i += 1
    return depth, quote, line.endswith("\\") and not quote
