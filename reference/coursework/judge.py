"""Compares what came out with what should have, and names the mistake.

First every case is judged; then, if one failed, the outcomes are held against those that each
misconception gives on the same inputs. A match names the mistake. Otherwise a generic finding
says what can be seen from outside: shape, dtype, NaN, scaled, shifted, one sample right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from coursework.exercise import Answers, Case, Checks, Exercise, Tol
from coursework.harness import Outcome, run_cases
from coursework.results import CaseResult, ExerciseResult, Finding
from coursework.wire import Opaque

DEFAULT_TOL = {
    torch.float64: 1e-9,
    torch.float32: 2e-5,
    torch.complex128: 1e-9,
    torch.complex64: 2e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-2,
}


DEFAULT = Tol()


class LiveOracle:
    """Expected outcomes and those of misconceptions, made by running the answers; remembered."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self.memory: dict[tuple, list[Outcome]] = {}

    def _run(self, exercise: Exercise, label: str, defines: dict, cases: list[Case], seed: int):
        key = exercise.id, seed, label
        if key not in self.memory:
            full = self.checks.answers[exercise.id].complete(defines)
            self.memory[key] = run_cases(full, exercise.names, cases, self.checks.module)
        return self.memory[key]

    def expected(self, exercise: Exercise, cases: list[Case], seed: int) -> list[Outcome]:
        """What the reference gives on each case."""
        if not exercise.reference_needed:
            return [Outcome("ok") for _ in cases]
        outcomes = self._run(exercise, "reference", {}, cases, seed)
        for case, outcome in zip(cases, outcomes):
            if outcome.status != "ok":
                raise RuntimeError(
                    f"the reference of {exercise.id} fails on case {case.name!r} (seed {seed}): "
                    f"{outcome.error}: {outcome.message} {outcome.where}"
                )
        return outcomes

    def misconceptions(
        self, exercise: Exercise, cases: list[Case], seed: int
    ) -> Iterator[tuple[str, str, Any, list[Outcome] | None]]:
        """(name, explanation, detect, outcomes) of each, run only as the caller gets there."""
        for m in self.checks.answers[exercise.id].misconceptions:
            outcomes = None
            if m.detect is None:
                outcomes = self._run(exercise, f"misconception {m.name}", m.defines, cases, seed)
            yield m.name, m.says, m.detect, outcomes


