"""What all formats are made from: one row for each group of cases that earns points together.

Points come by group, all or nothing, so a row is what others call a test. A row's text says
only what its own cases show; who may read it is the row's visibility.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from coursework import safe
from coursework.exercise import ID
from coursework.formats import FormatError
from coursework.judge import CaseResult, ExerciseResult
from coursework.reports import SubmissionReport

VISIBILITIES = ("visible", "after_due_date", "after_published", "hidden")
TEXT_LIMIT = 4000


@dataclass(frozen=True)
class Visibility:
    """Who may see which row, and when.

    default: of ``VISIBILITIES``, for what ``rules`` do not name. rules: "02.3" (an exercise) or
    "02.3/float64" (a group of its cases) -> one of ``VISIBILITIES``; the longer name wins.
    """

    default: str = "visible"
    rules: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.default, *self.rules.values()):
            if name not in VISIBILITIES:
                raise FormatError(f"visibility is {', '.join(VISIBILITIES)}, not {name!r}")
        for key in self.rules:
            if not ID.match(key.split("/", 1)[0]):
                raise FormatError(f"visibility of what? {key!r} is not like 02.3 or 02.3/group")

    def of(self, id: str, group: str) -> str:
        """The visibility of a group of the exercise ``id``."""
        return self.rules.get(f"{id}/{group}") or self.rules.get(id) or self.default

    @classmethod
    def parse(cls, words: Iterable[str]) -> Visibility:
        """From "after_published" (the default) and "02.3=hidden", "02.3/float64=hidden"."""
        default, rules = "visible", {}
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                rules[name] = value
            else:
                default = name
        return cls(default, rules)

    def check(self, known: dict[str, Iterable[str]]) -> None:
        """Raises where a rule names no exercise (id -> groups) that is there."""
        for key in self.rules:
            id, _, group = key.partition("/")
            if id not in known or (group and group not in known[id]):
                raise FormatError(f"visibility names {key}, which these checks do not have")


EVERYTHING = Visibility()
HIDDEN = "a hidden case"


def told(case: CaseResult, status: str) -> tuple[str, str]:
    """(name, what is wrong) of a failing case, as a learner may read it: of a hidden one nothing
    but that it fails."""
    if getattr(case, "hidden", False):
        return HIDDEN, "fails"
    return case.name, case.finding.says if case.finding else status


@dataclass(frozen=True)
class Row:
    """One group of one exercise, as it came out. text: why points are missing, "" where none."""

    id: str
    title: str
    group: str
    points: int
    out_of: int
    status: str
    text: str = ""
    visibility: str = "visible"

    @property
    def passed(self) -> bool:
        return self.points == self.out_of

    @property
    def name(self) -> str:
        """ "02.3 Title: group"; a group of the name "main" goes without saying."""
        return f"{self.id} {self.title}" + (f": {self.group}" if self.group != "main" else "")

    @property
    def slug(self) -> str:
        """The name for machines: "02.3/float64"."""
        return f"{self.id}/{self.group}"


def rows(report: SubmissionReport, visibility: Visibility = EVERYTHING) -> list[Row]:
    """The rows of ``report`` in the order of its exercises and groups.

    What is found on a whole exercise (a named mistake) is told in its first row that is lacking
    and visible; a generic finding only where the case that it was seen on is.
    """
    found = []
    for exercise in report.exercises:
        told = False
        for group, (points, out_of) in exercise.groups.items():
            seen = visibility.of(exercise.id, group)
            text = ""
            if points < out_of:
                text = _text(exercise, group, main=not told and seen == "visible")
                told = told or seen == "visible"
            found.append(
                Row(
                    exercise.id,
                    safe.line(exercise.title),
                    safe.line(group),
                    points,
                    out_of,
                    exercise.status,
                    text,
                    seen,
                )
            )
    return found


def _text(exercise: ExerciseResult, group: str, main: bool) -> str:
    lines = []
    failing = [c for c in exercise.cases if c.group == group and not c.passed]
    finding = exercise.finding
    if finding and (not exercise.cases or (main and finding.kind == "misconception")):
        name = f"{finding.name.replace('-', ' ')}: " if finding.name else ""
        kind = "A known mistake, " if finding.kind == "misconception" else ""
        lines.append(f"{kind}{name}{finding.says}")
    lines += [": ".join(told(case, exercise.status)) for case in failing]
    lines = [safe.line(text, TEXT_LIMIT) for text in lines] or [exercise.status]
    return safe.plain("\n".join(lines), TEXT_LIMIT)


def notes(report: SubmissionReport) -> list[str]:
    """What whoever reads the grade must see, beside the rows."""
    found = [safe.line(n, TEXT_LIMIT) for n in report.notes]
    if report.verdict != "ok":
        found.insert(0, f"verdict: {report.verdict}")
    return found
