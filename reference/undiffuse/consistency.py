"""Consistency models: from any noise level to the data in one call (Song et al. 2023).

A consistency function f(x_t, t) gives the data at which the teacher's flow from x_t ends: the same
for all points of one path. It is learnt from neighbours on a path, f(x_t, t) = f(x_s, s), and from
the boundary, where nothing is left to do: f(x, t_min) = x. One call makes a sample; more calls put
noise on it again and repeat, which mends what the first one got wrong.

Noise levels are those of u = x_t / alpha = x0 + sigma eps, so that every schedule is one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from undiffuse._arguments import per_sample, require_count, require_float
from undiffuse.checkpoints import Checkpoint
from undiffuse.distillation import Plan, as_checkpoint, fit, teacher_of
from undiffuse.prediction import Denoiser, Level, as_x0, levels
from undiffuse.sampling import LOG_SNR_RANGE, Levels, _noise
from undiffuse.schedules import Schedule, karras_sigmas

SIGMA_MIN = 0.02
HUBER = 0.00054  # times the root of the dimension: Song & Dhariwal 2023, section 3.3


def consistency_skip(
    t: torch.Tensor | float, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> tuple[torch.Tensor, torch.Tensor]:
    """(c_skip, c_out) of f(u, t) = c_skip u + c_out F(u, t), at the noise level t.

    c_skip = sigma_data^2 / ((t - sigma_min)^2 + sigma_data^2),
    c_out = sigma_data (t - sigma_min) / sqrt(sigma_data^2 + t^2):
    1 and 0 at t = sigma_min, whatever the network F says there. Song et al. 2023 (Consistency
    models), appendix C. t: noise levels (a standard deviation), a number or a float tensor of any
    shape, at least sigma_min. Returns two tensors of t's shape and dtype (float64 for a number).
    Raises ValueError for t below sigma_min, or sigma_data that is not above 0.
    """
    level = t if isinstance(t, torch.Tensor) else torch.tensor(float(t), dtype=torch.float64)
    require_float("t", level)
    if not sigma_data > 0 or not sigma_min >= 0:
        raise ValueError(
            f"sigma_data must be above 0 and sigma_min at least 0, got {sigma_data}, {sigma_min}"
        )
    value = level.double()
    low = float(torch.tensor(sigma_min, dtype=level.dtype))  # as t has it, so that they can meet
    if not (value >= low * (1 - 1e-6)).all():
        raise ValueError(f"t must be at least sigma_min = {sigma_min:g}, got {value.min():g}")
    beyond = (value - low).clamp(min=0)
    skip = sigma_data**2 / (beyond**2 + sigma_data**2)
    out = sigma_data * beyond / (sigma_data**2 + value**2).sqrt()
    return skip.to(level.dtype), out.to(level.dtype)


class ConsistencyFunction(nn.Module):
    """A denoising network as a consistency function: ``(x_t, t, cond) -> x0``.

    model: predicts ``kind`` under ``schedule``. sigma_data: the data's deviation; sigma_min: the
    level at which x_t / alpha counts as data. The network F of ``consistency_skip`` is what turns
    ``model``'s estimate into itself for sigma_min = 0, so that an untrained consistency function
    is nearly the teacher's estimate of x0. For ``kind`` "v" and sigma_data = 1, F is -v as it is:
    a network that predicts v has the skip connection that a consistency model needs.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        kind: str = "v",
        sigma_min: float = SIGMA_MIN,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.schedule, self.kind = model, schedule, kind
        self.sigma_min, self.sigma_data = sigma_min, sigma_data

    def forward(self, x_t: torch.Tensor, t: Level, cond: Any = None) -> torch.Tensor:
        alpha, sigma = (per_sample("level", v, x_t, torch.float64)
                        for v in levels(self.schedule, t))  # fmt: skip
        ratio = (sigma / alpha).clamp(min=self.sigma_min)
        skip, out = consistency_skip(ratio, self.sigma_data, self.sigma_min)
        plain_skip, plain_out = consistency_skip(ratio, self.sigma_data, 0.0)
        u = x_t / alpha.to(x_t.dtype)
        estimate = as_x0(self.model, self.schedule, self.kind)(x_t, t, cond)
        # F = (estimate - plain_skip u) / plain_out, put into skip u + out F
        share = out / plain_out
        rest = skip - share * plain_skip
        return rest.to(x_t.dtype) * u + share.to(x_t.dtype) * estimate


def consistency_levels(
    schedule: Schedule, steps: int, sigma_min: float = SIGMA_MIN, rho: float = 7.0
) -> Levels:
    """``steps`` noise levels from the schedule's noisiest to ``sigma_min``, even in sigma^(1/rho).

    ``steps`` is at least 2. Karras et al. 2022, eq. 5; the noisiest is that of samplers
    (``sampling.LOG_SNR_RANGE``). Nothing is appended: sigma_min counts as data.
    """
    require_count("steps", steps, least=2)
    end = float(schedule.log_snr(torch.ones((), dtype=torch.float64)))
    top = torch.tensor(-max(end, LOG_SNR_RANGE[0]) / 2, dtype=torch.float64).exp()
    sigmas = karras_sigmas(steps, sigma_min, float(top), rho, dtype=torch.float64)
    t = schedule.time(-2 * sigmas.log())
    return Levels(t, schedule.alpha(t), schedule.sigma(t))


