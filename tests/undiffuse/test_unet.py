"""The U-Net: shapes at any size, in both dimensions, and what its pieces promise."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undiffuse import blocks
from undiffuse.unet import UNet

SMALL = dict(channels=(8, 16, 16), blocks=1, attention=(False, True, True), classes=4)


def randomised(module: nn.Module) -> nn.Module:
    """``module`` in float64 with nothing left at zero."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.double()


def network(dims: int, patch: int = 1) -> UNet:
    torch.manual_seed(0)
    made = UNet(2, dims=dims, patch=patch, **SMALL)
    for p in made.parameters():  # what starts at zero shall not hide what it does
        nn.init.normal_(p, std=0.1)
    return made.double()


@pytest.mark.parametrize(
    "size", [(28, 28), (30, 30), (32, 32), (30, 29), (7, 5), (1, 3), (101,), (64,), (1,)]
)
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


def test_time_may_be_a_number():
    net, x = network(2), torch.randn(3, 2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(net(x, 0.25), net(x, torch.full((3,), 0.25)), rtol=0, atol=0)


def test_float32_goes_in_and_out():
    x = torch.randn(2, 2, 13, 10)
    assert network(2).float()(x, 0.5).dtype == torch.float32


def test_a_network_is_made_again_from_its_config():
    net = network(1, patch=2).eval()
    again = UNet(**blocks.config_of(net)).double().eval()
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, 2, 31, dtype=torch.float64)
    torch.testing.assert_close(again(x, 0.5), net(x, 0.5), rtol=0, atol=0)


def test_attention_stands_where_it_was_asked_for():
    def count(flags):
        net = UNet(1, channels=(8, 8, 8), blocks=2, attention=flags)
        return sum(isinstance(m, blocks.SelfAttention) for m in net.modules())

    assert count((False, False, False)) == 0
    assert count((False, False, True)) == 5  # 2 on the way down, 3 on the way up
    assert count((False, True, True)) == 10


def test_skips_carry_detail_past_the_middle():
    """Where nothing comes up from coarser levels, the input still reaches the output."""
    net = network(2).eval()
    for up in net.upsample:
        blocks.zero_init_(up.conv)
    x = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    assert not torch.allclose(net(x, 0.5), net(x + 1, 0.5))


def test_output_starts_at_zero():
    x = torch.randn(2, 1, 28, 28)
    assert not UNet(1, channels=(8, 8))(x, 0.5).any()


def test_every_parameter_gets_a_gradient():
    net = network(2)
    x = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    net(x, torch.rand(3), torch.tensor([0, 1, 4])).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


# --- the pieces ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(8, 8), (6, 10)])
@pytest.mark.parametrize("dims", [1, 2])
def test_residual_block_is_its_formula(dims, channels):
    block = randomised(blocks.ResBlock(*channels, 5, dims))
    x = torch.randn(3, channels[0], *[7, 4][:dims], dtype=torch.float64)
    emb = torch.randn(3, 5, dtype=torch.float64)
    h = block.conv1(F.silu(block.norm1(x)))
    shift = F.silu(emb) @ block.emb.weight.T + block.emb.bias
    h = h + shift[(...,) + (None,) * dims]
    wanted = block.skip(x) + block.conv2(F.silu(block.norm2(h)))
    torch.testing.assert_close(block(x, emb), wanted)


def test_residual_block_starts_as_its_shortcut():
    x, emb = torch.randn(2, 8, 5, 5), torch.randn(2, 6)
    torch.testing.assert_close(blocks.ResBlock(8, 8, 6)(x, emb), x, rtol=0, atol=0)
    block = blocks.ResBlock(8, 12, 6)
    torch.testing.assert_close(block(x, emb), block.skip(x), rtol=0, atol=0)


def test_dropout_acts_in_training_only():
    block = randomised(blocks.ResBlock(8, 8, 6, dropout=0.5))
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    emb = torch.randn(2, 6, dtype=torch.float64)
    assert not torch.equal(block.train()(x, emb), block(x, emb))
    assert torch.equal(block.eval()(x, emb), block(x, emb))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("size", [(11,), (3, 5)])
