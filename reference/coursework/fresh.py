"""A fresh Python for each exercise, where nothing can be forked (the level ``subprocess``)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

from coursework import wire, worker
from coursework.harness import Outcome
from coursework.jobs import Job, Task, ended, environment, read_response


def run(tasks: Iterable[Task], base: Path, stage: Path, size: int) -> Iterator[Task]:
    """As ``Pool.run``: each task when it is done, ``size`` at a time."""
    with ThreadPoolExecutor(size) as threads:
        running: dict[Any, Task] = {}
        for task in tasks:
            running[threads.submit(_each, task, base, stage)] = task
            if len(running) > size:
                done, _ = wait_for(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield running.pop(future)
        for future, task in list(running.items()):
            future.result()
            yield task


def _each(task: Task, base: Path, stage: Path) -> None:
    for job in task.left():
        task.outcomes[job.id] = _exercise(job, base, stage)


def _exercise(job: Job, base: Path, stage: Path) -> list[Outcome]:
    scratch = Path(tempfile.mkdtemp(dir=base / "scratch"))
    try:
        message = {
            **job.request,
            "lesson": job.lesson,
            "checks": str(job.checks),
            "library": str(stage / job.library),
        }
        (scratch / "request").write_bytes(wire.encode(message))
        command = [sys.executable, "-P", "-m", "coursework.worker", "once"]
        command += [str(scratch / "request"), str(scratch / "response")]
        process = subprocess.Popen(
            command,
            env=environment() | {"HOME": str(scratch)},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(job.seconds + 20)  # Python and torch start each time
        except subprocess.TimeoutExpired:
            code = None
        end_group(process)
        if code is None:
            return ended(job, "timeout")
        if code < 0:
            return ended(job, "signal", -code)
        end = worker.ENDS.get(code, "exit")
        if end != "answer":
            return ended(job, end, code)
        response = scratch / "response"
        if not response.is_file():
            return ended(job, "exit", code)
        with open(response, "rb") as f:
            return read_response(f.read(worker.RESPONSE_LIMIT + 1), job)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def end_group(process: subprocess.Popen) -> None:
    """Ends ``process`` and what it started, as far as the system knows of it."""
    if os.name == "nt":
        if process.poll() is None:
            command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
