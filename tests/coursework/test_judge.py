"""Findings say what is wrong; misconceptions are named; points go by group."""

import signal
import time
import types

import numpy as np
import pytest
import torch

from coursework import harness, judge
from coursework.exercise import Answers, Case, Checks, Exercise, ExerciseError, Lesson, Seed, Tol

RANDOM = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(3))


def kind(got, expected, tol=Tol()):  # noqa: B008
    found = judge.compare(got, expected, tol)
    return found and found.kind


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda x: x.clone(), None),
        (lambda x: x * (1 + 1e-6), None),
        (lambda x: -x, "sign"),
        (lambda x: x * 1.5, "scaled"),
        (lambda x: x + 0.25, "offset"),
        (lambda x: x.flip(2), "reversed"),
        (lambda x: torch.cat([x[:, :, :1], x[:, :, :-1]], 2), "shifted"),
        (lambda x: x.double(), "dtype"),
        (lambda x: x[:, :2], "shape"),
        (lambda x: x.numpy(), "type"),
        (lambda x: None, "none"),
        (lambda x: x * float("nan"), "nan"),
        (lambda x: x / 0, "inf"),
        (lambda x: torch.cat([x[:1], x[1:] ** 2]), "batch"),
        (lambda x: torch.where(x > 0, 0.0, x), "value"),
        (lambda x: [x], "type"),
    ],
)
def test_findings_on_tensors(change, expected):
    found = kind(change(RANDOM), RANDOM)
    assert found == expected or (expected == "inf" and found in ("inf", "nan"))


def test_a_single_wrong_element_is_found_and_placed():
    wrong = RANDOM.clone()
    wrong[2, 1, 4] += 0.01
    found = judge.compare(wrong, RANDOM)
    assert found is not None
    assert "[2, 1, 4]" in found.says or "number 2" in found.says


def test_a_difference_too_small_to_show_is_still_told():
    """No finding says "1 times what is wanted", or gives the same number twice."""
    wanted = RANDOM.double()
    said = judge.compare(wanted * (1 + 3e-8), wanted, Tol(1e-12, 1e-12)).says
    assert "3e-08 of the largest" in said and "Digits are lost" in said
    said = judge.compare(wanted * (1 + 3e-6), wanted, Tol(1e-12, 1e-12)).says
    assert "+3e-06 of themselves" in said and "rounded" in said
    said = judge.compare(1.0000002, 1.0, Tol(1e-9, 1e-9)).says
    assert said == "1.0000002, where 1 is wanted"
    assert "1.001 times as much" in judge.compare(1.001, 1.0).says


def test_an_error_comes_without_colours():
    assert harness.message_of(ValueError("\x1b[1mno\x1b[0m: " + "x" * 2000)) == "no: " + "x" * 996


def test_errors_that_cancel_in_a_sum_are_found():
    wrong = RANDOM.clone()
    wrong[0, 0, 0] += 1
    wrong[3, 2, 1] -= 1
    assert kind(wrong, RANDOM) is not None


@pytest.mark.parametrize(
    "got, expected, found",
    [
        (1.0, 1.0, None),
        (1.0 + 1e-9, 1.0, None),
        (1.1, 1.0, "value"),
        (np.float64(1.0), 1.0, None),
        (torch.tensor(1.0), 1.0, "type"),
        (True, 1, "type"),
        (1.0, 1, "type"),
        (2, 1, "value"),
        (1, True, "value"),
        (None, 1.0, "none"),
        ("a", "b", "value"),
        ([1, 2], [1, 2, 3], "length"),
        ((1, 2), [1, 2], None),
        ({"a": 1}, {"a": 1, "b": 2}, "keys"),
        ({"a": 1}, {"a": 2}, "value"),
        (float("nan"), float("nan"), None),
        (0.0, float("nan"), "value"),
    ],
)
def test_findings_on_plain_values(got, expected, found):
    assert kind(harness.plain(got), harness.plain(expected)) == found


def make_exercise(**more):
    ex = Exercise(
        id="77.1",
        title="Double",
        names=("double",),
        points={"small": 1, "large": 2},
        hints=("Think of two.", "Use a product."),
        **more,
    )

    @ex.cases
    def _(draw):
        yield Case("three", (draw.normal(3),), group="small")
        yield Case("many", (draw.normal(5, 7),), group="large")

    answers = Answers("77.1")

    @answers.reference
    def double(x):
        return 2 * x

    @answers.misconception("squared", "You square; twice is meant.")
    def double_squared(x):
        return x * x

    answers.misconceptions[-1].defines = {"double": double_squared}

    @answers.misconception("in-place", "You change the input.")
    def double_in_place(x):
        x *= 2
        return x

    answers.misconceptions[-1].defines = {"double": double_in_place}
    return Checks(Lesson("77"), {"77.1": ex}, {"77.1": answers}, None)


