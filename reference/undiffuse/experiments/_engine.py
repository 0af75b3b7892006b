"""Runs of an experiment: measured once each, kept, gone on with after a stop, and gathered.

A run that is finished is a JSON file, named by the hash of its settings and written whole or not at
all. So the folder *is* the progress: the same command goes on after Ctrl-C, a kill or a power cut,
several processes (also of several machines that share the folder) divide the work, and figures are
gathered when all files are there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from undiffuse._files import locked, replacing, write_json
from undiffuse.results import machine, plain, record, versions

BUDGETS = ("small", "full", "gpu")


class ExperimentError(ValueError):
    """An experiment is not written as it must be; the message says what is wanted."""


class RunsFailed(RuntimeError):
    """Some runs raised an error, which the message tells; the others are kept."""


@dataclass(frozen=True)
class Experiment:
    """What is run, what is measured of a run, and what the figures show.

    name: of the command, in lower case with hyphens. about: one line. claims: those that it
    measures. runs(budget) gives the runs, each a frozen dataclass of plain settings with an int
    ``seed``; budget is "small" (seconds to a minute: a trial), "full" (two CPU cores) or "gpu".
    measure(run) gives plain figures, and depends on the run alone, not on the time or on other
    runs. conclude(found), found: run -> figures, gives name of a result ("C4-digits") -> the
    arguments of ``results.record`` but claim and seeds: rows, verdict and more. figure(name,
    result), if there is one, gives (matplotlib figure, alternative text, caption), or None.
    version: raised when ``measure`` changes what it means, so that nothing old is taken for new.
    store: experiments of the same store share runs.
    """

    name: str
    about: str
    claims: tuple[str, ...]
    runs: Callable[[str], Sequence[Any]]
    measure: Callable[[Any], Mapping[str, Any]]
    conclude: Callable[[Mapping[Any, Mapping[str, Any]]], Mapping[str, Mapping[str, Any]]]
    figure: Callable[[str, Mapping[str, Any]], tuple[Any, str, str] | None] | None = None
    version: int = 1
    store: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").isalnum():
            raise ExperimentError(f"{self.name!r} is no name of letters, digits and hyphens")

    def list_runs(self, budget: str) -> list[Any]:
        """The runs of a budget, checked; ExperimentError for what is not as it must be."""
        if budget not in BUDGETS:
            raise ValueError(f"the budget is {' or '.join(BUDGETS)}, not {budget!r}")
        runs = list(self.runs(budget))
        keys = [key_of(run, self.version) for run in runs]
        if len(set(keys)) < len(keys):
            twice = next(r for r, k in zip(runs, keys) if keys.count(k) > 1)
            raise ExperimentError(f"{self.name} has a run twice: {twice}")
        for run in runs:
            if type(getattr(run, "seed", None)) is not int:
                raise ExperimentError(f"{self.name}: {run} has no seed (an int)")
        if not runs:
            raise ExperimentError(f"{self.name} has no runs with the budget {budget}")
        return runs

    def folder(self, root: str | os.PathLike) -> Path:
        """Where its runs are kept."""
        return Path(root) / (self.store or self.name)


def key_of(run: Any, version: int = 1) -> str:
    """16 hexadecimal digits that name the run: a hash of its kind, its settings and ``version``.

    Raises ExperimentError for a run that is no dataclass, or has settings that JSON cannot hold.
    """
    if not dataclasses.is_dataclass(run) or isinstance(run, type):
        raise ExperimentError(f"a run must be a dataclass of plain settings, got {run!r}")
    try:
        text = json.dumps([type(run).__name__, version, settings_of(run)], sort_keys=True,
                          allow_nan=False)  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"{run} has settings that are no plain data: {error}") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_of(run: Any) -> dict[str, Any]:
    """As JSON will give them back."""
    return json.loads(json.dumps(dataclasses.asdict(run), allow_nan=False))


def share(runs: Sequence[Any], job: int, of: int) -> list[Any]:
    """Every ``of``-th run, beginning with number ``job`` (from 1): one part of a job array."""
    if not 1 <= job <= of:
        raise ValueError(f"a job is I/N with I from 1 to N, got {job}/{of}")
    return list(runs[job - 1 :: of])


def kept_runs(runs: Sequence[Any], folder: Path | None, version: int = 1) -> dict[Any, dict]:
    """run -> what is kept of it, of those that are finished."""
    found = {}
    for run in runs:
        outcome = folder and _read(_path(folder, run, version), run)
        if outcome:
            found[run] = outcome
    return found


def finish(
    runs: Sequence[Any],
    measure: Callable[[Any], Mapping[str, Any]],
    *,
    folder: str | os.PathLike | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    version: int = 1,
    on_done: Callable[[Any, dict, int, int], None] | None = None,
) -> dict[Any, dict]:
    """Measures the runs that are not kept in ``folder`` yet; run -> outcome of all of them.

    An outcome is a dict: settings, figures (what ``measure`` gave), seconds, versions, machine.
    workers: processes, of one thread each; with one worker this process does the work, with one
    thread as well, so that figures do not depend on it. executor: what ``submit``s calls instead,
    such as a Dask client's; its workers need not see ``folder``. on_done(run, outcome, done, of) is
    called for each run that gets finished.

    Other processes may do the same at the same time: a run that one of them is at is left for
    last, and taken over if it dies. (Where the file system has no locks, a run may be measured
    twice, and the second file replaces the first one whole.) A run that raises an error does not
    stop the others; RunsFailed is raised in the end.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    folder = None if folder is None else Path(folder)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    outcomes = kept_runs(runs, folder, version)
    left = [run for run in runs if run not in outcomes]
    errors: dict[Any, Exception] = {}

    def done(run: Any, outcome: dict) -> None:
        outcomes[run] = outcome
        if on_done:
            on_done(run, outcome, len(outcomes), len(runs))

    def path(run: Any) -> Path | None:
        return None if folder is None else _path(folder, run, version)

    with _pool(workers, executor) as pool:
        for patient in (False, True):  # what others are at is waited for at the end only
            busy = []
            if pool is None:
                for run in left:
                    try:
                        outcome = _alone(measure, run, path(run), patient)
                    except Exception as error:
                        errors[run] = error
                        continue
                    done(run, outcome) if outcome else busy.append(run)
            else:
                remote = executor is not None
                waiting: dict[Future, Any] = {
                    pool.submit(_alone, measure, run, None if remote else path(run), patient): run
                    for run in left
                }
                for future in as_completed(waiting):
                    run = waiting[future]
                    try:
                        outcome = future.result()
                    except Exception as error:
                        errors[run] = error
                        continue
                    if outcome and remote and folder is not None:
                        write_json(path(run), outcome)
                    done(run, outcome) if outcome else busy.append(run)
            left = busy
    if errors:
        run, error = next(iter(errors.items()))
        raise RunsFailed(
            f"{len(errors)} of {len(runs)} runs failed (the others are kept). The first: {run}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return {run: outcomes[run] for run in runs}


def write_results(
    experiment: Experiment,
    outcomes: Mapping[Any, dict],
    budget: str,
    command: str,
    folder: str | os.PathLike | None = None,
) -> dict[str, dict[str, Any]]:
    """Concludes, shows each result as a table and, with ``folder``, writes NAME.json and NAME.png.

    folder: "" writes nothing; None leaves it to ``record``.

    Besides what ``results.record`` keeps: the command, how many runs there were, their seconds, and
    on which machines and with which versions they were measured, which may be others than the
    machine that gathers them.
    """
    seeds = sorted({run.seed for run in outcomes})
    found = experiment.conclude({run: o["figures"] for run, o in outcomes.items()})
    measured_on = []
    for outcome in outcomes.values():
        where = {"machine": outcome["machine"], "versions": outcome["versions"]}
        if where not in measured_on:
            measured_on.append(where)
    results = {}
    for name, said in found.items():
        result = record(
            name,
            seeds=seeds,
            size=budget,
            folder=folder,
            experiment=experiment.name,
            command=command,
            runs=len(outcomes),
            seconds=round(sum(o["seconds"] for o in outcomes.values()), 1),
            measured_on=measured_on,
            **said,
        )
        results[name] = result
        drawn = experiment.figure(name, result) if experiment.figure else None
        if drawn:
            _show(drawn, Path(folder) / f"{name}.png" if folder else None)
    return results


def _show(drawn: tuple[Any, str, str], path: Path | None) -> None:
    """Shows a figure where there is a notebook, and writes it."""
    from undiffuse.plots import base

    fig, alt, caption = drawn
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_bytes(base.png(fig))
    if base.notebook_kernel():
        base.show(fig, alt, caption)


# --- one run ---------------------------------------------------------------------------------


def _path(folder: Path, run: Any, version: int) -> Path:
    return folder / f"{key_of(run, version)}.json"


def _read(path: Path, run: Any) -> dict | None:
    """What a finished run left, or None; a file that is damaged counts as none, and is said."""
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        outcome = None
    if not isinstance(outcome, dict) or outcome.get("settings") != settings_of(run):
        warnings.warn(f"{path} does not hold the figures of {run}: measured again", stacklevel=2)
        return None
    return outcome


def _do(measure: Callable, run: Any, path: Path | None, patient: bool) -> dict | None:
    """Measures a run and keeps it in ``path``; None where another process is at it.

    patient: wait for the other one. If it finished, its figures are taken; if it died, the run is
    done here.
    """
    if path is None:
        return _measured(measure, run)
    with locked(path, patient) as mine:
        if not mine:
            return None
        outcome = _read(path, run)
        if outcome is None:
            outcome = _measured(measure, run)
            write_json(path, outcome)
        return outcome


def _measured(measure: Callable, run: Any) -> dict:
    start = time.monotonic()
    figures = plain(measure(run), "figures")
    return {
        "settings": settings_of(run),
        "figures": figures,
        "seconds": round(time.monotonic() - start, 2),
        "versions": versions(),
        "machine": machine(),
    }


# --- processes -------------------------------------------------------------------------------


@contextlib.contextmanager
def _pool(workers: int, executor: Executor | None) -> Iterator[Executor | None]:
    """What takes calls: ``executor``, new processes, or (None) this process itself."""
    if executor is not None or workers == 1:
        yield executor
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a new process: it ends when the one that started it has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process hears it, and ends this one
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _alone(measure: Callable, run: Any, path: Path | None, patient: bool) -> dict | None:
    """``_do`` with one thread, however many there are before and after."""
    torch = sys.modules.get("torch")
    if torch is None:  # it reads this when it is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        return _do(measure, run, path, patient)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _do(measure, run, path, patient)
    finally:
        torch.set_num_threads(before)
