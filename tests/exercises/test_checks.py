"""The checks are under test: for every exercise, what must pass passes and what must fail fails.

Seeds: three by default; COURSE_SEEDS=20 (``make test-full``) for the full tier. A lesson whose
checks, answers, solution and engine have not changed since they last passed is not run again
(``.course-cache``); COURSE_CACHE=off runs everything.
"""

from __future__ import annotations

import ast
import hashlib
import os
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

from coursework import checks as checks_of
from coursework import config, harness, judge, mutate, notebook

COURSE = config.find(Path(__file__).parent)
SEEDS = range(int(os.environ.get("COURSE_SEEDS", "3")))
EXERCISES = [e.id for n in checks_of.lessons(COURSE) for e in checks_of.load(n, COURSE.root)]
MUTANT_BAR = 0.95
NOTES = tomllib.loads((COURSE.checks / "checks_notes.toml").read_text(encoding="utf-8"))


def exercises_for_answers() -> list:
    """All exercises; those with answers that take long to grade are slow."""
    slow = set(NOTES.get("slow_answers", ()))
    assert slow <= set(EXERCISES)
    return [pytest.param(i, marks=[pytest.mark.slow] if i in slow else []) for i in EXERCISES]


@lru_cache
def oracle(number: str) -> judge.LiveOracle:
    return judge.LiveOracle(checks_of.load(number, COURSE.root))


def grade(id: str, defines: dict, seed: int, limit: float | None = None, diagnosis: bool = True):
    checks, exercise = checks_of.find_exercise(id, COURSE.root)
    cases = exercise.make_cases(seed)
    outcomes = harness.run_cases(defines, exercise.names, cases, checks.module, limit)
    return judge.judge_exercise(exercise, oracle(exercise.lesson), cases, outcomes, seed, diagnosis)


def seeds_for(id: str) -> range:
    """Exercises that train something get one seed in the quick tier, three in the full one."""
    _, exercise = checks_of.find_exercise(id, COURSE.root)
    return range(1 if len(SEEDS) <= 3 else 3) if exercise.slow else SEEDS


def solution_file(number: str) -> Path:
    found = sorted(COURSE.solutions.glob(f"{number}_*.py"))
    assert found, f"no solutions/{number}_*.py"
    return found[0]


@lru_cache
def solution_notebook(number: str):
    return notebook.read(solution_file(number))


def given_names(id: str) -> tuple[str, ...]:
    _, exercise = checks_of.find_exercise(id, COURSE.root)
    used = [checks_of.find_exercise(u, COURSE.root)[1] for u in exercise.uses]
    return tuple(n for u in used for n in u.names)


def given_things(id: str) -> dict:
    _, exercise = checks_of.find_exercise(id, COURSE.root)
    things: dict = {}
    for u in exercise.uses:
        checks, used = checks_of.find_exercise(u, COURSE.root)
        things.update({n: checks.answers[u].reference_defines[n] for n in used.names})
    return things


def solution_chunks(id: str) -> list[tuple[str, str]]:
    checks, exercise = checks_of.find_exercise(id, COURSE.root)
    found = notebook.extract(
        solution_notebook(exercise.lesson),
        exercise,
        COURSE.library,
        checks.lesson.provides,
        given_names(id),
    )
    assert found.status == "ok", f"{id}: {found.status}: {found.says}"
    return found.chunks


def run_source(chunks: list[tuple[str, str]], id: str) -> dict:
    names = {"__name__": "learner", **given_things(id)}
    for label, source in chunks:
        exec(compile(source, label, "exec"), names)
    return names


# --- the cache -----------------------------------------------------------------------------


@lru_cache
def fingerprint(number: str) -> str:
    files = [
        COURSE.checks / f"lesson_{number}.py",
        COURSE.checks / "answers" / f"lesson_{number}.py",
        COURSE.checks / "checks_notes.toml",
        solution_file(number),
        Path(__file__),
        *sorted((COURSE.root / "reference" / "coursework").glob("*.py")),
        *sorted((COURSE.root / "reference" / COURSE.library).rglob("*.py")),
        COURSE.root / "constraints.txt",
    ]
    digest = hashlib.sha256()
    for f in files:
        digest.update(f.read_bytes() if f.exists() else b"-")
    return digest.hexdigest()


