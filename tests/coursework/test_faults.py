"""Processes killed, a full disk, a gradebook that cannot be written, a clock set back: the same
command finishes, and nobody is missed or graded twice. The grader itself is killed in
``test_crash``, Dask's workers in ``test_cluster``."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from toy_course import FORKED, SCALE, WRONG_SCALE, copy_course, lesson_01, write

from coursework import gradebook as gradebook_module
from coursework import grader, pool
from coursework.errors import GradebookError, WorkerFailed
from coursework.gradebook import Gradebook

pytestmark = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
POINTS = (5, 2)
KILLS = 16


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


@pytest.fixture
def batch(tmp_path):
    """Twelve students, every second with a wrong answer."""
    folder = tmp_path / "class"
    folder.mkdir()
    for i in range(12):
        write(folder / f"s{i:02}.ipynb", lesson_01((SCALE, WRONG_SCALE)[i % 2]))
    return folder


def check_book(path, count: int = 12) -> list:
    """Each student has one row, and the points of their answers."""
    with Gradebook(path) as book:
        rows = book.reports()
    assert sorted(r.student for r in rows) == [f"s{i:02}" for i in range(count)]
    wrong = [
        (r.student, r.points, [(e.id, e.status, e.finding and e.finding.says) for e in r.exercises])
        for r in rows
        if r.points != POINTS[int(r.student[1:]) % 2]
    ]
    assert wrong == []
    return rows


def below(pid: int) -> list[int]:
    """Children of process ``pid``."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(n) for n in f.read().split()]
    return []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_workers_and_keepers_are_killed_at_random_points(course, tmp_path):
    """No task is hit twice, for that would be held against it. Some processes are killed between
    two tasks: that is held against none."""
    folder = tmp_path / "class"
    folder.mkdir()
    count = 4 * KILLS
    for i in range(count):
        slow = "import time\ndef scale(x, k):\n    time.sleep(0.05)\n    return x * k\n"
        write(folder / f"s{i:02}.ipynb", lesson_01((slow, WRONG_SCALE)[i % 2]))
    draw = random.Random(5)
    pools: list[pool.Pool] = []
    kills = {"worker": 0, "keeper": 0}
    before: set[str] = set()
    finished: list[str] = []
    hit: dict[int, object] = {}

    def on_result(report) -> None:
        finished.append(report.student)
        (mine,) = pools
        if sum(kills.values()) == KILLS or len(set(finished) - before) < 3:
            return
        free = [w for w in mine.workers if w.task is not None and id(w.task) not in hit]
        if not free:
            return
        chosen = draw.choice(free)
        hit[id(chosen.task)] = chosen.task
        worker = chosen.process.pid
        keepers = below(worker)
        time.sleep(draw.uniform(0, 0.05))
        if keepers and draw.random() < 0.5:
            what, pid = "keeper", keepers[0]
        else:
            what, pid = "worker", worker
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            kills[what] += 1
            if what == "worker":
                chosen.process.wait()  # what is sent to it from here on does not arrive
        before.update(finished)

    original = pool.Pool.__init__

    def noted(self, *args, **kwargs):
        original(self, *args, **kwargs)
        pools.append(self)

    path = tmp_path / "g.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.Pool, "__init__", noted)
        made = grader.grade_many(folder, course, gradebook=path, workers=2, on_result=on_result)
    assert sum(kills.values()) == KILLS and len(set(finished)) == len(finished) == count
    assert len(made) == count
    check_book(path, count)


@pytest.mark.slow
def test_a_process_that_is_killed_at_its_start_is_replaced(course, batch, tmp_path, monkeypatch):
    original, killed = pool.Worker.__init__, []

    def fragile(self, *args):
        original(self, *args)
        if len(killed) < limit:
            killed.append(self.process.pid)
            self.process.kill()

    monkeypatch.setattr(pool.Worker, "__init__", fragile)
    path, limit = tmp_path / "g.sqlite", 2
    grader.grade_many(batch, course, gradebook=path, workers=1)
    assert len(killed) == 2
    check_book(path)
    limit = 100
    with pytest.raises(WorkerFailed, match="ended at its start"):
        grader.grade_many(batch, course, workers=1)


FULL = """
import resource, sys
from pathlib import Path
from coursework import config, grader
from coursework.errors import GradebookError
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
if sys.argv[4] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), hard))
try:
    made = grader.grade_many(
        sys.argv[1], config.load(Path(sys.argv[2])), gradebook=sys.argv[3], workers=1
    )
    print("finished", len(made), sum(r.reused for r in made))
except GradebookError as error:
    print("stopped:", error)
"""


@pytest.mark.slow
def test_the_disk_is_full_in_the_middle(course, batch, tmp_path):
    """A limit on the size of files stands for the disk."""
    path = tmp_path / "g.sqlite"

    def run(limit: int) -> str:
        command = [sys.executable, "-c", FULL, batch, course.root, path, limit]
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, timeout=300
        )
        return done.stdout + done.stderr

    said = run(64_000)
    assert "stopped:" in said and "disk is full" in said and "same command" in said, said
    with Gradebook(path) as book:
        kept = len(book.reports())
    assert 0 < kept < 12, "the limit is no longer in the middle"
    assert run(0).split() == ["finished", "12", str(kept)]
    check_book(path)


@pytest.mark.slow
def test_a_gradebook_that_cannot_be_written(course, batch, tmp_path, monkeypatch):
    """Told before an hour of work, not after it."""
    path = tmp_path / "g.sqlite"
    Gradebook(path).close()
    connect = sqlite3.connect

    def read_only(name, **options):
        return connect(f"file:{name}?mode=ro", uri=True, **options)

    heard: list = []
    with monkeypatch.context() as patch:
        patch.setattr(gradebook_module.sqlite3, "connect", read_only)
        with pytest.raises(GradebookError, match="read-only"):
            grader.grade_many(batch, course, gradebook=path, workers=1, on_result=heard.append)
    assert heard == []
    grader.grade_many(batch, course, gradebook=path, workers=1)
    check_book(path)


@pytest.mark.slow
def test_a_clock_that_is_set_back(course, batch, tmp_path, monkeypatch):
    """By an hour with every look at it, in the middle of a batch and before the next."""
    path, hours = tmp_path / "g.sqlite", []

    def back(value):
        hours.append(1)
        return value - 3600 * len(hours)

    now, utc = time.time, time.gmtime
    monkeypatch.setattr(time, "time", lambda: back(now()))
    monkeypatch.setattr(time, "gmtime", lambda s=None: utc(back(now()) if s is None else s))

    class Killed(BaseException):
        pass

    heard: list = []

    def on_result(report) -> None:
        heard.append(report.student)
        if len(heard) == 5:
            raise Killed

    with pytest.raises(Killed):
        grader.grade_many(batch, course, gradebook=path, workers=1, on_result=on_result)
    made = grader.grade_many(batch, course, gradebook=path, workers=1)
    assert sum(r.reused for r in made) == 5 and len(made) == 12 and hours
    rows = check_book(path)
    assert [r.student for r in rows][:5] == heard, "the order is that of grading, whatever the time"
