"""Checks of lesson 01, noise schedules: cases and the functions they hand to an answer.

The answers are in another file. No schedule of the lesson may be computed here: this module is
loaded beside a learner's code.
"""

import torch

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson("01", provides=("undiffuse.data", "undiffuse.plots"))

# Relative to each value: these schedules span many powers of ten, and the small end matters.
RELATIVE = Tol(rtol=2e-4, atol=1e-12)
RELATIVE64 = Tol(rtol=1e-9, atol=1e-15)


def unit_time(t) -> torch.Tensor:
    """``t``, float or tensor, as a tensor; refused outside [0, 1], but for rounding."""
    t = torch.as_tensor(t)
    if bool(((t < -1e-6) | (t > 1 + 1e-6)).any()):
        raise ValueError(f"alpha_bar was asked for times outside [0, 1]: {t.tolist()}"[:200])
    return t.clamp(0, 1)


def exponential_decay(rate: float, top: float = 1.0):
    """A function of t in [0, 1] that falls as ``top * exp(-rate t)``; takes floats and tensors."""
    return lambda t: top * torch.exp(-rate * unit_time(t))


def power_to_zero(power: float):
    """A function of t in [0, 1] that falls as ``(1 - t) ** power``, exactly 0 at t = 1."""
    return lambda t: (1 - unit_time(t)) ** power


def late_drop(rate: float):
    """A function of t in [0, 1] that hardly falls at first and then ever faster, not to 0."""
    return lambda t: torch.exp(-rate * unit_time(t) ** 3)


def random_betas(draw: Draw, n: int, low: float, high: float, dtype: str = "float32"):
    """n irregular betas: neither constant nor in order, so that every place counts."""
    return draw.uniform(low, high, n, dtype=dtype)


linear_betas = Exercise(
    id="01.1",
    title="Betas on a straight line",
    names=("linear_betas",),
    points={"default": 1, "any ends": 1},
    difficulty=1,
    minutes=5,
    hints=(
        "How many values are wanted, and which of the two ends belong to them?",
        "T values that include both ends have T - 1 gaps between them.",
        "torch has a function that makes evenly spaced values with both ends included; look at "
        "what its third argument counts.",
    ),
    library=("undiffuse.schedules.linear_betas",),
)


@linear_betas.cases
def _(draw: Draw):
    start, end = draw.uniform(0.0005, 0.01), draw.uniform(0.05, 0.3)
    yield Case("1000 steps, default ends", (1000,), group="default", tol=RELATIVE, picture="curve")
    n = draw.integers(6, 40)
    yield Case("few steps, default ends", (n,), group="default", tol=RELATIVE)
    n = draw.integers(7, 60)
    yield Case("other ends", (n, start, end), group="any ends", tol=RELATIVE, picture="curve")
    yield Case("two steps", (2, start, end), group="any ends", tol=RELATIVE)
    yield Case(
        "one end by name",
        (draw.integers(8, 30),),
        {"beta_end": end},
        group="any ends",
        tol=RELATIVE,
    )
    yield Case(
        "tiny betas, 1000 steps",
        (1000,),
        {"beta_start": start * 1e-5, "beta_end": end * 1e-5},
        group="any ends",
        tol=RELATIVE,
    )


alpha_bar_from_betas = Exercise(
    id="01.2",
    title="What is left of the data: alpha_bar",
    names=("alpha_bar_from_betas",),
    points={"schedules": 2, "float64": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "One step keeps the share 1 - beta of the variance. What do two steps keep?",
        "Shares of shares multiply. alpha_bar[t] takes in every step up to and including t.",
        "torch has a running sum and a running product; one of them, applied to what each step "
        "keeps, is the answer.",
    ),
    library=("undiffuse.schedules.alpha_bar_from_betas",),
)


@alpha_bar_from_betas.cases
def _(draw: Draw):
    yield Case(
        "four irregular steps",
        (random_betas(draw, 4, 0.05, 0.4),),
        group="schedules",
        tol=RELATIVE,
    )
    line = torch.linspace(1e-4, 0.02, 1000)
    yield Case("the straight line, 1000 steps", (line,), group="schedules", tol=RELATIVE)
    n = draw.integers(10, 50)
    yield Case(
        "irregular steps",
        (random_betas(draw, n, 0.001, 0.3),),
        group="schedules",
        tol=RELATIVE,
        picture="curve",
    )
    yield Case("one step", (draw.uniform(0.1, 0.4, 1),), group="schedules", tol=RELATIVE)
    tiny = random_betas(draw, 1000, 2e-6, 2e-5)
    yield Case("tiny betas, 1000 steps", (tiny,), group="schedules", tol=RELATIVE)
    yield Case(
        "float64",
        (random_betas(draw, 200, 1e-4, 0.05, dtype="float64"),),
        group="float64",
        tol=RELATIVE64,
    )


