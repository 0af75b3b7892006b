"""The U-Net of notes that sees a tone: which tone, and that nothing else has changed."""

import pytest
import torch

from undiffuse import sources
from undiffuse.recipes import Recipe
from undiffuse.sound_metrics import pitch_error_cents
from undiffuse.toned import TonedUNet, plain_tone
from undiffuse.unet import UNet

SMALL = {"channels": [8], "patch": 8}


def network() -> TonedUNet:
    """Small, and with random numbers where a network starts at zero."""
    torch.manual_seed(0)
    made = TonedUNet(**SMALL)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return made.eval()


def test_tones_have_their_pitch_and_level():
    midi = torch.arange(30, 100)
    tone = plain_tone(midi)
    assert tone.shape == (70, 8192) and tone.dtype == torch.float32
    assert float(pitch_error_cents(tone, midi, 8000).abs().max()) < 10
    level = 20 * tone.square().mean(1).sqrt().log10()
    assert torch.allclose(level, torch.full_like(level, -18.0), atol=1e-3)
    assert float(plain_tone(torch.tensor([108])).abs().max()) == 0  # 4,186 Hz: beyond the half


def test_it_is_a_unet_with_the_tones_picture_beside():
    model = network()
    x = torch.randn(3, 1, 64, 128, generator=torch.Generator().manual_seed(1))
    labels = sources.note_labels(torch.tensor([0, 5, 12]), torch.tensor([24, 60, 108]))
    labels[1] = model.null
    tones = sources.log_mels(plain_tone(torch.tensor([24, 60, 108]))[:, None])
    tones[1] = -1
    t = torch.tensor([0.1, 0.5, 0.9])
    wanted = model.net(torch.cat([x, tones], 1), t, labels)[:, :1]
    got = model(x, t, labels)
    assert isinstance(model.net, UNet) and got.shape == x.shape
    assert torch.allclose(got, wanted, rtol=0, atol=1e-5)
    none = model(x, 0.5)
    assert torch.equal(none, model(x, 0.5, torch.full((3,), model.null)))


def test_the_tone_tells_keys_apart_by_itself():
    model = network()
    with torch.no_grad():
        for rows in model.net.conditioner.rows:
            rows.weight.zero_()
    x = torch.zeros(2, 1, 64, 128)
    labels = sources.note_labels(torch.tensor([3, 3]), torch.tensor([60, 61]))
    with torch.no_grad():
        one, other = model(x, 0.5, labels)
    assert float((one - other).abs().max()) > 1e-3


def test_tones_are_not_among_the_weights():
    model = network()
    assert not any("tones" in name for name in model.state_dict())
    again = TonedUNet(**SMALL)
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 1, 64, 128, generator=torch.Generator().manual_seed(2))
    assert torch.equal(again.eval()(x, 0.2), model(x, 0.2))


def test_what_does_not_fit_is_told():
    for options in ({"classes": 10}, {"dims": 1}, {"in_channels": 3}):
        with pytest.raises(ValueError, match="in_channels 1, dims 2 and classes 1105 are wanted"):
            TonedUNet(**SMALL, **options)
    with pytest.raises(ValueError, match=r"x must be \(B, 1 x 64 x 128\), got \(2, 1, 64, 64\)"):
        network()(torch.zeros(2, 1, 64, 64), 0.5)


def test_recipes_can_ask_for_it():
    options = {"design": "tone", "classes": 1105, "factors": [13, 85], **SMALL}
    recipe = Recipe(name="n", data="notes-mel", network=options)
    assert isinstance(recipe.make_network((1, 64, 128)), TonedUNet) and recipe.null == 1105
