"""Sheets for Canvas and Moodle: filled, and still what each system takes."""

from __future__ import annotations

import csv
import io
import re

import pytest

from coursework.classroom import parse
from coursework.formats import FormatError, canvas, moodle, sheets
from coursework.formats.sheets import Score
from coursework.reports import SubmissionReport
from coursework.results import ExerciseResult
from coursework.scores import from_reports, scores

CANVAS = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Nickname,Lesson 01 (77),Quiz (12),"
    "Current Score,Unposted Final Grade\r\n"
    "Manual Posting,,,,,,,,,\r\n"
    '"    Points Possible",,,,,,24,10,(read only),(read only)\r\n'
    '"Lovelace, Ada",101,S-1,ada@x.example,A,,,7,,\r\n'
    '"Babbage, Bob",102,S-2,bob,A,,3,,,\r\n'
    '"=HYPERLINK(""http://x"")",103,S-3,eve,B,,,,,\r\n'
    '"Student, Test",104,,,B,,,,,\r\n'
)
WORKSHEET = (
    "\ufeffIdentifier,Full name,Email address,Status,Grade,Maximum Grade,"
    '"Last modified (submission)","Last modified (grade)","Feedback comments"\n'
    'Participant 501,Ada Lovelace,Ada@x.example,Submitted,,24.00,-,"Monday, 2 November 2026",\n'
    "Participant 502,Bob Babbage,bob@x.example,Submitted,5.00,24.00,-,-,\n"
    "Participant 503,@SUM(A1),eve@x.example,No submission,,24.00,-,-,\n"
)
POINTS = {"ada@x.example": Score(20, 24), "102": Score(17, 24), "S-3": Score(0, 24)}


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def accepted(text: str) -> dict[str, dict[str, str]]:
    """ID -> assignment -> points, as Canvas' importer reads a sheet; raises where it refuses.

    After lib/gradebook_importer.rb: header?, update_column_count, process_pp, process_student.
    """
    rows = list(csv.reader(io.StringIO(text, newline="")))
    header = rows[0]
    assert len(header) > 3 and "Student" in header[0] and "ID" in header[1]
    info = 3
    if re.search(r"SIS\s+Login\s+ID", header[2]):
        info += 1
    elif re.search(r"SIS\s+User\s+ID", header[2]) and re.search(r"SIS\s+Login\s+ID", header[3]):
        info += 2 + bool(re.search(r"Integration\s+ID", header[4]))
    assert "Section" in header[info - 1]
    found = {}
    for row in rows[1:]:
        assert len(row) == len(header)
        if "Points Possible" in row[0]:
            found["out of"] = dict(zip(header[info:], row[info:]))
            continue
        found[row[1]] = dict(zip(header[info:], row[info:]))
    return found


# Canvas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("assignment", ["Lesson 01 (77)", "Lesson 01", "77"])
def test_canvas(assignment):
    filled = canvas.fill(CANVAS, POINTS, assignment)
    assert accepted(filled.text) == {
        "out of": {"Lesson 01 (77)": "24"},
        "101": {"Lesson 01 (77)": "20"},
        "102": {"Lesson 01 (77)": "17"},
        "103": {"Lesson 01 (77)": "0"},
        "104": {"Lesson 01 (77)": ""},
    }
    assert filled.found == {
        "ada@x.example": "SIS Login ID ada@x.example", "102": "ID 102", "S-3": "SIS User ID S-3",
    }  # fmt: skip
    assert filled.unknown == [] and filled.without == ["Student, Test"]
    assert "Quiz" not in filled.text and "Current Score" not in filled.text


def test_canvas_names_are_no_formulas_and_ids_stay():
    rows = table(canvas.fill(CANVAS, POINTS, "77").text)
    assert [r["Student"][0] for r in rows[-2:]] == ["'", "S"]
    assert [r["SIS User ID"] for r in rows[1:]] == ["S-1", "S-2", "S-3", ""]
    evil = CANVAS.replace("103,S-3,eve", "103,S-3,=cmd|' /C calc'!A0")
    with pytest.raises(FormatError, match=r"SIS Login ID .* formula"):
        canvas.fill(evil, POINTS, "77")


def test_canvas_gets_a_new_assignment_with_its_maximum():
    found = accepted(canvas.fill(CANVAS, POINTS, "Lesson 09").text)
    assert found["101"] == {"Lesson 09": "20"} and found["out of"] == {"Lesson 09": "24"}
    without = "".join(x for x in CANVAS.splitlines(True) if "Points Possible" not in x)
    assert accepted(canvas.fill(without, POINTS, "Lesson 09").text)["out of"] == {"Lesson 09": "24"}


