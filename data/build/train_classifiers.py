"""Train the classifiers that judge models: data/checkpoints/*_classifier.*

One thread, a few minutes each. They see the split ``features`` only. Writes the weights (float16
safetensors), what was measured of them (JSON) and a card. Without ``--write`` nothing is written
and the accuracies are printed. Same torch, same processor: the same weights to the bit; elsewhere
nearly the same. That of spoken digits needs their download (``undiffuse.downloads``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import (  # noqa: E402 - found by the line above
    _fsdd,
    classifiers,
    downloads,
    metrics,
    sound_classifiers,
    sources,
)

JUDGED = ("validation", "reference", "held_out")
RECIPES = {
    "digits": {
        "epochs": 50,
        "affine": {"degrees": 12.0, "zoom": 0.12, "shear": 0.15, "shift": 2.0},
    },
    "fashion": {
        "epochs": 50,
        "affine": {"degrees": 4.0, "zoom": 0.1, "shear": 0.05, "shift": 1.5, "flip": True},
    },
}
SOUNDS = {
    "drums": {
        "epochs": 150,
        "batch": 26,
        "vary": {"pitch": 0.15, "speed": 0.15},
        "network": {"width": 12, "dim": 16},
    },
    "notes": {
        "epochs": 40,
        "batch": 46,
        "transpose": [-5, -2, 0, 2, 5],
        "vary": {"pitch": 0.05, "speed": 0.1, "shift": 2.0},
        "network": {"n_fft": 256, "n_mels": 40, "width": 16, "dim": 16},
    },
    "fsdd": {
        "epochs": 40,
        "vary": {"pitch": 0.2, "speed": 0.2},
        "network": {"n_fft": 256, "n_mels": 40, "width": 16, "dim": 32},
    },
}
CARD = """# {name}_classifier

A small convolutional network that tells the ten classes of `{set}` apart. The course judges
generative models with it: by its features (64 numbers an image) and by the classes it sees.

- **Trained on** the split `features` of `{set}` ({n_train} images), which no generative model of
  the course is trained on or compared with: {epochs} epochs with random turns, zooms, shears and
  shifts, one thread, {minutes:.1f} minutes of processor time.
- **Made by** `{command}`
- **Network**: three stages of convolution, batch normalisation, ReLU and pooling; {parameters:,}
  parameters, float16, {kilobytes:.0f} kB.
- **Features**: batch-normalised, before their ReLU.

| measured on real images nothing was trained on | |
|---|---|
{table}

The floor of the Frechet distance is `held_out` against `reference`, {n} images each. It is what a
model that draws from the true distribution can expect at this count; another count has another
floor.

**Not to be used** to compare with figures made with other features (FID with an Inception network,
say): the numbers are of another size. Nor to read anything from photographs.

Licence of the weights: that of the code. Of the images they were made from: see
[the card of {set}](../images/{set}.md).

The table is written by the command above.
"""


SOUND_CARD = """# {name}_classifier

A small convolutional network that tells {classes} apart in clips of `{set}`, by their log-mel
spectrograms. The course judges generative models with it: by its features ({dim} numbers a clip)
and by the classes it sees.

- **Trained on** the split `features` of `{set}` ({n_train} clips), which no generative model of
  the course is trained on or compared with: {epochs} epochs with random changes of pitch, speed,
  level, brightness and place, noise and blots, one thread, {minutes:.1f} minutes of processor time.
- **Made by** `{command}`
- **Network**: a log-mel spectrogram ({n_mels} bands, frames of {n_fft} samples, {hop} apart), then
  three stages of convolution, batch normalisation, ReLU and pooling; {parameters:,} parameters,
  float16, {kilobytes:.0f} kB.
- **Features**: batch-normalised, before their ReLU.

| measured on real clips nothing was trained on | | clips |
|---|---|---|
{table}

The floor of the Frechet distance is `held_out` against `reference`, {n} clips each. It is what a
model that draws from the true distribution can expect at this count; another count has another
floor. With so few clips the floor is high, and a share has a wide interval: {width}.
{more}
**Not to be used** to compare with figures made with other features, nor to tell apart sounds at
large: it knows those of one set.

Licence of the weights: that of the code. Of the sounds they were made from: see
[the card of {set}](../audio/{set}.md).

