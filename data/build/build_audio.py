"""Build data/audio/{drums16k,notes8k,speech_prompts8k}.npz from published packages.

Without ``--write`` it builds, compares with the files and the manifest here, says what differs and
exits 1 if anything does. With it, it writes the files, the attribution of the drums, their entries
in manifest.json and the tables between the ``generated`` marks of their cards. It fetches 400 MB.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterable
from math import gcd
from pathlib import Path

import numpy as np
from build_images import (
    Package,
    arguments,
    compare_and_write,
    deb_data,
    load_manifest,
    manifest_file,
    obtain,
    with_set,
)
from group_splits import group_splits
from scipy.signal import resample_poly
from sound_sources import (
    DRUMS,
    FAMILIES,
    KITS,
    UNPITCHED,
    VOICES,
    Hit,
    Note,
    avl,
    fluid_drums,
    fluid_notes,
    hydrogen,
    members,
    sonic_pi,
    soundfont,
    spoken_digit,
)

from undiffuse.data import SPLITS, digest  # found through build_images
from undiffuse.packing import pack

BUILDER = "python data/build/build_audio.py --write"
LENGTH = 8192
LOUDEST = 0.95 * 32767
SHARES = {
    "train": 0.48,
    "validation": 0.06,
    "reference": 0.14,
    "held_out": 0.14,
    "features": 0.18,
}
PITCHED = tuple(f for f in FAMILIES if f not in UNPITCHED)


def debian(name: str, version: str, sha256: str, arch: str = "all") -> Package:
    """A Debian package, by apt."""
    return Package(
        name=f"Debian {name} {version}",
        file=f"{name}_{version}_{arch}.deb",
        sha256=sha256,
        fetch=("apt-get", "download", f"{name}={version}"),
        page=f"https://packages.debian.org/bookworm/{name}",
    )


SONIC_PI = Package(
    name="npm supersonic-scsynth-samples 0.84.2",
    file="supersonic-scsynth-samples-0.84.2.tgz",
    sha256="aff0b03208adb5dc7612dc7a4e86d55161188326bcff4dbc2d20ce9e1b94238c",
    fetch=("npm", "pack", "supersonic-scsynth-samples@0.84.2", "--silent"),
    page="https://www.npmjs.com/package/supersonic-scsynth-samples/v/0.84.2",
)
HYDROGEN = debian(
    "hydrogen-drumkits",
    "2017.09.19~dfsg-1",
    "6ea3c6df9a67762e2362f946c695e619859126b19fbccf32a2e8f07dfd03b2f4",
)
AVL = debian(
    "avldrums.lv2-soundfont",
    "0.5.2-2",
    "436813f10c950324f28cb6a71e922f153084b6ed00049cd47da3f0f055f3ffc5",
)
FLUID = debian(
    "fluid-soundfont-gm",
    "3.1-5.3",
    "6f531493ac4e4d9772fd96b2488ea1790af81c196135fbdd25997da0781fc60e",
)
ASTERISK = {
    language: debian(f"asterisk-core-sounds-{language}-wav", "1.6.1-1", sha256)
    for language, sha256 in {
        "en": "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
        "es": "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
        "fr": "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
        "it": "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
    }.items()
}
SETS = {
    "drums16k": {
        "packages": (SONIC_PI, HYDROGEN, AVL, FLUID),
        "classes": DRUMS,
        "rate": 16000,
        "licence": "a licence a row, from CC0 to CC BY-SA 3.0: see drums_attribution.csv",
    },
    "notes8k": {
        "packages": (FLUID,),
        "classes": PITCHED,
        "rate": 8000,
        "licence": "MIT, (c) 2000-2002, 2008 Frank Wen (Fluid R3)",
    },
    "speech_prompts8k": {
        "packages": tuple(ASTERISK.values()),
        "classes": tuple("0123456789"),
        "rate": 8000,
        "licence": "CC BY-SA 3.0 (Allison Smith, June Wallack), CC BY 3.0 (Carlo Flora)",
    },
}


# ------------------------------------------------------------------------------------ clips


def resample(audio: np.ndarray, rate: int, to: int) -> np.ndarray:
    """By a polyphase filter, float32."""
    common = gcd(rate, to)
    return resample_poly(audio, to // common, rate // common).astype(np.float32)


def hit_clip(audio: np.ndarray, rate: int, to: int = 16000) -> np.ndarray | None:
    """A drum as int16 (8192,), from 2 ms before its onset, as loud as fits; None if silent.

    The onset is the first sample above 2 % of the peak. What is longer than the clip is faded out
    over its last eighth.
    """
    peak = np.abs(audio).max()
    if peak < 1e-4:
        return None
    onset = int(np.argmax(np.abs(audio) > 0.02 * peak))
    start = max(0, onset - int(0.002 * rate))
    audio = audio[start : start + int(rate * (LENGTH / to + 0.3))]
    audio = resample(audio, rate, to)[:LENGTH]
    clip = np.zeros(LENGTH, np.float32)
    clip[: len(audio)] = audio
    fade = LENGTH // 8
    if len(audio) > LENGTH - fade:
        clip[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    peak = np.abs(clip).max()
    return None if peak < 1e-4 else (clip / peak * 0.95 * 32767).round().astype(np.int16)


def note_clip(audio: np.ndarray, rate: int, to: int = 8000) -> tuple[np.ndarray, int]:
    """A tone as int16 (8192,) from its beginning, as loud as fits, and how much of it is tone.

    What is as long as the clip is faded out over its last 1,024 samples.
    """
    audio = resample(audio[: int(rate * 1.3)], rate, to)[:LENGTH]
    clip = np.zeros(LENGTH, np.float32)
    clip[: len(audio)] = audio
    if len(audio) == LENGTH:
        clip[-1024:] *= np.linspace(1, 0, 1024)
    peak = np.abs(clip).max()
    if peak < 1e-3:
        raise ValueError("a tone is silent")
    return (clip / peak * 0.95 * 32767).astype(np.int16), len(audio)


def sustained(note: Note) -> np.ndarray:
    """The recording, gone on with by its loop, as a sampler plays it: long enough for a clip."""
    wanted = int(note.rate * 1.3)
    if note.loop is None or len(note.audio) >= wanted:
        return note.audio
    start, stop = note.loop
    times = -(-(wanted - stop) // (stop - start))
    return np.concatenate([note.audio[:stop], np.tile(note.audio[start:stop], max(times, 0))])


# ------------------------------------------------------------------------------------- sets


def drums(hits: Iterable[Hit]) -> tuple[dict[str, np.ndarray], list[list]]:
    """(arrays, attribution: a row a row); of exact copies the first."""
    kept: dict[bytes, tuple[np.ndarray, Hit]] = {}
    for hit in hits:
        clip = hit_clip(hit.audio, hit.rate)
        if clip is not None:
            kept.setdefault(clip.tobytes(), (clip, hit))
    clips, chosen = zip(*kept.values())
    label = np.array([DRUMS.index(h.label) for h in chosen], np.uint8)
    audio = np.stack(clips)
    drum = [h.drum for h in chosen]
    kind = [h.source.partition("-")[0] for h in chosen]
    split = group_splits(label, drum, kind, SHARES)
    arrays = {
        "audio": audio,
        "label": label,
        "source": np.array([h.source for h in chosen]),
        "licence": np.array([h.licence for h in chosen]),
        "drum": np.array(drum),
        "split": split,
    }
    rows = [
        [h.label, h.source, h.file, h.licence, h.author, h.rate,
         round(len(h.audio) / h.rate, 3), h.drum, SPLITS[s]]
        for h, s in zip(chosen, split)
    ]  # fmt: skip
    return arrays, rows


def notes(found: Iterable[Note]) -> dict[str, np.ndarray]:
    """The arrays of the notes. ``midi`` is the key nearest to what sounds, ``cents`` how far the
    sound is said to be above it; ``header_midi`` what the sample's own header says."""
    found = list(found)
    clips, lengths = zip(*(note_clip(n.audio, n.rate) for n in found))
    cents = np.array([100 * n.root - n.cents for n in found])
    midi = np.round(cents / 100).astype(int)
    family = np.array([PITCHED.index(n.family) for n in found], np.uint8)
    # Left, right and both of one note, and its layers, are one.
    tones = [f"{n.preset}:{m}" for n, m in zip(found, midi)]
    short = [i for i, n in enumerate(found) if lengths[i] < LENGTH and n.loop is not None]
    return {
        "audio": np.stack(clips),
        "label": family,
        "midi": midi.astype(np.uint8),
        "cents": (cents - 100 * midi).astype(np.int8),
        "header_midi": np.array([n.header for n in found], np.uint8),
        "length": np.array(lengths, np.uint16),
        "preset": np.array([n.preset for n in found]),
        "sample": np.array([n.sample for n in found]),
        "sustained_rows": np.array(short, np.uint16),
        "sustained": np.stack([note_clip(sustained(found[i]), found[i].rate)[0] for i in short]),
        "split": group_splits(family, tones, [n.preset for n in found], SHARES),
    }


