"""What a teacher decides for one class: ``class.toml``, and the roster beside it.

[class]
title = "Diffusion, spring"
timezone = "Europe/Berlin"        # of times without an offset; UTC
roster = "roster.csv"             # columns: id, name, and any others by which to know a student
seeds = "per student"             # or "one"; from the file named by secret
secret = "class.secret"

[late]
grace_minutes = 15
percent_per_day = 10              # for each day begun
of = "earned"                     # or "possible": of what the lesson is worth
cut_off_days = 7                  # later than that counts nothing
stamp_days = 1                    # what a LATE stamp without a time counts as

[lessons.05]
due = 2026-12-01T23:59:00
weight = 2
may_drop = false

[total]
keep = "newest"                   # or "best", of a student's attempts
drop_lowest = 1
best_of = 6

[groups]
red = ["ada", "bo"]

[[extensions]]
student = "ada"
lessons = ["05"]
days = 3                          # or until = 2026-12-09T12:00:00
reason = "ill"

[[overrides]]
student = "bo"
lesson = "05"
exercise = "05.3"                 # without it, the whole lesson, late or not
points = 4
reason = "the check was wrong"
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import math
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from coursework.class_secret import class_secret
from coursework.errors import GradingError
from coursework.names import nearest
from coursework.roster import Roster, RosterError

FILE = "class.toml"
NOTEBOOKS = (".ipynb", ".py")
SEED_BITS = 48  # exact as a number of JavaScript, too


class ClassError(GradingError):
    """A class's file that cannot be used; the message says where and what is wanted."""

    exit_code = 7


@dataclass(frozen=True)
class Late:
    """See the module; ``cut_off_days`` None: there is none."""

    grace_minutes: Fraction = Fraction(0)
    percent_per_day: Fraction = Fraction(0)
    of: str = "earned"
    cut_off_days: Fraction | None = None
    stamp_days: Fraction = Fraction(1)


@dataclass(frozen=True)
class LessonRules:
    """Of one lesson: when it is due (aware, or None), its weight, whether it may be dropped."""

    due: dt.datetime | None = None
    weight: Fraction = Fraction(1)
    may_drop: bool = True


@dataclass(frozen=True)
class Extension:
    """More time for one student; ``lessons`` empty means all."""

    student: str
    reason: str
    lessons: tuple[str, ...] = ()
    days: Fraction = Fraction(0)
    until: dt.datetime | None = None


@dataclass(frozen=True)
class Override:
    """Points that a teacher gives; ``exercise`` "" means the whole lesson."""

    student: str
    lesson: str
    points: Fraction
    reason: str
    exercise: str = ""


@dataclass(frozen=True)
class Class:
    """All that is decided for a class; the default decides nothing."""

    title: str = ""
    timezone: dt.tzinfo = dt.UTC
    late: Late = Late()
    lessons: Mapping[str, LessonRules] = field(default_factory=dict)
    keep: str = "newest"
    drop_lowest: int = 0
    best_of: int | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extensions: tuple[Extension, ...] = ()
    overrides: tuple[Override, ...] = ()
    roster: Roster | None = None
    per_student: bool = False
    secret: Path | None = None

    def seed_of(self, student: str) -> int | None:
        """The seed of a student's cases; None where the class has one seed for all.

        The first 48 bits of HMAC-SHA-256 of the student's id under the class's secret: the same
        at each grading, and unknown to who lacks the secret. Makes the secret where there is none.
        """
        if not self.per_student:
            return None
        digest = hmac.new(
            class_secret(self.secret, ClassError), student.encode(), hashlib.sha256
        ).digest()
        return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def find(*beside: Path | None, named: Path | None = None) -> Class:
    """The class in ``named``, else in ``class.toml`` beside the first of ``beside`` (a gradebook, a
    folder or a zip of submissions) that has one there, else none.

    Never in a folder of submissions, nor beside a notebook: that file could be a student's.
    """
    if named is not None:
        return load(named)
    for path in beside:
        if path is None or path.suffix.lower() in NOTEBOOKS:
            continue
        found = path.absolute().parent / FILE
        if found.is_file():
            return load(found)
    return Class()


