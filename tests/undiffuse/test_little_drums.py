"""Few drum hits: sources are left out whole, and draws of all folds are judged together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from undiffuse import data
from undiffuse.experiments import little_drums as little


def test_hits_are_all_but_the_judges_own():
    x, labels, folds, drums = little.hits()
    held = data.load("drums16k")
    assert len(x) == len(labels) == len(folds) == len(drums) == 578 - len(held.splits["features"])
    judged = {held.audio[i].tobytes() for i in held.splits["features"]}
    mine = {(a[0] * 32768).round().short().numpy().tobytes() for a in x}
    assert len(mine) == len(x) and not mine & judged
    assert set(folds) == set(little.FOLDS)


def test_a_source_is_trained_on_or_left_out():
    _, labels, folds, drums = little.hits()
    left_out = []
    for fold in little.FOLDS:
        run = replace(little.runs("full")[0], fold=fold, count=300)
        known, unseen = little.parts_of(run)
        assert len(known) == 300 and len(set(known.tolist())) == 300
        assert {folds[i] for i in unseen} == {fold} and fold not in {folds[i] for i in known}
        assert not {drums[i] for i in known} & {drums[i] for i in unseen}
        left_out += unseen.tolist()
    assert sorted(left_out) == list(range(len(labels)))  # each hit is left out once


def test_seeds_choose_other_hits():
    run = little.runs("full")[0]
    first, _ = little.parts_of(run)
    again, _ = little.parts_of(run)
    other, _ = little.parts_of(replace(run, seed=1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_halves_do_not_part_a_drum():
    drums = ["a", "a", "b", "c", "c", "c", "d"]
    masks = little.halvings(drums, 8)
    for mask in masks:
        halves = {(d, bool(m)) for d, m in zip(drums, mask)}
        assert len(halves) == 4 and sum(m for _, m in halves) == 2
    assert len({tuple(m.tolist()) for m in masks}) > 1


def test_real_hits_get_the_floor_and_noise_does_not():
    g = torch.Generator().manual_seed(0)
    reals = torch.randn(60, 3, generator=g, dtype=torch.float64)
    masks = little.halvings([str(i // 2) for i in range(60)], 5)
    same = little.pooled(reals, reals, masks)
    assert same["FD"] == pytest.approx(same["floor"]) and same["recall"] == same["real recall"]
    off = little.pooled(reals + 3.0, reals, masks)
    assert off["FD"] > 20 * off["floor"] and off["recall"] < same["recall"]


def outcomes(error, budget="full"):
    """run -> figures: features of the hits that were left out, off by ``error(run)``."""
    _, _, folds, _ = little.hits()
    reals = little.real_features()
    found = {}
    for run in little.runs(budget):
        rows = reals[torch.tensor([f == run.fold for f in folds])]
        found[run] = {"features": (rows + error(run)).tolist(), "accuracy": 0.9,
                      "memorisation": 1.0, "last training losses": 0.1}  # fmt: skip
    return found


@pytest.mark.slow
def test_verdicts():
    def error(run):
        return (60 / run.count + 0.01 * run.seed) * (0.7 if run.way == "altered" else 1.0)

    made = little.conclude(outcomes(error))
    assert len(made["C4-drums"]["rows"]) == 4 * 2 * 3
    assert made["C4-drums"]["verdict"].startswith("more hits help")
    assert made["C7-drums"]["verdict"].startswith("true here")
    fewer = little.conclude(outcomes(lambda run: run.count / 300 + 0.01 * run.seed))
    assert fewer["C4-drums"]["verdict"].startswith("fewer hits got further")
    none = little.conclude(outcomes(lambda run: 0.5 + 0.01 * run.seed))
    assert none["C4-drums"]["verdict"].startswith("not separable at this size")
    assert none["C7-drums"]["verdict"].startswith("not separable at this size")


@pytest.mark.slow
def test_one_small_run():
    run = little.runs("small")[0]
    found = little.measure(run)
    _, unseen = little.parts_of(run)
    assert len(found["features"]) == len(unseen) and 0 <= found["accuracy"] <= 1
    assert found["memorisation"] > 0


def test_pictures_are_small_and_can_be_heard():
    x, _, _, _ = little.hits()
    shown = little.pictures(x[:20])
    assert shown.shape == (20, 1, 32, 32) and shown.min() >= -1 and shown.max() <= 1
    heard = little.heard(shown)
    assert heard.shape == (20, 1, 8192) and heard.abs().max() <= 1
    again = little.pictures(heard)
    loud = shown > -0.5  # below, a band is more than 40 dB under the loudest
    assert (again - shown)[loud].abs().mean() < 0.05
    assert torch.equal(heard, little.heard(shown))


def test_altered_hits_are_faster_slower_later_and_quieter():
    t = torch.arange(8192) / 16000
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * t)[None, None]
    made, labels = little.altered(tone, torch.tensor([3]), torch.Generator().manual_seed(0))
    assert len(made) == len(little.SPEEDS) * little.COPIES
    assert labels.tolist() == [3] * len(made)
    found = torch.fft.rfft(made[:, 0, 256:6500], 16000).abs().argmax(-1)  # bins of 1 Hz
    wanted = [1000 * fast / slow for fast, slow in little.SPEEDS for _ in range(little.COPIES)]
    assert found.tolist() == pytest.approx(wanted, abs=2)
    peaks = made.abs().amax(-1)
    assert peaks.min() > 0.24 and peaks.max() < 0.53 and len(set(peaks.flatten().tolist())) > 5
    again, _ = little.altered(tone, torch.tensor([3]), torch.Generator().manual_seed(0))
    assert torch.equal(made, again)


@pytest.mark.slow
def test_hearing_spectrograms_costs_little():
    """What drawn hits are compared with: reals that go the same way and back."""
    found = little.heard_again()
    _, _, _, drums = little.hits()
    floor = little.pooled(little.real_features(), little.real_features(), little.halvings(drums))
    assert floor["FD"] < found["heard again: FD"] < 1.1 * floor["FD"]
    assert found["heard again: accuracy"] > 0.95 * found["accuracy"] > 0.6
