"""Runs a learner's answer on cases and reports what came out, as plain data.

This is the only part of the package, with ``exercise`` and ``wire``, that is loaded beside a
learner's code while grading: it knows cases and drivers, and no answer. The same function runs
the reference and the misconceptions on the judge's side, so that both are treated alike.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import io
import os
import random
import re
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from coursework import wire
from coursework.exercise import Case, Given, Seed

STDOUT_LIMIT = 4000
HERE = os.path.dirname(os.path.abspath(__file__)).replace(os.sep, "/")
DRIVERS = re.compile(r"/lesson_\d\d\.py$")
GIVEN_PRELUDE = """import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

"""


@dataclass
class Outcome:
    """What one case gave.

    status: ok, error, not attempted, missing, timeout, memory, crashed, forbidden, invalid.
    value: plain data (see ``wire``). error: the exception's type; message: its text; where: the
    learner's line that raised it, or "" when the call itself did not fit. mutated: which
    arguments were changed in place. stdout: what was printed, cut.
    """

    status: str
    value: Any = None
    error: str = ""
    message: str = ""
    where: str = ""
    mutated: tuple[str, ...] = ()
    stdout: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict:
        """As plain data for ``wire``."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: Any) -> Outcome:
        """The inverse; anything odd in ``data`` (it comes from a learner's process) is refused."""
        if not isinstance(data, dict):
            raise wire.WireError(f"an outcome must be a dict, not {type(data).__name__}")
        texts = {k: str(data.get(k, ""))[:STDOUT_LIMIT] for k in ("error", "message", "where")}
        seconds = data.get("seconds", 0.0)
        return cls(
            status=str(data.get("status", "invalid"))[:40],
            value=data.get("value"),
            mutated=tuple(str(m)[:80] for m in data.get("mutated", ())),
            stdout=str(data.get("stdout", ""))[:STDOUT_LIMIT],
            seconds=float(seconds) if isinstance(seconds, (int, float)) else 0.0,
            **texts,
        )


class TimeLimit(BaseException):
    """Raised in the learner's code when a check has used its seconds."""


class CappedText(io.StringIO):
    """Keeps the first ``STDOUT_LIMIT`` characters and swallows the rest."""

    def write(self, text: str) -> int:
        room = STDOUT_LIMIT - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


def plain(value: Any) -> Any:
    """``value`` as it would arrive in another process."""
    return wire.decode(wire.encode(value))


def materialise(value: Any, module: Any) -> Any:
    """A fresh copy of ``value`` with ``Seed`` and ``Given`` replaced by what they stand for."""
    if isinstance(value, Seed):
        import torch

        return torch.Generator().manual_seed(value.value)
    if isinstance(value, Given):
        maker = getattr(module, value.name)
        kwargs = {k: materialise(v, module) for k, v in value.kwargs.items()}
        return maker(*(materialise(v, module) for v in value.args), **kwargs)
    if isinstance(value, (list, tuple)):
        return type(value)(materialise(v, module) for v in value)
    if isinstance(value, dict):
        return {k: materialise(v, module) for k, v in value.items()}
    if hasattr(value, "clone"):
        return value.clone()
    return copy.copy(value)


def _fingerprint(value: Any) -> bytes | None:
    if type(value).__name__ == "Generator" or (callable(value) and not hasattr(value, "shape")):
        return None
    try:
        return wire.encode(value)
    except Exception:
        return None


