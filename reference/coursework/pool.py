"""The judge's side of grading processes: starts them, hands out work, takes back plain data."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from coursework import fresh, sandbox, wire
from coursework.channel import receive, send
from coursework.errors import WorkerFailed
from coursework.jobs import MEMORY, SCRATCH, Task, ended, environment, read_response
from coursework.keeper import RESPONSE_LIMIT
from coursework.sandbox import Level

START_LIMIT = 180.0
STARTS_LOST = 3  # processes of a pool that may end at their start, one after another


class EndedAtStart(WorkerFailed):
    """A process ended before it could do anything: once, it was killed; always, it cannot start."""


def anonymous_file(data: bytes = b"") -> int:
    """A descriptor of a file without a name that holds ``data``."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("exercise")
    else:
        with tempfile.TemporaryFile() as f:
            fd = os.dup(f.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Worker:
    """One zygote (see ``worker``), and the task it is at."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.task: Task | None = None
        self.files: dict[str, int] = {}
        self.lessons: set[str] = set()
        self.deadline = 0.0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self.sock, far = socket.socketpair()
        command = [sys.executable, "-P", "-m", "coursework.worker"]
        command += ["zygote", str(far.fileno()), pool.base.name]
        self.process = subprocess.Popen(
            command,
            pass_fds=[far.fileno()],
            env=environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            start_new_session=True,
        )
        far.close()
        send(self.sock, pool.setup)
        self.ready = False

    def expect(self, word: str, seconds: float = START_LIMIT) -> None:
        """Waits for the message that has ``word``; ``WorkerFailed`` with the reason if not."""
        self.sock.settimeout(seconds)
        try:
            message, _ = receive(self.sock)
        except (OSError, EOFError) as error:
            self.log.seek(0)
            text = self.log.read().decode(errors="replace")[-2000:]
            raise EndedAtStart(
                f"a grading process ended at its start ({error!r}): {text}"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                self.sock.settimeout(None)
        if word not in message:
            raise WorkerFailed(str(message.get("failed", message)))

    def start(self, task: Task) -> None:
        """Hands over what is left of ``task``."""
        if not self.ready:
            self.expect("ready")
            self.ready = True
        self.task, fds, jobs = task, [], []
        for job in task.left():
            if job.lesson not in self.lessons:
                message = {"do": "load", "lesson": job.lesson, "path": str(job.checks)}
                message["trains"] = job.trains
                send(self.sock, message)
                self.expect("loaded", 60)
                self.lessons.add(job.lesson)
            self.files[job.id] = anonymous_file()
            fds += [anonymous_file(wire.encode(job.request)), self.files[job.id]]
            jobs.append(
                {"id": job.id, "lesson": job.lesson, "library": job.library, "seconds": job.seconds}
            )
        self.deadline = time.monotonic() + sum(j.seconds + 1 for j in task.left()) + 30
        send(self.sock, {"do": "submission", "jobs": jobs}, tuple(fds))
        for fd in fds[::2]:
            os.close(fd)

    def hear(self) -> bool:
        """Takes one message; True when the task is over. ``EOFError`` if the process is gone."""
        message, _ = receive(self.sock)
        if "failed" in message:
            raise WorkerFailed(message["failed"])
        if "over" in message:
            self.forget_files()
            return True
        job = next(j for j in self.task.jobs if j.id == message["id"])
        if message["end"] == "answer":
            fd = self.files[job.id]
            size = min(os.fstat(fd).st_size, RESPONSE_LIMIT + 1)
            data = bytearray()
            while len(data) < size:
                part = os.pread(fd, size - len(data), len(data))
                if not part:
                    break
                data += part
            self.task.outcomes[job.id] = read_response(bytes(data), job)
        else:
            self.task.outcomes[job.id] = ended(job, message["end"], message["code"])
        return False

    def forget_files(self) -> None:
        for fd in self.files.values():
            os.close(fd)
        self.files.clear()

    def stop(self) -> None:
        """Ends the process and all below it."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        self.sock.close()
        self.log.close()
        self.forget_files()


class Pool:
    """``workers`` zygotes at one level of isolation. A context manager; one at a time runs tasks.

    read: paths that answers may read beside Python itself (the course's data). hide: paths that
    stay hidden whatever they lie below. preload: modules that answers will import.
    """

    def __init__(
        self,
        level: Level,
        course: Path,
        library: str,
        workers: int = 1,
        read: Iterable[Path] = (),
        hide: Iterable[Path] = (),
        preload: Iterable[str] = (),
        call_filter: bool = True,
    ) -> None:
        self.level, self.size = level, max(1, workers)
        self.base = Path(tempfile.mkdtemp(prefix="coursework-"))
        for name in ("root", "stage", "scratch"):
            (self.base / name).mkdir()
        self.stage = self.base / "stage"
        readable, hidden = sandbox.python_paths(course, library)
        self.setup = {
            "level": level.name,
            "filter": call_filter,
            "memory": MEMORY,
            "scratch": SCRATCH,
            "base": str(self.base),
            "read": [*readable, *map(str, read)],
            "hide": [*hidden, *map(str, hide)],
            "preload": list(preload),
        }
        self.workers: list[Worker] = []
        self.lost_starts = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process and removes the pool's folder."""
        for w in self.workers:
            w.stop()
        self.workers.clear()
        shutil.rmtree(self.base, ignore_errors=True)

    def warm(self, count: int | None = None) -> None:
        """Starts processes, without waiting until they are ready."""
        if self.level.name == "subprocess":
            return
        while len(self.workers) < min(count or self.size, self.size):
            self.workers.append(Worker(self))

    def run(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Yields each task when it is done, in the order in which they finish.

        ``tasks`` is read only as far as processes are free, and one ahead.
        """
        if self.level.name == "subprocess":
            yield from fresh.run(tasks, self.base, self.stage, self.size)
            return
        self.warm()
        waiting = iter(tasks)
        queue: deque[Task] = deque()
        more = True
        busy: list[Worker] = []
        while True:
            while more and len(queue) <= self.size - len(busy):
                task = next(waiting, None)
                if task is None:
                    more = False
                elif not task.jobs:
                    yield task
                else:
                    queue.append(task)
            for w in self.workers:
                if w not in busy and queue:
                    task = queue.popleft()
                    try:
                        w.start(task)
                        busy.append(w)
                        self.lost_starts = 0
                    except (EndedAtStart, OSError, EOFError) as error:
                        # It was gone before: nothing of the task has run, so nothing is lost.
                        self.lost_starts += 1
                        if self.lost_starts > STARTS_LOST:
                            raise EndedAtStart(str(error)) from error
                        self._replace(w)
                        queue.appendleft(task)
                        break
            if not busy and not queue and not more:
                return
            for w in self._talking(busy):
                task = w.task
                try:
                    if not w.hear():
                        continue
                except (OSError, EOFError, wire.WireError):
                    busy.remove(w)
                    self._lost(w, task, queue)
                    if not task.left():
                        yield task
                    continue
                busy.remove(w)
                task.lose()  # if the keeper is gone and has not said of all how they ended
                if task.left():
                    queue.appendleft(task)
                else:
                    yield task

    def _talking(self, busy: list[Worker]) -> list[Worker]:
        """Workers with a message, or past their time (those are killed, and speak by ending)."""
        with selectors.DefaultSelector() as selector:
            for w in busy:
                selector.register(w.sock, selectors.EVENT_READ, w)
            found = [key.data for key, _ in selector.select(0.5)]
        for w in busy:
            if w not in found and time.monotonic() > w.deadline:
                with contextlib.suppress(OSError):
                    w.process.kill()
                found.append(w)
        return found

    def _replace(self, w: Worker) -> None:
        w.stop()
        self.workers[self.workers.index(w)] = Worker(self)

    def _lost(self, w: Worker, task: Task, queue: deque[Task]) -> None:
        """Replaces a process that is gone; other exercises of its task go on."""
        self._replace(w)
        task.lose()
        if task.left():
            queue.appendleft(task)
