"""The classifiers that judge: what is shipped is what is recorded, and other files are refused."""

import json
import shutil

import pytest
import torch

from undiffuse import classifiers as cl
from undiffuse import data, metrics
from undiffuse.training import CheckpointError

LOADERS = {"digits": data.digits, "fashion": data.fashion}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return cl.Classifier(width=2, dim=8).eval()


@pytest.mark.parametrize("name", cl.NAMES)
def test_shipped_ones_are_as_good_as_recorded(name):
    facts, model = cl.facts(name), cl.load(name)
    assert facts["bytes"] == cl.locate(name).stat().st_size < 1_000_000
    features = {}
    for split in ("reference", "held_out"):
        images, labels = LOADERS[name](split)
        features[split], logits = cl.examine(model, images)
        found = float((logits.argmax(1) == labels).double().mean())
        assert found == pytest.approx(facts["accuracy"][split], abs=0.002)
    floor = metrics.frechet_distance(features["held_out"], features["reference"])
    assert floor == pytest.approx(facts["floor"]["fd"], rel=0.01)
    assert features["reference"].shape == (facts["floor"]["n"], 64)
    bar = 0.985 if name == "digits" else 0.85
    assert min(facts["accuracy"].values()) >= bar
    assert facts["trained_on"]["split"] == "features"


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
    with pytest.raises(CheckpointError, match=r"'cats'.*digits, fashion"):
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
