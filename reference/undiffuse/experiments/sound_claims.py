"""Claim 3: "Diffusion models are only for images" (lessons 11 and 12).

``C3`` asks the engine for drum hits and for digits in equal terms: one design of network with about
as many weights, the same optimiser, steps, batch, guidance and sampler, as many training examples,
as many samples to judge, a classifier apart for each, and what real ones of unseen drums or hands
get beside. A run is one training.

``C3-ways`` asks how to speak: two ways over log-mel pictures, heard by Griffin-Lim or by a vocoder
by diffusion (``spectral_vocoder``), and one straight to the waveform, each with the same seconds of
training in all. It needs the download "fsdd".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undiffuse.experiments import NOT_SEPARABLE, SEEDS, Experiment, compare, separate

SETS = {"drums": "drum hits", "digits": "digits"}
NETWORKS: dict[str, dict[str, Any]] = {
    "drums": {"channels": [64, 96, 128], "blocks": 1, "patch": 32, "classes": 8},
    "digits": {"channels": [48, 96], "blocks": 1, "patch": 2, "classes": 10},
}
TINY = {"drums": {"channels": [16, 16], "patch": 64}, "digits": {"channels": [16, 16], "patch": 4}}
# What fits one kind of data and not the other: how far an example may move, whether it may be
# turned upside down, and how quiet it is.
OWN: dict[str, dict[str, Any]] = {
    "drums": {"shift": 24, "polarity": True, "scale": 4.0},
    "digits": {"shift": 2},
}
GUIDANCE = 1.5
RECOGNISED = 0.7  # of the accuracy on reals: what issue and lesson call recognisable
HARDLY = 0.4
NOT_SHOWN = "one network, one length of training, half a second of drums; few hits to judge by"


@dataclass(frozen=True)
class Training:
    """One run: which set, how many examples and samples, how long."""

    data: str
    seed: int
    examples: int
    samples: int
    steps: int
    batch: int
    calls: int
    small: bool = False
    device: str = "cpu"


def runs(budget: str) -> list[Training]:
    """Small: a few steps, two seeds. GPU: as full, trained for longer."""
    from undiffuse import data

    size: dict[str, Any] = {
        "small": {"samples": 16, "steps": 3, "batch": 8, "calls": 4, "small": True},
        "full": {"steps": 1500, "batch": 16, "calls": 50},
        "gpu": {"steps": 8000, "batch": 16, "calls": 50, "device": "cuda"},
    }[budget]
    common = {"examples": len(data.drums("train")[1]), "samples": len(data.drums("reference")[1])}
    seeds = range(2 if budget == "small" else SEEDS)
    return [Training(name, seed, **(common | size)) for seed in seeds for name in SETS]


def recipe_of(run: Training):
    """As the trainer takes it."""
    from undiffuse.recipes import Recipe

    return Recipe(
        name="claim3",
        data=run.data,
        n=run.examples,
        network=NETWORKS[run.data] | (TINY[run.data] if run.small else {}),
        middle=0.5,
        optimizer="muon",
        lr=0.02,
        steps=run.steps,
        batch=run.batch,
        ema=0.995,
        drop_labels=0.1,
        guidance=GUIDANCE,
        seed=run.seed,
        precision="auto" if run.device == "cuda" else "float32",
        **OWN[run.data],
    )


def checkpoint_of(trained: Any, shape: Sequence[int]):
    """A run of the trainer as ``draw`` takes it."""
    from undiffuse.checkpoints import Checkpoint

    return Checkpoint(
        trained.recipe.name, trained.model, trained.schedule, trained.recipe, tuple(shape)
    )


def measure(run: Training) -> dict[str, Any]:
    """Trains, draws in the class shares of the reals, and judges."""
    from undiffuse import judging, trainer
    from undiffuse.blocks import count_parameters
    from undiffuse.draw import draw

    recipe = recipe_of(run)
    x, labels = recipe.source.take("train", run.examples)
    trained = trainer.train(recipe, x, labels, device=run.device)
    found = checkpoint_of(trained, x.shape[1:])
    asked = judging.labels_like(run.data, run.samples)
    made, _ = draw(found, run.samples, calls=run.calls, seed=run.seed, solver="ddim", labels=asked)
    judge = judging.judge_sounds if recipe.source.kind == "sound" else judging.judge_images
    q = judge(made, asked, run.data, [run.seed], resamples=2)
    return {
        "accuracy": q.accuracy,
        "accuracy of reals": q.floor_accuracy,
        "accuracy share": q.accuracy / q.floor_accuracy,
        "FD": q.fd,
        "floor": q.floor,
        "FD / floor": q.ratio,
        "recall": q.recall,
        "recall of reals": q.floor_recall,
        "nearest 5 %": q.nearness["samples"]["0.05"],
        "nearest 5 % of reals": q.nearness["held_out"]["0.05"],
        "n": q.n,
        "parameters": count_parameters(trained.model),
        "last training losses": sum(trained.losses[-50:]) / len(trained.losses[-50:]),
    }


def conclude(found: Mapping[Training, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The claim is false if every training's hits are recognised."""
    rows = [
        {"data": SETS[run.data], "seed": run.seed, **{k: v for k, v in f.items() if k != "n"}}
        for run, f in found.items()
    ]

    def column(name: str, key: str) -> list[float]:
        return [r[key] for r in rows if r["data"] == SETS[name]]

    shares = column("drums", "accuracy share")
    if len(shares) < SEEDS:
        word = "a trial, which says nothing about the claim"
    elif min(shares) >= RECOGNISED:
        word = "false: the same engine makes drum hits"
    elif max(shares) < HARDLY:
        word = "not refuted here: what was made could not be recognised"
    else:
        word = "false in kind, but so little training does not give good hits with every seed"
    more = (
        compare("the model of drum hits", shares, "that of digits",
                column("digits", "accuracy share"), what="accuracy over that of reals",
                lower_is_better=False),
        compare("the model of drum hits", column("drums", "FD / floor"), "that of digits",
                column("digits", "FD / floor"), what="FD over the floor"),
    )  # fmt: skip
    run, figures = next(iter(found.items()))
    return {
        "C3": {
            "rows": rows,
            "verdict": f"{word}. In equal terms " + "; ".join(more),
            "n": figures["n"],
            "examples": run.examples,
            "steps": run.steps,
            "batch": run.batch,
            "calls": run.calls,
            "guidance": GUIDANCE,
            "floor": {SETS[name]: column(name, "floor")[0] for name in SETS},
            "accuracy of reals": {
                SETS[name]: column(name, "accuracy of reals")[0] for name in SETS
            },
            "not_shown": NOT_SHOWN,
        }
    }


