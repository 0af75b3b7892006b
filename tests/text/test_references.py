"""Citations: every paper that a text links to is the one whose author, year and title it names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from prose import texts

REGISTER = tomllib.loads(Path(__file__).with_name("references.toml").read_text(encoding="utf-8"))
PAPERS = {**REGISTER["arxiv"], **REGISTER["doi"]}
LINK = re.compile(
    r"\[([^\[\]]+)\]\(https://(?:arxiv\.org/abs/|doi\.org/)((?:[^()\s]|\([^()]*\))+)\)"
)
ADDRESS = re.compile(r"https?://(?:www\.)?(?:arxiv\.org|doi\.org|dx\.doi\.org)/\S+")
ID = re.compile(r"^(arXiv\W*)?[\d.]+$", re.I)
ITEM = re.compile(r"^\s*[-*] ", re.M)


def simple(words: str) -> str:
    """Without capitals, punctuation and line breaks."""
    return " ".join(re.sub(r"[^\w\s]", " ", words.lower()).split())


def cited():
    """(place, the list item or paragraph, the link's words, the paper's number)."""
    for place, text in texts():
        for part in re.split(r"\n\s*\n|^(?=\s*[-*] )", text, flags=re.M):
            for words, paper in LINK.findall(part):
                yield place, " ".join(part.split()), " ".join(words.split()), paper


def wrong(part: str, words: str, paper: str) -> str:
    """What is wrong with a citation; "" if nothing is."""
    if paper not in PAPERS:
        return f"{paper} is not in references.toml: look it up, and add it"
    author, year, title = PAPERS[paper]
    short = REGISTER["short"].get(paper, title)
    if ID.match(words):
        return ""
    named, full = simple(words), simple(title)
    if not (full.startswith(named) or named == simple(short) or named in full):
        return f"{paper} is {title!r}, not {words!r}"
    if not part.startswith(("- ", "* ")):
        return ""
    if f" {simple(author)} " not in f" {simple(part)} ":
        return f"{paper} is by {author}, whom the item does not name"
    years = {int(y) for y in re.findall(r"\b(?:19|20)\d\d\b", part)}
    if years and not years & {year - 1, year, year + 1}:  # a paper's preprint may be older
        return f"{paper} is of {year}, the item says {sorted(years)}"
    return ""


def test_every_citation_is_right():
    found = [(place, says) for place, *what in cited() if (says := wrong(*what))]
    assert not found, "\n".join(f"{place}: {says}" for place, says in found)


def test_addresses_have_the_form_that_is_read():
    seen = sum(1 for _ in cited())
    assert seen > 40
    for place, text in texts():
        linked = {m.start(2) for m in LINK.finditer(text)}
        for address in ADDRESS.finditer(text):
            inside = any(address.start() < start <= address.end() for start in linked)
            assert inside, f"{place}: {address[0]} is not read as a citation"


@pytest.mark.parametrize(
    ("part", "words", "paper"),
    [
        ("- Ho, Jain, Abbeel 2020, x", "Improved denoising diffusion", "2006.11239"),
        ("- Nichol 2021, x", "Denoising diffusion probabilistic models", "2006.11239"),
        ("- Ho, Jain, Abbeel 2017, x", "Denoising diffusion probabilistic models", "2006.11239"),
        ("- Ho 2020, x", "Denoising diffusion probabilistic models", "2006.11238"),
    ],
)
def test_wrong_citations_are_found(part, words, paper):
    assert wrong(part, words, paper)


def test_a_right_one_passes():
    assert not wrong("- Ho et al., 2020, [x]", "Denoising Diffusion", "2006.11239")
