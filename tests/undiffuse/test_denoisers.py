"""Analytic denoisers against numerical quadrature, brute force and each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from undiffuse import denoisers as de
from undiffuse import schedules as sc

F64 = torch.float64
LEVELS = [(1.0, 0.05), (0.9, 0.4), (0.3, 0.95), (1.0, 6.0), (0.0, 1.0)]
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
VARIANCES = torch.tensor([0.04, 0.3, 1.1], dtype=F64)
MEANS1 = torch.tensor([[-2.0], [0.4], [1.5]], dtype=F64)
MEANS2 = torch.tensor([[-1.5, 0.3], [0.8, 1.2], [0.5, -1.6]], dtype=F64)


def equal(got, wanted, rtol=0.0, atol=1e-10):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def draw(seed, *shape, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def quadrature(x_t, alpha, sigma, density, grid, cell):
    """(E[x0 | x_t], p(x_t)) by summing over a grid of x0, (G, D), with cells of size ``cell``.

    For smooth integrands that vanish at the ends the trapezoid rule's error falls faster than any
    power of the spacing; the grids below have at least 1.5 points per standard deviation of the
    sharpest posterior, which is enough for 1e-8.
    """
    D = grid.shape[1]
    squares = ((x_t[:, None] - alpha * grid) ** 2).sum(-1)
    likelihood = torch.exp(-squares / (2 * sigma**2)) / (2 * math.pi * sigma**2) ** (D / 2)
    joint = likelihood * density(grid) * cell
    evidence = joint.sum(1)
    return joint @ grid / evidence[:, None], evidence


def mixture_density(means):
    def density(x):
        squares = ((x[:, None] - means) ** 2).sum(-1)
        D = means.shape[1]
        each = torch.exp(-squares / (2 * VARIANCES)) / (2 * math.pi * VARIANCES) ** (D / 2)
        return each @ WEIGHTS

    return density


def grid1():
    line = torch.linspace(-12, 12, 4801, dtype=F64)
    return line[:, None], 24 / 4800


def grid2():
    line = torch.linspace(-9, 9, 601, dtype=F64)
    return torch.cartesian_prod(line, line), (18 / 600) ** 2


def likely(alpha, sigma, means):
    """x_t where p(x_t) is not vanishing: noisy component means."""
    return alpha * means.repeat(3, 1) + sigma * draw(5, 9, means.shape[1])


# -- against quadrature ---------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_gaussian_equals_quadrature(alpha, sigma):
    mean, var = 0.7, 0.36
    grid, cell = grid1()

    def density(x):
        return torch.exp(-((x[:, 0] - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)

    x_t = alpha * mean + math.sqrt(alpha**2 * var + sigma**2) * draw(1, 7, 1)
    wanted, _ = quadrature(x_t, alpha, sigma, density, grid, cell)
    equal(de.gaussian_denoiser(x_t, alpha, sigma, mean, var), wanted, atol=1e-8)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize(("means", "grid"), [(MEANS1, grid1), (MEANS2, grid2)], ids=["1-D", "2-D"])
def test_mixture_equals_quadrature(alpha, sigma, means, grid):
    x_t = likely(alpha, sigma, means)
    wanted, _ = quadrature(x_t, alpha, sigma, mixture_density(means), *grid())
    got = de.mixture_denoiser(x_t, alpha, sigma, means, VARIANCES, WEIGHTS)
    equal(got, wanted, atol=1e-8)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_score_equals_the_slope_of_the_log_density(alpha, sigma):
    """Central differences of log p(x_t) from quadrature: 1e-5 relative to the score's scale."""
    grid, cell = grid1()
    x_t, step = likely(alpha, sigma, MEANS1), 1e-4 * sigma
    density = mixture_density(MEANS1)
    up, down = (quadrature(x_t + d, alpha, sigma, density, grid, cell)[1] for d in (step, -step))
    wanted = (torch.log(up) - torch.log(down))[:, None] / (2 * step)
    x0 = de.mixture_denoiser(x_t, alpha, sigma, MEANS1, VARIANCES, WEIGHTS)
    equal(de.score_from_x0(x_t, x0, alpha, sigma), wanted, atol=1e-5 / sigma)
    eps = (x_t - alpha * x0) / sigma
    equal(de.score_from_eps(eps, sigma), wanted, atol=1e-5 / sigma)


