"""Schedules against diffusers, against their definitions, and on bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import schedules as sc

F64 = torch.float64
EXACT = {"rtol": 0.0, "atol": 1e-12}


def equal(got, wanted, **tolerance):
    torch.testing.assert_close(got, wanted, **(tolerance or EXACT))


# -- against diffusers, float64 on both sides -----------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_linear_betas_equal_diffusers(ddpm, T):
    """The scheduler's own linspace and cumprod, run in float64 (see the fixture)."""
    theirs = ddpm.DDPMScheduler(num_train_timesteps=T, beta_schedule="linear")
    assert theirs.betas.dtype == F64
    betas = sc.linear_betas(T, dtype=F64)
    equal(betas, theirs.betas)
    equal(sc.alpha_bar_from_betas(betas), theirs.alphas_cumprod)


@pytest.mark.parametrize("T", [2, 50, 1000])
def test_cosine_betas_equal_diffusers(ddpm, T):
    theirs = ddpm.DDPMScheduler(num_train_timesteps=T, beta_schedule="squaredcos_cap_v2")
    assert theirs.betas.dtype == F64
    betas = sc.betas_from_alpha_bar(sc.cosine_alpha_bar, T, dtype=F64)
    equal(betas, theirs.betas, rtol=0.0, atol=1e-10)
    equal(sc.alpha_bar_from_betas(betas), theirs.alphas_cumprod)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr_equals_diffusers(ddpm, schedule):
    theirs = ddpm.DDPMScheduler(beta_schedule=schedule, rescale_betas_zero_snr=True)
    plain = ddpm.DDPMScheduler(beta_schedule=schedule)
    betas = sc.rescale_zero_terminal_snr(plain.betas)
    equal(betas, theirs.betas, rtol=0.0, atol=1e-10)
    equal(betas, ddpm.rescale_zero_terminal_snr(plain.betas), rtol=0.0, atol=1e-10)
    assert betas[-1] == 1.0


@pytest.mark.parametrize(("n", "rho"), [(2, 7.0), (5, 3.0), (40, 7.0)])
def test_karras_sigmas_equal_diffusers(n, rho):
    """diffusers' EDM scheduler has the formula in a method; it is given float64."""
    edm = pytest.importorskip("diffusers").EDMEulerScheduler(rho=rho)
    theirs = edm._compute_karras_sigmas(torch.linspace(0, 1, n, dtype=F64), 0.002, 80.0)
    equal(sc.karras_sigmas(n, 0.002, 80.0, rho, dtype=F64), theirs, rtol=1e-12, atol=0.0)


# -- against their definitions --------------------------------------------------------------------


def test_alpha_bar_by_hand():
    betas = torch.tensor([0.1, 0.3, 0.75], dtype=F64)
    equal(sc.alpha_bar_from_betas(betas), torch.tensor([0.9, 0.63, 0.1575], dtype=F64))


def test_alpha_bar_float32_does_not_pile_up_rounding():
    """10,000 factors near 1: within one rounding of the float64 product of the same betas."""
    betas = sc.linear_betas(10_000, 1e-7, 3e-4)
    wanted = np.cumprod(1.0 - betas.numpy().astype(np.float64))
    got = sc.alpha_bar_from_betas(betas)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.double().numpy(), wanted, rtol=1e-7)


def test_cosine_by_hand():
    for t, s in [(0.0, 0.008), (0.3, 0.008), (0.9, 0.1), (1.0, 0.008)]:
        f = [math.cos((u + s) / (1 + s) * math.pi / 2) ** 2 for u in (t, 0.0)]
        t = torch.tensor(t, dtype=F64)
        assert sc.cosine_alpha_bar(t, s).item() == pytest.approx(f[0] / f[1], abs=1e-15)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1), (-2, 5, 0.7), (0, 3, 1.8)])
def test_sigmoid_by_hand(start, end, tau):
    def v(u):
        return 1 / (1 + math.exp(-(start + u * (end - start)) / tau))

    for t in (0.0, 0.2, 0.77, 1.0):
        wanted = (v(1) - v(t)) / (v(1) - v(0))
        got = sc.sigmoid_alpha_bar(torch.tensor(t, dtype=F64), start, end, tau)
        assert got.item() == pytest.approx(wanted, abs=1e-14)
    assert sc.sigmoid_alpha_bar(0.0, start, end, tau) == 1.0
    assert sc.sigmoid_alpha_bar(1.0, start, end, tau) == 0.0


