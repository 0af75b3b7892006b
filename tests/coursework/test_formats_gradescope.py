"""The Gradescope autograder: its zip, its results, and a run in a folder laid out as there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from format_contracts import GRADESCOPE
from toy_course import (
    FILL,
    FORKED,
    LINE,
    SCALE,
    WRONG_SCALE,
    copy_course,
    lesson_01,
    notebook,
    write,
)

from coursework import checks, config, grader
from coursework.formats import FormatError, gradescope
from coursework.formats.rows import Visibility
from coursework.judge import CaseResult, ExerciseResult, Finding
from coursework.reports import SubmissionReport

HELD = Visibility("visible", {"01.1/float64": "hidden", "01.2": "after_published"})
METADATA = {
    "id": 123456,
    "created_at": "2026-11-01T14:22:32.365935-07:00",
    "assignment": {"id": 25828, "title": "Toy", "total_points": "5.0"},
    "users": [{"email": "student@example.com", "id": 1234, "name": "Student User"}],
    "previous_submissions": [],
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    checks.load.cache_clear()
    yield copy_course(tmp_path_factory.mktemp("gradescope") / "toy")
    checks.load.cache_clear()


def lacking(**groups: tuple[int, int]) -> SubmissionReport:
    """A report on one exercise, "SECRET" in all that its failing cases say."""
    result = ExerciseResult("01.1", "Scale", "partial", 0, 0, dict(groups))
    for group, (points, out_of) in groups.items():
        passed = points == out_of
        finding = None if passed else Finding("value", f"SECRET-{group}")
        result.cases.append(CaseResult(f"case-{group}", group, passed, finding))
    result.finding = Finding("value", "SECRET-first")
    points = sum(p for p, _ in groups.values())
    out_of = sum(p for _, p in groups.values())
    return SubmissionReport("a", "a.ipynb", "01", "timeout", points, out_of, [result])


def test_results_fit_what_gradescope_says():
    report = lacking(float32=(2, 2), float64=(0, 1))
    made = gradescope.results(report, Visibility(), 1.5)
    jsonschema.validate(made, GRADESCOPE)
    assert made["score"] == 2 and made["execution_time"] == 1.5
    assert [(t["number"], t["score"], t["max_score"], t["status"]) for t in made["tests"]] == [
        ("01.1.1", 2, 2, "passed"), ("01.1.2", 0, 1, "failed"),
    ]  # fmt: skip
    assert "2 of 3 points" in made["output"] and "timeout" in made["output"]
    assert made["stdout_visibility"] == "hidden" and "leaderboard" not in made


def test_nothing_hidden_leaks_into_what_is_seen():
    report = lacking(float32=(0, 2), float64=(0, 1))
    made = gradescope.results(report, Visibility("visible", {"01.1/float64": "hidden"}))
    jsonschema.validate(made, GRADESCOPE)
    seen, held = made["tests"]
    assert held["visibility"] == "hidden" and "SECRET-float64" in held["output"]
    text = json.dumps([seen, {k: v for k, v in made.items() if k not in ("tests", "score")}])
    assert "SECRET-float64" not in text and "SECRET-first" not in text
    assert "points" not in made["output"] and "timeout" not in made["output"]
    assert made["score"] == 0 and "0 of 1 tests" in made["output"]


def test_a_named_mistake_is_told_once_and_where_it_is_seen():
    report = lacking(float32=(0, 2), float64=(0, 1))
    report.exercises[0].finding = Finding("misconception", "You add.", "added")
    first, second = gradescope.results(report)["tests"]
    assert "A known mistake, added: You add." in first["output"]
    assert "added" not in second["output"]
    hidden = Visibility("visible", {"01.1/float32": "hidden"})
    first, second = gradescope.results(report, hidden)["tests"]
    assert "added" not in first["output"] and "added" in second["output"]


def test_the_zip(course, tmp_path):
    names = gradescope.autograder(course, "01", tmp_path / "a.zip", HELD)
    gradescope.autograder(course, "01", tmp_path / "b.zip", HELD)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == names
        modes = {i.filename: i.external_attr >> 16 & 0o777 for i in archive.infolist()}
        archive.extractall(tmp_path / "source")
    assert modes["setup.sh"] == modes["run_autograder"] == 0o755
    assert {"course/pyproject.toml", "course/checks/answers/lesson_01.py"} <= set(names)
    assert {"course/reference/toy/tools.py", "course/reference/coursework/judge.py"} <= set(names)
    assert "course/checks/lesson_02.py" not in names and "course/data/numbers.txt" in names
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", tmp_path / "source" / script], check=True)
    used = gradescope.autograder(course, "02", tmp_path / "c.zip")
    assert "course/checks/answers/lesson_01.py" in used  # its exercises build on those


def test_the_zip_refuses_what_is_not_there(course, tmp_path):
    with pytest.raises(FormatError, match=r"01\.7"):
        gradescope.autograder(
            course, "01", tmp_path / "a.zip", Visibility(rules={"01.7": "hidden"})
        )
    bundle = copy_course(tmp_path / "bundle")
    shutil.rmtree(bundle.checks / "answers")
    with pytest.raises(FormatError, match="student bundle"):
        gradescope.autograder(bundle, "01", tmp_path / "a.zip")


def test_only_the_lessons_own_data_is_in_it(course, tmp_path):
    def data(number: str) -> list[str]:
        names = gradescope.autograder(held, number, tmp_path / "a.zip")
        return [n for n in names if n.startswith("course/data/")]

    held = replace(course, lesson_data=(("numbers.*", ("02",)), ("*.npz", ("03",))))
    assert data("01") == [] and data("02") == ["course/data/numbers.txt"]


@pytest.mark.slow
def test_what_a_student_hands_in_beside_a_notebook_rules_nothing(course, tmp_path):
    """The runner's own function, in a folder laid out as there, with rules that a student made."""
    gradescope.autograder(course, "01", tmp_path / "a.zip")
    container = Container(tmp_path / "a.zip", tmp_path / "autograder")
    rules = '[[overrides]]\nstudent = "submission"\nlesson = "01"\npoints = 5\nreason = "mine"\n'
    place = container.root / "submission"
    place.mkdir()
    write(place / "x.ipynb", lesson_01(WRONG_SCALE))
    plain = gradescope.grade(container.root)
    for folder in (place, container.root):
        (folder / "class.toml").write_text("[class]\nseeds = 'per student'\n" + rules)
        (folder / "roster.csv").write_text("id,name\nx,submission\n")
    (place / "autograder.json").write_text('{"seed": 1, "lesson": "02"}')
    (place / "pyproject.toml").write_text("[tool.coursework]\nchecks = 'mine'\n")
    ruled = gradescope.grade(container.root)
    for made in (plain, ruled):
        del made["execution_time"]
    assert plain == ruled and plain["score"] == 2
    assert not list(container.root.rglob("class.secret"))


