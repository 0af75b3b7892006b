"""Checks of arguments, shared by the modules: early, by type, with what was given and wanted."""

from __future__ import annotations

import torch


def require_tensor(name: str, value: object) -> torch.Tensor:
    """``value`` if it is a tensor, else TypeError."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    return value


def require_float(name: str, value: object) -> torch.Tensor:
    """``value`` if it is a floating-point tensor, else TypeError."""
    require_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got dtype {value.dtype}")
    return value


def require_finite(name: str, value: torch.Tensor) -> torch.Tensor:
    """``value`` if it holds no NaN and no infinity, else ValueError that says how many."""
    finite = torch.isfinite(value)
    if not finite.all():
        bad = int((~finite).sum())
        raise ValueError(f"{name} has {bad} of {value.numel()} values that are NaN or infinite")
    return value


def require_between(
    name: str, value: torch.Tensor, low: float, high: float, open_low: bool = False
) -> torch.Tensor:
    """``value`` if all of it lies in [low, high] (or in (low, high]), else ValueError."""
    above = value > low if open_low else value >= low
    # `not (inside)` in place of `outside`: NaN is neither and must not pass.
    if not (above & (value <= high)).all():
        bracket = "(" if open_low else "["
        span = f"from {value.min().item():g} to {value.max().item():g}"
        raise ValueError(f"{name} must lie in {bracket}{low:g}, {high:g}], got values {span}")
    return value


def require_vector(name: str, value: object) -> torch.Tensor:
    """``value`` if it is a non-empty 1-D floating-point tensor, else TypeError or ValueError."""
    require_float(name, value)
    if value.ndim != 1 or value.numel() < 1:
        raise ValueError(f"{name} must have shape (T,) with T >= 1, got {tuple(value.shape)}")
    return value


def require_count(name: str, value: object, least: int = 1) -> int:
    """``value`` if it is an int of at least ``least``, else TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def require_steps(t: object, T: int, batch: int) -> torch.Tensor:
    """``t`` if it holds one step index in [0, T-1] per sample: an integer tensor (batch,)."""
    require_tensor("t", t)
    if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        raise TypeError(f"t must hold integer step indices, got dtype {t.dtype}")
    if t.shape != (batch,):
        raise ValueError(f"t must have one step per sample, shape ({batch},), got {tuple(t.shape)}")
    if batch and not ((t >= 0) & (t < T)).all():
        raise ValueError(
            f"t must lie in [0, {T - 1}] for {T} steps, got {int(t.min())} to {int(t.max())}"
        )
    return t.long()


def require_same_shape(name: str, value: object, like_name: str, like: torch.Tensor) -> None:
    """ValueError unless ``value`` is a tensor of the shape of ``like``."""
    require_tensor(name, value)
    if value.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}, {tuple(like.shape)}, "
            f"got {tuple(value.shape)}"
        )


def per_sample(
    name: str, value: float | torch.Tensor, x: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """``value`` as a tensor that multiplies each sample of ``x`` (B, ...) by its own number.

    value: a number, a tensor of one element, one number per sample (B,), or a tensor that already
    has as many dimensions as ``x`` and broadcasts to it. Returns (1, ..., 1) or (B, 1, ..., 1),
    in ``dtype`` or that of ``x``. Raises ValueError for any other shape.
    """
    value = torch.as_tensor(value, device=x.device, dtype=dtype or x.dtype)
    if value.ndim == 0 or value.shape == (1,):
        return value.reshape((1,) * x.ndim)
    if value.ndim == 1 and value.shape[0] == x.shape[0]:
        return value.reshape(-1, *(1,) * (x.ndim - 1))
    if value.ndim == x.ndim and all(a in (1, b) for a, b in zip(value.shape, x.shape)):
        return value
    raise ValueError(
        f"{name} must be a number or one number per sample, shape ({x.shape[0]},), "
        f"got {tuple(value.shape)}"
    )


def float64_device(device: torch.device) -> torch.device:
    """``device``, or the CPU where that has no float64 (Apple's GPUs)."""
    return torch.device("cpu") if device.type == "mps" else device
