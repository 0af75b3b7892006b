"""Colours that mean the same thing in every lesson, and stay apart without colour.

The eight colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), chosen to be told apart
under the common colour-vision deficiencies. Every role also has a line style and a marker of its
own, so that a figure printed in grey loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#767676"

Dash = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Style:
    """How a series is drawn: ``color``, ``linestyle`` and ``marker`` as matplotlib takes them."""

    color: str
    linestyle: Dash
    marker: str


ROLES: dict[str, Style] = {
    "data": Style(BLUE, "-", "o"),
    "noise": Style(ORANGE, (0, (1, 1.2)), "x"),
    "model": Style(VERMILLION, "--", "^"),
    "expected": Style(BLACK, (0, (6, 1.5)), "s"),
    "bound": Style(GREY, (0, (5, 1.5, 1, 1.5)), "_"),
}
ALIASES = {
    "real": "data",
    "yours": "model",
    "generated": "model",
    "reference": "expected",
    "exact": "expected",
    "floor": "bound",
}

# For series without a fixed meaning (the schedules of a comparison, say): none of them looks like
# a role, in colour, in dashes or in marker taken together.
SERIES: tuple[Style, ...] = (
    Style(GREEN, "-", "D"),
    Style(PURPLE, (0, (4, 1.5)), "v"),
    Style(SKY, (0, (7, 1.5, 1.5, 1.5)), "P"),
    Style(BLACK, (0, (1.5, 1.5)), "*"),
    Style(ORANGE, (0, (9, 2)), "h"),
    Style(BLUE, (0, (3, 1, 1, 1, 1, 1)), "<"),
    Style(VERMILLION, (0, (2, 2.5)), ">"),
)


def role(name: str) -> Style:
    """The style of a role ("data", "noise", "model", "expected", "bound") or of an alias of one.

    Raises ValueError for any other name.
    """
    key = ALIASES.get(name, name)
    if key not in ROLES:
        known = ", ".join([*ROLES, *ALIASES])
        raise ValueError(f"no role is called {name!r}: there are {known}")
    return ROLES[key]


def styles(names: list[str], roles: dict[str, str] | None = None) -> list[Style]:
    """One style for each name of a figure.

    A name that ``roles`` maps to a role, or that is a role's name or alias, gets that role's
    style; the others take the series' styles in turn, so that a figure repeats none before it
    must. Raises ValueError when ``roles`` names an unknown role.
    """
    roles = roles or {}
    chosen, turn = [], 0
    for name in names:
        if name in roles:
            chosen.append(role(roles[name]))
        elif ALIASES.get(name, name) in ROLES:
            chosen.append(role(name))
        else:
            chosen.append(SERIES[turn % len(SERIES)])
            turn += 1
    return chosen
