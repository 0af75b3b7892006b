"""Turns the docstrings of ``undiffuse``, which are plain text, into what Sphinx reads.

They are written for people who read code: paragraphs, lines ``name: what it is``, tables and
examples set by spaces, ``code`` between backquotes. Sphinx would take stars and underscores in
them for markup.
"""

from __future__ import annotations

import re
import textwrap

ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*(?: \([^)]*\))?): (.*)", re.S)
CODE = re.compile(r"``([^`]+)``|`([^`]+)`")
MARKUP = re.compile(r"([\\*`|_])")


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """For Sphinx's event ``autodoc-process-docstring``: changes ``lines`` in place."""
    lines[:] = to_rst("\n".join(lines)).split("\n")


def to_rst(text: str) -> str:
    """The docstring as reStructuredText: nothing in it is taken for markup but code."""
    blocks = re.split(r"\n[ \t]*\n", text.strip("\n").expandtabs())
    out = []
    for block in blocks:
        if not block.strip():
            continue
        rows = block.split("\n")
        if all(row.startswith("    ") for row in rows if row.strip()):
            out.append(_literal(block))
            continue
        out += [_part(part) for part in _parts(rows)]
    return "\n\n".join(out) + "\n"


def _parts(rows: list[str]) -> list[list[str]]:
    """Rows that belong together: an entry with what hangs below it, a paragraph, a list item."""
    parts: list[list[str]] = []
    for row in rows:
        begins = not row.startswith(" ") and (ENTRY.match(row) or row.startswith("- "))
        if begins or not parts:
            parts.append([row])
        else:
            parts[-1].append(row)
    return parts


def _part(rows: list[str]) -> str:
    hanging = [r for r in rows[1:] if r.strip()]
    starts_list = ENTRY.match(rows[0]) or rows[0].startswith("- ")
    if hanging and not starts_list and all(r.startswith("    ") for r in hanging):
        # A sentence, and a table or an example below it.
        return f"{escape(rows[0])}\n\n{_literal(chr(10).join(rows[1:]))}"
    text = " ".join(r.strip() for r in rows)
    if text.startswith("- "):
        return f"* {escape(text[2:])}"
    entry = ENTRY.match(text)
    if entry:
        return f"* ``{entry[1]}``: {escape(entry[2])}"
    return escape(text)


def _literal(block: str) -> str:
    return "::\n\n" + textwrap.indent(textwrap.dedent(block), "    ")


def escape(text: str) -> str:
    """Plain words with ``code`` in them, for reStructuredText."""
    out, last = [], 0
    for found in CODE.finditer(text):
        out.append(MARKUP.sub(r"\\\1", text[last : found.start()]))
        code = (found[1] or found[2]).strip()
        out.append(f"\\ ``{code}``\\ ")
        last = found.end()
    out.append(MARKUP.sub(r"\\\1", text[last:]))
    return "".join(out).strip()
