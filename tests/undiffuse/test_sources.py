"""What recipes can be trained on: sets by name, labels that say two things, mels and back."""

import pytest
import torch

from undiffuse import _fsdd, data, downloads, sources, trainer, transforms
from undiffuse.blocks import FactoredConditioner
from undiffuse.recipes import Recipe
from undiffuse.sound_metrics import pitch_error_cents
from undiffuse.unet import UNet


@pytest.mark.parametrize("name", [n for n, s in sources.SOURCES.items() if s.stored])
def test_every_shipped_source_can_be_trained_on(name):
    source = sources.source(name)
    x, labels = source.take("train", 20)
    assert len(x) == len(labels) == 20 and x.dtype == torch.float32 and labels.dtype == torch.int64
    known = len(source.vocab) if source.told else source.classes
    assert x.abs().max() <= 1 and int(labels.min()) >= 0 and int(labels.max()) < known
    assert labels.ndim == (2 if source.told else 1)
    assert x.ndim == {"image": 4, "sound": 3, "mel": 4}[source.kind]
    assert (source.rate is None) == (source.kind == "image")


def test_spoken_digits_where_they_are():
    if _fsdd.missing(_fsdd.find(downloads.folder())):
        pytest.skip("fsdd is not here: downloads.fetch('fsdd') gets it")
    x, digit = sources.source("fsdd-mel").take("reference", 20)
    assert x.shape == (20, 1, 64, 128) and x.abs().max() <= 1
    assert torch.equal(digit, sources.source("fsdd").take("reference", 20)[1])


def test_unknown_sources_are_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"digits, fashion, drums.*did you mean drums"):
        sources.source("drum")


def test_notes_say_family_and_key():
    x, labels = sources.source("notes").take("reference")
    audio, family, midi = data.notes("reference")
    assert torch.equal(x, audio)
    assert torch.equal(labels, family * 85 + midi - 24)
    again = sources.note_parts(labels)
    assert torch.equal(again[0], family) and torch.equal(again[1], midi)
    assert torch.equal(sources.source("notes").judged(labels), family)
    for family, midi, says in ((13, 60, "families are"), (0, 23, "keys are"), (0, 109, "keys")):
        with pytest.raises(ValueError, match=says):
            sources.note_labels(torch.tensor([family]), torch.tensor([midi]))


def test_all_keys_of_the_set_have_a_label():
    held = data.load("notes8k")
    assert held.more["midi"].min() >= sources.LOWEST_KEY
    assert held.more["midi"].max() < sources.LOWEST_KEY + sources.KEYS
    assert len(held.classes) == sources.FAMILIES


def test_labels_in_words():
    drums = sources.source("drums")
    assert sources.parse_label("snare", drums) == 1
    assert sources.parse_label("7", drums) == 7
    for digits in ("digits", "fsdd"):
        assert sources.parse_label("7", sources.source(digits)) == 7
        with pytest.raises(ValueError, match=r"'10' is not one of 0 to 9$"):
            sources.parse_label("10", sources.source(digits))
    for word in ("8", "-1", "drum"):
        with pytest.raises(ValueError, match=rf"'{word}' is not one of 0 to 7 or kick, snare"):
            sources.parse_label(word, drums)
    notes = sources.source("notes")
    reed = notes.names.index("reed")
    for text in ("reed:69", f"{reed}:69", str(reed * 85 + 45)):
        label = torch.tensor([sources.parse_label(text, notes)])
        assert [int(v) for v in sources.note_parts(label)] == [reed, 69]
    with pytest.raises(ValueError, match=r"'20' is not one of 24 to 108"):
        sources.parse_label("reed:20", notes)


def test_factored_labels_add_up():
    torch.manual_seed(0)
    layer = FactoredConditioner((13, 85), 6)
    family, key = layer.rows
    y = torch.tensor([0, 84, 85, 13 * 85 - 1, 13 * 85])
    wanted = torch.stack([
        family.weight[0] + key.weight[0],
        family.weight[0] + key.weight[84],
        family.weight[1] + key.weight[0],
        family.weight[12] + key.weight[84],
        family.weight[13] + key.weight[85],  # none
    ])  # fmt: skip
    torch.testing.assert_close(layer(y), wanted)
    assert layer.null == layer.classes == 1105
    with pytest.raises(ValueError, match=r"0 to 1104, or 1105 for none"):
        layer(torch.tensor([1106]))


