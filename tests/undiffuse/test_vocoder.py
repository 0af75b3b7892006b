"""The vocoder: places of frames, levels and their inverse, and the engine that it shares."""

import math

import pytest
import torch

from undiffuse import checkpoints, recipes, trainer
from undiffuse.sampling import sample
from undiffuse.schedules import cosine_schedule
from undiffuse.transforms import log_mel, log_mel_to_model_range
from undiffuse.vocoder import (
    MelConditioner,
    MelLevels,
    MelVocoder,
    imdct,
    lines,
    mdct,
    pieces,
    vocode,
)


def swelling(n: int, length: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    """Noise whose level rises by 60 dB from start to end, each clip at its own."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, generator=g, dtype=torch.float64)
    level = torch.linspace(-8, -1, length, dtype=torch.float64)
    return (x * level.exp() * torch.rand(n, 1, generator=g, dtype=torch.float64)).to(dtype)


def test_lines_pass_through_the_frames_and_hold_the_last():
    frames = torch.randn(2, 3, 5, dtype=torch.float64)
    made = lines(frames, 4, 20)
    assert torch.allclose(made[..., ::4], frames, atol=1e-12)
    assert torch.allclose(made[..., 2], (frames[..., 0] + frames[..., 1]) / 2, atol=1e-12)
    assert torch.equal(made[..., 17:], frames[..., -1:].expand(-1, -1, 3))
    assert torch.equal(lines(frames, 4, 7), made[..., :7])
    assert lines(frames[..., :1], 4, 3).shape == (2, 3, 3)


def test_a_frame_moves_the_condition_only_around_its_sample():
    torch.manual_seed(0)
    net = MelConditioner(4, 6, 8).double()
    mel = torch.randn(1, 4, 9, dtype=torch.float64)
    changed = mel.clone()
    changed[..., 4] += 1
    moved = (net(changed, 64) - net(mel, 64)).abs().amax((0, 1)) > 1e-12
    at = moved.nonzero()[:, 0]
    # Its convolution reaches a frame to each side, the lines one more, smoothing a sample.
    assert (int(at.min()), int(at.max())) == (2 * 8, 6 * 8)


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 9), (2, 4, 0)])
def test_a_mel_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="mel must be"):
        MelConditioner(4, 6, 8)(torch.zeros(shape), 10)


def test_mdct_is_orthogonal_and_undone_by_its_inverse():
    x = swelling(3, 1000).reshape(3, 1, 1000)
    c = mdct(x, 32)
    assert c.shape == (3, 1, 33, 32)
    assert torch.allclose(imdct(c, 1000), x, rtol=0, atol=1e-12)
    assert torch.allclose(c.square().sum((2, 3)), x.square().sum(2), rtol=1e-10)


def test_a_tone_falls_into_its_band():
    hz = (10 + 0.5) * 4000 / 64
    x = torch.sin(2 * math.pi * hz * torch.arange(4096, dtype=torch.float64) / 8000)
    power = mdct(x, 64)[4:-4].square().mean(0)
    assert int(power.argmax()) == 10 and float(power[9:12].sum() / power.sum()) > 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restore_undoes_flatten(dtype):
    levels = MelLevels(n_mels=40)
    x = swelling(3, 1500, dtype=dtype)
    x[1] = 0
    mel = levels.mel(x)
    z = levels.flatten(x, mel)
    back = levels.restore(z, mel)
    assert z.dtype == back.dtype == dtype and bool(torch.isfinite(z).all())
    inside = slice(64, 64 * (1500 // 64 - 1))
    near = 1e-6 if dtype == torch.float32 else 1e-12
    assert torch.allclose(back[:, inside], x[:, inside], rtol=0, atol=near)


def test_flat_sounds_have_variance_one_everywhere():
    """Noise that swells and is filtered becomes white: in each quarter of time and of frequency."""
    x = swelling(32, 8193)
    x = x[:, 1:] - 0.9 * x[:, :-1]
    levels = MelLevels()
    z = levels.flatten(x, levels.mel(x))
    power = mdct(z, 64)[:, 2:-3].square()
    assert torch.allclose(
        power.unflatten(1, (4, -1)).mean((0, 2, 3)), torch.ones(4).double(), atol=0.25
    )
    assert torch.allclose(
        power.unflatten(2, (4, -1)).mean((0, 1, 3)), torch.ones(4).double(), atol=0.25
    )


def test_noise_restored_has_about_the_mel():
    """The mean over noise of log-mel is that of the sound, within a fifth of a neper a band."""
    t = torch.arange(8192, dtype=torch.float64) / 8000
    x = 0.05 * torch.randn(64, 8192, dtype=torch.float64) * (1.2 + torch.sin(8 * math.pi * t))
    x = x[:, 1:] + 0.8 * x[:, :-1]
    levels = MelLevels()
    mel = levels.mel(x)
    made = levels.mel(levels.restore(torch.randn(x.shape, dtype=torch.float64), mel))
    nepers = (made - mel).mean((0, 2)) * (1 - math.log(1e-5)) / 2
    assert float(nepers.abs().max()) < 0.2


def test_matching_brings_the_mel_nearer_and_leaves_a_sound_that_has_it():
    levels = MelLevels()
    x = swelling(2, 4096)
    x = 30 * (x[:, 1:] - 0.9 * x[:, :-1])
    mel = levels.mel(x)
    noise = levels.restore(torch.randn(x.shape, dtype=torch.float64), mel)
    off = [float((levels.mel(levels.match(noise, mel, k)) - mel).abs().mean()) for k in (0, 2, 10)]
    assert off[1] < 0.6 * off[0] and off[2] < 0.8 * off[1]
    assert torch.allclose(levels.match(x, mel, 3), x, atol=1e-9)
    silent = torch.zeros(1, 1000)
    assert torch.equal(levels.match(silent, levels.mel(silent), 3), silent)


def test_silence_has_a_gain_and_stays_silent():
    levels = MelLevels()
    x = torch.zeros(2, 900)
    mel = levels.mel(x)
    assert bool((levels.gain(mel) > 0).all())
    assert torch.equal(levels.flatten(x, mel), x)
    assert torch.equal(levels.restore(x, mel), x)


def test_the_mel_is_that_of_the_transforms():
    x = swelling(2, 1000, dtype=torch.float32)
    assert torch.equal(MelLevels(n_mels=32).mel(x), log_mel_to_model_range(log_mel(x, 8000, 32)))


@pytest.mark.parametrize("length", [256, 333])
def test_the_network_takes_any_length_and_starts_at_zero(length):
    torch.manual_seed(0)
    net = MelVocoder(n_mels=20, channels=12, layers=3)
    x, mel = torch.randn(2, 1, length), torch.randn(2, 20, 1 + length // 64)
    out = net(x, 0.5, mel)
    assert out.shape == x.shape and not out.any()
    torch.nn.init.normal_(net.conv_out.weight)
    assert not torch.allclose(net(x, 0.5, mel), net(x, 0.5, mel + 1))
    assert not torch.allclose(net(x, 0.5, mel), net(x, torch.tensor([0.1, 0.5]), mel))


def test_what_does_not_fit_is_refused():
    net = MelVocoder(n_mels=20, channels=12, layers=3)
    with pytest.raises(ValueError, match="a mel for each"):
        net(torch.zeros(2, 1, 128), 0.5)
    with pytest.raises(ValueError, match="x must be"):
        net(torch.zeros(2, 128), 0.5, torch.zeros(2, 20, 3))
    with pytest.raises(ValueError, match="patch must divide hop"):
        MelVocoder(hop=60, patch=16)
    with pytest.raises(ValueError, match="mel must be"):
        MelLevels().gain(torch.zeros(20, 3))


def test_the_trainer_of_images_trains_it(monkeypatch):
    """Each sound of a batch comes with its own mel, in training and in validation."""
    levels = MelLevels(n_mels=16)
    x = swelling(12, 512, dtype=torch.float32)
    mel = levels.mel(x)
    z = levels.flatten(x, mel)[:, None]
    torch.manual_seed(0)
    net = MelVocoder(n_mels=16, channels=8, layers=2, cycle=2)
    seen = []
    loss = trainer.denoising_loss

    def watched(model, schedule, x0, t, noise, cond, *args, **kwargs):
        seen.append((x0, cond))
        return loss(model, schedule, x0, t, noise, cond, *args, **kwargs)

    monkeypatch.setattr(trainer, "denoising_loss", watched)
    recipe = recipes.Recipe("tiny", steps=4, batch=8, validate_every=2)
    run = trainer.train(recipe, z[:10], mel[:10], model=net, validation=(z[2:], mel[2:]))
    assert len(seen) > 4 and len(run.validation) == 2
    for x0, cond in seen:
        rows = [int((z - one).abs().amax((1, 2)).argmin()) for one in x0]
        assert torch.equal(cond, mel[rows])
    assert any(p.grad is not None and p.grad.any() for p in net.parameters())


def test_vocode_samples_flat_sounds_and_restores_them():
    levels, schedule = MelLevels(n_mels=16), cosine_schedule()
    mel = levels.mel(swelling(2, 512, dtype=torch.float32))
    torch.manual_seed(0)
    net = MelVocoder(n_mels=16, channels=8, layers=2).eval()
    torch.nn.init.normal_(net.conv_out.weight, std=0.1)
    g = torch.Generator().manual_seed(1)
    made = vocode(net, schedule, levels, mel, calls=3, rounds=2, generator=g)
    assert made.shape == (2, 512)
    g.manual_seed(1)
    flat = sample(
        net, schedule, (2, 1, 512), kind="v", solver="ddim", calls=3, cond=mel, generator=g,
        spacing="time",
    )  # fmt: skip
    assert torch.equal(made, levels.match(levels.restore(flat[:, 0], mel), mel, 2))
    assert vocode(net, schedule, levels, mel, 500, calls=1, generator=g).shape == (2, 500)


def test_the_trainer_refuses_conditions_that_do_not_fit():
    net = MelVocoder(n_mels=16, channels=16, layers=2)
    recipe = recipes.Recipe("tiny", steps=1, batch=4)
    x = torch.randn(8, 1, 128)
    with pytest.raises(ValueError, match="conditions"):
        trainer.train(recipe, x, torch.zeros(7, 16, 3), model=net)
    with pytest.raises(ValueError, match="NaN"):
        trainer.train(recipe, x, torch.full((8, 16, 3), math.nan), model=net)


def test_pieces_are_cut_from_flat_sounds_with_their_mels():
    levels = MelLevels(n_mels=16)
    clips = swelling(3, 4096, dtype=torch.float32)
    clips[1, 1500:] = 0
    z, mel = pieces(clips, levels, size=1024, each=5, seed=1)
    assert z.shape == (15, 1, 1024) and mel.shape == (15, 16, 17)
    whole = levels.mel(clips)
    flat = levels.flatten(clips, whole)
    for row, (x, m) in enumerate(zip(z[:, 0], mel)):
        starts = [
            k for k in range(0, 4096 - 1024 + 1, 64)
            if torch.allclose(flat[row // 5, k : k + 1024], x, atol=1e-5)
            and torch.allclose(whole[row // 5, :, k // 64 : k // 64 + 17], m, atol=1e-6)
        ]  # fmt: skip
        assert starts, f"piece {row} is nowhere in its clip, or has another mel"
        assert row // 5 != 1 or starts[0] + 1024 <= 1500 + 256
    again = pieces(clips, levels, size=1024, each=5, seed=1)
    assert torch.equal(again[0], z) and torch.equal(again[1], mel)
    assert not torch.equal(pieces(clips, levels, size=1024, each=5, seed=2)[0], z)
    with pytest.raises(ValueError, match="clips must be"):
        pieces(clips, levels, size=1000)
    with pytest.raises(ValueError, match="clips must be"):
        pieces(clips[:, :512], levels, size=1024)


def test_recipes_make_vocoders_and_checkpoints_keep_them(tmp_path):
    recipe = recipes.load("vocoder-waves")
    assert recipe.source.kind == "vocoder"
    net = recipe.make_network((1, 2048))
    assert isinstance(net, MelVocoder) and net.config["patch"] == 16
    path = checkpoints.save(tmp_path / "v.safetensors", net, recipe, (1, 2048), rate=8000)
    found = checkpoints.load(path)
    x, mel = torch.randn(1, 1, 640), torch.randn(1, 64, 11)
    assert found.null is None and found.model(x, 0.5, mel).shape == x.shape
