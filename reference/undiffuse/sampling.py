"""From noise to data: one loop, many solvers, any schedule, any prediction kind, any dimension.

Every solver is a function of the same few things: an estimate of x0, the levels (alpha, sigma) to
visit, and the current x. In terms of x / alpha and sigma / alpha all schedules are one (EDM,
Karras et al. 2022, appendix B), which is why DDIM is Euler's method and DDPM its noisy sibling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from undiffuse.prediction import Denoiser, as_x0
from undiffuse.schedules import Schedule, karras_sigmas

LOG_SNR_RANGE = (-12.0, 10.0)
Estimate = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Levels:
    """Noise levels to visit, from noisy to clean, all (n + 1,) float64; the last one is data.

    t: times, descending. alpha, sigma: the schedule there; at the last, 1 and 0.
    """

    t: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor

    @property
    def steps(self) -> int:
        return len(self.t) - 1


@dataclass
class Path:
    """Everything that a sampler went through: x and the estimates of x0, in order."""

    x: list[torch.Tensor] = field(default_factory=list)
    x0: list[torch.Tensor] = field(default_factory=list)


def levels(
    schedule: Schedule,
    steps: int,
    spacing: str = "log_snr",
    log_snr_range: tuple[float, float] = LOG_SNR_RANGE,
) -> Levels:
    """``steps`` noise levels and then data.

    spacing: "time" (even in t), "log_snr" (even in log SNR) or "karras" (even in
    (sigma / alpha) ** (1/7), EDM eq. 5). The ends are the schedule's own, but not outside
    ``log_snr_range``: beyond it there is no signal to find, or no noise left. Raises ValueError
    for steps < 1 or an unknown spacing.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an int of at least 1, got {steps!r}")
    ends = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64))
    low = max(float(ends[0]), log_snr_range[0])
    high = min(float(ends[1]), log_snr_range[1])
    if not low < high:
        raise ValueError(f"the schedule's log SNR does not reach into {log_snr_range}")
    edges = schedule.time(torch.tensor([low, high], dtype=torch.float64))
    if spacing == "time":
        t = torch.linspace(float(edges[0]), float(edges[1]), steps, dtype=torch.float64)
    elif spacing == "log_snr":
        t = schedule.time(torch.linspace(low, high, steps, dtype=torch.float64))
    elif spacing == "karras":
        if steps == 1:
            t = edges[:1]
        else:
            sigmas = karras_sigmas(
                steps, math.exp(-high / 2), math.exp(-low / 2), dtype=torch.float64
            )
            t = schedule.time(-2 * sigmas.log())
    else:
        raise ValueError(f"spacing must be 'time', 'log_snr' or 'karras', got {spacing!r}")
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return Levels(
        torch.cat([t, zero]),
        torch.cat([schedule.alpha(t), one]),
        torch.cat([schedule.sigma(t), zero]),
    )


def _noise(
    shape: tuple[int, ...],
    generator: torch.Generator | Sequence[torch.Generator] | None,
    dtype: torch.dtype,
    device: str | torch.device,
) -> torch.Tensor:
    """Standard normal numbers; of several generators each draws its own sample."""
    if isinstance(generator, Sequence):
        each = [
            torch.randn(shape[1:], generator=g, dtype=dtype, device=g.device) for g in generator
        ]
        return torch.stack(each).to(device)
    source = generator.device if generator is not None else device
    return torch.randn(shape, generator=generator, dtype=dtype, device=source).to(device)


def noise_like(
    x: torch.Tensor, generator: torch.Generator | Sequence[torch.Generator] | None = None
) -> torch.Tensor:
    """Standard normal numbers of the shape, dtype and device of ``x`` (B, ...).

    generator: None uses the global one; a list of them, one a sample, gives each its own.
    """
    return _noise(tuple(x.shape), generator, x.dtype, x.device)


