"""The class page and the tables: the right counts, no names, nothing a spreadsheet computes."""

from __future__ import annotations

import csv
import io
import re

import browser
import pytest
from reported import EVIL, case, failed, passed, report
from test_student_page import Reader

from coursework import class_page, class_summary, safe, tables
from coursework.errors import GradingError
from coursework.results import ExerciseResult, Finding


def unnamed(id: str = "02.1") -> ExerciseResult:
    made = failed(id)
    made.finding = Finding("value", "some values are off")
    made.status, made.points, made.groups = "failed", 0, {"images": (0, 2), "sound": (0, 1)}
    made.cases[0] = case("square", "images", False)
    return made


def idle(id: str = "02.1") -> ExerciseResult:
    made = ExerciseResult(id, "Jump to any noise level", "not attempted", 0, 3)
    made.groups = {"images": (0, 2), "sound": (0, 1)}
    return made


def a_class():
    """Six students: totals 6, 6, 6, 4, 4 and a file that is no notebook."""
    made = [report(f"s{i}") for i in range(3)]
    made += [report("s3", [unnamed(), passed()]), report("s4", [idle(), passed()])]
    made.append(report("s5", [], verdict="invalid notebook", points=0, out_of=7))
    return made


KNOWN = {"02.1": ("no-roots", "swapped"), "02.2": ("sign",)}


def test_counts():
    (lesson,) = class_summary.summarise(a_class(), KNOWN)
    assert lesson.points == [0, 4, 4, 6, 6, 6] and lesson.out_of == 7
    assert lesson.median == 5 and lesson.mean == pytest.approx(26 / 6)
    assert lesson.bins == [(p, p, {0: 1, 4: 2, 6: 3}.get(p, 0)) for p in range(8)]
    assert lesson.verdicts == {"ok": 5, "invalid notebook": 1}
    first, second = lesson.exercises
    assert (first.count, first.attempted, first.full, first.lost) == (5, 4, 0, 3 * 1 + 3 + 3)
    assert (second.count, second.attempted, second.full, second.lost) == (5, 5, 5, 0)
    assert first.mean == pytest.approx(6 / 5) and first.unnamed == 1
    assert [(e.id, name, n) for e, name, n in lesson.mistakes] == [("02.1", "no-roots", 3)]
    assert [e.id for e in lesson.hardest] == ["02.1", "02.2"]
    assert lesson.quiet_cases == [("02.1", "odd size"), ("02.2", "row")]
    assert lesson.quiet_mistakes == [("02.1", "swapped"), ("02.2", "sign")]


def test_bins_cover_every_submission():
    for out_of, points in ((39, [0, 3.9, 4, 38.9, 39, 41]), (12, [2.5, 12]), (0, [0, 0])):
        bins = class_summary._bins(points, out_of)
        assert sum(n for _, _, n in bins) == len(points) and len(bins) <= 11
    bins = class_summary._bins([3.9, 4, 39], 39)
    assert bins[:2] == [(0, 4, 1), (4, 8, 1)] and bins[-1] == (36, 39, 1)


def test_answers_in_words_count():
    marked = {("s0", "02"): (1.5, 2)}
    (lesson,) = class_summary.summarise(a_class(), marked=marked)
    assert lesson.points[-1] == 7.5 and lesson.out_of == 9


def test_the_page_says_it_all_and_names_nobody():
    made = a_class()
    made[3].isolated, made[3].level, made[3].isolation = False, "process", "limits only"
    found = class_summary.summarise(made, KNOWN)
    page = class_page.page(found, "Undiffuse", knows=True)
    text = Reader(page).text
    for part in (
        "6 submissions; half have 5 of 7 points or more, the mean is 4.3.",
        "5 graded at isolation level “full”: Full isolation",
        "1 graded without isolation (process): limits only",
        "invalid notebook 1", "02.1 Jump to any noise level 4 0 1.2 of 3 9",
        "no roots 3 of 4", "1 wrong answers matched no known mistake: 02.1 (1)",
        "02.1: odd size", "02.2: sign",
    ):  # fmt: skip
        assert part in text, part
    assert not any(f"s{i}" in text.split() for i in range(6))


def test_a_class_of_nobody_and_evil_titles():
    assert class_page.page([], "Undiffuse")
    e = failed()
    e.title, e.finding.name, e.cases[0].name = EVIL, EVIL, EVIL
    page = class_page.page(class_summary.summarise([report(EVIL, [e])]), EVIL)
    assert not [t for t, _ in Reader(page).tags if t in ("script", "img")]


@pytest.mark.slow
def test_in_a_browser(tmp_path):
    browser.need()
    file = tmp_path / "class.html"
    found = class_summary.summarise(a_class(), KNOWN)
    file.write_text(class_page.page(found, "Undiffuse", knows=True), encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text("<title>x</title><img src='data:,'><p style='color:#ccc'>pale</p>")
    with browser.Browser() as chromium:
        chromium.check_looks(file, tmp_path, "class")
        chromium.open(broken)  # what finds nothing here would find nothing anywhere
        assert {v.split()[0] for v in chromium.violations()} >= {"image-alt", "html-has-lang"}


# Tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, cell",
    [
        ("=1+1", "'=1+1"),
        ("+1", "+1"),
        ("-1", "-1"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\u00a0=1", "'\u00a0=1"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),
        ("\x1b[31m=1", "'=1"),
        ("\u202e=1", "'=1"),
        ("anna = bo", "anna = bo"),
        ("'quoted'", "'quoted'"),
        (-1, -1),
        (2.5, 2.5),
        (None, ""),
        (True, True),
    ],
)
def test_safe_cell(value, cell):
    assert safe.cell(value) == cell


@pytest.mark.parametrize("text", ["=1", "plain", "'quoted'", "'=x", "- a list\n- of two", "", "'"])
def test_a_cell_comes_back(text):
    assert safe.uncell(safe.cell(text)) == text


def test_csv_is_wide_and_safe():
    made = [*a_class(), report('=HYPERLINK("http://x")', [failed(), passed("02.10")])]
    marked = {("s0", "02"): {"02 guess": 1.5}}
    rows, columns = tables.wide(made, marked)
    text = tables.to_csv(rows, columns)
    back = list(csv.DictReader(io.StringIO(text)))
    assert columns[5:9] == ["02.1", "02.2", "02.10", "02 guess"]
    assert back[0]["02.1"] == "2" and back[0]["02 guess"] == "1.5" and back[0]["total"] == "7.5"
    assert back[5]["verdict"] == "invalid notebook" and back[5]["02.1"] == ""
    assert back[6]["student"].startswith("'=HYPERLINK")
    assert not any(re.match(r"\s*[=+@-]", c) for row in back for c in row.values())


def test_parquet_has_types(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    made = a_class()
    assert tables.write_parquet(made, tmp_path / "g.parquet") == 11
    table = pq.read_table(tmp_path / "g.parquet")
    assert table.num_rows == 5 * 2 + 1
    kinds = {f.name: str(f.type) for f in table.schema}
    assert kinds["points"] == "int32" and kinds["isolated"] == "bool" and kinds["seed"] == "int64"
    first = table.to_pylist()[0]
    assert first["student"] == "s0" and first["mistake"] == "no-roots" and first["points"] == 2
    assert first["cases"] == 4 and first["cases_passed"] == 2
    last = table.to_pylist()[-1]
    assert last["exercise"] is None and last["out_of"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["g.parquet"]


def test_without_pyarrow_it_says_what_to_do(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(GradingError, match="pip install") as error:
        tables.write_parquet([], tmp_path / "g.parquet")
    assert error.value.exit_code == 3
