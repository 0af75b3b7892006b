"""Answers of lesson 02."""

from coursework.exercise import Answers

a_line = Answers("02.1")


@a_line.reference
def line(x, a, b):
    """SECRET-LINE."""
    return x * a + b


a_fill = Answers("02.2")


@a_fill.reference
def fill(x):
    """SECRET-FILL."""
    return x * 2.0 + 1.0
