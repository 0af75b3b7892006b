"""Grading from end to end on the toy course: points, verdicts, reports, folders, batches."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from toy_course import (
    FILL,
    FORKED,
    LINE,
    SCALE,
    SHIFT,
    WRONG_SCALE,
    cell,
    copy_course,
    grade,
    lesson_01,
    notebook,
    points,
    write,
)

from coursework import grader, reports, sandbox
from coursework.errors import NothingToGrade, NotIsolated
from coursework.formats import junit
from coursework.submissions import collect

pytestmark = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


@pytest.fixture(scope="module")
def toy(course):
    with grader.Grader(course, slack=4) as made:
        yield made


def test_right_answers_get_all_points(toy, tmp_path):
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01()))
    assert (report.verdict, report.points, report.out_of) == ("ok", 5, 5)
    assert [e.status for e in report.exercises] == ["passed", "passed"]
    assert report.lesson == "01" and report.level == toy.level.name


def test_a_misconception_is_named(toy, tmp_path):
    wrong = "def scale(x, k):\n    return k + x\n"
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(wrong)))
    assert report.verdict == "ok" and points(report) == {"01.1": 0, "01.2": 2}
    assert report.exercises[0].finding.name == "added"


def test_points_come_by_group(toy, tmp_path):
    narrow = "def scale(x, k):\n    return (x.float() * k)\n"
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(narrow)))
    assert report.exercises[0].groups == {"float32": (2, 2), "float64": (0, 1)}
    assert report.exercises[0].status == "partial"


def test_later_exercises_get_correct_answers_of_earlier_ones(toy, tmp_path):
    own_scale = WRONG_SCALE  # in the notebook too, and not used for what builds on it
    made = notebook({"01.1": own_scale, "02.1": LINE, "02.2": FILL}, "02")
    report = grade(toy, write(tmp_path / "a.ipynb", made))
    assert points(report) == {"02.1": 2, "02.2": 1}, report.exercises


def test_helpers_come_along(toy, tmp_path):
    scale = "def scale(x, k):\n    return helper(x) * k * ONE\n"
    extra = ("ONE = 1", "def helper(x):\n    return x.clone()\n")
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(scale, extra=extra)))
    assert report.points == 5, report.exercises


@pytest.mark.parametrize(
    "source, status, verdict",
    [
        ('def scale(x, k):\n    raise NotImplementedError("01.1")\n', "not attempted", "ok"),
        ("", "missing", "missing answer"),
        ("def scale(x, k:\n", "failed", "ok"),
        ("from toy.kept_back import anything\n" + SCALE.replace("x * k", "x * k * anything()"),
         "forbidden import", "forbidden import"),
        ("from toy.tools import scale\n", "forbidden import", "forbidden import"),
        ("def scale(x, k):\n    import importlib\n"
         "    return importlib.import_module('to' + 'y.tools').scale(x, k)\n",
         "forbidden import", "forbidden import"),
        ("def scale(x, k):\n    return __import__('toy.kept' + '_back').kept_back.anything()\n",
         "forbidden import", "forbidden import"),
        ("def scale(x, k):\n    return 1 / 0\n", "failed", "ok"),
        ("def scale(x, k):\n    raise MemoryError\n", "out of memory", "out of memory"),
        ("def scale(x, k):\n    while True: pass\n", "timeout", "timeout"),
        ("import os\ndef scale(x, k):\n    os._exit(0)\n", "crashed", "crashed"),
        ("import os\ndef scale(x, k):\n    os.abort()\n", "crashed", "crashed"),
    ],
)  # fmt: skip
def test_statuses_and_verdicts(toy, tmp_path, source, status, verdict):
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(source)))
    assert report.exercises[0].status == status, report.exercises[0]
    assert report.verdict == verdict
    assert points(report) == {"01.1": 0, "01.2": 2}


def test_what_lessons_provide_can_be_used(toy, tmp_path):
    scale = "def scale(x, k):\n    return (tools.half(x) * 2 * k) + 0 * tools.numbers()[2]\n"
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(scale)))
    assert report.points == 5, report.exercises[0].finding


def test_check_and_hint_do_nothing(toy, tmp_path):
    scale = "def scale(x, k):\n    from coursework import check, hint\n    check('01.1')\n"
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(scale + "    return x * k\n")))
    assert report.points == 5, report.exercises[0].finding


@pytest.mark.parametrize("level", FORKED)
def test_common_libraries_work_inside(course, tmp_path, level):
    """Plots, threads, temporary files, optimisers, arrays of scipy: what answers may do."""
    scale = """
import tempfile, threading
from concurrent.futures import ThreadPoolExecutor
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
def scale(x, k):
    plt.figure().savefig("figure.png")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(x, folder + "/x.pt")
        x = torch.load(folder + "/x.pt")
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(abs, [-1, 2])) == [1, 2]
    scipy.linalg.solve(np.eye(3), np.ones(3))
    w = torch.nn.Parameter(torch.ones(3))
    w.sum().backward()
    with torch.random.fork_rng():
        torch.manual_seed(1)
    torch.set_num_threads(2)
    return torch.from_numpy(x.numpy() * k)
