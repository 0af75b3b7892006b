"""From log-mel spectrograms to sound: by a vocoder's checkpoint, or by Griffin-Lim.

vocoder, why = choose(None)            the shipped vocoder, or None where Griffin-Lim is better
vocoded(vocoder, mels, generators)     sounds by diffusion; by Griffin-Lim: sources.sounds_of
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from undiffuse import checkpoints
from undiffuse.checkpoints import Checkpoint
from undiffuse.sources import MEL, Source, source

GRIFFIN_LIM = "griffin-lim"
SHIPPED = "vocoder"
CALLS = 8


def choose(
    name: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    data: str = "fsdd-mel",
) -> tuple[Checkpoint | None, str]:
    """What spectrograms are heard by, and why: (a vocoder, or None for Griffin-Lim; a sentence).

    name: of a shipped checkpoint or a file, or "griffin-lim". None takes the shipped vocoder if it
    learned the set that ``data`` is of, and its JSON file says of these very weights that they were
    measured nearer to recordings than Griffin-Lim (``quality``, ``nearer_than_griffin_lim``). data:
    the source of the spectrograms. Raises ``checkpoints.CheckpointError`` for a name or file that
    is none, and ValueError for a checkpoint of another kind.
    """
    if name is not None and str(name).lower() == GRIFFIN_LIM:
        return None, "heard by Griffin-Lim"
    if name is None:
        why = _against_shipped(source(data))
        if why:
            return None, f"heard by Griffin-Lim: {why}"
    found = checkpoints.load(SHIPPED if name is None else name, device)
    _check(found)
    return found, f"heard by the vocoder {found.name}"


def _against_shipped(of: Source) -> str:
    """Why the shipped vocoder is not taken unasked for spectrograms of ``of``; "" if it is."""
    path = checkpoints.folder() / f"{SHIPPED}.safetensors"
    if not path.is_file():
        return "no vocoder is shipped"
    try:
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        nearer = told["quality"]["nearer_than_griffin_lim"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"nothing is recorded of {path.name}"
    if told.get("sha256") != hashlib.sha256(path.read_bytes()).hexdigest():
        return f"what is recorded of {path.name} was measured of other weights"
    if nearer is not True:
        return f"the shipped {SHIPPED} was not measured to be nearer"
    learned = told.get("trained_on", {}).get("set")
    if learned != (of.stored or of.fetched):
        return f"the shipped {SHIPPED} learned {learned}, not {of.stored or of.fetched}"
    return ""


def _check(vocoder: Checkpoint) -> None:
    learned = vocoder.recipe.source
    if learned.kind != "vocoder":
        raise ValueError(f"{vocoder.name} is no vocoder: it was trained on {learned.name}")
    for key in ("n_mels", "hop"):
        if vocoder.model.config[key] != MEL[key]:
            raise ValueError(
                f"{vocoder.name} wants mels with {key} = {vocoder.model.config[key]}, and those of "
                f"the course have {MEL[key]}"
            )


def _of_design(vocoder: Checkpoint) -> Callable[..., torch.Tensor]:
    """What makes clips (N, L): called with (network, schedule, mels (N, n_mels, frames), ...)."""
    if vocoder.recipe.network.get("design") == "spectral":
        from undiffuse.spectral_vocoder import resound

        return partial(resound, **MEL)
    from undiffuse.vocoder import MelLevels, vocode

    levels = MelLevels(**MEL)
    return lambda network, schedule, mels, **o: vocode(network, schedule, levels, mels, **o)


def vocoded(
    vocoder: Checkpoint,
    mels: torch.Tensor,
    generators: Sequence[torch.Generator],
    calls: int = CALLS,
    batch: int = 50,
    **changes: Any,
) -> torch.Tensor:
    """Clips (N, 1, 8192) in [-1, 1] whose ``sources.log_mels`` are about these (N, 1, 64, 128).

    generators: one a clip, so that ``batch`` changes nothing but the rounding of sums. calls: of
    the network, with DDIM. changes: to options of ``vocoder.vocode`` or
    ``spectral_vocoder.resound``. What would be beyond full scale is made quieter as a whole.
    ValueError for a checkpoint that is no vocoder, or mels of another shape.
    """
    _check(vocoder)
    if mels.ndim != 4 or mels.shape[1] != 1 or mels.shape[2] != MEL["n_mels"]:
        raise ValueError(f"mels must be (N, 1, {MEL['n_mels']}, frames), got {tuple(mels.shape)}")
    if len(generators) != len(mels):
        raise ValueError(f"{len(generators)} generators cannot serve {len(mels)} clips: one each")
    device = next(vocoder.model.parameters()).device
    make = _of_design(vocoder)
    # The frame that the model leaves out is centred where the clip ends: silence.
    mels = torch.cat([mels, torch.full_like(mels[..., :1], -1.0)], -1)[:, 0]
    options = {"kind": vocoder.kind, "calls": calls, "scale": vocoder.scale} | changes
    parts = []
    for start in range(0, len(mels), batch):
        some = mels[start : start + batch].to(device)
        mine = list(generators[start : start + batch])
        parts.append(make(vocoder.model, vocoder.schedule, some, generator=mine, **options).cpu())
    x = torch.cat(parts)[:, None]
    return x / x.abs().amax(-1, keepdim=True).clamp(min=1.0)
