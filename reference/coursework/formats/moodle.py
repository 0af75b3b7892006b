"""Moodle's sheets, filled: the grading worksheet of an assignment, or a grade export.

A worksheet (``mod/assign/feedback/offline``) has Identifier "Participant 123", Grade, perhaps
Maximum Grade, and Last modified (grade), by which Moodle sees whether a grade was changed since.
"Import grades" (``grade/import/csv``) takes a grade export: rows matched by one field, which is
compared by its case, too; an empty cell or "-" takes a grade away.
"""

from __future__ import annotations

from collections.abc import Mapping

from coursework import safe
from coursework.formats import FormatError, sheets

IDS = ("Identifier", "ID number", "Email address", "Username", "idnumber", "email")
IDS += ("username", "id", "User ID")


def fill(sheet: str, points: Mapping[str, sheets.Score], item: str = "Grade") -> sheets.Filled:
    """Moodle's grading worksheet with its Grade filled, or a grade export with the column ``item``
    filled, or added as a new item where it is not there.

    Rows without a score are left as they are in a worksheet; of a grade export they are left out,
    for an empty cell would take away a grade. Raises ``FormatError`` for what Moodle would refuse.
    """
    header, body = sheets.read(sheet)
    names = [h.strip() for h in header]
    worksheet = "Identifier" in names and "Last modified (grade)" in names
    ids = [i for i, n in enumerate(names) if n in IDS]
    if not ids:
        raise FormatError(
            "this sheet has no column by which Moodle finds students: wanted is a grading "
            "worksheet (Identifier) or a grade export with Email address, ID number or Username"
        )
    if worksheet and "Grade" not in names:
        raise FormatError("this grading worksheet has no column Grade: is the grade type points?")
    column = names.index("Grade" if worksheet else item) if worksheet or item in names else None
    maximum = names.index("Maximum Grade") if "Maximum Grade" in names else None
    if maximum is None and "Maximum grade" in names:
        maximum = names.index("Maximum grade")
    out_of = sheets.one_maximum(points)
    kept = list(range(len(names))) if worksheet else [*ids, *([] if column is None else [column])]
    rows = [[names[i] for i in kept] + ([item] if column is None else [])]
    people = sheets.People("Moodle", points)
    for row in body:
        row = row + [""] * (len(names) - len(row))
        label = next((row[i] for i, n in enumerate(names) if n == "Full name"), row[ids[0]])
        score = people.find({names[i]: row[i] for i in ids}, label)
        if score is None and not worksheet:
            continue
        if score and worksheet and maximum is not None:
            sheets.same_maximum("Moodle", row[maximum].strip(), out_of, True)
        made = []
        for i in kept:
            if i == column:
                made.append(sheets.number(score.points) if score else row[i])
            elif i in ids:
                made.append(sheets.id_cell(row[i], names[i]))
            else:  # feedback is imported as it stands, so it stays as it is
                made.append(
                    row[i] if names[i].startswith("Feedback") else safe.cell(safe.line(row[i]))
                )
        if column is None:
            made.append(sheets.number(score.points))
        rows.append(made)
    return people.done(sheets.write(rows))
