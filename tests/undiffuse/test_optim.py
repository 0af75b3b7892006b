"""Muon: orthogonal updates for hidden matrices, Adam for the rest."""

from __future__ import annotations

import copy

import pytest
import torch

from undiffuse.optim import QUINTIC, Muon, hidden_matrices, make_optimizer, orthogonalise
from undiffuse.training import sample_times
from undiffuse.unet import UNet


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    x = u @ torch.diag(s.clamp(min=0.3 * float(s.max()))) @ v
    made = orthogonalise(x, rounds=6)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6 and values.max() < 1.3
    inside = u.T @ made @ v.T
    off = inside - torch.diag(inside.diagonal())
    assert off.abs().max() < 1e-9


@pytest.mark.parametrize("shape", [(32, 288), (64, 1152), (96, 32)])
def test_four_rounds_do_for_weights_of_convolutions(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(x))
    assert values.min() > 0.6 and values.max() < 1.3


@pytest.mark.parametrize("shape", [(3, 16, 40), (3, 40, 16)])
def test_several_matrices_are_what_each_is_alone(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(orthogonalise(x), torch.stack([orthogonalise(m) for m in x]))


@pytest.mark.parametrize("rounds", [1, 4, 10])
def test_rounds_among_small_matrices_are_those_of_the_whole(rounds):
    """Also where one direction is a million times weaker, and in float32."""
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0] = 1e-6 * x[0] + x[1]
    a, b, c = QUINTIC
    wanted = x / x.norm()
    for _ in range(rounds):
        s = wanted @ wanted.T
        wanted = a * wanted + (b * s + c * s @ s) @ wanted
    torch.testing.assert_close(orthogonalise(x, rounds), wanted, rtol=1e-6, atol=1e-6)
    if rounds <= 4:  # later ones enlarge what float32 has rounded
        made = orthogonalise(x.float(), rounds).double()
        torch.testing.assert_close(made, wanted, rtol=1e-3, atol=1e-3)


def test_zeros_stay_zero_and_other_shapes_are_refused():
    assert torch.equal(orthogonalise(torch.zeros(3, 5)), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"matrix \(m, n\)"):
        orthogonalise(torch.zeros(3))
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


def test_the_others_move_as_adam_moves_them():
    start = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    matrix = torch.nn.Parameter(torch.ones(2, 2))
    a = Muon([matrix], [ours], lr=0.02, adam_share=0.1, betas=(0.9, 0.99))
    b = torch.optim.Adam([theirs], lr=0.002, betas=(0.9, 0.99))
    for k in range(5):
        for p, optimizer in ((ours, a), (theirs, b)):
            p.grad = (p.detach() - k) * torch.arange(1.0, 8.0, dtype=torch.float64)
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_state_that_was_saved_goes_on_to_the_bit():
    def run(steps, at=None):
        torch.manual_seed(0)
        model = UNet(1, (8, 16), patch=2, classes=10)
        optimizer = make_optimizer(model, "muon", 0.02)
        for k in range(steps):
            g = torch.Generator().manual_seed(k)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=g)
            optimizer.step()
            if k + 1 == at:
                weights, state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
                model = UNet(1, (8, 16), patch=2, classes=10)
                optimizer = make_optimizer(model, "muon", 0.5)
                model.load_state_dict(weights)
                optimizer.load_state_dict(state)
        return model.state_dict()

    whole, stopped = run(6), run(6, at=3)
    for name, value in whole.items():
        assert torch.equal(value, stopped[name]), name


def test_every_parameter_of_a_unet_belongs_to_one_side():
    model = UNet(1, (8, 16), patch=2, classes=10)
    matrices, others = hidden_matrices(model)
    assert {id(p) for p in matrices} | {id(p) for p in others} == {
        id(p) for p in model.parameters()
    }
    assert not {id(p) for p in matrices} & {id(p) for p in others}
    ids = {id(p) for p in others}
    assert id(model.conv_in.weight) in ids and id(model.conv_out.weight) in ids


def test_names_are_checked():
    with pytest.raises(ValueError, match="adamw or muon"):
        make_optimizer(torch.nn.Linear(2, 2), "sgd", 0.1)
    with pytest.raises(ValueError, match="weight_decay"):
        make_optimizer(torch.nn.Linear(2, 2), "muon", 0.1, 0.1)


def test_times_in_the_middle_have_the_density_that_is_told():
    draw = lambda m: sample_times(100_000, torch.Generator().manual_seed(0), m)  # noqa: E731
    near = lambda t: float(((t - 0.5).abs() < 0.005).double().mean()) / 0.01  # noqa: E731
    # Stratified: a window of about 1,000 draws is off by a few; its own width costs 0.002.
    assert abs(near(draw(0.0)) - 1) < 0.01
    assert abs(near(draw(0.5)) - 2) < 0.02
    with pytest.raises(ValueError, match="middle"):
        sample_times(4, None, 1.0)