def test_canvas_with_few_ids():
    sheet = "Student,ID,SIS Login ID,Section,L (1)\nPoints Possible,,,,24\nAda,101,ada,A,\n"
    assert accepted(canvas.fill(sheet, {"ada": Score(5, 24)}, "1").text)["101"] == {"L (1)": "5"}
    sheet = "Student;ID;Section;L (1)\nPoints Possible;;;24\nAda;101;A;\n"
    assert accepted(canvas.fill(sheet, {"Ada": Score(5, 24)}, "1").text)["101"] == {"L (1)": "5"}


def test_nobody_is_lost_or_guessed():
    filled = canvas.fill(CANVAS, {**POINTS, "zoe": Score(9, 24)}, "77")
    assert filled.unknown == ["zoe"] and "zoe" not in filled.text


@pytest.mark.parametrize(
    "sheet, points, assignment, says",
    [
        ("a,b\n1,2\n", POINTS, "77", "no gradebook of Canvas"),
        ("", POINTS, "77", "empty"),
        ("Student,ID,L (1)\n", POINTS, "1", "Section"),
        (CANVAS, POINTS, "Current Score", "never reads"),
        (CANVAS, POINTS, "12", "out of 10 points"),
        (CANVAS, {"101": Score(1, 24), "S-1": Score(2, 24)}, "77", "several students"),
        (CANVAS, {"101": Score(1, 24), "102": Score(2, 30)}, "77", "one maximum"),
        (CANVAS, {"Ada": Score(1, 24), "ada": Score(2, 24)}, "77", "only in case"),
        (CANVAS.replace("bob,A", "ada@x.example,A"), {"ada@x.example": Score(1, 24)}, "77",
         "fits two rows"),
        (CANVAS.replace("Quiz (12)", "Lesson 01 (13)"), POINTS, "Lesson 01", "several assignments"),
        ("Student,ID,Section,L (1)\n=x,,A,\n", {"a": Score(1, 2)}, "1", "formula"),
    ],
)  # fmt: skip
def test_canvas_refuses(sheet, points, assignment, says):
    with pytest.raises(FormatError, match=says):
        canvas.fill(sheet, points, assignment)


# Moodle ----------------------------------------------------------------------------------------


def test_a_grading_worksheet_of_moodle():
    points = {"501": Score(20, 24), "eve@x.example": Score(0, 24)}
    filled = moodle.fill(WORKSHEET, points)
    rows = table(filled.text)
    assert [r["Grade"] for r in rows] == ["20", "5.00", "0"]
    assert [r["Identifier"] for r in rows] == [f"Participant {i}" for i in (501, 502, 503)]
    assert rows[0]["Last modified (grade)"] == "Monday, 2 November 2026"
    assert rows[2]["Full name"] == "'@SUM(A1)" and rows[0]["Full name"] == "Ada Lovelace"
    # Moodle skips a row whose grade it cannot read, or that is out of range.
    assert all(0 <= float(r["Grade"]) <= float(r["Maximum Grade"]) for r in rows)
    assert filled.without == ["Bob Babbage"]


def test_feedback_stays_to_the_letter():
    sheet = WORKSHEET.replace(
        'Ada@x.example,Submitted,,24.00,-,"Monday, 2 November 2026",',
        'Ada@x.example,Submitted,,24.00,-,-,"- well\nread"',
    )
    assert table(moodle.fill(sheet, {"501": Score(1, 24)}).text)[0]["Feedback comments"] == (
        "- well\nread"
    )


def test_an_address_is_found_by_its_first_part_and_stays_as_it_is():
    filled = moodle.fill(WORKSHEET, {"ada": Score(3, 24)})
    assert table(filled.text)[0]["Grade"] == "3"
    assert table(filled.text)[0]["Email address"] == "Ada@x.example"  # Moodle minds the case


def test_a_grade_export_of_moodle():
    sheet = (
        "First name,Last name,ID number,Email address,Lesson 01 (Real),Course total (Real)\n"
        "Ada,Lovelace,S1,ada@x.example,3.00,9.00\nBob,Babbage,S2,bob@x.example,-,4.00\n"
    )
    points = {"s1": Score(20, 24)}
    rows = table(moodle.fill(sheet, points, "Lesson 01 (Real)").text)
    assert rows == [{"ID number": "S1", "Email address": "ada@x.example", "Lesson 01 (Real)": "20"}]
    rows = table(moodle.fill(sheet, points, "Lesson 02").text)
    assert rows == [{"ID number": "S1", "Email address": "ada@x.example", "Lesson 02": "20"}]


