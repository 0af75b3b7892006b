"""What a learner sees: check, hint, progress, in a notebook and in a terminal."""

import html.parser
import json
import textwrap

import numpy as np
import pytest
import torch

from coursework import config, display, feedback, progress

CHECKS = """
from coursework.exercise import Case, Exercise, Lesson

LESSON = Lesson("88")
halve = Exercise(
    id="88.1", title="Halve <it>", names=("halve",), points={"curves": 1, "images": 1},
    hints=("Which part?", "A product."), minutes=1, library=("lib.halve",),
)

@halve.cases
def _(draw):
    yield Case("a curve", (draw.normal(2, 30),), group="curves")
    yield Case("an image", (draw.normal(2, 1, 14, 15),), group="images")

twice = Exercise(
    id="88.2", title="Halve twice", names=("quarter",), points={"main": 1},
    hints=("Use halve.", "Twice."), uses=("88.1",),
)

@twice.cases
def _(draw):
    yield Case("one", (draw.normal(4),))
"""
ANSWERS = """
from coursework.exercise import Answers

a = Answers("88.1")

@a.reference
def halve(x):
    return x / 2

@a.misconception("doubled", "You double.")
def halve(x):
    return x * 2

b = Answers("88.2")

@b.reference
def quarter(x):
    return halve(halve(x))
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "checks" / "answers").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        textwrap.dedent(
            """
            [tool.coursework]
            title = "Test"
            lessons = "lessons"
            solutions = "solutions"
            checks = "checks"
            work = "work"
            library = "lib"
            """
        )
    )
    (tmp_path / "checks" / "lesson_88.py").write_text(CHECKS)
    (tmp_path / "checks" / "answers" / "lesson_88.py").write_text(
        ANSWERS.replace("@a.reference\ndef halve", "@a.reference\ndef halve")
    )
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    monkeypatch.setenv("COURSE_PROGRESS", "on")
    for cached in (feedback._course, feedback._exercise, feedback._live):
        cached.cache_clear()
    yield config.find()
    for cached in (feedback._course, feedback._exercise, feedback._live):
        cached.cache_clear()


@pytest.fixture
def mine(monkeypatch):
    names: dict = {}
    monkeypatch.setattr(feedback, "learner_names", lambda depth=2: names)
    return names


class Reader(html.parser.HTMLParser):
    """Fails on unbalanced tags; collects text and alt texts."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "img", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(shown):
    reader = Reader()
    reader.feed(shown._repr_html_())
    assert reader.open == []
    return reader


def test_right_answer(course, mine):
    mine["halve"] = lambda x: 0.5 * x
    shown = feedback.check("88.1")
    assert shown.passed
    assert repr(shown).startswith("✓ 88.1 Halve <it>: passed, 2 of 2 points")
    assert "Halve <it>" in "".join(read(shown).texts)
    assert progress.load(course).is_solved("88.1")


def test_wrong_answer_names_the_mistake_and_draws(course, mine):
    mine["halve"] = lambda x: x + x
    shown = feedback.check("88.1")
    reader = read(shown)
    assert "A known mistake: doubled" in repr(shown)
    assert "You double." in "".join(reader.texts)
    assert [a["role"] for t, a in reader.tags if t == "svg"] == ["img"]
    assert "hint('88.1')" in repr(shown)
    assert not progress.load(course).is_solved("88.1")


