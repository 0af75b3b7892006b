"""What the book is made from: lessons as pages, links, docstrings, tables. Needs no Sphinx."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import docstrings
import inspect_site
import links
import notebooks
import pytest
import stage
import tables

from coursework import build, config

ROOT = Path(__file__).parents[2]


def cell(kind, source, tags=(), outputs=None, **metadata):
    made = {"cell_type": kind, "id": source[:8], "source": source, "metadata": {**metadata}}
    if tags:
        made["metadata"]["tags"] = list(tags)
    return made if kind == "markdown" else {**made, "outputs": outputs or []}


def picture():
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.new("L", (30, 20)).save(out, "PNG")
    return {
        "output_type": "display_data",
        "data": {"image/png": base64.b64encode(out.getvalue()).decode(), "text/plain": "<Image>"},
        "metadata": {"image/png": {"alt": 'A "grey" box & nothing else'}},
    }


@pytest.fixture
def made():
    answer = {"tags": ["answer"], "exercise": "42.1"}
    bar = {
        "output_type": "display_data",
        "data": {"text/plain": "  0%|          | 0/2 [00:00<?, ?it/s]"},
    }
    solution = {
        "metadata": {"kernelspec": {"name": "python3"}},
        "cells": [
            cell("markdown", "# 42 · Title\nwords"),
            cell("code", "f(1)", answer["tags"], exercise="42.1"),
            cell("code", "draw()", ["figure"], [bar, picture()]),
            cell("code", "more()", ["solution-only"]),
        ],
    }
    lesson = {"cells": [cell("code", "f(1)", answer["tags"], exercise="42.1")]}
    lesson["cells"][0]["source"] = "raise NotImplementedError('42.1')"
    return notebooks.page(solution, lesson, "42_title")


def test_a_stub_stands_before_its_folded_solution(made):
    page, _ = made
    sources = [c["source"] for c in page["cells"]]
    assert sources[1:3] == ["raise NotImplementedError('42.1')", "f(1)"]
    stub, solution = page["cells"][1:3]
    assert "tags" not in stub["metadata"]
    assert solution["metadata"]["tags"] == ["hide-input"]
    assert solution["metadata"]["mystnb"]["code_prompt_show"] == "Show a solution of 42.1"


def test_what_only_the_solution_has_is_folded_too_and_figures_are_not(made):
    figure, extra = made[0]["cells"][3:5]
    assert "tags" not in figure["metadata"] and extra["metadata"]["tags"] == ["hide-input"]


def test_pictures_become_files_with_words_and_bars_go(made):
    page, files = made
    (output,) = page["cells"][3]["outputs"]
    (name,) = files
    shown = output["data"]["text/html"]
    assert f'src="../_static/figures/{name}"' in shown and 'width="30" height="20"' in shown
    assert 'alt="A &quot;grey&quot; box &amp; nothing else"' in shown
    assert files[name].startswith(b"\x89PNG")


def test_the_title_is_followed_by_the_way_to_one_s_own_copy(made):
    lines = made[0]["cells"][0]["source"].split("\n")
    assert lines[0] == "# 42 · Title" and "make learn" in "\n".join(lines[1:10])
    assert lines[-1] == "words" and "Colab" not in "\n".join(lines)
    assert "colab.research" in stage.doors("x.ipynb", "someone/course")
    assert stage.doors("x.ipynb", "") == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a](../CONTRIBUTING.md#tags)", "[a](contributing.md#tags)"),
        ("[a](guide.md)", "[a](guide.md)"),
        ("[01](../lessons/01_x.ipynb)", "[01](lessons/01_x.ipynb)"),
        ("[a](https://example.org/(x)y)", "[a](https://example.org/(x)y)"),
        ("[a](#here)", "[a](#here)"),
        ("[LICENSE](../LICENSE)", "[LICENSE](https://github.com/o/r/blob/main/LICENSE)"),
        ("[code](../reference/x/)", "[code](https://github.com/o/r/tree/main/reference/x)"),
        ("![p](../data/p.png)", "![p](_static/data/p.png)"),
        ("```\n[a](guide.md) x\n```", "```\n[a](guide.md) x\n```"),
    ],
)
def test_links_lead_where_their_target_is(text, wanted):
    pages = {
        "CONTRIBUTING.md": "contributing",
        "docs/guide.md": "guide",
        "lessons/01_x.ipynb": "lessons/01_x",
    }
    assert links.Links(pages, "o/r").rewrite(text, "docs/index.md", "index") == wanted


def test_a_sound_in_place_of_a_picture_gets_a_player_with_its_words():
    found_in = links.Links({}, "")
    found = found_in.rewrite('![A beat, "new"](../data/sounds/a.wav)', "docs/x.md", "lessons/x")
    assert found == (
        '<audio controls preload="none" aria-label="A beat, &quot;new&quot;" '
        'src="../_static/data/sounds/a.wav"></audio>'
    )
    assert found_in.media == {"data/sounds/a.wav"}


def test_without_a_public_address_a_link_outside_is_its_words_and_path():
    found = links.Links({})
    assert found.rewrite("[the licence](../LICENSE)", "docs/a.md", "a") == "the licence (`LICENSE`)"
    assert found.rewrite("[deep](x.toml)", "data/r/R.md", "r") == "deep (`data/r/x.toml`)"


def test_links_of_pages_in_folders_go_up():
    found = links.Links({"docs/b.md": "b", "data/c.md": "cards/c"})
    assert found.rewrite("[b](../docs/b.md)", "data/c.md", "cards/c") == "[b](../b.md)"
    assert found.rewrite("[c](../data/c.md)", "docs/b.md", "b") == "[c](cards/c.md)"


def test_docstrings_keep_their_words_and_lose_no_star():
    text = (
        "Does *args and x_0 of ``code``.\n\nx: (B, C), any of a_b\n    or more. n, m: counts.\n"
        "seed: what it says\n\n    table  of\n    words  set\n\nLast |bar|."
    )
    rst = docstrings.to_rst(text)
    assert "Does \\*args and x\\_0 of" in rst and "``code``" in rst
    assert "* ``x``: (B, C), any of a\\_b or more. n, m: counts." in rst
    assert "* ``seed``: what it says" in rst
    assert "::\n\n    table  of\n    words  set" in rst and "Last \\|bar\\|." in rst


def test_claims_become_sections():
    table = "| | claim | verdict | change | lesson |\n|---|---|---|---|---|\n"
    row = (
        "| [C1](data/r.md#c1) | It matters. ([a](https://a.org)) | true: a<br>false: \\|b\\| | "
        "Time. | [00](l/00.ipynb), 99<br>`course experiment C1` |\n"
    )
    text = tables.claim_sections((table + row).rstrip("\n"))
    assert text.startswith(
        "## C1 · It matters.\n\nSaid by [a](https://a.org).\n\n- true: a\n- false: \\|b\\|\n"
    )
    assert "What would change it: Time.\n" in text
    assert "[00](l/00.ipynb), 99. Again by `course experiment C1`." in text
    assert "Figures: [C1](data/r.md#c1)." in text
    unmeasured = tables.claim_sections(table + "| C3 | Only images. | not measured yet | - | 11 |")
    assert "- not measured yet" in unmeasured and "Again by" not in unmeasured


def test_symbols_are_used_where_the_table_says():
    course = config.load(ROOT)
    known = {s.number: s for s in build.sources(course)}
    for row in tables.symbols():
        source = known[row["lesson"]]
        prose = "\n".join(c.source for c in source.cells if c.kind == "markdown")
        code = "\n".join(c.source for c in source.cells if c.kind == "code")
        plain = re.sub(r"\s|\\,|\\!", "", prose)
        assert re.sub(r"\s", "", row["tex"]) in plain, f"{row['tex']} is not in {row['lesson']}"
        word = rf"(?<!\w){re.escape(row['code'])}(?!\w)"
        assert re.search(word, code + prose), f"{row['code']} is not in {row['lesson']}"


def test_glossary_names_lessons_that_have_the_words():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S[^\n]*)\n: (.*?)(?=\n\n|\Z)", text, re.M | re.S)
    assert len(entries) > 30
    assert [e[0].lower() for e in entries] == sorted(e[0].lower() for e in entries)
    for term, says in entries:
        number = re.search(r"Lesson (\d\d)\.$", says.strip())
        assert number, f"{term} names no lesson"
        (file,) = (ROOT / "solutions").glob(f"{number[1]}_*.py")
        prose = file.read_text(encoding="utf-8").lower()
        plain = re.sub(r"[\n#]+\s*", " ", prose)
        other = {"alpha-bar": r"\bar\alpha"}
        words = {term.lower(), other.get(term.lower(), term.lower())}
        assert any(w in plain for w in words), f"{term} is not in lesson {number[1]}"


def test_every_exercise_of_the_lessons_is_on_its_page():
    course = config.load(ROOT)
    for source in build.sources(course):
        import json

        read = json.loads(source.solution_path.read_text(encoding="utf-8"))
        lesson = json.loads(source.lesson_path.read_text(encoding="utf-8"))
        page, files = notebooks.page(read, lesson, source.path.stem)
        folded = [
            c["metadata"]["mystnb"]["code_prompt_show"]
            for c in page["cells"]
            if "mystnb" in c["metadata"]
        ]
        for id in source.exercises:
            assert f"Show a solution of {id}" in folded
        text = json.dumps(page)
        assert "image/png" not in text and 'alt=\\"\\"' not in text
        assert sum(map(len, files.values())) + len(text) < inspect_site.HEAVIEST


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<img src="a.png" alt="">', "no words"),
        ('<audio controls src="data:audio/wav;base64,xx"></audio>', "no words for a sound"),
        ('<script src="https://cdn.example/x.js"></script>', "another host"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "another host"),
        ('<a href="gone.html">x</a>', "not there"),
        ('<a href="#gone">x</a>', "no such place"),
        ('<a href="b.html#gone">x</a>', "no such place"),
        ('<script src="gone.js"></script>', "not there"),
    ],
)
def test_the_look_at_a_site_finds(tmp_path, html, problem):
    frame = '<html lang="en"><head><title>A</title></head><body>{}</body></html>'
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.html").write_text(frame.format('<p id="x">b</p>'))
    (tmp_path / "a.html").write_text(
        frame.format('<a href="b.html#x">b</a> <a href="https://example.org/a">c</a>')
    )
    assert inspect_site.problems(tmp_path) == []
    (tmp_path / "a.html").write_text(frame.format(html))
    (found,) = inspect_site.problems(tmp_path)
    assert problem in found and found.startswith("a.html")


def test_a_heavy_lesson_and_a_page_without_a_title_are_found(tmp_path):
    (tmp_path / "lessons").mkdir()
    heavy = "x" * (inspect_site.HEAVIEST + 1)
    (tmp_path / "lessons" / "a.html").write_text(
        f'<html lang="en"><head><title>A</title></head>{heavy}'
    )
    (tmp_path / "b.html").write_text("<html lang='en'><body>x")
    found = inspect_site.problems(tmp_path)
    assert ["weighs 3.0 MB" in found[1], "title" in found[0]] == [True, True]