def figure(name: str, result: Mapping[str, Any]) -> tuple[Any, str, str]:
    """Accuracy over that of real ones, and a line where they would be as good."""
    from undiffuse import plots

    groups = {
        kind: [r["accuracy share"] for r in result["rows"] if r["data"] == kind]
        for kind in SETS.values()
    }
    fig = plots.bar_with_spread(
        groups, ylabel="accuracy over that of real ones", floor=1.0, floor_name="real ones"
    )
    told = "; ".join(f"{kind} {min(v):.2f} to {max(v):.2f}" for kind, v in groups.items())
    alt = f"Class accuracy of what was generated over that of real ones, by seed: {told}."
    caption = (
        f"{result['n']} samples for each of {len(result['seeds'])} trainings; equal networks, "
        "examples and steps. The line: real ones that no model has seen."
    )
    return fig, alt, caption


# --- two ways to speak, at equal training time -----------------------------------------------

WAYS = ("straight", "picture, Griffin-Lim", "picture, vocoder")
SPOKEN = 6.0  # guidance: after minutes of training a network barely listens to its label without


@dataclass(frozen=True)
class Speaking:
    """One run: a way, and how many seconds all its networks train together."""

    way: str
    seed: int
    seconds: float
    samples: int
    calls: int
    steps: int = 0  # in place of seconds, for a trial
    device: str = "cpu"


def speaking(budget: str) -> list[Speaking]:
    """Small: a few steps, one seed. GPU: as full, on faster hardware."""
    size: dict[str, Any] = {
        "small": {"seconds": 0.0, "samples": 10, "calls": 2, "steps": 2},
        "full": {"seconds": 120.0, "samples": 200, "calls": 25},
        "gpu": {"seconds": 120.0, "samples": 200, "calls": 25, "device": "cuda"},
    }[budget]
    seeds = range(1 if budget == "small" else SEEDS)
    return [Speaking(way, seed, **size) for seed in seeds for way in WAYS]


