"""Noise schedules: how much signal and how much noise there is at each time.

First the discrete functions, as the papers had them: ``betas`` (T,) are the variances that each of
T steps adds, ``alpha_bar`` (T,) is the share of the signal's variance that is left after step t
(0-based, so ``alpha_bar[0]`` has seen one step). Then ``Schedule``: the same idea for any time in
[0, 1], of which discrete betas, cosine, sigmoid, EDM's sigmas and straight flow paths are cases.

Everything is computed in float64. What is made from tensors comes back in their dtype; what is
made from plain numbers has a ``dtype`` argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from undiffuse._arguments import (
    require_between,
    require_count,
    require_finite,
    require_float,
    require_vector,
)

Time = float | torch.Tensor


def linear_betas(
    T: int,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Evenly spaced betas from ``beta_start`` to ``beta_end``, both ends included: (T,).

    Ho et al. 2020 (DDPM), section 4, use T = 1000 with these defaults. Raises TypeError for a T
    that is no int, ValueError for T < 1 or an end outside (0, 1].
    """
    require_count("T", T)
    ends = torch.tensor([beta_start, beta_end], dtype=torch.float64)
    require_between("beta_start and beta_end", ends, 0.0, 1.0, open_low=True)
    return torch.linspace(beta_start, beta_end, T, dtype=torch.float64).to(dtype)


def alpha_bar_from_betas(betas: torch.Tensor) -> torch.Tensor:
    """alpha_bar[t] = (1 - betas[0]) ... (1 - betas[t]), the product up to and with t: (T,).

    betas: (T,), floating point, in (0, 1]; 1 belongs to schedules that end in pure noise. Ho et
    al. 2020, the line before eq. 4. Returns the dtype of ``betas``. Raises TypeError or
    ValueError for another type, shape or range, or NaN.
    """
    return _alpha_bar64(betas).to(betas.dtype)


def _alpha_bar64(betas: torch.Tensor) -> torch.Tensor:
    require_vector("betas", betas)
    require_between("betas", betas, 0.0, 1.0, open_low=True)
    return torch.cumprod(1.0 - betas.double(), dim=0)


def cosine_alpha_bar(t: Time, s: float = 0.008) -> torch.Tensor:
    """alpha_bar(t) = f(t) / f(0) with f(t) = cos((t + s) / (1 + s) * pi / 2) ** 2.

    t: float or floating-point tensor of any shape, in [0, 1]. s >= 0 keeps the first steps from
    being too small. Nichol & Dhariwal 2021, eq. 17, with t for t/T. Returns the shape and dtype
    of ``t`` (a Python float gives a float32 tensor without dimensions), in [0, 1]. Raises
    TypeError for integers, ValueError for t outside [0, 1], NaN or s < 0.
    """
    time = _unit_time(t)
    if not s >= 0:
        raise ValueError(f"s must be at least 0, got {s}")

    def f(u: torch.Tensor) -> torch.Tensor:
        return torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    return _like(f(time) / f(torch.zeros_like(time)), t, torch.float32)


