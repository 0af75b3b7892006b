"""Samples from checkpoints: in batches, seeded per sample, as arrays, files and grids.

Images are written as uint8, sounds as float32 with their rate. A model of log-mel spectrograms is
heard through a vocoder or Griffin-Lim (``heard``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undiffuse.checkpoints import Checkpoint
from undiffuse.consistency import ConsistencyFunction, consistency_sample
from undiffuse.distillation import even_levels
from undiffuse.guidance import guided, guided_by_prompts
from undiffuse.hearing import CALLS as VOCODER_CALLS
from undiffuse.hearing import vocoded
from undiffuse.process import from_model_range
from undiffuse.sampling import Path as Way
from undiffuse.sampling import sample
from undiffuse.sound import expand_downward
from undiffuse.sources import sounds_of
from undiffuse.text import as_tokens

CALLS, SOLVER = 20, "dpmpp_2m"  # where nothing else is asked for
SPREAD = 2654435761  # odd, near 2^32 divided by the golden ratio


def generators(seed: int, start: int, stop: int) -> list[torch.Generator]:
    """The generators of samples start .. stop - 1 of a seed.

    Sample i of a seed has a stream of its own, so that its noise depends on neither the batch it is
    drawn in nor how many there are. torch's CPU generator takes 32 bits of a seed: multiples of an
    odd number near 2^32 / 1.618 keep the streams of different seeds apart.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an int from 0 to 2**32 - 1, got {seed!r}")
    return [torch.Generator().manual_seed((seed * SPREAD + i) % 2**32) for i in range(start, stop)]


