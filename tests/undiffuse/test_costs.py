"""What a call costs against torch's own counter; fronts; layers of eight bits; latents."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from undiffuse import blocks, presets
from undiffuse.costs import conv_flops, cpu_seconds, model_flops, pareto_front
from undiffuse.latents import LatentCodec
from undiffuse.quantising import dynamic_int8, file_bytes
from undiffuse.unet import UNet


def counted(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel": 3, "padding": 1}, (7, 5)),
        ({"kernel": 3, "stride": 2, "padding": 1}, (7, 5)),
        ({"kernel": (1, 5), "stride": (2, 3), "padding": (0, 2)}, (9, 11)),
        ({"kernel": 3, "groups": 4}, (6, 9)),
        ({"kernel": 3, "dilation": 2, "padding": 2}, (9, 8)),
        ({"kernel": 5, "stride": 3, "padding": 2, "groups": 2}, (31,)),
    ],
)
def test_conv_flops_are_torchs(options, size):
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[len(size)]
    told = dict(options)
    layer = kind(4, 8, told.pop("kernel"), **told)
    assert conv_flops(4, 8, size=size, **options) == counted(layer, torch.zeros(1, 4, *size))


def test_conv_flops_refuse():
    with pytest.raises(ValueError, match="shared by 3 groups"):
        conv_flops(4, 6, 3, (8, 8), groups=3)
    with pytest.raises(ValueError, match="too small"):
        conv_flops(4, 6, 5, (3, 8))
    with pytest.raises(ValueError, match="2 numbers for 1 axes"):
        conv_flops(4, 6, (3, 3), (8,))
    with pytest.raises(TypeError, match="kernel must be an int"):
        conv_flops(4, 6, (3.0, 3), (8, 8))


@pytest.mark.parametrize(
    "options",
    [
        {"channels": [8, 16], "patch": 2},
        {"channels": [8, 16], "patch": 2, "separable": True},
        {"channels": [8, 16], "attention": [False, True], "blocks": 2, "classes": 3},
        {"channels": [8, 8], "dims": 1, "attention": [True, False], "separable": True},
    ],
)
def test_model_flops_are_torchs(options):
    model = UNet(**options).train()
    shape = (2, 1, 21) if options.get("dims") == 1 else (2, 1, 12, 10)
    assert model_flops(model, shape, 0.5) == counted(model, torch.zeros(shape), 0.5)
    assert model.training


def test_a_layer_that_is_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(self.layer(x))

    assert model_flops(Twice(), (3, 4, 5)) == 2 * 2 * 12 * 25


def test_presets_cost_what_the_hooks_count():
    for name, chosen in presets.PRESETS.items():
        model = presets.build(name)
        assert presets.cost(name)[1] == model_flops(model, (1, *chosen.shape), 0.5)


def test_pareto_front():
    points = [[3, 1], [1, 3], [2, 2], [2, 2], [3, 2], [1, 4], [4, 1]]
    assert pareto_front(points).tolist() == [0, 1, 2, 3]
    assert pareto_front(torch.empty(0, 2)).tolist() == []
    assert pareto_front([[1.0], [0.5], [0.5]]).tolist() == [1, 2]
    with pytest.raises(ValueError, match="NaN"):
        pareto_front([[1.0, float("nan")]])
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        pareto_front([1.0, 2.0])


def test_pareto_front_against_the_definition():
    points = torch.randint(0, 6, (60, 3), generator=torch.Generator().manual_seed(0)).double()
    front = set(pareto_front(points).tolist())
    for i, p in enumerate(points):
        beaten = any(bool((q <= p).all() and (q < p).any()) for q in points)
        assert (i in front) is not beaten


def test_cpu_seconds_come_sorted():
    calls = []
    found = cpu_seconds(lambda: calls.append(sum(range(1000))), 4)
    assert len(calls) == 5 and found == sorted(found) and len(found) == 4 and found[0] >= 0


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_separable_is_a_full_convolution_of_rank_one(dims, stride):
    """The kernel pointwise[o, i] depthwise[i, k] in a full convolution gives the same."""
    torch.manual_seed(0)
    block = blocks.DepthwiseSeparable(4, 6, 3, stride, dims).double()
    x = torch.randn(2, 4, *(7, 5)[:dims], dtype=torch.float64)
    pointwise = block.pointwise.weight  # (6, 4, 1, ...)
    full = pointwise * block.depthwise.weight[None, :, 0]
    conv = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[dims]
    wanted = conv(x, full, block.pointwise.bias, stride, 1)
    torch.testing.assert_close(block(x), wanted, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="odd"):
        blocks.DepthwiseSeparable(4, 6, 2)


def test_a_separable_unet_is_lighter_and_keeps_its_options():
    full, light = (UNet(channels=(16, 32), patch=2, classes=4, separable=s) for s in (False, True))
    x, y = torch.randn(2, 1, 9, 12), torch.tensor([0, 4])
    assert light(x, 0.3, y).shape == x.shape and (light(x, 0.3, y) == 0).all()
    assert model_flops(light, (1, 1, 12, 12), 0.5) < 0.4 * model_flops(full, (1, 1, 12, 12), 0.5)
    assert "separable" not in full.config and light.config["separable"] is True
    assert UNet(**light.config).state_dict().keys() == light.state_dict().keys()


def test_int8_layers():
    """Linear layers: a small error, a quarter of their bytes. The original is left alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    made = dynamic_int8(model)
    x = torch.randn(20, 64)
    with torch.no_grad():
        wanted, found = model(x), made(x)
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.03
    assert file_bytes(made) < 0.35 * file_bytes(model)
    assert type(model[0]) is nn.Linear
    with pytest.raises(ValueError, match="no layer"):
        dynamic_int8(nn.ReLU())


def test_int8_convolutions_are_left_unless_asked_for():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Flatten(), nn.Linear(256, 4))
    assert type(dynamic_int8(model)[0]) is nn.Conv2d
    made = dynamic_int8(model, convs=True)
    assert type(made[0]) is not nn.Conv2d
    assert made(torch.randn(2, 8, 4, 4)).shape == (2, 4)


def test_latents_have_unit_variance_and_come_back():
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 8)
    slope = torch.rand(60, 1, 1, 1, generator=g) * 2 - 1
    x = slope * ramp[:, None] + 0.3 * ramp
    codec = LatentCodec(1, 2, 8)
    losses = codec.fit(x, 60, g, batch=16, lr=1e-2)
    z = codec.encode(x)
    assert z.shape == (60, 2, 2, 2)
    assert float(z.detach().std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    torch.testing.assert_close(codec.encode(x[:1]), z[:1])  # not of the batch
    with torch.no_grad():
        plain = codec.decoder(codec.encoder(x))
        torch.testing.assert_close(codec.decode(z), plain, rtol=1e-4, atol=1e-5)
    assert "scale" in codec.state_dict()
    with pytest.raises(ValueError, match="divisible by 4"):
        codec.encode(torch.zeros(1, 1, 6, 8))
