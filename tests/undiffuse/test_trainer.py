"""Runs: gone on with to the bit whatever stopped them, and stopped with a reason."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from undiffuse import trainer
from undiffuse.recipes import Recipe
from undiffuse.trainer import Diverged, check_data, denoising_loss, train
from undiffuse.training import CheckpointError
from undiffuse.unet import UNet

REFERENCE = Path(trainer.__file__).parents[1]
TINY = Recipe(
    name="tiny",
    network={"channels": [8], "patch": 4, "classes": 3, "dropout": 0.1},
    steps=60,
    batch=4,
    warmup=5,
    ema=0.9,
    shift=1,
    flip=True,
)

WATCHED = replace(TINY, validate_every=10, sample_every=5)


def images(n: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, 1, 8, 8, generator=g) * 2 - 1, torch.arange(n) % 3


def weights(run_or_model) -> torch.Tensor:
    model = getattr(run_or_model, "model", run_or_model)
    return torch.cat([v.detach().flatten().double() for v in model.state_dict().values()])


@pytest.fixture(scope="module")
def straight() -> trainer.Run:
    """The run that nothing stopped."""
    return train(TINY, *images())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are added in another order by another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_same_seed_same_run(straight):
    again = train(TINY, *images())
    assert torch.equal(weights(again), weights(straight))
    assert again.losses == straight.losses and again.steps == TINY.steps
    other = train(replace(TINY, seed=1), *images())
    assert not torch.equal(weights(other), weights(straight))


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 7, 33, 59])
def test_stopped_by_an_error_and_gone_on(tmp_path, straight, after):
    def fail(step, *_):
        if step == after:
            raise Stop

    with pytest.raises(Stop):
        train(TINY, *images(), folder=tmp_path, save_every=0.0, on_step=fail)
    run = train(TINY, *images(), folder=tmp_path)
    assert torch.equal(weights(run), weights(straight))
    assert run.losses == straight.losses


def test_ctrl_c_finishes_the_step_and_saves(tmp_path, straight):
    def interrupt(step, *_):
        if step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(TINY, *images(), folder=tmp_path, save_every=math.inf, on_step=interrupt)
    assert torch.load(tmp_path / "state.pt")["step"] == 10
    run = train(TINY, *images(), folder=tmp_path)
    assert torch.equal(weights(run), weights(straight))


def test_ctrl_c_in_the_middle_of_a_step(tmp_path, straight):
    """Signals at moments that nobody chose, most of them inside a step."""
    stops = 0
    for delay in (0.02, 0.05, 0.08, 0.11):
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        try:  # on a busy machine the signal may come before the training does
            timer.start()
            train(TINY, *images(), folder=tmp_path)
            timer.join()
        except KeyboardInterrupt:
            stops += 1
        finally:
            timer.cancel()
    run = train(TINY, *images(), folder=tmp_path)
    assert torch.equal(weights(run), weights(straight)), f"after {stops} stops"


def test_sigint_means_afterwards_what_it_meant_before():
    before = signal.getsignal(signal.SIGINT)
    train(replace(TINY, steps=2), *images())
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread(straight):
    made = []
    thread = threading.Thread(target=lambda: made.append(train(TINY, *images())))
    thread.start()
    thread.join()
    assert made[0].steps == TINY.steps


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path, one_thread):
    """kill -9, which no program can prepare for: the weights are those of a run without a break.

    The run is watched all the while, and the one without a break is not.
    """
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path[:0] = [{str(REFERENCE)!r}, {str(Path(__file__).parent)!r}]
            import torch
            torch.set_num_threads(1)
            from test_trainer import WATCHED, images
            from undiffuse.trainer import train
            def slow(step, *_):
                print(step, flush=True)
                time.sleep(0.01)
            train(WATCHED, *images(), folder=sys.argv[1], save_every=0.0, on_step=slow,
                  validation=images(12))
            print("done", flush=True)
            """
        )
    )
    chance, folder, reached = random.Random(0), tmp_path / "run", []
    folder.mkdir()
    for life in range(11):
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline().strip().isdigit()  # the first step of this life is made
        if life < 10:
            time.sleep(chance.uniform(0.0, 0.2))
            process.kill()
        rest, _ = process.communicate()
        state = folder / "state.pt"
        reached.append(torch.load(state, weights_only=True)["step"] if state.exists() else 0)
    assert rest.endswith("done\n")
    print("steps on disk after each life:", reached)
    assert reached == sorted(reached) and len(set(reached)) > 5
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == TINY.steps
    run = train(WATCHED, *images(), folder=folder, validation=images(12))
    straight = train(TINY, *images())
    assert torch.equal(weights(run), weights(straight)) and run.losses == straight.losses
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [25, 50]
    looked = [line["step"] for line in lines if "validation" in line]
    assert looked == [step for step, _ in run.validation] == list(range(10, 61, 10))
    assert len(list(folder.glob("samples-*.png"))) == 12


