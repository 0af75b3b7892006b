"""Names that students chose, made fit to be shown, compared and written to a file.

A name may hold anything: control characters that move a terminal's cursor, marks that reverse
the order of letters, letters that cannot be seen. What is shown has none of them. Two names that
are the same once cleaned are not taken for the same person: see ``submissions``.
"""

from __future__ import annotations

import unicodedata

from coursework.safe import plain

JOINERS = "\u200c\u200d"  # Persian and Indian names are written with them
LIMIT = 120


def clean(name: str) -> str:
    """``name`` in NFC without characters that cannot be seen, and without spaces around it.

    Joiners stay between letters. What is longer than ``LIMIT`` characters is cut. An empty name
    becomes "unnamed".
    """
    name = plain(name.encode("utf-8", "replace").decode("utf-8"))
    kept = []
    for i, c in enumerate(unicodedata.normalize("NFC", name)):
        category = unicodedata.category(c)
        if c in JOINERS and kept and kept[-1].isalpha() and i + 1 < len(name):
            kept.append(c)
        elif category in ("Zs", "Zl", "Zp") or c in "\t\n\r":
            kept.append(" ")
        elif category[0] != "C":
            kept.append(c)
    return " ".join("".join(kept).split())[:LIMIT].strip() or "unnamed"


def shown(path: str) -> str:
    """A path as ``clean`` shows its parts."""
    return "/".join(clean(p) for p in path.replace("\\", "/").split("/") if p)


def nearest(word: str, known) -> str:
    """ "; did you mean X?" for the nearest of ``known``, or ""."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
