"""Judging pictures drawn from prompts: do they show what was asked, never having been seen so?

``judge_prompts`` draws the combinations of a split (``held_out``: never trained on) and has the
attribute classifier say what it sees. Beside the model stand real pictures of the same combinations
(the best that can be), and two ways to answer without a model: the training picture whose prompt is
nearest (``nearest_training``), and that picture with the attribute that is wrong transplanted by
the mean difference of other pictures (``transplanted``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from undiffuse import classifiers, data
from undiffuse.attributes import JUDGED, AttributeClassifier, shares_right
from undiffuse.drawings import LENGTH, DrawingSet
from undiffuse.metrics import frechet_distance, nearness_quantiles
from undiffuse.sources import source
from undiffuse.text import tokenize

MAIN = {"portraits": "role", "emoji": "category"}
# The attribute that the nearest picture has wrong, and whose change is transplanted.
MOVED = {"portraits": "tone", "emoji": "style"}
# Of what a split is compared with for the Frechet distance, and the floor's other side.
REAL_PAIRS = {"portraits": ("reference", "held_out"), "emoji": ("reference", "validation")}


def held(name: str) -> DrawingSet:
    """The set of drawings behind a source."""
    return data.load(source(name).stored)


def wanted(name: str, split: str) -> dict[str, torch.Tensor]:
    """Attribute -> what each picture of a split shows (N,) int64, of the attributes judged."""
    drawings = held(name)
    rows = drawings.splits[split]
    return {k: torch.from_numpy(drawings.attributes[k][rows]) for k in JUDGED[name]}


def tokens_of(name: str, split: str) -> torch.Tensor:
    """(N, L) int64: the prompts of a split."""
    drawings = held(name)
    return tokenize(drawings.prompts(drawings.splits[split]), source(name).vocab, LENGTH)


def _prompt_sets(name: str, split: str) -> np.ndarray:
    """(N, words) float: which words each prompt of a split has."""
    tokens = tokens_of(name, split).numpy()
    found = np.zeros((len(tokens), len(source(name).vocab)), np.float32)
    np.put_along_axis(found, tokens, 1.0, axis=1)
    found[:, 0] = 0
    return found


def nearest_training(name: str, split: str, seed: int = 0) -> torch.Tensor:
    """For each prompt of a split the training picture whose prompt shares most with it.

    Shared words over all words of both (Jaccard); among equals one is drawn. (N, 3, 32, 32).
    """
    asked, known = _prompt_sets(name, split), _prompt_sets(name, "train")
    both = asked @ known.T
    share = both / (asked.sum(1)[:, None] + known.sum(1)[None] - both)
    lots = np.random.default_rng(seed).random(share.shape)
    best = np.where(share >= share.max(1, keepdims=True) - 1e-6, lots, -1).argmax(1)
    return source(name).take("train")[0][torch.from_numpy(best)]


def transplanted(name: str, split: str, seed: int = 0) -> torch.Tensor:
    """For each combination a training picture that has all but one attribute, and that one moved.

    Portraits: of the same role and style in another tone, plus the mean difference between the two
    tones over all roles that are trained on in both, in that style. Emoji: of the same concept in
    another style, plus the mean difference between the two styles over all concepts that are
    trained on in both. Clipped to [-1, 1]; among several pictures one is drawn. (N, 3, 32, 32).
    """
    drawings = held(name)
    moved = MOVED[name]
    other = "role" if name == "portraits" else "concept"
    same = [k for k in ("role", "concept", "style") if k in drawings.attributes and k != moved]
    rows, train = drawings.splits[split], drawings.splits["train"]
    x = source(name).take("train")[0]
    of_train = {k: v[train] for k, v in drawings.attributes.items()}
    pairs: dict[tuple, torch.Tensor] = {}

    def difference(start: int, goal: int, style: int | None) -> torch.Tensor:
        key = (start, goal, style)
        if key not in pairs:
            sides = []
            for value in (start, goal):
                fits = of_train[moved] == value
                if style is not None:
                    fits &= of_train["style"] == style
                sides.append({of_train[other][i]: i for i in np.flatnonzero(fits)})
            common = sorted(set(sides[0]) & set(sides[1]))
            each = [x[sides[1][c]] - x[sides[0][c]] for c in common]
            pairs[key] = torch.stack(each).mean(0) if each else torch.zeros_like(x[0])
        return pairs[key]

    draw = np.random.default_rng(seed)
    found = []
    for row in rows:
        fits = np.ones(len(train), bool)
        for k in same:
            fits &= of_train[k] == drawings.attributes[k][row]
        chosen = draw.choice(np.flatnonzero(fits) if fits.any() else np.arange(len(train)))
        style = int(drawings.attributes["style"][row]) if moved != "style" else None
        start, goal = int(of_train[moved][chosen]), int(drawings.attributes[moved][row])
        found.append((x[chosen] + difference(start, goal, style)).clamp(-1, 1))
    return torch.stack(found)


def beside(name: str, judge: AttributeClassifier, split: str = "held_out", seed: int = 0):
    """Way -> attribute -> share right: of real pictures, and of the two ways without a model."""
    asked = wanted(name, split)
    ways: Mapping[str, torch.Tensor] = {
        "real": source(name).take(split)[0],
        "nearest": nearest_training(name, split, seed),
        "transplant": transplanted(name, split, seed),
    }
    return {way: shares_right(judge, x, asked) for way, x in ways.items()}


def judge_prompts(
    samples: torch.Tensor,
    name: str,
    split: str = "held_out",
    judge: AttributeClassifier | None = None,
) -> dict[str, Any]:
    """Attribute -> share right of samples (N, 3, 32, 32), drawn for a split's prompts in order.

    "all": every attribute right at once. Raises ValueError for another number of samples.
    """
    asked = wanted(name, split)
    count = len(next(iter(asked.values())))
    if len(samples) != count:
        raise ValueError(f"{name}'s {split} has {count} prompts, and {len(samples)} samples came")
    return shares_right(judge or classifiers.load(source(name).judge), samples, asked)


def distances(
    samples: torch.Tensor,
    name: str,
    judge: AttributeClassifier,
    apart: torch.Tensor | None = None,
) -> dict[str, Any]:
    """FD of samples drawn for the prompts of ``reference``, its floor, and nearness to training.

    FD and floor at the same count; nearness: quantiles of the distance to the nearest training
    picture, beside those of real pictures that were not trained on. ``apart``: samples for the
    prompts of the split that the floor compares ``reference`` with; their FD from ``reference``
    ("fd_apart") is like the floor in all but who drew. That of ``samples`` is below it at small
    counts: each of them has the real picture of its own prompt on the other side.
    """
    against, other = REAL_PAIRS[name]
    take = source(name).take
    real, floor, train = (take(s)[0] for s in (against, other, "train"))
    f, r, o, t = (classifiers.examine(judge, x)[0] for x in (samples, real, floor, train))
    n = min(len(f), len(r), len(o))
    fd, floor_fd = frechet_distance(f[:n], r[:n]), frechet_distance(o[:n], r[:n])
    found = {"n": n, "fd": fd, "floor": floor_fd, "ratio": fd / floor_fd}
    if apart is not None:
        far = frechet_distance(classifiers.examine(judge, apart)[0][:n], r[:n])
        found |= {"fd_apart": far, "ratio_apart": far / floor_fd}
    return found | {
        "nearness": nearness_quantiles(f, t, r),
    }