cosine_alpha_bar = Exercise(
    id="01.3",
    title="The cosine schedule",
    names=("cosine_alpha_bar",),
    points={"default s": 1, "any s": 1, "shapes and dtypes": 1},
    difficulty=2,
    minutes=10,
    hints=(
        "Write f(t) first, as a helper. What does f give at t = 0, and what should alpha_bar be "
        "there?",
        "t goes from 0 to 1; the angle has to go from almost 0 to a quarter of a circle, in "
        "radians. s belongs in two places.",
        "Two things are easily lost on the way from the formula to the code: the square, and the "
        "division by f at 0.",
    ),
    library=("undiffuse.schedules.cosine_alpha_bar",),
)


@cosine_alpha_bar.cases
def _(draw: Draw):
    s = draw.uniform(0.05, 0.2)
    grid = torch.linspace(0, 1, 21)
    yield Case("a grid, default s", (grid,), group="default s", picture="curve")
    yield Case("the first of 1000 steps", (draw.uniform(0.001, 0.01, 6),), group="default s")
    yield Case("a grid, another s", (grid, s), group="any s", picture="curve")
    times = draw.uniform(0.02, 0.45, 5)
    yield Case("random times, s by name", (times,), {"s": s + 0.1}, group="any s")
    yield Case("a table of times", (draw.uniform(0, 1, 3, 4),), group="shapes and dtypes")
    yield Case("one number", (draw.uniform(0.1, 0.4),), group="shapes and dtypes")
    yield Case("a tensor without axes", (torch.tensor(0.83), s), group="shapes and dtypes")
    yield Case(
        "float64",
        (draw.uniform(0, 1, 9, dtype="float64"), 0.7 * s),
        group="shapes and dtypes",
    )


betas_from_alpha_bar = Exercise(
    id="01.4",
    title="Betas of any alpha_bar",
    names=("betas_from_alpha_bar",),
    points={"betas": 2, "clipping": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "alpha_bar at the end of a step is alpha_bar at its start times what the step keeps. "
        "Which share does it keep, and what is beta then?",
        "T steps have T + 1 ends: 0, 1/T, 2/T, ..., 1. Ask the function for all of them, and "
        "compare each with the one before.",
        "Clip what you return, from above only, at max_beta.",
    ),
    library=("undiffuse.schedules.betas_from_alpha_bar",),
)


@betas_from_alpha_bar.cases
def _(draw: Draw):
    rate, power = draw.uniform(1.5, 4.0), draw.uniform(1.3, 2.6)
    n = draw.integers(6, 15)
    yield Case("late drop", (Given(late_drop, rate), n), group="betas", tol=RELATIVE)
    yield Case(
        "starts below 1",
        (Given(exponential_decay, rate, draw.uniform(0.6, 0.8)), n + 3),
        group="betas",
        tol=RELATIVE,
    )
    yield Case(
        "1000 small steps",
        (Given(late_drop, 2 * rate), 1000),
        group="betas",
        tol=Tol(rtol=1e-3, atol=1e-4),
        picture="curve",
    )
    yield Case("one step", (Given(late_drop, 0.4 * rate), 1), group="betas", tol=RELATIVE)
    yield Case("falls to 0, default clip", (Given(power_to_zero, power), n), group="clipping")
    yield Case(
        "falls to 0, several clipped",
        (Given(power_to_zero, power), n + 9),
        {"max_beta": draw.uniform(0.3, 0.45)},
        group="clipping",
        picture="curve",
    )
    yield Case(
        "clip never reached, third argument",
        (Given(late_drop, rate), n + 5, 0.9999),
        group="clipping",
        tol=RELATIVE,
    )


log_snr = Exercise(
    id="01.5",
    title="The one number that counts: log SNR",
    names=("log_snr",),
    points={"values": 1, "ends, shapes and dtypes": 1},
    difficulty=1,
    minutes=5,
    hints=(
        "Which variance does the data have in x_t when x_0 has variance 1, and which the noise?",
        "The ratio of powers, not of amplitudes; and a natural logarithm.",
    ),
    library=("undiffuse.schedules.log_snr",),
)


@log_snr.cases
def _(draw: Draw):
    yield Case("five levels", (draw.uniform(0.05, 0.4, 5),), group="values")
    falling = torch.sort(draw.uniform(0.01, 0.97, 40), descending=True).values
    yield Case("a falling curve", (falling,), group="values", picture="curve")
    power = draw.uniform(-9, -4, 12)
    yield Case("nearly nothing left", (10**power,), group="values", tol=RELATIVE)
    yield Case(
        "nearly everything left",
        (1 - draw.uniform(1e-5, 1e-2, 12),),
        group="values",
        tol=RELATIVE,
    )
    ends = torch.tensor([1.0, draw.uniform(0.6, 0.9), draw.uniform(0.1, 0.4), 0.0])
    yield Case("both ends: 1 and 0", (ends,), group="ends, shapes and dtypes")
    table = draw.uniform(0.02, 0.98, 2, 3, 4)
    yield Case("a table", (table,), group="ends, shapes and dtypes")
    yield Case(
        "float64",
        (draw.uniform(1e-6, 0.45, 7, dtype="float64"),),
        group="ends, shapes and dtypes",
    )