@pytest.mark.parametrize(
    "sheet, points, says",
    [
        ("Full name,Grade\nAda,\n", {"ada": Score(1, 24)}, "no column by which Moodle"),
        (WORKSHEET.replace("24.00", "100.00"), {"501": Score(1, 24)}, "out of 100.00 points"),
        (WORKSHEET.replace(",Grade,", ",Scale,"), {"501": Score(1, 24)}, "no column Grade"),
        (WORKSHEET.replace("bob@x", "=bob@x"), {"501": Score(1, 24)}, "formula"),
    ],
)
def test_moodle_refuses(sheet, points, says):
    with pytest.raises(FormatError, match=says):
        moodle.fill(sheet, points)


# Scores ----------------------------------------------------------------------------------------


def report(
    student: str, lesson: str, points: float, submission: str = "x", handed_in: str = ""
) -> SubmissionReport:
    out_of = 24
    made = SubmissionReport(student, "x.ipynb", lesson, "ok", points, out_of)
    made.submission, made.handed_in = submission, handed_in
    made.exercises = [ExerciseResult(f"{lesson}.1", "One", "failed", points, out_of)]
    return made


def test_scores_are_what_counts_in_the_end():
    reports = [report("ada", "01", 3, "a"), report("ada", "02", 4, "b"), report("bo", "01", 8, "c")]
    reports += [report("ada", "01", 20, "d", handed_in="2026-03-02T13:00:00+00:00")]
    rules = parse(
        "[lessons.01]\ndue = 2026-03-01T12:00:00Z\n[late]\npercent_per_day = 10\n"
        '[[overrides]]\nstudent = "cy"\nlesson = "01"\npoints = 7\nreason = "oral"\n'
    )
    found = scores(from_reports(reports), rules)
    wanted = {"ada": Score(16, 24), "bo": Score(8, 24), "cy": Score(7, 24)}
    assert sheets.final(found, "01") == wanted
    with pytest.raises(FormatError, match="lessons 01, 02: name one"):
        sheets.final(found)
    with pytest.raises(FormatError, match="no score of lesson 03"):
        sheets.final(found, "03")
    best = scores(from_reports(reports), parse('[total]\nkeep = "best"\n'))
    assert sheets.final(best, "01")["ada"] == Score(20, 24)


@pytest.mark.parametrize(
    "value, text", [(5, "5"), (5.0, "5"), (2.5, "2.5"), (0.1 + 0.2, "0.30000000000000004")]
)
def test_numbers_are_the_same_to_the_last_digit(value, text):
    assert sheets.number(value) == text and float(sheets.number(value)) == value


def test_the_commands(tmp_path, monkeypatch, capsys):
    from coursework import cli
    from coursework.formats import nbgrader
    from coursework.gradebook import Gradebook

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        said = capsys.readouterr()
        return end.value.code or 0, said.out + said.err

    monkeypatch.chdir(tmp_path)
    with Gradebook("g.sqlite") as book:
        book.add(report("102", "01", 17))
    (tmp_path / "in.csv").write_text(CANVAS, encoding="utf-8")
    book = ("--gradebook", "g.sqlite")
    assert run("export", "canvas", "in.csv", "out.csv", *book, "--assignment", "77")[0] == 0
    assert accepted((tmp_path / "out.csv").read_text())["102"] == {"Lesson 01 (77)": "17"}
    given = '[[overrides]]\nstudent = "102"\nlesson = "01"\npoints = 19.5\nreason = "oral"\n'
    (tmp_path / "class.toml").write_text(given)  # beside the gradebook
    assert run("export", "canvas", "in.csv", "out.csv", *book, "--assignment", "77")[0] == 0
    assert accepted((tmp_path / "out.csv").read_text())["102"] == {"Lesson 01 (77)": "19.5"}
    (tmp_path / "w.csv").write_text(WORKSHEET, encoding="utf-8")
    code, said = run("export", "moodle", "w.csv", "out.csv", *book, "--lesson", "1")
    assert code == 1 and "102 has points" in said
    row = "01_x,,2026-11-01,bob,,,,4.0,0.0,4.0,24.0"
    (tmp_path / "n.csv").write_text(f"{','.join(nbgrader.COLUMNS)}\n{row}\n")
    for added in (1, 0):
        assert f"{added} grades added" in run("import", "nbgrader", "n.csv", *book)[1]
    (tmp_path / "n.csv").write_text("a,b\n")
    code, said = run("import", "nbgrader", "n.csv", *book)
    assert code == 7 and "no CSV of nbgrader" in said
