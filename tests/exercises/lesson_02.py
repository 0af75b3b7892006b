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
