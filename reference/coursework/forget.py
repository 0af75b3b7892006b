"""Erases a student from a class's folder, and looks afterwards whether anything is left.

Every file below the folder is gone through by its kind: gradebooks lose the student's rows and
are written anew (``secure_delete`` and ``VACUUM``, so that no free page keeps them), tables and
JSON lose their rows, archives their entries, what is named after the student is removed, and so
is every page or Parquet file that names them, since the commands make those again. What cannot be
mended by machine is told. What is removed is overwritten first; copies that the file system, a
backup or another machine keeps are beyond this.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import escape

from coursework.errors import GradebookError
from coursework.pages import file_names
from coursework.safe import uncell

MADE_AGAIN = {".html", ".htm", ".parquet", ".xml", ".pdf"}
CLOSED = {".gz", ".xz", ".bz2", ".zst", ".7z", ".rar", ".tar", ".tgz"}
SQLITE = b"SQLite format 3\0"
BASE64 = re.compile(rb"[A-Za-z0-9+/=]{60,}")  # pictures: short ids stand in them by chance
LINE = 40  # characters that a line must have to tell whose it is


@dataclass
class Erased:
    """What was (or would be) done, and what is left: sentences, each naming a file."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Terms:
    """What a student is known by: whole words, capital or small."""

    def __init__(self, terms: Iterable[str]) -> None:
        self.all = sorted({t.strip() for t in terms if t.strip()}, key=len, reverse=True)
        self.folded = {t.casefold() for t in self.all}
        self.files = {f.casefold() for f in file_names(self.all).values()} | self.folded
        words = "|".join(re.escape(t) for t in self.all)
        self.text = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.I)
        coded = {t.encode() for t in self.all}
        coded |= {json.dumps(t)[1:-1].encode() for t in self.all}
        coded |= {t.encode("utf-16-le") for t in self.all} | {
            str(escape(t)).encode() for t in self.all
        }
        self.bytes = re.compile(
            rb"(?<![A-Za-z0-9_])(?:" + b"|".join(map(re.escape, coded)) + rb")(?![A-Za-z0-9_])",
            re.I,
        )

    def name(self, path: str) -> bool:
        """Whether a part of ``path`` is one of the terms, alone or before an ending."""
        parts = re.split(r"[\\/]", path.casefold())
        return any(p in self.files or p.rsplit(".", 1)[0] in self.files for p in parts)

    def cell(self, text: Any) -> bool:
        """Whether a cell is one of the terms."""
        return isinstance(text, str) and uncell(text).strip().casefold() in self.folded


def forget(folder: Path, terms: Iterable[str], really: bool = False) -> Erased:
    """Erases whom ``terms`` name (pseudonym, id, name, address) from all files below ``folder``.

    Without ``really`` nothing is changed, and ``done`` says what would be. Afterwards every file
    is searched for the terms and for lines of the student's own; where one is found, ``left``
    names the file.
    """
    known, result = Terms(terms), Erased()
    lines = _own_lines(folder, known) if really else set()
    for path in _named(folder, known):
        result.done.append(f"{path.relative_to(folder)}: removed")
        if really:
            _remove(path)
    for path in _files(folder):
        if known.name(str(path.relative_to(folder))):
            continue  # only where nothing is really done
        says = _mend(path, known, really)
        if says:
            result.done.append(f"{path.relative_to(folder)}: {says}")
    result.left = _left(folder, known, lines) if really else _closed(folder)
    return result


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _named(folder: Path, known: Terms) -> list[Path]:
    """Files and folders named after the student, the outermost only."""
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        inside = any(f in path.parents for f in found)
        if not inside and known.name(path.name):
            found.append(path)
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inner in _files(path):
            _overwrite(inner)
        shutil.rmtree(path)
        return
    if not path.is_symlink():
        _overwrite(path)
    path.unlink()


def _overwrite(path: Path) -> None:
    """Zeros in place of the content; a file that has other names keeps it under those."""
    with contextlib.suppress(OSError):
        if path.stat().st_nlink == 1:
            with open(path, "r+b") as f:
                size = f.seek(0, os.SEEK_END)
                f.seek(0)
                for start in range(0, size, 1 << 20):
                    f.write(bytes(min(1 << 20, size - start)))
                f.flush()
                os.fsync(f.fileno())


def _mend(path: Path, known: Terms, really: bool) -> str:
    """Takes the student out of one file; what was done, or ""."""
    with open(path, "rb") as f:
        head = f.read(16)
    if head == SQLITE:
        return _database(path, known, really)
    if zipfile.is_zipfile(path):
        return _archive(path, known, really)
    if path.suffix == ".parquet" or (
        path.suffix in MADE_AGAIN and known.bytes.search(path.read_bytes())
    ):
        if really:
            _remove(path)
        return "removed: make it again"
    if path.suffix in (".csv", ".tsv"):
        return _table(path, known, really)
    if path.suffix == ".json":
        return _json(path, known, really)
    return ""