@contextlib.contextmanager
def fixed_global_seeds() -> Iterator[None]:
    """Global random states set to 0 inside and gradients recorded, both put back outside.

    Gradients too, since an answer may switch them off and forget it, and a time limit may strike
    between the two ends of a ``no_grad``: the next case, and the notebook, would go without.
    """
    import numpy as np
    import torch

    recorded = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    # Not torch.manual_seed: for devices that are not in use it keeps a formatted stack each time.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_grad_enabled(recorded)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raises ``TimeLimit`` after ``seconds``, where signals allow it (POSIX, main thread)."""
    usable = (
        seconds
        and hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def learner_line(error: BaseException) -> str:
    """The innermost line of the learner's own code in a traceback, as "line 3: text"."""
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        name = frame.filename.replace("\\", "/")
        library = "site-packages" in name or "/lib/python" in name or name.startswith("<frozen")
        if library or name.startswith(HERE) or DRIVERS.search(name):
            continue
        text = (frame.line or "").strip()
        place = f"{frame.filename}, " if frame.filename.startswith("<") else ""
        found = f"{place}line {frame.lineno} of {frame.name}" + (f": {text}" if text else "")
    return found


def run_case(
    answer: types.SimpleNamespace,
    names: tuple[str, ...],
    case: Case,
    module: Any,
    limit: float | None = None,
) -> Outcome:
    """One case: arguments made fresh, the call (or the driver), and the outcome as plain data."""
    printed = CappedText()
    start = time.perf_counter()

    def done(status: str, **rest: Any) -> Outcome:
        seconds = time.perf_counter() - start
        return Outcome(status, stdout=printed.getvalue(), seconds=seconds, **rest)

    try:
        with fixed_global_seeds():
            args = [materialise(a, module) for a in case.args]
            kwargs = {k: materialise(v, module) for k, v in case.kwargs.items()}
            named = [(str(i), a) for i, a in enumerate(args)] + list(kwargs.items())
            before = {n: _fingerprint(a) for n, a in named if n not in map(str, case.mutates)}
            with contextlib.redirect_stdout(printed), time_limit(limit):
                if case.driver:
                    value = getattr(module, case.driver)(answer, *args, **kwargs)
                else:
                    value = getattr(answer, names[0])(*args, **kwargs)
            changed = tuple(
                n for n, a in named if before.get(n) is not None and _fingerprint(a) != before[n]
            )
            return done("ok", value=plain(value), mutated=changed)
    except KeyboardInterrupt:
        raise
    except NotImplementedError as error:
        return done("not attempted", error="NotImplementedError", message=str(error)[:500])
    except TimeLimit:
        return done("timeout", message=f"no result after {limit:g} s")
    except MemoryError as error:
        return done("memory", error="MemoryError", message=str(error)[:500])
    except BaseException as error:
        text = message_of(error)
        if "can't allocate memory" in text or "not enough memory" in text:
            return done("memory", error=type(error).__name__, message=text)
        return done("error", error=type(error).__name__, message=text, where=learner_line(error))


def message_of(error: BaseException) -> str:
    """An error's message without the colours of a terminal, and not without end."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))[:1000]


def run_cases(
    defines: dict[str, Any],
    names: tuple[str, ...],
    cases: list[Case],
    module: Any,
    limit: float | None = None,
) -> list[Outcome]:
    """Every case on the objects in ``defines``; ``limit`` is for all of them together."""
    missing = [n for n in names if n not in defines]
    if missing:
        text = f"{', '.join(missing)} is not defined"
        return [Outcome("missing", error="NameError", message=text) for _ in cases]
    answer = types.SimpleNamespace(**{n: defines[n] for n in names})
    left, outcomes = limit, []
    for case in cases:
        if left is not None and left <= 0:
            outcomes.append(Outcome("timeout", message=f"the check's {limit:g} s were used up"))
            continue
        outcomes.append(run_case(answer, names, case, module, left))
        if outcomes[-1].status == "timeout":
            outcomes[-1].message = f"no result after {limit:g} s, the time of the whole check"
        if left is not None:
            left -= outcomes[-1].seconds
    return outcomes


def case_to_data(case: Case) -> dict:
    """A case as plain data for a learner's process: what to call, and nothing to compare."""
    return {
        "name": case.name,
        "args": case.args,
        "kwargs": case.kwargs,
        "driver": case.driver,
        "mutates": tuple(map(str, case.mutates)),
    }


def execute(
    chunks: list[tuple[str, str]], given: str = ""
) -> tuple[dict[str, Any], Outcome | None]:
    """Runs a learner's source in a new ``__main__``; (its names, what went wrong or None).

    chunks: (label, source) in order, the label standing for a file name in tracebacks. given:
    source of correct answers to earlier exercises; the chunks then lack the learner's.
    """
    import linecache

    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    parts = [("<given>", GIVEN_PRELUDE + given), *chunks] if given else chunks
    for label, source in parts:
        linecache.cache[label] = (len(source), None, source.splitlines(True), label)
        try:
            exec(compile(source, label, "exec", dont_inherit=True), module.__dict__)
        except KeyboardInterrupt:
            raise
        except SyntaxError as error:
            where = f"{label}, line {error.lineno}: {(error.text or '').strip()}"
            return {}, Outcome("error", error="SyntaxError", message=error.msg, where=where)
        except MemoryError as error:
            return {}, Outcome("memory", error="MemoryError", message=str(error)[:500])
        except BaseException as error:
            return {}, Outcome(
                "error",
                error=type(error).__name__,
                message=message_of(error),
                where=learner_line(error) or label,
            )
    return module.__dict__, None


def serve(request: dict, module: Any) -> dict:
    """One exercise of one submission, in the learner's process.

    request: names, chunks [(label, source)], given, cases (see ``case_to_data``), limit.
    module: the checks module, for drivers and ``Given``. Returns {"outcomes": [...]} to encode.
    """
    cases = [
        Case(
            name=c["name"],
            args=tuple(c["args"]),
            kwargs=c["kwargs"],
            driver=c["driver"],
            mutates=c["mutates"],
        )
        for c in request["cases"]
    ]
    printed = CappedText()
    with contextlib.redirect_stdout(printed):
        names, problem = execute([tuple(c) for c in request["chunks"]], request.get("given", ""))
    if problem:
        problem.stdout = printed.getvalue()
        outcomes = [problem] * len(cases)
    else:
        outcomes = run_cases(names, tuple(request["names"]), cases, module, request.get("limit"))
    return {"outcomes": [o.to_dict() for o in outcomes], "stdout": printed.getvalue()}
