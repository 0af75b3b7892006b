"""What of a failing case can be drawn: yours against the expected, as small plain data.

A report keeps a picture, never the values themselves. Its levels are a 255th of the range that is
shown, its curves a thousandth: enough to see a mistake by, and far too coarse to hand in.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from coursework.results import CaseResult, ExerciseResult

PLACES = 200  # of a curve
SIDE = 64  # pixels of an image
STEPS = 1000


@dataclass
class Picture:
    """One row ("curve", ``(n,)``) or one image ("image", ``(h, w)``) of a case, float64.

    place: which row or image of the result it is, the one with the largest error.
    """

    kind: str
    case: str
    place: int
    got: np.ndarray
    expected: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, thinned and rounded."""
        got, expected = self.got, self.expected
        low, high = shown_range(got, expected, self.kind)
        made = {"kind": self.kind, "case": self.case, "place": self.place, "size": [*got.shape]}
        made |= {"low": _rounded(low, high - low), "high": _rounded(high, high - low)}
        made["left_out"] = not bool(((got >= low) & (got <= high)).all())
        if self.kind == "image":
            step = -(-max(got.shape) // SIDE)
            got, expected = got[::step, ::step], expected[::step, ::step]
            made["shape"] = [*got.shape]
            for name, values in (("got", got), ("expected", expected)):
                levels = np.rint(255 * _share(values, low, high)).astype(np.uint8)
                made[name] = base64.b64encode(levels.tobytes()).decode()
            return made
        if len(got) > PLACES:
            keep = np.linspace(0, len(got) - 1, PLACES).round().astype(int)
            got, expected = got[keep], expected[keep]
        for name, values in (("got", got), ("expected", expected)):
            share = _share(values, low, high)
            steps = np.rint(STEPS * share).astype(int).tolist()
            made[name] = [s if ok else None for s, ok in zip(steps, ~np.isnan(values))]
        return made


def best(result: ExerciseResult) -> Picture | None:
    """The picture of the first failing case that is not hidden and can be drawn."""
    for case in result.cases:
        if case.passed or case.hidden or case.picture == "none":
            continue
        if picture := of_case(case):
            return picture
    return None


def of_case(case: CaseResult) -> Picture | None:
    """The row or image with the largest error, where the result is numbers of the right shape."""
    got, expected = _array(case.got), _array(case.expected)
    if got is None or expected is None or got.shape != expected.shape or expected.size < 4:
        return None
    if expected.ndim >= 3 and min(expected.shape[-2:]) >= 12 and case.picture != "curve":
        kind, ndim = "image", 2
    else:
        kind, ndim = "curve", 1
    g, e = (a.reshape(-1, *a.shape[a.ndim - ndim :]) for a in (got, expected))
    if kind == "curve" and e.shape[-1] < 3:
        g, e = g.T, e.T
    if e.shape[-1] < 3:
        return None
    with np.errstate(all="ignore"):
        error = np.nan_to_num(np.abs(g - e), nan=np.inf).reshape(len(g), -1)
    worst = int(error.max(axis=1).argmax())
    return Picture(kind, case.name, worst, g[worst], e[worst])


def _array(value: Any) -> np.ndarray | None:
    if hasattr(value, "detach"):
        value = value.detach().to("cpu").double().numpy() if not value.is_complex() else None
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return value.astype(float)
    return None


def shown_range(got: np.ndarray, expected: np.ndarray, kind: str) -> tuple[float, float]:
    """(low, high) of what is shown: an image in the levels of the expected; a curve with both, but
    one that goes far off is cut, so that the expected does not become a flat line."""
    finite = expected[np.isfinite(expected)]
    finite = finite if finite.size else np.zeros(1)
    low, high = float(finite.min()), float(finite.max())
    span = high - low
    if math.isclose(low, high, abs_tol=1e-300):
        span = max(abs(low), 1.0)
    mine = got[np.isfinite(got)]
    if kind == "curve" and mine.size:
        low = max(min(low, float(mine.min())), low - 3 * span)
        high = min(max(high, float(mine.max())), high + 3 * span)
    if math.isclose(low, high, abs_tol=1e-300):
        low, high = low - span, high + span
    return low, high


def _rounded(end: float, span: float) -> float:
    """An end of the range to three digits, and 0 where it is next to nothing."""
    return 0.0 if abs(end) < span / STEPS else float(f"{end:.3g}")


def _share(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where in the range ``values`` lie, in [0, 1]; NaN at the bottom."""
    clipped = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
    return (clipped - low) / (high - low)
