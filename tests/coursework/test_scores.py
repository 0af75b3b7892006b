"""A class's rules, its roster, and final scores worked out by hand."""

from __future__ import annotations

import stat
import threading
from fractions import Fraction

import pytest
from reported import failed, passed, report

from coursework import classroom
from coursework.classroom import ClassError, parse
from coursework.roster import Roster, RosterError
from coursework.scores import Points, counting, from_reports, scores, told
from coursework.student_page import Answer


def points(student="ada", lesson="05", earned=10, of=20, **more) -> Points:
    """Two exercises, the second out of 4 and right as far as the points reach."""
    second = min(4, earned)
    exercises = {f"{lesson}.1": earned - second, f"{lesson}.2": second}
    return Points(student, lesson, exercises, {f"{lesson}.1": of - 4, f"{lesson}.2": 4}, **more)


def one(text: str, *rows: Points, student="ada", lesson="05"):
    return scores(rows, parse(text))[student].lessons[lesson]


def test_without_rules_points_are_what_counts():
    found = scores([points(), points("bo", earned=20)], parse(""))
    assert found["ada"].total == Fraction(1, 2) and found["bo"].total == 1
    assert found["ada"].lessons["05"].notes == []


DUE = "[lessons.05]\ndue = 2026-03-01T12:00:00Z\n[late]\n"


@pytest.mark.parametrize(
    "rules, handed_in, days, final",
    [
        ("percent_per_day = 10", "2026-03-01T11:59:59+00:00", 0, 10),
        ("percent_per_day = 10", "2026-03-01T12:00:00+00:00", 0, 10),
        ("percent_per_day = 10", "2026-03-01T12:00:01+00:00", 1, 9),
        ("percent_per_day = 10", "2026-03-02T12:00:00+00:00", 1, 9),
        ("percent_per_day = 10", "2026-03-02T12:00:01+00:00", 2, 8),
        ("percent_per_day = 10", "2026-03-01T14:00:01+02:00", 1, 9),
        ("percent_per_day = 10\ngrace_minutes = 30", "2026-03-01T12:30:00+00:00", 0, 10),
        # After the grace, lateness counts from when it was due.
        ("percent_per_day = 10\ngrace_minutes = 30", "2026-03-02T12:00:01+00:00", 2, 8),
        ('percent_per_day = 10\nof = "possible"', "2026-03-03T00:00:00+00:00", 2, 6),
        ('percent_per_day = 40\nof = "possible"', "2026-03-03T00:00:00+00:00", 2, 0),
        ("percent_per_day = 60", "2026-03-03T00:00:00+00:00", 2, 0),
        ("percent_per_day = 12.5", "2026-03-02T00:00:00+00:00", 1, Fraction(35, 4)),
        ("percent_per_day = 10\ncut_off_days = 2", "2026-03-03T12:00:00+00:00", 2, 8),
        ("percent_per_day = 10\ncut_off_days = 2", "2026-03-03T12:00:01+00:00", 3, 0),
        ("percent_per_day = 10", "", 0, 10),
        ("percent_per_day = 10", "no time", 0, 10),
    ],
)
def test_late(rules, handed_in, days, final):
    got = one(DUE + rules, points(handed_in=handed_in))
    assert (got.days, got.final, got.points) == (days, final, 10)
    assert bool(got.notes) == (final != 10)


def test_times_without_an_offset_are_the_classs():
    rules = '[class]\ntimezone = "Asia/Tokyo"\n[lessons.05]\ndue = 2026-03-01T12:00:00\n'
    rules += "[late]\npercent_per_day = 10\n"  # due at 03:00 UTC
    assert one(rules, points(handed_in="2026-03-01T03:00:00Z")).days == 0
    assert one(rules, points(handed_in="2026-03-01T03:00:01Z")).days == 1
    assert one(rules, points(handed_in="2026-03-01T12:00:01")).days == 1