def sigmoid_alpha_bar(
    t: Time, start: float = -3.0, end: float = 3.0, tau: float = 1.0
) -> torch.Tensor:
    """A piece of the sigmoid, stretched to run from 1 at t = 0 to 0 at t = 1.

    With v(t) = sigmoid((start + t (end - start)) / tau):
    alpha_bar(t) = (v(1) - v(t)) / (v(1) - v(0)). Jabri et al. 2022 and Chen 2023 ("On the
    importance of noise scheduling for diffusion models", the sigmoid schedule of section 2). A
    smaller tau makes the middle steeper.

    t: float or floating-point tensor of any shape, in [0, 1]. Returns the shape and dtype of
    ``t`` (a Python float gives float32). Raises TypeError for integers, ValueError for t outside
    [0, 1], NaN, tau <= 0 or start >= end.
    """
    time = _unit_time(t)
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}")
    if not start < end:
        raise ValueError(f"start must be below end, got start={start}, end={end}")

    def v(u: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((start + u * (end - start)) / tau)

    first, last = v(torch.zeros_like(time)), v(torch.ones_like(time))
    return _like((last - v(time)) / (last - first), t, torch.float32)


def betas_from_alpha_bar(
    alpha_bar: Callable[[torch.Tensor], torch.Tensor],
    T: int,
    max_beta: float = 0.999,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """beta_i = min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), max_beta) for i = 0..T-1: (T,).

    alpha_bar: a function of time in [0, 1], called once with the float64 tensor (T+1,) of the
    times 0, 1/T, ..., 1. ``max_beta`` keeps the last steps from losing everything at once.
    Nichol & Dhariwal 2021, section 3.2. Raises TypeError or ValueError for T < 1, max_beta
    outside (0, 1], or an alpha_bar that is not a number in [0, 1] that falls at every step.
    """
    require_count("T", T)
    if not 0 < max_beta <= 1:
        raise ValueError(f"max_beta must lie in (0, 1], got {max_beta}")
    values = alpha_bar(torch.arange(T + 1, dtype=torch.float64) / T).double()
    if values.shape != (T + 1,):
        raise ValueError(f"alpha_bar of {T + 1} times must have shape ({T + 1},), "
                         f"got {tuple(values.shape)}")  # fmt: skip
    require_between("alpha_bar(t)", values, 0.0, 1.0)
    if not (values[1:] < values[:-1]).all():
        raise ValueError("alpha_bar(t) must fall at every step from t = 0 to 1")
    return (1.0 - values[1:] / values[:-1]).clamp(max=max_beta).to(dtype)


def log_snr(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the signal-to-noise ratio alpha_bar / (1 - alpha_bar).

    alpha_bar: floating-point tensor of any shape, in [0, 1]; 1 gives inf and 0 gives -inf.
    Kingma et al. 2021 (VDM), section 3.1. Returns the shape and dtype of ``alpha_bar``. Raises
    TypeError or ValueError for another type or range, or NaN.
    """
    require_float("alpha_bar", alpha_bar)
    require_between("alpha_bar", alpha_bar, 0.0, 1.0)
    value = alpha_bar.double()
    return (torch.log(value) - torch.log1p(-value)).to(alpha_bar.dtype)


def karras_sigmas(
    n: int,
    sigma_min: float,
    sigma_max: float,
    rho: float = 7.0,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """n noise levels from ``sigma_max`` down to ``sigma_min``, even in sigma ** (1 / rho): (n,).

    Both ends are included and no zero is appended: whoever samples appends it. n = 1 gives
    ``sigma_max``. Karras et al. 2022 (EDM), eq. 5. Raises TypeError or ValueError for n < 1,
    rho <= 0 or ends that are not 0 < sigma_min < sigma_max.
    """
    require_count("n", n)
    _require_sigmas(sigma_min, sigma_max, rho)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return ((high + ramp * (low - high)) ** rho).to(dtype)


def rescale_zero_terminal_snr(betas: torch.Tensor) -> torch.Tensor:
    """Betas whose alpha_bar starts where it did and ends at exactly 0: (T,), the last one 1.

    The root of alpha_bar is shifted so that its last value is 0, then scaled so that its first is
    what it was. Lin et al. 2023 ("Common diffusion noise schedules and sample steps are flawed"),
    algorithm 1. betas: (T,), T >= 2, in (0, 1]. Returns the dtype of ``betas``. Raises TypeError
    or ValueError for another type, shape or range, or NaN.
    """
    root = _alpha_bar64(betas).sqrt()
    if len(root) < 2:
        raise ValueError("betas must have at least 2 steps to be rescaled, got 1")
    first, last = root[0], root[-1]
    alpha_bar = ((root - last) * first / (first - last)) ** 2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return (1.0 - alphas).to(betas.dtype)


@dataclass(frozen=True)
class Schedule:
    """x_t = alpha(t) x_0 + sigma(t) eps for any t from 0 (data) to 1 (most noise).

    coefficients: a function from a float64 tensor of times to (alpha, sigma), float64 and of the
    same shape. Made by the functions below; Kingma et al. 2021 (VDM), section 3.1, has the form.

    Times are floats or floating-point tensors of any shape, in [0, 1]. What comes back has the
    shape and dtype of ``t`` (a Python float gives a float64 tensor without dimensions). All
    methods raise TypeError for integer times (a step i of T is the time i / (T - 1)) and
    ValueError for times outside [0, 1] or NaN.
    """

    name: str
    coefficients: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

    def alpha(self, t: Time) -> torch.Tensor:
        """How much of the signal is left: the factor of x_0."""
        return _like(self.coefficients(_unit_time(t))[0], t)

    def sigma(self, t: Time) -> torch.Tensor:
        """How much noise there is: the factor of eps."""
        return _like(self.coefficients(_unit_time(t))[1], t)

    def log_snr(self, t: Time) -> torch.Tensor:
        """2 log(alpha / sigma): falls as t rises; inf without noise, -inf without signal."""
        return _like(self._log_snr64(_unit_time(t)), t)

    def time(self, log_snr: Time) -> torch.Tensor:
        """The time at which ``log_snr`` is reached: the inverse of ``log_snr(t)``.

        log_snr: float or floating-point tensor of any shape. Values beyond the schedule's ends
        give 0 or 1. Found by bisection to the precision of float64.
        """
        wanted = torch.as_tensor(log_snr, dtype=torch.float64)
        if wanted.isnan().any():
            raise ValueError("log_snr holds NaN")
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self._log_snr64(middle) < wanted
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        first, last = (self._log_snr64(torch.full_like(wanted, end)) for end in (0.0, 1.0))
        found = torch.where(wanted >= first, 0.0, high)
        return _like(torch.where(wanted <= last, 1.0, found), log_snr)

    def _log_snr64(self, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = self.coefficients(t)
        return 2 * (torch.log(alpha) - torch.log(sigma))


def discrete_schedule(betas: torch.Tensor, name: str = "discrete") -> Schedule:
    """The schedule that passes through ``alpha_bar`` of ``betas`` (T,), T >= 2, in (0, 1].

    Step i is the time i / (T - 1), so that alpha(i / (T-1)) ** 2 = alpha_bar[i]; between steps log
    SNR is interpolated linearly. Where alpha_bar ends at 0, log SNR has no finite value there, and
    alpha is interpolated in its place on that last stretch. t = 0 has the noise of the first step.
    Raises as ``alpha_bar_from_betas`` does, and ValueError for fewer than 2 steps.
    """
    alpha_bar = _alpha_bar64(betas)
    if len(alpha_bar) < 2:
        raise ValueError("betas must have at least 2 steps to be interpolated, got 1")
    levels = torch.log(alpha_bar) - torch.log1p(-alpha_bar)
    roots = alpha_bar.sqrt()

    def coefficients(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        position = t * (len(levels) - 1)
        index = position.long().clamp(max=len(levels) - 2)
        part = position - index
        level = torch.lerp(levels.to(t.device)[index], levels.to(t.device)[index + 1], part)
        root = torch.lerp(roots.to(t.device)[index], roots.to(t.device)[index + 1], part)
        finite = torch.isfinite(levels.to(t.device)[index + 1])
        alpha = torch.where(finite, torch.sigmoid(level).sqrt(), root)
        sigma = torch.where(finite, torch.sigmoid(-level).sqrt(), (1 - root**2).sqrt())
        return alpha, sigma

    return Schedule(name, coefficients)


def linear_schedule(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """DDPM's linear betas (Ho et al. 2020, section 4) for any time in [0, 1]."""
    betas = linear_betas(T, beta_start, beta_end, dtype=torch.float64)
    return discrete_schedule(betas, name="linear")


def cosine_schedule(s: float = 0.008, shift: float = 0.0) -> Schedule:
    """alpha ** 2 = ``cosine_alpha_bar(t, s)``, sigma ** 2 the rest: no noise at t = 0.

    shift: added to log SNR at every time, where data are larger or smaller than those that the
    schedule was made for (Hoogeboom et al. 2023, "Simple diffusion", section 3.1; how much is
    ``sound.shift_schedule`` of 0). Below 0 is more noise. Raises ValueError for a shift that is not
    finite or an s below 0.
    """
    if not math.isfinite(shift):
        raise ValueError(f"shift must be finite, got {shift}")
    if shift == 0:
        return _variance_preserving("cosine", lambda t: cosine_alpha_bar(t, s))
    factor = math.exp(shift)

    def moved(t: torch.Tensor) -> torch.Tensor:
        signal = factor * cosine_alpha_bar(t, s)
        return signal / (signal + 1 - cosine_alpha_bar(t, s))

    return _variance_preserving("cosine", moved)


def sigmoid_schedule(start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """alpha ** 2 = ``sigmoid_alpha_bar(t, start, end, tau)``, sigma ** 2 the rest."""
    return _variance_preserving("sigmoid", lambda t: sigmoid_alpha_bar(t, start, end, tau))


def edm_schedule(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """alpha = 1 and sigma from ``sigma_min`` to ``sigma_max``, even in sigma ** (1 / rho).

    The variance explodes: nothing is scaled down. Karras et al. 2022 (EDM), eq. 5 and table 1, with
    time running upward: ``karras_sigmas(n, ...)`` is sigma at n even times from 1 down to 0.
    Raises ValueError unless 0 < sigma_min < sigma_max and rho > 0.
    """
    _require_sigmas(sigma_min, sigma_max, rho)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def coefficients(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(t), (low + t * (high - low)) ** rho

    return Schedule("edm", coefficients)


def flow_schedule() -> Schedule:
    """alpha = 1 - t and sigma = t: a straight path from data to noise.

    Liu et al. 2022 (rectified flow); Lipman et al. 2022 (flow matching, the optimal-transport
    path of section 4 with sigma_min = 0), both with time running the other way.
    """
    return Schedule("flow", lambda t: (1 - t, t.clone()))


def _variance_preserving(name: str, alpha_bar: Callable[[torch.Tensor], torch.Tensor]) -> Schedule:
    def coefficients(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = alpha_bar(t)
        return kept.sqrt(), (1 - kept).sqrt()

    coefficients(torch.zeros((), dtype=torch.float64))  # bad parameters fail now, not at first use
    return Schedule(name, coefficients)


def _unit_time(t: Time) -> torch.Tensor:
    """``t`` in float64, checked."""
    if isinstance(t, torch.Tensor):
        require_float("t", t)
    elif isinstance(t, bool) or not isinstance(t, int | float):
        raise TypeError(f"t must be a float or a tensor, got {type(t).__name__}")
    time = torch.as_tensor(t, dtype=torch.float64)
    return require_between("t", require_finite("t", time), 0.0, 1.0) if time.numel() else time


def _like(value: torch.Tensor, given: Time, otherwise: torch.dtype = torch.float64) -> torch.Tensor:
    return value.to(given.dtype if isinstance(given, torch.Tensor) else otherwise)


def _require_sigmas(sigma_min: float, sigma_max: float, rho: float) -> None:
    if not (0 < sigma_min < sigma_max and math.isfinite(sigma_max)):
        raise ValueError(
            f"sigmas must be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
        )
    if not rho > 0:
        raise ValueError(f"rho must be above 0, got {rho}")
