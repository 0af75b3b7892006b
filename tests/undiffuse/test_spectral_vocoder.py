"""The vocoder of spectra: what it learns, that it finds it again, and what it refuses."""

import pytest
import torch

from undiffuse import data, hearing, sources
from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import generators
from undiffuse.recipes import SCHEDULES, Recipe
from undiffuse.sampling import noise_like
from undiffuse.sound_judging import spoken_distance
from undiffuse.spectral_vocoder import (
    QUIET,
    SPREAD,
    SpectralVocoder,
    lacking,
    resound,
    smooth_spectrum,
    spectral_pieces,
)
from undiffuse.transforms import (
    griffin_lim,
    log_mel,
    log_mel_to_model_range,
    mel_filterbank,
    stft_magnitude,
)

MEL = sources.MEL
NETWORK = {"design": "spectral", "channels": [8, 8], "patch": 4}


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return data.speech_prompts()[0][:3, 0]


def mel_of(clips: torch.Tensor) -> torch.Tensor:
    return log_mel_to_model_range(log_mel(clips, **MEL))


def test_smooth_spectrum_has_the_mel(clips):
    mel = mel_of(clips)
    smooth = smooth_spectrum(mel, **MEL)
    assert smooth.shape == (3, 129, 129) and float(smooth.min()) >= QUIET
    again = mel_filterbank(64, 256, 8000) @ smooth.exp()
    wanted = log_mel(clips, **MEL)
    loud = wanted > -4  # far above QUIET, which the smooth spectrum never goes below
    assert float((again.log() - wanted)[loud].abs().median()) < 0.05


def test_lacking_is_what_the_smooth_spectrum_lacks(clips):
    x, cond = lacking(clips, **MEL)
    assert x.shape == cond.shape == (3, 1, 128, 129)
    smooth = smooth_spectrum(mel_of(clips), **MEL)
    true = stft_magnitude(clips, 256, 64).log().clamp(min=QUIET)
    torch.testing.assert_close(smooth[:, 1:] + SPREAD * x[:, 0], true[:, 1:], atol=1e-4, rtol=0)


def test_pieces_are_cut_from_it(clips):
    x, cond = spectral_pieces(clips, frames=16, each=2, **MEL)
    whole, told = lacking(clips, **MEL)
    assert x.shape == cond.shape == (6, 1, 128, 16)
    for i, (piece, its) in enumerate(zip(x, cond)):
        starts = [s for s in range(114) if torch.equal(whole[i // 2][..., s : s + 16], piece)]
        assert any(torch.equal(told[i // 2][..., s : s + 16], its) for s in starts)
    again = spectral_pieces(clips, frames=16, each=2, **MEL)
    assert torch.equal(again[0], x) and torch.equal(again[1], cond)
    with pytest.raises(ValueError, match="clips have 129 frames; pieces of 200"):
        spectral_pieces(clips, frames=200, **MEL)
    with pytest.raises(ValueError, match=r"clips must be \(N, L\)"):
        spectral_pieces(clips[:, None], **MEL)


def test_who_knows_the_spectrum_comes_nearer_than_griffin_lim(clips):
    """An oracle in place of the network: the way to sound loses little, and noise is no matter."""
    x, _ = lacking(clips, **MEL)
    made = resound(
        lambda x_t, t, cond: x,
        SCHEDULES["cosine"](),
        mel_of(clips),
        8192,
        kind="x0",
        temperature=1.0,
        generator=generators(0, 0, 3),
        **MEL,
    )
    mels = sources.log_mels(clips[:, None])
    classic = sources.sounds_of(mels, torch.Generator().manual_seed(0), 60)[:, 0]
    near, far = spoken_distance(clips, made), spoken_distance(clips, classic)
    assert made.shape == clips.shape
    assert (near < 0.6 * far).all(), (near, far)


def test_of_silence_comes_silence():
    mel = mel_of(torch.zeros(2, 8192))
    model = SpectralVocoder(channels=(8, 8), patch=4).eval()
    made = resound(model, SCHEDULES["cosine"](), mel, calls=2, generator=None, rounds=2, **MEL)
    assert torch.equal(made, torch.zeros(2, 8192))


def test_temperature_is_the_share_of_noise(clips):
    seen = []

    def network(x_t, t, cond):
        seen.append(x_t.clone())
        return torch.zeros_like(x_t)

    for temperature in (0.0, 0.5, 1.0):
        resound(
            network, SCHEDULES["cosine"](), mel_of(clips), kind="x0", calls=1, rounds=0,
            temperature=temperature, generator=torch.Generator().manual_seed(3), **MEL,
        )  # fmt: skip
    cold, half, warm = seen
    assert not cold.any()
    torch.testing.assert_close(2 * half, warm)
    assert abs(float(warm.std()) - 1) < 0.02
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        resound(network, SCHEDULES["cosine"](), mel_of(clips), temperature=-1, **MEL)


def test_network_shapes():
    model = SpectralVocoder(channels=(8, 8), patch=4).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    x, cond = torch.randn(2, 1, 128, 33), torch.randn(2, 1, 128, 33)
    out = model(x, torch.tensor([0.2, 0.7]), cond)
    assert out.shape == x.shape
    for changed in (model(x, 0.7, cond)[1], model(x, torch.tensor([0.2, 0.7]), cond + 1)[1]):
        assert changed.shape == out[1].shape
    torch.testing.assert_close(model(x, 0.7, cond)[1], out[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(x, 0.7, cond + 1)[1], out[1], atol=1e-3)
    with pytest.raises(ValueError, match=r"x must be \(B, 1, 128, frames\)"):
        model(x[:, :, :100], 0.5, cond)
    with pytest.raises(ValueError, match="is wanted, got none"):
        model(x, 0.5)
    with pytest.raises(ValueError, match="is wanted, got one of shape"):
        model(x, 0.5, cond[..., :30])


def test_heard_by_it_one_by_one_or_together(clips):
    recipe = Recipe(name="vocoder", data="fsdd-spectra", network=NETWORK)
    model = recipe.make_network((1, 128, 32)).eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.05)
    mine = Checkpoint("mine", model, recipe.make_schedule(), recipe, (1, 128, 32))
    mels = sources.log_mels(clips[:, None])
    options = {"calls": 2, "rounds": 3, "temperature": 0.7}
    together = hearing.vocoded(mine, mels, generators(5, 0, 3), **options)
    alone = hearing.vocoded(mine, mels, generators(5, 0, 3), batch=1, **options)
    assert together.shape == (3, 1, 8192)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert float(together.abs().max()) <= 1


def test_griffin_lim_with_a_generator_for_each(clips):
    magnitude = stft_magnitude(clips, 256, 64)
    each = [torch.Generator().manual_seed(k) for k in range(3)]
    together = griffin_lim(magnitude, 2, each)
    for k in range(3):
        alone = griffin_lim(magnitude[k : k + 1], 2, torch.Generator().manual_seed(k))
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="2 generators cannot serve 3 sounds"):
        griffin_lim(magnitude, 2, each[:2])


def test_noise_like():
    x = torch.zeros(2, 3, dtype=torch.float64)
    a = noise_like(x, torch.Generator().manual_seed(1))
    assert torch.equal(a, torch.randn(2, 3, generator=torch.Generator().manual_seed(1),
                                      dtype=torch.float64))  # fmt: skip
    b = noise_like(x, [torch.Generator().manual_seed(k) for k in (1, 2)])
    assert torch.equal(b[1], torch.randn(3, generator=torch.Generator().manual_seed(2),
                                         dtype=torch.float64))  # fmt: skip