The table is written by the command above.
"""
TOLD = {"drums": "eight kinds of drums", "notes": "13 families of instruments",
        "fsdd": "the ten spoken digits"}  # fmt: skip


def judged_splits(name: str) -> tuple[str, ...]:
    """The splits that a classifier is measured on."""
    return (*JUDGED, _fsdd.UNHEARD) if name == "fsdd" else JUDGED


def measure(name: str, model: torch.nn.Module) -> dict:
    """Accuracy on real samples, and the floor of the Frechet distance."""
    source = sources.source(name)
    found, counts, features = {}, {}, {}
    for split in judged_splits(name):
        samples, labels = source.take(split)
        features[split], logits = classifiers.examine(model, samples)
        right = (logits.argmax(1) == source.judged(labels)).double()
        found[split], counts[split] = round(float(right.mean()), 4), len(right)
    n = min(len(features["held_out"]), len(features["reference"]))
    floor = metrics.frechet_distance(features["held_out"][:n], features["reference"][:n])
    figures = {"accuracy": found, "floor": {"n": n, "fd": round(floor, 4)}}
    return figures if source.kind == "image" else figures | {"clips": counts}


def train(name: str, samples: torch.Tensor, labels: torch.Tensor, seed: int = 0) -> torch.nn.Module:
    """The classifier of a set, trained by its recipe."""
    source = sources.source(name)

    def say(epoch: int, loss: float) -> None:
        print(f"{name}: epoch {epoch + 1}, loss {loss:.3f}", flush=True)

    if source.kind == "image":
        return classifiers.fit(samples, labels, **RECIPES[name], seed=seed, on_epoch=say)
    classes = sources.FAMILIES if source.factors else source.classes
    return sound_classifiers.fit_sound(
        samples, labels, source.rate, classes, **SOUNDS[name], seed=seed, on_epoch=say
    )


def left_out(seed: int = 0) -> dict[str, float]:
    """How well each speaker's digits are told by a classifier trained on all others' takes."""
    held = downloads.load("fsdd")
    speaker, take = held.more["speaker"], held.more["take"]
    audio = torch.from_numpy(held.audio[:, None] / 32768).float()
    audio = audio * (0.95 / audio.abs().amax(-1, keepdim=True))
    labels = torch.from_numpy(held.labels).long()
    share = _fsdd.TAKES["features"]
    found = {}
    for who in sorted(set(speaker)):
        rows = torch.from_numpy((speaker != who) & (take < share))
        model = train("fsdd", audio[rows], labels[rows], seed)
        theirs = torch.from_numpy(speaker == who)
        found[who] = round(classifiers.accuracy(model, audio[theirs], labels[theirs]), 4)
        print(who, found[who], flush=True)
    return found


def build(name: str, write: bool, leave_out: bool) -> None:
    """Trains, measures, and writes the three files of one classifier."""
    source = sources.source(name)
    images, labels = source.take("features")
    labels = source.judged(labels)
    start = time.process_time()
    model = train(name, images, labels)
    seconds = time.process_time() - start
    folder = DATA / "checkpoints" if write else Path(tempfile.mkdtemp())
    path = folder / f"{name}_classifier.safetensors"
    classifiers.save(path, model, source.names)
    model = classifiers.load(path)  # what is measured is what is shipped, rounded to float16
    recipe = RECIPES.get(name) or SOUNDS[name]
    stored = source.stored or name
    figures = {
        "name": path.stem,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_on": {"set": stored, "split": "features", "n": len(images)},
        "recipe": recipe,
        **measure(name, model),
        "processor_seconds": round(seconds),
        "command": f"python data/build/train_classifiers.py {name} --write",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    if leave_out and name == "fsdd":
        figures["speaker_left_out"] = left_out()
        figures["command"] += " --leave-out"
    print(json.dumps(figures, indent=1))
    if not write:
        return
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(card(name, figures, model, seconds), encoding="utf-8")


def card(name: str, figures: dict, model: torch.nn.Module, seconds: float) -> str:
    """The card of a classifier."""
    floor = figures["floor"]
    counts = figures.get("clips")
    rows = [f"| accuracy on `{s}` | {a:.1%} |" + (f" {counts[s]} |" if counts else "")
            for s, a in figures["accuracy"].items()]  # fmt: skip
    last = f"| floor of the Frechet distance | {floor['fd']:.3f} |"
    rows.append(last + (f" {floor['n']} |" if counts else ""))
    common = {
        "name": name,
        "set": figures["trained_on"]["set"],
        "n_train": figures["trained_on"]["n"],
        "command": figures["command"],
        "epochs": figures["recipe"]["epochs"],
        "minutes": seconds / 60,
        "parameters": figures["parameters"],
        "kilobytes": figures["bytes"] / 1000,
        "table": "\n".join(rows),
        "n": floor["n"],
    }
    if not counts:
        return CARD.format(**common)
    share, n = figures["accuracy"]["held_out"], counts["held_out"]
    spread = 1.96 * (share * (1 - share) / n) ** 0.5
    width = f"that on `held_out` is {share:.0%}, give or take {spread:.0%}"
    more = ""
    if "speaker_left_out" in figures:
        lines = ", ".join(f"{who} {a:.1%}" for who, a in figures["speaker_left_out"].items())
        more = (
            f"\n`{_fsdd.UNHEARD}` is {_fsdd.SPEAKER.title()}, whom this network has never heard. "
            "With\neach speaker in turn left out of training, accuracy on that one is: "
            f"{lines}.\n"
        )
    return SOUND_CARD.format(
        **common, **{k: model.options[k] for k in ("n_mels", "n_fft", "hop", "dim")},
        classes=TOLD[name], width=width, more=more,
    )  # fmt: skip


def main() -> None:
    """The command line."""
    known = [*RECIPES, *SOUNDS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=known, help=f"of {', '.join(known)}; or all")
    parser.add_argument("--write", action="store_true", help="write the files of data/checkpoints")
    parser.add_argument(
        "--leave-out", action="store_true", help="fsdd: also measure each speaker left out in turn"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or known:
        if name not in known:
            parser.error(f"there is no {name!r}: there are {', '.join(known)}")
        build(name, options.write, options.leave_out)


if __name__ == "__main__":
    main()
