"""The drawings: what they are, their prompts, splits of combinations, and judging by attributes."""

import numpy as np
import pytest
import torch

from undiffuse import attributes, classifiers, data, drawings, prompt_judging, sources
from undiffuse.text import UNKNOWN

NAMES = ("portraits", "emoji")
JUDGES = [
    name
    for name in classifiers.OF_ATTRIBUTES
    if (data.folder() / "checkpoints" / f"{name}_classifier.safetensors").is_file()
]
# What a judge must at least say right of real drawings that nothing was trained on. Emoji's has 396
# drawings to learn three styles from, and whole categories in one of them are held out: five ways
# of training it named 0.66 to 0.74 of the styles there. Its bar is twice what guessing gives.
BARS = {
    "portraits": {"role": 0.6, "tone": 0.8, "style": 0.95},
    "emoji": {"category": 0.4, "style": 2 / 3},
}


@pytest.fixture(scope="module")
def held():
    return {name: prompt_judging.held(name) for name in NAMES}


def test_splits_share_no_picture_and_no_portrait_combination(held):
    for drawing in held.values():
        rows = np.concatenate(list(drawing.splits.values()))
        assert len(set(rows.tolist())) == len(rows)
        copies = len(rows) - len({drawing.images[i].tobytes() for i in rows})
        assert copies == 0
    people = held["portraits"]
    triples = {
        split: {tuple(int(people.attributes[k][i]) for k in people.attributes) for i in rows}
        for split, rows in people.splits.items()
    }
    for a in triples:
        for b in triples:
            assert a == b or not triples[a] & triples[b]


def test_what_is_held_out_was_seen_in_parts(held):
    people = held["portraits"]
    train, out = people.splits["train"], people.splits["held_out"]
    for one, two in (("role", "style"), ("tone", "style")):
        pair = people.attributes[one] * 1000 + people.attributes[two]
        assert set(pair[out].tolist()) <= set(pair[train].tolist())
    things = held["emoji"]
    train, out = things.splits["train"], things.splits["held_out"]
    pair = things.attributes["category"] * 10 + things.attributes["style"]
    assert not set(pair[out].tolist()) & set(pair[train].tolist())
    for key in ("category", "style"):
        values = things.attributes[key]
        assert set(values[out].tolist()) <= set(values[train].tolist())


def test_every_word_of_a_prompt_is_trained_on():
    for name in NAMES:
        for split in data.SPLITS:
            tokens = prompt_judging.tokens_of(name, split)
            assert not bool((tokens == UNKNOWN).any()) and bool((tokens[:, -1] == 0).all())


def test_prompts_read_as_sentences():
    say = drawings.portrait_prompt
    assert say("pilot", "dark", "noto") == "a pilot with dark skin, in the style of noto"
    assert say("man: red hair", "light", "fluent") == (
        "a man with red hair and light skin, in the style of fluent"
    )
    assert say("woman: bald", "medium", "noto").startswith("a bald woman with medium skin")
    assert say("artist", "light", "noto").startswith("an artist with")
    assert say("face palm", "light", "noto").startswith("a person facepalming with")
    assert drawings.emoji_prompt("red apple", "Food & Drink", "noto") == (
        "red apple, food or drink, in the style of noto"
    )


def test_tones_are_those_shown():
    people = data.load("portraits32")
    shown, named = people.more["shown"], people.more["tone"]
    differ = shown != named
    assert set(people.more["vendor"][differ].tolist()) == {"fluent3d"}
    plain = np.isin(people.more["name"], ["man", "woman", "boy", "girl"])
    for style in range(3):
        brightness = [
            people.images[
                plain & (people.attributes["tone"] == t) & (people.attributes["style"] == style)
            ][:, 14:22, 12:20].mean()
            for t in range(1, 6)
        ]
        assert brightness == sorted(brightness, reverse=True)


def test_loaders_give_what_models_want():
    for name in NAMES:
        x, tokens = sources.source(name).take("train", 7)
        assert x.shape == (7, 3, 32, 32) and x.dtype == torch.float32 and x.abs().max() <= 1
        assert tokens.shape == (7, drawings.LENGTH) and tokens.dtype == torch.int64
        with pytest.raises(ValueError, match=r"has \d+ drawings"):
            sources.source(name).take("train", 10**6)
    with pytest.raises(ValueError, match="no prompts"):
        _ = sources.source("digits").vocab


