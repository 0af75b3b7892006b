"""The page of sounds: data/sounds/index.html, its .wav files and spectrograms

    python data/build/build_sounds.py            what the shipped checkpoints of sound draw
    python data/build/build_sounds.py --check    only say whether the page names what is there

Nothing is chosen by ear: every sound is the first that a checkpoint draws with the seed that stands
beside it. Each has a description in words, written by ``listen.describe`` from the sound itself.
Checkpoints that are not shipped are left out. Files are 16-bit WAV, which every browser plays, and
the page loads nothing but them.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import (  # noqa: E402
    checkpoints,
    data,
    draw,
    hearing,
    listen,
    plots,
    sound,
    sources,
)
from undiffuse.audio_files import write_audio  # noqa: E402

FOLDER = DATA / "sounds"
SEED, CALLS = 0, 50
LIMIT = 600_000  # bytes of all files
COLOURS = 40  # of a spectrogram
BPM = 104
BEAT = {
    "kick": "x.....x...x.....",
    "snare": "....x.......x...",
    "hat closed": "x.x.x.x.x.x.x...",
    "hat open": "..............x.",
    "tom": "...............x",
}
LEVELS = {"kick": -14.0, "snare": -18.0, "hat closed": -27.0, "hat open": -28.0, "tom": -19.0}
TUNE = [(62, 0.5), (64, 0.5), (65, 0.5), (67, 0.5), (64, 1), (60, 0.5), (62, 1.5)]
FAMILY = "reed"
NUMBER = "2026"


@dataclass
class Part:
    """What one checkpoint has drawn. clips: file stem -> (title, sound (L,)); what: a paragraph."""

    name: str
    title: str
    what: str
    rate: int
    made: str
    clips: dict[str, tuple[str, torch.Tensor]] = field(default_factory=dict)


def drums(found: checkpoints.Checkpoint) -> Part:
    """One hit of each kind, and a beat of them; the same beat of recordings beside it."""
    kinds = [name.replace("_", " ") for name in data.load("drums16k").classes]
    hits = draw.draw(found, len(kinds), calls=CALLS, seed=SEED, solver="ddim")[0][:, 0]
    real, labels = data.drums("held_out")
    real = [real[labels == k][0, 0] for k in range(len(kinds))]
    part = Part(
        "drums",
        "Drum hits, and a beat",
        "One hit of each kind, as a waveform of half a second. The beat consists of these hits; "
        "after it, the same beat of recordings that the model has never heard.",
        16_000,
        f"course sample drums --count {len(kinds)} --calls {CALLS} --seed {SEED} --solver ddim",
    )
    for kind, hit in zip(kinds, hits, strict=True):
        part.clips[kind.replace(" ", "-")] = (kind, hit)
    for stem, title, kit in (
        ("beat", "a beat of generated hits", hits),
        ("beat-recorded", "the same beat of recorded hits", real),
    ):
        levelled = {
            kind: sound.loudness_normalise(hit, LEVELS[kind])
            for kind, hit in zip(kinds, kit, strict=True)
            if kind in LEVELS
        }
        bar = sound.drum_loop(levelled, BEAT, BPM, part.rate)
        part.clips[stem] = (title, bar)
    return part


def notes(found: checkpoints.Checkpoint) -> Part:
    """A melody of one family of instruments."""
    families = data.load("notes8k").classes
    keys = sorted({midi for midi, _ in TUNE if midi is not None})
    family = torch.full((len(keys),), families.index(FAMILY))
    labels = sources.note_labels(family, torch.tensor(keys))
    made = draw.draw(found, len(keys), calls=CALLS, seed=SEED, solver="ddim", labels=labels)[0]
    voice, by = hearing.choose(data=found.recipe.data)
    made = sound.loudness_normalise(draw.heard(found, made, SEED, voice)[:, 0], -20.0)
    part = Part(
        "notes",
        "A melody",
        f"Each note was drawn by itself as a log-mel spectrogram, for the family “{FAMILY}” and "
        f"its key, and {by}.",
        8_000,
        f"course sample notes --label {FAMILY}:{keys[0]} --calls {CALLS} --seed {SEED} "
        "--solver ddim",
    )
    tune = sound.melody(dict(zip(keys, made, strict=True)), TUNE, 100, part.rate)
    part.clips["melody"] = ("a melody of generated notes", tune)
    return part


def speech(found: checkpoints.Checkpoint) -> Part:
    """A number, digit by digit."""
    labels = torch.tensor([int(c) for c in NUMBER])
    mels, _ = draw.draw(found, len(labels), calls=CALLS, seed=SEED, solver="ddim", labels=labels)
    voice, by = hearing.choose()
    audio = draw.heard(found, mels, SEED, voice)[:, 0]
    part = Part(
        "speech",
        f"The number {NUMBER}",
        f"Each digit was drawn by itself as a log-mel spectrogram, {by}.",
        8_000,
        f"course sample speech --label {NUMBER[0]} --calls {CALLS} --seed {SEED} --solver ddim",
    )
    part.clips["number"] = (f"{', '.join(NUMBER)}: generated speech", audio.flatten())
    return part


PARTS: dict[str, Callable[[checkpoints.Checkpoint], Part]] = {
    "drums": drums,
    "notes": notes,
    "speech": speech,
}
STYLE = """
:root { color-scheme: light dark; }
body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto;
       padding: 0 1rem; }
