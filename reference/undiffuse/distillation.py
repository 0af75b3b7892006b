"""Fewer calls: a student that learns to do in one step what its teacher does in two.

Progressive distillation (Salimans & Ho 2022): a teacher that samples in 2 N steps of DDIM gives a
student that samples in N, which becomes the teacher of the next, down to a single call. Whatever
steered the teacher (guidance) is learnt with it, so that the student makes one call a step where a
guided teacher makes two. Everything here takes any schedule and any kind of prediction.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from undiffuse._arguments import per_sample, require_count, require_float, require_same_shape
from undiffuse.checkpoints import Checkpoint
from undiffuse.guidance import guided
from undiffuse.optim import make_optimizer
from undiffuse.prediction import Denoiser, Level, as_x0
from undiffuse.sampling import LOG_SNR_RANGE, Levels
from undiffuse.schedules import Schedule
from undiffuse.training import EMA, clip_and_report, lr_at

PACE_STEPS = 20  # a plan of seconds estimates after so many how many it can make
LevelOf = Callable[[torch.Tensor], torch.Tensor]


def even_levels(schedule: Schedule, steps: int) -> Levels:
    """``steps`` levels at even times T, T (steps - 1) / steps, ..., T / steps, and then data.

    T is the time of the least log SNR that samplers start from (``sampling.LOG_SNR_RANGE``). Every
    second level of 2 N steps is a level of N steps, which is what halving needs (Salimans & Ho
    2022, algorithm 2). Raises TypeError or ValueError for steps below 1.
    """
    require_count("steps", steps)
    end = float(schedule.log_snr(torch.ones((), dtype=torch.float64)))
    top = schedule.time(torch.tensor(max(end, LOG_SNR_RANGE[0]), dtype=torch.float64))
    t = top * torch.arange(steps, -1, -1, dtype=torch.float64) / steps
    alpha, sigma = levels_to_data(schedule)
    return Levels(t, alpha(t), sigma(t))


def levels_to_data(schedule: Schedule) -> tuple[LevelOf, LevelOf]:
    """(alpha, sigma) of a schedule as functions of time whose value at 0 is that of data: 1 and 0.

    Many schedules have a little noise left at t = 0, and the last step of a sampler removes it.
    """

    def alpha(t: torch.Tensor) -> torch.Tensor:
        return torch.where(t == 0, torch.ones_like(t), schedule.alpha(t))

    def sigma(t: torch.Tensor) -> torch.Tensor:
        return torch.where(t == 0, torch.zeros_like(t), schedule.sigma(t))

    return alpha, sigma


@torch.no_grad()
def distillation_target(
    teacher: Denoiser,
    x_t: torch.Tensor,
    t: Level,
    t_mid: Level,
    t_next: Level,
    alpha: LevelOf,
    sigma: LevelOf,
    cond: Any = None,
) -> torch.Tensor:
    """The x0 that one DDIM step from t to t_next must use to arrive where the teacher's two do.

    teacher: ``(x, time, cond) -> x0``, called with times (B,) of x_t's dtype; ``prediction.as_x0``
    makes one of any kind of prediction. x_t: (B, ...) at time t. t > t_mid > t_next: numbers, or
    one per sample (B,); alpha, sigma: functions of time (``Schedule.alpha``); sigma may be 0 at
    t_next, which is data. With x'' what two DDIM steps by way of t_mid lead to, and k =
    sigma(t_next) / sigma(t), the target is (x'' - k x_t) / (alpha(t_next) - k alpha(t)). Salimans &
    Ho 2022, algorithm 2 and appendix G. Returns x_t's shape and dtype, without a graph. Raises
    TypeError or ValueError for other types or shapes, sigma(t) = 0, or a step that goes nowhere.
    """
    require_float("x_t", x_t)
    times = [_times(name, v, x_t) for name, v in (("t", t), ("t_mid", t_mid), ("t_next", t_next))]
    found = [(_times("alpha", alpha(v), x_t), _times("sigma", sigma(v), x_t)) for v in times]
    (a, s), (a_mid, s_mid), (a_next, s_next) = found
    if not (s > 0).all() or not (s_mid > 0).all():
        raise ValueError("sigma must be above 0 at t and t_mid: there is nothing to take a step by")
    k = s_next / s
    reach = a_next - k * a
    if not (reach > 0).all():
        raise ValueError("t_next must have less noise than t, or no x0 leads there")
    mid = _step(teacher, x_t, times[0], (a, s), (a_mid, s_mid), cond)
    end = _step(teacher, mid, times[1], (a_mid, s_mid), (a_next, s_next), cond)
    return _by(1 / reach, end) - _by(k / reach, x_t)


def _step(
    teacher: Denoiser,
    x: torch.Tensor,
    t: torch.Tensor,
    now: tuple[torch.Tensor, torch.Tensor],
    then: tuple[torch.Tensor, torch.Tensor],
    cond: Any,
) -> torch.Tensor:
    """One DDIM step (Song et al. 2020, eq. 12, eta = 0) between two levels (B,)."""
    x0 = teacher(x, t.to(x.dtype), cond)
    require_same_shape("the teacher's x0", x0, "x_t", x)
    k = then[1] / now[1]
    return _by(then[0] - k * now[0], x0) + _by(k, x)


def _times(name: str, value: Level, x: torch.Tensor) -> torch.Tensor:
    """``value`` as float64 (B,) on x's device."""
    return per_sample(name, value, x, torch.float64).reshape(-1).expand(len(x))


