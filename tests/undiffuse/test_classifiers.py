"""The classifiers that judge: what is shipped is what is recorded, and other files are refused."""

import json
import shutil

import pytest
import torch

from undiffuse import classifiers as cl
from undiffuse import data, downloads, metrics, sources
from undiffuse import sound_classifiers as sc
from undiffuse.training import CheckpointError

BARS = {"digits": 0.985, "fashion": 0.85, "drums": 0.65, "notes": 0.45, "fsdd": 0.9}


@pytest.fixture
def source(name):
    """The set of a classifier; without its download the test is skipped."""
    found = sources.source(name)
    try:
        found.take("validation", 1)
    except downloads.NotDownloaded as missing:
        pytest.skip(str(missing))
    return found


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return cl.Classifier(width=2, dim=8).eval()


@pytest.mark.parametrize("name", cl.NAMES)
def test_shipped_ones_are_as_good_as_recorded(name, source):
    facts, model = cl.facts(name), cl.load(name)
    assert facts["bytes"] == cl.locate(name).stat().st_size < 1_000_000
    features = {}
    for split in ("reference", "held_out"):
        images, labels = source.take(split)
        features[split], logits = cl.examine(model, images)
        found = float((logits.argmax(1) == source.judged(labels)).double().mean())
        assert found == pytest.approx(facts["accuracy"][split], abs=max(0.002, 1.01 / len(labels)))
    n = facts["floor"]["n"]
    assert n == min(len(f) for f in features.values())
    floor = metrics.frechet_distance(features["held_out"][:n], features["reference"][:n])
    assert floor == pytest.approx(facts["floor"]["fd"], rel=0.01)
    accuracy = {k: v for k, v in facts["accuracy"].items() if k != "unheard"}
    assert min(accuracy.values()) >= BARS[name]
    assert facts["trained_on"]["split"] == "features"


def test_a_stranger_is_understood():
    """The digits of a speaker whom neither classifier nor models have heard, as recorded."""
    try:
        x, digit = downloads.fsdd("unheard")
    except downloads.NotDownloaded as missing:
        pytest.skip(str(missing))
    facts = cl.facts("fsdd")
    found = cl.accuracy(cl.load("fsdd"), x, digit)
    assert found == pytest.approx(facts["accuracy"]["unheard"], abs=0.005) and found > 0.85


@pytest.mark.parametrize("name", cl.NAMES)
def test_cards_quote_the_record(name):
    card = cl.locate(name).with_suffix(".md").read_text(encoding="utf-8")
    facts = cl.facts(name)
    for value in (*(f"{a:.1%}" for a in facts["accuracy"].values()), f"{facts['floor']['fd']:.3f}"):
        assert value in card


def test_features_do_not_depend_on_their_batch(small):
    x = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, logits = cl.examine(small, x)
    parts, _ = cl.examine(small, x, batch=2)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(logits, small(x))
    assert whole.shape == (7, 8)


def test_saved_and_loaded_to_float16(small, tmp_path):
    path = cl.save(tmp_path / "own.safetensors", small, ("a", "b"))
    again = cl.load(path)
    assert again.options == small.options and not again.training
    for key, value in small.state_dict().items():
        wanted = value.half().float() if value.is_floating_point() else value
        torch.testing.assert_close(again.state_dict()[key], wanted, rtol=0, atol=0)


def test_training_repeats_to_the_bit():
    x, y = data.digits("features", 60)
    made = [
        cl.fit(x, y, epochs=1, batch=20, width=2, dim=4, affine={"degrees": 5.0, "zoom": 0.1,
               "shear": 0.1, "shift": 1.0}, seed=3)
        for _ in range(2)
    ]  # fmt: skip
    for a, b in zip(made[0].state_dict().values(), made[1].state_dict().values()):
        assert torch.equal(a, b)


def test_random_affine_at_zero_changes_nothing_and_moves_each_by_its_own(generator):
    x, _ = data.digits("train", 4)
    still = cl.random_affine(x, generator, 0.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(still, x, rtol=0, atol=1e-5)
    same = x[:1].expand(4, -1, -1, -1)
    moved = cl.random_affine(same, generator, 10.0, 0.1, 0.1, 2.0)
    assert len({tuple(m.flatten().tolist()) for m in moved}) == 4


def test_wrong_and_damaged_files_are_refused_by_name(small, tmp_path, monkeypatch):
    path = cl.save(tmp_path / "own.safetensors", small)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut.safetensors is damaged"):
        cl.load(cut)
    with pytest.raises(CheckpointError, match=r"no classifier file .*absent.safetensors"):
        cl.load(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match=r"'cats'.*digits, fashion, drums"):
        cl.load("cats")

    from safetensors.torch import save_file

    other = tmp_path / "other.safetensors"
    save_file({"w": torch.ones(2)}, other)
    with pytest.raises(CheckpointError, match="holds no classifier of this course"):
        cl.load(other)
    save_file({"w": torch.ones(2)}, other, {"format": cl.FORMAT, "options": json.dumps({})})
    with pytest.raises(CheckpointError, match=r"other.safetensors does not fit"):
        cl.load(other)
    bad = {k: v * torch.nan if v.is_floating_point() else v for k, v in small.state_dict().items()}
    text = {"format": cl.FORMAT, "options": json.dumps(small.options)}
    save_file(bad, other, text)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        cl.load(other)

    # A shipped file that is sound, but not the recorded one.
    for name in ("manifest.json",):
        shutil.copy(data.folder() / name, tmp_path / name)
    folder = tmp_path / "checkpoints"
    shutil.copytree(data.folder() / "checkpoints", folder)
    shutil.copy(path, folder / "digits_classifier.safetensors")
    monkeypatch.setenv("UNDIFFUSE_DATA", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"digits_classifier.safetensors is damaged: its SHA"):
        cl.load("digits")


def test_bad_images_are_named(small):
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\), got \(2, 28, 28\)"):
        small(torch.zeros(2, 28, 28))
    with pytest.raises(ValueError, match="NaN"):
        cl.examine(small, torch.full((2, 1, 28, 28), torch.nan))
    with pytest.raises(ValueError, match="no images"):
        cl.examine(small, torch.zeros(0, 1, 28, 28))
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        cl.accuracy(small, torch.zeros(2, 1, 28, 28), torch.zeros(3))


