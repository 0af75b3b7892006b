"""Splits whole groups of clips, so that no two hits on one drum stand on both sides."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

ROUNDS = 60_000


def group_splits(
    labels: np.ndarray,
    groups: Sequence[str],
    kinds: Sequence[str],
    shares: Mapping[str, float],
    seed: int = 0,
    rounds: int = ROUNDS,
) -> np.ndarray:
    """Which split each clip is in: uint8 (N,), index into ``shares``; a group is never parted.

    labels: (N,) the classes; groups: (N,) names; kinds: (N,), what else to balance, such as the
    kit. Groups change places at random as long as that brings three counts nearer to their shares:
    of the clips of every class, of the groups of every class (one drum hit sixteen times does not
    stand for sixteen), and with half the weight of the clips of every kind. The way is always the
    same for a seed.
    """
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    member = np.array([place[g] for g in groups])
    kind = np.unique(np.asarray(kinds), return_inverse=True)[1]
    count = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(count, (member, labels), 1)
    origin = np.zeros((len(names), kind.max() + 1))
    np.add.at(origin, (member, kind), 1)
    group = np.sign(count)
    features = np.concatenate(
        [
            count / np.sqrt(count.sum(0)),
            group / np.sqrt(group.sum(0)),
            0.5 * origin / np.sqrt(origin.sum(0)),
        ],
        axis=1,
    )
    share = np.array(list(shares.values()))
    target = share[:, None] * features.sum(0)
    draw = random.Random(seed).random  # the one method whose stream Python promises to keep
    at = np.array([int(draw() * len(share)) for _ in names])
    sums = np.stack([features[at == s].sum(0) for s in range(len(share))])

    def cost(rows: np.ndarray, splits: list[int]) -> float:
        return float((((rows - target[splits]) ** 2).sum(1) / share[splits]).sum())

    for step in range(rounds):
        g, to = int(draw() * len(names)), int(draw() * len(share))
        source = at[g]
        if source == to:
            continue
        two = [source, to]
        moved = sums[two] + np.stack([-features[g], features[g]])
        gain = cost(sums[two], two) - cost(moved, two)
        heat = 0.5 * (1 - step / rounds) ** 3
        if gain > 0 or draw() < np.exp(gain / max(heat, 1e-9)):
            at[g] = to
            sums[two] = moved
    return at[member].astype(np.uint8)
