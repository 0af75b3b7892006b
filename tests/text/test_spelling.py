"""Every word of lessons and pages is English, or one of the course's own: ``words.txt``.

The dictionary is that of pyspellchecker (American and British). A new term goes into the list; a
misspelt word is mended.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prose import captions, plain, texts

LIST = Path(__file__).with_name("words.txt")
WORD = re.compile(r"[^\W\d_]{3,}(?:'[a-z]+)?")
LOANED = ("LICENSE", "data/audio/")  # credits and licences are quoted as they are


@pytest.fixture(scope="module")
def known():
    """Whether a word is known, whatever its capitals."""
    spelling = pytest.importorskip("spellchecker", reason="pyspellchecker is not installed")
    english = spelling.SpellChecker(language="en").word_frequency
    own = {w.lower() for w in LIST.read_text(encoding="utf-8").split()}
    return lambda word: (w := word.lower().removesuffix("'s")) in english or w in own


def words():
    for place, text in [*texts(), *captions()]:
        if not place.startswith(LOANED):
            for word in WORD.findall(plain(text)):
                yield place, word


def test_every_word_is_known(known):
    unknown: dict[str, str] = {}
    for place, word in words():
        if not known(word):
            unknown.setdefault(word, place)
    told = "\n".join(f"{word}: {place}" for word, place in sorted(unknown.items()))
    assert not unknown, f"misspelt, or new to {LIST.name}:\n{told}"


def test_a_misspelt_word_would_be_found(known):
    assert not known("schedual") and not known("difusion") and known("diffusion")
    assert known("Karras's") and known("colour") and known("color")


def test_the_list_is_sorted_and_used():
    own = LIST.read_text(encoding="utf-8").split()
    assert own == sorted(set(own), key=lambda w: (w.lower(), w))
    used = {w.lower().removesuffix("'s") for _, w in words()}
    assert [w for w in own if w.lower() not in used] == []
