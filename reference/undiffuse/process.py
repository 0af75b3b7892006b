"""The forward process: how data turns into noise, and what can be told from the result.

``x0`` is data of any shape (B, ...): images (B, C, H, W), sound (B, C, L), points (B, D). ``t`` is
a 0-based integer step per sample, (B,) int64, into ``alpha_bar`` (T,), the share of the signal's
variance that is left after step t. ``noise`` and ``eps`` are standard normal, of the shape and
dtype of ``x0``. Coefficients are computed in float64; results have the dtype of the data. Nothing
is changed in place.

All functions raise TypeError for data that is not floating point or steps that are not integers,
and ValueError for shapes that do not fit, steps outside [0, T-1], alpha_bar outside [0, 1] and NaN.
"""

from __future__ import annotations

import math

import torch

from undiffuse._arguments import (
    per_sample,
    require_between,
    require_finite,
    require_float,
    require_same_shape,
    require_steps,
    require_tensor,
    require_vector,
)
from undiffuse.schedules import Schedule, alpha_bar_from_betas


def to_model_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 images, any shape, 0..255 -> float32 in [-1, 1]: 0 gives -1 and 255 gives 1.

    Raises TypeError for another dtype (an image that is already float would be scaled twice).
    """
    require_tensor("images", images)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, 0 to 255, got dtype {images.dtype}")
    return images.to(torch.float32) / 127.5 - 1.0


def from_model_range(x: torch.Tensor) -> torch.Tensor:
    """The inverse: floats -> uint8, rounded; what lies outside [-1, 1] is clamped.

    Raises TypeError for integer data, ValueError for NaN.
    """
    require_finite("x", require_float("x", x))
    return ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def corrupt(x: torch.Tensor, amount: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """(1 - amount) x + amount noise: a straight mix.

    x: (B, ...) float. amount: (B,) in [0, 1], one per sample. noise: as x. Returns x's shape and
    dtype. Halfway, the variance of unit-variance data falls: see ``variance_preserving_corrupt``.
    """
    amount = _amount(x, amount, noise)
    return (1.0 - amount) * x + amount * noise


def variance_preserving_corrupt(
    x: torch.Tensor, amount: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """sqrt(1 - amount) x + sqrt(amount) noise: unit-variance data keeps unit variance.

    Arguments and result as ``corrupt``; ``amount`` is the share of the variance that is noise.
    """
    amount = _amount(x, amount, noise)
    return (1.0 - amount).sqrt() * x + amount.sqrt() * noise


def q_step(x_prev: torch.Tensor, beta: float | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """One noising step: x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) noise.

    x_prev, noise: (B, ...) float. beta: a number or one per sample (B,), in [0, 1]: the variance
    that this step adds. Returns x_prev's shape and dtype. Ho et al. 2020 (DDPM), eq. 2.
    """
    _data(x_prev, "x_prev", noise)
    beta = per_sample("beta", beta, x_prev, torch.float64)
    require_between("beta", beta, 0.0, 1.0)
    keep, add = (1.0 - beta).sqrt().to(x_prev.dtype), beta.sqrt().to(x_prev.dtype)
    return keep * x_prev + add * noise


def q_sample(
    x0: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Any noise level in one jump: x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) noise.

    x0, noise: (B, ...) float. t: (B,) int64. alpha_bar: (T,). Returns x0's shape and dtype.
    Ho et al. 2020 (DDPM), eq. 4.
    """
    _data(x0, "x0", noise)
    alpha, sigma = _alpha_sigma(x0, t, alpha_bar)
    return alpha * x0 + sigma * noise


def x0_from_eps(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, eps: torch.Tensor
) -> torch.Tensor:
    """The data that ``x_t`` and its noise imply: ``q_sample`` solved for x0.

    x0 = (x_t - sqrt(1 - alpha_bar[t]) eps) / sqrt(alpha_bar[t]). Shapes and dtypes as
    ``q_sample``. Ho et al. 2020 (DDPM), eq. 15. Raises ValueError
    also where alpha_bar[t] is 0: pure noise implies no data.
    """
    _data(x_t, "x_t", eps, "eps")
    alpha, sigma = _alpha_sigma(x_t, t, alpha_bar)
    if not (alpha > 0).all():
        raise ValueError("alpha_bar[t] is 0: x0 does not follow from x_t and eps there")
    return (x_t - sigma * eps) / alpha


