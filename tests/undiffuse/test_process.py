"""The forward process and its posterior against diffusers, against their definitions, bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import process as pr
from undiffuse import schedules as sc

F64 = torch.float64
SHAPES = [(4, 3, 5, 7), (4, 1, 4), (1, 2, 9), (4, 4, 4, 4), (5,)]
EXACT = {"rtol": 0.0, "atol": 1e-10}


def equal(got, wanted, **tolerance):
    torch.testing.assert_close(got, wanted, **(tolerance or EXACT))


def draw(shape, generator, dtype=F64):
    return torch.randn(shape, generator=generator, dtype=dtype)


def spread_steps(batch: int, T: int) -> torch.Tensor:
    """First and last step and others between, in no order."""
    steps = torch.linspace(0, T - 1, batch).long()
    return steps[torch.arange(batch) * 3 % batch] if batch % 3 else steps.flip(0)


# -- against diffusers, float64 on both sides -----------------------------------------------------


@pytest.fixture(params=["linear", "squaredcos_cap_v2", "zero-snr"])
def pair(request, ddpm):
    """(make a diffusers scheduler of a prediction type, the same betas here): T = 100."""
    zero = request.param == "zero-snr"

    def make(**options):
        return ddpm.DDPMScheduler(
            num_train_timesteps=100,
            beta_schedule="linear" if zero else request.param,
            rescale_betas_zero_snr=zero,
            variance_type="fixed_small",
            clip_sample=False,
            **options,
        )

    betas = (
        sc.betas_from_alpha_bar(sc.cosine_alpha_bar, 100, dtype=F64)
        if request.param == "squaredcos_cap_v2"
        else sc.linear_betas(100, dtype=F64)
    )
    return make, sc.rescale_zero_terminal_snr(betas) if zero else betas


@pytest.mark.parametrize("shape", SHAPES)
def test_q_sample_equals_add_noise(pair, shape, generator):
    make, betas = pair
    x0, noise, t = draw(shape, generator), draw(shape, generator), spread_steps(shape[0], 100)
    got = pr.q_sample(x0, t, sc.alpha_bar_from_betas(betas), noise)
    equal(got, make().add_noise(x0, noise, t))


@pytest.mark.parametrize("shape", SHAPES)
def test_v_target_equals_get_velocity(pair, shape, generator):
    make, betas = pair
    x0, noise, t = draw(shape, generator), draw(shape, generator), spread_steps(shape[0], 100)
    got = pr.v_target(x0, t, sc.alpha_bar_from_betas(betas), noise)
    equal(got, make(prediction_type="v_prediction").get_velocity(x0, noise, t))


def test_x0_and_posterior_equal_every_step(pair, generator):
    """Every t of 100: diffusers' step from the true x0, eps and v gives the posterior's mean.

    diffusers clamps the posterior's variance at 1e-20, where it is 0 here (t = 0).
    """
    make, betas = pair
    alpha_bar = sc.alpha_bar_from_betas(betas)
    x0, noise = draw((1, 2, 3), generator), draw((1, 2, 3), generator)
    from_x0 = make(prediction_type="sample")
    from_eps, from_v = make(prediction_type="epsilon"), make(prediction_type="v_prediction")
    for step in range(100):
        t = torch.tensor([step])
        x_t = pr.q_sample(x0, t, alpha_bar, noise)
        mean, variance = pr.posterior_mean_variance(x0, x_t, t, betas)
        equal(mean, from_x0.step(x0, step, x_t).prev_sample)
        equal(variance, from_x0._get_variance(step).reshape(1))
        v = pr.v_target(x0, t, alpha_bar, noise)
        equal(pr.x0_from_v(x_t, t, alpha_bar, v), from_v.step(v, step, x_t).pred_original_sample)
        if alpha_bar[step] > 0:
            theirs = from_eps.step(noise, step, x_t).pred_original_sample
            # Both divide by sqrt(alpha_bar), down to 3e-5 here: relative, not absolute.
            equal(pr.x0_from_eps(x_t, t, alpha_bar, noise), theirs, rtol=1e-7, atol=1e-7)


def test_diffuse_on_a_straight_path_equals_flow_matching(generator):
    """FlowMatchEulerDiscreteScheduler.scale_noise, with its sigmas set to float64."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=50)
    theirs.sigmas = torch.linspace(1, 1 / 50, 50, dtype=F64)
    theirs.timesteps = theirs.sigmas * 50
    x0, noise, pick = draw((4, 2, 3), generator), draw((4, 2, 3), generator), [0, 7, 23, 49]
    wanted = theirs.scale_noise(x0, theirs.timesteps[pick], noise)
    equal(pr.diffuse(sc.flow_schedule(), x0, theirs.sigmas[pick], noise), wanted)


