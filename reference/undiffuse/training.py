"""The parts of training: drawing times, one step, the averaged weights, the rate, validation,
checkpoints that go on to the bit, clipping, augmentation. ``trainer`` puts them together."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undiffuse._files import replacing
from undiffuse.losses import simple_loss


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another kind; the message says which."""


STATE = {"model", "optimizer", "ema", "generator", "global_rng", "step", "extra"}


def sample_timesteps(
    batch: int, T: int, generator: torch.Generator | None = None, stratified: bool = False
) -> torch.Tensor:
    """Uniform integers in [0, T - 1]: (batch,) int64.

    stratified: one draw in each of ``batch`` equal parts of [0, T), then shuffled, which evens out
    how much each noise level is trained (compare Kingma et al. 2021, VDM, appendix I.1, where all
    parts share one draw). Draws: plain, one ``torch.randint``; stratified, one
    ``torch.rand(batch)``, then one ``torch.randperm``.
    """
    if batch < 1 or T < 1:
        raise ValueError(f"batch and T must be at least 1, got {batch} and {T}")
    device = getattr(generator, "device", "cpu")
    if not stratified:
        return torch.randint(T, (batch,), generator=generator, device=device)
    u = torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)
    t = (u / batch * T).long().clamp(max=T - 1)
    return t[torch.randperm(batch, generator=generator, device=device)]


def sample_times(
    batch: int, generator: torch.Generator | None = None, middle: float = 0.0
) -> torch.Tensor:
    """Stratified continuous times in [0, 1): (batch,) float32, shuffled. Draws as above.

    middle in [0, 1): 0 is uniform; above it, times near 1/2 are drawn more often, u becoming
    u + middle sin(2 pi u) / (2 pi), so that the density is 1 / (1 - middle) times uniform at 1/2
    and 1 / (1 + middle) times at both ends.
    """
    if not 0 <= middle < 1:
        raise ValueError(f"middle must be in [0, 1), got {middle}")
    device = getattr(generator, "device", "cpu")
    u = torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)
    order = torch.randperm(batch, generator=generator, device=device)
    u = u / batch
    if middle:
        u = u + middle / (2 * math.pi) * torch.sin(2 * math.pi * u)
    return u.clamp(0, 1 - 2**-24)[order]


def logit_normal_t(
    batch: int, generator: torch.Generator | None = None, mean: float = 0.0, std: float = 1.0
) -> torch.Tensor:
    """Times t = sigmoid(mean + std z) with z standard normal: (batch,) float32 in (0, 1), shuffled.

    Most often in the middle, hardly ever at the ends; mean above 0 moves them towards noise. The z
    are stratified: those of ``sample_times``, put through the normal distribution's quantiles; the
    same draws. Esser et al. 2024 ("Scaling rectified flow transformers"), eq. 19. Raises ValueError
    for a batch below 1, std not above 0 or a mean that is not finite.
    """
    if batch < 1 or not (0 < std < math.inf and math.isfinite(mean)):
        raise ValueError(
            f"batch must be at least 1, std above 0 and mean finite; got {batch}, {std}, {mean}"
        )
    u = sample_times(batch, generator).double().clamp(2**-26, 1 - 2**-26)
    return torch.sigmoid(mean + std * torch.special.ndtri(u)).float().clamp(2**-24, 1 - 2**-24)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x0: torch.Tensor,
    alpha_bar: torch.Tensor,
    generator: torch.Generator | None = None,
    cond: torch.Tensor | None = None,
    prediction: str = "eps",
) -> float:
    """One step of gradient descent on ``simple_loss``; returns the loss as a float.

    Puts the model into training mode. Draws t by ``sample_timesteps(B, T, generator)``, then the
    noise by ``torch.randn(x0.shape)``. Ho et al. 2020, algorithm 1.
    """
    model.train()
    t = sample_timesteps(len(x0), len(alpha_bar), generator).to(x0.device)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


