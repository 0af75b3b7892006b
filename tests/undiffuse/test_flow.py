"""Flow matching: the path, the way back, and that both are cases of what the library has."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.denoisers import mixture_denoiser
from undiffuse.flow import flow_pair, flow_sample
from undiffuse.losses import loss_weight
from undiffuse.prediction import as_kind, convert
from undiffuse.sampling import Levels, sample
from undiffuse.schedules import cosine_schedule, flow_schedule
from undiffuse.training import logit_normal_t

MEAN, VARIANCE = 0.7, 0.4


def velocity(x_t, t, cond=None):
    """The exact one for data Normal(MEAN, VARIANCE): E[x1 - x0 | x_t]."""
    t = torch.as_tensor(t, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    total = (1 - t) ** 2 * VARIANCE + t**2
    return -MEAN + (t - (1 - t) * VARIANCE) / total * (x_t - (1 - t) * MEAN)


def exact_end(x):
    """Where the flow ends that begins at x: it keeps every point's quantile."""
    return MEAN + math.sqrt(VARIANCE) * x


def test_a_pair_lies_on_the_straight_line(generator):
    x0, x1 = torch.randn(2, 3, 2, 5, 5, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    x_t, v = flow_pair(x0, x1, t)
    assert torch.equal(x_t[0], x0[0]) and torch.equal(x_t[2], x1[2])
    torch.testing.assert_close(x_t[1], 0.7 * x0[1] + 0.3 * x1[1])
    torch.testing.assert_close(v, x1 - x0)
    torch.testing.assert_close(x_t - t[:, None, None, None] * v, x0)
    ahead, _ = flow_pair(x0, x1, 0.31)
    behind, _ = flow_pair(x0, x1, 0.29)
    torch.testing.assert_close((ahead - behind) / 0.02, v)


def test_the_exact_velocity_leads_to_the_data():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        flow_sample(velocity, x, 200, "midpoint"), exact_end(x), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("method, order", [("euler", 1), ("midpoint", 2)])
def test_order_of_convergence(method, order):
    """On two clusters, whose paths bend (of a Gaussian the midpoint is of third order)."""
    means = torch.tensor([[-1.0], [1.2]], dtype=torch.float64)
    variances, weights = torch.tensor([[0.1, 0.2], [0.4, 0.6]], dtype=torch.float64)

    def bent(x_t, t, cond):
        t = float(t[0])
        return (x_t - mixture_denoiser(x_t, 1 - t, t, means, variances, weights)) / t

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = flow_sample(bent, x, 4000, "midpoint")
    errors = [float((flow_sample(bent, x, n, method) - exact).abs().mean()) for n in (80, 160)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method, calls", [("euler", 5), ("midpoint", 10)])
def test_calls_times_and_manners(method, calls):
    seen = []

    def model(x_t, t, cond):
        assert t.shape == (3,) and t.dtype == x_t.dtype and cond is labels
        seen.append(float(t[0]))
        return velocity(x_t, t)

    labels, x = torch.arange(3), torch.ones(3, 1, 4, dtype=torch.float64)
    before = x.clone()
    flow_sample(model, x, 5, method, labels)
    assert len(seen) == calls and seen[0] == 1.0 and torch.equal(x, before)
    assert seen == sorted(seen, reverse=True) and min(seen) > 0


def test_euler_is_ddim_on_the_straight_path():
    """The library's loop, told kind "flow" and levels even in t, makes the same steps."""
    x = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.linspace(1, 0, 8, dtype=torch.float64)
    at = Levels(t, 1 - t, t)
    by_loop = sample(
        velocity, flow_schedule(), kind="flow", solver="euler", x=x, at=at, dtype=torch.float64
    )
    torch.testing.assert_close(by_loop, flow_sample(velocity, x, 7), rtol=1e-12, atol=1e-12)


def test_bad_input():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"method must be one of .*'heun'"):
        flow_sample(velocity, x, 4, "heun")
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        flow_sample(velocity, x, 0)
    with pytest.raises(ValueError, match="NaN"):
        flow_sample(velocity, x * torch.nan, 4)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        flow_pair(x, x, torch.tensor([0.2, 1.2]))
    with pytest.raises(ValueError, match="shape of x0"):
        flow_pair(x, torch.zeros(2, 2), 0.5)


@given(st.floats(0.02, 0.98))
def test_weight_of_the_plain_loss(t):
    """An error e of x0 is an error of the velocity whose square is the weight times e^2."""
    for schedule in (flow_schedule(), cosine_schedule()):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        x_t = torch.tensor([0.3], dtype=torch.float64)
        x0 = torch.tensor([0.5], dtype=torch.float64)
        one, other = (convert("x0", "flow", a, x_t, alpha, sigma) for a in (x0, x0 + 0.1))
        found = float((one - other).square() / 0.01)
        assert found == pytest.approx(float(loss_weight("flow", (alpha / sigma) ** 2)), rel=1e-6)


def test_times_are_logit_normal(generator):
    """By the distance to the distribution asked for; for 40,000 stratified times it is tiny."""
    n, mean, std = 40_000, -0.4, 1.3
    t = logit_normal_t(n, generator, mean, std)
    assert t.dtype == torch.float32 and float(t.min()) > 0 and float(t.max()) < 1
    u = torch.special.ndtr((torch.logit(t.double()) - mean) / std).sort().values
    distance = (u - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 2 / n + 1e-5
    assert not torch.equal(t, t.sort().values)
    wide = logit_normal_t(1000, generator, 0.0, 50.0)
    assert float(wide.min()) > 0 and float(wide.max()) < 1
    for batch, std in ((0, 1.0), (3, 0.0), (3, math.nan)):
        with pytest.raises(ValueError, match="batch must be at least 1, std above 0"):
            logit_normal_t(batch, generator, 0.0, std)


def test_a_network_of_another_kind_can_be_asked_for_its_velocity():
    """v on the cosine schedule, converted: E[eps - x0] of the same x_t."""
    schedule = cosine_schedule()
    x = torch.ones(1, 1, dtype=torch.float64)
    asked = as_kind(lambda x_t, t, cond: 0.2 * x_t, schedule, "v", "flow")
    alpha, sigma = float(schedule.alpha(0.4)), float(schedule.sigma(0.4))
    v = 0.2
    x0, eps = alpha - sigma * v, sigma + alpha * v
    assert float(asked(x, 0.4)) == pytest.approx(eps - x0)
