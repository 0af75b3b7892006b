"""Memory that a network has used is kept for its next call.

The C library of Linux hands large blocks back to the system as soon as they are free, and the
system fills every page of the next one with zeros. A network asks for the same few blocks at every
call: a tenth to a third of its processor time went into that (``tests/benchmarks/memory.py``). No
figure changes. Elsewhere, and where the environment already says how the C library should do it
(``MALLOC_...``), nothing happens.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT = 512 * 2**20
"""Bytes at the end of the heap that are kept; blocks of half as much are handed back at once."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def keep() -> bool:
    """Keeps freed memory from now on, in the whole process; whether it did."""
    if not sys.platform.startswith("linux") or any(k.startswith("MALLOC_") for k in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT // 2) and mallopt(M_TRIM_THRESHOLD, KEPT))