@given(alpha=st.floats(0.05, 1), sigma=st.floats(0.01, 50), seed=st.integers(0, 300))
def test_score_equals_autograd_of_the_mixture(alpha, sigma, seed):
    x_t = (3 * draw(seed, 4, 2)).requires_grad_(True)
    total = alpha**2 * VARIANCES + sigma**2
    squares = ((x_t[:, None] - alpha * MEANS2) ** 2).sum(-1)
    logp = torch.logsumexp(WEIGHTS.log() - squares / (2 * total) - total.log(), dim=1)
    (wanted,) = torch.autograd.grad(logp.sum(), x_t)
    x = x_t.detach()
    x0 = de.mixture_denoiser(x, alpha, sigma, MEANS2, VARIANCES, WEIGHTS)
    got = de.score_from_x0(x, x0, alpha, sigma)
    # Tweedie divides by sigma^2 what float64 holds of x_t and alpha x0.
    equal(got, wanted, rtol=1e-8, atol=1e-13 / sigma**2)


# -- against each other ---------------------------------------------------------------------------


def test_mixture_of_one_is_the_gaussian():
    x_t, alpha = draw(0, 2, 3, 4), torch.tensor([0.3, 0.8], dtype=F64)
    sigma = torch.tensor([2.0, 0.1], dtype=F64)
    mean = draw(1, 3, 4)
    one = torch.ones(1, dtype=F64)
    got = de.mixture_denoiser(x_t, alpha, sigma, mean[None], 0.7 * one, 5 * one)
    equal(got, de.gaussian_denoiser(x_t, alpha, sigma, mean, 0.7))


def test_equal_components_are_one_and_weights_need_not_sum_to_one():
    x_t, means = draw(0, 5, 2), MEANS2[:1].repeat(3, 1)
    got = de.mixture_denoiser(x_t, 0.8, 0.5, means, torch.full((3,), 0.3, dtype=F64), 7 * WEIGHTS)
    equal(got, de.gaussian_denoiser(x_t, 0.8, 0.5, MEANS2[0], 0.3))


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.02), (0.7, 0.3), (0.3, 0.95), (1.0, 20.0)])
@pytest.mark.parametrize("shape", [(2,), (1, 4, 5), (3, 7)])
def test_empirical_equals_a_mixture_of_spikes(alpha, sigma, shape):
    """Tiny variance, equal weights; by formula the two differ by under variance / sigma^2."""
    data, n = draw(0, 40, *shape), 40
    x_t = alpha * data[:6] + sigma * draw(1, 6, *shape)
    spikes = torch.full((n,), 1e-12, dtype=F64)
    wanted = de.mixture_denoiser(x_t, alpha, sigma, data, spikes, torch.ones(n, dtype=F64))
    equal(de.empirical_denoiser(x_t, alpha, sigma, data), wanted, atol=1e-7)


def brute_force(x_t, alpha, sigma, data):
    """Every difference, float64, one sample at a time."""
    out = []
    for x, a, s in zip(x_t.double().flatten(1), alpha, sigma):
        squares = (x - a * data.double().flatten(1)).square().sum(1)
        weights = torch.softmax(-squares / (2 * s**2), dim=0)
        out.append(weights @ data.double().flatten(1))
    return torch.stack(out).reshape(x_t.shape)


@pytest.mark.parametrize("n", [1, 4096, 5000, 9001])
def test_empirical_equals_brute_force_over_blocks(n):
    """Sizes around the block of 4,096, 300 samples over rows of 256, and a level per sample."""
    data, x_t = draw(0, n, 3), draw(1, 300, 3)
    alpha = torch.linspace(0.2, 1.0, 300, dtype=F64)
    sigma = torch.linspace(2.0, 0.05, 300, dtype=F64)
    got = de.empirical_denoiser(x_t, alpha, sigma, data)
    equal(got, brute_force(x_t, alpha, sigma, data))