def compare(
    got: Any, expected: Any, tol: Tol = DEFAULT, path: str = "", why: bool = True
) -> Finding | None:
    """None when equal within tolerance, else what differs. ``path`` names the place.

    why: False where only whether is asked; no pattern is looked for in tensors then.
    """
    at = f" at {path}" if path else ""
    if got is None and expected is not None:
        return Finding("none", f"the result{at} is None: is a return missing?")
    if isinstance(got, Opaque):
        return Finding("type", f"the result{at} is a {got.type}, where {_kind(expected)} is wanted")
    if isinstance(expected, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            return Finding("type", f"the result{at} is {_kind(got)}; a torch tensor is wanted")
        return _compare_tensors(got, expected, tol, at, why)
    if isinstance(expected, np.ndarray):
        if isinstance(got, torch.Tensor) and expected.ndim == 0:
            return Finding("type", f"the result{at} is a tensor; a plain number is wanted")
        if not isinstance(got, np.ndarray):
            if expected.ndim == 0 and isinstance(got, (int, float)):
                return compare(got, expected.item(), tol, path)
            return Finding("type", f"the result{at} is {_kind(got)}; a numpy array is wanted")
        got, expected = torch.from_numpy(got), torch.from_numpy(expected)
        return _compare_tensors(got, expected, tol, at, why)
    if isinstance(expected, bool) or expected is None:
        if isinstance(got, np.ndarray) and got.ndim == 0:
            got = got.item()
        if type(got) is not type(expected) or got != expected:
            return Finding("value", f"{_short(got)}{at}, where {_short(expected)} is wanted")
        return None
    if isinstance(expected, (int, float, complex)):
        return _compare_numbers(got, expected, tol, at)
    if isinstance(expected, str):
        if not isinstance(got, str) or got != expected:
            return Finding("value", f"{_short(got)}{at}, where {_short(expected)} is wanted")
        return None
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            return Finding("type", f"the result{at} is {_kind(got)}; {_kind(expected)} is wanted")
        if len(got) != len(expected):
            return Finding("length", f"{len(got)} items{at}, where {len(expected)} are wanted")
        for i, (g, e) in enumerate(zip(got, expected)):
            found = compare(g, e, tol, f"{path}[{i}]", why)
            if found:
                return found
        return None
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return Finding("type", f"the result{at} is {_kind(got)}; a dict is wanted")
        if set(got) != set(expected):
            lacks = sorted(map(str, set(expected) - set(got)))
            extra = sorted(map(str, set(got) - set(expected)))
            parts = [f"lacks {', '.join(lacks)}"] * bool(lacks)
            parts += [f"has {', '.join(extra)} too much"] * bool(extra)
            return Finding("keys", f"the dict{at} {' and '.join(parts)}")
        for k, e in expected.items():
            found = compare(got[k], e, tol, f"{path}[{k!r}]", why)
            if found:
                return found
        return None
    if got != expected:
        return Finding("value", f"{_short(got)}{at}, where {_short(expected)} is wanted")
    return None


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a torch tensor"
    if isinstance(value, np.ndarray):
        return "a numpy array" if value.ndim else "a numpy number"
    if isinstance(value, Opaque):
        return f"a {value.type}"
    return f"a {type(value).__name__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _compare_numbers(got: Any, expected: Any, tol: Tol, at: str) -> Finding | None:
    if isinstance(got, np.ndarray) and got.ndim == 0:
        got = got.item()
    if isinstance(got, torch.Tensor):
        return Finding("type", f"the result{at} is a tensor; a plain Python number is wanted")
    if isinstance(got, bool) or not isinstance(got, (int, float, complex)):
        return Finding("type", f"{_short(got)}{at} is {_kind(got)}; a number is wanted")
    if isinstance(expected, int) and not isinstance(got, int):
        return Finding("type", f"{got!r}{at} is a {type(got).__name__}; an int is wanted")
    if isinstance(got, complex) and not isinstance(expected, complex):
        return Finding("type", f"{_short(got)}{at} is complex; a real number is wanted")
    if isinstance(expected, float) and math.isnan(expected):
        return (
            None
            if isinstance(got, float) and math.isnan(got)
            else Finding("value", f"{got!r}{at}, where nan is wanted")
        )
    if got == expected:
        return None
    if isinstance(expected, int):
        return Finding("value", f"{got}{at}, where {expected} is wanted")
    rtol = 1e-6 if tol.rtol is None else tol.rtol
    atol = 1e-12 if tol.atol is None else tol.atol
    if abs(got - expected) <= atol * max(abs(expected), 1e-30) + rtol * abs(expected):
        return None
    times = f"{got / expected:.4g}" if expected and math.isfinite(got) else ""
    ratio = f", {times} times as much" if times not in ("", "1") else ""
    digits = 6 if f"{got:.6g}" != f"{expected:.6g}" else 12
    return Finding("value", f"{got:.{digits}g}{at}, where {expected:.{digits}g} is wanted{ratio}")


def _limits(expected: torch.Tensor, tol: Tol) -> tuple[float, float]:
    default = DEFAULT_TOL.get(expected.dtype, 0.0)
    rtol = default if tol.rtol is None else tol.rtol
    atol = default if tol.atol is None else tol.atol
    if expected.dtype == torch.bool:
        return 0.0, 0.0
    finite = expected[torch.isfinite(expected)].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    return rtol, atol * max(scale, 1e-30)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _close(got: torch.Tensor, expected: torch.Tensor, rtol: float, atol: float) -> torch.Tensor:
    return torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)


