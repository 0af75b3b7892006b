"""What is measured of a checkpoint that draws from words, and what its card says.

The prompts of the split ``held_out`` are combinations that were never trained on. Beside the model
stand real drawings of the same combinations, the nearest training drawing by its prompt, and a
transplant of the one attribute that is wrong there (``undiffuse.prompt_judging``).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import classifiers, data, prompt_judging  # noqa: E402 - found by the line above
from undiffuse.attributes import shares_right  # noqa: E402
from undiffuse.draw import draw  # noqa: E402
from undiffuse.recipes import Recipe  # noqa: E402

SOLVER, CALLS = "dpmpp_2m", 20
SHARE, FD_LIMIT, GRID, GRID_SECONDS = 0.7, 3.0, 16, 20.0
CARD = """# {name}

A diffusion model of `{set}` that draws from words: `course sample {name} --prompt "{example}"`.

- **Trained on** the split `train` of `{set}`, {n:,} drawings: {steps:,} steps of {batch},
  {minutes:.0f} minutes on {machine}.
- **Made by** `{command}`, by the recipe [`{name}.toml`](../recipes/{name}.toml).
- **Network**: U-Net with a text encoder ({words:,} words) and cross-attention, {parameters:,}
  parameters, {mflops:,.0f} MFLOP a call, float16, {megabytes:.1f} MB. It predicts {prediction};
  schedule: {schedule}. The weights are averages over training.

## Combinations that it was never trained on

{held_out}

{table}

Shares of drawings that show what was asked for, by
[`{name}_classifier`]({name}_classifier.md), which was trained on other drawings; {seeds_n} seeds of
{n_held} prompts, mean and in brackets the lowest and the highest; {calls} calls of {solver},
guidance {guidance}. "real" are the real drawings of these combinations, "nearest" the training
drawing whose prompt shares most words with the one asked for, "transplant" a training drawing that
has all but the {moved}, with the mean difference of the two {moved}s added. "all" means every
attribute in the same drawing. Prompts that were trained on are in the last column: a table of
pictures would do well there.

{verdict}

## Distance

Drawings against the real ones of `{against}`, {n_fd} each: Fréchet distance, and how many times the
floor (the real ones of `{other}` against them, {floor:.3f}).

| drawn for the prompts of | distance | over the floor |
|---|---:|---:|
| `{other}` | {fd_apart} | {ratio_apart} |
| `{against}` itself | {fd} | {ratio} |

The first row is like the floor in all but who drew. In the second each drawing has the one of its
own prompt on the other side, and so few drawings that are pairs are nearer than any that are not.
Distance to the nearest training drawing, quantiles of 1% and 5%: samples {near}, real drawings not
trained on {near_real}.

A grid of {grid} took {grid_seconds:.1f} s on {cores}.

**Not to be used** to compare with figures made with other features, nor as pictures of what people
of any role or tone look like: it draws what three sets of emoji draw.

Licence of the weights: that of the code. Of the drawings they were made from, by style:

{licences}

