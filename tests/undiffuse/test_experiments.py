"""Experiments: runs are kept and gone on with, processes divide them, figures become verdicts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import undiffuse.experiments.__main__ as command
from undiffuse import experiments
from undiffuse.experiments import compare, finish, key_of, separate, share, winner

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from experiment_for_tests import EXPERIMENT, Roll, measure  # noqa: E402

# --- the rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], "first"),
        ([1.3, 1.4, 1.5], [1.0, 1.1, 1.2], "second"),
        ([1.0, 1.1, 1.3], [1.3, 1.4, 1.5], None),  # they touch
        ([1.0, 1.1, 1.9], [1.3, 1.4, 1.5], None),  # they overlap, though the mean is lower
        ([1.0, 1.1], [5.0, 5.1, 5.2], None),  # two seeds, however far apart
        ([1.0, 1.1, 1.2], [9.0], None),
        ([1.00, 1.01, 1.02], [1.03, 1.04, 1.05], None),  # tidy, but 2.9 % apart: less than 5 %
        ([0.95, 0.95, 0.95], [1.0, 1.0, 1.0], "first"),  # exactly 5 % counts
        ([-3.0, -2.9, -2.8], [-1.0, -0.9, -0.8], "first"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], None),
        ([1.0, 1.1, 1.2, 1.0], [2.0, 2.1, 2.2], "first"),  # more seeds on one side
    ],
)
def test_separate_by_hand(first, second, wanted):
    assert separate(first, second) == wanted
    turned = {"first": "second", "second": "first", None: None}[wanted]
    assert separate(second, first) == turned
    higher = separate([-v for v in first], [-v for v in second], lower_is_better=False)
    assert higher == wanted


def test_how_far_apart_is_a_choice():
    assert separate([1.00, 1.01, 1.02], [1.03, 1.04, 1.05], least=0.0) == "first"
    assert separate([1.0, 1.0, 1.0], [1.3, 1.3, 1.3], least=0.5) is None


def test_chance_separates_as_often_as_the_docstring_says():
    """Without a difference, 2 n! m! / (n + m)!; 4,000 trials, seven standard errors: one false
    alarm in 10^11."""
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, 6, generator=g)
    hits = sum(separate(d[:3].tolist(), d[3:].tolist(), least=0.0) is not None for d in draws)
    p = 2 * math.factorial(3) ** 2 / math.factorial(6)
    assert abs(hits - 4000 * p) < 7 * math.sqrt(4000 * p * (1 - p))


def test_winner_must_beat_each_of_the_others():
    clear = {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.2], "c": [3.0, 3.1, 3.2]}
    assert winner(clear) == "a" and winner(clear, lower_is_better=False) == "c"
    assert winner(clear | {"d": [1.15, 1.2, 1.3]}) is None


def test_compare_says_what_is_not_separable():
    a, b = [1.0, 1.1, 1.2], [2.0, 2.1, 2.2]
    assert compare("x", a, "y", b) == (
        "x is better than y (FD 1.10 (1.00 to 1.20) against 2.10 (2.00 to 2.20))"
    )
    assert "x is worse than y" in compare("x", b, "y", a)
    assert compare("x", a, "y", a).endswith(": not separable at this size")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: separate([], [1.0, 2.0, 3.0]), "first has no figures"),
        (lambda: separate([1.0, 2.0, 3.0], [1.0, float("nan"), 2.0]), "second: figure 1 of 3"),
        (lambda: separate([1.0, None, 3.0], [1.0, 2.0, 2.0]), "first: figure 1 of 3"),
        (lambda: separate([1.0], [2.0], least=-1), "at least 0"),
        (lambda: winner({"a": [1.0]}), "two settings"),
    ],
)
def test_figures_that_cannot_be_compared(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- runs --------------------------------------------------------------------------------------


def test_keys_tell_settings_and_versions_apart():
    runs = [Roll(), Roll(seed=1), Roll("better"), Roll(hold=True)]
    keys = {key_of(r) for r in runs} | {key_of(Roll(), version=2)}
    assert len(keys) == 5 and key_of(Roll()) == key_of(Roll("plain", 0))

    @dataclass(frozen=True)
    class Other:
        way: str = "plain"
        seed: int = 0
        trace: str = ""
        hold: bool = False

    assert key_of(Other()) != key_of(Roll())
    assert all(len(k) == 16 and int(k, 16) >= 0 for k in keys)


@pytest.mark.parametrize("wrong", [{"seed": 0}, Roll, Roll(trace=object())])
def test_what_is_no_run_is_refused(wrong):
    with pytest.raises(experiments.ExperimentError):
        key_of(wrong)


def test_lists_are_checked():
    def with_runs(runs):
        return replace(EXPERIMENT, runs=lambda budget: runs)

    with pytest.raises(experiments.ExperimentError, match="a run twice"):
        with_runs([Roll(), Roll()]).list_runs("full")
    with pytest.raises(experiments.ExperimentError, match="no runs"):
        with_runs([]).list_runs("full")
    with pytest.raises(experiments.ExperimentError, match="no seed"):
        with_runs([Roll(seed=None)]).list_runs("full")
    with pytest.raises(ValueError, match="small or full or gpu"):
        EXPERIMENT.list_runs("tiny")


def calls(folder: Path) -> list[str]:
    """way-seed of every measurement that was begun."""
    return sorted("-".join(p.name.split("-")[:2]) for p in folder.glob("*-*"))


def rolls(trace: Path, n: int = 3, **more) -> list[Roll]:
    trace.mkdir(exist_ok=True)
    return [Roll(seed=s, trace=str(trace), **more) for s in range(n)]


def test_finished_runs_are_kept_and_not_measured_again(tmp_path):
    runs = rolls(tmp_path / "trace")
    seen = []
    first = finish(runs[:2], measure, folder=tmp_path / "kept", on_done=lambda *a: seen.append(a))
    both = finish(runs, measure, folder=tmp_path / "kept")
    assert calls(tmp_path / "trace") == ["plain-0", "plain-1", "plain-2"]
    assert list(both) == runs and both[runs[0]] == first[runs[0]]
    assert [(r, done, of) for r, _, done, of in seen] == [(runs[0], 1, 2), (runs[1], 2, 2)]
    files = {p.stem for p in (tmp_path / "kept").iterdir()}
    assert files == {key_of(r) for r in runs}  # no locks, no half-written files are left
    kept = json.loads((tmp_path / "kept" / f"{key_of(runs[1])}.json").read_text())
    assert kept["figures"] == {"fd": 5.1, "threads": 1, "odd": None}
    assert kept["settings"] == {"way": "plain", "seed": 1, "trace": runs[1].trace, "hold": False}
    assert kept["versions"]["torch"] == torch.__version__ and "cpus" in kept["machine"]


def test_another_version_is_measured_anew(tmp_path):
    runs = rolls(tmp_path / "trace", 1)
    finish(runs, measure, folder=tmp_path)
    finish(runs, measure, folder=tmp_path, version=2)
    assert calls(tmp_path / "trace") == ["plain-0", "plain-0"]


@pytest.mark.parametrize("content", ["", '{"settings": {"w', "[1]", '{"settings": {}}'])
def test_a_damaged_file_is_measured_again(tmp_path, content):
    (run,) = rolls(tmp_path / "trace", 1)
    path = tmp_path / f"{key_of(run)}.json"
    path.write_text(content)
    with pytest.warns(UserWarning, match="measured again"):
        found = finish([run], measure, folder=tmp_path)
    assert found[run]["figures"]["fd"] == 5.0
    assert json.loads(path.read_text()) == found[run]


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert finish([Roll()], measure)[Roll()]["figures"]["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_stops_its_own_run_only(tmp_path):
    runs = [Roll("broken"), Roll("better", 1), Roll("broken", 2)]
    with pytest.raises(experiments.RunsFailed, match=r"2 of 3 runs failed.*ZeroDivisionError"):
        finish(runs, measure, folder=tmp_path)
    assert list(experiments.kept_runs(runs, tmp_path)) == [runs[1]]


@pytest.mark.parametrize(("job", "of"), [(1, 3), (2, 3), (3, 3), (1, 1), (4, 9)])
def test_shares_of_a_job_array(job, of):
    assert share(list(range(7)), job, of) == [i for i in range(7) if i % of == job - 1]


def test_shares_outside_are_refused():
    for job, of in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(ValueError, match="I from 1 to N"):
            share([1], job, of)


def test_an_executor_need_not_see_the_folder(tmp_path):
    runs = rolls(tmp_path / "trace")
    with ThreadPoolExecutor(2) as executor:
        finish(runs, measure, folder=tmp_path / "kept", executor=executor)
    assert list(experiments.kept_runs(runs, tmp_path / "kept")) == runs


def test_runs_are_made_where_the_command_is_not(tmp_path, monkeypatch, capsys):
    """``python -m undiffuse.experiments``: its jobs together leave what the command then finds."""
    monkeypatch.setattr(command, "find", lambda name: EXPERIMENT)
    for job in ("1/2", "2/2"):
        assert command.main(["dice", "--job", job, "--keep", str(tmp_path)]) == 0
    assert "3 of 3" in capsys.readouterr().out
    runs = EXPERIMENT.list_runs("full")
    assert list(experiments.kept_runs(runs, EXPERIMENT.folder(tmp_path))) == runs


# --- several processes -------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from experiment_for_tests import Roll, measure
from undiffuse.experiments import finish

if __name__ == "__main__":
    trace, kept, hold, workers = sys.argv[1:]
    runs = [Roll(seed=s, trace=trace, hold=hold == "1" and s == 0) for s in range(3)]
    finish(runs, measure, folder=kept, workers=int(workers))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that measures three runs, the first of which may wait for a file ``go``."""
    (tmp_path / "trace").mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []

    def start(hold: bool, workers: int = 1) -> subprocess.Popen:
        arguments = [tmp_path / "trace", tmp_path / "kept", str(int(hold)), str(workers)]
        env = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, str(script), *map(str, arguments)], env=env)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_and_gone_on(start, tmp_path):
    """A kill in the midst of a run loses that run alone, and its lock."""
    process = start(hold=True)
    wait_for(lambda: calls(tmp_path / "trace"), "the first run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "kept").glob("*.json"))
    (tmp_path / "trace" / "go").touch()
    assert start(hold=True).wait(300) == 0
    assert calls(tmp_path / "trace") == ["plain-0", "plain-0", "plain-1", "plain-2"]
    assert sorted(p.suffix for p in (tmp_path / "kept").iterdir()) == [".json"] * 3


@pytest.mark.slow
def test_two_processes_divide_the_runs(start, tmp_path):
    """The second leaves the run that the first is at for last, and does not measure it."""
    first = start(hold=True)
    wait_for(lambda: calls(tmp_path / "trace"), "the first run")
    second = start(hold=True)
    wait_for(lambda: len(list((tmp_path / "kept").glob("*.json"))) == 2, "the other runs")
    assert first.poll() is None and second.poll() is None
    (tmp_path / "trace" / "go").touch()
    assert first.wait(300) == 0 and second.wait(300) == 0
    assert calls(tmp_path / "trace") == ["plain-0", "plain-1", "plain-2"]


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(start, tmp_path):
    process = start(hold=True, workers=2)
    wait_for(lambda: len(list((tmp_path / "kept").glob("*.json"))) == 2, "the other runs")
    worker = next((tmp_path / "trace").glob("plain-0-*")).name.split("-")[2]
    assert int(worker) != process.pid and _alive(int(worker))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not _alive(int(worker)), "the worker to end")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def course(capsys, monkeypatch):
    """Runs ``course`` with the experiment of the tests: (exit code, stdout, stderr)."""
    cli = pytest.importorskip("coursework.cli")
    module = types.SimpleNamespace(all=lambda: {EXPERIMENT.name: EXPERIMENT})
    monkeypatch.setattr(experiments, "all_experiments", module.all)

    def run(*arguments) -> tuple[int, str, str]:
        try:
            cli.main(["experiment", *map(str, arguments)])
            code = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def test_command_writes_result_and_figure(course, tmp_path):
    code, out, err = course("dice", "--keep", tmp_path / "kept", "--out", tmp_path / "out")
    assert code == 0, err
    assert "C99-dice: better is better" in out and "6 of 6 runs" in err
    result = json.loads((tmp_path / "out" / "C99-dice.json").read_text())
    assert result["command"] == "course experiment dice --budget full"
    assert result["seeds"] == [0, 1, 2] and result["budget"] == "full" and result["runs"] == 6
    assert result["measured_on"] == [{"machine": result["machine"], "versions": result["versions"]}]
    assert result["ways"]["better"] == [2.0, 2.1, 2.2]
    assert (tmp_path / "out" / "C99-dice.png").read_bytes().startswith(b"\x89PNG")
    from undiffuse.results import load_results

    assert load_results(tmp_path / "out")["C99-dice"] == result


