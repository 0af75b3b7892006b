"""Looking at a run: the right losses by level, pictures, and nothing changed by it."""

import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from test_trainer import TINY, images, weights

from undiffuse import trainer, watch
from undiffuse.schedules import cosine_schedule


def test_loss_by_level_weighs_each_sample_once():
    """A loss that is the time itself: each level's mean lies within its part of the times."""
    x, n = torch.zeros(25, 1, 4), 5

    def loss(x0, t, noise, cond):
        assert noise.shape == x0.shape and cond is None
        return t

    found = watch.loss_by_level(loss, x, None, 0.2, 0.7, bins=n, batch=7)
    edges = 0.2 + 0.5 * torch.arange(n + 1) / n
    assert ((edges[:-1] < found) & (found < edges[1:])).all()
    assert torch.equal(found, watch.loss_by_level(loss, x, None, 0.2, 0.7, bins=n, batch=7))
    together = watch.loss_by_level(loss, x, None, 0.2, 0.7, bins=n, batch=25)
    torch.testing.assert_close(found, together, rtol=1e-6, atol=0)
    other = watch.loss_by_level(loss, x, None, 0.2, 0.7, bins=n, seed=1)
    assert not torch.equal(found, other)


def test_loss_by_level_wants_a_sample_a_level():
    with pytest.raises(ValueError, match="3 validation samples cannot fill 10 noise levels"):
        watch.loss_by_level(None, torch.zeros(3, 1, 4), None, 0.0, 1.0)


def test_level_middles():
    schedule = cosine_schedule()
    found = watch.level_middles(schedule, 0.1, 0.9, 4)
    wanted = schedule.log_snr(torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(found, wanted)


WATCHED = replace(TINY, validate_every=20, sample_every=25)
VALIDATION = images(12)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return trainer.train(WATCHED, *images(), folder=folder, validation=VALIDATION), folder


def test_watching_changes_nothing(watched):
    plain = trainer.train(TINY, *images())
    assert torch.equal(weights(watched[0]), weights(plain))
    assert watched[0].losses == plain.losses


def test_what_a_watched_run_leaves(watched):
    run, folder = watched
    assert [step for step, _ in run.validation] == [20, 40, 60]
    assert all(len(v) == watch.BINS and all(map(math.isfinite, v)) for _, v in run.validation)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    logged = [(line["step"], line["validation"]) for line in lines if "validation" in line]
    assert logged == [(step, values) for step, values in run.validation]
    pictures = sorted(p.name for p in folder.glob("samples-*.png"))
    assert pictures == ["samples-000025.png", "samples-000050.png", "samples-000060.png"]
    assert Image.open(folder / pictures[0]).size == (10 * 9 - 1, 2 * 9 - 1)
    assert Image.open(folder / "curves.png").size[0] > 600


def test_without_what_draws_it_trains_without_pictures(tmp_path, monkeypatch):
    for package in ("PIL", "PIL.Image", "matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, package, None)
    recipe = replace(TINY, steps=4, sample_every=4)
    with pytest.warns(UserWarning, match="no picture of the run"):
        run = trainer.train(recipe, *images(), folder=tmp_path)
    assert run.steps == 4 and not list(tmp_path.glob("*.png"))


def test_the_loss_that_is_logged_is_that_of_the_averaged_weights(watched):
    run, _ = watched
    low, high = trainer.time_range(run.schedule)

    def loss(x0, t, noise, cond):
        return trainer.denoising_loss(run.model, run.schedule, x0, t, noise, cond, reduce=False)

    with torch.no_grad():
        found = watch.loss_by_level(loss, *VALIDATION, low, high)
    assert run.validation[-1][1] == pytest.approx(found.tolist(), abs=1e-5)


def test_validation_needs_data():
    with pytest.raises(ValueError, match="pass validation"):
        trainer.train(WATCHED, *images())
    x, labels = images(12)
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        trainer.train(WATCHED, *images(), validation=(x, labels + 1))


def test_sound_is_drawn_as_waves(tmp_path):
    g = torch.Generator().manual_seed(0)
    recipe = replace(
        WATCHED, network={"channels": [8], "patch": 2}, steps=3, shift=0, flip=False, sample_every=3
    )
    x = torch.randn(12, 1, 21, generator=g)
    run = trainer.train(recipe, x, folder=tmp_path, validation=(x, None))
    assert len(run.validation) == 1
    assert (tmp_path / "samples-000003.png").stat().st_size > 1000