def test_a_stamp_without_a_time():
    assert one("[late]\npercent_per_day = 10", points(late=True)).final == 9
    got = one("[late]\npercent_per_day = 10\nstamp_days = 3", points(late=True))
    assert got.final == 7 and "not known" in got.notes[0]
    # With a time and when it was due, those say more than the stamp.
    got = one(DUE + "percent_per_day = 10", points(late=True, handed_in="2026-03-01T00:00:00Z"))
    assert got.final == 10


EXTENDED = DUE + 'percent_per_day = 10\n[[extensions]]\nstudent = "ada"\nreason = "ill"\n'


@pytest.mark.parametrize(
    "more, handed_in, final",
    [
        ("days = 2", "2026-03-03T12:00:00Z", 10),
        ("days = 2", "2026-03-03T12:00:01Z", 9),
        ("days = 0.5", "2026-03-02T00:00:01Z", 9),
        ("until = 2026-03-05T00:00:00Z", "2026-03-05T00:00:00Z", 10),
        ("until = 2026-03-05T00:00:00Z", "2026-03-06T12:00:00Z", 8),
        ("until = 2026-02-01T00:00:00Z", "2026-03-01T12:00:00Z", 10),  # never less time
        ('days = 2\nlessons = ["06"]', "2026-03-02T12:00:00Z", 9),
        ('days = 2\nlessons = ["05", "06"]', "2026-03-02T12:00:00Z", 10),
    ],
)
def test_extensions(more, handed_in, final):
    rows = points(handed_in=handed_in), points("bo", handed_in=handed_in)
    found = scores(rows, parse(EXTENDED + more))
    assert found["ada"].lessons["05"].final == final
    plain = scores(rows, parse(DUE + "percent_per_day = 10"))["bo"].lessons["05"].final
    assert found["bo"].lessons["05"].final == plain


def test_an_extension_holds_against_a_stamp_without_a_time():
    got = one(EXTENDED + "days = 2", points(late=True))
    assert got.final == 10 and "ill" in got.notes[0]


OVERRIDE = '[[overrides]]\nstudent = "ada"\nlesson = "05"\nreason = "my mistake"\n'


def test_points_that_a_teacher_gives():
    # 6 + 4 points; the first exercise is worth 11 now: 15, of which a late day takes a tenth.
    rules = "[late]\npercent_per_day = 10\n" + OVERRIDE + 'exercise = "05.1"\npoints = 11'
    got = one(rules, points(late=True))
    assert got.points == 15 and got.final == Fraction(27, 2)
    assert "11 points for 05.1: my mistake" in got.notes[0]
    # For the whole lesson, they hold as they are.
    rules = "[late]\npercent_per_day = 10\n" + OVERRIDE + "points = 17.5"
    got = one(rules, points(late=True))
    assert got.final == Fraction(35, 2) and got.points == 10
    assert one(OVERRIDE + "points = 3").final == 3  # though nothing was handed in
    assert scores([points(), points("bo")], parse(rules))["bo"].lessons["05"].final == 10


def test_of_attempts_the_newest_or_the_best():
    rows = points(earned=12, submission="a", order=0), points(earned=8, submission="b", order=1)
    assert one("", *rows).final == 8
    assert one('[total]\nkeep = "best"', *rows).final == 12
    late = points(earned=12, submission="b", handed_in="2026-03-03T00:00:00Z", order=1)
    early = points(earned=10, submission="a", handed_in="2026-03-01T00:00:00Z", order=2)
    rules = DUE + "percent_per_day = 10\n"  # 12 points lose 2.4
    assert one(rules, late, early).final == Fraction(96, 10)  # newest by time, whatever the order
    assert one(rules + '[total]\nkeep = "best"', late, early).final == 10


def test_graded_again_the_newest_grading_holds():
    rows = points(earned=12, submission="a", order=0), points(earned=8, submission="a", order=1)
    assert one('[total]\nkeep = "best"', *rows).final == 8