@pytest.mark.parametrize("sigma", [1e-2, 1e-3, 1e-5, 1e-7])
def test_empirical_keeps_its_digits_at_small_sigma(sigma):
    """Images that differ by about sigma, in float32: weights depend on the last digits.

    A float32 matrix product is wrong here by far more than the tolerance, and a float64 one at
    the smallest sigma: the second assertion shows that the case tells.
    """
    base = draw(0, 1, 784).clamp(-1, 1)
    data = (base + sigma / 28 * draw(1, 20, 784)).float()
    x_t = (data[:3].double() + 0.3 * sigma * draw(2, 3, 784)).float()
    levels = torch.ones(3, dtype=F64), torch.full((3,), sigma, dtype=F64)
    wanted = brute_force(x_t, *levels, data)
    got = de.empirical_denoiser(x_t.double(), 1.0, sigma, data)
    equal(got, wanted, atol=1e-6 * sigma)
    assert de.empirical_denoiser(x_t, 1.0, sigma, data).dtype == torch.float32
    careless = torch.softmax(-torch.cdist(x_t, data).square() / (2 * sigma**2), 1) @ data
    if sigma <= 1e-3:
        assert (careless.double() - wanted).abs().max() > 1e-6 * sigma


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor):
                # Views share the memory of what they look at.
                self.numel = max(self.numel, tensor.numel() if not tensor._is_view() else 0)
        return out


@pytest.mark.parametrize("sigma", [0.5, 1e-6], ids=["product", "differences"])
def test_empirical_never_holds_all_differences(sigma):
    """B = 300, N = 10,000, D = 64: no tensor beyond a block of distances or of data."""
    data, x_t = draw(0, 10_000, 64, dtype=torch.float32), draw(1, 300, 64, dtype=torch.float32)
    with LargestTensor() as largest:
        de.empirical_denoiser(x_t, 0.8, sigma, data)
    assert 0 < largest.numel <= de.ROWS * de.BLOCK


def test_smallest_sigma_gives_no_nan():
    """Everything underflows but the largest logit: the nearest point, and no 0 / 0."""
    data = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    x_t = torch.tensor([[0.9, 1.2], [100.0, -3.0]])
    got = de.empirical_denoiser(x_t, 1.0, 1e-8, data)
    assert torch.equal(got, data[1:])
    spikes = torch.full((3,), 1e-30)
    assert torch.equal(de.mixture_denoiser(x_t, 1.0, 1e-8, data, spikes, torch.ones(3)), data[1:])


def test_no_noise_returns_the_data_and_no_signal_the_mean():
    x = draw(0, 3, 2)
    equal(de.gaussian_denoiser(x, 1.0, 0.0, 0.3, 2.0), x)
    equal(de.mixture_denoiser(x, 1.0, 0.0, MEANS2, VARIANCES, WEIGHTS), x)
    equal(de.gaussian_denoiser(x, 0.0, 1.0, 0.3, 2.0), torch.full((3, 2), 0.3, dtype=F64))
    centre = (WEIGHTS @ MEANS2).expand(3, 2)
    equal(de.mixture_denoiser(x, 0.0, 1.0, MEANS2, VARIANCES, WEIGHTS), centre)
    data = draw(1, 9, 2)
    equal(de.empirical_denoiser(x, 0.0, 1.0, data), data.mean(0).expand(3, 2))


def test_gaussian_mean_and_variance_by_element():
    """One mean and variance per element of a sample, B = L: a wrong broadcast would run."""
    x_t, mean, var = draw(0, 4, 4), draw(1, 4), draw(2, 4).square() + 0.1
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=F64)
    got = de.gaussian_denoiser(x_t, 0.6, sigma, mean, var)
    for b in range(4):
        for i in range(4):
            gain = 0.6 * var[i] / (0.36 * var[i] + sigma[b] ** 2)
            wanted = mean[i] + gain * (x_t[b, i] - 0.6 * mean[i])
            assert got[b, i].item() == pytest.approx(wanted.item(), abs=1e-12)


