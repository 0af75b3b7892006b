"""Finds what is to be graded, whatever a school's platform made of it; see ``layouts``."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from coursework import archives, layouts
from coursework.errors import NothingToGrade
from coursework.names import clean, shown
from coursework.notebook import SIZE_LIMIT, InvalidNotebook, lesson_of, parse

OTHERS_LIMIT = 5  # files that a note names
DEPTH_LIMIT = 40  # folders in folders


@dataclass(frozen=True)
class Submission:
    """A file of a student's.

    path: for a file in a zip, the zip's path with the file's behind it. problem: why it cannot be
    graded, or "". name, ids: what a platform calls the student. late: its stamp. handed_in: ISO
    time or "" where unknown. attempt: grows from attempt to attempt. archive, member: where it lies
    in a zip. notes: what whoever reads the grade must know.
    """

    path: Path
    student: str
    problem: str = ""
    name: str = ""
    ids: tuple[str, ...] = ()
    late: bool = False
    handed_in: str = ""
    attempt: int = 0
    archive: Path | None = None
    member: str = ""
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """The file's bytes, read anew; the first of them where it is too large to be a notebook.

        Raises ``OSError``, and ``InvalidNotebook`` for a zip that is damaged there.
        """
        if self.archive is not None:
            return archives.read(self.archive, self.member, SIZE_LIMIT + 1)
        with open(self.path, "rb") as f:
            return f.read(SIZE_LIMIT + 1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, or of the problem."""
        try:
            data = self.problem.encode() or self.data
        except (OSError, InvalidNotebook) as error:
            data = str(error).encode()
        return hashlib.sha256(data).hexdigest()

    @cached_property
    def modified(self) -> float:
        """When the file was last changed, as far as the disk knows; 0.0 in a zip."""
        try:
            return 0.0 if self.archive is not None else self.path.stat().st_mtime
        except OSError:
            return 0.0


