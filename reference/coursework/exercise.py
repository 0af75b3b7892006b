"""What an exercise is: cases, a judge, hints, and (kept in another file) its answers.

Two files belong to a lesson. ``tests/exercises/lesson_NN.py`` holds exercises: their texts, cases,
drivers and judges, and *no answer*, so that it may be loaded beside a learner's code.
``tests/exercises/answers/lesson_NN.py`` holds the reference, the misconceptions and the
alternatives; it is loaded only where results are judged.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

ID = re.compile(r"^\d\d\.\d{1,2}$")


class ExerciseError(Exception):
    """An exercise is not written as it must be; the message says which and what is wanted."""


@dataclass(frozen=True)
class Seed:
    """Stands for a ``torch.Generator`` seeded with ``value``, made anew for every call."""

    value: int


@dataclass(frozen=True)
class Given:
    """Stands for an object built beside the learner's code by a function of the checks module.

    ``Given(toy_model, dim=3)`` becomes ``toy_model(dim=3)`` there: a network, a schedule as a
    function, anything that is not plain data. The function must be defined at the top level of
    the checks module, and must not contain an answer.
    """

    name: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)

    def __init__(self, maker: Callable | str, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "name", maker if isinstance(maker, str) else maker.__name__)
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)


@dataclass(frozen=True)
class Tol:
    """Passes when ``|got - expected| <= atol * scale + rtol * |expected|``, element by element.

    ``scale`` is the largest finite ``|expected|`` (at least 1e-30). ``None`` means by dtype:
    float64 1e-9, float32 2e-5, float16 and bfloat16 1e-2, for both.
    """

    rtol: float | None = None
    atol: float | None = None


@dataclass
class Case:
    """One seeded input.

    name: short, unique in the exercise ("odd sizes"). args, kwargs: plain data (tensors, arrays,
    numbers, strings, lists, tuples, dicts), ``Seed`` and ``Given``. group: a key of the
    exercise's ``points``. driver: a top-level function of the checks module, called as
    ``driver(answer, *args, **kwargs)`` where ``answer`` has the learner's names as attributes and
    must return plain data; without one the first name is called with the arguments.
    mutates: argument positions or names that the answer is allowed to change.
    picture: "curve", "image" or "none"; None lets the display choose. hidden: feedback says that
    it failed, and neither its name nor what was wanted.
    """

    name: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    group: str = "main"
    driver: Callable | str | None = None
    tol: Tol = Tol()
    mutates: tuple = ()
    picture: str | None = None
    note: str = ""
    hidden: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.args, tuple):
            raise ExerciseError(f"case {self.name!r}: args must be a tuple, not {self.args!r}")
        if callable(self.driver):
            self.driver = self.driver.__name__


class Draw:
    """Random inputs for cases: a thin layer over one numpy generator, giving torch tensors."""

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        import numpy as np

        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, dtype: str = "float32", mean: float = 0.0, std: float = 1.0):
        """Normal tensor of ``shape``."""
        import torch

        return torch.from_numpy(self.rng.normal(mean, std, shape)).to(getattr(torch, dtype))

    def uniform(self, low: float, high: float, *shape: int, dtype: str = "float32"):
        """Uniform tensor of ``shape``; with no shape a Python float."""
        import torch

        if not shape:
            return float(self.rng.uniform(low, high))
        return torch.from_numpy(self.rng.uniform(low, high, shape)).to(getattr(torch, dtype))

    def integers(self, low: int, high: int, *shape: int):
        """int64 tensor of ``shape`` in [low, high); with no shape a Python int."""
        import torch

        if not shape:
            return int(self.rng.integers(low, high))
        return torch.from_numpy(self.rng.integers(low, high, shape))

    def distinct(self, low: int, high: int, n: int):
        """n different integers in [low, high), in random order, as an int64 tensor."""
        import torch

        return torch.from_numpy(low + self.rng.permutation(high - low)[:n])

    def pick(self, options):
        """One of ``options``."""
        return options[int(self.rng.integers(len(options)))]

    def seed(self) -> Seed:
        """A generator's seed that is new for every draw."""
        return Seed(int(self.rng.integers(2**31)))


