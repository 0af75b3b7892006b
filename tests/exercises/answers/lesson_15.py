"""Answers of lesson 15: references, named mistakes with what to say about them, alternatives."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

# --- 15.1 ----------------------------------------------------------------------------------

a_pair = Answers("15.1")


def _t(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


@a_pair.reference
def flow_pair(x0, x1, t):
    t = t.reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * x1, x1 - x0


@a_pair.misconception(
    "reversed",
    "Your path begins at the noise and ends at the data, and so does its slope. Many papers count "
    "time so; in this course t = 0 is data and t = 1 is noise, as it was for every schedule.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return t * x0 + (1 - t) * x1, x0 - x1


@a_pair.misconception(
    "velocity-backwards",
    "The path is right, the velocity points the wrong way: towards the data. It is the slope of "
    "x_t for growing t. Where does x_t go then?",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return (1 - t) * x0 + t * x1, x0 - x1


@a_pair.misconception(
    "path-reversed",
    "The velocity is right, but the path runs the other way: at t = 0 you stand on the noise.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return t * x0 + (1 - t) * x1, x1 - x0


@a_pair.misconception(
    "normalised",
    "You divide by the root of (1 - t)^2 + t^2, so that the variance stays 1. Then the path is no "
    "straight line any more, and x1 - x0 is not its slope. Here the variance may change.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return ((1 - t) * x0 + t * x1) / ((1 - t) ** 2 + t**2).sqrt(), x1 - x0


@a_pair.misconception(
    "roots",
    "These are the roots of lesson 02, which keep the variance. A straight line has the shares "
    "themselves.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return (1 - t).sqrt() * x0 + t.sqrt() * x1, x1 - x0


@a_pair.misconception(
    "unit-velocity",
    "Your velocity has length 1 for each sample. A point that has further to go must be faster, or "
    "it does not arrive at t = 1.",
)
def flow_pair(x0, x1, t):
    s, v = _t(t, x0), x1 - x0
    return (1 - s) * x0 + s * x1, v / _t(v.flatten(1).norm(dim=1), x0)


@a_pair.misconception(
    "what-is-left",
    "You give what is left of the way, x1 - x_t. A velocity is the way per unit of t: on a "
    "straight line it does not get smaller as you come near.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    x_t = (1 - t) * x0 + t * x1
    return x_t, x1 - x_t


@a_pair.misconception(
    "one-time-for-all",
    "All samples are mixed with the first one's time. Each has a t of its own.",
)
def flow_pair(x0, x1, t):
    return (1 - t[0]) * x0 + t[0] * x1, x1 - x0


@a_pair.misconception(
    "wrong-axis",
    "t (B,) meets the last axis of x0, not the first. Where both have the same size this runs and "
    "is wrong; elsewhere it crashes. Give t an axis of length 1 for each axis of x0 behind the "
    "first.",
)
def flow_pair(x0, x1, t):
    return (1 - t) * x0 + t * x1, x1 - x0


@a_pair.misconception(
    "path-and-noise",
    "You return x_t and the noise. The slope of the line is what is added on the way from data to "
    "noise, not the noise itself.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return (1 - t) * x0 + t * x1, x1.clone()


@a_pair.misconception(
    "images-only",
    "t gets three axes of length 1, which fits images (B, C, H, W). Sound has one axis less, and "
    "points two: let x0 say how many.",
)
def flow_pair(x0, x1, t):
    t = t.reshape(-1, 1, 1, 1)
    return (1 - t) * x0 + t * x1, x1 - x0


@a_pair.misconception(
    "velocity-times-t",
    "You give the way from the data to x_t, t (x1 - x0). The velocity is the way per unit of t: "
    "what is left when you take the derivative?",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return (1 - t) * x0 + t * x1, t * (x1 - x0)


@a_pair.misconception(
    "divided-by-t",
    "(x_t - x0) / t is the velocity, but at t = 0, where it is 0 / 0. Both ends of the line are at "
    "hand: you need no division.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    x_t = (1 - t) * x0 + t * x1
    return x_t, (x_t - x0) / t


@a_pair.misconception(
    "v-of-the-circle",
    "This is v of lesson 03, alpha times the noise less sigma times x0. That is the slope of a "
    "path on a circle. Here alpha is 1 - t and sigma is t: what are their derivatives?",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return (1 - t) * x0 + t * x1, (1 - t) * x1 - t * x0


@a_pair.misconception(
    "results-exchanged",
    "Both are right, and have changed places: x_t comes first, then the velocity.",
)
def flow_pair(x0, x1, t):
    t = _t(t, x0)
    return x1 - x0, (1 - t) * x0 + t * x1


@a_pair.alternative("from the start along the slope")
def flow_pair(x0, x1, t):
    velocity = x1 - x0
    while t.ndim < x0.ndim:
        t = t[..., None]
    return x0 + t * velocity, velocity


@a_pair.alternative("by lerp")
def flow_pair(x0, x1, t):
    return torch.lerp(x0, x1, t.view(len(x0), *(1 for _ in x0.shape[1:])).expand_as(x0)), x1.sub(x0)


# --- 15.2 ----------------------------------------------------------------------------------

a_sample = Answers("15.2")


@a_sample.reference
def flow_sample(model, x, n, method="euler"):
    step = 1 / n
    for k in range(n, 0, -1):
        t = torch.full((len(x),), k * step, dtype=x.dtype)
        slope = model(x, t)
        if method == "midpoint":
            slope = model(x - step / 2 * slope, t - step / 2)
        x = x - step * slope
    return x


def _at(x, t):
    return torch.full((len(x),), t, dtype=x.dtype)


def _right_but_for_the_dtype(got, expected):
    """Whether t has another dtype than x, and all else is right, but for the rounding of times."""
    for g, e in zip(got, expected):
        if g.status != "ok" or type(g.value) is not type(e.value):
            return False
        if isinstance(e.value, dict):
            if g.value != {**e.value, "t has x's dtype": False}:
                return False
            continue
        alike = g.value.shape == e.value.shape and g.value.dtype == e.value.dtype
        if not (alike and torch.allclose(g.value, e.value, rtol=1e-5, atol=1e-5)):
            return False
    return True


@a_sample.misconception(
    "from-data-to-noise",
    "Your time rises from 0 to 1: you start as if x were data and walk to noise. Sampling begins "
    "at t = 1.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x + slope / (2 * n), _at(x, t + 0.5 / n))
        x = x + slope / n
    return x


@a_sample.misconception(
    "whole-step-away",
    "The whole step goes along the velocity, towards growing t and so towards noise. You walk the "
    "other way, as in your half step.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x + slope / n
    return x


@a_sample.misconception(
    "time-rises",
    "You walk from noise to data, and tell the network times from 0 to 1. It has to be told where "
    "x is: t = 1 first.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "whole-step-to-the-middle",
    "You ask for the slope in the middle at a place that is a whole step on. Go half a step.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / n, _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "half-as-many-steps",
    "With the midpoint method you make n / 2 steps, so that both methods cost n calls. n is the "
    "number of steps; the midpoint method makes 2n calls.",
)
def flow_sample(model, x, n, method="euler"):
    n = max(1, n // 2) if method == "midpoint" else n
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "wrong-sign",
    "Time falls in yours, but you add the velocity. It points towards growing t, that is towards "
    "noise; you walk the other way.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x + slope / (2 * n), _at(x, t - 0.5 / n))
        x = x + slope / n
    return x


@a_sample.misconception(
    "half-step-not-made",
    "For the second slope you change the time and not the place: x is still where the step began. "
    "Go half a step with the first slope, and ask there.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x, _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "time-of-the-start",
    "The second slope is asked for half a step on, but at the time where the step began. Place and "
    "time belong together.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t))
        x = x - slope / n
    return x


@a_sample.misconception(
    "goes-on-from-the-middle",
    "After the half step you make a whole one from there, so that you come half a step too far. "
    "The whole step begins where the half one did.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            x = x - slope / (2 * n)
            slope = model(x, _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "two-half-steps",
    "You make two Euler steps of half the size. That costs as much as the midpoint method, and is "
    "of first order: it uses the first slope for the first half of the way. (To average the two "
    "slopes is the same.) The midpoint method makes the whole step with the second slope.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        if method == "midpoint":
            x = x - model(x, _at(x, t)) / (2 * n)
            x = x - model(x, _at(x, t - 0.5 / n)) / (2 * n)
        else:
            x = x - model(x, _at(x, t)) / n
    return x


@a_sample.misconception(
    "mean-of-both-ends",
    "You average the slopes at both ends of the step. That is Heun's method (lesson 06), of second "
    "order too, but not what was asked for, and it asks the network at t = 0.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = (slope + model(x - slope / n, _at(x, t - 1 / n))) / 2
        x = x - slope / n
    return x


@a_sample.misconception(
    "time-of-the-end",
    "Each step uses the velocity at the time where it ends. Euler's takes that where it begins: "
    "t = 1 first, and never t = 0.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = (k - 1) / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "one-step-too-few",
    "n times, both ends among them, have n - 1 gaps. n steps need n + 1 times, of which the last "
    "is where you arrive.",
)
def flow_sample(model, x, n, method="euler"):
    times = torch.linspace(1, 0, n).tolist()
    for t, then in pairwise(times):
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x + (then - t) / 2 * slope, _at(x, (t + then) / 2))
        x = x + (then - t) * slope
    return x


@a_sample.misconception(
    "method-ignored",
    "method='midpoint' gives what Euler's gives: the second slope is not asked for.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        x = x - model(x, _at(x, k / n)) / n
    return x


@a_sample.misconception(
    "changes-the-start",
    "The samples are right, but the noise that you were given is gone: x is changed in place. "
    "Whoever wants to draw from the same noise again cannot.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        slope = model(x, _at(x, k / n))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, (k - 0.5) / n))
        x -= slope / n
    return x


@a_sample.misconception(
    "one-number-for-t",
    "The samples are right, but the model gets a plain number for t. It wants one time for each "
    "sample, a tensor (B,), as a network's embedding does.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        slope = model(x, k / n)
        if method == "midpoint":
            slope = model(x - slope / (2 * n), (k - 0.5) / n)
        x = x - slope / n
    return x


@a_sample.misconception(
    "t-of-another-dtype",
    "Your t is float32 whatever x is. torch makes float32 of Python's numbers unless told "
    "otherwise; with x in float64 the times are rounded. Give t the dtype of x.",
    detect=lambda got, expected, cases: _right_but_for_the_dtype(got, expected),
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = torch.full((len(x),), k / n)
        slope = model(x, t)
        if method == "midpoint":
            slope = model(x - slope / (2 * n), t - 0.5 / n)
        x = x - slope / n
    return x


@a_sample.misconception(
    "half-step-towards-noise",
    "Your half step goes along the velocity, towards noise, and the whole step against it. Both "
    "lead the same way: the middle lies between where the step begins and where it ends.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x + slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "half-a-unit",
    "Your half step is half of the velocity, as if the whole step had length 1. The step is 1 / n: "
    "how long is half of it?",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / 2, _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "step-of-length-1",
    "Each of your n steps goes as far as all of them together should: the velocity is taken whole. "
    "It is way per unit of t, and a step lasts 1 / n.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope
    return x


@a_sample.misconception(
    "one-step-too-many",
    "You make n + 1 steps: another one begins at t = 0, where you have arrived already. (A loop "
    "while t > 0 does the same, where rounding leaves a little of t.)",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, -1, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t - 0.5 / n))
        x = x - slope / n
    return x


@a_sample.misconception(
    "middle-looked-for-later",
    "For the middle you add half a step to t. Time falls on the way from noise to data: the middle "
    "of a step is nearer to 0 than its beginning.",
)
def flow_sample(model, x, n, method="euler"):
    for k in range(n, 0, -1):
        t = k / n
        slope = model(x, _at(x, t))
        if method == "midpoint":
            slope = model(x - slope / (2 * n), _at(x, t + 0.5 / n))
        x = x - slope / n
    return x


@a_sample.alternative("by pairs of times")
def flow_sample(model, x, n, method="euler"):
    times = torch.linspace(1, 0, n + 1, dtype=torch.float64)
    for t, then in pairwise(times):
        span = float(then - t)
        now = x.new_full((x.shape[0],), float(t))
        slope = model(x, now)
        if method != "euler":
            slope = model(x + span / 2 * slope, now + span / 2)
        x = x + span * slope
    return x


@a_sample.alternative("with a function for the step")
def flow_sample(model, x, n, method="euler"):
    def velocity(place, time):
        return model(place, time * torch.ones(len(place), dtype=place.dtype))

    def euler(place, time):
        return place - velocity(place, time) / n

    def midpoint(place, time):
        middle = place - 0.5 * velocity(place, time) / n
        return place - velocity(middle, time - 0.5 / n) / n

    step = {"euler": euler, "midpoint": midpoint}[method]
    for k in range(n):
        x = step(x, (n - k) / n)
    return x


# --- 15.3 ----------------------------------------------------------------------------------

a_patches = Answers("15.3")


@a_patches.reference
def patchify(x, patch):
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), mode="replicate")
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    x = x.reshape(b, c, rows, patch, columns, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, rows * columns, c * patch * patch)


@a_patches.reference
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    x = x.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


def _padded(x, patch, **how):
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), **(how or {"mode": "replicate"}))
    return x.reshape(b, c, x.shape[2] // patch, patch, x.shape[3] // patch, patch)


def _tokens(x, order):
    x = x.permute(order)
    return x.reshape(len(x), x.shape[1] * x.shape[2], -1)


@a_patches.misconception(
    "only-reshaped",
    "A reshape alone takes numbers in the order in which they stand in memory: row by row of the "
    "whole picture, so that a token is a strip and no patch. Split the axes first, then permute.",
)
def patchify(x, patch):
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), mode="replicate")
    return x.reshape(b, x.shape[2] * x.shape[3] // patch**2, c * patch**2)


@a_patches.misconception(
    "channels-last",
    "Within a token your channels change fastest. The order asked for is channel, row, column: all "
    "of red, then all of green, then all of blue.",
)
def patchify(x, patch):
    return _tokens(_padded(x, patch), (0, 2, 4, 3, 5, 1))


@a_patches.misconception(
    "column-by-column",
    "Your patches come column by column. The order asked for is that of reading: row by row.",
)
def patchify(x, patch):
    return _tokens(_padded(x, patch), (0, 4, 2, 1, 3, 5))


@a_patches.misconception(
    "patches-turned",
    "Within a patch rows and columns are exchanged: each little picture lies on its side.",
)
def patchify(x, patch):
    return _tokens(_padded(x, patch), (0, 2, 4, 1, 5, 3))


@a_patches.misconception(
    "edges-cut-off",
    "Sizes that patch does not divide lose their last rows and columns. Then no network can draw "
    "them. Pad instead.",
)
def patchify(x, patch):
    h, w = x.shape[2:]
    x = x[:, :, : h // patch * patch, : w // patch * patch]
    return _tokens(_padded(x, patch), (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "padded-with-zeros",
    "You pad with zeros: grey in the range [-1, 1]. A grey line along the edge is something that "
    "the data never have. Repeat the last row and the last column.",
)
def patchify(x, patch):
    return _tokens(_padded(x, patch, value=0.0), (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "padded-at-the-top",
    "You pad at the top and the left. What is asked for is the bottom and the right, so that the "
    "first patch is the picture's first corner. F.pad takes (left, right, top, bottom).",
)
def patchify(x, patch):
    _, _, h, w = x.shape
    x = F.pad(x, (-w % patch, 0, -h % patch, 0), mode="replicate")
    return _tokens(_padded(x, patch), (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "back-only-reshaped",
    "patchify is right, but on the way back you only reshape. What was permuted has to be permuted "
    "back.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


@a_patches.misconception(
    "back-from-channels-last",
    "unpatchify reads a token as row, column, channel. patchify writes it as channel, row, column.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, patch, patch, -1)
    x = x.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


@a_patches.misconception(
    "back-turned",
    "unpatchify puts the patches in the right places, each with its rows and columns exchanged.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    x = x.permute(0, 3, 1, 5, 2, 4).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


@a_patches.misconception(
    "padding-left-in",
    "unpatchify gives back the padded picture. Cut it to the size that it is given.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)


@a_patches.misconception(
    "not-padded",
    "You do not pad. Where patch does not divide a side, a reshape finds too few numbers and stops "
    "with an error. Add rows and columns first.",
)
def patchify(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return _tokens(x, (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "sides-exchanged",
    "You add to the rows what the columns lack, and the other way round. F.pad begins with the "
    "last axis: (left, right, top, bottom).",
)
def patchify(x, patch):
    h, w = x.shape[2:]
    x = F.pad(x, (0, -h % patch, 0, -w % patch), mode="replicate")
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return _tokens(x, (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "padded-where-it-divides",
    "You pad by a whole patch where patch divides the side. Nothing is lacking there: what is "
    "patch - H % patch when H % patch is 0?",
)
def patchify(x, patch):
    h, w = x.shape[2:]
    x = F.pad(x, (0, patch - w % patch, 0, patch - h % patch), mode="replicate")
    return _tokens(_padded(x, patch), (0, 2, 4, 1, 3, 5))


@a_patches.misconception(
    "every-other-pixel",
    "You split an axis into (patch, rows), so that a patch holds pixels far apart from each other. "
    "The part that changes fastest stands last: neighbours belong to one patch.",
)
def patchify(x, patch):
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), mode="replicate")
    x = x.reshape(b, c, patch, x.shape[2] // patch, patch, x.shape[3] // patch)
    return _tokens(x, (0, 3, 5, 1, 2, 4))


@a_patches.misconception(
    "tokens-last",
    "You return (B, numbers, N), as F.unfold gives it. A token's numbers come last: (B, N, C * "
    "patch * patch).",
)
def patchify(x, patch):
    return _tokens(_padded(x, patch), (0, 2, 4, 1, 3, 5)).transpose(1, 2)


@a_patches.misconception(
    "channel-by-channel",
    "With several channels your tokens hold patches of one channel each: the channel stands before "
    "the rows and columns of patches. Bring it behind them before you reshape.",
)
def patchify(x, patch):
    split = _padded(x, patch).permute(0, 1, 2, 4, 3, 5)
    return split.reshape(len(x), -1, x.shape[1] * patch**2)


@a_patches.misconception(
    "back-in-the-order-of-there",
    "unpatchify permutes as patchify does. The way back needs the inverse: its axes are rows, "
    "columns, channel, row, column, and wanted is channel, then rows and row, columns and column.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    x = x.permute(0, 2, 4, 1, 3, 5).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


@a_patches.misconception(
    "back-column-by-column",
    "unpatchify lays the patches down column by column. patchify takes them up row by row.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), columns, rows, -1, patch, patch)
    x = x.permute(0, 3, 2, 4, 1, 5).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


@a_patches.misconception(
    "back-rounded-down",
    "unpatchify rounds the number of rows and columns of patches down. There are as many tokens as "
    "the padded picture has patches: round up.",
)
def unpatchify(tokens, size, patch):
    rows, columns = (n // patch for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    x = x.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]


def _fold_there(x, patch):
    _, _, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), mode="replicate")
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def _fold_back(tokens, size, patch):
    whole = [n + -n % patch for n in size]
    x = F.fold(tokens.transpose(1, 2), whole, patch, stride=patch)
    return x[:, :, : size[0], : size[1]]


a_patches.alternative(
    "by unfold and fold", defines={"patchify": _fold_there, "unpatchify": _fold_back}
)


def _loop_there(x, patch):
    h, w = x.shape[2:]
    x = torch.cat([x, x[:, :, -1:].repeat(1, 1, -h % patch, 1)], 2)
    x = torch.cat([x, x[..., -1:].repeat(1, 1, 1, -w % patch)], 3)
    tokens = [
        x[:, :, r : r + patch, c : c + patch].flatten(1)
        for r in range(0, h, patch)
        for c in range(0, w, patch)
    ]
    return torch.stack(tokens, 1)


def _loop_back(tokens, size, patch):
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.new_empty(len(tokens), tokens.shape[2] // patch**2, rows * patch, columns * patch)
    for k in range(rows * columns):
        r, c = divmod(k, columns)
        place = x[:, :, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
        place.copy_(tokens[:, k].reshape(place.shape))
    return x[:, :, : size[0], : size[1]].contiguous()


a_patches.alternative("patch by patch", defines={"patchify": _loop_there, "unpatchify": _loop_back})


# --- 15.4 ----------------------------------------------------------------------------------

a_block = Answers("15.4")


@a_block.reference
class DiTBlock(nn.Module):
    def __init__(self, dim, emb_dim, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Linear(emb_dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def attend(self, x):
        b, n, dim = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).reshape(b, n, dim))

    def forward(self, x, emb):
        parts = self.modulation(F.silu(emb))[:, None].chunk(6, dim=2)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        x = x + gate_a * self.attend(self.norm1(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)


def _parts(block, emb):
    return block.modulation(F.silu(emb))[:, None].chunk(6, dim=2)


def _wrong(name, says, forward=None, prepare=None):
    """A mistake that is the reference with another ``forward`` or another start."""

    class DiTBlock(a_block.reference_defines["DiTBlock"]):
        def __init__(self, *args):
            super().__init__(*args)
            if prepare:
                prepare(self)

    if forward:
        DiTBlock.forward = forward
    a_block.misconception(name, says, defines={"DiTBlock": DiTBlock})


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + (1 + ga) * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + (1 + gm) * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "gate-open-at-the-start",
    "Your gates are 1 + gate. The scale is written so, because 1 changes nothing there; a gate "
    "that begins at 1 lets everything through, and a deep network of such blocks starts at random.",
    _forward,
)


def _forward(self, x, emb):
    ca, sa, ga, cm, sm, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "shift-and-scale-swapped",
    "You take the first part for the scale and the second for the shift. A network trained so "
    "would learn as well; one trained by others would draw noise with your code. The order asked "
    "for is shift, scale, gate.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * ca + sa)
    return x + gm * self.mlp(self.norm2(x) * cm + sm)


_wrong(
    "scale-without-one",
    "You multiply by the scale itself. It starts at zero, so that the block would see nothing of "
    "its tokens, and no gradient would come back to it: multiply by 1 + scale.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "no-shortcut",
    "What came in is not added again. With closed gates the block then gives zeros, and everything "
    "is lost at the first one.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = ga * (x + self.attend(self.norm1(x) * (1 + ca) + sa))
    return gm * (x + self.mlp(self.norm2(x) * (1 + cm) + sm))


_wrong(
    "gate-on-the-shortcut",
    "The gate multiplies the shortcut too. It must only hold back what the branch adds: x passes "
    "whatever the gate says.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    a = self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + ga * a + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "branches-side-by-side",
    "Both branches start from the block's input. The second one should see what the first has "
    "made. (There are networks with branches side by side; this is not one.)",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, _, _, _ = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + ga * self.mlp(self.norm2(x) * (1 + ca) + sa)


_wrong(
    "one-steering-for-both",
    "Both branches use the first three parts. The other three are for the small network.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = self.modulation(emb)[:, None].chunk(6, dim=2)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "emb-without-silu",
    "emb goes into modulation as it is. What is asked for is SiLU(emb), as in the residual block "
    "of lesson 04.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend(x * (1 + ca) + sa)
    return x + gm * self.mlp(x * (1 + cm) + sm)


_wrong(
    "not-normalised",
    "The tokens are shifted and scaled without being normalised before. norm1 and norm2 are there "
    "for that.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x * (1 + ca) + sa))
    return x + gm * self.mlp(self.norm2(x * (1 + cm) + sm))


_wrong(
    "normalised-after-steering",
    "You normalise after shifting and scaling, which takes most of both away again.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, _, sm, cm, _ = _parts(self, emb)
    x = x + self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "gates-not-used",
    "The gates are computed and not used. They make the block pass its tokens on unchanged at the "
    "start, and open as training goes on.",
    _forward,
)


_wrong(
    "not-zero-at-the-start",
    "modulation begins with torch's random numbers, so that the gates are open from the start. Set "
    "both its weight and its bias to zero.",
    prepare=lambda block: block.modulation.reset_parameters(),
)


def _bias_only(block):
    block.modulation.reset_parameters()
    nn.init.zeros_(block.modulation.bias)


_wrong(
    "only-the-weight-zero",
    "The weight of modulation is zero at the start, the bias is not: the gates are open by as much "
    "as it says. A linear layer has both.",
    prepare=lambda block: nn.init.constant_(block.modulation.bias, 0.3),
)


_wrong(
    "attention-zero-at-the-start",
    "More is zero than was asked for. modulation alone starts at zero: the gates close the block, "
    "and proj keeps its numbers, or no gradient would come back through it.",
    prepare=lambda block: nn.init.zeros_(block.proj.weight),
)


def _forward(self, x, emb):
    sm, cm, gm, sa, ca, ga = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "branches-swapped",
    "The first three vectors go to the mlp in yours, the last three to the attention. It is the "
    "other way round.",
    _forward,
)


def _forward(self, x, emb):
    ga, sa, ca, gm, sm, cm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "gate-taken-first",
    "You take the first of three vectors for the gate. The order is shift, scale, gate.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend((self.norm1(x) + sa) * (1 + ca))
    return x + gm * self.mlp((self.norm2(x) + sm) * (1 + cm))


_wrong(
    "shifted-before-scaled",
    "You add the shift first and multiply then, so that the shift is scaled too.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(x * (1 + cm) + sm)


_wrong("no-second-norm", "norm2 is not used: the mlp gets tokens as they are.", _forward)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = F.silu(self.modulation(emb))[:, None].chunk(6, dim=2)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "silu-too-late",
    "SiLU stands behind modulation in yours. It belongs before it, on emb.",
    _forward,
)


def _forward(self, x, emb):
    parts = self.modulation(F.silu(emb)).reshape(len(x), 1, -1, 6)
    sa, ca, ga, sm, cm, gm = parts.unbind(3)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "every-sixth",
    "You take every sixth number for a vector. The six vectors stand one behind the other: the "
    "first dim numbers are the shift of the attention.",
    _forward,
)


_wrong(
    "only-the-bias-zero",
    "The bias of modulation is zero at the start, the weight is not: the gates are open for every "
    "emb but zero.",
    prepare=_bias_only,
)


def _gates_only(block):
    block.modulation.reset_parameters()
    dim = block.modulation.out_features // 6
    with torch.no_grad():
        for k in (2, 5):
            block.modulation.weight[k * dim : (k + 1) * dim] = 0
            block.modulation.bias[k * dim : (k + 1) * dim] = 0


_wrong(
    "only-the-gates-zero",
    "Only the rows of the gates are zero. That closes the block, too; but what is asked for is "
    "that all of modulation starts at zero, shift and scale as well.",
    prepare=_gates_only,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = self.modulation(F.silu(emb)).chunk(6, dim=1)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "no-axis-for-the-tokens",
    "The six vectors are (B, dim) in yours, and meet tokens (B, N, dim): B meets N. Where both are "
    "the same number it runs and is wrong; elsewhere it crashes. Give them an axis of length 1.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    h = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(h) * (1 + cm) + sm)


_wrong(
    "second-shortcut-from-the-input",
    "The result of the mlp is added to the block's input, and what the attention has made is lost. "
    "The second shortcut begins behind the first branch.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    h = self.norm1(x) * (1 + ca) + sa
    x = h + ga * self.attend(h)
    h = self.norm2(x) * (1 + cm) + sm
    return h + gm * self.mlp(h)


_wrong(
    "shortcut-behind-the-norm",
    "Your shortcuts carry the normalised and steered tokens. They carry x as it came in: norm and "
    "steering are for the branch alone.",
    _forward,
)


def _forward(self, x, emb):
    sa, ca, ga, sm, cm, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "no-second-shortcut",
    "The first branch is added to what came in, the second replaces it. With closed gates nothing "
    "comes through: what came in is added both times.",
    _forward,
)


def _forward(self, x, emb):
    sa, sm, ca, cm, ga, gm = _parts(self, emb)
    x = x + ga * self.attend(self.norm1(x) * (1 + ca) + sa)
    return x + gm * self.mlp(self.norm2(x) * (1 + cm) + sm)


_wrong(
    "two-of-each-in-turn",
    "You take both shifts first, then both scales, then both gates. The order is that of the "
    "branches: three vectors for the attention, then three for the mlp.",
    _forward,
)


@a_block.alternative("six at a time, written out")
class DiTBlock(a_block.reference_defines["DiTBlock"]):
    def forward(self, x, emb):
        dim = x.shape[-1]
        steer = self.modulation(emb * torch.sigmoid(emb)).reshape(len(x), 6, 1, dim)
        for k, (norm, part) in enumerate(((self.norm1, self.attend), (self.norm2, self.mlp))):
            shift, scale, gate = steer[:, 3 * k : 3 * k + 3].unbind(1)
            h = norm(x)
            x = x + gate * part(h + h * scale + shift)
        return x


@a_block.alternative("attention by hand")
class DiTBlock(a_block.reference_defines["DiTBlock"]):
    def __init__(self, dim, emb_dim, heads=4):
        super().__init__(dim, emb_dim, heads)
        for p in self.modulation.parameters():
            p.data.zero_()

    def attend(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (a.view(b, n, self.heads, -1).transpose(1, 2) for a in (q, k, v))
        share = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return self.proj((share @ v).transpose(1, 2).flatten(2))

    def forward(self, x, emb):
        steer = self.modulation(F.silu(emb)).unsqueeze(1)
        sa, ca, ga, sm, cm, gm = torch.tensor_split(steer, 6, dim=-1)
        x = torch.addcmul(x, ga, self.attend(torch.addcmul(sa, self.norm1(x), 1 + ca)))
        return torch.addcmul(x, gm, self.mlp(torch.addcmul(sm, self.norm2(x), 1 + cm)))


# --- 15.5 ----------------------------------------------------------------------------------

a_times = Answers("15.5")


@a_times.reference
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(batch, generator=generator))


@a_times.misconception(
    "uniform",
    "Your times are uniform. That is a fine choice, too; here the middle shall come more often.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.rand(batch, generator=generator).clamp(1e-6, 1 - 1e-6)


@a_times.misconception(
    "outside",
    "Your numbers are normal, and not times: some lie below 0 or above 1. Something must still map "
    "them into (0, 1).",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return mean + std * torch.randn(batch, generator=generator)


@a_times.misconception(
    "clamped",
    "You cut off what lies outside. So a large share of all times is exactly 0 or exactly 1, where "
    "there is nothing to learn. Map the whole line into (0, 1) instead.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return (mean + std * torch.randn(batch, generator=generator)).clamp(0, 1)


@a_times.misconception(
    "std-and-mean-ignored",
    "mean and std change nothing in yours.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(torch.randn(batch, generator=generator))


@a_times.misconception(
    "added-before-multiplied",
    "You add the mean first and multiply then, so that the mean is multiplied too.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(std * (mean + torch.randn(batch, generator=generator)))


@a_times.misconception(
    "variance-for-deviation",
    "You multiply by the root of std. It is the deviation already, not the variance.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std**0.5 * torch.randn(batch, generator=generator))


@a_times.misconception(
    "moved-after-the-sigmoid",
    "You move and stretch the times after the sigmoid. Then they leave (0, 1), and their logit is "
    "not normal. Both come before it.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return mean + std * torch.sigmoid(torch.randn(batch, generator=generator))


@a_times.misconception(
    "mirrored",
    "Your times are mirrored: a mean above 0 moves them towards data. It should move them towards "
    "noise, t = 1.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(-(mean + std * torch.randn(batch, generator=generator)))


@a_times.misconception(
    "generator-ignored",
    "The draw does not use the generator, so the same seed gives other times: pass "
    "generator=generator.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.randn(batch))


@a_times.misconception(
    "one-for-all",
    "All samples of a batch share one time. Draw one for each.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    z = torch.randn(1, generator=generator)
    return torch.sigmoid(mean + std * z).repeat(batch)


@a_times.misconception(
    "std-ignored",
    "std changes nothing in yours: the mean is added, but the normal number is not multiplied.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + torch.randn(batch, generator=generator))


@a_times.misconception(
    "mean-ignored",
    "mean changes nothing in yours.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(std * torch.randn(batch, generator=generator))


@a_times.misconception(
    "rand-for-randn",
    "You put a uniform number into the sigmoid: torch.rand is uniform in [0, 1), torch.randn is "
    "normal. So your times never come near 0 or 1.",
)
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std * torch.rand(batch, generator=generator))


@a_times.alternative("by torch.normal")
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    z = torch.normal(float(mean), float(std), (batch,), generator=generator)
    return 1 / (1 + torch.exp(-z))


@a_times.alternative("by quantiles")
def logit_normal_t(batch, generator=None, mean=0.0, std=1.0):
    u = torch.rand(batch, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    return torch.sigmoid(torch.special.ndtri(u) * std + mean).float()


# --- 15.6 ----------------------------------------------------------------------------------

a_pieces = Answers("15.6")


@a_pieces.reference
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in zip(*(a.split(size) for a in batch)):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def _pieces(batch, size):
    return list(zip(*(a.split(size) for a in batch)))


@a_pieces.misconception(
    "not-divided",
    "The gradients of all pieces are added up as they are: with four pieces the step goes four "
    "times as far as with the whole batch at once. The loss of a batch is the mean over its "
    "samples.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "loss-divided-only",
    "The number that you return is right, the step is not: the gradients are added up undivided. "
    "Weigh each loss before backward().",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece)
        loss.backward()
        total += loss.item() * len(piece[0]) / len(batch[0])
    optimizer.step()
    return total


@a_pieces.misconception(
    "mean-of-means",
    "You divide by the number of pieces. If the last piece is smaller, its samples count more than "
    "the others. Weigh each piece by how many samples it has.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total, pieces = 0.0, _pieces(batch, size)
    for piece in pieces:
        loss = loss_fn(model, *piece) / len(pieces)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "by-size-of-a-full-piece",
    "You weigh every piece as if it had size samples. A last piece that is smaller weighs less.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (size / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "last-piece-dropped",
    "Samples that do not fill a piece are left out, and the rest is weighed as if it were all. "
    "Use every sample once.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    pieces = [p for p in _pieces(batch, size) if len(p[0]) == size] or _pieces(batch, size)
    count = sum(len(p[0]) for p in pieces)
    for piece in pieces:
        loss = loss_fn(model, *piece) * (len(piece[0]) / count)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "cleared-between-pieces",
    "The gradients are cleared before each piece, so that only the last one is left for the step. "
    "Clear them once, before the first.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    total = 0.0
    for piece in _pieces(batch, size):
        optimizer.zero_grad()
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "a-step-for-each-piece",
    "You make a step after each piece: those are small batches, one after the other. One step, "
    "when all gradients are there.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    total = 0.0
    for piece in _pieces(batch, size):
        optimizer.zero_grad()
        loss = loss_fn(model, *piece)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(piece[0]) / len(batch[0])
    return total


@a_pieces.misconception(
    "old-gradients",
    "The gradients of the batch before are still in the sum. backward() adds, so clear them once "
    "before the first piece.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "loss-of-the-last-piece",
    "The step is right; what you return is the loss of the last piece alone.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece)
        (loss * (len(piece[0]) / len(batch[0]))).backward()
    optimizer.step()
    return loss.item()


@a_pieces.misconception(
    "all-at-once",
    "The whole batch goes through the network at once. The step is right, but it needs the memory "
    "that we do not have: at most size samples at a time.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    loss = loss_fn(model, *batch)
    loss.backward()
    optimizer.step()
    return loss.item()


@a_pieces.misconception(
    "one-graph-for-all",
    "You add up the losses and go backward once. Until then the values inside the network are kept "
    "for every piece, which is as much memory as the batch at once. Go backward piece by piece.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        total = total + loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
    total.backward()
    optimizer.step()
    return total.item()


@a_pieces.misconception(
    "returns-a-tensor",
    "The step is right; what you return is a tensor. A plain number is asked for: item() gives it.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total = total + loss.detach()
    optimizer.step()
    return total


@a_pieces.misconception(
    "part-of-the-last-piece",
    "The step is right; what you return is the last piece's part of the loss. Add up the parts of "
    "all pieces.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
    optimizer.step()
    return loss.item()


@a_pieces.misconception(
    "no-step",
    "The weights do not move. Does the optimizer make a step, and are the gradients still there "
    "when it does?",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    return total


@a_pieces.misconception(
    "size-pieces",
    "You make size pieces. size is how many samples a piece may have.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    return a_pieces.reference_defines["accumulated_step"](
        model, optimizer, loss_fn, batch, -(-len(batch[0]) // size)
    )


@a_pieces.misconception(
    "cleared-after-the-step",
    "You clear the gradients after the step, and not before it. What was there when you were "
    "called counts in the first step: clear it before the first piece.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    optimizer.zero_grad()
    return total


@a_pieces.misconception(
    "sum-of-means-returned",
    "The step is right; what you return is the sum of the means of all pieces. Weigh each as you "
    "weigh it for the gradient.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece)
        (loss * (len(piece[0]) / len(batch[0]))).backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.misconception(
    "mean-of-means-returned",
    "The step is right; what you return is the mean of the pieces' means, in which a smaller last "
    "piece counts as much as the others. Weigh each by its samples.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    losses = []
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece)
        (loss * (len(piece[0]) / len(batch[0]))).backward()
        losses.append(loss.item())
    optimizer.step()
    return sum(losses) / len(losses)


@a_pieces.misconception(
    "not-divided-by-the-batch",
    "You weigh each piece by its number of samples, and divide only what you return by that of the "
    "batch. The gradients are those of a sum, N times too large: divide before backward().",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total = 0.0
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) * len(piece[0])
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total / len(batch[0])


@a_pieces.misconception(
    "pieces-rounded-down",
    "You divide by N // size, which leaves out a last piece that is smaller; and its samples count "
    "more than the others. Weigh each piece by how many samples it has.",
)
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad()
    total, pieces = 0.0, max(1, len(batch[0]) // size)
    for piece in _pieces(batch, size):
        loss = loss_fn(model, *piece) / pieces
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@a_pieces.alternative("by places")
def accumulated_step(model, optimizer, loss_fn, batch, size):
    n = batch[0].shape[0]
    for p in model.parameters():
        p.grad = None
    losses = []
    for start in range(0, n, size):
        part = [a[start : start + size] for a in batch]
        share = part[0].shape[0] / n
        loss = loss_fn(model, *part)
        (share * loss).backward()
        losses.append(share * loss.item())
    optimizer.step()
    return sum(losses)


@a_pieces.alternative("divided at the end")
def accumulated_step(model, optimizer, loss_fn, batch, size):
    optimizer.zero_grad(set_to_none=False)
    n, total = len(batch[0]), 0.0
    pieces = -(-n // size)
    for k in range(pieces):
        rows = torch.arange(n)[k::pieces]
        loss = loss_fn(model, *(a[rows] for a in batch)) * len(rows)
        loss.backward()
        total += loss.item()
    for p in model.parameters():
        p.grad /= n
    optimizer.step()
    return total / n


# --- 15.7 ----------------------------------------------------------------------------------

a_shard = Answers("15.7")


@a_shard.reference
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    return mixed[: len(indices) // world * world][rank::world]


def _even_steps(indices, epoch):
    """Whether all shares go through the file in steps of one width, from its end to its start."""
    place = {int(v): i for i, v in enumerate(indices)}
    steps = {(place[b] - place[a]) % len(place)
             for share in epoch for a, b in pairwise(share.tolist())}  # fmt: skip
    return len(steps) == 1


def _facts(case, value):
    """What is wrong with the shares of a case, as words; how exactly they are mixed counts not."""
    indices, world, _ = case.args
    each, wrong = len(indices) // world, set()
    shares = value["shares"]
    for epoch in shares:
        if not all(isinstance(s, torch.Tensor) and s.ndim == 1 for s in epoch):
            return {"type"}
        together = torch.cat(epoch)
        if any(len(s) != each for s in epoch):
            wrong.add("unequal" if any(len(s) < len(epoch[0]) for s in epoch) else "larger")
        if not bool(torch.isin(together, indices).all()):
            wrong.add("strange")
        elif len(together.unique()) < len(together):
            apart = world > 1 and all(torch.equal(a[1:], b[:-1]) for a, b in pairwise(epoch))
            wrong.add("one apart" if apart else "twice")
    if not all(torch.equal(a, b) for x, y in zip(shares, value["again"]) for a, b in zip(x, y)):
        wrong.add("changing")
    if value["global generator moved"]:
        wrong.add("global")
    if value["indices changed"]:
        wrong.add("in place")
    if not wrong:
        whole = [torch.stack(epoch).T.reshape(-1) for epoch in shares]
        if torch.equal(whole[0], indices[: len(whole[0])]):
            wrong.add("in order")
        elif any(_even_steps(indices, epoch) for epoch in shares):
            wrong.add("in steps")
        members = [[set(s.tolist()) for s in epoch] for epoch in shares]
        if len(shares) > 1:
            if all(torch.equal(whole[0], w) for w in whole):
                wrong.add("same order")
            elif world > 1 and all(m == members[0] for m in members):
                wrong.add("same members")
            elif len(shares) > 2 and len(indices) % world:
                left = [set(indices.tolist()) - set(w.tolist()) for w in whole]
                if all(rest == left[0] for rest in left):
                    wrong.add("same left out")
    return wrong


def _shows(*words):
    """A ``detect``: over all cases, just these things are wrong."""

    def detect(got, expected, cases):
        if not all(o.status == "ok" and isinstance(o.value, dict) for o in got):
            return False
        found = set()
        for case, outcome in zip(cases, got):
            found |= _facts(case, outcome.value)
        return found == set(words)

    return detect


@a_shard.misconception(
    "overlapping",
    "Each worker mixes in its own way, so that some samples are taken by several workers and some "
    "by none. All must begin with the same order: the seed may depend on the epoch alone.",
    detect=_shows("twice"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(1000 * epoch + rank)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    return mixed[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "unequal",
    "Where world does not divide the number of samples, some workers get one more. They would make "
    "a step more than the others, who wait for them for ever. Leave out what is over.",
    detect=_shows("unequal"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    return indices[torch.randperm(len(indices), generator=generator)][rank::world]


@a_shard.misconception(
    "filled-up",
    "You fill up with samples from the beginning, so that all workers get equally many. Then some "
    "samples count twice. Leave out what is over instead: another few in each epoch.",
    detect=_shows("larger", "twice"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    mixed = torch.cat([mixed, mixed[: -len(indices) % world]])
    return mixed[rank::world]


@a_shard.misconception(
    "same-order-each-epoch",
    "Every epoch has the same order: the seed does not depend on the epoch.",
    detect=_shows("same order"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(0)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    return mixed[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "cut-one-apart",
    "The shares of neighbouring workers overlap but for one sample: worker rank begins rank "
    "samples later. It begins rank shares later, or takes every world-th sample.",
    detect=_shows("one apart"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    return mixed[rank : rank + len(indices) // world]


@a_shard.misconception(
    "turned-not-mixed",
    "Each epoch begins at another sample, and goes on in the order of the file. Samples that are "
    "neighbours there stay so, and so do classes. Mix them: torch.randperm.",
    detect=_shows("in steps"),
)
def shard(indices, rank, world, epoch):
    each = len(indices) // world
    return indices.roll(7 * epoch + 3)[rank * each : (rank + 1) * each]


@a_shard.misconception(
    "not-mixed",
    "The samples come in the order of the file, in each epoch. Many files are sorted by class, and "
    "then batches would be, too.",
    detect=_shows("in order", "same order"),
)
def shard(indices, rank, world, epoch):
    return indices[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "mixed-within-the-share",
    "You cut first and mix then: each worker sees its own samples for ever, in another order each "
    "time. Mix all first, so that batches are put together anew.",
    detect=_shows("same members"),
)
def shard(indices, rank, world, epoch):
    mine = indices[: len(indices) // world * world][rank::world]
    generator = torch.Generator().manual_seed(epoch)
    return mine[torch.randperm(len(mine), generator=generator)]


@a_shard.misconception(
    "cut-before-mixing",
    "What is over is cut off before you mix, so that it is the same few samples in every epoch, "
    "and the network never sees them. Mix first.",
    detect=_shows("same left out"),
)
def shard(indices, rank, world, epoch):
    kept = indices[: len(indices) // world * world]
    generator = torch.Generator().manual_seed(epoch)
    return kept[torch.randperm(len(kept), generator=generator)][rank::world]


@a_shard.misconception(
    "global-generator",
    "You mix with torch's global generator. It is in another state in each process, so that the "
    "shares overlap, and asking twice gives two answers. Make one: torch.Generator().manual_seed.",
    detect=_shows("twice", "changing", "global"),
)
def shard(indices, rank, world, epoch):
    mixed = indices[torch.randperm(len(indices))]
    return mixed[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "seeds-the-global-generator",
    "The shares are right, but torch.manual_seed sets the global generator back for everybody: "
    "noise and dropout would repeat in each epoch. Make a generator of its own.",
    detect=_shows("global"),
)
def shard(indices, rank, world, epoch):
    torch.manual_seed(epoch)
    mixed = indices[torch.randperm(len(indices))]
    return mixed[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "places-not-indices",
    "You return places 0, 1, 2, ... and not what stands there. indices may be any: those of a "
    "training split, say.",
    detect=_shows("strange"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    mixed = torch.randperm(len(indices), generator=generator)
    return mixed[: len(indices) // world * world][rank::world]


@a_shard.misconception(
    "mixed-in-place",
    "The shares are right, but indices are mixed in place: the next epoch begins from this one's "
    "order, and a worker that comes to it by another way has another one. Mix a copy.",
    detect=_shows("in place"),
)
def shard(indices, rank, world, epoch):
    generator = torch.Generator().manual_seed(epoch)
    indices[:] = indices[torch.randperm(len(indices), generator=generator)]
    return indices[: len(indices) // world * world][rank::world].clone()


@a_shard.alternative("in blocks")
def shard(indices, rank, world, epoch):
    each = len(indices) // world
    g = torch.Generator()
    g.manual_seed(17 + 31 * epoch)
    order = torch.rand(len(indices), generator=g).argsort()
    return indices[order[rank * each : (rank + 1) * each]]


@a_shard.alternative("by numpy")
def shard(indices, rank, world, epoch):
    import numpy as np

    mixed = np.random.default_rng(epoch).permutation(indices.numpy())
    rest = len(mixed) % world
    return torch.from_numpy(mixed[rest:].reshape(-1, world)[:, rank].copy())


# --- 15.8 ----------------------------------------------------------------------------------

a_mixed = Answers("15.8")


@a_mixed.reference
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    kind = x_t.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=supported(kind)):
        prediction = model(x_t, t)
    loss = (prediction.float() - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _predicted(model, x_t, t, supported, dtype=torch.bfloat16):
    kind = x_t.device.type
    with torch.autocast(kind, dtype=dtype, enabled=supported(kind)):
        return model(x_t, t)


def _down(model, optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_mixed.misconception(
    "loss-in-bfloat16",
    "The loss is computed in bfloat16: the target is brought to the prediction's type, and the "
    "mean of many small squares keeps two or three digits. Bring the prediction to float32.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    prediction = _predicted(model, x_t, t, supported)
    loss = (prediction - target.to(prediction.dtype)).square().mean()
    return _down(model, optimizer, loss)


@a_mixed.misconception(
    "scaler-without-need",
    "You scale the loss up before going backward. float16 needs that, as its smallest numbers are "
    "not small enough for gradients. bfloat16 has the range of float32: leave it out.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    loss = (_predicted(model, x_t, t, supported).float() - target).square().mean()
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler(x_t.device.type)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


@a_mixed.misconception(
    "scaled-and-not-unscaled",
    "The loss is multiplied before backward(), and the gradients are not divided again: the step "
    "is far too long. With bfloat16 there is nothing to scale.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    loss = (_predicted(model, x_t, t, supported).float() - target).square().mean()
    optimizer.zero_grad()
    (1024 * loss).backward()
    optimizer.step()
    return loss.item()


@a_mixed.misconception(
    "weights-in-bfloat16",
    "You turn the network itself into bfloat16. Then the weights have eight bits, and most steps "
    "are too small to change them. autocast makes copies for the products, and the weights stay "
    "as they are.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    if supported(x_t.device.type):
        model.bfloat16()
        x_t, t = x_t.bfloat16(), t.bfloat16()
    loss = (model(x_t, t).float() - target).square().mean()
    return _down(model, optimizer, loss)


@a_mixed.misconception(
    "float16",
    "These are float16: more digits, but a range so small that gradients vanish, which would ask "
    "for a scaled loss. bfloat16 was asked for.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    prediction = _predicted(model, x_t, t, supported, torch.float16)
    return _down(model, optimizer, (prediction.float() - target).square().mean())


@a_mixed.misconception(
    "no-fallback",
    "You use bfloat16 without asking whether the device has it. Where it has not, the run crashes, "
    "or is slower than in float32. supported says it.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    kind = x_t.device.type
    supported(kind)
    with torch.autocast(kind, dtype=torch.bfloat16):
        prediction = model(x_t, t)
    return _down(model, optimizer, (prediction.float() - target).square().mean())


@a_mixed.misconception(
    "all-in-float32",
    "Nothing is computed in bfloat16. Is autocast told the kind of device that the tensors are on, "
    "and is the network called inside the with?",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    supported(x_t.device.type)
    return _down(model, optimizer, (model(x_t, t) - target).square().mean())


@a_mixed.misconception(
    "the-wrong-way-round",
    "It is the other way round: bfloat16 where it is not supported, float32 where it is.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    prediction = _predicted(model, x_t, t, lambda kind: not supported(kind))
    return _down(model, optimizer, (prediction.float() - target).square().mean())


@a_mixed.misconception(
    "gpu-taken-for-granted",
    "You ask about cuda whatever the tensors are on. x_t.device.type says where they are; on a "
    "machine without a GPU that is cpu.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    there = supported("cuda")
    with torch.autocast(x_t.device.type, dtype=torch.bfloat16, enabled=there):
        prediction = model(x_t, t)
    return _down(model, optimizer, (prediction.float() - target).square().mean())


@a_mixed.misconception(
    "old-gradients",
    "The gradients of the step before are still in the sum: clear them before backward().",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    loss = (_predicted(model, x_t, t, supported).float() - target).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_mixed.misconception(
    "returns-the-tensor",
    "The loss comes back as a tensor that holds on to all that made it. Return a plain number.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    loss = (_predicted(model, x_t, t, supported).float() - target).square().mean()
    _down(model, optimizer, loss)
    return loss


@a_mixed.misconception(
    "supported-never-called",
    "You do not ask whether the device has bfloat16: supported is never called. (A function itself "
    "counts as true.) Where there is none, the run crashes, or is slower than in float32.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    prediction = _predicted(model, x_t, t, lambda kind: True)
    return _down(model, optimizer, (prediction.float() - target).square().mean())


@a_mixed.misconception(
    "cuda-written-in",
    "autocast is told cuda wherever the tensors are. On a CPU, as here, it does nothing then: "
    "x_t.device.type is the kind to ask about, and to use.",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    supported("cuda")  # without a GPU autocast warns, and is off
    return _down(model, optimizer, (model(x_t, t) - target).square().mean())


@a_mixed.misconception(
    "weights-do-not-move",
    "The weights do not move. Does the optimizer make a step, and are the gradients still there "
    "when it does?",
)
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    loss = (_predicted(model, x_t, t, supported).float() - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@a_mixed.alternative("an if in place of enabled")
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    device = x_t.device
    optimizer.zero_grad()
    if supported(device.type):
        with torch.amp.autocast(device_type=device.type, dtype=torch.bfloat16):
            prediction = model(x_t, t)
    else:
        prediction = model(x_t, t)
    loss = F.mse_loss(prediction.to(torch.float32), target)
    loss.backward()
    optimizer.step()
    return loss.item()


@a_mixed.alternative("the loss inside, in float32")
def mixed_precision_step(model, optimizer, x_t, t, target, supported):
    for p in model.parameters():
        p.grad = None
    kind = x_t.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=bool(supported(kind))):
        out = model(x_t, t)
        loss = torch.mean((target - out.float()) ** 2)
    loss.backward()
    optimizer.step()
    return float(loss.detach())
