"""Grading over Dask: a scheduler and two workers on this machine, one of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from toy_course import ISOLATED, SCALE, WRONG_SCALE, copy_course, lesson_01, write

pytest.importorskip("distributed", reason="Dask is not installed: pip install -e '.[cluster]'")

from coursework import cluster, grader
from coursework.errors import WorkerFailed
from coursework.gradebook import Gradebook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ISOLATED, reason="no isolation here to grade a batch in"),
]
COUNT = 24
SLOW = "import time\ndef scale(x, k):\n    time.sleep(0.05)\n    return x * k\n"


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self, folder, workers: int = 2) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.log = open(folder / "log.txt", "wb")  # noqa: SIM115 - closed by close
        self.processes = [
            self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                       "--scheduler-file", str(self.file))
        ]  # fmt: skip
        until = time.monotonic() + 120
        while not self.file.exists() and time.monotonic() < until:
            time.sleep(0.2)
        self.workers = [self.worker() for _ in range(workers)]
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, what: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options]
        return subprocess.Popen(command, cwd=self.folder, stdout=self.log, stderr=self.log)

    def worker(self) -> subprocess.Popen:
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", "."]
        made = self.start("worker", *options, "--scheduler-file", str(self.file))
        self.processes.append(made)
        return made

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


@pytest.fixture
def two(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def handed_in(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    for i in range(COUNT):
        write(folder / f"s{i:02}.ipynb", lesson_01((SCALE, WRONG_SCALE, SLOW)[i % 3]))
    (folder / "s99.ipynb").write_text("{broken")
    return folder


def content(report) -> dict:
    data = report.to_dict()
    del data["seconds"]
    return data


def test_scores_are_those_of_one_machine_and_a_killed_worker_costs_nobody(
    course, two, handed_in, tmp_path
):
    alone = grader.grade_many(handed_in, course, workers=1)
    path = tmp_path / "grades.sqlite"
    heard = []

    def on_result(report):
        heard.append(report.student)
        if len(heard) == 6:
            os.kill(two.workers[0].pid, signal.SIGKILL)

    shared = grader.grade_many(
        handed_in, course, gradebook=path, scheduler=two.address, on_result=on_result
    )
    assert two.workers[0].wait(10) == -signal.SIGKILL
    assert [content(r) for r in shared] == [content(r) for r in alone]
    assert sorted(heard) == sorted(r.student for r in alone), "missed, or told twice"
    with Gradebook(path) as book:
        rows = book.reports()
    assert sorted(r.student for r in rows) == sorted(r.student for r in alone)
    # On this machine alone, the same command finds all done.
    again = grader.grade_many(handed_in, course, gradebook=path, workers=1)
    assert all(r.reused for r in again)


def test_workers_are_killed_at_random_points(course, two, handed_in, tmp_path):
    """Eight times, each replaced: all submissions are graded, once."""
    path, draw, heard, killed = tmp_path / "grades.sqlite", random.Random(3), [], []

    def on_result(report):
        heard.append(report.student)
        if len(heard) % 3 == 0 and len(killed) < 8:
            at = draw.randrange(len(two.workers))
            time.sleep(draw.uniform(0, 0.1))
            two.workers[at].kill()
            killed.append(two.workers[at].wait(10))
            two.workers[at] = two.worker()

    made = []
    for _ in range(3):  # Dask gives a task up that three workers died with; the command goes on
        with contextlib.suppress(WorkerFailed):
            made = grader.grade_many(
                handed_in, course, gradebook=path, scheduler=two.address, on_result=on_result
            )
            break
    assert killed == [-signal.SIGKILL] * 8 and len(made) == COUNT + 1
    with Gradebook(path) as book:
        rows = book.reports()
    assert sorted(r.student for r in rows) == sorted(p.stem for p in handed_in.iterdir())
    wanted = {0: 5, 1: 2, 2: 5}
    for r in rows:
        assert r.points == (0 if r.student == "s99" else wanted[int(r.student[1:]) % 3])


def test_no_scheduler_and_no_worker(course, handed_in, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with pytest.raises(cluster.NoCluster, match="no Dask scheduler answers") as error:
        grader.grade_many(handed_in, course, scheduler="tcp://127.0.0.1:9")
    assert error.value.exit_code == 6
    empty = Cluster(tmp_path, workers=0)
    try:
        monkeypatch.setattr(cluster, "PATIENCE", 5.0)
        with pytest.raises(cluster.NoCluster, match="has no worker"):
            grader.grade_many(handed_in, course, scheduler=empty.address)
    finally:
        empty.close()