def measure_speaking(run: Speaking) -> dict[str, Any]:
    """Trains what the way needs, lets it speak, and lets a classifier write down what it hears."""
    from undiffuse import classifiers, judging, sources
    from undiffuse.draw import draw, heard

    parts = ["fsdd"] if run.way == "straight" else ["fsdd-mel"]
    parts += ["fsdd-spectra"] if run.way == "picture, vocoder" else []
    made = [_trained(run, name, run.seconds / len(parts)) for name in parts]
    asked = judging.labels_like("fsdd", run.samples)
    samples, _ = draw(made[0][0], len(asked), calls=run.calls, seed=run.seed, solver="ddim",
                      labels=asked)  # fmt: skip
    clips = heard(made[0][0], samples, run.seed, made[1][0] if len(made) > 1 else None, run.calls)
    q = judging.judge_sounds(clips, asked, "fsdd", [run.seed], resamples=2)
    judge = classifiers.load("fsdd")
    new = classifiers.accuracy(judge, *sources.source("fsdd").take("unheard"))
    return {
        "accuracy": q.accuracy,
        "accuracy of a real new voice": new,
        "accuracy share": q.accuracy / new,
        "FD": q.fd,
        "floor": q.floor,
        "FD / floor": q.ratio,
        "recall": q.recall,
        "n": q.n,
        "seconds": [round(m[1], 1) for m in made],
        "steps": [m[2] for m in made],
    }


def _trained(run: Speaking, name: str, seconds: float):
    """(checkpoint, seconds, steps) of one network; for pictures, of the shipped designs."""
    from undiffuse import recipes, trainer

    if name == "fsdd":
        network: dict[str, Any] = {"channels": [64, 64, 96], "patch": 16, "classes": 10}
    else:
        network = dict(
            recipes.load({"fsdd-mel": "speech", "fsdd-spectra": "vocoder"}[name]).network
        )
    if run.steps:
        network["channels"] = [8, 8]
    told = name != "fsdd-spectra"  # of the digit
    recipe = recipes.Recipe(
        name=name,
        data=name,
        network=network,
        middle=0.5,
        optimizer="muon",
        lr=0.02,
        batch=16,
        ema=0.99,
        drop_labels=0.1 if told else 0.0,
        guidance=SPOKEN if told else 1.0,
        scale=8.0 if name == "fsdd" else 1.0,  # clips of speech deviate by about an eighth
        seconds=seconds,
        steps=run.steps or 1000,
        seed=run.seed,
        precision="auto" if run.device == "cuda" else "float32",
    )
    x, labels = recipe.source.take("train", 40 if run.steps else None)
    made = trainer.train(recipe, x, labels, device=run.device)
    return checkpoint_of(made, x.shape[1:]), made.seconds, made.steps


def conclude_speaking(found: Mapping[Speaking, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Whether the detour over a picture pays: in being understood, and in being near to speech."""
    rows = [{"way": run.way, "seed": run.seed, **{k: v for k, v in f.items() if k != "n"}}
            for run, f in found.items()]  # fmt: skip
    by = {way: [r["accuracy"] for r in rows if r["way"] == way] for way in WAYS}
    far = {way: [r["FD / floor"] for r in rows if r["way"] == way] for way in WAYS}
    words = [
        compare(way, by[way], "straight", by["straight"], what="accuracy", lower_is_better=False)
        for way in WAYS[1:]
    ] + [compare(way, far[way], "straight", far["straight"], what="FD over the floor")
         for way in WAYS[1:]]  # fmt: skip
    run, figures = next(iter(found.items()))
    found_words = {separate(by[w], by["straight"], lower_is_better=False) for w in WAYS[1:]}
    nearer = all(separate(far[w], far["straight"]) == "first" for w in WAYS[1:])
    if min(len(v) for v in by.values()) < SEEDS:
        word = "a trial, which says nothing about the claim"
    elif found_words == {"first"}:
        word = "over the picture is understood better"
    elif found_words == {"second"}:
        word = "straight is understood better"
    elif found_words == {None}:
        word = NOT_SEPARABLE
        if nearer:
            word += " by what is understood; nearer to speech over the picture by FD"
    else:
        word = "depends on what makes sound of the picture"
    new = figures["accuracy of a real new voice"]
    return {
        "C3-ways": {
            "rows": rows,
            "verdict": f"{word}, at equal seconds of training: "
            + "; ".join(words)
            + f". A real new voice: {new:.2f}",
            "n": figures["n"],
            "seconds of training": run.seconds,
            "calls": run.calls,
            "guidance": SPOKEN,
            "floor": figures["floor"],
            "accuracy of a real new voice": new,
            "not_shown": "one network for each way; seconds depend on the machine",
        }
    }


EXPERIMENTS = (
    Experiment(
        name="C3",
        about="drum hits and digits by the same engine, in equal terms",
        claims=("C3",),
        runs=runs,
        measure=measure,
        conclude=conclude,
        figure=figure,
    ),
    Experiment(
        name="C3-ways",
        about="spoken digits straight and over log-mel pictures, at equal training time (FSDD)",
        claims=("C3",),
        runs=speaking,
        measure=measure_speaking,
        conclude=conclude_speaking,
    ),
)
