"""Printed digits: as many as one likes, from the fonts that come with matplotlib (lesson 09).

A network that learnt these knows strokes and what each class is, and has seen no handwriting: a
beginning for those who have few digits. Each digit gets a font, a thickness, a slant, a turn, a
stretch and a gentle bend at random, and is then laid out as MNIST's are: 20 pixels at most, centred
by its mass in 28 x 28 (LeCun et al. 1998).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmtt10", "cmss10", "cmb10",
            "cmmi10")  # fmt: skip
LARGE, SIZE, BOX = 224, 28, 20  # pixels: drawn at, laid out in, at most


@functools.lru_cache(maxsize=1)
def fonts() -> tuple:
    """PIL's fonts of ``FAMILIES``, in the order of their files' names."""
    from pathlib import Path

    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted(p for p in folder.glob("*.ttf") if p.name.startswith(FAMILIES))
    files = [p for p in files if "Display" not in p.name]
    if not files:
        raise FileNotFoundError(f"none of matplotlib's fonts lie in {folder}")
    return tuple(ImageFont.truetype(str(p), 88) for p in files)


def printed_digits(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 (n, 1, 28, 28) in [-1, 1] and labels int64 (n,): 0 to 9 in turn.

    The same for the same seed, with the same matplotlib and Pillow. Raises ValueError for an n
    below 1.
    """
    import torch

    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    g = np.random.default_rng(seed)
    images = np.stack([_digit(i % 10, g) for i in range(n)])
    return torch.from_numpy(images[:, None] / np.float32(127.5) - 1), torch.arange(n) % 10


def _digit(digit: int, g: np.random.Generator) -> np.ndarray:
    """float32 (28, 28) in [0, 255]."""
    from PIL import Image, ImageDraw
    from scipy.ndimage import map_coordinates

    faces = fonts()
    face, stroke = faces[g.integers(len(faces))], int(g.integers(0, 4))
    image = Image.new("L", (LARGE, LARGE), 0)
    middle = LARGE / 2
    ImageDraw.Draw(image).text(
        (middle, middle), str(digit), font=face, fill=255, anchor="mm", stroke_width=stroke
    )

    def within(mean: float, spread: float) -> float:
        return mean + spread * float(np.clip(g.normal(), -2, 2))

    turn, slant = np.deg2rad(within(0.0, 8.0)), within(0.1, 0.15)
    wide, tall = np.exp(within(0.0, 0.15)), np.exp(within(0.0, 0.08))
    cos, sin = np.cos(turn), np.sin(turn)
    moved = np.array([[cos, -sin], [sin, cos]]) @ np.array([[wide, -slant], [0.0, tall]])
    back = np.linalg.inv(moved)
    y, x = np.mgrid[:LARGE, :LARGE].astype(np.float64)

    def wave(along: np.ndarray) -> np.ndarray:
        high, turns, start = g.normal(0, 4.5), g.uniform(1, 2.2), g.uniform(0, 2 * np.pi)
        return high * np.sin(turns * np.pi * along / middle + start)

    # Where each pixel comes from: a little bent, then back through the matrix.
    bent_x = x + wave(x) + wave(y)
    bent_y = y + wave(x) + wave(y)
    at = np.stack([bent_x - middle, bent_y - middle])
    from_x, from_y = np.tensordot(back, at, 1) + middle
    pixels = map_coordinates(np.asarray(image, np.float32), [from_y, from_x], order=1)
    return _laid_out(pixels.clip(0, 255))


def _laid_out(pixels: np.ndarray) -> np.ndarray:
    """Cut to its ink, made as large as fits in 20 x 20, its centre of mass in the middle."""
    from PIL import Image

    ink = np.argwhere(pixels > 40)
    (top, left), (bottom, right) = ink.min(0), ink.max(0) + 1
    share = BOX / max(bottom - top, right - left)
    height = max(1, round((bottom - top) * share))
    width = max(1, round((right - left) * share))
    cut = Image.fromarray(pixels[top:bottom, left:right].astype(np.uint8))
    small = np.asarray(cut.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    mass = small.sum()
    at = []
    for length, axis in ((height, 1), (width, 0)):
        centre = float((small.sum(axis) * np.arange(length)).sum() / mass)
        at.append(min(max(round((SIZE - 1) / 2 - centre), 0), SIZE - length))
    out = np.zeros((SIZE, SIZE), np.float32)
    out[at[0] : at[0] + height, at[1] : at[1] + width] = small
    return out