class EMA:
    """An exponential moving average of a model's weights, and a copy of its buffers.

    After ``update`` number n (from 1) each weight is d w + (1 - d) w_model with
    d = min(decay, (1 + n) / (10 + n)): early on, when weights still move far, the average is
    short. ``shadow``: name -> tensor, without gradients, sharing no memory with the model.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # Tied weights have several names, each of which is in the state.
        trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        averages, values = [], []
        for name, value in model.state_dict().items():
            if name in trained:
                averages.append(self.shadow[name])
                values.append(value.detach())
            else:
                self.shadow[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - d)

    def copy_to(self, model: nn.Module) -> None:
        """Loads the average into ``model``."""
        model.load_state_dict(self.shadow)

    def state_dict(self) -> dict[str, Any]:
        return {"decay": self.decay, "updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.decay, self.updates = state["decay"], state["updates"]
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)


def lr_at(step: int, warmup: int, total: int, base_lr: float, final: float = 0.0) -> float:
    """The learning rate of step ``step`` (from 0): linear warm-up, then half a cosine.

    base_lr (step + 1) / warmup while step < warmup; then from base_lr (at step = warmup) down to
    ``final`` at step = total - 1 and ever after. Loshchilov & Hutter 2016, eq. 5, one cycle.
    """
    if step < warmup:
        return base_lr * (step + 1) / warmup
    part = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    return final + 0.5 * (base_lr - final) * (1 + math.cos(math.pi * part))


@torch.no_grad()
def validation_loss(
    model: nn.Module,
    data: torch.Tensor,
    alpha_bar: torch.Tensor,
    bins: int = 10,
    seed: int = 0,
    prediction: str = "eps",
    cond: torch.Tensor | None = None,
    batch: int = 250,
) -> torch.Tensor:
    """Mean loss of ``data`` (N, ...) in ``bins`` parts of [0, T): (bins,) float64.

    Sample i gets the time of part i % bins, at a place within it that is drawn, and noise, all
    from a generator of its own seeded with ``seed``: the same at every call, so that two calls
    differ by the model alone. Draws: one ``torch.rand(N)`` in float64 for the places, t being
    floor((part + place) / bins * T); then one ``torch.randn(data.shape)``. At most ``batch``
    samples go through the model at once; each counts the same, however they fall. The model is in
    evaluation mode meanwhile, and then as it was. Raises ValueError for fewer samples than bins.
    """
    generator = torch.Generator().manual_seed(seed)
    T, n = len(alpha_bar), len(data)
    if n < bins:
        raise ValueError(f"{n} samples cannot fill {bins} bins")
    part = torch.arange(n) % bins
    place = torch.rand(n, generator=generator, dtype=torch.float64)
    t = ((part + place) / bins * T).long()
    noise = torch.randn(data.shape, generator=generator, dtype=data.dtype)
    device = data.device
    total = torch.zeros(bins, dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        for k in range(bins):
            for rows in (part == k).nonzero()[:, 0].split(batch):
                y = None if cond is None else cond[rows]
                x0, z = data[rows], noise[rows].to(device)
                loss = simple_loss(model, x0, t[rows].to(device), alpha_bar, z, y, prediction)
                total[k] += loss.item() * len(rows)
    finally:
        model.train(was_training)
    return total / torch.bincount(part, minlength=bins)


def save_checkpoint(
    path: str | os.PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    generator: torch.Generator,
    step: int,
    **extra: Any,
) -> None:
    """Everything that training needs to go on to the bit, written atomically.

    extra: plain data (numbers, text, lists, dicts, tensors). An interrupted write leaves the old
    file; a full disk raises OSError, and leaves it too.
    """
    path = Path(path)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": ema.state_dict() if ema else None,
        "generator": generator.get_state(),
        "global_rng": torch.get_rng_state(),
        "step": step,
        "extra": extra,
    }
    try:
        with replacing(path) as temporary, open(temporary, "wb") as f:
            torch.save(state, f)
            f.flush()
            os.fsync(f.fileno())
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"the checkpoint {path} could not be written ({error}); the one before is untouched"
        ) from error


def load_checkpoint(
    path: str | os.PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    generator: torch.Generator,
) -> tuple[int, dict[str, Any]]:
    """(step, extra) of a checkpoint, with everything put back where it was.

    Reads with ``weights_only=True``: a file from elsewhere cannot run code. Raises
    CheckpointError for a file that is missing, damaged, or of another model.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}") from None
    except Exception as error:
        raise CheckpointError(f"{path} is no checkpoint or is damaged: {error}") from None
    lacks = STATE - set(state if isinstance(state, dict) else ())
    if lacks:
        raise CheckpointError(f"{path} is no training checkpoint: it lacks {sorted(lacks)}")
    if ema is not None and state["ema"] is None:
        raise CheckpointError(f"{path} holds no averaged weights, and they are asked for")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["global_rng"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} belongs to another model or run: {error}") from None
    return state["step"], state["extra"]


def clip_and_report(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scales all gradients together to a norm of at most ``max_norm``; returns the norm before."""
    return float(nn.utils.clip_grad_norm_(list(parameters), max_norm))


def augment(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    shift: int = 2,
    flip: bool = False,
    fill: float = -1.0,
) -> torch.Tensor:
    """Each image (B, C, H, W) moved by its own whole-pixel shift, and mirrored if ``flip``.

    Shifts are uniform in [-shift, shift] down and right; what comes in from outside is ``fill``.
    flip: each with probability 1/2, left to right (never for digits or letters). Draws: one
    ``torch.randint`` (B, 2), then with flip one ``torch.rand(B)``. Returns a new tensor.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be (B, C, H, W), got shape {tuple(x.shape)}")
    b, _, h, w = x.shape
    moves = torch.randint(-shift, shift + 1, (b, 2), generator=generator)
    padded = nn.functional.pad(x, [shift] * 4, value=fill)
    rows = (shift - moves[:, 0, None] + torch.arange(h)).to(x.device)
    columns = (shift - moves[:, 1, None] + torch.arange(w)).to(x.device)
    index = torch.arange(b, device=x.device)[:, None, None]
    out = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    out = out.permute(0, 3, 1, 2).contiguous()
    if flip:
        mirrored = (torch.rand(b, generator=generator) < 0.5).to(x.device)
        out = torch.where(mirrored[:, None, None, None], out.flip(3), out)
    return out
