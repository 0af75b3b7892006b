"""Build data/images/{portraits32,emoji32}.npz: emoji in three styles, the same bytes every time.

Without ``--write`` it builds, compares with the files and the manifest here, says what differs and
exits 1 if anything does. With it, it writes the files, their entries in manifest.json and the
tables between the ``generated`` marks of their cards.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from build_images import (
    Package,
    arguments,
    compare_and_write,
    load_manifest,
    manifest_file,
    obtain,
    with_set,
)
from PIL import Image

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse.data import SPLITS, digest  # noqa: E402 - found by the line above
from undiffuse.packing import pack  # noqa: E402

SIZE = 32
BUILDER = "python data/build/build_drawings.py --write"
NOWHERE = 255  # the split of a second copy


def _npm(name: str, file: str, sha256: str) -> Package:
    at, version = name.rsplit(" ", 1)
    return Package(
        f"npm {name}",
        file,
        sha256,
        ("npm", "pack", f"{at}@{version}", "--silent"),
        f"https://www.npmjs.com/package/{at}/v/{version}",
    )


PACKAGES = {
    "google": _npm(
        "emoji-datasource-google 16.0.0",
        "emoji-datasource-google-16.0.0.tgz",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
    "twitter": _npm(
        "emoji-datasource-twitter 16.0.0",
        "emoji-datasource-twitter-16.0.0.tgz",
        "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    ),
    "fluent3d": _npm(
        "@lobehub/fluent-emoji-3d 1.1.0",
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "names": _npm(
        "fluentui-emoji-js 1.2.1",
        "fluentui-emoji-js-1.2.1.tgz",
        "c05e6097fb3eee7c9d1cc810e8b031a570cec9d44b232046f60fb664a2329dab",
    ),
}
LICENCES = {
    "google": "Apache-2.0, (c) Google LLC (Noto Emoji)",
    "twitter": "CC BY 4.0, (c) Twitter, Inc and other contributors (Twemoji)",
    "fluent3d": "MIT, (c) Microsoft Corporation (Fluent Emoji)",
}
VENDORS = tuple(LICENCES)
TONES = ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")
CODE_POINTS = {"1F3FB": 1, "1F3FC": 2, "1F3FD": 3, "1F3FE": 4, "1F3FF": 5}
PORTRAITS = ("person", "person-role", "person-gesture")
# Of Fluent the package's files of U+1F3FC and U+1F3FD show each other's tone: see the card.
EXCHANGED = {"fluent3d": {"medium-light": "medium", "medium": "medium-light"}}
# Emoji of these categories are not trained on in this style.
HELD_OUT = {
    "Animals & Nature": "google",
    "Food & Drink": "fluent3d",
    "Travel & Places": "twitter",
}
NOT_FLUENT = re.compile(r"technologist|paperclip|video game|joystick", re.I)
LEFT_OUT = {"time", "family", "heart", "other-symbol"}


@dataclass
class Drawings:
    """What the packages hold, unpacked into memory.

    emoji: entries of emoji.json but components and flags, in Unicode's order. files: vendor -> name
    of the file -> its bytes. fluent: code points -> file of Fluent; allowed: code points whose
    drawing belongs to Fluent.
    """

    emoji: list[dict]
    files: dict[str, dict[str, bytes]]
    fluent: dict[str, str]
    allowed: set[str] = field(default_factory=set)

    def picture(self, vendor: str, unified: str, image: str) -> np.ndarray | None:
        """uint8 (32, 32, 3) on white of one drawing, or None where the vendor has none."""
        name = self.fluent.get(_plain(unified), "") if vendor == "fluent3d" else image
        content = self.files[vendor].get(name)
        return None if content is None else on_white(content)

    def is_fluent(self, entry: dict) -> bool:
        """Whether Fluent's own list has the emoji; some files of the package are others' work."""
        known = entry["unified"].lower().replace("-fe0f", "") in self.allowed
        return known and not NOT_FLUENT.search(entry["name"])


def _plain(code: str) -> str:
    return code.lower().replace("-fe0f", "")


def on_white(content: bytes, size: int = SIZE) -> np.ndarray:
    """uint8 (size, size, 3): the picture on white, made smaller by Lanczos' filter."""
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    ground.alpha_composite(image)
    return np.asarray(ground.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


def unpack(contents: dict[str, bytes]) -> Drawings:
    """The parts of the packages that are used."""
    files: dict[str, dict[str, bytes]] = {}
    folders = {"google": "img/google/64/", "twitter": "img/twitter/64/", "fluent3d": "assets/"}
    listed: dict[str, bytes] = {}
    for vendor, content in contents.items():
        files[vendor] = {}
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("package/")
                folder = folders.get(vendor)
                if folder and name.startswith(folder):
                    files[vendor][name.removeprefix(folder)] = tar.extractfile(member).read()
                elif (vendor, name) in (("google", "emoji.json"), ("names", "emojiData.json")):
                    listed[vendor] = tar.extractfile(member).read()
    emoji = [e for e in json.loads(listed["google"])
             if e["category"] not in ("Component", "Flags")]  # fmt: skip
    emoji.sort(key=lambda e: e["sort_order"])
    allowed = {
        _plain(d["unicode"].lower().replace(" ", "-").replace("_", "-"))
        for d in json.loads(listed["names"])
        if "3D" in d.get("emojiStyles", [])
    }
    # Where a code point has two files, the shorter name is taken.
    names = sorted(files["fluent3d"], key=lambda name: (-len(name), name))
    fluent = {_plain(name.removesuffix(".webp")): name for name in names}
    return Drawings(emoji, files, fluent, allowed)


def portraits(packages: Drawings) -> dict[str, np.ndarray]:
    """People by role, tone of skin and vendor, as the tables of Unicode list them.

    tone: what the file's name says; shown: what the drawing shows, which differs for Fluent.
    """
    images, rows = [], []
    by_name = {e["name"].lower(): packages.is_fluent(e) for e in packages.emoji}
    for entry in packages.emoji:
        if entry["subcategory"] not in PORTRAITS:
            continue
        tones = {CODE_POINTS[k]: v for k, v in entry.get("skin_variations", {}).items()
                 if k in CODE_POINTS}  # fmt: skip
        for tone, one in {0: entry, **tones}.items():
            for vendor in VENDORS:
                name = entry["name"].lower()
                if vendor == "fluent3d" and not by_name[name]:
                    continue
                image = packages.picture(vendor, one["unified"], one["image"])
                if image is not None:
                    images.append(image)
                    rows.append((name, TONES[tone], vendor, entry["subcategory"]))
    name, tone, vendor, sub = map(np.array, zip(*rows))
    shown = np.array([EXCHANGED.get(v, {}).get(t, t) for v, t in zip(vendor, tone)])
    arrays = {"images": np.stack(images), "vendor": vendor, "tone": tone, "name": name, "sub": sub}
    arrays["shown"] = shown
    cells = sorted(set(name.tolist()))
    place = {
        (n, v, t): (rank - 2 * VENDORS.index(v)) % len(TONES)
        for n in cells
        for v in VENDORS
        for rank, t in enumerate(_shuffled(TONES, n))
    }
    spare = set(_shuffled(cells, "validation")[: len(cells) // 4])

    def deal(i: int) -> str:
        """Of the six tones of a role in a style three are for training, and two for the judge.

        Over the three styles each has all six tones of a role, so that neither can take one of a
        role's tones for the role. Of the sixth tones every other one is held out.
        """
        at = place[name[i], vendor[i], shown[i]]
        if at == 0 and name[i] in spare:  # the same role and tone is trained on in another style
            return "validation"
        sixth = ("held_out", "reference")[(cells.index(name[i]) + VENDORS.index(vendor[i])) % 2]
        return ("train", "train", "train", sixth, "features", "features")[at]

    arrays["split"] = dealt(arrays["images"], deal)
    return arrays


def emoji(packages: Drawings) -> dict[str, np.ndarray]:
    """Everything else that is a picture of something: one drawing a vendor."""

    def of_one_gender(e: dict) -> bool:
        code = e["unified"]
        people = e["category"] == "People & Body" and code.split("-")[0] in ("1F468", "1F469")
        return "2640" in code or "2642" in code or (people and "200D" in code)

    kept = [
        e
        for e in packages.emoji
        if e["category"] != "Symbols" and e["subcategory"] not in LEFT_OUT and not of_one_gender(e)
    ]
    by_name = {e["name"].lower(): packages.is_fluent(e) for e in packages.emoji}
    categories = sorted({e["category"] for e in packages.emoji})
    images, rows = [], []
    for vendor in VENDORS:
        for entry in kept:
            name = entry["name"].lower()
            if vendor == "fluent3d" and not by_name[name]:
                continue
            image = packages.picture(vendor, entry["unified"], entry["image"])
            if image is not None:
                images.append(image)
                where = categories.index(entry["category"])
                rows.append((vendor, name, where, entry["subcategory"]))
    vendor, name, category, subcategory = map(np.array, zip(*rows))
    arrays = {
        "images": np.stack(images),
        "vendor": vendor,
        "name": name,
        "category": category.astype(np.uint8),
        "categories": np.array(categories),
        "subcategory": subcategory,
    }
    # Of a concept in twenty, so many have one drawing in each of these; the others are trained on.
    shares = {"features": 5, "reference": 3, "validation": 3}
    order = [split for split, n in shares.items() for _ in range(n)] + ["train"] * 9
    concepts = sorted(set(name.tolist()))
    spare = {c: order[i % len(order)] for i, c in enumerate(_shuffled(concepts, "spare"))}
    unseen = {c: i % 5 for i, c in enumerate(_shuffled(concepts, "unseen"))}

    def deal(i: int) -> str:
        """All of a category in one style is held out; a part of it teaches the classifiers."""
        if HELD_OUT.get(categories[category[i]]) == vendor[i]:
            return "held_out" if unseen[name[i]] < 4 else "features"
        free = [
            v for v in _shuffled(VENDORS, name[i]) if HELD_OUT.get(categories[category[i]]) != v
        ]
        return spare[name[i]] if vendor[i] == free[-1] else "train"

    arrays["split"] = dealt(arrays["images"], deal)
    return arrays


def _shuffled(values, key: str) -> list[str]:
    """``values`` in the order of SHA-256 of key and value: as good as shuffled, and always so."""
    return sorted(values, key=lambda v: hashlib.sha256(f"{key}|{v}".encode()).digest())


def dealt(images: np.ndarray, deal) -> np.ndarray:
    """uint8 (N,): index into ``SPLITS``; ``NOWHERE`` for a second copy of a picture."""
    seen: set[bytes] = set()
    found = np.full(len(images), NOWHERE, np.uint8)
    for i, image in enumerate(images):
        if image.tobytes() not in seen:
            found[i] = SPLITS.index(deal(i))
        seen.add(image.tobytes())
    return found


SETS = {"portraits32": portraits, "emoji32": emoji}


def entry(name: str, content: bytes, arrays: dict[str, np.ndarray]) -> dict:
    """What manifest.json records of a set."""
    return {
        "file": f"images/{name}.npz",
        "card": f"images/{name}.md",
        "kind": "drawings",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "arrays": {
            key: {"dtype": a.dtype.name, "shape": list(a.shape), "sha256": digest(a)}
            for key, a in arrays.items()
        },
        "licence": "by vendor: " + "; ".join(LICENCES.values()),
        "licences": LICENCES,
        "packages": [{"name": p.name, "sha256": p.sha256} for p in PACKAGES.values()],
        "builder": BUILDER,
        "splits": {s: int((arrays["split"] == i).sum()) for i, s in enumerate(SPLITS)},
    }


def tables(record: dict, arrays: dict[str, np.ndarray]) -> str:
    """The generated part of a card: the file's facts, and counts per value and split."""
    lines = [
        f"- file: `{record['file']}`, {record['bytes']:,} bytes",
        f"- SHA-256: `{record['sha256']}`",
        *(
            f"- `{key}`: {a['dtype']} {tuple(a['shape'])}, SHA-256 of its values `{a['sha256']}`"
            for key, a in record["arrays"].items()
        ),
        f"- exact copies among the images, in no split: {(arrays['split'] == NOWHERE).sum()}",
        f"- mean and standard deviation of the pixels, scaled to [-1, 1]: "
        f"{arrays['images'].mean() / 127.5 - 1:.4f} and {arrays['images'].std() / 127.5:.4f}",
        "",
        "| | " + " | ".join(SPLITS) + " | all |",
        "|---|" + "---:|" * (len(SPLITS) + 1),
    ]
    groups = {"vendor": arrays["vendor"]}
    if "shown" in arrays:
        groups["tone"] = arrays["shown"]
    else:
        groups["category"] = arrays["categories"][arrays["category"]]
    for key, values in groups.items():
        for value in dict.fromkeys(values.tolist()):
            counts = [int(((values == value) & (arrays["split"] == i)).sum())
                      for i in range(len(SPLITS))]  # fmt: skip
            row = " | ".join(map(str, [*counts, sum(counts)]))
            lines.append(f"| {key}: {value} | {row} |")
    counts = [*record["splits"].values()]
    lines.append("| all | " + " | ".join(f"{n:,}" for n in [*counts, sum(counts)]) + " |")
    if "shown" in arrays:
        lines += ["", *_brightness(arrays)]
    return "\n".join(lines)


def _brightness(arrays: dict[str, np.ndarray]) -> list[str]:
    """Of plain faces: how bright the middle of the picture is, by the tone of the file's name."""
    plain = np.isin(arrays["name"], ["man", "woman", "boy", "girl", "adult", "man: bald"])
    lines = [
        "Mean brightness (0 to 255) of the middle of plain faces, by the tone in the file's name:",
        "",
        "| | " + " | ".join(TONES) + " |",
        "|---|" + "---:|" * len(TONES),
    ]
    for vendor in VENDORS:
        cells = []
        for tone in TONES:
            rows = plain & (arrays["vendor"] == vendor) & (arrays["tone"] == tone)
            cells.append(f"{arrays['images'][rows][:, 14:22, 12:20].mean():.0f}")
        lines.append(f"| {vendor} | " + " | ".join(cells) + " |")
    return lines


def main() -> int:
    options = arguments(__doc__)
    contents = {k: obtain(p, options.packages, options.cache) for k, p in PACKAGES.items()}
    packages = unpack(contents)
    manifest = load_manifest(options.out)
    files: dict[Path, bytes] = {}
    for name, build in SETS.items():
        arrays = build(packages)
        content = pack(arrays, ("images",))
        record = entry(name, content, arrays)
        table = tables(record, arrays)
        files |= with_set(name, content, record, table, options.out, manifest)
    return compare_and_write(files | manifest_file(options.out, manifest), options.write)


if __name__ == "__main__":
    sys.exit(main())