def test_dropping_and_weighing():
    rows = [points(lesson=n, earned=e) for n, e in (("01", 20), ("02", 10), ("03", 4), ("04", 0))]
    total = lambda text: scores(rows, parse(text))["ada"].total  # noqa: E731
    # Shares 1, 1/2, 1/5, 0.
    assert total("") == Fraction(17, 40)
    assert total("[total]\ndrop_lowest = 1") == Fraction(17, 30)
    assert total("[total]\nbest_of = 2") == Fraction(3, 4)
    assert total("[total]\nbest_of = 9") == Fraction(17, 40)
    assert total("[total]\ndrop_lowest = 9") == 1  # one always stays
    assert total("[total]\ndrop_lowest = 1\n[lessons.04]\nmay_drop = false") == Fraction(1, 2)
    # (3 * 1 + 1/2 + 1/5 + 0) / 6
    assert total("[lessons.01]\nweight = 3") == Fraction(37, 60)
    assert total("[lessons.01]\nweight = 0") == Fraction(7, 30)
    found = scores(rows, parse("[total]\ndrop_lowest = 1"))["ada"].lessons
    assert [s.counted for s in found.values()] == [True, True, True, False]


def test_what_nobody_handed_in_counts_as_nothing():
    rules = "[lessons.05]\n[lessons.06]\n"
    found = scores([points()], parse(rules))["ada"]
    assert found.lessons["06"].final == 0 and not found.lessons["06"].handed_in
    assert found.total == Fraction(1, 4)


def test_groups_share_what_one_of_them_hands_in():
    rules = DUE + 'percent_per_day = 10\n[groups]\nred = ["ada", "bo"]\n'
    rules += '[[extensions]]\nstudent = "bo"\ndays = 5\nreason = "ill"\n'
    found = scores([points(handed_in="2026-03-02T00:00:00Z"), points("cy", earned=3)], parse(rules))
    finals = {s: found[s].lessons["05"].final for s in found}
    assert finals == {"ada": 9, "bo": 10, "cy": 3}


def test_the_roster_comes_first_and_nobody_is_lost(tmp_path):
    (tmp_path / "roster.csv").write_text("id,name\nzoe,Zoe Z\nada,Ada L\n")
    rules = parse('[class]\nroster = "roster.csv"\n', tmp_path)
    found = scores([points(), points("stranger")], rules)
    assert list(found) == ["zoe", "ada", "stranger"]
    assert not found["zoe"].lessons["05"].handed_in and found["zoe"].total == 0


# The file ------------------------------------------------------------------------------------


def test_the_example_in_the_module_is_valid(tmp_path):
    text = classroom.__doc__.partition("\n\n")[2]
    (tmp_path / "roster.csv").write_text("id,name\nada,Ada\nbo,Bo\n")
    made = parse(text, tmp_path)
    assert made.late.percent_per_day == 10 and made.lessons["05"].weight == 2
    assert made.per_student and made.best_of == 6 and made.groups == {"red": ("ada", "bo")}
    assert made.lessons["05"].due.utcoffset().total_seconds() == 3600


