"""Pseudonyms, and the one file that says who is behind them.

Everything in a class's folder knows a student by a pseudonym: a code from the student's id under
the class's secret (HMAC-SHA-256), the same each time and worth nothing without the secret. Names
and ids stand in the file of identities alone, which can be kept elsewhere.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coursework import pages
from coursework.class_secret import class_secret
from coursework.errors import GradingError
from coursework.roster import Roster
from coursework.safe import uncell
from coursework.submissions import Submission
from coursework.tables import to_csv

SECRET, FILE = "class.secret", "identities.csv"
LENGTH = 10  # letters of a pseudonym, 5 bits each: two of 10,000 students meet once in 22 million


class IdentityError(GradingError):
    """Identities that cannot be used; the message says why and what helps."""

    exit_code = 5


@dataclass
class Identities:
    """Who is who. rows: pseudonym -> column -> text; "id" is what the pseudonym is made from."""

    secret: bytes
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    known: Roster | None = field(default=None, repr=False)

    def pseudonym(self, id: str) -> str:
        """The pseudonym of the student ``id``: "s-" and ten letters."""
        digest = hmac.new(self.secret, b"pseudonym\0" + id.encode("utf-8", "replace"), "sha256")
        return "s-" + base64.b32encode(digest.digest()).decode().lower()[:LENGTH]

    def add(self, columns: Mapping[str, str]) -> str:
        """Notes a student, known by ``columns["id"]``; the pseudonym."""
        made = self.pseudonym(columns["id"])
        self.rows[made] = {**self.rows.get(made, {}), **columns}
        self.known = None
        return made

    def find(self, *texts: str) -> str | None:
        """The pseudonym of whom one of ``texts`` names in any column, as a roster matches them;
        None for nobody or for several."""
        if self.known is None:
            self.known = Roster(tuple(self.rows), self.rows)
        return self.known.match(texts)

    def save(self, path: Path) -> None:
        """Writes the file, for its owner's eyes alone."""
        columns = ["pseudonym", *dict.fromkeys(c for row in self.rows.values() for c in row)]
        rows = [{"pseudonym": p, **row} for p, row in sorted(self.rows.items())]
        pages.write(path, to_csv(rows, columns))


def load(path: Path, secret: Path) -> Identities:
    """The identities in ``path`` (none where it is not there yet) with the secret in ``secret``,
    which is made where there is none. Raises ``IdentityError`` where others may read either."""
    if secret.exists():
        _refuse_open(secret)
    made = Identities(class_secret(secret, IdentityError))
    if path.exists():
        _refuse_open(path)
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))):
            cells = {k: uncell(v or "") for k, v in row.items() if k}
            pseudonym = cells.pop("pseudonym", "")
            if made.pseudonym(cells.get("id", "")) != pseudonym:
                raise IdentityError(
                    f"{path}: {pseudonym or 'a row'} does not belong to its id under the secret in "
                    f"{secret}: is it of another class?"
                )
            made.rows[pseudonym] = cells
    return made


def _refuse_open(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise IdentityError(f"others may read {path}: chmod 600 {path}")


@dataclass
class Taken:
    """What ``take`` did. unknown: students that no row of the roster is of."""

    copied: int = 0
    students: int = 0
    unknown: list[str] = field(default_factory=list)


def take(submissions: Iterable[Submission], folder: Path, who: Identities) -> Taken:
    """Copies submissions to ``folder``, each under its student's pseudonym and a name that tells
    nothing; times are kept. What is there already is not copied again."""
    done, seen = Taken(), set()
    for s in submissions:
        pseudonym = who.find(*s.ids, s.student, *([s.name] if s.name else ()))
        if pseudonym is None:
            pseudonym = who.add({"id": s.student})
            done.unknown.append(s.student)
        seen.add(pseudonym)
        if s.problem:
            continue
        digest = hashlib.sha256(s.data).hexdigest()[:12]
        target = folder / pseudonym / f"{digest}{s.path.suffix}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.parent.chmod(0o700)
            shutil.copy2(s.path, target)
            target.chmod(0o600)
            done.copied += 1
    done.students = len(seen)
    return done


def identify(text: str, who: Identities, column: str = "id") -> tuple[str, int]:
    """(a CSV with pseudonyms replaced by what ``column`` says, how many cells were)."""
    rows, count = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")))), 0
    out = io.StringIO()
    for row in rows:
        for i, cell in enumerate(row):
            if cell in who.rows:
                row[i] = who.rows[cell].get(column) or cell
                count += 1
        csv.writer(out).writerow(row)
    return out.getvalue(), count
