"""The script that trains, measures and ships checkpoints, from a toy of each kind to its card."""

import hashlib
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from undiffuse import _fsdd, checkpoints, downloads, recipes, sound_judging, sources
from undiffuse.data import folder as data_folder

BUILD = Path(__file__).resolve().parents[2] / "data" / "build"
HOW = """
steps = 20
batch = 4
warmup = 2
n = 24
validate_every = 10
optimizer = "muon"
lr = 0.02
{more}
[network]
{network}
"""
UNET = "channels = [8]\nblocks = 1\npatch = {patch}\nclasses = {classes}\n"
TOYS = {
    "drums": ("scale = 4.0\nshift = 24", UNET.format(patch=64, classes=8)),
    "notes": (
        'data = "notes-mel"\ntranspose = [-2, 1]',
        UNET.format(patch=8, classes=1105) + "factors = [13, 85]",
    ),
    "speech": ('data = "fsdd-mel"', UNET.format(patch=8, classes=10)),
    "vocoder": (
        'data = "fsdd-vocoder"',
        'design = "vocoder"\nchannels = 8\nlayers = 2\ncycle = 2\npatch = 64\nhop = 64',
    ),
}
HERE = not _fsdd.missing(_fsdd.find(downloads.folder()))
speech = pytest.mark.skipif(not HERE, reason="fsdd is not here: downloads.fetch('fsdd') gets it")


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script with data/ in a folder of its own, toys for recipes, and one short draw."""
    monkeypatch.syspath_prepend(str(BUILD))
    for name in ("train_checkpoints", "checkpoint_cards", "checkpoint_figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    figures = importlib.import_module("checkpoint_figures")
    module = importlib.import_module("train_checkpoints")
    for place in ("recipes", "checkpoints"):
        (tmp_path / place).mkdir()
    for name, (more, network) in TOYS.items():
        if "data" not in more:
            more += f'\ndata = "{name}"'
        text = HOW.format(more=more, network=network)
        (tmp_path / "recipes" / f"{name}.toml").write_text(text)
    monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(checkpoints, "folder", lambda: tmp_path / "checkpoints")
    monkeypatch.setattr(figures, "SEEDS", (0,))
    few = {"ddim_50": ("ddim", 2), "dpmpp_2m_10": ("dpmpp_2m", 1)}
    monkeypatch.setattr(figures, "SAMPLERS", few)
    monkeypatch.setattr(sources.sounds_of, "__defaults__", (None, 2))
    monkeypatch.setattr(sound_judging.judge_vocoder, "__defaults__", ((0,), (2,), (2, 3), print))
    before = list(sys.path)

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["train_checkpoints.py", *map(str, arguments)])
        module.main()

    yield run, tmp_path
    sys.path[:] = before


def test_a_recipe_with_some_entries_changed(script):
    module = sys.modules["train_checkpoints"]
    recipe = recipes.from_dict({"name": "toy", "network": {"channels": [8], "classes": 10}})
    found = module.changed(
        recipe, ["steps=9", "network.patch = 4", "network.channels = [4, 4]", "steps=7"]
    )
    network = {"channels": [4, 4], "patch": 4, "classes": 10}
    assert found == replace(recipe, steps=7, network=network)
    with pytest.raises(recipes.RecipeError, match="did you mean steps"):
        module.changed(recipe, ["step = 7"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of the labels would have to change")
@pytest.mark.parametrize("name", ["drums", "notes", pytest.param("speech", marks=speech)])
def test_from_a_recipe_to_a_card(script, capsys, name):
    run, place = script
    run(name, "--folder", place / "run", "--write", "-n", 16)
    file = place / "checkpoints" / f"{name}.safetensors"
    told = json.loads(file.with_suffix(".json").read_text())
    quality = told["quality"]
    found = checkpoints.load(file)
    assert found.recipe == recipes.load(place / "recipes" / f"{name}.toml")
    assert told["bytes"] == file.stat().st_size and told["run"]["steps"] == 20
    assert quality["n"] == 16 and quality["seeds"] == [0]
    few, many = (quality["samplers"][k]["mean"] for k in ("dpmpp_2m_10", "ddim_50"))
    assert quality["fd_of_10_calls_over_50"] == pytest.approx(few["fd"] / many["fd"], rel=1e-3)
    one = quality["samplers"]["ddim_50"]["seeds"][0]
    floor = quality["floor"]
    assert one["excess"] == pytest.approx(one["fd"] - floor["fd"])
    assert one["accuracy_share"] == pytest.approx(one["accuracy"] / floor["accuracy"])
    assert set(one["nearness"]["samples"]) == set(floor["nearness"]) == {"0.01", "0.05"}
    assert -120 <= one["loudness_db"] <= 0 and 0 <= one["clipping"] <= 1
    assert floor["clipping"] < 0.01 and -40 < floor["loudness_db"] < 0
    card = file.with_suffix(".md").read_text()
    wanted = {"drums": "conditional on the kind of drum", "speech": "spectrograms of 64 x 128",
              "notes": "median pitch error, cents"}  # fmt: skip
    stored = {"drums": "drums16k", "notes": "notes8k", "speech": "fsdd"}[name]
    for text in (
        wanted[name], "24 clips of ", f"[the card of {stored}](../audio/{stored}.md)",
        "| FD above the floor |", "| nearest 5%: distance to training data |", told["command"],
        "ddim, 2 calls", f"{told['parameters']:,} parameters", "loudness, median RMS",
    ):  # fmt: skip
        assert text in card
    assert "image" not in card and "{" not in card
    assert (data_folder() / "audio" / f"{stored}.md").is_file()
    assert ("of data times 4" in card) == (name == "drums")
    if name == "notes":
        assert "and the same transposed by -2, +1 semitones" in card
        assert quality["heard_by"].startswith("heard by Griffin-Lim")
        assert quality["real_mels"]["accuracy"] > 0.35
        assert floor["pitch_cents"] < 25 and floor["pitch_cents_folded"] <= floor["pitch_cents"]
        assert floor["pitched"] > 0.9
    if name == "speech":
        assert 0.8 < floor["accuracy_unheard"] < 0.96
        share = one["accuracy"] / floor["accuracy_unheard"]
        assert one["accuracy_share_unheard"] == pytest.approx(share)
        assert quality["heard_by"] == "heard by Griffin-Lim: no vocoder is shipped"
        assert quality["real_mels"]["accuracy"] > 0.5
    capsys.readouterr()
    run(name, "--from", place / "run", "-n", 16)
    assert json.loads(file.with_suffix(".json").read_text()) == told
    if name == "drums":
        assert "FD above the floor" in capsys.readouterr().out
        run(name, "--measure", "-n", 12, "--write")
        again = json.loads(file.with_suffix(".json").read_text())
        assert again["quality"]["n"] == 12 and again["run"] == told["run"]
        assert again["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        weights = checkpoints.load(file).model.state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in found.model.state_dict().items())


@pytest.mark.slow
@speech
def test_a_vocoder_from_a_recipe_to_a_card(script, capsys):
    run, place = script
    run("vocoder", "--folder", place / "run", "--write", "-n", 4)
    file = place / "checkpoints" / "vocoder.safetensors"
    told = json.loads(file.with_suffix(".json").read_text())
    quality = told["quality"]
    assert quality["n"] == {"held_out": 4, "unheard": 4}
    ways = {"vocoder, 2 calls", "vocoder, 8 calls", "Griffin-Lim, 2 rounds",
            "Griffin-Lim, 3 rounds"}  # fmt: skip
    for found in quality["splits"].values():
        assert set(found) == ways
        for value in found.values():
            assert 1 < value["lsd_db"][0] < 30 and value["real_time_factor"] > 0
    best = min(v["lsd_db"][0] for way, v in quality["splits"]["unheard"].items() if "Griff" in way)
    ours = quality["splits"]["unheard"]["vocoder, 8 calls"]["lsd_db"][0]
    assert not quality["nearer_than_griffin_lim"] or ours < best
    assert told["flops_per_call"] > 0
    card = file.with_suffix(".md").read_text()
    assert "pieces of 0.256 s at 8,000 Hz" in card and "real-time factor" in card
    assert "course sample speech --vocoder vocoder" in card and "{" not in card
    assert ("It does not come nearer" in card) != quality["nearer_than_griffin_lim"]
    run("vocoder", "--from", place / "run", "-n", 2)


def test_cards_of_images_stay_as_they_are(monkeypatch):
    """The card in the repository is what its figures give."""
    monkeypatch.syspath_prepend(str(BUILD))
    cards = importlib.import_module("checkpoint_cards")
    place = data_folder() / "checkpoints"
    for name in ("digits", "fashion"):
        told = json.loads((place / f"{name}.json").read_text())
        text = cards.card(told, recipes.from_dict(told["recipe"]), (1, 28, 28))
        assert text == (place / f"{name}.md").read_text()


def test_a_run_of_another_recipe_is_not_shipped(script):
    run, place = script
    recipe = recipes.load(place / "recipes" / "drums.toml")
    other = replace(recipe, scale=2.0)
    (place / "run").mkdir()
    model = other.make_network((1, 8192))
    checkpoints.save(place / "run" / "drums.safetensors", model, other, (1, 8192))
    with pytest.raises(SystemExit, match="was not made by"):
        run("drums", "--from", place / "run", "--write")
    assert not list((place / "checkpoints").iterdir())


def test_the_checkpoint_of_the_name_is_taken(script):
    from train_checkpoints import from_run

    _, place = script
    (place / "run").mkdir()
    for name in ("drums-last-good", "drums", "zebra"):
        (place / "run" / f"{name}.safetensors").write_bytes(b"")
    assert from_run("drums", place / "run").stem == "drums"


def test_figures_of_sound():
    """Half as loud is 6.02 dB less; notes asked for an octave higher are out of tune, or not."""
    x, labels = sources.source("notes").take("reference", 40)
    found = sound_judging.sound_figures(x, labels, "notes")
    assert found["pitch_cents"] < 25 and found["pitched"] > 0.9 and found["in_tune"] > 0.8
    quiet = sound_judging.sound_figures(x / 2, labels, "notes")
    assert quiet["loudness_db"] == pytest.approx(found["loudness_db"] - 6.0206, abs=1e-3)
    assert quiet["pitch_cents"] == pytest.approx(found["pitch_cents"], abs=0.1)
    rows = (labels % 85 > 12) & (labels % 85 < 72)
    higher = sound_judging.sound_figures(x[rows], labels[rows] + 12, "notes")
    plain = sound_judging.sound_figures(x[rows], labels[rows], "notes")
    assert higher["pitch_cents"] > 1100 and higher["in_tune"] < 0.2
    assert higher["pitch_cents_folded"] == pytest.approx(plain["pitch_cents_folded"], abs=0.1)
    silent = sound_judging.sound_figures(torch.zeros_like(x), labels, "notes")
    assert silent["pitched"] == 0 and silent["pitch_cents"] is None
    square = torch.ones(2, 1, 8192)
    assert sound_judging.sound_figures(square, torch.tensor([0, 1])) == {
        "loudness_db": pytest.approx(0, abs=1e-4), "clipping": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="N labels"):
        sound_judging.sound_figures(x, labels[:3], "notes")


def test_spoken_distance():
    """Only frames until the word ends count; twice as loud is 6.02 dB; silence is no trouble."""
    g = torch.Generator().manual_seed(0)
    a = torch.zeros(2, 4096)
    a[:, :1500] = 0.3 * torch.randn(2, 1500, generator=g)
    far = sound_judging.spoken_distance(a, 2 * a)
    torch.testing.assert_close(far, torch.full((2,), 6.0206), rtol=1e-3, atol=0)
    noisy = a.clone()
    noisy[:, 2500:] = 0.5
    assert sound_judging.spoken_distance(a, noisy).abs().max() < 1e-4
    silent = torch.zeros(1, 4096)
    assert sound_judging.spoken_distance(silent, silent).item() == 0
    with pytest.raises(ValueError, match="twice"):
        sound_judging.spoken_distance(a, a[:, :5])
