"""The process that learners' answers are forked from: ``python -m coursework.worker``.

Three generations. The *zygote* loads torch and the checks (no answers) once. For each submission
it forks a *keeper*, which enters namespaces where there are any and runs no learner's code. The
keeper forks one process for each exercise, which gives up all it can and runs the answer. Requests
and responses are files handed over as descriptors; only the exercise's own process reads its
request, so that no answer is ever in the memory of another exercise or submission.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
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
from typing import Any

from coursework import harness, lockdown, namespaces, wire

RESPONSE_LIMIT = 64 * 2**20
ENDS = {0: "answer", 70: "crashed", 71: "too large", 72: "memory", 73: "no room"}
HIDDEN = ("PYTHONPATH", "COURSE_ROOT", "COURSE_WORK", "COURSE_ISOLATION", "OLDPWD", "VIRTUAL_ENV")


def send(sock: socket.socket, message: Any, fds: tuple[int, ...] = ()) -> None:
    """One message with its length before it; ``fds`` travel with the length."""
    data = wire.encode(message)
    head = len(data).to_bytes(8, "little")
    if fds:
        socket.send_fds(sock, [head], list(fds))
        sock.sendall(data)
    else:
        sock.sendall(head + data)


def receive(sock: socket.socket) -> tuple[Any, list[int]]:
    """The next message and the descriptors that came with it; ``EOFError`` at the end."""
    head, fds = b"", []
    while len(head) < 8:
        part, more, _, _ = socket.recv_fds(sock, 8 - len(head), 200)
        fds += more
        if not part:
            raise EOFError
        head += part
    left, parts = int.from_bytes(head, "little"), []
    while left:
        part = sock.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return wire.decode(b"".join(parts)), fds


def load_checks(number: str, path: str) -> types.ModuleType:
    """The checks of a lesson without what only the judge needs: cases and judges."""
    from coursework.exercise import Exercise

    name = f"course_checks_{number}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    for thing in list(vars(module).values()):
        if isinstance(thing, Exercise):
            thing._cases = thing._judge = None
    vars(module).pop("_", None)
    return module


def preload(modules: tuple[str, ...]) -> None:
    """Imports and first calls that take long, done once before anything is forked."""
    import numpy  # noqa: F401 - torch finds it loaded
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    weight = torch.nn.Parameter(torch.zeros(3, 3))
    weight.grad = torch.ones(3, 3) @ torch.ones(3, 3)
    torch.optim.Adam([weight]).step()  # the first optimiser imports half of torch
    torch.manual_seed(0)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def quiet_package() -> None:
    """``from coursework import check, hint`` works beside an answer, and does nothing."""
    import coursework

    def check(*_: Any, **__: Any) -> None: ...

    coursework.check = coursework.hint = check


def forget_place() -> None:
    """Takes from the environment and the import path what tells of the course."""
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != source]
    sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
    sys.path_importer_cache.clear()
    for name in HIDDEN:
        os.environ.pop(name, None)
    os.environ.update(HOME="/", USER="learner", LOGNAME="learner")


class Zygote:
    """State of the first generation: settings, checks by lesson, rules made before forking."""

    def __init__(self, sock: socket.socket, setup: dict) -> None:
        self.sock = sock
        self.level: str = setup["level"]
        self.filter: bool = setup["filter"] and lockdown.seccomp_possible()
        self.memory: int = setup["memory"]
        self.scratch_size: int = setup["scratch"]
        self.room = namespaces.Room(setup["base"], tuple(setup["read"]), tuple(setup["hide"]))
        self.modules: dict[str, types.ModuleType] = {}
        self.null = os.open(os.devnull, os.O_RDWR)
        self.baseline = lockdown.address_space()

    def serve(self) -> None:
        """Does what comes over the socket until it closes."""
        while True:
            try:
                message, fds = receive(self.sock)
            except (EOFError, ConnectionError):
                return
            if message["do"] == "load":
                try:
                    self.modules[message["lesson"]] = load_checks(
                        message["lesson"], message["path"]
                    )
                    gc.collect()
                    gc.freeze()
                    send(self.sock, {"loaded": message["lesson"]})
                except BaseException:
                    send(self.sock, {"failed": traceback.format_exc()})
            else:
                self.submission(message["jobs"], fds)

    def submission(self, jobs: list[dict], fds: list[int]) -> None:
        """Forks a keeper for one submission, and reports when it is gone.

        jobs: for each exercise id, lesson, library (a folder of the stage) and seconds; two
        descriptors each, the request and the place for the response.
        """
        keeper = Keeper(self, jobs, fds)
        if self.level == "full":
            pid = namespaces.in_namespaces(keeper.run, keeper.report_failure)
        else:
            pid = os.fork()
            if pid == 0:
                try:
                    lockdown.die_with_parent()
                    keeper.run()
                finally:
                    os._exit(0)
        for fd in fds:
            os.close(fd)
        os.waitpid(pid, 0)
        if self.level != "full":
            kill_descendants()
        send(self.sock, {"over": True})


class Keeper:
    """The second generation: watches over the exercises of one submission, one after another."""

    def __init__(self, zygote: Zygote, jobs: list[dict], fds: list[int]) -> None:
        self.zygote, self.jobs, self.fds = zygote, jobs, fds

    def report_failure(self, error: OSError) -> None:
        """Tells the judge that the isolation that was there is not to be had any more."""
        send(self.zygote.sock, {"failed": f"isolation: {error}"})

    def run(self) -> None:
        """Runs the exercises; what goes wrong with the keeper itself goes to the zygote's log."""
        try:
            self._run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _run(self) -> None:
        lockdown.hide_memory()
        if self.zygote.level == "full":
            try:
                namespaces.make_root(self.zygote.room)
            except OSError as error:
                self.report_failure(error)
                return
        else:
            lockdown.adopt_orphans()
        for i, job in enumerate(self.jobs):
            end = self.exercise(job, *self.fds[2 * i : 2 * i + 2])
            send(self.zygote.sock, {"id": job["id"], **end})

    def exercise(self, job: dict, request: int, response: int) -> dict:
        """Runs one exercise in a process of its own; how it ended, when nothing of it is left."""
        scratch = None
        if self.zygote.level != "full":
            scratch = tempfile.mkdtemp(dir=os.path.join(self.zygote.room.base, "scratch"))
        pid = os.fork()
        if pid == 0:
            try:
                run_exercise(self.zygote, job, request, response, scratch)
            finally:
                os._exit(70)
        status = wait(pid, job["seconds"])
        if self.zygote.level == "full" and os.getpid() == 1:
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

    Other children that end meanwhile are reaped.
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
            if fd is None:
                time.sleep(min(left, 0.003))
            else:
                select.select([fd], [], [], left)
    finally:
        if fd is not None:
            os.close(fd)


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