def speech(files: dict[str, dict[str, bytes]]) -> dict[str, np.ndarray]:
    """The arrays of the spoken digits, as recorded, silence after them; none is cut."""
    audio, label, voice, language, licence, length = [], [], [], [], [], []
    for who in VOICES:
        for digit in range(10):
            clip, rate = spoken_digit(files[who.language[:2]], who, digit)
            if rate != 8000 or clip.ndim != 1 or len(clip) > LENGTH:
                raise ValueError(f"{who.folder} {digit}: {rate} Hz, {clip.shape}")
            audio.append(np.pad(clip, (0, LENGTH - len(clip))))
            label.append(digit)
            voice.append(who.name)
            language.append(who.language)
            licence.append(who.licence)
            length.append(len(clip))
    return {
        "audio": np.stack(audio),
        "label": np.array(label, np.uint8),
        "voice": np.array(voice),
        "language": np.array(language),
        "licence": np.array(licence),
        "length": np.array(length, np.uint16),
    }


def build(packages: Path | None, cache: Path) -> tuple[dict[str, dict[str, np.ndarray]], list]:
    """(arrays of each set, attribution of the drums)."""

    def tar(package: Package) -> bytes:
        return deb_data(obtain(package, packages, cache))

    def hits() -> Iterable[Hit]:
        samples = members(
            obtain(SONIC_PI, packages, cache), "r:gz", lambda name: name.endswith(".flac")
        )
        yield from sonic_pi(samples)
        yield from hydrogen(members(tar(HYDROGEN), "r:xz", lambda name: name.startswith(KITS)))
        kits = tar(AVL)
        for kit in ("Black_Pearl", "Red_Zeppelin"):
            yield from avl(kit, soundfont(kits, f"{kit}_4_LV2.sf2"))
        yield from fluid_drums(soundfont(fluid, "FluidR3_GM.sf2"))

    fluid = tar(FLUID)
    drum_arrays, attribution = drums(hits())
    spoken = {
        language: members(tar(package), "r:xz", lambda name: "/digits/" in name)
        for language, package in ASTERISK.items()
    }
    arrays = {
        "drums16k": drum_arrays,
        "notes8k": notes(fluid_notes(soundfont(fluid, "FluidR3_GM.sf2"))),
        "speech_prompts8k": speech(spoken),
    }
    return arrays, attribution


