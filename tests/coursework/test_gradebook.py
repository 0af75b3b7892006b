"""The gradebook: keys, resuming, two graders at once, and disks that fail."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toy_course import FORKED, WRONG_SCALE, copy_course, lesson_01, write

from coursework import grader, sandbox
from coursework.errors import GradebookError
from coursework.gradebook import Gradebook
from coursework.reports import SubmissionReport

CAN_MOUNT = not sandbox.lacks("full")
HERE = Path(__file__).parent


def report(student="anna", submission="s", checks="c", **more) -> SubmissionReport:
    return SubmissionReport(
        student, f"{student}.ipynb", "01", "ok", 3, 5, submission=submission, checks=checks,
        environment="e", seed=7, **more,
    )  # fmt: skip


def key(of: SubmissionReport) -> dict:
    names = ("student", "lesson", "submission", "checks", "environment", "seed")
    return {n: getattr(of, n) for n in names}


def test_a_report_is_found_again_under_its_key(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert book.add(report()) and not book.add(report())
        found = book.find(**key(report()))
        assert found.to_dict() == report().to_dict() and found.reused
        for other in (report("bo"), report(submission="x"), report(checks="x")):
            assert book.find(**key(other)) is None
            assert book.add(other)
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert len(book.reports()) == 4


def test_rows_cannot_be_changed_or_taken_out(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(report())
        for sql in ("DELETE FROM grades", "UPDATE grades SET points = 5"):
            with pytest.raises(sqlite3.DatabaseError, match="only grows"):
                book.db.execute(sql)
        assert len(book.reports()) == 1


def test_no_folder(tmp_path):
    with pytest.raises(GradebookError, match="does its folder exist") as error:
        Gradebook(tmp_path / "no" / "g.sqlite")
    assert error.value.exit_code == 5


@pytest.mark.parametrize("data", [b"grades\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_left_as_it_is(tmp_path, data):
    path = tmp_path / "g.sqlite"
    path.write_bytes(data)
    with pytest.raises(GradebookError, match="left as it is"):
        Gradebook(path)
    assert path.read_bytes() == data


@pytest.mark.slow
def test_damage_in_the_middle_is_found_at_the_start(tmp_path):
    path = tmp_path / "g.sqlite"
    with Gradebook(path) as book:
        for i in range(200):
            book.add(report(f"student {i}", notes=["x" * 300]))
    data = bytearray(path.read_bytes())
    data[8192:40000] = b"\xee" * (40000 - 8192)
    path.write_bytes(bytes(data))
    with pytest.raises(GradebookError, match="damaged"):
        Gradebook(path)
    assert path.read_bytes() == bytes(data)


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "g.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (id)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(GradebookError, match="something else"):
        Gradebook(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "g.sqlite"
    Gradebook(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(GradebookError, match="newer version"):
        Gradebook(path)


SMALL_DISK = """
import os, sys
from coursework import namespaces
from coursework.errors import GradebookError
from coursework.gradebook import Gradebook
sys.path.insert(0, {here!r})
from test_gradebook import report

def first():
    place = {place!r}
    try:
        namespaces.mount("tmpfs", place, "tmpfs", 0, {options!r})
        if {read_only!r}:
            Gradebook(place + "/g.sqlite").close()
            namespaces.mount(None, place, None, 32 | 1)
        try:
            book = Gradebook(place + "/g.sqlite")
            for i in range(2000):
                book.add(report(f"student {{i}}", notes=["x" * 500]))
            print("no error", flush=True)
        except GradebookError as error:
            print(error, flush=True)
            os.system("ls -l " + place)
            if not {read_only!r}:
                with open(place + "/more", "w"): pass
                namespaces.mount(None, place, None, 32, "size=4m")
                again = Gradebook(place + "/g.sqlite")
                print("kept", len(again.reports()), "added", book.added, flush=True)
                for i in range(2000):
                    again.add(report(f"student {{i}}", notes=["x" * 500]))
                print("all", len(again.reports()), flush=True)
    except BaseException as error:
        print("failed", repr(error), flush=True)