def collect(
    paths: Iterable[Path | str] | Path | str, layout: str | None = None
) -> list[Submission]:
    """Submissions in ``paths``, each a notebook, a folder or a zip with those of a class.

    layout: one of ``layouts.LAYOUTS``; None finds out. ``.py`` files count in percent format, and
    only where a student has no ``.ipynb``. Every file that cannot be graded is a submission with
    a problem. Raises ``NothingToGrade``, saying what was looked for, and ``BadArchive``.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Submission] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NothingToGrade(f"{path} does not exist")
        if path.is_dir():
            inside = _folder(path, layout)
        elif path.suffix.lower() == ".zip":
            inside = _zip(path, layout)
        else:
            inside = [Submission(path, path.stem)]
        if not inside:
            raise NothingToGrade(
                f"{path} holds nothing to grade: wanted are notebooks (.ipynb) in it, a folder "
                "for each student with notebooks in it, or a zip that a platform made of those"
            )
        found += inside
    if not found:
        raise NothingToGrade("no submission was named")
    return list(dict.fromkeys(found))


def _folder(folder: Path, layout: str | None) -> list[Submission]:
    files, seen, problems, zips = {}, [], {}, []
    for path in _below(folder):
        parts = path.relative_to(folder).parts
        is_zip = path.suffix.lower() == ".zip" and path.is_file()
        if is_zip and len(parts) == 1 and not _handed_in(parts[0]):
            zips.append(path)
            continue
        seen.append(parts)
        files[parts] = path
        own = folder / parts[0] if len(parts) > 1 else folder
        if problem := _link_problem(path, own) or _kind_problem(path):
            problems[parts] = problem
    top = layouts.common_folder(seen)
    if top and (top, layouts.METADATA) in files:  # Gradescope's zip, unpacked
        return _folder(folder / top, layout)
    layout = layout or layouts.recognise(seen)
    metadata = files.get((layouts.METADATA,))
    handed = layouts.assign(seen, layout, lambda: _yaml(metadata.read_bytes) if metadata else None)

    def made(h: layouts.Handed) -> Submission:
        path = files[h.parts]
        return Submission(
            path, h.student, problems.get(h.parts, ""), h.name, h.ids, h.late, h.when, h.attempt
        )

    found = _per_student(handed, made, lambda h: _is_percent(files[h.parts]))
    for path in zips:
        found += _zip_in_folder(path)
    return found


def _zip(path: Path, layout: str | None) -> list[Submission]:
    members = {m.parts: m for m in reversed(archives.members(path)) if layouts.visible(m.parts)}
    members = dict(reversed(members.items()))
    top = layouts.common_folder(members)
    if top and _wraps(top, path, members, layout):
        members = {p[1:]: m for p, m in members.items()}
    layout = layout or layouts.recognise(members)
    about = members.get((layouts.METADATA,))
    handed = layouts.assign(
        members,
        layout,
        lambda: _yaml(lambda: archives.read(path, about.name)) if about else None,
    )

    def made(h: layouts.Handed) -> Submission:
        m = members[h.parts]
        problem = f"{shown(m.name)} was not read: {m.problem}" if m.problem else ""
        where = path / shown("/".join(h.parts))
        return Submission(
            where, h.student, problem, h.name, h.ids, h.late, h.when, h.attempt, path, m.name
        )

    def percent(h: layouts.Handed) -> bool:
        try:
            return b"# %%" in archives.read(path, members[h.parts].name, 100_000)
        except archives.BadArchive:
            return False

    return _per_student(handed, made, percent)


def _wraps(top: str, path: Path, members, layout: str | None) -> bool:
    """Whether the one folder in a zip is round all students', and not the only student's."""
    if layouts.MOODLE.match(top) or layouts.GRADESCOPE.match(top):
        return False
    inside = [p[1:] for p in members]
    if clean(top) == clean(path.stem) or layouts.recognise(inside) != "flat":
        return True
    books = sum(p[-1].endswith(".ipynb") for p in inside)
    return books > 1 and layout in (None, "flat")


def _handed_in(name: str) -> bool:
    """Whether a zip's name shows that a platform named it: it is one student's."""
    return bool(layouts.CANVAS.match(name) or layouts.MOODLE.match(name))


def _zip_in_folder(path: Path) -> list[Submission]:
    """A zip at the top of a folder: a class's where its names show it, else one student's."""
    try:
        parts = [m.parts for m in archives.members(path)]
        top = layouts.common_folder(parts)
        shapes = layouts.recognise(parts), layouts.recognise(p[1:] for p in parts if top)
        if {"canvas", "moodle", "gradescope"} & set(shapes):
            return _zip(path, None)
        problem = (
            f"{clean(path.name)} is an archive; the notebook itself is wanted (a zip of the whole "
            "class: name the zip on the command line)"
        )
    except InvalidNotebook as error:
        problem = str(error)
    return [Submission(path, clean(path.stem), problem)]


def _per_student(handed, made, percent) -> list[Submission]:
    """What of each student's files is to be graded; those who handed in no notebook are told."""
    of: defaultdict[str, list[layouts.Handed]] = defaultdict(list)
    for h in handed:
        of[h.student].append(h)
    found = []
    for student, theirs in of.items():
        books = [h for h in theirs if h.parts[-1].endswith(".ipynb")]
        books = books or [h for h in theirs if h.parts[-1].endswith(".py") and percent(h)]
        archived = [h for h in theirs if h.parts[-1].lower().endswith(archives.ARCHIVES)]
        if not books and (archived or any(len(h.parts) > 1 for h in theirs)):
            names = ", ".join(clean(h.parts[-1]) for h in theirs[:OTHERS_LIMIT])
            why = "; an archive is not opened: the notebook itself is wanted" if archived else ""
            made_one = replace(made(theirs[0]), student=student)
            text = f"no notebook was handed in, only {names}{why}"
            found.append(replace(made_one, problem=made_one.problem or text))
            continue
        raws = {h.raw for h in books}
        if len(raws) > 1:
            # One could be made to look like another's: neither may count for the other.
            for i, h in enumerate(books):
                text = (
                    f"{len(raws)} of different names look like {student!r}: rename what is not "
                    "theirs"
                )
                found.append(replace(made(h), student=f"{student} ({i + 1})", problem=text))
            continue
        others = tuple(
            f"{clean(h.parts[-1])} was not read: an archive is not opened" for h in archived
        )
        found += [replace(made(h), notes=others) for h in books]
    return found