# -- against their definitions --------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_each_sample_is_treated_by_its_own_step(shape, dtype, generator):
    """A batch equals its samples one by one: nothing leaks across the batch."""
    alpha_bar = sc.alpha_bar_from_betas(sc.linear_betas(9, 0.01, 0.4, dtype=dtype))
    betas = sc.linear_betas(9, 0.01, 0.4, dtype=dtype)
    x, y, t = (
        draw(shape, generator, dtype),
        draw(shape, generator, dtype),
        spread_steps(shape[0], 9),
    )
    for function in (pr.q_sample, pr.v_target):
        one_by_one = [function(x[i : i + 1], t[i : i + 1], alpha_bar, y[i : i + 1])
                      for i in range(shape[0])]  # fmt: skip
        got = function(x, t, alpha_bar, y)
        assert got.dtype == dtype
        torch.testing.assert_close(got, torch.cat(one_by_one), rtol=0, atol=0)
    mean, variance = pr.posterior_mean_variance(x, y, t, betas)
    assert mean.shape == shape and variance.shape == shape[:1] and variance.dtype == dtype


def test_steps_make_a_jump():
    """Steps without noise leave sqrt(alpha_bar) of the data; their variances add up to the rest."""
    betas = sc.linear_betas(30, 0.01, 0.3, dtype=F64)
    alpha_bar = sc.alpha_bar_from_betas(betas)
    x = torch.tensor([[1.5, -2.0]], dtype=F64)
    spread = torch.zeros(1, 2, dtype=F64)
    zeros, start = torch.zeros_like(x), x.clone()
    for step in range(30):
        x = pr.q_step(x, betas[step].item(), zeros)
        # Noise of a step is independent of what is there: squares of the coefficients add.
        kept = pr.q_step(torch.ones_like(x), betas[step : step + 1], zeros)
        added = pr.q_step(zeros, betas[step : step + 1], torch.ones_like(x))
        spread = kept**2 * spread + added**2
        t = torch.tensor([step])
        equal(x, pr.q_sample(start, t, alpha_bar, zeros))
        equal(spread, pr.q_sample(zeros, t, alpha_bar, torch.ones_like(x)) ** 2)