# ------------------------------------------------------------------------- manifest and cards


def entry(name: str, content: bytes, arrays: dict[str, np.ndarray]) -> dict:
    """What manifest.json records of a set."""
    about = SETS[name]
    split = arrays.get("split", np.zeros(0, np.uint8))
    return {
        "file": f"audio/{name}.npz",
        "card": f"audio/{name}.md",
        "kind": "audio",
        "rate": about["rate"],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "arrays": {
            key: {"dtype": a.dtype.name, "shape": list(a.shape), "sha256": digest(a)}
            for key, a in arrays.items()
        },
        "classes": list(about["classes"]),
        "licence": about["licence"],
        "packages": [{"name": p.name, "sha256": p.sha256} for p in about["packages"]],
        "builder": BUILDER,
        "splits": {s: int((split == i).sum()) for i, s in enumerate(SPLITS)} if len(split) else {},
    }


def tables(record: dict, arrays: dict[str, np.ndarray]) -> str:
    """The generated part of a card: the file's facts, and counts per class and split."""
    label, rows = arrays["label"], len(arrays["label"])
    seconds = arrays["audio"].shape[1] / record["rate"]
    lines = [
        f"- file: `{record['file']}`, {record['bytes']:,} bytes",
        f"- SHA-256: `{record['sha256']}`",
        *(f"- `{key}`: {kind(a)} {tuple(a['shape'])}" for key, a in record["arrays"].items()),
        f"- {rows} clips of {seconds:.3f} s at {record['rate']:,} Hz, one channel",
        f"- exact copies among the clips: {rows - len({x.tobytes() for x in arrays['audio']})}",
        *(f"- from {p['name']}, SHA-256 `{p['sha256']}`" for p in record["packages"]),
    ]
    if "drum" in arrays:
        groups = len(set(arrays["drum"]))
        lines.append(f"- {groups} groups (drums, and for hi-hats the ways to play them)")
    if "midi" in arrays:
        lines += note_facts(arrays)
    for key in ("licence", "language"):
        if key in arrays:
            lines += ["", f"| {key} | clips |", "|---|---:|"]
            values, counts = np.unique(arrays[key], return_counts=True)
            lines += [f"| {v} | {n} |" for v, n in zip(values, counts)]
    if "split" in arrays:
        groups = arrays["drum"] if "drum" in arrays else tones(arrays)
        lines += ["", "Clips, and in brackets groups:", ""]
        lines += ["| label | class | " + " | ".join(SPLITS) + " | all |"]
        lines += ["|---|---|" + "---:|" * (len(SPLITS) + 1)]
        for c, title in enumerate([*record["classes"], "all"]):
            mine = label == c if title != "all" else np.ones(rows, bool)
            cells = []
            for s in range(len(SPLITS) + 1):
                here = mine & (arrays["split"] == s) if s < len(SPLITS) else mine
                cells.append(f"{here.sum()} ({len(set(groups[here]))})")
            lines.append(f"| {c if title != 'all' else ''} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kind(array: dict) -> str:
    return "text" if array["dtype"].startswith("str") else array["dtype"]


def tones(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The group of each note: its preset and key."""
    return np.array([f"{p}:{m}" for p, m in zip(arrays["preset"], arrays["midi"])])


def note_facts(arrays: dict[str, np.ndarray]) -> list[str]:
    """How well the keys agree with what sounds."""
    audio = arrays["audio"].copy()
    audio[arrays["sustained_rows"]] = arrays["sustained"]
    key = arrays["midi"] + arrays["cents"] / 100
    off = np.array([cents_off(a / 32768, 8000, k) for a, k in zip(audio, key)])
    off = np.abs(off[np.isfinite(off)])
    right = int((arrays["header_midi"] == arrays["midi"]).sum())
    return [
        f"- {len(arrays['sustained'])} recordings end within the clip and loop: `sustained` has "
        "them played on",
        f"- of {len(off)} tones whose period can be measured, {int((off < 50).sum())} sound within "
        f"50 cents of `midi` and `cents` together; the median is {np.median(off):.1f} cents away",
        f"- `header_midi`, the key that the samples' headers name, is right for {right} of "
        f"{len(key)}",
    ]


def cents_off(audio: np.ndarray, rate: int, key: float) -> float:
    """How many cents the strongest period within half an octave of ``key`` is above it; NaN where
    a quarter of a second from 0.1 s on is silent or too short for it."""
    frame = audio[rate // 10 : rate // 10 + rate * 3 // 8].astype(np.float64)
    frame = frame - frame.mean()
    frequency, fine = 440 * 2 ** ((key - 69) / 12), 16
    low = int(fine * rate / frequency / 2**0.5)
    high = int(fine * rate / frequency * 2**0.5) + 2
    if not frame.any() or frequency > 0.45 * rate or high > fine * len(frame) // 2:
        return np.nan
    size = 1 << (2 * len(frame) - 1).bit_length()
    power = np.abs(np.fft.rfft(frame, size)) ** 2
    agreement = np.fft.irfft(power, fine * size)[low:high]
    period = (low + int(np.argmax(agreement))) / fine / rate
    return float(1200 * np.log2(1 / period / frequency))


def attribution_csv(rows: list[list]) -> bytes:
    """The attribution of the drums, in their order."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["class", "source", "file", "licence", "author", "orig_rate", "orig_seconds",
                    "drum", "split"])  # fmt: skip
    table.writerows(rows)
    return out.getvalue().encode()


def main() -> int:
    options = arguments(__doc__)

    built, attribution = build(options.packages, options.cache)
    manifest = load_manifest(options.out)
    files = {options.out / "audio/drums_attribution.csv": attribution_csv(attribution)}
    for name, arrays in built.items():
        content = pack(arrays, rate=SETS[name]["rate"])
        record = entry(name, content, arrays)
        table = tables(record, arrays)
        files |= with_set(name, content, record, table, options.out, manifest)
    return compare_and_write(files | manifest_file(options.out, manifest), options.write)


if __name__ == "__main__":
    sys.exit(main())
