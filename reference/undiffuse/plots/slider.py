"""A slider over noise levels, and what stands in for it where nobody can move one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from undiffuse.plots.base import Array, alt_text, notebook_kernel, numbers, png, show
from undiffuse.plots.images import forward_strip, image_grid

if TYPE_CHECKING:
    pass


def schedule_slider(
    make: Callable[[str, int], Array],
    steps: int,
    *,
    names: Sequence[str] = ("",),
    alt: str,
    caption: str = "",
    start: int | None = None,
    shown: int = 8,
) -> None:
    """Samples at a time step that the learner picks with a slider, a row for each schedule.

    make: (name, t) -> images (B, H, W) or (B, 1, H, W) in [-1, 1] at the integer step t. It should
        use the same noise each time, or the picture flickers.
    steps: T, so that t runs from 0 to T - 1; start: the first t, the middle when left out
    alt, caption: as in ``show``

    Where no one is there to move it (a notebook that is run from the command line, UNDIFFUSE_STATIC
    set, no ipywidgets), the first sample is shown at ``shown`` steps instead.
    """
    alt = alt_text(alt)
    if steps < 2:
        raise ValueError(f"steps is {steps}: 2 or more are wanted")
    if start is not None and not 0 <= start < steps:
        raise ValueError(f"start is {start}: 0 to {steps - 1} is wanted")
    if not _somebody_there():
        ts = [round(t) for t in np.linspace(0, steps - 1, min(shown, steps))]
        levels = [np.stack([numbers(make(name, t), "make")[0] for name in names]) for t in ts]
        fig = forward_strip(levels, ts, row_labels=names, row_name="schedule")
        show(fig, alt, caption)
        return
    import base64
    from html import escape

    import ipywidgets
    from IPython.display import Markdown, display

    def picture(t: int) -> str:
        images = np.concatenate([numbers(make(name, t), "make") for name in names])
        columns = len(images) // len(names)
        data = base64.b64encode(png(image_grid(images, columns=columns))).decode()
        words = escape(f"{alt} Now at t = {t}; rows: {', '.join(names)}.", quote=True)
        return f'<img alt="{words}" src="data:image/png;base64,{data}">'

    first = steps // 2 if start is None else start
    slider = ipywidgets.IntSlider(
        value=first,
        min=0,
        max=steps - 1,
        description="t",
        layout=ipywidgets.Layout(width="420px"),
    )
    rows = ipywidgets.HTML("<br>".join(f"row {i}: {escape(n)}" for i, n in enumerate(names, 1)))
    image = ipywidgets.HTML(picture(first))
    slider.observe(lambda change: setattr(image, "value", picture(change["new"])), names="value")
    display(ipywidgets.VBox([slider, image] + ([rows] if len(names) > 1 else [])))
    if caption:
        display(Markdown(caption))


def _somebody_there() -> bool:
    """Whether this cell was run by a person who can move a slider."""
    if os.environ.get("UNDIFFUSE_STATIC"):
        return False
    kernel = notebook_kernel()
    # A front end lets the kernel ask for input; nbclient, nbconvert and nbval, which run notebooks
    # with nobody before them, do not.
    if kernel is None or not getattr(kernel, "_allow_stdin", False):
        return False
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return False
    return True