sigmoid_alpha_bar = Exercise(
    id="01.6",
    title="The sigmoid schedule",
    names=("sigmoid_alpha_bar",),
    points={"default": 1, "any ends, any tau": 2, "shapes and dtypes": 1},
    difficulty=2,
    minutes=10,
    core=False,
    hints=(
        "Which stretch of the sigmoid does t walk through, and what is divided by tau?",
        "Call the sigmoid's value at the two ends of that stretch v_start and v_end. The result "
        "has to be 1 at t = 0 and 0 at t = 1: which shift and which division do that?",
        "All three sigmoids, the two at the ends and the one at t, take an argument divided by "
        "tau.",
    ),
    library=("undiffuse.schedules.sigmoid_alpha_bar",),
)


@sigmoid_alpha_bar.cases
def _(draw: Draw):
    start, end = draw.uniform(-2.4, -1.2), draw.uniform(3.2, 4.5)
    tau = draw.uniform(1.4, 2.2)
    grid = torch.linspace(0, 1, 21)
    yield Case("a grid, defaults", (grid,), group="default", picture="curve")
    yield Case(
        "ends that do not mirror, tau above 1",
        (grid, start, end, tau),
        group="any ends, any tau",
        picture="curve",
    )
    times = draw.uniform(0.02, 0.45, 6)
    yield Case("small tau", (times,), {"tau": 0.3, "end": end}, group="any ends, any tau")
    yield Case("start 0", (times, 0.0, end), {"tau": tau - 0.7}, group="any ends, any tau")
    yield Case("a table of times", (draw.uniform(0, 1, 3, 4), start), group="shapes and dtypes")
    yield Case("one number", (draw.uniform(0.1, 0.4),), group="shapes and dtypes")
    yield Case(
        "float64",
        (draw.uniform(0, 1, 9, dtype="float64"), start, end, tau),
        group="shapes and dtypes",
    )


karras_sigmas = Exercise(
    id="01.7",
    title="The noise levels of EDM",
    names=("karras_sigmas",),
    points={"default rho": 2, "any rho": 1},
    difficulty=2,
    minutes=10,
    core=False,
    hints=(
        "The levels are evenly spaced after each was given a power. Which power makes large "
        "numbers close together?",
        "Go from sigma_max ** (1 / rho) to sigma_min ** (1 / rho) in a straight line, then undo "
        "the power.",
        "n values, the first sigma_max, the last sigma_min: no zero at the end.",
    ),
    library=("undiffuse.schedules.karras_sigmas",),
)


@karras_sigmas.cases
def _(draw: Draw):
    low, high = draw.uniform(0.001, 0.01), draw.uniform(40.0, 120.0)
    n = draw.integers(8, 40)
    yield Case("EDM's own range", (18, 0.002, 80.0), group="default rho", tol=RELATIVE)
    yield Case("another range", (n, low, high), group="default rho", tol=RELATIVE, picture="curve")
    yield Case("two levels", (2, low, high), group="default rho", tol=RELATIVE)
    yield Case("1000 levels", (1000, low, high), group="default rho", tol=RELATIVE)
    yield Case(
        "another rho",
        (n + 2, low, high, draw.uniform(2.5, 5.0)),
        group="any rho",
        tol=RELATIVE,
        picture="curve",
    )
    yield Case(
        "rho by name, narrow range",
        (n, draw.uniform(0.1, 0.3), draw.uniform(2.0, 6.0)),
        {"rho": draw.uniform(9.0, 12.0)},
        group="any rho",
        tol=RELATIVE,
    )


rescale_zero_terminal_snr = Exercise(
    id="01.8",
    title="End in pure noise",
    names=("rescale_zero_terminal_snr",),
    points={"short": 2, "long": 1, "float64": 1},
    difficulty=3,
    minutes=20,
    core=False,
    uses=("01.2",),
    hints=(
        "x_t contains sqrt(alpha_bar) times the data. That factor has to be 0 at the last step "
        "and unchanged at the first: a shift alone cannot do both.",
        "Subtract the last root from all, then stretch so that the first is what it was: by "
        "which ratio?",
        "Square back to alpha_bar, divide neighbours to get what each step keeps, and do not "
        "lose the first step: it keeps alpha_bar[0] itself.",
    ),
    library=("undiffuse.schedules.rescale_zero_terminal_snr",),
)


@rescale_zero_terminal_snr.cases
def _(draw: Draw):
    n = draw.integers(5, 12)
    big = random_betas(draw, n, 0.1, 0.4)
    yield Case("big irregular steps", (big,), group="short", picture="curve")
    yield Case("two steps", (random_betas(draw, 2, 0.15, 0.4),), group="short")
    line = torch.linspace(draw.uniform(0.02, 0.05), draw.uniform(0.1, 0.2), 30)
    yield Case("a straight line, 30 steps", (line,), group="short")
    long = torch.linspace(1e-4, 0.02, 1000)
    yield Case("1000 steps", (long,), group="long", tol=Tol(rtol=2e-3, atol=1e-4))
    yield Case("100 small steps", (long[::10].clone(),), group="long", tol=Tol(rtol=1e-3))
    yield Case(
        "float64",
        (random_betas(draw, 40, 0.02, 0.2, dtype="float64"),),
        group="float64",
        tol=Tol(rtol=1e-8, atol=1e-10),
    )