@pytest.mark.parametrize(
    "text, says",
    [
        ("[late]\ngrace_minuts = 3", "late.grace_minuts'; did you mean 'grace_minutes'"),
        ("[lat]\n", "'lat'; did you mean 'late'"),
        ("[class]\nzzz = 1", "class.zzz' (known: title, timezone"),
        ("[class", "not TOML"),
        ('[class]\ntimezone = "Mars/Olympus"', "no 'Mars/Olympus'"),
        ('[class]\nseeds = "per studnt"', "did you mean 'per student'"),
        ("[lessons.5]\n", '"05"'),
        ('[lessons.05]\ndue = "tomorrow"', "lessons.05.due: a time"),
        ("[late]\npercent_per_day = -1", "at least 0"),
        ("[late]\npercent_per_day = 101", "at most 100"),
        ("[late]\npercent_per_day = true", "a number"),
        ("[late]\ngrace_minutes = nan", "a number"),
        ("[total]\nbest_of = 0", "whole number"),
        ("[total]\ndrop_lowest = 1.5", "whole number"),
        ('[[extensions]]\nstudent = "ada"\nreason = "x"', "either days or until"),
        ('[[extensions]]\nstudent = "ada"\ndays = 1', "reason is missing"),
        ('[[overrides]]\nstudent = "a"\nlesson = "05"\npoints = 1\nreason = " "', "a text"),
        (OVERRIDE + 'points = 1\nexercise = "06.1"', "not of lesson 05"),
        ('[groups]\na = ["x"]\nb = ["x"]', "is in 'a' and in 'b'"),
        ('[groups]\na = "x"', "a list of texts"),
        ('[class]\nroster = "none.csv"', "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_told(text, says, tmp_path):
    (tmp_path / "class.toml").write_text(text)
    with pytest.raises(ClassError) as error:
        classroom.load(tmp_path / "class.toml")
    assert says in str(error.value) and str(error.value).startswith("class.toml: ")


def test_whoever_is_named_must_be_in_the_roster(tmp_path):
    (tmp_path / "r.csv").write_text("id;name\nada;Ada\n")
    text = '[class]\nroster = "r.csv"\n[[overrides]]\nstudent = "adaa"\nlesson = "05"\n'
    with pytest.raises(ClassError, match="did you mean 'ada'"):
        parse(text + 'points = 1\nreason = "r"', tmp_path)


def test_the_file_is_found_beside_and_never_among_the_submissions(tmp_path):
    folder, grades = tmp_path / "term" / "submissions", tmp_path / "grades.sqlite"
    folder.mkdir(parents=True)
    (folder / "class.toml").write_text('[class]\ntitle = "a student\'s"')
    for path in (folder, folder / "ada.ipynb", folder / "ada.py"):
        assert classroom.find(None, path).title == ""
    (tmp_path / "term" / "class.toml").write_text('[class]\ntitle = "beside"')
    assert classroom.find(grades, folder).title == "beside"
    assert classroom.find(None, folder.parent / "all.zip").title == "beside"
    assert classroom.find(grades, folder / "ada.ipynb").title == ""
    (tmp_path / "class.toml").write_text('[class]\ntitle = "of the gradebook"')
    assert classroom.find(grades, folder).title == "of the gradebook"
    assert classroom.find(grades, named=tmp_path / "term" / "class.toml").title == "beside"
    with pytest.raises(ClassError, match="cannot be read"):
        classroom.find(folder, named=tmp_path / "none.toml")


# Seeds ---------------------------------------------------------------------------------------


def test_seeds_are_of_the_student_and_of_the_secret(tmp_path):
    text = '[class]\nseeds = "per student"\n'
    made = parse(text, tmp_path)
    first = [made.seed_of(s) for s in ("ada", "bo", "ada")]
    assert first[0] == first[2] != first[1] and all(0 <= s < 2**48 for s in first)
    assert parse(text, tmp_path).seed_of("ada") == first[0]
    secret = tmp_path / "class.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.write_text("another secret, long enough")
    assert parse(text, tmp_path).seed_of("ada") != first[0]
    secret.write_text("short")
    with pytest.raises(ClassError, match="16 characters"):
        parse(text, tmp_path).seed_of("ada")
    assert parse("", tmp_path).seed_of("ada") is None


def test_two_graders_make_one_secret(tmp_path):
    found = []
    text = '[class]\nseeds = "per student"\n'
    threads = [
        threading.Thread(target=lambda: found.append(parse(text, tmp_path).seed_of("ada")))
        for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["class.secret"]


# The roster ----------------------------------------------------------------------------------

ROSTER = """id,name,email,canvas
ada,Ada Lovelace,ada@x.org,1234
bo1,"Li, Bo",bo@x.org,77
bo2,Bo Li,bo2@x.org,78
jo,José García López,jose@x.org,
77,Someone Else,77@x.org,5
"""


@pytest.mark.parametrize(
    "ids, found",
    [
        (["ada"], "ada"),
        (["ADA@X.org"], "ada"),
        (["1234"], "ada"),
        (["Ada  Lovelace"], "ada"),
        (["lovelaceada"], "ada"),
        (["garcíalópezjosé"], "jo"),
        (["garci\u0301alo\u0301pezjose\u0301"], "jo"),
        (["Bo Li"], None),  # two are called so
        (["Bo Li", "78"], "bo2"),
        (["77"], "77"),  # an id comes before a number of another column
        (["nobody"], None),
        ([], None),
    ],
)
def test_a_student_is_known_by_several_ids(ids, found):
    assert Roster.parse(ROSTER).match(ids) == found


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "first column"),
        ("name,id\nx,y", "first column"),
        ("id\n", "names nobody"),
        ("id,name\n,Ada\n", "line 2: it has no id"),
        ("id\nada\nada\n", "line 3: 'ada' is there twice"),
    ],
)
def test_a_roster_that_cannot_be_used(text, says):
    with pytest.raises(RosterError, match=says):
        Roster.parse(text)


# Which attempt counts, and what a student is told -------------------------------------------------


def attempts():
    """Two of Anna's for lesson 02, the first better; one of hers for 03; one of Bo's."""
    first = report("anna", [passed()], submission="a", handed_in="2026-03-01T10:00:00")
    second = report("anna", [failed()], submission="b", handed_in="2026-03-04T10:00:00", late=True)
    other, bo = report("anna", [passed()], submission="c"), report("bo", [failed()], submission="d")
    other.lesson = "03"
    return [first, other, second, bo]


def test_the_attempt_that_counts_is_the_one_that_is_shown():
    first, other, second, bo = attempts()
    assert counting([first, other, second, bo], parse("")) == [second, bo, other]
    best = parse('[total]\nkeep = "best"\n')
    assert counting([first, other, second, bo], best) == [first, bo, other]
    # What was graded first may have been handed in last.
    assert counting([second, first], parse("")) == [second]
    again = report("anna", [passed()], submission="b", handed_in="2026-03-04T10:00:00")
    assert counting([first, second, again], parse("")) == [again], "graded again"


def test_in_a_group_one_attempt_counts_for_all():
    first, _, second, bo = attempts()
    bo.handed_in = "2026-03-05T10:00:00"
    found = counting([first, second, bo], parse('[groups]\nred = ["anna", "bo", "cy"]\n'))
    assert [(r.student, r.submission) for r in found] == [(s, "d") for s in ("anna", "bo", "cy")]


def test_what_cannot_be_read_is_shown_where_there_is_nothing_else():
    lost = report("cy", [], submission="x")
    lost.lesson = ""
    assert counting([*attempts(), lost], parse(""))[0] is lost


def test_what_a_student_is_told():
    rules = parse(
        "[lessons.02]\ndue = 2026-03-03T10:00:00Z\n[late]\npercent_per_day = 25\n"
        '[[overrides]]\nstudent = "bo"\nlesson = "02"\npoints = 2.5\nreason = "oral"\n'
    )
    found = scores(from_reports(attempts()), rules)
    assert told(found["anna"].lessons["02"]) == [
        "1 day late: 0.5 points less", "It counts 1.5 of 3 points."
    ]  # fmt: skip
    assert told(found["bo"].lessons["02"]) == [
        "2.5 points given: oral", "It counts 2.5 of 3 points."
    ]  # fmt: skip
    assert told(found["anna"].lessons["03"]) == []


def test_answers_in_words_count_once_one_is_marked():
    marked = {("bo", "02"): [Answer("Your guess", 1.5, 2), Answer("A remark", None, 0)]}
    found = scores(from_reports(attempts(), marked), parse(""))
    assert [found[s].lessons["02"].final for s in ("anna", "bo")] == [2, Fraction(7, 2)]
    assert {found[s].lessons["02"].out_of for s in ("anna", "bo")} == {5}
    assert found["anna"].lessons["03"].out_of == 4
