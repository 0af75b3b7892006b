"""Checks of lesson 14, models at work: cases, drivers and toys; the answers are elsewhere.

Levels are of schedules that keep the variance and of others, samples of a batch differ in size, and
what must be left out lies well inside or well outside of the tolerance.
"""

import math

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson

LESSON = Lesson(
    "14", provides=("undiffuse.data", "undiffuse.plots", "undiffuse.schedules", "undiffuse.sound")
)


class ToyStep:
    """A sampler's step (DDIM) for data of variance v around 0, which counts its calls.

    As in a network, each value hears of its neighbour, so that what stands there matters.
    """

    def __init__(self, variance):
        self.variance, self.pairs = variance, []

    def __call__(self, x, now, then):
        (alpha, sigma), (alpha_then, sigma_then) = now, then
        self.pairs.append((*now, *then))
        if sigma == 0:
            raise ValueError("a step begins at a level with noise, and sigma is 0 here")
        share = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        x0 = share * x + 0.1 * torch.tanh(x) + 0.2 * torch.tanh(x.roll(1, -1))
        return alpha_then * x0 + sigma_then / sigma * (x - alpha * x0)


def toy_step(variance):
    """For the cases: a step."""
    return ToyStep(variance)


def on_circle(log_snr):
    """(alpha, sigma) with alpha^2 + sigma^2 = 1."""
    power = 1 / (1 + math.exp(-log_snr))
    return math.sqrt(power), math.sqrt(1 - power)


# 14.1 ---------------------------------------------------------------------------------------------

inpaint_step = Exercise(
    id="14.1",
    title="Draw a part, keep the rest",
    names=("inpaint_step",),
    points={"one round": 2, "several rounds": 2, "last step": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "Each round makes two tensors at level `then`: one by `step`, one from `known` with noise "
        "of that level. torch.where(mask, a, b) takes a where mask is True.",
        "Between two rounds you are at `then` and want to be at `now`. First the factor: the "
        "signal has alpha_then in front of it, and should have alpha_now. What does that factor "
        "do to the noise that is already there?",
        "Variances of independent noises add. sigma_now squared is wanted; after the factor some "
        "of it is there. The rest is what you add, as a standard deviation times the second noise "
        "of the pair.",
    ),
    library=("undiffuse.repair.inpaint_step",),
)


def inpaint_and_count(answer, x, step, known, mask, now, then, noises):
    """The result, and between which levels steps were made."""
    out = answer.inpaint_step(x, step, known, mask, now, then, noises)
    return {"x": out, "steps": step.pairs}


@inpaint_step.cases
def _(draw: Draw):
    def case(name, group, shape, rounds, now, then, mask_shape=None, dtype="float32"):
        mask = draw.uniform(0, 1, *(mask_shape or shape)) < 0.5
        flat = mask.flatten()
        flat[0], flat[-1] = True, False
        noises = [
            (draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype))
            for _ in range(rounds)
        ]
        x, known = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype, mean=0.5)
        step = Given(toy_step, draw.uniform(0.3, 0.6))
        args = (x, step, known, mask, now, then, noises)
        return Case(name, args, group=group, driver=inpaint_and_count, picture="none")

    def circle():
        return on_circle(draw.uniform(-2.5, -1.0)), on_circle(draw.uniform(0.2, 1.5))

    def exploding():
        return (1.0, draw.uniform(2.0, 3.0)), (1.0, draw.uniform(0.8, 1.4))

    one, more = "one round", "several rounds"
    yield case("images, one mask for all", one, (3, 1, 5, 7), 1, *circle(), (1, 5, 7))
    yield case("sound, a mask each", one, (2, 1, 11), 1, *circle(), (2, 1, 11))
    yield case("noise added to data that keep their size", one, (2, 3, 4, 4), 1, *exploding())
    yield case("three rounds", more, (2, 1, 6, 5), 3, *circle())
    yield case("two rounds, sound, float64", more, (1, 2, 9), 2, *circle(), dtype="float64")
    yield case("four rounds, growing noise", more, (2, 1, 4, 4), 4, *exploding())
    to_data = on_circle(draw.uniform(2.0, 4.0)), (1.0, 0.0)
    yield case("to data, two rounds", "last step", (2, 1, 5, 5), 2, *to_data)
    to_data = on_circle(draw.uniform(2.0, 4.0)), (1.0, 0.0)
    yield case("to data, one round", "last step", (2, 1, 8), 1, *to_data)


