"""Beginning from a trained network: freezing, LoRA, and runs of recipes that do either."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from undiffuse import checkpoints, trainer
from undiffuse.finetune import LoRAConv, add_lora, freeze, merge_lora, take_weights
from undiffuse.recipes import Recipe, RecipeError, from_dict
from undiffuse.unet import UNet

NETWORK = {"channels": [8, 8], "patch": 2, "classes": 3}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def shake(model, seed=0):
    """Random numbers everywhere, also where a network starts at zero."""
    g = seeded(seed)
    for p in model.parameters():
        p.copy_(0.3 * torch.randn(p.shape, generator=g))
    return model


# --- freeze ------------------------------------------------------------------------------------


def layers():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def test_freeze_counts_numbers_and_stops_gradients():
    model = layers()
    assert freeze(model, "0.*") == 16
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert freeze(model, ["0.weight", "3.*"]) == 12 + 10  # frozen before, and counted too
    model(torch.randn(5, 3, generator=seeded())).sum().backward()
    grads = {name: p.grad is not None for name, p in model.named_parameters()}
    assert [name for name, has in grads.items() if has] == ["1.weight", "1.bias"]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_that_was_there_before_moves_nothing_frozen(kind):
    model = shake(layers())
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.1)
    x = torch.randn(6, 3, generator=seeded())
    for frozen in (False, True):
        if frozen:
            freeze(model, ["0.*"])
            before = copy.deepcopy(model.state_dict())
        model(x).square().sum().backward()
        optimizer.step()  # without zero_grad: an old gradient would still move it
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("0.") for k in moved) and "3.weight" in moved


def test_frozen_statistics_stay_in_training_mode():
    model = layers()
    freeze(model, "1.*")
    twin = copy.deepcopy(model)
    for net in (model, twin):
        kept = net[1].running_mean.clone()
        net.train()
        out = net(5 + torch.randn(8, 3, generator=seeded()))
        assert torch.equal(net[1].running_mean, kept) and int(net[1].num_batches_tracked) == 0
        assert net.training and out.shape == (8, 2)
    half = layers()
    freeze(half, "1.weight")  # its bias learns: it goes on keeping
    half.train()
    half(torch.randn(8, 3, generator=seeded()))
    assert int(half[1].num_batches_tracked) == 1


def test_shared_parameters_count_once():
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    assert freeze(model, ["b.*"]) == 4 and not model["a"].weight.requires_grad
    assert freeze(model, ["a.*", "b.*"]) == 4


def test_a_pattern_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"'down.\*' matches no parameter; there are 0.weight"):
        freeze(layers(), ["0.*", "down.*"])


# --- LoRA --------------------------------------------------------------------------------------

BASES = [
    (lambda: nn.Linear(5, 7), (4, 5)),
    (lambda: nn.Linear(5, 7, bias=False), (2, 3, 5)),
    (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2), (2, 3, 11)),
    (lambda: nn.Conv1d(3, 6, 3, dilation=2, padding=2), (1, 3, 9)),
    (lambda: nn.Conv2d(3, 4, (3, 2), padding=1), (2, 3, 6, 7)),
    (lambda: nn.Conv2d(2, 5, 3, padding=1, padding_mode="reflect"), (2, 2, 6, 5)),
]


@pytest.mark.parametrize(("make", "shape"), BASES)
def test_lora_starts_as_its_base_and_merges_into_it(make, shape):
    base = make().double()
    x = torch.randn(shape, generator=seeded(), dtype=torch.float64)
    plain = base(x)
    layer = LoRAConv(base, rank=2, alpha=6.0)
    assert torch.equal(layer(x), plain) and not layer.up.weight.any() and layer.down.weight.any()
    weight = base.weight.clone()
    with torch.no_grad():
        layer.up.weight.normal_(generator=seeded(1))
    wanted = layer(x)
    assert float((wanted - plain).detach().abs().max()) > 0.1
    change = 3.0 * (layer.up.weight.flatten(1) @ layer.down.weight.flatten(1))
    torch.testing.assert_close(layer.change().flatten(1), change)
    assert torch.linalg.matrix_rank(layer.change().flatten(1)) == 2
    layer.merge()
    layer.merge()  # does nothing
    torch.testing.assert_close(base(x), wanted, rtol=1e-10, atol=1e-10)
    assert torch.equal(layer(x), base(x))
    layer.unmerge()
    layer.unmerge()
    assert torch.equal(base.weight, weight) and torch.equal(layer(x), wanted)


def test_lora_learns_without_moving_its_base():
    layer = LoRAConv(nn.Conv2d(2, 3, 3, padding=1), rank=2)
    kept = [p.clone() for p in layer.base.parameters()]
    trained = [p for p in layer.parameters() if p.requires_grad]
    assert [p.shape for p in trained] == [(2, 2, 3, 3), (3, 2, 1, 1)]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(1, 2, 4, 4)).square().mean().backward()
        optimizer.step()
    assert layer.up.weight.any()
    assert all(torch.equal(p, k) for p, k in zip(layer.base.parameters(), kept))


@pytest.mark.parametrize(
    ("base", "rank", "says"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), 2, "without groups"),
        (nn.GroupNorm(2, 4), 2, "linear layer or a convolution"),
        (nn.Linear(2, 2), 0, "rank"),
        (nn.Linear(2, 2), 1.5, "rank"),
    ],
)
def test_lora_refuses(base, rank, says):
    with pytest.raises(ValueError, match=says):
        LoRAConv(base, rank)


def test_a_whole_network_with_lora_and_back():
    model = shake(UNet(**NETWORK))
    x, t, y = torch.randn(2, 1, 9, 8, generator=seeded()), torch.tensor([0.2, 0.7]), torch.arange(2)
    plain = model(x, t, y)
    names = set(model.state_dict())
    count = add_lora(model, rank=2)
    assert torch.equal(model(x, t, y), plain)
    learn = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "conditioner.rows.weight" in learn
    assert all(".up." in n or ".down.weight" in n or n.startswith("conditioner") for n in learn)
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="already"):
        add_lora(model)
    for module in model.modules():
        if isinstance(module, LoRAConv):
            nn.init.normal_(module.up.weight, std=0.1, generator=seeded(2))
    wanted = model(x, t, y)
    assert not torch.allclose(wanted, plain)
    assert merge_lora(model) is model and set(model.state_dict()) == names
    torch.testing.assert_close(model(x, t, y), wanted, rtol=1e-4, atol=1e-4)
    assert all(p.requires_grad for p in model.parameters())


def test_weights_are_taken_but_for_what_is_new():
    old, new = shake(UNet(**NETWORK), 1), shake(UNet(**NETWORK | {"classes": 5}), 2)
    rows = new.conditioner.rows.weight.clone()
    assert take_weights(new, old.state_dict()) == ["conditioner.rows.weight"]
    assert torch.equal(new.conditioner.rows.weight, rows)
    assert torch.equal(new.conv_in.weight, old.conv_in.weight)
    told = UNet(**NETWORK, augmentation=5)
    assert take_weights(told, old.state_dict()) == ["augmentation.weight"]
    with pytest.raises(ValueError, match=r"give both the same network"):
        take_weights(UNet(**NETWORK | {"channels": [8, 16]}), old.state_dict())
    with pytest.raises(ValueError, match="missing"):
        take_weights(UNet(**NETWORK | {"channels": [8]}), old.state_dict())


# --- what a network is told --------------------------------------------------------------------


def test_a_network_that_is_told_nothing_is_as_before():
    torch.manual_seed(0)
    plain = shake(UNet(**NETWORK))
    told = UNet(**NETWORK, augmentation=5)
    assert not told.augmentation.weight.any()
    take_weights(told, plain.state_dict())
    x, t = torch.randn(2, 1, 8, 8, generator=seeded()), 0.4
    assert torch.equal(told(x, t), plain(x, t))
    nn.init.normal_(told.augmentation.weight, generator=seeded(1))
    assert torch.equal(told(x, t, None, torch.zeros(2, 5)), told(x, t))
    assert not torch.allclose(told(x, t, None, torch.ones(2, 5)), told(x, t))
    with pytest.raises(ValueError, match="without augmentation"):
        plain(x, t, None, torch.ones(2, 5))


# --- recipes -----------------------------------------------------------------------------------


def recipe(**more) -> Recipe:
    base = {"name": "few", "network": NETWORK, "steps": 6, "batch": 4, "warmup": 2, "lr": 0.05,
            "precision": "float32"}  # fmt: skip
    return Recipe(**base | more)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    checkpoints.save(path, shake(UNet(**NETWORK)), Recipe(name="start", network=NETWORK), (1, 8, 8))
    return str(path)


X = torch.randn(12, 1, 8, 8, generator=seeded(7)).clamp(-1, 1)
Y = torch.arange(12) % 3
AFFINE = {"affine": {"rotate": 15.0, "shift": 1.0}, "affine_share": 0.7, "affine_told": True}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("way", ["init", "freeze", "lora", "affine"])
def test_runs_go_on_to_the_bit(way, optimizer, file, tmp_path):
    options = {"init": {"init": file}, "freeze": {"init": file, "freeze": ["down.*", "conv_in.*"]},
               "lora": {"init": file, "lora": 2}, "affine": AFFINE}[way]  # fmt: skip
    chosen = recipe(optimizer=optimizer, **options)
    whole = trainer.train(chosen, X, Y)

    def stop(step, of, loss, model):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(chosen, X, Y, folder=tmp_path, on_step=stop)
    second = trainer.train(chosen, X, Y, folder=tmp_path)
    assert second.losses == whole.losses and second.steps == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    start = checkpoints.load(file).model.state_dict()
    same = {
        k for k, v in whole.model.state_dict().items() if k in start and torch.equal(v, start[k])
    }
    if way == "freeze":
        assert same == {k for k in start if k.startswith(("down.", "conv_in."))}
    if way == "lora":
        assert same and not any("conv" in k and k.endswith(".weight") for k in same)
        assert all(k.endswith("bias") or "norm" in k for k in same)
    path = checkpoints.save(tmp_path / "end.safetensors", whole.model, chosen, (1, 8, 8))
    again = checkpoints.load(path)
    x = torch.randn(2, 1, 8, 8, generator=seeded(8))
    wanted = whole.model.eval()(x, 0.5, torch.tensor([0, 2]))
    torch.testing.assert_close(
        again.model(x, 0.5, torch.tensor([0, 2])), wanted, rtol=0.02, atol=0.02
    )


def test_going_on_needs_no_file_to_begin_from(file, tmp_path):
    import shutil

    copied = shutil.copy(file, tmp_path / "gone.safetensors")
    chosen = recipe(init=str(copied), lora=2)

    def stop(step, of, loss, model):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(chosen, X, Y, folder=tmp_path / "run", on_step=stop)
    (tmp_path / "gone.safetensors").unlink()
    assert trainer.train(chosen, X, Y, folder=tmp_path / "run").steps == 6


def test_a_told_network_sees_amounts_and_an_untold_one_does_not(monkeypatch):
    seen = []
    forward = UNet.forward

    def spy(self, x, t, cond=None, augmentation=None):
        seen.append(augmentation)
        return forward(self, x, t, cond, augmentation)

    monkeypatch.setattr(UNet, "forward", spy)
    trainer.train(recipe(**AFFINE), X, Y)
    told = torch.cat(seen)
    assert told.shape == (24, 5) and bool(told[:, [0, 2, 3]].any()) and not told[:, [1, 4]].any()
    seen.clear()
    trainer.train(recipe(**AFFINE | {"affine_told": False}), X, Y)
    assert seen == [None] * 6


def test_recipes_without_the_new_entries_train_as_ever():
    """The draws of a run do not change for those who use none of it."""
    data = recipe().to_dict()
    old = {k: v for k, v in data.items() if not k.startswith(("affine", "init", "freeze", "lora"))}
    assert from_dict(json.loads(json.dumps(old))) == recipe()
    assert from_dict(json.loads(json.dumps(recipe(freeze=["a*"]).to_dict()))) == recipe(
        freeze=["a*"]
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"lora": 2}, "name one by init"),
        ({"lora": -1, "init": "x"}, "lora"),
        ({"lora": 2, "init": "x", "freeze": ["a"]}, "leave freeze out"),
        ({"init": 3}, "init"),
        ({"freeze": [1]}, "freeze"),
        ({"affine": {"rotat": 3}}, "did you mean rotate"),
        ({"affine": {"rotate": -3}}, "at least 0"),
        ({"affine_told": True}, "nothing to tell"),
        ({"affine_share": 1.5}, "affine_share"),
        ({"affine": {"shift": 1}, "data": "drums"}, "is sound"),
    ],
)
def test_recipes_that_make_no_sense(more, says):
    with pytest.raises(RecipeError, match=says):
        recipe(**more)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"prediction": "eps"}, "prediction = 'eps'.*was trained with 'v'"),
        ({"schedule": "linear"}, "schedule"),
        ({"scale": 2.0}, "scale"),
        ({"network": NETWORK | {"channels": [8, 16]}}, "the same network"),
        ({"freeze": ["*"]}, "nothing is left to learn"),
        ({"freeze": ["nowhere.*"]}, "matches no parameter"),
    ],
)
def test_what_does_not_go_with_its_beginning(file, more, says):
    with pytest.raises(RecipeError, match=says):
        trainer.train(recipe(init=file, **more), X, Y)


def test_a_beginning_that_is_not_there():
    with pytest.raises(checkpoints.CheckpointNotFound, match="no checkpoint"):
        trainer.train(recipe(init="digts"), X, Y)
