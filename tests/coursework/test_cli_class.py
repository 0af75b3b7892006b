"""``course grade`` and ``course scores`` for a class: rules, differences, released scores."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
import small_course
from toy_course import FORKED

from coursework import checks, exits, feedback, meter
from coursework.reports import SubmissionReport

pytestmark = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")


def book(source: str) -> str:
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}
    return json.dumps({"cells": [cell], "metadata": {"coursework": {"lesson": "42"}}})


CLASS = """[class]
roster = "roster.csv"
[late]
percent_per_day = 10
[lessons.42]
[[overrides]]
student = "s2"
lesson = "42"
exercise = "42.1"
points = 2
reason = "right idea"
"""


@pytest.mark.slow
def test_a_class_from_a_zip_to_released_scores(course, run, tmp_path):
    place = tmp_path / "term"
    place.mkdir()
    (place / "class.toml").write_text(CLASS)
    (place / "roster.csv").write_text("id,name,canvas\ns1,Ada L,11\ns2,Bo Y,12\ns3,Cy Z,13\n")
    handed_in = place / "submissions.zip"
    with zipfile.ZipFile(handed_in, "w") as archive:
        archive.writestr("lada_LATE_11_5001_42.ipynb", book(small_course.RIGHT))
        archive.writestr("ybo_12_5002_42.ipynb", book(small_course.WRONG))
    grades = tmp_path / "g.sqlite"
    command = ("grade", handed_in, "--gradebook", grades, "--workers", 1, "--allow-unisolated")
    code, said, _ = run(*command, "--publish")
    assert code == 0, said
    assert "s1" in said and "3/3" in said and "published: 2 new" in said
    code, said, _ = run("scores", grades, "--class", place / "class.toml")
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line[:1] == "s"}
    assert rows["s1"] == ["90.0%", "2.7/3"]
    assert rows["s2"] == ["66.7%", "2/3"] and rows["s3"] == ["0.0%", "0/3"]
    assert "! s2, lesson 42: 2 points for 42.1: right idea" in said
    # The teacher takes the points back: what was released stays.
    (place / "class.toml").write_text(CLASS.partition("[[overrides]]")[0])
    code, said, _ = run(*command, "--publish")
    assert code == exits.NOT_RIGHT and "NOT lowered: s2, lesson 42: 2 of 3 -> 0 of 3" in said
    assert "s2, lesson 42: 2 of 3" in run("scores", grades, "--published")[1]
    code, said, _ = run(*command, "--publish", "--allow-lower")
    assert code == 0 and "lowered: s2" in said
    assert "s2, lesson 42: 0 of 3" in run("scores", grades, "--published")[1]


@pytest.mark.slow
def test_changed_checks_are_shown_before_they_count(course, run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ada.ipynb").write_text(book(small_course.RIGHT))
    grades = tmp_path / "g.sqlite"
    command = ("grade", folder, "--gradebook", grades)
    assert "3/3" in run(*command)[1]
    answers = course.checks / "answers" / "lesson_42.py"
    small_course.edit(answers, ("alpha_bar / (1 - alpha_bar)", "2 * alpha_bar / (1 - alpha_bar)"))
    for cache in (checks.load, feedback._exercise, feedback._live):
        cache.cache_clear()
    code, said, _ = run(*command)
    assert code == exits.NOT_RIGHT and "ada, 42.1: 3 (passed) -> 0 (failed)" in said
    assert "--apply" in said and run(*command, "--dry-run")[0] == exits.NOT_RIGHT
    assert "100.0%" in run("scores", grades)[1]
    code, said, _ = run(*command, "--apply")
    assert code == 0 and "3 (passed) -> 0 (failed)" in said and "--apply" not in said
    assert run(*command)[0] == 0
    assert "0.0%" in run("scores", grades)[1]


def test_what_is_wrong_with_the_options_is_told(course, run, tmp_path):
    file = tmp_path / "ada.ipynb"
    file.write_text(book(small_course.RIGHT))
    code, _, said = run("grade", file, "--layout", "canvass")
    assert code == exits.USAGE and "did you mean 'canvas'" in said
    code, _, said = run("grade", file, "--publish")
    assert code == exits.USAGE and "--gradebook" in said
    assert run("grade", file, "--class", tmp_path / "none.toml")[0] == exits.INVALID
    (tmp_path / "class.toml").write_text("[lat]\n")
    grades = tmp_path / "g.sqlite"
    code, _, said = run("grade", file, "--gradebook", grades)
    assert code == exits.INVALID and "did you mean 'late'" in said
    (tmp_path / "class.toml").unlink()
    (tmp_path / "x.zip").write_text("no zip")
    code, _, said = run("grade", tmp_path / "x.zip")
    assert code == exits.INVALID and "not a zip" in said
    code, _, said = run("grade", file, "--variants", tmp_path)
    assert code == exits.INVALID and "holds no variants" in said
    code, _, said = run("upgrade", tmp_path)
    assert code == exits.INVALID and "no bundle" in said


# Progress ------------------------------------------------------------------------------------


def reports(count: int):
    for i in range(count):
        verdict = "timeout" if i % 10 == 3 else "ok"
        yield SubmissionReport(f"s{i}", "x", "01", verdict, 1, 2, reused=i < 5)


def test_without_a_terminal_there_is_a_line_for_each_tenth():
    stream = io.StringIO()
    with meter.Meter(stream) as told:
        told.start(40)
        for report in reports(40):
            told(report)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "4 of 40 graded: 3 ok, 1 timeout (4 known already)"
    assert lines[-1] == "40 of 40 graded: 36 ok, 4 timeout (5 known already)"


def test_few_submissions_need_no_lines():
    stream = io.StringIO()
    with meter.Meter(stream) as told:
        told.start(5)
        for report in reports(5):
            told(report)
    assert stream.getvalue() == ""


def test_on_a_terminal_there_is_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with meter.Meter(stream) as told:
        told.start(3)
        for report in reports(3):
            told(report)
        told.bar.refresh()
    assert "3/3" in stream.getvalue() and "3 ok" in stream.getvalue()
