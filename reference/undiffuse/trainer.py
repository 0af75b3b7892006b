"""A training run: the parts of ``training`` in one loop, resumable to the bit.

The loop knows neither images nor sound: data are a tensor (N, C, ...) and perhaps labels (N,).
Every draw comes from one generator that is kept in the checkpoint, so that a run that was stopped
at any moment and goes on ends with the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
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
PACE_STEPS = 20  # a run with a time budget estimates after so many how many it can make
PACE_SHARE = 0.98  # of the time is planned for steps
LOG_STEPS = 25
TOO_HIGH, PATIENCE = 10.0, 50


class Diverged(RuntimeError):
    """The loss stopped being finite, or sensible; the message says when, and what is left.

    run: the run up to there, its network with the last good averaged weights.
    """

    run: Run | None = None


@dataclass
class Run:
    """What a run has made: the network with averaged weights, and its history."""

    recipe: Recipe
    model: nn.Module
    schedule: Schedule
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    norms: list[float] = field(default_factory=list)


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


def check_data(x: torch.Tensor, labels: torch.Tensor | None, classes: int | None) -> None:
    """Refuses what cannot be trained on, and says what is wrong with it."""
    if x.ndim < 3 or not x.is_floating_point():
        raise ValueError(f"data must be float (N, C, ...), got {x.dtype} {tuple(x.shape)}")
    if not len(x):
        raise ValueError("the set is empty")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x).flatten(1).all(1)).sum())
        raise ValueError(f"{bad} of {len(x)} samples hold NaN or infinite values")
    if x.min() == x.max():
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
    called after every step; its time counts as time of the run. With a recipe's ``seconds``, the
    number of steps is estimated anew every ``PACE_STEPS``, and the learning rate follows it.

    Ctrl-C lets the step under way finish, saves, and raises KeyboardInterrupt. Raises Diverged when
    the loss is no longer finite, or has been ``TOO_HIGH`` times its first value for ``PATIENCE``
    steps; a state from before that stays on disk.
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
    try:
        loop.run(on_step, save_every)
    except Diverged as error:
        model.load_state_dict(loop.good)
        error.run = loop.finished()
        raise
    ema.copy_to(model)
    return loop.finished()


@contextlib.contextmanager
def held_interrupts() -> Iterator[list[int]]:
    """Ctrl-C inside only notes itself in the list, so that no step is torn; a second one is let
    through. Elsewhere than in the main thread nothing is held."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


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
        self.norms: list[float] = []
        self.good = self.averaged()
        self.folder: Path | None = None
        if recipe.batch > len(x):
            raise ValueError(
                f"a batch of {recipe.batch} is larger than the set of {len(x)}: lower batch"
            )

    def averaged(self) -> dict[str, torch.Tensor]:
        """A copy of the averaged weights."""
        return {k: v.clone() for k, v in self.ema.shadow.items()}

    def finished(self) -> Run:
        """The run as it is."""
        self.model.eval()
        return Run(
            self.recipe, self.model, self.schedule, self.losses, self.seconds, self.step, self.norms
        )

    def rate(self) -> float:
        """The learning rate of the coming step; a short run warms up in a fifth of its steps."""
        warmup = min(self.recipe.warmup, self.total // 5)
        return lr_at(self.step, warmup, self.total, self.recipe.lr, self.recipe.final_lr)

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
        rate = self.rate()
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
            raise self.diverged(f"the loss is {value} and the gradient's norm {norm}")
        self.optimizer.step()
        self.ema.update(self.model)
        self.step += 1
        self.losses.append(value)
        self.norms.append(norm)
        return value

    def diverged(self, what: str) -> Diverged:
        kept = ""
        if self.folder and (self.folder / "state.pt").exists():
            kept = f"; the last good state is {self.folder / 'state.pt'}"
        return Diverged(
            f"{what} at step {self.step}{kept}. Try a lower lr than {self.recipe.lr:g}, or a "
            "longer warmup"
        )

    def sensible(self) -> bool:
        """Whether the last losses are near what they were; raises Diverged if none of them is."""
        recent = self.losses[-PATIENCE:]
        limit = TOO_HIGH * self.losses[0]
        if len(recent) == PATIENCE and min(recent) > limit:
            raise self.diverged(
                f"the loss, {recent[-1]:.3g}, has been above {limit:.3g} for {PATIENCE} steps"
            )
        return max(recent) <= limit

    def run(self, on_step: Callable | None, save_every: float) -> None:
        start = saved = time.monotonic()
        before = self.seconds
        budget = self.recipe.seconds
        with held_interrupts() as asked:
            while self.step < self.total:
                loss = self.one_step()
                now = time.monotonic()
                self.seconds = before + now - start
                if budget and self.step % PACE_STEPS == 0:
                    pace = self.seconds / self.step
                    self.total = max(self.step + 1, int(budget * PACE_SHARE / pace))
                sensible = self.sensible()
                if sensible and self.step % PACE_STEPS == 0:
                    self.good = self.averaged()
                if self.step % LOG_STEPS == 0:
                    self.log()
                try:
                    if on_step:
                        on_step(self.step, self.total, loss, self.model)
                    if asked:
                        raise KeyboardInterrupt
                except KeyboardInterrupt:
                    if self.folder and sensible:
                        self.save()
                    raise
                first = self.step == PACE_STEPS
                if self.folder and sensible and (first or now - saved > save_every):
                    self.save()
                    saved = now
                if budget and self.seconds > budget:
                    break
        if self.folder:
            self.save()

    def log(self) -> None:
        """One line of ``log.jsonl``: means of the last ``LOG_STEPS`` steps."""
        if self.folder is None:
            return
        mean = {k: sum(v[-LOG_STEPS:]) / LOG_STEPS
                for k, v in (("loss", self.losses), ("norm", self.norms))}  # fmt: skip
        line = {"step": self.step, **mean, "lr": self.rate(), "seconds": round(self.seconds, 2)}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")

    def trim_log(self) -> None:
        """Takes lines of steps that are to be made again out of the log."""
        path = self.folder / "log.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= self.step]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

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
            norms=self.norms,
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
        if json.loads(extra.get("recipe", "null")) != json.loads(json.dumps(self.recipe.to_dict())):
            raise ValueError(
                f"{path} was made by another recipe; train into an empty folder, or take that one"
            )
        self.step, self.order = step, extra["order"]
        self.losses, self.norms = extra["losses"], extra["norms"]
        self.seconds, self.total = extra["seconds"], extra["total"]
        self.good = self.averaged()
        self.trim_log()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed
        return math.inf


def facts(run: Run, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a checkpoint file tells of its run: steps, seconds and the machine."""
    if str(device).startswith("cuda"):
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{torch.get_num_threads()} threads of a {device}".replace("cpu", "CPU")
    return {"steps": run.steps, "seconds": round(run.seconds, 1), "machine": machine}