def _by(factor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return per_sample("factor", factor, x) * x


def x0_weight(alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """max(SNR, 1), the weight of a squared error of x0: "truncated SNR".

    An unweighted error of x0 hardly counts where there is little noise, one of the noise is 0
    where there is no signal, just where the first call is made. Salimans & Ho 2022, section 4.
    """
    return (alpha / sigma).square().clamp(min=1.0)


@dataclass(frozen=True)
class Plan:
    """How one student is trained; the parts are those of ``trainer``.

    steps, seconds, batch, lr, warmup, optimizer, ema, clip, seed: as in ``recipes.Recipe``; the
    rate falls to 0. Raises ValueError for steps or batch below 1, or seconds below 0.
    """

    steps: int = 1000
    seconds: float = 0.0
    batch: int = 32
    lr: float = 0.005
    warmup: int = 50
    optimizer: str = "muon"
    ema: float = 0.99
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("steps", self.steps)
        require_count("batch", self.batch)
        if not self.seconds >= 0:
            raise ValueError(f"seconds must be at least 0, got {self.seconds}")


class Failed(RuntimeError):
    """A student's loss is no longer finite; the message says at which step."""


def fit(
    student: nn.Module,
    loss_of: Callable[[torch.Tensor, torch.Tensor | None, torch.Generator], torch.Tensor],
    x: torch.Tensor,
    labels: torch.Tensor | None,
    plan: Plan,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Trains ``student`` in place, ends with its averaged weights, and returns the losses.

    loss_of(x0, labels, generator) is the loss of a batch. x: (N, C, ...) in the network's range,
    labels (N,) or None. The generator draws the batches and whatever ``loss_of`` draws. Raises
    ``Failed`` for a loss that is not finite.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    optimizer = make_optimizer(student, plan.optimizer, plan.lr, 0.0)
    ema = EMA(student, plan.ema)
    device = next(student.parameters()).device
    losses: list[float] = []
    total, started = plan.steps, time.monotonic()
    student.train()
    while len(losses) < total:
        step = len(losses)
        index = torch.randint(len(x), (plan.batch,), generator=generator)
        y = None if labels is None else labels[index].to(device)
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, min(plan.warmup, total // 5), total, plan.lr)
        loss = loss_of(x[index].to(device), y, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_and_report(student.parameters(), plan.clip or math.inf)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
            raise Failed(f"the loss is {losses[-1]} at step {step}: lower lr ({plan.lr:g})")
        optimizer.step()
        ema.update(student)
        if plan.seconds and len(losses) % PACE_STEPS == 0:
            pace = (time.monotonic() - started) / len(losses)
            total = max(len(losses), int(plan.seconds / pace))
        if on_step is not None:
            on_step(len(losses), total, losses[-1])
    ema.copy_to(student)
    student.eval()
    return losses


def halve(
    teacher: Denoiser,
    student: nn.Module,
    schedule: Schedule,
    kind: str,
    calls: int,
    x: torch.Tensor,
    labels: torch.Tensor | None,
    plan: Plan,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Trains ``student`` in place to sample in ``calls`` steps as ``teacher`` does in twice as many

    teacher: ``(x, t, cond) -> x0``. kind: what the student predicts; "v" and "x0" serve, "eps" does
    not, as it says nothing about x0 where there is hardly any signal, which is where a student of
    one call has to answer. Each batch draws a step for each sample (``torch.randint``), then the
    noise (``torch.randn``). Returns the losses. Salimans & Ho 2022, algorithm 2.
    """
    if kind not in ("v", "x0"):
        raise ValueError(f"a student must predict v or x0, got {kind!r}")
    fine = even_levels(schedule, 2 * require_count("calls", calls))
    alpha, sigma = levels_to_data(schedule)
    x0_of = as_x0(student, schedule, kind)

    def loss_of(
        x0: torch.Tensor, y: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor:
        step = 2 * torch.randint(calls, (len(x0),), generator=generator)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        t, t_mid, t_next = (fine.t[step + i].to(x0.device) for i in range(3))
        a, s = alpha(t), sigma(t)
        x_t = _by(a, x0) + _by(s, noise)
        wanted = distillation_target(teacher, x_t, t, t_mid, t_next, alpha, sigma, y)
        error = (x0_of(x_t, t.to(x0.dtype), y) - wanted).square().flatten(1).mean(1)
        return (x0_weight(a, s).to(error.dtype) * error).mean()

    return fit(student, loss_of, x, labels, plan, on_step)


def teacher_of(checkpoint: Checkpoint, guidance: float | None = None) -> tuple[Denoiser, float]:
    """(the checkpoint's network as ``(x, t, cond) -> x0``, guided; the scale of guidance).

    guidance: None is what its recipe says. A distilled checkpoint has its guidance inside.
    """
    scale = checkpoint.recipe.guidance if guidance is None else guidance
    if checkpoint.null is None or checkpoint.recipe.distilled:
        scale = 1.0
    model: Denoiser = checkpoint.model
    if scale != 1.0:
        model = guided(model, checkpoint.null, scale, checkpoint.recipe.guidance_interval)
    return as_x0(model, checkpoint.schedule, checkpoint.kind), scale


def progressive(
    teacher: Checkpoint,
    x: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    first: int = 8,
    last: int = 1,
    plan: Plan | None = None,
    guidance: float | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Iterator[Checkpoint]:
    """Students of ``first``, first / 2, ..., ``last`` calls, each a checkpoint, as they are made.

    teacher: a checkpoint that predicts v or x0. x, labels: data as it was trained on, (N, C, ...)
    and (N,) or None. guidance: the scale that is distilled into the students; None is what the
    teacher's recipe says. Each student starts from the weights of the one before. What comes is
    told in ``recipe.distilled``: teacher, method, calls, guidance. ``draw.draw`` and ``course
    sample`` draw from it by its own calls. Raises ValueError unless first / last is a power of 2,
    or where the teacher is a student already that makes fewer than 2 * first calls.
    """
    plan = plan or Plan()
    ratio = require_count("first", first) / require_count("last", last)
    if ratio < 1 or ratio != 2 ** round(math.log2(ratio)):
        raise ValueError(f"first must be last times a power of 2, got {first} and {last}")
    has = teacher.recipe.distilled
    if has and (has["method"] != "progressive" or has["calls"] != 2 * first):
        raise ValueError(
            f"{teacher.name} was distilled to {has['calls']} calls: its student starts at half"
        )
    origin = has.get("teacher", teacher.name)
    denoiser, scale = teacher_of(teacher, guidance)
    if has:
        scale = has.get("guidance", 1.0)
    model, calls, before = teacher.model, first, has.get("steps", 0)
    while calls >= last:
        student = copy.deepcopy(model).requires_grad_(True)
        started = time.monotonic()
        stage = replace(plan, seed=plan.seed + calls)
        losses = halve(
            denoiser, student, teacher.schedule, teacher.kind, calls,
            teacher.scale * x, labels, stage, on_step,
        )  # fmt: skip
        before += len(losses)
        told = {"teacher": origin, "method": "progressive", "calls": calls, "guidance": scale,
                "steps": before}  # fmt: skip
        facts = {
            "steps": len(losses),
            "seconds": round(time.monotonic() - started, 1),
            "loss": sum(losses[-100:]) / len(losses[-100:]),
        }
        yield as_checkpoint(teacher, student, f"{origin}-{calls}", plan, told, facts)
        model = student
        denoiser = as_x0(copy.deepcopy(student), teacher.schedule, teacher.kind)
        calls //= 2


def as_checkpoint(
    teacher: Checkpoint,
    student: nn.Module,
    name: str,
    plan: Plan,
    distilled: dict[str, Any],
    facts: dict[str, Any],
) -> Checkpoint:
    """A student as a checkpoint: the teacher's recipe, with what was done to it."""
    recipe = replace(
        teacher.recipe,
        name=name,
        steps=facts["steps"],
        seconds=0.0,
        batch=plan.batch,
        lr=plan.lr,
        warmup=plan.warmup,
        optimizer=plan.optimizer,
        ema=plan.ema,
        clip=plan.clip,
        seed=plan.seed,
        guidance=1.0,
        guidance_interval=(0.0, 1.0),
        distilled=distilled,
    )
    kept = {k: teacher.facts[k] for k in ("rate",) if k in teacher.facts}
    return Checkpoint(name, student, teacher.schedule, recipe, teacher.shape, {**kept, **facts})
