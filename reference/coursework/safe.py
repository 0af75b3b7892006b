"""Text that students or tracebacks wrote, made harmless for where it is going to stand.

``plain`` is what every page, table, format and line on a terminal is cleaned with. Names that are
compared are narrower still: see ``names``.
"""

from __future__ import annotations

import html
import re
from typing import Any

# Colours of a terminal, titles of its window, links and the like. Each alternative takes what it
# reads, so that no text makes the search slow.
ESCAPES = re.compile(
    r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]?|[PX^_][^\x1b]*(?:\x1b\\)?"
    r"|[^\x1b\n])?"
)
# What is left of control signs, and signs that turn the direction of text around, with which one
# name can look like another.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
SURROGATES = re.compile("[\ud800-\udfff]")
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$@:/=^])")
FORMULA = re.compile(r"\s*[=+\-@\t\r\n＝＋－＠]")  # \s counts spaces of every width
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
CUT = " [... cut]"


def plain(text: object, limit: int | None = None) -> str:
    """``text`` without terminal codes, control signs and signs that change its direction.

    Line ends become ``\\n``; half a surrogate pair becomes U+FFFD. limit: characters, the last of
    which say that there was more.
    """
    text = ESCAPES.sub("", str(text).replace("\r\n", "\n").replace("\r", "\n"))
    text = SURROGATES.sub("\ufffd", CONTROLS.sub("", text))
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - len(CUT))] + CUT
    return text


def line(text: object, limit: int | None = None) -> str:
    """``plain`` text on one line."""
    return plain(" ".join(plain(text).split()), limit)


def markdown(text: object, limit: int | None = None) -> str:
    """One line that Markdown shows as it stands: no link, image, mention, HTML or table mark.

    GitHub looks for mentions in what comes out of Markdown, so an @ is parted from its name by a
    space without width.
    """
    shown = html.escape(line(text, limit), quote=False)
    return MARKDOWN.sub(r"\\\1", shown).replace("@", "@\u200b")


def fence(text: object, limit: int | None = None) -> str:
    """A fenced block of Markdown that holds ``text``; no line in it can end the fence.

    CommonMark 0.31, 4.5: a fence is closed by at least as many backticks as opened it.
    """
    text = plain(text, limit)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{text}\n{marks}"


def cell(value: Any) -> Any:
    """``value`` for a cell of a CSV file: numbers as they are, None empty, and text so that no
    spreadsheet takes it for a formula (OWASP: CSV injection).

    Text that begins with ``= + - @``, a tab or a line end, spaces before it or not, gets an
    apostrophe in front. For names and sentences only: an id would no longer be found.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return "" if value is None else value
    text = plain(value)
    return f"'{text}" if is_formula(text.lstrip("'")) else text


def uncell(text: str) -> str:
    """The inverse of ``cell`` for text that has come back from a spreadsheet."""
    return text[1:] if text.startswith("'") and is_formula(text.lstrip("'")) else text


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take ``text`` for a formula; plain numbers are none."""
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)