def ddim_update(
    x: torch.Tensor,
    x0: torch.Tensor,
    level: tuple[float, float],
    following: tuple[float, float],
    eta: float = 0.0,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """One DDIM step between two levels (alpha, sigma), for any schedule.

    Song et al. 2020 (DDIM), eq. 12 and 16. eta = 0 is deterministic, and Euler's method in
    sigma / alpha; eta = 1 has the variance of DDPM's posterior (Ho et al. 2020, eq. 7), and is
    the ancestral sampler. ``noise``: standard normal of x's shape, needed where eta > 0.
    """
    (a, s), (a_next, s_next) = level, following
    eps = (x - a * x0) / s
    variance = s_next**2 * max(0.0, 1 - (a * s_next / (a_next * s)) ** 2)
    direct = math.sqrt(max(0.0, s_next**2 - eta**2 * variance))
    out = a_next * x0 + direct * eps
    if eta > 0 and variance > 0:
        if noise is None:
            raise ValueError("a step with eta > 0 needs noise")
        out = out + eta * math.sqrt(variance) * noise
    return out


def _pairs(lv: Levels) -> list[tuple[float, float]]:
    return list(zip(lv.alpha.tolist(), lv.sigma.tolist()))


def _ddim(eta: float) -> Callable:
    def solve(
        estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
    ) -> torch.Tensor:
        share = options.get("eta", eta)
        pairs = _pairs(lv)
        for i in range(lv.steps):
            x0 = estimate(x, i)
            noise = draw(x) if share > 0 else None
            x = ddim_update(x, x0, pairs[i], pairs[i + 1], share, noise)
        return x

    return solve


def _ddpm(
    estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
) -> torch.Tensor:
    """Ho et al. 2020, algorithm 2; variance "posterior" or "beta" (their two choices)."""
    which = options.get("variance", "posterior")
    if which not in ("posterior", "beta"):
        raise ValueError(f"variance must be 'posterior' or 'beta', got {which!r}")
    pairs = _pairs(lv)
    for i in range(lv.steps):
        (a, s), (a_next, s_next) = pairs[i], pairs[i + 1]
        x0, noise = estimate(x, i), draw(x)
        if which == "posterior" or s_next == 0:
            x = ddim_update(x, x0, pairs[i], pairs[i + 1], 1.0, noise)
            continue
        mean = ddim_update(x, x0, pairs[i], pairs[i + 1], 1.0, torch.zeros_like(x))
        x = mean + math.sqrt(s**2 - (a / a_next * s_next) ** 2) * noise
    return x


def _heun(
    estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
) -> torch.Tensor:
    """Karras et al. 2022 (EDM), algorithms 1 and 2 (with churn), on u = x / alpha."""
    churn = options.get("churn", 0.0)
    low, high = options.get("churn_range", (0.0, math.inf))
    inflate = options.get("churn_noise", 1.0)
    pairs = _pairs(lv)
    ratio = [s / a for a, s in pairs]
    for i in range(lv.steps):
        (a, _), (a_next, _) = pairs[i], pairs[i + 1]
        u, now, then = x / a, ratio[i], ratio[i + 1]
        if churn and low <= now <= high:
            more = now * (1 + min(churn / lv.steps, math.sqrt(2) - 1))
            u = u + inflate * math.sqrt(more**2 - now**2) * draw(x)
            x0 = estimate.at(u, more)
            now = more
        else:
            x0 = estimate(x, i)
        slope = (u - x0) / now
        stepped = u + (then - now) * slope
        if then > 0:
            second = (stepped - estimate(stepped * a_next, i + 1)) / then
            stepped = u + (then - now) * (slope + second) / 2
        x = stepped * a_next
    return x


def _half_log_snr(lv: Levels) -> list[float]:
    return [math.log(a / s) if s > 0 else math.inf for a, s in _pairs(lv)]


def _dpmpp_2m(
    estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
) -> torch.Tensor:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2: second order with one call a step."""
    lam, pairs = _half_log_snr(lv), _pairs(lv)
    before: torch.Tensor | None = None
    for i in range(lv.steps):
        (_, s), (a_next, s_next) = pairs[i], pairs[i + 1]
        x0 = estimate(x, i)
        h = lam[i + 1] - lam[i]
        if before is None or s_next == 0:
            better = x0
        else:
            r = (lam[i] - lam[i - 1]) / h
            better = x0 + (x0 - before) / (2 * r)
        x = s_next / s * x - a_next * math.expm1(-h) * better
        before = x0
    return x


def _dpmpp_2m_sde(
    estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
) -> torch.Tensor:
    """The same for the reverse SDE (Lu et al. 2022, section on SDE-DPM-Solver++), midpoint."""
    lam, pairs = _half_log_snr(lv), _pairs(lv)
    before: torch.Tensor | None = None
    for i in range(lv.steps):
        (_, s), (a_next, s_next) = pairs[i], pairs[i + 1]
        x0, noise = estimate(x, i), draw(x)
        h = lam[i + 1] - lam[i]
        if s_next == 0:
            x = a_next * x0
            continue
        x = s_next / s * math.exp(-h) * x - a_next * math.expm1(-2 * h) * x0
        if before is not None:
            r = (lam[i] - lam[i - 1]) / h
            x = x - 0.5 * a_next * math.expm1(-2 * h) * (x0 - before) / r
        x = x + s_next * math.sqrt(-math.expm1(-2 * h)) * noise
        before = x0
    return x


def _euler_maruyama(
    estimate: Estimate, lv: Levels, x: torch.Tensor, draw: Callable, options: dict
) -> torch.Tensor:
    """The reverse SDE (Song et al. 2021, eq. 6) on u = x / alpha with "time" (sigma / alpha) ** 2.

    There du = -score dw^2 ... has no drift of its own: du = -(u - x0) / v dv + sqrt(dv) z, with
    v = (sigma / alpha) ** 2 falling. The last step, to no noise, takes the estimate itself.
    """
    pairs = _pairs(lv)
    v = [(s / a) ** 2 for a, s in pairs]
    for i in range(lv.steps):
        x0, noise = estimate(x, i), draw(x)
        a, a_next = pairs[i][0], pairs[i + 1][0]
        if v[i + 1] == 0:
            x = a_next * x0
            continue
        u, fall = x / a, v[i] - v[i + 1]
        u = u - fall * (u - x0) / v[i] + math.sqrt(fall) * noise
        x = a_next * u
    return x


SOLVERS: dict[str, Callable] = {
    "ddim": _ddim(0.0),
    "euler": _ddim(0.0),
    "ddpm": _ddpm,
    "ancestral": _ddim(1.0),
    "heun": _heun,
    "dpmpp_2m": _dpmpp_2m,
    "dpmpp_2m_sde": _dpmpp_2m_sde,
    "euler_maruyama": _euler_maruyama,
}
TWO_CALLS = ("heun",)


def steps_for(solver: str, calls: int) -> int:
    """How many steps ``solver`` makes with at most ``calls`` network calls (Heun: two a step,
    but one in the last)."""
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if isinstance(calls, bool) or not isinstance(calls, int) or calls < 1:
        raise ValueError(f"calls must be an int of at least 1, got {calls!r}")
    return (calls + 1) // 2 if solver in TWO_CALLS else calls


class _Estimator:
    """x0 estimates at numbered levels, counted, clipped, and kept where a path is wanted."""

    def __init__(
        self,
        x0_of: Denoiser,
        schedule: Schedule,
        lv: Levels,
        cond: Any,
        clip: tuple[float, float] | None,
        path: Path | None,
        progress: Any,
    ) -> None:
        self.x0_of, self.schedule, self.lv, self.cond = x0_of, schedule, lv, cond
        self.clip, self.path, self.progress = clip, path, progress
        self.calls = 0

    def __call__(self, x: torch.Tensor, i: int) -> torch.Tensor:
        return self._estimate(x, float(self.lv.t[i]))

    def at(self, u: torch.Tensor, ratio: float) -> torch.Tensor:
        """At noise ``ratio`` = sigma / alpha that is no level of the list."""
        t = self.schedule.time(torch.tensor(-2 * math.log(ratio), dtype=torch.float64))
        return self._estimate(u * float(self.schedule.alpha(t)), float(t))

    def _estimate(self, x: torch.Tensor, t: float) -> torch.Tensor:
        self.calls += 1
        x0 = self.x0_of(x, t, self.cond)
        if self.clip is not None:
            x0 = x0.clamp(*self.clip)
        if self.path is not None:
            self.path.x.append(x.detach().cpu())
            self.path.x0.append(x0.detach().cpu())
        if self.progress is not None:
            self.progress(1)
        return x0


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    schedule: Schedule,
    shape: tuple[int, ...] | None = None,
    *,
    kind: str = "eps",
    solver: str = "dpmpp_2m",
    calls: int = 50,
    cond: Any = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    x: torch.Tensor | None = None,
    at: Levels | None = None,
    spacing: str = "log_snr",
    clip: tuple[float, float] | None = None,
    path: bool = False,
    progress: Any = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> torch.Tensor | tuple[torch.Tensor, Path]:
    """Draws samples: (B, ...) of ``shape``, or with ``path=True`` (samples, ``Path``).

    denoiser: ``(x_t, t, cond) -> prediction`` of the given ``kind`` ("eps", "x0", "v", "flow",
    "score"). calls: network calls at most. generator: for the first noise and for all that
    stochastic solvers draw; None uses the global one. A list of generators, one a sample, gives
    each sample its own noise, whatever batch it is in. x: start from this (at the first level's
    noise) in place of fresh noise. at: levels of your own in place of ``levels(...)``. clip: bounds
    for each estimate of x0, such as (-1, 1) for images. progress: a function called with 1 after
    each network call. options: ``eta`` (ddim), ``variance`` (ddpm: "posterior" or "beta"),
    ``churn``, ``churn_range``, ``churn_noise`` (heun).

    Raises ValueError for an unknown solver or option, a shape or x that is missing, or samples
    that are no longer finite.
    """
    steps = steps_for(solver, calls)
    known = {
        "ddim": {"eta"},
        "euler": set(),
        "ddpm": {"variance"},
        "ancestral": {"eta"},
        "heun": {"churn", "churn_range", "churn_noise"},
    }.get(solver, set())
    if odd := set(options) - known:
        raise ValueError(
            f"{solver} has no option {', '.join(sorted(odd))}"
            + (f"; it has {', '.join(sorted(known))}" if known else "")
        )
    lv = at if at is not None else levels(schedule, steps, spacing)
    wanted = len(x) if x is not None else shape[0] if shape else 0
    if isinstance(generator, Sequence) and wanted and len(generator) != wanted:
        raise ValueError(f"{len(generator)} generators cannot serve {wanted} samples: one each")
    if x is None:
        if shape is None:
            raise ValueError("give a shape to draw, or x to start from")
        x = _noise(shape, generator, dtype, device)
        # What the forward process leaves of data there is noise of this deviation.
        x = x * math.hypot(
            float(lv.sigma[0]), 0.0 if float(lv.alpha[0]) == 1 else float(lv.alpha[0])
        )
    trail = Path() if path else None
    estimator = _Estimator(
        as_x0(denoiser, schedule, kind), schedule, lv, cond, clip, trail, progress
    )
    x = SOLVERS[solver](
        estimator, lv, x, lambda y: _noise(y.shape, generator, y.dtype, y.device), options
    )
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{solver} with {calls} calls gave values that are not finite: the denoiser's "
            f"predictions may not be of kind {kind!r}"
        )
    if trail is not None:
        trail.x.append(x.cpu())
        return x, trail
    return x


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    schedule: Schedule,
    x: torch.Tensor,
    *,
    kind: str = "eps",
    calls: int = 50,
    cond: Any = None,
    at: Levels | None = None,
    spacing: str = "log_snr",
    clip: tuple[float, float] | None = None,
    path: bool = False,
    progress: Any = None,
) -> torch.Tensor | tuple[torch.Tensor, Path]:
    """The noise from which deterministic DDIM makes the data ``x`` (B, ...): it goes back up.

    ``sample(..., solver="ddim", x=invert(...))`` with the same levels gives x back, the better the
    more calls: each step takes the noise estimate from where it comes, and sampling takes it from
    where that step went. The way from data to the first level uses the estimate at that level.
    Song et al. 2020 (DDIM), section 4.3. Arguments as in ``sample``, in the order that it visits
    levels; ``clip`` bends the way, and is off. Returns x at the noisiest level, or with
    ``path=True`` (x, ``Path``). Raises ValueError for data, or a result, that are not finite.
    """
    if not torch.isfinite(x).all():
        raise ValueError("the data to invert hold NaN or infinite values")
    lv = at if at is not None else levels(schedule, steps_for("ddim", calls), spacing)
    trail = Path() if path else None
    x0_of = as_x0(denoiser, schedule, kind)
    estimate = _Estimator(x0_of, schedule, lv, cond, clip, trail, progress)
    pairs, last = _pairs(lv), lv.steps
    if pairs[last][1] == 0:  # data: the noise in them is estimated one level above
        last -= 1
        scaled = pairs[last][0] * x
        x = 2 * scaled - pairs[last][0] * estimate(scaled, last)
    for i in range(last, 0, -1):
        x = ddim_update(x, estimate(x, i), pairs[i], pairs[i - 1])
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{calls} calls gave values that are not finite: the denoiser's predictions may not be "
            f"of kind {kind!r}"
        )
    if trail is not None:
        trail.x.append(x.cpu())
        return x, trail
    return x


__all__ = ["SOLVERS", "Levels", "Path", "ddim_update", "invert", "levels", "sample", "steps_for"]
