"""Files of trained networks: the same network back, or a reason."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from undiffuse import checkpoints
from undiffuse.recipes import Recipe
from undiffuse.training import CheckpointError
from undiffuse.unet import UNet

RECIPE = Recipe(name="tiny", network={"channels": [8], "patch": 4, "classes": 3})


@pytest.fixture
def model() -> UNet:
    torch.manual_seed(0)
    return UNet(in_channels=1, dims=2, **RECIPE.network)


@pytest.fixture
def path(tmp_path, model):
    return checkpoints.save(tmp_path / "tiny.safetensors", model, RECIPE, (1, 8, 8), steps=7)


def test_round_trip(path, model):
    found = checkpoints.load(path)
    assert (found.name, found.kind, found.null, found.shape) == ("tiny", "v", 3, (1, 8, 8))
    assert found.recipe == RECIPE and found.facts == {"steps": 7}
    assert not found.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value.half().float())


def test_shape_may_come_as_text(path):
    assert checkpoints.load(str(path)).shape == (1, 8, 8)


@pytest.mark.parametrize("name", ["nothing", "digit"])
def test_unknown_name(name):
    with pytest.raises(CheckpointError, match=f"no checkpoint '{name}'"):
        checkpoints.load(name)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        checkpoints.load(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"{}", bytes(100)])
def test_no_safetensors(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        checkpoints.load(path)


def test_truncated(path):
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)


def rewritten(path, change_weights=None, **text):
    """The file with other weights or another description."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as f:
        old, weights = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    if change_weights:
        change_weights(weights)
    text = {k: v for k, v in {**old, **text}.items() if v is not None}
    save_file(weights, path, metadata=text)
    return path


def test_another_programs_file(path):
    with pytest.raises(CheckpointError, match="its format is 'pt'"):
        checkpoints.load(rewritten(path, format="pt"))


@pytest.mark.parametrize(
    "text",
    [
        {"recipe": None},
        {"recipe": "{"},
        {"recipe": json.dumps({"name": "a", "lrr": 1})},
        {"shape": "seven"},
        {"facts": None},
    ],
)
def test_damaged_description(path, text):
    with pytest.raises(CheckpointError, match="does not say how it was made"):
        checkpoints.load(rewritten(path, **text))


def test_values_that_are_not_finite(path):
    def spoil(weights):
        weights["conv_in.weight"][0] = torch.nan

    with pytest.raises(CheckpointError, match=r"conv_in.weight holds NaN"):
        checkpoints.load(rewritten(path, spoil))


def test_weights_of_another_network(path):
    other = RECIPE.to_dict() | {"network": {"channels": [16], "patch": 4, "classes": 3}}
    with pytest.raises(CheckpointError, match="does not fit the network of its recipe"):
        checkpoints.load(rewritten(path, recipe=json.dumps(other)))


def test_weights_too_large_for_float16(tmp_path, model):
    with torch.no_grad():
        model.conv_in.bias.fill_(1e6)
    with pytest.raises(CheckpointError, match="float16 cannot hold"):
        checkpoints.save(tmp_path / "x.safetensors", model, RECIPE, (1, 8, 8))
    assert os.listdir(tmp_path) == []


def test_failed_write_keeps_the_old_file(path, model, monkeypatch):
    import safetensors.torch

    def fail(weights, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="could not be written"):
        checkpoints.save(path, model, RECIPE, (1, 8, 8))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_what_was_measured_of_these_very_weights(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "folder", lambda: path.parent)
    assert checkpoints.quality("tiny") is None and checkpoints.quality("nothing") is None
    mark = hashlib.sha256(path.read_bytes()).hexdigest()
    told = path.with_suffix(".json")
    told.write_text(json.dumps({"sha256": mark, "quality": {"n": 5}}))
    assert checkpoints.quality("tiny") == {"n": 5}
    for other in ({"sha256": "0" * 64, "quality": {"n": 5}}, {"sha256": mark}, [1]):
        told.write_text(json.dumps(other))
        assert checkpoints.quality("tiny") is None
    told.write_text("{")
    assert checkpoints.quality("tiny") is None
