"""nbgrader and otter-grader themselves run what is exported, and give the course's own points.

They are not among the test dependencies, for they pin what the course uses otherwise. Make an
environment for each and name its Python::

    python -m venv ng && ng/bin/pip install nbgrader==0.9.6 -c constraints.txt -e .
    COURSE_NBGRADER_PYTHON=ng/bin/python COURSE_OTTER_PYTHON=ot/bin/python pytest -k clients

(otter-grader==7.0.0 for the other).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import small_course
from format_contracts import python_of
from toy_course import FORKED

from coursework import build, checks, config, grader, sandbox
from coursework.formats import FormatError, judged, nbgrader, otter, rows
from coursework.gradebook import Gradebook

REFERENCE = Path(nbgrader.__file__).resolve().parents[2]
SLUG = small_course.SLUG
ANSWERS = {
    "right": small_course.RIGHT,
    "wrong": small_course.WRONG,
    "partly": "def snr(alpha_bar):\n    return (alpha_bar / (1 - alpha_bar)).float()\n",
    "ends": "def snr(alpha_bar):\n    raise SystemExit(3)\n",
    "untouched": None,
}


@pytest.fixture
def course(tmp_path):
    made = small_course.make(tmp_path / "course", library=True)
    for cache in (config.load, checks.load):
        cache.cache_clear()
    source = build.sources(made)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))
    yield made
    for cache in (config.load, checks.load):
        cache.cache_clear()


def lesson(course) -> build.Source:
    return build.sources(course)[0]


def answered(released: Path, target: Path, source: str | None) -> Path:
    """The released notebook with its answer replaced, as a student hands it in."""
    book = nbformat.read(released, 4)
    for cell in book.cells:
        if "answer" in cell.metadata.get("tags", []) and source is not None:
            cell.source = source
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, target)
    return target


def own_points(course, paths: dict[str, Path], level: str | None = None) -> dict[str, int]:
    """Student -> points by the course's own grader."""
    number = lesson(course).number
    return {
        name: grader.grade_file(path, course, number, level=level).points
        for name, path in paths.items()
    }


