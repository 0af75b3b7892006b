"""What spectrograms are heard by: the shipped vocoder where it is better, or what is asked for."""

import hashlib
import json

import numpy as np
import pytest
import torch

from undiffuse import checkpoints, draw, hearing, sources
from undiffuse.checkpoints import Checkpoint
from undiffuse.recipes import Recipe
from undiffuse.unet import UNet
from undiffuse.vocoder import MelLevels, MelVocoder, vocode

NETWORK = {"design": "vocoder", "channels": 8, "layers": 2, "cycle": 2, "patch": 64}
RECIPE = Recipe(name="vocoder", data="fsdd-vocoder", network=NETWORK)


def network(**changes) -> MelVocoder:
    """Untrained, but with random numbers where a network starts at zero."""
    torch.manual_seed(0)
    model = RECIPE.make_network((1, 2048)) if not changes else MelVocoder(**changes)
    torch.nn.init.normal_(model.conv_out.weight, std=0.05)
    return model.eval()


def vocoder(recipe: Recipe = RECIPE, **changes) -> Checkpoint:
    return Checkpoint("mine", network(**changes), recipe.make_schedule(), recipe, (1, 2048))


def mels(n: int = 3) -> torch.Tensor:
    from undiffuse import data

    return sources.log_mels(data.speech_prompts()[0][:n])


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of shipped checkpoints with a vocoder, of which something is recorded."""
    monkeypatch.setattr(checkpoints, "folder", lambda: tmp_path)

    def ship(**told) -> None:
        path = checkpoints.save(tmp_path / "vocoder.safetensors", network(), RECIPE, (1, 2048))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        text = json.dumps({"sha256": sha256, **told})
        path.with_suffix(".json").write_text(text)

    return ship


def test_without_a_vocoder_griffin_lim(shipped):
    assert hearing.choose() == (None, "heard by Griffin-Lim: no vocoder is shipped")
    with pytest.raises(checkpoints.CheckpointNotFound, match="no checkpoint 'vocoder'"):
        hearing.choose("vocoder")


def test_a_vocoder_that_was_measured_nearer_is_taken(shipped):
    shipped(quality={"nearer_than_griffin_lim": True}, trained_on={"set": "fsdd"})
    found, why = hearing.choose()
    assert found.name == "vocoder" and why == "heard by the vocoder vocoder"
    assert hearing.choose("griffin-lim") == (None, "heard by Griffin-Lim")
    other = hearing.choose(data="notes-mel")
    assert other == (None, "heard by Griffin-Lim: the shipped vocoder learned fsdd, not notes8k")
    assert hearing.choose("vocoder", data="notes-mel")[0].name == "vocoder"


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"quality": {"nearer_than_griffin_lim": False}}, "was not measured to be nearer"),
        ({"quality": {}}, "nothing is recorded of vocoder.safetensors"),
        ({}, "nothing is recorded"),
        ({"quality": {"nearer_than_griffin_lim": True}, "sha256": "0"}, "of other weights"),
    ],
)
def test_a_vocoder_that_was_not_is_left(shipped, told, says):
    shipped(**told)
    found, why = hearing.choose()
    assert found is None and why.startswith("heard by Griffin-Lim: ") and says in why
    assert hearing.choose("vocoder")[0].name == "vocoder"  # but taken where it is asked for


def test_what_is_no_vocoder(tmp_path):
    with pytest.raises(ValueError, match="digits is no vocoder: it was trained on digits"):
        hearing.choose("digits")
    other = vocoder(channels=8, layers=2, patch=32, hop=32)
    with pytest.raises(ValueError, match="mine wants mels with hop = 32, and those of the course"):
        hearing.vocoded(other, mels(1), draw.generators(0, 0, 1))
    ours = vocoder()
    with pytest.raises(ValueError, match=r"mels must be \(N, 1, 64, frames\)"):
        hearing.vocoded(ours, mels(1)[:, 0], draw.generators(0, 0, 1))
    with pytest.raises(ValueError, match="2 generators cannot serve 1 clips"):
        hearing.vocoded(ours, mels(1), draw.generators(0, 0, 2))


def test_vocoded_whatever_the_batch():
    x, ours = mels(3), vocoder()
    together = hearing.vocoded(ours, x, draw.generators(5, 0, 3), calls=2)
    assert together.shape == (3, 1, 8192) and together.abs().max() <= 1
    apart = hearing.vocoded(ours, x, draw.generators(5, 0, 3), calls=2, batch=1)
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)
    # It is nudged to the mel that it should have, even untrained.
    again = sources.log_mels(together)
    loud = x > -0.3
    assert (again - x)[loud].abs().mean() < 0.05 and loud.float().mean() > 0.1


def test_a_vocoder_of_scaled_data_is_divided_again():
    """A network that is sure of 2 times the flat sound, with scale 2, gives that sound."""

    class Knows(torch.nn.Module):
        def __init__(self, z, schedule):
            super().__init__()
            self.z, self.schedule = z, schedule

        def forward(self, x, t, cond=None):
            t = torch.as_tensor(t, dtype=torch.float64)
            alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
            return (alpha * x - self.z) / sigma

    levels, x = MelLevels(**sources.MEL), mels(1)[:, 0]
    z = torch.randn(1, 1, 64 * 127, generator=torch.Generator().manual_seed(1))
    schedule = RECIPE.make_schedule()
    made = [
        vocode(Knows(scale * z, schedule), schedule, levels, x, calls=3, scale=scale,
               generator=torch.Generator().manual_seed(0))
        for scale in (1.0, 2.0)
    ]  # fmt: skip
    torch.testing.assert_close(made[0], made[1], rtol=1e-3, atol=1e-4)


def test_a_silent_mel_stays_silent():
    silent = torch.full((1, 1, 64, 128), -1.0)
    x = hearing.vocoded(vocoder(), silent, draw.generators(0, 0, 1), calls=1)
    assert torch.isfinite(x).all() and x.abs().max() < 1e-4


def test_heard_of_a_checkpoint():
    say = Recipe(name="say", data="fsdd-mel")
    found = Checkpoint("say", torch.nn.Identity(), say.make_schedule(), say, (1, 64, 128))
    x, ours = mels(2), vocoder()
    one = draw.heard(found, x, 3, ours, calls=2)
    assert torch.equal(one, hearing.vocoded(ours, x, draw.generators(3, 0, 2), 2))
    assert not torch.equal(one, draw.heard(found, x, 4, ours, calls=2))
    beep = Recipe(name="beep", data="drums")
    sound = Checkpoint("beep", torch.nn.Identity(), beep.make_schedule(), beep, (1, 50))
    with pytest.raises(ValueError, match="beep makes sound itself"):
        draw.heard(sound, torch.zeros(1, 1, 50), vocoder=ours)


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    cli = pytest.importorskip("coursework.cli")
    monkeypatch.setattr(sources.sounds_of, "__defaults__", (None, 2))

    def run(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        said = capsys.readouterr()
        return end.value.code or 0, said.out + said.err

    options = {"channels": [8], "patch": 8, "classes": 10}
    say = Recipe(name="say", data="fsdd-mel", network=options)
    path = checkpoints.save(tmp_path / "say.safetensors", UNet(**options), say, (1, 64, 128))
    mine = checkpoints.save(tmp_path / "mine.safetensors", network(), RECIPE, (1, 2048))
    draw_ = ("sample", path, "--count", 2, "--calls", 1, "--out", tmp_path / "a.npz")
    heard = {}
    for asked in (mine, "griffin-lim"):
        code, said = run(*draw_, "--vocoder", asked)
        assert code == 0
        assert ("heard by the vocoder mine" if asked == mine else "heard by Griffin-Lim") in said
        with np.load(tmp_path / "a.npz") as made:
            assert made["audio"].shape == (2, 8192)
            heard[asked] = made["audio"]
    assert not (heard[mine] == heard["griffin-lim"]).all()
    code, said = run(*draw_, "--vocoder", "vocodr")
    assert code == 3 and "there is no checkpoint 'vocodr'" in said
    code, said = run(*draw_, "--vocoder", path)
    assert code == 2 and "say is no vocoder" in said
    code, said = run("sample", "digits", "--out", tmp_path / "b.npz", "--vocoder", mine)
    assert code == 2 and "digits makes no spectrograms" in said
    code, said = run("sample", mine, "--out", tmp_path / "b.npz")
    assert code == 2 and "mine turns mel spectrograms into sound" in said
