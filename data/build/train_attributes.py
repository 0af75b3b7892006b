"""Train the classifiers of attributes: data/checkpoints/{portraits,emoji}_classifier.*

    python data/build/train_attributes.py portraits emoji --write

They see the split ``features`` only, whose combinations no model is trained on or judged by. Writes
the weights (float16 safetensors), what was measured of them (JSON) and a card. Without ``--write``
nothing is written and the figures are printed. Same torch, same processor: the same weights.
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
from undiffuse import attributes, classifiers, prompt_judging, sources  # noqa: E402 - as above

JUDGED = ("validation", "reference", "held_out")
AFFINE = {"degrees": 6.0, "zoom": 0.1, "shear": 0.05, "shift": 2.0}
RECIPES = {
    "portraits": {
        "epochs": 60,
        "affine": AFFINE,
        "colours": {"role": 0.4},
        "width": 24,
    },
    "emoji": {
        "epochs": 80,
        "affine": AFFINE | {"flip": True},
        "colours": {"category": 0.4},
        "width": 24,
    },
}
CARD = """# {name}_classifier

A small convolutional network that says which attributes a drawing of `{set}` has: {told}. The
course judges with it what was drawn from prompts, by what it sees and by its features ({dim}
numbers a picture).

- **Trained on** the split `features` of `{set}` ({n_train} drawings). Their combinations are in no
  other split. {epochs} epochs with random turns, zooms, shears and shifts{colours};
  one thread, {minutes:.1f} minutes of processor time.
- **Made by** `{command}`
- **Network**: three stages of convolution, batch normalisation, ReLU and pooling, and a group of
  outputs for each attribute; {parameters:,} parameters, float16, {kilobytes:.0f} kB.
- **Features**: batch-normalised, before their ReLU.

Share of real drawings whose attribute it names, on drawings that nothing was trained on:

{table}

"all" is the share for which it names every attribute at once. The floor of the Frechet distance is
`{floor_b}` against `{floor_a}`, {n} drawings each: {floor:.3f}.

**Not to be used** to compare with figures made with other features, nor to read anything from
photographs: it knows drawings of these three styles. What it calls a tone or a role is what the
drawing was named by those who drew it.

Licence of the weights: that of the code. Of the drawings they were made from: see
[the card of {set}](../images/{set}.md).

The table is written by the command above.
"""


def train(name: str, seed: int = 0) -> attributes.AttributeClassifier:
    """The classifier of a set, trained by its recipe."""
    drawings = prompt_judging.held(name)
    sizes = {k: len(drawings.values[k]) for k in attributes.JUDGED[name]}

    def say(epoch: int, loss: float) -> None:
        if (epoch + 1) % 10 == 0:
            print(f"{name}: epoch {epoch + 1}, loss {loss:.3f}", flush=True)

    return attributes.fit_attributes(
        sources.source(name).take("features")[0],
        prompt_judging.wanted(name, "features"),
        sizes,
        seed=seed,
        on_epoch=say,
        **RECIPES[name],
    )


def measure(name: str, model: attributes.AttributeClassifier) -> dict:
    """Shares right on real drawings, and the floor of the Frechet distance."""
    take = sources.source(name).take
    found = {}
    for split in JUDGED:
        right = attributes.shares_right(model, take(split)[0], prompt_judging.wanted(name, split))
        found[split] = {k: round(v, 4) for k, v in right.items()}
    pair = prompt_judging.REAL_PAIRS[name]
    far = prompt_judging.distances(take(pair[1])[0], name, model)
    return {"accuracy": found, "floor": {"n": far["n"], "fd": round(far["floor"], 4)}}


def build(name: str, write: bool) -> None:
    """Trains, measures, and writes the three files of one classifier."""
    start = time.process_time()
    model = train(name)
    seconds = time.process_time() - start
    source = sources.source(name)
    folder = DATA / "checkpoints" if write else Path(tempfile.mkdtemp())
    path = classifiers.save(folder / f"{name}_classifier.safetensors", model)
    model = classifiers.load(path)  # what is measured is what is shipped, rounded to float16
    figures = {
        "name": path.stem,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_on": {
            "set": source.stored,
            "split": "features",
            "n": len(source.take("features")[0]),
        },
        "recipe": RECIPES[name],
        **measure(name, model),
        "processor_seconds": round(seconds),
        "command": f"python data/build/train_attributes.py {name} --write",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    print(json.dumps(figures, indent=1))
    if write:
        text = json.dumps(figures, indent=1) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")
        path.with_suffix(".md").write_text(card(name, figures, model), encoding="utf-8")


def card(name: str, figures: dict, model: attributes.AttributeClassifier) -> str:
    """The card of a classifier."""
    keys = [*model.attributes, "all"]
    lines = ["| split | " + " | ".join(keys) + " |", "|---|" + "---:|" * len(keys)]
    for split, right in figures["accuracy"].items():
        lines.append(f"| `{split}` | " + " | ".join(f"{right[k]:.1%}" for k in keys) + " |")
    varied = ", ".join(k for k, most in figures["recipe"].get("colours", {}).items() if most)
    told = [f"{k} ({n} values)" for k, n in model.attributes.items()]
    return CARD.format(
        name=name,
        set=figures["trained_on"]["set"],
        told=", ".join(told[:-1]) + " and " + told[-1],
        dim=model.options["dim"],
        n_train=figures["trained_on"]["n"],
        epochs=figures["recipe"]["epochs"],
        colours=f", and of colours for the {varied}" if varied else "",
        minutes=figures["processor_seconds"] / 60,
        command=figures["command"],
        parameters=figures["parameters"],
        kilobytes=figures["bytes"] / 1000,
        table="\n".join(lines),
        floor_a=prompt_judging.REAL_PAIRS[name][0],
        floor_b=prompt_judging.REAL_PAIRS[name][1],
        n=figures["floor"]["n"],
        floor=figures["floor"]["fd"],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; or all")
    parser.add_argument("--write", action="store_true", help="write the files of data/checkpoints")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or RECIPES:
        if name not in RECIPES:
            parser.error(f"there is no {name!r}: there are {', '.join(RECIPES)}")
        build(name, options.write)


if __name__ == "__main__":
    main()
