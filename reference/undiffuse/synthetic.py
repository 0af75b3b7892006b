"""Drawn data as training data for another model: how many of which class, and what to leave out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from undiffuse._arguments import require_count, require_float

Labelled = tuple[torch.Tensor, torch.Tensor]


def balanced_labels(
    n: int, classes: int, counts: Sequence[int] | torch.Tensor | None = None
) -> torch.Tensor:
    """Labels (n,) int64 of data to draw, so that real and drawn together are as even as can be.

    counts: how many real ones there are of each class; None for none. Exactly n labels, ascending:
    as if n times the class with the fewest got one more, the lowest label where several have the
    fewest. Raises ValueError for counts that are not ``classes`` numbers of at least 0.
    """
    require_count("n", n, 0)
    require_count("classes", classes)
    have = torch.zeros(classes, dtype=torch.int64)
    if counts is not None:
        have = torch.as_tensor(counts).to(torch.int64)
    if have.shape != (classes,) or bool((have < 0).any()):
        raise ValueError(f"counts must be {classes} numbers of at least 0, got {counts}")
    if not n:
        return torch.zeros(0, dtype=torch.int64)
    # Water is poured in: the level is the highest whole one that n fills everywhere.
    low, high = int(have.min()), int(have.max()) + n
    while low < high:
        middle = (low + high + 1) // 2
        if int((middle - have).clamp(min=0).sum()) <= n:
            low = middle
        else:
            high = middle - 1
    more = (low - have).clamp(min=0)
    at_level = (have + more == low).nonzero()[:, 0]
    more[at_level[: n - int(more.sum())]] += 1
    return torch.repeat_interleave(torch.arange(classes), more)


def mix_real_and_synthetic(
    real: Labelled, synthetic: Labelled, test: torch.Tensor, tol: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x, labels, is_synthetic) to train on, without copies of what is tested on, or of each other.

    real, synthetic: (data (N, ...), labels (N,)); test: data (M, ...). Two items are the same where
    the root of the mean square of their difference is at most ``tol``. First the real ones, in
    their order, without those that are the same as a test item; then the synthetic ones, in their
    order, without those that are the same as a test item, a real one, or a synthetic one that was
    taken before. is_synthetic: bool. Raises ValueError for shapes that do not fit or tol below 0.
    """
    for name, (x, y) in (("real", real), ("synthetic", synthetic)):
        require_float(name, x)
        if len(x) != len(y):
            raise ValueError(f"{name} has {len(x)} items and {len(y)} labels")
        if x.shape[1:] != test.shape[1:]:
            raise ValueError(
                f"{name} items are {tuple(x.shape[1:])}, and test items {tuple(test.shape[1:])}"
            )
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}")
    (x, y), (x_more, y_more) = real, synthetic
    clean = ~_same(x, test, tol).any(1)
    fresh = ~_same(x_more, torch.cat([test, x[clean]]), tol).any(1)
    alike = _same(x_more, x_more, tol)
    for i in range(len(x_more)):
        fresh[i] &= not bool((alike[i, :i] & fresh[:i]).any())
    data = torch.cat([x[clean], x_more[fresh]])
    labels = torch.cat([y[clean], y_more[fresh]])
    drawn = torch.arange(len(data), device=data.device) >= int(clean.sum())
    return data, labels, drawn


def _same(a: torch.Tensor, b: torch.Tensor, tol: float) -> torch.Tensor:
    """(N, M) bool: whether items are the same, to ``tol``."""
    size = max(1, a[0].numel() if len(a) else 1)
    # Differences, not products: near 0 those of float32 would say that copies are apart.
    apart = torch.cdist(a.flatten(1), b.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return apart / size**0.5 <= tol


__all__ = ["balanced_labels", "mix_real_and_synthetic"]
