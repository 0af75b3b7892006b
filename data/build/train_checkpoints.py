"""Train and measure the checkpoints that the course ships: data/checkpoints/NAME.*

    python data/build/train_checkpoints.py digits --write     # train data/recipes/digits.toml
    python data/build/train_checkpoints.py digits --from RUN  # measure what a run has made
    python data/build/train_checkpoints.py digits --measure   # measure what is shipped again

What is measured is in ``checkpoint_figures``, what cards say in ``checkpoint_cards``. Speech and
its vocoder need the download "fsdd".

A training that is stopped goes on where it was (its folder is ``runs/NAME``). What is measured is
the file as it is shipped, rounded to float16. Without ``--write`` nothing is written to data/, and
the figures are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
import checkpoint_cards  # noqa: E402 - beside this script
import checkpoint_figures  # noqa: E402

from undiffuse import checkpoints, recipes, trainer  # noqa: E402
from undiffuse.blocks import count_parameters  # noqa: E402


def changed(recipe: recipes.Recipe, changes: list[str]) -> recipes.Recipe:
    """``recipe`` with entries changed, as TOML, in turn: "steps = 100", "network.patch = 4"."""
    entries = recipe.to_dict()
    for change in changes:
        for key, value in tomllib.loads(change).items():
            entries[key] = entries.get(key, {}) | value if isinstance(value, dict) else value
    return recipes.from_dict(entries, "the changed recipe")


def train(name: str, folder: Path, device: str, changes: list[str]) -> Path:
    """Trains ``data/recipes/NAME.toml`` in ``folder``; the path of the checkpoint."""
    recipe = changed(recipes.load(DATA / "recipes" / f"{name}.toml"), changes)
    x, labels = recipe.training_data()
    said = time.monotonic()

    def show(step: int, of: int, loss: float, model: object) -> None:
        nonlocal said
        if time.monotonic() - said > 30 or step == of:
            said = time.monotonic()
            print(f"{name}: step {step} of {of}, loss {loss:.4f}", flush=True)

    options = {"folder": folder, "on_step": show, "device": device}
    if recipe.validate_every:
        options["validation"] = recipe.source.take("validation")
    run = trainer.train(recipe, x, labels, **options)
    facts = trainer.facts(run, device)
    path = folder / f"{name}.safetensors"
    return checkpoints.save(path, run.model, recipe, tuple(x.shape[1:]), **facts)


def from_run(name: str, folder: Path) -> Path:
    """The checkpoint that is in a run's folder, or is made of its state (perhaps midway)."""
    made = sorted(folder.glob("*.safetensors"), key=lambda p: (p.stem != name, p.name))
    if made:
        return made[0]
    from undiffuse.training import EMA

    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    recipe = recipes.from_dict(json.loads(state["extra"]["recipe"]))
    shape = tuple(recipe.source.take("train", 1)[0].shape[1:])
    model = recipe.make_network(shape)
    ema = EMA(model, recipe.ema)
    ema.load_state_dict(state["ema"])
    ema.copy_to(model)
    facts = {"steps": state["step"], "seconds": round(state["extra"]["seconds"])}
    path = Path(tempfile.mkdtemp()) / f"{name}.safetensors"
    return checkpoints.save(path, model, recipe, shape, **facts)


def ship(name: str, source: Path, n: int | None, device: str, write: bool) -> None:
    """Measures ``source`` and writes, or prints, the JSON and the card of checkpoint ``name``."""
    found = checkpoints.load(source, device)
    recipe, facts = found.recipe, found.facts
    if write:
        told = recipes.load(DATA / "recipes" / f"{name}.toml")
        same = {key: getattr(recipe, key) for key in ("name", *trainer.NOT_TRAINING)}
        if replace(told, **same) != recipe:
            sys.exit(f"{source} was not made by data/recipes/{name}.toml: nothing is written")
        # The weights as they are, with today's recipe: guidance may have been chosen since.
        recipe = told
        anew = Path(tempfile.mkdtemp()) / f"{name}.safetensors"
        source = checkpoints.save(anew, found.model, recipe, found.shape, **facts)
    figures = {
        "name": name,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "bytes": source.stat().st_size,
        "parameters": count_parameters(found.model),
        "flops_per_call": checkpoint_figures.flops(found),
        "trained_on": {
            "set": recipe.source.stored or "fsdd",
            "split": "train",
            "n": recipe.n or len(recipe.source.take("train")[1]),
        },
        "recipe": recipe.to_dict(),
        "run": facts,
        "quality": checkpoint_figures.measure(source, n, device),
        "command": f"python data/build/train_checkpoints.py {name} --write",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    if not write:
        print(json.dumps(figures["quality"] | {"samplers": "above"}, indent=1))
        print(checkpoint_cards.table(figures["quality"], recipe.source))
        return
    folder = DATA / "checkpoints"
    target = folder / f"{name}.safetensors"
    if source.resolve() != target.resolve():
        target.write_bytes(source.read_bytes())
    text = json.dumps(figures, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    card = checkpoint_cards.card(figures, recipe, found.shape)
    (folder / f"{name}.md").write_text(card, encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of a recipe in data/recipes, and of the checkpoint")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="run", type=Path, help="folder of a run to take it from")
    source.add_argument("--measure", action="store_true", help="measure what is shipped again")
    parser.add_argument("--write", action="store_true", help="write the files of data/checkpoints")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--folder", type=Path, help="of the run; runs/NAME if not given")
    parser.add_argument(
        "--try", dest="changes", action="append", default=[], metavar="'KEY = VALUE'",
        help="an entry of the recipe that is to be another one (again for more)",
    )  # fmt: skip
    parser.add_argument("-n", type=int, help="samples a seed; without, as many as cards say")
    options = parser.parse_args()
    if options.changes and options.write:
        parser.error("--try is for trying out: what is shipped is made by its recipe")
    if options.measure:
        path = checkpoints.locate(options.name)
    elif options.run:
        path = from_run(options.name, options.run)
    else:
        folder = options.folder or Path("runs") / options.name
        path = train(options.name, folder, options.device, options.changes)
    ship(options.name, path, options.n, options.device, options.write)


if __name__ == "__main__":
    main()