# 14.2 ---------------------------------------------------------------------------------------------

edit = Exercise(
    id="14.2",
    title="Another version of it",
    names=("edit",),
    points={"in between": 2, "ends": 1, "sound": 1},
    difficulty=1,
    minutes=12,
    hints=(
        "levels[0] is the noisiest, levels[-1] is data. How many steps are there in all, and how "
        "many of them should be made? Those are the last ones.",
        "If k steps are left, you begin at levels[n - k], where n is the number of all steps. "
        "Bring x0 to that level, as in lesson 02.",
        "itertools.pairwise over what is left of the list gives each step its two levels.",
    ),
    library=("undiffuse.repair.edit",),
)


def edit_and_count(answer, x0, strength, levels, step, noise):
    """The result, and between which levels steps were made."""
    return {"x": answer.edit(x0, strength, levels, step, noise), "steps": step.pairs}


@edit.cases
def _(draw: Draw):
    def levels(n, growing=False):
        if growing:
            start = draw.uniform(4.0, 6.0)
            return [*((1.0, start * 0.6**i) for i in range(n)), (1.0, 0.0)]
        start = draw.uniform(-5.0, -4.0)
        return [*(on_circle(start + 9.0 * i / n) for i in range(n)), (1.0, 0.0)]

    def case(name, group, shape, n, left, growing=False, dtype="float32"):
        strength = left if left in (0.0, 1.0) else (left + draw.uniform(-0.35, 0.35)) / n
        x0, noise = draw.normal(*shape, dtype=dtype, mean=0.4), draw.normal(*shape, dtype=dtype)
        step = Given(toy_step, draw.uniform(0.3, 0.6))
        args = (x0, strength, levels(n, growing), step, noise)
        return Case(name, args, group=group, driver=edit_and_count, picture="none")

    group = "in between"
    yield case("3 of 8 steps", group, (2, 1, 5, 6), 8, 3)
    yield case("7 of 10 steps", group, (1, 3, 4, 4), 10, 7)
    yield case("2 of 7, growing noise", group, (2, 1, 4, 5), 7, 2, growing=True)
    # Rounded down it would be one step less.
    args = list(case("x", group, (2, 1, 3, 5), 6, 4).args)
    args[1] = (4 - draw.uniform(0.1, 0.3)) / 6
    yield Case("a little less than 4 of 6", tuple(args), group=group, driver=edit_and_count,
               picture="none")  # fmt: skip
    # Rounded up it would be one step more.
    args = list(case("x", group, (2, 1, 4, 3), 5, 1).args)
    args[1] = (1 + draw.uniform(0.1, 0.2)) / 5
    yield Case("a little more than 1 of 5", tuple(args), group=group, driver=edit_and_count,
               picture="none")  # fmt: skip
    yield case("strength 0", "ends", (2, 1, 4, 4), 5, 0.0)
    yield case("strength 1", "ends", (2, 1, 4, 4), 5, 1.0)
    yield case("sound, float64", "sound", (3, 1, 9), 9, 5, dtype="float64")
    yield case("one clip", "sound", (1, 2, 12), 4, 1)


# 14.3 ---------------------------------------------------------------------------------------------

posterior_guidance_step = Exercise(
    id="14.3",
    title="Steer by what was measured",
    names=("posterior_guidance_step",),
    points={"gradient": 2, "each sample": 1, "where it fits": 1, "no graph": 1},
    difficulty=3,
    minutes=25,
    hints=(
        "Three things in a row: x_t, its estimate, its measurement. The number at the end is how "
        "far that is from y. Which of the three do you differentiate by? Not by the estimate.",
        "As in lesson 07.7: a detached copy that requires a gradient, torch.enable_grad(), and "
        "torch.autograd.grad of one number: the sum over the samples of each one's norm.",
        "torch.linalg.vector_norm has a gradient of 0 where the vector is 0. The root of a sum of "
        "squares has none there.",
        "`step` gets x_t and the estimate, both without a graph. What it returns is then moved "
        "against the gradient.",
    ),
    library=("undiffuse.posterior.posterior_guidance_step",),
)


