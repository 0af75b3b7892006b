"""Hostile submissions on the toy course: at each level that promises to stop them, they gain
nothing, cost nobody else anything, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import zlib
from pathlib import Path

import pytest
from attacks import ATTACKS as FIRST
from attacks import Attack
from attacks_system import SYSTEM
from toy_course import copy_course, grade, lesson_01, points, survivors, write

from coursework import grader, reports, sandbox

ATTACKS = [*FIRST, *SYSTEM]
LEVELS = [n for n in sandbox.LEVELS if not sandbox.lacks(n)]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    made = copy_course(tmp_path_factory.mktemp("course") / "toy")
    objects = made.root / ".git" / "objects" / "ab"
    objects.mkdir(parents=True)
    answers = (made.checks / "answers" / "lesson_01.py").read_bytes()
    (objects / "cdef").write_bytes(zlib.compress(b"blob 1\0" + answers))
    return made


@pytest.fixture(scope="module")
def graders(course):
    """One grader for each level, made when it is first asked for, and kept: whatever a submission
    does to it, the next one meets it."""
    made: dict[tuple[str, bool], grader.Grader] = {}
    os.environ["COURSE_PASSWORD"] = "SECRET-PASSWORD"  # one that no answer may come by

    def get(level: str, call_filter: bool = True) -> grader.Grader:
        key = level, call_filter
        if key not in made:
            made[key] = grader.Grader(course, level=level, call_filter=call_filter, slack=1.0)
        return made[key]

    yield get
    for one in made.values():
        one.pool.close()
    del os.environ["COURSE_PASSWORD"]


@pytest.fixture
def server():
    """A server on this machine that counts its callers and answers all of them."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                calls.append(connection)
                connection.sendall(b"!")
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters:
            letters.bind("\0" + ABSTRACT)
            letters.setblocking(False)
            yield port, calls
            with pytest.raises(BlockingIOError):
                letters.recv(100)


ABSTRACT = f"course-test-{os.getpid()}"
_honest: dict[tuple[int, bool], dict[str, int]] = {}


def honest_points(attack: Attack, toy: grader.Grader, tmp_path: Path) -> dict[str, int]:
    """Points of the answer without its attack, looked up once for each grader."""
    key = id(toy), attack.right
    if key not in _honest:
        path = write(tmp_path / "twin.ipynb", lesson_01(attack.twin()))
        _honest[key] = points(grade(toy, path, "twin"))
    assert _honest[key] == {"01.1": 3 if attack.right else 0, "01.2": 2}
    return _honest[key]


def check(attack: Attack, toy: grader.Grader, tmp_path: Path, port: int = 9) -> None:
    """Grades the attack, its twin and an honest submission after it."""
    honest = honest_points(attack, toy, tmp_path)
    if not toy.pool.workers and toy.level.name != "subprocess":
        toy.pool.warm()
    before, machine = _tree(toy.course.root), _machine()
    worker = toy.pool.workers[0].process.pid if toy.pool.workers else 2**22
    marker = tmp_path / "marker"
    source = attack.answer(
        answers=str(toy.course.checks / "answers" / "lesson_01.py"),
        library=str(toy.course.root / "reference" / "toy"),
        course=str(toy.course.root),
        base=str(toy.pool.base),
        worker=str(worker),
        judge=str(os.getpid()) if toy.level.name != "subprocess" else "2 ** 22",
        port=str(port),
        marker=str(marker),
        abstract=ABSTRACT,
    )
    hostile = grade(toy, write(tmp_path / "eve.ipynb", lesson_01(source)), "eve")
    left = survivors(toy)
    after = grade(toy, write(tmp_path / "anna.ipynb", lesson_01()), "anna")
    got = points(hostile)
    assert got["01.1"] <= honest["01.1"], (hostile.verdict, hostile.exercises[0])
    assert got["01.2"] == 2, hostile.exercises[1]
    if attack.keeps:
        assert got == honest, hostile.exercises[0].finding
    assert points(after) == {"01.1": 3, "01.2": 2}, after.exercises
    assert not left, left
    assert not marker.exists()
    assert _machine() == machine
    assert len(reports.to_json([hostile])) < 2_000_000
    if toy.level.isolated:
        assert _tree(toy.course.root) == before


def _tree(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for p in folder.rglob("*") if "__pycache__" not in p.parts}


def _machine() -> list:
    """What an answer could leave behind outside of files and processes, or do to this process."""
    found: list = []
    for name in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            found.append(len(Path("/proc/sysvipc", name).read_text().splitlines()))
    for folder in ("/dev/shm", "/dev/mqueue", "/var/tmp", "/run/lock"):
        with contextlib.suppress(OSError):
            found.append([n for n in os.listdir(folder) if "left-by" in n])
    if hasattr(os, "sched_getaffinity"):
        found += [os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)]
    return found


