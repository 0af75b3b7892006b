"""What is to be seen or heard in a lesson has words: every picture, every sound, every control."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coursework import build, config

COURSE = config.find(Path(__file__).parent)
NOTEBOOKS = sorted(COURSE.solutions.glob("*.ipynb"))
PICTURES = ("image/png", "image/gif", "image/jpeg", "image/svg+xml")
EMPTY = re.compile(r"^(an? )?(image|figure|picture|plot|graph)s?( of)?\W*$", re.I)
SHORTEST = 30  # characters: below that nobody learns what is to be seen


class Wordless(HTMLParser):
    """What of an output's HTML has no words of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        has = {k: (v or "").strip() for k, v in attrs}
        if tag == "img" and not has.get("alt"):
            self.found.append("a picture in HTML without alt")
        if tag == "svg" and not (has.get("role") == "img" and has.get("aria-label")):
            self.found.append("a drawing without role and label")
        if tag in ("audio", "video") and not has.get("aria-label"):
            self.found.append("a sound without words: use undiffuse.listen")
        if tag in ("audio", "video") and "controls" not in has:
            self.found.append("a sound that cannot be stopped by keyboard")
        if tag in ("audio", "video") and "autoplay" in has:
            self.found.append("a sound that plays by itself")


def outputs(path: Path):
    """(number of the cell, its output) of an executed notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for i, cell in enumerate(cells, 1):
        for output in cell.get("outputs", ()):
            yield i, output


def wordless(output: dict) -> list[str]:
    """What of one output lacks words."""
    data = output.get("data") or {}
    found = []
    for kind in PICTURES:
        if kind in data:
            alt = (output.get("metadata") or {}).get(kind, {}).get("alt", "").strip()
            if len(alt) < SHORTEST or EMPTY.match(alt):
                found.append(f"a picture that says only {alt!r}")
    return found + Wordless("".join(data.get("text/html", ""))).found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_picture_and_sound_has_words(path):
    found = [f"cell {i}: {what}" for i, o in outputs(path) for what in wordless(o)]
    assert found == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_two_pictures_share_their_words(path):
    seen: dict[str, int] = {}
    for i, output in outputs(path):
        for kind in PICTURES:
            alt = (output.get("metadata") or {}).get(kind, {}).get("alt")
            if alt and kind in (output.get("data") or {}):
                assert seen.setdefault(alt, i) == i, f"cells {seen[alt]} and {i}: {alt}"


def test_every_figure_has_a_caption_or_a_line_of_text_beside_it():
    for source in build.sources(COURSE):
        for i, cell in enumerate(source.cells, 1):
            if "figure" in cell.tags and "caption=" not in cell.source:
                beside = [source.cells[k] for k in (i - 2, i) if 0 <= k < len(source.cells)]
                says = [b for b in beside if b.kind == "markdown" and b.source[0] not in "#<"]
                assert says, f"{source.path.name}, cell {i}"


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ({"data": {"image/png": "x"}}, "only ''"),
        ({"data": {"image/gif": "x"}, "metadata": {"image/gif": {"alt": "Figure"}}}, "Figure"),
        ({"data": {"text/html": ["<audio ", "controls></audio>"]}}, "without words"),
        ({"data": {"text/html": '<audio aria-label="a tone">'}}, "by keyboard"),
        ({"data": {"text/html": "<img src='x'>"}}, "without alt"),
        ({"data": {"text/html": "<svg></svg>"}}, "without role"),
    ],
)
def test_what_lacks_words_is_found(output, problem):
    (found,) = [w for w in wordless(output) if problem in w]
    assert found


def test_what_has_words_is_not():
    alt = "Four waveforms that fade into noise one after the other."
    page = f'<audio controls="controls" aria-label="{alt}"></audio><img alt="{alt}">'
    assert wordless({"data": {"text/html": page}}) == []
    assert wordless({"data": {"image/png": "x"}, "metadata": {"image/png": {"alt": alt}}}) == []
