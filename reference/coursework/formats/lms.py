"""Grade sheets for Canvas and Moodle, filled into what the system itself exported.

Only the system knows its students' ids and its assignments' names, so each of these takes a sheet
exported from there, puts points into one column and leaves the rest. A student is found by any id
in the sheet; nobody is guessed, and no row is added: Moodle refuses a whole file for one unknown
student, and Canvas would ask about each.

Canvas (``lib/gradebook_importer.rb``; its guide "How do I import grades in the Gradebook?"): the
header begins Student, ID, then perhaps SIS User ID, SIS Login ID, Integration ID, Root Account,
and Section; an assignment's column is named "Title (id)"; a row "Points Possible" follows; columns
such as "Current Score" are never read. Numbers have a point, whatever the language.

Moodle: the grading worksheet of an assignment (``mod/assign/feedback/offline``: Identifier
"Participant 123", Grade, Last modified (grade)), or a grade export for "Import grades"
(``grade/import/csv``: rows matched by one field, an empty cell or "-" is no grade).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coursework.formats import FormatError, safe
from coursework.reports import SubmissionReport

CANVAS_IDS = ("ID", "SIS User ID", "SIS Login ID", "Integration ID")
CANVAS_OWN = (*CANVAS_IDS, "Student", "LastName", "FirstName", "Root Account", "Section")
CANVAS_READ_ONLY = re.compile(
    "Current Score|Current Points|Current Grade|Final Score|Final Points|Final Grade|"
    "Override Score|Override Grade|Override Status"
)
MOODLE_IDS = ("Identifier", "ID number", "Email address", "Username", "idnumber", "email")
MOODLE_IDS += ("username", "id", "User ID")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Score:
    """Points of one student in one lesson, and how many there are."""

    points: float
    out_of: float


@dataclass
class Filled:
    """A sheet with its column filled. text: the CSV file. found: student -> how they were found.
    unknown: students with a score whom the sheet does not have. without: rows without a score."""

    text: str
    found: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)


def scores(reports: Iterable[SubmissionReport], lesson: str | None = None) -> dict[str, Score]:
    """Student -> the score of the last report, of ``lesson`` where one is named.

    Raises ``FormatError`` where reports are of several lessons and none is named.
    """
    reports = [r for r in reports if lesson in (None, r.lesson)]
    lessons = sorted({r.lesson for r in reports if r.lesson})
    if lesson is None and len(lessons) > 1:
        raise FormatError(f"these are reports of lessons {', '.join(lessons)}: name one")
    if not reports:
        raise FormatError(f"there is no report{f' of lesson {lesson}' if lesson else ''} here")
    return {r.student: Score(r.points, r.out_of) for r in reports}


def number(value: float) -> str:
    """The shortest decimal text that is ``value`` to the last digit."""
    return str(int(value)) if value == int(value) else repr(float(value))


def canvas(sheet: str, points: Mapping[str, Score], assignment: str) -> Filled:
    """Canvas' exported gradebook with the column ``assignment`` filled.

    assignment: the column's name as exported ("Lesson 02 (1234)"), its title or its id; a title
    that is not there makes a new assignment, which Canvas asks about. All other assignments are
    left out, so that nothing else can change. Raises ``FormatError`` for what Canvas would refuse.
    """
    header, body = _read(sheet)
    names = [h.strip() for h in header]
    if not names or names[0] not in ("Student", "LastName") or "ID" not in names:
        raise FormatError(
            "this is no gradebook of Canvas: its header begins Student, ID. Export it there with "
            "Gradebook, Export"
        )
    if "Section" not in names:
        raise FormatError("Canvas wants a column Section before the assignments, and it is missing")
    first = names.index("Section") + 1
    own = [i for i in range(first) if names[i] in CANVAS_OWN]
    column = _canvas_column(names, first, assignment)
    title = names[column] if column is not None else assignment
    if CANVAS_READ_ONLY.search(title):
        raise FormatError(f"Canvas never reads a column of the name {title!r}: name it otherwise")
    out_of = _one_maximum(points)
    rows: list[list[str]] = [[names[i] for i in own] + [title]]
    people = _People("Canvas", points)
    for row in body:
        row = row + [""] * (len(names) - len(row))
        old = row[column].strip() if column is not None else ""
        label = row[0].strip()
        if "Points Possible" in label:
            _same_maximum("Canvas", old, out_of, column is not None)
            rows.append([row[i] for i in own] + [old or number(out_of)])
            continue
        if all(re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", v, re.I) for v in row):
            continue
        ids = {names[i]: row[i] for i in own if names[i] in CANVAS_IDS}
        score = people.find(ids, label)
        if safe.is_formula(label) and not any(v.strip() for v in ids.values()):
            _id(label, "name without an id")
        kept = [_id(row[i], names[i]) if names[i] in CANVAS_IDS else safe.cell(row[i]) for i in own]
        rows.append([*kept, number(score.points) if score else old])
    if column is None and not any("Points Possible" in r[0] for r in rows[1:]):
        rows.insert(1, ["    Points Possible", *[""] * (len(own) - 1), number(out_of)])
    return people.done(_write(rows))


def _canvas_column(names: list[str], first: int, assignment: str) -> int | None:
    def fits(name: str) -> bool:
        match = re.fullmatch(r"(.*?)\s*\((\d+)\)", name)
        return assignment == name or bool(match and assignment in match.groups())

    fitting = [i for i in range(first, len(names)) if fits(names[i])]
    if len(fitting) > 1:
        several = ", ".join(names[i] for i in fitting)
        raise FormatError(f"several assignments of Canvas fit {assignment!r}: {several}")
    return fitting[0] if fitting else None


def moodle(sheet: str, points: Mapping[str, Score], item: str = "Grade") -> Filled:
    """Moodle's grading worksheet with its Grade filled, or a grade export with the column ``item``
    filled, or added as a new item where it is not there.

    Rows without a score are left as they are in a worksheet; of a grade export they are left out,
    for an empty cell would take away a grade. Raises ``FormatError`` for what Moodle would refuse.
    """
    header, body = _read(sheet)
    names = [h.strip() for h in header]
    worksheet = "Identifier" in names and "Last modified (grade)" in names
    ids = [i for i, n in enumerate(names) if n in MOODLE_IDS]
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
    out_of = _one_maximum(points)
    kept = list(range(len(names))) if worksheet else [*ids, *([] if column is None else [column])]
    rows = [[names[i] for i in kept] + ([item] if column is None else [])]
    people = _People("Moodle", points)
    for row in body:
        row = row + [""] * (len(names) - len(row))
        label = next((row[i] for i, n in enumerate(names) if n == "Full name"), row[ids[0]])
        score = people.find({names[i]: row[i] for i in ids}, label)
        if score is None and not worksheet:
            continue
        if score and worksheet and maximum is not None:
            _same_maximum("Moodle", row[maximum].strip(), out_of, True)
        made = []
        for i in kept:
            if i == column:
                made.append(number(score.points) if score else row[i])
            elif i in ids:
                made.append(_id(row[i], names[i]))
            else:
                made.append(safe.cell(row[i]) if worksheet else row[i])
        if column is None:
            made.append(number(score.points))
        rows.append(made)
    return people.done(_write(rows))


class _People:
    """Finds students by any id; each row's at most once, and nobody twice."""

    def __init__(self, system: str, points: Mapping[str, Score]) -> None:
        self.system, self.points = system, points
        self.known: dict[str, str] = {}
        for student in points:
            key = _key(student)
            if key in self.known:
                raise FormatError(f"{self.known[key]!r} and {student!r} differ only in case")
            self.known[key] = student
        self.found: dict[str, str] = {}
        self.without: list[str] = []

    def find(self, ids: Mapping[str, str], label: str) -> Score | None:
        hits: dict[str, str] = {}
        for column, value in ids.items():
            for form in _forms(column, value):
                if form in self.known:
                    hits.setdefault(self.known[form], f"{column} {value.strip()}")
        if not hits and _key(label) in self.known:
            hits[self.known[_key(label)]] = f"name {label}"
        if len(hits) > 1:
            raise FormatError(
                f"the row of {label!r} in {self.system}'s sheet fits several students: "
                f"{', '.join(sorted(hits))}"
            )
        if not hits:
            self.without.append(label)
            return None
        student, how = next(iter(hits.items()))
        if student in self.found:
            raise FormatError(
                f"{student!r} fits two rows of {self.system}'s sheet: {self.found[student]} and "
                f"{how}. Name submissions by an id, not by name"
            )
        self.found[student] = how
        return self.points[student]

    def done(self, text: str) -> Filled:
        unknown = sorted(s for s in self.points if s not in self.found)
        return Filled(text, self.found, unknown, self.without)


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _forms(column: str, value: str) -> list[str]:
    """What an id may be called in a submission's name: an address also by what is before its @,
    Moodle's "Participant 123" also by its number."""
    key = _key(value)
    if not key:
        return []
    forms = [key]
    if column.lower().startswith("email") and "@" in key:
        forms.append(key.split("@", 1)[0])
    if column == "Identifier" and (found := re.search(r"\d+$", key)):
        forms.append(found[0])
    return forms