def run(function, checks=None):
    checks = checks or make_exercise()
    ex = checks.exercises["77.1"]
    cases = ex.make_cases(0)
    outcomes = harness.run_cases({"double": function} if function else {}, ex.names, cases, None)
    return judge.judge_exercise(ex, judge.LiveOracle(checks), cases, outcomes, 0)


def raises(error):
    def double(x):
        raise error

    return double


def test_points_by_group():
    assert run(lambda x: x + x).points == 3
    partly = run(lambda x: 2 * x if x.ndim == 1 else 3 * x)
    assert (partly.status, partly.points, partly.groups["small"]) == ("partial", 1, (1, 1))
    assert partly.finding.kind == "scaled"


def test_misconceptions_are_named():
    assert run(lambda x: x**2).finding.name == "squared"
    assert run(lambda x: x.mul_(2)).finding.name == "in-place"


def test_a_misconception_with_another_slip_is_still_named():
    found = run(lambda x: (x**2).double()).finding
    assert (found.kind, found.name) == ("misconception", "squared")


def twice_and_thrice():
    """An exercise of two functions, with a mistake for each."""
    ex = Exercise(id="77.2", title="Two", names=("double", "triple"), hints=("Think.", "Multiply."),
                  points={"double": 1, "triple": 1})  # fmt: skip

    @ex.cases
    def _(draw):
        for name in ex.names:
            yield Case(f"{name}, short", (draw.normal(4),), group=name, driver=f"call_{name}")
            yield Case(f"{name}, long", (draw.normal(9),), group=name, driver=f"call_{name}")

    answers = Answers("77.2")
    right = {"double": lambda x: 2 * x, "triple": lambda x: 3 * x}
    answers.reference_defines = right
    says = {"double": "You square.", "triple": "You cube."}
    wrong = {"double": lambda x: x**2, "triple": lambda x: x**3}
    for name in ex.names:
        answers.misconception(f"power in {name}", says[name], defines={**right, name: wrong[name]})
    drivers = types.SimpleNamespace(
        call_double=lambda answer, x: answer.double(x),
        call_triple=lambda answer, x: answer.triple(x),
    )
    return Checks(Lesson("77"), {"77.2": ex}, {"77.2": answers}, drivers)


@pytest.mark.parametrize(
    "double, triple, name, where",
    [
        (lambda x: x**2, lambda x: x**3, "power in double", "double"),
        (lambda x: x * 7 + x.abs(), lambda x: x**3, "power in triple", "triple"),
        (lambda x: x * 7 + x.abs(), lambda x: x * 8 + x.abs(), "", ""),
    ],
)
def test_two_mistakes_in_two_functions_are_named_by_group(double, triple, name, where):
    checks = twice_and_thrice()
    ex = checks.exercises["77.2"]
    cases = ex.make_cases(0)
    names = {"double": double, "triple": triple}
    outcomes = harness.run_cases(names, ex.names, cases, checks.module)
    found = judge.judge_exercise(ex, judge.LiveOracle(checks), cases, outcomes, 0).finding
    assert found.name == name
    assert (f'In "{where}"' in found.says) == bool(where)


def test_an_answer_that_switches_gradients_off_changes_no_other_case():
    seen = []

    def double(x):
        seen.append(torch.is_grad_enabled())
        torch.set_grad_enabled(False)
        return 2 * x

    assert run(double).points == 3
    assert seen == [True, True]
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert run(lambda x: x + x).points == 3
        assert not torch.is_grad_enabled()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no time limit without signals")
def test_a_time_out_names_the_limit_of_the_check_not_what_was_left_of_it():
    def double(x):
        time.sleep(0.15 if x.ndim == 1 else 5)
        return 2 * x

    checks = make_exercise()
    ex = checks.exercises["77.1"]
    outcomes = harness.run_cases({"double": double}, ex.names, ex.make_cases(0), None, 0.4)
    assert [o.status for o in outcomes] == ["ok", "timeout"]
    assert outcomes[1].message == "no result after 0.4 s, the time of the whole check"


def test_lost_digits_are_not_called_a_scale():
    exact = RANDOM.double()
    found = judge.compare((exact / 3).float().double(), exact / 3)
    assert found.kind == "precision"
    assert "1 times" not in found.says
    assert kind(exact * (1 + 1e-5), exact) == "scaled"


