"""Releasing scores: what students have been told is kept, and never lowered by accident."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from coursework.scores import StudentScore


@dataclass(frozen=True)
class Published:
    """A score as a student was told it: ``final`` of ``out_of``, with the notes on it."""

    student: str
    lesson: str
    final: Fraction
    out_of: Fraction
    notes: tuple[str, ...] = ()
    when: str = ""

    @property
    def share(self) -> Fraction:
        """Of what could be had; 0 where nothing could."""
        return self.final / self.out_of if self.out_of else Fraction(0)


@dataclass
class Plan:
    """What publishing would change. same: how many stay; new, raised and lowered: (old, new), old
    None for new ones."""

    new: list[Published] = field(default_factory=list)
    raised: list[tuple[Published, Published]] = field(default_factory=list)
    lowered: list[tuple[Published, Published]] = field(default_factory=list)
    same: int = 0

    def rows(self, allow_lower: bool) -> list[Published]:
        """What is to be written."""
        rows = self.new + [new for _, new in self.raised]
        return rows + [new for _, new in self.lowered] if allow_lower else rows


def plan(scores: Mapping[str, StudentScore], earlier: Mapping[tuple[str, str], Published]) -> Plan:
    """Compares ``scores`` with what was published ``earlier``, by (student, lesson).

    Only what was handed in, or given by a teacher, is published. A score is lowered when its
    share of the possible points is, so that an exercise that is taken out lowers nobody.
    """
    made = Plan()
    for student, score in scores.items():
        for lesson, one in score.lessons.items():
            if not one.handed_in and not one.final:
                continue
            new = Published(student, lesson, one.final, one.out_of, tuple(one.notes))
            old = earlier.get((student, lesson))
            if old is None:
                made.new.append(new)
            elif (old.final, old.out_of, old.notes) == (new.final, new.out_of, new.notes):
                made.same += 1
            elif new.share < old.share:
                made.lowered.append((old, new))
            else:
                made.raised.append((old, new))
    return made


def lines(made: Plan, allow_lower: bool) -> Iterable[str]:
    """What was done, as sentences; those who lost points one by one."""
    yield (
        f"published: {len(made.new)} new, {len(made.raised)} raised or with other notes, "
        f"{made.same} as they were"
    )
    for old, new in made.lowered:
        what = "lowered" if allow_lower else "NOT lowered"
        yield f"! {what}: {new.student}, lesson {new.lesson}: {points(old)} -> {points(new)}"
    if made.lowered and not allow_lower:
        yield (
            "Released scores are not lowered unless you say --allow-lower; these students keep "
            "what they were told"
        )


def points(score: Published) -> str:
    """ "13.5 of 20"."""
    return f"{float(score.final):.4g} of {float(score.out_of):.4g}"
