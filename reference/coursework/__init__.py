"""Checks, grades, builds and releases exercises. Knows nothing of what a course teaches.

In a notebook: ``from coursework import check, hint, status``. On a command line: ``course --help``.
"""

__version__ = "0.1.0"
__all__ = ["check", "hint", "status"]


def __getattr__(name: str):
    if name == "status":
        from coursework import panel

        return panel.status
    if name in __all__:
        from coursework import feedback

        return getattr(feedback, name)
    raise AttributeError(f"module 'coursework' has no attribute {name!r}")
