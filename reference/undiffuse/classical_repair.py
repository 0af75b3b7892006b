"""Repair without a trained model: what a network has to beat.

Pictures: the smoothest filling of a hole. Sound: linear prediction, in two ways, and a spectrum
that goes over from one side of a gap to the other. Each takes only the data at hand; what they do
not know they cannot invent.
"""

from __future__ import annotations

import numpy as np
import torch

from undiffuse._arguments import require_count, require_float
from undiffuse.measurements import require_mask

Array = np.ndarray


def biharmonic(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) with holes filled as smoothly as can be: the same shape.

    mask: bool, True where x is known, one for all images: (1, H, W) or (1, 1, H, W). The filling
    has the least sum of squared Laplacians, of which a thin plate's bending energy is made, over
    all pixels at whose Laplacian the hole has a share (the picture is continued by its own edge).
    It may overshoot the range of what is known. Raises what ``measurements.require_mask`` raises.
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    known = require_mask(mask, x)
    if require_float("x", x).ndim != 4 or known.shape[:2] != (1, 1):
        raise ValueError(
            "x must be (B, C, H, W) and mask one for all of them, (1, H, W), got "
            f"{tuple(x.shape)} and {tuple(mask.shape)}"
        )

    def second(n: int):
        """Second differences along an axis of n pixels; at the ends only one neighbour counts."""
        inside = np.full(n, -2.0)
        inside[[0, -1]] = -1.0
        return sparse.diags([np.ones(n - 1), inside, np.ones(n - 1)], [-1, 0, 1])

    h, w = x.shape[2:]
    laplacian = sparse.kron(second(h), sparse.eye(w)) + sparse.kron(sparse.eye(h), second(w))
    hole = ~known.reshape(-1).numpy()
    laplacian = laplacian.tocsc()
    inside, outside = laplacian[:, hole], laplacian[:, ~hole]
    rows = x.detach().reshape(-1, h * w).double().numpy()
    right = -(inside.T @ (outside @ rows[:, ~hole].T))
    found = np.asarray(spsolve((inside.T @ inside).tocsc(), right)).reshape(right.shape)
    filled = rows.copy()
    filled[:, hole] = found.T
    return torch.from_numpy(filled).to(x.dtype).reshape(x.shape)


def burg(x: Array, order: int) -> Array:
    """Prediction coefficients a (order,) of x (n,): x[i] is about sum a[k] x[i - 1 - k].

    Burg's method (1967): the least squared error of predicting forwards and backwards, which gives
    a stable filter. Where x is predicted without error (silence), the rest of a is 0.
    """
    x = np.asarray(x, dtype=np.float64)
    require_count("order", order)
    if x.ndim != 1 or len(x) <= order:
        raise ValueError(f"{order} coefficients need more samples than that, got {x.shape}")
    forward, backward = x[1:].copy(), x[:-1].copy()
    a = np.zeros(0)
    for _ in range(order):
        power = forward @ forward + backward @ backward
        k = 2 * (forward @ backward) / power if power > 1e-20 else 0.0
        a = np.append(a - k * a[::-1], k)
        forward, backward = (forward - k * backward)[1:], (backward - k * forward)[:-1]
    return a


def extrapolate(x: Array, count: int, order: int) -> Array:
    """The next ``count`` samples of x (n,), each predicted from those before it (``burg``)."""
    from scipy.signal import lfilter, lfiltic

    a = burg(x, order)
    whiten = np.concatenate([[1.0], -a])
    state = lfiltic([1.0], whiten, np.asarray(x, dtype=np.float64)[: -order - 1 : -1])
    return lfilter([1.0], whiten, np.zeros(count), zi=state)[0]


