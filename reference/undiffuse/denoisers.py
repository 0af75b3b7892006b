"""The best possible denoisers, E[x0 | x_t], where they have a closed form.

They need no training, so they stand wherever a network does and make tests exact. In the functions,
``x_t`` is (B, ...) float, ``alpha`` and ``sigma`` are numbers or one per sample (B,), with
x_t = alpha x0 + sigma eps. Sums are taken in float64; results have x_t's shape and dtype.

The classes below wrap them in the interface of ``prediction``: ``(x_t, t, cond) -> prediction``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from undiffuse._arguments import (
    per_sample,
    require_finite,
    require_float,
    require_same_shape,
    require_tensor,
)
from undiffuse.prediction import KINDS, convert, levels
from undiffuse.schedules import Schedule

Level = float | torch.Tensor
ROWS, BLOCK = 256, 4096  # samples and data at a time: bounds memory, not results


def gaussian_denoiser(
    x_t: torch.Tensor, alpha: Level, sigma: Level, mean: Level, var: Level
) -> torch.Tensor:
    """E[x0 | x_t] for x0 ~ Normal(mean, var), each element on its own.

    = mean + alpha var / (alpha^2 var + sigma^2) (x_t - alpha mean). mean, var: numbers or tensors
    that broadcast to one sample, x_t.shape[1:]; var is a variance, above 0 (or 0 where sigma is
    above 0). Bayes' rule for two Gaussians (Bishop 2006, eq. 2.116). Raises TypeError or
    ValueError for bad types, shapes or ranges.
    """
    alpha, sigma = _levels(x_t, alpha, sigma)
    mean = _like_sample("mean", mean, x_t)
    var = _like_sample("var", var, x_t)
    if not (var >= 0).all():
        raise ValueError("var must be a variance: at least 0 everywhere")
    total = alpha**2 * var + sigma**2
    if not (total > 0).all():
        raise ValueError("alpha^2 var + sigma^2 is 0: x_t would say nothing about x0")
    x = x_t.double()
    return (mean + alpha * var / total * (x - alpha * mean)).to(x_t.dtype)


def mixture_denoiser(
    x_t: torch.Tensor,
    alpha: Level,
    sigma: Level,
    means: torch.Tensor,
    variances: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """E[x0 | x_t] for a mixture of K Gaussians, component k being Normal(means[k], variances[k] I).

    The responsibilities, p(k | x_t) proportional to weights[k] Normal(x_t; alpha means[k],
    (alpha^2 variances[k] + sigma^2) I), are computed from their logarithms, so that they stay
    right at the smallest sigma; they weigh each component's own E[x0 | x_t, k].

    x_t: (B, D) or (B, ...); means: (K, D) or (K, ...), as one sample of x_t. variances: (K,), at
    least 0, one per component (isotropic). weights: (K,), at least 0, not all 0; they need not
    sum to 1. Raises TypeError or ValueError for bad types, shapes or ranges.
    """
    alpha, sigma = (level.reshape(-1, 1) for level in _levels(x_t, alpha, sigma))
    require_float("means", means)
    if means.ndim < 2 or means.shape[1:] != x_t.shape[1:] or len(means) < 1:
        raise ValueError(
            f"means must have shape (K, ...) with {tuple(x_t.shape[1:])} per component, "
            f"got {tuple(means.shape)}"
        )
    K = len(means)
    variances = _per_component("variances", variances, K, x_t)
    weights = _per_component("weights", weights, K, x_t)
    if not (weights.sum() > 0):
        raise ValueError("weights are all 0")
    x, centres = x_t.double().flatten(1), means.to(x_t.device).double().flatten(1)
    total = alpha**2 * variances + sigma**2  # (1, K) or (B, K)
    if not (total > 0).all():
        raise ValueError("alpha^2 variance + sigma^2 is 0: x_t would say nothing about x0")
    D = x.shape[1]
    alpha_rows = alpha.expand(len(x), 1)
    squares = _squared_distances(x, alpha_rows, centres, total.min())
    logits = weights.log() - D / 2 * total.log() - squares / (2 * total)
    responsibility = torch.softmax(logits, dim=1)
    gain = alpha * variances / total
    # sum_k r_k (m_k + g_k (x - alpha m_k)), arranged so that nothing is (B, K, D).
    of_means = (responsibility * (1 - gain * alpha)) @ centres
    result = of_means + (responsibility * gain).sum(1, keepdim=True) * x
    return result.reshape(x_t.shape).to(x_t.dtype)


def empirical_denoiser(
    x_t: torch.Tensor, alpha: Level, sigma: Level, data: torch.Tensor
) -> torch.Tensor:
    """E[x0 | x_t] when x0 is one of ``data``, each as likely: what a perfect memory would say.

    = sum_i w_i data_i with w = softmax_i(-|x_t - alpha data_i|^2 / (2 sigma^2)).
    Karras et al. 2022 (EDM), appendix B.3 (with alpha = 1).

    data: (N, ...), float, one sample as in x_t, N >= 1. sigma: above 0. Memory does not grow with
    B N D: blocks of data are met one after the other, and only (256, 4096) distances exist at a
    time. Distances are float64; where even that would lose digits (tiny sigma), they are summed
    from differences. Raises TypeError or ValueError for bad types, shapes or ranges.
    """
    alpha, sigma = (level.reshape(-1, 1) for level in _levels(x_t, alpha, sigma))
    require_float("data", data)
    if data.ndim != x_t.ndim or data.shape[1:] != x_t.shape[1:] or len(data) < 1:
        raise ValueError(
            f"data must have shape (N, ...) with {tuple(x_t.shape[1:])} per sample and N >= 1, "
            f"got {tuple(data.shape)}"
        )
    if not (sigma > 0).all():
        raise ValueError("sigma must be above 0: without noise there is nothing to average")
    B = len(x_t)
    rows = zip(
        x_t.flatten(1).split(ROWS), alpha.expand(B, 1).split(ROWS), sigma.expand(B, 1).split(ROWS)
    )
    means = [_weighted_mean(x.double(), a, s, data) for x, a, s in rows]
    return torch.cat(means).reshape(x_t.shape).to(x_t.dtype) if means else x_t.clone()


def score_from_x0(
    x_t: torch.Tensor, x0_hat: torch.Tensor, alpha: Level, sigma: Level
) -> torch.Tensor:
    """The gradient of log p(x_t): (alpha x0_hat - x_t) / sigma^2, with x0_hat = E[x0 | x_t].

    Tweedie's formula (Efron 2011); Karras et al. 2022 (EDM), eq. 3, with alpha = 1. sigma: above
    0. Returns x_t's shape and dtype. Raises TypeError or ValueError for bad arguments.
    """
    alpha, sigma = _levels(x_t, alpha, sigma)
    require_same_shape("x0_hat", x0_hat, "x_t", x_t)
    _require_noise(sigma)
    return ((alpha * x0_hat.double() - x_t.double()) / sigma**2).to(x_t.dtype)


def score_from_eps(eps: torch.Tensor, sigma: Level) -> torch.Tensor:
    """The gradient of log p(x_t): -eps / sigma, with eps = E[noise | x_t].

    Song et al. 2021 (score SDE) and Ho et al. 2020, section 3.2. eps: (B, ...); sigma: a number
    or one per sample (B,), above 0. Returns eps's shape and dtype. Raises TypeError or ValueError.
    """
    require_float("eps", eps)
    sigma = per_sample("sigma", sigma, eps, torch.float64)
    _require_noise(sigma)
    return (-eps.double() / sigma).to(eps.dtype)


class _Analytic:
    """Common part of the classes: finds alpha and sigma, and converts to ``kind``."""

    def __init__(self, schedule: Schedule, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        self.schedule, self.kind = schedule, kind

    def x0(self, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """E[x0 | x_t]."""
        raise NotImplementedError

    def __call__(
        self, x_t: torch.Tensor, t: Level, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The prediction for ``x_t`` (B, ...) at time ``t`` in [0, 1]; ``cond`` is not used."""
        alpha, sigma = levels(self.schedule, t)
        x = x_t.double()  # x0 to eps divides by sigma: round once, at the end
        return convert("x0", self.kind, self.x0(x, alpha, sigma), x, alpha, sigma).to(x_t.dtype)