def test_how_a_run_is_watched_may_change(tmp_path):
    train(replace(TINY, steps=3), *images(), folder=tmp_path)
    run = train(replace(WATCHED, steps=3), *images(), folder=tmp_path, validation=images(12))
    assert [step for step, _ in run.validation] == [3]


def test_a_state_of_an_older_version_lacks_entries(tmp_path):
    """Entries that came later have their defaults."""
    train(replace(TINY, steps=3), *images(), folder=tmp_path)
    state = torch.load(tmp_path / "state.pt")
    told = json.loads(state["extra"]["recipe"])
    for entry in ("precision", "validate_every", "sample_every"):
        told.pop(entry)
    state["extra"]["recipe"] = json.dumps(told)
    torch.save(state, tmp_path / "state.pt")
    assert train(replace(TINY, steps=3), *images(), folder=tmp_path).steps == 3


def test_another_recipe_in_the_folder(tmp_path):
    short = replace(TINY, steps=3)
    train(short, *images(), folder=tmp_path)
    with pytest.raises(ValueError, match="made by another recipe"):
        train(replace(short, lr=1e-4), *images(), folder=tmp_path)


def test_checkpoint_of_another_program(tmp_path):
    torch.save({"weights": 1}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="lacks"):
        train(TINY, *images(), folder=tmp_path)


# Bad data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, labels, says",
    [
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), "the set is empty"),
        (torch.full((9, 1, 8, 8), 0.3), torch.zeros(9, dtype=torch.int64), "nothing to learn"),
        (torch.zeros(9, 1, 8, 8, dtype=torch.uint8), None, "float"),
        (torch.zeros(9, 8), None, "float"),
        (images()[0], None, "labels"),
        (images()[0], torch.zeros(4, dtype=torch.int64), "labels"),
        (images()[0], torch.full((10,), 3), "labels must be 0 to 2, got 3 to 3"),
        (images()[0], torch.full((10,), -1), "labels must be 0 to 2"),
        (images()[0], torch.zeros(10), "labels must be int64"),
        (torch.arange(9.0)[:, None, None, None].expand(9, 1, 8, 8), None, "nothing to learn"),
    ],
)
def test_data_that_nothing_can_be_learned_from(x, labels, says):
    with pytest.raises(ValueError, match=says):
        train(TINY, x, labels)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad):
    x, labels = images()
    x[3, 0, 2, 2] = bad
    with pytest.raises(ValueError, match="1 of 10 samples hold NaN or infinite values"):
        train(TINY, x, labels)


def test_some_blank_samples_are_told():
    x, labels = images()
    x[2:4] = -1.0
    with pytest.warns(UserWarning, match="2 of 10 samples hold one value everywhere"):
        check_data(x, labels, 3)


def test_batch_larger_than_the_set():
    with pytest.raises(ValueError, match="batch of 4 is larger than the set of 3: lower batch"):
        train(TINY, *images(3))


