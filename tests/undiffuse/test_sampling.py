"""One loop, many solvers: orders of convergence, agreement, distributions, bad input."""

import math

import pytest
import torch

from undiffuse import schedules
from undiffuse.denoisers import GaussianDenoiser
from undiffuse.sampling import SOLVERS, Levels, levels, sample, steps_for

COSINE = schedules.cosine_schedule()
MEANS, VARIANCES, WEIGHTS = (-1.0, 1.5), (0.09, 0.04), (0.3, 0.7)


def mixture(x, t, cond=None):
    """E[x0 | x_t] of a 1-D mixture of two Gaussians under the cosine schedule."""
    t = torch.tensor(float(t), dtype=torch.float64)
    a, s = COSINE.alpha(t), COSINE.sigma(t)
    logs, guesses = [], []
    for m, v, w in zip(MEANS, VARIANCES, WEIGHTS):
        total = a**2 * v + s**2
        logs.append(-((x - a * m) ** 2) / (2 * total) - 0.5 * total.log() + math.log(w))
        guesses.append(m + a * v / total * (x - a * m))
    share = torch.softmax(torch.stack(logs), 0)
    return (share * torch.stack(guesses)).sum(0)


def grid(n: int) -> Levels:
    t = torch.linspace(0.9, 0.05, n + 1, dtype=torch.float64)
    return Levels(t, COSINE.alpha(t), COSINE.sigma(t))


START = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]


@pytest.fixture(scope="module")
def truth():
    return sample(mixture, COSINE, kind="x0", solver="heun", x=START, at=grid(4096))


@pytest.mark.parametrize("solver, order", [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(solver, order, truth):
    """Fitted over 64 to 512 steps, down to a sigma above 0; within 0.15."""
    counts = torch.tensor([64, 128, 256, 512], dtype=torch.float64)
    errors = torch.stack(
        [
            (sample(mixture, COSINE, kind="x0", solver=solver, x=START, at=grid(int(n))) - truth)
            .abs()
            .max()
            for n in counts
        ]
    )
    x, y = counts.log(), errors.log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(-float(slope) - order) < 0.15


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_draws_the_distribution(solver):
    """Share and mean of a component within 6 standard errors (false alarm below 1e-8), plus 4 %
    of bias that 200 steps of a first-order SDE method leave."""
    n = 4000
    x = sample(
        mixture, COSINE, (n, 1), kind="x0", solver=solver, calls=200,
        generator=torch.Generator().manual_seed(1), dtype=torch.float64,
    )  # fmt: skip
    upper = x > 0.3
    assert abs(float(upper.double().mean()) - 0.7) < 6 * math.sqrt(0.21 / n) + 0.04
    assert abs(float(x[upper].mean()) - 1.5) < 6 * 0.2 / math.sqrt(0.7 * n) + 0.02


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score"])
@pytest.mark.parametrize("make", ["cosine", "linear", "sigmoid", "flow"])
def test_any_kind_and_schedule_give_the_same_samples(kind, make):
    """A Gaussian's exact flow map: x0 = mean + (deviation ratio) (x - alpha mean)."""
    from undiffuse.prediction import convert
    from undiffuse.prediction import levels as at_time

    schedule = getattr(schedules, f"{make}_schedule")()
    exact = GaussianDenoiser(schedule, torch.tensor(0.3), torch.tensor(0.25))

    def denoiser(x, t, cond=None):
        alpha, sigma = at_time(schedule, t)
        return convert("x0", kind, exact(x, t, cond), x, alpha, sigma)

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    lv = levels(schedule, 400)
    found = sample(denoiser, schedule, kind=kind, solver="dpmpp_2m", x=x, at=lv)
    a, s = float(lv.alpha[0]), float(lv.sigma[0])
    wanted = 0.3 + 0.5 * (x - a * 0.3) / math.sqrt(a**2 * 0.25 + s**2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2)


def test_same_seed_same_samples_and_calls_are_kept():
    counted = []

    def counting(x, t, cond=None):
        counted.append(t)
        return mixture(x, t)

    draw = lambda solver: sample(  # noqa: E731
        counting, COSINE, (5, 1), kind="x0", solver=solver, calls=11,
        generator=torch.Generator().manual_seed(3), dtype=torch.float64,
    )  # fmt: skip
    for solver in SOLVERS:
        counted.clear()
        first = draw(solver)
        assert len(counted) == 11
        assert torch.equal(first, draw(solver))
    assert steps_for("heun", 10) == 5


def test_path_holds_every_step():
    x, path = sample(mixture, COSINE, (2, 1), kind="x0", calls=7, path=True, dtype=torch.float64)
    assert len(path.x) == 8 and len(path.x0) == 7
    assert torch.equal(path.x[-1], x)


@pytest.mark.parametrize("spacing", ["time", "log_snr", "karras"])
def test_levels_fall_to_data(spacing):
    lv = levels(COSINE, 9, spacing)
    assert lv.steps == 9
    assert (lv.t.diff()[:-1] < 0).all()
    assert (float(lv.alpha[-1]), float(lv.sigma[-1])) == (1.0, 0.0)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"solver": "magic"}, "solver must be one of"),
        ({"calls": 0}, "calls must be"),
        ({"spacing": "odd"}, "spacing must be"),
        ({"eta": 0.5}, "has no option eta"),
        ({"shape": None}, "shape"),
    ],
)
def test_bad_input_is_told(change, says):
    options = {"shape": (2, 1), "kind": "x0", "dtype": torch.float64, **change}
    shape = options.pop("shape")
    with pytest.raises(ValueError, match=says):
        sample(mixture, COSINE, shape, **options)


def test_values_that_are_not_finite_are_told():
    with pytest.raises(ValueError, match="not finite"):
        sample(lambda x, t, c: x * float("nan"), COSINE, (2, 1), kind="x0")
