"""Experiments of lesson 14: how runs differ, and how figures become verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from undiffuse import experiments
from undiffuse.experiments import repair, synthetic_data


def test_both_are_experiments_of_the_course():
    known = experiments.all_experiments()
    for name in ("repair", "synthetic-data"):
        for size in ("small", "full", "gpu"):
            seeds = {run.seed for run in known[name].list_runs(size)}
            assert len(seeds) >= (1 if size == "small" else 3)


def test_ways_differ_in_nothing_else():
    runs = [r for r in synthetic_data.runs("full") if (r.data, r.count, r.seed) == ("digits", 5, 1)]
    assert {r.way for r in runs} == set(synthetic_data.WAYS)
    assert len({replace(r, way="") for r in runs}) == 1
    runs = [r for r in repair.runs("full") if (r.data, r.hole, r.seed) == ("drums", "40 ms", 2)]
    assert len({replace(r, method="") for r in runs}) == 1


def test_the_few_are_even_and_another_choice_for_each_seed():
    run = synthetic_data.runs("full")[0]
    x, labels = synthetic_data.few(run)
    assert torch.bincount(labels).tolist() == [run.count] * 10
    assert not torch.equal(x, synthetic_data.few(replace(run, seed=1))[0])
    assert torch.equal(x, synthetic_data.few(replace(run, way="augmented"))[0])


def test_half_of_each_batch_is_drawn(monkeypatch):
    """The order that a classifier learns in holds both in equal number, at the same length."""
    from undiffuse import classifiers

    asked = {}

    def remember(model, x, labels, vary, **options):
        asked.update(x=x[torch.arange(len(x))], n=len(x), vary=vary, **options)

    monkeypatch.setattr(classifiers, "train_on", remember)
    run = replace(synthetic_data.runs("small")[0], steps=10, batch=16)
    x = torch.zeros(30, 1, 28, 28)
    x[10:] = 1.0
    labels = torch.arange(30) % 10
    ways = (("few", 0, False), ("augmented", 0, True), ("drawn", 20, False), ("both", 20, True))
    for way, drawn, varied in ways:
        flags = torch.arange(10 + drawn) >= 10
        synthetic_data.classifier(
            replace(run, way=way), x[: len(flags)], labels[: len(flags)], flags
        )
        assert asked["n"] == 160 and asked["epochs"] == 1
        assert float(asked["x"].mean()) == (0.5 if drawn else 0.0)
        assert (asked["vary"] is not None) == varied


def classified(**accuracies):
    """Outcomes of three seeds at two counts, with the given mean accuracy of each way."""
    run = synthetic_data.runs("full")[0]
    found = {}
    for count in (5, 20):
        for way in synthetic_data.WAYS:
            for seed in (0, 1, 2):
                value = accuracies.get(way, 0.5) + 0.01 * seed
                found[replace(run, count=count, way=way, seed=seed)] = {
                    "accuracy": value, "classifier seconds": 2.0, "drawing seconds": 60.0,
                    "tests": 2000,
                }  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("accuracies", "begins"),
    [
        ({"augmented": 0.7, "drawn": 0.8, "both": 0.85}, "true here"),
        ({"augmented": 0.7, "drawn": 0.6, "both": 0.85}, "depends on how"),
        ({"augmented": 0.7, "drawn": 0.705, "both": 0.8}, "true of some ways"),
        ({"augmented": 0.7, "drawn": 0.6, "both": 0.7}, "not true here"),
        ({"augmented": 0.7, "drawn": 0.705, "both": 0.7, "shipped": 0.9}, "not separable"),
    ],
)
def test_claim_9_is_decided_by_networks_that_saw_the_few_alone(accuracies, begins):
    result = synthetic_data.conclude(classified(**accuracies))["C9-digits"]
    assert result["verdict"].startswith(begins)
    assert "30 times as long" in result["verdict"]
    assert len(result["rows"]) == 2 * 3 * len(synthetic_data.WAYS)


def repaired(network, best):
    runs = [r for r in repair.runs("full") if r.data == "drums"]
    values = {repair.NETWORK: network, repair.BOTH: best + 1.0, "Burg, 400": best}
    found = {}
    for run in runs:
        value = values.get(run.method, best + 5.0) + 0.1 * run.seed
        found[run] = {
            "LSD": value,
            "band error": value,
            "SNR": -value,
            "SNR of the mean": -value,
            "level error": 1.0,
        }
    return found


def test_repair_is_compared_with_the_best_classical_way():
    result = repair.conclude(repaired(network=4.0, best=6.0))["L14-gaps"]
    mine = [b for b in result["bars"] if b["ours"] == repair.NETWORK]
    assert len(mine) == 3 * len(repair.GAPS)
    assert all(b["best classical"] == "Burg, 400" and b["met"] for b in mine)
    assert "network: better than the best classical way in 9 of 9 comparisons" in result["verdict"]
    worse = repair.conclude(repaired(network=9.0, best=6.0))["L14-gaps"]
    assert (
        "better than the best classical way in 0 of 9 comparisons, worse in 9" in worse["verdict"]
    )


def test_a_hole_is_judged_where_it_is(monkeypatch):
    """A repair that is right everywhere but in the hole gets its error there, and no other."""
    run = replace(repair.runs("small")[0], method="biharmonic")
    truth = repair._items(run)[0]
    monkeypatch.setattr(
        repair, "_smooth", lambda method, x, mask: truth + 0.25 * (1 - truth.sign())
    )
    found = repair.picture_errors(run)
    top, bottom, left, right = repair.HOLES[run.hole]
    hole = truth[..., top:bottom, left:right]
    wanted = ((hole + 0.25 * (1 - hole.sign())).clamp(-1, 1) - hole).square().mean().sqrt()
    assert found["RMSE"] == pytest.approx(float(wanted), rel=1e-5)
    assert 0 < found["RMSE"] == found["RMSE of the mean"]


@pytest.mark.parametrize("gap", repair.GAPS)
def test_a_perfect_repair_has_no_error(monkeypatch, gap):
    run = next(r for r in repair.runs("small") if r.data == "drums" and r.method == "Burg, 400")
    run = replace(run, hole=gap)
    truth = repair._items(run)[0]
    monkeypatch.setattr(repair, "_sounds", lambda *a: [truth.clone()])
    found = repair.sound_errors(run)
    assert found["LSD"] == found["band error"] == found["level error"] == 0 and found["SNR"] > 60
    start, stop = repair.GAPS[run.hole]
    silent = truth.clone()
    silent[..., start:stop] = 0.0
    monkeypatch.setattr(repair, "_sounds", lambda *a: [silent])
    found = repair.sound_errors(run)
    assert found["LSD"] > 5 and found["band error"] > 1  # frames reach beyond the gap
    assert found["SNR"] == pytest.approx(0, abs=1e-4)


def test_bands_of_noise_are_right_where_the_noise_is_another(monkeypatch):
    """Other noise of the same level: each frame is far off, the bands over all frames are not."""
    run = next(r for r in repair.runs("small") if r.data == "drums" and r.method == "Burg, 400")
    run = replace(run, hole="40 ms")
    g = torch.Generator().manual_seed(0)
    x, other = (0.1 * torch.randn(6, 1, 8192, generator=g) for _ in range(2))
    monkeypatch.setattr(repair, "_items", lambda run: (x, torch.zeros(6, dtype=torch.int64)))
    monkeypatch.setattr(repair, "_sounds", lambda *a: [other])
    found = repair.sound_errors(run)
    assert found["band error"] < 3 < 6 < found["LSD"]
    monkeypatch.setattr(repair, "_sounds", lambda *a: [0.5 * x])
    assert repair.sound_errors(run)["band error"] == pytest.approx(20 * math.log10(2), abs=0.01)


def test_one_network_is_told_the_kind_of_drum(monkeypatch):
    from undiffuse import repair as tools

    asked = {}

    def fill(network, x, start, stop, **more):
        asked[more["seed"]] = more
        return x

    monkeypatch.setattr(tools, "fill_gap", fill)
    run = next(r for r in repair.runs("small") if r.method == repair.TOLD)
    repair.sound_errors(run)
    labels = repair._items(run)[1]
    assert len(asked) == run.draws
    assert all(torch.equal(m["labels"], labels) and m["guidance"] > 1 for m in asked.values())
    asked.clear()
    repair.sound_errors(replace(run, method=repair.NETWORK))
    assert not any("labels" in m for m in asked.values())
