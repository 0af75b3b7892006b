"""Checks of lesson 02, forward diffusion: exercises and their cases; the answers are elsewhere.

Sizes are chosen so that wrong broadcasts run without an error (B = L, B = H = W, B = C), and so
that times, levels and variances are never ones at which two formulas agree.
"""

import torch

from coursework.exercise import Case, Draw, Exercise, Lesson

LESSON = Lesson("02", provides=("undiffuse.data", "undiffuse.plots", "undiffuse.schedules"))


def levels(draw: Draw, steps: int, dtype: str = "float32") -> torch.Tensor:
    """alpha_bar of ``steps`` irregular steps, falling from about 0.9 to about 0.03."""
    return torch.cumprod(1 - some_betas(draw, steps), 0).to(getattr(torch, dtype))


def some_betas(draw: Draw, steps: int, dtype: str = "float64") -> torch.Tensor:
    """Irregular betas whose product of ``1 - beta`` ends near 0.03, far from losing digits."""
    rough = draw.uniform(0.4, 1.6, steps, dtype="float64")
    log_alpha = -3.5 * rough / rough.sum()
    return (1 - torch.exp(log_alpha)).to(getattr(torch, dtype))


def times(draw: Draw, batch: int, steps: int, zero_at: int | None = None) -> torch.Tensor:
    """Distinct times in random order, no two of them neighbours; 0 at place ``zero_at``."""
    while True:
        t = draw.distinct(1, steps, batch)
        if zero_at is not None:
            t[zero_at] = 0
        gaps = torch.sort(t).values.diff()
        if batch == 1 or int(gaps.min()) > 1:
            return t


q_step = Exercise(
    id="02.1",
    title="One small step of noise",
    names=("q_step",),
    points={"one beta": 1, "a beta for each sample": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "beta is the variance of the noise that is added. By what do you multiply a standard "
        "normal number to give it variance beta?",
        "Variances of independent parts add up. If x_prev has variance 1, which factor leaves "
        "room for beta, so that the sum has variance 1 again?",
        "A beta of shape (B,) must act along the first axis. Give it as many trailing axes of "
        "length 1 as x_prev has axes after the first (reshape, with -1 for the batch).",
    ),
    library=("undiffuse.process.q_step",),
)


@q_step.cases
def _(draw: Draw):
    def beta(*shape, dtype="float32"):
        return draw.uniform(0.05, 0.4, *shape, dtype=dtype)

    def pair(*shape, dtype="float32"):
        return draw.normal(*shape, dtype=dtype, mean=0.7), draw.normal(*shape, dtype=dtype)

    x, noise = pair(3, 1, 5, 7)
    yield Case("one number for all images", (x, beta(), noise), group="one beta")
    x, noise = pair(4, 2, 9)
    one = beta(1)[0]
    yield Case("a 0-d tensor, sound", (x, one, noise), group="one beta")
    x, noise = pair(2, 3, 4, dtype="float64")
    one = beta(1, dtype="float64")[0]
    yield Case("float64", (x, one, noise), group="one beta")
    per_sample = "a beta for each sample"
    x, noise = pair(5, 1, 5, 5)
    yield Case("square images, as many as pixels a side", (x, beta(5), noise), group=per_sample)
    x, noise = pair(3, 3, 8, 6)
    yield Case("as many images as channels", (x, beta(3), noise), group=per_sample)
    x, noise = pair(4, 1, 4)
    yield Case("sound, as many clips as samples", (x, beta(4), noise), group=per_sample)
    x, noise = pair(1, 2, 7)
    yield Case("a batch of one", (x, beta(1), noise), group=per_sample)
    x, noise = pair(2, 1, 6)
    yield Case(
        "float32 sound, float64 betas", (x, beta(2, dtype="float64"), noise), group=per_sample
    )


q_sample = Exercise(
    id="02.2",
    title="Any noise level in one jump",
    names=("q_sample",),
    points={"images": 2, "sound": 1, "dtypes": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "Indexing with a tensor works: alpha_bar[t] has one value for each sample, shape (B,).",
        "That (B,) has to meet x0 along its first axis. torch lines shapes up from the last axis: "
        "how many axes of length 1 do you have to append for (B, C, L), how many for "
        "(B, C, H, W)? Let x0.ndim decide.",
        "alpha_bar is the share of the variance that is still data, 1 - alpha_bar the share that "
        "is noise. You multiply by standard deviations, not by variances.",
    ),
    library=("undiffuse.process.q_sample",),
)