def test_betas_from_alpha_bar_clips_and_inverts():
    betas = sc.betas_from_alpha_bar(lambda t: 1 - 0.9 * t, 5, dtype=F64)
    equal(sc.alpha_bar_from_betas(betas), 1 - 0.9 * torch.arange(1, 6, dtype=F64) / 5)
    clipped = sc.betas_from_alpha_bar(lambda t: (1 - t) ** 2, 4, max_beta=0.6, dtype=F64)
    equal(clipped, torch.tensor([7 / 16, 5 / 9, 0.6, 0.6], dtype=F64))


def test_log_snr_values_and_ends():
    got = sc.log_snr(torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0], dtype=F64))
    wanted = [math.inf, math.log(9), 0.0, math.log(0.25), -math.inf]
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-15)


def test_zero_terminal_snr_keeps_the_start():
    betas = torch.tensor([0.02, 0.1, 0.2, 0.35], dtype=F64)
    before = sc.alpha_bar_from_betas(betas)
    after = sc.alpha_bar_from_betas(sc.rescale_zero_terminal_snr(betas))
    assert after[0].item() == pytest.approx(before[0].item(), abs=1e-15)
    assert after[-1] == 0.0
    first, last = before[0].sqrt(), before[-1].sqrt()
    equal(after.sqrt(), (before.sqrt() - last) * first / (first - last))


def test_karras_sigmas_of_one_step():
    assert sc.karras_sigmas(1, 0.1, 5.0).tolist() == [5.0]


# -- the continuous form --------------------------------------------------------------------------

PRESERVING = [sc.linear_schedule(), sc.cosine_schedule(), sc.sigmoid_schedule(-2, 4, 0.8)]
ALL = [*PRESERVING, sc.edm_schedule(), sc.flow_schedule()]
times = st.floats(0.0, 1.0)


@pytest.mark.parametrize("schedule", PRESERVING, ids=lambda s: s.name)
@given(t=times)
def test_variance_is_preserved(schedule, t):
    assert (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.name)
def test_noise_only_grows_and_log_snr_is_their_ratio(schedule):
    t = torch.linspace(0, 1, 501, dtype=F64)
    level = schedule.log_snr(t)
    assert (level[1:] < level[:-1]).all()
    assert (schedule.sigma(t)[1:] >= schedule.sigma(t)[:-1]).all()
    inside = t[1:-1]
    wanted = 2 * torch.log(schedule.alpha(inside) / schedule.sigma(inside))
    equal(schedule.log_snr(inside), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.name)
@given(t=st.floats(1e-6, 1 - 1e-6))
def test_time_is_the_inverse_of_log_snr(schedule, t):
    level = schedule.log_snr(t)
    found = schedule.time(level)
    # In log SNR, not in t: a whole stretch of t can share one level in float64.
    assert schedule.log_snr(found).item() == pytest.approx(level.item(), abs=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.name)
def test_time_finds_the_ends(schedule):
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    equal(schedule.time(schedule.log_snr(ends)), ends, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.name)
def test_time_beyond_the_ends_is_held(schedule):
    assert schedule.time(1e6).item() == pytest.approx(0.0, abs=1e-12)
    assert schedule.time(-1e6).item() == pytest.approx(1.0, abs=1e-12)
    assert schedule.time(math.inf) == 0.0 and schedule.time(-math.inf) == 1.0


@pytest.mark.parametrize("T", [2, 3, 1000])
def test_discrete_schedule_passes_through_its_steps(T):
    betas = sc.linear_betas(T, 1e-3, 0.3, dtype=F64)
    alpha_bar = sc.alpha_bar_from_betas(betas)
    t = torch.arange(T, dtype=F64) / (T - 1)
    schedule = sc.discrete_schedule(betas)
    equal(schedule.alpha(t) ** 2, alpha_bar)
    equal(schedule.sigma(t) ** 2, 1 - alpha_bar)