def draw(
    checkpoint: Checkpoint,
    count: int,
    *,
    calls: int | None = None,
    seed: int = 0,
    solver: str | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    label: int | None = None,
    labels: torch.Tensor | None = None,
    second: tuple[torch.Tensor, float] | None = None,
    batch: int = 250,
    clip: tuple[float, float] | None = (-1.0, 1.0),
    progress: Callable[[int], Any] | None = None,
    trail: list[Way] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(samples (count, C, ...) float32 in [-1, 1], labels (count,) int64 or None).

    Classes come in turn, 0, 1, 2, ... (of notes: as in the split ``reference``, since most pairs of
    family and key are on no instrument), unless ``label`` names one for all or ``labels`` (count,)
    one for each. Every sample has a random stream of its own (``generators``): what is drawn for a
    seed does not depend on ``batch``, but for the rounding of sums in the network. progress: called
    with the number of samples after each network call on them. trail: a list that gets what each
    batch went through (``sampling.Path``, in the network's own range). guidance, and
    guidance_interval (lo, hi), the times in [0, 1] between which it is used: None takes what the
    checkpoint's recipe names. clip: bounds for each estimate of a sample, in its own range whatever
    the recipe's ``scale``; None leaves samples unbounded. Sounds go through the recipe's
    ``expander``, where it names one.

    calls, solver: None is ``CALLS`` of ``SOLVER``, or for a network that was distilled its own way:
    the number of calls that it was made for, at the levels that it learnt (``way_of``).

    Of a network that reads prompts, labels are tokens (count, L); without, the prompts of the split
    ``reference`` come in turn. second: further tokens (count, L) and their scale, below 0 for what
    is not wanted (``guidance.guided_by_two``). ``prompts.ask`` takes words.

    Raises ValueError for count or batch below 1, labels that the network does not know, guidance of
    a network without classes, or a vocoder, which needs a mel (``heard``), and for a distilled
    network with another solver, other calls, guidance, a second prompt or, of a consistency model,
    a trail.
    """
    for name, value in (("count", count), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1, got {value!r}")
    if checkpoint.recipe.source.kind == "vocoder":
        raise ValueError(
            f"{checkpoint.name} turns mel spectrograms into sound, and draws nothing by itself: "
            "pass it to heard(), or name it with --vocoder where a model of spectrograms is drawn"
        )
    labels = _labels(checkpoint, count, label, labels)
    way = way_of(checkpoint, calls, solver, guidance)
    model = checkpoint.model
    if guidance is None:
        guidance = checkpoint.recipe.guidance if labels is not None else 1.0
    times = guidance_interval or checkpoint.recipe.guidance_interval
    if second is not None:
        if not checkpoint.recipe.told:
            raise ValueError(f"{checkpoint.name} reads no prompts, so there is no second one")
        if checkpoint.recipe.distilled:
            raise ValueError(f"{checkpoint.name} was distilled: it is asked one prompt, not two")
        second = (_tokens(checkpoint, count, None, second[0]), float(second[1]))
    elif guidance != 1.0:
        if labels is None:
            raise ValueError(f"{checkpoint.name} knows no classes, so there is nothing to guide by")
        model = guided(model, checkpoint.null, guidance, times)
    if trail is not None and checkpoint.recipe.distilled.get("method") == "consistency":
        raise ValueError(f"{checkpoint.name} jumps to its estimate, and leaves no trail")
    followed = {} if trail is None else {"path": True}
    device = next(checkpoint.model.parameters()).device
    scale = checkpoint.scale
    bounds = None if clip is None else (scale * clip[0], scale * clip[1])
    parts = []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        cond = labels[start:stop].to(device) if labels is not None else None
        if second is not None:
            model = guided_by_prompts(
                checkpoint.model,
                checkpoint.null,
                guidance,
                second[0][start:stop],
                second[1],
                times,
            )
        x = way(
            model,
            (stop - start, *checkpoint.shape),
            cond=cond,
            generator=generators(seed, start, stop),
            clip=bounds,
            progress=None if progress is None else lambda _, n=stop - start: progress(n),
            device=device,
            **followed,
        )
        if trail is not None:
            x, gone = x
            trail.append(gone)
        parts.append(x.cpu() / scale)
    samples = torch.cat(parts)
    if checkpoint.recipe.expander:
        samples = expand_downward(samples, *checkpoint.recipe.expander)
    # The last step of some solvers, and the division, round beyond the bounds.
    return samples if clip is None else samples.clamp(*clip), labels


def way_of(
    checkpoint: Checkpoint,
    calls: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Callable[..., torch.Tensor]:
    """How ``checkpoint`` is sampled: ``(model, shape, *, cond, generator, clip, ...) -> x``.

    A distilled network knows how to answer at the levels of its own calls, and has its guidance
    inside. One that was distilled progressively makes exactly its number of calls; a consistency
    model any number, of which a few are best. Raises ValueError for another solver, guidance, or
    number of calls.
    """
    told, schedule, kind = checkpoint.recipe.distilled, checkpoint.schedule, checkpoint.kind
    if not told:
        calls, solver = CALLS if calls is None else calls, solver or SOLVER
        return partial(_sampled, schedule=schedule, kind=kind, solver=solver, calls=calls)
    own, method = told["calls"], told["method"]
    if solver is not None:
        raise ValueError(f"{checkpoint.name} was distilled, and is its own solver: name none")
    if guidance not in (None, 1.0):
        raise ValueError(f"{checkpoint.name} was distilled with its guidance inside: name none")
    if method == "progressive":
        if calls not in (None, own):
            raise ValueError(f"{checkpoint.name} was distilled to {own} calls, and makes no other")
        at = even_levels(schedule, own)
        return partial(_sampled, schedule=schedule, kind=kind, solver="ddim", calls=own, at=at)

    def by_consistency(model: Any, shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        f = ConsistencyFunction(model, schedule, kind)
        return consistency_sample(f, schedule, shape, calls=calls or own, **options)

    return by_consistency


def _sampled(model: Any, shape: tuple[int, ...], *, schedule: Any, **options: Any) -> torch.Tensor:
    return sample(model, schedule, shape, **options)


def _labels(
    checkpoint: Checkpoint, count: int, label: int | None, labels: torch.Tensor | None
) -> torch.Tensor | None:
    """(count,) int64, of prompts tokens (count, L), or None for a network without condition."""
    if checkpoint.recipe.told:
        return _tokens(checkpoint, count, label, labels)
    classes = checkpoint.null
    known = f"0 to {classes - 1}" if classes else "none: it was trained without"
    if label is not None:
        if labels is not None:
            raise ValueError("give label, one for all, or labels, one for each; not both")
        labels = torch.full((count,), label)
    if labels is None:
        source = checkpoint.recipe.source
        if classes and source.factors and classes == source.classes:
            found = source.take("reference")[1]
            return found.repeat(-(-count // len(found)))[:count]
        return torch.arange(count) % classes if classes else None
    if len(labels) != count:
        raise ValueError(f"{len(labels)} labels were given for {count} samples")
    if not classes or int(labels.min()) < 0 or int(labels.max()) >= classes:
        odd = [y for y in labels.tolist() if not classes or not 0 <= y < classes]
        raise ValueError(f"label {odd[0]} is not one that {checkpoint.name} knows ({known})")
    return labels.to(torch.int64)


def _tokens(
    checkpoint: Checkpoint, count: int, label: int | None, tokens: torch.Tensor | None
) -> torch.Tensor:
    """(count, L) int64: those given, or the prompts of the split ``reference`` in turn."""
    if label is not None:
        raise ValueError(f"{checkpoint.name} has no labels: it reads prompts")
    if tokens is None:
        found = checkpoint.recipe.source.take("reference")[1]
        return found.repeat(-(-count // len(found)), 1)[:count]
    if len(tokens) != count:
        raise ValueError(f"{len(tokens)} prompts were given for {count} samples")
    return as_tokens(tokens, len(checkpoint.vocab))


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] as uint8 (N, H, W) for one channel, (N, H, W, C) for more."""
    pixels = from_model_range(images)
    return (pixels[:, 0] if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1)).numpy()


def kind_of(checkpoint: Checkpoint) -> str:
    """What its samples are: "image", "sound" (N, C, L) or "mel" (N, 1, n_mels, frames)."""
    if len(checkpoint.shape) == 2:
        return "sound"
    return "mel" if checkpoint.recipe.source.kind == "mel" else "image"


def rate_of(checkpoint: Checkpoint) -> int | None:
    """Hz of its sound: what the file says, else that of the set it was trained on; None for none"""
    return checkpoint.facts.get("rate") or checkpoint.recipe.source.rate


def heard(
    checkpoint: Checkpoint,
    samples: torch.Tensor,
    seed: int = 0,
    vocoder: Checkpoint | None = None,
    calls: int = VOCODER_CALLS,
) -> torch.Tensor:
    """The sound (N, C, L) of samples: they themselves, or what spectrograms sound like.

    vocoder: what makes sound of spectrograms, in ``calls`` calls of its network; None is
    Griffin-Lim (``hearing.choose`` says which is better). seed: of the phases that Griffin-Lim
    begins with, or the noise of the vocoder. ValueError for images, or a vocoder that is none or is
    not needed.
    """
    kind = kind_of(checkpoint)
    if kind == "image":
        raise ValueError(f"{checkpoint.name} makes images, which have no sound")
    if kind == "sound":
        if vocoder is not None:
            raise ValueError(f"{checkpoint.name} makes sound itself: it needs no vocoder")
        return samples
    if vocoder is not None:
        return vocoded(vocoder, samples, generators(seed, 0, len(samples)), calls)
    return sounds_of(samples, torch.Generator().manual_seed(seed))


def arrays(
    samples: torch.Tensor, labels: torch.Tensor | None = None, rate: int | None = None
) -> dict[str, np.ndarray]:
    """What ``course sample`` writes: images uint8, or audio float32 and its rate; labels int64.

    samples: (N, C, H, W) or sound (N, C, L), in [-1, 1]; of one channel, its axis is left out.
    """
    if samples.ndim == 4:
        found: dict[str, np.ndarray] = {"images": to_uint8(samples)}
    else:
        sound = samples[:, 0] if samples.shape[1] == 1 else samples
        found = {"audio": sound.float().numpy(), "rate": np.int64(rate or 0)}
    if labels is not None:
        found["labels"] = labels.numpy()
    return found


def save_arrays(path: str | os.PathLike, found: dict[str, np.ndarray]) -> None:
    """Writes an .npz file, whole or not at all; the same arrays give the same bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, **found)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def spectrogram_pixels(audio: np.ndarray, size: int = 128) -> np.ndarray:
    """Clips (N, L) as pictures uint8 (N, about size, about size, 3), low frequencies below.

    Each shows 80 dB below its own loudest place, so that quiet clips are seen as well; a silent
    one is dark.
    """
    from matplotlib import colormaps

    from undiffuse.transforms import stft_magnitude

    x = torch.as_tensor(audio)
    n_fft = min(2 * size, 2 ** int(math.log2(max(2, x.shape[-1]))))
    magnitude = stft_magnitude(x, n_fft, max(1, x.shape[-1] // size))
    top = magnitude.amax((1, 2), keepdim=True)
    level = 1 + (magnitude / top.clamp(min=1e-9)).clamp(min=1e-4).log10() / 4
    level = level.masked_fill(top < 1e-6, 0.0)[:, :size, :size].flip(1)
    return (colormaps["magma"](level.numpy())[..., :3] * 255).round().astype(np.uint8)


def save_sounds(
    folder: str | os.PathLike, audio: np.ndarray, rate: int, names: Sequence[str]
) -> None:
    """Writes clips (N, L) or (N, C, L) as .wav files of 16 bits, one a name."""
    from undiffuse.audio_files import write_audio

    for clip, name in zip(audio, names, strict=True):
        write_audio(Path(folder) / f"{name}.wav", clip if clip.ndim == 1 else clip.T, rate)


def save_grid(path: str | os.PathLike, pixels: np.ndarray, columns: int | None = None) -> None:
    """Writes uint8 images (N, H, W[, C]) as one picture, a pixel of margin between them.

    columns: how many in a row; without, about as many as there are rows.
    """
    from PIL import Image

    n, h, w = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, *pixels.shape[3:]), np.uint8)
    for i, image in enumerate(pixels):
        r, c = divmod(i, columns)
        sheet[r * (h + 1) : r * (h + 1) + h, c * (w + 1) : c * (w + 1) + w] = image
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
