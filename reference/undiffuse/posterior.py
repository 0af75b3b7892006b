"""Steering by a measurement: samples x whose A(x) is the y that was measured.

Bayes' rule adds grad log p(y | x_t) to the score, as a classifier does (``guidance``). What y says
of x_t is not known exactly; both functions ask instead how well y fits the estimate of x0 that the
network makes of x_t, and differentiate that, *through the network*, with respect to x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from undiffuse._arguments import per_sample
from undiffuse.measurements import Measurement
from undiffuse.prediction import Denoiser, as_x0, convert, levels
from undiffuse.schedules import Schedule


def posterior_guidance_step(
    x_t: torch.Tensor,
    estimate: Callable[[torch.Tensor], torch.Tensor],
    step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    measure: Measurement,
    y: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """One step of diffusion posterior sampling: Chung et al. 2023 (DPS), algorithm 1.

    x_t: (B, ...). estimate: x_t -> x0. step: (x_t, x0) -> x at the next level. measure: A. y: what
    was measured of each sample. Returns ``step(x_t, x0) - scale * g``, where g is the gradient with
    respect to x_t of the sum over samples of the norms |y - A(x0(x_t))|; their step size
    zeta / |y - A(x0)|, times the gradient of the square, is this with scale = 2 zeta. Without a
    graph, and no parameter of the network gets a gradient. Raises ValueError where A(x0) has
    another shape than y.
    """
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        (gradient,) = torch.autograd.grad(_misfits(measure, x0, y).sum(), at)
    with torch.no_grad():
        return step(x_t.detach(), x0.detach()) - scale * gradient


def posterior_guided(
    denoiser: Denoiser,
    schedule: Schedule,
    kind: str,
    measure: Measurement,
    y: torch.Tensor,
    *,
    noise: float = 0.0,
    spread: float = 0.5,
    scale: float = 1.0,
) -> Denoiser:
    """``denoiser`` steered towards data with A(x) = y, as a denoiser of the same kind.

    So every solver of ``sampling.sample`` takes it. At each level x0 given x_t is held for a
    Gaussian around the network's estimate, of variance r^2 = spread^2 sigma^2 / (spread^2 alpha^2 +
    sigma^2); then y is one around A(x0), of variance g r^2 + noise^2, where g stands for A A^T: its
    largest eigenvalue. x0's estimate moves by scale sigma^2 / alpha times the gradient of the log
    density of y (Song et al. 2023, "Pseudoinverse-guided diffusion models", eq. 5 to 8). Exact
    where the data are Gaussian of standard deviation ``spread`` and A leaves values out, or takes
    means of groups.

    measure: A, differentiable; near 0 it should be linear (``measurements``). y: of the samples to
    come. noise: the standard deviation of the error in y. spread: of the data that are not known
    yet, at most that of the data. Raises ValueError for a spread that is not positive, noise below
    0, a y that A(x0) does not fit, or an A that measures nothing.
    """
    if not spread > 0 or not noise >= 0:
        raise ValueError(f"spread must be above 0 and noise at least 0, got {spread} and {noise}")
    gains: list[float] = []  # one number, once the shape of the data is known
    x0_of = as_x0(denoiser, schedule, kind)

    def steered(x_t: torch.Tensor, t: Any, cond: Any = None) -> torch.Tensor:
        alpha, sigma = levels(schedule, t)
        a, s = (per_sample("level", v, x_t, torch.float64) for v in (alpha, sigma))
        if not gains:
            gains.append(_largest_eigenvalue(measure, x_t))
        variance = gains[0] * spread**2 * s**2 / (spread**2 * a**2 + s**2) + noise**2
        with torch.enable_grad():
            at = x_t.detach().requires_grad_(True)
            x0 = x0_of(at, t, cond)
            misfit = _misfits(measure, x0, y).square()
            weights = (scale * s**2 / (2 * a * variance)).to(x_t.dtype)
            (gradient,) = torch.autograd.grad((misfit * weights.flatten()).sum(), at)
        return convert("x0", kind, (x0 - gradient).detach(), x_t, alpha, sigma)

    return steered


def _largest_eigenvalue(measure: Measurement, like: torch.Tensor, rounds: int = 8) -> float:
    """Of A A^T, by power iteration from one random vector, which is small: near 0."""
    v = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    found = 0.0
    for _ in range(rounds):
        v = 1e-2 * v / v.norm()
        with torch.enable_grad():
            at = v.requires_grad_(True)
            # The gradient of |A v|^2 / 2 is A^T A v where A is linear.
            (next_v,) = torch.autograd.grad(measure(at).square().sum() / 2, at)
        found = float(next_v.norm() / v.detach().norm())
        if not found > 0:
            raise ValueError("the measurement does not depend on the data: it measures nothing")
        v = next_v
    return found


def _misfits(measure: Measurement, x0: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """|y - A(x0)| of each sample: (B,)."""
    found = measure(x0)
    if found.shape != y.shape:
        raise ValueError(
            f"y has shape {tuple(y.shape)}, and the measurement of such data "
            f"{tuple(found.shape)}: they must be alike"
        )
    # A norm and not a root of a sum: its gradient is 0, not NaN, where all fits.
    return torch.linalg.vector_norm((y - found).flatten(1), dim=1)


__all__ = ["posterior_guidance_step", "posterior_guided"]