def _compare_tensors(
    got: torch.Tensor, expected: torch.Tensor, tol: Tol, at: str, why: bool = True
) -> Finding | None:
    if got.shape != expected.shape:
        return Finding(
            "shape", f"shape {tuple(got.shape)}{at}, where {tuple(expected.shape)} is wanted"
        )
    if got.dtype != expected.dtype:
        short = str(got.dtype).removeprefix("torch."), str(expected.dtype).removeprefix("torch.")
        return Finding("dtype", f"dtype {short[0]}{at}, where {short[1]} is wanted")
    if not expected.numel():
        return None
    rtol, atol = _limits(expected, tol)
    g, e = _wide(got), _wide(expected)
    ok = _close(g, e, rtol, atol)
    if bool(ok.all()):
        return None
    if not why:
        return Finding("value", f"values{at} are off")
    bad_nan = torch.isnan(g) & ~torch.isnan(e)
    if bool(bad_nan.any()):
        return Finding("nan", f"{int(bad_nan.sum())} of {g.numel()} values{at} are NaN")
    bad_inf = torch.isinf(g) & ~torch.isinf(e)
    if bool(bad_inf.any()):
        return Finding("inf", f"{int(bad_inf.sum())} of {g.numel()} values{at} are infinite")
    if not g.is_complex() and bool(torch.isfinite(e).all()):
        found = _pattern(g, e, rtol, atol, at)
        if found:
            return found
    error = torch.where(ok, torch.zeros_like(g.abs()), (g - e).abs())
    flat = int(error.reshape(-1).argmax())
    index = tuple(int(i) for i in np.unravel_index(flat, tuple(g.shape)))
    where = f"[{', '.join(map(str, index))}]" if index else ""
    share = f"{int((~ok).sum())} of {g.numel()} values{at} are off"
    return Finding(
        "value",
        f"{share}; the largest error is at {where or 'the number'}: {_item(got, index)}, where "
        f"{_item(expected, index)} is wanted",
    )


def _item(x: torch.Tensor, index: tuple[int, ...]) -> str:
    v = x[index].item()
    return f"{v:.6g}" if isinstance(v, float) else str(v)


def _pattern(g: torch.Tensor, e: torch.Tensor, rtol: float, atol: float, at: str):
    """A simple relation between wrong and right: scaled, moved, flipped, one sample right."""
    loose = max(rtol, 1e-6), max(atol, 1e-12)
    same = lambda a, b: bool(_close(a, b, *loose).all())  # noqa: E731
    n = e.numel()
    if n > 2:
        if same(-g, e):
            return Finding("sign", f"the values{at} have the wrong sign, and are else right")
        largest = float(e.abs().max())
        error = float((g - e).abs().max())
        if 0 < error < 1e-6 * largest:
            return Finding(
                "precision",
                f"the values{at} are nearly right: off by up to {error / largest:.0e} of the "
                "largest. Digits are lost, as where float32 is used on the way to float64",
            )
        power = float((e * e).sum())
        c = float((g * e).sum()) / power if power else 0.0
        if c and abs(c - 1) > 1e-9 and same(g / c, e):
            if f"{c:.5g}" == "1":
                says = f"the values{at} are all off by {c - 1:+.1g} of themselves: was something"
                return Finding("scaled", f"{says} rounded, to float32 say, on the way?")
            return Finding("scaled", f"the values{at} are {c:.5g} times what is wanted")
        d = float((g - e).mean())
        if d and same(g - d, e):
            return Finding("offset", f"the values{at} are right but for {d:+.5g} added to all")
    for axis in range(e.ndim):
        length = e.shape[axis]
        if length < 3:
            continue
        if same(g.flip(axis), e):
            return Finding("reversed", f"the values{at} are in reversed order along axis {axis}")
        for k in (1, -1):
            m = length - 1
            a = g.narrow(axis, max(k, 0), m)
            b = e.narrow(axis, max(-k, 0), m)
            if same(a, b) and float(b.std()) > 0:
                side = "late" if k == 1 else "early"
                return Finding("shifted", f"the values{at} come one place too {side} (axis {axis})")
    if e.ndim > 1 and e.shape[0] > 1:
        right = _close(g, e, *loose).flatten(1).all(1).nonzero().flatten().tolist()
        if right == [0]:
            return Finding("batch", f"only the first sample of {e.shape[0]} is right{at}")
        if 0 < len(right) < e.shape[0]:
            return Finding(
                "batch",
                f"{len(right)} of {e.shape[0]} samples are right{at}; the first wrong one is "
                f"number {next(i for i in range(e.shape[0]) if i not in right)}",
            )
    return None


