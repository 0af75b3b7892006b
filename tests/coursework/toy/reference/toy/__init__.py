"""The library of the toy course."""

SIZE = 3
