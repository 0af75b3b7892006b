"""Answers in words: found in any notebook, marked side by side, and no mark is ever lost."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys

import browser
import pytest
from reported import EVIL
from test_student_page import Reader

from coursework import marks, notebook, words
from coursework.gradebook import Gradebook
from coursework.submissions import Submission

GUESS = "**Your guess, before you go on.** The variance of the mix is ...\n\n*(write here)*"
LIST = "Three guesses (edit this cell).\n\n- At which step? …\n- Larger or smaller? …"
REMARK = {"tags": ["remark"]}


def markdown(source: str, id: str = "", metadata: dict | None = None) -> dict:
    made = {"cell_type": "markdown", "source": source, "metadata": metadata or {}}
    return {**made, "id": id} if id else made


def tree(guess: str = GUESS, listed: str = LIST, after: tuple = (), ids: bool = True) -> dict:
    """A notebook of lesson 02 with two questions."""
    cells = [
        markdown("# 02 · Title", "t"),
        markdown(guess, "g" if ids else "", REMARK if ids else None),
        *after,
        {"cell_type": "code", "source": "x = 1", "metadata": {}, "outputs": []},
        markdown(listed, "l" if ids else "", REMARK if ids else None),
        markdown("## What to remember", "r"),
    ]
    return {"cells": cells, "metadata": {"coursework": {"lesson": "02"}}}


def parsed(made: dict) -> notebook.Notebook:
    return notebook.parse(json.dumps(made).encode())


LESSON = parsed(tree())
FIRST, SECOND = words.questions(LESSON, "02")


def asked(points: float = 2) -> list[words.Question]:
    from dataclasses import replace

    return [replace(FIRST, points=points, rubric="Names 1/2."), replace(SECOND, points=1)]


def own(made: dict, question=FIRST) -> str:
    return words.answer(parsed(made), LESSON, question).own


# Where the answers are --------------------------------------------------------------------------


def test_questions_of_a_lesson():
    assert [q.id for q in (FIRST, SECOND)] == ["02.w1", "02.w2"]
    assert FIRST.title == "Your guess, before you go on."
    assert SECOND.title == "Three guesses (edit this cell)."
    assert FIRST.cell == "g" and FIRST.asks == GUESS


@pytest.mark.parametrize("ids", [True, False])
def test_what_was_written_is_found(ids):
    written = GUESS.replace("*(write here)*", "One half.")
    assert own(tree(guess=written, ids=ids)) == "One half."
    listed = LIST.replace("step? …", "step? At 300.")
    assert own(tree(listed=listed, ids=ids), SECOND) == "- At which step? At 300."
    assert own(tree(guess="One half."), FIRST) == "One half."  # the question was deleted


@pytest.mark.parametrize("guess", [GUESS, GUESS.replace("*(write here)*", ""), GUESS + "\n\n"])
def test_an_untouched_cell_is_no_answer(guess):
    assert own(tree(guess=guess)) == ""


def test_a_cell_of_ones_own_below_counts():
    after = (markdown("I say: one half."), markdown("Since the squares add."))
    assert own(tree(after=after)) == "I say: one half.\nSince the squares add."
    code = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": []}
    assert own(tree(after=(code, markdown("far away")))) == ""
    assert "remember" not in own(tree(listed="x"), SECOND)


def test_a_notebook_without_the_cell():
    assert own({"cells": [markdown("something else")]}) == ""
    assert own({"cells": []}) == ""


def test_digests_tell_answers_apart():
    one = words.answer(parsed(tree(guess="a")), LESSON, FIRST)
    two = words.answer(parsed(tree(guess="b")), LESSON, FIRST)
    assert one.digest != two.digest and len(one.digest) == 12


def test_a_file_of_questions(tmp_path):
    file = tmp_path / "q.toml"
    file.write_text(words.dumps([FIRST, SECOND]), encoding="utf-8")
    with pytest.raises(words.BadQuestions, match="no question has points"):
        words.load(file, [FIRST, SECOND])
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("points = 0", "points = 1.5", 1), encoding="utf-8")
    (found,) = words.load(file, [FIRST, SECOND])
    assert (found.id, found.points, found.asks) == ("02.w1", 1.5, GUESS)
    for old, new, says in (
        ("points = 1.5", "points = -1", "at least 0"),
        ("points = 1.5", 'points = "2"', "at least 0"),
        ("points = 1.5", "points = nan", "at least 0"),
        ('cell = "g"', 'cell = "x"', "no question in a cell 'x'"),
        ('id = "02.w2"', 'id = "02.w1"', "an id of its own"),
        ("[[question]]", "[[question", "not TOML"),
    ):
        file.write_text(text.replace("points = 0", "points = 1.5").replace(old, new))
        with pytest.raises(words.BadQuestions, match=says):
            words.load(file, [FIRST, SECOND])


def test_every_lesson_of_the_course_has_its_questions():
    from coursework import config, copies

    for number, path in copies.lessons(config.find()).items():
        lesson = notebook.read(path)
        found = words.questions(lesson, number)
        assert found and all(q.cell and q.title for q in found), number
        for q in found:
            assert words.answer(lesson, lesson, q).own == "", q.id


# Marking ----------------------------------------------------------------------------------------


@pytest.fixture
def handed_in(tmp_path):
    """Three submissions: two answers, an untouched one, and a file that is no notebook."""
    folder = tmp_path / "in"
    folder.mkdir()
    texts = {"anna": "One half.", "bo": "=1+1 \x1b[31m" + EVIL, "cy": "*(write here)*"}
    for name, text in texts.items():
        made = tree(guess=GUESS.replace("*(write here)*", text))
        (folder / f"{name}.ipynb").write_text(json.dumps(made))
    (folder / "eve.ipynb").write_text("{")
    return [Submission(p, p.stem) for p in sorted(folder.iterdir())]


def gathered(handed_in, book=None, questions=None):
    there = marks.current(book) if book else {}
    return marks.gather(handed_in, questions or asked(), {"02": LESSON}, there)


def filled(text: str, **given: tuple) -> str:
    """The collected table with student -> (points, comment) for the first question."""
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    for row in rows:
        if row["question"] == "02.w1" and row["student"] in given:
            row["points"], row["comment"] = given[row["student"]]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.fixture
def desk(tmp_path, handed_in):
    """Functions to collect a table, and to apply one that was filled in."""

    class Desk:
        path = tmp_path / "grades.sqlite"

        def collect(self) -> str:
            with Gradebook(self.path) as book:
                return marks.to_csv(gathered(handed_in, book)[0])

        def apply(self, text: str, prefer: str | None = None) -> marks.Applied:
            file = tmp_path / "marks.csv"
            file.write_text(text, encoding="utf-8")
            with Gradebook(self.path) as book:
                return marks.apply(file, book, prefer)

        def marks(self) -> dict:
            with Gradebook(self.path) as book:
                there = marks.current(book)
            return {m.student: (m.points, m.comment) for m in there.values()}

    return Desk()


def test_side_by_side_question_by_question(handed_in):
    entries, notes = gathered(handed_in)
    assert [(e.question.id, e.student) for e in entries] == [
        (q, s) for q in ("02.w1", "02.w2") for s in ("anna", "bo", "cy")
    ]
    assert len(notes) == 1 and notes[0].startswith("eve: ")
    rows = list(csv.DictReader(io.StringIO(marks.to_csv(entries).removeprefix("\ufeff"))))
    assert rows[0]["answer"] == "One half." and rows[0]["out_of"] == "2"
    assert rows[1]["answer"].startswith("'=1+1 <script>") and rows[2]["answer"] == ""


def test_of_two_notebooks_the_newer_counts(tmp_path):
    import os

    files = []
    for i, text in enumerate(("old", "new", "middle")):
        files.append(tmp_path / f"{i}.ipynb")
        files[-1].write_text(json.dumps(tree(guess=text)))
        os.utime(files[-1], (100 + [0, 9, 5][i],) * 2)
    entries, _ = gathered([Submission(f, "anna") for f in files])
    assert entries[0].written.own == "new"


def test_marks_come_back_and_the_same_file_twice_adds_none(desk):
    table = filled(desk.collect(), anna=("1,5", "Why?"), bo=("0", "=cmd|' /C calc'!A0"))
    done = desk.apply(table)
    assert (done.added, done.changed, done.unchanged, done.empty) == (2, 0, 0, 4)
    assert desk.marks() == {"anna": (1.5, "Why?"), "bo": (0, "=cmd|' /C calc'!A0")}
    done = desk.apply(table)
    assert (done.added, done.changed, done.unchanged, done.conflicts) == (0, 0, 2, [])
    again = desk.collect()  # what comes out of the gradebook goes in again unchanged
    assert desk.apply(again).unchanged == 2 and "'=cmd" in again


def test_an_empty_row_takes_no_mark_away(desk):
    desk.apply(filled(desk.collect(), anna=("2", "Good.")))
    done = desk.apply(filled(desk.collect(), anna=("", "")))
    assert done.empty == 6 and desk.marks() == {"anna": (2, "Good.")}


def test_a_mark_is_changed_and_the_old_one_stays_in_the_book(desk):
    desk.apply(filled(desk.collect(), anna=("1", "Hm.")))
    assert desk.apply(filled(desk.collect(), anna=("2", "Good."))).changed == 1
    assert desk.marks() == {"anna": (2, "Good.")}
    with Gradebook(desk.path) as book:
        rows = book.db.execute("SELECT points FROM marks ORDER BY id").fetchall()
        assert rows == [(1,), (2,)]
        for sql in ("DELETE FROM marks", "UPDATE marks SET points = 9"):
            with pytest.raises(sqlite3.DatabaseError, match="only grows"):
                book.db.execute(sql)


def test_two_who_mark_the_same_are_told(desk):
    mine = theirs = desk.collect()
    desk.apply(filled(mine, anna=("1", "mine"), bo=("2", "mine")))
    theirs = filled(theirs, anna=("2", "theirs"), bo=("2", "mine"), cy=("0", "theirs"))
    done = desk.apply(theirs)
    assert (done.added, done.unchanged, len(done.conflicts)) == (1, 1, 1)
    assert done.conflicts[0] == (
        "anna, 02.w1: the gradebook has 1 points, 'mine', given after this file was collected; "
        "the file says 2 points, 'theirs'"
    )
    assert desk.marks()["anna"] == (1, "mine") and desk.marks()["cy"] == (0, "theirs")
    assert not desk.apply(theirs, "book").conflicts and desk.marks()["anna"] == (1, "mine")
    assert desk.apply(theirs, "file").changed == 1 and desk.marks()["anna"] == (2, "theirs")


def test_an_answer_that_changed_since_is_told(desk, handed_in):
    desk.apply(filled(desk.collect(), anna=("1", "Hm.")))
    handed_in[0].path.write_text(json.dumps(tree(guess="A quarter.")))
    fresh = [Submission(s.path, s.student) for s in handed_in]
    with Gradebook(desk.path) as book:
        entry = gathered(fresh, book)[0][0]
    assert entry.stale and entry.mark.points == 1 and entry.written.own == "A quarter."


@pytest.mark.parametrize(
    "given, says",
    [
        (("3", ""), "3 points for anna, 02.w1, which is worth 0 to 2"),
        (("-1", ""), "worth 0 to 2"),
        (("nan", ""), "a number is wanted"),
        (("inf", ""), "a number is wanted"),
        (("good", ""), "points is 'good', where a number is wanted"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(desk, given, says):
    with pytest.raises(marks.BadMarks, match=says) as error:
        desk.apply(filled(desk.collect(), bo=("1", "fine"), anna=given))
    assert error.value.exit_code == 7 and desk.marks() == {}


def test_files_that_are_no_table_of_marks(desk):
    table = filled(desk.collect(), anna=("1", ""))
    with pytest.raises(marks.BadMarks, match="lacks the columns points"):
        desk.apply(table.replace("points", "Punkte", 1))
    doubled = table + table.split("\n", 1)[1]
    with pytest.raises(marks.BadMarks, match="there twice"):
        desk.apply(doubled)
    with pytest.raises(marks.BadMarks, match="as they were collected"):
        desk.apply(table.replace(",v0-", ",x0-"))
    desk.path.with_name("marks.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(marks.BadMarks, match="UTF-8"):
        marks.read(desk.path.with_name("marks.csv"))


def test_what_spreadsheets_do_to_a_table(desk):
    """Semicolons, a byte order mark, a lesson number without its zero."""
    rows = list(csv.reader(io.StringIO(filled(desk.collect(), anna=("1,5", "a;b")))))
    for row in rows[1:]:
        row[1] = "2"
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows(rows)
    assert desk.apply("\ufeff" + out.getvalue()).added == 1
    with Gradebook(desk.path) as book:
        (mark,) = marks.current(book).values()
    assert (mark.lesson, mark.points, mark.comment) == ("02", 1.5, "a;b")


KILLED = """
import os, sys
from pathlib import Path
from coursework import marks
from coursework.gradebook import Gradebook
write, count = marks._write, 0
def some(book, mark):
    global count
    write(book, mark)
    count += 1
    if count == 2:
        os.kill(os.getpid(), 9)