class Remembered:
    """Knows whether this test passed before with the very same files, and what it printed."""

    def __init__(self, test: str) -> None:
        self.test = test
        self.mark: Path | None = None

    def __call__(self, id: str) -> bool:
        text = f"{self.test} {fingerprint(id.split('.')[0])} {len(SEEDS)}"
        self.mark = COURSE.root / ".course-cache" / hashlib.sha256(text.encode()).hexdigest()[:32]
        if os.environ.get("COURSE_CACHE") == "off" or not self.mark.exists():
            return False
        print(self.mark.read_text(encoding="utf-8"), end="")
        return True

    def passed(self, printed: str = "") -> None:
        """To be called as the last line of a test."""
        print(printed, end="")
        self.mark.parent.mkdir(exist_ok=True)
        self.mark.write_text(printed, encoding="utf-8")


@pytest.fixture
def unchanged(request) -> Remembered:
    return Remembered(request.node.name)


# --- every exercise ------------------------------------------------------------------------


@pytest.mark.parametrize("id", EXERCISES)
def test_is_well_formed(id):
    """Hints, points, the numbers of misconceptions and alternatives, and the same cases twice."""
    checks, exercise = checks_of.find_exercise(id, COURSE.root)
    answers = checks.answers[id]
    fewer = NOTES.get("fewer", {}).get(id, {})
    assert len(answers.misconceptions) >= fewer.get("misconceptions", 4)
    assert len(answers.alternatives) >= fewer.get("alternatives", 2)
    assert len(exercise.hints) >= 2
    first, again = exercise.make_cases(5), exercise.make_cases(5)
    encode = [harness.wire.encode([c.args, c.kwargs]) for c in first]
    assert encode == [harness.wire.encode([c.args, c.kwargs]) for c in again]
    other = [harness.wire.encode([c.args, c.kwargs]) for c in exercise.make_cases(6)]
    fixed = NOTES.get("fixed_cases", {}).get(id)
    assert fixed or encode != other, "cases do not change with the seed"


