"""Claim 3: its runs are in equal terms, and how their figures become a verdict."""

from __future__ import annotations

import pytest

from undiffuse import data
from undiffuse.blocks import count_parameters
from undiffuse.experiments import sound_claims as claims


def figures(share, ratio=2.0, real=0.8, floor=3.0):
    return {
        "accuracy": share * real,
        "accuracy of reals": real,
        "accuracy share": share,
        "FD": ratio * floor,
        "floor": floor,
        "FD / floor": ratio,
        "recall": 0.5,
        "recall of reals": 0.8,
        "nearest 5 %": 1.0,
        "nearest 5 % of reals": 1.0,
        "n": 79,
        "parameters": 1,
        "last training losses": 0.1,
    }


def concluded(shares, budget="full"):
    """C3 of accuracy shares by set, one for each seed."""
    found = {run: figures(shares[run.data][run.seed]) for run in claims.runs(budget)}
    return claims.conclude(found)["C3"]


def test_terms_are_equal():
    runs = claims.runs("full")
    assert len(runs) == 6 and {(r.data, r.seed) for r in runs} == {
        (name, seed) for name in claims.SETS for seed in (0, 1, 2)
    }
    for key in ("examples", "samples", "steps", "batch", "calls"):
        assert len({getattr(r, key) for r in runs}) == 1
    assert runs[0].examples == len(data.drums("train")[1]) < len(data.digits("train")[1])
    sizes = {}
    for run in runs[:2]:
        recipe = claims.recipe_of(run)
        shape = recipe.source.take("train", 1)[0].shape[1:]
        sizes[run.data] = count_parameters(recipe.make_network(tuple(shape)))
    assert 0.85 < sizes["digits"] / sizes["drums"] < 1.15


@pytest.mark.parametrize(
    ("drums", "says"),
    [
        ((0.9, 0.95, 0.71), "false: the same engine"),
        ((0.9, 0.95, 0.69), "false in kind"),
        ((0.1, 0.2, 0.39), "not refuted"),
    ],
)
def test_the_verdict_asks_every_seed(drums, says):
    made = concluded({"drums": drums, "digits": (0.97, 0.98, 0.99)})
    assert made["verdict"].startswith(says)
    assert made["n"] == 79 and made["floor"] == {"drum hits": 3.0, "digits": 3.0}
    assert len(made["rows"]) == 6 and "n" not in made["rows"][0]


def test_a_trial_decides_nothing():
    made = concluded({"drums": (1.0, 1.0), "digits": (1.0, 1.0)}, "small")
    assert made["verdict"].startswith("a trial")


def test_seeds_that_overlap_name_no_winner():
    made = concluded({"drums": (0.90, 0.98, 0.94), "digits": (0.92, 0.97, 0.95)})
    assert "not separable at this size" in made["verdict"]
    made = concluded({"drums": (0.72, 0.75, 0.74), "digits": (0.97, 0.98, 0.99)})
    assert "the model of drum hits is worse than that of digits" in made["verdict"]


def test_figure_has_a_dot_for_each_training():
    made = concluded({"drums": (0.9, 0.95, 0.8), "digits": (0.97, 0.98, 0.99)})
    fig, alt, caption = claims.figure("C3", made | {"seeds": [0, 1, 2]})
    assert "drum hits 0.80 to 0.95" in alt and "79 samples" in caption
    assert fig.axes


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        ({"picture, Griffin-Lim": 0.8, "picture, vocoder": 0.85}, "over the picture is understood"),
        ({"picture, Griffin-Lim": 0.2, "picture, vocoder": 0.3}, "straight is understood"),
        ({"picture, Griffin-Lim": 0.5, "picture, vocoder": 0.5}, "not separable"),
        ({"picture, Griffin-Lim": 0.5, "picture, vocoder": 0.9}, "depends on what makes sound"),
    ],
)
def test_ways_to_speak(pictures, says):
    accuracy = pictures | {"straight": 0.5}
    found = {
        run: {
            "accuracy": accuracy[run.way] + 0.001 * run.seed,
            "accuracy of a real new voice": 0.9,
            "accuracy share": 0.5,
            "FD": 9.0,
            "floor": 3.0,
            "FD / floor": 3.0,
            "recall": 0.5,
            "n": 200,
            "seconds": [300.0],
            "steps": [100],
        }
        for run in claims.speaking("full")
    }
    made = claims.conclude_speaking(found)["C3-ways"]
    assert made["verdict"].startswith(says) and made["verdict"].endswith("A real new voice: 0.90")
    assert len({run.seconds for run in found}) == 1 and len(found) == 9


@pytest.mark.slow
def test_one_small_run():
    made = {run: claims.measure(run) for run in claims.runs("small")[:2]}
    assert all(f["n"] == 16 and 0 <= f["accuracy"] <= 1 and f["FD"] > 0 for f in made.values())
    assert claims.conclude(made)["C3"]["verdict"].startswith("a trial")
