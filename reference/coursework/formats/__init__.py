"""What schools use: grades, annotations and assignments in the formats of other systems.

One file a format. ``rows`` is what all of them are made from, ``safe`` keeps what students wrote
from meaning anything in a log, a page or a sheet, and ``commands`` is the command line. Each
file's docstring names the specification that it follows.
"""

from __future__ import annotations

from coursework.errors import NOT_FOUND, GradingError


class FormatError(GradingError):
    """Something cannot be said in a format, or read from it; the message says what and why."""

    exit_code = 7


class UnknownFormat(FormatError):
    """No format of that name; the message lists those there are."""

    exit_code = NOT_FOUND
