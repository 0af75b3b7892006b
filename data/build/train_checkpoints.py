"""Train and measure the checkpoints that the course ships: data/checkpoints/NAME.*

    python data/build/train_checkpoints.py digits --write     # train data/recipes/digits.toml
    python data/build/train_checkpoints.py digits --from RUN  # measure what a run has made
    python data/build/train_checkpoints.py digits --measure   # measure what is shipped again

A training that is stopped goes on where it was (its folder is ``runs/NAME``). What is measured is
the file as it is shipped, rounded to float16. Without ``--write`` nothing is written to data/, and
the figures are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import checkpoints, judging, presets, recipes, trainer  # noqa: E402
from undiffuse.blocks import count_parameters  # noqa: E402
from undiffuse.draw import draw  # noqa: E402

N, SEEDS = 1000, (0, 1, 2)
SAMPLERS = {"ddim_50": ("ddim", 50), "dpmpp_2m_10": ("dpmpp_2m", 10)}

CARD = """# {name}

A diffusion model of `{set}`, conditional on its ten classes: `course sample {name}` draws from it.

- **Trained on** the split `train` of `{set}`, {n_train:,} images: {steps:,} steps of {batch}
  images, {minutes:.0f} minutes on {machine}.
- **Made by** `{command}`, by the recipe [`{name}.toml`](../recipes/{name}.toml).
- **Network**: U-Net, {parameters:,} parameters, {mflops:,.0f} MFLOP a call, float16,
  {megabytes:.1f} MB. It predicts {prediction}; schedule: {schedule}. The weights are averages over
  training.

{table}

Each column: {n:,} samples a seed, seeds {seeds}, labels in the class shares of the reference set,
guidance {guidance} (1 is none); mean over the seeds, in brackets the lowest and the highest.
Features and classes are those of [`{data}_classifier`](../checkpoints/{data}_classifier.md), which
was trained on other images. FD, KID, precision and recall are against the split `reference`; the
column of real data is the split `held_out` in place of samples, at the same count: what a perfect
model can expect. Memorisation is the median distance to the nearest training image over that of
held-out reals: near 1 is as it should be, well below 1 means copies.

With 10 calls of DPM-Solver++ FD is {few:.2f} times that with 50 calls of DDIM.

**Not to be used** to compare with figures made with other features or counts (FID with an Inception
network, say), nor as a source of training data that passes for real.

Licence of the weights: that of the code. Of the images they were made from: see
[the card of {set}](../images/{set}.md).

