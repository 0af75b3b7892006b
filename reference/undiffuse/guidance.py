"""Steering: denoisers made from denoisers, so that every sampler takes them as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from undiffuse.prediction import Denoiser, convert, levels
from undiffuse.schedules import Schedule


def drop_labels(
    y: torch.Tensor, p: float, null: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """``y`` with each label replaced by ``null`` with probability ``p``: (B,) int64, a new tensor.

    Of prompts, tokens (B, L), whole rows are replaced: with ``text.PAD`` for null, by the empty
    prompt. Draws ``torch.rand(B)`` once; a label is dropped where the draw is below p. Ho &
    Salimans 2022 (classifier-free guidance), algorithm 1. Raises ValueError for p outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    draw = torch.rand(len(y), generator=generator, device=getattr(generator, "device", y.device))
    dropped = (draw.to(y.device) < p).reshape(-1, *[1] * (y.ndim - 1))
    return torch.where(dropped, null, y)


def cfg(eps_cond: torch.Tensor, eps_uncond: torch.Tensor, scale: float) -> torch.Tensor:
    """eps_uncond + scale (eps_cond - eps_uncond).

    scale 0 ignores the condition, 1 is plain conditional sampling, above 1 exaggerates it. Ho &
    Salimans 2022, eq. 6 writes (1 + w) eps_cond - w eps_uncond: w = scale - 1. Works alike on
    predictions of any kind that is linear in x0 and eps. Raises ValueError for unlike shapes.
    """
    _require_alike(eps_cond, eps_uncond)
    return eps_uncond + scale * (eps_cond - eps_uncond)


