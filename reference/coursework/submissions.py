"""Finds what is to be graded: files, or folders with a file or a folder for each student."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coursework.errors import NothingToGrade
from coursework.notebook import SIZE_LIMIT


@dataclass(frozen=True)
class Submission:
    """A file of a student's; ``problem`` says why it cannot be read, "" where it can."""

    path: Path
    student: str
    problem: str = ""

    @cached_property
    def data(self) -> bytes:
        """The file's bytes; the first of them where it is too large to be a notebook."""
        with open(self.path, "rb") as f:
            return f.read(SIZE_LIMIT + 1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, or of the problem."""
        try:
            data = self.problem.encode() or self.data
        except OSError as error:
            data = str(error).encode()
        return hashlib.sha256(data).hexdigest()


def collect(paths: Iterable[Path | str] | Path | str) -> list[Submission]:
    """Submissions in ``paths``, each a notebook or a folder.

    In a folder, each notebook is a student's of the file's name, and each folder a student's with
    all notebooks below it. ``.py`` files count in percent format, and in a student's folder only
    where there is no ``.ipynb``. Raises ``NothingToGrade``, saying what was looked for.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Submission] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NothingToGrade(f"{path} does not exist")
        if not path.is_dir():
            found.append(Submission(path, path.stem))
            continue
        inside = _folder(path)
        if not inside:
            raise NothingToGrade(
                f"{path} holds nothing to grade: wanted are notebooks (.ipynb) in it, or a folder "
                "for each student with notebooks in it"
            )
        found += inside
    if not found:
        raise NothingToGrade("no submission was named")
    return list(dict.fromkeys(found))


def _folder(folder: Path) -> list[Submission]:
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            notebooks = _below(entry, "*.ipynb") or [
                p for p in _below(entry, "*.py") if _is_percent(p)
            ]
            found += [_checked(p, entry.name, entry) for p in notebooks]
        elif entry.suffix == ".ipynb" or (entry.suffix == ".py" and _is_percent(entry)):
            found.append(_checked(entry, entry.stem, folder))
    return found


def _below(folder: Path, pattern: str) -> list[Path]:
    found = []
    for path in sorted(folder.rglob(pattern)):
        parts = path.relative_to(folder).parts
        if not any(p.startswith((".", "__")) for p in parts) and not path.is_dir():
            found.append(path)
    return found


def _checked(path: Path, student: str, folder: Path) -> Submission:
    """A link out of the student's own folder could lead to the solution."""
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return Submission(path, student, f"{path.name} is a link that leads nowhere")
    if path.is_symlink() and not inside:
        return Submission(path, student, f"{path.name} is a link out of the submission's folder")
    return Submission(path, student)


def _is_percent(path: Path) -> bool:
    try:
        with open(path, "rb") as f:
            return b"# %%" in f.read(100_000)
    except OSError:
        return False
