"""A batch that is killed at random points is finished by the same command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from toy_course import FORKED, SCALE, WRONG_SCALE, copy_course, lesson_01, write

from coursework.gradebook import Gradebook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FORKED, reason="nothing can be forked here"),
]
KILLS = 26  # with those of test_faults and test_cluster: 50
CODE = (
    "import sys; from coursework import config, grader; from pathlib import Path\n"
    "print('started', flush=True)\n"
    "made = grader.grade_many(sys.argv[1], config.load(Path(sys.argv[2])), gradebook=sys.argv[3],\n"
    "    workers=2, on_result=lambda r: print(r.student, r.reused, flush=True))\n"
    "print('finished', len(made), flush=True)\n"
)


def test_the_grader_is_killed_at_random_points(tmp_path):
    course = copy_course(tmp_path / "toy")
    folder, book = tmp_path / "class", tmp_path / "grades.sqlite"
    folder.mkdir()
    count = 60
    for i in range(count):
        slow = f"import time\ndef scale(x, k):\n    time.sleep(0.0{i % 7})\n    return x * k\n"
        source = (SCALE, WRONG_SCALE, slow)[i % 3]
        write(folder / f"s{i:02}.ipynb", lesson_01(source))
    command = [sys.executable, "-c", CODE, str(folder), str(course.root), str(book)]
    draw = random.Random(11)
    kills, seen = 0, []
    while True:
        done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        fresh, stop = 0, None
        for line in done.stdout:
            word = line.split()
            if word[0] == "finished":
                break
            if word[-1] == "False":
                fresh += 1
                seen.append(word[0])
            if stop is None and kills < KILLS and (word[0] == "started" or fresh):
                # Killed before the first grade, between grades, or while one is written.
                stop = draw.choice([0, 1, 2, 3])
            if stop is not None and fresh >= stop:
                time.sleep(draw.uniform(0, 0.6 if stop == 0 else 0.05))
                os.kill(done.pid, signal.SIGKILL)
                kills += 1
                break
        done.stdout.close()
        if done.wait() == 0:
            break
        assert kills <= KILLS
    assert kills == KILLS
    with Gradebook(book) as opened:
        rows = opened.reports()
    students = sorted(r.student for r in rows)
    assert students == [f"s{i:02}" for i in range(count)], "missed, or graded twice"
    assert len(set(seen)) == len(seen), "told twice"
    expected = {0: 5, 1: 2, 2: 5}
    assert all(r.points == expected[int(r.student[1:]) % 3] for r in rows)


def test_nothing_is_left_running(tmp_path):
    course = copy_course(tmp_path / "toy")
    folder = tmp_path / "class"
    folder.mkdir()
    for i in range(2):
        write(folder / f"s{i}.ipynb", lesson_01("def scale(x, k):\n    while True: pass\n"))
    command = [sys.executable, "-c", CODE, str(folder), str(course.root), str(tmp_path / "g")]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    workers: set[int] = set()
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(_busy(w) for w in workers):
        workers |= set(_children(done.pid))
        time.sleep(0.05)
    below = {c for w in workers for c in _children(w)}
    assert below
    done.kill()
    done.wait()
    done.stdout.close()
    until = time.monotonic() + 10
    while time.monotonic() < until and any(_alive(p) for p in workers | below):
        time.sleep(0.05)
    assert not [p for p in workers | below if _alive(p)]


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(n) for n in f.read().split()]
    except OSError:
        return []


def _busy(pid: int) -> bool:
    return bool(_children(pid))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
