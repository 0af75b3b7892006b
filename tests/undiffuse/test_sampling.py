"""One loop, many solvers: orders of convergence, agreement, distributions, bad input."""

import math

import pytest
import torch

from undiffuse import schedules
from undiffuse.denoisers import GaussianDenoiser
from undiffuse.sampling import SOLVERS, Levels, invert, levels, sample, steps_for

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


OPTIONS = [
    *((solver, {}) for solver in sorted(SOLVERS)),
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1.0}),
    ("ddpm", {"variance": "beta"}),
    ("heun", {"churn": 20.0, "churn_range": (0.05, 50.0)}),
]


@pytest.mark.parametrize("solver, options", OPTIONS, ids=lambda v: str(v))
def test_draws_the_distribution(solver, options):
    """Share and mean of a component within 6 standard errors (false alarm below 1e-8), plus 4 %
    of bias that 200 steps of a first-order SDE method leave."""
    n = 4000
    x = sample(
        mixture, COSINE, (n, 1), kind="x0", solver=solver, calls=200,
        generator=torch.Generator().manual_seed(1), dtype=torch.float64, **options,
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


# Each sample its own generator, and back to noise -------------------------------------------------


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_generator_for_each_sample(solver):
    """What a sample becomes does not depend on the batch that it is in."""

    def draw(*seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return sample(mixture, COSINE, (len(seeds), 1), kind="x0", solver=solver, calls=9,
                      generator=generators, dtype=torch.float64)  # fmt: skip

    together = draw(5, 6, 7)
    torch.testing.assert_close(torch.cat([draw(5), draw(6, 7)]), together, rtol=1e-12, atol=1e-12)
    assert len(together.unique()) == 3


def test_as_many_generators_as_samples():
    with pytest.raises(ValueError, match="1 generators cannot serve 2 samples"):
        sample(mixture, COSINE, (2, 1), kind="x0", generator=[torch.Generator()])


# Within two deviations of either mean. Between the two, where no data are, neighbours part ways.
SPREAD = torch.linspace(-2, 2, 9, dtype=torch.float64)
DATA = torch.cat([-1.0 + 0.3 * SPREAD, 1.5 + 0.2 * SPREAD])[:, None]


def test_inversion_finds_the_way_back():
    """The error of data -> noise -> data falls with the number of calls, and is small at last."""
    errors = []
    for calls in (100, 200, 400, 800):
        lv = levels(COSINE, calls)
        noise = invert(mixture, COSINE, DATA, kind="x0", at=lv)
        back = sample(mixture, COSINE, kind="x0", solver="ddim", x=noise, at=lv)
        errors.append(float((back - DATA).abs().max()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.03
    order = math.log(errors[0] / errors[-1]) / math.log(8)
    assert 0.7 < order < 2.2


def test_inversion_of_a_gaussian_is_its_exact_map():
    exact = GaussianDenoiser(COSINE, torch.tensor(0.3), torch.tensor(0.25))
    lv = levels(COSINE, 2000)
    found = invert(exact, COSINE, DATA, kind="x0", at=lv)
    a, s = float(lv.alpha[0]), float(lv.sigma[0])
    wanted = a * 0.3 + (DATA - 0.3) / 0.5 * math.sqrt(a**2 * 0.25 + s**2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-2)


def test_inversion_between_levels_that_end_above_data():
    """No first step from data there: x is taken to be at the last level."""
    noise = invert(mixture, COSINE, DATA, kind="x0", at=grid(800))
    back = sample(mixture, COSINE, kind="x0", solver="ddim", x=noise, at=grid(800))
    torch.testing.assert_close(back, DATA, rtol=0, atol=2e-2)


def test_inversion_keeps_its_path_and_counts_its_calls():
    counted = []
    x, path = invert(mixture, COSINE, DATA, kind="x0", calls=7, path=True, progress=counted.append)
    assert counted == [1] * 7 and len(path.x) == 8 and torch.equal(path.x[-1], x)


def test_inversion_of_bad_data_or_by_a_bad_denoiser():
    with pytest.raises(ValueError, match="NaN"):
        invert(mixture, COSINE, DATA * math.nan, kind="x0")
    with pytest.raises(ValueError, match="not finite"):
        invert(lambda x, t, c: x * math.inf, COSINE, DATA, kind="x0")


def test_guidance_and_progress_through_the_same_interface():
    """The scale exaggerates what the condition says: here, the mean."""
    from undiffuse.guidance import guided

    def conditional(x, t, cond):
        mean = torch.where(cond == 2, 0.0, cond * 1.0)[:, None].to(x)
        a, s = COSINE.alpha(torch.tensor(t)), COSINE.sigma(torch.tensor(t))
        return mean + a * 0.04 / (a**2 * 0.04 + s**2) * (x - a * mean)

    def mean_of(denoiser, calls=[]):  # noqa: B006 - counted over all
        x = sample(
            denoiser, COSINE, (500, 1), kind="x0", calls=20, dtype=torch.float64,
            cond=torch.ones(500, dtype=torch.int64), progress=calls.append,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert sum(calls) % 20 == 0
        return float(x.mean())

    plain, strong = mean_of(conditional), mean_of(guided(conditional, 2, 2.0))
    assert plain == pytest.approx(1.0, abs=0.1) and strong > plain + 0.3
    inside = mean_of(guided(conditional, 2, 2.0, interval=(0.2, 0.4)))
    assert plain < inside < strong