class Client:
    """A command of another grader, in an environment that knows the course."""

    def __init__(self, python: str, course, folder: Path) -> None:
        self.python, self.folder = python, folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("COURSE_", "JUPYTER"))}
        self.env = {
            **kept,
            "COURSE_ROOT": str(course.root),
            "PYTHONPATH": str(REFERENCE),
            "HOME": str(folder),
            "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "JUPYTER_PLATFORM_DIRS": "1",
            "IPYTHONDIR": str(folder / ".ipython"),
        }

    def __call__(self, *command: str | Path) -> str:
        done = subprocess.run(
            [self.python, "-m", *map(str, command)],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


# The assignment --------------------------------------------------------------------------------


def test_an_assignment_has_a_test_cell_for_each_group(course):
    made = nbgrader.assignment(lesson(course))
    cells = {
        c["metadata"]["nbgrader"]["grade_id"]: c
        for c in made["cells"]
        if "nbgrader" in c["metadata"]
    }
    assert list(cells) == ["answer-42-1", "test-42-1-1", "test-42-1-2"]
    answer, *tests = (c["metadata"]["nbgrader"] for c in cells.values())
    assert (answer["solution"], answer["grade"], answer["locked"]) == (True, False, False)
    assert [t["points"] for t in tests] == [2, 1]
    assert all(t["grade"] and t["locked"] and not t["solution"] for t in tests)
    assert {t["schema_version"] for t in (answer, *tests)} == {3}
    assert "BEGIN SOLUTION" in cells["answer-42-1"]["source"]
    nbformat.validate(nbformat.from_dict(made))


def test_an_export_is_the_same_each_time_and_keeps_settings(course, tmp_path):
    target, settings = nbgrader.export(lesson(course), tmp_path / "ng")
    before = target.read_bytes()
    settings.write_text("c = get_config()\n")
    nbgrader.export(lesson(course), tmp_path / "ng")
    assert target.read_bytes() == before and settings.read_text() == "c = get_config()\n"
    compile(nbgrader.CONFIG.format(course_id="x", budget="X"), "nbgrader_config.py", "exec")


def test_points_in_a_learners_kernel_are_those_of_the_public_check(course, monkeypatch, capsys):
    from coursework import feedback

    monkeypatch.setenv("COURSE_ROOT", str(course.root))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    for cache in (feedback._course, feedback._exercise, feedback._live):
        cache.cache_clear()
    names: dict = {}
    exec(ANSWERS["partly"], names)
    monkeypatch.setattr(feedback, "learner_names", lambda: names)
    found = {g: judged.points("42.1", g) for g in lesson(course).exercises["42.1"].points}
    assert sorted(found.values()) == [0, 2] and "float64" in capsys.readouterr().out
    for cache in (feedback._course, feedback._exercise, feedback._live):
        cache.cache_clear()


def test_a_fault_of_the_machine_is_no_zero(course, tmp_path, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("COURSE_GIVE_UP", "raise")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="there are: none"):
        judged.points("42.1", "schedules")
    answered(course.lessons / f"{SLUG}.ipynb", tmp_path / "a.ipynb", None)
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    with pytest.raises(FormatError, match="COURSE_ROOT"):
        judged.points("42.1", "schedules")


# The clients -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_clients_nbgrader(course, tmp_path):
    folder = tmp_path / "ng"
    folder.mkdir()
    client = Client(python_of("COURSE_NBGRADER_PYTHON", "nbgrader"), course, folder)
    source, _ = nbgrader.export(lesson(course), folder)
    assert "Success" in client("nbgrader", "validate", source)
    client("nbgrader", "generate_assignment", SLUG)
    released = folder / "release" / SLUG / f"{SLUG}.ipynb"
    text = released.read_text()
    assert not any(line in text for line in small_course.SOLUTION_LINES)
    assert "raise NotImplementedError()" in text and "judged.points" in text
    handed_in = {
        name: answered(released, folder / "submitted" / name / SLUG / released.name, answer)
        for name, answer in ANSWERS.items()
    }
    client("nbgrader", "autograde", SLUG, "--create")
    client("nbgrader", "export")
    grades = nbgrader.read_grades((folder / "grades.csv").read_text())
    found = {g.student: g.score for g in grades}
    assert found == own_points(course, handed_in)
    assert found == {"right": 3, "wrong": 0, "partly": 2, "ends": 0, "untouched": 0}
    assert {g.max_score for g in grades} == {3} and {g.lesson for g in grades} == {"42"}
    if not sandbox.lacks("process"):
        assert found == own_points(course, handed_in, "process")
    # The same where nbgrader runs the notebook itself, and its test cells ask.
    settings = folder / "nbgrader_config.py"
    kept = re.sub(r"c\.Autograde\.\w+ = \[.*?^\]$", "", settings.read_text(), flags=re.M | re.S)
    assert "Elsewhere," not in kept
    settings.write_text(kept)
    client("nbgrader", "autograde", SLUG, "--student", "partly", "--force")
    client("nbgrader", "export", "--to", "again.csv")
    again = nbgrader.read_grades((folder / "again.csv").read_text())
    assert {g.student: g.score for g in again} == found
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert sum(book.add(r) for r in nbgrader.reports(grades)) == 5
        assert {r.student: r.points for r in book.reports()} == found


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_clients_otter(course, tmp_path):
    folder = tmp_path / "ot"
    folder.mkdir()
    client = Client(python_of("COURSE_OTTER_PYTHON", "otter"), course, folder)
    held = rows.Visibility(rules={"42.1/schedules": "hidden"})
    otter.autograder(course, "42", folder / "autograder.zip", held)
    found, handed_in = {}, {}
    for name, answer in ANSWERS.items():
        path = answered(course.lessons / f"{SLUG}.ipynb", folder / name / f"{SLUG}.ipynb", answer)
        client(
            "otter", "run", path, "-a", folder / "autograder.zip", "-o", path.parent, "--no-logo"
        )
        made = json.loads((path.parent / "results.json").read_text())
        found[name] = sum(t.get("score", 0) for t in made["tests"])
        handed_in[name] = path
    assert found == own_points(course, handed_in)
    assert found == {"right": 3, "wrong": 0, "partly": 2, "ends": 0, "untouched": 0}


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_clients_of_a_lesson_of_this_course(tmp_path):
    """Lesson 01 as it is: nbgrader generates it and grades its solution and its stub."""
    course = config.load(small_course.ROOT)
    python = python_of("COURSE_NBGRADER_PYTHON", "nbgrader")
    folder = tmp_path / "ng"
    folder.mkdir()
    client = Client(python, course, folder)
    made = build.sources(course, ["01"])[0]
    source, _ = nbgrader.export(made, folder)
    name = made.path.stem
    client("nbgrader", "generate_assignment", name)
    released = folder / "release" / name / f"{name}.ipynb"
    handed_in = {
        "solved": folder / "submitted" / "solved" / name / released.name,
        "untouched": folder / "submitted" / "untouched" / name / released.name,
    }
    for student, path in handed_in.items():
        path.parent.mkdir(parents=True)
        path.write_bytes((source if student == "solved" else released).read_bytes())
    client("nbgrader", "autograde", name, "--create")
    client("nbgrader", "export")
    found = {g.student: g.score for g in nbgrader.read_grades((folder / "grades.csv").read_text())}
    out_of = sum(e.out_of for e in made.exercises.values())
    assert found == {"solved": out_of, "untouched": 0}
    mine = {k: grader.grade_file(p, course, "01").points for k, p in handed_in.items()}
    assert found == mine


# Grades of nbgrader's --------------------------------------------------------------------------


def sheet(*lines: str) -> str:
    return "\n".join([",".join(nbgrader.COLUMNS), *lines]) + "\n"


def test_grades_are_read_from_both_ends():
    found = nbgrader.read_grades(
        sheet(
            "42_a,,2026-11-01 10:00:00,ada,Lovelace, Countess,Ada,ada@x.example,2.5,0.0,2.5,3.0",
            "42_a,,,bob,,,,0.0,0.0,0.0,3.0",
        )
    )
    assert [(g.student, g.score, g.max_score, g.lesson) for g in found] == [
        ("ada", 2.5, 3.0, "42"), ("bob", 0.0, 3.0, "42"),
    ]  # fmt: skip
    (report,) = nbgrader.reports(found)
    assert (report.student, report.points, report.out_of) == ("ada", 2.5, 3)
    assert type(report.out_of) is int and not report.isolated


def test_what_was_handed_in_is_told_by_times_or_not_at_all():
    timed = sheet("42_a,,t,ada,,,,0,0,0,3", "42_a,,,bob,,,,0,0,0,3", "42_a,,,cy,,,,1,0,1,3")
    assert [r.student for r in nbgrader.reports(nbgrader.read_grades(timed))] == ["ada", "cy"]
    untimed = sheet("42_a,,,ada,,,,3,0,3,3", "42_a,,,bob,,,,0,0,0,3")
    assert [r.student for r in nbgrader.reports(nbgrader.read_grades(untimed))] == ["ada", "bob"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("a,b\n", "no CSV of nbgrader"),
        ("", "no CSV of nbgrader"),
        (sheet("42_a,,t,ada"), "line 2"),
        (sheet("42_a,,t,ada,,,,1,0,x,3"), "line 2"),
        (sheet("42_a,,t,ada,,,,4,0,4,3"), "4.0 of 3.0"),
        (sheet("42_a,,t,ada,,,,nan,0,nan,3"), "line 2"),
    ],
)
def test_a_sheet_that_is_none(text, says):
    with pytest.raises(FormatError, match=says):
        nbgrader.read_grades(text)


def test_an_assignment_of_no_lesson():
    with pytest.raises(FormatError, match="of no lesson"):
        nbgrader.reports(nbgrader.read_grades(sheet("ps1,,t,ada,,,,1,0,1,3")))
