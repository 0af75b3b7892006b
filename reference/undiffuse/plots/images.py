"""Figures made of images: grids, comparisons, noise level by noise level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import palette
from undiffuse.plots.base import WIDTH, Array, as_word, finite, new_figure, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 3  # pixels between the images of a grid


def image_grid(
    images: Array,
    labels: Sequence | None = None,
    *,
    columns: int | None = None,
    title: str = "",
) -> Figure:
    """Images side by side, at most ten a row unless ``columns`` says otherwise.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), or one (H, W); uint8, or floats in [-1, 1]:
        what lies outside is drawn as the nearest end
    labels: N short texts or numbers, one below each image; what is wider than it goes on in
        another line, and a word that still is gets smaller letters
    """
    pixels = _pixels(images, "images")
    n, h, w = pixels.shape[:3]
    if labels is not None and len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} images: one for each is wanted")
    if columns is not None and columns < 1:
        raise ValueError(f"columns is {columns}: at least 1 is wanted")
    columns = min(n, columns or 10)
    rows = -(-n // columns)
    cell = min(0.9, WIDTH / columns / (1 + GAP / w))
    words, size = _wrapped(labels, cell, 9 if rows < 8 else 7)
    most = max((1 + word.count("\n") for word in words), default=0)
    line = (0.17 if most < 2 else 0.2) * max(h, w) / cell  # room for one, in image pixels
    text = most * line
    sheet, at = _mosaic(pixels, columns, extra=round(text))
    scale = cell / w
    fig = new_figure(max(1.0, sheet.shape[1] * scale), max(0.5, sheet.shape[0] * scale))
    ax = _picture(fig, sheet)
    for (top, left), word in zip(at, words):
        for i, part in enumerate(word.split("\n")):
            where = (left + w / 2, top + h + (i + 0.72) * line)
            ax.text(*where, part, ha="center", va="baseline", fontsize=size)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def _wrapped(labels: Sequence | None, inches: float, size: float) -> tuple[list[str], float]:
    """Labels in lines no wider than ``inches``, and the size of their letters in points."""
    from matplotlib.textpath import TextPath

    room = 72 * inches

    def wide(text: str) -> float:
        return TextPath((0, 0), text, size=size).get_extents().width if text else 0.0

    wrapped, widest = [], 0.0
    for label in labels or ():
        lines = [""]
        for word in as_word(label).split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and wide(longer) > room:
                lines.append(word)
            else:
                lines[-1] = longer
        wrapped.append("\n".join(lines))
        widest = max(widest, *map(wide, lines))
    return wrapped, max(size * room / widest, 5) if widest > room else size


def compare_images(
    yours: Array,
    expected: Array,
    *,
    names: tuple[str, str] = ("yours", "expected"),
    difference: bool = True,
    title: str = "",
) -> Figure:
    """Two sets of images, one below the other, and what sets them apart.

    yours, expected: the same shape, as in ``image_grid``; at most the first 10 are drawn. The
    row of differences is scaled to its largest; grey is none, white is too bright, black too dark.
    """
    a, b = _pixels(yours, names[0])[:10], _pixels(expected, names[1])[:10]
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} is {a.shape} and {names[1]} is {b.shape}: shapes must agree")
    rows, words = [a, b], list(names)
    if difference:
        gap = numbers(yours, names[0]).astype(float) - numbers(expected, names[1]).astype(float)
        largest = float(np.abs(gap).max())
        rows.append((a - b) / (2 * np.abs(a - b).max() or 1) + 0.5)
        words.append(f"difference\n(at most {largest:.2g})")
    n, h, w = a.shape[:3]
    sheet, at = _mosaic(np.concatenate(rows), n)
    scale = min(0.62, (WIDTH - 1) / n) / w
    fig = new_figure(sheet.shape[1] * scale + 1, sheet.shape[0] * scale)
    ax = _picture(fig, sheet)
    for row, word in enumerate(words):
        where = (-0.12 * w, at[row * n][0] + h / 2)
        ax.text(*where, word, ha="right", va="center", fontsize=10)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def forward_strip(
    levels: Array,
    level_labels: Sequence,
    *,
    row_labels: Sequence | None = None,
    level_name: str = "t",
    row_name: str = "sample",
    title: str = "",
) -> Figure:
    """The same samples at several noise levels: a column for each level, a row for each sample.

    levels: K levels of B samples, (K, B, H, W), (K, B, C, H, W) for images with C = 1 or 3, or
        (K, B, L), (K, B, 1, L) for sounds; a list of K tensors (B, ...) will do
    level_labels: K texts or numbers, written below; row_labels: B of them, written at the left
    """
    if isinstance(levels, list | tuple):
        levels = np.stack([numbers(level, "levels") for level in levels])
    x = finite(numbers(levels, "levels"), "levels")
    if x.ndim == 4 and x.shape[2] == 1:
        x = x[:, :, 0]
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"levels has shape {x.shape}: (levels, samples, H, W), (levels, samples, C, H, W) or "
            "(levels, samples, L) is wanted"
        )
    k, b = x.shape[:2]
    if len(level_labels) != k:
        raise ValueError(f"{len(level_labels)} level labels for {k} levels")
    if row_labels is not None and len(row_labels) != b:
        raise ValueError(f"{len(row_labels)} row labels for {b} rows")
    row_labels = range(1, b + 1) if row_labels is None else row_labels
    if x.ndim == 3:
        return _sound_strip(x, level_labels, row_labels, level_name, row_name, title)
    pixels = _pixels(x.swapaxes(0, 1).reshape(b * k, *x.shape[2:]), "levels")
    h, w = pixels.shape[1:3]
    sheet, at = _mosaic(pixels, k)
    scale = min(0.9, (WIDTH - 0.8) / k / (1 + GAP / w)) / w
    fig = new_figure(sheet.shape[1] * scale + 0.6, sheet.shape[0] * scale + 0.4)
    ax = _picture(fig, sheet, frame=True)
    ax.set_xticks([at[c][1] + w / 2 - 0.5 for c in range(k)], [as_word(v) for v in level_labels])
    ax.set_yticks([at[r * k][0] + h / 2 - 0.5 for r in range(b)], [as_word(v) for v in row_labels])
    ax.set_xlabel(level_name)
    ax.set_ylabel(row_name)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def _sound_strip(x, level_labels, row_labels, level_name, row_name, title) -> Figure:
    k, b = x.shape[:2]
    fig = new_figure(WIDTH, 0.9 * b + 0.5)
    grid = fig.subplots(b, k, squeeze=False, sharex=True, sharey=True)
    # One tall sample in ten thousand must not press all others flat.
    reach = float(np.quantile(np.abs(x), 0.9999)) or 1.0
    for r in range(b):
        for c in range(k):
            ax = grid[r, c]
            ax.plot(x[c, r], color=palette.role("data").color, linewidth=0.5)
            ax.set_ylim(-1.05 * reach, 1.05 * reach)
            ax.set_xticks([])
            ax.set_yticks([])
            for side in ("top", "right", "bottom", "left"):
                ax.spines[side].set_color("0.8")
            if r == b - 1:
                ax.set_xlabel(as_word(level_labels[c]), fontsize=9)
            if c == 0:
                ax.set_ylabel(as_word(row_labels[r]), fontsize=9)
    fig.supxlabel(level_name, fontsize=10)
    fig.supylabel(row_name, fontsize=10)
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


def _picture(fig: Figure, sheet: np.ndarray, frame: bool = False) -> Axes:
    ax = fig.add_subplot()
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
    if not frame:
        ax.set_xticks([])
        ax.set_yticks([])
    return ax


def _mosaic(pixels: np.ndarray, columns: int, extra: int = 0) -> tuple[np.ndarray, list]:
    """One white sheet with the images on it, and each one's (top, left)."""
    n, h, w = pixels.shape[:3]
    rows = -(-n // columns)
    down, across = h + GAP + extra, w + GAP
    sheet = np.ones((rows * down - GAP, columns * across - GAP, *pixels.shape[3:]))
    at = [(i // columns * down, i % columns * across) for i in range(n)]
    for (top, left), image in zip(at, pixels):
        sheet[top : top + h, left : left + w] = image
    return sheet, at


def _pixels(images: Array, what: str) -> np.ndarray:
    """Images as floats in [0, 1], (N, H, W) or (N, H, W, 3)."""
    x = numbers(images, what)
    shape = x.shape
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 4 and x.shape[1] == 3:
        x = np.moveaxis(x, 1, -1)
    elif x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    elif x.ndim != 3:
        raise ValueError(
            f"{what} has shape {shape}: (N, H, W), (N, 1, H, W), (N, 3, H, W) or (H, W) is wanted"
        )
    if x.dtype == np.uint8:
        return x / 255.0
    return np.clip((finite(x, what).astype(float) + 1) / 2, 0, 1)
