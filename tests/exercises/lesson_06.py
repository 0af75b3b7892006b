"""Checks of lesson 06, sampling: cases, drivers, toys and judges; the answers are elsewhere.

The toys are what a network would be: smooth functions of x and of the level, which no two wrong
ways of calling them leave unchanged. Orders of convergence are measured against the exact map of
the probability flow, which is known where the data are Gaussian, and in one dimension for any
mixture: the flow carries quantiles to quantiles.
"""

import math

import torch

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson(
    "06",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.schedules",
        "undiffuse.process",
        "undiffuse.prediction",
        "undiffuse.denoisers",
        "undiffuse.metrics",
        "undiffuse.sets2d",
        "undiffuse.results",
    ),
)
# A right answer may pass through a float32 on its way to the model's time, t / (T - 1).
HALF_FLOAT64 = Tol(rtol=1e-6, atol=1e-6)
HINDERS = ("undiffuse.sets2d.sample_2d",)  # a sampler written out, in a module that is provided


def some_betas(draw: Draw, steps: int, dtype: str = "float64") -> torch.Tensor:
    """Irregular betas whose product of ``1 - beta`` ends near 0.05, far from losing digits."""
    rough = draw.uniform(0.4, 1.6, steps, dtype="float64")
    log_alpha = -3.0 * rough / rough.sum()
    return (1 - torch.exp(log_alpha)).to(getattr(torch, dtype))


def some_levels(draw: Draw, steps: int, dtype: str = "float64") -> torch.Tensor:
    """alpha_bar of ``some_betas``."""
    return torch.cumprod(1 - some_betas(draw, steps), 0).to(getattr(torch, dtype))


def falling(draw: Draw, n: int, high: float, low: float, dtype: str = "float32") -> torch.Tensor:
    """n values from about ``high`` down to ``low``, irregular in their logarithm."""
    rough = draw.uniform(0.4, 1.6, n, dtype="float64")
    way = (rough.cumsum(0) - rough[0]) / (rough.sum() - rough[0])
    return (high * (low / high) ** way).to(getattr(torch, dtype))


# Toys ---------------------------------------------------------------------------------------------


class Recorder:
    """A toy model that keeps what it was called with."""

    def __init__(self) -> None:
        self.times: list[torch.Tensor] = []
        self.conds: list[str] = []

    def note(self, x: torch.Tensor, time, cond) -> torch.Tensor:
        """The time as a tensor that meets x, whatever was given."""
        t = time if isinstance(time, torch.Tensor) else torch.tensor(time, dtype=torch.float64)
        self.times.append(t.detach().clone())
        self.conds.append("None" if cond is None else type(cond).__name__)
        if t.ndim == 1 and len(t) == len(x):
            t = t.reshape(-1, *[1] * (x.ndim - 1))
        return t.to(x.dtype)


class ToyEps(Recorder):
    """A network that predicts noise: ``(x, time, cond) -> eps``. ``trained`` has a parameter."""

    def __init__(self, a: float, b: float, trained: bool = False) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.scale = torch.ones(()).requires_grad_(trained)

    def __call__(self, x, time, cond=None):
        t = self.note(x, time, cond)
        return self.scale * torch.tanh(self.a * x + self.b * torch.cos(2 * t)) * (0.4 + 0.5 * t)


def toy_eps(a: float, b: float, trained: bool = False) -> ToyEps:
    """For ``Given``."""
    return ToyEps(a, b, trained)