def test_command_as_a_job_array(course, tmp_path):
    code, out, _ = course("dice", "--keep", tmp_path, "--job", "2/2")
    assert code == 0 and "job 2/2: 3 runs finished; 3 of 6 are kept" in out
    assert not (tmp_path / "dice" / "results").exists()
    _, out, _ = course("--list", "--keep", tmp_path)
    assert "dice" in out and "3/6" in out and "nothing but a test" in out
    code, out, _ = course("dice", "--keep", tmp_path, "--job", "1/2")
    assert code == 0 and "better is better" in out  # the last job has them all
    assert (tmp_path / "dice" / "results" / "C99-dice.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dise"], "did you mean dice"),
        (["dice", "--budget", "huge"], "the budget is small or full or gpu"),
        (["dice", "--job", "3/2"], "I from 1 to N"),
        (["dice", "--job", "two"], "--job is I/N"),
        (["dice", "--list"], "leave the name out"),
        (["dice", "--scheduler", "tcp://nowhere"], "pip install distributed"),
    ],
)
def test_command_refuses_and_says_why(course, monkeypatch, tmp_path, arguments, says):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = course(*arguments, "--keep", tmp_path)
    assert code == 2 and says in " ".join(err.split())


def test_small_figures_do_not_get_among_the_results(course, tmp_path):
    from undiffuse import data

    place = data.folder() / "results"
    code, _, err = course("dice", "--budget", "small", "--keep", tmp_path, "--out", place)
    assert code == 2 and "mean nothing" in err
    assert not (place / "C99-dice.json").exists()