@torch.no_grad()
def consistency_sample(
    f: Denoiser,
    schedule: Schedule,
    shape: tuple[int, ...],
    *,
    calls: int = 1,
    cond: Any = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    sigma_min: float = SIGMA_MIN,
    clip: tuple[float, float] | None = None,
    progress: Callable[[int], Any] | None = None,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Samples of ``shape`` (B, ...) float32 by ``calls`` calls of the consistency function ``f``.

    The first call is from pure noise. Every further one puts new noise on the estimate, at a lower
    level (``consistency_levels`` of calls + 1, of which the last is data), and calls again. Song
    et al. 2023, algorithm 1. Draws a normal tensor of ``shape`` before each call; of several
    generators each draws its own sample. clip: bounds for each estimate.
    """
    lv = consistency_levels(schedule, require_count("calls", calls) + 1, sigma_min)
    x0 = torch.zeros(shape, device=device)
    for i in range(calls):
        noise = _noise(tuple(shape), generator, torch.float32, device)
        alpha, sigma = float(lv.alpha[i]), float(lv.sigma[i])
        if i:
            # The estimate already has the noise of sigma_min in it (algorithm 1).
            sigma = alpha * max(0.0, (sigma / alpha) ** 2 - sigma_min**2) ** 0.5
        x = alpha * x0 + sigma * noise
        x0 = f(x, float(lv.t[i]), cond)
        if clip is not None:
            x0 = x0.clamp(*clip)
        if progress is not None:
            progress(1)
    if not torch.isfinite(x0).all():
        raise ValueError("the samples are not finite: f may not be a consistency function")
    return x0


def pseudo_huber(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """sqrt(|a - b|^2 + c^2) - c of each sample, c = 0.00054 sqrt(dimension): (B,).

    Nearly quadratic for small errors, linear for large ones, whose gradients a square would let
    rule. Song & Dhariwal 2023, eq. 8.
    """
    gap = (a - b).flatten(1)
    c = HUBER * gap.shape[1] ** 0.5
    return (gap.square().sum(1) + c**2).sqrt() - c


@torch.no_grad()
def one_step_down(
    teacher: Denoiser, x_t: torch.Tensor, t: torch.Tensor, s: torch.Tensor, schedule: Schedule,
    cond: Any = None,
) -> torch.Tensor:  # fmt: skip
    """x at time s, from x_t at time t > s, by one step of Heun on the teacher's flow.

    teacher: ``(x, t, cond) -> x0``. t, s: (B,). Two calls. Song et al. 2023, eq. 6, with Heun's
    method in place of the solver Phi.
    """
    (a, now), (b, then) = (_levels_of(schedule, v, x_t) for v in (t, s))
    u, now, then = x_t / a, now / a, then / b
    slope = (u - teacher(x_t, t, cond)) / now
    ahead = u + (then - now) * slope
    slope = (slope + (ahead - teacher(ahead * b, s, cond)) / then) / 2
    return b * (u + (then - now) * slope)


def _levels_of(
    schedule: Schedule, t: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = levels(schedule, t)
    return per_sample("alpha", alpha, x), per_sample("sigma", sigma, x)


def consistency_distillation(
    teacher: Checkpoint,
    x: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    grid: int = 18,
    plan: Plan | None = None,
    guidance: float | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Checkpoint:
    """A consistency model of ``teacher``, as a checkpoint that samples in 1 to 4 calls.

    x, labels: data as the teacher was trained on. grid: how many noise levels its paths are cut
    into. For a level n + 1 and the level n below it, f(x_{n+1}) is drawn to f of the point that the
    teacher's flow leads to; gradients go through the first alone. Song et al. 2023, algorithm 2,
    with the target of Song & Dhariwal 2023 (the network as it is, no average) and their loss.
    Draws of a batch: levels (``torch.randint``), then noise. Raises ValueError for a grid below 2.
    """
    plan = plan or Plan()
    if teacher.recipe.distilled:
        raise ValueError(f"{teacher.name} is distilled: a consistency model needs a whole flow")
    lv = consistency_levels(teacher.schedule, grid)
    denoiser, scale = teacher_of(teacher, guidance)
    student = copy.deepcopy(teacher.model).requires_grad_(True)
    f = ConsistencyFunction(student, teacher.schedule, teacher.kind)

    def loss_of(
        x0: torch.Tensor, y: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor:
        n = torch.randint(grid - 1, (len(x0),), generator=generator)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        t, s = (lv.t[n + i].to(x0.device, x0.dtype) for i in (0, 1))
        alpha, sigma = _levels_of(teacher.schedule, t, x0)
        x_t = alpha * x0 + sigma * noise
        below = one_step_down(denoiser, x_t, t, s, teacher.schedule, y)
        with torch.no_grad():
            wanted = f(below, s, y)
        return pseudo_huber(f(x_t, t, y), wanted).mean()

    started = time.monotonic()
    losses = fit(student, loss_of, teacher.scale * x, labels, plan, on_step)
    told = {"teacher": teacher.name, "method": "consistency", "calls": 2, "guidance": scale,
            "steps": len(losses)}  # fmt: skip
    facts = {
        "steps": len(losses),
        "seconds": round(time.monotonic() - started, 1),
        "loss": sum(losses[-100:]) / len(losses[-100:]),
    }
    name = f"{teacher.name}-consistency"
    return as_checkpoint(teacher, student, name, plan, told, facts)