class ToyX0(Recorder):
    """A denoiser ``(x, level) -> x0``. At level 0 there is no noise: it gives x back."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def __call__(self, x, level):
        s = self.note(x, level, None)
        return torch.where(s > 0, self.b * torch.tanh(self.a * x) + x / (1 + 2 * s) ** 2, x)


def toy_x0(a: float, b: float) -> ToyX0:
    """For ``Given``."""
    return ToyX0(a, b)


def toy_score(a: float, b: float) -> ToyX0:
    """For ``Given``: another smooth function of x and t, in the place of a score."""
    return ToyX0(a, b)


def rate(low: float, high: float):
    """For ``Given``: beta(t) of an SDE."""
    return lambda t: low + t * (high - low)


def power(exponent: float, flip: bool = False):
    """For ``Given``: t ** exponent, or 1 - t ** exponent."""
    return lambda t: 1 - t**exponent if flip else t**exponent


def waves(sine: bool):
    """For ``Given``: sine or cosine of 1.3 t, of a schedule that preserves variance."""
    return lambda t: torch.sin(1.3 * t) if sine else torch.cos(1.3 * t)


def calls_of(model: Recorder, x: torch.Tensor) -> dict:
    """What the calls had in common, and all the times, as plain data."""
    return {
        "calls": len(model.times),
        "time shapes": sorted({str(tuple(t.shape)) for t in model.times}),
        "time dtypes": sorted({str(t.dtype) for t in model.times}),
        "times": torch.stack([t.double().reshape(-1)[0] for t in model.times]).float()
        if model.times
        else torch.zeros(0),
    }


# 06.1 ---------------------------------------------------------------------------------------------

ddpm_step = Exercise(
    id="06.1",
    title="One ancestral step",
    names=("ddpm_step",),
    points={"one t": 2, "last step": 1, "a t for each sample": 1},
    difficulty=2,
    minutes=20,
    core=True,
    hints=(
        "There are three alphas about: beta_t itself, alpha_t = 1 - beta_t of this one step, and "
        "alpha_bar_t, the product of all alphas up to t. Make all three first, then write the "
        "equation with them.",
        "Which of the three stands under the root before the bracket, and which in the factor of "
        "the noise estimate? One undoes a single step, the other says how much noise x_t has.",
        "betas[t] has no axis for an int t and shape (B,) for a tensor. Reshaped to (-1, 1, ..., "
        "1), with as many axes as x_t, both serve. At t = 0 the drawn noise must not count: "
        "multiply it by 0 there, for those samples only.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


def step_case(draw, name, group, *shape, t, steps=16, dtype="float32", schedule="float64"):
    """(x_t, t, eps, betas, noise); ``t`` an int, or a list with one for each sample."""
    x, eps = draw.normal(*shape, dtype=dtype, mean=0.6), draw.normal(*shape, dtype=dtype)
    noise = draw.normal(*shape, dtype=dtype)
    t = torch.tensor(t) if isinstance(t, list) else t
    return Case(name, (x, t, eps, some_betas(draw, steps, schedule), noise), group=group)


def ddpm_cases(draw: Draw):
    """For both variances."""
    inside = draw.integers(5, 12)
    yield step_case(draw, "images", "one t", 3, 1, 5, 7, t=inside)
    yield step_case(draw, "sound", "one t", 4, 2, 9, t=draw.integers(3, 8), steps=11)
    yield step_case(draw, "square images, as many as pixels a side", "one t", 5, 2, 5, 5, t=15)
    yield step_case(draw, "float64", "one t", 1, 3, 6, t=inside, dtype="float64")
    yield step_case(draw, "float32 betas", "one t", 2, 6, t=inside, schedule="float32")
    yield step_case(draw, "images at t = 0", "last step", 3, 1, 4, 6, t=0)
    yield step_case(draw, "t = 1, not yet the last", "last step", 3, 1, 4, 6, t=1)
    each = "a t for each sample"
    t = draw.distinct(2, 14, 4).tolist()
    yield step_case(draw, "sound, one of them at 0", each, 4, 1, 4, t=[t[0], 0, t[1], t[2]])
    yield step_case(draw, "as many images as channels", each, 3, 3, 6, 4, t=t[:3])
    yield step_case(draw, "a batch of one", each, 1, 1, 5, 4, t=t[3:])


@ddpm_step.cases
def _(draw: Draw):
    yield from ddpm_cases(draw)


# 06.10 --------------------------------------------------------------------------------------------

posterior_step = Exercise(
    id="06.10",
    title="The other variance",
    names=("ddpm_posterior_step",),
    points={"one t": 1, "last step": 1, "a t for each sample": 1},
    difficulty=2,
    minutes=12,
    core=False,
    uses=("06.1",),
    hints=(
        "Only the factor of the noise changes. It was the root of beta_t; now it is the root of "
        "the variance of q(x_{t-1} | x_t, x_0), which you wrote in 02.6.",
        "You need alpha_bar one step before. At t = 0 that is 1 (the data have no noise yet); put "
        "a 1 in front of alpha_bar, and the array is shifted by one place.",
        "Where would the variance of t = 0 come out by itself, without a special case? And what "
        "is ddpm_step without its noise?",
    ),
    library=("undiffuse.steps", "undiffuse.sampling", "undiffuse.process.posterior_mean_variance"),
)


@posterior_step.cases
def _(draw: Draw):
    yield from ddpm_cases(draw)


# 06.2 ---------------------------------------------------------------------------------------------

ddpm_sample = Exercise(
    id="06.2",
    title="From noise to data",
    names=("ddpm_sample",),
    points={"samples": 2, "calls of the model": 1},
    difficulty=2,
    minutes=20,
    core=True,
    uses=("06.1",),
    hints=(
        "Start from standard normal noise of the wanted shape. Then walk t from T - 1 down to 0, "
        "both included, and take one ddpm_step at each.",
        "Every torch.randn in your loop gets generator=generator: the very object that you were "
        "given, which goes on from where the last draw left it.",
        "The model wants its time as a tensor: one number in [0, 1] for each of the B samples, "
        "0 at step 0 and 1 at step T - 1.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling", *HINDERS),
)


def draw_samples(answer, model, shape, betas, generator):
    """Samples, and how the model was called."""
    x = answer.ddpm_sample(model, shape, betas, generator)
    grad = bool(getattr(x, "requires_grad", False))
    x = x.detach() if grad else x
    return {"samples": x, "keeps a graph": grad, "cond": model.conds[:1], **calls_of(model, x)}


@ddpm_sample.cases
def _(draw: Draw):
    def case(name, group, shape, steps, dtype="float64", trained=False):
        model = Given(toy_eps, draw.uniform(0.5, 0.9), draw.uniform(0.3, 0.6), trained)
        args = (model, shape, some_betas(draw, steps, dtype), draw.seed())
        return Case(name, args, group=group, driver=draw_samples)

    yield case("images", "samples", (3, 1, 5, 4), 9)
    yield case("sound, as many clips as samples", "samples", (4, 1, 4), 12)
    yield case("a batch of one, float32 betas", "samples", (1, 2, 7), 5, "float32")
    yield case("many steps", "samples", (2, 6), 60)
    yield case("a model with weights", "calls of the model", (5, 3), 7, trained=True)
    yield case("two steps", "calls of the model", (3, 2, 3), 2)


# 06.3 ---------------------------------------------------------------------------------------------

ddim_step = Exercise(
    id="06.3",
    title="Any step, with as much noise as you like",
    names=("ddim_step",),
    points={"eta = 0": 2, "to the data": 1, "eta above 0": 2, "a t for each sample": 1},
    difficulty=3,
    minutes=25,
    core=True,
    hints=(
        "Three stations: the estimate of x0 from x_t and eps (02.3), then back to the level of "
        "t_prev with the same eps, and, for eta above 0, a part of that eps exchanged for new "
        "noise.",
        "You need alpha_bar at t and at t_prev, nothing between. For t_prev = -1 it is 1. What "
        "does Python give for the index -1, and what if you had put a 1 at the end first?",
        "The variance of the new noise, s^2, is taken out of that of the old: the old noise keeps "
        "1 - alpha_bar_prev - s^2. With eta = 0 there is no new noise, and noise may be None.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling", "undiffuse.process.x0_from_eps", *HINDERS),
)


def jump_case(draw, name, group, *shape, t, to, eta=None, dtype="float32", schedule="float64"):
    """(x_t, t, t_prev, eps, alpha_bar[, eta, noise]); t and to ints, or lists."""
    x, eps = draw.normal(*shape, dtype=dtype, mean=0.6), draw.normal(*shape, dtype=dtype)
    t, to = (torch.tensor(i) if isinstance(i, list) else i for i in (t, to))
    args = (x, t, to, eps, some_levels(draw, 20, schedule))
    if eta is not None:
        args += (eta, draw.normal(*shape, dtype=dtype))
    return Case(name, args, group=group)


@ddim_step.cases
def _(draw: Draw):
    t, to = draw.integers(12, 19), draw.integers(3, 9)
    yield jump_case(draw, "images", "eta = 0", 3, 1, 5, 7, t=t, to=to)
    yield jump_case(draw, "sound, float64", "eta = 0", 4, 2, 9, t=t, to=to, dtype="float64")
    yield jump_case(draw, "as many samples as numbers", "eta = 0", 5, 5, t=19, to=2)
    yield jump_case(draw, "upward, float32 levels", "eta = 0", 2, 6, t=to, to=t, schedule="float32")
    yield jump_case(draw, "without noise", "to the data", 3, 1, 4, 6, t=to, to=-1)
    eta = draw.uniform(0.5, 0.8)
    yield jump_case(draw, "with eta, to the data", "to the data", 3, 1, 4, 6, t=t, to=-1, eta=eta)
    more = "eta above 0"
    yield jump_case(draw, "images, part of the noise", more, 3, 1, 5, 7, t=t, to=to, eta=eta)
    yield jump_case(draw, "sound, all of the noise", more, 4, 2, 9, t=t, to=to, eta=1.0)
    yield jump_case(draw, "noise given, eta 0", more, 2, 3, t=t, to=to, eta=0.0)
    each = "a t for each sample"
    ts, tos = draw.distinct(11, 20, 4).tolist(), [draw.integers(4, 9), -1, 2, 0]
    yield jump_case(draw, "sound, one to the data", each, 4, 1, 4, t=ts, to=tos)
    yield jump_case(draw, "images, with eta", each, 3, 3, 6, 4, t=ts[:3], to=tos[:3], eta=eta)


# 06.4 ---------------------------------------------------------------------------------------------

subsequence = Exercise(
    id="06.4",
    title="Which steps to visit",
    names=("timestep_subsequence",),
    points={"linspace": 1, "quadratic": 1, "edges": 1},
    difficulty=2,
    minutes=15,
    core=False,
    hints=(
        "n numbers from 0 to T - 1, both included, at even distances, then rounded. What is the "
        "distance: (T - 1) divided by what?",
        "The quadratic kind squares the way from 0 to 1 before it is stretched to T - 1. Near 0 "
        "its steps become smaller than 1, and rounding makes neighbours the same.",
        "Go through the rounded steps from the left: one that is not above the one before it "
        "becomes that plus 1. What must n = 1 give, if sampling starts there?",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


@subsequence.cases
def _(draw: Draw):
    T = draw.integers(150, 400)
    yield Case("some of many", (T, draw.integers(9, 14)), group="linspace")
    yield Case("by name", (T, 23), {"kind": "linspace"}, group="linspace")
    yield Case("nearly all", (40, draw.integers(33, 38)), group="linspace")
    yield Case("denser at the start", (T, draw.integers(8, 12), "quadratic"), group="quadratic")
    yield Case("so dense that some fall together", (T, 60, "quadratic"), group="quadratic")
    yield Case("all steps, quadratic", (17, 17, "quadratic"), group="quadratic")
    yield Case("all steps", (12, 12), group="edges")
    yield Case("two", (T, 2), group="edges")
    yield Case("one", (T, 1), group="edges")
    yield Case("one, quadratic", (T, 1, "quadratic"), group="edges")
    yield Case("more than there are", (9, 10), group="edges", driver=error_of)
    yield Case("another kind", (T, 10, "cubic"), group="edges", driver=error_of)


def error_of(answer, *args):
    """The type of the error that the answer raises, or "" where it raises none."""
    try:
        answer.timestep_subsequence(*args)
    except (ValueError, TypeError, AssertionError, KeyError, IndexError, UnboundLocalError) as e:
        return type(e).__name__
    return ""


@subsequence.judge
def _(case, got, expected):
    """Within one step of the reference (rounding is free), but rising and with exact ends."""
    from coursework.judge import Finding, compare

    if case.driver or not isinstance(got, torch.Tensor):
        return compare(got, expected, case.tol)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return compare(got, expected, case.tol)
    if bool((got.diff() <= 0).any()):
        same = int((got.diff() == 0).sum())
        return Finding("value", f"the steps do not rise: {same} are as large as the one before")
    for place, name in ((0, "first"), (-1, "last")):
        if int(got[place]) != int(expected[place]):
            return Finding(
                "value",
                f"the {name} step is {int(got[place])}, where {int(expected[place])} is wanted",
            )
    far = int((got - expected).abs().argmax())
    if abs(int(got[far]) - int(expected[far])) > 1:
        return Finding(
            "value", f"step number {far} is {int(got[far])}, where {int(expected[far])} is wanted"
        )
    return None


# 06.9 ---------------------------------------------------------------------------------------------

sigma_level = Exercise(
    id="06.9",
    title="One variable for all schedules",
    names=("sigma_from_alpha_bar",),
    points={"values": 1, "ends": 1},
    difficulty=1,
    minutes=8,
    core=True,
    hints=(
        "Divide the equation x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps by whatever makes "
        "the factor of x0 a plain 1. What then stands before eps?",
        "Check the ends: no noise (alpha_bar = 1) must give 0, no signal (alpha_bar = 0) infinity, "
        "and alpha_bar = 0.8 gives 0.5.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


@sigma_level.cases
def _(draw: Draw):
    yield Case("a schedule", (some_levels(draw, 12, "float32"),), group="values")
    yield Case("float64", (some_levels(draw, 9),), group="values")
    yield Case("a level per sample, two axes", (draw.uniform(0.1, 0.9, 3, 4),), group="values")
    yield Case("one number", (draw.uniform(0.6, 0.9, 1, dtype="float64")[0],), group="values")
    ends = torch.cat([torch.ones(1), draw.uniform(0.2, 0.4, 3), torch.zeros(1)])
    yield Case("from no noise to no signal", (ends,), group="ends")
    tiny = draw.uniform(1e-6, 3e-6, 4, dtype="float64")
    yield Case("nearly no noise, nearly no signal", (torch.cat([1 - tiny, tiny]),), group="ends")


# 06.5 ---------------------------------------------------------------------------------------------

euler_heun = Exercise(
    id="06.5",
    title="Euler and Heun",
    names=("euler_sample", "heun_sample"),
    points={"Euler": 2, "Heun": 2, "orders": 1},
    difficulty=3,
    minutes=30,
    core=True,
    hints=(
        "The slope at (x, sigma) is (x - denoise(x, sigma)) / sigma. A step of Euler adds to x the "
        "slope times the change of sigma. Is that change positive or negative?",
        "Heun: make Euler's step, look up the slope *there* (at the new x and the new sigma), and "
        "take the step again, from the old x, with the mean of both slopes.",
        "At sigma = 0 the slope is 0 / 0. Where the next level is 0, Euler's step is the whole "
        "step, and the denoiser is not called a second time.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling", *HINDERS),
)


def run_solver(answer, name, denoise, sigmas, x):
    """The result of ``name``, and the levels at which the denoiser was called."""
    return {
        "x": getattr(answer, name)(denoise, sigmas, x),
        "levels": torch.stack([t.float().reshape(-1)[0] for t in denoise.times])
        if denoise.times
        else torch.zeros(0),
    }


def ladder(high: float, low: float, n: int) -> torch.Tensor:
    """n + 1 levels, even in sigma ** (1/3), float64."""
    way = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return (high ** (1 / 3) + way * (low ** (1 / 3) - high ** (1 / 3))) ** 3


def errors_on_gaussian(answer, name, mean, var, counts, x):
    """Largest error at each number of steps, for data N(mean, var): x's z-score is kept."""
    high, low = 4.0, 0.2

    def denoise(x, sigma):
        sigma = torch.as_tensor(sigma, dtype=torch.float64)
        return mean + var / (var + sigma**2) * (x - mean)

    exact = mean + (x - mean) * math.sqrt((var + low**2) / (var + high**2))
    found = [getattr(answer, name)(denoise, ladder(high, low, n), x) for n in counts]
    return torch.stack([(f - exact).abs().max() for f in found])