class GaussianDenoiser(_Analytic):
    """``gaussian_denoiser`` as a denoiser ``(x_t, t, cond)`` of the given schedule and kind."""

    def __init__(self, schedule: Schedule, mean: Level, var: Level, kind: str = "x0") -> None:
        super().__init__(schedule, kind)
        self.mean, self.var = mean, var

    def x0(self, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return gaussian_denoiser(x_t, alpha, sigma, self.mean, self.var)


class MixtureDenoiser(_Analytic):
    """``mixture_denoiser`` as a denoiser ``(x_t, t, cond)`` of the given schedule and kind."""

    def __init__(
        self,
        schedule: Schedule,
        means: torch.Tensor,
        variances: torch.Tensor,
        weights: torch.Tensor,
        kind: str = "x0",
    ) -> None:
        super().__init__(schedule, kind)
        self.means, self.variances, self.weights = means, variances, weights

    def x0(self, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return mixture_denoiser(x_t, alpha, sigma, self.means, self.variances, self.weights)


class EmpiricalDenoiser(_Analytic):
    """``empirical_denoiser`` as a denoiser ``(x_t, t, cond)`` of the given schedule and kind."""

    def __init__(self, schedule: Schedule, data: torch.Tensor, kind: str = "x0") -> None:
        super().__init__(schedule, kind)
        self.data = data

    def x0(self, x_t: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return empirical_denoiser(x_t, alpha, sigma, self.data)


def _weighted_mean(
    x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, data: torch.Tensor
) -> torch.Tensor:
    """Softmax-weighted mean of ``data`` for rows ``x`` (b, D), one block of data at a time.

    Keeps the largest logit so far and rescales what was summed before when a larger one comes
    (the online softmax of Milakov & Gimelshein 2018).
    """
    largest = torch.full_like(alpha, -torch.inf)
    normaliser = torch.zeros_like(alpha)
    total = torch.zeros_like(x)
    for block in _blocks(data, x):
        squares = _squared_distances(x, alpha, block, (sigma**2).min())
        logits = -squares / (2 * sigma**2)
        new_largest = torch.maximum(largest, logits.amax(1, keepdim=True))
        fade = torch.exp(largest - new_largest)
        weights = torch.exp(logits - new_largest)
        total = total * fade + weights @ block
        normaliser = normaliser * fade + weights.sum(1, keepdim=True)
        largest = new_largest
    return total / normaliser


def _blocks(data: torch.Tensor, x: torch.Tensor) -> Iterator[torch.Tensor]:
    for block in data.flatten(1).split(BLOCK):
        yield block.to(x.device, torch.float64)


def _squared_distances(
    x: torch.Tensor, alpha: torch.Tensor, centres: torch.Tensor, variance: torch.Tensor
) -> torch.Tensor:
    """|x_b - alpha_b centre_n|^2, (b, N) float64, good enough to be divided by ``variance``.

    A matrix product is fast but cancels large numbers; its error is about 1e-16 of the largest
    squared norm. Where that is not small beside ``variance``, differences are taken instead.
    """
    x_square = x.square().sum(1, keepdim=True)
    y_square = centres.square().sum(1)
    largest = x_square.max() + (alpha**2).max() * y_square.max()
    if 1e-16 * largest < 1e-7 * variance:
        product = x @ centres.T
        return (x_square - 2 * alpha * product + alpha**2 * y_square).clamp(min=0)
    distances = [
        torch.cdist(row[None], a * centres, compute_mode="donot_use_mm_for_euclid_dist")
        for row, a in zip(x, alpha)
    ]
    return torch.cat(distances).square()


def _levels(x_t: torch.Tensor, alpha: Level, sigma: Level) -> tuple[torch.Tensor, torch.Tensor]:
    require_finite("x_t", require_float("x_t", x_t))
    if x_t.ndim < 1:
        raise ValueError("x_t must have a batch dimension, (B, ...), got a single number")
    alpha = per_sample("alpha", alpha, x_t, torch.float64)
    sigma = per_sample("sigma", sigma, x_t, torch.float64)
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        if not ((value >= 0) & torch.isfinite(value)).all():
            raise ValueError(f"{name} must be at least 0 and finite everywhere")
    return alpha, sigma


def _require_noise(sigma: torch.Tensor) -> None:
    if not (sigma > 0).all():
        raise ValueError("sigma must be above 0: the score has no value without noise")


def _like_sample(name: str, value: Level, x_t: torch.Tensor) -> torch.Tensor:
    value = torch.as_tensor(value, dtype=torch.float64, device=x_t.device)
    try:
        return value.expand(x_t.shape[1:])
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to one sample, {tuple(x_t.shape[1:])}, got {tuple(value.shape)}"
        ) from None


def _per_component(name: str, value: torch.Tensor, K: int, x_t: torch.Tensor) -> torch.Tensor:
    require_tensor(name, value)
    if value.shape != (K,):
        raise ValueError(f"{name} must have shape ({K},), got {tuple(value.shape)}")
    value = value.to(x_t.device, torch.float64)
    if not ((value >= 0) & torch.isfinite(value)).all():
        raise ValueError(f"{name} must be at least 0 and finite everywhere")
    return value
