"""Single steps and short loops from noise to data, one function for each idea.

These are the library's versions of what lesson 06 has the learner write: each is small enough to be
read beside its equation. ``sampling.sample`` joins them into one interface for any schedule and
any kind of prediction.

Two families, which the change of variables x_t / sqrt(alpha_bar) makes one:

- discrete: integer steps t of ``betas`` or ``alpha_bar`` (T,), 0-based, and an estimate of the
  noise. A model is called as ``model(x, time, None)`` with ``time`` the float t / (T - 1), one per
  sample (B,), in x's dtype, and 0 where T = 1, as in ``losses``.
- continuous: noise levels or times, and an estimate of x0, ``denoise(x, sigma)`` or
  ``denoise(x, t)``, or of the score.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from undiffuse._arguments import (
    per_sample,
    require_between,
    require_count,
    require_finite,
    require_float,
    require_same_shape,
    require_steps,
    require_tensor,
    require_vector,
)
from undiffuse.prediction import network_time
from undiffuse.schedules import alpha_bar_from_betas

Model = Callable[..., torch.Tensor]
Step = int | torch.Tensor
KINDS = ("linspace", "quadratic")


def ddpm_step(
    x_t: torch.Tensor, t: Step, eps: torch.Tensor, betas: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """One ancestral step, x_{t-1} from x_t, with the variance beta_t.

    x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(1 - beta_t) + sqrt(beta_t) noise,
    and at t = 0 without the last term: what is left is x0. Ho et al. 2020 (DDPM), algorithm 2,
    with sigma_t^2 = beta_t.

    x_t, eps, noise: (B, ...) float of one shape; eps is the estimate of the noise in x_t, noise
    standard normal. t: an int for all samples, or int64 (B,), in [0, T-1]. betas: (T,). Factors
    are computed in float64; returns x_t's shape and dtype. Raises TypeError or ValueError for bad
    types, shapes or ranges.
    """
    t, beta, alpha_bar, _ = _ddpm_factors(x_t, t, eps, betas, noise)
    spread = torch.where(t > 0, beta.sqrt(), 0.0)
    return _mean(x_t, eps, beta, alpha_bar) + _times(spread, noise)


def ddpm_posterior_step(
    x_t: torch.Tensor, t: Step, eps: torch.Tensor, betas: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """As ``ddpm_step``, with the variance of q(x_{t-1} | x_t, x0) in place of beta_t.

    It is (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t, with alpha_bar_{-1} = 1, so that it is
    0 at t = 0. Ho et al. 2020 (DDPM), eq. 7 and section 3.2. Arguments as ``ddpm_step``.
    """
    _, beta, alpha_bar, before = _ddpm_factors(x_t, t, eps, betas, noise)
    spread = ((1 - before) / (1 - alpha_bar) * beta).sqrt()
    return _mean(x_t, eps, beta, alpha_bar) + _times(spread, noise)


@torch.no_grad()
def ddpm_sample(
    model: Model,
    shape: tuple[int, ...],
    betas: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Samples of ``shape`` (B, ...), float32, by T ancestral steps with the variance beta_t.

    model: predicts the noise, called as ``model(x, t / (T - 1), None)``. Draws standard normal
    tensors of ``shape`` from ``generator``: first x at T - 1, then one for each step t = T - 1 to
    1 (the last step, t = 0, adds none). Ho et al. 2020 (DDPM), algorithm 2. Raises ValueError when
    the samples are no longer finite, and as ``ddpm_step`` does.
    """
    device = generator.device if generator is not None else None
    T = len(require_vector("betas", betas))
    x = torch.randn(shape, generator=generator, device=device)
    for t in reversed(range(T)):
        eps = model(x, _network_time(t, T, x), None)
        noise = torch.zeros_like(x)
        if t > 0:
            noise = torch.randn(shape, generator=generator, device=device)
        x = ddpm_step(x, t, eps, betas, noise)
    if not torch.isfinite(x).all():
        raise ValueError("the samples are not finite: the model may not predict the noise")
    return x


def ddim_step(
    x_t: torch.Tensor,
    t: Step,
    t_prev: Step,
    eps: torch.Tensor,
    alpha_bar: torch.Tensor,
    eta: float = 0.0,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """From step t to any other step ``t_prev``; t_prev = -1 is the data, where alpha_bar is 1.

    x0_hat = (x_t - sqrt(1 - a) eps) / sqrt(a), with a = alpha_bar[t] and b = alpha_bar[t_prev];
    s^2 = eta^2 (1 - b) / (1 - a) (1 - a / b);
    x = sqrt(b) x0_hat + sqrt(1 - b - s^2) eps + s noise.

    Song et al. 2020 (DDIM), eq. 12 and 16. eta = 0 is deterministic and may also go up (t_prev > t,
    which inverts); eta = 1 has DDPM's posterior variance. t, t_prev: ints for all samples, or int64
    (B,). noise: standard normal of x_t's shape, needed where eta > 0. Returns x_t's shape and
    dtype. Raises TypeError or ValueError for bad types, shapes or ranges, alpha_bar[t] = 0, or
    eta > 0 going up.
    """
    alpha_bar = require_between("alpha_bar", require_vector("alpha_bar", alpha_bar), 0.0, 1.0)
    require_same_shape("eps", eps, "x_t", require_float("x_t", x_t))
    B, T = len(x_t), len(alpha_bar)
    levels = torch.cat([alpha_bar.double(), alpha_bar.new_ones(1, dtype=torch.float64)])
    a = levels[_steps("t", t, T, B)]
    b = levels[_steps("t_prev", t_prev, T, B, data=True)]
    if not (a > 0).all():
        raise ValueError("at alpha_bar = 0 the noise says nothing about x0: start one step below")
    if not eta >= 0:
        raise ValueError(f"eta must be at least 0, got {eta}")
    if eta > 0 and not (b >= a).all():
        raise ValueError("with eta > 0 a step must go to less noise: t_prev below t")
    if eta > 0 and noise is None:
        raise ValueError("a step with eta > 0 needs noise")
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    direct = (1 - b - variance).clamp(min=0).sqrt()
    # sqrt(b) x0_hat + direct eps, with the two terms of eps joined
    out = _times((b / a).sqrt(), x_t) + _times(direct - ((1 - a) * b / a).sqrt(), eps)
    if eta > 0:
        require_same_shape("noise", noise, "x_t", x_t)
        out = out + _times(variance.sqrt(), noise)
    return out


def timestep_subsequence(T: int, n: int, kind: str = "linspace") -> torch.Tensor:
    """n of the steps 0 .. T - 1, ascending, no two the same, both ends included: int64 (n,).

    "linspace": even, i (T - 1) / (n - 1); "quadratic": (i / (n - 1))^2 (T - 1), denser where there
    is little noise; rounded, and where a step would not be above the one before it becomes that
    plus 1. n = 1 gives T - 1, the noisy end. Song et al. 2020 (DDIM), appendix D.2. Raises
    TypeError for a T or n that is no int, ValueError for n outside [1, T] or another kind.
    """
    require_count("T", T)
    require_count("n", n)
    if n > T:
        raise ValueError(f"there are no {n} different steps among {T}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if n == 1:
        return torch.tensor([T - 1])
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    wanted = (way if kind == "linspace" else way**2) * (T - 1)
    place = torch.arange(n)
    # What lies above the place can only rise: then no two are the same.
    return (wanted.round().long() - place).cummax(0).values + place


def sigma_from_alpha_bar(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Noise level of x_t / sqrt(alpha_bar) = x0 + sigma eps: sqrt((1 - alpha_bar) / alpha_bar).

    alpha_bar: float tensor of any shape, in [0, 1]; 1 gives 0, and 0 gives inf. Karras et al. 2022
    (EDM), appendix B and C.3.4. Returns its shape and dtype. Raises TypeError or ValueError for
    another type or range, or NaN.
    """
    require_between("alpha_bar", require_float("alpha_bar", alpha_bar), 0.0, 1.0)
    kept = alpha_bar.double()
    return ((1 - kept) / kept).sqrt().to(alpha_bar.dtype)


@torch.no_grad()
def euler_sample(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    sigmas: torch.Tensor,
    x: torch.Tensor,
) -> torch.Tensor:
    """Euler's method for dx / dsigma = (x - denoise(x, sigma)) / sigma, over all of ``sigmas``.

    denoise: E[x0 | x] for x = x0 + sigma eps, called with ``sigmas[i]``, once per step. sigmas:
    (n + 1,) falling; the last may be 0, and nothing is appended. x: (B, ...) at ``sigmas[0]``.
    Karras et al. 2022 (EDM), eq. 1 and 3; the same as ``ddim_step`` with eta = 0 in the variables
    x / alpha. Returns x at the last level. Raises TypeError or ValueError for bad arguments.
    """
    levels = _falling(sigmas, x)
    for now, then in itertools.pairwise(levels):
        x = x + (then - now) * (x - denoise(x, now)) / now
    return x


@torch.no_grad()
def heun_sample(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    sigmas: torch.Tensor,
    x: torch.Tensor,
) -> torch.Tensor:
    """Heun's method for the same equation: the mean of the slopes at both ends of each step.

    Two calls a step; a step to sigma = 0, where the slope has no value, is Euler's with one. Karras
    et al. 2022 (EDM), algorithm 1. Arguments as ``euler_sample``.
    """
    levels = _falling(sigmas, x)
    for now, then in itertools.pairwise(levels):
        slope = (x - denoise(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


@torch.no_grad()
def dpmpp_2m_sample(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    alpha: Callable[[torch.Tensor], torch.Tensor] | torch.Tensor,
    sigma: Callable[[torch.Tensor], torch.Tensor] | torch.Tensor,
    ts: torch.Tensor,
    x: torch.Tensor,
) -> torch.Tensor:
    """DPM-Solver++ (2M): second order with one call a step.

    With lambda = log(alpha / sigma), h = lambda_{i+1} - lambda_i, r = h_{i-1} / h and x0_i =
    denoise(x_i, ts[i]): d = (1 + 1 / (2 r)) x0_i - 1 / (2 r) x0_{i-1} (d = x0_i in the first step,
    and in a step to sigma = 0), x_{i+1} = sigma_{i+1} / sigma_i x_i - alpha_{i+1} (exp(-h) - 1) d.
    Lu et al. 2022 (DPM-Solver++), algorithm 2.

    alpha, sigma: functions of time, or their values at ``ts``. ts: (n + 1,) from noise to data;
    sigma must be above 0 at all of them but the last. x: (B, ...) at ``ts[0]``. Returns x at
    ``ts[-1]``. Raises TypeError or ValueError for bad arguments, or log SNR that does not rise.
    """
    require_float("x", x)
    require_tensor("ts", ts)
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"ts must have shape (n + 1,), n >= 1, got {tuple(ts.shape)}")
    a, s = (
        (level(ts) if callable(level) else require_float(name, level)).double()
        for name, level in (("alpha", alpha), ("sigma", sigma))
    )
    if a.shape != ts.shape or s.shape != ts.shape:
        raise ValueError(f"alpha and sigma must have one value for each of the {len(ts)} times")
    lam = a.log() - s.log()
    if not (lam.diff() > 0).all() or not (s[:-1] > 0).all() or not torch.isfinite(lam[0]):
        raise ValueError("ts must go from noise to data: log(alpha / sigma) rises at every step")
    before = h_before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None and s[i + 1] > 0:
            better = x0 + (x0 - before) * h / (2 * h_before)
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * better
        before, h_before = x0, h
    return x


@torch.no_grad()
def ddim_invert(
    model: Model, x: torch.Tensor, alpha_bar: torch.Tensor, ts: torch.Tensor
) -> torch.Tensor:
    """The noise from which deterministic DDIM makes x: from step ts[0] up to ts[-1].

    Each step i takes eps = model(x, ts[i] / (T - 1), None) from where it stands and goes to
    ts[i + 1] as ``ddim_step`` does with eta = 0. Exact as the steps get small; the error of the
    round trip is the price of finite ones. Song et al. 2020 (DDIM), section 4.3.

    x: (B, ...) at step ts[0]. ts: int64 (n,), rising, in [0, T-1]. Returns x at step ts[-1]. Raises
    TypeError or ValueError for bad arguments.
    """
    T = len(require_vector("alpha_bar", alpha_bar))
    require_steps(ts, T, len(ts))
    if not (ts.diff() > 0).all():
        raise ValueError("ts must rise: inversion goes from data to noise")
    for now, then in itertools.pairwise(ts.tolist()):
        eps = model(x, _network_time(now, T, x), None)
        x = ddim_step(x, now, then, eps, alpha_bar)
    return x


@torch.no_grad()
def euler_maruyama_sample(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    beta: Callable[[torch.Tensor], torch.Tensor],
    ts: torch.Tensor,
    x: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The reverse of the SDE dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw, by Euler-Maruyama.

    A step from t down by d = ts[i] - ts[i + 1] > 0:
    x + d beta(t) (x / 2 + score(x, t)) + sqrt(d beta(t)) z, z standard normal; the last step adds
    no noise. Song et al. 2021 (score SDE), eq. 6 with the drift of eq. 11.

    score: the gradient of log p_t(x), called with ``ts[i]``. beta: the rate at which noise comes
    in, a function of time. ts: (n + 1,) falling. x: (B, ...) at ``ts[0]``. Draws one standard
    normal tensor of x's shape and dtype per step but the last. Returns x at ``ts[-1]``. Raises
    TypeError or ValueError for bad arguments.
    """
    ts = _falling(ts, x)
    device = generator.device if generator is not None else x.device
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        rate = beta(t)
        x = x + d * rate * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device)
            x = x + (d * rate).sqrt() * z.to(x.device)
    return x


def _ddpm_factors(
    x_t: torch.Tensor, t: Step, eps: torch.Tensor, betas: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(t, beta_t, alpha_bar_t, alpha_bar_{t-1}), each (B,), the last three float64; all checked."""
    require_float("x_t", x_t)
    require_same_shape("eps", eps, "x_t", x_t)
    require_same_shape("noise", noise, "x_t", x_t)
    alpha_bar = alpha_bar_from_betas(betas.double() if isinstance(betas, torch.Tensor) else betas)
    t = _steps("t", t, len(betas), len(x_t))
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar])
    return t, betas.double()[t], alpha_bar[t], before[t]


def _mean(
    x_t: torch.Tensor, eps: torch.Tensor, beta: torch.Tensor, alpha_bar: torch.Tensor
) -> torch.Tensor:
    scale = (1 - beta).rsqrt()
    return _times(scale, x_t) - _times(scale * beta / (1 - alpha_bar).sqrt(), eps)


def _times(factor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return per_sample("factor", factor.to(x.device), x) * x


def _steps(name: str, t: Step, T: int, batch: int, data: bool = False) -> torch.Tensor:
    """``t`` as int64 (batch,); ``data`` allows -1."""
    if isinstance(t, int) and not isinstance(t, bool):
        t = torch.full((batch,), t)
    elif isinstance(t, torch.Tensor) and t.ndim == 0:
        t = t.expand(batch)
    if not isinstance(t, torch.Tensor):
        raise TypeError(f"{name} must be an int or an integer tensor, got {type(t).__name__}")
    if data:
        return require_steps(t + 1, T + 1, batch) - 1
    return require_steps(t, T, batch)


def _network_time(t: int, T: int, x: torch.Tensor) -> torch.Tensor:
    return network_time(torch.full((len(x),), t, device=x.device), T, x.dtype)


def _falling(levels: torch.Tensor, x: Any) -> torch.Tensor:
    require_float("x", x)
    require_finite("the levels", require_vector("the levels", levels))
    if len(levels) < 2 or not (levels.diff() < 0).all() or not levels[-1] >= 0:
        raise ValueError(
            "the levels must fall at every step, to 0 at the lowest, and be at least two, got "
            f"{[round(v, 4) for v in levels.tolist()[:6]]}{' ...' if len(levels) > 6 else ''}"
        )
    return levels


__all__ = [
    "ddim_invert",
    "ddim_step",
    "ddpm_posterior_step",
    "ddpm_sample",
    "ddpm_step",
    "dpmpp_2m_sample",
    "euler_maruyama_sample",
    "euler_sample",
    "heun_sample",
    "sigma_from_alpha_bar",
    "timestep_subsequence",
]
