"""A learner's progress: the best points of each exercise, kept in ``work/progress.json``."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coursework.config import Course


@dataclass
class Progress:
    """Best points by exercise id, hints shown, and when each exercise was first solved."""

    path: Path
    best: dict[str, int] = field(default_factory=dict)
    out_of: dict[str, int] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)
    solved: dict[str, str] = field(default_factory=dict)

    def is_solved(self, id: str) -> bool:
        """Whether full points were reached once."""
        return id in self.solved


def enabled() -> bool:
    """False while solutions are built or graded (COURSE_PROGRESS=off)."""
    return os.environ.get("COURSE_PROGRESS", "on") != "off"


def load(course: Course) -> Progress:
    """Progress so far; a damaged file is kept aside under another name, and reading starts anew."""
    path = course.work / "progress.json"
    progress = Progress(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for key in ("best", "out_of", "hints", "solved"):
            getattr(progress, key).update(data.get(key, {}))
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError, TypeError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(f".damaged-{int(time.time())}.json"))
        return Progress(path)
    return progress


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two notebooks may finish a check at once; where locks exist they take turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as handle:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def save(progress: Progress) -> None:
    """Writes atomically: a crash leaves the old file or the new one."""
    data = {k: getattr(progress, k) for k in ("best", "out_of", "hints", "solved")}
    temporary = progress.path.with_suffix(f".tmp-{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, progress.path)


def note(course: Course, id: str, points: int, out_of: int) -> str:
    """Records a checked exercise if it is better than before; returns "" or why it could not."""
    if not enabled():
        return ""
    try:
        with _locked(course.work / "progress.json"):
            progress = load(course)
            known = progress.best.get(id)
            if known is not None and known >= points and progress.out_of.get(id) == out_of:
                return ""
            progress.best[id] = max(points, known or 0)
            progress.out_of[id] = out_of
            if points >= out_of:
                progress.solved.setdefault(id, time.strftime("%Y-%m-%d"))
            save(progress)
    except OSError as error:
        return f"progress could not be saved in {course.work}: {error.strerror or error}"
    return ""


def note_hint(course: Course, id: str, level: int) -> None:
    """Remembers that hints up to ``level`` were shown. Hints cost nothing."""
    if not enabled():
        return
    with contextlib.suppress(OSError), _locked(course.work / "progress.json"):
        progress = load(course)
        progress.hints[id] = max(level, progress.hints.get(id, 0))
        save(progress)
