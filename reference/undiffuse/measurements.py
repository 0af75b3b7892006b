"""What is left of data when it was measured: y = A(x), for parts, coarse grids, blur and clipping.

Each function makes an A: a callable that takes x (B, C, ...) and gives y, differentiable wherever
that makes sense, for images and sound alike. ``posterior.posterior_guided`` looks for an x whose
A(x) is a y that is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from undiffuse._arguments import require_count, require_float, require_tensor

Measurement = Callable[[torch.Tensor], torch.Tensor]


def known_part(mask: torch.Tensor) -> Measurement:
    """x where ``mask`` is True, and 0 elsewhere: y has x's shape.

    mask: bool, of a shape that broadcasts to x (see ``require_mask``).
    """
    if require_tensor("mask", mask).dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, True where x is known, got {mask.dtype}")

    def measure(x: torch.Tensor) -> torch.Tensor:
        return torch.where(mask, x, torch.zeros_like(x))

    return measure


def coarse(factor: int) -> Measurement:
    """The mean of each block of ``factor`` places along every axis but the first two.

    (B, C, H, W) -> (B, C, H / factor, W / factor), (B, C, L) -> (B, C, L / factor): what a sensor
    with larger pixels sees; to undo it is super-resolution. ValueError for an axis that ``factor``
    does not divide.
    """
    require_count("factor", factor, 2)

    def measure(x: torch.Tensor) -> torch.Tensor:
        _require_data(x)
        if odd := [n for n in x.shape[2:] if n % factor]:
            raise ValueError(f"blocks of {factor} do not divide a side of {odd[0]}")
        pool = F.avg_pool1d if x.ndim == 3 else F.avg_pool2d
        return pool(x, factor)

    return measure


def blurred(width: float) -> Measurement:
    """A Gaussian blur of standard deviation ``width`` in places, along every axis but the first
    two; edges are repeated. The kernel reaches 3 widths to either side.

    Same shape as x. ValueError for a width that is not positive, or wider than the data.
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width must be above 0 and finite, got {width}")
    reach = math.ceil(3 * width)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-offsets.square() / (2 * width**2))
    kernel = kernel / kernel.sum()

    def measure(x: torch.Tensor) -> torch.Tensor:
        _require_data(x)
        k = kernel.to(x)
        for axis in range(2, x.ndim):
            if reach >= x.shape[axis]:
                raise ValueError(f"a blur of width {width} is wider than a side of {x.shape[axis]}")
            rows = x.movedim(axis, -1)
            flat = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
            x = F.conv1d(flat, k[None, None]).reshape(rows.shape).movedim(-1, axis)
        return x

    return measure


def clipped(level: float) -> Measurement:
    """x cut off at +-``level``, as by an amplifier that gets too much: same shape.

    Where x is beyond, y says only that it is: the gradient is 0 there. ValueError for a level that
    is not positive.
    """
    if not 0 < level < math.inf:
        raise ValueError(f"level must be above 0 and finite, got {level}")

    def measure(x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-level, level)

    return measure


def require_mask(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``mask`` as bool (B, 1 or C, ...), True where x (B, C, ...) is known, if something is to do.

    mask: bool, of x's shape, of that of one sample (C, ...), or with 1 in place of B or C. Raises
    TypeError for another dtype, and ValueError for another shape, a sample of which everything is
    known (nothing would change) or one of which nothing is (that is drawing anew: ``draw.draw``).
    """
    if require_tensor("mask", mask).dtype != torch.bool:
        raise TypeError(
            f"mask must be a bool tensor, True where x is known, got {mask.dtype}: "
            "mask > 0.5, perhaps?"
        )
    given = tuple(mask.shape)
    full = mask[None] if mask.ndim == x.ndim - 1 else mask
    fits = full.ndim == x.ndim and all(m in (1, s) for m, s in zip(full.shape[:2], x.shape))
    if not fits or full.shape[2:] != x.shape[2:]:
        raise ValueError(
            f"mask must have the shape of one sample, {tuple(x.shape[1:])}, or of all, "
            f"{tuple(x.shape)} (1 in place of samples or channels will do), got {given}"
        )
    known = full.flatten(1)
    if bool(known.all(1).any()):
        raise ValueError("mask is all ones: everything is known, and there is nothing to fill in")
    if not bool(known.any(1).all()):
        raise ValueError("mask is all zeros: nothing is known; to draw from nothing, use draw()")
    return full


def _require_data(x: torch.Tensor) -> torch.Tensor:
    if require_float("x", x).ndim not in (3, 4):
        raise ValueError(f"x must be (B, C, L) or (B, C, H, W), got shape {tuple(x.shape)}")
    return x