def judge_case(exercise: Exercise, case: Case, got: Outcome, expected: Outcome) -> Finding | None:
    """None when the case passes, else the finding."""
    if got.status == "error":
        place = f" ({got.where})" if got.where else ""
        if got.error == "TypeError" and not got.where:
            return Finding("signature", f"the call does not fit: {got.message}")
        return Finding("error", f"{got.error}: {got.message}{place}")
    if got.status != "ok":
        return Finding(got.status, got.message or got.status)
    if exercise._judge:
        found = exercise._judge(case, got.value, expected.value)
        if isinstance(found, str):
            found = Finding("value", found)
    else:
        found = compare(got.value, expected.value, case.tol)
    if found is None and set(got.mutated) - set(expected.mutated):
        which = ", ".join(_argument(m) for m in got.mutated)
        return Finding("in place", f"the answer changes its input in place: {which}")
    return found


def linear_story(case: Case, got: Any, expected: Any) -> str:
    """What was mixed in what shares, when both are linear in the inputs; else ""."""
    if case.driver or not isinstance(got, torch.Tensor) or not isinstance(expected, torch.Tensor):
        return ""
    parts = {
        i + 1: _wide(a)
        for i, a in enumerate(case.args)
        if isinstance(a, torch.Tensor) and a.is_floating_point() and a.shape == expected.shape
    }
    if not parts or expected.ndim < 2 or expected[0].numel() < 4 * len(parts):
        return ""
    g, e = _wide(got), _wide(expected)
    row = int(torch.nan_to_num((g - e).abs().flatten(1).amax(1)).argmax())
    basis = torch.stack([p[row].reshape(-1) for p in parts.values()], 1)

    def weights(x: torch.Tensor) -> list[float] | None:
        target = x[row].reshape(-1)
        solved = torch.linalg.lstsq(basis, target).solution
        if not bool(torch.isclose(basis @ solved, target, rtol=1e-3, atol=1e-4).all()):
            return None
        return solved.tolist()

    mine, right = weights(g), weights(e)
    if mine is None or right is None:
        return ""

    def words(w: list[float]) -> str:
        return " + ".join(f"{c:.4g} x argument {i}" for i, c in zip(parts, w))

    return f". In sample {row} you give {words(mine)}; wanted is {words(right)}"


def _argument(name: str) -> str:
    return f"argument {int(name) + 1}" if name.isdigit() else name


def same_outcome(a: Outcome, b: Outcome, tol: Tol) -> bool:
    """Whether two outcomes are alike: status, value within tolerance, error type, mutations."""
    if a.status != b.status or set(a.mutated) != set(b.mutated):
        return False
    if a.status == "error":
        return a.error == b.error
    x, y = _python(a.value), _python(b.value)
    return a.status != "ok" or (type(x) is type(y) and compare(x, y, tol, why=False) is None)


