"""The parts of training: what the lessons' checks do not see, above all what goes wrong."""

import os
import resource
import signal

import pytest
import torch
from torch import nn

from undiffuse.schedules import cosine_alpha_bar
from undiffuse.training import (
    EMA,
    CheckpointError,
    augment,
    clip_and_report,
    load_checkpoint,
    lr_at,
    sample_times,
    sample_timesteps,
    save_checkpoint,
    train_step,
    validation_loss,
)

ALPHA_BAR = cosine_alpha_bar(torch.linspace(0, 1, 40, dtype=torch.float64))


class Tied(nn.Module):
    """Two names for one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight


class Plain(nn.Module):
    """A network of one convolution; ``fails`` makes it raise."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv, self.fails = nn.Conv2d(1, 1, 3, padding=1), fails

    def forward(self, x, t, cond=None):
        if self.fails:
            raise ValueError("no")
        return self.conv(x)


def parts(seed: int = 0, width: int = 4):
    torch.manual_seed(seed)
    model = nn.Linear(3, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, EMA(model), torch.Generator().manual_seed(seed)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


@pytest.mark.parametrize("stratified", [False, True])
def test_float32_rounding_never_gives_T(stratified, monkeypatch):
    """A draw just below 1 rounds up to the next part; the time must stay an index."""
    almost = 1 - 2**-24
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), almost))
    t = sample_timesteps(12, 1000, torch.Generator().manual_seed(0), stratified)
    assert int(t.max()) <= 999
    assert float(sample_times(12, torch.Generator().manual_seed(0)).max()) < 1


@pytest.mark.parametrize("batch, T", [(0, 5), (3, 0)])
def test_no_times_to_draw(batch, T):
    with pytest.raises(ValueError, match="at least 1"):
        sample_timesteps(batch, T)


def test_stratified_continuous_times_fill_every_part(generator):
    for _ in range(50):
        t = sample_times(16, generator).sort().values
        assert torch.equal((t * 16).long(), torch.arange(16))


def test_train_step_refuses_nan(generator):
    model = Plain()
    x = torch.full((2, 1, 4, 4), torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        train_step(model, torch.optim.SGD(model.parameters(), 0.1), x, ALPHA_BAR, generator)


def test_tied_weights_are_averaged_under_every_name():
    model = Tied()
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.one.weight.add_(1.0)
    ema.update(model)
    assert torch.equal(ema.shadow["one.weight"], ema.shadow["two.weight"])
    assert not torch.equal(ema.shadow["one.weight"], model.one.weight)
    ema.copy_to(model)
    assert torch.equal(model.one.weight, ema.shadow["one.weight"])


@pytest.mark.parametrize("decay", [1.0, -0.1, 2])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay"):
        EMA(nn.Linear(1, 1), decay)


def test_rates_of_runs_that_are_too_short():
    assert lr_at(0, 10, 5, 1.0) == 0.1
    assert lr_at(10, 10, 10, 1.0, 0.2) == 1.0
    assert lr_at(11, 10, 10, 1.0, 0.2) == pytest.approx(0.2)


@pytest.mark.parametrize("training", [False, True])
def test_validation_restores_the_mode_after_an_error(training):
    model = Plain(fails=True).train(training)
    with pytest.raises(ValueError, match="no"):
        validation_loss(model, torch.zeros(12, 1, 4, 4), ALPHA_BAR)
    assert model.training == training


def test_validation_needs_a_sample_for_each_bin():
    with pytest.raises(ValueError, match="9 samples cannot fill 10 bins"):
        validation_loss(Plain(), torch.zeros(9, 1, 4, 4), ALPHA_BAR)


def test_validation_does_not_depend_on_the_batch():
    data = torch.randn(23, 1, 4, 4, dtype=torch.float64)
    model = Plain().double()
    one, two = (validation_loss(model, data, ALPHA_BAR, 4, batch=b) for b in (2, 100))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


def test_clipping_nothing():
    assert clip_and_report([], 1.0) == 0.0


def test_augment_wants_images():
    with pytest.raises(ValueError, match="B, C, H, W"):
        augment(torch.zeros(3, 1, 9))


# Checkpoints --------------------------------------------------------------------------------------


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load_checkpoint(tmp_path / "none.pt", *parts())


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(90)])
def test_damaged_checkpoint(tmp_path, content):
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is no checkpoint or is damaged"):
        load_checkpoint(path, *parts())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_checkpoint(tmp_path, share):
    path = tmp_path / "state.pt"
    save_checkpoint(path, *parts(), 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, *parts())


@pytest.mark.parametrize("foreign", [{"model": {}}, [1, 2], {"a": 1}, nn.Linear(2, 2).state_dict()])
def test_foreign_checkpoint(tmp_path, foreign):
    path = tmp_path / "state.pt"
    torch.save(foreign, path)
    with pytest.raises(CheckpointError, match="no training checkpoint: it lacks"):
        load_checkpoint(path, *parts())


def test_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "state.pt"
    save_checkpoint(path, *parts(width=5), 3)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_checkpoint(path, *parts(width=4))


def test_checkpoint_without_the_average_that_is_asked_for(tmp_path):
    path = tmp_path / "state.pt"
    model, optimizer, _, generator = parts()
    save_checkpoint(path, model, optimizer, None, generator, 3)
    with pytest.raises(CheckpointError, match="no averaged weights"):
        load_checkpoint(path, *parts())


def test_checkpoint_that_would_run_code(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "state.pt"
    save_checkpoint(path, *parts(), 3, harm=Harm())
    with pytest.raises(CheckpointError):
        load_checkpoint(path, *parts())
    assert not (tmp_path / "ran").exists()


def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    """A limit on the size of files stands in for a full disk: writing fails half way."""
    path = tmp_path / "state.pt"
    model, optimizer, ema, generator = parts()
    save_checkpoint(path, model, optimizer, ema, generator, 3)
    kept, size = weights(model), path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(OSError, match="the one before is untouched"):
            save_checkpoint(path, model, optimizer, ema, generator, 4, more=torch.zeros(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["state.pt"]
    other = parts(seed=1)
    assert load_checkpoint(path, *other)[0] == 3
    assert torch.equal(weights(other[0]), kept)


def test_interrupted_write_leaves_nothing_behind(tmp_path):
    class Interrupts:
        def __reduce__(self):
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    save_checkpoint(path, *parts(), 3)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, *parts(), 4, more=Interrupts())
    assert os.listdir(tmp_path) == ["state.pt"]
    assert load_checkpoint(path, *parts())[0] == 3


def test_checkpoint_brings_back_the_generators(tmp_path):
    path = tmp_path / "state.pt"
    model, optimizer, ema, generator = parts()
    save_checkpoint(path, model, optimizer, ema, generator, 3, note="x")
    wanted = torch.rand(3, generator=generator), torch.rand(3)
    other = parts(seed=7)
    assert load_checkpoint(path, *other) == (3, {"note": "x"})
    assert torch.equal(torch.rand(3, generator=other[3]), wanted[0])
    assert torch.equal(torch.rand(3), wanted[1])
