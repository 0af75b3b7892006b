"""Draws the pictures of reports into pages: curves as SVG, images as PNG, each with a text.

Two curves differ in their dashes, not only in colour; what the picture shows stands in words for
those who cannot see it.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from coursework.pictures import STEPS
from coursework.safe import plain

WIDTH, HEIGHT, PAD = 480, 160, 8


def figure(picture: dict[str, Any] | None) -> Markup:
    """The ``<figure>`` of what ``Picture.to_dict`` wrote; empty for None."""
    if not picture:
        return Markup("")
    return _images(picture) if picture["kind"] == "image" else _curves(picture)


def _values(picture: dict, name: str) -> np.ndarray:
    """In units of the result: float64, NaN where nothing is known."""
    if picture["kind"] == "image":
        raw = np.frombuffer(base64.b64decode(picture[name]), np.uint8)
        share = raw.reshape(picture["shape"]) / 255
    else:
        share = np.array([np.nan if v is None else v / STEPS for v in picture[name]])
    return picture["low"] + share * (picture["high"] - picture["low"])


def _curves(picture: dict) -> Markup:
    got, expected = _values(picture, "got"), _values(picture, "expected")
    low, high = picture["low"], picture["high"]
    case = escape(plain(picture["case"]))
    alt = (
        f"Two curves over {picture['size'][0]} values. Expected, solid: {_course_of(expected)}. "
        f"Yours, dashed: {_course_of(got)}."
    )
    paths = "".join(
        f'<path class="{kind}" d="{_path(values, low, high)}"/>'
        for kind, values in (("expected", expected), ("yours", got))
    )
    left_out = " Yours goes beyond the edge." if picture["left_out"] else ""
    return Markup(
        f'<figure class="picture"><svg role="img" aria-label="{escape(alt)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}"><rect x="1" y="1" width="{WIDTH - 2}" '
        f'height="{HEIGHT - 2}"/>{paths}</svg>'
        '<p class="legend"><span class="key"><svg aria-hidden="true" viewBox="0 0 36 8">'
        '<path class="expected" d="M0,4H36"/></svg> expected</span> '
        '<span class="key"><svg aria-hidden="true" viewBox="0 0 36 8">'
        '<path class="yours" d="M0,4H36"/></svg> yours</span></p>'
        f"<figcaption>Case “{case}”, row {picture['place']}: from {low:.3g} at the bottom to "
        f"{high:.3g} at the top.{left_out}</figcaption></figure>"
    )


def _course_of(values: np.ndarray) -> str:
    """A curve in words."""
    known = values[~np.isnan(values)]
    if not known.size:
        return "nothing but NaN"
    holes = f", with {len(values) - len(known)} gaps (NaN)" if len(known) < len(values) else ""
    return (
        f"from {known[0]:.3g} to {known[-1]:.3g}, lowest {known.min():.3g}, "
        f"highest {known.max():.3g}{holes}"
    )


def _path(values: np.ndarray, low: float, high: float) -> str:
    points, pen = [], "M"
    for i, v in enumerate(values):
        if np.isnan(v):
            pen = "M"
            continue
        x = PAD + (WIDTH - 2 * PAD) * i / max(len(values) - 1, 1)
        y = HEIGHT - PAD - (HEIGHT - 2 * PAD) * (v - low) / max(high - low, 1e-300)
        points.append(f"{pen}{x:.1f},{y:.1f}")
        pen = "L"
    return "".join(points)


def _images(picture: dict) -> Markup:
    got, expected = _values(picture, "got"), _values(picture, "expected")
    low, high = picture["low"], picture["high"]
    span = max(high - low, 1e-300)
    error = np.abs(got - expected)
    row, column = map(int, np.unravel_index(int(error.argmax()), error.shape))
    brighter = "brighter" if got[row, column] > expected[row, column] else "darker"
    h, w = picture["size"]
    where = f"row {row * h // error.shape[0]}, column {column * w // error.shape[1]}"
    far = f"; the largest difference is at {where}, where yours is {brighter}"
    mean = f"{100 * (error > span / 255).mean():.0f} % of the pixels differ" + far
    panels = (
        ("yours", (got - low) / span, f"Your result, {h} by {w} values as grey levels"),
        ("expected", (expected - low) / span, f"The expected, {h} by {w} values as grey levels"),
        ("difference", error / max(float(error.max()), 1e-300), f"The difference: {mean}"),
    )
    shown = "".join(
        f'<div><img alt="{escape(alt)}" src="{_png(levels)}"><span class="label">{name}</span>'
        "</div>"
        for name, levels, alt in panels
    )
    left_out = " Yours has values beyond that, drawn as black or white." * picture["left_out"]
    case = escape(plain(picture["case"]))
    return Markup(
        f'<figure class="picture"><div class="panels">{shown}</div><figcaption>Case “{case}”, '
        f"image {picture['place']}: black is {low:.3g}, white is {high:.3g}.{left_out} In the "
        "difference, white is where the two are furthest apart.</figcaption></figure>"
    )


def _png(levels: np.ndarray) -> str:
    from PIL import Image

    pixels = (np.clip(levels, 0, 1) * 255).astype(np.uint8)
    factor = max(1, 128 // max(pixels.shape))
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
