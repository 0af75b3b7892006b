"""What a learner's process can see and do at each level, and how a level is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_course import FORKED, ISOLATED, copy_course, grade, lesson_01, write

from coursework import grader, library, lockdown, sandbox
from coursework.jobs import Job, environment, read_response

SEE = """
def scale(x, k):
    import os, sys
    def can(f, *a):
        try:
            f(*a)
            return True
        except Exception:
            return False
    def read(path): open(path, 'rb').read(1)
    def wrote(path): open(path, 'w').write('x')
    import json
    print(json.dumps({
        "root": sorted(os.listdir("/")) if can(os.listdir, "/") else None,
        "course": can(os.listdir, COURSE), "answers": can(read, ANSWERS),
        "data": can(read, DATA), "data written": WRITE and can(wrote, DATA),
        "here": can(read, HERE), "passwd": can(read, "/etc/shadow"),
        "processes": [p for p in os.listdir("/proc") if p.isdigit()]
            if can(os.listdir, "/proc") else [],
        "torch": can(read, sys.modules["torch"].__file__),
        "prefix written": WRITE and can(wrote, sys.prefix + "/x"),
        "stage": os.listdir("/.stage") if can(os.listdir, "/.stage") else [],
        "scratch written": can(wrote, "x"), "cwd": os.listdir("."),
        "tempfile": can(__import__("tempfile").TemporaryFile),
        "environment": sorted(os.environ), "path": sys.path, "uid": os.getuid(),
        "descriptors": [fd for fd in range(200) if can(os.fstat, fd)],
        "modules": sorted(m for m in sys.modules if m.startswith(("coursework", "course_"))),
        "library": can(__import__, "toy.tools"), "kept back": can(__import__, "toy.kept_back"),
        "judge": can(__import__, "coursework.judge"),
        "numbers": __import__("toy.tools").tools.numbers(),
    }))
    return x * k
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


def look(course, level: str, tmp_path: Path) -> dict:
    values = {
        "COURSE": str(course.root),
        "ANSWERS": str(course.checks / "answers" / "lesson_01.py"),
        "DATA": str(course.root / "data" / "numbers.txt"),
        "HERE": str(Path(__file__)),
        "WRITE": level in ISOLATED,
    }
    source = "".join(f"{k} = {v!r}\n" for k, v in values.items()) + SEE
    with grader.Grader(course, level=level) as toy:
        report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(source)))
    assert report.points == 5, report.exercises[0].finding
    return json.loads(report.exercises[0].cases[0].stdout)


@pytest.mark.parametrize("level", FORKED)
def test_what_an_answer_sees(course, level, tmp_path):
    seen = look(course, level, tmp_path)
    assert seen["data"] and seen["numbers"] == [1.0, 2.0, 4.0]
    assert seen["torch"] and seen["scratch written"] and seen["tempfile"]
    assert seen["library"] and not seen["kept back"]
    assert seen["cwd"] == ["x"]
    assert not any(m in seen["modules"] for m in ("coursework.judge", "course_answers_01"))
    assert len(seen["descriptors"]) <= 6, seen["descriptors"]
    secret = {"COURSE_ROOT", "PYTHONPATH", "VIRTUAL_ENV", "SSH_AUTH_SOCK", "GITHUB_TOKEN"}
    assert not secret & set(seen["environment"])
    assert not any("toy/reference" in p and "coursework-" not in p for p in seen["path"])
    if level in ISOLATED:
        hidden = "answers", "here", "passwd", "data written", "prefix written", "judge"
        assert not any(seen[name] for name in hidden), seen
    if level == "full":
        needed = {Path(p).parts[1] for p in sandbox.python_paths(None)[0]}
        assert not {"home", "root", "var", "mnt"} & (set(seen["root"]) - needed), seen["root"]
        assert seen["stage"] == []
        assert len(seen["processes"]) <= 2
        assert seen["uid"] != 0
    if level == "landlock":
        assert not seen["course"] and not seen["processes"]


def test_secrets_stay_out_of_the_environment(monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    made = environment()
    assert "GITHUB_TOKEN" not in made and made["OMP_NUM_THREADS"] == "1"


def test_levels_say_why():
    level = sandbox.available()
    assert level.name in sandbox.LEVELS and level.name in level.says
    better = sandbox.LEVELS[: sandbox.LEVELS.index(level.name)]
    assert set(level.missing) == set(better) and all(level.missing.values())
    assert level.isolated == (level.name in ("full", "landlock"))
    with pytest.raises(sandbox.Unavailable, match="there are full"):
        sandbox.available("steel")


def test_a_level_that_fails_is_explained(monkeypatch):
    sandbox.lacks.cache_clear()
    sandbox.available.cache_clear()
    monkeypatch.setattr(sandbox, "_tried", lambda: {"full": "unshare: Operation not permitted"})
    try:
        if lockdown.landlock_version():
            level = sandbox.available("landlock")
            assert "Operation not permitted" in sandbox.available().says
            assert level.missing["full"]
            with pytest.raises(sandbox.Unavailable, match="Operation not permitted"):
                sandbox.available("full")
    finally:
        sandbox.lacks.cache_clear()
        sandbox.available.cache_clear()


def test_the_environment_can_name_a_level(monkeypatch):
    monkeypatch.setenv("COURSE_ISOLATION", "subprocess")
    sandbox.available.cache_clear()
    assert sandbox.available().name == "subprocess"
    sandbox.available.cache_clear()


def test_a_virtual_environment_inside_the_course_stays_in_sight(tmp_path, monkeypatch):
    inner = tmp_path / "course" / ".venv"
    inner.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(inner))
    read, hide = sandbox.python_paths(tmp_path / "course")
    assert str(inner) in read and str(tmp_path / "course") not in read
    assert str(tmp_path / "course") in hide