def rescale_guidance(guided: torch.Tensor, cond: torch.Tensor, phi: float) -> torch.Tensor:
    """Brings each sample's standard deviation back towards that of ``cond`` by the share ``phi``.

    guided, cond: (B, ...). phi in [0, 1]: 0 changes nothing, 1 takes cond's deviation. Lin et al.
    2023, section 3.4, eq. 15-16: deviations are over each sample, not over the batch. A sample that
    does not vary has no deviation to bring back, and stays as it is. Raises ValueError for phi
    outside [0, 1] or unlike shapes.
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"phi must be in [0, 1], got {phi}")
    _require_alike(guided, cond)
    axes = tuple(range(1, guided.ndim))
    wanted, found = (x.std(dim=axes, keepdim=True) for x in (cond, guided))
    factor = torch.where(found > 0, wanted / found, torch.ones_like(found))
    return phi * guided * factor + (1 - phi) * guided


def guidance_interval(scale: float, t: Any, lo: float, hi: float) -> Any:
    """``scale`` where lo <= t <= hi, and 1 (no exaggeration) elsewhere.

    t: a number, or a tensor of any shape (then a tensor of t's shape comes back). Kynkäänniemi et
    al. 2024: guidance does harm at the noisiest levels and little good at the cleanest. Raises
    ValueError for lo above hi.
    """
    if not lo <= hi:
        raise ValueError(f"the interval must have lo at most hi, got lo={lo}, hi={hi}")
    if isinstance(t, torch.Tensor):
        inside = (t >= lo) & (t <= hi)
        return torch.where(inside, torch.full_like(t, scale), torch.ones_like(t))
    return scale if lo <= t <= hi else 1.0


def batched_cfg(
    model: Denoiser, x_t: torch.Tensor, t: Any, cond: torch.Tensor, null: int, scale: float
) -> torch.Tensor:
    """``cfg`` with one network call on a batch of twice the size: conditional half first.

    x_t: (B, ...); t: a number or one per sample (B,); cond: labels (B,); null: that for "none".
    """
    return cfg(*_both(model, x_t, t, cond, null), scale)


def _both(
    model: Denoiser, x_t: torch.Tensor, t: Any, cond: torch.Tensor, null: int
) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.cat([cond, torch.full_like(cond, null)])
    time = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
    conditional, unconditional = model(torch.cat([x_t, x_t]), time, labels).chunk(2)
    return conditional, unconditional


def _require_alike(a: torch.Tensor, b: torch.Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"the two predictions have shapes {tuple(a.shape)} and {tuple(b.shape)}; "
            "they must be alike"
        )


def guided(
    model: Denoiser,
    null: int,
    scale: float,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> Denoiser:
    """``model`` with classifier-free guidance, as a denoiser of the same kind.

    null: the label for "none". interval: times in which to guide; outside the condition alone is
    used, with one half of the cost. rescale: phi of ``rescale_guidance``. Called without a
    condition it raises ValueError.
    """

    def denoiser(x_t: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if cond is None:
            raise ValueError("guidance needs labels: pass cond=(B,) int64")
        strength: Any = scale
        if interval is not None:
            strength = guidance_interval(scale, t, *interval)
        if isinstance(strength, torch.Tensor):
            if bool((strength == strength.flatten()[0]).all()):
                strength = float(strength.flatten()[0])
            else:  # some samples of the batch are guided and some are not
                strength = strength.to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        if isinstance(strength, float | int) and strength == 1:
            return model(x_t, t, cond)
        conditional, unconditional = _both(model, x_t, t, cond, null)
        combined = cfg(conditional, unconditional, strength)
        return rescale_guidance(combined, conditional, rescale) if rescale else combined

    return denoiser


def guided_by_two(
    eps_null: torch.Tensor,
    eps_a: torch.Tensor,
    eps_b: torch.Tensor,
    scale_a: float,
    scale_b: float,
) -> torch.Tensor:
    """eps_null + scale_a (eps_a - eps_null) + scale_b (eps_b - eps_null).

    Two prompts at once: each pushes away from what the network says without any. scale_b below 0
    makes b a negative prompt, which samples are pushed away from; 0 leaves b out, which gives
    ``cfg``. Liu et al. 2022 ("Composable diffusion"), eq. 11. Raises ValueError for unlike shapes.
    """
    _require_alike(eps_a, eps_null)
    _require_alike(eps_b, eps_null)
    return eps_null + scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)


def guided_by_prompts(
    model: Denoiser,
    null: int,
    scale: float,
    second: torch.Tensor,
    second_scale: float,
    interval: tuple[float, float] | None = None,
) -> Denoiser:
    """``model`` guided by its condition and by ``second`` (``guided_by_two``), of the same kind.

    second: conditions (B, ...) like those that the denoiser is called with; below 0 in
    ``second_scale`` they are what is not wanted. interval: times in which to guide; outside, the
    condition alone is used. Costs three calls of the network in one batch.
    """

    def denoiser(x_t: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if cond is None or cond.shape != second.shape:
            raise ValueError(
                f"two prompts need conditions of one shape, {tuple(second.shape)}, got "
                f"{None if cond is None else tuple(cond.shape)}"
            )
        if (
            interval is not None
            and not interval[0] <= float(torch.as_tensor(t).max()) <= interval[1]
        ):
            return model(x_t, t, cond)
        told = torch.cat([torch.full_like(cond, null), cond, second.to(cond.device)])
        time = torch.cat([t] * 3) if isinstance(t, torch.Tensor) and t.ndim else t
        none, a, b = model(torch.cat([x_t] * 3), time, told).chunk(3)
        return guided_by_two(none, a, b, scale, second_scale)

    return denoiser


def classifier_guidance(
    score: torch.Tensor,
    classifier_logp: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """score + scale * gradient of log p(y | x) with respect to x.

    classifier_logp: (B, ...) -> (B, classes) log probabilities. The sum over the batch is
    differentiated, which gives each sample its own gradient. Dhariwal & Nichol 2021, section 4.1.
    Returns a tensor without a graph, and leaves none of the classifier's parameters a gradient.
    Raises ValueError for labels that are not (B,) or not among the classifier's.
    """
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        logp = classifier_logp(at)
        classes = logp.shape[1]
        if y.shape != (len(x),) or not bool(((y >= 0) & (y < classes)).all()):
            raise ValueError(
                f"labels must be ({len(x)},), each 0 to {classes - 1}, got {y.tolist()[:8]}"
            )
        chosen = logp.gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, at)
    return (score + scale * gradient).detach()


def classifier_guided(
    model: Denoiser,
    schedule: Schedule,
    kind: str,
    classifier_logp: Callable[[torch.Tensor, Any], torch.Tensor],
    scale: float,
) -> Denoiser:
    """``model`` steered by a classifier of noisy data, as a denoiser of the same kind.

    classifier_logp: (x_t, t) -> (B, classes) log probabilities; ``cond`` holds the labels wanted.
    """

    def denoiser(x_t: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if cond is None:
            raise ValueError("classifier guidance needs labels: pass cond=(B,) int64")
        alpha, sigma = levels(schedule, t)
        prediction = model(x_t, t, None)
        score = convert(kind, "score", prediction, x_t, alpha, sigma)
        steered = classifier_guidance(score, lambda x: classifier_logp(x, t), x_t, cond, scale)
        return convert("score", kind, steered, x_t, alpha, sigma)

    return denoiser


__all__ = [
    "batched_cfg",
    "cfg",
    "classifier_guidance",
    "classifier_guided",
    "drop_labels",
    "guidance_interval",
    "guided",
    "guided_by_prompts",
    "guided_by_two",
    "rescale_guidance",
]
