"""The library does what the lessons ask of learners: its functions pass the lessons' checks."""

import importlib
from functools import lru_cache
from pathlib import Path

import pytest

from coursework import checks as checks_of
from coursework import config, harness, judge

COURSE = config.find(Path(__file__).parent)
TWINS = [
    (exercise.id, name)
    for number in checks_of.lessons(COURSE)
    for exercise in checks_of.load(number, COURSE.root)
    for name in exercise.library
    if not exercise.slow
]


@lru_cache
def oracle(number: str) -> judge.LiveOracle:
    return judge.LiveOracle(checks_of.load(number, COURSE.root))


@pytest.mark.parametrize("id", sorted({id for id, _ in TWINS}))
def test_library_passes_the_check(id):
    checks, exercise = checks_of.find_exercise(id, COURSE.root)
    defines = {}
    for _, dotted in (twin for twin in TWINS if twin[0] == id):
        module, _, name = dotted.rpartition(".")
        defines[name] = getattr(importlib.import_module(module), name)
    if not set(exercise.names) <= set(defines):
        pytest.skip("the library has this under another name")
    for seed in range(3):
        cases = exercise.make_cases(seed)
        outcomes = harness.run_cases(defines, exercise.names, cases, checks.module)
        result = judge.judge_exercise(exercise, oracle(exercise.lesson), cases, outcomes, seed)
        wrong = {c.name: str(c.finding) for c in result.cases if c.finding is not None}
        assert not wrong and result.points == exercise.out_of