def errors_on_mixture(answer, name, means, variances, weights, counts, x):
    """The same for a mixture in one dimension: x keeps its place in the distribution."""
    high, low = 4.0, 0.3

    def below(x, sigma):
        """Share of the noisy distribution below x (n,)."""
        z = (x[:, None] - means) / (variances + sigma**2).sqrt()
        return (weights * 0.5 * torch.erfc(-z / math.sqrt(2))).sum(1)

    def denoise(x, sigma):
        total = variances + torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2
        gap = x[:, None] - means
        share = torch.softmax(weights.log() - total.log() / 2 - gap**2 / (2 * total), 1)
        return (share * (means + variances / total * gap)).sum(1)

    place, left, right = below(x, high), torch.full_like(x, -30), torch.full_like(x, 30)
    for _ in range(60):
        middle = (left + right) / 2
        under = below(middle, low) < place
        left, right = torch.where(under, middle, left), torch.where(under, right, middle)
    found = [getattr(answer, name)(denoise, ladder(high, low, n), x) for n in counts]
    return torch.stack([(f - left).abs().max() for f in found])


ORDER = {"euler_sample": 1.0, "heun_sample": 2.0, "dpmpp_2m_sample": 2.0}


def judge_order(name: str, counts, got, expected):
    """None when the errors fall as 1 / n ** order, to within 0.15, and are as small as they may."""
    from coursework.judge import Finding, compare

    if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
        return compare(got, expected)
    if not bool(torch.isfinite(got).all()):
        return Finding("nan", f"{name} gives values that are not finite")
    x = torch.tensor(counts, dtype=torch.float64).log()
    y = got.double().clamp(min=1e-300).log()
    slope = -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    if abs(slope - ORDER[name]) > 0.15:
        return Finding(
            "order",
            f"{name} converges with order {slope:.2f} (errors {got[0]:.1e} at {counts[0]} steps, "
            f"{got[-1]:.1e} at {counts[-1]}); {ORDER[name]:.0f} is wanted",
        )
    if float(got[-1]) > 1.5 * float(expected[-1]):
        return Finding("order", f"{name} has errors {got[-1] / expected[-1]:.1f} times as large "
                                "as they need be")  # fmt: skip
    return None


