"""A recipe's scale: the network knows data times that, and nobody else notices."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer import TINY, images, weights

from undiffuse import checkpoints, draw, recipes, trainer
from undiffuse.audio_files import read_audio
from undiffuse.checkpoints import Checkpoint
from undiffuse.recipes import Recipe, RecipeError
from undiffuse.sampling import SOLVERS, sample
from undiffuse.unet import UNet

SOUND = Recipe(
    name="beep",
    data="drums",
    network={"channels": [8], "patch": 2, "classes": 3},
    steps=12,
    batch=4,
    warmup=2,
    ema=0.9,
    shift=3,
    gain=6.0,
    polarity=True,
    scale=4.0,
)


def clips(n: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 32, generator=g) - 0.5, torch.arange(n) % 3


@pytest.mark.parametrize("value", [0, -4.0, "four", True, math.inf, math.nan, None])
def test_scales_that_are_none(value):
    with pytest.raises(RecipeError, match="scale = "):
        recipes.from_dict({"name": "a", "scale": value})


def test_a_recipe_without_it_means_1_as_before():
    old = Recipe(name="a").to_dict()
    del old["scale"]
    assert recipes.from_dict(old) == Recipe(name="a", scale=1.0)
    assert Recipe(name="a", scale=2) != Recipe(name="a")
    assert recipes.load("drums").scale == 4.0 and recipes.load("digits").scale == 1.0


def test_the_network_learns_louder_data():
    """Scale 4 is training on data times 4, to the bit: 4 is a power of two, and nothing rounds."""
    x, labels = clips()
    held = clips(seed=1)
    watched = replace(SOUND, validate_every=6)
    scaled = trainer.train(watched, x, labels, validation=held)
    by_hand = trainer.train(
        replace(watched, scale=1.0), 4 * x, labels, validation=(4 * held[0], held[1])
    )
    assert scaled.losses == by_hand.losses and torch.equal(weights(scaled), weights(by_hand))
    assert scaled.validation == by_hand.validation and len(scaled.validation) == 2
    plain = trainer.train(replace(SOUND, scale=1.0), x, labels)
    assert plain.losses != scaled.losses


def test_images_are_moved_before_they_are_scaled():
    """What comes in from outside of an image is -1 of the image, not of the scaled one."""
    run = trainer.train(replace(TINY, scale=2.0, steps=3), *images())
    g = trainer.train(replace(TINY, scale=2.0, steps=3, shift=0), *images())
    assert run.losses != g.losses
    black = -torch.ones(8, 1, 8, 8)
    black[0, 0, 0, 0] = 1.0  # not blank all together
    seen = []

    class Watch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x, t, cond=None):
            seen.append((x.detach(), t))
            return self.weight * x

    recipe = Recipe(name="a", network={}, steps=1, batch=8, shift=2, scale=0.5, prediction="v")
    with pytest.warns(UserWarning, match="hold one value"):
        trainer.train(recipe, black, torch.arange(8), model=Watch())
    x_t, t = seen[0]
    schedule = recipe.make_schedule()
    alpha, sigma = (f(t.double()).reshape(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
    clean = sigma < 0.2  # black is -0.5 there: one of -1 would be five deviations away
    assert clean.any()
    assert ((x_t - alpha * -0.5)[clean.flatten()] > -5 * sigma[clean.flatten()].amax()).all()


@pytest.mark.parametrize("after", [2, 7])
def test_gone_on_to_the_bit(tmp_path, after):
    def fail(step, *_):
        if step == after:
            raise RuntimeError("stop")

    straight = trainer.train(SOUND, *clips())
    with pytest.raises(RuntimeError, match="stop"):
        trainer.train(SOUND, *clips(), folder=tmp_path, save_every=0.0, on_step=fail)
    with pytest.raises(ValueError, match="another recipe"):
        trainer.train(replace(SOUND, scale=2.0), *clips(), folder=tmp_path)
    run = trainer.train(SOUND, *clips(), folder=tmp_path)
    assert torch.equal(weights(run), weights(straight)) and run.losses == straight.losses


def test_a_state_from_before_there_were_scales_goes_on(tmp_path):
    recipe = replace(SOUND, scale=1.0)
    trainer.train(recipe, *clips(), folder=tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    old = json.loads(state["extra"]["recipe"])
    assert old.pop("scale") == 1.0
    state["extra"]["recipe"] = json.dumps(old)
    torch.save(state, tmp_path / "state.pt")
    assert trainer.train(recipe, *clips(), folder=tmp_path).steps == SOUND.steps


def test_round_trip(tmp_path):
    model = SOUND.make_network((1, 32))
    path = checkpoints.save(tmp_path / "a.safetensors", model, SOUND, (1, 32))
    found = checkpoints.load(path)
    assert found.scale == found.recipe.scale == 4.0 and found.recipe == SOUND
    assert checkpoints.load("digits").scale == 1.0


class Knows(torch.nn.Module):
    """Is sure that the data are ``level``, in its own scaled range."""

    def __init__(self, level: float, schedule) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(()))
        self.level, self.schedule = level, schedule

    def forward(self, x, t, cond=None):
        t = torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return (alpha * x - self.level) / sigma  # v, as x0 = alpha x - sigma v


def knows(level: float, scale: float) -> Checkpoint:
    recipe = Recipe(name="a", data="drums", scale=scale)
    schedule = recipe.make_schedule()
    return Checkpoint("a", Knows(scale * level, schedule), schedule, recipe, (1, 50))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [4.0, 0.3])
def test_what_is_drawn_is_divided_again(solver, scale):
    quiet, _ = draw.draw(knows(0.4, scale), 2, calls=8, solver=solver)
    torch.testing.assert_close(quiet, torch.full((2, 1, 50), 0.4), rtol=1e-3, atol=0)
    loud, _ = draw.draw(knows(-1.7, scale), 2, calls=8, solver=solver)
    assert torch.equal(loud, -torch.ones(2, 1, 50))
    free, _ = draw.draw(knows(-1.7, scale), 2, calls=8, solver=solver, clip=None)
    torch.testing.assert_close(free, torch.full((2, 1, 50), -1.7), rtol=1e-3, atol=0)


def network(**options) -> UNet:
    """Untrained, but with random numbers where a network starts at zero."""
    torch.manual_seed(0)
    model = UNet(in_channels=1, dims=1, channels=[8], patch=4, **options)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_drawn_as_by_hand():
    recipe = Recipe(name="a", data="drums", network={"channels": [8], "patch": 4}, scale=4.0)
    found = Checkpoint("a", network(), recipe.make_schedule(), recipe, (1, 64))
    x, _ = draw.draw(found, 5, calls=4, seed=3, batch=2)
    by_hand = sample(
        found.model, found.schedule, (5, 1, 64), kind="v", calls=4, clip=(-4.0, 4.0),
        generator=draw.generators(3, 0, 5),
    ) / 4  # fmt: skip
    torch.testing.assert_close(x, by_hand, rtol=1e-4, atol=1e-5)
    assert x.abs().max() <= 1


@pytest.mark.parametrize("model", ["random", "zero"])
def test_written_sound_is_within_full_scale(tmp_path, model):
    """An untrained network is far louder than data: what is written is bounded all the same."""
    cli = pytest.importorskip("coursework.cli")
    options = {"channels": [8], "patch": 4, "classes": 8}
    recipe = Recipe(name="own", data="drums", network=options, scale=4.0)
    made = network(classes=8) if model == "random" else recipe.make_network((1, 64))
    with torch.no_grad():
        made.conv_out.weight.mul_(100.0)
    path = checkpoints.save(tmp_path / "own.safetensors", made, recipe, (1, 64))
    command = ["sample", path, "--count", 4, "--calls", 2, "--wav", tmp_path / "wav"]
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in [*command, "--out", tmp_path / "a.npz"]])
    assert not end.value.code
    with np.load(tmp_path / "a.npz") as found:
        audio = found["audio"]
    assert audio.shape == (4, 64) and np.abs(audio).max() <= 1
    assert np.abs(audio).max() >= (1 if model == "random" else 1e-3)
    for i, clip in enumerate(audio):
        again, rate = read_audio(tmp_path / "wav" / f"00{i}-{i}.wav")
        assert rate == 16000 and np.abs(again - clip).max() <= 1.5 / 2**15


def test_samples_shown_while_training_are_as_loud_as_data(tmp_path, monkeypatch):
    """They go by ``draw.draw``, so that what is shown lies in [-1, 1]."""
    from undiffuse import watch

    seen = []
    monkeypatch.setattr(watch, "_waves", lambda x: seen.append(x))
    monkeypatch.setattr(watch, "_save", lambda figure, path: None)
    trainer.train(replace(SOUND, sample_every=12), *clips(), folder=tmp_path)
    assert seen
    for x in seen:
        assert x.shape == (20, 32) and 1e-3 < np.abs(x).max() <= 1


def test_a_vocoder_draws_nothing_by_itself():
    with pytest.raises(RecipeError, match="sample_every: fsdd-vocoder has no samples"):
        Recipe(name="a", data="fsdd-vocoder", sample_every=5)
    recipe = Recipe(name="a", data="fsdd-vocoder")
    found = Checkpoint("a", torch.nn.Identity(), recipe.make_schedule(), recipe, (1, 64))
    with pytest.raises(ValueError, match="a turns mel spectrograms into sound"):
        draw.draw(found, 2)