def test_discrete_schedule_between_steps_is_linear_in_log_snr():
    betas = torch.tensor([0.1, 0.3, 0.75], dtype=F64)
    levels = sc.log_snr(sc.alpha_bar_from_betas(betas))
    schedule = sc.discrete_schedule(betas)
    t = torch.tensor([0.15, 0.8], dtype=F64)
    wanted = torch.stack([0.7 * levels[0] + 0.3 * levels[1], 0.4 * levels[1] + 0.6 * levels[2]])
    equal(schedule.log_snr(t), wanted)


def test_discrete_schedule_that_ends_in_pure_noise():
    betas = sc.rescale_zero_terminal_snr(sc.linear_betas(20, 1e-3, 0.3, dtype=F64))
    schedule = sc.discrete_schedule(betas)
    alpha_bar = sc.alpha_bar_from_betas(betas)
    t = torch.arange(20, dtype=F64) / 19
    equal(schedule.alpha(t), alpha_bar.sqrt())
    assert schedule.alpha(1.0) == 0.0 and schedule.sigma(1.0) == 1.0
    between = schedule.alpha(torch.tensor(18.25 / 19, dtype=F64))
    assert between.item() == pytest.approx(0.75 * alpha_bar[18].sqrt().item(), abs=1e-12)


def test_edm_schedule_is_karras_sigmas_reversed():
    t = torch.linspace(1, 0, 9, dtype=F64)
    schedule = sc.edm_schedule(0.01, 50.0, 5.0)
    equal(schedule.sigma(t), sc.karras_sigmas(9, 0.01, 50.0, 5.0, dtype=F64), rtol=1e-12, atol=0.0)
    equal(schedule.alpha(t), torch.ones(9, dtype=F64))


def test_flow_schedule_is_straight():
    t = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    equal(sc.flow_schedule().alpha(t), 1 - t)
    equal(sc.flow_schedule().sigma(t), t)


def test_dtypes_and_shapes_follow_the_time():
    for schedule in ALL:
        for method in (schedule.alpha, schedule.sigma, schedule.log_snr):
            assert method(torch.rand(2, 3)).dtype == torch.float32
            assert method(torch.rand(2, 3)).shape == (2, 3)
            assert method(0.4).dtype == F64 and method(0.4).ndim == 0
    t = torch.rand(4, 1)
    for function in (sc.cosine_alpha_bar, sc.sigmoid_alpha_bar):
        assert function(t).dtype == torch.float32 and function(t).shape == (4, 1)
        assert function(0.4).dtype == torch.float32 and function(1).ndim == 0
    assert sc.linear_betas(3).dtype == torch.float32
    assert sc.karras_sigmas(3, 0.1, 1.0).dtype == torch.float32
    assert sc.betas_from_alpha_bar(sc.cosine_alpha_bar, 3).dtype == torch.float32


# -- bad input ------------------------------------------------------------------------------------

