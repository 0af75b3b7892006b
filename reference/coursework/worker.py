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
import socket
import sys
import traceback
import types
from typing import Any

from coursework import harness, hugepages, lockdown, namespaces, plain_torch, wire
from coursework.channel import receive, send
from coursework.keeper import Keeper, Place, kill_descendants, serve_request

HIDDEN = ("PYTHONPATH", "COURSE_ROOT", "COURSE_WORK", "COURSE_ISOLATION", "OLDPWD", "VIRTUAL_ENV")


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
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    plain_torch.seed_simply()
    _rehearse(torch.ones(2, 3, 3))


def _rehearse(x: Any) -> None:
    """One made-up exercise: whatever is imported or set up on first use is so before the fork."""
    call = {"args": (x, harness.Seed(1)), "kwargs": {}, "driver": None, "mutates": (), "name": "x"}
    source = "import torch\ndef f(x, g):\n    return torch.randn(3, 3, generator=g) @ x + 1\n"
    request = {
        "names": ["f"],
        "chunks": [("<cell 1>", source)],
        "given": "def h(x):\n    return x\n",
        "cases": [call, {**call, "kwargs": {"wrong": 1}}],
        "limit": 60.0,
    }
    before = sys.modules["__main__"]
    wire.decode(wire.encode(harness.serve(request, sys.modules[__name__])))
    sys.modules["__main__"] = before


def preload_training() -> None:
    """One step of a small network: what torch sets up on first use is so before the fork."""
    import torch
    from torch import nn

    plain_torch.leave_compiler_out()

    parts = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 3)
    net = nn.Sequential(*parts, nn.Flatten(), nn.Linear(144, 4), nn.Softmax(-1))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 4, 8, 8)).square().mean().backward()
    optimizer.step()


def quiet_package() -> None:
    """``from coursework import check, hint, status`` works beside an answer, and does nothing."""
    import coursework

    def check(*_: Any, **__: Any) -> None: ...

    coursework.check = coursework.hint = coursework.status = check


def forget_place() -> None:
    """Takes from the environment and the import path what tells of the course."""
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != source]
    sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
    sys.path_importer_cache.clear()
    for name in HIDDEN:
        os.environ.pop(name, None)
    os.environ.update(HOME="/", USER="learner", LOGNAME="learner")


def settle() -> None:
    """Before forking: nothing that is here will be looked through for garbage, or moved, again."""
    gc.collect()
    gc.freeze()
    hugepages.gather()


class Zygote:
    """The first generation: answers the judge, and forks a keeper for each submission."""

    def __init__(self, sock: socket.socket, setup: dict) -> None:
        self.place = Place(
            sock=sock,
            level=setup["level"],
            filter=setup["filter"] and lockdown.seccomp_possible(),
            memory=setup["memory"],
            scratch_size=setup["scratch"],
            room=namespaces.Room(setup["base"], tuple(setup["read"]), tuple(setup["hide"])),
            null=os.open(os.devnull, os.O_RDWR),
            baseline=lockdown.address_space(),
        )

    def serve(self) -> None:
        """Does what comes over the socket until it closes."""
        while True:
            try:
                message, fds = receive(self.place.sock)
            except (EOFError, ConnectionError):
                return
            if message["do"] == "load":
                number = message["lesson"]
                try:
                    if message["trains"]:
                        preload_training()
                    self.place.modules[number] = load_checks(number, message["path"])
                    settle()
                    send(self.place.sock, {"loaded": number})
                except BaseException:
                    send(self.place.sock, {"failed": traceback.format_exc()})
            else:
                self.submission(message["jobs"], fds)

    def submission(self, jobs: list[dict], fds: list[int]) -> None:
        """Forks a keeper for one submission, and reports when it is gone.

        jobs: for each exercise id, lesson, library (a folder of the stage) and seconds; two
        descriptors each, the request and the place for the response.
        """
        keeper = Keeper(self.place, jobs, fds)
        if self.place.level == "full":
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
        if self.place.level != "full":
            kill_descendants()
        send(self.place.sock, {"over": True})


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
        if zygote.place.level != "full":
            lockdown.adopt_orphans()
        settle()
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
