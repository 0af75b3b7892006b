"""Where a learner stands: ``status()`` in a notebook, the same rows as ``course status``."""

import html.parser

import pytest

from coursework import display, panel, progress
from coursework.learn import Standing


@pytest.fixture
def rows():
    return [
        Standing("00", "A & B", 20, 20, 20, 20, 0),
        Standing("01", "Schedules", 3, 24, 3, 13, 35, "01.2", "What is left <of it>"),
        Standing("02", "Noise", 0, 20, 0, 16, 50, "02.1", "One step"),
    ]


class Text(html.parser.HTMLParser):
    """Words of a page, and its elements."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_says_points_next_and_minutes(rows):
    page = Text(panel.Panel(rows, {"01": "01_schedules.ipynb"})._repr_html_())
    words = " ".join("".join(page.words).split())
    assert words.startswith("23 of 64 points. Next: 01.2 What is left <of it>, in lesson 01")
    assert "About 85 minutes are left" in words and "core done" in words
    assert {"href": "01_schedules.ipynb"} in [a for t, a in page.tags if t == "a"]
    bar = next(a for t, a in page.tags if t == "progress")
    assert (bar["value"], bar["max"]) == ("23", "64") and bar["aria-label"]
    heads = [a["scope"] for t, a in page.tags if t == "th"]
    assert heads == ["col"] * 4 + ["row"] * 3


def test_the_text_holds_the_same(rows):
    text = repr(panel.Panel(rows))
    assert "01 Schedules" in text and "3 of 13" in text and "3 of 24" in text
    assert "23 of 64 points; next: 01.2" in text and "About 85 minutes" in text


def test_all_solved_has_nothing_next():
    done = [Standing("00", "A", 20, 20, 20, 20, 0)]
    assert "All exercises are solved" in panel.Panel(done)._repr_html_()
    assert "all exercises are solved" in repr(panel.Panel(done))


def test_status_moves_with_a_check(course):
    before = panel.status()
    assert (before.rows[0].points, before.minutes_left) == (0, 5)
    progress.note(course, "42.1", 3, 3)
    after = panel.status()
    assert (after.rows[0].points, after.minutes_left) == (3, 0)


def test_a_lesson_that_is_built_shows_nobody_s_points(course, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    shown = panel.status()
    assert isinstance(shown, display.Note) and "No progress is kept" in repr(shown)


def test_without_a_course_it_says_so(course, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path / "nowhere"))
    assert "COURSE_ROOT" in repr(panel.status())


def test_it_is_there_beside_check_and_hint():
    from coursework import status

    assert status is panel.status
