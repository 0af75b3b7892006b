"""Figures of the plane: points, ways and fields in two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import palette
from undiffuse.plots.base import WIDTH, Array, dress, finite, named, new_axes, new_figure, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def points2d(
    sets: Mapping[str, Array],
    *,
    limits: float | None = None,
    panels: bool = False,
    size: float = 9.0,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Points in the plane, each set with its own colour and marker.

    sets: name -> (N, 2); limits: the axes reach from -limits to limits; panels: a panel for each
    set, side by side, in place of all in one; size: of a point, in square points
    """
    values = {k: _plane(v, k) for k, v in named(sets, "sets").items()}
    reach = limits or 1.08 * max(float(np.abs(v).max()) for v in values.values()) or 1.0
    count = len(values) if panels else 1
    wide = min(WIDTH, 2.2 * count + 0.4) if panels else 4.2
    fig = new_figure(wide, wide / count + 0.35)
    row = fig.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    for at, ax in enumerate(row):
        dress(ax, "$x_1$", "$x_2$" if at == 0 else "", "" if panels else title)
        ax.set_aspect("equal")
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    for at, ((name, v), style) in enumerate(
        zip(values.items(), palette.styles(list(values), roles))
    ):
        ax = row[at if panels else 0]
        _dots(ax, v, style, size, name)
        if panels:
            ax.set_title(name, fontsize=10)
    if panels and title:
        fig.suptitle(title, fontsize=11)
    if not panels and len(values) > 1:
        _legend_below(fig)
    return fig


def trajectories2d(
    paths: Array,
    *,
    data: Array | None = None,
    limits: float | None = None,
    shown: int = 40,
    title: str = "",
) -> Figure:
    """Ways through the plane: from the cross (start) along the line to the triangle (end).

    paths: (steps, B, 2) in the order of travel; the first ``shown`` of the B are drawn
    data: (N, 2), drawn behind them
    """
    way = finite(numbers(paths, "paths"), "paths")
    if way.ndim != 3 or way.shape[2] != 2 or way.shape[0] < 2:
        raise ValueError(f"paths has shape {way.shape}: (steps, B, 2) with 2 steps or more wanted")
    way = way[:, :shown]
    reach = limits or 1.08 * float(np.abs(way).max()) or 1.0
    fig = new_figure(4.4, 4.6)
    ax = new_axes(fig, "$x_1$", "$x_2$", title)
    ax.set_aspect("equal")
    if data is not None:
        _dots(ax, _plane(data, "data"), palette.role("data"), 5, "data", alpha=0.45)
    ax.plot(way[..., 0], way[..., 1], color="0.45", linewidth=0.7, zorder=2)
    _dots(ax, way[0], palette.role("noise"), 22, "start")
    _dots(ax, way[-1], palette.role("model"), 22, "end")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    _legend_below(fig)
    return fig


def vector_field2d(
    field: Callable,
    *,
    limits: float = 3.0,
    n: int = 21,
    points: Array | None = None,
    name: str = "length",
    title: str = "",
) -> Figure:
    """Arrows of a field, a score or a velocity say, on an n x n grid over the plane.

    field: takes float32 (n * n, 2) and gives (n * n, 2), tensors both
    points: (N, 2), drawn behind; name: what the grey scale at the side is called

    An arrow's length grows with the root of the vector's, so that weak ones are still seen; how
    long a vector is, is told by how dark its arrow is.
    """
    import torch
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    if n < 2 or not limits > 0:
        raise ValueError(f"n is {n} and limits {limits}: 2 or more, and above 0, are wanted")
    line = torch.linspace(-limits, limits, n)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    arrows = finite(numbers(field(grid), "the field's values"), "the field's values")
    if arrows.shape != (n * n, 2):
        raise ValueError(f"the field gave shape {arrows.shape} for ({n * n}, 2)")
    length = np.linalg.norm(arrows, axis=1)
    drawn = arrows / np.sqrt(np.maximum(length, 1e-12))[:, None]
    drawn *= 1.7 * limits / (n - 1) / max(float(np.sqrt(length).max()), 1e-12)
    fig = new_figure(5.0, 4.3)
    ax = new_axes(fig, "$x_1$", "$x_2$", title)
    ax.set_aspect("equal")
    if points is not None:
        _dots(ax, _plane(points, "points"), palette.role("data"), 5, "data", alpha=0.45)
    at = grid.numpy()
    dark = ListedColormap(colormaps["cividis_r"](np.linspace(0.3, 1, 256)))  # seen on white
    quiver = ax.quiver(
        *at.T,
        *drawn.T,
        length,
        angles="xy",
        scale_units="xy",
        scale=1,
        cmap=dark,
        width=0.005,
        zorder=3,
    )
    fig.colorbar(quiver, ax=ax, label=name, shrink=0.85)
    edge = 1.06 * limits
    ax.set(xlim=(-edge, edge), ylim=(-edge, edge))
    return fig


def _dots(ax: Axes, v: np.ndarray, style: palette.Style, size: float, name: str, **more) -> None:
    line = 0.9 if style.marker in "x_" else 0
    ax.scatter(
        *v.T, s=size, color=style.color, marker=style.marker, linewidths=line, label=name, **more
    )


def _plane(v: Array, name: str) -> np.ndarray:
    v = finite(numbers(v, name), name)
    if v.ndim != 2 or v.shape[1] != 2:
        raise ValueError(f"{name} has shape {v.shape}: (N, 2) is wanted")
    return v


def _legend_below(fig: Figure) -> None:
    """A legend outside, for axes that are full of points."""
    fig.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, markerscale=1.6)
