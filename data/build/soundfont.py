"""Reads what the builders need of a SoundFont 2 file: its samples, and how instruments use them.

The format is RIFF: chunks of a four-letter name, a size and content. Samples are 16-bit in one
chunk, ``smpl``; a header a sample (``shdr``) says where it starts and stops and loops. Presets
("Violin") point to instruments, whose zones say which sample sounds for which keys, and with which
generators: 58 overrides the key at which it sounds untransposed, 54 whether it loops, 51 and 52
tune it. (SoundFont Technical Specification 2.04, sections 4 to 8.)
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field

import numpy as np

INSTRUMENT, COARSE_TUNE, FINE_TUNE, SAMPLE, SAMPLE_MODES, ROOT_KEY = 41, 51, 52, 53, 54, 58
RIGHT_CHANNEL = 2


@dataclass(frozen=True)
class Sample:
    """One recording. start, end, loop_start, loop_end: places in ``smpl``; key: as the header has
    it, which zones may override; kind: 1 mono, 2 right, 4 left."""

    name: str
    start: int
    end: int
    loop_start: int
    loop_end: int
    rate: int
    key: int
    kind: int


@dataclass(frozen=True)
class Zone:
    """How an instrument uses a sample."""

    sample: int
    root: int | None
    loops: bool
    cents: int


@dataclass(frozen=True)
class Preset:
    """A preset with the zones of its instruments, in the order of the file."""

    bank: int
    program: int
    name: str
    zones: tuple[Zone, ...] = field(repr=False)


class SoundFont:
    """A SoundFont from its bytes; ValueError when they are none."""

    def __init__(self, content: bytes) -> None:
        if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
            raise ValueError("not a SoundFont: it does not begin with RIFF and sfbk")
        self.content = content
        self.chunks = dict(_chunks(content, 12, len(content)))
        self.samples = [self._sample(r) for r in self._records("shdr", 46)[:-1]]
        self.presets = self._presets()

    def audio(self, sample: Sample) -> np.ndarray:
        """The recording, float32 in [-1, 1)."""
        at = self.chunks["smpl"][0] + 2 * sample.start
        return np.frombuffer(self.content, "<i2", sample.end - sample.start, at) / np.float32(32768)

    def _records(self, name: str, size: int) -> list[bytes]:
        at, length = self.chunks[name]
        return [self.content[i : i + size] for i in range(at, at + length, size)]

    @staticmethod
    def _sample(record: bytes) -> Sample:
        start, end, loop_start, loop_end, rate, key, _, _, kind = struct.unpack(
            "<5IBbHH", record[20:]
        )
        return Sample(_name(record), start, end, loop_start, loop_end, rate, key, kind)

    def _presets(self) -> list[Preset]:
        instruments = self._instruments()
        bags, generators = self._bags("pbag"), self._generators("pgen")
        found = []
        headers = self._records("phdr", 38)
        for this, after in itertools.pairwise(headers):
            program, bank, first = struct.unpack("<3H", this[20:26])
            last = struct.unpack("<H", after[24:26])[0]
            zones: list[Zone] = []
            for bag in range(first, last):
                for kind, value in generators[bags[bag] : bags[bag + 1]]:
                    if kind == INSTRUMENT:
                        zones += instruments[value]
            found.append(Preset(bank, program, _name(this), tuple(zones)))
        return found

    def _instruments(self) -> list[list[Zone]]:
        bags, generators = self._bags("ibag"), self._generators("igen")
        found = []
        headers = self._records("inst", 22)
        for this, after in itertools.pairwise(headers):
            first, last = (struct.unpack("<H", r[20:])[0] for r in (this, after))
            zones, shared = [], {}
            for bag in range(first, last):
                given = shared | dict(generators[bags[bag] : bags[bag + 1]])
                if SAMPLE in given:
                    zones.append(_zone(given))
                elif bag == first:  # a first zone without a sample holds for all of them
                    shared = given
            found.append(zones)
        return found

    def _bags(self, name: str) -> list[int]:
        return [struct.unpack("<H", r[:2])[0] for r in self._records(name, 4)]

    def _generators(self, name: str) -> list[tuple[int, int]]:
        return [struct.unpack("<HH", r) for r in self._records(name, 4)]


def _zone(given: dict[int, int]) -> Zone:
    def signed(kind: int) -> int:
        return (given.get(kind, 0) + 0x8000) % 0x10000 - 0x8000

    root = signed(ROOT_KEY) if ROOT_KEY in given else None
    return Zone(
        sample=given[SAMPLE],
        root=None if root is None or root < 0 else root,
        loops=given.get(SAMPLE_MODES, 0) & 1 == 1,
        cents=100 * signed(COARSE_TUNE) + signed(FINE_TUNE),
    )


def _name(record: bytes) -> str:
    return record[:20].split(b"\0")[0].decode("latin1").strip()


def _chunks(content: bytes, at: int, end: int):
    while at + 8 <= end:
        name = content[at : at + 4].decode("latin1")
        size = struct.unpack("<I", content[at + 4 : at + 8])[0]
        if name == "LIST":
            yield from _chunks(content, at + 12, at + 8 + size)
        else:
            yield name, (at + 8, size)
        at += 8 + size + size % 2
