"""Samples from checkpoints: in batches, seeded per sample, as arrays and grids."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

from undiffuse.checkpoints import Checkpoint
from undiffuse.guidance import guided
from undiffuse.process import from_model_range
from undiffuse.sampling import sample


def draw(
    checkpoint: Checkpoint,
    count: int,
    *,
    calls: int = 20,
    seed: int = 0,
    solver: str = "dpmpp_2m",
    guidance: float = 1.0,
    label: int | None = None,
    batch: int = 250,
    clip: tuple[float, float] | None = (-1.0, 1.0),
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(samples (count, C, ...) float32 in [-1, 1], labels (count,) int64 or None).

    Classes come in turn, 0, 1, 2, ..., unless ``label`` names one. Each batch has a generator
    seeded with (seed, its number). Raises ValueError for count < 1 or a label that the network
    does not know.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    classes = checkpoint.null
    if label is not None and (classes is None or not 0 <= label < classes):
        known = f"0 to {classes - 1}" if classes else "none: it was trained without"
        raise ValueError(f"label {label} is not one that {checkpoint.name} knows ({known})")
    labels = None
    if classes is not None:
        labels = torch.arange(count) % classes if label is None else torch.full((count,), label)
    model = checkpoint.model
    if guidance != 1.0:
        if classes is None:
            raise ValueError(f"{checkpoint.name} knows no classes, so there is nothing to guide by")
        model = guided(model, classes, guidance)
    device = next(checkpoint.model.parameters()).device
    parts = []
    for number, start in enumerate(range(0, count, batch)):
        n = min(batch, count - start)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        cond = labels[start : start + n].to(device) if labels is not None else None
        x = sample(
            model,
            checkpoint.schedule,
            (n, *checkpoint.shape),
            kind=checkpoint.kind,
            solver=solver,
            calls=calls,
            cond=cond,
            generator=generator,
            clip=clip,
            device=device,
        )
        parts.append(x.cpu())
    return torch.cat(parts), labels


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] as uint8 (N, H, W) for one channel, (N, H, W, C) for more."""
    pixels = from_model_range(images)
    return (pixels[:, 0] if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1)).numpy()


def save_grid(path: str | os.PathLike, pixels: np.ndarray, columns: int | None = None) -> None:
    """Writes uint8 images (N, H, W[, C]) as one picture, a pixel of margin between them."""
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
