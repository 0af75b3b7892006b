"""Recipes: what they accept, and how they say what they do not."""

from pathlib import Path

import pytest

from undiffuse import recipes
from undiffuse.recipes import RecipeNotFound

SHIPPED = Path(__file__).parents[2] / "data" / "recipes"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_can_be_read(path):
    recipe = recipes.load(path)
    assert recipe.make_schedule().log_snr(0.5).isfinite()


@pytest.mark.parametrize(
    "entry, near", [("learning_rates", ""), ("bacth", "batch"), ("warm_up", "warmup")]
)
def test_unknown_entry_suggests_the_nearest(entry, near):
    with pytest.raises(recipes.RecipeError, match=f"unknown entry '{entry}'") as error:
        recipes.from_dict({"name": "a", entry: 1})
    assert not near or f"did you mean {near}?" in str(error.value)


def test_unknown_entry_of_the_network_or_schedule():
    with pytest.raises(
        recipes.RecipeError, match=r"network has .* 'chanels'; did you mean channels"
    ):
        recipes.from_dict({"name": "a", "network": {"chanels": [8]}})
    with pytest.raises(
        recipes.RecipeError, match=r"schedule_options has .* 'tao'; did you mean tau"
    ):
        recipes.from_dict({"name": "a", "schedule": "sigmoid", "schedule_options": {"tao": 2}})
    with pytest.raises(recipes.RecipeError, match="in_channels"):
        recipes.from_dict({"name": "a", "network": {"in_channels": 3}})


@pytest.mark.parametrize(
    "key, value",
    [
        ("data", "cats"), ("schedule", "cosin"), ("prediction", "noise"), ("weight", "snr"),
        ("steps", 0), ("steps", 2.5), ("steps", True), ("batch", -1), ("lr", 0), ("lr", 1.5),
        ("lr", "fast"), ("ema", 1.0), ("drop_labels", 1.2), ("warmup", -1), ("clip", -1.0),
        ("seconds", "long"), ("shift", 1.5), ("n", 0), ("network", [8, 16]), ("seed", "a"),
        ("lr", float("nan")), ("validate_every", -1), ("sample_every", 1.5), ("precision", "half"),
        ("accumulate", 0), ("times", "normal"), ("times_std", 0.0), ("times_mean", float("inf")),
        ("guidance_interval", [0.8, 0.2]), ("guidance_interval", [0, 1.5]),
        ("transpose", [2]), ("transpose", 3), ("guidance_interval", 0.5),
        ("guidance_interval", ["a", "b"]),
        ("guidance_interval", [float("nan"), 1]), ("guidance_interval", [0, 0.5, 1]),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(key, value):
    with pytest.raises(recipes.RecipeError, match=key):
        recipes.from_dict({"name": "a", key: value})


def test_no_name():
    with pytest.raises(recipes.RecipeError, match="no name"):
        recipes.from_dict({})


def test_files_that_are_missing_or_no_toml(tmp_path):
    with pytest.raises(RecipeNotFound, match="no recipe at"):
        recipes.load(tmp_path / "none.toml")
    with pytest.raises(RecipeNotFound, match="'lesson5'; did you mean lesson05"):
        recipes.load("lesson5")
    assert recipes.load("lesson05") == recipes.load(SHIPPED / "lesson05.toml")
    path = tmp_path / "broken.toml"
    path.write_text("lr = = 3")
    with pytest.raises(recipes.RecipeError, match="not valid TOML"):
        recipes.load(path)
    path.write_text("lrr = 3")
    with pytest.raises(recipes.RecipeError, match=r"broken.toml has an unknown entry 'lrr'"):
        recipes.load(path)


def test_name_from_the_file_and_back_as_plain_data(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("lr = 1e-2\n[network]\nchannels = [8]\n")
    recipe = recipes.load(path)
    assert (recipe.name, recipe.lr, recipe.network) == ("mine", 1e-2, {"channels": [8]})
    assert recipes.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "entries, says",
    [
        ({"data": "drums", "flip": True}, "flip = true is for images, and drums is sound"),
        ({"gain": 3.0}, "gain is for waveforms, and digits has none"),
        ({"data": "fsdd-mel", "polarity": True}, "polarity is for waveforms"),
        ({"data": "drums", "gain": -1.0}, "gain = -1.0"),
        ({"network": {"design": "unett"}}, "design = 'unett'; it may be unet, wavenet"),
        ({"network": {"design": "wavenet", "attention": [True]}}, "unknown entry 'attention'"),
    ],
)
def test_entries_that_do_not_go_together(entries, says):
    with pytest.raises(recipes.RecipeError, match=says):
        recipes.from_dict({"name": "a", **entries})


def test_presets_of_wavenets_are_written_out():
    recipe = recipes.from_dict(
        {"name": "a", "data": "drums", "network": {"preset": "drums-wavenet", "channels": 8}}
    )
    assert recipe.network["design"] == "wavenet" and recipe.network["channels"] == 8
    assert recipe.make_network((1, 64)).null == 8


def test_transpose_is_for_notes():
    assert recipes.Recipe(name="n", data="notes", transpose=[-2, 3]).transpose == (-2, 3)
    for wrong in ([0], [1, 1], [13], [1.0], "12", True):
        with pytest.raises(recipes.RecipeError, match="whole numbers of semitones"):
            recipes.Recipe(name="n", data="notes", transpose=wrong)
    with pytest.raises(recipes.RecipeError, match="sounds with a key, and drums has none"):
        recipes.Recipe(name="n", data="drums", transpose=[2])


def test_expander_is_for_waveforms():
    assert recipes.Recipe(name="n", data="drums", expander=[-30, 2]).expander == (-30.0, 2.0)
    assert recipes.Recipe(name="n", data="drums").expander is None
    for wrong in ([-30], [-30, 0.5], [5, 2], "a", 3, [None, 2]):
        with pytest.raises(recipes.RecipeError, match="a threshold from -120 to 0 dBFS"):
            recipes.Recipe(name="n", data="drums", expander=wrong)
    with pytest.raises(recipes.RecipeError, match="expander is for waveforms, and digits has none"):
        recipes.Recipe(name="n", expander=[-30, 2])
