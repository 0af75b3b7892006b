"""No measured number is typed into a text by hand: the run that measured it writes it.

A number in prose is suspected when

- it is what a result file holds, to three significant digits or more, or
- it has a decimal point, or a per cent sign, in a sentence that speaks of something measured.

What is suspected and is none (a constant of a definition, a setting) is listed with its reason in
``numbers_allowed.toml``; an entry that no text needs any more fails, too.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from prose import ROOT, captions, plain, texts

RESULTS = ("data/results/*.json", "data/checkpoints/*.json")
MADE_BY_SCRIPTS = ("data/checkpoints/",)  # checkpoint_cards.py writes all of it
ALLOWED = Path(__file__).with_name("numbers_allowed.toml")
NUMBER = re.compile(r"(?<![\w.,])(?<!\w-)(\d[\d,]*(?:\.\d+)?)(?![\w]|[.,]\d)(\s?%)?")
SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z*\"(])|\n\s*\n|\n\s*[-*|] ")
MEASURED = re.compile(
    r"\b(FD|FID|KID|accurac\w+|recall|precision|coverage|density|losses|loss|error|errors|"
    r"scores?|ratio|floor|excess|faster|slower|seconds|minutes|nearness|correlation|"
    r"we measured|was measured|were measured|took|takes)\b",
    re.I,
)
VERSION = re.compile(r"\b(?:Python|Debian|torch|CUDA) \d[\d.]*\d")
EXERCISE = re.compile(r"^0\d\.\d+$|^1[0-5]\.[1-9]$")
REFERENCE = re.compile(r"arXiv|doi|Lesson \d|lesson \d|section|equation|Claim \d|version", re.I)


@lru_cache
def measured() -> frozenset[str]:
    """Every float of the result files, as people would type it: 3 or 4 digits, or per cent."""
    found: set[str] = set()
    for pattern in RESULTS:
        for file in sorted(ROOT.glob(pattern)):
            for value in _floats(json.loads(file.read_text(encoding="utf-8"))):
                found |= _typed(abs(value))
    return frozenset(found)


def _floats(tree) -> Iterator[float]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _floats(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _floats(value)
    elif isinstance(tree, float) and math.isfinite(tree) and tree != int(tree):
        yield tree


def _typed(value: float) -> set[str]:
    forms = {f"{value:.{n}f}" for n in (2, 3, 4)} | {f"{100 * value:.1f}%", f"{value:.1f}"}
    return {f for f in forms if _significant(f) >= 3}


def _significant(text: str) -> int:
    return len(re.sub(r"[^\d]", "", text).lstrip("0"))


def suspects(text: str) -> list[tuple[str, str]]:
    """(number, sentence) of each number that should have been supplied."""
    found = []
    for sentence in SENTENCE.split(plain(text)):
        flat = " ".join(sentence.split())
        for number, percent in NUMBER.findall(VERSION.sub("", sentence)):
            if EXERCISE.match(number):
                continue
            typed = number.replace(",", "") + ("%" if percent else "")
            decimal = "." in number
            quoted = decimal and _significant(typed) >= 3 and typed in measured()
            about = MEASURED.search(sentence) and (decimal or percent)
            if quoted or (about and not REFERENCE.search(sentence)):
                found.append((typed, flat))
    return found


def read() -> Iterator[tuple[str, str]]:
    """(place, text) of all that people have typed."""
    for place, text in [*texts(), *captions()]:
        if not place.startswith(MADE_BY_SCRIPTS):
            yield place, text


@lru_cache
def allowed() -> tuple[dict, ...]:
    """Entries of the list: ``words`` of the sentence, and why."""
    return tuple(tomllib.loads(ALLOWED.read_text(encoding="utf-8"))["number"])


def test_no_measured_number_is_typed():
    bad = []
    for place, text in read():
        for number, sentence in suspects(text):
            if not any(entry["words"] in sentence for entry in allowed()):
                bad.append(f"{place}: {number} in: {sentence}")
    assert not bad, "print them from the run, or say why they are none:\n" + "\n".join(bad)


def test_every_exception_is_needed_and_has_a_reason():
    seen = [s for _, text in read() for _, s in suspects(text)]
    for entry in allowed():
        assert entry["why"].strip()
        assert any(entry["words"] in s for s in seen), f"not needed any more: {entry['words']}"


@pytest.mark.parametrize(
    "text",
    [
        "The network reaches an FD of 4.31 after training.",
        "Accuracy rises to 97 % on held-out digits.",
        "It was 1.7 times faster.",
        "With augmentation, recall\nwas 0.83.",
    ],
)
def test_typed_measurements_are_suspected(text):
    assert suspects(text)


@pytest.mark.parametrize(
    "text",
    [
        "EDM uses `rho = 7` and $\\sigma = 0.002$.",
        "See lesson 05 and equation 14.",
        "Python 3.11 or newer is needed.",
        "Debian 12 and torch 2.13.0 have it.",
        "There are 1,000 steps, and 10 classes.",
    ],
)
def test_other_numbers_are_not(text):
    assert not suspects(text)


def test_numbers_of_result_files_are_suspected_wherever_they_stand():
    value = next(v for v in sorted(measured()) if "%" not in v and _significant(v) >= 4)
    assert suspects(f"Nothing here says what {value} is.")