def test_posterior_is_bayes_rule():
    """Against the product of the two Gaussians it comes from, completed to a square by hand."""
    betas = torch.tensor([0.04, 0.15, 0.3, 0.55], dtype=F64)
    alpha_bar = sc.alpha_bar_from_betas(betas)
    x0, x_t = torch.tensor([[0.7], [0.7], [-1.2]], dtype=F64), torch.full((3, 1), 0.4, dtype=F64)
    t = torch.tensor([1, 2, 3])
    mean, variance = pr.posterior_mean_variance(x0, x_t, t, betas)
    for i, step in enumerate(t.tolist()):
        beta, before = betas[step].item(), alpha_bar[step - 1].item()
        precision = (1 - beta) / beta + 1 / (1 - before)
        centre = (math.sqrt(1 - beta) * x_t[i].item() / beta
                  + math.sqrt(before) * x0[i].item() / (1 - before)) / precision  # fmt: skip
        assert mean[i].item() == pytest.approx(centre, abs=1e-12)
        assert variance[i].item() == pytest.approx(1 / precision, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_posterior_before_the_first_step_is_the_data(dtype, generator):
    x0, x_t = draw((3, 2), generator, dtype), draw((3, 2), generator, dtype)
    mean, variance = pr.posterior_mean_variance(
        x0, x_t, torch.zeros(3, dtype=torch.int64), sc.linear_betas(10, dtype=dtype)
    )
    torch.testing.assert_close(mean, x0, rtol=1e-6, atol=0)
    assert (variance == 0).all()


def test_posterior_draws_have_the_right_spread(generator):
    """Monte Carlo: x_{t-1} drawn by steps, given x_t near a value, has the posterior's moments.

    With 5 standard errors on a mean and 6 on a variance the false-alarm rate is under 1e-6; the
    seed is fixed, so it either always passes or never does. Conditioning on a window of width
    0.02 shifts the mean by under 1e-3, which is added to the allowance.
    """
    betas = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
    n = 3_000_000
    x0 = torch.full((n, 1), 0.8, dtype=F64)
    x1 = pr.q_sample(x0, torch.ones(n, dtype=torch.int64), sc.alpha_bar_from_betas(betas),
                     draw((n, 1), generator))  # fmt: skip
    x2 = pr.q_step(x1, 0.3, draw((n, 1), generator))
    near = x1[(x2 - 0.5).abs() < 0.01]
    mean, variance = pr.posterior_mean_variance(
        torch.tensor([[0.8]], dtype=F64), torch.tensor([[0.5]], dtype=F64), torch.tensor([2]), betas
    )
    error = math.sqrt(variance.item() / len(near))
    assert abs(near.mean().item() - mean.item()) < 5 * error + 1e-3
    assert abs(near.var().item() / variance.item() - 1) < 6 * math.sqrt(2 / len(near)) + 1e-3


levels = st.floats(1e-3, 1 - 1e-3)


@given(level=levels, seed=st.integers(0, 1000))
def test_conversions_come_back(level, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = draw((2, 3), generator), draw((2, 3), generator)
    alpha_bar, t = torch.tensor([0.999, level], dtype=F64), torch.tensor([1, 0])
    x_t = pr.q_sample(x0, t, alpha_bar, noise)
    v = pr.v_target(x0, t, alpha_bar, noise)
    equal(pr.x0_from_eps(x_t, t, alpha_bar, noise), x0)
    equal(pr.x0_from_v(x_t, t, alpha_bar, v), x0)
    equal(pr.eps_from_v(x_t, t, alpha_bar, v), noise)


def test_corrupt_by_hand():
    x = torch.tensor([[1.0, -1.0], [2.0, 0.5]])
    noise = torch.tensor([[3.0, 0.0], [-1.0, 1.0]])
    amount = torch.tensor([0.25, 0.64])
    wanted = torch.tensor([[1.5, -0.75], [0.08, 0.82]])
    torch.testing.assert_close(pr.corrupt(x, amount, noise), wanted)
    kept, added = (1 - amount).sqrt()[:, None], amount.sqrt()[:, None]
    torch.testing.assert_close(
        pr.variance_preserving_corrupt(x, amount, noise), kept * x + added * noise
    )


def test_variance_preserving_corrupt_preserves_variance(generator):
    """Monte Carlo, n = 200,000 per amount: 6 standard errors, false alarm under 1e-8 in all."""
    amount = torch.tensor([0.0, 0.1, 0.3, 0.8, 1.0], dtype=F64)
    x, noise = draw((5, 200_000), generator), draw((5, 200_000), generator)
    variance = pr.variance_preserving_corrupt(x, amount, noise).var(dim=1)
    assert ((variance - 1).abs() < 6 * math.sqrt(2 / 200_000)).all()
    # The straight mix does not: a^2 + (1 - a)^2 of the variance is left.
    mixed = pr.corrupt(x, amount, noise).var(dim=1) / (amount**2 + (1 - amount) ** 2)
    assert ((mixed - 1).abs() < 6 * math.sqrt(2 / 200_000)).all()


def test_model_range_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(2, 128)
    x = pr.to_model_range(levels)
    assert x.dtype == torch.float32 and x.min() == -1.0 and x.max() == 1.0
    torch.testing.assert_close(x.double(), levels.double() * 2 / 255 - 1, rtol=0, atol=1e-6)
    assert torch.equal(pr.from_model_range(x), levels)
    assert pr.from_model_range(torch.tensor([-3.0, 1.7])).tolist() == [0, 255]


def test_steps_to_snr():
    alpha_bar = torch.tensor([0.9, 0.8, 0.5, 0.5, 0.2], dtype=F64)  # SNR 9, 4, 1, 1, 1/4
    wanted = {100.0: 0, 9.5: 0, 5.0: 1, 1.0: 2, 0.9: 4, 0.2: 5}
    assert {snr: pr.steps_to_snr(alpha_bar, snr) for snr in wanted} == wanted
    assert pr.steps_to_snr(torch.tensor([1.0, 0.0]), 1e-9) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_diffuse_equals_q_sample_at_the_steps(shape, generator):
    betas = sc.linear_betas(40, 1e-3, 0.2, dtype=F64)
    x0, noise, t = draw(shape, generator), draw(shape, generator), spread_steps(shape[0], 40)
    got = pr.diffuse(sc.discrete_schedule(betas), x0, t.double() / 39, noise)
    equal(got, pr.q_sample(x0, t, sc.alpha_bar_from_betas(betas), noise))


def test_diffuse_with_one_time_for_all(generator):
    x0, noise = draw((3, 2), generator, torch.float32), draw((3, 2), generator, torch.float32)
    got = pr.diffuse(sc.edm_schedule(), x0, 1.0, noise)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, x0 + 80 * noise)


def test_nothing_is_changed_in_place(generator):
    x, y, t = draw((3, 2), generator), draw((3, 2), generator), torch.tensor([0, 2, 1])
    betas = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
    amount = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
    given_ = [x, y, t, betas, amount]
    before = [a.clone() for a in given_]
    alpha_bar = sc.alpha_bar_from_betas(betas)
    for function in (pr.q_sample, pr.v_target, pr.x0_from_eps, pr.x0_from_v, pr.eps_from_v):
        function(x, t, alpha_bar, y)
    pr.posterior_mean_variance(x, y, t, betas)
    pr.q_step(x, amount, y)
    pr.corrupt(x, amount, y)
    pr.variance_preserving_corrupt(x, amount, y)
    assert all(torch.equal(a, b) for a, b in zip(given_, before))


# -- bad input ------------------------------------------------------------------------------------

X, T0 = torch.zeros(2, 3), torch.tensor([0, 1])
BARS = torch.tensor([0.9, 0.5])
NAN = torch.tensor([[0.0, 0.0, math.nan], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (TypeError, "uint8", lambda: pr.to_model_range(X)),
        (ValueError, "NaN", lambda: pr.from_model_range(NAN)),
        (TypeError, "floating", lambda: pr.q_sample(X.int(), T0, BARS, X)),
        (ValueError, "x0 has 1 of 6 values", lambda: pr.q_sample(NAN, T0, BARS, X)),
        (ValueError, r"noise must have the shape of x0, \(2, 3\), got \(3,\)",
         lambda: pr.q_sample(X, T0, BARS, X[0])),
        (TypeError, "integer step", lambda: pr.q_sample(X, T0.float(), BARS, X)),
        (ValueError, r"one step per sample, shape \(2,\)",
         lambda: pr.q_sample(X, T0[:1], BARS, X)),
        (ValueError, r"\[0, 1\] for 2 steps, got 0 to 2", lambda: pr.q_sample(X, T0 * 2, BARS, X)),
        (ValueError, "got -1 to 0", lambda: pr.q_sample(X, T0 - 1, BARS, X)),
        (ValueError, "alpha_bar", lambda: pr.q_sample(X, T0, BARS[None], X)),
        (ValueError, "alpha_bar", lambda: pr.q_sample(X, T0, 2 * BARS, X)),
        (ValueError, "batch dimension", lambda: pr.q_sample(X[0, 0], T0, BARS, X[0, 0])),
        (ValueError, "alpha_bar.t. is 0", lambda: pr.x0_from_eps(X, T0, BARS.round(), X)),
        (ValueError, "beta must lie", lambda: pr.q_step(X, 1.5, X)),
        (ValueError, "beta must be a number or one", lambda: pr.q_step(X, torch.rand(3), X)),
        (ValueError, r"shape \(2,\), got \(3,\)", lambda: pr.corrupt(X, torch.rand(3), X)),
        (ValueError, "amount must lie", lambda: pr.corrupt(X, BARS * 2, X)),
        (ValueError, "betas", lambda: pr.posterior_mean_variance(X, X, T0, BARS * 0)),
        (ValueError, "snr", lambda: pr.steps_to_snr(BARS, 0.0)),
        (ValueError, "snr", lambda: pr.steps_to_snr(BARS, math.nan)),
        (TypeError, "floating", lambda: pr.diffuse(sc.flow_schedule(), X, T0, X)),
        (ValueError, "t must be a number or one",
         lambda: pr.diffuse(sc.flow_schedule(), X, torch.rand(3), X)),
    ],
)  # fmt: skip
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()
