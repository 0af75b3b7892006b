"""The page of sounds: complete, light, and made by the checkpoints that are shipped."""

import importlib.util
import json
import sys
import wave
from pathlib import Path

import pytest
import torch

from undiffuse import checkpoints, recipes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def builder(monkeypatch):
    path = ROOT / "data" / "build" / "build_sounds.py"
    spec = importlib.util.spec_from_file_location("build_sounds", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build_sounds", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_that_is_shipped(builder):
    assert builder.problems() == []
    if builder.FOLDER.is_dir():
        assert sum(p.stat().st_size for p in builder.FOLDER.iterdir()) <= builder.LIMIT


def test_drums_are_drawn_described_and_named(builder, monkeypatch, tmp_path):
    """With a network of a few weights: what it draws is noise, and the page is whole."""
    torch.manual_seed(0)
    network = {"channels": [8], "patch": 64, "classes": 8}
    recipe = recipes.Recipe(name="drums", data="drums", network=network, scale=4.0)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    checkpoints.save(
        folder / "drums.safetensors", recipe.make_network((1, 8192)), recipe, (1, 8192)
    )
    told = {"run": {"seconds": 600, "machine": "a test"}, "trained_on": {"n": 7}, "parameters": 9}
    (folder / "drums.json").write_text(json.dumps(told))
    monkeypatch.setattr(checkpoints, "folder", lambda: folder)
    monkeypatch.setattr(builder, "FOLDER", tmp_path / "sounds")
    monkeypatch.setattr(builder, "CALLS", 2)
    assert builder.shipped() == ["drums"] and "there is no" in builder.problems()[0]

    builder.build(["drums"])
    assert builder.problems() == []
    text = (builder.FOLDER / "index.html").read_text(encoding="utf-8")
    files = sorted(builder.FOLDER.glob("*.wav"))
    assert len(files) == 10 == text.count("<audio controls") == text.count("aria-label=")
    assert "from 7 recordings in 10 minutes on a test" in text and 'lang="en"' in text
    assert "http" not in text and text.count("alt=") == 2
    for file in files:
        with wave.open(str(file)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
            assert sound.getframerate() == 16_000 and sound.getnframes() > 8000

    files[0].unlink()
    (builder.FOLDER / "old.wav").touch()
    assert builder.problems() == [
        f"{files[0].name} is named on the page, and not there",
        "old.wav is not named on the page",
    ]
    (folder / "drums.safetensors").write_bytes(b"other weights")
    assert builder.problems()[-1].startswith("the page was made by other checkpoints")