def test_a_network_with_factored_labels():
    options = {"channels": [8], "patch": 4, "classes": 6, "factors": [2, 3]}
    model = Recipe(name="a", data="notes", network=options).make_network((1, 64))
    assert isinstance(model, UNet) and model.null == 6
    torch.nn.init.normal_(model.conv_out.weight)
    x = torch.randn(4, 1, 64)
    out = model(x, 0.5, torch.tensor([0, 2, 5, 6]))
    torch.testing.assert_close(out[3:], model(x[3:], 0.5, None))
    again = UNet(**model.config)
    again.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="product 6"):
        UNet(channels=[8], classes=6, factors=[2, 4])


def test_wavenets_are_made_by_recipes():
    from undiffuse.wavenets import WaveNet1d

    model = Recipe(
        name="a", data="drums", network={"design": "wavenet", "channels": 8, "layers": 2}
    ).make_network((1, 64))
    assert isinstance(model, WaveNet1d)


def test_sound_is_varied_while_training():
    """Gain, delay and polarity change the run, and the same seed gives the same run."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(8, 1, 64, generator=g) - 0.5
    options = {"channels": [8], "patch": 4, "classes": 8}
    how = {"name": "a", "data": "drums", "network": options, "steps": 3, "batch": 4}
    varied = {"shift": 8, "gain": 6.0, "polarity": True}
    runs = [
        trainer.train(Recipe(**how, **more), x, torch.arange(8)) for more in (varied, varied, {})
    ]
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert all(torch.isfinite(torch.tensor(r.losses)).all() for r in runs)


def test_mels_and_back():
    """Speech heard through its spectrogram: nearly the same spectrogram again."""
    x, _ = data.speech_prompts()
    mels = sources.log_mels(x)
    assert mels.shape == (10, 1, 64, 128) and mels.min() >= -1 and mels.max() <= 1
    again = sources.sounds_of(mels, torch.Generator().manual_seed(0), iterations=30)
    assert again.shape == x.shape and again.abs().max() <= 1
    other = torch.Generator().manual_seed(0)
    assert torch.equal(again, sources.sounds_of(mels, other, iterations=30))
    heard = sources.log_mels(again)
    loud = mels > -0.3
    assert (heard - mels)[loud].abs().mean() < 0.05
    assert loud.float().mean() > 0.1


def test_a_silent_mel_is_silent():
    mels = torch.full((2, 1, 64, 128), -1.0)
    x = sources.sounds_of(mels, torch.Generator().manual_seed(0), iterations=3)
    assert x.shape == (2, 1, 8192) and x.abs().max() < 1e-4
    assert transforms.log_mel_to_model_range(torch.tensor([transforms.LOW])).item() == -1


def test_transposed_notes_sound_as_their_labels_say():
    x, labels = sources.source("notes").take("train", 24)
    got, told = sources.with_transposed(x, labels, (-3, 2))
    midi = sources.note_parts(labels)[1]
    assert torch.equal(got[:24], x) and torch.equal(told[:24], labels)
    wanted = torch.cat([midi, (midi - 3)[midi - 3 >= 24], (midi + 2)[midi + 2 <= 108]])
    assert torch.equal(sources.note_parts(told)[1], wanted)
    assert got.shape == (len(wanted), 1, x.shape[-1]) and float(got.abs().max()) <= 1
    keys = wanted[24:]
    rows = keys <= 100
    was = pitch_error_cents(x[:, 0], midi, 8000).abs().median()
    now = pitch_error_cents(got[24:][rows][:, 0], keys[rows], 8000).abs().median()
    assert float(now) < max(25.0, 2 * float(was))


def test_what_a_recipe_trains_on():
    plain = Recipe(name="n", data="notes", n=12)
    x, labels = plain.training_data()
    assert torch.equal(x, sources.source("notes").take("train", 12)[0]) and len(labels) == 12
    moved = Recipe(name="n", data="notes", n=12, transpose=[2]).training_data()
    assert len(moved[0]) > 12 and torch.equal(moved[0][:12], x)
    seen = Recipe(name="n", data="notes-mel", n=12, transpose=[2]).training_data()
    assert torch.equal(seen[1], moved[1])
    assert seen[0].shape == (len(moved[0]), 1, 64, 128)
    assert torch.allclose(seen[0], sources.log_mels(moved[0]), rtol=0, atol=1e-6)
