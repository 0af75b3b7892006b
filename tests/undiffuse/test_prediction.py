"""Conversions among predictions: against their definitions, there and back, and on bad input."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import prediction as pred
from undiffuse import process as pr
from undiffuse import schedules as sc
from undiffuse.denoisers import GaussianDenoiser

F64 = torch.float64
PAIRS = list(itertools.product(pred.KINDS, pred.KINDS))


def equal(got, wanted, rtol=0.0, atol=1e-10):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def draw(seed, *shape, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def by_hand(kind, x0, eps, alpha, sigma):
    return {
        "eps": eps,
        "x0": x0,
        "v": alpha * eps - sigma * x0,
        "flow": eps - x0,
        "score": -eps / sigma,
    }[kind]


@pytest.mark.parametrize("kind", pred.KINDS)
def test_targets_by_hand(kind):
    x0, eps = draw(0, 2, 3), draw(1, 2, 3)
    equal(pred.target(kind, x0, eps, 0.6, 1.7), by_hand(kind, x0, eps, 0.6, 1.7))


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 2), (2, 3, 4, 5), (1, 4)])
@pytest.mark.parametrize(("kind_from", "kind_to"), PAIRS)
def test_every_conversion_by_hand(kind_from, kind_to, shape):
    """Alpha and sigma differ by sample and need not preserve variance."""
    x0, eps = draw(0, *shape), draw(1, *shape)
    alpha, sigma = torch.tensor([0.6, 1.3], dtype=F64), torch.tensor([1.7, 0.2], dtype=F64)
    alpha, sigma = alpha[: shape[0]], sigma[: shape[0]]
    a, s = (level.reshape(-1, *[1] * (len(shape) - 1)) for level in (alpha, sigma))
    given_ = by_hand(kind_from, x0, eps, a, s)
    got = pred.convert(kind_from, kind_to, given_, a * x0 + s * eps, alpha, sigma)
    equal(got, by_hand(kind_to, x0, eps, a, s))


@pytest.mark.parametrize(("kind_from", "kind_to"), PAIRS)
@given(alpha=st.floats(0.01, 3), sigma=st.floats(0.01, 100), seed=st.integers(0, 500))
def test_there_and_back(kind_from, kind_to, alpha, sigma, seed):
    """Any prediction, not only a perfect one. The tolerance allows for sigma^2 / alpha^2 of 1e8."""
    given_, x_t = draw(seed, 2, 3), draw(seed + 1, 2, 3)
    there = pred.convert(kind_from, kind_to, given_, x_t, alpha, sigma)
    equal(pred.convert(kind_to, kind_from, there, x_t, alpha, sigma), given_, atol=1e-6)


@given(alpha_bar=st.floats(0.001, 0.999), seed=st.integers(0, 500))
def test_agrees_with_the_discrete_functions(alpha_bar, seed):
    x_t, v = draw(seed, 2, 3), draw(seed + 1, 2, 3)
    bars, t = torch.tensor([alpha_bar], dtype=F64), torch.zeros(2, dtype=torch.int64)
    levels = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    equal(pred.convert("v", "eps", v, x_t, *levels), pr.eps_from_v(x_t, t, bars, v))
    equal(pred.convert("v", "x0", v, x_t, *levels), pr.x0_from_v(x_t, t, bars, v))
    equal(pred.convert("eps", "x0", v, x_t, *levels), pr.x0_from_eps(x_t, t, bars, v))


def test_ends_that_have_an_answer():
    """v and flow give x0 and eps both without signal and without noise."""
    x0, eps = draw(0, 2, 3), draw(1, 2, 3)
    for alpha, sigma in [(1.0, 0.0), (0.0, 1.0)]:
        x_t = alpha * x0 + sigma * eps
        for kind in ("v", "flow"):
            given_ = by_hand(kind, x0, eps, alpha, sigma)
            got = pred.x0_and_eps(kind, given_, x_t, alpha, sigma)
            equal(got[0], x0)
            equal(got[1], eps)
    equal(pred.convert("x0", "x0", x0, x0, 1.0, 0.0), x0)


def test_float32_is_as_good_as_its_inputs():
    """Coefficients in float64: within two roundings of the float64 result, elementwise."""
    x0, eps = draw(0, 64, 8, dtype=torch.float32), draw(1, 64, 8, dtype=torch.float32)
    x_t = 0.3 * x0 + 0.9 * eps
    got = pred.convert("v", "x0", eps, x_t, 0.3, 0.9)
    assert got.dtype == torch.float32
    wanted = pred.convert("v", "x0", eps.double(), x_t.double(), 0.3, 0.9)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=4e-7 * wanted.abs().max().item())


def test_results_are_new_tensors():
    given_, x_t = draw(0, 2, 3), draw(1, 2, 3)
    same = pred.convert("eps", "eps", given_, x_t, 1.0, 1.0)
    same.zero_()
    assert (given_ != 0).all()


# -- adapters -------------------------------------------------------------------------------------

SCHEDULES = [sc.linear_schedule(), sc.cosine_schedule(), sc.edm_schedule(), sc.flow_schedule()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", pred.KINDS)
@pytest.mark.parametrize("t", [0.3, torch.tensor([0.2, 0.9], dtype=F64)], ids=["one", "each"])
def test_as_x0_undoes_any_kind(schedule, kind, t):
    """The exact denoiser of one Gaussian, asked for each kind, gives one and the same x0."""
    x_t = draw(3, 2, 5)
    wanted = GaussianDenoiser(schedule, 0.4, 2.0, "x0")(x_t, t)
    denoiser = pred.as_x0(GaussianDenoiser(schedule, 0.4, 2.0, kind), schedule, kind)
    equal(denoiser(x_t, t), wanted, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_as_sigma_denoiser_is_the_same_for_all_schedules(schedule):
    """In x / alpha all schedules are one: E[x0 | x0 + sigma eps] does not know which it was."""
    x, sigma = draw(3, 2, 5), torch.tensor([0.7, 2.3], dtype=F64)
    denoise = pred.as_sigma_denoiser(GaussianDenoiser(schedule, 0.4, 2.0, "v"), schedule, "v")
    wanted = 0.4 + 2.0 / (2.0 + sigma[:, None] ** 2) * (x - 0.4)
    equal(denoise(x, sigma), wanted, atol=1e-8)
    equal(denoise(x, 0.7)[0], wanted[0], atol=1e-8)


def test_at_steps_finds_the_step():
    betas = sc.linear_betas(11, 0.01, 0.3, dtype=F64)
    schedule = sc.discrete_schedule(betas)
    model = pred.at_steps(GaussianDenoiser(schedule, 0.0, 2.0, "x0"), 11)
    x_t, t = draw(3, 3, 2), torch.tensor([0, 4, 10])
    alpha_bar = sc.alpha_bar_from_betas(betas)[t][:, None]
    wanted = alpha_bar.sqrt() * 2 / (alpha_bar * 2 + 1 - alpha_bar) * x_t
    equal(model(x_t, t), wanted)


def test_condition_is_passed_on():
    seen = []

    def denoiser(x_t, t, cond=None):
        seen.append(cond)
        return x_t

    cond, x = torch.tensor([3, 1]), draw(0, 2, 3)
    schedule = sc.flow_schedule()
    pred.as_x0(denoiser, schedule, "v")(x, 0.5, cond)
    pred.at_steps(denoiser, 5)(x, torch.tensor([0, 1]), cond)
    pred.as_sigma_denoiser(denoiser, schedule, "v", cond)(x, 1.0)
    assert all(c is cond for c in seen) and len(seen) == 3


def test_network_time():
    t = torch.tensor([0, 3, 9])
    equal(pred.network_time(t, 10, F64), torch.tensor([0, 1 / 3, 1], dtype=F64))
    assert pred.network_time(t[:1], 1).tolist() == [0.0]
    assert pred.network_time(t, 10).dtype == torch.float32


# -- bad input ------------------------------------------------------------------------------------

X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (ValueError, "kind_from must be one of .*'noise'",
         lambda: pred.convert("noise", "x0", X, X, 1.0, 1.0)),
        (ValueError, "kind_to", lambda: pred.convert("x0", "noise", X, X, 1.0, 1.0)),
        (ValueError, "shape of x_t", lambda: pred.convert("x0", "eps", X[:1], X, 1.0, 1.0)),
        (TypeError, "floating", lambda: pred.convert("x0", "eps", X, X.int(), 1.0, 1.0)),
        (ValueError, "eps says nothing", lambda: pred.convert("eps", "x0", X, X, 0.0, 1.0)),
        (ValueError, "x0 says nothing about v", lambda: pred.convert("x0", "v", X, X, 1.0, 0.0)),
        (ValueError, "score has no value", lambda: pred.convert("v", "score", X, X, 1.0, 0.0)),
        (ValueError, "score has no value", lambda: pred.target("score", X, X, 1.0, 0.0)),
        (ValueError, "sigma must be at least 0",
         lambda: pred.convert("v", "x0", X, X, 1.0, -1.0)),
        (ValueError, "alpha must be at least 0",
         lambda: pred.convert("v", "x0", X, X, math.nan, 1.0)),
        (ValueError, r"shape \(2,\), got \(3,\)",
         lambda: pred.convert("v", "x0", X, X, torch.rand(3), 1.0)),
        (ValueError, "kind must be", lambda: pred.as_x0(lambda x, t, c: x, SCHEDULES[0], "noise")),
        (ValueError, "sigma must be above 0",
         lambda: pred.as_sigma_denoiser(lambda x, t, c: x, SCHEDULES[0], "v")(X, 0.0)),
        (TypeError, "integer step",
         lambda: pred.at_steps(lambda x, t, c: x, 5)(X, torch.tensor([0.1, 0.2]))),
    ],
)  # fmt: skip
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()
