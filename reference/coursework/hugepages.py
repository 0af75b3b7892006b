"""Memory of large pages, so that forking costs less.

A process that has loaded torch has some forty thousand pages of its own, and every fork copies and
frees a table of them: that takes longer than many an answer. Pages of 2 MiB make the table short.
Linux 6.1 and newer put memory together when asked (``MADV_COLLAPSE``); elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import sys

SIZE = 2 * 2**20
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25


def gather() -> int:
    """Puts the process's own memory into large pages where it can; how many ranges it did."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        madvise = ctypes.CDLL(None).madvise
        with open("/proc/self/maps") as f:
            ranges = [r for line in f if (r := _own(line))]
    except (OSError, AttributeError):
        return 0
    done = 0
    for start, length in ranges:
        where = ctypes.c_void_p(start), ctypes.c_size_t(length)
        if madvise(*where, MADV_HUGEPAGE) == 0:
            done += madvise(*where, MADV_COLLAPSE) == 0
    return done


def _own(line: str) -> tuple[int, int] | None:
    """Of a line of /proc/self/maps: start and length of the whole large pages of private memory."""
    fields = line.split()
    name = fields[5] if len(fields) > 5 else ""
    if fields[1] != "rw-p" or not (name in ("", "[heap]") or name.startswith("[anon")):
        return None
    start, end = (int(x, 16) for x in fields[0].split("-"))
    start, end = -(-start // SIZE) * SIZE, end // SIZE * SIZE
    return (start, end - start) if end > start else None