def test_a_course_inside_a_prefix_is_hidden(tmp_path, monkeypatch):
    course = tmp_path / "prefix" / "course"
    course.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    read, hide = sandbox.python_paths(course)
    assert str(tmp_path / "prefix") in read and str(course) in hide


def test_an_installed_copy_of_the_library_is_hidden(tmp_path, monkeypatch):
    packages = tmp_path / "lib" / "site-packages"
    (packages / "toy").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(packages))
    read, hide = sandbox.python_paths(tmp_path / "course", "toy")
    assert str(packages) in read and str(packages / "toy") in hide


@pytest.mark.skipif("full" not in FORKED, reason=sandbox.lacks("full") or "to be had")
def test_hidden_paths_are_empty_in_the_new_root(tmp_path):
    place = tmp_path / "prefix"
    for name in ("course/checks", "course/.venv/lib", "site-packages/toy"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("x")
    code = f"""
import os
from coursework import namespaces
place, base = {str(place)!r}, {str(tmp_path / "base")!r}
for n in ("root", "stage/x"):
    os.makedirs(base + "/" + n)
def first():
    room = namespaces.Room(base, (place, place + "/course/.venv"),
                           (place + "/course", place + "/site-packages/toy"))
    namespaces.make_root(room)
    found = [os.path.relpath(os.path.join(f, n), place)
             for f, _, names in os.walk(place) for n in names]
    print(sorted(found), flush=True)
pid = namespaces.in_namespaces(first, print)
os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['course/.venv/lib/file']", done


# The library's copy ----------------------------------------------------------------------------


def test_the_copy_lacks_what_is_asked_for(course):
    root = course.root / "reference"
    made = library.sources(root, "toy", ("toy.tools",), ("toy.tools.scale", "toy.secret.scale"))
    assert sorted(made) == [
        "toy/__init__.py", "toy/_inner.py", "toy/secret.py", "toy/tools.py",
    ]  # fmt: skip
    assert not any("scale" in text and "def scale" in text for text in made.values())
    assert "def center" in made["toy/tools.py"]
    whole = library.sources(root, "toy", ("toy.tools",), ())
    assert whole["toy/tools.py"] == (root / "toy" / "tools.py").read_text()
    assert "toy/secret.py" not in library.sources(root, "toy", ("toy.tools",), ("toy.secret",))


def test_methods_constants_and_conditional_code_are_taken_out():
    source = (
        "import os\nif os.name:\n    def f(): return 1\n    def g(): return 2\n"
        "class C:\n    x = 1\n    def f(self): ...\n    def h(self): ...\n"
        "K: int = 3\nA = B = 4\n__all__ = ['f', 'g', 'K']\n"
    )
    made = library.without(source, {"f", "C.f", "C.x", "K", "A", "__all__.nothing"})
    space: dict = {}
    exec(made, space)
    assert "f" not in space and space["g"]() == 2 and "K" not in space and "A" not in space
    assert not hasattr(space["C"], "f") and hasattr(space["C"], "h")
    assert space["__all__"] == ["g"]


def test_the_copy_is_named_by_its_content(course, tmp_path):
    root = course.root / "reference"
    first = library.stage(tmp_path, root, "toy", ("toy.tools",), ())
    assert library.stage(tmp_path, root, "toy", ("toy.tools",), ()) == first
    other = library.stage(tmp_path, root, "toy", ("toy.tools",), ("toy.tools.scale",))
    assert other != first and len(list(tmp_path.iterdir())) == 2


# What comes back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, b"CWD1" + b"\xff" * 8, b"CWD1" + (2).to_bytes(8, "little") + b"{}"],
)
def test_what_is_no_response_is_judged_as_such(data):
    job = Job("01.1", "01", Path("x"), "y", {"cases": [1, 2], "limit": 1.0}, 1.0)
    found = read_response(data, job)
    assert len(found) == 2 and {o.status for o in found} <= {"invalid", "crashed"}


@pytest.mark.parametrize(
    "outcomes",
    [
        [], [{}], [{}, {}, {}], [1, 2], None, [{"mutated": 3}, {}],
        [{"seconds": "x", "mutated": [[]], "value": object}, {}],
    ],
)  # fmt: skip
def test_odd_outcomes_are_refused_or_harmless(outcomes):
    from coursework import wire

    job = Job("01.1", "01", Path("x"), "y", {"cases": [1, 2], "limit": 1.0}, 1.0)
    found = read_response(wire.encode({"outcomes": outcomes}), job)
    assert len(found) == 2 and all(o.status != "ok" for o in found)


def test_descriptors_are_not_leaked(course, tmp_path):
    if not FORKED or not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    with grader.Grader(course) as toy:
        path = write(tmp_path / "a.ipynb", lesson_01())
        grade(toy, path)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            grade(toy, path)
        assert len(os.listdir("/proc/self/fd")) == before