def predict_gap(
    x: torch.Tensor, start: int, stop: int, order: int = 200, context: int = 2048
) -> torch.Tensor:
    """Clips (B, 1, L) with a gap predicted from both sides, going over from one to the other.

    Forwards from up to ``context`` samples before, backwards from as many after, with weights of a
    raised cosine (Kauppinen & Roth 2002, "Audio signal extrapolation"). A side with too few samples
    for ``order`` gets as many coefficients as it can bear; one without any has no say.
    """

    def fill(clip: Array) -> Array:
        count = stop - start
        sides = clip[max(0, start - context) : start], clip[stop : stop + context][::-1]
        found = [extrapolate(s, count, min(order, len(s) // 2)) if len(s) > 3 else None
                 for s in sides]  # fmt: skip
        ahead, back = found[0], None if found[1] is None else found[1][::-1]
        if ahead is None or back is None:
            return np.zeros(count) if ahead is back else back if ahead is None else ahead
        share = 0.5 + 0.5 * np.cos(np.pi * (np.arange(count) + 1) / (count + 1))
        return share * ahead + (1 - share) * back

    return _each(x, start, stop, fill)


def autoregressive_gap(
    x: torch.Tensor,
    start: int,
    stop: int,
    order: int = 32,
    context: int = 1024,
    rounds: int = 10,
) -> torch.Tensor:
    """Clips (B, 1, L) with the gap that a linear prediction of the whole fits best.

    Janssen, Veldhuis & Vries 1986: coefficients from the sound with its present filling (by the
    autocorrelation method, over ``context`` samples to each side), then the filling with the least
    squared prediction error, in turn, from silence on.
    """
    from scipy.linalg import solve_toeplitz, toeplitz

    def fill(clip: Array) -> Array:
        first, last = max(0, start - context), min(len(clip), stop + context)
        piece = clip[first:last].astype(np.float64)
        gap = slice(start - first, stop - first)
        piece[gap] = 0.0
        for _ in range(rounds):
            r = np.correlate(piece, piece, "full")[len(piece) - 1 :][: order + 1]
            if r[0] < 1e-12:
                break
            r[0] *= 1 + 1e-9  # else a pure tone leaves nothing to divide by
            whiten = np.concatenate([[1.0], -solve_toeplitz(r[:-1], r[1:])])
            own = np.correlate(whiten, whiten, "full")[order:]
            known = piece.copy()
            known[gap] = 0.0
            both = np.concatenate([own[:0:-1], own])
            right = -np.convolve(known, both, "same")[gap]
            count = stop - start
            column = np.zeros(count)
            column[: min(count, order + 1)] = own[:count]
            piece[gap] = np.linalg.solve(toeplitz(column), right)
        return piece[gap]

    return _each(x, start, stop, fill)


def spectral_gap(x: torch.Tensor, start: int, stop: int, frame: int = 512) -> torch.Tensor:
    """Clips (B, 1, L) with noise in the gap whose spectrum goes over from one side to the other.

    The magnitudes of the last ``frame`` samples before and the first after, in shares that change
    evenly over the gap, with phases drawn from a generator of fixed seed, in overlapping frames.
    Right in level and colour, and wrong in every sample: made for noise-like sound.
    """

    def fill(clip: Array) -> Array:
        count, hop = stop - start, frame // 2
        window = np.hanning(frame + 1)[:-1]
        sides = [clip[max(0, start - frame) : start], clip[stop : stop + frame]]
        sides = [np.pad(s, (0, frame - len(s))) for s in sides]
        levels = [np.abs(np.fft.rfft(s * window)) for s in sides]
        random = np.random.default_rng(0)
        out = np.zeros(count + 2 * frame)
        for at in range(0, count + frame, hop):
            share = min(1.0, max(0.0, (at - hop) / count))
            size = np.sqrt((1 - share) * levels[0] ** 2 + share * levels[1] ** 2)
            phase = np.exp(2j * np.pi * random.random(len(size)))
            # Two windows overlap, and their squares add up to 3/4 on average.
            out[at : at + frame] += np.fft.irfft(size * phase, frame) * window / 0.75**0.5 / 0.6124
        return out[hop : hop + count]

    return _each(x, start, stop, fill)


def _each(x: torch.Tensor, start: int, stop: int, fill) -> torch.Tensor:
    if require_float("x", x).ndim != 3 or x.shape[1] != 1:
        raise ValueError(f"clips must be (B, 1, L), got shape {tuple(x.shape)}")
    if not 0 <= start < stop <= x.shape[-1] or stop - start == x.shape[-1]:
        raise ValueError(
            f"a gap must lie in the clip, and not be all of it, got {start} to {stop} of "
            f"{x.shape[-1]}"
        )
    out = x.clone()
    for i, clip in enumerate(x[:, 0].detach().cpu().double().numpy()):
        clip = clip.copy()
        clip[start:stop] = 0.0
        out[i, 0, start:stop] = torch.from_numpy(fill(clip).copy()).to(out)
    return out
