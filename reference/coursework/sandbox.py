"""What a learner's process can see, and how isolation is had on this machine.

Four levels. ``full``: namespaces of its own (user, network, process, mount, IPC, host name), a
read-only root that holds Python and nothing else, and all of ``landlock``. ``landlock``: rules of
the kernel about files and TCP, and a filter on system calls. ``process``: limits, and the filter
where there is one. ``subprocess``: a fresh Python for each exercise, where nothing can be forked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from coursework import lockdown, namespaces
from coursework.namespaces import Room, below, outermost

LEVELS = ("full", "landlock", "process", "subprocess")
SAYS = {
    "full": "namespaces, a read-only root without the course, Landlock and a filter on calls",
    "landlock": "Landlock on files and TCP and a filter on calls; no namespaces",
    "process": "limits on time and memory; files and network are open",
    "subprocess": "a fresh Python for each exercise with a time limit; nothing else",
}
ISOLATED = ("full", "landlock")
PACKAGES = ("site-packages", "dist-packages")


class Unavailable(RuntimeError):
    """A level of isolation that is not to be had here; the message says why."""


@dataclass(frozen=True)
class Level:
    """A level, and for each better one the reason why it is not had."""

    name: str
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def isolated(self) -> bool:
        """Whether answers are kept from the course's files and from the network."""
        return self.name in ISOLATED

    @property
    def says(self) -> str:
        """One sentence for reports, with what is lacking and why."""
        text = f"isolation: {self.name} ({SAYS[self.name]})"
        if self.missing:
            text += "; " + "; ".join(f"no {k}: {v}" for k, v in self.missing.items())
        return text


def python_paths(course: Path | None, library: str = "") -> tuple[list[str], list[str]]:
    """(folders that this Python needs, paths that must stay hidden even below those).

    The course is hidden, and so are this package and ``library`` where they are installed; a
    virtual environment inside the course stays in sight.
    """
    own = {os.path.abspath(course), os.path.realpath(course)} if course else set()
    wanted = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable)]
    wanted += [p for p in sysconfig.get_paths().values() if p]
    prefixes = [os.path.abspath(p) for p in wanted if os.path.exists(p)]
    prefixes = outermost(
        [p for p in prefixes + [os.path.realpath(p) for p in prefixes] if p != "/"]
    )
    packages = [os.path.abspath(p) for p in sys.path if p.endswith(PACKAGES) and os.path.isdir(p)]
    hide = sorted(own)
    for folder in packages:
        installed = [os.path.join(folder, n) for n in ("coursework", library) if n]
        hide += filter(os.path.isdir, installed)
    extra = [p for p in packages if not below(p, prefixes) and not below(p, own)]
    # Below the course, a virtual environment is named by itself: the course may lie in a prefix.
    inside = [p for p in (sys.prefix, os.path.realpath(sys.prefix)) if below(p, own)]
    return sorted({*prefixes, *extra, *inside}), hide


# Which level ---------------------------------------------------------------------------------


@cache
def available(force: str | None = None) -> Level:
    """The best level on this machine, found by trying; ``force`` (or the environment variable
    COURSE_ISOLATION) names another, and raises ``Unavailable`` where it is not to be had."""
    force = force or os.environ.get("COURSE_ISOLATION") or None
    if force and force not in LEVELS:
        raise Unavailable(f"there is no isolation level {force!r}; there are {', '.join(LEVELS)}")
    missing: dict[str, str] = {}
    for name in LEVELS:
        why = lacks(name)
        if force == name and why:
            raise Unavailable(f"isolation level {name!r} is not to be had here: {why}")
        if force == name or (not why and not force):
            return Level(name, missing)
        missing[name] = why or f"{force} was asked for"
    raise Unavailable("no level of isolation is to be had")


@cache
def lacks(name: str) -> str:
    """Why level ``name`` is not to be had here, or ""."""
    if name == "subprocess":
        return ""
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    if name == "process":
        return ""
    if not lockdown.LINUX:
        return "only Linux has it"
    if name == "landlock" or not lockdown.landlock_version():
        return "" if lockdown.landlock_version() else "the kernel has no Landlock (5.13 and later)"
    return _tried()["full"]


@cache
def _tried() -> dict[str, str]:
    # A process of its own: this one may have threads, and must not fork.
    command = [sys.executable, "-P", "-m", "coursework.sandbox"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env=environment, cwd="/"
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"full": f"the trial failed: {type(error).__name__}: {error}"}


def _try_full() -> str:
    """Enters namespaces and a new root in a child; why that fails, or ""."""
    with tempfile.TemporaryDirectory() as base:
        for name in ("root", "stage/trial"):
            os.makedirs(os.path.join(base, name))
        read, hide = python_paths(None)
        out, into = os.pipe()

        def trial() -> None:
            try:
                room = Room(base, tuple(read), tuple(hide))
                namespaces.make_root(room)
                namespaces.private_room(room, "trial", 1 << 20)
                lockdown.drop_capabilities()
            except OSError as error:
                os.write(into, str(error).encode())

        pid = namespaces.in_namespaces(trial, lambda error: os.write(into, str(error).encode()))
        os.close(into)
        os.waitpid(pid, 0)
        with os.fdopen(out) as f:
            return f.read()


if __name__ == "__main__":
    print(json.dumps({"full": _try_full()}))
