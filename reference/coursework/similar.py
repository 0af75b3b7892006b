"""Which answers are similar, side by side. It says "similar", and why is for people to find out.

Of an answer's fingerprints (see ``shape``) those are left out that the lesson itself gives: the
stub, the published solution, the accepted alternatives, the known mistakes, the lesson's own
cells; and those that many in the class have. What is left must be long enough to mean something.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from coursework import pages, shape

LEAST = 8  # fingerprints of its own that an answer must have
MOST = 200  # pairs on a page
SHARE = 0.6  # of the shorter answer's fingerprints that two must share
COMMON = 10, 0.05  # answers, and share of the class: what more than that have is left out


@dataclass
class Piece:
    """One answer: whose, to which exercise, and its source by cells."""

    student: str
    exercise: str
    sources: tuple[str, ...]
    tokens: list[shape.Token] = field(default_factory=list, repr=False)
    marks: dict[int, list[int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.tokens = shape.tokens(self.sources)
        self.marks = shape.fingerprints(self.tokens)

    def lines(self, hashes: Iterable[int]) -> list[tuple[str, bool]]:
        """Its lines, blank ones at the ends left out, each with whether ``hashes`` touch it."""
        touched: set[tuple[int, int]] = set()
        for h in hashes:
            for start in self.marks[h]:
                touched |= {(t.piece, t.line) for t in self.tokens[start : start + shape.K]}
        shown = []
        for i, source in enumerate(self.sources):
            rows = [((i, n) in touched, line) for n, line in enumerate(source.split("\n"), 1)]
            while rows and not rows[-1][1].strip():
                rows.pop()
            while rows and not rows[0][1].strip():
                rows.pop(0)
            shown += [(line, hit and bool(line.strip())) for hit, line in rows]
        return shown


@dataclass
class Pair:
    """Two similar answers. shared: fingerprints that both have; share: of the shorter one's."""

    first: Piece
    second: Piece
    shared: tuple[int, ...]
    share: float


def known(sources: Iterable[str]) -> set[int]:
    """What code that everybody has been given can leave in a fingerprint: all of its runs."""
    found: set[int] = set()
    for source in sources:
        found.update(shape.hashes(shape.tokens([source])))
    return found


def compare(
    pieces: Sequence[Piece], given: Mapping[str, set[int]] | None = None
) -> tuple[list[Pair], Counter[str]]:
    """(similar pairs, the most similar first; exercise -> answers that were long enough).

    given: exercise id -> fingerprints to leave out (see ``known``). Answers of one student are not
    compared with each other.
    """
    by_exercise: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_exercise[piece.exercise].append(piece)
    pairs: list[Pair] = []
    compared: Counter[str] = Counter()
    for exercise, answers in sorted(by_exercise.items()):
        found, enough = _compare(answers, (given or {}).get(exercise, set()))
        pairs += found
        compared[exercise] = enough
    pairs.sort(key=lambda p: (-p.share, -len(p.shared), p.first.exercise, p.first.student))
    return pairs, compared


def _compare(answers: list[Piece], given: set[int]) -> tuple[list[Pair], int]:
    counts = Counter(h for a in answers for h in a.marks)
    most = max(COMMON[0], COMMON[1] * len(answers))
    own = [{h for h in a.marks if h not in given and counts[h] <= most} for a in answers]
    long = [i for i, marks in enumerate(own) if len(marks) >= LEAST]
    who: dict[int, list[int]] = defaultdict(list)
    for i in long:
        for h in own[i]:
            who[h].append(i)
    both: Counter[tuple[int, int]] = Counter()
    for owners in who.values():
        both.update(combinations(owners, 2))
    pairs = []
    for (i, j), n in both.items():
        share = n / min(len(own[i]), len(own[j]))
        if share >= SHARE and answers[i].student != answers[j].student:
            first, second = sorted((answers[i], answers[j]), key=lambda a: a.student)
            pairs.append(Pair(first, second, tuple(sorted(own[i] & own[j])), share))
    return pairs, len(long)


def page(pairs: Sequence[Pair], compared: Mapping[str, int], title: str) -> str:
    """The page for the teacher: each pair side by side, common lines marked."""
    shown = [
        {
            "exercise": p.first.exercise,
            "percent": round(100 * p.share),
            "count": len(p.shared),
            "sides": [(a.student, a.lines(p.shared)) for a in (p.first, p.second)],
        }
        for p in pairs[:MOST]
    ]
    counts = Counter(p.first.exercise for p in pairs)
    rows = [(id, n, counts[id]) for id, n in sorted(compared.items())]
    left_out = max(len(pairs) - MOST, 0)
    return pages.render("similar.html", pairs=shown, rows=rows, left_out=left_out, title=title)
