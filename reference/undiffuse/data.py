"""The small real sets that come with the course: images, sounds, and drawings with words.

``load(name)`` reads a set as it is stored (uint8 or int16) and checks it against
``data/manifest.json``; ``digits``, ``fashion``, ``drums``, ``notes``, ``portraits`` and ``emoji``
give a split as tensors in [-1, 1], and ``speech_prompts`` a few spoken digits to try things out
with. Nothing here uses the network: for the full sets, and spoken digits to train on, see
``undiffuse.downloads``.

The splits are disjoint and each has one use, so that no figure is judged by what it was fitted to:

``train``       models are trained on it
``validation``  losses and choices while training (when to stop, which setting)
``reference``   the real side of the Frechet distance and of its kin
``held_out``    real images that nothing has seen: the real-against-real floor, and how near to
                training data a sample may fairly be
``features``    trains the classifier whose features and labels judge the models
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import packing

if TYPE_CHECKING:
    import torch

    from undiffuse.drawings import DrawingSet

SPLITS = ("train", "validation", "reference", "held_out", "features")


class DataNotFound(FileNotFoundError):
    """The data folder or a file of it is missing; the message says where was looked."""


class DamagedData(RuntimeError):
    """A file is not what the manifest says; the message names it and says how to restore it."""


@dataclass(frozen=True)
class ImageSet:
    """A set as stored.

    name: its name in the manifest
    images: uint8 (N, H, W) in [0, 255], ink bright on black ground
    labels: uint8 (N,), index into ``classes``
    classes: what each label means
    splits: name -> int64 indices into ``images``, disjoint; any beginning of a split is
        stratified, so ``splits["train"][:100]`` has every class in its share
    licence: in one line; the card beside the file has the whole
    """

    name: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    splits: Mapping[str, np.ndarray] = field(repr=False)
    licence: str

    def __len__(self) -> int:
        return len(self.images)

    def take(self, split: str = "train", n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first ``n`` images (uint8) and labels of a split; all of it when ``n`` is None.

        Raises ValueError for an unknown split, or for ``n`` below 1 or above the split's size.
        """
        index = _rows(self.name, self.splits, split, n, "images")
        return self.images[index], self.labels[index]


