"""Few drum hits (lesson 09): claims 4 and 7 on sound, with whole sources left out in turn.

There are 578 hits in all. Those on which the judge was trained are kept from everything else; the
others fall into four folds by where they come from (``FOLDS``). A run leaves one fold out, trains
on some hits of the other three, and draws one hit for each that was left out, of its class. The
draws of the four folds together are then compared with all hits, each of which was unseen by the
model that answers for it. As 304 hits remain where the largest fold is left out, the most is 300.

The network is that of the digits (``little_data``) and what it learns are log-mel spectrograms,
``MEL``: pictures of 32 by 32. The judge hears: what is drawn becomes sound by Griffin-Lim first.
Real hits that go the same way there and back tell what that costs (``heard_again``). Guidance is
none, as for digits.

There are not enough hits for a floor at the full count. So hits are halved by whole drums, several
times: the draws that stand for one half are compared with the other half, and the floor is what the
real hits of the first half get.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse.experiments import Experiment, compare, separate
from undiffuse.experiments._separable import NOT_SEPARABLE, told

FOLDS = {
    "Fluid": ("FluidR3",),
    "Sonic Pi": ("sonic-pi", "sonic-pi-new"),
    "AVL": ("avldrums-Black_Pearl", "avldrums-Red_Zeppelin"),
    "Hydrogen": (
        "hydrogen-Audiophob",
        "hydrogen-BJA_Pacific",
        "hydrogen-rumpf",
        "hydrogen-circAfrique",
    ),
}
WAYS = {
    "plain": "from scratch",
    "altered": "from scratch, hits played faster or slower, later and quieter at random",
}
COUNTS = (50, 100, 200, 300)
HALVINGS = 20
MEL = {"rate": 16000, "n_mels": 32, "n_fft": 512, "hop": 256}
# Times as fast: a semitone and two, up and down, about; higher with it, as a sampler does it.
SPEEDS = ((16, 17), (8, 9), (1, 1), (9, 8), (17, 16))
COPIES = 2  # of each hit at each speed, each with its own delay and gain


@dataclass(frozen=True)
class Training:
    """One run: which fold is left out, how many of the other hits, how trained."""

    count: int
    way: str
    fold: str
    seed: int
    steps: int
    batch: int
    calls: int
    network: str = "five-minutes"
    device: str = "cpu"


def runs(budget: str) -> list[Training]:
    """Small: one count, one way, one seed, hardly trained. GPU: as full, on one."""
    size: dict[str, Any] = {
        "small": {"steps": 3, "batch": 8, "calls": 2, "network": "tiny"},
        "full": {"steps": 400, "batch": 16, "calls": 10},
        "gpu": {"steps": 400, "batch": 16, "calls": 10, "device": "cuda"},
    }[budget]
    counts, ways, seeds = (COUNTS, WAYS, (0, 1, 2)) if budget != "small" else ((50,), WAYS, (0,))
    return [  # few and many first: a job that is cut short has them
        Training(count, way, fold, seed, **size)
        for count in sorted(counts, key=lambda c: min(c - counts[0], counts[-1] - c))
        for seed in seeds
        for way in ways
        for fold in FOLDS
    ]


@functools.lru_cache(maxsize=1)
def hits() -> tuple[torch.Tensor, torch.Tensor, list[str], list[str]]:
    """Clips (471, 1, 8192), labels, folds and drums of all hits but the judge's."""
    import numpy as np

    from undiffuse import data

    held = data.load("drums16k")
    rows = np.setdiff1d(np.arange(len(held)), held.splits["features"])
    fold_of = {source: fold for fold, several in FOLDS.items() for source in several}
    audio = torch.from_numpy(held.audio[rows][:, None] / np.float32(32768))
    labels = torch.from_numpy(held.labels[rows].astype(np.int64))
    folds = [fold_of[str(s)] for s in held.more["source"][rows]]
    return audio, labels, folds, [str(d) for d in held.more["drum"][rows]]