def test_setup_makes_an_environment(course, tmp_path):
    """With commands that only tell what they are asked."""
    gradescope.autograder(course, "01", tmp_path / "a.zip")
    root = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(root / "source")
    tools = tmp_path / "bin"
    tools.mkdir()
    told = tmp_path / "told"
    python = f'#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "python $*" >> {told}\n'
    python += (
        f'[ "$2" = venv ] && mkdir -p "$3/bin" && cp {tools}/python3.13 "$3/bin/python"\nexit 0\n'
    )
    (tools / "python3.13").write_text(python)
    (tools / "python3.13").chmod(0o755)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "AUTOGRADER_ROOT": str(root)}
    subprocess.run(["bash", root / "source" / "setup.sh"], env=env, check=True)
    lines = told.read_text().splitlines()
    assert lines[0] == f"python -m venv {root}/venv"
    assert lines[1].startswith("python -m pip install") and lines[1].endswith("-e .")


class Container:
    """A folder laid out as Gradescope's container, in which submissions are graded."""

    def __init__(self, archive: Path, root: Path) -> None:
        self.root = root
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(root / "source")
        shutil.copy(root / "source" / "run_autograder", root / "run_autograder")
        (root / "run_autograder").chmod(0o755)
        (root / "submission_metadata.json").write_text(json.dumps(METADATA))

    def run(self, *files: Path) -> dict:
        """results.json of a submission of ``files``."""
        for name in ("submission", "results"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            (self.root / name).mkdir()
        for file in files:
            shutil.copy(file, self.root / "submission" / file.name)
        env = {k: v for k, v in os.environ.items() if not k.startswith("COURSE_")}
        env.update(AUTOGRADER_ROOT=str(self.root), COURSE_PYTHON=sys.executable)
        done = subprocess.run(
            [self.root / "run_autograder"],
            cwd=self.root,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        made = json.loads((self.root / "results" / "results.json").read_text())
        jsonschema.validate(made, GRADESCOPE)
        return made


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_scores_are_those_of_the_course(course, tmp_path):
    gradescope.autograder(course, "01", tmp_path / "a.zip", HELD)
    container = Container(tmp_path / "a.zip", tmp_path / "autograder")
    borrowed = "from toy.tools import scale\n"
    stub = 'def scale(x, k):\n    raise NotImplementedError("01.1: write scale")\n'
    for name, source in (
        ("right", SCALE), ("wrong", WRONG_SCALE), ("borrowed", borrowed), ("stub", stub),
        ("partly", "def scale(x, k):\n    return (x.float() * k)\n"),
    ):  # fmt: skip
        path = write(tmp_path / f"{name}.ipynb", lesson_01(source))
        here = grader.grade_file(path, course, "01")
        there = container.run(path)
        assert there["score"] == here.points, name
        assert sum(t["score"] for t in there["tests"]) == here.points
        groups = [p for e in here.exercises for p in e.groups.values()]
        assert [(t["score"], t["max_score"]) for t in there["tests"]] == groups
        assert [t["visibility"] for t in there["tests"]] == ["visible", "hidden", "after_published"]
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    nothing = container.run(text)
    assert nothing["score"] == 0 and nothing["tests"][0]["max_score"] == 5
    (tmp_path / "broken.ipynb").write_text("{")
    broken = container.run(tmp_path / "broken.ipynb")
    assert broken["score"] == 0 and "not JSON" in broken["output"]
    best = container.run(tmp_path / "wrong.ipynb", tmp_path / "right.ipynb")
    assert best["score"] == 5


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_a_lesson_that_builds_on_another(course, tmp_path):
    gradescope.autograder(course, "02", tmp_path / "a.zip")
    container = Container(tmp_path / "a.zip", tmp_path / "autograder")
    answers = {"01.1": WRONG_SCALE, "02.1": LINE, "02.2": FILL}
    path = write(tmp_path / "a.ipynb", notebook(answers, "02"))
    assert container.run(path)["score"] == grader.grade_file(path, course, "02").points == 3


@pytest.mark.slow
@pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
def test_a_lesson_of_this_course(tmp_path):
    root = Path(__file__).resolve().parents[2]
    course = config.load(root)
    (solved,) = (root / "solutions").glob("01_*.ipynb")
    gradescope.autograder(course, "01", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").stat().st_size < 100e6
    there = Container(tmp_path / "a.zip", tmp_path / "autograder").run(solved)
    here = grader.grade_file(solved, course, "01")
    assert there["score"] == here.points == here.out_of > 0