def test_image_cases_are_drawn_with_alternative_text(course, mine):
    mine["halve"] = lambda x: x / 2 if x.ndim == 2 else x / 2 + x.abs()
    images = [a for t, a in read(feedback.check("88.1")).tags if t == "img"]
    assert len(images) == 2
    assert all(a["alt"] and a["src"].startswith("data:image/png;base64,") for a in images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_finite_can_still_be_shown(course, mine, value):
    mine["halve"] = lambda x: torch.full_like(x, value)
    assert "values are" in repr(feedback.check("88.1"))
    read(feedback.check("88.1"))


def test_stub_and_missing(course, mine):
    assert "not found" in repr(feedback.check("88.1"))

    def halve(x):
        raise NotImplementedError("88.1")

    mine["halve"] = halve
    assert "not attempted yet, 0 of 2" in repr(feedback.check("88.1"))


def test_an_earlier_mistake_costs_once(course, mine):
    exec("def quarter(x):\n    return halve(halve(x))", mine)
    mine["halve"] = wrong = lambda x: x * 2
    assert feedback.check("88.2").passed
    assert mine["halve"] is wrong
    del mine["halve"]
    assert feedback.check("88.2").passed
    assert "halve" not in mine


def test_the_librarys_own_function_is_no_answer(course, mine):
    function = lambda x: x / 2  # noqa: E731
    function.__module__ = "lib.tools"
    mine["halve"] = function
    shown = repr(feedback.check("88.1"))
    assert "not your own, 0 of 2" in shown
    assert "asks you to write it" in shown


def test_a_typo_suggests_the_nearest(course, mine):
    assert "did you mean 88.1" in repr(feedback.check("88.11"))
    assert "did you mean" in repr(feedback.hint("88.3"))


def test_hints_come_one_by_one(course):
    assert "Which part?" in repr(feedback.hint("88.1"))
    assert "A product." in repr(feedback.hint("88.1"))
    assert "A product." in repr(feedback.hint("88.1"))
    assert "Which part?" in repr(feedback.hint("88.1", 1))
    assert "hints 1 to 2, not 9" in repr(feedback.hint("88.1", 9))


def test_what_was_printed_is_shown(course, mine):
    def halve(x):
        print("<b>here</b>", x.shape)
        return x

    mine["halve"] = halve
    shown = feedback.check("88.1")
    assert "<b>here</b>" in repr(shown)
    assert "<b>here" not in shown._repr_html_()
    read(shown)


def test_progress_keeps_the_best_and_survives_damage(course, mine):
    mine["halve"] = lambda x: x / 2
    feedback.check("88.1")
    mine["halve"] = lambda x: x
    feedback.check("88.1")
    assert progress.load(course).best["88.1"] == 2
    path = course.work / "progress.json"
    path.write_text("{ damaged")
    assert progress.load(course).best == {}
    assert list(course.work.glob("progress.damaged-*.json"))


def test_progress_can_be_switched_off(course, mine, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    mine["halve"] = lambda x: x / 2
    feedback.check("88.1")
    assert not (course.work / "progress.json").exists()


def test_unwritable_progress_is_said_and_costs_nothing(course, mine):
    course.work.write_text("a file where the folder should be")
    mine["halve"] = lambda x: x / 2
    shown = feedback.check("88.1")
    assert shown.passed
    assert "could not be saved" in repr(shown)


def test_two_writers_lose_nothing(course):
    import threading

    threads = [
        threading.Thread(target=progress.note, args=(course, f"88.{i}", i, 20)) for i in range(16)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    saved = json.loads((course.work / "progress.json").read_text())
    assert saved["best"] == {f"88.{i}": i for i in range(16)}


def test_bundle_without_answers_checks_from_recordings(course, mine):
    from coursework import checks, recorded

    (course.checks / "recorded").mkdir()
    data = recorded.record(checks.load("88", course.root))
    assert data == recorded.record(checks.load("88", course.root))
    (course.checks / "recorded" / "88.bin").write_bytes(data)
    import shutil

    shutil.rmtree(course.checks / "answers")
    for cached in (feedback._exercise, feedback._live, checks.load):
        cached.cache_clear()
    mine["halve"] = lambda x: x + x
    assert "A known mistake: doubled" in repr(feedback.check("88.1"))
    mine["halve"] = lambda x: x / 2
    assert feedback.check("88.1").passed
    (course.checks / "recorded" / "88.bin").write_bytes(data[:-9])
    feedback._exercise.cache_clear()
    assert "damaged" in repr(feedback.check("88.1"))


def test_curve_of_a_thousand_points_is_thinned():
    svg = display._svg(np.sin(np.arange(5000.0)), np.cos(np.arange(5000.0)))
    assert len(svg) < 20_000