def test_good_data_pass():
    check_data(*images(), 3)
    check_data(torch.randn(3, 1, 50), None, None)


# Runs that go wrong, or are timed -----------------------------------------------------------------


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    x, labels = images()

    def spoil(step, of, loss, model):
        if step == 30:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    with pytest.raises(Diverged, match=r"at step 30; the last good state is .*state.pt") as error:
        train(TINY, x, labels, folder=tmp_path, save_every=math.inf, on_step=spoil)
    assert "lower lr than 0.001" in str(error.value)
    assert torch.load(tmp_path / "state.pt")["step"] == trainer.PACE_STEPS
    run = error.value.run
    assert run.steps == 30 and torch.isfinite(weights(run)).all()


def test_learning_rate_that_diverges(tmp_path):
    """The loss stays finite for long; the run must not go on for hours all the same."""
    recipe = replace(TINY, steps=3000, lr=0.99, warmup=0, clip=0.0)
    x, labels = images()

    def blow_up(step, of, loss, model):
        with torch.no_grad():
            for p in model.conv_out.parameters():
                p.add_(1.0)

    with pytest.raises(Diverged, match="has been above") as error:
        train(recipe, x, labels, folder=tmp_path, on_step=blow_up)
    assert error.value.run.steps < 600
    state = torch.load(tmp_path / "state.pt") if (tmp_path / "state.pt").exists() else None
    if state:
        assert max(state["extra"]["losses"][-1:]) < trainer.TOO_HIGH * state["extra"]["losses"][0]


def test_precision():
    """bfloat16 is for the network's products; weights and averages stay float32."""
    run = train(replace(TINY, steps=5, precision="bfloat16"), *images())
    exact = train(replace(TINY, steps=5, precision="float32"), *images())
    assert {v.dtype for v in run.model.state_dict().values()} == {torch.float32}
    assert run.losses != exact.losses and run.losses == pytest.approx(exact.losses, rel=0.05)
    auto = train(replace(TINY, steps=5), *images())
    assert auto.losses == exact.losses


PLAIN = replace(TINY, network=TINY.network | {"dropout": 0.0}, steps=12, batch=7)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_is_the_same_step(parts):
    """In float64, where nothing is left but the order of sums; 7 does not divide by 2 or 3."""
    exact = replace(PLAIN, precision="float64")
    whole, apart = train(exact, *images()), train(replace(exact, accumulate=parts), *images())
    assert apart.losses == pytest.approx(whole.losses, rel=1e-10)
    torch.testing.assert_close(weights(apart), weights(whole), rtol=1e-8, atol=1e-10)
    assert {v.dtype for v in whole.model.state_dict().values()} == {torch.float64}


def test_parts_go_through_the_network_one_by_one(monkeypatch):
    seen = []
    forward = UNet.forward

    def counted(self, x, t, cond=None):
        seen.append(len(x))
        return forward(self, x, t, cond)

    monkeypatch.setattr(UNet, "forward", counted)
    train(replace(PLAIN, steps=2, accumulate=3), *images())
    assert seen == [3, 3, 1] * 2


def test_a_run_may_go_on_in_other_parts(tmp_path):
    train(replace(PLAIN, accumulate=2), *images(), folder=tmp_path)
    assert train(PLAIN, *images(), folder=tmp_path).steps == PLAIN.steps
    with pytest.raises(ValueError, match="batch of 7 cannot be shared by 1 processes in 8 parts"):
        train(replace(PLAIN, accumulate=8), *images())


def test_float64_is_watched_like_others(tmp_path):
    recipe = replace(PLAIN, precision="float64", steps=4, validate_every=2, sample_every=4)
    run = train(recipe, *images(), folder=tmp_path, validation=images(20))
    plain = train(replace(recipe, precision="float32"), *images(), validation=images(20))
    assert [s for s, _ in run.validation] == [2, 4] and list(tmp_path.glob("samples-*.png"))
    for (_, a), (_, b) in zip(run.validation, plain.validation):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.parametrize("network", [TINY.network, {"design": "dit", "dim": 8, "depth": 1,
                                                    "heads": 2, "classes": 3}])  # fmt: skip