See [the card of {set}](../images/{set}.md). All figures here are written by the command above, and
are in `{name}.json`.
"""
HELD_OUT = {
    "portraits": "Every role, tone and style was trained on, and every pair of them; these triples "
    "of role, tone\nand style were not.",
    "emoji": "Whole categories in one style: animals and plants in noto's, food and drink in "
    "fluent's, places\nand travel in twemoji's. Each category was trained on in the other styles.",
}
EXAMPLES = {
    "portraits": "a pilot with dark skin, in the style of noto",
    "emoji": "red apple, food or drink, in the style of fluent",
}


def measure_prompts(found: Any, seeds: Sequence[int], n: int | None = None) -> dict[str, Any]:
    """All figures of a checkpoint that reads prompts; n: at most so many prompts of a split."""
    recipe = found.recipe
    name = recipe.data
    device = next(found.model.parameters()).device
    judge = classifiers.load(recipe.source.judge, device)
    against, other = prompt_judging.REAL_PAIRS[name]
    # Of portraits the other split is the held-out one: each split is drawn once.
    prompts = {s: prompt_judging.tokens_of(name, s)[:n] for s in ("held_out", against, other)}
    held = prompts["held_out"]
    seen = prompts["train"] = prompt_judging.tokens_of(name, "train")[: len(held)]
    asked = {k: v[: len(held)] for k, v in prompt_judging.wanted(name, "held_out").items()}
    seen_asked = {k: v[: len(seen)] for k, v in prompt_judging.wanted(name, "train").items()}
    each = []
    for seed in seeds:
        start = time.monotonic()
        options = {"calls": CALLS, "solver": SOLVER, "seed": seed}
        drawn = {
            split: draw(found, len(tokens), labels=tokens, **options)[0]
            for split, tokens in prompts.items()
        }
        right = shares_right(judge, drawn["held_out"], asked)
        far = prompt_judging.distances(drawn[against], name, judge, drawn[other])
        ways = prompt_judging.beside(name, judge, "held_out", seed)
        each.append(
            {
                "seed": seed,
                "held_out": right,
                "seen": shares_right(judge, drawn["train"], seen_asked),
                "nearest": ways["nearest"],
                "transplant": ways["transplant"],
                **far,
                "sampling_seconds": round(time.monotonic() - start, 1),
            }
        )
        print(
            f"{found.name} seed {seed}: held out {_line(right)}; FD {far['fd']:.3f}, "
            f"{far['ratio_apart']:.2f} times the floor",
            flush=True,
        )
    start = time.monotonic()
    draw(found, GRID, labels=held[:GRID], calls=CALLS, solver=SOLVER)
    taken = time.monotonic() - start
    real = prompt_judging.beside(name, judge)["real"]
    figures = {
        "n": {"held_out": len(held), "seen": len(seen), "distance": each[0]["n"]},
        "seeds": list(seeds),
        "solver": SOLVER,
        "calls": CALLS,
        "guidance": recipe.guidance,
        "guidance_interval": list(recipe.guidance_interval),
        "real": real,
        "runs": each,
        "grid": {
            "count": GRID,
            "seconds": round(taken, 1),
            "device": str(device),
            "threads": torch.get_num_threads(),
        },
    }
    return figures | {"bars": bars(figures, name)}


def _line(right: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in right.items())


def _mean(runs: Sequence[dict], way: str, key: str) -> float:
    return statistics.mean(run[way][key] for run in runs)


def bars(figures: dict[str, Any], name: str) -> dict[str, bool]:
    """Which of the bars are met: by the mean over the seeds; of the ways without a model by all."""
    runs, real = figures["runs"], figures["real"]
    found = {
        f"{k}: at least {SHARE} of real": _mean(runs, "held_out", k) >= SHARE * real[k]
        for k in real
        if k != "all"
    }
    for way in ("nearest", "transplant"):
        best = max(run[way]["all"] for run in runs)
        found[f"all right: above {way}"] = min(r["held_out"]["all"] for r in runs) > best
    if name == "portraits":
        ratio = statistics.mean(max(run["ratio"], run["ratio_apart"]) for run in runs)
        found[f"FD at most {FD_LIMIT:g} times the floor"] = ratio <= FD_LIMIT
    if figures["grid"]["device"] == "cpu":
        found[f"a grid in under {GRID_SECONDS:g} s"] = figures["grid"]["seconds"] < GRID_SECONDS
    return found


def _spread(values: Sequence[float], digits: int = 3) -> str:
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(figures: dict[str, Any]) -> str:
    """Shares right, an attribute a row: model, real drawings, the two ways without a model."""
    runs, real = figures["runs"], figures["real"]
    lines = ["| | model | real | nearest | transplant | trained on |", "|---|" + "---:|" * 5]
    for key in real:
        ways = [_spread([r[way][key] for r in runs])
                for way in ("held_out", "nearest", "transplant", "seen")]  # fmt: skip
        ways.insert(1, f"{real[key]:.3f}")
        lines.append(f"| {key} | " + " | ".join(ways) + " |")
    return "\n".join(lines)


def card(figures: dict[str, Any], recipe: Recipe) -> str:
    """The text of NAME.md, from what is in NAME.json."""
    name, quality, facts = figures["name"], figures["quality"], figures["run"]
    runs, grid = quality["runs"], quality["grid"]
    against, other = prompt_judging.REAL_PAIRS[recipe.data]
    held = data.load(recipe.source.stored)
    met = [f"- {title}: {'yes' if ok else '**no**'}" for title, ok in quality["bars"].items()]
    near = [[r["nearness"][side][q] for q in r["nearness"][side]] for r in runs
            for side in ("samples",)]  # fmt: skip
    threads = grid["threads"]
    on = f"{threads} thread{'s' * (threads > 1)} of a CPU" if grid["device"] == "cpu" else "a GPU"
    return CARD.format(
        name=name,
        set=figures["trained_on"]["set"],
        example=EXAMPLES[recipe.data],
        n=figures["trained_on"]["n"],
        steps=facts.get("steps", recipe.steps),
        batch=recipe.batch,
        minutes=facts.get("seconds", 0) / 60,
        machine=facts.get("machine", "a machine that was not noted"),
        command=figures["command"],
        words=len(facts.get("words", ())),
        parameters=figures["parameters"],
        mflops=figures["flops_per_call"] / 1e6,
        megabytes=figures["bytes"] / 1e6,
        prediction=recipe.prediction,
        schedule=recipe.schedule,
        held_out=HELD_OUT[recipe.data],
        table=table(quality),
        seeds_n=len(quality["seeds"]),
        n_held=quality["n"]["held_out"],
        calls=quality["calls"],
        solver=quality["solver"],
        guidance=f"{quality['guidance']:g}",
        moved=prompt_judging.MOVED[recipe.data],
        verdict="\n".join(met),
        against=against,
        other=other,
        n_fd=quality["n"]["distance"],
        fd=_spread([r["fd"] for r in runs]),
        floor=runs[0]["floor"],
        ratio=_spread([r["ratio"] for r in runs], 2),
        fd_apart=_spread([r["fd_apart"] for r in runs]),
        ratio_apart=_spread([r["ratio_apart"] for r in runs], 2),
        near=" and ".join(f"{statistics.mean(v):.3f}" for v in zip(*near)),
        near_real=" and ".join(f"{v:.3f}" for v in runs[0]["nearness"]["held_out"].values()),
        grid=grid["count"],
        grid_seconds=grid["seconds"],
        cores=on,
        licences="\n".join(f"- {style}: {told}" for style, told in held.licences.items()),
    )
