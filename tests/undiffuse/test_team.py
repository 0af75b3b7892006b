"""Several processes train as one: the same weights on each of them, and those of one alone."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_trainer import REFERENCE, TINY, images, weights

from undiffuse.team import Team, join
from undiffuse.trainer import train

# Dropout draws from torch's own generator in each process, so that it is left out here.
SHARED = replace(TINY, steps=12, network=TINY.network | {"dropout": 0.0}, batch=5)
# float32 sums in another order, through 12 steps of Adam; measured: 2e-7.
TOLERANCE = 1e-5


def test_alone():
    team = join("cpu")
    assert team == Team(0, 1, torch.device("cpu")) and team.leads
    assert team.sum_gradients([], 0.5) == 0.5 and team.most(1, 2.5) == (1, 2.5)


def test_shares_of_a_batch_are_disjoint_and_whole():
    batch = torch.arange(7)
    parts = [batch[Team(rank, 3).mine(7)] for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == batch.tolist()
    with pytest.raises(ValueError, match="batch of 2 cannot be shared by 3"):
        Team(0, 3).mine(2)


def test_more_processes_than_gpus(monkeypatch):
    for name, value in (("WORLD_SIZE", "3"), ("RANK", "2"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="this machine has 2: start at most 2 here"):
        join("cuda")


def launch(tmp_path: Path, processes: int) -> None:
    """Trains ``SHARED`` with so many processes; each leaves its weights."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys
            sys.path[:0] = [{str(REFERENCE)!r}, {str(Path(__file__).parent)!r}]
            import torch
            torch.set_num_threads(1)
            from test_team import SHARED, images, train
            from undiffuse import team
            calls = []
            out = {str(tmp_path)!r} + "/"
            run = train(SHARED, *images(), folder=out + "run", save_every=0.0,
                        on_step=lambda *a: calls.append(a))
            found = run.model.state_dict(), run.losses, len(calls)
            torch.save(found, out + os.environ["RANK"])
            team.leave()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={processes}", str(script)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_command_in_two_processes(tmp_path):
    """``course train`` by torchrun, in float64: the losses of one process with twice the batch."""
    recipe = tmp_path / "shared.toml"
    recipe.write_text(
        'n = 60\nsteps = 12\nbatch = 10\nprecision = "float64"\nschedule = "flow"\n'
        'prediction = "flow"\noptimizer = "muon"\nlr = 0.02\n'
        "[network]\nchannels = [8, 8]\npatch = 4\nclasses = 10\n"
    )
    command = ["-m", "coursework", "train", str(recipe), "--device", "cpu", "--plain"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join(filter(None, [str(REFERENCE), os.environ.get("PYTHONPATH")]))
    said = {}
    for name, before in (("alone", []), ("two", torchrun)):
        done = subprocess.run(
            [sys.executable, *before, *command, "--out", str(tmp_path / name)],
            capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        said[name] = done.stdout
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in said]
    losses = [torch.tensor(s["extra"]["losses"], dtype=torch.float64) for s in states]
    furthest = float((losses[0] - losses[1]).abs().max())
    print("largest difference of losses:", furthest)
    assert len(losses[0]) == 12 and furthest < 1e-4  # the bar; sums in another order give 1e-13
    assert furthest < 1e-10
    for one, other in zip(*(s["model"].values() for s in states)):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    assert "by 2 processes" in said["two"] and "processes" not in said["alone"]
    assert all("images a second on 1 thread of a CPU" in text for text in said.values())
    assert said["two"].count("images a second") == 1


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    launch(tmp_path, 2)
    (first, losses, calls), (second, others, silent) = (
        torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses == others and (calls, silent) == (SHARED.steps, 0)
    alone = train(SHARED, *images())
    found = torch.cat([v.flatten().double() for v in first.values()])
    print("largest difference:", float((found - weights(alone)).abs().max()))
    torch.testing.assert_close(found, weights(alone), rtol=0, atol=TOLERANCE)
    assert losses == pytest.approx(alone.losses, abs=TOLERANCE)
    assert (tmp_path / "run" / "state.pt").exists()
    assert not list((tmp_path / "run").glob(".*"))
    # What two processes began, one goes on with: it has nothing left to do.
    again = train(SHARED, *images(), folder=tmp_path / "run")
    assert torch.equal(weights(again), found)
    assert again.losses == losses
