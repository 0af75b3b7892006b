"""Sets that do not come with the course: the full sets of images, and spoken digits.

    downloads.fetch("mnist")                     get the files (asks the network, shows progress)
    downloads.load("mnist")                      read them: an ImageSet with splits train and test
    downloads.load("fsdd")                       spoken digits: an AudioSet, split for judging
    downloads.fsdd("train")                      the same as tensors in [-1, 1]
    downloads.cifar10("train")                   as are these: 45,000 photographs of 32 x 32
    python -m undiffuse.downloads fsdd           the same as fetch, from a terminal

Only training on speech needs one of them ("fsdd"); what was made from it comes with the course.
Nothing is fetched unless ``fetch`` is called or ``load`` is told ``download=True``. Every file is
checked against its SHA-256. A download that was cut goes on where it stopped. Files lie in the
folder that UNDIFFUSE_DOWNLOADS names, or in the user's cache, in a folder for each set; files that
are put there by hand are used as they are.

CIFAR-10 is published as Python pickles. They are not unpickled: a pickle can run code. A reader
that knows nothing but numbers, bytes, lists and dicts takes the arrays out of them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import _fsdd
from undiffuse._transfer import TransferFailed, transfer
from undiffuse.data import (
    AudioSet,
    DamagedData,
    DataNotFound,
    ImageSet,
    _waves,
    to_model_range,
)

if TYPE_CHECKING:
    import torch

CLOTHES = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
CIFAR_VALIDATION = 5000  # of the images for training
THINGS = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"


class NotDownloaded(DataNotFound):
    """The files of a set are not here; the message says how to get them."""


class DamagedDownload(DamagedData):
    """A file is not the published one; the message has its name and both checksums."""


class DownloadFailed(OSError):
    """A file could not be fetched; the message says what was tried and what serves instead."""


@dataclass(frozen=True)
class Remote:
    """A set that can be downloaded.

    files: name -> SHA-256, each at ``address`` + name; shipped: the set that comes with the course
    and serves instead; reader: how ``load`` reads it, "idx", "cifar", "fsdd" or "" for files only
    archive: the file at ``address`` that holds all of them; its own bytes may change (the host
        packs it anew), so that the files in it are checked, each, and not the archive
    """

    address: str
    files: Mapping[str, str]
    licence: str
    about: str
    size: str
    classes: tuple[str, ...] = ()
    shipped: str = ""
    reader: str = ""
    archive: str = ""


def _idx(*sha256: str) -> dict[str, str]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return {f"{name}-ubyte.gz": digest for name, digest in zip(names, sha256)}


SETS: dict[str, Remote] = {
    "mnist": Remote(
        address="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files=_idx(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        licence="CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
        about="handwritten digits, 70,000 images of 28 x 28",
        size="12 MB",
        classes=tuple("0123456789"),
        shipped="mnist10k",
        reader="idx",
    ),
    "fashion": Remote(
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files=_idx(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        licence="MIT, (c) 2017 Zalando SE",
        about="clothes, 70,000 images of 28 x 28",
        size="31 MB",
        classes=tuple(CLOTHES.split(",")),
        shipped="fashion10k",
        reader="idx",
    ),
    "cifar10": Remote(
        address="https://www.cs.toronto.edu/~kriz/",
        files={
            "cifar-10-python.tar.gz": (
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
            )
        },
        licence="none stated; please cite Krizhevsky 2009, Learning Multiple Layers of Features",
        about="things and animals, 60,000 images of 32 x 32 in colour",
        size="170 MB",
        classes=tuple(THINGS.split(",")),
        shipped="fashion10k",
        reader="cifar",
    ),
    "speech_commands": Remote(
        address="http://download.tensorflow.org/data/",
        files={
            "speech_commands_v0.02.tar.gz": (
                "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
            )
        },
        licence="CC BY 4.0, Google",
        about="spoken words, one second each at 16 kHz; its ten digits are the set SC09",
        size="2.4 GB",
    ),
    "fsdd": Remote(
        address="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/",
        files={},  # data/audio/fsdd_SHA256SUMS has the 3,000 of them
        licence="CC BY-SA 4.0, Zohar Jackson and others",
        about="spoken digits, 3,000 recordings of six speakers at 8 kHz",
        size="16 MB",
        classes=tuple("0123456789"),
        shipped="speech_prompts8k",
        reader="fsdd",
        archive="v1.0.10.tar.gz",
    ),
}


def folder() -> Path:
    """Where downloads lie: UNDIFFUSE_DOWNLOADS, or ``undiffuse`` in the user's cache folder."""
    named = os.environ.get("UNDIFFUSE_DOWNLOADS")
    if named:
        return Path(named).expanduser().resolve()
    import pooch

    return Path(pooch.os_cache("undiffuse"))