def v_target(
    x0: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """v = sqrt(alpha_bar[t]) noise - sqrt(1 - alpha_bar[t]) x0.

    Shapes and dtypes as ``q_sample``. Salimans & Ho 2022 ("Progressive distillation"), section 4.
    """
    _data(x0, "x0", noise)
    alpha, sigma = _alpha_sigma(x0, t, alpha_bar)
    return alpha * noise - sigma * x0


def eps_from_v(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The noise that ``x_t`` and v imply: sqrt(1 - alpha_bar[t]) x_t + sqrt(alpha_bar[t]) v.

    Shapes and dtypes as ``q_sample``. Salimans & Ho 2022, appendix D.
    """
    _data(x_t, "x_t", v, "v")
    alpha, sigma = _alpha_sigma(x_t, t, alpha_bar)
    return sigma * x_t + alpha * v


def x0_from_v(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The data that ``x_t`` and v imply: sqrt(alpha_bar[t]) x_t - sqrt(1 - alpha_bar[t]) v.

    Shapes and dtypes as ``q_sample``. Salimans & Ho 2022, section 4.
    """
    _data(x_t, "x_t", v, "v")
    alpha, sigma = _alpha_sigma(x_t, t, alpha_bar)
    return alpha * x_t - sigma * v


def posterior_mean_variance(
    x0: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, betas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (B, ...) and variance (B,) of q(x_{t-1} | x_t, x0).

    With alpha_bar_{t-1} = 1 at t = 0 (the step before the first is the data itself):

    mean = sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) x0
         + sqrt(1 - beta_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) x_t
    variance = beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)

    so that t = 0 gives mean x0 and variance 0. x0, x_t: (B, ...) float; t: (B,) int64; betas:
    (T,) in (0, 1]. Both results have x0's dtype. Ho et al. 2020 (DDPM), eq. 6 and 7.
    """
    _data(x0, "x0", x_t, "x_t")
    require_vector("betas", betas)
    t = require_steps(t, len(betas), len(x0))
    betas = betas.to(x0.device, torch.float64)
    alpha_bar = alpha_bar_from_betas(betas)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    beta, now, prev = betas[t], alpha_bar[t], before[t]
    of_x0 = per_sample("coefficient", prev.sqrt() * beta / (1 - now), x0)
    of_x_t = per_sample("coefficient", (1 - beta).sqrt() * (1 - prev) / (1 - now), x0)
    variance = beta * (1 - prev) / (1 - now)
    return of_x0 * x0 + of_x_t * x_t, variance.to(x0.dtype)


def steps_to_snr(alpha_bar: torch.Tensor, snr: float) -> int:
    """First t at which alpha_bar[t] / (1 - alpha_bar[t]) is at or below ``snr``; T if none is.

    alpha_bar: (T,) in [0, 1]. snr: above 0, a ratio of variances (no decibels, no logarithm).
    """
    _alpha_bar(alpha_bar)
    if not (snr > 0 and math.isfinite(snr)):
        raise ValueError(f"snr must be a finite number above 0, got {snr}")
    kept = alpha_bar.double()
    reached = (kept / (1 - kept) <= snr).nonzero()
    return int(reached[0]) if len(reached) else len(alpha_bar)


def diffuse(
    schedule: Schedule, x0: torch.Tensor, t: float | torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """x_t = alpha(t) x0 + sigma(t) noise for any schedule: the form that all others are cases of.

    x0, noise: (B, ...) float. t: a number or one per sample (B,), continuous, in [0, 1]. Returns
    x0's shape and dtype. Kingma et al. 2021 (VDM), section 3.1.
    """
    _data(x0, "x0", noise)
    t = t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t
    alpha = per_sample("t", schedule.alpha(t), x0)
    sigma = per_sample("t", schedule.sigma(t), x0)
    return alpha * x0 + sigma * noise


def _data(x: torch.Tensor, name: str, other: torch.Tensor, other_name: str = "noise") -> None:
    require_float(name, x)
    if x.ndim < 1:
        raise ValueError(f"{name} must have a batch dimension, (B, ...), got a single number")
    require_finite(name, x)
    require_same_shape(other_name, other, name, x)


def _amount(x: torch.Tensor, amount: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    _data(x, "x", noise)
    require_float("amount", amount)
    if amount.shape != x.shape[:1]:
        raise ValueError(
            f"amount must have one value per sample, shape ({len(x)},), got {tuple(amount.shape)}"
        )
    return per_sample("amount", require_between("amount", amount, 0.0, 1.0), x)


def _alpha_bar(alpha_bar: torch.Tensor) -> torch.Tensor:
    return require_between("alpha_bar", require_vector("alpha_bar", alpha_bar), 0.0, 1.0)


def _alpha_sigma(
    x: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both coefficients at each sample's step, (B, 1, ...), in the dtype of ``x``."""
    _alpha_bar(alpha_bar)
    t = require_steps(t, len(alpha_bar), len(x))
    kept = alpha_bar.to(x.device, torch.float64)[t]
    return per_sample("t", kept.sqrt(), x), per_sample("t", (1 - kept).sqrt(), x)