@q_sample.cases
def _(draw: Draw):
    def case(name, group, *shape, steps=24, zero_at=None, dtype="float32", schedule=None):
        t = times(draw, shape[0], steps, zero_at)
        x0 = draw.normal(*shape, dtype=dtype, mean=0.7)
        ab = levels(draw, steps, schedule or dtype)
        return Case(name, (x0, t, ab, draw.normal(*shape, dtype=dtype)), group=group)

    yield case("images, odd size", "images", 4, 1, 7, 9)
    yield case("square images, as many as pixels a side", "images", 5, 2, 5, 5, zero_at=3)
    yield case("as many images as channels", "images", 3, 3, 6, 4)
    yield case("a batch of one", "images", 1, 1, 6, 8)
    yield case("sound, as many clips as samples", "sound", 6, 1, 6, zero_at=0)
    yield case("sound, as many clips as channels", "sound", 2, 2, 11)
    yield case("float64", "dtypes", 3, 1, 4, 5, dtype="float64")
    yield case("float32 sound, float64 schedule", "dtypes", 2, 1, 9, schedule="float64")


x0_from_eps = Exercise(
    id="02.3",
    title="Back to the data, given the noise",
    names=("x0_from_eps",),
    points={"images": 1, "sound": 1, "dtypes": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "Write down the equation of 02.2 and solve it for x0: first take the noise away, then undo "
        "the factor that stands before x0.",
        "The whole difference is divided, by the factor that multiplied x0.",
        "Put your x0_from_eps behind your q_sample: what comes out must be what went in.",
    ),
    library=("undiffuse.process.x0_from_eps", "undiffuse.prediction"),
)


def noisy_case(draw, name, group, *shape, steps=24, zero_at=None, dtype="float32", schedule=None):
    """A case (a, t, alpha_bar, b) for functions of two tensors of samples, a not centred at 0."""
    t = times(draw, shape[0], steps, zero_at)
    a, b = draw.normal(*shape, dtype=dtype, mean=0.7), draw.normal(*shape, dtype=dtype)
    return Case(name, (a, t, levels(draw, steps, schedule or dtype), b), group=group)


@x0_from_eps.cases
def _(draw: Draw):
    yield noisy_case(draw, "images, odd size", "images", 4, 1, 7, 9, zero_at=1)
    yield noisy_case(draw, "square images, as many as pixels a side", "images", 5, 2, 5, 5)
    yield noisy_case(draw, "as many images as channels", "images", 3, 3, 6, 4)
    yield noisy_case(draw, "a batch of one", "images", 1, 1, 6, 8)
    yield noisy_case(draw, "sound, as many clips as samples", "sound", 6, 1, 6)
    yield noisy_case(draw, "sound, as many clips as channels", "sound", 2, 2, 11, zero_at=0)
    yield noisy_case(draw, "float64", "dtypes", 3, 1, 4, 5, dtype="float64")
    yield noisy_case(draw, "float32 sound, float64 schedule", "dtypes", 2, 1, 9, schedule="float64")


v_target = Exercise(
    id="02.4",
    title="A target that is never too easy: v",
    names=("v_target",),
    points={"images": 1, "sound": 1, "dtypes": 1},
    difficulty=1,
    minutes=8,
    hints=(
        "At t with alpha_bar near 1 (little noise), v must be close to the noise; near the end, "
        "with alpha_bar near 0, close to minus the data.",
        "The two factors are those of 02.2. Which one goes with the noise, which with x0, is said "
        "by the two ends.",
    ),
    library=("undiffuse.process.v_target", "undiffuse.prediction"),
)


@v_target.cases
def _(draw: Draw):
    yield noisy_case(draw, "images, odd size", "images", 4, 1, 7, 9, zero_at=2)
    yield noisy_case(draw, "square images, as many as pixels a side", "images", 5, 2, 5, 5)
    yield noisy_case(draw, "as many images as channels", "images", 3, 3, 6, 4)
    yield noisy_case(draw, "a batch of one", "images", 1, 1, 6, 8)
    yield noisy_case(draw, "sound, as many clips as samples", "sound", 6, 1, 6)
    yield noisy_case(draw, "sound, as many clips as channels", "sound", 2, 2, 11, zero_at=1)
    yield noisy_case(draw, "float64", "dtypes", 3, 1, 4, 5, dtype="float64")
    yield noisy_case(draw, "float32 sound, float64 schedule", "dtypes", 2, 1, 9, schedule="float64")


from_v = Exercise(
    id="02.5",
    title="Noise and data out of v",
    names=("eps_from_v", "x0_from_v"),
    points={"eps_from_v": 1, "x0_from_v": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "You have two equations, one for x_t and one for v, and two unknowns, x0 and eps. Multiply "
        "each by a factor so that one unknown drops out when you add them.",
        "The squares of the two factors add up to 1. Where that sum appears, the division is gone.",
        "It is a rotation: (x0, eps) is turned by an angle into (x_t, v). To turn back, the same "
        "factors serve, with one sign changed. Test yours with what q_sample and v_target give.",
    ),
    library=(
        "undiffuse.process.eps_from_v",
        "undiffuse.process.x0_from_v",
        "undiffuse.prediction",
    ),
)


def call_eps_from_v(answer, *args):
    """The first of the two names."""
    return answer.eps_from_v(*args)


def call_x0_from_v(answer, *args):
    """The second of the two names."""
    return answer.x0_from_v(*args)


