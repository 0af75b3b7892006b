"""Watches over one submission, and turns itself into the process that runs one exercise.

The keeper runs no learner's code and reads no request. For each exercise it forks a process,
which gives up all it can (``narrow``), runs the answer and writes the response; the keeper waits,
ends it in time, and sees to it that nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import types
from dataclasses import dataclass, field

from coursework import harness, lockdown, namespaces, wire
from coursework.channel import send

RESPONSE_LIMIT = 64 * 2**20
THREADS = 256  # of one answer; the kernel's own limit counts those of all the user's processes
LOOK = 0.02  # seconds between two looks at how many there are
ENDS = {0: "answer", 70: "crashed", 71: "too large", 72: "memory", 73: "no room"}


@dataclass
class Place:
    """What a zygote hands to its keepers.

    level: of isolation. filter: whether system calls are filtered. memory: bytes that an answer
    may use beside ``baseline``, what the zygote itself has. modules: checks by lesson. null: a
    descriptor of /dev/null.
    """

    sock: socket.socket
    level: str
    filter: bool
    memory: int
    scratch_size: int
    room: namespaces.Room
    null: int
    baseline: int = 0
    modules: dict[str, types.ModuleType] = field(default_factory=dict)


class Keeper:
    """The second generation: watches over the exercises of one submission, one after another."""

    def __init__(self, place: Place, jobs: list[dict], fds: list[int]) -> None:
        self.place, self.jobs, self.fds = place, jobs, fds

    def report_failure(self, error: OSError) -> None:
        """Tells the judge that the isolation that was there is not to be had any more."""
        send(self.place.sock, {"failed": f"isolation: {error}"})

    def run(self) -> None:
        """Runs the exercises; what goes wrong with the keeper itself goes to the zygote's log."""
        try:
            self._run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _run(self) -> None:
        lockdown.hide_memory()
        if self.place.level == "full":
            try:
                namespaces.make_root(self.place.room)
            except OSError as error:
                self.report_failure(error)
                return
        else:
            lockdown.adopt_orphans()
        for i, job in enumerate(self.jobs):
            end = self.exercise(job, *self.fds[2 * i : 2 * i + 2])
            send(self.place.sock, {"id": job["id"], **end})

    def exercise(self, job: dict, request: int, response: int) -> dict:
        """Runs one exercise in a process of its own; how it ended, when nothing of it is left."""
        scratch = None
        if self.place.level != "full":
            scratch = tempfile.mkdtemp(dir=os.path.join(self.place.room.base, "scratch"))
        pid = os.fork()
        if pid == 0:
            try:
                run_exercise(self.place, job, request, response, scratch)
            finally:
                os._exit(70)
        status = wait(pid, job["seconds"])
        if self.place.level == "full" and os.getpid() == 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all others in this process namespace
            reap_all()
        else:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            kill_descendants()
            if status is None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        if status is None:
            return {"end": "timeout", "code": 0}
        if os.WIFSIGNALED(status):
            # The kernel ends a process that has used its CPU seconds.
            used_up = os.WTERMSIG(status) == getattr(signal, "SIGXCPU", 0)
            return {"end": "timeout" if used_up else "signal", "code": os.WTERMSIG(status)}
        code = os.WEXITSTATUS(status)
        return {"end": ENDS.get(code, "exit"), "code": code}


def wait(pid: int, seconds: float) -> int | None:
    """The wait status of child ``pid``, or None when it still runs after ``seconds``.

    One that starts more than ``THREADS`` threads is ended: a machine has only so many.
    """
    until = time.monotonic() + seconds
    fd = None
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
    try:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            left = until - time.monotonic()
            if left <= 0:
                return None
            if thread_count(pid) > THREADS:
                os.kill(pid, signal.SIGKILL)
            if fd is None:
                time.sleep(min(left, 0.003))
            else:
                select.select([fd], [], [], min(left, LOOK))
    finally:
        if fd is not None:
            os.close(fd)


