"""Text that students or tracebacks wrote, made harmless for where it is going to stand."""

from __future__ import annotations

import html
import re

# Control characters and halves of surrogate pairs; marks that turn the direction of what follows.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$@:/=^])")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
CUT = " [... cut]"


def plain(text: object, limit: int | None = None) -> str:
    """``text`` without terminal escapes, control characters and turns of direction.

    Line ends become ``\\n``; what is dropped otherwise leaves a U+FFFD. limit: characters, the
    last of which say that there was more.
    """
    text = ESCAPES.sub("", str(text)).replace("\r\n", "\n").replace("\r", "\n")
    text = TURNING.sub("\ufffd", CONTROL.sub("\ufffd", text))
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


def cell(text: object) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula (OWASP: CSV injection).

    One that begins with ``= + - @``, a tab or a line end, spaces before it or not, gets an
    apostrophe in front. For names and sentences only: an id would no longer be found.
    """
    text = line(text)
    return f"'{text}" if is_formula(text) else text


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take ``text`` for a formula; plain numbers are none."""
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
        return False
    return text.startswith(FORMULA) or text.lstrip().startswith(FORMULA)