def test_attention_is_that_of_torch(size, heads):
    mine = randomised(blocks.SelfAttention(8, heads, dims=len(size)))
    theirs = nn.MultiheadAttention(8, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(mine.qkv.weight.flatten(1))
        theirs.in_proj_bias.copy_(mine.qkv.bias)
        theirs.out_proj.weight.copy_(mine.proj.weight.flatten(1))
        theirs.out_proj.bias.copy_(mine.proj.bias)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    places = mine.norm(x).flatten(2).mT
    wanted = x + theirs(places, places, places)[0].mT.reshape(x.shape)
    torch.testing.assert_close(mine(x), wanted)


def test_attention_does_not_know_where_places_are():
    attention = randomised(blocks.SelfAttention(8, dims=1))
    x = torch.randn(2, 8, 9, dtype=torch.float64)
    order = torch.randperm(9)
    torch.testing.assert_close(attention(x)[..., order], attention(x[..., order]))


@pytest.mark.parametrize("size", [(28, 28), (30, 32), (7, 5), (1, 2), (101,), (64,)])
def test_half_the_size_and_back(size):
    dims = len(size)
    x = torch.randn(2, 4, *size)
    half = blocks.Downsample(4, 6, dims)(x)
    assert half.shape == (2, 6, *[-(-n // 2) for n in size])
    assert blocks.Upsample(6, 4, dims)(half, size).shape == x.shape


@pytest.mark.parametrize("length", [8, 9])
def test_upsampling_shows_place_i_half(length):
    """With a convolution that passes on its centre, place i is place i // 2 of the input."""
    up = blocks.Upsample(1, dims=1)
    with torch.no_grad():
        up.conv.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
        up.conv.bias.zero_()
    x = torch.randn(1, 1, -(-length // 2))
    torch.testing.assert_close(up(x, (length,)), x[..., torch.arange(length) // 2])


def test_upsampling_keeps_an_even_picture_even():
    out = blocks.Upsample(3)(torch.ones(1, 3, 6, 6), (12, 12))[..., 1:-1, 1:-1]
    torch.testing.assert_close(out, out[..., :1, :1].expand_as(out))


def test_one_dimension_is_the_middle_row_of_two():
    one, two = randomised(blocks.ResBlock(4, 8, 6, 1)), randomised(blocks.ResBlock(4, 8, 6, 2))
    two.load_state_dict(
        {k: v for k, v in one.state_dict().items() if "conv" not in k and "skip." not in k},
        strict=False,
    )
    with torch.no_grad():
        for name in ("conv1", "conv2", "skip"):
            a, b = getattr(one, name), getattr(two, name)
            b.weight.zero_()
            b.weight[:, :, b.kernel_size[0] // 2] = a.weight
            b.bias.copy_(a.bias)
    x, emb = torch.randn(2, 4, 9, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    torch.testing.assert_close(two(x[:, :, None], emb)[:, :, 0], one(x, emb))


def test_zero_init_is_of_a_module_and_not_of_its_parts():
    both = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    assert blocks.zero_init_(both) is both
    assert all(p.any() for p in both.parameters())
    weight = both[1].weight
    assert blocks.zero_init_(both[1]).weight is weight
    assert not any(p.any() for p in both[1].parameters())
    assert weight.requires_grad


def test_groups_divide_the_channels():
    assert [blocks.group_norm(c).num_groups for c in (8, 12, 9, 7, 1, 64)] == [4, 6, 3, 1, 1, 8]


def test_parameters_that_learn_are_counted():
    layer = nn.Linear(3, 2)
    assert blocks.count_parameters(layer) == 8
    layer.bias.requires_grad_(False)
    assert blocks.count_parameters(layer) == 6


def test_patches_are_those_of_torch():
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(blocks.PatchStem(2).fold(x), F.pixel_unshuffle(x, 2))
    sound = torch.arange(6.0).reshape(1, 1, 6)
    folded = blocks.PatchStem(3, dims=1).fold(sound)
    torch.testing.assert_close(folded, torch.tensor([[[0.0, 3], [1, 4], [2, 5]]]))


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
    with pytest.raises(ValueError, match=r"\(B, C, L\)"):
        UNet(1, channels=(8, 8), dims=1)(torch.randn(2, 1, 28, 28), 0.5)
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        net(torch.randn(1, 1, 8, 8), 0.5, torch.tensor([-1]))
    with pytest.raises(ValueError, match="patch must be at least 1"):
        UNet(1, patch=0)
    with pytest.raises(ValueError, match="dim must be at least 2"):
        blocks.timestep_embedding(torch.tensor([0.5]), 1)
    with pytest.raises(ValueError, match=r"t must be \(B,\)"):
        blocks.timestep_embedding(torch.zeros(2, 1), 8)
    with pytest.raises(ValueError, match="at least 1"):
        blocks.receptive_field([(3, 0, 1)])


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