def test_ways_without_a_model_are_pictures_of_the_right_kind(held):
    wanted = prompt_judging.wanted("portraits", "held_out")
    near = prompt_judging.nearest_training("portraits", "held_out", seed=1)
    moved = prompt_judging.transplanted("portraits", "held_out", seed=1)
    count = len(wanted["role"])
    assert near.shape == moved.shape == (count, 3, 32, 32)
    assert moved.abs().max() <= 1 and torch.equal(
        near, prompt_judging.nearest_training("portraits", "held_out", seed=1)
    )
    # The nearest is a training picture that differs from what was asked for, as no triple is both.
    people = held["portraits"]
    train = sources.source("portraits").take("train")[0].flatten(1)
    rows = torch.cdist(near.flatten(1)[:40], train).argmin(1).numpy()
    found = {k: v[people.splits["train"][rows]] for k, v in people.attributes.items()}
    alike = np.stack([found[k] == wanted[k][:40].numpy() for k in wanted])
    assert not alike.all(0).any() and alike.mean() > 0.5


def test_a_transplant_brings_the_tone_nearer(held):
    """The mean colour of real held-out portraits is nearer to the transplant than to its source."""
    real, _ = sources.source("portraits").take("held_out")
    moved = prompt_judging.transplanted("portraits", "held_out")
    near = prompt_judging.nearest_training("portraits", "held_out")
    assert (moved - real).abs().mean() < 0.8 * (near - real).abs().mean()


@pytest.fixture(scope="module")
def small_judge():
    """Trained for a moment on pictures whose two attributes are their colours."""
    g = torch.Generator().manual_seed(0)
    top, low = torch.randint(3, (96,), generator=g), torch.randint(2, (96,), generator=g)
    x = 0.2 * torch.randn(96, 3, 32, 32, generator=g)
    x[torch.arange(96), top, :16] += 0.8
    x[:, :, 16:] += (low.float() - 0.5)[:, None, None, None]
    labels = {"top": top, "low": low}
    model = attributes.fit_attributes(
        x.clamp(-1, 1), labels, {"top": 3, "low": 2}, epochs=8, batch=16, width=8, dim=16
    )
    return model, x.clamp(-1, 1), labels


def test_attributes_are_learnt_apart(small_judge, tmp_path):
    model, x, labels = small_judge
    right = attributes.shares_right(model, x, labels)
    assert right["top"] > 0.9 and right["low"] > 0.9 and right["all"] <= min(right.values())
    again = classifiers.load(classifiers.save(tmp_path / "judge.safetensors", model))
    assert isinstance(again, attributes.AttributeClassifier)
    assert attributes.shares_right(again, x, labels)["all"] == pytest.approx(right["all"], abs=0.03)
    wrong = {"top": (labels["top"] + 1) % 3, "low": labels["low"]}
    assert attributes.shares_right(model, x, wrong)["top"] < 0.1


def test_colours_vary_and_white_stays():
    x = torch.rand(5, 3, 4, 4) * 2 - 1
    x[:, :, 0] = 1.0
    out = attributes.random_colours(x, torch.Generator().manual_seed(0), 0.5)
    assert torch.equal(out[:, :, 0], x[:, :, 0]) and out.abs().max() <= 1
    assert not torch.allclose(out[:, :, 1:], x[:, :, 1:])
    assert torch.equal(attributes.random_colours(x, torch.Generator(), 0.0), x)


def test_judging_wants_a_sample_a_prompt(small_judge):
    with pytest.raises(ValueError, match="prompts"):
        prompt_judging.judge_prompts(torch.zeros(3, 3, 32, 32), "portraits", judge=small_judge[0])


@pytest.mark.parametrize("name", JUDGES)
def test_shipped_judges_are_as_good_as_recorded(name):
    facts, model = classifiers.facts(name), classifiers.load(name)
    assert facts["bytes"] == classifiers.locate(name).stat().st_size < 1_000_000
    assert facts["trained_on"]["split"] == "features"
    x, wanted = sources.source(name).take("held_out")[0], prompt_judging.wanted(name, "held_out")
    right = attributes.shares_right(model, x, wanted)
    for key, share in facts["accuracy"]["held_out"].items():
        assert right[key] == pytest.approx(share, abs=2.01 / len(x))
    for key, bar in BARS[name].items():
        assert right[key] >= bar
    card = classifiers.locate(name).with_suffix(".md").read_text(encoding="utf-8")
    for share in facts["accuracy"]["held_out"].values():
        assert f"{share:.1%}" in card
    assert f"{facts['floor']['fd']:.3f}" in card
