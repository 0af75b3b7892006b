"""Train the classifiers that judge models: data/checkpoints/{digits,fashion}_classifier.*

One thread, a few minutes each. They see the split ``features`` only. Writes the weights (float16
safetensors), what was measured of them (JSON) and a card. Without ``--write`` nothing is written
and the accuracies are printed. Same torch, same processor: the same weights to the bit; elsewhere
nearly the same.
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
from undiffuse import classifiers, data, metrics  # noqa: E402 - found by the line above

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
SETS = {"digits": ("mnist10k", data.digits), "fashion": ("fashion10k", data.fashion)}

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


def measure(name: str, model: classifiers.Classifier) -> dict:
    """Accuracy on real images, and the floor of the Frechet distance."""
    found, features = {}, {}
    for split in JUDGED:
        images, labels = SETS[name][1](split)
        features[split], logits = classifiers.examine(model, images)
        found[split] = round(float((logits.argmax(1) == labels).double().mean()), 4)
    floor = metrics.frechet_distance(features["held_out"], features["reference"])
    n = len(features["reference"])
    return {"accuracy": found, "floor": {"n": n, "fd": round(floor, 4)}}


def build(name: str, write: bool) -> None:
    """Trains, measures, and writes the three files of one classifier."""
    recipe, (stored, load) = RECIPES[name], SETS[name]
    images, labels = load("features")
    start = time.process_time()
    model = classifiers.fit(
        images,
        labels,
        **recipe,
        on_epoch=lambda e, loss: print(f"{name}: epoch {e + 1}, loss {loss:.3f}", flush=True),
    )
    seconds = time.process_time() - start
    folder = DATA / "checkpoints" if write else Path(tempfile.mkdtemp())
    path = folder / f"{name}_classifier.safetensors"
    classifiers.save(path, model, data.load(stored).classes)
    model = classifiers.load(path)  # what is measured is what is shipped, rounded to float16
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
    print(json.dumps(figures, indent=1))
    if not write:
        return
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    rows = [f"| accuracy on `{s}` | {a:.1%} |" for s, a in figures["accuracy"].items()]
    rows.append(f"| floor of the Frechet distance | {figures['floor']['fd']:.3f} |")
    card = CARD.format(
        name=name,
        set=stored,
        n_train=len(images),
        command=figures["command"],
        epochs=recipe["epochs"],
        minutes=seconds / 60,
        parameters=figures["parameters"],
        kilobytes=figures["bytes"] / 1000,
        table="\n".join(rows),
        n=figures["floor"]["n"],
    )
    path.with_suffix(".md").write_text(card, encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), help="digits, fashion or both")
    parser.add_argument("--write", action="store_true", help="write the files of data/checkpoints")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or list(RECIPES):
        if name not in RECIPES:
            parser.error(f"there is no {name!r}: there are {', '.join(RECIPES)}")
        build(name, options.write)


if __name__ == "__main__":
    main()
