"""Guidance: against its definitions, in distribution, on exact denoisers, and on bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from undiffuse import guidance as gd
from undiffuse import prediction as pred
from undiffuse import sampling
from undiffuse import schedules as sc
from undiffuse.denoisers import mixture_denoiser

F64 = torch.float64
SCHEDULE = sc.cosine_schedule()
MEANS = torch.tensor([[-1.5, 0.2], [0.4, 1.0], [1.1, -0.9]], dtype=F64)
VARIANCES = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
NULL = 3


def equal(got, wanted, rtol=0.0, atol=1e-10):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def draw(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Classes:
    """An exact conditional denoiser, each class one Gaussian; keeps the size of every call."""

    def __init__(self, kind="eps"):
        self.kind, self.rows = kind, []

    def __call__(self, x_t, t, cond=None):
        self.rows.append(len(x_t))
        alpha, sigma = pred.levels(SCHEDULE, t)
        cond = torch.full((len(x_t),), NULL) if cond is None else cond
        x0 = torch.empty_like(x_t)
        for k in cond.unique().tolist():
            of = cond == k
            part = slice(None) if k == NULL else slice(k, k + 1)
            a, s = (v[of] if isinstance(v, torch.Tensor) and v.ndim else v for v in (alpha, sigma))
            x0[of] = mixture_denoiser(x_t[of], a, s, MEANS[part], VARIANCES[part], WEIGHTS[part])
        return pred.convert("x0", self.kind, x0, x_t, alpha, sigma)


def class_logp(x, t):
    """log p(class | x_t), exact."""
    alpha, sigma = pred.levels(SCHEDULE, t)
    total = (alpha**2 * VARIANCES + sigma**2).reshape(-1, 3)
    off = (x[:, None] - torch.as_tensor(alpha).reshape(-1, 1, 1) * MEANS).square().sum(2)
    return torch.log_softmax(WEIGHTS.log() - total.log() - off / (2 * total), 1)


# --- labels dropped -------------------------------------------------------------------------


def test_dropped_share_and_independence():
    y = torch.arange(40_000) % 7
    out = gd.drop_labels(y, 0.2, 7, torch.Generator().manual_seed(0))
    dropped = out == 7
    assert torch.equal(out[~dropped], y[~dropped])
    n, p = len(y), 0.2
    assert abs(dropped.double().mean() - p) < 5 * math.sqrt(p * (1 - p) / n)
    pairs = (dropped[::2] & dropped[1::2]).double().mean()
    assert abs(pairs - p**2) < 5 * math.sqrt(p**2 * (1 - p**2) / (n / 2))


@pytest.mark.parametrize(("p", "share"), [(0.0, 0.0), (1.0, 1.0), (0, 0.0), (1, 1.0)])
def test_drop_none_or_all(p, share):
    y = torch.arange(5)
    out = gd.drop_labels(y, p, 9, torch.Generator().manual_seed(1))
    assert (out == 9).double().mean() == share
    assert out.dtype == torch.int64 and torch.equal(y, torch.arange(5))


def test_drop_is_repeatable_and_leaves_the_global_generator_alone():
    y = torch.arange(300) % 5
    state = torch.get_rng_state()
    first = gd.drop_labels(y, 0.3, 5, torch.Generator().manual_seed(2))
    assert torch.equal(first, gd.drop_labels(y, 0.3, 5, torch.Generator().manual_seed(2)))
    assert not torch.equal(first, gd.drop_labels(y, 0.3, 5, torch.Generator().manual_seed(3)))
    assert torch.equal(state, torch.get_rng_state())
    assert len(gd.drop_labels(y[:0], 0.3, 5)) == 0


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_drop_refuses(p):
    with pytest.raises(ValueError, match="p must be"):
        gd.drop_labels(torch.arange(3), p, 3)


# --- the combination ------------------------------------------------------------------------


@given(scale=st.floats(-3, 9))
def test_cfg_is_the_papers_formula_with_w_one_less(scale):
    c, u = draw(0, 2, 1, 5), draw(1, 2, 1, 5)
    w = scale - 1
    equal(gd.cfg(c, u, scale), (1 + w) * c - w * u)


def test_cfg_ends():
    c, u = draw(0, 3, 4), draw(1, 3, 4)
    equal(gd.cfg(c, u, 0.0), u)
    equal(gd.cfg(c, u, 1.0), c)


def test_cfg_refuses_unlike_shapes():
    with pytest.raises(ValueError, match="must be alike"):
        gd.cfg(draw(0, 3, 4), draw(1, 1, 4), 2.0)


@pytest.mark.parametrize("kind", ["x0", "v", "flow", "score"])
def test_cfg_commutes_with_conversions(kind):
    """Guiding eps and guiding any other prediction are the same."""
    x, c, u = draw(2, 4, 2), draw(0, 4, 2), draw(1, 4, 2)
    alpha, sigma = 0.6, 0.8

    def to(eps):
        return pred.convert("eps", kind, eps, x, alpha, sigma)

    equal(gd.cfg(to(c), to(u), 3.0), to(gd.cfg(c, u, 3.0)))


def test_rescale_takes_the_deviation_of_each_sample():
    sizes = torch.tensor([0.5, 2.0, 5.0], dtype=F64).reshape(3, 1, 1)
    guided, cond = sizes * draw(0, 3, 2, 7) + 0.3, draw(1, 3, 2, 7)
    full = gd.rescale_guidance(guided, cond, 1.0)
    equal(full.flatten(1).std(1), cond.flatten(1).std(1))
    equal(gd.rescale_guidance(guided, cond, 0.0), guided)
    equal(gd.rescale_guidance(guided, cond, 0.25), 0.25 * full + 0.75 * guided)
    equal(gd.rescale_guidance(guided[1:2], cond[1:2], 1.0), full[1:2])


@pytest.mark.parametrize("phi", [-0.1, 1.2, math.nan])
def test_rescale_refuses(phi):
    with pytest.raises(ValueError, match="phi must be"):
        gd.rescale_guidance(draw(0, 2, 3), draw(1, 2, 3), phi)


def test_rescale_refuses_unlike_shapes():
    with pytest.raises(ValueError, match="must be alike"):
        gd.rescale_guidance(draw(0, 2, 3), draw(1, 2, 4), 0.5)


def test_rescale_leaves_a_constant_prediction():
    """There is no deviation to bring back; the result must not be NaN."""
    flat = torch.full((2, 5), 0.7, dtype=F64)
    equal(gd.rescale_guidance(flat, draw(0, 2, 5), 0.6), flat)


def test_interval_of_numbers_and_tensors():
    t = torch.tensor([[0.1, 0.25], [0.5, 0.75], [0.76, 1.0]])
    wanted = torch.tensor([[1.0, 3.0], [3.0, 3.0], [1.0, 1.0]])
    equal(gd.guidance_interval(3.0, t, 0.25, 0.75), wanted)
    for u, w in zip(t.flatten().tolist(), wanted.flatten().tolist()):
        assert gd.guidance_interval(3.0, u, 0.25, 0.75) == w
    assert gd.guidance_interval(3.0, t.double(), 0.25, 0.75).dtype == F64


def test_interval_refuses_reversed_ends():
    with pytest.raises(ValueError, match="lo"):
        gd.guidance_interval(3.0, 0.4, 0.75, 0.25)


# --- guided denoisers -----------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.4, torch.tensor(0.4), torch.full((5,), 0.4)])
def test_batched_is_two_calls_in_one(t):
    model, x, y = Classes(), draw(0, 5, 2), torch.tensor([0, 2, 1, 1, 0])
    wanted = gd.cfg(model(x, t, y), model(x, t, torch.full_like(y, NULL)), 2.5)
    model.rows.clear()
    equal(gd.batched_cfg(model, x, t, y, NULL, 2.5), wanted)
    assert model.rows == [10]


def test_guided_calls_once_a_step_and_half_the_rows_outside_the_interval():
    model, y = Classes(), torch.tensor([0, 1, 2, 2])
    denoiser = gd.guided(model, NULL, 3.0, interval=(0.2, 0.6))
    x = draw(0, 4, 2)
    equal(denoiser(x, 0.8, y), model(x, 0.8, y))
    equal(denoiser(x, 0.1, y), model(x, 0.1, y))
    equal(denoiser(x, 0.4, y), gd.batched_cfg(model, x, 0.4, y, NULL, 3.0))
    model.rows.clear()
    for t in (0.8, 0.4, 0.1):
        denoiser(x, t, y)
    assert model.rows == [4, 8, 4]


def test_guided_with_a_time_for_each_sample():
    """Samples inside the interval are guided, those outside are not, in one call."""
    model, y, x = Classes(), torch.tensor([0, 1, 2]), draw(0, 3, 2)
    t = torch.tensor([0.8, 0.4, 0.1], dtype=F64)
    out = gd.guided(model, NULL, 3.0, interval=(0.2, 0.6))(x, t, y)
    for i in range(3):
        one = gd.guided(model, NULL, 3.0, interval=(0.2, 0.6))(
            x[i : i + 1], t[i].item(), y[i : i + 1]
        )
        equal(out[i : i + 1], one)


def test_guided_rescales():
    model, y, x = Classes(), torch.tensor([0, 1, 2]), draw(0, 3, 2)
    cond, uncond = model(x, 0.5, y), model(x, 0.5, torch.full_like(y, NULL))
    wanted = gd.rescale_guidance(gd.cfg(cond, uncond, 4.0), cond, 0.7)
    equal(gd.guided(model, NULL, 4.0, rescale=0.7)(x, 0.5, y), wanted)


def test_guided_wants_labels():
    with pytest.raises(ValueError, match="labels"):
        gd.guided(Classes(), NULL, 2.0)(draw(0, 3, 2), 0.5)


# --- every solver with guidance -------------------------------------------------------------
# On each axis, class and "none" are one Gaussian each. On the first they have one variance, on the
# second one mean: then the flow of the guided score has a closed form. In u = x / alpha over the
# noise ratio r = sigma / alpha it is du/dr = r ((1 - w) (u - m0) / (v0 + r^2)
# + w (u - m1) / (v1 + r^2)), so that u - m is in proportion to
# h(r) = (v0 + r^2)^((1 - w) / 2) (v1 + r^2)^(w / 2), where m = (1 - w) m0 + w m1.

NONE_MEAN, CLASS_MEAN = (torch.tensor(m, dtype=F64) for m in ([-0.7, 0.4], [0.9, 0.4]))
NONE_VAR, CLASS_VAR = (torch.tensor(v, dtype=F64) for v in ([0.3, 0.8], [0.3, 0.25]))
W = 2.4


def one_gaussian_each(kind):
    """The denoiser for label 0 and for ``NULL``, exact."""

    def denoiser(x_t, t, cond):
        none = (cond == NULL)[:, None]
        mean, var = torch.where(none, NONE_MEAN, CLASS_MEAN), torch.where(none, NONE_VAR, CLASS_VAR)
        alpha, sigma = pred.levels(SCHEDULE, t)
        x0 = mean + alpha * var * (x_t - alpha * mean) / (alpha**2 * var + sigma**2)
        return pred.convert("x0", kind, x0, x_t, alpha, sigma)

    return denoiser


def log_h(r, w=W):
    return ((1 - w) * (NONE_VAR + r**2).log() + w * (CLASS_VAR + r**2).log()) / 2


def flow(u, start, end, w=W):
    """Where the guided flow carries u from noise ratio ``start`` to ``end``."""
    mean = (1 - w) * NONE_MEAN + w * CLASS_MEAN
    return mean + (u - mean) * (log_h(end, w) - log_h(start, w)).exp()


def guided_samples(solver, calls, x, kind="eps", generator=None, at=None, **more):
    steered = gd.guided(one_gaussian_each(kind), NULL, W, **more)
    y = torch.zeros(len(x), dtype=torch.int64)
    return sampling.sample(
        steered,
        SCHEDULE,
        kind=kind,
        solver=solver,
        calls=calls,
        cond=y,
        x=x,
        generator=generator,
        at=at,
    )


def levels_above_zero(steps):
    """Levels even in log SNR that end at noise, where no last step to data adds an error."""
    t = SCHEDULE.time(torch.linspace(-7, 5, steps + 1, dtype=F64))
    return sampling.Levels(t, SCHEDULE.alpha(t), SCHEDULE.sigma(t))


def first_ratio():
    """sigma / alpha at the noisiest level that is visited."""
    lv = sampling.levels(SCHEDULE, 2)
    return float(lv.alpha[0]), float(lv.sigma[0] / lv.alpha[0])


@pytest.mark.parametrize("solver, close", [("ddim", 0.03), ("heun", 2e-3), ("dpmpp_2m", 2e-3)])
def test_solvers_arrive_where_the_guided_flow_ends(solver, close):
    x = draw(5, 7, 2)
    alpha, ratio = first_ratio()
    equal(guided_samples(solver, 400, x), flow(x / alpha, ratio, 0.0), atol=close)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("solver, order", [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_solvers_follow_the_flow_of_the_guided_score(solver, order, kind):
    """Halving the steps divides the error of each single number by 2 ** order."""
    x = draw(5, 7, 2)
    off = []
    for steps in (200, 400):
        lv = levels_above_zero(steps)
        wanted = flow(x / lv.alpha[0], lv.sigma[0] / lv.alpha[0], lv.sigma[-1] / lv.alpha[-1])
        found = guided_samples(solver, steps, x, kind, at=lv) / lv.alpha[-1]
        off.append((found - wanted).abs())
    rates = (off[0] / off[1]).log2()
    equal(rates, torch.full_like(rates, float(order)), atol=0.15)


def test_guidance_in_an_interval_follows_the_flow_in_three_pieces():
    x = draw(6, 7, 2)
    alpha, ratio = first_ratio()
    interval = 0.3, 0.7
    low, high = (
        float(SCHEDULE.sigma(t) / SCHEDULE.alpha(t)) for t in torch.tensor(interval, dtype=F64)
    )
    u = flow(x / alpha, ratio, high, 1.0)
    wanted = flow(flow(u, high, low), low, 0.0, 1.0)
    # Up to a step too many or too few is guided, at either end.
    off = [
        (guided_samples("dpmpp_2m", calls, x, interval=interval) - wanted).abs().max()
        for calls in (100, 800)
    ]
    assert off[1] < 0.02 and off[1] < off[0] / 3
    everywhere = guided_samples("dpmpp_2m", 100, x)
    assert ((everywhere - wanted)[:, 0].abs() > 1).all()


@pytest.mark.parametrize("solver", ["ddpm", "ancestral", "dpmpp_2m_sde", "euler_maruyama"])
def test_stochastic_solvers_draw_from_the_guided_sde(solver):
    """du = 2 r (...) dr + noise of variance d(r^2): mean by h^2, variance by an integral."""
    n = 8000
    alpha, ratio = first_ratio()
    start = torch.tensor([[0.8, -1.1]], dtype=F64)
    mean = (1 - W) * NONE_MEAN + W * CLASS_MEAN
    mean = mean + (start[0] / alpha - mean) * (2 * (log_h(0.0) - log_h(ratio))).exp()
    variance = torch.tensor(
        [
            quad(
                lambda q, i=i: float((4 * (log_h(0.0) - log_h(math.sqrt(q)))).exp()[i]),
                0,
                ratio**2,
                points=[0.1, 1.0, 10.0],
                limit=500,
            )[0]
            for i in range(2)
        ],
        dtype=F64,
    )
    generator = torch.Generator().manual_seed(7)
    found = guided_samples(solver, 200, start.expand(n, 2), generator=generator)
    # Five standard errors, and what 200 steps leave.
    assert ((found.mean(0) - mean).abs() < 5 * (variance / n).sqrt() + 0.02).all()
    equal(found.var(0) / variance, torch.ones(2, dtype=F64), atol=5 * math.sqrt(2 / n) + 0.06)


# --- classifiers ----------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_exact_classifier_is_classifier_free(t, scale):
    """Bayes' rule: with exact parts the two ways of guidance are one."""
    x, y = 1.5 * draw(0, 6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    model = Classes()
    wanted = gd.batched_cfg(model, x, t, y, NULL, scale)
    steered = gd.classifier_guided(model, SCHEDULE, "eps", class_logp, scale)
    equal(steered(x, t, y), wanted, atol=1e-9)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_samples_by_classifier_are_classifier_free_samples(kind):
    x, y = draw(0, 8, 2), torch.arange(8) % 3
    model = Classes(kind)
    ways = (
        gd.guided(model, NULL, 2.5),
        gd.classifier_guided(model, SCHEDULE, kind, class_logp, 2.5),
    )
    a, b = (
        sampling.sample(way, SCHEDULE, kind=kind, solver="ddim", calls=20, cond=y, x=x)
        for way in ways
    )
    equal(a, b, atol=1e-8)


def test_classifier_gradient_leaves_nothing_behind():
    weight = torch.nn.Parameter(draw(0, 2, 3))

    def logp(x):
        return torch.log_softmax(x @ weight, 1)

    x, y, score = draw(1, 4, 2), torch.tensor([0, 2, 1, 1]), draw(2, 4, 2)
    with torch.no_grad():
        out = gd.classifier_guidance(score, logp, x, y, 2.0)
    assert not out.requires_grad and not x.requires_grad and weight.grad is None
    chances = torch.softmax(x @ weight.detach(), 1)
    by_hand = weight.detach().T[y] - chances @ weight.detach().T
    equal(out, score + 2.0 * by_hand)


def test_classifier_wants_labels():
    steered = gd.classifier_guided(Classes(), SCHEDULE, "eps", class_logp, 2.0)
    with pytest.raises(ValueError, match="labels"):
        steered(draw(0, 3, 2), 0.5)


@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1]), torch.tensor([0, 1, 3]), torch.tensor([-1, 0, 1])]
)
def test_classifier_refuses_labels(y):
    x = draw(0, 3, 2)
    with pytest.raises(ValueError, match="labels"):
        gd.classifier_guidance(x, lambda at: class_logp(at, 0.5), x, y, 2.0)
