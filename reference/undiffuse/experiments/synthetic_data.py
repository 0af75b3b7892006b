"""Drawn data for another model (lesson 14): claim 9, on digits and on drum hits.

A classifier is trained on few real examples of each class, in several ways (``WAYS``), always for
the same number of steps with batches of the same size: what differs is what the batches hold. It is
tested on real data that nothing has seen.

Two of the ways draw with a network that was trained on the same few examples and nothing else: that
is the claim. One draws with the shipped network, which has seen hundreds of times as many: it tells
what drawing could do, and is no fair rival, as whoever has so much data would train on that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse.experiments import Experiment, compare, separate
from undiffuse.experiments._separable import NOT_SEPARABLE

WAYS = {
    "few": "the few real examples as they are",
    "augmented": "the few, changed at random each time",
    "drawn": "half of each batch drawn by a network trained on the few",
    "both": "drawn and augmented: half of each batch drawn, and all changed at random",
    "shipped": "half of each batch drawn by the shipped network, which has seen many more",
}
DIGITS = {"degrees": 12.0, "zoom": 0.12, "shear": 0.15, "shift": 2.0}
DRUMS = {"pitch": 0.15, "speed": 0.15}
# Root mean square difference up to which two items count as the same; quiet hits differ by little.
SAME = {"digits": 0.05, "drums": 0.005}


@dataclass(frozen=True)
class Training:
    """One classifier: of which data, in which way."""

    data: str
    count: int  # real examples of each class
    way: str
    seed: int
    steps: int  # of the classifier
    batch: int
    drawn: int  # how many are drawn
    calls: int
    generator_steps: int
    generator_batch: int
    tests: int = 0  # at most so many are tested; 0 is all
    device: str = "cpu"


def runs(budget: str) -> list[Training]:
    """Small: one seed, hardly trained. GPU: as full, with the drawing networks trained longer, and
    more drawn."""
    if budget == "small":
        size = {"steps": 12, "batch": 16, "drawn": 20, "calls": 2, "generator_steps": 2,
                "generator_batch": 8, "tests": 40}  # fmt: skip
        return [Training("digits", 5, way, 0, **size) for way in WAYS]
    gpu = budget == "gpu"
    device = "cuda" if gpu else "cpu"
    digits = {"steps": 500, "batch": 50, "drawn": 1000 if gpu else 500, "calls": 20 if gpu else 10,
              "generator_steps": 8000 if gpu else 600, "generator_batch": 32}  # fmt: skip
    drums = {"steps": 300, "batch": 26, "drawn": 400 if gpu else 200, "calls": 20 if gpu else 10,
             "generator_steps": 6400 if gpu else 500, "generator_batch": 16}  # fmt: skip
    return [
        Training(data, count, way, seed, device=device, **size)
        for seed in (0, 1, 2)
        for data, counts, size in (("digits", (5, 20), digits), ("drums", (6,), drums))
        for count in counts
        for way in WAYS
    ]


def few(run: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` examples of each class of the split train, chosen anew by each seed."""
    from undiffuse import sources

    x, labels = sources.source(run.data).take("train")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(run.seed))
    rows = [order[labels[order] == k][: run.count] for k in labels.unique().tolist()]
    chosen = torch.cat(rows)
    return x[chosen], labels[chosen]


