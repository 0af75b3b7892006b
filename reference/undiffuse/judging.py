"""Judging samples: images or sounds in, all figures out, with count, seeds, intervals and floor.

``judge_images`` and ``judge_sounds`` know which classifier and which splits belong to a set of
data, so that every figure of the course is made in the same way: the features of the shipped
classifier, the split ``reference`` to compare with, ``held_out`` for what real data get, ``train``
for nearness.

Class shares move FD. Real digits with equally many of each class are further from the reference
set than real digits with its shares, as a mixture in other proportions is another distribution
(lesson 08 measures by how much). A model that is told the class should therefore be told
``labels_like``; else the figure judges how the classes were chosen.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from undiffuse import classifiers, data, sources
from undiffuse.metrics import Quality, assess, bootstrap_ci, frechet_interval

IMAGES = tuple(
    s.name for s in sources.SOURCES.values() if s.kind == "image" and s.judge and not s.told
)
SOUNDS = tuple(s.name for s in sources.SOURCES.values() if s.kind == "sound")
RESAMPLES = 200


def labels_like(name: str, n: int) -> torch.Tensor:
    """n labels (n,) int64 in the shares of the set that ``name``'s samples are compared with.

    name: of a set, one of ``IMAGES`` or ``SOUNDS``. The labels of the split ``reference`` in its
    order, again from the start after the last: for n up to its size, ``judge_images`` compares with
    exactly as many of each class. The order is mixed, and every beginning of it has the shares,
    too. Raises ValueError for an unknown name or n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _, labels = _set(name, (*IMAGES, *SOUNDS)).take("reference")
    return labels.repeat(-(-n // len(labels)))[:n]


def judge_images(
    images: torch.Tensor | np.ndarray,
    labels: torch.Tensor | np.ndarray | Sequence[int] | None,
    data: str = "digits",
    seeds: Iterable[int] = (),
    resamples: int = RESAMPLES,
) -> Quality:
    """All figures of one set of samples of ``data`` ("digits" or "fashion").

    images: float (N, 1, 28, 28) in [-1, 1], or uint8 (N, 28, 28) as ``course sample`` writes
    them. labels: (N,), the class that each was asked to be, or None for a model that is not told;
    then there is no accuracy. seeds: those the images were drawn with, kept with the figures.

    n = min(N, 1,000) images are judged, the first ones, against as many reals: FD depends on the
    count, so compare figures of equal n only. Labels in other shares than ``labels_like(data, N)``
    raise FD; a warning says so. The interval of FD is ``frechet_interval``, within classes where
    labels are given; that of accuracy is ``bootstrap_ci``. Both say what other samples of the
    same model may get, with the real data as they are. Resamples are seeded: the same images give
    the same figures.

    Raises ValueError for images that are of the wrong shape, NaN, outside [-1, 1] or fewer than
    10, and for labels that do not fit.
    """
    reals = _reals(_set(data, IMAGES).name)
    return _judge(_images(images), labels, reals, data, seeds, resamples)


def judge_sounds(
    audio: torch.Tensor | np.ndarray,
    labels: torch.Tensor | np.ndarray | Sequence[int] | None,
    data: str = "drums",
    seeds: Iterable[int] = (),
    resamples: int = RESAMPLES,
) -> Quality:
    """All figures of one set of sounds of ``data`` ("drums", "notes" or "fsdd").

    audio: float (N, 1, 8192) or (N, 8192) in [-1, 1], at the rate of the set, as ``course sample``
    writes it. labels: (N,), the class that each was asked to be, or None. Of notes they are
    ``sources.note_labels``, and accuracy is that of the family; for pitch see
    ``sound_metrics.pitch_error_cents``. Otherwise as ``judge_images``; n is at most the size of the
    smaller of the splits ``reference`` and ``held_out``, which for sounds is small: read the
    intervals. "fsdd" needs its download, or raises ``downloads.NotDownloaded``.

    Raises ValueError for clips that are of the wrong shape, NaN, outside [-1, 1] or fewer than 10,
    and for labels that do not fit.
    """
    reals = _reals(_set(data, SOUNDS).name)
    return _judge(_clips(audio, reals.judge), labels, reals, data, seeds, resamples)


def _judge(
    samples: torch.Tensor,
    labels: Any,
    reals: _Reals,
    data: str,
    seeds: Iterable[int],
    resamples: int,
) -> Quality:
    labels = None if labels is None else _labels(labels, len(samples), reals.source)
    n = min(len(samples), len(reals.reference), len(reals.held_out))
    samples = samples[:n]
    features, logits = classifiers.examine(reals.judge, samples)
    quality = assess(features, reals.reference, reals.held_out, reals.train)
    found: dict[str, Any] = {"data": data, "seeds": tuple(int(s) for s in seeds)}
    if labels is not None:
        labels = labels[:n]
        _compare_shares(labels, data)
        right = (logits.argmax(1) == labels).double()
        found["accuracy"] = float(right.mean())
        found["accuracy_interval"] = bootstrap_ci(right, torch.mean, resamples, 0.95, _seeded())
        found["floor_accuracy"] = float(reals.held_out_right[:n].mean())
    found["fd_interval"] = frechet_interval(
        features, reals.reference[:n], labels, resamples, 0.95, _seeded()
    )
    return dataclasses.replace(quality, **found)


def judge_draws(
    draw: Callable[[torch.Tensor, int], torch.Tensor],
    data: str = "digits",
    n: int | None = None,
    seeds: Iterable[int] = (0, 1, 2),
    resamples: int = RESAMPLES,
) -> list[Quality]:
    """The figures of several draws of one model, one ``Quality`` a seed.

    draw(labels, seed) gives images (n, 1, 28, 28), or sounds (n, 1, L), for labels (n,), which are
    ``labels_like``. n: None takes as many as there are reals to compare with.
    """
    reals = _reals(_set(data, (*IMAGES, *SOUNDS)).name)
    labels = labels_like(data, n or min(len(reals.reference), len(reals.held_out)))
    judge = judge_sounds if data in SOUNDS else judge_images
    return [judge(draw(labels, s), labels, data, (s,), resamples) for s in seeds]


def describe(qualities: Quality | Sequence[Quality]) -> str:
    """The figures as a table: samples beside real data, with count, seeds and spread.

    Of one ``Quality``: its intervals. Of several: the mean, and the lowest and highest of them.
    They must be of the same data and count, or a ValueError says which are not.
    """
    several = [qualities] if isinstance(qualities, Quality) else list(qualities)
    if not several:
        raise ValueError("there are no figures to describe")
    alike = {(q.data, q.n) for q in several}
    if len(alike) > 1:
        raise ValueError(f"figures of different data or counts do not mix: {sorted(alike)}")
    first = several[0]

    def cell(name: str, interval: str = "") -> str:
        values = [getattr(q, name) for q in several]
        if any(v is None for v in values):
            return "–"
        text = f"{sum(values) / len(values):.3f}"
        if len(values) > 1:
            return f"{text} ({min(values):.3f} to {max(values):.3f})"
        ends = getattr(first, interval) if interval else None
        return f"{text} (95 %: {ends[0]:.3f} to {ends[1]:.3f})" if ends else text

    def real(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    lines = [("", "samples", "real, held out")]
    lines.append(("FD", cell("fd", "fd_interval"), real(first.floor)))
    lines.append(("FD / floor", cell("ratio"), real(1.0)))
    lines.append(("KID", cell("kid"), "0 on average"))
    lines.append(("precision", cell("precision"), real(first.floor_precision)))
    lines.append(("recall", cell("recall"), real(first.floor_recall)))
    accuracy = cell("accuracy", "accuracy_interval")
    lines.append(("class accuracy", accuracy, real(first.floor_accuracy)))
    lines.append(("memorisation", cell("memorisation"), real(1.0)))
    for q, reals in first.nearness["held_out"].items():
        values = [x.nearness["samples"][q] for x in several]
        text = f"{sum(values) / len(values):.3f}"
        if len(values) > 1:
            text += f" ({min(values):.3f} to {max(values):.3f})"
        lines.append((f"nearest {float(q):.0%} to train", text, real(reals)))
    seeds = [str(s) for x in several for s in x.seeds]
    told = ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(seeds) if seeds else "no seed"
    spread = "mean (lowest to highest)" if len(several) > 1 else "one draw"
    title = f"{first.data or 'features'}: n = {first.n:,}; {told} given; {spread}"
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([title, *rows])


def as_dict(quality: Quality) -> dict[str, Any]:
    """The figures as plain data for JSON, with ``excess`` and ``ratio``."""
    return dataclasses.asdict(quality) | {"excess": quality.excess, "ratio": quality.ratio}


@dataclass(frozen=True)
class _Reals:
    source: sources.Source
    judge: torch.nn.Module
    train: torch.Tensor
    reference: torch.Tensor
    held_out: torch.Tensor
    held_out_right: torch.Tensor


@functools.lru_cache(maxsize=2)
def _reals(name: str) -> _Reals:
    """Features of the real sets, computed once: they take longer than those of the samples."""
    source = sources.source(name)
    judge = classifiers.load(source.judge)
    real = {split: source.take(split) for split in ("train", "reference", "held_out")}
    found = {split: classifiers.examine(judge, x) for split, (x, _) in real.items()}
    features = {split: f for split, (f, _) in found.items()}
    logits = found["held_out"][1]
    right = (logits.argmax(1) == source.judged(real["held_out"][1])).double()
    return _Reals(source, judge, **features, held_out_right=right)


def _set(name: str, known: tuple[str, ...]) -> sources.Source:
    if name not in known:
        raise ValueError(f"data must be one of {', '.join(known)}, got {name!r}")
    return sources.source(name)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _images(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """float32 (N, 1, 28, 28) in [-1, 1]; says what is wrong with anything else."""
    images = torch.as_tensor(images)
    if images.dtype == torch.uint8:
        images = data.to_model_range(images)
    elif not images.is_floating_point():
        raise ValueError(f"images must be float in [-1, 1] or uint8, got {images.dtype}")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or len(images) < 10:
        raise ValueError(
            f"images must be at least 10, (N, 1, 28, 28) or (N, 28, 28), got {tuple(images.shape)}"
        )
    low, high = _range(images, "images")
    if low >= 0 and high > low:
        warnings.warn(
            f"no pixel is below 0 (they reach from {low:.3g} to {high:.3g}): are these images in "
            "[0, 1]? Those of the course are in [-1, 1]",
            stacklevel=3,
        )
    return images.detach().float().cpu()


def _clips(audio: torch.Tensor | np.ndarray, judge: torch.nn.Module) -> torch.Tensor:
    """float32 (N, 1, L) in [-1, 1]; says what is wrong with anything else."""
    audio = torch.as_tensor(audio)
    if not audio.is_floating_point():
        raise ValueError(f"audio must be float in [-1, 1], got {audio.dtype}")
    if audio.ndim == 2:
        audio = audio[:, None]
    length = judge.options["length"]
    if audio.ndim != 3 or tuple(audio.shape[1:]) != (1, length) or len(audio) < 10:
        raise ValueError(
            f"audio must be at least 10 clips, (N, 1, {length}) or (N, {length}), got "
            f"{tuple(audio.shape)}"
        )
    _range(audio, "clips")
    return audio.detach().float().cpu()


def _range(samples: torch.Tensor, what: str) -> tuple[float, float]:
    """The least and the greatest value, which must be finite and lie in [-1, 1]."""
    if not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
        raise ValueError(f"{bad} of {len(samples)} {what} hold NaN or infinite values")
    low, high = samples.min().item(), samples.max().item()
    if low < -1.001 or high > 1.001:
        raise ValueError(
            f"{what} must lie in [-1, 1], and reach from {low:.3g} to {high:.3g}: scale them, or "
            "clip what a sampler left outside"
        )
    return low, high


def _labels(labels: Any, count: int, source: sources.Source) -> torch.Tensor:
    classes = source.classes
    labels = torch.as_tensor(labels).detach().cpu()
    if labels.is_floating_point() or labels.ndim != 1 or len(labels) != count:
        raise ValueError(
            f"labels must be {count} whole numbers, one a sample, got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must be 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    return source.judged(labels.long())


def _compare_shares(labels: torch.Tensor, name: str) -> None:
    """Warns where the classes' shares are so different that FD measures them."""
    wanted = sources.source(name).judged(labels_like(name, len(labels)))
    size = int(max(labels.max(), wanted.max())) + 1
    off = (labels.bincount(minlength=size) - wanted.bincount(minlength=size)).abs().sum()
    moved = float(off) / 2 / len(labels)
    if moved > 0.02:
        warnings.warn(
            f"{moved:.0%} of the labels would have to change to have the shares of the reference "
            f"set, and FD counts that as a fault: draw with labels_like({name!r}, {len(labels)})",
            stacklevel=4,
        )