@euler_heun.cases
def _(draw: Draw):
    def case(name, solver, shape, sigmas, dtype="float32"):
        toy = Given(toy_x0, draw.uniform(0.5, 0.8), draw.uniform(0.6, 0.9))
        x = draw.normal(*shape, dtype=dtype, std=float(sigmas[0]), mean=0.4)
        group = "Euler" if solver == "euler_sample" else "Heun"
        args = (solver, toy, sigmas.to(x.dtype), x)
        return Case(f"{group}: {name}", args, group=group, driver=run_solver)

    zero = torch.zeros(1)
    for solver in ("euler_sample", "heun_sample"):
        levels = torch.cat([falling(draw, 5, 6.0, 0.4), zero])
        yield case("images, down to 0", solver, (3, 1, 4, 6), levels)
        yield case("sound, stops above 0", solver, (4, 1, 4), falling(draw, 4, 3.0, 0.5))
        high = draw.uniform(1.5, 2.5)
        yield case("one step to 0", solver, (2, 5), torch.tensor([high, 0.0]))
        levels = falling(draw, 7, 9.0, 0.1, "float64")
        yield case("float64", solver, (1, 3), levels, "float64")
        counts = (16, 32, 64) if solver == "euler_sample" else (12, 24, 48)
        x = draw.uniform(-5.0, 6.0, 6, dtype="float64")
        args = (solver, draw.uniform(0.5, 1.5), draw.uniform(0.5, 0.8), counts, x)
        name = "Euler" if solver == "euler_sample" else "Heun"
        yield Case(f"{name} on a Gaussian", args, group="orders", driver=errors_on_gaussian)
        # Equal errors of opposite sign must not meet at one point: many starts, the largest error.
        means = torch.tensor([-1.5, 1.0], dtype=torch.float64) + draw.uniform(-0.2, 0.2)
        variances = torch.tensor([0.5, 0.9], dtype=torch.float64)
        weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
        x = torch.linspace(-5.5, 5.5, 11, dtype=torch.float64)
        counts = (32, 64, 128) if solver == "euler_sample" else (24, 48, 96)
        args = (solver, means, variances, weights, counts, x)
        yield Case(f"{name} on a mixture", args, group="orders", driver=errors_on_mixture)