def tiny(**changes):
    torch.manual_seed(0)
    options = {"n_mels": 24, "n_fft": 256, "width": 2, "dim": 4} | changes
    return sc.SoundClassifier(8000, 3, 2048, **options).eval()


def test_sounds_are_classified_by_their_spectrogram(tmp_path):
    model = tiny()
    x = torch.rand(5, 1, 2048, generator=torch.Generator().manual_seed(0)) - 0.5
    assert model.mel(x).shape == (5, 1, 24, 17)
    features, logits = cl.examine(model, x, batch=2)
    assert features.shape == (5, 4) and logits.shape == (5, 3)
    torch.testing.assert_close(logits, model(x))
    again = cl.load(cl.save(tmp_path / "own.safetensors", model.half().float()))
    assert isinstance(again, sc.SoundClassifier) and again.options == model.options
    torch.testing.assert_close(again(x), model(x), atol=1e-4, rtol=0)


def test_silent_clips_are_examined_and_odd_ones_named():
    model = tiny()
    features, _ = cl.examine(model, torch.zeros(2, 1, 2048))
    assert torch.isfinite(features).all()
    with pytest.raises(ValueError, match=r"\(N, 1, 2048\), got \(2, 1, 2047\)"):
        model(torch.zeros(2, 1, 2047))
    with pytest.raises(ValueError, match="the clips hold NaN"):
        cl.examine(model, torch.full((2, 1, 2048), torch.nan))
    with pytest.raises(ValueError, match="no clips"):
        cl.examine(model, torch.zeros(0, 1, 2048))


def test_training_on_sounds_repeats_to_the_bit_and_learns():
    """High, low and noise, told apart after a few steps."""
    g = torch.Generator().manual_seed(0)
    t = torch.arange(2048) / 8000
    labels = torch.arange(60) % 3
    pitch = torch.tensor([400.0, 1600.0, 0.0])[labels] * (1 + 0.2 * torch.rand(60, generator=g))
    x = torch.sin(2 * torch.pi * pitch[:, None] * t) * (labels < 2)[:, None]
    x = (0.5 * x + 0.02 * torch.randn(60, 2048, generator=g))[:, None]
    how = {"epochs": 6, "batch": 15, "vary": {}, "seed": 1, "transpose": (0, 1)}
    network = {"n_mels": 24, "n_fft": 256, "width": 4, "dim": 8}
    made = [sc.fit_sound(x, labels, 8000, 3, network=network, **how) for _ in range(2)]
    for a, b in zip(made[0].state_dict().values(), made[1].state_dict().values()):
        assert torch.equal(a, b)
    assert cl.accuracy(made[0], x, labels) > 0.9


def test_transposing_is_playing_faster():
    t = torch.arange(2048) / 8000
    tone = torch.sin(2 * torch.pi * 200 * t)[None, None]
    assert torch.equal(sc.transposed(tone, 0), tone)
    up = sc.transposed(tone, 12)
    torch.testing.assert_close(up[..., :1024], tone[..., ::2])
    assert not up[..., 1024:].any()
    down = sc.transposed(tone, -12)
    torch.testing.assert_close(down[0, 0], torch.sin(2 * torch.pi * 100 * t), atol=4e-3, rtol=0)


def test_each_spectrogram_is_varied_by_its_own(generator):
    mel = torch.linspace(-1, 0.5, 24 * 32).reshape(1, 1, 24, 32).expand(4, -1, -1, -1)
    still = sc.vary_mel(mel, generator, 0, 0, 0, 0, 0, 0, 0)
    torch.testing.assert_close(still, mel, atol=1e-4, rtol=0)
    varied = sc.vary_mel(mel, generator)
    assert varied.shape == mel.shape and varied.min() >= -1
    assert len({tuple(v.flatten().tolist()) for v in varied}) == 4