pid = namespaces.in_namespaces(first, print)
os.waitpid(pid, 0)
"""


def small_disk(tmp_path: Path, options: str, read_only: bool) -> str:
    place = tmp_path / "disk"
    place.mkdir()
    code = SMALL_DISK.format(here=str(HERE), place=str(place), options=options, read_only=read_only)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="no small disk can be mounted here")
def test_a_full_disk_loses_nothing(tmp_path):
    said = small_disk(tmp_path, "size=300k", False)
    assert "the disk is full" in said and "the same command goes on" in said, said
    kept = next(line.split() for line in said.splitlines() if line.startswith("kept"))
    assert kept[1] == kept[3] and int(kept[1]) > 0, said
    assert "all 2000" in said, said


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="no read-only disk can be mounted here")
def test_a_read_only_folder(tmp_path):
    said = small_disk(tmp_path, "size=300k", True)
    assert "read-only" in said and "--gradebook" in said, said


def test_an_empty_disk_from_the_start(tmp_path):
    """A limit on the size of files stands for the full disk where none can be mounted."""
    code = (
        "import resource, sys\n"
        "from coursework.gradebook import Gradebook\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "Gradebook(sys.argv[1])\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("POSIX only")
    command = [sys.executable, "-c", code, str(tmp_path / "g.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "GradebookError" in done.stderr and "Make room" in done.stderr, done.stderr


def test_many_writers_at_once(tmp_path):
    path = tmp_path / "g.sqlite"
    failed = []

    def write_all():
        try:
            with Gradebook(path) as book:
                for i in range(30):
                    book.add(report(f"student {i}"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write_all) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    with Gradebook(path) as book:
        assert len(book.reports()) == 30


# With graders --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    for i in range(4):
        write(folder / f"s{i}.ipynb", lesson_01(*([WRONG_SCALE] if i % 2 else [])))
    return folder


needs_fork = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")


@needs_fork
def test_what_is_graded_is_not_graded_again(course, batch, tmp_path):
    book = tmp_path / "g.sqlite"
    first = grader.grade_many(batch, course, gradebook=book, workers=1)
    assert not any(r.reused for r in first)
    write(batch / "s1.ipynb", lesson_01())  # handed in anew
    shutil.copy(batch / "s0.ipynb", batch / "s9.ipynb")  # the same content, another student
    again = grader.grade_many(batch, course, gradebook=book, workers=1)
    assert [r.reused for r in again] == [True, False, True, True, False]
    assert [r.points for r in again] == [5, 5, 5, 2, 5]
    other = grader.grade_many(batch, course, gradebook=book, workers=1, seed=8)
    assert not any(r.reused for r in other)
    with Gradebook(book) as opened:
        assert len(opened.reports()) == 4 + 2 + 5


@needs_fork
@pytest.mark.slow
def test_changed_checks_are_graded_anew(batch, tmp_path):
    course = copy_course(tmp_path / "toy")
    book = tmp_path / "g.sqlite"
    code = (
        "import json, sys; from coursework import config, grader; from pathlib import Path\n"
        "made = grader.grade_many(sys.argv[1], config.load(Path(sys.argv[2])), "
        "gradebook=sys.argv[3], workers=1)\n"
        "print(json.dumps([r.reused for r in made]))"
    )
    command = [sys.executable, "-c", code, str(batch), str(course.root), str(book)]

    def run() -> list[bool]:
        return json.loads(subprocess.run(command, capture_output=True, timeout=120).stdout)

    assert run() == [False] * 4
    assert run() == [True] * 4
    file = course.checks / "answers" / "lesson_01.py"
    file.write_text(file.read_text() + "\n# a comment changes no grade\n")
    assert run() == [True] * 4
    file.write_text(file.read_text().replace("return x * k", "return k * x"))
    assert run() == [False] * 4


@pytest.mark.slow
@needs_fork
def test_two_graders_on_one_gradebook(course, batch, tmp_path):
    code = (
        "import sys; from coursework import config, grader; from pathlib import Path\n"
        "made = grader.grade_many(sys.argv[1], config.load(Path(sys.argv[2])), "
        "gradebook=sys.argv[3], workers=1)\n"
        "assert [r.points for r in made] == [5, 2, 5, 2], made\n"
    )
    book = tmp_path / "g.sqlite"
    command = [sys.executable, "-c", code, str(batch), str(course.root), str(book)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for one in both:
        _, said = one.communicate(timeout=180)
        assert one.returncode == 0, said.decode()
    with Gradebook(book) as opened:
        assert sorted(r.student for r in opened.reports()) == ["s0", "s1", "s2", "s3"]