marks._write = some
with Gradebook(sys.argv[1]) as book:
    marks.apply(Path(sys.argv[2]), book)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_killed_in_the_middle_it_has_all_or_nothing(desk, tmp_path):
    table = filled(desk.collect(), anna=("1", "a"), bo=("1", "b"), cy=("1", "c"))
    file = tmp_path / "marks.csv"
    file.write_text(table, encoding="utf-8")
    command = [sys.executable, "-c", KILLED, str(desk.path), str(file)]
    assert subprocess.run(command, timeout=300).returncode == -9
    assert desk.marks() == {}
    assert desk.apply(table).added == 3


def test_comments_flow_into_feedback(desk):
    desk.apply(filled(desk.collect(), anna=("1.5", "Why?"), bo=("", "Only a word.")))
    with Gradebook(desk.path) as book:
        found = marks.answers(book)
    assert vars(found["anna", "02"][0]) == {
        "title": "Your guess, before you go on.", "points": 1.5, "out_of": 2, "comment": "Why?"
    }  # fmt: skip
    assert found["bo", "02"][0].out_of == 0 and found["bo", "02"][0].comment == "Only a word."


def test_a_book_without_marks_has_none(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert marks.current(book) == {} and marks.answers(book) == {}


# The page ---------------------------------------------------------------------------------------


def test_the_page_shows_answers_and_runs_no_script_of_theirs(handed_in):
    page = marks.to_html(gathered(handed_in)[0], "Lesson 02")
    reader = Reader(page)
    assert [t for t, _ in reader.tags].count("script") == 1
    assert "<script>alert('x')</script>" in reader.text and "\x1b" not in page
    assert "Names 1/2." in reader.text and "Nothing was written." in reader.text


@pytest.mark.slow
def test_in_a_browser(desk, handed_in, tmp_path):
    """What is typed becomes the table that ``apply`` takes; a reload keeps it; axe is content."""
    browser.need()
    file = tmp_path / "page.html"
    file.write_text(marks.to_html(gathered(handed_in)[0], "Lesson 02"), encoding="utf-8")
    with browser.Browser() as chromium:
        for width in (browser.PHONE, browser.DESK):
            chromium.open(file, width, dark=width == browser.PHONE)
            assert chromium.overflow() <= 0
            assert chromium.violations() == []
            chromium.picture(tmp_path / f"marks-{width}.png")
        chromium.run(
            """(() => {
                const type = (student, name, text) => {
                    const at = `[data-student="${student}"][data-question="02.w1"] `;
                    const field = document.querySelector(at + `[name="${name}"]`);
                    field.value = text;
                    field.dispatchEvent(new Event("input", {bubbles: true}));
                };
                type("anna", "points", "1,5");
                type("anna", "comment", 'Say "why", please;\\n- and how');
                type("bo", "points", "0");
                type("bo", "comment", "=1+1");
            })()"""
        )
        assert chromium.run("document.getElementById('told').textContent").startswith("2 of 6")
        table = chromium.run("courseMarks()")
        chromium.open(file)
        assert chromium.run("courseMarks()") == table
        chromium.run("document.querySelector('[name=points]').value = '9'; 1")
        chromium.run("document.getElementById('save').click()")
        assert "from 0 to 2" in chromium.run("document.getElementById('told').textContent")
        assert chromium.requests() == []
    desk.apply(table)
    assert desk.marks() == {"anna": (1.5, 'Say "why", please;\n- and how'), "bo": (0, "=1+1")}
