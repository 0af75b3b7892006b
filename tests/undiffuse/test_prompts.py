"""Asking with words: what comes back, what is said, the command, and training with prompts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from undiffuse import checkpoints, draw, prompts, recipes, repair, sources, trainer

RECIPE = recipes.from_dict(
    {
        "name": "words",
        "data": "portraits",
        "n": 32,
        "steps": 6,
        "batch": 8,
        "warmup": 1,
        "drop_words": 0.2,
        "guidance": 1.5,
        "network": {
            "channels": [16, 16],
            "patch": 4,
            "attention": [False, True],
            "text": {"width": 16, "layers": 1},
        },
    }
)


@pytest.fixture(scope="module")
def run():
    x, tokens = sources.source("portraits").take("train", 32)
    return trainer.train(RECIPE, x, tokens)


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.safetensors"
    checkpoints.save(path, run.model, RECIPE, (3, 32, 32), **trainer.facts(run))
    return checkpoints.load(path)


def test_training_goes_on_to_the_same_weights(run, tmp_path):
    x, tokens = sources.source("portraits").take("train", 32)

    class Stop(Exception):
        pass

    def stop(step, of, loss, model):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(RECIPE, x, tokens, folder=tmp_path, on_step=stop)
    again = trainer.train(RECIPE, x, tokens, folder=tmp_path)
    for a, b in zip(run.model.state_dict().values(), again.model.state_dict().values()):
        assert torch.equal(a, b)


def test_a_file_knows_its_words(found):
    assert found.vocab == sources.source("portraits").vocab and found.null == 0
    assert prompts.length_of(found) == 20


def test_prompts_count_and_seeds_count(found):
    options = {"calls": 2, "guidance": 4.0}
    one = prompts.ask(found, "a pilot with dark skin", 3, **options)
    same = prompts.ask(found, "A PILOT with dark skin!", 3, **options)
    other = prompts.ask(found, "a cook with light skin", 3, **options)
    assert one.samples.shape == (3, 3, 32, 32) and one.said == ()
    assert torch.equal(one.samples, same.samples)
    assert not torch.equal(one.samples, other.samples)
    several = prompts.ask(found, ["a pilot with dark skin", "a cook with light skin"], **options)
    torch.testing.assert_close(several.samples[:1], one.samples[:1], rtol=1e-4, atol=1e-4)


def test_unknown_words_are_left_out_and_named(found):
    odd = prompts.ask(found, "a flying pilott", 1, calls=1)
    assert prompts.words_from(odd.tokens, found.vocab) == ["a"]
    assert any("pilot" in line for line in odd.said)
    empty = prompts.ask(found, "", 1, calls=1)
    assert not empty.tokens.any() and "empty" in empty.said[0]


def test_negative_and_second_prompts_change_the_drawing(found):
    options = {"calls": 2, "count": 2}
    plain = prompts.ask(found, "a cook", guidance=1.5, **options).samples
    away = prompts.ask(found, "a cook", negative="dark skin", second_scale=3.0, **options).samples
    also = prompts.ask(found, "a cook", also="dark skin", second_scale=3.0, **options).samples
    assert not torch.allclose(plain, away) and not torch.allclose(away, also)
    with pytest.raises(ValueError, match="not both"):
        prompts.ask(found, "a cook", negative="a", also="b")


def test_the_way_of_a_drawing(found):
    trail = []
    asked = prompts.ask(found, "a cook", 2, calls=3, trail=trail)
    assert len(trail) == 1 and len(trail[0].x0) == 3 and trail[0].x0[0].shape == (2, 3, 32, 32)
    torch.testing.assert_close(trail[0].x[-1].clamp(-1, 1), asked.samples)


def test_prompts_of_the_wrong_kind_are_refused(found):
    with pytest.raises(TypeError, match="string"):
        prompts.ask(found, [3])
    with pytest.raises(ValueError, match="no prompt"):
        prompts.ask(found, [])
    with pytest.raises(ValueError, match="no labels"):
        draw.draw(found, 1, label=3)
    with pytest.raises(ValueError, match="2 prompts"):
        draw.draw(found, 1, labels=torch.zeros(2, 20, dtype=torch.int64))
    digits = checkpoints.load("digits")
    with pytest.raises(ValueError, match="reads no prompts"):
        prompts.ask(digits, "a seven")
    with pytest.raises(ValueError, match="no prompts"):
        second = (torch.zeros(1, 20, dtype=torch.int64), 1.0)
        draw.draw(digits, 1, second=second)


def test_without_a_prompt_those_of_the_reference_come_in_turn(found):
    _, tokens = draw.draw(found, 3, calls=1)
    assert torch.equal(tokens, sources.source("portraits").take("reference", 3)[1])


@pytest.mark.parametrize(
    "change, says",
    [
        ({"data": "digits"}, "data with prompts"),
        ({"network": {"text": {"wdth": 8}}}, "did you mean width"),
        ({"network": {"classes": 3}}, r"give \[network.text\]"),
        ({"network": {}, "drop_words": 0.1}, "drop_words is for prompts"),
        ({"drop_words": 1.5}, "drop_words = 1.5"),
    ],
)
def test_recipes_with_words_are_checked(change, says):
    with pytest.raises(recipes.RecipeError, match=says):
        replace(RECIPE, **change)


def test_labels_are_no_prompts():
    x, _ = sources.source("portraits").take("train", 32)
    with pytest.raises(ValueError, match="tokens int64"):
        trainer.train(RECIPE, x, torch.zeros(32, dtype=torch.int64))


def test_a_network_without_text_learns_drawings_alone(tmp_path):
    drawings = replace(RECIPE, network={"channels": [16, 16], "patch": 4}, drop_words=0.0,
                       guidance=1.0, steps=2, validate_every=2)  # fmt: skip
    x, tokens = sources.source("portraits").take("train", 32)
    run = trainer.train(drawings, x, tokens, validation=(x, tokens), folder=tmp_path)
    assert len(run.validation) == 1
    checkpoints.save(tmp_path / "alone.safetensors", run.model, drawings, (3, 32, 32))
    samples, labels = draw.draw(checkpoints.load(tmp_path / "alone.safetensors"), 2, calls=1)
    assert samples.shape == (2, 3, 32, 32) and labels is None


def test_a_network_that_reads_is_tuned_with_its_own_words_only(run, tmp_path):
    x, tokens = sources.source("portraits").take("train", 32)
    path = tmp_path / "first.safetensors"
    tuned = replace(RECIPE, init=str(path), lora=2, steps=2, accumulate=2)
    checkpoints.save(path, run.model, RECIPE, (3, 32, 32), **trainer.facts(run))
    found = trainer.train(tuned, x, tokens).model.state_dict()
    before = checkpoints.load(path).model.state_dict()  # as rounded in the file
    assert found.keys() == before.keys()
    assert torch.equal(found["encoder.embed.weight"], before["encoder.embed.weight"])
    assert not torch.equal(found["conv_in.weight"], before["conv_in.weight"])
    words = list(RECIPE.source.vocab)
    words[-2:] = reversed(words[-2:])
    checkpoints.save(path, run.model, RECIPE, (3, 32, 32), words=words)
    with pytest.raises(recipes.RecipeError, match="words, which are not the"):
        trainer.train(tuned, x, tokens)


def test_repair_reads_prompts(found):
    x, tokens = sources.source("portraits").take("reference", 2)
    mask = torch.ones(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = False
    few = {"calls": 4, "repeats": 2}

    def filled(labels, guidance=1.0):
        return repair.inpaint(found, x, mask, labels=labels, guidance=guidance, **few)

    told, none = filled(tokens, 4.0), filled(None)
    assert torch.equal(told[..., mask[0]], x[..., mask[0]])
    assert not torch.allclose(told, none, atol=1e-3)
    torch.testing.assert_close(filled(torch.zeros_like(tokens)), none)
    with pytest.raises(ValueError, match="tokens int64"):
        filled(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 prompts were given for 2"):
        filled(tokens[[0, 1, 1]])
    with pytest.raises(ValueError, match="guidance needs labels"):
        filled(None, 2.0)


def test_a_distilled_network_takes_one_prompt_and_its_own_levels(found):
    told = {"teacher": "words", "method": "consistency", "calls": 2}
    student = replace(found, recipe=replace(RECIPE, distilled=told))
    tokens = torch.zeros(1, 20, dtype=torch.int64)
    assert draw.draw(student, 1)[0].shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="one prompt, not two"):
        draw.draw(student, 1, second=(tokens, 1.0))
    with pytest.raises(ValueError, match="leaves no trail"):
        draw.draw(student, 1, trail=[])
    with pytest.raises(ValueError, match="such as words"):
        repair.redraw(student, torch.zeros(1, 3, 32, 32), 0.5)


def test_the_command_draws_and_says(found, tmp_path, run):
    from typer.testing import CliRunner

    from undiffuse import commands

    path = tmp_path / "mine.safetensors"
    checkpoints.save(path, run.model, RECIPE, (3, 32, 32), **trainer.facts(run))
    out = tmp_path / "out.npz"
    call = ["sample", str(path), "--count", "2", "--calls", "1", "--out", str(out)]
    done = CliRunner().invoke(commands.app, [*call, "--prompt", "a pilott"])
    assert done.exit_code == 0 and "did you mean pilot" in done.output
    with np.load(out) as z:
        assert z["images"].shape == (2, 32, 32, 3) and z["prompts"].tolist() == ["a", "a"]
    for more, says in (
        (["--label", "3"], "reads words"),
        (["--negative", "a cook"], "go with --prompt"),
    ):
        done = CliRunner().invoke(commands.app, [*call, *more])
        assert done.exit_code and (says in done.output or says in str(done.exception))