def load(path: Path) -> Class:
    """The class in the file ``path``. Raises ``ClassError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClassError(f"{path} cannot be read: {error}") from None
    try:
        return parse(text, path.parent)
    except (ClassError, RosterError) as error:
        raise ClassError(f"{path.name}: {error}") from None


def parse(text: str, folder: Path = Path()) -> Class:
    """The class that ``text`` describes; ``folder`` is where its files lie."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ClassError(f"this is not TOML: {error}") from None
    _known(table, "", "class late lessons total groups extensions overrides")
    about = _table(table, "class", "title timezone roster seeds secret")
    try:
        zone = zoneinfo.ZoneInfo(_text(about, "class", "timezone", "UTC"))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ClassError(f"class.timezone: there is no {about['timezone']!r}") from None
    roster = _text(about, "class", "roster", "")
    roster = Roster.read(folder / roster) if roster else None
    seeds = _choice(about, "class", "seeds", ("one", "per student"))
    lessons = {}
    for number, rules in _table(table, "lessons").items():
        _lesson(number, "lessons")
        where = f"lessons.{number}"
        rules = _known(rules, where, "due weight may_drop")
        may_drop = rules.get("may_drop", True)
        if not isinstance(may_drop, bool):
            raise ClassError(f"{where}.may_drop: true or false is wanted, not {may_drop!r}")
        lessons[number] = LessonRules(
            _time(rules, where, "due", zone), _number(rules, where, "weight", 1), may_drop
        )
    total = _table(table, "total", "keep drop_lowest best_of")
    members = _table(table, "groups")
    groups = {name: _texts(members, "groups", name) for name in members}
    made = Class(
        title=_text(about, "class", "title", ""),
        timezone=zone,
        late=_late(_table(table, "late", " ".join(Late.__dataclass_fields__))),
        lessons=lessons,
        keep=_choice(total, "total", "keep", ("newest", "best")),
        drop_lowest=_count(total, "total", "drop_lowest", 0),
        best_of=_count(total, "total", "best_of", None),
        groups=groups,
        extensions=tuple(_extension(e, zone) for e in _list(table, "extensions")),
        overrides=tuple(_override(o) for o in _list(table, "overrides")),
        roster=roster,
        per_student=seeds == "per student",
        secret=folder / _text(about, "class", "secret", "class.secret"),
    )
    _people(made)
    return made


def _people(made: Class) -> None:
    """Whoever is named must be in the roster, and in one group only."""
    placed: dict[str, str] = {}
    for name, members in made.groups.items():
        for student in members:
            if placed.setdefault(student, name) != name:
                raise ClassError(f"groups: {student!r} is in {placed[student]!r} and in {name!r}")
    if made.roster is None:
        return
    named = [(s, f"groups.{g}") for g, members in made.groups.items() for s in members]
    named += [(e.student, "extensions") for e in made.extensions]
    named += [(o.student, "overrides") for o in made.overrides]
    for student, where in named:
        if student not in made.roster.ids:
            near = nearest(student, made.roster.ids)
            raise ClassError(f"{where}: the roster has no id {student!r}{near}")


def _late(table: dict) -> Late:
    cut_off = _number(table, "late", "cut_off_days", None)
    percent = _number(table, "late", "percent_per_day", 0)
    if percent > 100:
        raise ClassError(f"late.percent_per_day: at most 100 is wanted, not {percent}")
    return Late(
        _number(table, "late", "grace_minutes", 0),
        percent,
        _choice(table, "late", "of", ("earned", "possible")),
        cut_off,
        _number(table, "late", "stamp_days", 1),
    )


