"""Reads zip files that strangers filled: nothing is unpacked to a disk, and sizes are not believed.

A class's submissions often come as one zip, made by a learning platform of what students handed
in. Its names and its contents are the students'. Members are read one by one into memory, up to a
limit, and whatever is odd about one of them costs that one only.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from coursework.names import shown
from coursework.notebook import SIZE_LIMIT, InvalidNotebook

COUNT_LIMIT = 200_000
TOTAL_LIMIT = 4 * 2**30
RATIO_LIMIT = 200  # a notebook of one repeated character reaches some 1,000, real ones 20
SMALL = 2**20  # below this, no ratio hurts
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class BadArchive(InvalidNotebook):
    """A file that should be a zip and cannot be read as one, or not safely; says why."""


@dataclass(frozen=True)
class Member:
    """One file of a zip.

    name: as written there, path and all. size: bytes when unpacked, as it claims. when: its
    time stamp as "YYYY-MM-DDTHH:MM:SS" (of no known time zone). problem: why it must not be read,
    or "".
    """

    name: str
    size: int
    when: str
    problem: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's parts, with those that mean nothing left out."""
        return tuple(p for p in PurePosixPath(self.name.replace("\\", "/")).parts if p != "/")


def members(path: Path) -> list[Member]:
    """The files in the zip ``path``, in its order, folders left out.

    Raises ``BadArchive`` for what is no zip, or has more than ``COUNT_LIMIT`` files or claims
    more than ``TOTAL_LIMIT`` bytes; a member that is dangerous by itself only has a problem.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError) as error:
        raise BadArchive(f"{path.name} is not a zip file that can be read: {error}") from None
    files = [i for i in infos if not i.is_dir()]
    if len(files) > COUNT_LIMIT:
        raise BadArchive(f"{path.name} holds {len(files)} files, more than {COUNT_LIMIT} allowed")
    # What is too large by itself is not read, and one student's claim costs nobody else.
    total = sum(i.file_size for i in files if i.file_size <= SIZE_LIMIT)
    if total > TOTAL_LIMIT:
        raise BadArchive(
            f"{path.name} would unpack to {total / 1e9:.1f} GB, more than the "
            f"{TOTAL_LIMIT / 1e9:.1f} GB allowed"
        )
    overlapping = _overlapping(files)
    found, seen = [], set()
    for info in files:
        name = _name(info)
        problem = _problem(info, name)
        if info.header_offset in overlapping:
            problem = "it shares its bytes with another file of the zip: a zip bomb"
        elif name in seen:
            problem = problem or "the zip holds another file of the same name before it"
        seen.add(name)
        found.append(Member(name, info.file_size, _when(info), problem))
    return found


def read(path: Path, name: str, limit: int = SIZE_LIMIT + 1) -> bytes:
    """Up to ``limit`` bytes of the member ``name``, whatever size it claims.

    Raises ``BadArchive`` where it is damaged or was made in a way that is not read here.
    """
    try:
        about = path.stat()
        archive, infos = _opened(path, about.st_mtime_ns, about.st_size)
        info = infos[name]
        if problem := _problem(info, name):
            raise BadArchive(f"{shown(name)}: {problem}")
        with archive.open(info) as f:
            return f.read(limit)
    except KeyError:
        raise BadArchive(f"{path.name} holds no {shown(name)} any more") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError,
            struct.error) as error:  # fmt: skip
        raise BadArchive(f"{shown(name)} is damaged in the zip: {error}") from None


@lru_cache(maxsize=1)
def _opened(
    path: Path, changed: int, size: int
) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """(the zip, its files by name), kept: to list 100,000 files for each of them takes hours."""
    archive = zipfile.ZipFile(path)
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if not info.is_dir():
            infos.setdefault(_name(info), info)
    return archive, infos


def _name(info: zipfile.ZipInfo) -> str:
    """The name; zips that hold UTF-8 without saying so are read as they were meant."""
    if not info.flag_bits & 0x800:
        try:
            return info.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.filename


def _when(info: zipfile.ZipInfo) -> str:
    year, month, day, hour, minute, second = info.date_time
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


def _problem(info: zipfile.ZipInfo, name: str) -> str:
    path = name.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if path.startswith("/") or path[1:2] == ":" or ".." in path.split("/"):
        return "its name leads out of the zip"
    if stat.S_ISLNK(kind):
        return "it is a symbolic link"
    if kind and not stat.S_ISREG(kind):
        return "it is neither a file nor a folder"
    if info.flag_bits & 0x1:
        return "it is encrypted"
    if info.compress_type not in METHODS:
        return f"it is compressed by a method that is not read here ({info.compress_type})"
    if path.lower().endswith(ARCHIVES):
        return "it is an archive in an archive; the notebook itself is wanted"
    if info.file_size > SIZE_LIMIT:
        return f"it has {info.file_size / 1e6:.0f} MB, more than the {SIZE_LIMIT / 1e6:.0f} allowed"
    if info.file_size > SMALL and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
        return (
            f"it would unpack to {info.file_size / max(info.compress_size, 1):.0f} times its size: "
            "a zip bomb"
        )
    return ""


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Offsets of members whose bytes lie in another's, as in bombs without nesting."""
    found, end = set(), -1
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            found.add(info.header_offset)
        end = max(end, info.header_offset + info.compress_size)
    return found
