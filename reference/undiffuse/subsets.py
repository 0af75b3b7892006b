"""Choosing few samples of many, so that few are still a picture of all."""

from __future__ import annotations

import torch


def stratified_subset(
    labels: torch.Tensor, n: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Indices of n different samples in which every class has its share: (n,) int64, ascending.

    labels: (N,) int64 of any values. Class c, with N_c samples, gets the whole part of n N_c / N
    places; the places that are left go one each to the classes with the largest fractions, the
    smaller label first where fractions are equal (Hamilton's method). So no class is more than one
    place off its share. Draws: for each class in ascending order one ``torch.randperm(N_c)``, of
    which the first places are taken. The same generator state gives the same indices.

    Raises ValueError for labels that are no whole numbers in one row, or n outside [1, N].
    """
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"labels must be whole numbers (N,), got {labels.dtype} {tuple(labels.shape)}"
        )
    total = len(labels)
    if not 1 <= n <= total:
        raise ValueError(f"n must be 1 to {total}, the number of labels, got {n}")
    classes, counts = labels.unique(return_counts=True)
    places, fractions = n * counts // total, n * counts % total
    left = n - int(places.sum())
    # By a stable sort the smaller label stands first among equals.
    places[fractions.argsort(descending=True, stable=True)[:left]] += 1
    chosen = []
    for c, count in zip(classes, places.tolist()):
        members = (labels == c).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:count].to(members.device)])
    return torch.cat(chosen).sort().values
