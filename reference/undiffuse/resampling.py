"""Another sampling rate, by a windowed sinc."""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from scipy.special import i0

from undiffuse._arguments import require_count, require_float

BLOCK = 128  # outputs that one matrix makes


def resample(
    x: torch.Tensor,
    rate: int,
    target_rate: int,
    *,
    zeros: int = 64,
    rolloff: float = 0.95,
    beta: float = 8.6,
) -> torch.Tensor:
    """``x`` (..., L) taken at ``rate``, as if taken at ``target_rate``: (..., ceil(L * ratio)).

    A windowed sinc, one phase after the other (polyphase): what would be above the lower of the
    two Nyquist frequencies is taken out. zeros: zero crossings of the sinc on each side; rolloff:
    its cut-off as a share of that Nyquist frequency; beta: of the Kaiser window. Outside of ``x``
    is silence. With (10, 1.0, 5.0), ``scipy.signal.resample_poly``; the defaults keep what is
    below 0.9 of the Nyquist frequency and weaken what is above it by 80 dB. Peaks may grow a
    little. TypeError or ValueError for rates that are no positive whole numbers.
    """
    require_float("x", x)
    up = require_count("target_rate", operator.index(target_rate))
    down = require_count("rate", operator.index(rate))
    require_count("zeros", zeros)
    if x.ndim < 1 or x.shape[-1] < 1:
        raise ValueError(f"x must be (..., L) with at least 1 sample, got shape {tuple(x.shape)}")
    up, down = up // math.gcd(up, down), down // math.gcd(up, down)
    if up == down:
        return x.clone()
    half, kernels = _phases(up, down, zeros, rolloff, beta)
    kernels = kernels.to(x)
    wide = kernels.shape[1]
    long = -(-x.shape[-1] * up // down)
    # Outputs come in rounds of `many`, each `step` inputs further than the last. Output r of a
    # round lies r * down / up inputs behind its start: the whole part says where its kernel
    # begins, the rest of the division which kernel it is.
    many = up * -(-BLOCK // up)
    step = many // up * down
    rounds = -(-long // many)
    flat = x.reshape(-1, x.shape[-1])
    flat = F.pad(flat, (half, max(0, rounds * step + half + 1 - x.shape[-1])))
    parts = []
    for first in range(0, min(many, long), BLOCK):
        r = torch.arange(first, min(first + BLOCK, many))
        start = first * down // up
        place = (r * down // up - start)[:, None] + torch.arange(wide)
        matrix = x.new_zeros(int(place.max()) + 1, len(r))
        matrix[place, torch.arange(len(r))[:, None]] = kernels[(r * down) % up]
        windows = flat[:, start:].unfold(-1, len(matrix), step)[:, :rounds]
        parts.append(windows @ matrix)
    found = torch.cat(parts, dim=-1).reshape(len(flat), -1)[:, :long]
    return found.reshape(*x.shape[:-1], long)


def played_faster(x: torch.Tensor, rate: int, target_rate: int) -> torch.Tensor:
    """``x`` (..., L) resampled, but played at the old rate: faster and higher by a factor.

    The factor is rate / target_rate. The same shape: silence follows what got shorter, and what
    got longer is cut at L.
    """
    made = resample(x, rate, target_rate)[..., : x.shape[-1]]
    return F.pad(made, (0, x.shape[-1] - made.shape[-1]))


def _phases(
    up: int, down: int, zeros: int, rolloff: float, beta: float
) -> tuple[int, torch.Tensor]:
    """(h, kernels (up, 2 h + 1)) float64: kernel f gives the value f / up behind its middle."""
    wide = max(up, down)
    n = torch.arange(-zeros * wide, zeros * wide + 1, dtype=torch.float64)
    taps = torch.sinc(n * rolloff / wide)
    # Kaiser's window; torch's i0 takes ten times as long.
    taps *= torch.from_numpy(i0(beta * (1 - (n / n[-1]).square()).sqrt().numpy()))
    taps *= up / taps.sum()
    half = zeros * wide // up + 1
    taps = F.pad(taps, (half * up - zeros * wide, (half + 1) * up - zeros * wide - 1))
    return half, taps.reshape(2 * half + 1, up).T.flip(1)
