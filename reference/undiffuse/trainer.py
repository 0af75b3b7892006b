"""A training run: the parts of ``training`` in one loop, resumable to the bit.

The loop knows neither images nor sound: data are a tensor (N, C, ...) and perhaps labels (N,).
Every draw comes from one generator that is kept in the checkpoint, so that a run that was stopped
at any moment and goes on ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undiffuse.guidance import drop_labels
from undiffuse.losses import loss_weight
from undiffuse.prediction import target
from undiffuse.recipes import Recipe
from undiffuse.schedules import Schedule
from undiffuse.training import (
    EMA,
    augment,
    clip_and_report,
    load_checkpoint,
    lr_at,
    sample_times,
    save_checkpoint,
)
from undiffuse.unet import UNet

LOG_SNR_RANGE = (-12.0, 10.0)


class Diverged(RuntimeError):
    """The loss stopped being finite; the message says at which step and where good weights are."""


@dataclass
class Run:
    """What a run has made: the network with averaged weights, and its history."""

    recipe: Recipe
    model: nn.Module
    schedule: Schedule
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0


def time_range(schedule: Schedule) -> tuple[float, float]:
    """The times that training and sampling visit: log SNR within ``LOG_SNR_RANGE``."""
    ends = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    inside = ends.clamp(*LOG_SNR_RANGE)
    low, high = schedule.time(inside).tolist()
    return low, high


def denoising_loss(
    model: nn.Module,
    schedule: Schedule,
    x0: torch.Tensor,
    t: torch.Tensor,
    noise: torch.Tensor,
    cond: torch.Tensor | None = None,
    prediction: str = "v",
    weight: str = "uniform",
    reduce: bool = True,
) -> torch.Tensor:
    """Mean squared error of the prediction at continuous times, weighted per sample.

    x0, noise: (B, ...); t: (B,) in [0, 1]. weight: "uniform", or "min-snr", which multiplies the
    x0 error by min(SNR, 5) in place of the weight that the plain loss amounts to (Hang et al.
    2023). Returns a number, or (B,) with ``reduce=False``.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    shape = (-1, *[1] * (x0.ndim - 1))
    x_t = alpha.to(x0.dtype).reshape(shape) * x0 + sigma.to(x0.dtype).reshape(shape) * noise
    wanted = target(prediction, x0, noise, alpha, sigma)
    errors = (model(x_t, t, cond) - wanted).square().flatten(1).mean(1)
    if weight == "min-snr":
        snr = (alpha / sigma).double().square()
        factor = loss_weight("min-snr", snr) / loss_weight(prediction, snr)
        errors = errors * factor.to(errors.dtype)
    return errors.mean() if reduce else errors