def tested(run: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """Real examples that neither a classifier nor a network that draws has seen."""
    from undiffuse import sources

    parts = [sources.source(run.data).take(split) for split in ("reference", "held_out")]
    x, labels = (torch.cat(p) for p in zip(*parts))
    return (x[: run.tests], labels[: run.tests]) if run.tests else (x, labels)


def measure(run: Training) -> dict[str, Any]:
    """Accuracy on the test, what was drawn and left out, and how long each part took."""
    from undiffuse import classifiers, synthetic

    torch.manual_seed(run.seed)
    x, labels = few(run)
    test, test_labels = tested(run)
    drawing, more = 0.0, (x[:0], labels[:0])
    if run.way in ("drawn", "both", "shipped"):
        more, drawing = drawn(run, labels)
    asked = len(more[0])
    x, labels, is_drawn = synthetic.mix_real_and_synthetic((x, labels), more, test, SAME[run.data])
    start = time.monotonic()
    model = classifier(run, x, labels, is_drawn)
    seconds = time.monotonic() - start
    found = {
        "accuracy": classifiers.accuracy(model, test, test_labels),
        "real": int((~is_drawn).sum()),
        "drawn": int(is_drawn.sum()),
        "left out": asked - int(is_drawn.sum()),
        "classifier seconds": seconds,
        "drawing seconds": drawing,
        "tests": len(test),
    }
    if int(is_drawn.sum()):
        judge = _judge(run.data)
        found["drawn as asked"] = classifiers.accuracy(judge, x[is_drawn], labels[is_drawn])
    return found


@functools.lru_cache(maxsize=2)
def _judge(name: str):
    from undiffuse import classifiers

    return classifiers.load(name)


@functools.lru_cache(maxsize=4)
def _network(data: str, count: int, seed: int, steps: int, batch: int, device: str):
    """(checkpoint, seconds) of a network trained on the few; two ways share it where one process
    does both."""
    from undiffuse import recipes, trainer
    from undiffuse.checkpoints import Checkpoint

    run = Training(data, count, "drawn", seed, 0, 0, 0, 0, steps, batch)
    x, labels = few(run)
    base = recipes.load(data)
    recipe = recipes.from_dict(base.to_dict() | {
        "name": f"few-{data}", "steps": steps, "batch": min(batch, len(x)), "seed": seed,
        "warmup": min(base.warmup, steps // 2), "ema": 0.99, "validate_every": 0,
        "sample_every": 0, "n": None,
    })  # fmt: skip
    start = time.monotonic()
    trained = trainer.train(recipe, x, labels, device=device)
    seconds = time.monotonic() - start
    shape = tuple(x.shape[1:])
    return (
        Checkpoint(recipe.name, trained.model.eval(), recipe.make_schedule(), recipe, shape),
        seconds,
    )


def drawn(run: Training, labels: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
    """((data, labels) that were drawn, seconds, training of the network included)."""
    from undiffuse import checkpoints, synthetic
    from undiffuse.draw import draw

    seconds = 0.0
    if run.way == "shipped":
        network = checkpoints.load(run.data, run.device)
    else:
        network, seconds = _network(run.data, run.count, run.seed, run.generator_steps,
                                    run.generator_batch, run.device)  # fmt: skip
    classes = int(labels.max()) + 1
    asked = synthetic.balanced_labels(run.drawn, classes, torch.bincount(labels).tolist())
    start = time.monotonic()
    samples, _ = draw(network, len(asked), labels=asked, calls=run.calls, seed=run.seed, batch=100)
    return (samples, asked), seconds + time.monotonic() - start


def classifier(
    run: Training, x: torch.Tensor, labels: torch.Tensor, is_drawn: torch.Tensor
) -> torch.nn.Module:
    """Trained for ``run.steps`` batches, half of each drawn where anything was."""
    from undiffuse import classifiers
    from undiffuse.sound_classifiers import SoundClassifier, vary_mel

    torch.manual_seed(run.seed)
    g = torch.Generator().manual_seed(run.seed)
    classes = int(labels.max()) + 1
    change = run.way in ("augmented", "both")
    if run.data == "digits":
        model = body = classifiers.Classifier(classes=classes, width=16)
        inputs = x

        def vary(v: torch.Tensor, g: torch.Generator) -> torch.Tensor:
            return classifiers.random_affine(v, g, **DIGITS)
    else:
        model = SoundClassifier(16000, classes, x.shape[-1], width=12, dim=16)
        body = model.net
        with torch.no_grad():
            inputs = torch.cat([model.mel(v) for v in x.split(100)])

        def vary(v: torch.Tensor, g: torch.Generator) -> torch.Tensor:
            return vary_mel(v, g, **DRUMS)

    # One long epoch whose order holds as many of each kind as were asked for.
    total = run.steps * run.batch
    real, more = (~is_drawn).nonzero()[:, 0], is_drawn.nonzero()[:, 0]
    share = total // 2 if len(more) else 0
    picks = [real[torch.randint(len(real), (total - share,), generator=g)]]
    if share:
        picks.append(more[torch.randint(len(more), (share,), generator=g)])
    order = torch.cat(picks)
    classifiers.train_on(
        body, _Picked(inputs, order), _Picked(labels, order), vary if change else None,
        seed=run.seed, epochs=1, batch=run.batch,
    )  # fmt: skip
    return model.eval()


class _Picked:
    """A tensor seen through indices, so that a long order needs no copies."""

    def __init__(self, values: torch.Tensor, order: torch.Tensor) -> None:
        self.values, self.order = values, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self.values[self.order[index]]


# --- what the figures show -------------------------------------------------------------------


def conclude(found: Mapping[Training, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """C9-digits and C9-drums."""
    made = {}
    for data in dict.fromkeys(r.data for r in found):
        mine = {r: f for r, f in sorted(found.items(), key=lambda p: p[0].seed) if r.data == data}
        made[f"C9-{data}"] = verdict_of(mine)
    return made


def verdict_of(found: Mapping[Training, Mapping[str, Any]]) -> dict[str, Any]:
    """Drawn data against augmentation alone, count by count."""
    rows = [{"real a class": r.count, "way": r.way, "seed": r.seed, **f} for r, f in found.items()]
    counts = sorted({r.count for r in found})

    def of(count: int, way: str, key: str = "accuracy") -> list[float]:
        return [f[key] for r, f in found.items() if (r.count, r.way) == (count, way)]

    parts, words = [], []
    for count in counts:
        for way in ("drawn", "both", "shipped"):
            pair = of(count, way), of(count, "augmented")
            if way != "shipped":
                words.append(separate(*pair, lower_is_better=False, least=0.0))
            parts.append(f"{count} a class: " + compare(way, pair[0], "augmented", pair[1],
                         what="accuracy", lower_is_better=False, least=0.0))  # fmt: skip
    helped, harmed = "first" in words, "second" in words
    if helped and not harmed:
        word = "true here" if set(words) == {"first"} else "true of some ways here"
    elif harmed and not helped:
        word = "not true here: augmentation alone did better"
    elif helped:
        word = "depends on how it is done"
    else:
        word = NOT_SEPARABLE
    seconds = {way: _mean(of(counts[-1], way, "classifier seconds")) for way in WAYS}
    drawing = _mean(of(counts[-1], "drawn", "drawing seconds"))
    parts.append(
        f"equal steps of the classifier ({next(iter(found)).steps}); training a network to draw "
        f"and drawing took {drawing / max(seconds['augmented'], 1e-9):.0f} times as long as "
        "training the classifier"
    )
    run = next(iter(found))
    return {
        "rows": rows, "verdict": f"{word}: " + "; ".join(parts), "n": rows[0]["tests"],
        "ways": WAYS, "steps": run.steps, "batch": run.batch, "calls": run.calls,
        "generator_steps": run.generator_steps, "classifier seconds": seconds,
        "same": SAME[run.data],
        "not_shown": "one classifier, one share of drawn data in a batch (half), networks that "
        "were trained for minutes; other shares and longer training may do better or worse",
    }  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPERIMENT = Experiment(
    name="synthetic-data",
    about="classifiers on few real examples: drawn data against augmentation, digits and drums",
    claims=("C9",),
    runs=runs,
    measure=measure,
    conclude=conclude,
)
