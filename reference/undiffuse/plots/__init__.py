"""The figures of the lessons. Each function takes tensors or arrays and returns a Figure.

    show(fig, alt, caption="")                              put a figure into the notebook

    image_grid(images, labels=None, *, columns=None, title="")
    compare_images(yours, expected, *, names=("yours", "expected"), difference=True)
    forward_strip(levels, level_labels, *, row_labels=None, level_name="t", title="")
    curves(series, x=None, *, xlabel, ylabel, ...)          lines; several runs get a band
    schedule_curves(alpha_bars, *, x=None, ...)             {name: alpha_bar (T,)}
    log_snr_curves(log_snrs, *, x=None, ...)                {name: log SNR (T,)}
    loss_curves(losses, *, every=1, log_y=False, ...)       {name: (steps,) or (seeds, steps)}
    bar_with_spread(results, *, ylabel, floor=None, ...)    {condition: one value per seed}
    histogram(samples, *, bins=40, density=None, ...)       {name: values}, with exact densities
    points2d(sets, *, limits=None, panels=False, ...)       {name: (N, 2)}
    trajectories2d(paths, *, data=None, ...)                (steps, B, 2)
    vector_field2d(field, *, limits=3.0, n=21, ...)         a score or a velocity, as a function
    waveforms(clips, rate, *, title="")                     {name: (L,)}
    spectra(clips, rate, *, title="")                       {name: (L,)}, level in dB

    schedule_slider(make, steps, *, names, alt, ...)        noise by hand; a strip without widgets
    prompt_box(draw, *, start, alt, ...)                    words in, pictures and their way out

Series called "data", "noise", "model"/"yours", "expected"/"reference" or "bound"/"floor" get the
colours and dashes that these have everywhere (``undiffuse.palette``); ``roles={"DDPM": "model"}``
gives such a meaning to another name. Images are in [-1, 1] unless they are uint8. Matplotlib is
imported when a figure is made, and no global setting of it is touched. Every function raises
TypeError or ValueError for input that cannot be drawn: wrong shape, nothing in it, NaN.
"""

from undiffuse.plots.base import png, show
from undiffuse.plots.images import compare_images, forward_strip, image_grid
from undiffuse.plots.lines import (
    bar_with_spread,
    curves,
    histogram,
    log_snr_curves,
    loss_curves,
    schedule_curves,
)
from undiffuse.plots.plane import points2d, trajectories2d, vector_field2d
from undiffuse.plots.prompting import prompt_box
from undiffuse.plots.slider import schedule_slider
from undiffuse.plots.sound import spectra, waveforms

__all__ = [
    "bar_with_spread",
    "compare_images",
    "curves",
    "forward_strip",
    "histogram",
    "image_grid",
    "log_snr_curves",
    "loss_curves",
    "png",
    "points2d",
    "prompt_box",
    "schedule_curves",
    "schedule_slider",
    "show",
    "spectra",
    "trajectories2d",
    "vector_field2d",
    "waveforms",
]