def batches(n: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless index batches: every epoch a new order, each index once an epoch, none left out."""
    if n < 1:
        raise ValueError("the set is empty")
    if batch > n:
        raise ValueError(f"a batch of {batch} is larger than the set of {n}: lower batch")
    order = torch.randperm(n, generator=generator)
    while True:
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(n, generator=generator)])
        yield order[:batch]
        order = order[batch:]


def check_data(x: torch.Tensor, labels: torch.Tensor | None, classes: int | None) -> None:
    """Refuses what cannot be trained on, and says what is wrong with it."""
    if x.ndim < 3 or not x.is_floating_point():
        raise ValueError(f"data must be float (N, C, ...), got {x.dtype} {tuple(x.shape)}")
    if not len(x):
        raise ValueError("the set is empty")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x).flatten(1).all(1)).sum())
        raise ValueError(f"{bad} of {len(x)} samples hold NaN or infinite values")
    if float(x.std()) == 0:
        raise ValueError("all values of the data are the same: there is nothing to learn")
    if classes is not None:
        if labels is None or len(labels) != len(x):
            raise ValueError(f"the network knows {classes} classes: labels ({len(x)},) are wanted")
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise ValueError(
                f"labels must be 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )


def train(
    recipe: Recipe,
    x: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    folder: str | os.PathLike | None = None,
    save_every: float = 60.0,
    on_step: Callable[[int, int, float, nn.Module], None] | None = None,
    device: str | torch.device = "cpu",
    model: nn.Module | None = None,
) -> Run:
    """Trains what ``recipe`` says on ``x`` (N, C, ...) in model range, ``labels`` (N,) int64.

    folder: where ``state.pt`` (for going on) and ``log.jsonl`` are kept; a run that finds them
    goes on from there. save_every: seconds between checkpoints. on_step(step, of, loss, model) is
    called after every step. Raises Diverged when the loss is no longer finite; the last good
    state stays on disk. KeyboardInterrupt saves first.
    """
    network = dict(recipe.network)
    check_data(x, labels, network.get("classes"))
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    if model is None:
        model = UNet(in_channels=x.shape[1], dims=x.ndim - 2, **network)
    model = model.to(device)
    if x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
    schedule = recipe.make_schedule()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    ema = EMA(model, recipe.ema)
    loop = _Loop(recipe, x, labels, model, ema, optimizer, schedule, generator, device)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        loop.resume(Path(folder))
    loop.run(on_step, save_every)
    ema.copy_to(model)
    model.eval()
    return Run(recipe, model, schedule, loop.losses, loop.seconds, loop.step)


class _Loop:
    """The state of a run; what it needs to go on is in ``save`` and ``resume``."""

    def __init__(self, recipe, x, labels, model, ema, optimizer, schedule, generator, device):
        self.recipe, self.x, self.labels = recipe, x, labels
        self.model, self.ema, self.optimizer = model, ema, optimizer
        self.schedule, self.generator, self.device = schedule, generator, device
        self.low, self.high = time_range(schedule)
        self.null = recipe.network.get("classes")
        self.order = torch.empty(0, dtype=torch.int64)
        self.total, self.step, self.seconds = recipe.steps, 0, 0.0
        self.losses: list[float] = []
        self.folder: Path | None = None
        if recipe.batch > len(x):
            raise ValueError(
                f"a batch of {recipe.batch} is larger than the set of {len(x)}: lower batch"
            )

    def next_batch(self) -> torch.Tensor:
        while len(self.order) < self.recipe.batch:
            more = torch.randperm(len(self.x), generator=self.generator)
            self.order = torch.cat([self.order, more])
        index, self.order = self.order[: self.recipe.batch], self.order[self.recipe.batch :]
        return index

    def one_step(self) -> float:
        recipe, g = self.recipe, self.generator
        index = self.next_batch()
        x0 = self.x[index]
        if recipe.shift or recipe.flip:
            x0 = augment(x0, g, recipe.shift, recipe.flip)
        t = self.low + (self.high - self.low) * sample_times(len(index), g)
        noise = torch.randn(x0.shape, generator=g)
        cond = None
        if self.null is not None:
            cond = drop_labels(self.labels[index], recipe.drop_labels, self.null, g)
            cond = cond.to(self.device)
        x0, t, noise = (a.to(self.device) for a in (x0, t, noise))
        self.model.train()
        rate = lr_at(self.step, recipe.warmup, self.total, recipe.lr, recipe.final_lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = denoising_loss(
            self.model, self.schedule, x0, t, noise, cond, recipe.prediction, recipe.weight
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_and_report(self.model.parameters(), recipe.clip or math.inf)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            kept = f"; the last good state is {self.folder / 'state.pt'}" if self.folder else ""
            raise Diverged(
                f"the loss is {value} and the gradient's norm {norm} at step {self.step}{kept}. "
                f"Try a lower lr than {recipe.lr:g}, or a longer warmup"
            )
        self.optimizer.step()
        self.ema.update(self.model)
        self.step += 1
        self.losses.append(value)
        return value

    def run(self, on_step: Callable | None, save_every: float) -> None:
        start = saved = time.monotonic()
        before = self.seconds
        budget = self.recipe.seconds
        try:
            while self.step < self.total:
                loss = self.one_step()
                now = time.monotonic()
                self.seconds = before + now - start
                if budget and self.step == PACE_STEPS:
                    self.total = max(
                        PACE_STEPS + 1, int(budget / (self.seconds / PACE_STEPS) * PACE_SHARE)
                    )
                if on_step:
                    on_step(self.step, self.total, loss, self.model)
                if self.folder and now - saved > save_every:
                    self.save()
                    saved = now
                if budget and self.seconds > budget:
                    break
        except KeyboardInterrupt:
            if self.folder:
                self.save()
            raise
        if self.folder:
            self.save()

    def save(self) -> None:
        save_checkpoint(
            self.folder / "state.pt",
            self.model,
            self.optimizer,
            self.ema,
            self.generator,
            self.step,
            order=self.order,
            losses=self.losses,
            seconds=self.seconds,
            total=self.total,
            recipe=json.dumps(self.recipe.to_dict()),
        )

    def resume(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "state.pt"
        if not path.exists():
            return
        step, extra = load_checkpoint(path, self.model, self.optimizer, self.ema, self.generator)
        if json.loads(extra["recipe"]) != json.loads(json.dumps(self.recipe.to_dict())):
            raise ValueError(
                f"{path} was made by another recipe; train into an empty folder, or take that one"
            )
        self.step, self.order = step, extra["order"]
        self.losses, self.seconds, self.total = extra["losses"], extra["seconds"], extra["total"]


PACE_STEPS = 20  # steps after which a run with a time budget decides how many it will make
PACE_SHARE = 0.97


def export(run: Run) -> dict[str, Any]:
    """What a checkpoint file holds besides weights: the recipe and what came of it."""
    return {"recipe": run.recipe.to_dict(), "steps": run.steps, "seconds": round(run.seconds, 1)}
