"""Canvas' gradebook, filled: ``lib/gradebook_importer.rb`` and "How do I import grades in the
Gradebook?".

The header begins Student, ID, then perhaps SIS User ID, SIS Login ID, Integration ID, Root Account,
and Section; an assignment's column is named "Title (id)"; a row "Points Possible" follows; columns
such as "Current Score" are never read. Numbers have a point, whatever the language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from coursework import safe
from coursework.formats import FormatError, sheets

IDS = ("ID", "SIS User ID", "SIS Login ID", "Integration ID")
OWN = (*IDS, "Student", "LastName", "FirstName", "Root Account", "Section")
READ_ONLY = re.compile(
    "Current Score|Current Points|Current Grade|Final Score|Final Points|Final Grade|"
    "Override Score|Override Grade|Override Status"
)


def fill(sheet: str, points: Mapping[str, sheets.Score], assignment: str) -> sheets.Filled:
    """Canvas' exported gradebook with the column ``assignment`` filled.

    assignment: the column's name as exported ("Lesson 02 (1234)"), its title or its id; a title
    that is not there makes a new assignment, which Canvas asks about. All other assignments are
    left out, so that nothing else can change. Raises ``FormatError`` for what Canvas would refuse.
    """
    header, body = sheets.read(sheet)
    names = [h.strip() for h in header]
    if not names or names[0] not in ("Student", "LastName") or "ID" not in names:
        raise FormatError(
            "this is no gradebook of Canvas: its header begins Student, ID. Export it there with "
            "Gradebook, Export"
        )
    if "Section" not in names:
        raise FormatError("Canvas wants a column Section before the assignments, and it is missing")
    first = names.index("Section") + 1
    own = [i for i in range(first) if names[i] in OWN]
    column = _column(names, first, assignment)
    title = names[column] if column is not None else assignment
    if READ_ONLY.search(title):
        raise FormatError(f"Canvas never reads a column of the name {title!r}: name it otherwise")
    out_of = sheets.one_maximum(points)
    rows: list[list[str]] = [[names[i] for i in own] + [title]]
    people = sheets.People("Canvas", points)
    for row in body:
        row = row + [""] * (len(names) - len(row))
        old = row[column].strip() if column is not None else ""
        label = row[0].strip()
        if "Points Possible" in label:
            sheets.same_maximum("Canvas", old, out_of, column is not None)
            rows.append([row[i] for i in own] + [old or sheets.number(out_of)])
            continue
        if all(re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", v, re.I) for v in row):
            continue
        ids = {names[i]: row[i] for i in own if names[i] in IDS}
        score = people.find(ids, label)
        if safe.is_formula(label) and not any(v.strip() for v in ids.values()):
            sheets.id_cell(label, "name without an id")
        kept = [_kept(names[i], row[i]) for i in own]
        rows.append([*kept, sheets.number(score.points) if score else old])
    if column is None and not any("Points Possible" in r[0] for r in rows[1:]):
        rows.insert(1, ["    Points Possible", *[""] * (len(own) - 1), sheets.number(out_of)])
    return people.done(sheets.write(rows))


def _kept(name: str, value: str) -> str:
    return sheets.id_cell(value, name) if name in IDS else safe.cell(safe.line(value))


def _column(names: list[str], first: int, assignment: str) -> int | None:
    def fits(name: str) -> bool:
        match = re.fullmatch(r"(.*?)\s*\((\d+)\)", name)
        return assignment == name or bool(match and assignment in match.groups())

    fitting = [i for i in range(first, len(names)) if fits(names[i])]
    if len(fitting) > 1:
        several = ", ".join(names[i] for i in fitting)
        raise FormatError(f"several assignments of Canvas fit {assignment!r}: {several}")
    return fitting[0] if fitting else None