WAITING = {
    "the alarm switched off",
    "stopping itself",
    "an error whose text never ends",
    "8 GiB bit by bit",
    "an endless loop in native code",
    "the time limit caught",
}


def _promised(level: str) -> list:
    # The strongest level is tried at once, but for attacks that run into a limit of seconds in a
    # way that another one does already. The rest is left to the slow tests.
    slow = [a for a in ATTACKS if level != "full" or a.name in WAITING]
    return [
        pytest.param(a, id=a.name, marks=[pytest.mark.slow] if a in slow else [])
        for a in ATTACKS
        if level in a.stopped
    ]


@pytest.mark.skipif("full" not in LEVELS, reason=sandbox.lacks("full") or "to be had")
@pytest.mark.parametrize("attack", _promised("full"))
def test_full(attack, graders, tmp_path, server):
    check(attack, graders("full"), tmp_path, server[0])
    assert not server[1], "the network was reached"


@pytest.mark.skipif("landlock" not in LEVELS, reason=sandbox.lacks("landlock") or "to be had")
@pytest.mark.parametrize("attack", _promised("landlock"))
def test_landlock(attack, graders, tmp_path, server):
    check(attack, graders("landlock"), tmp_path, server[0])
    assert not server[1], "the network was reached"


FILTERED = "the filter on system calls"


@pytest.mark.skipif("process" not in LEVELS, reason=sandbox.lacks("process") or "to be had")
@pytest.mark.parametrize("attack", _promised("process"))
def test_process(attack, graders, tmp_path, server):
    from coursework import lockdown

    if FILTERED in attack.stopped["process"] and not lockdown.seccomp_possible():
        pytest.skip("system calls cannot be filtered here")
    check(attack, graders("process"), tmp_path, server[0])
    assert not server[1], "the network was reached"


# Without the filter on system calls, the namespaces alone must hold what the filter would have
# stopped before. Never below "full": these would reach the machine's other processes.
ALONE = (
    "fork bomb",
    "killing the parent",
    "a background process",
    "a program in the background",
    "a socket",
    "limits of the judge lowered",
)


@pytest.mark.skipif("full" not in LEVELS, reason=sandbox.lacks("full") or "to be had")
@pytest.mark.parametrize("attack", [pytest.param(a, id=a.name) for a in ATTACKS if a.name in ALONE])
def test_namespaces_alone(attack, graders, tmp_path, server):
    toy = graders("full", call_filter=False)
    if attack.name.startswith("limits"):
        attack = Attack(**{**attack.__dict__, "stopped": {"full": "a process namespace"}})
    check(attack, toy, tmp_path, server[0])
    assert not server[1], "the network was reached"


@pytest.mark.skipif("process" not in LEVELS, reason=sandbox.lacks("process") or "to be had")
@pytest.mark.parametrize("name", ["a background process"])
def test_processes_are_found_without_namespaces(name, graders, tmp_path):
    (attack,) = [a for a in ATTACKS if a.name == name]
    check(attack, graders("process", call_filter=False), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("attack", _promised("subprocess"))
def test_subprocess(attack, graders, tmp_path):
    check(attack, graders("subprocess"), tmp_path)


# Where nothing is promised ----------------------------------------------------------------------


@pytest.mark.skipif("process" not in LEVELS, reason=sandbox.lacks("process") or "to be had")
@pytest.mark.parametrize(
    "name",
    [
        "answers read from disk",
        "answers read from git objects",
        "a socket",
        "links, pipes and devices",
        "calls by their numbers",
        "new namespaces and mounts",
    ],
)
def test_attacks_work_where_nothing_stops_them(name, graders, tmp_path, server):
    """Else the tests above would show nothing."""
    (attack,) = [a for a in ATTACKS if a.name == name]
    with pytest.raises(AssertionError, match=r"assert 3 <= 0"):
        check(attack, graders("process", call_filter=False), tmp_path, server[0])


@pytest.mark.filterwarnings("ignore")
def test_the_search_of_memory_finds_what_is_there():
    (attack,) = [a for a in ATTACKS if a.name == "answers looked for in memory"]
    space: dict = {}
    exec(attack.source, space)
    held = "".join(["SECRET", "-", "REFERENCE"])
    assert held in space["attack"]()


def test_every_attack_says_what_stops_it():
    for attack in ATTACKS:
        assert attack.stopped and set(attack.stopped) <= set(sandbox.LEVELS)
        assert "full" in attack.stopped, f"{attack.name} must be stopped with namespaces"
        assert all(len(by) > 10 for by in attack.stopped.values())
    assert len({a.name for a in ATTACKS}) == len(ATTACKS)