def _replace(path: Path, data: bytes) -> None:
    """Writes ``path`` anew beside itself, then overwrites and replaces the old content."""
    mode = path.stat().st_mode & 0o777
    fresh = path.with_name(f".part-{path.name}")
    with open(fresh, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    fresh.chmod(mode)
    _overwrite(path)
    os.replace(fresh, path)


def _database(path: Path, known: Terms, really: bool) -> str:
    """Rows of every table with a column ``student``."""
    try:
        db = sqlite3.connect(path, timeout=60, isolation_level=None)
        with contextlib.closing(db):
            tables = [
                t
                for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if "student" in {c[1] for c in db.execute(f'PRAGMA table_info("{t}")')}
            ]
            mine = {
                t: [i for i, s in db.execute(f'SELECT rowid, student FROM "{t}"') if known.cell(s)]
                for t in tables
            }
            told = ", ".join(f"{len(rows)} rows of {t}" for t, rows in mine.items() if rows)
            if not told or not really:
                return told and f"{told} erased"
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode = DELETE")
            triggers = db.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall()
            db.execute("BEGIN EXCLUSIVE")
            for name, _ in triggers:
                db.execute(f'DROP TRIGGER "{name}"')
            for t, rows in mine.items():
                db.executemany(f'DELETE FROM "{t}" WHERE rowid = ?', [(i,) for i in rows])
            for _, sql in triggers:
                db.execute(sql)
            db.execute("COMMIT")
            db.execute("VACUUM")
            return f"{told} erased"
    except sqlite3.Error as error:
        raise GradebookError(f"{path} cannot be erased from: {error}") from None


def _archive(path: Path, known: Terms, really: bool) -> str:
    try:
        with zipfile.ZipFile(path) as z:
            entries = [(i, z.read(i)) for i in z.infolist()]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError):
        return ""  # told by the search at the end
    kept = [
        (i, data)
        for i, data in entries
        if not (known.name(i.filename) or known.text.search(_words(i.filename)))
        and not known.bytes.search(data)
    ]
    gone = len(entries) - len(kept)
    if gone and really:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
            for info, data in kept:
                z.writestr(info, data)
        _replace(path, buffer.getvalue())
    return f"{gone} entries erased" if gone else ""


def _words(name: str) -> str:
    """A file name with its parts as words: Canvas writes ``adamsanna_12_345_notebook.ipynb``."""
    return re.sub(r"[_.\-/\\]+", " ", name)


def _table(path: Path, known: Terms, really: bool) -> str:
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    first = text.split("\n", 1)[0]
    mark = max(",;\t", key=first.count)
    rows = list(csv.reader(io.StringIO(text), delimiter=mark))
    kept = [row for row in rows if not any(map(known.cell, row))]
    gone = len(rows) - len(kept)
    if gone and really:
        out = io.StringIO()
        csv.writer(out, delimiter=mark).writerows(kept)
        _replace(path, out.getvalue().encode("utf-8", "surrogateescape"))
    return f"{gone} rows erased" if gone else ""


def _json(path: Path, known: Terms, really: bool) -> str:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return ""
    count = 0

    def without(value: Any) -> Any:
        nonlocal count
        if isinstance(value, list):
            kept = [v for v in value if not (isinstance(v, dict) and known.cell(v.get("student")))]
            count += len(value) - len(kept)
            return [without(v) for v in kept]
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if not known.cell(k)}
            count += len(value) - len(kept)
            return {k: without(v) for k, v in kept.items()}
        return value

    tree = without(tree)
    if count and really:
        _replace(path, (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode())
    return f"{count} entries erased" if count else ""


def _own_lines(folder: Path, known: Terms) -> set[bytes]:
    """Long lines in what is named after the student and in nobody else's files."""
    mine: set[bytes] = set()
    others: set[bytes] = set()
    for path in _files(folder):
        if path.suffix not in (".ipynb", ".py", ".md", ".txt"):
            continue
        lines = {
            n for line in path.read_bytes().split(b"\n") if len(n := line.strip(b' \t\r",')) >= LINE
        }
        (mine if known.name(str(path.relative_to(folder))) else others).update(lines)
    return mine - others


def _closed(folder: Path) -> list[str]:
    return [
        f"{p.relative_to(folder)}: it cannot be looked into; unpack it or remove it"
        for p in _files(folder)
        if p.suffix.lower() in CLOSED
    ]


def _left(folder: Path, known: Terms, lines: set[bytes]) -> list[str]:
    """Files that still hold a term or a line of the student's, by a search of all bytes."""
    found = _closed(folder)
    own = re.compile(b"|".join(map(re.escape, sorted(lines)))) if lines else None

    def holds(data: bytes) -> bool:
        if own and own.search(data):
            return True
        data = BASE64.sub(b" ", data)
        if known.bytes.search(data):
            return True
        return bool(known.text.search(data.decode("utf-8", "ignore")))  # capital Å is small å

    for path in _files(folder):
        name = path.relative_to(folder)
        if known.text.search(str(name)) or known.text.search(_words(str(name))):
            found.append(f"{name}: its name looks like the student's; see to it")
        if holds(path.read_bytes()):
            found.append(f"{name}: still names the student or holds a line of theirs; see to it")
        elif zipfile.is_zipfile(path):
            try:
                with zipfile.ZipFile(path) as z:
                    held = any(holds(z.read(i)) or holds(i.filename.encode()) for i in z.infolist())
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError):
                held = True
            if held:
                found.append(f"{name}: an entry names the student, or cannot be read; see to it")
    return sorted(set(found))