@euler_heun.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.group == "orders":
        return judge_order(case.args[0], case.args[-2], got, expected)
    return compare(got, expected, case.tol)


# 06.6 ---------------------------------------------------------------------------------------------

dpmpp = Exercise(
    id="06.6",
    title="Second order for the price of first: DPM-Solver++",
    names=("dpmpp_2m_sample",),
    points={"values": 2, "to the data": 1, "order": 1},
    difficulty=4,
    minutes=35,
    core=False,
    hints=(
        "Make the three arrays first: alpha(ts), sigma(ts) and lambda = log(alpha / sigma). "
        "lambda rises from step to step, so every h is above 0.",
        "Keep two things from the step before: its estimate of x0 and its h. In the first step "
        "there are none, and the estimate is used as it is.",
        "The extrapolation: the estimate plus (how it changed since the step before) times (half "
        "this step, over the whole step before). If the step before was twice as long, does r "
        "become larger or smaller?",
        "A last step with sigma = 0 has h = infinity; torch.expm1(-h) is then -1, as it should, "
        "but 1 / r is not usable: take the estimate as it is.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


def run_dpmpp(answer, denoise, alpha, sigma, ts, x):
    """The result, and the times at which the denoiser was called."""
    return {
        "x": answer.dpmpp_2m_sample(denoise, alpha, sigma, ts, x),
        "times": torch.stack([t.float().reshape(-1)[0] for t in denoise.times])
        if denoise.times
        else torch.zeros(0),
    }


def errors_of_dpmpp(answer, mean, var, counts, x):
    """Largest error at each number of steps: Gaussian data, alpha = cos t, sigma = sin t."""
    high, low = 1.0, 0.3  # a stretch on which the leading error does not change its sign

    def denoise(x, t):
        a, s = math.cos(float(t)), math.sin(float(t))
        return mean + a * var / (a**2 * var + s**2) * (x - a * mean)

    def spread(t):
        return math.sqrt(math.cos(t) ** 2 * var + math.sin(t) ** 2)

    exact = mean * math.cos(low) + (x - mean * math.cos(high)) * spread(low) / spread(high)
    found = []
    for n in counts:
        lam = torch.linspace(-math.log(math.tan(high)), -math.log(math.tan(low)), n + 1).double()
        found.append(
            answer.dpmpp_2m_sample(denoise, torch.cos, torch.sin, lam.neg().exp().atan(), x)
        )
    return torch.stack([(f - exact).abs().max() for f in found])


@dpmpp.cases
def _(draw: Draw):
    def case(name, group, alpha, sigma, ts, shape, dtype="float32"):
        toy = Given(toy_x0, draw.uniform(0.5, 0.8), draw.uniform(0.6, 0.9))
        x = draw.normal(*shape, dtype=dtype, mean=0.4)
        args = (toy, alpha, sigma, ts.to(x.dtype), x)
        return Case(name, args, group=group, driver=run_dpmpp)

    vp = Given(waves, False), Given(waves, True)
    straight = Given(power, 1.0, True), Given(power, 1.0)
    exploding = Given(power, 0.0), Given(power, 2.0)
    ts = falling(draw, 6, 0.95, 0.1)
    yield case("images, variance preserved", "values", *vp, ts, (3, 1, 4, 6))
    ts = falling(draw, 5, 2.0, 0.3, "float64")
    yield case("sound, alpha = 1, float64", "values", *exploding, ts, (4, 2, 4), "float64")
    ts = falling(draw, 4, 0.97, 0.3)
    yield case("straight path, as many samples as numbers", "values", *straight, ts, (4, 4))
    yield case("one step", "values", *vp, falling(draw, 2, 0.9, 0.5), (2, 5))
    zero = torch.zeros(1)
    ts = torch.cat([falling(draw, 5, 0.95, 0.2), zero])
    yield case("several steps, then sigma = 0", "to the data", *straight, ts, (2, 7))
    ts = torch.tensor([draw.uniform(0.8, 0.95), 0.0])
    yield case("one step to sigma = 0", "to the data", *vp, ts, (3, 4))
    x = draw.uniform(-2.0, 3.0, 6, dtype="float64")
    args = (draw.uniform(0.5, 1.5), draw.uniform(0.8, 1.6), (24, 48, 96), x)
    yield Case("order on a Gaussian", args, group="order", driver=errors_of_dpmpp)


@dpmpp.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.group == "order":
        return judge_order("dpmpp_2m_sample", case.args[2], got, expected)
    return compare(got, expected, case.tol)


# 06.7 ---------------------------------------------------------------------------------------------

invert = Exercise(
    id="06.7",
    title="Backwards: which noise makes this picture?",
    names=("ddim_invert",),
    points={"values": 2, "calls of the model": 1},
    difficulty=2,
    minutes=15,
    core=False,
    uses=("06.3",),
    hints=(
        "A deterministic step can be taken in either direction: nothing in ddim_step with eta = 0 "
        "asks that t_prev be below t.",
        "Walk through neighbours of ts from the left. At each you know x at the first of the two. "
        "So at which level can you ask the model?",
        "The model's time is the float ts[i] / (T - 1), one for each sample, as in 06.2. T is the "
        "length of alpha_bar, not of ts.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


def run_invert(answer, model, x, alpha_bar, ts):
    """The noise, and how the model was called."""
    x = answer.ddim_invert(model, x, alpha_bar, ts)
    grad = bool(getattr(x, "requires_grad", False))
    x = x.detach() if grad else x
    return {"x": x, "keeps a graph": grad, **calls_of(model, x)}


@invert.cases
def _(draw: Draw):
    def case(name, group, shape, T, ts, dtype="float32", trained=False, schedule="float64", **more):
        model = Given(toy_eps, draw.uniform(0.5, 0.9), draw.uniform(0.3, 0.6), trained)
        x = draw.normal(*shape, dtype=dtype, mean=0.4)
        args = (model, x, some_levels(draw, T, schedule), torch.tensor(ts))
        return Case(name, args, group=group, driver=run_invert, **more)

    first = draw.integers(1, 4)
    yield case("images, from the start", "values", (3, 1, 5, 4), 24, [0, 5, 11, 17, 23])
    yield case("sound, within", "values", (4, 1, 4), 30, [first, 9, 12, 20, 26])
    yield case("float64", "values", (1, 2, 7), 15, [0, 4, 13], "float64", tol=HALF_FLOAT64)
    yield case("float32 levels", "values", (2, 6), 18, [first, 8, 16], schedule="float32")
    yield case(
        "a model with weights", "calls of the model", (5, 3), 12, [0, 3, 7, 10], "float32", True
    )
    yield case("a single level: nothing to do", "calls of the model", (2, 3), 12, [first])


# 06.8 ---------------------------------------------------------------------------------------------

reverse_sde = Exercise(
    id="06.8",
    title="The reverse SDE",
    names=("euler_maruyama_sample",),
    points={"values": 2, "draws": 1},
    difficulty=3,
    minutes=25,
    core=False,
    hints=(
        "Forward in time, x drifts towards 0 by beta x / 2. Backwards, with a step of d > 0, that "
        "part of the change has the other sign: x grows.",
        "The score points to where data are likely. A step back goes *with* it, by beta times the "
        "score, twice what the deterministic flow would take.",
        "The noise of a step has variance beta d. What is its standard deviation? It is drawn at "
        "every step but the last.",
    ),
    library=("undiffuse.steps", "undiffuse.sampling"),
)


def run_sde(answer, score, beta, ts, x, generator):
    """The result, and the times at which the score was asked for."""
    x = answer.euler_maruyama_sample(score, beta, ts, x, generator)
    times = [t.float().reshape(-1)[0] for t in score.times]
    return {"x": x, "times": torch.stack(times) if times else torch.zeros(0)}


@reverse_sde.cases
def _(draw: Draw):
    def case(name, group, shape, ts, dtype="float32"):
        score = Given(toy_score, draw.uniform(-0.8, -0.5), draw.uniform(0.6, 0.9))
        beta = Given(rate, draw.uniform(0.2, 0.4), draw.uniform(2.0, 3.0))
        x = draw.normal(*shape, dtype=dtype, mean=0.4)
        args = (score, beta, ts.to(x.dtype), x, draw.seed())
        return Case(name, args, group=group, driver=run_sde)

    yield case("images, irregular steps", "values", (3, 1, 4, 6), falling(draw, 6, 1.0, 0.05))
    yield case("sound, even steps", "values", (4, 1, 4), torch.linspace(0.9, 0.0, 5))
    yield case("one step, no noise", "values", (2, 5), torch.tensor([0.8, 0.3]))
    ts = falling(draw, 5, 1.0, 0.1, "float64")
    yield case("float64", "draws", (3, 3), ts, "float64")
    yield case("a batch of one, many steps", "draws", (1, 2, 7), torch.linspace(1.0, 0.02, 20))
