"""The commands for a class, from submissions to feedback, and to nothing left."""

from __future__ import annotations

import csv
import io
import json

import pytest
import small_course
from reported import report
from test_privacy import everything
from test_student_page import Reader

from coursework import build, checks, exits
from coursework.gradebook import Gradebook
from coursework.reports import to_json

REMARK = """# %% [markdown] tags=["remark"]
# **Your guess.** Above or below one?
#
# *(write here)*

"""
LONG = """
def snr(alpha_bar):
    total = torch.zeros_like(alpha_bar)
    flat = alpha_bar.reshape(-1)
    for place, share in enumerate(flat.tolist()):
        noise = max(1.0 - share, 1e-12)
        total.view(-1)[place] = share / noise if noise < 1.0 else 0.0
    largest = total.max() if total.numel() else total.sum()
    return torch.where(total > largest, largest.expand_as(total), total)
"""


@pytest.fixture
def classroom(course, tmp_path, monkeypatch):
    """The small course with a question in words, and submissions of four in ``in/``."""
    source = small_course.source(course)
    small_course.edit(source, ('# %% tags=["compare"]', REMARK + '# %% tags=["compare"]'))
    made = build.sources(course)[0]
    build.write(made.lesson_path, build.compose(made, lesson=True))
    lesson = json.loads(made.lesson_path.read_text())
    folder = tmp_path / "class"
    (folder / "in").mkdir(parents=True)
    answers = {
        "u90001": (small_course.RIGHT, "Below, I say."),
        "u90002": (
            small_course.WRONG,
            "Above: my Zebra guess, by adding up what is written there.",
        ),
        "u90003": (LONG, ""),
        "u90004": (LONG.replace("place", "i").replace("share", "s").replace("flat", "f"), ""),
    }
    for student, (code, words) in answers.items():
        copy = json.loads(json.dumps(lesson))
        for cell in copy["cells"]:
            tags = cell["metadata"].get("tags", [])
            if "answer" in tags:
                cell["source"] = code
            elif "remark" in tags:
                cell["source"] = "".join(cell["source"]).replace("*(write here)*", words)
        (folder / "in" / f"{student}.ipynb").write_text(json.dumps(copy))
    (folder / "roster.csv").write_text(
        "id,name\nu90001,Ann Ada\nu90002,Zoë Quint\nu90003,Cy Cole\nu90004,Dee Dorn\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COURSE_ROOT", str(course.root))
    yield folder
    checks.load.cache_clear()


@pytest.mark.slow
def test_a_class_from_submissions_to_nothing_left(classroom, run):
    def must(*command, code=0):
        got, said, err = run(*command)
        assert got == code, said + err
        return said

    said = must("pseudonymise", "in", "--out", "submissions", "--roster", "roster.csv")
    assert "4 submissions copied, 4 students" in said and "not in" not in said
    must("grade", "submissions", "--gradebook", "grades.sqlite", "--workers", "1",
         "--allow-unisolated", "--lesson", "42")  # fmt: skip

    # Marks
    assert "1 questions" in must("marks", "questions", "42")
    assert run("marks", "questions", "42")[0] == exits.INVALID  # it may hold points by now
    collect = ("marks", "collect", "submissions", "--questions", "questions.toml")
    collect += ("--gradebook", "grades.sqlite", "--out", "marks.csv")
    assert "no question has points yet" in run(*collect)[2]
    questions = classroom / "questions.toml"
    questions.write_text(questions.read_text().replace("points = 0", "points = 2"))
    assert "2 answers to 1 questions, 0 marked" in must(*collect)
    must(*collect[:-1], "marks.html")
    assert run(*collect[:-1], "marks.txt")[0] == exits.USAGE
    rows = list(csv.DictReader(io.StringIO((classroom / "marks.csv").read_text("utf-8-sig"))))
    for row in rows:
        row["points"], row["comment"] = (
            ("1.5", "Why Zebra?") if "Zebra" in row["answer"] else ("", "")
        )
    with open(classroom / "marks.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    apply = ("marks", "apply", "marks.csv", "--gradebook", "grades.sqlite")
    assert "1 new, 0 changed, 0 as they were, 3 rows not marked" in must(*apply)
    assert "0 new, 0 changed, 1 as they were" in must(*apply)
    assert run(*apply, "--prefer", "me")[0] == exits.USAGE

    # Reports
    assert "4 pages in feedback" in must("feedback", "grades.sqlite")
    pages = {p.stem: p.read_text() for p in (classroom / "feedback" / "lesson-42").iterdir()}
    texts = {name: Reader(page).text for name, page in pages.items()}
    (zoe,) = (t for t in texts.values() if "Why Zebra?" in t)
    assert "A known mistake: inverted" in zoe and "Hint 1 of 2 for 42.1" in zoe
    assert "Signal and noise" in zoe and "1.5 of 5 points" in zoe and "Your guess" in zoe
    assert sum("<svg" in page for page in pages.values()) == 1
    for name, text in texts.items():
        assert name in text and not any(other in text for other in texts if other != name)
        assert not any(who in text for who in ("u90001", "u90002", "Zoë", "Ada"))
    said = must("report", "grades.sqlite", "--html", "class.html", "--csv", "class.csv")
    assert "lesson 42: 4 submissions, median 3 of 5" in said and "1 times inverted" in said
    text = Reader((classroom / "class.html").read_text()).text
    assert "42.1: float64" not in text.split("nobody failed")[0]
    assert "nobody made" in text and "logarithm" in text
    must("identify", "class.csv", "--out", "school.csv")
    rows = {
        r["student"]: r for r in csv.DictReader(io.StringIO((classroom / "school.csv").read_text()))
    }
    assert rows["u90002"]["total"] == "1.5" and rows["u90001"]["total"] == "3"

    # Similar
    said = must("similar", "submissions", "--lesson", "42")
    assert "1 similar pairs among 2 answers" in said

    # Forget
    assert "Zebra" in everything(classroom).decode("utf-8", "replace")
    assert "Nothing is erased yet" in must("forget", "u90002")
    said = must("forget", "u90002", "--yes")
    assert "Searched again: nothing is left here." in said
    after = everything(classroom)
    for trace in ("u90002", "Zoë", "Quint", "Zebra", "my Zebra guess"):
        assert trace.encode() not in after, trace
    assert "nothing in . is of u90002" in run("forget", "u90002", "--yes")[2]
    with Gradebook(classroom / "grades.sqlite") as book:
        assert len(book.reports()) == 3
    assert "3 pages" in must("feedback", "grades.sqlite", "--out", "again")


def test_feedback_from_json(classroom, run):
    made = [report("anna"), report("bo")]
    (classroom / "g.json").write_text(to_json(made))
    code, said, _ = run("feedback", "g.json", "--student", "bo", "--out", "out")
    assert code == 0 and "1 pages" in said
    assert (classroom / "out" / "lesson-02" / "bo.html").stat().st_mode & 0o777 == 0o600
    assert run("feedback", "g.json", "--student", "cy")[0] == exits.NOT_FOUND
    (classroom / "g.json").write_text("[]")
    assert run("feedback", "g.json")[0] == exits.INVALID
    assert run("feedback", "none.sqlite")[0] == exits.NOT_FOUND


def test_forget_refuses_a_folder_that_is_no_class(course, run):
    code, _, said = run("forget", "anna", "--yes")
    assert code == exits.USAGE and "no class's folder" in said