def _extension(entry: Any, zone: dt.tzinfo) -> Extension:
    entry = _known(entry, "extensions", "student lessons days until reason")
    lessons = _texts(entry, "extensions", "lessons") if "lessons" in entry else ()
    for number in lessons:
        _lesson(number, "extensions.lessons")
    if ("days" in entry) == ("until" in entry):
        raise ClassError("extensions: each needs either days or until")
    return Extension(
        _text(entry, "extensions", "student"),
        _text(entry, "extensions", "reason"),
        lessons,
        _number(entry, "extensions", "days", 0),
        _time(entry, "extensions", "until", zone),
    )


def _override(entry: Any) -> Override:
    entry = _known(entry, "overrides", "student lesson exercise points reason")
    lesson = _text(entry, "overrides", "lesson")
    _lesson(lesson, "overrides.lesson")
    exercise = _text(entry, "overrides", "exercise", "")
    if exercise and not exercise.startswith(f"{lesson}."):
        raise ClassError(f"overrides: exercise {exercise!r} is not of lesson {lesson}")
    points = _number(entry, "overrides", "points")
    student = _text(entry, "overrides", "student")
    return Override(student, lesson, points, _text(entry, "overrides", "reason"), exercise)


# Reading values, with errors that say where ---------------------------------------------------


def _known(table: Any, where: str, keys: str) -> dict:
    if not isinstance(table, dict):
        raise ClassError(f"{where}: a table is wanted, not {table!r}")
    for key in table:
        if key not in keys.split():
            place = f"{where}.{key}" if where else key
            near = nearest(key, keys.split()) or f" (known: {', '.join(keys.split())})"
            raise ClassError(f"there is no setting {place!r}{near}")
    return table


def _table(table: dict, name: str, keys: str | None = None) -> dict:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise ClassError(f"{name}: a table [{name}] is wanted")
    return found if keys is None else _known(found, name, keys)


def _list(table: dict, name: str) -> list:
    found = table.get(name, [])
    if not isinstance(found, list):
        raise ClassError(f"{name}: write each as [[{name}]]")
    return found


_NEEDED = object()


def _text(table: dict, where: str, key: str, default: Any = _NEEDED) -> str:
    value = table.get(key, default)
    if value is _NEEDED:
        raise ClassError(f"{where}: {key} is missing")
    if not isinstance(value, str) or (default is _NEEDED and not value.strip()):
        raise ClassError(f"{where}.{key}: a text is wanted, not {value!r}")
    return value


def _texts(table: dict, where: str, key: str) -> tuple[str, ...]:
    value = table[key]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ClassError(f"{where}.{key}: a list of texts is wanted, not {value!r}")
    return tuple(value)


def _choice(table: dict, where: str, key: str, options: tuple[str, ...]) -> str:
    value = table.get(key, options[0])
    if value not in options:
        near = nearest(str(value), options)
        raise ClassError(f"{where}.{key} is {' or '.join(options)}, not {value!r}{near}")
    return value


def _number(table: dict, where: str, key: str, default: Any = _NEEDED) -> Fraction | None:
    """Exactly the number that is written: 0.1 is a tenth."""
    value = table.get(key, default)
    if value is _NEEDED:
        raise ClassError(f"{where}: {key} is missing")
    if value is None:
        return None
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < 0:
        raise ClassError(f"{where}.{key}: a number of at least 0 is wanted, not {value!r}")
    return Fraction(repr(value))


def _count(table: dict, where: str, key: str, default: int | None) -> int | None:
    value = table.get(key, default)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < (key == "best_of"):
        raise ClassError(f"{where}.{key}: a whole number is wanted, not {value!r}")
    return value


def _time(table: dict, where: str, key: str, zone: dt.tzinfo) -> dt.datetime | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, dt.datetime):
        raise ClassError(f"{where}.{key}: a time such as 2026-12-01T23:59:00 is wanted")
    return value if value.tzinfo else value.replace(tzinfo=zone)


def _lesson(number: str, where: str) -> None:
    if not re.fullmatch(r"\d\d", number):
        raise ClassError(f'{where}: a lesson is written as "05", not {number!r}')
