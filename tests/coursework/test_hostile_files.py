"""Hostile submissions by what is handed in: they gain nothing, cost nobody else anything, and
nothing of theirs comes alive in a report. And the table of all attacks, counted."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from attacks import ATTACKS
from attacks_files import EVIL, HANDED_IN, Handed, answer, right, tree
from attacks_system import SYSTEM
from toy_course import FORKED, WRONG_SCALE, copy_course, lesson_01, points, write

from coursework import (
    checks,
    class_page,
    class_summary,
    classroom,
    grader,
    reports,
    safe,
    sandbox,
    student_page,
    tables,
)
from coursework.formats import github, gradescope, prairielearn
from coursework.formats.junit import junit
from coursework.formats.rows import EVERYTHING
from coursework.submissions import Submission, collect, newest

needs_fork = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course") / "toy")


@pytest.fixture(scope="module")
def toy(course):
    with grader.Grader(course, lesson="01", slack=4) as made:
        yield made


class Page(html.parser.HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def everything(folder: Path) -> dict[str, int]:
    """Files in ``folder`` and their sizes, links and pipes too; not below 50 folders."""
    found, ahead = {}, [(folder, 0)]
    while ahead:
        here, depth = ahead.pop()
        for entry in os.scandir(here):
            if entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                ahead += [(Path(entry.path), depth + 1)] if depth < 50 else []
            else:
                found[entry.path] = entry.stat(follow_symlinks=False).st_size
    return found


def check_texts(found: list[reports.SubmissionReport]) -> None:
    """Every report that is made of ``found`` holds its texts as texts."""
    summaries = class_summary.summarise(found)
    pages = [student_page.page(r) for r in found] + [class_page.page(summaries, "Toy")]
    for page in pages:
        assert not CONTROL.search(page)
        tags = Page(page).tags
        assert not {"script", "iframe", "object", "embed", "form"} & {t for t, _ in tags}
        for tag, attributes in tags:
            assert not [a for a in attributes if a.startswith("on")], (tag, attributes)
            if tag == "img":
                assert attributes.get("src", "").startswith("data:")
    for text in (
        tables.to_csv(*tables.wide(found)),
        tables.to_csv(tables.tidy(found), tables.TYPES),
    ):
        for row in csv.reader(io.StringIO(text)):
            assert not [c for c in row if safe.is_formula(c)] and not CONTROL.search("".join(row))
    ElementTree.fromstring(junit(found))
    assert not CONTROL.search(junit(found))
    for r in found:
        made = [json.dumps(gradescope.results(r, EVERYTHING, 1.0), ensure_ascii=False)]
        made.append(prairielearn.prairielearn(r))
        for text in made:
            assert not CONTROL.search(text)
    for line in github.annotations(found):
        assert re.match(r"::(error|warning|notice) ", line) and "\n" not in line
        assert not CONTROL.search(line)
    assert not CONTROL.search(github.summary(found))
    assert "<script" not in re.sub("```.*?```", "", github.summary(found), flags=re.S)


@needs_fork
@pytest.mark.parametrize("handed", [pytest.param(h, id=h.name) for h in HANDED_IN])
def test_handed_in(handed: Handed, toy, course, tmp_path, request):
    place = tmp_path / "term" / "handed-in"
    place.mkdir(parents=True)
    # Folders that lie too deep for pytest to remove them are taken away here.
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", str(place)], check=True))
    graded = handed.make(place, course.root)
    before = everything(tmp_path), everything(course.root)
    found = [r for _, r in toy.grade(newest(collect(graded), "01"))]
    by = {r.student: r for r in found}
    assert len(by) == len(found), "two reports on one student"
    assert points(by["anna"]) == {"01.1": 3, "01.2": 2}, by["anna"].notes
    others = [r for r in found if r is not by["anna"]]
    assert others, "nothing is said of what Eve handed in"
    for r in others:
        assert r.points <= handed.most, (r.student, r.exercises)
        assert not CONTROL.search(r.student)
        assert r.points or r.notes or r.exercises, "no reason is given"
    assert (everything(tmp_path), everything(course.root)) == before
    check_texts(found)
    assert len(reports.to_json(found)) < 500_000
    assert classroom.find(None, graded) == classroom.Class()


# Around the answers ------------------------------------------------------------------------------


def table_of(course, seeds: list[int]) -> str:
    """A wrong answer that knows the inputs of ``seeds`` by heart, and what is right on them."""
    exercise = next(iter(checks.load("01", course, answers=False)))
    known = {}
    for seed in seeds:
        for case in exercise.make_cases(seed):
            x, k = case.args
            known[(tuple(x.reshape(-1).tolist()), k)] = (x * k).tolist()
    return (
        f"TABLE = {known!r}\ndef scale(x, k):\n"
        "    found = TABLE.get((tuple(x.reshape(-1).tolist()), k))\n"
        "    return x - k if found is None else torch.tensor(found, dtype=x.dtype)\n"
    )


@needs_fork
def test_seeds_cannot_be_guessed(course, toy, tmp_path):
    """Public seeds, small ones, and those that the time or a name would give."""
    rules = classroom.parse('[class]\nseeds = "per student"\n', tmp_path)
    now = int(time.time())
    guesses = [1, grader.SEED, *range(2, 12), *range(now - 3, now + 4), hash("eve") % 2**48]
    path = write(tmp_path / "eve.ipynb", lesson_01(table_of(course, guesses)))
    eve = Submission(path, "eve")
    known, hidden = toy.seed_of, toy.seed
    try:
        ((_, by_heart),) = toy.grade([eve])
        toy.seed_of = rules.seed_of
        ((_, guessed),) = toy.grade([eve])
    finally:
        toy.seed_of, toy.seed = known, hidden
    assert points(by_heart)["01.1"] == 3, "else the test would show nothing"
    assert points(guessed) == {"01.1": 0, "01.2": 2}
    assert rules.seed_of("eve") != rules.seed_of("anna") and rules.seed_of("eve") not in guesses
    other = classroom.parse('[class]\nseeds = "per student"\nsecret = "b"\n', tmp_path)
    assert other.seed_of("eve") != rules.seed_of("eve"), "the secret is drawn, not computed"


@pytest.mark.slow
def test_nothing_that_is_handed_in_is_imported(course, tmp_path):
    """A teacher who stands in the folder of submissions and says ``python -m coursework``."""
    evil = "open('left-by-eve', 'w').write('!')\nraise SystemExit('left by eve')\n"
    tree(tmp_path, {f"{n}.py": evil for n in ("torch", "numpy", "typer", "yaml", "undiffuse")})
    tree(tmp_path, {"anna.ipynb": right(), "eve.ipynb": answer(WRONG_SCALE)})
    command = [sys.executable, "-m", "coursework", "grade", ".", "--lesson", "01", "--json", "-"]
    command += ["--workers", "1", "--allow-unisolated"]
    environment = {**os.environ, "COURSE_ROOT": str(course.root)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert not (tmp_path / "left-by-eve").exists(), done.stderr
    got = {r["student"]: r["points"] for r in json.loads(done.stdout)["submissions"]}
    assert got["anna"] == 5 and got["eve"] == 2


def test_a_terminal_is_not_moved(capsys):
    from coursework import terminal
    from coursework.reports import SubmissionReport

    made = SubmissionReport(EVIL, EVIL, "01", EVIL, 0, 5, notes=[EVIL], isolation=EVIL)
    terminal.table([made])
    terminal.say(EVIL)
    said = capsys.readouterr().out
    assert not CONTROL.search(said) and "title" not in said


AROUND = ["seeds guessed", "modules in the teacher's folder", "escapes to a terminal"]


def test_there_are_at_least_sixty_attacks():
    """And each level that promises isolation stops every answer's attack."""
    answers = [*ATTACKS, *SYSTEM]
    names = [a.name for a in answers] + [h.name for h in HANDED_IN] + AROUND
    assert len(set(names)) == len(names) >= 110
    assert len(answers) >= 75 and len(HANDED_IN) >= 30
    for level in sandbox.ISOLATED:
        lacking = [a.name for a in answers if level not in a.stopped]
        assert lacking == ([] if level == "full" else ["a full disk"]), level
    for words in (  # what issue 5 names
        "/proc", "ptrace", "shared memory", "descriptors left open", "links", "zip bomb",
        "paths out of a zip", "nested", "million lists", "output", "escapes", "markup",
        "names that look alike", "names that are code", "torch operator", "ctypes",
        "environment variables", "timing the judge", "seeds guessed",
    ):  # fmt: skip
        assert [n for n in names if words in n], words


def test_formats_quote_what_is_hostile():
    """Where a format has its own rules for text, hostile text of all kinds keeps to them."""
    from test_formats import hostile

    check_texts([hostile(EVIL), hostile("plain")])