img { max-width: 100%; height: auto; background: white; }
audio { width: 100%; max-width: 24rem; display: block; }
figure { margin: 1rem 0; }
li { margin: 1rem 0; }
ul { list-style: none; padding: 0; }
code { overflow-wrap: anywhere; }
"""


def page(parts: list[Part], facts: dict[str, str]) -> str:
    """The HTML of all parts. facts: name -> how the checkpoint was made, in words."""
    out = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Sounds that diffusion models of this course made</title>",
        f"<style>{STYLE}</style></head><body><main>",
        "<h1>Sounds that diffusion models of this course made</h1>",
        "<p>Small networks. Nothing here was chosen by ear: each is "
        f"the first that a checkpoint drew with seed {SEED} and {CALLS} steps. This page is "
        "written by <code>python data/build/build_sounds.py</code>.</p>",
    ]
    for part in parts:
        out += [
            f'<section aria-labelledby="{part.name}"><h2 id="{part.name}">'
            f"{html.escape(part.title)}</h2>",
            f"<p>{html.escape(part.what)} {html.escape(facts[part.name])}</p>",
        ]
        for picture, clips in pictures(part).items():
            alt = html.escape(listen.spectrograms_alt(clips, part.rate), quote=True)
            out.append(
                f'<figure><img src="{picture}.png" alt="{alt}"><figcaption>Spectrograms: time to '
                "the right, frequency upwards, brighter where louder.</figcaption></figure>"
            )
        out.append("<ul>")
        for stem, (title, clip) in part.clips.items():
            told = html.escape(f"{title}: {listen.describe(clip, part.rate)}")
            label = html.escape(title, quote=True)
            out.append(
                f'<li><audio controls preload="none" src="{part.name}-{stem}.wav" '
                f'aria-label="{label}"></audio>{told}</li>'
            )
        out.append(f"</ul><p><code>{html.escape(part.made)}</code></p></section>")
    out.append(
        "<p>Licences: of the recordings that the models learned from, see the cards in "
        "<code>data/audio</code>; recorded sounds on this page are from the same sets.</p>"
    )
    return "\n".join([*out, "</main></body></html>", ""])


def made_by(name: str) -> str:
    """How a checkpoint was made, from its JSON file."""
    told = json.loads((checkpoints.folder() / f"{name}.json").read_text(encoding="utf-8"))
    minutes, n = told["run"]["seconds"] / 60, told["trained_on"]["n"]
    return (
        f"The model has {told['parameters']:,} parameters, and learned from {n:,} recordings in "
        f"{minutes:.0f} minutes on {told['run']['machine']}."
    )


def digest(name: str) -> str:
    """SHA-256 of a checkpoint's weights."""
    path = checkpoints.folder() / f"{name}.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped() -> list[str]:
    """Which of the checkpoints of sound are there."""
    return [name for name in PARTS if (checkpoints.folder() / f"{name}.safetensors").is_file()]


def pictures(part: Part) -> dict[str, dict[str, torch.Tensor]]:
    """Name of a picture -> title -> clip; long clips apart: all of a picture share their axes."""
    clips = {title: clip for title, clip in part.clips.values()}
    limit = 2 * min(len(clip) for clip in clips.values())
    short = {title: clip for title, clip in clips.items() if len(clip) <= limit}
    long = {title: clip for title, clip in clips.items() if len(clip) > limit}
    return {part.name: short} | ({f"{part.name}-long": long} if long else {})


def build(names: list[str]) -> None:
    """Draws, and writes all files; those of an earlier page are removed."""
    parts = [PARTS[name](checkpoints.load(name)) for name in names]
    FOLDER.mkdir(exist_ok=True)
    for old in (*FOLDER.glob("*.wav"), *FOLDER.glob("*.png")):
        old.unlink()
    for part in parts:
        for stem, (_, clip) in part.clips.items():
            write_audio(FOLDER / f"{part.name}-{stem}.wav", clip, part.rate)
        for picture, clips in pictures(part).items():
            columns = min(2 if picture.endswith("-long") else 4, len(clips))
            figure = listen.spectrograms(clips, part.rate, columns=columns)
            (FOLDER / f"{picture}.png").write_bytes(plots.png(figure, COLOURS))
    text = page(parts, {name: made_by(name) for name in names})
    (FOLDER / "index.html").write_text(text, encoding="utf-8")
    (FOLDER / "made_of.json").write_text(
        json.dumps({name: digest(name) for name in names}, indent=1) + "\n", encoding="utf-8"
    )
    size = sum(p.stat().st_size for p in FOLDER.iterdir())
    print(f"{FOLDER}: {sum(len(p.clips) for p in parts)} sounds, {size / 1000:.0f} kB")
    if size > LIMIT:
        sys.exit(f"that is more than {LIMIT / 1000:.0f} kB")


def problems() -> list[str]:
    """What is wrong with the page that lies there; [] if all is well."""
    index = FOLDER / "index.html"
    if not index.is_file():
        return [f"there is no {index}"] if shipped() else []
    text = index.read_text(encoding="utf-8")
    wanted = set(re.findall(r'src="([^"]+)"', text)) | {"index.html", "made_of.json"}
    there = {p.name for p in FOLDER.iterdir()}
    found = [f"{name} is named on the page, and not there" for name in sorted(wanted - there)]
    found += [f"{name} is not named on the page" for name in sorted(there - wanted)]
    made_of = json.loads((FOLDER / "made_of.json").read_text(encoding="utf-8"))
    if made_of != {name: digest(name) for name in shipped()}:
        found.append("the page was made by other checkpoints than those that are shipped")
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    if options.check:
        for line in problems():
            print(line)
        return int(bool(problems()))
    build(shipped())
    return 0


if __name__ == "__main__":
    sys.exit(main())