def fetch(
    name: str,
    *,
    progress: bool = True,
    retries: int = 3,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> dict[str, Path]:
    """Get the files of a set, those that are not here yet, and check all of them.

    name: "mnist", "fashion", "cifar10", "speech_commands" or "fsdd"; progress: a bar for each file
    retries: how often to try again after a failure that may pass (a cut or refused connection, a
        server's error); the pause before each is doubled, from ``pause`` seconds
    timeout: seconds without a byte after which a connection counts as cut

    Returns file name -> path. Raises ValueError for an unknown name, DownloadFailed when a file
    cannot be had (what there is of it is kept, to go on from), DamagedDownload when a file is not
    the published one.
    """
    remote = _remote(name)
    place = folder() / name
    how = {"progress": progress, "retries": retries, "timeout": timeout, "pause": pause}
    if remote.archive:
        return _fetch_fsdd(remote, how)
    paths = {}
    for file, sha256 in remote.files.items():
        path = paths[file] = place / file
        if path.is_file():
            _verify(path, sha256)
            continue
        address = remote.address + file
        try:
            got = transfer(address, path, sha256, **how)
        except TransferFailed as e:
            raise DownloadFailed(_failure(name, remote, path, address, sha256, str(e))) from e
        if got != sha256:
            raise DamagedDownload(
                f"{address} gave a file that is not the published one, and it was removed: "
                f"{file}'s SHA-256 is\n  {got}, expected\n  {sha256}"
            )
    return paths


def fsdd(
    split: str = "train", n: int | None = None, peak: float | None = 0.95
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spoken digits at 8 kHz (FSDD): clips and digits of a split, ready for a model.

    split: "train", "validation", "reference", "held_out" and "features" as for ``data.digits``,
    of five speakers, no recording in two of them; "unheard", a sixth speaker, whom neither models
    nor classifiers hear. n: how many, the first n of the split (stratified by digit and speaker),
    or None for all. peak: what the loudest sample of each clip is scaled to, since the speakers'
    levels differ by 20 dB; None leaves the level as recorded.

    Returns audio float32 (N, 1, 8192) in [-1, 1], silent after the word, and digits int64 (N,).
    What is longer than 8,192 samples is cut. Raises what ``load`` raises.
    """
    import torch

    audio, labels = load("fsdd").take(split, n)
    x = _waves(audio)
    if peak is not None:
        x = x * (peak / x.abs().amax(-1, keepdim=True).clamp(min=1 / 32768))
    return x, torch.from_numpy(labels.astype(np.int64))


def cifar10(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-10 ready for a model: images float32 (N, 3, 32, 32) in [-1, 1], classes int64 (N,).

    split: "train", the first 45,000 of the 50,000 published for training, and "validation", the
    rest; "reference" and "held_out", the two halves of the published test images. n: the first n,
    or None for all. Red, green and blue are the three channels. Raises ValueError for another split
    or more than there are, and what ``load`` raises.
    """
    import torch

    whole = load("cifar10")
    train, test = whole.splits["train"], whole.splits["test"]
    half = len(test) // 2
    splits = {
        "train": train[:-CIFAR_VALIDATION], "validation": train[-CIFAR_VALIDATION:],
        "reference": test[:half], "held_out": test[half:],
    }  # fmt: skip
    images, labels = replace(whole, splits=splits).take(split, n)
    return to_model_range(torch.from_numpy(images)), torch.from_numpy(labels.astype(np.int64))


def load(name: str, *, download: bool = False, progress: bool = True) -> ImageSet | AudioSet:
    """A full set, with splits "train" and "test": ``load("mnist").take("train", 1000)``.

    name: "mnist", "fashion" or "cifar10"; images are uint8, (N, 28, 28) or (N, 3, 32, 32). Or
    "fsdd", an ``AudioSet`` whose splits are those of ``fsdd``, with ``speaker`` and ``take`` in
    ``more``; its recordings are also found in audio/fsdd/recordings of the downloads' folder.
    download: whether files that are missing may be fetched

    The sets that come with the course are parts of these: what was trained on ``mnist`` may not be
    judged with ``mnist10k``. Raises ValueError for an unknown name, NotDownloaded when files are
    missing, and what ``fetch`` raises.
    """
    remote = _remote(name)
    if not remote.reader:
        raise ValueError(f"{name} is not a set of images: fetch({name!r}) gives its files")
    if remote.archive:
        return _load_fsdd(remote, download, progress)
    if download:
        paths = fetch(name, progress=progress)
    else:
        paths = {file: folder() / name / file for file in remote.files}
        for file, path in paths.items():
            if not path.is_file():
                raise NotDownloaded(
                    f"{path} is missing: {name} ({remote.about}, {remote.size}) has not been "
                    f"downloaded. downloads.fetch({name!r}) gets it; "
                    f"data.load({remote.shipped!r}) needs no download."
                )
            _verify(path, remote.files[file])
    at = list(paths.values())
    if remote.reader == "idx":
        parts = [(read_idx(at[0], 3), read_idx(at[1], 1)), (read_idx(at[2], 3), read_idx(at[3], 1))]
    else:
        parts = read_cifar(at[0])
    for images, labels in parts:
        if len(images) != len(labels) or labels.max() >= len(remote.classes):
            raise DamagedDownload(f"{at[0]}: images and labels do not belong together")
    (train, test), labels = [p[0] for p in parts], [p[1] for p in parts]
    return ImageSet(
        name=name,
        images=np.concatenate([train, test]),
        labels=np.concatenate(labels),
        classes=remote.classes,
        splits={
            "train": np.arange(len(train)),
            "test": np.arange(len(train), len(train) + len(test)),
        },
        licence=remote.licence,
    )


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an idx file (gzipped), which must have so many dimensions.

    Raises DamagedDownload when the header or the number of bytes is not as it must be.
    """
    try:
        with gzip.open(path) as f:
            head = f.read(4 + 4 * dimensions)
            zero, kind, count, *shape = struct.unpack(f">HBB{dimensions}I", head)
            if (zero, kind, count) != (0, 8, dimensions):
                raise ValueError(f"its header says {head[:4].hex()}, not bytes in {dimensions}-D")
            size = int(np.prod(shape, dtype=np.uint64))
            if not 0 < size <= 1 << 30:
                raise ValueError(f"its header says {shape}")
            content = f.read(size + 1)  # one more, to notice what does not belong
        if len(content) != size:
            more = "more" if len(content) > size else f"{len(content):,}"
            raise ValueError(f"{size:,} bytes were expected after the header and {more} are there")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as e:
        raise DamagedDownload(f"{path} is not a readable idx file: {e}") from e
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def read_cifar(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test images uint8 (N, 3, 32, 32) with labels uint8, from the published archive.

    Only the six files of that name are read, in memory, by a reader that runs no code.
    """
    batches = [f"data_batch_{k}" for k in range(1, 6)]
    read = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for name in [*batches, "test_batch"]:
                member = tar.getmember(f"cifar-10-batches-py/{name}")
                if not member.isfile() or member.size > 1 << 26:
                    raise ValueError(f"{name} is not a file of 30 MB")
                read[name] = _cifar_batch(tar.extractfile(member))
    except (OSError, EOFError, KeyError, ValueError, TypeError, tarfile.TarError, zlib.error) as e:
        raise DamagedDownload(f"{path} is not a readable CIFAR-10 archive: {e}") from e
    except (pickle.UnpicklingError, AttributeError, IndexError) as e:
        raise DamagedDownload(f"{path} holds a pickle that is not CIFAR-10's: {e}") from e
    train = [read[name] for name in batches]
    return [tuple(np.concatenate(part) for part in zip(*train)), read["test_batch"]]


class _Array:
    """Stands in for numpy's array and dtype in a pickle: it keeps what it is given, that is all."""

    def __init__(self, *arguments) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """Reads numbers, bytes, lists and dicts; arrays come out as ``_Array``; all else is refused."""

    def find_class(self, module: str, name: str):
        arrays = ("numpy.core.multiarray", "numpy._core.multiarray")
        if (module in arrays and name == "_reconstruct") or (module, name) in (
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return _Array
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not read")


def _cifar_batch(file) -> tuple[np.ndarray, np.ndarray]:
    batch = _Reader(file, encoding="bytes").load()
    _version, shape, kind, _fortran, content = batch[b"data"].state
    if kind.arguments[0] not in (b"u1", "u1") or tuple(shape)[1:] != (3072,):
        raise ValueError(f"its data is {kind.arguments[0]} {tuple(shape)}")
    images = np.frombuffer(content, np.uint8).reshape(-1, 3, 32, 32)
    labels = np.array(batch[b"labels"], dtype=np.uint8)
    if labels.shape != (len(images),):
        raise ValueError(f"{labels.shape} labels for {len(images)} images")
    return images, labels


def _fetch_fsdd(remote: Remote, how: dict) -> dict[str, Path]:
    place = _fsdd.find(folder()) or folder() / _fsdd.PLACES[0]
    if _fsdd.missing(place if place.is_dir() else None):
        archive, address = folder() / "fsdd" / remote.archive, remote.address + remote.archive
        try:
            transfer(address, archive, None, **how)
        except TransferFailed as e:
            raise DownloadFailed(_failure("fsdd", remote, archive, address, "", str(e))) from e
        try:
            _fsdd.unpack(archive, place)
        except _fsdd.Odd as e:
            raise DamagedDownload(
                f"{address} gave an archive that is not the published set, and it was removed: {e}"
            ) from e
        finally:
            archive.unlink(missing_ok=True)
    for name, sha256 in _fsdd.sums().items():
        _verify(place / name, sha256)
    return {name: place / name for name in _fsdd.sums()}


def _load_fsdd(remote: Remote, download: bool, progress: bool) -> AudioSet:
    if download:
        fetch("fsdd", progress=progress)
    place = _fsdd.find(folder())
    lacking = _fsdd.missing(place)
    if lacking:
        where = place or folder() / _fsdd.PLACES[0]
        raise NotDownloaded(
            f"{where / lacking[0]} is missing, and {len(lacking) - 1:,} more: fsdd "
            f"({remote.about}, {remote.size}) has not been downloaded. downloads.fetch('fsdd') "
            "gets it; data.speech_prompts() has ten spoken digits that need no download."
        )
    try:
        return _fsdd.read(place)
    except _fsdd.Odd as e:
        raise DamagedDownload(f"{e}.\nRemove it and fetch it again.") from e


def _remote(name: str) -> Remote:
    if name not in SETS:
        raise ValueError(f"no download is called {name!r}: there are {', '.join(SETS)}")
    return SETS[name]


def _verify(path: Path, sha256: str) -> None:
    stat = path.stat()
    got = _sha256(path, stat.st_size, stat.st_mtime_ns)
    if got != sha256:
        raise DamagedDownload(
            f"{path} is damaged or another file: its SHA-256 is\n  {got}, expected\n  {sha256}.\n"
            "Remove it and fetch it again."
        )


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _failure(name, remote, path, address, sha256, reason) -> str:
    instead = (
        f"data.load({remote.shipped!r}) comes with the course and serves instead. "
        if remote.shipped
        else ""
    )
    if remote.archive:
        needs = "Only training on speech needs it."
        by_hand = (
            f"If you have the set, put its recordings in\n  {folder() / _fsdd.PLACES[0]}\nor name "
            f"a folder that has {_fsdd.PLACES[0]} in UNDIFFUSE_DOWNLOADS."
        )
    else:
        needs = "Nothing else in the course needs it."
        by_hand = (
            f"If you have the file, put it at\n  {path}\n(SHA-256 {sha256}), or name a folder that "
            f"has {name}/{path.name} in UNDIFFUSE_DOWNLOADS."
        )
    return (
        f"{path.name} of {name} could not be downloaded.\n"
        f"  tried: {address}\n  {reason}\n{needs} {instead}\n{by_hand}"
    )


def main(arguments: list[str]) -> int:
    """``python -m undiffuse.downloads NAME...``; without a name it lists what there is."""
    if not arguments:
        for name, remote in SETS.items():
            print(f"{name:16} {remote.size:>7}  {remote.about} ({remote.licence})")
        print(f"files go to {folder()}")
        return 0
    try:
        for name in arguments:
            paths = list(fetch(name).values())
            for path in paths if len(paths) < 10 else [paths[0].parent]:
                print(path)
    except (OSError, ValueError, DamagedData) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
