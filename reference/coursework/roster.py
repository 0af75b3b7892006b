"""Who is in a class, and by which names and numbers each platform knows them: a CSV file.

The first column, ``id``, is what the gradebook calls a student. All others are other ways to know
the same one: ``name``, ``email``, ``canvas``, ``github``, whatever there is.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from coursework.errors import GradingError
from coursework.names import clean


class RosterError(GradingError):
    """A roster that cannot be used; the message says which line and why."""

    exit_code = 7


@dataclass(frozen=True)
class Roster:
    """ids: in the order of the file. rows: id -> column -> value."""

    ids: tuple[str, ...]
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Roster:
        """The roster in ``path``: UTF-8, separated by commas, semicolons or tabs."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise RosterError(f"the roster {path.name} cannot be read: {error}") from None
        return cls.parse(text, path.name)

    @classmethod
    def parse(cls, text: str, name: str = "roster") -> Roster:
        """The roster in ``text``."""
        lines = text.splitlines()
        first = lines[0] if lines else ""
        mark = max(",;\t", key=first.count)
        rows: dict[str, dict[str, str]] = {}
        reader = csv.DictReader(lines, delimiter=mark)
        columns = [c.strip().lower() for c in reader.fieldnames or ()]
        if not columns or columns[0] != "id":
            raise RosterError(f"{name}: its first column must be called id, not {first[:40]!r}")
        reader.fieldnames = columns
        for row in reader:
            values = {k: clean(v) for k, v in row.items() if k and v and v.strip()}
            if not values:
                continue
            if "id" not in values:
                raise RosterError(f"{name}, line {reader.line_num}: it has no id")
            if values["id"] in rows:
                raise RosterError(
                    f"{name}, line {reader.line_num}: {values['id']!r} is there twice"
                )
            rows[values["id"]] = values
        if not rows:
            raise RosterError(f"{name} names nobody")
        return cls(tuple(rows), rows)

    def match(self, ids: Iterable[str]) -> str | None:
        """The id of the one student that any of ``ids`` names, earlier ones first, or None.

        Capitals, spaces and accents written in two ways make no difference. "Lovelace, Ada",
        "Ada Lovelace" and Canvas's "lovelaceada" are one name; one that two students share is
        nobody's.
        """
        known = self._known
        for text in ids:
            for key in _keys(text):
                found = known.get(key, set())
                if len(found) == 1:
                    return next(iter(found))
        return None

    @cached_property
    def _known(self) -> dict[str, set[str]]:
        known: defaultdict[str, set[str]] = defaultdict(set)
        for id, values in self.rows.items():
            for column, value in values.items():
                for key in _keys(value, column == "name"):
                    known[key].add(id)
        for id in self.rows:
            known[_bare(id)] = {
                id
            }  # whoever has it as id comes before who has it as something else
        return known


def _bare(text: str) -> str:
    return clean(text).casefold()


def _keys(text: str, is_name: bool = False) -> list[str]:
    """``text`` as it may be written elsewhere."""
    found = [_bare(text)]
    words = re.findall(r"[^\W_]+", found[0])
    if is_name and len(words) > 1:
        last, comma, first = found[0].partition(",")
        if comma:
            found.append(" ".join(f"{first} {last}".split()))
            found.append("".join(re.findall(r"\w", last + first)))
        else:
            # Where a sortable name begins is not written: any place could be it.
            found += ["".join(words[i:] + words[:i]) for i in range(len(words))]
    return found
