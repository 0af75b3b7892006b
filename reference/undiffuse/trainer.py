"""A training run: the parts of ``training`` in one loop, resumable to the bit.

The loop knows neither images nor sound: data are a tensor (N, C, ...) and perhaps labels (N,).
Every draw comes from one generator that is kept in the checkpoint, so that a run that was stopped
at any moment and goes on ends with the same weights as one that was not. Several processes train as
one (``team``), and looking at a run changes nothing in it (``watch``).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undiffuse import watch
from undiffuse.affine import augment_conditioned
from undiffuse.checkpoints import Checkpoint, load
from undiffuse.finetune import add_lora, freeze, merge_lora, take_weights
from undiffuse.guidance import drop_labels
from undiffuse.losses import loss_weight
from undiffuse.optim import make_optimizer
from undiffuse.prediction import target
from undiffuse.recipes import Recipe, RecipeError, from_dict
from undiffuse.schedules import Schedule
from undiffuse.sound import augment_audio
from undiffuse.team import Team, join
from undiffuse.text import drop_words
from undiffuse.training import (
    EMA,
    augment,
    clip_and_report,
    load_checkpoint,
    logit_normal_t,
    lr_at,
    sample_times,
    save_checkpoint,
)

LOG_SNR_RANGE = (-12.0, 10.0)
PACE_STEPS = 20  # a run with a time budget estimates after so many how many it can make
PACE_SHARE = 0.98  # of the time is planned for steps
LOG_STEPS = 25
TOO_HIGH, PATIENCE = 10.0, 50
# Entries that change no weight (accumulate changes rounding, as the number of processes does).
NOT_TRAINING = ("validate_every", "sample_every", "guidance", "guidance_interval", "expander",
                "accumulate")  # fmt: skip


class Diverged(RuntimeError):
    """The loss stopped being finite, or sensible; the message says when, and what is left.

    run: the run up to there, its network with the last good averaged weights.
    """

    run: Run | None = None


@dataclass
class Run:
    """What a run has made: the network with averaged weights, and its history.

    The network knows data times ``recipe.scale``. validation: (step, loss of each noise level),
    where the recipe says ``validate_every``.
    """

    recipe: Recipe
    model: nn.Module
    schedule: Schedule
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    norms: list[float] = field(default_factory=list)
    validation: list[tuple[int, list[float]]] = field(default_factory=list)


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
    augmentation: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the prediction at continuous times, weighted per sample.

    x0, noise: (B, ...); t: (B,) in [0, 1]. weight: "uniform", or "min-snr", which multiplies the
    x0 error by min(SNR, 5) in place of the weight that the plain loss amounts to (Hang et al.
    2023). augmentation: what the network is told of how x0 was altered
    (``affine.augment_conditioned``), or None. Returns a number, or (B,) with ``reduce=False``.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    shape = (-1, *[1] * (x0.ndim - 1))
    x_t = alpha.to(x0.dtype).reshape(shape) * x0 + sigma.to(x0.dtype).reshape(shape) * noise
    wanted = target(prediction, x0, noise, alpha, sigma)
    told = () if augmentation is None else (augmentation,)
    errors = (model(x_t, t, cond, *told) - wanted).square().flatten(1).mean(1)
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
    blank = int((x.flatten(1).amin(1) == x.flatten(1).amax(1)).sum())
    if blank == len(x):
        raise ValueError("every sample holds one value everywhere: there is nothing to learn")
    if blank:
        warnings.warn(
            f"{blank} of {len(x)} samples hold one value everywhere: are they meant to be blank?",
            stacklevel=2,
        )
    if classes is None and _is_condition(labels):
        if len(labels) != len(x):
            raise ValueError(f"there are {len(labels)} conditions for {len(x)} samples")
        if labels.is_floating_point() and not torch.isfinite(labels).all():
            raise ValueError("the conditions hold NaN or infinite values")
    if classes is not None:
        if labels is None or len(labels) != len(x):
            raise ValueError(f"the network knows {classes} classes: labels ({len(x)},) are wanted")
        if labels.is_floating_point() or labels.ndim != 1:
            raise ValueError(
                f"labels must be int64 ({len(x)},), got {labels.dtype} {tuple(labels.shape)}"
            )
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise ValueError(
                f"labels must be 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )


def _is_condition(labels: torch.Tensor | None) -> bool:
    """Whether labels are no classes, but what a network of another kind is conditioned on."""
    return labels is not None and (labels.is_floating_point() or labels.ndim > 1)


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
    validation: tuple[torch.Tensor, torch.Tensor | None] | None = None,
) -> Run:
    """Trains what ``recipe`` says on ``x`` (N, C, ...) in model range, ``labels`` (N,) int64.

    The network learns ``recipe.scale * x``; ``x`` itself is what the set has.

    Where the network has no classes, ``labels`` may be conditions of another kind, floating point
    or (N, ...) of more than one axis: a mel for each sound, say. ``model`` gets them as they are.
    Prompts, tokens int64 (N, L), are left out where the recipe's network has no ``text``.

    folder: where ``state.pt`` (for going on) and ``log.jsonl`` are kept; a run that finds them
    goes on from there. save_every: seconds between checkpoints. on_step(step, of, loss, model) is
    called after every step; its time counts as time of the run. With a recipe's ``seconds``, the
    number of steps is estimated anew every ``PACE_STEPS``, and the learning rate follows it.

    validation: data as ``x`` and ``labels`` are, for ``validate_every``. device: "cpu", "cuda" or
    "mps". Under ``torchrun`` every process calls this with the same arguments; the first one writes
    and is the only one to call ``on_step``; a recipe's ``batch`` is that of all together.

    Ctrl-C lets the step under way finish, saves, and raises KeyboardInterrupt. Raises Diverged when
    the loss is no longer finite, or has been ``TOO_HIGH`` times its first value for ``PATIENCE``
    steps; a state from before that stays on disk.
    """
    if recipe.distilled:
        raise ValueError(
            f"{recipe.name} was distilled from {recipe.distilled['teacher']}: training on data "
            "would make another network; see undiffuse.distillation"
        )
    network = dict(recipe.network)
    if recipe.told and not _is_condition(labels):
        raise ValueError("the network reads prompts: tokens int64 (N, L) are wanted for labels")
    if model is None and recipe.source.told and not recipe.told:
        labels = None  # prompts, and the recipe's network reads none
        validation = None if validation is None else (validation[0], None)
    check_data(x, labels, network.get("classes"))
    if recipe.validate_every:
        if validation is None:
            raise ValueError("the recipe has validate_every: pass validation=(x, labels)")
        check_data(*validation, network.get("classes"))
    team = join(device)
    device = team.device if team.size > 1 else device
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    if model is None:
        model = recipe.make_network(tuple(x.shape[1:]))
    going_on = folder is not None and (Path(folder) / "state.pt").exists()
    begin(recipe, model, read=not going_on)
    model = model.to(device)
    if recipe.precision == "float64":
        model, x = model.double(), x.double()
    if x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
    schedule = recipe.make_schedule()
    optimizer = make_optimizer(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
    ema = EMA(model, recipe.ema)
    loop = _Loop(recipe, x, labels, model, ema, optimizer, schedule, generator, device)
    loop.team, loop.validation_data = team, validation
    if recipe.batch < team.size * recipe.accumulate:
        raise ValueError(
            f"a batch of {recipe.batch} cannot be shared by {team.size} processes in "
            f"{recipe.accumulate} parts each"
        )
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        loop.resume(Path(folder))
        latest, earliest = team.most(loop.step, -loop.step)
        if latest != -earliest:
            raise ValueError("the processes do not see the same folder")
    try:
        loop.run(on_step, save_every)
    except Diverged as error:
        model.load_state_dict(loop.good)
        error.run = loop.finished()
        raise
    ema.copy_to(model)
    return loop.finished()


def begin(recipe: Recipe, model: nn.Module, read: bool = True) -> None:
    """Makes a new network what the recipe says it begins as: ``init``, then ``freeze`` or ``lora``.

    In place. read: False leaves the weights of ``init`` out, where a state that holds them is to be
    loaded. Raises RecipeError where the checkpoint and the recipe do not go together, and
    CheckpointError where there is none.
    """
    if recipe.init and read:
        found = load(recipe.init)
        for key in ("prediction", "schedule", "schedule_options", "scale"):
            here, there = getattr(recipe, key), getattr(found.recipe, key)
            if here != there:
                raise RecipeError(
                    f"{key} = {here!r}, but init = {recipe.init!r} was trained with {there!r}"
                )
        if recipe.told and found.recipe.told and found.vocab != recipe.source.vocab:
            raise RecipeError(
                f"init = {recipe.init!r} learnt {len(found.vocab)} words, which are not the "
                f"{len(recipe.source.vocab)} of {recipe.data}"
            )
        try:
            take_weights(model, found.model.state_dict())
        except ValueError as error:
            raise RecipeError(f"init = {recipe.init!r}: {error}") from None
    try:
        if recipe.freeze:
            freeze(model, recipe.freeze)
        if recipe.lora:
            add_lora(model, recipe.lora)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if recipe.freeze and not any(p.requires_grad for p in model.parameters()):
        raise RecipeError(f"freeze = {list(recipe.freeze)}: nothing is left to learn")


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


@contextlib.contextmanager
def pictures_if_possible() -> Iterator[None]:
    """A machine that has torch and no matplotlib or Pillow trains as well, without pictures."""
    try:
        yield
    except ModuleNotFoundError as error:
        warnings.warn(f"no picture of the run: {error}", stacklevel=3)


class _Loop:
    """The state of a run; what it needs to go on is in ``save`` and ``resume``."""

    def __init__(self, recipe, x, labels, model, ema, optimizer, schedule, generator, device):
        self.recipe, self.x, self.labels = recipe, x, labels
        self.model, self.ema, self.optimizer = model, ema, optimizer
        self.schedule, self.generator, self.device = schedule, generator, device
        self.low, self.high = time_range(schedule)
        self.null = recipe.network.get("classes")
        # An amount that the recipe does not name is none, not what random_affine does by itself.
        self.limits = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0} | recipe.affine
        self.order = torch.empty(0, dtype=torch.int64)
        self.total, self.step, self.seconds = recipe.steps, 0, 0.0
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.validation: list[tuple[int, list[float]]] = []
        self.validation_data: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.team = Team()
        self.twin: nn.Module | None = None
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
        if self.recipe.lora:
            merge_lora(self.model)
        if self.recipe.freeze:
            self.model.requires_grad_(True)
        return Run(
            self.recipe,
            self.model,
            self.schedule,
            self.losses,
            self.seconds,
            self.step,
            self.norms,
            self.validation,
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
        if x0.ndim == 3 and (recipe.shift or recipe.gain or recipe.polarity):
            x0 = augment_audio(x0, g, (-recipe.gain, 0.0), recipe.shift, recipe.polarity)
        elif recipe.shift or recipe.flip:
            x0 = augment(x0, g, recipe.shift, recipe.flip)
        amounts = None
        if recipe.affine:
            x0, amounts = augment_conditioned(x0, g, recipe.affine_share, **self.limits)
        told = amounts if recipe.affine_told else None
        x0 = recipe.scale * x0
        t = self.low + (self.high - self.low) * self.draw_times(len(index))
        noise = torch.randn(x0.shape, generator=g)
        cond = None
        if self.null is not None:
            cond = drop_labels(self.labels[index], recipe.drop_labels, self.null, g)
        elif recipe.told:
            cond = drop_words(self.labels[index], recipe.drop_words, g)
            cond = drop_labels(cond, recipe.drop_labels, recipe.null, g)
        elif _is_condition(self.labels):
            cond = self.labels[index]
        self.model.train()
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for rows in self.shares(len(index)):
            *part, altered = (
                None if a is None else a[rows].to(self.device) for a in (x0, t, noise, cond, told)
            )
            with self.autocast():
                loss = denoising_loss(
                    self.model,
                    self.schedule,
                    *part,
                    recipe.prediction,
                    recipe.weight,
                    augmentation=altered,
                )
            loss = loss * (len(part[0]) / len(index))
            loss.backward()
            value += loss.item()
        value = self.team.sum_gradients(self.model.parameters(), value)
        norm = clip_and_report(self.model.parameters(), recipe.clip or math.inf)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self.diverged(f"the loss is {value} and the gradient's norm {norm}")
        self.optimizer.step()
        self.ema.update(self.model)
        self.step += 1
        self.losses.append(value)
        self.norms.append(norm)
        return value

    def draw_times(self, batch: int) -> torch.Tensor:
        """(batch,) in [0, 1], of which the schedule's range is made."""
        recipe = self.recipe
        if recipe.times == "logit-normal":
            return logit_normal_t(batch, self.generator, recipe.times_mean, recipe.times_std)
        return sample_times(batch, self.generator, recipe.middle)

    def shares(self, batch: int) -> list[slice | torch.Tensor]:
        """Which rows of a batch go through the network here, in the parts that the recipe says."""
        mine = self.team.mine(batch)
        if self.recipe.accumulate == 1:
            return [mine]
        return list(torch.arange(batch)[mine].chunk(self.recipe.accumulate))

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 for the network where the recipe says so; on CUDA it does by itself."""
        kind = torch.device(self.device).type
        half = self.recipe.precision == "bfloat16"
        auto = self.recipe.precision == "auto" and kind == "cuda"
        if half or (auto and torch.cuda.is_bf16_supported(including_emulation=False)):
            return torch.autocast(kind, torch.bfloat16)
        return contextlib.nullcontext()

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
                # All processes must take the same decisions: by the slowest of their clocks.
                self.seconds, stop = self.team.most(before + now - start, bool(asked))
                if budget and self.step % PACE_STEPS == 0:
                    pace = self.seconds / self.step
                    self.total = max(self.step + 1, int(budget * PACE_SHARE / pace))
                sensible = self.sensible()
                if sensible and self.step % PACE_STEPS == 0:
                    self.good = self.averaged()
                if self.step % LOG_STEPS == 0:
                    self.log()
                self.look()
                try:
                    if on_step and self.team.leads:
                        on_step(self.step, self.total, loss, self.model)
                    if stop or (asked and self.team.size == 1):
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
        self.look(last=True)
        if self.folder:
            self.save()
            if self.team.leads:
                with pictures_if_possible():
                    watch.curves(
                        self.losses, self.validation, self.log_snr(), self.folder / "curves.png"
                    )

    def log_snr(self) -> list[float]:
        """Of the noise levels that validation tells apart."""
        return watch.level_middles(self.schedule, self.low, self.high).tolist()

    def look(self, last: bool = False) -> None:
        """Validation loss and samples of the averaged weights, where it is time for them."""

        def due(every: int) -> bool:
            return bool(every) and (last or self.step % every == 0)

        recipe = self.recipe
        known = bool(self.validation) and self.validation[-1][0] == self.step
        validate = due(recipe.validate_every) and not known
        picture = self.folder is not None and due(recipe.sample_every)
        if not self.team.leads or not (validate or picture):
            return
        if self.twin is None:
            self.twin = copy.deepcopy(self.model).float()
        self.ema.copy_to(self.twin)
        self.twin.eval()
        if validate:
            x, labels = self.validation_data
            found = watch.loss_by_level(
                self.level_loss,
                x,
                labels if self.null is not None or _is_condition(labels) else None,
                self.low,
                self.high,
            )
            self.validation.append((self.step, [round(v, 6) for v in found.tolist()]))
            self.write_log(
                {
                    "step": self.step,
                    "validation": self.validation[-1][1],
                    "log_snr": [round(v, 3) for v in self.log_snr()],
                    "seconds": round(self.seconds, 2),
                }
            )
        if picture:
            found = Checkpoint(
                recipe.name, self.twin, self.schedule, recipe, tuple(self.x.shape[1:])
            )
            with pictures_if_possible():
                watch.draw_samples(found, self.folder / f"samples-{self.step:06d}.png")

    def level_loss(self, x0, t, noise, cond) -> torch.Tensor:
        """The plain loss of each sample (B,), of the averaged weights."""
        x0, t, noise = (a.to(self.device) for a in (self.recipe.scale * x0, t, noise))
        cond = None if cond is None else cond.to(self.device)
        with self.autocast():
            return denoising_loss(
                self.twin,
                self.schedule,
                x0,
                t,
                noise,
                cond,
                self.recipe.prediction,
                reduce=False,
            )

    def log(self) -> None:
        """One line of ``log.jsonl``: means of the last ``LOG_STEPS`` steps."""
        mean = {k: sum(v[-LOG_STEPS:]) / LOG_STEPS
                for k, v in (("loss", self.losses), ("norm", self.norms))}  # fmt: skip
        line = {"step": self.step, **mean, "lr": self.rate(), "seconds": round(self.seconds, 2)}
        self.write_log(line)

    def write_log(self, line: dict[str, Any]) -> None:
        """Adds a line to ``log.jsonl``."""
        if self.folder is None or not self.team.leads:
            return
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
        if not self.team.leads:
            return
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
            validation=self.validation,
            cuda_rng=self.cuda_rng(),
            recipe=json.dumps(self.recipe.to_dict()),
        )

    def cuda_rng(self) -> torch.Tensor | None:
        """The state of what draws dropout on a GPU, where there is one."""
        on_gpu = torch.device(self.device).type == "cuda"
        return torch.cuda.get_rng_state(self.device) if on_gpu else None

    def resume(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "state.pt"
        if not path.exists():
            return
        step, extra = load_checkpoint(path, self.model, self.optimizer, self.ema, self.generator)
        if not self.same_run(extra.get("recipe", "{}")):
            raise ValueError(
                f"{path} was made by another recipe; train into an empty folder, or take that one"
            )
        self.step, self.order = step, extra["order"]
        self.losses, self.norms = extra["losses"], extra["norms"]
        self.seconds, self.total = extra["seconds"], extra["total"]
        self.validation = [tuple(line) for line in extra.get("validation", [])]
        if self.cuda_rng() is not None and extra.get("cuda_rng") is not None:
            torch.cuda.set_rng_state(extra["cuda_rng"], self.device)
        self.good = self.averaged()
        if self.team.leads:
            self.trim_log()

    def same_run(self, text: str) -> bool:
        """Whether a recipe (JSON) leads to the same weights; how it is watched may differ."""
        try:
            other = from_dict(json.loads(text))
        except ValueError:
            return False
        mine = from_dict(json.loads(json.dumps(self.recipe.to_dict())))
        others = {k: getattr(mine, k) for k in NOT_TRAINING}
        return replace(other, **others) == mine


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed
        return math.inf


def facts(run: Run, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a checkpoint file tells of its run: steps, seconds, machine, and words it learnt."""
    found = {"steps": run.steps, "seconds": round(run.seconds, 1)} | machine_of(device)
    found["samples_per_second"] = round(samples_per_second(run), 1)
    return found | ({"words": list(run.recipe.source.vocab)} if run.recipe.told else {})


def machine_of(device: str | torch.device = "cpu") -> dict[str, str]:
    """{"machine": what a network was trained on}."""
    if str(device).startswith("cuda"):
        return {"machine": torch.cuda.get_device_name(device)}
    count = torch.get_num_threads()
    machine = f"{count} thread{'' if count == 1 else 's'} of a {device}".replace("cpu", "CPU")
    return {"machine": machine}


def samples_per_second(run: Run) -> float:
    """How fast a run went: samples of all processes, in its seconds."""
    return run.steps * run.recipe.batch / max(run.seconds, 1e-9)
