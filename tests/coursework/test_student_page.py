"""A student's page: what it shows, what it must not show, and how it is to read."""

from __future__ import annotations

import html.parser
import itertools
import json
import re

import browser
import numpy as np
import pytest
from reported import EVIL, case, curve, failed, image, passed, report

from coursework import drawing, pages, pictures, safe, student_page
from coursework.reports import SubmissionReport
from coursework.results import CaseResult, ExerciseResult, Finding
from coursework.student_page import Answer

HINTS = {"02.1": ("Which power?", "A variance is a square.")}
VOID = {"meta", "img", "rect", "path", "br", "input"}


class Reader(html.parser.HTMLParser):
    """Fails on unbalanced tags; collects tags and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def full_page(student: str = "anna") -> str:
    crashed = ExerciseResult("02.3", "Crash", "crashed", 0, 2, {"main": (0, 2)})
    crashed.finding = Finding("crashed", "the answer ended its process (exit code 0)")
    idle = ExerciseResult("02.4", "Later", "not attempted", 0, 2, {"main": (0, 2)})
    idle.finding = Finding("not attempted", "not attempted yet")
    exercises = [failed(picture=curve()), failed("02.5", picture=image()), passed(), crashed, idle]
    answers = [Answer("Your guess", 1.5, 2, "You say why: good.\nAnd the spread?")]
    made = report(student, exercises, notes=["A note for the reader."])
    return student_page.page(made, "Forward diffusion", HINTS, answers, ["Half a day late: -1."])


def test_points_mistake_cases_hints_and_comments_are_there():
    text = Reader(full_page()).text
    assert "9.5 of 16 points" in text  # 2 + 2 + 4 in the checks, 1.5 in words
    for part in (
        "Feedback on lesson 02: Forward diffusion", "For anna", "Half a day late: -1.",
        "A note for the reader.", "A known mistake: no roots",
        "You take alpha_bar where its root belongs.", "one clip : 12 of 12 values are off",
        "a hidden case", "Hint 2 of 2 for 02.1", "A variance is a square.",
        "the answer ended its process (exit code 0)", "Your guess: 1.5 of 2 points",
        "And the spread?", "✓ passed", "✗ partly right", "Full isolation.",
    ):  # fmt: skip
        assert part in text, part


def test_passed_exercises_show_neither_hints_nor_pictures():
    made = report(exercises=[passed("02.1")])
    reader = Reader(student_page.page(made, hints=HINTS))
    assert "Which power?" not in reader.text
    assert not [t for t, _ in reader.tags if t == "figure"]


def test_hidden_cases_keep_their_name_and_what_was_wanted():
    e = failed()
    e.finding = Finding("value", "SECRET-VALUE 3 is wanted")
    e.cases = [case("SECRET-CASE", "sound", False, "SECRET-VALUE", hidden=True)]
    page = student_page.page(report(exercises=[e]))
    assert "SECRET" not in page and "It fails on inputs that are not shown." in page
    e.cases.append(case("open", "sound", False, "an open finding"))
    page = student_page.page(report(exercises=[e]))
    assert "SECRET" not in page and "an open finding" in Reader(page).text
    values = {"got": np.ones(9), "expected": np.arange(9.0)}
    e.cases = [CaseResult("SECRET-CASE", "sound", False, hidden=True, **values)]
    assert pictures.best(e) is None
    e.cases.append(CaseResult("open", "sound", False, **values))
    assert pictures.best(e).case == "open"


def test_what_a_student_wrote_stays_text():
    e = failed(picture=curve(EVIL))
    e.title = e.groups and EVIL
    e.finding = Finding("error", EVIL)
    e.cases = [case(EVIL, "sound", False, EVIL)]
    made = report(EVIL, [e], notes=[EVIL])
    page = student_page.page(made, EVIL, {e.id: (EVIL,)}, [Answer(EVIL, 1, 2, EVIL)], [EVIL])
    reader = Reader(page)
    assert not [t for t, _ in reader.tags if t in ("script", "img", "iframe", "object", "link")]
    assert not [a for _, attrs in reader.tags for a in attrs if a.startswith("on")]
    assert "\x1b" not in page and "[31m" not in page and "\u202e" not in page
    assert reader.text.count("<script>alert('x')</script>") >= 9
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "script-src" not in policy


def test_the_path_on_the_graders_machine_is_not_shown():
    assert "/class/" not in full_page()


@pytest.mark.parametrize(
    "dirty, cleaned",
    [
        ("a\x1b[1;31mb\x1b[0mc", "abc"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b", "a"),
        ("tab\tand\nline\r\nend\rx", "tab\tand\nline\nend\nx"),
        ("a\x00\x07\x9b\u202e\u2066b", "ab"),
        ("\ud800", "\ufffd"),
        ("ümläut 漢字 🎵", "ümläut 漢字 🎵"),
    ],
)
def test_clean(dirty, cleaned):
    assert safe.plain(dirty) == cleaned


def test_file_names_are_harmless_and_all_different():
    names = [
        "anna",
        "Anna",
        "../../etc/passwd",
        "a/b",
        "a_b",
        "b-c_d",
        "CON",
        "",
        ".",
        "x" * 300,
        "名前",
    ]
    made = pages.file_names(names)
    assert list(made) == names
    assert len({m.casefold() for m in made.values()}) == len(names)
    assert made["b-c_d"] == "b-c_d" and made["名前"] == "名前"
    for m in made.values():
        assert m and "/" not in m and ".." not in m and len(m) < 100
        assert m.lower() != "con" and not m.startswith(".")
    assert pages.file_names(names) == made


def test_a_page_is_written_whole_and_private(tmp_path):
    pages.write(tmp_path / "a" / "x.html", "ü")
    assert (tmp_path / "a" / "x.html").read_bytes() == "ü".encode()
    assert (tmp_path / "a" / "x.html").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnicodeEncodeError):
        pages.write(tmp_path / "a" / "x.html", "\ud800")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.html"]


# Pictures --------------------------------------------------------------------------------------


def outcome(got, expected, **more) -> CaseResult:
    return CaseResult("c", "g", False, None, got, expected, **more)


def test_the_row_with_the_largest_error_is_drawn():
    expected = np.zeros((3, 10))
    got = expected.copy()
    got[1, 4], got[2, 5] = 1, 2
    picture = pictures.of_case(outcome(got, expected))
    assert (picture.kind, picture.place) == ("curve", 2)
    assert picture.got.tolist() == got[2].tolist()
    images = np.zeros((2, 1, 14, 15))
    wrong = images.copy()
    wrong[1, 0, 3, 3] = np.nan
    picture = pictures.of_case(outcome(wrong, images))
    assert (picture.kind, picture.place) == ("image", 1)


@pytest.mark.parametrize(
    "got, expected",
    [
        (np.ones(3), np.ones(4)),
        (np.ones(2), np.ones(2)),
        ("text", np.ones(9)),
        (None, np.ones(9)),
        (np.ones(9, complex), np.ones(9)),
        (3.0, 4.0),
    ],
)
def test_what_cannot_be_drawn(got, expected):
    assert pictures.of_case(outcome(got, expected)) is None


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e300, 0.0])
@pytest.mark.parametrize("shape", [(5, 30), (2, 1, 20, 20)])
def test_odd_values_can_be_stored_and_drawn(fill, shape):
    expected = np.random.default_rng(0).normal(size=shape)
    got = np.full(shape, fill)
    made = pictures.of_case(outcome(got, expected)).to_dict()
    drawn = drawing.figure(json.loads(json.dumps(made, allow_nan=False)))
    assert "nan" not in re.sub(r"alt=\"[^\"]*\"|aria-label=\"[^\"]*\"", "", drawn).lower()
    Reader(drawn)


def test_a_constant_is_drawn_too():
    made = pictures.of_case(outcome(np.zeros(8), np.full(8, 3.0))).to_dict()
    assert made["low"] <= 0 <= 3 <= made["high"] and not made["left_out"]


def test_a_curve_far_off_does_not_flatten_the_expected():
    expected = np.sin(np.arange(30.0))
    made = pictures.of_case(outcome(expected + 1e6, expected)).to_dict()
    assert made["left_out"] and made["high"] - made["low"] < 10
    assert "goes beyond the edge" in drawing.figure(made)


def test_a_picture_is_too_coarse_to_hand_in():
    """What is stored gives the expected back to a thousandth of its range at best."""
    rng = np.random.default_rng(1)
    expected, got = rng.normal(size=(4, 50)), rng.normal(size=(4, 50))
    picture = pictures.of_case(outcome(got, expected))
    made = picture.to_dict()
    back = drawing._values(made, "expected")
    step = (made["high"] - made["low"]) / pictures.STEPS
    off = np.abs(back - picture.expected)
    # The ends of the range are rounded to three digits, which moves all by up to half a percent.
    assert off.max() < step + 0.006 * max(abs(made["low"]), abs(made["high"]))
    assert np.median(off) > step / 20  # float32 results must be right to 2e-5


def test_long_curves_and_large_images_are_thinned():
    rng = np.random.default_rng(2)
    for shape in ((2, 5000), (1, 200, 150)):
        made = pictures.of_case(outcome(rng.normal(size=shape), rng.normal(size=shape))).to_dict()
        assert len(json.dumps(made)) < 15_000
        assert len(drawing.figure(made)) < 60_000


def test_pictures_survive_the_gradebook(tmp_path):
    from coursework.gradebook import Gradebook

    made = report(exercises=[failed(picture=image())])
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(made)
        again = book.reports()[0]
    assert again.to_dict() == made.to_dict() and again.exercises[0].cases[3].hidden
    old = made.to_dict()
    del old["exercises"][0]["picture"]
    for c in old["exercises"][0]["cases"]:
        del c["hidden"]
    assert SubmissionReport.from_dict(old).exercises[0].picture is None


# As it is seen ---------------------------------------------------------------------------------


def test_structure_for_screen_readers():
    reader = Reader(full_page())
    tags = [t for t, _ in reader.tags]
    assert tags[0] == "html" and reader.tags[0][1]["lang"] == "en"
    assert [tags.count(t) for t in ("h1", "header", "main", "footer")] == [1, 1, 1, 1]
    levels = [int(t[1]) for t in tags if re.fullmatch("h[1-6]", t)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for t, a in reader.tags if t == "a"}
    assert targets <= {f"#{i}" for i in ids}
    assert all("scope" in a for t, a in reader.tags if t == "th")
    assert all(a["alt"] and a["src"].startswith("data:") for t, a in reader.tags if t == "img")


@pytest.mark.slow
def test_in_a_browser(tmp_path):
    """axe-core finds nothing, in light and dark, on a phone and a desk; nothing is fetched."""
    browser.need()
    file = tmp_path / "page.html"
    file.write_text(full_page(), encoding="utf-8")
    with browser.Browser() as chromium:
        chromium.check_looks(file, tmp_path, "student")