class ToyEstimate(nn.Module):
    """x_t -> x0, not linear and with a parameter, as a network is; mixes neighbouring values."""

    def __init__(self, gain):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))

    def forward(self, x):
        gain = self.gain.to(x.dtype)
        return torch.tanh(gain * x + 0.3 * x.roll(1, -1)) + 0.2 * x


def toy_estimate(gain):
    """For the cases: an estimate."""
    return ToyEstimate(gain)


class ToyMove:
    """A sampler's step when the estimate is given."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __call__(self, x_t, x0):
        return self.a * x_t + self.b * x0


def toy_move(a, b):
    """For the cases: a step."""
    return ToyMove(a, b)


def half_size(x):
    """Means of pairs along the last axis."""
    return (x[..., 0::2] + x[..., 1::2]) / 2


def left_part(x):
    """The first half of the last axis."""
    return x[..., : x.shape[-1] // 2]


def cut_off(x):
    """Values cut off at +-0.4."""
    return x.clamp(-0.4, 0.4)


MEASURES = {"half size": half_size, "left part": left_part, "cut off": cut_off}


def toy_measure(name):
    """For the cases: one of the measurements."""
    return MEASURES[name]


def measure_and_step(answer, x_t, estimate, step, measure, truth, scale):
    """One step towards the measurement of ``truth``."""
    return answer.posterior_guidance_step(x_t, estimate, step, measure, measure(truth), scale)


def look_for_graphs(answer, x_t, estimate, step, measure, truth, scale):
    """A step in a sampler, which records no graph; and what is left behind."""
    y = measure(truth)
    with torch.no_grad():
        out = answer.posterior_guidance_step(x_t, estimate, step, measure, y, scale)
    again = answer.posterior_guidance_step(x_t, estimate, step, measure, y, scale)
    return {
        "x": out,
        "graph": bool(out.requires_grad or again.requires_grad),
        "x_t recorded": bool(x_t.requires_grad),
        "gradients in the network": estimate.gain.grad is not None,
    }


@posterior_guidance_step.cases
def _(draw: Draw):
    def parts(shape, what, dtype="float32", spread=1.0):
        sizes = torch.linspace(0.6, spread, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        x_t = draw.normal(*shape, dtype=dtype) * sizes.to(getattr(torch, dtype))
        truth = draw.normal(*shape, dtype=dtype, std=0.8)
        estimate = Given(toy_estimate, draw.uniform(0.5, 0.9))
        move = Given(toy_move, draw.uniform(0.3, 0.5), draw.uniform(0.4, 0.7))
        return x_t, estimate, move, Given(toy_measure, what), truth, draw.uniform(0.3, 0.9)

    def case(name, group, *args, fits=0, **options):
        made = parts(*args, **options)
        # 0 is estimated as 0, and measured as 0: there no rounding can keep y from fitting.
        made[0][:fits], made[4][:fits] = 0.0, 0.0
        return Case(name, made, group=group, driver=measure_and_step, picture="none")

    group = "gradient"
    yield case("images seen coarsely", group, (1, 1, 5, 6), "half size")
    yield case("half an image, float64", group, (1, 3, 4, 6), "left part", dtype="float64")
    yield case("sound cut off", group, (1, 1, 16), "cut off")
    group = "each sample"
    yield case("four of unlike size", group, (4, 1, 4, 6), "half size", spread=2.5)
    yield case("three clips", group, (3, 2, 10), "left part", spread=2.0)
    yield case("the first of three fits", "where it fits", (3, 1, 4, 4), "half size", fits=1)
    args = parts((2, 1, 4, 6), "half size")
    yield Case("in a sampler", args, group="no graph", driver=look_for_graphs, picture="none")


# 14.4 ---------------------------------------------------------------------------------------------

balanced_labels = Exercise(
    id="14.4",
    title="Which classes to draw",
    names=("balanced_labels",),
    points={"none are there": 1, "some are there": 2, "too few to level": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "Do it by hand for 3 classes with 5, 2 and 2 real examples, and n = 4. Who gets the first, "
        "the second, the fifth if there were one?",
        "n times the same small act is a right answer. `counts` belongs to the caller, though: "
        "work on a copy.",
        "An index of the least of several equal numbers: torch.argmin does not promise which. "
        "min(range(classes), key=...) and list.index do.",
    ),
    library=("undiffuse.synthetic.balanced_labels",),
)


@balanced_labels.cases
def _(draw: Draw):
    def counts(n, low, high):
        return [int(v) for v in draw.integers(low, high, n)]

    group = "none are there"
    yield Case("it divides", (12, 4, [0] * 4), group=group)
    classes = draw.integers(4, 7)
    n = classes * draw.integers(2, 5) + draw.integers(2, classes - 1)
    yield Case("it does not divide", (n, classes, [0] * classes), group=group)
    yield Case("none wanted", (0, 3, [0] * 3), group=group)
    group = "some are there"
    held = [9, 2, 4, 1, 3]
    order = draw.distinct(0, 5, 5).tolist()
    held = [held[i] for i in order]
    yield Case("five classes", (draw.integers(16, 24) // 4 * 4 + 1, 5, held), group=group)
    held = counts(7, 3, 9)
    most = max(held) * 7 - sum(held)
    yield Case("enough for all", (most + draw.integers(9, 13), 7, held), group=group)
    held = [20, *counts(3, 0, 4)]
    yield Case("one class has more than its share", (draw.integers(11, 15), 4, held), group=group)
    group = "too few to level"
    held = [3, 8, 5, 8, 3, 3]
    yield Case("two for three", (2, 6, held), group=group)
    yield Case("one", (1, 3, [draw.integers(4, 9), 2, 2]), group=group)


# 14.5 ---------------------------------------------------------------------------------------------

mix_real_and_synthetic = Exercise(
    id="14.5",
    title="Mix without leaking",
    names=("mix_real_and_synthetic",),
    points={"no leak": 2, "no duplicates": 2, "order and origin": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "Write `same(a, b)` first: for items (N, ...) and (M, ...) a table (N, M) of True and "
        "False. Flatten the items; a difference of every pair has shape (N, M, D).",
        "The mean is over the values of an item, not over items; and the root of that mean is "
        "compared with tol.",
        "Whether a synthetic item is taken depends on those taken before it. A loop over them is "
        "the plainest way to say so.",
        "Whatever you leave out of the data, leave out of the labels, too.",
    ),
    library=("undiffuse.synthetic.mix_real_and_synthetic",),
)


@mix_real_and_synthetic.cases
def _(draw: Draw):
    def near(item, share, tol):
        """A copy at ``share`` of tol."""
        off = draw.normal(*item.shape)
        return item + off / off.square().mean().sqrt() * share * tol

    def labels(n):
        return draw.integers(0, 4, n)

    def case(name, group, shape, tol, *, leak=(), real_leak=(), of_real=(), twice=(), far=(),
             spot=(), chain=False, alike=False):  # fmt: skip
        real, more, test = (draw.normal(n, *shape) for n in (5, 7, 4))
        y, y_more = labels(5), labels(7)
        for i, j in real_leak:
            real[i] = near(test[j], 0.5, tol)
        for k, (i, j) in enumerate(leak):
            more[i] = near(test[j], 0.6 if k == 0 else 0.02, tol)
        for k, (i, j) in enumerate(of_real):
            more[i] = near(real[j], 0.5, tol)
            y_more[i] = (y[j] + (k == 0)) % 4
        for i, j in twice:
            more[i] = near(more[j], 0.4, tol)
        for i, j in far:
            more[i] = near(test[j], 3.0, tol)
        if alike:
            real[4] = real[1]
        if chain:  # item 2 is the same as 1, which is not taken, and not the same as the test item
            off = draw.normal(*shape)
            off = off / off.square().mean().sqrt() * tol
            more[1], more[2] = test[0] + 0.7 * off, test[0] + 1.5 * off
            real[3], more[5] = test[1] - 0.7 * off, test[1] - 1.5 * off
        for i, j in spot:  # all of the difference in one value: large squared, small on average
            more[i] = test[j]
            more[i].view(-1)[draw.integers(0, more[i].numel())] += (
                1.9 * tol * test[j].numel() ** 0.5
            )
        return Case(name, ((real, y), (more, y_more), test, tol), group=group, picture="none")

    tol = draw.uniform(0.05, 0.08)
    group = "no leak"
    yield case("copies of test images", group, (1, 5, 5), tol, leak=((1, 0), (4, 3)))
    yield case("a real one is in the test", group, (1, 4, 6), tol, real_leak=((2, 1),))
    yield case("close is not the same", group, (1, 30), tol, leak=((0, 2),), far=((3, 1),),
               spot=((5, 3),))  # fmt: skip
    group = "no duplicates"
    yield case("copies of real ones", group, (1, 5, 5), tol, of_real=((3, 1), (5, 4)))
    yield case("drawn twice and thrice", group, (2, 16), tol, twice=((4, 1), (6, 1)))
    yield case("two real ones are alike", group, (1, 5, 4), tol, alike=True)
    group = "order and origin"
    yield case("a bit of all", group, (1, 6, 6), tol, leak=((0, 0),), real_leak=((0, 3),),
               twice=((5, 3),))  # fmt: skip
    yield case("the same as one that was not taken", group, (1, 5, 6), tol, chain=True)
    # Quarters: sums, means and roots are exact here, in whatever way they are computed.
    real, more, test = (draw.integers(-8, 9, n, 1, 4, 4) / 4 for n in (5, 7, 4))
    real[2], more[0], more[3], more[5] = test[1] + 0.25, test[3] - 0.25, real[0] + 0.25, more[4]
    more[1] = test[2] + 0.5  # another brightness all over is another picture
    more[6] = test[0]
    more[6, :, 0] += 2.0  # the other rows are the same
    sets = (real, draw.integers(0, 4, 5)), (more, draw.integers(0, 4, 7))
    yield Case("exactly tol apart", (*sets, test, 0.25), group="no leak", picture="none")


# 14.6 ---------------------------------------------------------------------------------------------

repair_audio = Exercise(
    id="14.6",
    title="A gap without seams",
    names=("repair_audio",),
    points={"seams": 2, "level": 2, "edges": 1},
    difficulty=2,
    minutes=25,
    hints=(
        "Give each place a number: how far it is from the gap. In the gap it is 0, next to it 1. "
        "All that is asked for can be said with that number.",
        "The share of the proposal is 1 at distance 0 and falls evenly to 0 at distance fade + 1; "
        "clamp keeps it from going on.",
        "The level is compared where distance is from 1 to fade, on both sides together, for each "
        "clip by itself.",
        "0 times NaN is NaN. torch.where picks, and does not multiply.",
    ),
    library=("undiffuse.repair.repair_audio",),
)


@repair_audio.cases
def _(draw: Draw):
    def clips(shape, sizes, dtype="float32"):
        factors = torch.tensor(sizes, dtype=getattr(torch, dtype)).reshape(-1, 1, 1)
        return draw.normal(*shape, dtype=dtype) * factors

    def case(name, group, shape, start, stop, fade, mine, theirs, holds=0.0, dtype="float32"):
        x, proposal = clips(shape, mine, dtype), clips(shape, theirs, dtype)
        x[..., start:stop] = holds
        return Case(name, (x, proposal, start, stop, fade), group=group, picture="none")

    start = draw.integers(14, 18)
    group = "seams"
    yield case("a gap in the middle", group, (1, 1, 48), start, start + 9, 5, [0.5], [0.4])
    # Eighths are exact in float32, so that shares need not be computed in float64.
    yield case("two channels, float64", group, (2, 2, 40), start, start + 6, 7, [0.5, 0.3],
               [0.4, 0.5], dtype="float64")  # fmt: skip
    yield case("no fade", group, (2, 1, 30), start, start + 4, 0, [0.5, 0.3], [0.2, 0.9])
    group = "level"
    yield case("the proposal is too loud", group, (1, 1, 44), start, start + 12, 6, [0.1], [0.9])
    yield case("each clip has its level", group, (3, 1, 40), start, start + 8, 4,
               [0.002, 0.8, 0.4], [0.9, 0.1, 0.003])  # fmt: skip
    group = "edges"
    yield case("from the start on", group, (2, 1, 32), 0, 7, 5, [0.5, 0.3], [0.4, 0.8])
    yield case("up to the end", group, (1, 1, 32), 25, 32, 4, [0.5], [0.3])
    yield case("too near to the start for a whole fade", group, (1, 1, 32), 3, 12, 6, [0.5], [0.3])
    yield case("NaN in the gap", group, (2, 1, 36), start, start + 5, 4, [0.5, 0.4], [0.3, 0.6],
               holds=math.nan)  # fmt: skip
    yield case("one proposal and one clip are silent", group, (3, 1, 36), start, start + 5, 4,
               [0.5, 0.0, 0.4], [0.0, 0.4, 0.6])  # fmt: skip
