"""Gated dilated blocks and their network: against loops, at any length, for any label."""

import math

import pytest
import torch
from torch import nn

from undiffuse import blocks, presets, trainer, wavenets
from undiffuse.recipes import Recipe
from undiffuse.sampling import sample
from undiffuse.schedules import cosine_schedule
from undiffuse.wavenets import GatedResBlock1d, WaveNet1d


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """``module`` in float64 with nothing left at zero."""
    torch.manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.double()


def network(**changes) -> WaveNet1d:
    """A small network with random weights."""
    arguments = {"channels": 8, "layers": 5, "cycle": 3, "classes": 4} | changes
    return randomised(WaveNet1d(2, **arguments)).eval()


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(block: GatedResBlock1d, x, emb, cond=None):
    """What the block gives, place by place and tap by tap."""
    channels, length = x.shape[1:]
    d = block.dilated.dilation[0]
    y = x + (emb @ block.emb.weight.T + block.emb.bias)[:, :, None]
    h = block.dilated.bias[None, :, None].repeat(len(x), 1, length)
    for place in range(length):
        for tap in range(3):
            source = place + (tap - 1) * d
            if 0 <= source < length:
                h[:, :, place] = (
                    h[:, :, place] + y[:, :, source] @ block.dilated.weight[:, :, tap].T
                )
    if cond is not None:
        h = h + torch.einsum("oc,bcl->bol", block.cond.weight[..., 0], cond)
        h = h + block.cond.bias[:, None]
    inside = torch.tanh(h[:, :channels]) / (1 + torch.exp(-h[:, channels:]))
    out = torch.einsum("oc,bcl->bol", block.out.weight[..., 0], inside) + block.out.bias[:, None]
    return (x + out[:, :channels]) / math.sqrt(2), out[:, channels:]


@pytest.mark.parametrize("length", [1, 2, 9, 13])
@pytest.mark.parametrize("dilation", [1, 3, 8])
def test_a_block_is_what_the_paper_says(length, dilation):
    block = randomised(GatedResBlock1d(4, dilation, 6))
    x, emb = draw(3, 4, length), draw(3, 6, seed=2)
    for got, wanted in zip(block(x, emb), by_hand(block, x, emb)):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_a_block_with_a_condition():
    block = randomised(GatedResBlock1d(4, 2, 6, cond_channels=5))
    x, emb, cond = draw(2, 4, 11), draw(2, 6, seed=2), draw(2, 5, 11, seed=3)
    for got, wanted in zip(block(x, emb, cond), by_hand(block, x, emb, cond)):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_a_block_keeps_the_variance():
    """With a branch of the input's variance, the root of 2 keeps it; here the branch is silent."""
    block = GatedResBlock1d(3, 1, 4)
    nn.init.zeros_(block.out.weight)
    nn.init.zeros_(block.out.bias)
    x = draw(2, 3, 7).float()
    out, skip = block(x, torch.zeros(2, 4))
    torch.testing.assert_close(out, x / 2**0.5)
    assert not skip.any()


@pytest.mark.parametrize(
    "cond_channels, cond, says",
    [
        (5, None, r"a condition \(B, 5, 9\) is wanted, got none"),
        (5, torch.zeros(2, 5, 8), r"got one of shape \(2, 5, 8\)"),
        (None, torch.zeros(2, 5, 9), "built without cond_channels"),
    ],
)
def test_a_condition_that_does_not_fit(cond_channels, cond, says):
    block = GatedResBlock1d(4, 1, 6, cond_channels)
    with pytest.raises(ValueError, match=says):
        block(torch.zeros(2, 4, 9), torch.zeros(2, 6), cond)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        GatedResBlock1d(4, 0, 6)


def test_dilations_double_and_start_again():
    assert wavenets.dilations(7, 3) == [1, 2, 4, 1, 2, 4, 1]
    assert wavenets.dilations(3, 10) == [1, 2, 4]
    with pytest.raises(ValueError, match="got 0 and 3"):
        wavenets.dilations(0, 3)


@pytest.mark.parametrize("length", [1, 2, 64, 101])
@pytest.mark.parametrize("patch", [1, 2, 16])
def test_any_length_comes_back(length, patch):
    x = draw(2, 2, length)
    y = network(patch=patch)(x, torch.tensor([0.1, 0.9]), torch.tensor([1, 4]))
    assert y.shape == x.shape and y.dtype == x.dtype
    assert torch.isfinite(y).all() and y.abs().max() > 1e-3


