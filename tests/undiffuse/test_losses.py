"""Losses, weights, preconditioning and the bound: by hand, in closed form, against diffusers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import losses as lo
from undiffuse import process as pr
from undiffuse import schedules as sc
from undiffuse.denoisers import GaussianDenoiser

F64 = torch.float64


def draw(seed, *shape, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


class Spy:
    """A model that notes how it was called and returns a fixed map of x_t."""

    def __init__(self, scale=0.3):
        self.calls, self.scale = [], torch.tensor(scale, dtype=F64, requires_grad=True)

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return self.scale * arguments[0]


# -- simple_loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 4), (4, 2, 3, 5)])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_simple_loss_by_hand(prediction, shape):
    alpha_bar = torch.tensor([0.95, 0.7, 0.45, 0.2, 0.05], dtype=F64)
    x0, noise, t = draw(0, *shape), draw(1, *shape), torch.tensor([3, 0, 4, 1])
    model, cond = Spy(), torch.tensor([7, 8, 9, 7])
    loss = lo.simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    wanted = []
    for i in range(4):
        alpha, sigma = alpha_bar[t[i]].sqrt(), (1 - alpha_bar[t[i]]).sqrt()
        target = {"eps": noise[i], "x0": x0[i], "v": alpha * noise[i] - sigma * x0[i]}[prediction]
        wanted.append((0.3 * (alpha * x0[i] + sigma * noise[i]) - target).square())
    torch.testing.assert_close(loss, torch.stack(wanted).mean(), rtol=1e-12, atol=0)
    ((x_t, time, passed),) = model.calls
    torch.testing.assert_close(x_t, pr.q_sample(x0, t, alpha_bar, noise))
    torch.testing.assert_close(time, torch.tensor([0.75, 0, 1, 0.25], dtype=F64))
    assert passed is cond
    loss.backward()
    assert model.scale.grad is not None and loss.ndim == 0


def test_simple_loss_defaults_to_eps_without_condition():
    x0, noise, model = draw(0, 2, 3), draw(1, 2, 3), Spy()
    alpha_bar, t = torch.tensor([0.9, 0.4], dtype=F64), torch.tensor([0, 1])
    loss = lo.simple_loss(model, x0, t, alpha_bar, noise)
    assert loss == lo.simple_loss(model, x0, t, alpha_bar, noise, None, "eps")
    assert model.calls[0][2] is None


# -- loss_weight ----------------------------------------------------------------------------------


@given(alpha_bar=st.floats(0.001, 0.999), seed=st.integers(0, 300))
def test_weights_are_what_the_losses_amount_to(alpha_bar, seed):
    """The squared error of each prediction equals the weight times that of x0, elementwise."""
    x0, noise, x0_hat = draw(seed, 3, 2), draw(seed + 1, 3, 2), draw(seed + 2, 3, 2)
    alpha, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x_t = alpha * x0 + sigma * noise
    eps_hat = (x_t - alpha * x0_hat) / sigma
    v, v_hat = alpha * noise - sigma * x0, alpha * eps_hat - sigma * x0_hat
    snr = torch.tensor(alpha_bar / (1 - alpha_bar), dtype=F64)
    for kind, error in [("eps", noise - eps_hat), ("x0", x0 - x0_hat), ("v", v - v_hat)]:
        wanted = lo.loss_weight(kind, snr) * (x0 - x0_hat) ** 2
        torch.testing.assert_close(error**2, wanted, rtol=1e-8, atol=1e-10)


def test_weights_by_hand():
    snr = torch.tensor([0.0, 0.3, 5.0, 40.0])
    wanted = {
        "eps": [0.0, 0.3, 5.0, 40.0],
        "x0": [1.0, 1.0, 1.0, 1.0],
        "v": [1.0, 1.3, 6.0, 41.0],
        "min-snr": [0.0, 0.3, 5.0, 5.0],
    }
    for kind, values in wanted.items():
        got = lo.loss_weight(kind, snr)
        torch.testing.assert_close(got, torch.tensor(values), rtol=0, atol=0)
        got.fill_(-1.0)
        assert (snr >= 0).all()
    assert lo.loss_weight("min-snr", 7.0, gamma=6.5).item() == 6.5
    assert lo.loss_weight("min-snr", 0.1).dtype == F64


# -- edm_precondition -----------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_data", [0.5, 1.7])
def test_precondition_equals_diffusers(sigma_data):
    """diffusers' EDM scheduler, given float64 sigmas; the coefficients are read off its maps."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EDMEulerScheduler(sigma_data=sigma_data)
    sigma = torch.tensor([0.002, 0.3, 2.0, 80.0], dtype=F64)
    one, none = torch.ones(4, dtype=F64), torch.zeros(4, dtype=F64)
    wanted = (
        theirs.precondition_outputs(one, none, sigma),
        theirs.precondition_outputs(none, one, sigma),
        theirs.precondition_inputs(one, sigma),
        theirs.precondition_noise(sigma),
    )
    for got, want in zip(lo.edm_precondition(sigma, sigma_data), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@given(sigma=st.floats(0.002, 80), sigma_data=st.floats(0.1, 5))
def test_precondition_does_what_it_is_for(sigma, sigma_data):
    """Input and target of the network have variance 1, and c_out is as small as can be.

    Karras et al. 2022, appendix B.6: Var[c_in x] = 1, Var[(x0 - c_skip x) / c_out] = 1, and c_skip
    makes c_out least: moving it to either side makes it larger.
    """
    c_skip, c_out, c_in, _ = (c.item() for c in lo.edm_precondition(sigma, sigma_data))
    data, noise = sigma_data**2, sigma**2
    assert c_in**2 * (data + noise) == pytest.approx(1, rel=1e-12)

    def needed(skip):
        return (1 - skip) ** 2 * data + skip**2 * noise

    assert needed(c_skip) == pytest.approx(c_out**2, rel=1e-9)
    assert min(needed(c_skip - 0.01), needed(c_skip + 0.01)) > needed(c_skip)


def test_precondition_keeps_shape_and_dtype():
    four = lo.edm_precondition(torch.rand(2, 1, 1) + 0.1, 0.5)
    assert all(c.shape == (2, 1, 1) and c.dtype == torch.float32 for c in four)
    assert lo.edm_precondition(math.e**4, 0.5)[3].item() == pytest.approx(1.0)


# -- elbo_terms -----------------------------------------------------------------------------------


def closed_form(betas, D, s2):
    """The terms for data Normal(0, s2 I_D) and the exact model, in bits per dimension."""
    alpha_bar = torch.cumprod(1 - betas.double(), 0)
    snr = alpha_bar / (1 - alpha_bar)
    error = D * s2 / (s2 * snr + 1)
    first = D / 2 * torch.log(2 * math.pi * betas[:1]) + error[:1] / (2 * betas[:1])
    middle = (snr[:-1] - snr[1:]) / 2 * error[1:]
    last = alpha_bar[-1]
    prior = D / 2 * (last * s2 - last - torch.log(1 - last))
    return torch.cat([first, middle, prior[None]]) / (D * math.log(2))


def exact_model(betas, s2, kind="eps"):
    return GaussianDenoiser(sc.discrete_schedule(betas), 0.0, s2, kind)


@pytest.mark.parametrize("s2", [0.25, 3.0])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_elbo_equals_the_closed_form(s2, prediction):
    """Term by term, Monte Carlo over n = 200,000 numbers: 6 standard errors.

    Each term is a mean of squares of Gaussians, relative standard error sqrt(2 / n); with 6 of
    them, 21 terms and 6 runs the false-alarm rate is under 1e-6. The seed is fixed.
    """
    betas = sc.linear_betas(20, 0.02, 0.3, dtype=F64)
    x0 = math.sqrt(s2) * draw(0, 5_000, 8, 5)
    generator = torch.Generator().manual_seed(1)
    terms = lo.elbo_terms(x0, exact_model(betas, s2, prediction), betas, generator, prediction)
    wanted = closed_form(betas, 40, s2)
    assert terms.shape == (21,) and terms.dtype == F64
    slack = 6 * math.sqrt(2 / x0.numel())
    # Only the random part of a term carries its error: not the logarithms of the two ends.
    random_part = wanted.clone()
    random_part[0] -= 0.5 * math.log2(2 * math.pi * betas[0])
    random_part[-1] = 0.5 * math.prod((1 - betas).tolist()) * s2 / math.log(2)
    assert ((terms - wanted).abs() <= slack * random_part.abs() + 1e-12).all()


def even_in_log_snr(T):
    """Betas of T steps whose log SNR falls evenly from 12 to -10."""
    alpha_bar = torch.sigmoid(torch.linspace(12, -10, T, dtype=F64))
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def test_elbo_bounds_the_entropy_and_comes_close():
    """The exact model's bound is the data's entropy and a gap that shrinks as steps shrink."""
    s2, entropy = 0.5, 0.5 * math.log2(2 * math.pi * math.e * 0.5)
    gaps = [closed_form(even_in_log_snr(T), 1, s2).sum().item() - entropy for T in (100, 1000)]
    assert 0 < gaps[1] < gaps[0] / 8 and gaps[1] < 0.1
    x0, betas = math.sqrt(s2) * draw(0, 4_000, 2), even_in_log_snr(100)
    terms = lo.elbo_terms(x0, exact_model(betas, s2), betas, torch.Generator().manual_seed(1))
    # 8,000 numbers: the entropy of this sample is within 0.05 bits, 4 standard errors.
    assert terms.sum().item() == pytest.approx(entropy + gaps[0], abs=0.05)


def test_a_worse_model_has_a_worse_bound():
    betas = sc.linear_betas(20, 0.02, 0.3, dtype=F64)
    x0 = draw(0, 2_000, 3)
    sums = [
        lo.elbo_terms(x0, exact_model(betas, s2), betas, torch.Generator().manual_seed(1)).sum()
        for s2 in (1.0, 0.5, 2.5)
    ]
    assert sums[0] < sums[1] and sums[0] < sums[2]


def test_elbo_terms_are_the_divergences_they_claim_to_be():
    """Each middle term, element by element, from torch's KL of the two posteriors.

    Replays the documented draws: one standard normal of x0's shape per step, from step 0 up.
    """
    betas = torch.tensor([0.05, 0.1, 0.25, 0.4, 0.6], dtype=F64)
    alpha_bar = sc.alpha_bar_from_betas(betas)
    x0, model = draw(0, 7, 3, 2), Spy(0.8)
    terms = lo.elbo_terms(x0, model, betas, torch.Generator().manual_seed(5))
    replay = torch.Generator().manual_seed(5)
    normal = torch.distributions.Normal
    for step in range(5):
        t = torch.full((7,), step)
        noise = torch.randn(x0.shape, generator=replay, dtype=F64)
        x_t = pr.q_sample(x0, t, alpha_bar, noise)
        x0_hat = pr.x0_from_eps(x_t, t, alpha_bar, 0.8 * x_t)
        if step == 0:
            nats = -normal(x0_hat, betas[0].sqrt()).log_prob(x0)
        else:
            true, variance = pr.posterior_mean_variance(x0, x_t, t, betas)
            guess, _ = pr.posterior_mean_variance(x0_hat, x_t, t, betas)
            scale = variance.sqrt().reshape(-1, 1, 1)
            nats = torch.distributions.kl_divergence(normal(true, scale), normal(guess, scale))
        wanted = nats.flatten(1).sum(1).mean() / (6 * math.log(2))
        assert terms[step].item() == pytest.approx(wanted.item(), rel=1e-9)
    last = normal(alpha_bar[-1].sqrt() * x0, (1 - alpha_bar[-1]).sqrt())
    nats = torch.distributions.kl_divergence(last, normal(0.0, 1.0))
    assert terms[5].item() == pytest.approx(nats.mean().item() / math.log(2), rel=1e-9)
    assert [call[1][0].item() for call in model.calls] == [0, 0.25, 0.5, 0.75, 1.0]
    assert all(call[2] is None for call in model.calls) and not terms.requires_grad


def test_elbo_is_reproducible_and_leaves_the_global_generator_alone():
    betas, x0 = sc.linear_betas(4, 0.1, 0.4), draw(0, 3, 2, dtype=torch.float32)
    model, before = (lambda x, t, c: x), torch.get_rng_state()
    first, second = (
        lo.elbo_terms(x0, model, betas, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())


def test_elbo_prior_of_a_schedule_that_ends_in_pure_noise_is_zero():
    betas = sc.rescale_zero_terminal_snr(sc.linear_betas(6, 0.1, 0.4, dtype=F64))
    terms = lo.elbo_terms(draw(0, 3, 2), lambda x, t, c: 0 * x, betas, None, "x0")
    assert terms[-1] == 0 and torch.isfinite(terms).all()


# -- bad input ------------------------------------------------------------------------------------

X, T0, BARS = torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([0.9, 0.5])
BETAS = torch.tensor([0.1, 0.2])
MODEL = Spy()


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (ValueError, "prediction must be one of .*'noise'",
         lambda: lo.simple_loss(MODEL, X, T0, BARS, X, None, "noise")),
        (ValueError, "x0 has 6 of 6", lambda: lo.simple_loss(MODEL, X / 0, T0, BARS, X)),
        (ValueError, r"must return the shape of x_t, \(2, 3\), got \(2,\)",
         lambda: lo.simple_loss(lambda x, t, c: x[:, 0], X, T0, BARS, X)),
        (ValueError, "got tuple",
         lambda: lo.simple_loss(lambda x, t, c: (x, t), X, T0, BARS, X)),
        (ValueError, "kind must be one of", lambda: lo.loss_weight("snr", 1.0)),
        (ValueError, "snr must be at least 0", lambda: lo.loss_weight("eps", -1.0)),
        (ValueError, "snr must be at least 0", lambda: lo.loss_weight("eps", math.nan)),
        (TypeError, "floating", lambda: lo.loss_weight("eps", torch.tensor([1]))),
        (ValueError, "gamma", lambda: lo.loss_weight("min-snr", 1.0, gamma=0.0)),
        (ValueError, "sigma must be above 0", lambda: lo.edm_precondition(0.0, 0.5)),
        (ValueError, "sigma_data", lambda: lo.edm_precondition(1.0, 0.0)),
        (TypeError, "floating", lambda: lo.edm_precondition(torch.tensor([1]), 0.5)),
        (ValueError, "not empty", lambda: lo.elbo_terms(X[:0], MODEL, BETAS)),
        (ValueError, "x0 has 6 of 6", lambda: lo.elbo_terms(X / 0, MODEL, BETAS)),
        (ValueError, "betas", lambda: lo.elbo_terms(X, MODEL, 0 * BETAS)),
        (ValueError, "prediction", lambda: lo.elbo_terms(X, MODEL, BETAS, None, "flow")),
    ],
)  # fmt: skip
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()
