"""Shipped checkpoints are what their recipes, JSON files and cards say, and draw as they say."""

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch

from undiffuse import checkpoints, judging, presets, recipes
from undiffuse.blocks import count_parameters
from undiffuse.draw import draw
from undiffuse.text import UNKNOWN

STUDENTS = [n for n in checkpoints.names() if checkpoints.load(n).recipe.distilled]
SHIPPED = [n for n in checkpoints.names() if n not in STUDENTS]
PROMPTED = [n for n in SHIPPED if recipes.load(n).told]
DRAWN = [n for n in SHIPPED if recipes.load(n).source.kind != "vocoder" and n not in PROMPTED]
REALS = {"drums": 79, "notes": 104, "speech": 350}  # all that there are to compare with
IMAGES = [n for n in DRAWN if recipes.load(n).source.kind == "image"]


def facts_of(name):
    return json.loads((checkpoints.folder() / f"{name}.json").read_text(encoding="utf-8"))


def test_names():
    assert set(IMAGES) == {"digits", "digits-efficient", "fashion"}
    assert set(PROMPTED) <= {"portraits", "emoji"}
    rest = set(SHIPPED) - set(IMAGES) - set(PROMPTED)
    assert rest <= {"drums", "notes", "speech", "vocoder"}


@pytest.mark.parametrize("name", SHIPPED)
def test_file_recipe_and_card_belong_together(name):
    path, facts = checkpoints.locate(name), facts_of(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["sha256"]
    assert path.stat().st_size == facts["bytes"] < 5e6
    found = checkpoints.load(name)
    assert found.recipe == recipes.load(name) == recipes.from_dict(facts["recipe"])
    assert count_parameters(found.model) == facts["parameters"]
    cond = None
    if found.recipe.told:
        cond = torch.full((1, found.model.encoder.length), UNKNOWN)
    if found.recipe.network.get("design") == "spectral":
        cond = torch.zeros(1, *found.shape)
    elif found.recipe.source.kind == "vocoder":
        cond = torch.zeros(1, 64, found.shape[-1] // 64 + 1)
    assert presets.flops_per_call(found.model, found.shape, cond) == facts["flops_per_call"]
    assert found.facts == facts["run"] and found.facts["steps"] == found.recipe.steps
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for said in (facts["command"], f"{facts['parameters']:,}"):
        assert said in card
    if name in DRAWN:
        assert f"guidance {found.recipe.guidance:g}" in card


@pytest.mark.parametrize("name", DRAWN)
def test_recorded_quality(name):
    """As many samples and seeds as the card says, and means that are those of the seeds."""
    quality = facts_of(name)["quality"]
    assert quality["n"] == REALS.get(name, 1000)
    assert quality["seeds"] == [0, 1, 2]
    assert quality["guidance"] == recipes.load(name).guidance
    for sampler in quality["samplers"].values():
        assert len(sampler["seeds"]) == 3
        for key, mean in sampler["mean"].items():
            assert mean == pytest.approx(sum(q[key] for q in sampler["seeds"]) / 3, abs=1e-4)
        for q in sampler["seeds"]:
            assert q["ratio"] == pytest.approx(q["fd"] / quality["floor"]["fd"], rel=1e-3)
    few, many = (quality["samplers"][k]["mean"]["fd"] for k in ("dpmpp_2m_10", "ddim_50"))
    assert quality["fd_of_10_calls_over_50"] == pytest.approx(few / many, abs=1e-3)


@pytest.mark.parametrize("name", PROMPTED)
def test_combinations_never_seen_come_out_as_recorded(name):
    """Means and bars are those of the runs, and what the card says of them."""
    quality = facts_of(name)["quality"]
    runs, real = quality["runs"], quality["real"]
    assert [run["seed"] for run in runs] == quality["seeds"] == [0, 1, 2]
    assert quality["guidance"] == recipes.load(name).guidance
    assert quality["n"]["held_out"] == len(recipes.load(name).source.take("held_out")[0])
    for key, share in real.items():
        mean = sum(run["held_out"][key] for run in runs) / 3
        if key != "all":
            assert quality["bars"][f"{key}: at least 0.7 of real"] == (mean >= 0.7 * share)
    for way in ("nearest", "transplant"):
        above = min(r["held_out"]["all"] for r in runs) > max(r[way]["all"] for r in runs)
        assert quality["bars"][f"all right: above {way}"] == above
    for how in ("", "_apart"):
        ratio = runs[0][f"fd{how}"] / runs[0]["floor"]
        assert runs[0][f"ratio{how}"] == pytest.approx(ratio)
    assert all(quality["bars"].values())
    card = (checkpoints.folder() / f"{name}.md").read_text(encoding="utf-8")
    for title, met in quality["bars"].items():
        assert f"- {title}: {'yes' if met else '**no**'}" in card


@pytest.mark.parametrize("name", PROMPTED)
def test_a_prompt_is_followed(name):
    """Twelve held-out prompts, six calls, a fixed seed; chance would get one style in three."""
    from undiffuse import classifiers, prompt_judging
    from undiffuse.attributes import shares_right

    found = checkpoints.load(name)
    tokens = prompt_judging.tokens_of(name, "held_out")[:12]
    x, _ = draw(found, 12, calls=6, labels=tokens)
    wanted = {k: v[:12] for k, v in prompt_judging.wanted(name, "held_out").items()}
    right = shares_right(classifiers.load(name), x, wanted)
    assert right["style"] > 0.5


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_and_its_card_belong_together(name):
    """Its figures are those of its own number of calls, with three seeds, and meet their bars."""
    path, facts = checkpoints.locate(name), facts_of(name)
    found, quality = checkpoints.load(name), facts["quality"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["sha256"]
    assert path.stat().st_size == facts["bytes"] < 5e6
    assert found.recipe == recipes.from_dict(facts["recipe"]) and found.facts == facts["run"]
    told, own = found.recipe.distilled, quality["samplers"]["own"]
    assert name == f"{told['teacher']}-{told['calls']}" and own["calls"] == told["calls"]
    assert quality["n"] == 1000 and quality["seeds"] == [0, 1, 2]
    assert own["mean"]["fd"] == pytest.approx(sum(q["fd"] for q in own["seeds"]) / 3)
    teacher = facts_of(told["teacher"])["quality"]["samplers"]["ddim_50"]["mean"]["fd"]
    assert own["mean"]["fd"] <= {4: 1.5, 1: 4.0}[told["calls"]] * teacher
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert facts["command"] in card and f"{own['mean']['fd']:.3f}" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_draws_what_is_recorded(name):
    """250 samples by 10 calls: accuracy is near what is recorded.

    By Hoeffding's bound the chance of a false alarm is below 1e-7 at a fixed seed of any machine.
    """
    found, facts = checkpoints.load(name), facts_of(name)
    labels = judging.labels_like(found.recipe.data, 250)
    images, _ = draw(found, 250, calls=10, seed=5, labels=labels)
    quality = judging.judge_images(images, labels, found.recipe.data, (5,))
    wanted = facts["quality"]["samplers"]["dpmpp_2m_10"]["mean"]
    assert abs(quality.accuracy - wanted["accuracy"]) < math.sqrt(math.log(2e7) / (2 * 250))
    assert quality.n == 250 and quality.fd > 0


def test_a_recipe_draws_with_its_guidance():
    found = checkpoints.load("digits")
    same = draw(found, 3, calls=3, guidance=found.recipe.guidance)[0]
    assert torch.equal(draw(found, 3, calls=3)[0], same)
    plain = replace(found, recipe=replace(found.recipe, guidance=1.0))
    assert torch.equal(draw(plain, 3, calls=3)[0], draw(found, 3, calls=3, guidance=1.0)[0])
    assert not torch.equal(draw(plain, 3, calls=3)[0], same)
