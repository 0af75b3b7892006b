"""Another sampling rate, by a windowed sinc."""

from __future__ import annotations

import math
import operator
from functools import lru_cache

import torch
import torch.nn.functional as F

from undiffuse._arguments import require_count, require_float


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
    is silence. ``scipy.signal.resample_poly`` is (10, 1.0, 5.0). Peaks may grow a little.
    """
    require_float("x", x)
    up, down = (
        require_count(n, operator.index(v))
        for n, v in (("target_rate", target_rate), ("rate", rate))
    )
    if x.ndim < 1 or x.shape[-1] < 1:
        raise ValueError(f"x must be (..., L) with at least 1 sample, got shape {tuple(x.shape)}")
    up, down = up // math.gcd(up, down), down // math.gcd(up, down)
    if up == down:
        return x.clone()
    half, table = _phases(up, down, zeros, rolloff, beta)
    table = table.to(x)
    long = -(-x.shape[-1] * up // down)
    rounds = -(-long // up)
    flat = x.reshape(-1, 1, x.shape[-1])
    flat = F.pad(flat, (half, max(0, rounds * down + half + 1 - x.shape[-1])))
    # Output q * up + r lies at input q * down + r * down / up: its whole part moves the kernel,
    # the rest of the division chooses it.
    parts = []
    for r in range(min(up, long)):
        whole, rest = divmod(r * down, up)
        parts.append(F.conv1d(flat[..., whole:], table[None, None, rest], stride=down))
    found = torch.stack([p[:, 0, :rounds] for p in parts], dim=-1).reshape(len(flat), -1)
    return found[:, :long].reshape(*x.shape[:-1], long)


@lru_cache(maxsize=8)
def _phases(
    up: int, down: int, zeros: int, rolloff: float, beta: float
) -> tuple[int, torch.Tensor]:
    """(h, kernels (up, 2 h + 1)) float64: kernel f gives the value f / up behind its middle."""
    with torch.inference_mode(False):  # what is kept must also serve a later call with gradients
        wide = max(up, down)
        n = torch.arange(-zeros * wide, zeros * wide + 1, dtype=torch.float64)
        taps = torch.sinc(n * rolloff / wide)
        taps *= torch.kaiser_window(len(n), periodic=False, beta=beta, dtype=torch.float64)
        taps *= up / taps.sum()
        half = zeros * wide // up + 1
        taps = F.pad(taps, (half * up - zeros * wide, (half + 1) * up - zeros * wide - 1))
        return half, taps.reshape(2 * half + 1, up).T.flip(1).contiguous()
