"""The benchmarks fit the library as it is; what they measure is not tested here."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from undiffuse.recipes import from_dict


def load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_parts_of_a_step_are_all_of_it():
    speed = load("training_speed")
    network = {"channels": [8], "patch": 4, "classes": 10}
    recipe = from_dict({"name": "tiny", "batch": 4, "optimizer": "muon", "network": network})
    x, labels = torch.rand(8, 1, 28, 28) * 2 - 1, torch.arange(8)
    clock = speed.CLOCKS["wall"]
    took, parts = speed.whole_steps(recipe, x, labels, 3, clock)
    expected = {"forward", "backward", "clipping", "optimizer", "EMA", "batch and the rest"}
    assert set(parts) == expected and all(value >= 0 for value in parts.values())
    assert took > 0 and parts["backward"] > 0
    step = speed.Step(recipe, x[:4], labels[:4])
    assert speed.flops(step) > 3e5
    step()


def test_each_transform_is_timed_beside_a_step(monkeypatch):
    speed = load("transforms_speed")
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(speed, "LENGTH", 640)
    recipe = from_dict(speed.SMALL | {"network": {"channels": [8], "patch": 8, "classes": 10}})
    found = speed.measure(recipe, 1, speed.CLOCKS["wall"])
    assert set(found) == {"step", *speed.work(torch.zeros(2, 1, 640))}
    assert all(seconds > 0 for seconds in found.values())


def test_changes_are_of_settings_that_there_are():
    peers = load("peers_images")
    for name, changes in peers.CHANGES.items():
        assert all(set(change) <= set(peers.SETTINGS[name]) for change in changes)


def test_the_rate_warms_up_and_falls_with_the_time():
    rate = load("peers_images").rate
    settings = {"lr": 1.0, "warmup": 10, "decay_lr": True}
    assert rate(settings, 0, 0.0) == pytest.approx(0.1)
    assert rate(settings, 50, 0.5) == pytest.approx(0.5)
    assert rate(settings, 99, 1.0) == pytest.approx(0.0)
    assert rate({**settings, "decay_lr": False}, 99, 1.0) == 1.0


def test_ours_is_held_against_the_better_peer_in_each():
    compare = load("peers_images").compare
    found = [
        {"name": "ours", "excess": 1.0, "sampling": 10.0},
        {"name": "diffusers", "excess": 20.0, "sampling": 50.0},
        {"name": "smalldiffusion", "excess": 12.5, "sampling": 60.0},
    ]
    told = compare(found)
    assert told["excess_ratio"] == pytest.approx(0.08) and told["excess_met"]
    assert told["sampling_speed_up"] == pytest.approx(5.0) and told["sampling_met"]
    assert compare(found[:1]) == {}


@pytest.mark.slow
def test_five_minutes_trains_draws_and_judges(monkeypatch):
    five = load("five_minutes")
    tiny = {"channels": [8], "patch": 4, "classes": 10}
    recipe = from_dict({"name": "tiny", "batch": 4, "seconds": 9.0, "seed": 9, "network": tiny})
    monkeypatch.setattr(five.recipes, "load", lambda path: replace(recipe, guidance=1.5))
    found = five.one_seed(2, SimpleNamespace(seconds=0.2, count=40, calls=5))
    assert found["seed"] == 2 and found["steps"] >= 1 and found["train_seconds"] < 9
    assert found["ratio"] == pytest.approx(found["fd"] / found["floor"])
    assert 0 <= found["accuracy"] <= 1 and 0 <= found["recall"] <= 1


def test_grading_says_whether_its_bars_are_met():
    grading = load("grading")

    def run(each: float, after: float, most: int | None) -> dict:
        return {
            "seconds each": each,
            "seconds each after the first": after,
            "MB at most, first half": None,
            "MB at most, second half": most,
        }

    told = grading.growth([run(0.25, 0.2, 900), run(0.22, 0.21, 1100)])
    assert told["under 0.3 s each"] and told["under 2 GB"] and told["within 10 %"]
    assert told["seconds each, of most to fewest"] == pytest.approx(1.05)
    told = grading.growth([run(0.25, 0.2, 900), run(0.31, 0.3, 2100)])
    assert not any(told[k] for k in ("under 0.3 s each", "under 2 GB", "within 10 %"))
    assert grading.growth([run(0.25, 0.2, None)])["within 10 %"] is None


def test_memory_of_a_process_and_those_below_it():
    grading = load("grading")
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("no such file here")
    assert grading.tree_bytes(os.getpid()) > 1e6
    assert grading.tree_bytes(2**22 + 1) == 0


@pytest.mark.slow
def test_grading_is_timed_with_its_memory():
    grading = load("grading")
    found = grading.our_seconds("02", 3, 1, seeds=True)
    assert found["submissions"] == 3 and found["seeds"] == "per student"
    assert found["seconds each"] > 0 and found["with full points"] >= 2