def test_right_values_of_another_dtype_are_named_after_no_misconception():
    """The values are also those of "in-place", which an answer in another dtype is not."""
    found = run(lambda x: (2 * x).double()).finding
    assert (found.kind, found.name) == ("dtype", "")


def test_in_place_change_alone_costs_points():
    def double(x):
        result = 2 * x
        x.zero_()
        return result

    assert run(double).finding.name == "in-place"
    checks = make_exercise()
    del checks.answers["77.1"].misconceptions[1]
    result = run(double, checks)
    assert (result.points, result.finding.kind) == (0, "in place")
    assert "argument 1" in result.finding.says


@pytest.mark.parametrize(
    "function, status, kind",
    [
        (raises(NotImplementedError("77.1")), "not attempted", "not attempted"),
        (raises(ValueError("bad")), "failed", "error"),
        (raises(SystemExit(0)), "failed", "error"),
        (lambda: 3, "failed", "signature"),
        (None, "missing", "missing"),
        (raises(MemoryError()), "out of memory", "memory"),
    ],
)
def test_statuses(function, status, kind):
    result = run(function)
    assert (result.status, result.finding.kind, result.points) == (status, kind, 0)


def test_an_endless_answer_times_out():
    def double(x):
        while True:
            pass

    checks = make_exercise()
    ex = checks.exercises["77.1"]
    cases = ex.make_cases(0)
    outcomes = harness.run_cases({"double": double}, ex.names, cases, None, limit=0.2)
    assert [o.status for o in outcomes] == ["timeout", "timeout"]


def test_an_error_names_the_learners_line():
    def double(x):
        return x @ torch.ones(999)

    found = run(double).finding
    assert found.kind == "error"
    assert "torch.ones(999)" in found.says


def test_linear_story_tells_the_shares():
    ex = Exercise("77.2", "Mix", ("mix",), {"main": 1}, ("h", "h"))
    ex.cases(lambda draw: [Case("one", (draw.normal(2, 40), draw.normal(2, 40)))])
    answers = Answers("77.2")
    answers.reference_defines["mix"] = lambda a, b: 0.6 * a + 0.8 * b
    checks = Checks(Lesson("77"), {"77.2": ex}, {"77.2": answers}, None)
    cases = ex.make_cases(0)
    got = harness.run_cases({"mix": lambda a, b: 0.6 * a - 0.8 * b}, ex.names, cases, None)
    result = judge.judge_exercise(ex, judge.LiveOracle(checks), cases, got, 0)
    assert "-0.8 x argument 2" in result.finding.says


def test_generators_are_made_anew_for_every_call():
    ex = Exercise("77.3", "Draw", ("draw",), {"main": 1}, ("h", "h"))
    ex.cases(lambda draw: [Case("a", (Seed(5),)), Case("b", (Seed(5),))])
    outcomes = harness.run_cases(
        {"draw": lambda g: torch.rand(3, generator=g)}, ex.names, ex.make_cases(0), None
    )
    assert torch.equal(outcomes[0].value, outcomes[1].value)


def test_global_random_state_is_left_alone():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    run(lambda x: 2 * x + 0 * torch.rand(1))
    assert torch.equal(before, torch.get_rng_state())


def test_ill_formed_exercises_are_refused():
    with pytest.raises(ExerciseError, match="must look like"):
        Exercise("2.x", "t", ("f",), {"a": 1}, ("h",))
    with pytest.raises(ExerciseError, match="hint"):
        Exercise("02.1", "t", ("f",), {"a": 1}, ("",))
    with pytest.raises(ExerciseError, match="points"):
        Exercise("02.1", "t", ("f",), {"a": 0}, ("h",))
    ex = Exercise("02.1", "t", ("f",), {"a": 1}, ("h",))
    ex.cases(lambda draw: [Case("x", (1,), group="b")])
    with pytest.raises(ExerciseError, match="groups"):
        ex.make_cases(0)
    ex.cases(lambda draw: [Case("x", (1,), group="a"), Case("x", (2,), group="a")])
    with pytest.raises(ExerciseError, match="repeat"):
        ex.make_cases(0)


def test_results_become_json():
    import json

    data = json.loads(json.dumps(run(lambda x: x**2).to_dict()))
    assert data["finding"]["name"] == "squared"
    assert data["groups"]["large"] == [0, 2]


def test_masks_are_compared():
    """Tensors of true and false: alike, one off, and in place of numbers."""
    mask = torch.tensor([True, False, True])
    assert kind(mask.clone(), mask) is None
    assert kind(torch.tensor([True, True, True]), mask) is not None
    assert kind(mask.long(), mask) == "dtype"
