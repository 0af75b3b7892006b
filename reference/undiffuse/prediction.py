"""What a network may predict, and the one interface that samplers, losses and guidance see.

A **denoiser** is a callable ``(x_t, t, cond) -> prediction``: ``x_t`` (B, ...) noisy data, ``t``
the continuous time in [0, 1], a number or one per sample (B,), ``cond`` what it is conditioned on
or None. Its ``kind`` says what the prediction is:

- ``eps``: the noise; ``x0``: the data
- ``v``: alpha eps - sigma x0 (Salimans & Ho 2022, section 4)
- ``flow``: eps - x0, the velocity of the straight path from data to noise (Lipman et al. 2022)
- ``score``: -eps / sigma, the gradient of log p(x_t) (Song et al. 2021)

Each is a linear combination a x0 + b eps, and x_t = alpha x0 + sigma eps is another. Two equations
give x0 and eps, so one table of (a, b) holds all conversions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from undiffuse._arguments import per_sample, require_float, require_same_shape, require_steps
from undiffuse.schedules import Schedule

Level = float | torch.Tensor

# kind -> (alpha, sigma) -> (a, b) of a x0 + b eps
_TABLE: dict[str, Callable[[torch.Tensor, torch.Tensor], tuple[Any, Any]]] = {
    "eps": lambda alpha, sigma: (0.0, 1.0),
    "x0": lambda alpha, sigma: (1.0, 0.0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1.0, 1.0),
    "score": lambda alpha, sigma: (0.0, -1.0 / sigma),
}
KINDS = tuple(_TABLE)


class Denoiser(Protocol):
    """``(x_t, t, cond) -> prediction``, all of x_t's shape; see the top of this file."""

    def __call__(
        self, x_t: torch.Tensor, t: Level, cond: torch.Tensor | None = None
    ) -> torch.Tensor: ...


def target(
    kind: str, x0: torch.Tensor, eps: torch.Tensor, alpha: Level, sigma: Level
) -> torch.Tensor:
    """What a perfect prediction of this kind would be, given data and noise.

    x0, eps: (B, ...) float of one shape. alpha, sigma: numbers or one per sample (B,). Returns
    x0's shape and dtype. Raises ValueError for another kind, shapes that do not fit, or a score
    where sigma is 0.
    """
    _check_kind("kind", kind)
    require_same_shape("eps", eps, "x0", require_float("x0", x0))
    alpha, sigma = _levels(alpha, sigma, x0)
    a, b = _row(kind, alpha, sigma)
    return _scaled(a, x0) + _scaled(b, eps)


def convert(
    kind_from: str,
    kind_to: str,
    prediction: torch.Tensor,
    x_t: torch.Tensor,
    alpha: Level,
    sigma: Level,
) -> torch.Tensor:
    """A prediction of one kind as another kind.

    prediction, x_t: (B, ...) float of one shape. alpha, sigma: numbers or one per sample (B,),
    those of x_t. Coefficients are computed in float64; returns x_t's dtype. With the rows (a, b)
    of the table, [alpha sigma; a b] (x0, eps) = (x_t, prediction) is solved by Cramer's rule and
    put into the other row. Raises ValueError for another kind, for shapes that do not fit, and
    where the conversion has no answer: eps to x0 at alpha = 0, x0 to eps at sigma = 0.
    """
    _check_kind("kind_from", kind_from)
    _check_kind("kind_to", kind_to)
    require_same_shape("prediction", prediction, "x_t", require_float("x_t", x_t))
    alpha, sigma = _levels(alpha, sigma, x_t)
    if kind_from == kind_to:
        return prediction.to(x_t.dtype, copy=True)
    a, b = _row(kind_from, alpha, sigma)
    to_a, to_b = _row(kind_to, alpha, sigma)
    determinant = alpha * b - sigma * a
    if (determinant == 0).any():
        raise ValueError(
            f"{kind_from} says nothing about {kind_to} at alpha = 0 or sigma = 0: the part that "
            "is missing was multiplied by 0"
        )
    of_x_t = (to_a * b - to_b * a) / determinant
    of_prediction = (to_b * alpha - to_a * sigma) / determinant
    return _scaled(of_x_t, x_t) + _scaled(of_prediction, prediction)