# -- the denoiser interface -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x0", "eps", "v", "flow", "score"])
def test_denoisers_speak_every_kind(kind):
    schedule, x_t, t = sc.cosine_schedule(), draw(0, 4, 2), torch.linspace(0.1, 0.9, 4, dtype=F64)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    data = draw(1, 30, 2)
    for denoiser, x0 in [
        (de.GaussianDenoiser(schedule, 0.2, 1.4, kind),
         de.gaussian_denoiser(x_t, alpha, sigma, 0.2, 1.4)),
        (de.MixtureDenoiser(schedule, MEANS2, VARIANCES, WEIGHTS, kind),
         de.mixture_denoiser(x_t, alpha, sigma, MEANS2, VARIANCES, WEIGHTS)),
        (de.EmpiricalDenoiser(schedule, data, kind),
         de.empirical_denoiser(x_t, alpha, sigma, data)),
    ]:  # fmt: skip
        eps = (x_t - alpha * x0) / sigma
        wanted = {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "flow": eps - x0,
                  "score": -eps / sigma}[kind]  # fmt: skip
        equal(denoiser(x_t, t, None), wanted)
        single = denoiser(x_t.float(), t.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), wanted, rtol=1e-4, atol=1e-4)


# -- bad input ------------------------------------------------------------------------------------

X, D = torch.zeros(2, 3), torch.zeros(5, 3)
W = torch.ones(5)


@pytest.mark.parametrize(
    ("error", "says", "call"),
    [
        (TypeError, "x_t must be a float", lambda: de.gaussian_denoiser(X.int(), 1., 1., 0., 1.)),
        (ValueError, "x_t has 6 of 6", lambda: de.gaussian_denoiser(X / 0, 1., 1., 0., 1.)),
        (ValueError, "var must be", lambda: de.gaussian_denoiser(X, 1., 1., 0., -1.)),
        (ValueError, "is 0", lambda: de.gaussian_denoiser(X, 1., 0., 0., 0.)),
        (ValueError, r"mean must broadcast to one sample, \(3,\), got \(2,\)",
         lambda: de.gaussian_denoiser(X, 1., 1., torch.zeros(2), 1.)),
        (ValueError, "sigma must be at least 0", lambda: de.gaussian_denoiser(X, 1., -1., 0., 1.)),
        (ValueError, "alpha must be a number or one",
         lambda: de.gaussian_denoiser(X, torch.ones(3), 1., 0., 1.)),
        (ValueError, r"means must have shape \(K, ...\)",
         lambda: de.mixture_denoiser(X, 1., 1., D[:, :2], W, W)),
        (ValueError, r"variances must have shape \(5,\), got \(5, 3\)",
         lambda: de.mixture_denoiser(X, 1., 1., D, D, W)),
        (ValueError, "weights must be at", lambda: de.mixture_denoiser(X, 1., 1., D, W, -W)),
        (ValueError, "weights are all 0", lambda: de.mixture_denoiser(X, 1., 1., D, W, 0 * W)),
        (ValueError, "is 0", lambda: de.mixture_denoiser(X, 1., 0., D, 0 * W, W)),
        (ValueError, "N >= 1", lambda: de.empirical_denoiser(X, 1., 1., D[:0])),
        (ValueError, r"with \(3,\) per sample", lambda: de.empirical_denoiser(X, 1., 1., D[:, :2])),
        (TypeError, "data must be a floating", lambda: de.empirical_denoiser(X, 1., 1., D.int())),
        (ValueError, "sigma must be above 0", lambda: de.empirical_denoiser(X, 1., 0., D)),
        (ValueError, "x0_hat must have the shape", lambda: de.score_from_x0(X, X[:1], 1., 1.)),
        (ValueError, "sigma must be above 0", lambda: de.score_from_x0(X, X, 1., 0.)),
        (ValueError, "sigma must be above 0", lambda: de.score_from_eps(X, 0.)),
        (ValueError, "kind must be", lambda: de.GaussianDenoiser(sc.flow_schedule(), 0., 1., "n")),
    ],
)  # fmt: skip
def test_bad_input_is_named(error, says, call):
    with pytest.raises(error, match=says):
        call()
