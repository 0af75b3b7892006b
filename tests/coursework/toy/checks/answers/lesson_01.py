"""SECRET-ANSWERS of lesson 01."""

from coursework.exercise import Answers

a_scale = Answers("01.1")


@a_scale.reference
def scale(x, k):
    """SECRET-REFERENCE."""
    return x * k


def _added(x, k):
    return x + k


a_scale.misconception("added", "You add k, where it multiplies.", defines={"scale": _added})
a_shift = Answers("01.2")


@a_shift.reference
def shift(x, k):
    """SECRET-REFERENCE."""
    return x + k