def x0_and_eps(
    kind: str, prediction: torch.Tensor, x_t: torch.Tensor, alpha: Level, sigma: Level
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x0, eps) that a prediction of this kind implies; arguments and errors as ``convert``."""
    return (
        convert(kind, "x0", prediction, x_t, alpha, sigma),
        convert(kind, "eps", prediction, x_t, alpha, sigma),
    )


def as_kind(denoiser: Denoiser, schedule: Schedule, kind: str, kind_to: str) -> Denoiser:
    """``denoiser``, which predicts ``kind``, as one that predicts ``kind_to``."""
    _check_kind("kind", kind)
    _check_kind("kind_to", kind_to)

    def converted(x_t: torch.Tensor, t: Level, cond: torch.Tensor | None = None) -> torch.Tensor:
        alpha, sigma = levels(schedule, t)
        return convert(kind, kind_to, denoiser(x_t, t, cond), x_t, alpha, sigma)

    return converted


def as_x0(denoiser: Denoiser, schedule: Schedule, kind: str) -> Denoiser:
    """``denoiser``, which predicts ``kind``, as one that predicts x0: what samplers want."""
    return as_kind(denoiser, schedule, kind, "x0")


def as_sigma_denoiser(
    denoiser: Denoiser, schedule: Schedule, kind: str, cond: torch.Tensor | None = None
) -> Callable[[torch.Tensor, Level], torch.Tensor]:
    """``denoiser`` as ``denoise(x, sigma) -> x0``, where x = x0 + sigma eps is not scaled down.

    The change of variables x = x_t / alpha makes every schedule one whose variance explodes, with
    noise sigma(t) / alpha(t) (Karras et al. 2022, EDM, section 2 and appendix B). sigma: a number
    or one per sample (B,), above 0; the time is found from its log SNR, -2 ln sigma, and
    is held at the schedule's end where sigma lies beyond.
    """
    estimate = as_x0(denoiser, schedule, kind)

    def denoise(x: torch.Tensor, sigma: Level) -> torch.Tensor:
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
        if not (sigma > 0).all():
            raise ValueError("sigma must be above 0: there is nothing to denoise at 0")
        t = schedule.time(-2 * sigma.log())
        return estimate(_scaled(per_sample("alpha", schedule.alpha(t), x), x), t, cond)

    return denoise


def network_time(t: torch.Tensor, T: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The float time t / (T - 1) in [0, 1] that a network sees at integer step t; 0 where T = 1.

    As in ``schedules.discrete_schedule``, of which step t is this time.
    """
    return (t.double() / max(T - 1, 1)).to(dtype)


def at_steps(denoiser: Denoiser, T: int) -> Denoiser:
    """``denoiser`` of continuous time as one called with integer steps t (B,) in [0, T-1]."""

    def called_with_steps(
        x_t: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        return denoiser(x_t, network_time(require_steps(t, T, len(x_t)), T, x_t.dtype), cond)

    return called_with_steps


def levels(schedule: Schedule, t: Level) -> tuple[torch.Tensor, torch.Tensor]:
    """(alpha(t), sigma(t)) in float64, so that nothing is lost before they are combined."""
    t = t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t
    return schedule.alpha(t), schedule.sigma(t)


def _check_kind(name: str, kind: str) -> None:
    if kind not in _TABLE:
        raise ValueError(f"{name} must be one of {KINDS}, got {kind!r}")


def _levels(alpha: Level, sigma: Level, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    alpha = per_sample("alpha", alpha, x, torch.float64)
    sigma = per_sample("sigma", sigma, x, torch.float64)
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        if not ((value >= 0) & torch.isfinite(value)).all():
            raise ValueError(f"{name} must be at least 0 and finite, got {value.flatten()[:5]}")
    return alpha, sigma


def _row(kind: str, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[Any, Any]:
    if kind == "score" and (sigma == 0).any():
        raise ValueError("the score has no value where sigma is 0")
    return _TABLE[kind](alpha, sigma)


def _scaled(factor: Any, x: torch.Tensor) -> torch.Tensor:
    return factor.to(x.dtype) * x if isinstance(factor, torch.Tensor) else factor * x