def _id(value: str, column: str) -> str:
    """An id as it is: changed it would not be found, so one that is a formula is refused."""
    if safe.is_formula(value):
        raise FormatError(
            f"the {column} {value!r} would be a formula in a spreadsheet, and changed it would not "
            "be found: remove that row, and type its grade in"
        )
    return safe.plain(value)


def _one_maximum(points: Mapping[str, Score]) -> float:
    maxima = {s.out_of for s in points.values() if s.out_of}
    if len(maxima) != 1:
        told = ", ".join(map(number, sorted(maxima))) or "none"
        raise FormatError(f"one maximum is wanted for all scores, and there are: {told}")
    return maxima.pop()


def _same_maximum(system: str, there: str, out_of: float, exists: bool) -> None:
    if exists and NUMBER.fullmatch(there) and float(there.replace(",", ".")) != out_of:
        raise FormatError(
            f"the assignment in {system} is out of {there} points, and the lesson out of "
            f"{number(out_of)}: set it to {number(out_of)} there, so that points mean the same"
        )


def _read(sheet: str) -> tuple[list[str], list[list[str]]]:
    sheet = sheet.removeprefix("\ufeff")
    first = sheet.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [r for r in csv.reader(io.StringIO(sheet, newline=""), delimiter=delimiter) if r]
    except csv.Error as error:
        raise FormatError(f"the sheet is not CSV: {error}") from None
    if not rows:
        raise FormatError("the sheet is empty")
    return rows[0], [r for r in rows[1:] if any(v.strip() for v in r)]


def _write(rows: list[list[str]]) -> str:
    made = io.StringIO(newline="")
    csv.writer(made, lineterminator="\r\n").writerows(rows)
    return made.getvalue()