def recipe_of(run: Training):
    """As the trainer takes it."""
    from undiffuse.presets import preset
    from undiffuse.recipes import Recipe

    return Recipe(
        name="little-drums",
        data="drums",
        network={**preset(run.network).network, "classes": 8},
        middle=0.5,
        optimizer="muon",
        lr=0.02,
        steps=run.steps,
        batch=run.batch,
        ema=0.99,
        drop_labels=0.0,
        seed=run.seed,
        precision="auto" if run.device == "cuda" else "float32",
    )


def pictures(x: torch.Tensor) -> torch.Tensor:
    """Log-mel spectrograms (N, 1, 32, 32) of hits (N, 1, 8192)."""
    from undiffuse.sources import log_mels

    return log_mels(x, MEL)


def heard(mels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Hits (N, 1, 8192) of spectrograms (N, 1, 32, 32), by Griffin-Lim."""
    from undiffuse.sources import sounds_of

    return sounds_of(mels, torch.Generator().manual_seed(seed), 30, mel=MEL)


def altered(
    x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hits (N, 1, 8192), each ``COPIES`` times at each of ``SPEEDS``, with the labels of all."""
    from undiffuse.resampling import played_faster
    from undiffuse.sound import augment_audio

    found = []
    for fast, slow in SPEEDS:
        played = played_faster(x, fast, slow)
        found += [augment_audio(played, generator, polarity=False) for _ in range(COPIES)]
    return torch.cat(found).clamp(-1, 1), labels.repeat(len(found))


def parts_of(run: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ``hits`` that are trained on, and those that are left out."""
    from undiffuse.subsets import stratified_subset

    _, labels, folds, _ = hits()
    out = torch.tensor([f == run.fold for f in folds])
    rest = (~out).nonzero()[:, 0]
    g = torch.Generator().manual_seed(run.seed)
    return rest[stratified_subset(labels[rest], run.count, g)], out.nonzero()[:, 0]


@torch.no_grad()
def _features(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from undiffuse import classifiers

    return classifiers.examine(_judge(), x)


@functools.lru_cache(maxsize=1)
def _judge():
    from undiffuse import classifiers

    return classifiers.load("drums")


@functools.lru_cache(maxsize=1)
def real_features() -> torch.Tensor:
    """Features of all hits but the judge's."""
    return _features(hits()[0])[0]


def measure(run: Training) -> dict[str, Any]:
    """Trains, draws a hit for each that was left out, and gives their features."""
    from undiffuse import trainer
    from undiffuse.metrics import memorisation_ratio
    from undiffuse.sampling import sample

    x, labels, _, _ = hits()
    known, unseen = parts_of(run)
    some, theirs = x[known], labels[known]
    if run.way == "altered":
        some, theirs = altered(some, theirs, torch.Generator().manual_seed(run.seed))
    shown = pictures(some)
    trained = trainer.train(recipe_of(run), shown, theirs, device=run.device)
    g = torch.Generator().manual_seed(1000 + run.seed)
    asked = labels[unseen]
    drawn = sample(trained.model, trained.schedule, (len(asked), *shown.shape[1:]), kind="v",
                   calls=run.calls, cond=asked.to(run.device), generator=g, clip=(-1, 1),
                   device=run.device)  # fmt: skip
    features, logits = _features(heard(drawn.cpu(), run.seed))
    reals = real_features()
    last = trained.losses[-50:]
    return {
        "features": [[round(v, 5) for v in row] for row in features.tolist()],
        "accuracy": float((logits.argmax(1) == asked).double().mean()),
        "memorisation": memorisation_ratio(features, reals[known], reals[unseen]),
        "last training losses": sum(last) / len(last),
    }


@functools.lru_cache(maxsize=1)
def heard_again() -> dict[str, float]:
    """What real hits get: their accuracy, and FD and accuracy by way of ``pictures``."""
    x, labels, _, drums = hits()
    _, as_recorded = _features(x)
    features, logits = _features(heard(pictures(x)))
    return {
        "accuracy": float((as_recorded.argmax(1) == labels).double().mean()),
        "heard again: accuracy": float((logits.argmax(1) == labels).double().mean()),
        "heard again: FD": pooled(features, real_features(), halvings(drums))["FD"],
    }


# --- what the figures show -------------------------------------------------------------------


def halvings(drums: list[str], several: int = HALVINGS) -> list[torch.Tensor]:
    """Masks (N,): every drum is in one half or the other, with all its hits."""
    names = sorted(set(drums))
    place = torch.tensor([names.index(d) for d in drums])
    found = []
    for k in range(several):
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(k))
        first = torch.zeros(len(names), dtype=torch.bool)
        first[order[: len(names) // 2]] = True
        found.append(first[place])
    return found


def pooled(
    samples: torch.Tensor, reals: torch.Tensor, masks: list[torch.Tensor]
) -> dict[str, float]:
    """Means over halvings: FD and recall of what stands for one half against the other half.

    samples, reals: (N, D); sample i was drawn for real i.
    """
    from undiffuse.metrics import frechet_distance, precision_recall

    found: dict[str, list[float]] = {"FD": [], "floor": [], "recall": [], "real recall": []}
    for mask in masks:
        other = reals[~mask]
        for kind, rows, recall in (("FD", samples[mask], "recall"),
                                   ("floor", reals[mask], "real recall")):  # fmt: skip
            found[kind].append(frechet_distance(rows, other))
            found[recall].append(precision_recall(other, rows)[1])
    return {k: sum(v) / len(v) for k, v in found.items()}


def conclude(found: Mapping[Training, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Claims 4 and 7 on drum hits."""
    _, _, folds, drums = hits()
    reals, masks = real_features(), halvings(drums)
    rows = []
    for count, way, seed in sorted(
        {(r.count, r.way, r.seed) for r in found},
        key=lambda which: (which[0], list(WAYS).index(which[1]), which[2]),
    ):
        mine = {r.fold: f for r, f in found.items() if (r.count, r.way, r.seed)
                == (count, way, seed)}  # fmt: skip
        samples = torch.empty_like(reals)
        for fold, figures in mine.items():
            rows_of = torch.tensor([f == fold for f in folds])
            samples[rows_of] = torch.tensor(figures["features"], dtype=reals.dtype)
        weight = {fold: folds.count(fold) / len(folds) for fold in mine}
        means = {k: sum(weight[fold] * f[k] for fold, f in mine.items())
                 for k in ("accuracy", "memorisation")}  # fmt: skip
        measured = pooled(samples, reals, masks)
        rows.append({"hits": count, "way": way, "seed": seed, **measured, **means})
    counts = sorted({r["hits"] for r in rows})

    def column(count: int, way: str) -> list[float]:
        return [r["FD"] for r in rows if (r["hits"], r["way"]) == (count, way)]

    run = next(iter(found))
    common = {
        "n": len(reals),
        "halvings": HALVINGS,
        "calls": run.calls,
        "steps": run.steps,
        "folds": FOLDS,
        "floor": rows[0]["floor"],
        "reals": heard_again(),
        "not_shown": "one network, one length of training, drums alone, as spectrograms; hits "
        "of one source are alike, and four sources are few",
    }
    few, many = column(counts[0], "plain"), column(counts[-1], "plain")
    better = separate(many, few) if len(counts) > 1 else None
    verdict = {"first": "more hits help", "second": "fewer hits got further in so few steps"}.get(
        better, NOT_SEPARABLE
    )
    verdict += f": FD {told(few)} with {counts[0]} hits, {told(many)} with {counts[-1]}"
    words, parts = set(), []
    for count in counts:
        words.add(separate(column(count, "altered"), column(count, "plain")))
        parts.append(f"{count} hits: " + compare("altered", column(count, "altered"), "plain",
                                                 column(count, "plain")))  # fmt: skip
    if words == {"first"}:
        word = "true here"
    elif words == {None}:
        word = NOT_SEPARABLE
    else:
        word = "depends on how many there are" if "first" in words else "not true here"
    return {
        "C4-drums": {"rows": rows, "verdict": verdict, **common},
        "C7-drums": {"rows": rows, "verdict": f"{word}: " + "; ".join(parts), **common},
    }


EXPERIMENT = Experiment(
    name="little-drums",
    about="drum hits from 50 to 300, whole sources left out in turn",
    claims=("C4", "C7"),
    runs=runs,
    measure=measure,
    conclude=conclude,
)