@dataclass(frozen=True)
class AudioSet:
    """A set of sounds as stored.

    name: its name in the manifest
    audio: int16 (N, L), one channel; 32767 is as loud as it goes; silence fills short clips
    labels: uint8 (N,), index into ``classes``
    classes: what each label means
    rate: samples a second
    splits: name -> int64 indices into ``audio``, disjoint, and any beginning of a split is
        stratified; empty for a set without splits
    licence: in one line; the card beside the file has the whole
    more: the other arrays of the file, by name: those with N rows say something of each clip, such
        as ``licence`` and ``drum`` of drums16k, ``midi`` and ``preset`` of notes8k
    """

    name: str
    audio: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    rate: int
    splits: Mapping[str, np.ndarray] = field(repr=False)
    licence: str
    more: Mapping[str, np.ndarray] = field(repr=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.audio)

    def rows(self, split: str = "train", n: int | None = None) -> np.ndarray:
        """The first ``n`` indices (int64) of a split; all of it when ``n`` is None.

        Raises ValueError for an unknown split, or for ``n`` below 1 or above the split's size.
        """
        return _rows(self.name, self.splits, split, n, "clips")

    def take(self, split: str = "train", n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first ``n`` clips (int16) and labels of a split; as ``rows``."""
        index = self.rows(split, n)
        return self.audio[index], self.labels[index]


def digits(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Handwritten digits (MNIST): images and labels of a split, ready for a model.

    split: one of ``SPLITS``; n: how many, the first n of the split (stratified), or None for all

    Returns images float32 (N, 1, 28, 28) in [-1, 1] and labels int64 (N,). The tensors are yours:
    to change them changes nothing else. Raises ValueError for an unknown split or too great an n,
    DataNotFound or DamagedData when the file is missing or not as recorded.
    """
    return _tensors("mnist10k", split, n)


def fashion(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of clothes (Fashion-MNIST): as ``digits``, with ten kinds of clothing."""
    return _tensors("fashion10k", split, n)


def drums(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Drum hits at 16 kHz: clips and labels of a split, ready for a model.

    split: one of ``SPLITS``; no drum stands in two of them. n: how many, the first n of the split
    (stratified), or None for all.

    Returns audio float32 (N, 1, 8192) in [-1, 1] and labels int64 (N,), in the order of
    ``load("drums16k").classes``. Raises what ``digits`` raises.
    """
    import torch

    audio, labels = load("drums16k").take(split, n)
    return _waves(audio), torch.from_numpy(labels.astype(np.int64))


def notes(
    split: str = "train", n: int | None = None, sustained: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Single notes of instruments at 8 kHz: clips, families and pitches of a split.

    split, n: as for ``drums``; no note of an instrument stands in two splits. sustained: whether
    recordings that end before the clip does are played on by their loop, as a sampler does it, or
    given as recorded, with silence after them.

    Returns audio float32 (N, 1, 8192) in [-1, 1], families int64 (N,), in the order of
    ``load("notes8k").classes``, and pitches int64 (N,): the MIDI key nearest to what sounds, where
    69 is A at 440 Hz and 60 middle C (``load("notes8k").more["cents"]`` has by how much it is
    off). Raises what ``digits`` raises.
    """
    import torch

    held = load("notes8k")
    rows = held.rows(split, n)
    audio = held.audio
    if sustained:
        audio[held.more["sustained_rows"]] = held.more["sustained"]
    return (
        _waves(audio[rows]),
        torch.from_numpy(held.labels[rows].astype(np.int64)),
        torch.from_numpy(held.more["midi"][rows].astype(np.int64)),
    )


def portraits(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """People by role, tone of skin and style of drawing: pictures and prompts of a split.

    split, n: as for ``drums``; no combination of role, tone and style stands in two splits, and
    each pair of them is trained on. Returns images float32 (N, 3, 32, 32) in [-1, 1] and tokens
    int64 (N, 20) of their prompts (``vocab``). Raises what ``digits`` raises.
    """
    return _told("portraits32", split, n)


def emoji(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Emoji of things, animals, faces and places: as ``portraits``, by concept and style.

    Each concept is trained on in up to two styles; its third is in another split.
    """
    return _told("emoji32", split, n)


def vocab(name: str) -> dict[str, int]:
    """Word -> number, of all prompts of the training split of a set of drawings."""
    path = locate(name)
    stat = path.stat()
    return dict(_vocab(name, path, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=4)
def _vocab(name: str, path: Path, size: int, mtime_ns: int) -> dict[str, int]:
    from undiffuse.text import make_vocab

    held = load(name)
    return make_vocab(held.prompts(held.splits["train"]))


def _told(name: str, split: str, n: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    from undiffuse.drawings import LENGTH
    from undiffuse.text import tokenize

    held = load(name)
    rows = _rows(name, held.splits, split, n, "drawings")
    values = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1.0)
    x = torch.from_numpy(values[held.images[rows]]).permute(0, 3, 1, 2).contiguous()
    return x, tokenize(held.prompts(rows), vocab(name), LENGTH)


def speech_prompts(
    language: str | None = "en-US",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ten digits as a telephone system speaks them, at 8 kHz: to try things out with.

    One clip of each digit and voice: no set to train or judge with (that is ``downloads``'s
    "fsdd"). language: "en-US", "es-MX", "fr-CA", "it-IT", or None for all four.

    Returns audio float32 (10 or 40, 1, 8192) in [-1, 1], silent after the word, and the digits
    int64. Raises ValueError for another language.
    """
    import torch

    held = load("speech_prompts8k")
    known = list(dict.fromkeys(held.more["language"].tolist()))
    if language is not None and language not in known:
        raise ValueError(
            f"there are prompts in {', '.join(known)}, not in {language!r}"
            + _nearest(str(language), known)
        )
    rows = slice(None) if language is None else held.more["language"] == language
    return _waves(held.audio[rows]), torch.from_numpy(held.labels[rows].astype(np.int64))


def to_model_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 images of any shape, 0..255, as float32 in [-1, 1]: ``x / 127.5 - 1``.

    Raises TypeError when ``images`` is not a uint8 tensor: numbers that are already scaled would
    silently be scaled twice.
    """
    import torch

    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        given = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"to_model_range wants a uint8 tensor, got {given}")
    return images.to(torch.float32) / 127.5 - 1.0


def sets() -> tuple[str, ...]:
    """The names that ``load`` knows."""
    return tuple(manifest()["sets"])


def load(name: str) -> ImageSet | AudioSet | DrawingSet:
    """The set called ``name`` (one of ``sets()``), checked against the manifest.

    An ``ImageSet`` for "mnist10k" and "fashion10k", an ``AudioSet`` for "drums16k", "notes8k" and
    "speech_prompts8k", a ``DrawingSet`` for "portraits32" and "emoji32".

    The arrays are copies. A file is hashed once per process and again when its size or time of
    change differ. Raises ValueError for an unknown name (with the nearest one), DataNotFound when
    the file is missing, DamagedData when it is not the recorded one.
    """
    entry = _entry(name)
    path = locate(name)
    stat = path.stat()
    stored = _read(name, path, stat.st_size, stat.st_mtime_ns)
    if entry["kind"] == "drawings":
        from undiffuse.drawings import arrange

        return arrange(name, stored, stored.splits, entry["licences"])
    splits = {k: v.copy() for k, v in stored.splits.items()}
    if entry["kind"] == "audio":
        own = ("audio", "label", "split")
        return AudioSet(
            name=name,
            audio=stored["audio"].copy(),
            labels=stored["label"].copy(),
            classes=tuple(entry["classes"]),
            rate=entry["rate"],
            splits=splits,
            licence=entry["licence"],
            more={k: v.copy() for k, v in stored.items() if k not in own},
        )
    return ImageSet(
        name=name,
        images=stored["images"].copy(),
        labels=stored["labels"].copy(),
        classes=tuple(entry["classes"]),
        splits=splits,
        licence=entry["licence"],
    )


def locate(name: str) -> Path:
    """Where the file of a set lies. Raises DataNotFound when it does not."""
    entry = _entry(name)
    path = folder() / entry["file"]
    if not path.is_file():
        raise DataNotFound(f"{path} is missing: it holds the set {name!r}. {_restore(entry)}")
    return path


def folder() -> Path:
    """The data folder: the one with ``manifest.json``.

    Looked for in the environment variable UNDIFFUSE_DATA (which, when set, must be right), then
    in ``data/`` beside or above this package (an editable installation), then in ``data/`` of the
    current folder and those above it. Raises DataNotFound with the places that were tried.
    """
    named = os.environ.get("UNDIFFUSE_DATA")
    if named:
        path = Path(named).expanduser().resolve()
        if (path / "manifest.json").is_file():
            return path
        raise DataNotFound(
            f"UNDIFFUSE_DATA is {named!r}, which holds no manifest.json: it should name the "
            "course's data folder"
        )
    above = [*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents]
    tried = list(dict.fromkeys(place / "data" for place in above))
    for path in tried:
        if (path / "manifest.json").is_file():
            return path
    raise DataNotFound(
        "the course's data folder was not found. Looked for manifest.json in:\n  "
        + "\n  ".join(str(p) for p in tried)
        + "\nGo to a folder inside the course, or set UNDIFFUSE_DATA to its data folder."
    )


def manifest() -> dict:
    """``manifest.json`` as a dict. Raises DamagedData when it cannot be read as one."""
    path = folder() / "manifest.json"
    stat = path.stat()
    return _manifest(path, stat.st_size, stat.st_mtime_ns)


def split_indices(images: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int]) -> dict:
    """Disjoint, stratified splits by a rule that needs no random numbers.

    images: uint8 (N, ...); labels: integer (N,); sizes: name -> how many, in order; at most one
    may be -1, "all that is left", and it must be the last

    Within a class, images stand in the order of their SHA-256, which is as good as shuffled and
    the same everywhere. The k-th of a class of size m gets the place (k + 1/2) / m, all images
    are sorted by place, and the splits are cut from that line: each stretch of it holds every
    class in its share, to within one image. A second copy of an image gets no place at all, so
    that no two splits share an image even by their bytes.

    Returns name -> int64 indices. Raises ValueError when the sizes ask for more than there is.
    """
    line = _line(images, labels)
    splits, start = {}, 0
    for name, size in sizes.items():
        stop = len(line) if size == -1 else start + size
        if stop > len(line):
            raise ValueError(
                f"the splits ask for {stop} images or more, and {len(line)} different ones exist"
            )
        splits[name] = line[start:stop]
        start = stop
    return splits


def _line(samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices (int64) of the different ones among ``samples`` in the order of ``split_indices``."""
    hashes = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest() for x in samples]
    first: dict[bytes, int] = {}
    for i, h in enumerate(hashes):
        first.setdefault(h, i)
    places = []
    for c in np.unique(labels):
        members = sorted((h, i) for h, i in first.items() if labels[i] == c)
        places += [((k + 0.5) / len(members), int(c), i) for k, (_, i) in enumerate(members)]
    return np.array([i for _, _, i in sorted(places)], dtype=np.int64)


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's values (little-endian, C order); shape and dtype are recorded apart."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<"), copy=False)).hexdigest()


def _tensors(name: str, split: str, n: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    images, labels = load(name).take(split, n)
    # A table of the 256 values, and not to_model_range: lesson 00 asks the learner for that one,
    # and its absence there must not take the data away. The values are the same to the last bit.
    values = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1.0)
    return (
        torch.from_numpy(values[images][:, None]),
        torch.from_numpy(labels.astype(np.int64)),
    )


def _waves(audio: np.ndarray) -> torch.Tensor:
    """int16 (N, L) as float32 (N, 1, L) in [-1, 1)."""
    import torch

    return torch.from_numpy(audio[:, None] / np.float32(32768))


def _rows(
    name: str, splits: Mapping[str, np.ndarray], split: str, n: int | None, what: str
) -> np.ndarray:
    """The first n indices of a split, or what is wrong with the wish."""
    if split not in splits:
        has = ", ".join(splits) or "none"
        raise ValueError(
            f"{name} has no split {split!r}: it has {has}" + _nearest(str(split), splits)
        )
    index = splits[split]
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, int | np.integer):
            raise TypeError(f"n is {n!r}; a whole number is wanted, or None for all")
        if not 1 <= n <= len(index):
            raise ValueError(f"n is {n}, but {name}'s {split!r} split has {len(index)} {what}")
        index = index[:n]
    return index


class _Stored(dict):
    """A set's arrays, with its splits beside them; shared by all callers, so never handed out."""

    splits: dict[str, np.ndarray]


@lru_cache(maxsize=8)
def _read(name: str, path: Path, size: int, mtime_ns: int) -> _Stored:
    """The arrays of a set, checked; by size and mtime_ns the cache notices a change."""
    entry = _entry(name)
    content = path.read_bytes()
    if len(content) != entry["bytes"]:
        how = "truncated" if len(content) < entry["bytes"] else "too long"
        raise DamagedData(
            f"{path} is {how}: {len(content):,} bytes, expected {entry['bytes']:,}. "
            + _restore(entry)
        )
    got = hashlib.sha256(content).hexdigest()
    if got != entry["sha256"]:
        raise DamagedData(
            f"{path} is damaged: its SHA-256 is\n  {got}, expected\n  {entry['sha256']}.\n"
            + _restore(entry)
        )
    try:
        shapes = {key: tuple(about["shape"]) for key, about in entry["arrays"].items()}
        stored = _Stored(packing.unpack(content, shapes))
    except packing.ERRORS as e:
        raise DamagedData(f"{path} cannot be read ({e}). {_restore(entry)}") from e
    for key, want in entry["arrays"].items():
        array = stored[key]
        if list(array.shape) != want["shape"] or array.dtype.name != want["dtype"]:
            raise DamagedData(
                f"{path}: {key} is {array.dtype} {array.shape}, expected "
                f"{want['dtype']} {tuple(want['shape'])}. {_restore(entry)}"
            )
    if entry["kind"] == "images":
        stored.splits = split_indices(stored["images"], stored["labels"], entry["splits"])
    else:  # whole drums, notes and combinations are dealt by the builder: it is in the file
        stored.splits = {}
        of_sound = entry["kind"] == "audio"
        samples, groups = ("audio", "label") if of_sound else ("images", "vendor")
        for i, split in enumerate(entry["splits"]):
            rows = np.flatnonzero(stored["split"] == i)
            kinds = np.unique(stored[groups], return_inverse=True)[1]
            stored.splits[split] = rows[_line(stored[samples][rows], kinds[rows])]
    return stored


@lru_cache(maxsize=4)
def _manifest(path: Path, size: int, mtime_ns: int) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["sets"], dict):
            raise TypeError("'sets' is no table")
    except (ValueError, KeyError, TypeError) as e:
        raise DamagedData(
            f"{path} is damaged ({e}): bring it back with\n  git checkout -- data/manifest.json"
        ) from e
    return content


def _entry(name: str) -> dict:
    known = manifest()["sets"]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"no set is called {name!r}: there are {', '.join(known)}" + _nearest(str(name), known)
        )
    return known[name]


def _restore(entry: dict) -> str:
    return (
        f"Bring it back with\n  git checkout -- data/{entry['file']}\n"
        f"or build it again with\n  {entry['builder']}"
    )


def _nearest(word: str, known) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""
