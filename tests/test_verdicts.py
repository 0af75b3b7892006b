"""The table of claims says what the result files say, and nothing that they do not."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"


@pytest.fixture(scope="module")
def verdicts():
    spec = importlib.util.spec_from_file_location(
        "verdicts", ROOT / "data" / "build" / "verdicts.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path):
    """A copy of the result files that may be changed."""
    folder = tmp_path / "results"
    shutil.copytree(RESULTS, folder)
    return folder


def change(path: Path, **entries) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(result | entries), encoding="utf-8")


def test_the_page_is_what_the_files_say(verdicts):
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert text == verdicts.page(), "it is stale: python data/build/build_readme.py"


def test_every_claim_is_there_with_its_source(verdicts):
    told, _ = verdicts.load()
    assert list(told) == [f"C{k}" for k in range(1, 14)]
    for claim in told.values():
        assert claim["claim"].endswith(".") and claim["change"].endswith(".")
        assert all(url.startswith("https://") for url in claim["said"])
        assert claim["lessons"] == sorted(claim["lessons"])


@pytest.mark.parametrize("what", ["verdict", "figure", "seeds"])
def test_a_file_that_changes_makes_the_page_stale(verdicts, results, what):
    before = verdicts.page(results=results), verdicts.brief(results=results)
    path = results / "C6.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    if what == "verdict":
        change(path, verdict=result["verdict"].replace("false", "true", 1))
    elif what == "figure":
        rows = [r | {"FD": "3.21 (3.20 to 3.22)"} for r in result["rows"]]
        change(path, rows=rows)
    else:
        change(path, seeds=[0, 1, 2, 3])
    after = verdicts.page(results=results), verdicts.brief(results=results)
    assert after[0] != before[0]
    assert (after[1] != before[1]) == (what != "seeds")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"seeds": [0, 1]}, "has 2 seeds; 3 or more"),
        ({"seeds": [0, 0, 0]}, "has 1 seeds"),
        ({"budget": "small"}, "small budget"),
        ({"versions": {}}, "has no versions"),
        ({"machine": {}}, "has no machine"),
        ({"command": ""}, "has no command"),
        ({"rows": [{"network": "U-Net", "FD": 1.0}]}, "has no column 'loss'"),
    ],
)
def test_files_that_may_not_be_published(verdicts, results, entries, says):
    change(results / "C6.json", **entries)
    with pytest.raises(verdicts.Missing, match=says):
        verdicts.page(results=results)


def test_a_result_that_nobody_described(verdicts, results):
    shutil.copyfile(results / "C6.json", results / "C6-new.json")
    change(results / "C6-new.json", claim="C6-new")
    with pytest.raises(verdicts.Missing, match=r"does not say what C6-new\.json"):
        verdicts.page(results=results)


def test_what_is_not_there_is_not_measured(verdicts, results):
    for path in results.glob("C6*.json"):
        path.unlink()
    (line,) = [x for x in verdicts.brief(results=results).splitlines() if x.startswith("| [C6]")]
    assert "not measured yet" in line
    part = verdicts.page(results=results).split("## C6\n")[1].split("## C7\n")[0]
    assert "**Not measured yet.**" in part


@pytest.mark.parametrize(
    ("verdict", "word", "figure"),
    [
        ("false", "false", ""),
        ("true here: a has 1.7 (1.4; to 2.0) times b; c", "true here",
         "a has 1.7 (1.4; to 2.0) times b"),
        ("on digits: false: a stack. U-Net 3; more", "on digits: false", "a stack. U-Net 3"),
        ("no measure (FD misses: copies): two together do.", "no measure (FD misses: copies)",
         "two together do"),
        ("depends; in these pairs: one run: 92%. More", "depends", "in these pairs: one run: 92%"),
    ],
)  # fmt: skip
def test_a_verdict_is_cut_outside_of_brackets(verdicts, verdict, word, figure):
    found, rest = verdicts.word_and_rest(verdict)
    assert (found, verdicts.first_figure(rest)) == (word, figure)


def test_seeds_become_a_spread(verdicts):
    assert verdicts.spread([1.0, 2.0, 4.5]) == "2.5 (1 to 4.5)"
    assert verdicts.spread([12345]) == "12,345" and verdicts.spread([0.12345]) == "0.123"
    assert verdicts.spread(["2.1 (2.0 to 2.2)"]) == "2.1 (2.0 to 2.2)"
    assert verdicts.spread([None]) == "–" and verdicts.spread([]) == ""
    rows = [{"way": w, "seed": s, "FD": f} for w, s, f in
            (("a", 0, 1.0), ("b", 0, 9.0), ("a", 1, 3.0))]  # fmt: skip
    lines = verdicts.figures({"rows": rows}, {"rows": ["way"], "columns": ["FD"]})
    assert lines[2:] == ["| a | 2 (1 to 3) |", "| b | 9 |"]
