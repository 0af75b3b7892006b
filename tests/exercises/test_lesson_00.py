"""The snippet of lesson 00: what its checks hold for true is what running it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursework import checks as checks_of
from coursework import config, harness, judge, notebook

COURSE = config.find(Path(__file__).parent)


@pytest.fixture(scope="module")
def lesson():
    return notebook.read(next(COURSE.solutions.glob("00_*.py")))


def extracted(lesson):
    """Source of the autopsy as the grader takes it from ``lesson``, run."""
    checks, exercise = checks_of.find_exercise("00.4", COURSE.root)
    found = notebook.extract(lesson, exercise, COURSE.library, checks.lesson.provides)
    assert found.status == "ok", found.says
    names: dict = {"__name__": "learner"}
    for label, source in found.chunks:
        exec(compile(source, label, "exec"), names)
    return names


def graded(defines: dict) -> judge.ExerciseResult:
    checks, exercise = checks_of.find_exercise("00.4", COURSE.root)
    cases = exercise.make_cases(0)
    outcomes = harness.run_cases(defines, exercise.names, cases, checks.module, exercise.limit)
    return judge.judge_exercise(exercise, judge.LiveOracle(checks), cases, outcomes, 0)


def computing(lesson):
    """The lesson with an autopsy that computes its facts from the lesson's own cells."""
    cells = [
        notebook.Cell(**{**c.__dict__, "source": "def autopsy():\n    return experiments()\n"})
        if c.exercise == "00.4" and "answer" in c.tags
        else c
        for c in lesson.cells
    ]
    return notebook.Notebook(cells, lesson.metadata, lesson.path, lesson.nbformat)


def test_facts_are_what_the_snippet_shows(lesson):
    """An answer that experiments on the lesson's class, brought along by name, gets all points."""
    names = extracted(computing(lesson))
    assert "DiffusionModel" in names
    assert graded(names).status == "passed"


def test_written_facts_need_no_snippet(lesson):
    """An answer that writes down what was seen is judged by its facts alone."""
    names = extracted(lesson)
    assert "DiffusionModel" not in names
    assert graded(names).status == "passed"


@pytest.mark.parametrize("seed", range(20))
def test_facts_hold_for_any_weights(lesson, seed):
    """The experiments' facts do not hang on a lucky draw of weights."""
    torch = pytest.importorskip("torch")
    names = extracted(computing(lesson))
    checks, _ = checks_of.find_exercise("00.4", COURSE.root)
    build = names["build"]
    names["build"] = lambda s, *args: build(1000 * (seed + 1) + s, *args)
    torch.manual_seed(seed)
    facts = names["autopsy"]()
    assert facts == checks.answers["00.4"].reference_defines["autopsy"]()