@from_v.cases
def _(draw: Draw):
    for driver in (call_eps_from_v, call_x0_from_v):
        group = driver.__name__.removeprefix("call_")
        for name, *shape in (
            ("images, odd size", 4, 1, 7, 9),
            ("square images, as many as pixels a side", 5, 2, 5, 5),
            ("sound, as many clips as samples", 6, 1, 6),
        ):
            case = noisy_case(draw, f"{group}: {name}", group, *shape, zero_at=1)
            case.driver = driver.__name__
            yield case
        for name, dtype, schedule in (
            ("float64", "float64", None),
            ("float32 sound, float64 schedule", "float32", "float64"),
        ):
            case = noisy_case(
                draw, f"{group}: {name}", group, 2, 1, 9, dtype=dtype, schedule=schedule
            )
            case.driver = driver.__name__
            yield case


posterior = Exercise(
    id="02.6",
    title="One step back, when the end is known",
    names=("posterior_mean_variance",),
    points={"images": 2, "sound": 1, "dtypes": 1},
    difficulty=3,
    minutes=25,
    hints=(
        "Make four values for each sample first: beta_t, alpha_t = 1 - beta_t, alpha_bar_t, and "
        "alpha_bar one step earlier. Only then write the mean.",
        "alpha_bar one step before t = 0 is 1: nothing has been added yet. Put a 1 in front of "
        "alpha_bar, and the array you get is shifted by one place.",
        "Near t = 0 the step back must land on x0: its factor tends to 1 and that of x_t to 0. "
        "Check which is which in yours.",
        "The variance has shape (B,), the mean the shape of x0: reshape the factors for the mean, "
        "and leave the variance as it is.",
    ),
    library=("undiffuse.process.posterior_mean_variance",),
)


def posterior_case(
    draw, name, group, *shape, steps=24, zero_at=None, last_at=None, dtype="float32"
):
    """(x0, x_t, t, betas); ``last_at`` is the place of t = steps - 1."""
    t = times(draw, shape[0], steps - 2, zero_at)
    if last_at is not None:
        t[last_at] = steps - 1
    x0, x_t = draw.normal(*shape, dtype=dtype, mean=0.7), draw.normal(*shape, dtype=dtype)
    return Case(name, (x0, x_t, t, some_betas(draw, steps, dtype)), group=group)


@posterior.cases
def _(draw: Draw):
    yield posterior_case(draw, "images, odd size", "images", 4, 1, 7, 9)
    yield posterior_case(
        draw, "square images, first and last step", "images", 5, 2, 5, 5, zero_at=3, last_at=1
    )
    yield posterior_case(draw, "a batch of one", "images", 1, 3, 4, 6)
    yield posterior_case(draw, "sound, as many clips as samples", "sound", 6, 1, 6, zero_at=2)
    yield posterior_case(draw, "sound, as many clips as channels", "sound", 2, 2, 11, last_at=0)
    yield posterior_case(draw, "float64", "dtypes", 3, 1, 9, zero_at=0, dtype="float64")
    x0, x_t, t, betas = posterior_case(draw, "", "", 2, 1, 9).args
    yield Case("float32 sound, float64 betas", (x0, x_t, t, betas.double()), group="dtypes")


steps_to_snr = Exercise(
    id="02.7",
    title="When does the signal sink below the noise?",
    names=("steps_to_snr",),
    points={"between two steps": 1, "edges": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "Which share of the variance is signal at t, and which is noise? The SNR is their ratio, "
        "as it is: no logarithm, no root.",
        "A comparison of the whole array with one number gives an array of True and False, False "
        "first, as the SNR only falls. What you want is the place of the first True.",
        "What does your way of finding the first True give when there is none? Test it on "
        "torch.tensor([False, False]).",
    ),
    library=("undiffuse.process.steps_to_snr",),
)


@steps_to_snr.cases
def _(draw: Draw):
    def between(dtype: str, steps: int, low: float, high: float):
        """A schedule, and an SNR between two neighbours of it, nearer to the upper one."""
        ab = levels(draw, steps, dtype)
        snr = (ab / (1 - ab)).double()
        fits = [k for k in range(1, steps) if low < float(snr[k]) < high]
        k = draw.pick(fits)
        return ab, float(0.8 * snr[k - 1] + 0.2 * snr[k])

    yield Case("late, SNR below 1", between("float32", 40, 0.05, 0.3), group="between two steps")
    yield Case("early, SNR above 1", between("float64", 60, 2.5, 6.0), group="between two steps")
    yield Case("seven steps", between("float32", 7, 0.15, 0.7), group="between two steps")
    exact = torch.cat([torch.tensor([0.96, 0.9, 0.75]), levels(draw, 9)[4:]])
    yield Case("exactly at the SNR", (exact, 3.0), group="edges")
    ab = levels(draw, draw.integers(8, 14))
    yield Case("never that low", (ab, 0.004), group="edges")
    yield Case("low from the start", (ab, 700.0), group="edges")
    ends = torch.cat([torch.ones(1), levels(draw, 11), torch.zeros(1)])
    yield Case("alpha_bar from 1 to 0", (ends, 0.004), group="edges")
