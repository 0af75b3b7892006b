"""Point sets, the distance between them, and the network that learns them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from undiffuse import denoisers as de
from undiffuse import schedules as sc
from undiffuse import sets2d as s2

NAMES = list(s2.SETS)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# -- the sets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_standardised(name):
    """n = 100,000: 6 standard errors, with those of the 400,000 that fixed centre and scale.

    False alarm under 1e-7 over all sets and axes; the seed is fixed.
    """
    n = 100_000
    points = s2.SETS[name](n, seeded(1))
    assert points.shape == (n, 2) and points.dtype == torch.float32
    share = math.sqrt(1 / n + 1 / 400_000)
    assert (points.mean(0).abs() < 6 * share).all()
    kurtosis = points.double().pow(4).mean(0)
    assert ((points.std(0) - 1).abs() < 6 * share * (kurtosis - 1).sqrt() / 2).all()


@pytest.mark.parametrize("name", NAMES)
def test_sets_follow_their_generator(name):
    draw = s2.SETS[name]
    before = torch.get_rng_state()
    first, again, other = (draw(50, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert draw(1, seeded(0)).shape == (1, 2)


def test_checkerboard_stays_on_its_fields():
    centre, scale = s2._centre_and_scale(s2._checkerboard)
    fields = (s2.checkerboard(5_000, seeded(0)) * scale + centre).floor().long()
    assert ((fields >= -2) & (fields <= 1)).all()
    assert (fields.sum(1) % 2 == 0).all()
    counts = torch.unique(fields, dim=0, return_counts=True)[1]
    assert len(counts) == 8
    # Chi-squared with 7 degrees of freedom exceeds 47 with probability below 1e-7.
    assert ((counts - 625) ** 2 / 625).sum() < 47


def test_eight_gaussians_has_eight_and_ring_is_empty_inside():
    points = s2.eight_gaussians(8_000, seeded(0))
    angle = torch.atan2(points[:, 1], points[:, 0]) / (math.pi / 4)
    counts = torch.bincount(angle.round().long() % 8, minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < 47
    radius = s2.ring(8_000, seeded(0)).norm(dim=1)
    assert radius.min() > 0.9 and radius.max() < 2.0


# -- energy distance ------------------------------------------------------------------------------


def test_energy_distance_equals_scipy_in_one_dimension():
    """scipy gives the root of the biased figure, from distribution functions: another formula."""
    a, b = torch.randn(70, 1, generator=seeded(0)), 0.5 + torch.rand(40, 1, generator=seeded(1))
    wanted = scipy.stats.energy_distance(a[:, 0].numpy(), b[:, 0].numpy()) ** 2
    assert s2.energy_distance(a, b, unbiased=False) == pytest.approx(wanted, rel=1e-6)


def test_energy_distance_by_hand():
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    b = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    across = (0 + 1 + 4 + 5 + math.sqrt(9 + 9) + 3) / 6
    assert s2.energy_distance(a, b) == pytest.approx(2 * across - 5 - 8 / 3)
    assert s2.energy_distance(a, b, unbiased=False) == pytest.approx(2 * across - 2.5 - 16 / 9)
    assert s2.energy_distance(a, b) == pytest.approx(s2.energy_distance(b, a))


def test_energy_distance_is_unbiased():
    """Same distribution: the mean of 200 figures is within 5 of its standard errors of 0."""
    values = [
        s2.energy_distance(torch.randn(30, 2, generator=seeded(i)),
                           torch.randn(20, 2, generator=seeded(1000 + i)))
        for i in range(200)
    ]  # fmt: skip
    assert abs(np.mean(values)) < 5 * np.std(values) / math.sqrt(200)
    assert min(values) < 0 < max(values)


def test_energy_distance_over_chunks():
    a, b = s2.ring(2_500, seeded(0)), s2.spiral(1_100, seeded(1))
    across = torch.cdist(a.double(), b.double()).mean()
    within = [torch.cdist(p.double(), p.double()).sum() / (len(p) * (len(p) - 1)) for p in (a, b)]
    wanted = (2 * across - sum(within)).item()
    assert s2.energy_distance(a, b) == pytest.approx(wanted, abs=1e-6)


# -- drawing and learning -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [None, sc.flow_schedule(), sc.edm_schedule(), sc.linear_schedule()],
    ids=["default", "flow", "edm", "linear"],
)
def test_sampler_with_the_exact_denoiser_draws_the_gaussian(schedule):
    """For one Gaussian the flow is linear: samples are the start, scaled by a known number.

    The exact flow maps x_1 to mean + s / s_1 (x_1 - alpha_1 mean), with s_t the deviation of x_t.
    """
    used = schedule or sc.cosine_schedule()
    mean, var = torch.tensor([0.5, -1.0]), 0.49
    denoiser = de.GaussianDenoiser(used, mean, var)
    got = s2.sample_2d(denoiser, 64, seeded(0), steps=1000, schedule=schedule)
    alpha, sigma = used.alpha(1.0).item(), used.sigma(1.0).item()
    start = sigma * torch.randn(64, 2, generator=seeded(0))
    wanted = mean + 0.7 / math.sqrt(alpha**2 * var + sigma**2) * (start - alpha * mean)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.02)


def test_sampler_error_falls_like_one_over_steps():
    """Euler: order 1. Twice the steps, half the error, within 15 %."""
    schedule = sc.cosine_schedule()
    denoiser = de.GaussianDenoiser(schedule, 0.0, 0.3)
    wanted = math.sqrt(0.3) * torch.randn(500, 2, generator=seeded(0))
    errors = [
        (s2.sample_2d(denoiser, 500, seeded(0), steps=n) - wanted).square().mean().sqrt().item()
        for n in (40, 80, 160)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_sampler_with_the_empirical_denoiser_returns_the_data():
    """Points further apart than the noise of the last step (0.03): no two of them blend."""
    data = torch.cartesian_prod(torch.arange(-1.0, 2.0), torch.arange(-1.0, 2.0))
    samples = s2.sample_2d(de.EmpiricalDenoiser(sc.cosine_schedule(), data), 200, seeded(1))
    distance, which = torch.cdist(samples, data).min(1)
    assert distance.max() < 1e-3
    assert len(which.unique()) == 9


def test_fit_2d_is_reproducible_and_leaves_the_global_generator_alone():
    points, before = s2.ring(200, seeded(0)), torch.get_rng_state()
    x, t = torch.randn(5, 2, generator=seeded(1)), torch.full((5,), 0.4)
    first, again, other = (s2.fit_2d(points, 5, seeded(s))(x, t) for s in (2, 2, 3))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_fit_2d_returns_a_denoiser():
    denoiser = s2.fit_2d(s2.ring(200, seeded(0)), 3, seeded(1))
    x = torch.randn(4, 2, generator=seeded(2))
    one, each = denoiser(x, 0.3), denoiser(x, torch.full((4,), 0.3), None)
    assert torch.equal(one, each) and one.shape == (4, 2) and not one.requires_grad
    # Without noise the data is known, whatever the network says.
    torch.testing.assert_close(denoiser(x, 0.0), x)
    assert denoiser(x.double(), 0.3).dtype == torch.float64


def denoising_error(denoiser, points, t, seed):
    """Mean squared error of x0 at time t for points that it has not seen."""
    schedule = sc.cosine_schedule()
    noise = torch.randn(points.shape, generator=seeded(seed))
    x_t = schedule.alpha(t).float() * points + schedule.sigma(t).float() * noise
    return (denoiser(x_t, t) - points).square().mean().item()


def test_fit_2d_learns_something_in_300_steps():
    points, held_out = s2.two_moons(2_000, seeded(0)), s2.two_moons(1_000, seeded(1))
    samples = s2.sample_2d(s2.fit_2d(points, 300, seeded(2)), 1_000, seeded(3), steps=40)
    gaussian = torch.randn(1_000, 2, generator=seeded(4))
    assert s2.energy_distance(samples, held_out) < s2.energy_distance(gaussian, held_out) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_fit_2d_is_good_on_every_set(name):
    """2,000 steps: samples near the held-out points, and denoising near the best possible.

    Thresholds stand well above what three seeds of each set gave; the data sets' own distance at
    this size is about 0.0005.
    """
    points, held_out = s2.SETS[name](4_000, seeded(0)), s2.SETS[name](3_000, seeded(1))
    denoiser = s2.fit_2d(points, 2_000, seeded(2))
    samples = s2.sample_2d(denoiser, 3_000, seeded(3))
    assert s2.energy_distance(samples, held_out) < 0.01
    best = de.EmpiricalDenoiser(sc.cosine_schedule(), s2.SETS[name](20_000, seeded(4)))
    for t in (0.3, 0.5, 0.8):
        error, least = (denoising_error(d, held_out, t, 5) for d in (denoiser, best))
        assert error < 1.25 * least


# -- bad input ------------------------------------------------------------------------------------

P = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (ValueError, "n must be at least 1", lambda: s2.ring(0)),
        (TypeError, "n must be an int", lambda: s2.ring(10.0)),
        (ValueError, r"a must have shape \(n, D\)", lambda: s2.energy_distance(P[:1], P)),
        (ValueError, "one dimension, got 2 and 1", lambda: s2.energy_distance(P, P[:, :1])),
        (ValueError, "b has 6 of 6", lambda: s2.energy_distance(P, P / 0)),
        (TypeError, "floating", lambda: s2.energy_distance(P.int(), P)),
        (ValueError, r"points must have shape \(n, 2\)",
         lambda: s2.fit_2d(torch.zeros(3, 3), 1, seeded(0))),
        (ValueError, "n >= 1", lambda: s2.fit_2d(P[:0], 1, seeded(0))),
        (ValueError, "points has 6 of 6", lambda: s2.fit_2d(P / 0, 1, seeded(0))),
        (ValueError, "steps must be at least 1", lambda: s2.fit_2d(P, 0, seeded(0))),
        (ValueError, "steps must be at least 1",
         lambda: s2.sample_2d(lambda x, t, c: x, 1, seeded(0), steps=0)),
    ],
)  # fmt: skip
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()