All figures here are written by the command above, and are in `{name}.json`.
"""

ROWS = {
    "fd": "Fréchet distance (FD)",
    "ratio": "FD over the floor",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "class accuracy",
    "memorisation": "memorisation",
}


def train(name: str, folder: Path, device: str) -> Path:
    """Trains ``data/recipes/NAME.toml`` in ``folder``; the path of the checkpoint."""
    recipe = recipes.load(DATA / "recipes" / f"{name}.toml")
    x, labels = recipe.source.take("train", recipe.n)
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
    made = sorted(folder.glob("*.safetensors"))
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


def measure(path: Path, n: int, device: str) -> dict[str, Any]:
    """All figures of a checkpoint file, per sampler and seed."""
    found = checkpoints.load(path, device)
    labels = judging.labels_like(found.recipe.data, n)
    samplers = {}
    for title, (solver, calls) in SAMPLERS.items():
        judged = []
        for seed in SEEDS:
            start = time.monotonic()
            images, _ = draw(found, n, calls=calls, seed=seed, solver=solver, labels=labels)
            taken = time.monotonic() - start
            quality = judging.judge_images(images, labels, found.recipe.data, (seed,))
            judged.append(judging.as_dict(quality) | {"sampling_seconds": round(taken, 1)})
            print(
                f"{path.stem} {title} seed {seed}: FD {quality.fd:.3f}, {quality.ratio:.2f} times "
                f"the floor, accuracy {quality.accuracy:.3f}, recall {quality.recall:.3f} "
                f"({taken:.0f} s)",
                flush=True,
            )
        mean = {key: round(statistics.mean(q[key] for q in judged), 4) for key in ROWS}
        samplers[title] = {"solver": solver, "calls": calls, "mean": mean, "seeds": judged}
    first = samplers["ddim_50"]["seeds"][0]
    floor = {
        "fd": first["floor"],
        "precision": first["floor_precision"],
        "recall": first["floor_recall"],
        "accuracy": first["floor_accuracy"],
        "nearness": first["nearness"]["held_out"],
    }
    few = samplers["dpmpp_2m_10"]["mean"]["fd"] / samplers["ddim_50"]["mean"]["fd"]
    return {
        "n": n,
        "seeds": list(SEEDS),
        "guidance": found.recipe.guidance,
        "guidance_interval": list(found.recipe.guidance_interval),
        "floor": floor,
        "samplers": samplers,
        "fd_of_10_calls_over_50": round(few, 4),
    }


def guidance_in_words(recipe: recipes.Recipe) -> str:
    """Such as "1.2", or "1.6 between the times 0.2 and 0.8"."""
    lo, hi = recipe.guidance_interval
    between = "" if (lo, hi) == (0, 1) else f" between the times {lo:g} and {hi:g}"
    return f"{recipe.guidance:g}{between}"


def table(figures: dict[str, Any]) -> str:
    """The card's table: samplers beside real data."""
    real = figures["floor"] | {"ratio": 1.0, "kid": None, "memorisation": 1.0}
    titles = [f"{s['solver']}, {s['calls']} calls" for s in figures["samplers"].values()]
    lines = ["| | " + " | ".join([*titles, "real data"]) + " |", "|---|" + "---:|" * 3]

    def cell(values: list[float]) -> str:
        return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"

    runs = [s["seeds"] for s in figures["samplers"].values()]
    for key, title in ROWS.items():
        cells = [cell([q[key] for q in run]) for run in runs]
        cells.append("0 on average" if real[key] is None else f"{real[key]:.3f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for quantile, value in real["nearness"].items():
        cells = [cell([q["nearness"]["samples"][quantile] for q in run]) for run in runs]
        title = f"nearest {float(quantile):.0%}: distance to training data"
        lines.append(f"| {title} | " + " | ".join([*cells, f"{value:.3f}"]) + " |")
    return "\n".join(lines)


def ship(name: str, source: Path, n: int, device: str, write: bool) -> None:
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
        "flops_per_call": presets.flops_per_call(found.model, found.shape),
        "trained_on": {
            "set": recipe.source.stored,
            "split": "train",
            "n": recipe.n or len(recipe.source.take("train")[1]),
        },
        "recipe": recipe.to_dict(),
        "run": facts,
        "quality": measure(source, n, device),
        "command": f"python data/build/train_checkpoints.py {name} --write",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    card = CARD.format(
        name=name,
        data=recipe.data,
        set=recipe.source.stored,
        n_train=figures["trained_on"]["n"],
        steps=facts.get("steps", recipe.steps),
        batch=recipe.batch,
        minutes=facts.get("seconds", 0) / 60,
        machine=facts.get("machine", "a machine that was not noted"),
        command=figures["command"],
        parameters=figures["parameters"],
        mflops=figures["flops_per_call"] / 1e6,
        megabytes=figures["bytes"] / 1e6,
        guidance=guidance_in_words(recipe),
        prediction=recipe.prediction,
        schedule=recipe.schedule,
        table=table(figures["quality"]),
        n=n,
        seeds=", ".join(map(str, SEEDS)),
        few=figures["quality"]["fd_of_10_calls_over_50"],
    )
    if not write:
        print(json.dumps(figures["quality"] | {"samplers": "above"}, indent=1))
        print(table(figures["quality"]))
        return
    folder = DATA / "checkpoints"
    target = folder / f"{name}.safetensors"
    if source.resolve() != target.resolve():
        target.write_bytes(source.read_bytes())
    text = json.dumps(figures, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
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
    parser.add_argument("-n", type=int, default=N, help=f"samples a seed; {N} is what cards say")
    options = parser.parse_args()
    if options.measure:
        path = checkpoints.locate(options.name)
    elif options.run:
        path = from_run(options.name, options.run)
    else:
        path = train(options.name, options.folder or Path("runs") / options.name, options.device)
    ship(options.name, path, options.n, options.device, options.write)


if __name__ == "__main__":
    main()