def run_exercise(
    zygote: Zygote, job: dict, request: int, response: int, scratch: str | None
) -> None:
    """The third generation: gives up everything, runs the answer, writes what came out."""
    lockdown.die_with_parent()
    os.setsid()
    try:
        folder, library = narrow(zygote, job, request, response, scratch)
    except (OSError, MemoryError):
        os._exit(73)
    os.chdir(folder)
    sys.path.insert(0, library)
    restore_signals()
    serve_request(5, 6, zygote.modules[job["lesson"]])


def restore_signals() -> None:
    """Signals do what they do in any Python program."""
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def narrow(
    zygote: Zygote, job: dict, request: int, response: int, scratch: str | None
) -> tuple[str, str]:
    """Limits, namespaces and rules; (work folder, folder of the library).

    Afterwards descriptors 0, 1 and 2 are /dev/null, 5 is the request and 6 the response.
    """
    high = [os.dup(fd) for fd in (request, response)]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(high)]
    for fd in (0, 1, 2):
        os.dup2(zygote.null, fd)
    os.dup2(100, 5)
    os.dup2(101, 6)
    for low, top in ((3, 5), (7, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(low, top)
    seconds = int(job["seconds"]) + 3
    bound = zygote.level in ("full", "landlock") and lockdown.landlock_version()
    rules = lockdown.Landlock() if bound else None
    if zygote.level == "full":
        folder = namespaces.private_room(zygote.room, job["library"], zygote.scratch_size)
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
        library = os.path.join(zygote.room.base, "stage", job["library"])
        if rules:
            for path in (*zygote.room.read, *namespaces.SYSTEM, library):
                rules.allow_but(os.path.realpath(path), zygote.room.hide)
            for name in namespaces.ETC:
                rules.allow(f"/etc/{name}", lockdown.READ)
            for name in namespaces.DEVICES:
                rules.allow(f"/dev/{name}", lockdown.READ | lockdown.WRITE_FILE)
    os.environ.update(HOME=folder, MPLCONFIGDIR=folder, TMPDIR=folder)
    tempfile.tempdir = folder
    if rules:
        rules.allow(folder, rules.rights & ~lockdown.EXECUTE)
    memory = zygote.baseline + zygote.memory if zygote.baseline else None
    processes = lockdown.process_limit(64, alone=zygote.level == "full", filtered=zygote.filter)
    lockdown.limit_resources(seconds, memory, RESPONSE_LIMIT, 128, processes)
    if lockdown.LINUX:
        lockdown.drop_capabilities()
        lockdown.hide_memory()
    if rules:
        rules.enforce()
        os.close(rules.fd)
    if zygote.filter:
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


def once(request: str, response: str) -> None:
    """One exercise in this process, where nothing can be forked: paths come in the request."""
    preload(())
    with open(request, "rb") as f:
        message = wire.decode(f.read())
    module = load_checks(message["lesson"], message["checks"])
    quiet_package()
    forget_place()
    sys.path.insert(0, os.path.join(message["library"], "reference"))
    source = os.open(request, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
    serve_request(source, os.open(response, flags), module)


def main() -> None:
    """``worker zygote FD NAME`` (the name is for those who look at processes), or ``worker once
    REQUEST RESPONSE``: one exercise, with files for both."""
    if sys.argv[1] == "once":
        once(*sys.argv[2:4])
    with contextlib.suppress(OSError):
        lockdown.die_with_parent()
    namespaces.ignore_signals()
    sock = socket.socket(fileno=int(sys.argv[2]))
    try:
        setup, _ = receive(sock)
        preload(tuple(setup["preload"]))
        quiet_package()
        zygote = Zygote(sock, setup)
        forget_place()
        lockdown.hide_memory()
        if zygote.level != "full":
            lockdown.adopt_orphans()
        gc.collect()
        gc.freeze()
        send(sock, {"ready": os.getpid()})
    except (EOFError, ConnectionError):
        return
    except BaseException:
        with contextlib.suppress(OSError):
            send(sock, {"failed": traceback.format_exc()})
        return
    zygote.serve()


if __name__ == "__main__":
    # Under the name by which the rest of the package, and no other copy, knows this module.
    from coursework import worker

    worker.main()
