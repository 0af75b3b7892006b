"""Emoji as pictures with words: what is drawn, in whose style, and the prompt that says so.

A ``DrawingSet`` is read by ``undiffuse.data.load``. Prompts are made from the attributes by rule
(``portrait_prompt``, ``emoji_prompt``), so that any combination of attributes has one, whether a
picture of it was trained on or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

STYLES = {"google": "noto", "twitter": "twemoji", "fluent3d": "fluent"}
TONES = ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")
LENGTH = 20  # words of a prompt that are read; the longest of the sets has fewer
KINDS = {
    "Activities": "activity",
    "Animals & Nature": "animal or plant",
    "Food & Drink": "food or drink",
    "Objects": "object",
    "People & Body": "person or body",
    "Smileys & Emotion": "face or feeling",
    "Travel & Places": "place or travel",
}
# Unicode's names for people, where a plainer one says the same in the way of the others.
PLAINER = {
    "adult": "person",
    "older adult": "older person",
    "face palm": "person facepalming",
    "shrug": "person shrugging",
    "face with no good gesture": "person gesturing no",
    "face with ok gesture": "person gesturing ok",
    "information desk person": "person tipping hand",
    "happy person raising one hand": "person raising hand",
    "person bowing deeply": "person bowing",
    "person with pouting face": "person pouting",
    "guardsman": "guard",
    "breast-feeding": "person breast-feeding",
    "man with turban": "person wearing turban",
    "man with gua pi mao": "person with skullcap",
}


def role_in_words(name: str) -> str:
    """A role as a prompt says it: "man: red hair" is "man with red hair"."""
    who, colon, what = name.partition(": ")
    if not colon:
        return PLAINER.get(name, name)
    return f"bald {who}" if what == "bald" else f"{who} with {what}"


def portrait_prompt(role: str, tone: str, style: str) -> str:
    """Such as "a woman firefighter with dark skin, in the style of noto".

    role: one of ``DrawingSet.values["role"]``; tone: of ``TONES``; style: of ``STYLES``' values.
    """
    who = role_in_words(role)
    article = "an" if who[0] in "aeiou" else "a"
    joined = "and" if " with " in who else "with"
    return f"{article} {who} {joined} {tone} skin, in the style of {style}"


def emoji_prompt(concept: str, category: str, style: str) -> str:
    """Such as "red apple, food or drink, in the style of fluent".

    category: one of ``KINDS``.
    """
    return f"{concept}, {KINDS[category]}, in the style of {style}"


@dataclass(frozen=True)
class DrawingSet:
    """Pictures with attributes and prompts, as stored.

    name: its name in the manifest
    images: uint8 (N, 32, 32, 3) on white
    attributes: what each picture shows, name -> int64 (N,), index into ``values[name]``:
        "role", "tone" and "style" of portraits, "concept", "category" and "style" of emoji
    values: attribute -> what the numbers mean
    splits: name -> int64 indices into ``images``, disjoint, and any beginning of a split is mixed;
        combinations of attributes in one split are in no other
    licences: style -> the licence of its drawings, in one line
    more: the other arrays of the file, by name
    """

    name: str
    images: np.ndarray = field(repr=False)
    attributes: Mapping[str, np.ndarray] = field(repr=False)
    values: Mapping[str, tuple[str, ...]] = field(repr=False)
    splits: Mapping[str, np.ndarray] = field(repr=False)
    licences: Mapping[str, str] = field(repr=False)
    more: Mapping[str, np.ndarray] = field(repr=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def licence(self) -> str:
        """Of all its drawings, in one line."""
        return "; ".join(f"{style}: {told}" for style, told in self.licences.items())

    def prompt(self, **told: int) -> str:
        """The prompt of a combination: ``prompt(role=3, tone=5, style=0)``, numbers of values."""
        words = {key: self.values[key][number] for key, number in told.items()}
        if "role" in self.values:
            return portrait_prompt(words["role"], words["tone"], words["style"])
        return emoji_prompt(words["concept"], words["category"], words["style"])

    def prompts(self, rows: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """The prompts of some rows, or of all."""
        rows = range(len(self)) if rows is None else rows
        return [self.prompt(**{k: int(v[i]) for k, v in self.attributes.items()}) for i in rows]


def arrange(name: str, arrays: Mapping[str, np.ndarray], splits, licences) -> DrawingSet:
    """The set made of the arrays of its file."""
    vendors = arrays["vendor"].tolist()
    found = {"style": [STYLES[v] for v in vendors]}
    known = {"style": tuple(STYLES.values())}
    if "shown" in arrays:
        found = {"role": arrays["name"].tolist(), "tone": arrays["shown"].tolist(), **found}
        known = {"tone": TONES, **known}
        first = "role"
    else:
        categories = arrays["categories"][arrays["category"]].tolist()
        found = {"concept": arrays["name"].tolist(), "category": categories, **found}
        known = {"category": tuple(KINDS), **known}
        first = "concept"
    known[first] = tuple(sorted(set(found[first])))
    numbers = {}
    for key, words in found.items():
        place = {word: i for i, word in enumerate(known[key])}
        numbers[key] = np.array([place[word] for word in words], dtype=np.int64)
    own = ("images", "split")
    return DrawingSet(
        name=name,
        images=arrays["images"].copy(),
        attributes=numbers,
        values={key: known[key] for key in numbers},
        splits={k: v.copy() for k, v in splits.items()},
        licences={STYLES[vendor]: told for vendor, told in licences.items()},
        more={k: v.copy() for k, v in arrays.items() if k not in own},
    )