"""
    with grader.Grader(course, level=level, slack=30) as one:
        one.lesson_grader("01").checks.exercises["01.1"].limit = 30.0
        try:
            report = grade(one, write(tmp_path / "a.ipynb", lesson_01(scale)))
        finally:
            one.lesson_grader("01").checks.exercises["01.1"].limit = 2.0
    assert report.points == 5, report.exercises[0].finding


def test_reports_keep_their_content_as_json(toy, tmp_path):
    report = grade(toy, write(tmp_path / "a.ipynb", lesson_01(WRONG_SCALE)))
    again = reports.SubmissionReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.to_dict() == report.to_dict()
    tree = json.loads(reports.to_json([report]))
    assert tree["submissions"][0]["exercises"][0]["status"] == "failed"


def test_junit_has_a_case_for_each_case(toy, tmp_path):
    made = [
        grade(toy, write(tmp_path / "a.ipynb", lesson_01(WRONG_SCALE)), "anna <&> \x07"),
        grade(toy, write(tmp_path / "b.ipynb", lesson_01("")), "bo"),
        grade(toy, _text(tmp_path / "c.ipynb", "no notebook"), "cy"),
    ]
    root = ElementTree.fromstring(junit.junit(made))
    assert root.tag == "testsuites" and len(root) == 3
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases) > 0
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
        assert all({"classname", "name", "time"} <= set(c.attrib) for c in cases)
        properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
        assert {"verdict", "points", "isolation"} <= set(properties)
    assert int(root.attrib["tests"]) == sum(int(s.attrib["tests"]) for s in root)
    first = {p.attrib["name"]: p.attrib["value"] for p in root[0].iter("property")}
    assert first["points"] == "2/5" and first["points 01.2"] == "2/2"


def _text(path, text):
    path.write_text(text)
    return path


# Notebooks as editors leave them ---------------------------------------------------------------


def _stripped(made):
    for c in made.cells:
        c.metadata.clear()
    made.metadata.clear()
    return made


def _old_format(made):
    made.nbformat_minor = 4
    for c in made.cells:
        c.pop("id", None)
    return made


def _doubled(made):
    made.cells = made.cells + [cell(c.source, *c.metadata.get("tags", [])) for c in made.cells]
    return made


def _reversed(made):
    made.cells = made.cells[:1] + made.cells[:0:-1]
    return made


def _renamed(made):
    for i, c in enumerate(made.cells):
        c["id"] = f"renamed-{i}"
    return made


def _other_kernel(made):
    made.metadata["kernelspec"] = {"name": "julia-9", "display_name": "?", "language": "julia"}
    return made


@pytest.mark.parametrize(
    "change", [_stripped, _old_format, _doubled, _reversed, _renamed, _other_kernel]
)
def test_editors_cost_no_points(toy, tmp_path, change):
    path = tmp_path / "lesson_01_x.ipynb"
    path.write_text(nbformat.writes(change(lesson_01()), version=nbformat.NO_CONVERT))
    report = grade(toy, path)
    assert (report.verdict, report.points) == ("ok", 5), (report.notes, report.exercises)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{",
        b"[]",
        b'{"cells": 3}',
        b"\x00\xff\xfe" * 50,
        b'{"a":' * 100_000,
        b'{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": 7}]}',
    ],
)
def test_what_is_no_notebook_is_invalid(toy, tmp_path, data):
    path = tmp_path / "lesson_01_x.ipynb"
    path.write_bytes(data)
    report = grade(toy, path)
    assert report.verdict == "invalid notebook" and report.points == 0 and report.notes


@pytest.mark.parametrize("source", ["-" * 100_000 + "1", "a" + ".b" * 20_000, "[" * 5000])
def test_nested_code_costs_its_exercise_only(toy, tmp_path, source):
    made = lesson_01("scale = lambda x, k: " + source)
    report = grade(toy, write(tmp_path / "a.ipynb", made))
    assert points(report) == {"01.1": 0, "01.2": 2}


def test_too_much_code_is_refused(toy, tmp_path):
    made = lesson_01("scale = [" + "1," * 1_500_000 + "]")
    report = grade(toy, write(tmp_path / "a.ipynb", made))
    assert report.verdict == "invalid notebook" and "than a notebook" in report.notes[0]


def test_a_lesson_that_nobody_knows(toy, tmp_path):
    path = write(tmp_path / "a.ipynb", notebook({"77.1": SCALE}, "77"))
    report = grade(toy, path)
    assert report.verdict == "invalid notebook" and "77" in report.notes[0]
    path = write(tmp_path / "b.ipynb", nbformat.v4.new_notebook(cells=[cell("1")]))
    assert "--lesson" in grade(toy, path).notes[0]


# Folders and batches ---------------------------------------------------------------------------


def test_a_lesson_that_does_not_exist(course, tmp_path):
    path = write(tmp_path / "a.ipynb", lesson_01())
    with pytest.raises(grader.UnknownLesson, match="01") as error:
        grader.grade_file(path, course, lesson="10")
    assert error.value.exit_code == 3


def test_collecting(tmp_path):
    for name in ("anna.ipynb", "bo/x.ipynb", "bo/y.ipynb", "cy/a.py", "cy/helper.py", "dora.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("# %%\n" if name.endswith(("a.py", "b.py")) else "{}")
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "anna-checkpoint.ipynb").write_text("{}")
    (tmp_path / "bo" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "bo" / ".ipynb_checkpoints" / "x-checkpoint.ipynb").write_text("{}")
    found = [(s.student, s.path.name) for s in collect(tmp_path)]
    assert found == [
        ("anna", "anna.ipynb"),
        ("bo", "x.ipynb"),
        ("bo", "y.ipynb"),
        ("cy", "a.py"),
        ("dora", "dora.py"),
    ][: len(found)] or found[:4] == [
        ("anna", "anna.ipynb"), ("bo", "x.ipynb"), ("bo", "y.ipynb"), ("cy", "a.py"),
    ]  # fmt: skip


def test_an_empty_folder_and_a_missing_one(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(NothingToGrade, match=path.name) as error:
            collect(path)
        assert error.value.exit_code == 3


def test_a_link_to_the_solution_is_refused(toy, tmp_path):
    solution = write(tmp_path / "solution.ipynb", lesson_01())
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "eve.ipynb").symlink_to(solution)
    (submission,) = collect(tmp_path / "class")
    report = next(iter(toy.grade([submission])))[1]
    assert report.points == 0 and "link" in report.notes[0]


def test_batches_in_order_with_results_as_they_come(course, tmp_path):
    for i in range(6):
        write(tmp_path / f"s{i}.ipynb", lesson_01(SCALE if i % 2 else WRONG_SCALE))
    _text(tmp_path / "s6.ipynb", "broken")
    heard = []
    made = grader.grade_many(tmp_path, course, workers=2, on_result=heard.append)
    assert [r.student for r in made] == [f"s{i}" for i in range(7)]
    assert [r.points for r in made] == [2, 5, 2, 5, 2, 5, 0]
    assert sorted(r.student for r in heard) == [r.student for r in made]


def test_batches_without_isolation_are_refused(course, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.ipynb", lesson_01())
    with pytest.raises(NotIsolated, match="--allow-unisolated") as error:
        grader.grade_many(tmp_path, course, level="process")
    assert error.value.exit_code == 4
    made = grader.grade_many(tmp_path, course, level="process", allow_unisolated=True)
    assert [r.points for r in made] == [5, 5]
    assert all(not r.isolated and "without isolation" in r.notes[0] for r in made)


def test_a_fresh_python_for_each_exercise(course, tmp_path):
    path = write(tmp_path / "a.ipynb", lesson_01(WRONG_SCALE, SHIFT))
    report = grader.grade_file(path, course, level="subprocess")
    assert points(report) == {"01.1": 0, "01.2": 2}
    assert report.level == "subprocess" and "without isolation" in report.notes[0]


def test_an_unknown_level(course):
    with pytest.raises(sandbox.Unavailable, match="full, landlock"):
        grader.Grader(course, level="paper")


def test_a_percent_file(toy, tmp_path):
    text = f'# %% tags=["setup"]\n{SETUP_PY}\n# %% tags=["answer"] exercise="01.1"\n{SCALE}'
    path = tmp_path / "lesson_01_x.py"
    path.write_text(text + f'\n# %% tags=["answer"] exercise="01.2"\n{SHIFT}')
    assert grade(toy, path).points == 5


SETUP_PY = "import torch"


def test_a_bundle_without_answers(tmp_path):
    from coursework import checks, recorded

    course = copy_course(tmp_path / "toy")
    for number in ("01", "02"):
        data = recorded.record(checks.load(number, course.root))
        (course.checks / "recorded").mkdir(exist_ok=True)
        (course.checks / "recorded" / f"{number}.bin").write_bytes(data)
    checks.load.cache_clear()
    shutil.rmtree(course.checks / "answers")
    with grader.Grader(course, seed=1) as bundle:
        path = write(tmp_path / "a.ipynb", lesson_01("def scale(x, k):\n    return k + x\n"))
        report = grade(bundle, path)
        assert points(report) == {"01.1": 0, "01.2": 2}
        assert report.exercises[0].finding.name == "added"
        # What builds on an earlier exercise runs on the learner's own.
        made = notebook({"01.1": SCALE, "02.1": LINE, "02.2": FILL}, "02")
        assert grade(bundle, write(tmp_path / "b.ipynb", made)).points == 3
