"""What every figure shares: showing it, its axes and legend, and looking at what is to be drawn."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from undiffuse import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = Any  # a torch tensor, a numpy array or a nested sequence of numbers
DPI = 100
WIDTH = 7.0  # inches: 700 pixels, what a notebook shows without scaling
BIG_PNG = 40_000  # bytes from which a picture is stored in 256 colours


def show(fig: Figure, alt: str, caption: str = "") -> None:
    """Put ``fig`` into the notebook as a PNG with alternative text, and close it.

    alt: what somebody who cannot see the figure needs to know; may not be empty
    caption: Markdown (with LaTeX) below the figure: what to see in it

    Outside a notebook nothing is drawn: the alternative text and the caption are printed.
    Raises TypeError when ``fig`` is no Figure, ValueError when ``alt`` is empty.
    """
    from matplotlib.figure import Figure

    if not isinstance(fig, Figure):
        raise TypeError(f"show wants a matplotlib Figure, got {type(fig).__name__}")
    alt = alt_text(alt)
    data = png(fig)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)
    if notebook_kernel() is None:
        print(f"[figure] {alt}")
        if caption:
            print(f"         {caption}")
        return
    from IPython.display import Image, Markdown, display

    display(Image(data=data, format="png", alt=alt))
    if caption:
        display(Markdown(caption))


def png(fig: Figure, colours: int | None = None) -> bytes:
    """``fig`` as a PNG file, the same bytes for the same figure.

    colours: at most so many, for a smaller file; None is all, or 256 where that would be large.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(fig)
    out = io.BytesIO()
    fig.savefig(
        out, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": ""}
    )
    if colours or out.tell() > BIG_PNG:
        from PIL import Image

        small = io.BytesIO()
        picture = Image.open(out).convert("RGB")
        # Of few colours each has to count; of many, the frequent ones may have more.
        way = Image.Quantize.MAXCOVERAGE if colours else Image.Quantize.MEDIANCUT
        picture.quantize(colours or 256, way).save(small, "PNG", optimize=True)
        if small.tell() < out.tell():
            out = small
    return out.getvalue()


def notebook_kernel():
    """The notebook's kernel, or None in a terminal or a script."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None)


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def new_axes(fig: Figure, xlabel: str, ylabel: str, title: str) -> Axes:
    return dress(fig.add_subplot(), xlabel, ylabel, title)


def dress(ax: Axes, xlabel: str, ylabel: str, title: str) -> Axes:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize=11)
    ax.grid(True, color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def draw_floor(ax: Axes, floor: float | Sequence[float], name: str) -> None:
    style = palette.role("bound")
    v = np.ravel(finite(numbers(floor, name), name))
    if len(v) > 1:
        ax.axhspan(v.min(), v.max(), color=style.color, alpha=0.2, linewidth=0)
    line = {"color": style.color, "linestyle": style.linestyle, "linewidth": 1.3}
    ax.axhline(float(v.mean()), label=name, zorder=1, **line)


def draw_legend(ax: Axes) -> None:
    ax.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9, handlelength=3.2)


def numbers(x: Array, what: str) -> np.ndarray:
    """``x`` as a numpy array of numbers with something in it; tensors from any device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        # numpy has no bfloat16
        x = x.float().numpy() if x.is_floating_point() and x.itemsize < 4 else x.numpy()
    try:
        x = np.asarray(x)
    except ValueError as e:
        raise ValueError(f"{what} is not an array of numbers: its rows differ in length") from e
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{what} holds {x.dtype}: real numbers are wanted")
    if x.size == 0:
        raise ValueError(f"{what} is empty, with shape {x.shape}: there is nothing to draw")
    return x


def finite(x: np.ndarray, what: str) -> np.ndarray:
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise ValueError(
            f"{what}: {bad} of {x.size} numbers are NaN or infinite and cannot be drawn"
        )
    return x


def as_runs(v: Array, name: str) -> np.ndarray:
    """Values as (runs, n) float64."""
    v = numbers(v, name).astype(np.float64)
    if v.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {v.shape}: (n,) or (runs, n) is wanted")
    if not np.isfinite(v).any():
        raise ValueError(f"{name}: none of its {v.size} numbers is finite")
    return np.atleast_2d(v)


def named(values: Mapping[str, Array], what: str) -> Mapping[str, Array]:
    if not is_map(values):
        raise TypeError(f"{what} is {type(values).__name__}: a dict, name -> values, is wanted")
    if not values:
        raise ValueError(f"{what} is empty: there is nothing to draw")
    return values


def is_map(x) -> bool:
    return isinstance(x, Mapping)


def alt_text(alt: str) -> str:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("alt is empty: say what somebody who cannot see the figure needs to know")
    return alt.strip()


def as_word(value) -> str:
    """A label: whole numbers without a point, others with three digits."""
    if hasattr(value, "item"):
        value = value.item()
    return f"{value:.3g}" if isinstance(value, float) else str(value)
