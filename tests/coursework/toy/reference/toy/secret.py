"""Not provided by name; comes along with tools, without what is asked for."""


def scale(x, k):
    """SECRET-LIBRARY."""
    return x * k
