"""When to stop training on few data: by what unseen data say, and before samples become copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

COPIES = 0.9


class Stop(NamedTuple):
    """What ``generalisation_gap`` found.

    gaps: validation loss minus training loss at each look. keep: the look whose weights are to be
    kept, None where there is none. stop: the look at which training ends.
    """

    gaps: list[float]
    keep: int | None
    stop: int


def generalisation_gap(
    train_loss: Sequence[float],
    val_loss: Sequence[float],
    memorisation: Sequence[float],
    copies: float = COPIES,
    patience: int = 3,
) -> Stop:
    """Which of several looks at a training to keep, and where to stop.

    train_loss, val_loss: losses at each look, of images that are trained on and of others, with the
    same noise. memorisation: ``metrics.memorisation_ratio`` of samples drawn at each look: about 1
    for new pictures, towards 0 for copies. Looks are gone through in order. Training stops

    - at the first look whose memorisation is below ``copies``; that look is not kept,
    - or at the look that is the ``patience``-th in a row whose validation loss is not below the
      lowest so far,
    - or at the last one.

    Kept is the look with the lowest validation loss up to there, the earlier one of equals. The
    training loss decides nothing: it falls for as long as one trains. NaN is never the lowest.

    Raises ValueError for rows of different lengths, none at all, or a patience below 1.
    """
    rows = {"train_loss": train_loss, "val_loss": val_loss, "memorisation": memorisation}
    lengths = {name: len(row) for name, row in rows.items()}
    if len(set(lengths.values())) != 1 or not len(train_loss):
        raise ValueError(f"as many of each are wanted, and at least one, got {lengths}")
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    gaps = [float(v) - float(t) for t, v in zip(train_loss, val_loss)]
    lowest, keep, since = math.inf, None, 0
    for i, (value, ratio) in enumerate(zip(val_loss, memorisation)):
        if ratio < copies:
            return Stop(gaps, keep, i)
        if value < lowest:
            lowest, keep, since = float(value), i, 0
        else:
            since += 1
            if since == patience:
                return Stop(gaps, keep, i)
    return Stop(gaps, keep, len(gaps) - 1)
