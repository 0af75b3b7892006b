"""Colours of figures as people with a colour-vision deficiency see them.

Simulated by Machado, Oliveira and Fernandes 2009 (https://doi.org/10.1109/TVCG.2009.113), table 1,
at full severity, on linear RGB; compared by CIEDE2000, in which a just noticeable difference is
about 1 (https://doi.org/10.1002/col.20070). Thin lines need more than patches do: what can stand in
one figure has to differ by ``APART``. Where two colours come nearer than that (they do not stand in
one figure before five others), the dashes and the markers differ, and a test says so.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from undiffuse import palette

APART = 10.0
MACHADO = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
SRGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = SRGB.sum(1)
EYES = ["usual", *MACHADO]


def lab(color: str, eyes: str = "usual") -> np.ndarray:
    """CIELAB (3,) of "#RRGGBB", seen on a screen by ``eyes``."""
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    if eyes != "usual":
        linear = np.clip(np.array(MACHADO[eyes]) @ linear, 0, 1)
    ratio = SRGB @ linear / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """CIEDE2000 of two CIELAB colours (Sharma, Wu, Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = map(lambda v: map(float, v), (a, b))
    mean = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(y, x)) % 360 for x, y in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dl, dc = l2 - l1, c2 - c1
    dh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    ml, mc = (l1 + l2) / 2, (c1 + c2) / 2
    mh = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    t = 1 - 0.17 * _cos(mh - 30) + 0.24 * _cos(2 * mh) + 0.32 * _cos(3 * mh + 6)
    t -= 0.20 * _cos(4 * mh - 63)
    sl = 1 + 0.015 * (ml - 50) ** 2 / math.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    turned = 60 * math.exp(-(((mh - 275) / 25) ** 2))
    rt = -2 * math.sqrt(mc**7 / (mc**7 + 25**7)) * math.sin(math.radians(turned))
    parts = dl / sl, dc / sc, dh / sh
    return math.sqrt(sum(p * p for p in parts) + rt * parts[1] * parts[2])


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_agrees_with_its_paper(first, second, wanted):
    """Pairs 1, 4, 17, 18, 29 and 34 of table 1 there, to the four digits printed."""
    assert difference(np.array(first), np.array(second)) == pytest.approx(wanted, abs=6e-5)


def test_the_simulation_leaves_grey_and_takes_red_from_green():
    for eyes in MACHADO:
        assert difference(lab("#808080", eyes), lab("#808080")) < 1.5
    red, green = "#C04040", "#408040"
    assert difference(lab(red), lab(green)) > 40
    assert difference(lab(red, "deuteranopia"), lab(green, "deuteranopia")) < 20


@pytest.mark.parametrize("eyes", EYES)
def test_roles_stay_apart(eyes):
    for (one, a), (other, b) in itertools.combinations(palette.ROLES.items(), 2):
        seen = difference(lab(a.color, eyes), lab(b.color, eyes))
        assert seen >= APART, f"{one} and {other} differ by {seen:.1f} to {eyes}"


@pytest.mark.parametrize("eyes", EYES)
def test_series_of_one_figure_stay_apart(eyes):
    for (i, a), (j, b) in itertools.combinations(enumerate(palette.SERIES), 2):
        seen = difference(lab(a.color, eyes), lab(b.color, eyes))
        assert seen >= APART, f"series {i} and {j} differ by {seen:.1f} to {eyes}"


def test_nothing_is_told_by_colour_alone():
    styles = [*palette.ROLES.values(), *palette.SERIES]
    for a, b in itertools.combinations(styles, 2):
        assert (str(a.linestyle), a.marker) != (str(b.linestyle), b.marker)
        assert a.marker != b.marker


@pytest.mark.parametrize("eyes", EYES)
def test_lines_stand_out_from_white_paper(eyes):
    for style in [*palette.ROLES.values(), *palette.SERIES]:
        assert difference(lab(style.color, eyes), lab("#FFFFFF", eyes)) >= 2 * APART
