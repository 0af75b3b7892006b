"""Repairing and changing real data with a trained network, which is not trained for it.

    inpaint(checkpoint, x, mask)             holes in images and sound   (RePaint)
    redraw(checkpoint, x, strength)          other versions of the same  (SDEdit)
    restore(checkpoint, y, measure, shape)   what y = A(x) was           (posterior guidance)
    fill_gap(checkpoint, audio, start, stop) a gap in a sound            (RePaint, and its seams)

Data are (N, C, H, W) or (N, C, L) in [-1, 1], as ``draw.draw`` gives them, whatever range the
network knows. Each of the N results is one draw of what may have been there: ask with other seeds
for others. Result i depends on ``seed`` and i, and not on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from undiffuse._arguments import (
    require_between,
    require_count,
    require_finite,
    require_float,
    require_same_shape,
)
from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import generators
from undiffuse.guidance import guided
from undiffuse.measurements import Measurement, require_mask
from undiffuse.posterior import posterior_guided
from undiffuse.prediction import Denoiser, as_x0
from undiffuse.sampling import Levels, ddim_update, levels, sample
from undiffuse.text import as_tokens

Level = tuple[float, float]
Noises = Sequence[tuple[torch.Tensor, torch.Tensor]]


def inpaint_step(
    x: torch.Tensor,
    step: Callable[[torch.Tensor, Level, Level], torch.Tensor],
    known: torch.Tensor,
    mask: torch.Tensor,
    now: Level,
    then: Level,
    noises: Noises,
) -> torch.Tensor:
    """From level ``now`` to ``then`` with a part of the data given, once for each pair of noises.

    x: (B, ...) at level now = (alpha, sigma). step(x, now, then): a sampler's step. known: data, of
    which only that counts where ``mask`` (bool, broadcasts to x) is True. A pair of noises holds
    the one that is put on the known part, and the one for the way back up to ``now``, which is
    taken between two rounds. Lugmayr et al. 2022 (RePaint), algorithm 1, with jumps of one step:
    without the way back, both parts never hear of each other at the same level.
    """
    (alpha, sigma), (alpha_then, sigma_then) = now, then
    back = alpha / alpha_then
    spread = math.sqrt(max(0.0, sigma**2 - (back * sigma_then) ** 2))
    here = x
    for on_known, on_the_way in noises:
        x = torch.where(mask, alpha_then * known + sigma_then * on_known, step(here, now, then))
        here = back * x + spread * on_the_way
    return x


def inpaint(
    checkpoint: Checkpoint,
    x: torch.Tensor,
    mask: torch.Tensor,
    *,
    labels: torch.Tensor | None = None,
    guidance: float = 1.0,
    calls: int = 200,
    repeats: int = 10,
    seed: int = 0,
    batch: int = 100,
    progress: Callable[[int], Any] | None = None,
) -> torch.Tensor:
    """x (N, C, ...) with what ``mask`` does not say is known drawn by the network.

    mask: bool, True where x is known (``measurements.require_mask``); what x holds elsewhere does
    not matter, and may be NaN. Known values come back as they are. labels: (N,) where the network
    knows classes, tokens (N, L) where it reads prompts (``prompts.known_tokens``); None is neither.
    calls: of the network, at most; ``repeats`` of them are
    spent at each level (RePaint's resampling). progress: called with the number of samples after
    each call on them.

    Raises ValueError for another shape than the checkpoint's, a mask that does not fit or leaves
    nothing to do, known values that are not finite, labels that the network does not know, or a
    network that was distilled.
    """
    mask = _mask(checkpoint, x, mask)
    drawn = _drawn(checkpoint, x, mask, labels, guidance, calls, repeats, seed, batch, progress)
    return torch.where(mask, x, drawn.clamp(-1.0, 1.0))


def fill_gap(
    checkpoint: Checkpoint,
    audio: torch.Tensor,
    start: int,
    stop: int,
    *,
    fade: int = 16,
    begin: torch.Tensor | None = None,
    strength: float = 1.0,
    labels: torch.Tensor | None = None,
    guidance: float = 1.0,
    calls: int = 200,
    repeats: int = 10,
    seed: int = 0,
    batch: int = 100,
    progress: Callable[[int], Any] | None = None,
) -> torch.Tensor:
    """Clips (N, C, L) with the samples from ``start`` to before ``stop`` drawn by the network.

    fade: how many known samples at each seam go over into what the network drew there
    (``repair_audio``); all others come back as they are. begin: clips that are filled already, by
    ``classical_repair`` perhaps, to begin with in place of noise; then ``strength``, as in
    ``redraw``, says how much of that is drawn anew. The rest as in ``inpaint``. Raises ValueError
    for a strength below 1 without anything to begin with.
    """
    _require_gap(audio, start, stop)
    if not 0 < strength <= 1 or (begin is None and strength != 1):
        raise ValueError(
            f"strength must be above 0 and at most 1, and 1 where there is no begin; got {strength}"
        )
    if begin is not None:
        require_same_shape("begin", begin, "audio", audio)
        require_finite("begin", begin)
    mask = torch.ones(audio.shape[1:], dtype=torch.bool)
    mask[:, start:stop] = False
    mask = _mask(checkpoint, audio, mask)
    drawn = _drawn(checkpoint, audio, mask, labels, guidance, calls, repeats, seed, batch, progress,
                   begin, strength)  # fmt: skip
    return repair_audio(audio, drawn.clamp(-1.0, 1.0), start, stop, fade)


def repair_audio(
    x: torch.Tensor, proposal: torch.Tensor, start: int, stop: int, fade: int
) -> torch.Tensor:
    """Clips x (B, C, L) filled with ``proposal`` from ``start`` to before ``stop``, without seams.

    The proposal holds the whole clip, so that it can be compared where x is known: in the up to
    ``fade`` samples on each side of the gap. It is multiplied by the factor, one a clip, that gives
    it the root mean square of x there (1 where one of the two is silent, or fade is 0). At distance
    d from the gap (1 is next to it) the result is x and proposal in the shares d / (fade + 1) and
    1 - d / (fade + 1); from d = fade + 1 on it is x. Weights that add up to 1, since both are
    nearly the same sound there. What x holds in the gap does not matter, and may be NaN. Raises
    ValueError for other shapes, or a gap outside the clip or as long as it.
    """
    _require_gap(x, start, stop)
    require_same_shape("proposal", proposal, "x", x)
    require_count("fade", fade, 0)
    places = torch.arange(x.shape[-1], device=x.device)
    away = torch.maximum(start - places, places - (stop - 1)).clamp(min=0)
    share = (1 - away.to(x.dtype) / (fade + 1)).clamp(min=0)
    near = (away > 0) & (away <= fade)
    gain = torch.ones_like(x[:, :1, :1])
    if bool(near.any()):
        wanted, found = (v[..., near].square().mean((1, 2), keepdim=True).sqrt()
                         for v in (x, proposal))  # fmt: skip
        heard = (wanted > 1e-6) & (found > 1e-6)
        gain = torch.where(heard, wanted / found.clamp(min=1e-6), gain)
    outside = torch.where(away > 0, x, torch.zeros_like(x))
    return (1 - share) * outside + share * gain * proposal


def edit(
    x0: torch.Tensor,
    strength: float,
    levels: Sequence[Level],
    step: Callable[[torch.Tensor, Level, Level], torch.Tensor],
    noise: torch.Tensor,
) -> torch.Tensor:
    """Another version of data x0 (B, ...): noise is added, and taken away again.

    strength: the share, in [0, 1], of the steps between ``levels`` that are made, rounded to a
    whole number of the last ones: 0 gives x0 back, 1 begins with next to nothing of it. levels:
    (alpha, sigma) from the noisiest to data, (1, 0). step(x, now, then): a sampler's. noise:
    standard normal, of x0's shape. Meng et al. 2022 (SDEdit), algorithm 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], got {strength}")
    require_same_shape("noise", noise, "x0", x0)
    every = len(levels) - 1
    left = levels[every - round(strength * every) :]
    x = left[0][0] * x0 + left[0][1] * noise
    for now, then in pairwise(left):
        x = step(x, now, then)
    return x


def redraw(
    checkpoint: Checkpoint,
    x: torch.Tensor,
    strength: float,
    *,
    labels: torch.Tensor | None = None,
    guidance: float = 1.0,
    calls: int = 50,
    seed: int = 0,
    batch: int = 100,
    progress: Callable[[int], Any] | None = None,
) -> torch.Tensor:
    """Other versions of x (N, C, ...): ``edit`` with the checkpoint's network, ancestral steps.

    calls: of the network, had it to begin with noise alone. With labels of another class, x is
    pulled towards that. Raises ValueError for another shape, or a strength outside [0, 1].
    """
    _data(checkpoint, x)
    require_finite("x", x)
    model, labels = _steering(checkpoint, len(x), labels, guidance)
    at = levels(checkpoint.schedule, calls)
    pairs = list(zip(at.alpha.tolist(), at.sigma.tolist()))
    scale, parts = checkpoint.scale, []
    for rows, own, cond in _batches(checkpoint, labels, len(x), seed, batch):
        step = _Estimate(checkpoint, model, cond, progress).stepping(own)
        start = scale * x[rows].to(_device(checkpoint))
        parts.append(edit(start, strength, pairs, step, _draws(own, start)).cpu() / scale)
    return torch.cat(parts).clamp(-1.0, 1.0)


def restore(
    checkpoint: Checkpoint,
    y: torch.Tensor,
    measure: Measurement,
    *,
    labels: torch.Tensor | None = None,
    guidance: float = 1.0,
    noise: float = 0.0,
    spread: float = 0.5,
    strength: float = 1.0,
    calls: int = 50,
    eta: float = 1.0,
    seed: int = 0,
    batch: int = 100,
    progress: Callable[[int], Any] | None = None,
) -> torch.Tensor:
    """Data x (N, C, ...) of which the measurement y = A(x) (N, ...) is known.

    measure: A (``measurements``: a coarse grid, a blur, clipping, a part), differentiable, in the
    range of the data. noise: standard deviation of the error in y; spread: that of the data that
    are not known, and with ``strength`` the scale, as in ``posterior.posterior_guided``. calls: of
    the network and its gradient, about three times the work of a call. eta: as in ``ddim_update``.
    Raises ValueError for a y that does not fit, or is not finite.
    """
    require_finite("y", require_float("y", y))
    shape = tuple(measure(torch.zeros(1, *checkpoint.shape)).shape[1:])
    if tuple(y.shape[1:]) != shape or not len(y):
        raise ValueError(
            f"y must be (N, {', '.join(map(str, shape))}), the measurement of samples of "
            f"{checkpoint.name}, got {tuple(y.shape)}"
        )
    model, labels = _steering(checkpoint, len(y), labels, guidance)
    scale = checkpoint.scale
    parts = []
    for rows, own, cond in _batches(checkpoint, labels, len(y), seed, batch):
        steered = posterior_guided(
            model,
            checkpoint.schedule,
            checkpoint.kind,
            lambda x: scale * measure(x / scale),
            scale * y[rows].to(_device(checkpoint)),
            noise=scale * noise,
            spread=scale * spread,
            scale=strength,
        )
        x = sample(
            steered,
            checkpoint.schedule,
            (len(own), *checkpoint.shape),
            kind=checkpoint.kind,
            solver="ddim",
            calls=calls,
            cond=cond,
            generator=own,
            clip=(-scale, scale),
            progress=_for_each(progress, len(own)),
            device=_device(checkpoint),
            eta=eta,
        )
        parts.append(x.cpu() / scale)
    return torch.cat(parts).clamp(-1.0, 1.0)


# --- what they share -------------------------------------------------------------------------


def _drawn(
    checkpoint: Checkpoint,
    x: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor | None,
    guidance: float,
    calls: int,
    repeats: int,
    seed: int,
    batch: int,
    progress: Callable[[int], Any] | None,
    begin: torch.Tensor | None = None,
    strength: float = 1.0,
) -> torch.Tensor:
    """RePaint's samples; where x is known, what the network made of it in the last call.

    begin: data (N, C, ...) to begin with, noised to where ``strength`` of the levels are left.
    """
    require_count("calls", calls)
    if require_count("repeats", repeats) > calls:
        raise ValueError(
            f"{repeats} repeats at each level need at least as many calls, got {calls}"
        )
    model, labels = _steering(checkpoint, len(x), labels, guidance)
    scale, device = checkpoint.scale, _device(checkpoint)
    at = levels(checkpoint.schedule, calls // repeats)
    at = _last_levels(at, max(1, round(strength * at.steps)))
    pairs = list(zip(at.alpha.tolist(), at.sigma.tolist()))
    known = torch.where(mask, x, torch.zeros_like(x)) * scale
    parts = []
    for rows, own, cond in _batches(checkpoint, labels, len(x), seed, batch):
        masked = (mask if len(mask) == 1 else mask[rows]).to(device)
        estimate = _Estimate(checkpoint, model, cond, progress)
        given, step = known[rows].to(device), estimate.stepping(own)
        if begin is None:
            here = _draws(own, given) * math.hypot(*pairs[0])
        else:
            start = scale * begin[rows].to(device)
            here = pairs[0][0] * start + pairs[0][1] * _draws(own, given)
        for i in range(at.steps):
            noises = [(_draws(own, given), _draws(own, given)) for _ in range(repeats)]
            here = inpaint_step(here, step, given, masked, pairs[i], pairs[i + 1], noises)
        parts.append(estimate.last.cpu() / scale)
    return torch.cat(parts)


class _Estimate:
    """Ancestral steps with a network, whose last estimate of the data is kept as ``last``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Denoiser,
        cond: torch.Tensor | None,
        progress: Callable[[int], Any] | None,
    ) -> None:
        self.x0_of = as_x0(model, checkpoint.schedule, checkpoint.kind)
        self.schedule, self.bound = checkpoint.schedule, checkpoint.scale
        self.cond, self.progress = cond, progress
        self.last: torch.Tensor

    def stepping(self, own: list[torch.Generator]) -> Callable:
        """``step(x, now, then)``, with noise of each sample's own."""

        def step(x: torch.Tensor, now: Level, then: Level) -> torch.Tensor:
            log_snr = torch.tensor(2 * math.log(now[0] / now[1]), dtype=torch.float64)
            with torch.no_grad():
                x0 = self.x0_of(x, float(self.schedule.time(log_snr)), self.cond)
                self.last = x0.clamp(-self.bound, self.bound)
            if self.progress is not None:
                self.progress(len(x))
            return ddim_update(x, self.last, now, then, 1.0, _draws(own, x))

        return step


def _for_each(progress: Callable[[int], Any] | None, count: int) -> Callable | None:
    """``progress``, told of ``count`` samples at each call of the network."""
    return None if progress is None else lambda _: progress(count)


def _last_levels(at: Levels, steps: int) -> Levels:
    return Levels(*(v[at.steps - steps :] for v in (at.t, at.alpha, at.sigma)))


def _steering(
    checkpoint: Checkpoint, count: int, labels: torch.Tensor | None, guidance: float
) -> tuple[Denoiser, torch.Tensor | None]:
    """The network as a denoiser, and the labels to call it with.

    A network that was distilled knows the levels of its own calls, and repair goes through others.
    """
    if told := checkpoint.recipe.distilled:
        raise ValueError(
            f"{checkpoint.name} was distilled to {told['calls']} calls, and repair makes steps of "
            f"its own: take a network that was trained on data, such as {told['teacher']}"
        )
    null = checkpoint.null
    if checkpoint.recipe.told:
        return _steering_by_words(checkpoint, count, labels, guidance)
    if labels is None:
        if guidance != 1.0:
            raise ValueError("guidance needs labels")
        return checkpoint.model, None if null is None else torch.full((count,), null)
    if null is None:
        raise ValueError(f"{checkpoint.name} knows no classes: leave labels out")
    if labels.shape != (count,):
        raise ValueError(f"labels must be ({count},), one for each sample, got {labels.shape}")
    require_between("labels", labels, 0, null - 1)
    model = checkpoint.model if guidance == 1.0 else guided(checkpoint.model, null, guidance)
    return model, labels.to(torch.int64)


def _steering_by_words(
    checkpoint: Checkpoint, count: int, tokens: torch.Tensor | None, guidance: float
) -> tuple[Denoiser, torch.Tensor | None]:
    """``_steering`` of a network that reads prompts: tokens (count, L)."""
    if tokens is None:
        if guidance != 1.0:
            raise ValueError("guidance needs labels: tokens of prompts (prompts.known_tokens)")
        return checkpoint.model, None
    if len(tokens) != count:
        raise ValueError(f"{len(tokens)} prompts were given for {count} samples")
    model = checkpoint.model
    if guidance != 1.0:
        model = guided(model, checkpoint.null, guidance)
    return model, as_tokens(tokens, len(checkpoint.vocab))


def _batches(
    checkpoint: Checkpoint, labels: torch.Tensor | None, count: int, seed: int, batch: int
) -> Iterator[tuple[slice, list[torch.Generator], torch.Tensor | None]]:
    """(rows, a generator for each, labels on the network's device)."""
    require_count("batch", batch)
    for start in range(0, count, batch):
        rows = slice(start, min(start + batch, count))
        cond = None if labels is None else labels[rows].to(_device(checkpoint))
        yield rows, generators(seed, rows.start, rows.stop), cond


def _draws(own: list[torch.Generator], like: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers of the shape of ``like``, each sample's from its own generator."""
    noise = [torch.randn(like.shape[1:], generator=g, dtype=like.dtype) for g in own]
    return torch.stack(noise).to(like.device)


def _device(checkpoint: Checkpoint) -> torch.device:
    return next(checkpoint.model.parameters()).device


def _data(checkpoint: Checkpoint, x: torch.Tensor) -> None:
    if tuple(require_float("x", x).shape[1:]) != checkpoint.shape or not len(x):
        raise ValueError(
            f"x must be (N, {', '.join(map(str, checkpoint.shape))}), as {checkpoint.name} makes "
            f"them, got {tuple(x.shape)}"
        )


def _mask(checkpoint: Checkpoint, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    _data(checkpoint, x)
    mask = require_mask(mask, x)
    require_finite("what is known of x", torch.where(mask, x, torch.zeros_like(x)))
    return mask


def _require_gap(x: torch.Tensor, start: int, stop: int) -> None:
    if require_float("x", x).ndim != 3:
        raise ValueError(f"clips must be (N, C, L), got shape {tuple(x.shape)}")
    require_count("start", start, 0)
    require_count("stop", stop)
    length = x.shape[-1]
    if not start < stop <= length:
        raise ValueError(f"a gap must lie in the clip, 0 <= start < stop <= {length}, got "
                         f"{start} to {stop}")  # fmt: skip
    if stop - start == length:
        raise ValueError("the gap is the whole clip: nothing is known; to draw one, use draw()")


__all__ = [
    "edit",
    "fill_gap",
    "inpaint",
    "inpaint_step",
    "redraw",
    "repair_audio",
    "restore",
]
