"""The words that readers of the course see, taken out of its files, with where they stand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from coursework import build, config

ROOT = Path(__file__).parents[2]
COURSE = config.load(ROOT)
SKIPPED = {".venv", "work", "build", "node_modules", ".git", "downloads", ".course-cache"}
MADE_FILES = {"data/results/README.md"}  # as a whole, by a script
MADE = re.compile(r"<!-- ([\w-]+): made by .*?<!-- end \1 -->", re.S)
SAID = ("alt", "caption")  # arguments of functions that show something


def markdown_files() -> list[Path]:
    """Every Markdown file of the repository."""
    found = ROOT.rglob("*.md")
    return sorted(
        p
        for p in found
        if not SKIPPED & set(p.relative_to(ROOT).parts[:-1])
        and p.relative_to(ROOT).as_posix() not in MADE_FILES
    )


def texts() -> Iterator[tuple[str, str]]:
    """(place, Markdown) of each text cell of a lesson and of each Markdown file.

    Without the parts of files that a script has made.
    """
    for source in build.sources(COURSE):
        for i, cell in enumerate(source.cells, 1):
            if cell.kind == "markdown":
                yield f"{source.path.name}, cell {i}", cell.source
    for path in markdown_files():
        text = MADE.sub("", path.read_text(encoding="utf-8"))
        yield path.relative_to(ROOT).as_posix(), text


def captions() -> Iterator[tuple[str, str]]:
    """(place, words) of captions and alternative texts in code; what is computed is left out."""
    for source in build.sources(COURSE):
        for i, cell in enumerate(source.cells, 1):
            if cell.kind != "code":
                continue
            try:
                tree = ast.parse(cell.source)
            except SyntaxError:
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.keyword) and node.arg in SAID:
                    yield f"{source.path.name}, cell {i}, {node.arg}", _constant(node.value)


def _constant(node: ast.expr) -> str:
    """The typed parts of a string; an ellipsis where a value is put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_constant(v) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.BinOp):
        return _constant(node.left) + _constant(node.right)
    return "…"


def plain(text: str) -> str:
    """Markdown without code, mathematics, comments, addresses and names of files."""
    text = re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"^---\n.*?\n---\n", "", text, count=1, flags=re.S) if text[:3] == "---" else text
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"\$[^$\n]*(?:\n[^$\n]*)?\$", " ", text)
    text = re.sub(r"``[^`]*``|`[^`]*`", " ", text)
    text = re.sub(r"\]\([^)\s]*(?:\([^)\s]*\)[^)\s]*)*\)", "]", text)
    text = re.sub(r"https?://\S+|mailto:\S+|\S+@\S+", " ", text)
    text = re.sub(r"<[^>\n]+>", " ", text)
    files = r"py|toml|md|csv|html|json|org|com|ipynb|png|npz|wav|sqlite|xml|txt|sf2|gz"
    return re.sub(rf"\b[\w./-]+\.(?:{files})\b", " ", text)
