"""The U-Net: shapes at any size, in both dimensions, and what its pieces promise."""

import pytest
import torch

from undiffuse import blocks
from undiffuse.unet import UNet

SMALL = dict(channels=(8, 16, 16), blocks=1, attention=(False, True, True), classes=4)


def network(dims: int, patch: int = 1) -> UNet:
    torch.manual_seed(0)
    made = UNet(2, dims=dims, patch=patch, **SMALL)
    for p in made.parameters():  # what starts at zero shall not hide what it does
        torch.nn.init.normal_(p, std=0.1)
    return made.double()


@pytest.mark.parametrize("size", [(28, 28), (30, 29), (32, 32), (7, 5), (101,), (64,)])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_any_size_comes_back(size, patch):
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    y = network(len(size), patch)(x, torch.tensor([0.1, 0.9]), torch.tensor([1, 4]))
    assert y.shape == x.shape
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("dims", [1, 2])
def test_samples_time_and_class_are_seen_one_by_one(dims):
    net = network(dims).eval()
    x = torch.randn(3, 2, *[12] * dims, dtype=torch.float64)
    t, y = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 1, 2])
    together = net(x, t, y)
    for i in range(3):
        alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(net(x, t + 0.05, y), together)
    assert not torch.allclose(net(x, t, y.roll(1)), together)


def test_no_label_is_the_null_label():
    net = network(2)
    x, t = torch.randn(2, 2, 8, 8, dtype=torch.float64), torch.tensor([0.2, 0.4])
    torch.testing.assert_close(net(x, t), net(x, t, torch.tensor([4, 4])))


def test_output_starts_at_zero():
    x = torch.randn(2, 1, 28, 28)
    assert not UNet(1, channels=(8, 8))(x, 0.5).any()


def test_every_parameter_gets_a_gradient():
    net = network(2)
    x = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    net(x, torch.rand(3), torch.tensor([0, 1, 4])).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("length", [12, 13])
def test_patches_fold_there_and_back(dims, patch, length):
    stem = blocks.PatchStem(patch, dims)
    x = torch.randn(2, 3, *[length] * dims)
    torch.testing.assert_close(stem.unfold(stem.fold(x), x.shape[2:]), x, rtol=0, atol=0)


def test_bad_input_is_told():
    net = UNet(1, channels=(8, 8), classes=3)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        net(torch.randn(2, 1, 28), 0.5)
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        net(torch.randn(1, 1, 8, 8), 0.5, torch.tensor([4]))
    with pytest.raises(ValueError, match="without classes"):
        UNet(1, channels=(8, 8))(torch.randn(1, 1, 8, 8), 0.5, torch.tensor([0]))
    with pytest.raises(ValueError, match="dims"):
        UNet(1, dims=3)
    with pytest.raises(ValueError, match="attention"):
        UNet(1, channels=(8, 8), attention=(True,))
    with pytest.raises(ValueError, match="heads"):
        blocks.SelfAttention(6, heads=4)


def test_timestep_embedding_against_the_formula():
    t = torch.tensor([0.0, 3.0, 250.5], dtype=torch.float64)
    found = blocks.timestep_embedding(t, 7, 100.0)
    for i in range(3):
        angle = t * 100.0 ** (-i / 3)
        torch.testing.assert_close(found[:, i], angle.cos())
        torch.testing.assert_close(found[:, 3 + i], angle.sin())
    assert not found[:, 6].any()


@pytest.mark.parametrize("chain", [[(3, 1, 1)] * 3, [(3, 2, 1), (3, 1, 2)], [(5, 1, 1), (2, 2, 1)]])
def test_receptive_field_is_what_gradients_reach(chain):
    field = blocks.receptive_field(chain)
    x = torch.zeros(1, 1, 4 * field + 9, dtype=torch.float64, requires_grad=True)
    h = x
    for kernel, stride, dilation in chain:
        weight = torch.ones(1, 1, kernel, dtype=torch.float64)
        h = torch.nn.functional.conv1d(h, weight, stride=stride, dilation=dilation)
    h[0, 0, h.shape[2] // 2].backward()
    reached = x.grad[0, 0].nonzero().reshape(-1)
    assert int(reached[-1] - reached[0]) + 1 == field


@pytest.mark.parametrize("channels", [2, 3, 8, 9, 12, 30, 32])
def test_no_width_is_blind_to_time_and_class(channels):
    """One channel a group would take out what an embedding adds to it."""
    torch.manual_seed(0)
    model = UNet(1, [channels], patch=4, classes=3).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    x, label = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    out = model(x, 0.2, label)
    for other in (model(x, 0.8, label), model(x, 0.2, 1 + label)):
        assert ((out - other).flatten(1).abs().amax(1) > 1e-3).all()
