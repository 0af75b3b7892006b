"""Grade sheets that a school's system exported, with points put into one column.

Only the system knows its students' ids and its assignments' names, so a sheet exported from there
is filled, and the rest of it left. A student is found by any id in the sheet; nobody is guessed,
and no row is added: Moodle refuses a whole file for one unknown student, and Canvas would ask
about each. ``canvas`` and ``moodle`` know the rules of each system.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from coursework import safe
from coursework.formats import FormatError
from coursework.scores import StudentScore

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


def final(found: Mapping[str, StudentScore], lesson: str | None = None) -> dict[str, Score]:
    """Student -> what counts in the end of ``lesson``, after lateness, extensions and given points,
    for those who handed in or were given points.

    Raises ``FormatError`` where there are several lessons and none is named.
    """
    of = [
        (student, number, one)
        for student, score in found.items()
        for number, one in score.lessons.items()
        if lesson in (None, number) and (one.handed_in or one.final)
    ]
    lessons = sorted({number for _, number, _ in of})
    if len(lessons) > 1:
        raise FormatError(f"these are scores of lessons {', '.join(lessons)}: name one")
    if not of:
        raise FormatError(f"there is no score{f' of lesson {lesson}' if lesson else ''} here")
    return {student: Score(float(one.final), float(one.out_of)) for student, _, one in of}


def number(value: float) -> str:
    """The shortest decimal text that is ``value`` to the last digit."""
    return str(int(value)) if value == int(value) else repr(float(value))


class People:
    """Finds students by any id; each row's at most once, and nobody twice."""

    def __init__(self, system: str, points: Mapping[str, Score]) -> None:
        self.system, self.points = system, points
        self.known: dict[str, str] = {}
        for student in points:
            known = key(student)
            if known in self.known:
                raise FormatError(f"{self.known[known]!r} and {student!r} differ only in case")
            self.known[known] = student
        self.found: dict[str, str] = {}
        self.without: list[str] = []

    def find(self, ids: Mapping[str, str], label: str) -> Score | None:
        """The score of the row with ``ids`` (column -> id), or of the name ``label``."""
        hits: dict[str, str] = {}
        for column, value in ids.items():
            for form in forms(column, value):
                if form in self.known:
                    hits.setdefault(self.known[form], f"{column} {value.strip()}")
        if not hits and key(label) in self.known:
            hits[self.known[key(label)]] = f"name {label}"
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
        """``text`` with who was found and who was not."""
        unknown = sorted(s for s in self.points if s not in self.found)
        return Filled(text, self.found, unknown, self.without)


def key(text: str) -> str:
    """``text`` as it is compared: by its words, whatever their case."""
    return " ".join(text.split()).casefold()


def forms(column: str, value: str) -> list[str]:
    """What an id may be called in a submission's name: an address also by what is before its @,
    Moodle's "Participant 123" also by its number."""
    form = key(value)
    if not form:
        return []
    found = [form]
    if column.lower().startswith("email") and "@" in form:
        found.append(form.split("@", 1)[0])
    if column == "Identifier" and (digits := re.search(r"\d+$", form)):
        found.append(digits[0])
    return found


def id_cell(value: str, column: str) -> str:
    """An id as it is: changed it would not be found, so one that is a formula is refused."""
    if safe.is_formula(value):
        raise FormatError(
            f"the {column} {value!r} would be a formula in a spreadsheet, and changed it would not "
            "be found: remove that row, and type its grade in"
        )
    return safe.plain(value)


def one_maximum(points: Mapping[str, Score]) -> float:
    """What all of ``points`` are out of; raises where that is not one number."""
    maxima = {s.out_of for s in points.values() if s.out_of}
    if len(maxima) != 1:
        told = ", ".join(map(number, sorted(maxima))) or "none"
        raise FormatError(f"one maximum is wanted for all scores, and there are: {told}")
    return maxima.pop()


def same_maximum(system: str, there: str, out_of: float, exists: bool) -> None:
    """Raises where an assignment that exists there is out of another number of points."""
    if exists and NUMBER.fullmatch(there) and float(there.replace(",", ".")) != out_of:
        raise FormatError(
            f"the assignment in {system} is out of {there} points, and the lesson out of "
            f"{number(out_of)}: set it to {number(out_of)} there, so that points mean the same"
        )


def read(sheet: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows that are not empty) of a sheet with commas, semicolons or tabs."""
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


def write(rows: list[list[str]]) -> str:
    """``rows`` as CSV with commas, each line ended as RFC 4180 has it."""
    made = io.StringIO(newline="")
    csv.writer(made, lineterminator="\r\n").writerows(rows)
    return made.getvalue()