@pytest.mark.parametrize("number", checks_of.lessons(COURSE))
def test_checks_hold_no_answers(number):
    """What is loaded beside a learner's code neither imports the library nor the answers."""
    tree = ast.parse((COURSE.checks / f"lesson_{number}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not any(n.split(".")[0] == COURSE.library for n in names), ast.unparse(node)
            assert not any("answers" in n.split(".") for n in names), ast.unparse(node)


@pytest.mark.parametrize("id", EXERCISES)
def test_reference_and_solution_get_full_points(id, unchanged):
    if unchanged(id):
        return
    checks, _ = checks_of.find_exercise(id, COURSE.root)
    solved = run_source(solution_chunks(id), id)
    for seed in seeds_for(id):
        for label, defines in (
            ("reference", checks.answers[id].complete({})),
            ("solution", solved),
        ):
            result = grade(id, defines, seed)
            assert result.status == "passed", f"{label}, seed {seed}: {result.finding}"
    unchanged.passed()


@pytest.mark.parametrize("id", EXERCISES)
def test_stub_gets_nothing(id):
    _, exercise = checks_of.find_exercise(id, COURSE.root)

    def stub(*args, **kwargs):
        raise NotImplementedError(id)

    result = grade(id, {n: stub for n in exercise.names}, 0)
    assert (result.status, result.points) == ("not attempted", 0)


@pytest.mark.parametrize("id", exercises_for_answers())
def test_alternatives_get_full_points(id, unchanged):
    if unchanged(id):
        return
    checks, _ = checks_of.find_exercise(id, COURSE.root)
    answers = checks.answers[id]
    for seed in seeds_for(id):
        for name, defines in answers.alternatives.items():
            result = grade(id, answers.complete(defines), seed)
            assert result.status == "passed", f"{name}, seed {seed}: {result.finding}"
    unchanged.passed()


@pytest.mark.parametrize("id", exercises_for_answers())
def test_misconceptions_fail_under_their_own_name(id, unchanged):
    """Each loses points, is named, and no other misconception gives the same outcomes."""
    if unchanged(id):
        return
    checks, exercise = checks_of.find_exercise(id, COURSE.root)
    answers = checks.answers[id]
    for seed in seeds_for(id):
        cases = exercise.make_cases(seed)
        expected = oracle(exercise.lesson).expected(exercise, cases, seed)
        for m in answers.misconceptions:
            outcomes = harness.run_cases(
                answers.complete(m.defines), exercise.names, cases, checks.module
            )
            result = judge.judge_exercise(exercise, oracle(exercise.lesson), cases, outcomes, seed)
            where = f"{m.name}, seed {seed}"
            assert result.points < result.out_of, f"{where} gets full points"
            found = result.finding
            assert (found.kind, found.name) == ("misconception", m.name), (
                f"{where} is reported as {found.kind} {found.name}: {found.says}"
            )
            also = [
                name
                for name, _, detect, wrong in oracle(exercise.lesson).misconceptions(
                    exercise, cases, seed
                )
                if name != m.name
                and (
                    detect(outcomes, expected, cases)
                    if detect
                    else all(
                        judge.same_outcome(g, w, c.tol) for g, w, c in zip(outcomes, wrong, cases)
                    )
                )
            ]
            assert not also, f"{where} could also be {', '.join(also)}"
    unchanged.passed()


def surviving_mutants(id: str, limit: float = 3.0) -> tuple[int, list[str]]:
    """(number of mutants, keys of those that still get full points on two seeds)."""
    _, exercise = checks_of.find_exercise(id, COURSE.root)
    chunks = solution_chunks(id)
    total, survivors = 0, []
    for i, (label, source) in enumerate(chunks):
        defined = {getattr(n, "name", None) for n in ast.parse(source).body} & set(exercise.names)
        if not defined:
            continue
        for mutant in mutate.mutants(source):
            total += 1
            changed = [*chunks[:i], (label, mutant.source), *chunks[i + 1 :]]
            if survives(id, changed, max(limit, exercise.limit) if exercise.slow else limit):
                survivors.append(mutant.key)
    return total, survivors


def survives(id: str, chunks: list[tuple[str, str]], limit: float) -> bool:
    try:
        with harness.time_limit(limit):
            defines = run_source(chunks, id)
    except (Exception, harness.TimeLimit):
        return False
    return all(
        grade(id, defines, seed, limit, diagnosis=False).status == "passed" for seed in (0, 1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("id", EXERCISES)
def test_mutants_are_killed(id, unchanged, record_property):
    """At least 95 % of the machine's mistakes lose points; the rest are listed as equivalent."""
    if unchanged(id):
        return
    _, exercise = checks_of.find_exercise(id, COURSE.root)
    if exercise.slow:
        pytest.skip("trains a network: its mistakes are covered by named misconceptions")
    total, survivors = surviving_mutants(id)
    equivalent = NOTES.get("equivalent_mutants", {}).get(id, {})
    unexplained = [s for s in survivors if s not in equivalent]
    rate = 1 - len(survivors) / max(total, 1)
    record_property("mutants", total)
    record_property("kill_rate", round(rate, 4))
    lines = [f"{id}: {total} mutants, {total - len(survivors)} killed ({rate:.1%})"]
    lines += [f"   survives: {s}  [{equivalent.get(s, 'no reason listed')}]" for s in survivors]
    counted = total - (len(survivors) - len(unexplained))
    assert (counted - len(unexplained)) / max(counted, 1) >= MUTANT_BAR, unexplained
    assert not unexplained, "survivors without a reason in checks_notes.toml"
    unchanged.passed("\n" + "\n".join(lines) + "\n")


def test_mutation_machine_makes_known_mutants():
    """The machine itself: these mistakes must be among those it makes."""
    source = (
        "def f(x, n=3):\n    if n < 2:\n        return -x\n    return x.sum(dim=0) * 2 + x[1:]\n"
    )
    made = {m.source for m in mutate.mutants(source)}
    for wanted in ("n=4", "n <= 2", "return x\n", "x.sum()", "sum(dim=0) / 2", "x[:]", "x[2:]"):
        assert any(wanted in m for m in made), wanted