def test_samples_time_and_class_are_seen_one_by_one():
    net, x = network(), draw(3, 2, 30)
    t, y = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 1, 2])
    together = net(x, t, y)
    for i in range(3):
        alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(net(x, t + 0.05, y), together)
    assert not torch.allclose(net(x, t, y.roll(1)), together)


def test_no_label_is_the_null_label_and_a_time_may_be_a_number():
    net, x = network(), draw(2, 2, 21)
    null = torch.full((2,), net.null)
    torch.testing.assert_close(net(x, 0.25), net(x, torch.full((2,), 0.25), null), rtol=0, atol=0)


def test_starts_at_zero_and_gradients_reach_every_weight():
    torch.manual_seed(0)
    net = WaveNet1d(1, channels=8, layers=3, cycle=3, classes=3)
    x, y = torch.randn(2, 1, 40), torch.tensor([0, 2])
    assert not net(x, 0.5, y).any()
    nn.init.normal_(net.conv_out.weight)
    net(x, 0.5, y).square().sum().backward()
    for name, p in net.named_parameters():
        if name.startswith("layers.2.out"):  # of the last layer only the skip half is used
            assert p.grad[8:].any() and not p.grad[:8].any(), name
        else:
            assert p.grad.any(), name


def test_the_receptive_field_is_what_gradients_say():
    net = network(layers=4, cycle=4, classes=None)
    assert net.receptive_field() == 1 + 2 * (1 + 2 + 4 + 8)
    x = draw(1, 2, 81).requires_grad_()
    net(x, 0.5)[0, 0, 40].backward()
    reached = x.grad.abs().sum(1)[0].nonzero()[:, 0]
    assert (int(reached.min()), int(reached.max())) == (40 - 15, 40 + 15)
    assert network(layers=4, cycle=4, patch=16).receptive_field() == 16 * 31


def test_a_network_is_made_again_from_its_config():
    net = network(patch=2)
    again = WaveNet1d(**blocks.config_of(net)).double().eval()
    again.load_state_dict(net.state_dict())
    x = draw(2, 2, 31)
    torch.testing.assert_close(again(x, 0.5), net(x, 0.5), rtol=0, atol=0)


def test_bad_input_says_what_is_wanted():
    with pytest.raises(ValueError, match=r"must be \(B, C, L\), got shape \(2, 8\)"):
        network()(torch.zeros(2, 8).double(), 0.5)
    with pytest.raises(ValueError, match="built without classes"):
        network(classes=None)(draw(2, 2, 8), 0.5, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="labels must be 0 to 3"):
        network()(draw(2, 2, 8), 0.5, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="mean drums-wavenet"):
        wavenets.build("drum-wavenet")


@pytest.mark.parametrize("name", wavenets.PRESETS)
def test_presets(name):
    shape = wavenets.PRESETS[name].shape
    net = wavenets.build(name).eval()
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert net(x, 0.3, torch.tensor([0, 1])).shape == x.shape
    assert presets.flops_per_call(net, shape) > blocks.count_parameters(net) / 20
    assert wavenets.build(name, classes=None).null is None


def test_the_trainer_and_the_samplers_take_it_like_a_unet():
    torch.manual_seed(0)
    net = wavenets.build("tiny-wavenet", classes=2)
    at = torch.arange(64) / 64
    x = torch.stack([torch.sin(2 * math.pi * f * at) for f in (2, 5)] * 8)[:, None]
    labels = torch.tensor([0, 1] * 8)
    recipe = Recipe("sines", network={"classes": 2}, steps=100, batch=16, lr=1e-2, warmup=5)
    run = trainer.train(recipe, x, labels, model=net)
    assert run.model is net and run.steps == 100
    assert sum(run.losses[-5:]) < 0.75 * sum(run.losses[:5])
    g = torch.Generator().manual_seed(0)
    y = sample(net, cosine_schedule(), (2, 1, 64), kind="v", calls=4, cond=labels[:2], generator=g)
    assert y.shape == (2, 1, 64) and torch.isfinite(y).all()
