"""What lessons may use, and one function that is asked for."""

from pathlib import Path

from toy._inner import half
from toy.secret import scale as imported_scale

__all__ = ["center", "half", "numbers", "scale"]


def scale(x, k):
    """SECRET-LIBRARY: asked for in 01.1."""
    return imported_scale(x, k)


def center(x):
    """Free to use."""
    return x - x.mean()


def numbers():
    """What the course's data folder holds."""
    text = (Path(__file__).parents[2] / "data" / "numbers.txt").read_text()
    return [float(n) for n in text.split()]