def test_flow_is_one_more_schedule_and_prediction(network):
    """Trained by the same loop: the loss falls, and times come from where the recipe says."""
    recipe = replace(
        PLAIN, schedule="flow", prediction="flow", times="logit-normal", network=network,
        steps=150, lr=5e-3, shift=0, flip=False,
    )  # fmt: skip
    x, labels = images()
    x[:, :, :4], x[:, :, 4:] = 0.9, -0.9  # unlike noise, so that there is something to learn
    run = train(recipe, x, labels)
    assert sum(run.losses[-20:]) < 0.8 * sum(run.losses[:20])
    uniform = train(replace(recipe, times="uniform", steps=5), x, labels)
    assert uniform.losses != run.losses[:5]


def test_speed_is_told():
    run = train(replace(PLAIN, steps=5), *images())
    assert trainer.samples_per_second(run) == pytest.approx(5 * 7 / run.seconds)
    assert trainer.facts(run)["samples_per_second"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu(tmp_path):
    """The same in bfloat16 as on the CPU, nearly; stopped and gone on, to the bit."""
    straight = train(TINY, *images(), device="cuda")
    exact = train(replace(TINY, network=TINY.network | {"dropout": 0.0}, steps=5), *images())
    close = train(exact.recipe, *images(), device="cuda")
    assert close.losses == pytest.approx(exact.losses, rel=0.05)

    def fail(step, *_):
        if step == 33:
            raise Stop

    with pytest.raises(Stop):
        train(TINY, *images(), folder=tmp_path, save_every=0.0, on_step=fail, device="cuda")
    run = train(TINY, *images(), folder=tmp_path, device="cuda")
    assert torch.equal(weights(run).cpu(), weights(straight).cpu())


def test_time_budget():
    start = time.monotonic()
    seen = []
    run = train(
        replace(TINY, seconds=2.0, steps=10**6),
        *images(),
        on_step=lambda step, of, *_: seen.append(of),
    )
    assert 1.0 < time.monotonic() - start < 20
    assert 1.0 < run.seconds < 4.0 or run.steps <= trainer.PACE_STEPS
    assert run.steps == len(run.losses) and run.steps > 1
    assert seen[-1] <= run.steps + trainer.PACE_STEPS or run.steps <= trainer.PACE_STEPS


def test_log(tmp_path):
    run = train(TINY, *images(), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [25, 50]
    assert lines[1]["loss"] == pytest.approx(sum(run.losses[25:50]) / 25)
    assert set(lines[0]) == {"step", "loss", "norm", "lr", "seconds"}


def test_sound_trains_by_the_same_loop():
    g = torch.Generator().manual_seed(0)
    recipe = replace(TINY, network={"channels": [8], "patch": 2}, steps=3, shift=0, flip=False)
    run = train(recipe, torch.randn(6, 1, 21, generator=g))
    assert run.steps == 3 and all(map(math.isfinite, run.losses))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_min_snr_weighs_the_error_of_x0(prediction):
    """Whatever the network predicts, the weighted loss is min(SNR, 5) times the error of x0."""
    from undiffuse.prediction import convert
    from undiffuse.schedules import cosine_schedule

    schedule, g = cosine_schedule(), torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 1, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)

    def model(x_t, t, cond):
        return 0.3 * x_t

    loss = denoising_loss(
        model, schedule, x0, t, noise, None, prediction, weight="min-snr", reduce=False
    )
    x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * noise
    x0_hat = convert(prediction, "x0", 0.3 * x_t, x_t, alpha, sigma)
    wanted = (alpha / sigma).square().clamp(max=5) * (x0_hat - x0).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=0)