@dataclass
class Exercise:
    """See ``DESIGN`` and CONTRIBUTING. ``points`` maps case groups to points.

    id: "02.3". names: what the learner defines, the first being what a case without driver calls.
    uses: ids of exercises whose names this answer may call; the grader supplies correct ones, so
    that one mistake costs once. core: False marks an extra. slow: trains something, answers in up
    to ``limit`` seconds with progress shown. limit: seconds for all cases of one check.
    reference_needed: False when the judge needs no reference outcome.
    library: dotted names in the library that would give the answer away, removed while grading.
    """

    id: str
    title: str
    names: tuple[str, ...]
    points: dict[str, int]
    hints: tuple[str, ...]
    difficulty: int = 2
    minutes: int = 10
    core: bool = True
    uses: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    slow: bool = False
    limit: float = 10.0
    reference_needed: bool = True
    _cases: Callable | None = field(default=None, repr=False)
    _judge: Callable | None = field(default=None, repr=False)
    module: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not ID.match(self.id):
            raise ExerciseError(f"exercise id {self.id!r} must look like '02.3'")
        for name in ("names", "hints", "uses", "library"):
            if isinstance(getattr(self, name), str):
                raise ExerciseError(f"{self.id}: {name} must be a tuple of strings")
        if not self.points or any(p <= 0 for p in self.points.values()):
            raise ExerciseError(f"{self.id}: points must map case groups to positive numbers")
        if not self.hints or not all(h.strip() for h in self.hints):
            raise ExerciseError(f"{self.id}: at least one hint, and none empty")

    @property
    def lesson(self) -> str:
        return self.id.split(".")[0]

    @property
    def out_of(self) -> int:
        return sum(self.points.values())

    def cases(self, function: Callable[[Draw], Iterable[Case]]) -> Callable:
        """Decorator: ``function(draw)`` yields the cases of one seed."""
        self._cases = function
        return function

    def more_cases(self, function: Callable[[Draw], Iterable[Case]]) -> Callable:
        """Decorator: ``function(draw)`` yields cases beside those that there are, in their groups.

        For hidden cases of a class: see ``variants``.
        """
        before = self._cases
        if before is None:
            raise ExerciseError(f"{self.id} has no cases that more could be added to")

        def both(draw: Draw) -> Iterator[Case]:
            yield from before(draw)
            yield from function(draw)

        self._cases = both
        return function

    def judge(self, function: Callable) -> Callable:
        """Decorator: ``function(case, got, expected)`` -> None, a string or a ``Finding``.

        ``got`` and ``expected`` are the values; ``expected`` is None when no reference is needed.
        Without a judge the values are compared element by element.
        """
        self._judge = function
        return function

    def make_cases(self, seed: int) -> list[Case]:
        """The cases of ``seed``: the same seed gives the same cases."""
        if self._cases is None:
            raise ExerciseError(f"{self.id} has no cases")
        made = list(self._cases(Draw((seed, *map(int, self.id.split("."))))))
        names = [c.name for c in made]
        if len(set(names)) != len(names):
            raise ExerciseError(f"{self.id}: case names repeat: {sorted(names)}")
        groups = {c.group for c in made}
        if groups != set(self.points):
            raise ExerciseError(
                f"{self.id}: cases have groups {sorted(groups)}, points {sorted(self.points)}"
            )
        return made


@dataclass
class Misconception:
    """A named wrong answer: ``defines`` maps names to wrong objects, ``says`` explains it."""

    name: str
    says: str
    defines: dict[str, Any]
    detect: Callable | None = None


@dataclass
class Answers:
    """Reference, misconceptions and alternatives of one exercise."""

    id: str
    reference_defines: dict[str, Any] = field(default_factory=dict)
    misconceptions: list[Misconception] = field(default_factory=list)
    alternatives: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reference(self, thing: Callable) -> Callable:
        """Decorator for each reference function or class; its name is the exercise's name."""
        self.reference_defines[thing.__name__] = thing
        return thing

    def misconception(
        self,
        name: str,
        says: str,
        detect: Callable | None = None,
        defines: dict[str, Any] | None = None,
    ) -> Callable:
        """Decorator for a wrong function or class of the right name, or call with ``defines``.

        Names that it does not define are taken from the reference. ``detect(got, expected,
        cases)``, lists of outcomes in the order of the cases, replaces the comparison of
        outcomes where a mistake has no single result (an unseeded draw, say).
        """
        if any(m.name == name for m in self.misconceptions):
            raise ExerciseError(f"{self.id}: misconception {name!r} is there twice")
        if not says.strip():
            raise ExerciseError(f"{self.id}: misconception {name!r} has no explanation")
        if defines is not None:
            self.misconceptions.append(Misconception(name, says, defines, detect))
            return lambda thing: thing

        def add(thing: Callable) -> Callable:
            self.misconceptions.append(Misconception(name, says, {thing.__name__: thing}, detect))
            return self._still(thing)

        return add

    def alternative(self, name: str, defines: dict[str, Any] | None = None) -> Callable:
        """Decorator for a right answer written otherwise, or call with ``defines``."""
        if name in self.alternatives:
            raise ExerciseError(f"{self.id}: alternative {name!r} is there twice")
        if defines is not None:
            self.alternatives[name] = defines
            return lambda thing: thing

        def add(thing: Callable) -> Callable:
            self.alternatives[name] = {thing.__name__: thing}
            return self._still(thing)

        return add

    def _still(self, thing: Callable) -> Callable:
        """What the name goes on to mean in the answers module: the reference, once there is one."""
        return self.reference_defines.get(thing.__name__, thing)

    def complete(self, defines: dict[str, Any]) -> dict[str, Any]:
        """``defines`` with what it lacks taken from the reference."""
        return {**self.reference_defines, **defines}

    def given_source(self) -> str:
        """Source of the reference, to be supplied to answers of exercises that use this one.

        With the functions of its module that it calls.
        """
        things: dict[str, Any] = {}
        for thing in self.reference_defines.values():
            _with_helpers(thing, things)
        parts = []
        for thing in things.values():
            lines = inspect.getsource(thing).splitlines()
            while lines and lines[0].lstrip().startswith("@"):
                lines.pop(0)
            parts.append("\n".join(lines))
        return "\n\n".join(parts)


def _with_helpers(thing: Any, into: dict[str, Any], above: tuple[str, ...] = ()) -> None:
    """Adds ``thing``, after the functions of its own module that it calls, and these call."""
    if thing.__name__ in into or thing.__name__ in above:
        return
    for name in thing.__code__.co_names if inspect.isfunction(thing) else ():
        helper = thing.__globals__.get(name)
        if inspect.isfunction(helper) and helper.__module__ == thing.__module__:
            _with_helpers(helper, into, (*above, thing.__name__))
    into[thing.__name__] = thing


@dataclass
class Lesson:
    """What one checks module declares about its lesson, as ``LESSON``.

    provides: modules of the library that answers of this lesson may import while graded
    ("undiffuse.data"); everything else of the library is absent there.
    """

    number: str
    provides: tuple[str, ...] = ()


@dataclass
class Checks:
    """The exercises of a lesson, with their answers where those are at hand."""

    lesson: Lesson
    exercises: dict[str, Exercise]
    answers: dict[str, Answers]
    module: Any

    def __iter__(self) -> Iterator[Exercise]:
        return iter(self.exercises.values())