GOOD = torch.tensor([0.1, 0.2])


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (ValueError, "T must be at least 1, got 0", lambda: sc.linear_betas(0)),
        (TypeError, "T must be an int, got float", lambda: sc.linear_betas(10.0)),
        (ValueError, "beta_start and beta_end", lambda: sc.linear_betas(5, 0.0, 0.1)),
        (ValueError, "beta_start and beta_end", lambda: sc.linear_betas(5, 0.1, 1.5)),
        (TypeError, "betas must be a torch.Tensor", lambda: sc.alpha_bar_from_betas([0.1])),
        (TypeError, "floating", lambda: sc.alpha_bar_from_betas(torch.tensor([1, 1]))),
        (ValueError, r"shape \(T,\)", lambda: sc.alpha_bar_from_betas(torch.rand(2, 2))),
        (ValueError, r"shape \(T,\)", lambda: sc.alpha_bar_from_betas(torch.rand(0))),
        (ValueError, r"\(0, 1\]", lambda: sc.alpha_bar_from_betas(torch.tensor([0.0, 0.1]))),
        (ValueError, r"\(0, 1\]", lambda: sc.alpha_bar_from_betas(torch.tensor([0.1, 1.01]))),
        (ValueError, r"\(0, 1\]", lambda: sc.alpha_bar_from_betas(torch.tensor([0.1, math.nan]))),
        (ValueError, "t must lie", lambda: sc.cosine_alpha_bar(1.01)),
        (ValueError, "t must lie", lambda: sc.cosine_alpha_bar(torch.tensor([-0.1]))),
        (ValueError, "t has 1 of 2", lambda: sc.cosine_alpha_bar(torch.tensor([0.1, math.nan]))),
        (TypeError, "floating", lambda: sc.cosine_alpha_bar(torch.tensor([0, 1]))),
        (TypeError, "t must be a float", lambda: sc.cosine_alpha_bar("0.5")),
        (ValueError, "s must be", lambda: sc.cosine_alpha_bar(0.5, s=-1.0)),
        (ValueError, "tau", lambda: sc.sigmoid_alpha_bar(0.5, tau=0.0)),
        (ValueError, "start must be below end", lambda: sc.sigmoid_alpha_bar(0.5, 3.0, -3.0)),
        (ValueError, "T must be at least 1", lambda: sc.betas_from_alpha_bar(lambda t: 1 - t, 0)),
        (ValueError, "max_beta", lambda: sc.betas_from_alpha_bar(lambda t: 1 - t, 3, 0.0)),
        (ValueError, "must fall", lambda: sc.betas_from_alpha_bar(lambda t: t, 3)),
        (ValueError, "alpha_bar", lambda: sc.betas_from_alpha_bar(lambda t: 2 - t, 3)),
        (ValueError, "shape", lambda: sc.betas_from_alpha_bar(lambda t: t.mean(), 3)),
        (ValueError, r"\[0, 1\]", lambda: sc.log_snr(torch.tensor([1.1]))),
        (ValueError, r"\[0, 1\]", lambda: sc.log_snr(torch.tensor([math.nan]))),
        (ValueError, "n must be at least 1", lambda: sc.karras_sigmas(0, 0.1, 1.0)),
        (ValueError, "sigma_min < sigma_max", lambda: sc.karras_sigmas(3, 1.0, 0.1)),
        (ValueError, "sigma_min < sigma_max", lambda: sc.edm_schedule(0.0, 1.0)),
        (ValueError, "rho", lambda: sc.karras_sigmas(3, 0.1, 1.0, rho=0.0)),
        (ValueError, "at least 2 steps", lambda: sc.rescale_zero_terminal_snr(GOOD[:1])),
        (ValueError, "at least 2 steps", lambda: sc.discrete_schedule(GOOD[:1])),
        (TypeError, "floating", lambda: sc.flow_schedule().alpha(torch.tensor([1]))),
        (ValueError, "t must lie", lambda: sc.flow_schedule().sigma(1.5)),
        (ValueError, "NaN", lambda: sc.flow_schedule().time(math.nan)),
        (ValueError, "tau", lambda: sc.sigmoid_schedule(tau=-1.0)),
    ],
)
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("shift", [-2.3, 1.7])
def test_a_shifted_cosine_has_another_log_snr_at_every_time(shift):
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    plain, moved = sc.cosine_schedule(), sc.cosine_schedule(shift=shift)
    inside = slice(1, -1)  # at both ends log SNR is infinite
    torch.testing.assert_close(
        moved.log_snr(t)[inside], plain.log_snr(t)[inside] + shift, rtol=1e-9, atol=1e-9
    )
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(moved.alpha(ends), torch.tensor([1.0, 0.0]).double())
    torch.testing.assert_close(moved.alpha(t) ** 2 + moved.sigma(t) ** 2, torch.ones_like(t))
    levels = moved.log_snr(moved.time(torch.tensor([-8.0, 0.0, 8.0], dtype=torch.float64)))
    torch.testing.assert_close(levels, torch.tensor([-8.0, 0.0, 8.0], dtype=torch.float64))


def test_a_shift_of_nothing_changes_no_bit_and_nan_is_refused():
    t = torch.linspace(0, 1, 11)
    plain, moved = sc.cosine_schedule(), sc.cosine_schedule(shift=0.0)
    assert torch.equal(plain.alpha(t), moved.alpha(t)) and plain.name == moved.name
    with pytest.raises(ValueError, match="shift must be finite, got nan"):
        sc.cosine_schedule(shift=float("nan"))
