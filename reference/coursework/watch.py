"""Calls back at each save of a file, by looking at it: no dependency, works on every system."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None while it is away (editors replace files)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def watch(
    path: Path,
    changed: Callable[[], None],
    interval: float = 0.3,
    settle: float = 0.15,
    rounds: int | None = None,
) -> None:
    """Calls ``changed`` at once and after every save of ``path``, until Ctrl-C.

    A save is called back once the file has been the same for ``settle`` seconds, so that half a
    file is never read and two quick saves count once. rounds: stop after so many calls.
    """
    seen = stamp(path)
    changed()
    calls = 1
    while rounds is None or calls < rounds:
        time.sleep(interval)
        now = stamp(path)
        if now is None or now == seen:
            continue
        while True:
            time.sleep(settle)
            after = stamp(path)
            if after is not None and after == now:
                break
            now = after
        seen = now
        changed()
        calls += 1
