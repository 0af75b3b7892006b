"""Looks at the machine: what works, what does not, and what to do about it, in a few lines."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coursework.config import Course

MARKS = {"good": "✓", "warning": "!", "bad": "✗"}
PYTHON = (3, 11)
ROOM = 500_000_000  # bytes; below this, training and downloads will soon fail


@dataclass(frozen=True)
class Line:
    """One thing looked at. state: good, warning or bad."""

    state: str
    text: str

    def __str__(self) -> str:
        return f"{MARKS[self.state]} {self.text}"


def look(course: Course) -> Iterator[Line]:
    """Everything, quick things first."""
    yield python()
    yield torch()
    yield versions(course)
    yield data(course)
    yield isolation()
    yield jupyter()
    yield work(course)


def python() -> Line:
    """Version and system."""
    system = f"{platform.system()} {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"Python {platform.python_version()} on {system}, {cores} cores"
    if sys.version_info < PYTHON:
        return Line("bad", text + f"; the course needs {'.'.join(map(str, PYTHON))} or newer")
    return Line("good", text)


def torch() -> Line:
    """Version, threads and the GPU that will be used, if any."""
    try:
        import torch
    except Exception as error:
        return Line("bad", f"torch cannot be imported ({error}); install it: README, Installation")
    text = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        return Line("good", f"{text}, GPU {torch.cuda.get_device_name(0)}")
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        return Line("good", f"{text}, Apple GPU there (lessons run on the CPU)")
    return Line("good", f"{text}, no GPU: none is needed")


def versions(course: Course) -> Line:
    """How the installed packages compare with constraints.txt."""
    file = course.root / "constraints.txt"
    if not file.is_file():
        return Line("warning", "constraints.txt is missing: versions were not compared")
    other, absent, same = [], 0, 0
    for line in file.read_text(encoding="utf-8").splitlines():
        pinned = re.match(r"([\w.-]+)==([\w.!]+)", line)
        if not pinned:
            continue
        try:
            version = importlib.metadata.version(pinned[1]).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            absent += 1
            continue
        if version == pinned[2]:
            same += 1
        else:
            other.append(f"{pinned[1]} {version}")
    if not other:
        return Line("good", f"{same} packages, each of the version that was tested")
    shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    return Line("warning", f"{same} packages as tested, {len(other)} of another version: {shown}")


def data(course: Course) -> Line:
    """Whether the shipped data is there and undamaged, by its checksums."""
    folder = course.root / "data"
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return Line("warning", f"{manifest.name} is missing in {folder.name}/: nothing was checked")
    try:
        sets = json.loads(manifest.read_text(encoding="utf-8"))["sets"]
        wanted = {name: (folder / s["file"], s["sha256"]) for name, s in sets.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Line("bad", f"data/manifest.json is damaged ({error}); take it anew: git checkout")
    missing = [name for name, (file, _) in wanted.items() if not file.is_file()]
    damaged = [n for n, (f, s) in wanted.items() if n not in missing and sha256(f) != s]
    if damaged:
        return Line("bad", f"data: {', '.join(damaged)} damaged; take it anew: git checkout data")
    if missing:
        return Line("bad", f"data: {', '.join(missing)} missing; take it anew: git checkout data")
    return Line("good", f"data: {', '.join(wanted)} there, checksums right")


def sha256(file: Path) -> str:
    """Of a file's bytes, read in pieces."""
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def isolation() -> Line:
    """How well a grader here can keep answers, submissions and the machine apart."""
    from coursework import sandbox

    try:
        level = sandbox.available()
    except sandbox.Unavailable as error:
        return Line("bad", f"grading: {error}")
    text = f"grading {level.says}"
    return Line("good" if level.isolated else "warning", text)


def jupyter() -> Line:
    """Whether JupyterLab and a kernel of this very Python are installed."""
    try:
        version = importlib.metadata.version("jupyterlab")
        importlib.metadata.version("ipykernel")
    except importlib.metadata.PackageNotFoundError as error:
        return Line("bad", f"{error.name} is missing; install it: README, Installation")
    return Line("good", f"JupyterLab {version}")


def work(course: Course) -> Line:
    """Whether answers can be saved, and how much room is left."""
    try:
        course.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=course.work):
            pass
    except OSError as error:
        says = error.strerror or error
        return Line("bad", f"{course.work} cannot be written ({says}); set COURSE_WORK to a folder")
    free = shutil.disk_usage(course.work).free
    text = f"your copies lie in {course.work}, {free / 1e9:.0f} GB free"
    return Line("good" if free > ROOM else "warning", text)
