"""The Free Spoken Digit Dataset as ``downloads`` keeps it: 3,000 small files, each with a SHA-256.

The checksums lie in ``data/audio/fsdd_SHA256SUMS``, in the form that ``sha256sum -c`` reads.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from undiffuse import data
from undiffuse._files import replacing

RATE, LENGTH = 8000, 8192
UNHEARD = "unheard"  # the split of the speaker whom neither models nor classifiers hear
SPEAKER = "theo"
TAKES = {"train": 25, "validation": 2, "reference": 7, "held_out": 7, "features": 9}  # of 50
PLACES = ("fsdd/recordings", "audio/fsdd/recordings", "fsdd")


class Odd(ValueError):
    """What lies there is not the published set; the message says what is wrong."""


def sums() -> dict[str, str]:
    """File name -> SHA-256 of the 3,000 recordings. Raises data.DamagedData."""
    path = data.folder() / "audio/fsdd_SHA256SUMS"
    if not path.is_file():
        raise data.DataNotFound(f"{path} is missing; git checkout brings it back")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = re.findall(r"^([0-9a-f]{64})  recordings/(\d_\w+_\d+\.wav)$", "\n".join(lines), re.M)
    if len(found) != len(lines) or len(found) != 3000:
        raise data.DamagedData(f"{path} is damaged; git checkout brings it back")
    return {name: sha256 for sha256, name in found}


def find(folder: Path) -> Path | None:
    """The folder below ``folder`` where recordings lie, if there is one."""
    for place in PLACES:
        if any((folder / place).glob("[0-9]_*_[0-9]*.wav")):
            return folder / place
    return None


def missing(place: Path | None) -> list[str]:
    """The names of the recordings that are not there."""
    wanted = sums()
    if place is None:
        return list(wanted)
    here = {path.name for path in place.iterdir()}
    return [name for name in wanted if name not in here]


def unpack(archive: Path, place: Path) -> None:
    """Writes the recordings that ``place`` lacks from the published archive, each one checked.

    Nothing else of the archive is read. Raises Odd, naming the file, for a recording that is not
    the published one, for missing ones, and for what is no such archive; what was right stays.
    """
    wanted, lacking = sums(), set(missing(place if place.is_dir() else None))
    place.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if name not in lacking or not folder.endswith("recordings"):
                    continue
                if not member.isfile() or member.size > 1 << 20:
                    raise Odd(f"{member.name} is not a file of a few kB")
                content = tar.extractfile(member).read()
                check(name, content, wanted[name])
                with replacing(place / name) as temporary:
                    temporary.write_bytes(content)
                lacking.discard(name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise Odd(f"it is not a readable archive: {error}") from error
    if lacking:
        raise Odd(f"{len(lacking):,} recordings are missing in it, such as {min(lacking)}")


def check(name: str, content: bytes, wanted: str) -> None:
    """Raises Odd with both checksums where they differ."""
    got = hashlib.sha256(content).hexdigest()
    if got != wanted:
        raise Odd(f"{name} is damaged or another file: its SHA-256 is\n  {got}, expected\n  "
                  f"{wanted}")  # fmt: skip


def read(place: Path) -> data.AudioSet:
    """The set, each file checked. Raises Odd for a recording that is not the published one."""
    newest = max(path.stat().st_mtime_ns for path in place.iterdir())
    held = _read(place, newest)  # shared by all calls, so that only copies are handed out
    return replace(
        held,
        audio=held.audio.copy(),
        labels=held.labels.copy(),
        splits={k: v.copy() for k, v in held.splits.items()},
        more={k: v.copy() for k, v in held.more.items()},
    )


@lru_cache(maxsize=1)
def _read(place: Path, newest: int) -> data.AudioSet:
    import soundfile

    names = sorted(wanted := sums())
    audio = np.zeros((len(names), LENGTH), np.int16)
    digit, speaker, take, length = [], [], [], []
    for row, name in enumerate(names):
        content = (place / name).read_bytes()
        check(str(place / name), content, wanted[name])
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
        length.append(min(len(samples), LENGTH))
        audio[row, : length[-1]] = samples[:LENGTH]
        parts = name.removesuffix(".wav").split("_")
        digit.append(int(parts[0]))
        speaker.append(parts[1])
        take.append(int(parts[2]))
    labels, speakers = np.array(digit, np.uint8), np.array(speaker)
    return data.AudioSet(
        name="fsdd",
        audio=audio,
        labels=labels,
        classes=tuple("0123456789"),
        rate=RATE,
        splits=splits(audio, labels, speakers),
        licence="CC BY-SA 4.0, Free Spoken Digit Dataset 1.0.10, Zohar Jackson and others",
        more={
            "speaker": speakers,
            "take": np.array(take, np.uint8),
            "length": np.array(length, np.uint16),
        },
    )


def splits(audio: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> int64 indices: all of ``SPEAKER`` in "unheard", the others' takes dealt by ``TAKES``.

    Of each digit of each speaker the takes are put in the order of their SHA-256. An exact copy of
    another clip stands in no split. Any beginning of a split has digits and speakers in their
    shares.
    """
    voice = np.unique(speakers, return_inverse=True)[1]
    cell = 10 * voice + labels
    line = data._line(audio, cell)
    found: dict[str, list[int]] = {name: [] for name in TAKES}
    edges = np.cumsum(list(TAKES.values())) / sum(TAKES.values())
    for c in np.unique(cell[speakers != SPEAKER]):
        rows = line[cell[line] == c]
        for name, part in zip(TAKES, np.split(rows, np.round(edges[:-1] * len(rows)).astype(int))):
            found[name] += part.tolist()
    found[UNHEARD] = np.flatnonzero(speakers == SPEAKER).tolist()
    order = {row: place for place, row in enumerate(line.tolist())}
    dealt = {}
    for name, rows in found.items():
        rows = np.array([r for r in rows if r in order], dtype=np.int64)
        dealt[name] = rows[data._line(audio[rows], cell[rows])]
    return dealt
