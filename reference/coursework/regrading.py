"""What changed checks change: shown before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from coursework.reports import SubmissionReport


@dataclass(frozen=True)
class Change:
    """One exercise of one submission before and after; points and statuses."""

    student: str
    lesson: str
    exercise: str
    before: tuple[int, str]
    after: tuple[int, str]


def affected(reports: Iterable[SubmissionReport]) -> list[str]:
    """Ids of the exercises whose checks changed since the reports that came before."""
    found = set()
    for r in reports:
        if r.before:
            old, new = r.before.parts, r.parts
            found |= {id for id in old.keys() | new.keys() if old.get(id) != new.get(id)}
    return sorted(found)


def changes(reports: Iterable[SubmissionReport]) -> list[Change]:
    """What is different in ``reports`` from what came before each of them."""
    found = []
    for r in reports:
        if not r.before:
            continue
        old = {e.id: (e.points, e.status) for e in r.before.exercises}
        new = {e.id: (e.points, e.status) for e in r.exercises}
        nothing = 0, "not there"
        for id in sorted(old.keys() | new.keys()):
            before, after = old.get(id, nothing), new.get(id, nothing)
            if before != after:
                found.append(Change(r.student, r.lesson, id, before, after))
    return found


def lines(reports: list[SubmissionReport], applied: bool) -> Iterable[str]:
    """The difference, as sentences; nothing where no checks changed."""
    again = [r for r in reports if r.before]
    if not again:
        return
    ids = affected(again)
    what = ", ".join(ids) if ids else "nothing but the environment"
    yield f"Graded before by other checks: {len(again)} submissions; what changed: {what}"
    found = changes(again)
    more = sum(c.after[0] > c.before[0] for c in found)
    less = sum(c.after[0] < c.before[0] for c in found)
    yield (
        f"{more} answers get more points, {less} get fewer, {len(found) - more - less} have "
        "another status only"
    )
    for c in found:
        (p, s), (q, t) = c.before, c.after
        yield f"  {c.student}, {c.exercise}: {p} ({s}) -> {q} ({t})"
    per = Counter(c.exercise for c in found)
    for id, count in sorted(per.items()):
        yield f"  {id}: {count} of {len(again)} differ"
    if not applied:
        yield "The old grades stand. To write the new ones: the same command with --apply"