def _python(value: Any) -> Any:
    """A numpy number as Python's, so that it makes no difference which of the two is wrong."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def diagnose(
    exercise: Exercise,
    oracle: Any,
    cases: list[Case],
    got: list[Outcome],
    expected: list[Outcome],
    passed: list[bool],
    seed: int,
) -> Finding | None:
    """The misconception that gives these outcomes, on all cases or on most of those that failed.

    A learner's mistake seldom comes alone (another dtype, one more slip), so where none fits
    everywhere, the one that gives most of the failing results is named, with that said.
    """
    failing = [i for i, ok in enumerate(passed) if not ok]
    # Right values (in another dtype, or with an input changed) speak for no mistake.
    odd = [i for i in failing if not _same_values(got[i], expected[i], cases[i].tol)]
    best: tuple[int, Finding | None] = (0, None)
    fits: list[tuple[set[int], Finding]] = []
    for name, says, detect, wrong in oracle.misconceptions(exercise, cases, seed):
        if detect is not None:
            if detect(got, expected, cases):
                return Finding("misconception", says, name)
            continue
        alike = [same_outcome(g, w, c.tol) for g, w, c in zip(got, wrong, cases)]
        if all(alike):
            return Finding("misconception", says, name)
        given = {
            i for i in odd if got[i].status == "ok" and _same_values(got[i], wrong[i], cases[i].tol)
        }
        hits = len(given)
        fits.append((given, Finding("misconception", says, name)))
        if hits > best[0]:
            best = hits, fits[-1][1]
        elif hits == best[0]:
            best = hits, None
    hits, found = best
    if found is None or 2 * hits <= len(odd):
        return _of_one_group(cases, got, odd, fits)
    few = f"{hits} of the {len(failing)} cases that fail" if hits < len(failing) else "every case"
    if hits == len(failing) and len(failing) < len(cases):
        few = "every case that fails"
    found.says += f" (In {few}, your values are what this mistake gives.)"
    return found


def _of_one_group(
    cases: list[Case], got: list[Outcome], failing: list[int], fits: list[tuple[set[int], Finding]]
) -> Finding | None:
    """The only mistake that gives all failing results of a group: an exercise of two functions may
    hold two mistakes. Groups whose results are a few numbers tell too little and are left out."""
    for group in dict.fromkeys(cases[i].group for i in failing):
        own = {i for i in failing if cases[i].group == group}
        tensors = [got[i].value for i in own if isinstance(got[i].value, torch.Tensor)]
        named = [found for given, found in fits if own <= given]
        if len(tensors) < len(own) or min(x.numel() for x in tensors) < 4 or len(named) != 1:
            continue
        named[0].says += f' (In "{group}", your values are what this mistake gives.)'
        return named[0]
    return None


def _same_values(a: Outcome, b: Outcome, tol: Tol) -> bool:
    """Like ``same_outcome`` for results, but the dtype of a tensor and side effects count not."""
    if b.status != "ok":
        return False
    x, y = _python(a.value), _python(b.value)
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.dtype != y.dtype:
        wider = torch.promote_types(x.dtype, y.dtype)
        narrow = x if x.dtype != wider else y
        tol = Tol(
            *(DEFAULT_TOL.get(narrow.dtype, 0.0) if t is None else t for t in (tol.rtol, tol.atol))
        )
        x, y = x.to(wider), y.to(wider)
    return type(x) is type(y) and compare(x, y, tol, why=False) is None


EXERCISE_STATUS = {"memory": "out of memory", "forbidden": "forbidden import"}


def judge_exercise(
    exercise: Exercise,
    oracle: Any,
    cases: list[Case],
    got: list[Outcome],
    seed: int,
    diagnosis: bool = True,
) -> ExerciseResult:
    """Points, the finding of each case, and the named mistake."""
    result = ExerciseResult(exercise.id, exercise.title, "failed", 0, exercise.out_of)
    result.groups = {g: (0, p) for g, p in exercise.points.items()}
    if all(o.status == "not attempted" for o in got):
        result.status = "not attempted"
        result.finding = Finding("not attempted", "not attempted yet")
        return result
    expected = oracle.expected(exercise, cases, seed)
    for case, g, e in zip(cases, got, expected):
        found = judge_case(exercise, case, g, e)
        result.cases.append(
            CaseResult(
                case.name,
                case.group,
                found is None,
                found,
                g.value,
                e.value,
                case.picture,
                g.stdout,
                g.seconds,
                case.hidden,
            )
        )
    result.seconds = sum(g.seconds for g in got)
    for group, points in exercise.points.items():
        if all(c.passed for c in result.cases if c.group == group):
            result.groups[group] = (points, points)
    result.points = sum(earned for earned, _ in result.groups.values())
    if result.points == result.out_of:
        result.status = "passed"
        return result
    passed = [c.passed for c in result.cases]
    common = {g.status for g in got}
    if len(common) == 1 and (only := common.pop()) not in ("ok", "error"):
        result.status = EXERCISE_STATUS.get(only, only)
    elif result.points:
        result.status = "partial"
    index = passed.index(False)
    first = result.cases[index].finding
    if first.kind in ("value", "batch") and not exercise._judge:
        story = linear_story(cases[index], got[index].value, expected[index].value)
        first = Finding(first.kind, first.says + story)
    result.finding = first
    if diagnosis and any(g.status in ("ok", "error") for g in got):
        named = diagnose(exercise, oracle, cases, got, expected, passed, seed)
        result.finding = named or first
    return result


__all__ = [
    "Answers",
    "CaseResult",
    "ExerciseResult",
    "Finding",
    "LiveOracle",
    "Outcome",
    "compare",
    "diagnose",
    "judge_case",
    "judge_exercise",
    "same_outcome",
]
