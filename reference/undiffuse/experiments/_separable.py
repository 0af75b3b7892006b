"""When figures of several seeds may name a winner, and when they may not.

The rule, of figures x_1..x_n of setting A and y_1..y_m of setting B, where lower is better: A is
better than B if and only if

1. both have at least three seeds (``SEEDS``),
2. every figure of A is below every figure of B: max x < min y, and
3. the means are at least a twentieth apart (``LEAST``): |mean x - mean y| >= 0.05 max(|mean x|,
   |mean y|).

Otherwise the two are "not separable at this size", and no winner is named, however the means lie.

Condition 2 alone is passed by chance, when there is no difference at all, with probability
2 n! m! / (n + m)!: 10 % with three seeds each, 2.9 % with four, 0.8 % with five. So a verdict of
three seeds is a bound on luck and no proof; condition 3 keeps a difference that is tiny, but
happens to be tidy, from being called one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SEEDS = 3
LEAST = 0.05
NOT_SEPARABLE = "not separable at this size"


def separate(
    first: Sequence[float],
    second: Sequence[float],
    *,
    lower_is_better: bool = True,
    least: float = LEAST,
) -> str | None:
    """ "first", "second", or None where seeds do not separate the two, by the rule above.

    first, second: one finite figure for each seed; the numbers of seeds may differ. least: how far
    the means must be apart, as a share of the larger one in absolute value; 0 asks for condition 2
    alone. Raises ValueError for no figures, for NaN or infinite ones, and for a negative ``least``.
    """
    if not least >= 0:
        raise ValueError(f"least must be at least 0, got {least}")
    a, b = _figures(first, "first"), _figures(second, "second")
    if min(len(a), len(b)) < SEEDS:
        return None
    if not lower_is_better:
        a, b = [-v for v in a], [-v for v in b]
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    if abs(mean_a - mean_b) < least * max(abs(mean_a), abs(mean_b)):
        return None
    if max(a) < min(b):
        return "first"
    if max(b) < min(a):
        return "second"
    return None


def winner(
    figures: Mapping[str, Sequence[float]],
    *,
    lower_is_better: bool = True,
    least: float = LEAST,
) -> str | None:
    """The setting that ``separate`` finds better than each of the others, or None.

    figures: setting -> one figure for each seed. Raises ValueError for fewer than two settings.
    """
    if len(figures) < 2:
        raise ValueError(f"a winner needs two settings or more, got {list(figures)}")
    for name, mine in figures.items():
        others = [v for k, v in figures.items() if k != name]
        if all(separate(mine, o, lower_is_better=lower_is_better, least=least) == "first"
               for o in others):  # fmt: skip
            return name
    return None


def compare(
    name: str,
    figures: Sequence[float],
    to: str,
    against: Sequence[float],
    *,
    what: str = "FD",
    lower_is_better: bool = True,
    least: float = LEAST,
) -> str:
    """One sentence about two settings, with means and ranges, by the same rule.

    As in "affine is better than none (FD 3.10 (2.90 to 3.30) against 5.00 (4.80 to 5.30))".
    """
    found = separate(figures, against, lower_is_better=lower_is_better, least=least)
    word = {"first": "is better than", "second": "is worse than", None: "and"}[found]
    end = "" if found else f": {NOT_SEPARABLE}"
    return f"{name} {word} {to} ({what} {told(figures)} against {told(against)}){end}"


def told(values: Sequence[float], digits: int = 2) -> str:
    """Mean, lowest and highest."""
    mean = math.fsum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _figures(values: Sequence[float], name: str) -> list[float]:
    values = [float("nan") if v is None else float(v) for v in values]
    if not values:
        raise ValueError(f"{name} has no figures")
    bad = [i for i, v in enumerate(values) if not math.isfinite(v)]
    if bad:
        raise ValueError(f"{name}: figure {bad[0]} of {len(values)} is {values[bad[0]]}")
    return values
