"""A box for prompts: words in, pictures out, with progress and the way that they came about."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from undiffuse.plots.base import Array, alt_text, numbers, png, show
from undiffuse.plots.images import forward_strip, image_grid
from undiffuse.plots.slider import _somebody_there

Drawn = tuple[Array, Array, Sequence[str]]


def prompt_box(
    draw: Callable[[str, str, int, Callable[[int], Any]], Drawn],
    *,
    start: str,
    calls: int,
    alt: str,
    caption: str = "",
    count: int = 4,
    shown: int = 8,
) -> None:
    """A field for a prompt and one for a negative prompt, a seed, a button, and what was drawn.

    draw: (prompt, negative, seed, progress) -> (pictures (N, C, H, W) in [-1, 1], the estimates on
        the way to them (steps, N, C, H, W), remarks in sentences); calls ``progress`` with the
        number of samples after each call of the network. start: the first prompt; calls: network
        calls a sample; count: N; shown: how many estimates are drawn; alt, caption: as in ``show``

    Where no one is there to type (a notebook that is run from the command line, UNDIFFUSE_STATIC
    set, no ipywidgets), the way of the first prompt is shown. An error of ``draw`` is written into
    the box in its own words.
    """
    alt = alt_text(alt)

    def strip(way: Array) -> Any:
        steps = np.linspace(0, len(way) - 1, min(shown, len(way))).round().astype(int)
        levels = numbers(way, "way")[steps]
        return forward_strip(levels, [int(s) + 1 for s in steps], level_name="network call")

    if not _somebody_there():
        _, way, said = draw(start, "", 0, lambda n: None)
        for line in said:
            print(line)
        show(strip(way), alt, caption)
        return

    import ipywidgets
    from IPython.display import Markdown, display

    wide = ipywidgets.Layout(width="560px")
    prompt = ipywidgets.Text(value=start, description="prompt", layout=wide)
    negative = ipywidgets.Text(description="without", placeholder="what is not wanted", layout=wide)
    seed = ipywidgets.BoundedIntText(value=0, min=0, max=2**31, description="seed")
    button = ipywidgets.Button(description="Draw", button_style="primary")
    bar = ipywidgets.IntProgress(max=calls * count, description="0 %", layout=wide)
    remarks, image = ipywidgets.HTML(), ipywidgets.HTML()

    def tag(fig: Any, words: str) -> str:
        data = base64.b64encode(png(fig)).decode()
        return f'<img alt="{escape(words, quote=True)}" src="data:image/png;base64,{data}">'

    def advance(n: int) -> None:
        bar.value = min(bar.max, bar.value + n)
        bar.description = f"{bar.value / bar.max:.0%}"

    def run(_: Any = None) -> None:
        bar.value, bar.description = 0, "0 %"
        button.disabled, remarks.value = True, ""
        try:
            pictures, way, said = draw(prompt.value, negative.value, seed.value, advance)
            lines = [escape(line) for line in said]
            words = f"{len(pictures)} pictures for the prompt: {prompt.value or 'none'}"
            image.value = tag(image_grid(pictures), words) + "<br>" + tag(strip(way), alt)
        except (ValueError, TypeError, RuntimeError) as error:
            lines = [f"nothing was drawn: {escape(str(error))}"]
        finally:
            button.disabled = False
        remarks.value = "<br>".join(lines)

    button.on_click(run)
    display(ipywidgets.VBox([prompt, negative, seed, button, bar, remarks, image]))
    run()
    if caption:
        display(Markdown(caption))