def newest(submissions: Iterable[Submission], lesson: str | None = None) -> list[Submission]:
    """One submission for each student and lesson: the newest attempt that can be read.

    lesson: of which all of them are; None reads it from each, where a student has several. By the
    platform's number of the attempt where there is one, else by the time of handing in, else by
    the file's. What is left out is named in a note.
    """
    submissions = list(submissions)
    of: defaultdict[str, list[int]] = defaultdict(list)
    for i, s in enumerate(submissions):
        of[s.student].append(i)
    keep = dict(enumerate(submissions))
    for places in of.values():
        if len(places) < 2:
            continue
        groups: defaultdict[str, list[tuple[tuple, int]]] = defaultdict(list)
        for i in places:
            s = submissions[i]
            found, fits = _read_lesson(s, lesson)
            order = (fits, s.attempt, s.handed_in, s.modified, s.path.name)
            groups[found or f"?{i}"].append((order, i))
        for theirs in groups.values():
            theirs.sort()
            *older, (_, last) = theirs
            for _, i in older:
                del keep[i]
            if older:
                names = ", ".join(submissions[i].path.name for _, i in older[:OTHERS_LIMIT])
                text = (
                    f"{len(theirs)} files for one lesson; the newest is graded, "
                    f"{keep[last].path.name}, and not: {names}"
                )
                keep[last] = replace(keep[last], notes=(*keep[last].notes, text))
    return list(keep.values())


def _read_lesson(submission: Submission, lesson: str | None) -> tuple[str, int]:
    """(lesson; 2 if it can be read and is of that lesson, 1 if it says another, 0 if neither)."""
    if submission.problem:
        return lesson or "", 0
    try:
        own = lesson_of(parse(submission.data, submission.path)) or lesson or ""
    except (OSError, InvalidNotebook, RecursionError, MemoryError):
        return lesson or "", 0
    return lesson or own, 2 if own == (lesson or own) else 1


def _yaml(read) -> Any:
    """Gradescope's file of who handed in what; its times may have no known form."""
    import yaml

    try:
        return yaml.safe_load(read()[:20_000_000])
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, OSError):
        return None


def _below(folder: Path) -> list[Path]:
    """All visible files below ``folder``, in order; links to folders are not followed. A folder
    that cannot be looked into, or lies too deep, is there itself."""
    found, ahead = [], [folder]
    while ahead:
        path = ahead.pop()
        try:
            is_folder = path.is_dir()
            if is_folder and path != folder and path.is_symlink():
                continue
            deep = len(path.relative_to(folder).parts) > DEPTH_LIMIT
            inside = sorted(path.iterdir()) if is_folder and not deep else None
        except OSError:
            inside = None
        if inside is None:
            found.append(path)
            continue
        ahead += [p for p in reversed(inside) if not p.name.startswith((".", "__"))]
    return found


def _link_problem(path: Path, folder: Path) -> str:
    """A link out of the student's own folder could lead to the solution."""
    if not path.is_symlink():
        return ""
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return f"{clean(path.name)} is a link that leads nowhere"
    return "" if inside else f"{clean(path.name)} is a link out of the submission's folder"


def _kind_problem(path: Path) -> str:
    """Reading a pipe or a device might never end."""
    try:
        if path.is_file():
            return ""
    except OSError:
        pass
    return f"{clean(path.name)} is no file that can be read"


def _is_percent(path: Path) -> bool:
    if _kind_problem(path):
        return False
    try:
        with open(path, "rb") as f:
            return b"# %%" in f.read(100_000)
    except OSError:
        return False