def test_command_gives_the_runs_to_a_dask_cluster(course, monkeypatch, tmp_path):
    asked = []

    class Client:
        """As much of ``distributed.Client`` as is used."""

        def __init__(self, address, timeout):
            asked.append(address)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            asked.append("closed")

        def get_executor(self, pure, retries):
            assert pure is False  # else two runs with equal arguments would be one
            return ThreadPoolExecutor(2)

    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(Client=Client))
    code, out, err = course("dice", "--keep", tmp_path, "--scheduler", "tcp://there:8786")
    assert code == 0 and "better is better" in out, err
    assert asked == ["tcp://there:8786", "closed"]


def test_every_experiment_of_the_course_has_three_seeds():
    found = experiments.all_experiments()
    for name, one in found.items():
        assert one.name == name and one.about and one.claims
        for budget in ("full", "gpu"):
            runs = one.list_runs(budget)
            apart = {}
            for run in runs:
                apart.setdefault(str(replace(run, seed=0)), set()).add(run.seed)
            assert all(len(seeds) >= 3 for seeds in apart.values()), name
        assert len(one.list_runs("small")) <= len(one.list_runs("full"))
    with pytest.raises(ValueError, match="there is no experiment 'nothing-like-it'"):
        experiments.find("nothing-like-it")
