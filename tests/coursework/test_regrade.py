"""Changed checks: only what they affect is run again, shown first; released scores stay."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from toy_course import FORKED, WRONG_SCALE, copy_course, lesson_01, write

from coursework import checks, classroom, fingerprints, grader, publishing, regrading
from coursework.gradebook import Gradebook
from coursework.lesson_grader import LessonGrader
from coursework.scores import Points, scores

needs_fork = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")


@pytest.fixture
def course(tmp_path):
    made = copy_course(tmp_path / "toy")
    checks.load.cache_clear()
    yield made
    checks.load.cache_clear()


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    write(folder / "ada.ipynb", lesson_01())
    write(folder / "bo.ipynb", lesson_01(WRONG_SCALE))
    return folder


@contextlib.contextmanager
def counted(monkeypatch):
    """Ids of the exercises that are run."""
    ran = []
    job = LessonGrader.job

    def spy(self, exercise, extracted):
        ran.append(exercise.id)
        return job(self, exercise, extracted)

    with monkeypatch.context() as patch:
        patch.setattr(LessonGrader, "job", spy)
        yield ran


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    checks.load.cache_clear()


def parts(course) -> dict[str, str]:
    checks.load.cache_clear()
    with grader.Grader(course) as made:
        return {**made.lesson_grader("01").parts, **made.lesson_grader("02").parts}


CHANGES = [
    # file, old, new, whose hash changes
    ("lesson_01.py", "draw.normal(5)", "draw.normal(6)", {"01.2"}),
    ("lesson_01.py", "draw.normal(3, 4)", "draw.normal(3, 5)", {"01.1"}),
    ("lesson_01.py", "torch.cat([x, x])", "torch.cat([x, x + 1])", {"01.2"}),  # by Given
    ("lesson_01.py", '"float64": 1}', '"float64": 2}', {"01.1"}),
    ("lesson_01.py", "limit=2.0,\n)", "limit=3.0,\n)", {"01.1"}),
    ("lesson_01.py", 'hints=("multiply",)', 'hints=("multiply it",)', set()),
    ("lesson_01.py", 'title="Scale"', 'title="Scaled"', set()),
    ("lesson_01.py", "import torch", "# a comment\nimport torch", set()),
    ("lesson_02.py", "answer.line(x, 3.0, 0.5)", "answer.line(x, 3.5, 0.5)", {"02.1"}),
    ("lesson_02.py", "< 1e-6", "< 1e-5", {"02.2"}),
    # A reference that later exercises are given.
    ("answers/lesson_01.py", "return x * k", "return k * x", {"01.1", "02.1", "02.2"}),
    ("answers/lesson_01.py", "x + k\n\n\na_scale", "k + x\n\n\na_scale", {"01.1"}),
    ("answers/lesson_02.py", "x * 2.0 + 1.0", "2.0 * x + 1.0", {"02.2"}),
    ("../reference/toy/_inner.py", "x / 2", "0.5 * x", {"01.1", "01.2", "02.1", "02.2"}),
    ("../reference/toy/kept_back.py", "return 1", "return 2", set()),
]  # fmt: skip


@pytest.mark.parametrize("file, old, new, changed", CHANGES)
def test_a_change_affects_what_it_should(course, file, old, new, changed):
    before = parts(course)
    edit(course.checks / file, old, new)
    after = parts(course)
    assert {id for id in before if before[id] != after[id]} == changed


def test_statements_that_change_what_is_shared_count():
    text = (
        "from coursework.exercise import Exercise\nTABLE = {}\nTABLE['a'] = 1\nOTHER = 3\n"
        "one = Exercise(id='01.1')\ntwo = Exercise(id='01.2')\n"
        "@one.cases\ndef _(draw):\n    return TABLE\n"
        "@two.cases\ndef _(draw):\n    return OTHER\n"
    )
    found = fingerprints.Statements(text)
    assert found.of("01.1") == [0, 1, 2, 4, 6] and found.of("01.2") == [0, 3, 5, 7]
    assert found.of("01.9") is None
    more = fingerprints.Statements(text + "from coursework.exercise import Case, Exercise\n")
    assert more.texts(more.of("01.2")) == found.texts(found.of("01.2"))
    both = fingerprints.Statements(text + "for e in (one, two):\n    e.judge(print)\n")
    assert 8 in both.of("01.1") and 8 in both.of("01.2")


@pytest.mark.slow
@needs_fork
def test_only_what_changed_is_run_again_and_shown_first(course, batch, tmp_path, monkeypatch):
    book = tmp_path / "g.sqlite"
    run = lambda **more: grader.grade_many(batch, course, gradebook=book, workers=1, **more)  # noqa: E731
    with counted(monkeypatch) as ran:
        assert [r.points for r in run()] == [5, 2]
    assert sorted(ran) == ["01.1", "01.1", "01.2", "01.2"]
    # The check of 01.1 is turned round: what was wrong is right, and the other way.
    edit(course.checks / "answers" / "lesson_01.py", "return x * k", "return x - k")
    with counted(monkeypatch) as ran:
        shown = run(apply=False)
    assert ran == ["01.1", "01.1"], "the other exercise is not run again"
    assert [(r.before.points, r.points) for r in shown] == [(5, 2), (2, 5)]
    lines = list(regrading.lines(shown, False))
    assert "2 submissions; what changed: 01.1" in lines[0]
    assert lines[1].startswith("1 answers get more points, 1 get fewer")
    assert "  ada, 01.1: 3 (passed) -> 0 (failed)" in lines
    assert "--apply" in lines[-1]
    with Gradebook(book) as opened:
        assert [r.points for r in opened.reports()] == [5, 2]
    applied = run()
    assert [r.points for r in applied] == [2, 5]
    assert applied[0].exercises[1].status == "passed"
    with Gradebook(book) as opened:
        assert [r.points for r in opened.reports()] == [5, 2, 2, 5]
    again = run(apply=False)
    assert all(r.reused and r.before is None for r in again)
    assert list(regrading.lines(again, False)) == []


@needs_fork
def test_a_dry_run_writes_nothing(course, batch, tmp_path):
    book = tmp_path / "g.sqlite"
    made = grader.grade_many(batch, course, gradebook=book, workers=1, write=False)
    assert [r.points for r in made] == [5, 2]
    with Gradebook(book) as opened:
        assert opened.reports() == []


@pytest.mark.slow
@needs_fork
def test_each_student_has_a_seed_and_keeps_it(course, batch, tmp_path, monkeypatch):
    (batch.parent / "class.toml").write_text('[class]\nseeds = "per student"\n')
    rules = classroom.find(batch)
    # bo's cases, written down, are of no use to ada.
    seeds = {s: rules.seed_of(s) for s in ("ada", "bo")}
    grid = next(e.make_cases(seeds["bo"]) for e in checks.load("01", course))
    table = [(c.args[0].tolist(), c.args[1]) for c in grid]
    copied = (
        f"TABLE = {table!r}\ndef scale(x, k):\n    for seen, factor in TABLE:\n"
        "        if seen == x.tolist() and factor == k:\n            return x * k\n"
        "    return x\n"
    )
    write(batch / "bo.ipynb", lesson_01(copied))
    write(batch / "ada.ipynb", lesson_01(copied))
    book = tmp_path / "g.sqlite"
    run = lambda: grader.grade_many(batch, course, gradebook=book, workers=1, rules=rules)  # noqa: E731
    first = run()
    assert [(r.student, r.points, r.seed) for r in first] == [
        ("ada", 2, seeds["ada"]),
        ("bo", 5, seeds["bo"]),
    ]
    with counted(monkeypatch) as ran:
        assert all(r.reused for r in run())
    assert ran == []
    again = grader.grade_many(batch, course, workers=1, rules=classroom.find(batch))
    assert [(r.points, r.seed) for r in again] == [(r.points, r.seed) for r in first]


@needs_fork
def test_the_rosters_ids_are_what_the_gradebook_has(course, batch, tmp_path):
    (batch.parent / "roster.csv").write_text("id,name,login\n7001,Ada L,ada\n7002,Cy Y,cy\n")
    (batch.parent / "class.toml").write_text('[class]\nroster = "roster.csv"\n')
    made = grader.grade_many(batch, course, workers=1, rules=classroom.find(batch))
    assert [r.student for r in made] == ["7001", "bo"]
    assert "not in the roster" in made[1].notes and not made[0].notes


def test_values_are_dropped_once_told(course, batch):
    kept = []
    made = grader.grade_many(
        batch, course, workers=1, on_result=lambda r: kept.append(r.exercises[0].cases[0].got)
    )
    assert all(k is not None for k in kept)
    assert all(c.got is None for r in made for e in r.exercises for c in e.cases)


# Released scores -----------------------------------------------------------------------------


def score(earned: int, out_of: int = 10, student="ada"):
    rows = [Points(student, "01", {"01.1": earned}, {"01.1": out_of}, "s")]
    return scores(rows, classroom.Class())


def publish(book, found, allow_lower=False):
    plan = publishing.plan(found, book.published())
    book.publish(plan.rows(allow_lower))
    return plan


def test_released_scores_are_not_lowered_without_the_flag(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert len(publish(book, score(6)).new) == 1
        assert publish(book, score(6)).same == 1
        assert len(publish(book, score(7)).raised) == 1
        plan = publish(book, score(5))
        assert len(plan.lowered) == 1
        assert book.published()["ada", "01"].final == 7
        said = list(publishing.lines(plan, False))
        assert "! NOT lowered: ada, lesson 01: 7 of 10 -> 5 of 10" in said
        publish(book, score(5), allow_lower=True)
        assert book.published()["ada", "01"].final == 5
        # An exercise is taken out of the lesson: 5 of 8 are no loss.
        assert len(publish(book, score(5, 8)).raised) == 1
        assert book.published()["ada", "01"].share == Fraction(5, 8)


def test_what_was_not_handed_in_is_not_released(tmp_path):
    rules = classroom.parse("[lessons.01]\n[lessons.02]\n")
    rows = [Points("ada", "01", {"01.1": 0}, {"01.1": 4}, "s")]
    plan = publishing.plan(scores(rows, rules), {})
    assert [(p.student, p.lesson, p.final) for p in plan.new] == [("ada", "01", 0)]


def test_an_older_gradebook_is_brought_up_to_date(tmp_path):
    import sqlite3

    path = tmp_path / "g.sqlite"
    Gradebook(path).close()
    db = sqlite3.connect(path)
    db.executescript("DROP TABLE published; PRAGMA user_version = 1;")
    db.close()
    with Gradebook(path) as book:
        publish(book, score(6))
        assert book.published()["ada", "01"].final == 6
        with pytest.raises(sqlite3.DatabaseError, match="only grows"):
            book.db.execute("DELETE FROM published")
