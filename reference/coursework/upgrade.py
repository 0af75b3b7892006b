"""``course upgrade NEW``: a student's bundle brought up to date by a newer one; answers stay.

Both bundles list their files with hashes. A file that the student changed is kept under another
name before the new one takes its place; one that is not part of the new bundle any more goes,
unless it was changed. Nothing else is touched, and ``work/`` is brought up to date as ``course
learn`` does it, cell by cell.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from coursework import archives, copies
from coursework.config import Course
from coursework.errors import GradingError
from coursework.release import FILE


class UpgradeError(GradingError):
    """A bundle cannot be brought up to date; the message says why, and nothing was changed."""

    exit_code = 7


@dataclass
class Upgraded:
    """What was done: files written, removed, kept aside (new names), and the copies in work/."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    copies: list[copies.Copied] = field(default_factory=list)


def upgrade(course: Course, new: Path) -> Upgraded:
    """Brings the bundle ``course`` up to date by ``new``, a bundle's folder or zip.

    Stopped midway, the same call goes on. Raises ``UpgradeError`` where either is no bundle, they
    are of different courses, or a file of the new one is damaged.
    """
    old = _listed(course.root / FILE, "this folder")
    done = Upgraded()
    with _unpacked(new) as source:
        files = _listed(source / FILE, str(new))
        theirs = json.loads((source / FILE).read_text(encoding="utf-8"))
        own = json.loads((course.root / FILE).read_text(encoding="utf-8"))
        if _title(theirs) != _title(own):
            raise UpgradeError(f"{new} is of {_title(theirs)}, and this folder of {_title(own)}")
        for name, digest in files.items():
            if _hash(source / name) != digest:
                raise UpgradeError(f"{name} in {new} is damaged or missing; get the bundle again")
        for name, digest in files.items():
            _replace(course.root, source, name, digest, old.get(name), done)
        for name in old.keys() - files.keys():
            if _hash(course.root / name) == old[name]:
                (course.root / name).unlink()
                done.removed.append(name)
        _write(course.root / FILE, (source / FILE).read_bytes())
    known = copies.lessons(course)
    done.copies = [copies.bring(course, n) for n in known if copies.of_lesson(course, n)]
    return done


def _replace(
    root: Path, source: Path, name: str, digest: str, before: str | None, done: Upgraded
) -> None:
    target = root / name
    now = _hash(target)
    if now == digest:
        return
    if now is not None and now != before:
        kept = _aside(target)
        target.replace(kept)
        done.aside.append(kept.relative_to(root).as_posix())
    _write(target, (source / name).read_bytes())
    done.written.append(name)


def _aside(path: Path) -> Path:
    stem, n = f"{path.stem}.before-{time.strftime('%Y-%m-%d')}", 1
    kept = path.with_name(f"{stem}{path.suffix}")
    while kept.exists():
        n += 1
        kept = path.with_name(f"{stem}-{n}{path.suffix}")
    return kept


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _title(about: dict) -> str:
    return str(about.get("course", "")).rpartition(" ")[0]


def _listed(path: Path, what: str) -> dict[str, str]:
    """File -> hash, of a bundle; only names that stay inside of it."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        for name in files:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
                raise UpgradeError(f"{what} lists a file that leads out of it: {name!r}")
            if parts[0] in ("work", FILE):
                raise UpgradeError(f"{what} lists {name!r}, which is never a bundle's")
        return dict(files)
    except FileNotFoundError:
        raise UpgradeError(f"{what} is no bundle: it has no {FILE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise UpgradeError(f"{FILE} of {what} cannot be read as a bundle's list") from None


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The folder of a bundle, unpacked safely where it is a zip."""
    if path.is_dir():
        yield path
        return
    members = archives.members(path)
    if bad := next((m for m in members if m.problem), None):
        raise UpgradeError(f"{path}: {bad.name!r} is not to be unpacked: {bad.problem}")
    tops = {m.parts[0] for m in members if len(m.parts) > 1}
    with tempfile.TemporaryDirectory(prefix="upgrade-") as place:
        for m in members:
            target = Path(place).joinpath(*m.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archives.read(path, m.name))
        single = len(tops) == 1 and all(len(m.parts) > 1 for m in members)
        yield Path(place) / tops.pop() if single else Path(place)