def thread_count(pid: int) -> int:
    """Threads of process ``pid``; 0 where that is not to be found out."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return int(f.read().rpartition(b")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return 0


def reap_all() -> None:
    """Waits until this process has no children."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def kill_descendants() -> None:
    """Ends all children of this process and, as they come to it, theirs (Linux)."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = list(direct_children())
        if not children:
            return
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in children:
                with contextlib.suppress(OSError):
                    os.kill(pid, signum)


def direct_children() -> list[int]:
    """Process ids of this process's children, as /proc has them; empty without /proc."""
    own, found = os.getpid(), []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as f:
                    fields = f.read().rpartition(b")")[2].split()
                if int(fields[1]) == own and fields[0] != b"Z":
                    found.append(int(name))
    return found


def run_exercise(place: Place, job: dict, request: int, response: int, scratch: str | None) -> None:
    """The third generation: gives up everything, runs the answer, writes what came out."""
    lockdown.die_with_parent()
    os.setsid()
    try:
        folder, library = narrow(place, job, request, response, scratch)
    except (OSError, MemoryError):
        os._exit(73)
    os.chdir(folder)
    sys.path.insert(0, library)
    restore_signals()
    serve_request(5, 6, place.modules[job["lesson"]])


def restore_signals() -> None:
    """Signals do what they do in any Python program."""
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def narrow(
    place: Place, job: dict, request: int, response: int, scratch: str | None
) -> tuple[str, str]:
    """Limits, namespaces and rules; (work folder, folder of the library).

    Afterwards descriptors 0, 1 and 2 are /dev/null, 5 is the request and 6 the response.
    """
    high = [os.dup(fd) for fd in (request, response)]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(high)]
    for fd in (0, 1, 2):
        os.dup2(place.null, fd)
    os.dup2(100, 5)
    os.dup2(101, 6)
    for low, top in ((3, 5), (7, min(os.sysconf("SC_OPEN_MAX"), 65536))):
        os.closerange(low, top)
    seconds = int(job["seconds"]) + 3
    bound = place.level in ("full", "landlock") and lockdown.landlock_version()
    rules = lockdown.Landlock() if bound else None
    if place.level == "full":
        folder = namespaces.private_room(place.room, job["library"], place.scratch_size)
        library = namespaces.COURSE
        if rules:
            rules.allow("/", lockdown.READ)
            rules.allow("/dev/null", lockdown.READ | lockdown.WRITE_FILE)
        user = namespaces.other_user()
        if user is not None:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
    else:
        folder = scratch or "."
        library = os.path.join(place.room.base, "stage", job["library"])
        if rules:
            for path in (*place.room.read, *namespaces.SYSTEM, library):
                rules.allow_but(os.path.realpath(path), place.room.hide)
            for name in namespaces.ETC:
                rules.allow(f"/etc/{name}", lockdown.READ)
            for name in namespaces.DEVICES:
                rules.allow(f"/dev/{name}", lockdown.READ | lockdown.WRITE_FILE)
    os.environ.update(HOME=folder, MPLCONFIGDIR=folder, TMPDIR=folder)
    tempfile.tempdir = folder
    if rules:
        rules.allow(folder, rules.rights & ~lockdown.EXECUTE)
    memory = place.baseline + place.memory if place.baseline else None
    processes = lockdown.process_limit(64, alone=place.level == "full", filtered=place.filter)
    lockdown.limit_resources(seconds, memory, RESPONSE_LIMIT, 128, processes)
    if lockdown.LINUX:
        lockdown.drop_capabilities()
        lockdown.hide_memory()
    if rules:
        rules.enforce()
        os.close(rules.fd)
    if place.filter:
        lockdown.refuse_calls()
    return folder, os.path.join(library, "reference")


def serve_request(request: int, response: int, module: types.ModuleType) -> None:
    """Reads the request, runs it, writes the response; never returns."""
    code = 70
    try:
        with os.fdopen(request, "rb") as f:
            message = wire.decode(f.read())
        try:
            result = harness.serve(message, module)
        except KeyboardInterrupt:
            ended = harness.Outcome("error", error="KeyboardInterrupt").to_dict()
            result = {"outcomes": [ended] * len(message["cases"])}
        data = wire.encode(result)
        if len(data) > RESPONSE_LIMIT:
            os._exit(71)
        os.ftruncate(response, 0)
        os.lseek(response, 0, os.SEEK_SET)
        view = memoryview(data)
        while view:
            view = view[os.write(response, view) :]
        code = 0
    except MemoryError:
        code = 72
    finally:
        os._exit(code)
