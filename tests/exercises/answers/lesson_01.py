"""Answers of lesson 01: references, named wrong answers, right answers in other words."""

import math

import numpy as np
import torch

from coursework.exercise import Answers

# ------------------------------------------------------------------------------------------ 01.1
a_linear_betas = Answers("01.1")


@a_linear_betas.reference
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start, beta_end, T)


@a_linear_betas.misconception(
    "end-excluded",
    "Your last beta is not beta_end: you divide by T, but T values that include both ends have "
    "only T - 1 gaps.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return beta_start + (beta_end - beta_start) * torch.arange(T) / T


@a_linear_betas.misconception(
    "start-excluded",
    "Your first beta is not beta_start: you count the steps from 1 to T. The first of the T "
    "values is beta_start itself.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return beta_start + (beta_end - beta_start) * torch.arange(1, T + 1) / T


@a_linear_betas.misconception(
    "one-too-many",
    "You return T + 1 values. The linspace of torch counts points, not gaps, and T betas are "
    "wanted.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start, beta_end, T + 1)


@a_linear_betas.misconception(
    "one-too-few",
    "You return T - 1 values. Between T values there are T - 1 gaps, but linspace asks for the "
    "number of values.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start, beta_end, T - 1)


@a_linear_betas.misconception(
    "descending",
    "Your betas run from beta_end down to beta_start. Index 0 is the first step away from the "
    "data, which adds the least noise.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_end, beta_start, T)


@a_linear_betas.misconception(
    "geometric",
    "Your betas grow by equal factors, a straight line only on a logarithmic axis. Equal "
    "differences are wanted.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.exp(torch.linspace(math.log(beta_start), math.log(beta_end), T))


@a_linear_betas.misconception(
    "roots-on-a-line",
    "You put the square roots of beta on a straight line and square them. Some models do use "
    'that (it is called "scaled linear"), but here beta itself is to lie on the line.',
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start**0.5, beta_end**0.5, T) ** 2


@a_linear_betas.misconception(
    "scaled-by-T",
    "You scale both ends by 1000 / T, as some implementations do so that short schedules end as "
    "noisy as long ones. Here the ends are used as they are given.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    scale = 1000 / T
    return torch.linspace(scale * beta_start, scale * beta_end, T)


@a_linear_betas.misconception(
    "what-is-kept",
    "You return 1 - beta, what a step keeps of the variance. beta is what it gives up to noise.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return 1 - torch.linspace(beta_start, beta_end, T)


@a_linear_betas.misconception(
    "arguments-ignored",
    "Your numbers are right for the default ends only: 1e-4 and 0.02 are written into the body, "
    "and the arguments are not used.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(1e-4, 0.02, T)


@a_linear_betas.misconception(
    "float64",
    "The values are right, but their dtype is float64. With float64 betas everything "
    "downstream, networks included, would meet tensors of two dtypes; float32 is wanted.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start, beta_end, T, dtype=torch.float64)


@a_linear_betas.misconception(
    "numpy",
    "You return a numpy array. The values may be right, but a torch tensor is wanted.",
)
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return np.linspace(beta_start, beta_end, T)


@a_linear_betas.alternative("arange")
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    t = torch.arange(T)
    return beta_start + t * (beta_end - beta_start) / (T - 1)


@a_linear_betas.alternative("numpy, converted")
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    return torch.from_numpy(np.linspace(beta_start, beta_end, T)).float()


@a_linear_betas.alternative("loop")
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    betas = []
    for t in range(T):
        share = t / (T - 1)
        betas.append((1 - share) * beta_start + share * beta_end)
    return torch.tensor(betas)


# ------------------------------------------------------------------------------------------ 01.2
a_alpha_bar = Answers("01.2")


@a_alpha_bar.reference
def alpha_bar_from_betas(betas):
    return torch.cumprod(1 - betas, dim=0)


@a_alpha_bar.misconception(
    "sum-for-product",
    "You subtract the running sum of the betas from 1. Each step takes its share of what is "
    "still there, not of the whole, so shares multiply; your sum would soon be below 0.",
)
def alpha_bar_from_betas(betas):
    return 1 - torch.cumsum(betas, dim=0)


@a_alpha_bar.misconception(
    "sum-of-alphas",
    "You add up what the steps keep, and get numbers above 1. A share that is kept of a share "
    "that was kept is a product.",
)
def alpha_bar_from_betas(betas):
    return torch.cumsum(1 - betas, dim=0)


@a_alpha_bar.misconception(
    "product-of-betas",
    "You multiply the betas themselves. beta is what a step replaces by noise; alpha_bar is the "
    "running product of what the steps keep.",
)
def alpha_bar_from_betas(betas):
    return torch.cumprod(betas, dim=0)


@a_alpha_bar.misconception(
    "one-minus-outside",
    "You take the running product of the betas and subtract it from 1. The subtraction belongs "
    "inside the product, one for each step.",
)
def alpha_bar_from_betas(betas):
    return 1 - torch.cumprod(betas, dim=0)


@a_alpha_bar.misconception(
    "exclusive-product",
    "Your product stops one step early: your alpha_bar[0] is 1, as if step 0 added no noise. "
    "alpha_bar[t] includes step t.",
)
def alpha_bar_from_betas(betas):
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, dim=0)[:-1]])


@a_alpha_bar.misconception(
    "extra-one",
    "You put a 1 in front, for the data before any step, and so return T + 1 values. That 1 is "
    "handy in places, but here alpha_bar[t] is what is left after step t, T values.",
)
def alpha_bar_from_betas(betas):
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, dim=0)])


@a_alpha_bar.misconception(
    "root-taken",
    "You return the square root of alpha_bar. That root is what x_0 is multiplied by; alpha_bar "
    "itself counts variance.",
)
def alpha_bar_from_betas(betas):
    return torch.cumprod(torch.sqrt(1 - betas), dim=0)


@a_alpha_bar.misconception(
    "noise-share",
    "You return 1 - alpha_bar, the variance of the noise. alpha_bar is the other part, what is "
    "left of the data.",
)
def alpha_bar_from_betas(betas):
    return 1 - torch.cumprod(1 - betas, dim=0)


@a_alpha_bar.misconception(
    "alpha-alone",
    "You return what each single step keeps. alpha_bar[t] is what is left after all the steps "
    "up to t.",
)
def alpha_bar_from_betas(betas):
    return 1 - betas


@a_alpha_bar.misconception(
    "exponential-of-sum",
    "You use exp(-sum of betas), which is the limit of infinitely many small steps. It is close "
    "while betas are small, and too large when they are not.",
)
def alpha_bar_from_betas(betas):
    return torch.exp(-torch.cumsum(betas, dim=0))


@a_alpha_bar.misconception(
    "last-only",
    "You return one number, what is left after all T steps. Every step wants its own: a running "
    "product.",
)
def alpha_bar_from_betas(betas):
    return torch.prod(1 - betas)


@a_alpha_bar.misconception(
    "reversed",
    "Your product runs from the last step backwards. alpha_bar[t] takes the steps from 0 to t.",
)
def alpha_bar_from_betas(betas):
    return torch.flip(torch.cumprod(torch.flip(1 - betas, (0,)), dim=0), (0,))


@a_alpha_bar.alternative("running logarithm")
def alpha_bar_from_betas(betas):
    return torch.exp(torch.cumsum(torch.log1p(-betas), dim=0))


@a_alpha_bar.alternative("loop")
def alpha_bar_from_betas(betas):
    left, out = 1.0, []
    for beta in betas:
        left = left * (1 - beta)
        out.append(left)
    return torch.stack(out)


@a_alpha_bar.alternative("in float64, returned as it came")
def alpha_bar_from_betas(betas):
    return torch.cumprod(1 - betas.double(), dim=-1).to(betas.dtype)


@a_alpha_bar.alternative("numpy, converted")
def alpha_bar_from_betas(betas):
    return torch.from_numpy(np.cumprod(1 - betas.numpy()))


# ------------------------------------------------------------------------------------------ 01.3
a_cosine = Answers("01.3")


@a_cosine.reference
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "square-forgotten",
    "You return the cosine without its square. The squared cosine is the part of the variance "
    "that is data; the cosine alone would be its root.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    return torch.cos((t + s) / (1 + s) * math.pi / 2) / math.cos(s / (1 + s) * math.pi / 2)


@a_cosine.misconception(
    "not-divided",
    "Your alpha_bar at t = 0 is a little below 1, because s moves the start of the curve. Divide "
    "by the value at 0, so that no time means no noise.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    return torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "s-forgotten",
    "You have no s: the angle is t times pi/2. The small s keeps the first steps from adding "
    "almost no noise at all.",
)
def cosine_alpha_bar(t, s=0.008):
    return torch.cos(torch.as_tensor(t) * math.pi / 2) ** 2


@a_cosine.misconception(
    "s-fixed",
    "Right for s = 0.008 only: that number is written into the body, and the argument s is not "
    "used.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2


@a_cosine.misconception(
    "s-above-only",
    "You add s to t but do not divide by 1 + s. At t = 1 the angle is then past a quarter of a "
    "circle, and alpha_bar grows again.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    return torch.cos((t + s) * math.pi / 2) ** 2 / math.cos(s * math.pi / 2) ** 2


@a_cosine.misconception(
    "precedence",
    "A pair of brackets is missing: you compute t + s / (1 + s), where the sum t + s as a whole "
    "is divided by 1 + s.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s / (1 + s)) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "degrees",
    "Your angle is in degrees: a quarter of a circle is 90 there. torch.cos and math.cos take "
    "radians.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * 90) ** 2
    return f / math.cos(s / (1 + s) * 90) ** 2


@a_cosine.misconception(
    "half-circle",
    "Your angle goes through half a circle, pi, so alpha_bar reaches 0 halfway and rises again. "
    "A quarter, pi/2, is enough.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi) ** 2
    return f / math.cos(s / (1 + s) * math.pi) ** 2


@a_cosine.misconception(
    "sine",
    "You use the sine: your curve rises with t from (almost) nothing. What is left of the data "
    "has to fall.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.sin((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.sin(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "divided-by-first",
    "You divide by the first of the values that you were given, so alpha_bar at one time depends "
    "on which other times were asked for. Divide by f at t = 0, whether t holds a 0 or not.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / f.reshape(-1)[0]


@a_cosine.misconception(
    "divided-by-the-cosine",
    "You divide by a cosine that is not squared. f(0) is a squared cosine, as f(t) is; with the "
    "default s the difference is small, and alpha_bar(0) is not quite 1.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2)


@a_cosine.misconception(
    "time-reversed",
    "Your curve runs the other way: 0 at t = 0 and 1 at t = 1. Time 0 is clean data, all of which "
    "is left.",
)
def cosine_alpha_bar(t, s=0.008):
    t = 1 - torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "t-taken-for-a-step",
    "You divide t by 1000, as if it counted steps. t lies between 0 and 1 already.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t) / 1000
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.misconception(
    "noise-share",
    "You return 1 - alpha_bar: 0 at t = 0, rising to 1. That is the variance of the noise; what "
    "is left of the data is wanted.",
)
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return 1 - f / math.cos(s / (1 + s) * math.pi / 2) ** 2


@a_cosine.alternative("helper function")
def cosine_alpha_bar(t, s=0.008):
    def f(u):
        return torch.cos(0.5 * math.pi * (u + s) / (1 + s)).square()

    t = torch.as_tensor(t)
    return f(t) / f(torch.zeros_like(t))


@a_cosine.alternative("double angle")
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    value = 1 + torch.cos(torch.pi * (t + s) / (1 + s))
    return value / (1 + math.cos(torch.pi * s / (1 + s)))


@a_cosine.alternative("one minus sine squared, in float64")
def cosine_alpha_bar(t, s=0.008):
    t = torch.as_tensor(t)
    angle = (t.double() + s) / (1 + s) * np.pi / 2
    start = s / (1 + s) * np.pi / 2
    return ((1 - torch.sin(angle) ** 2) / (1 - np.sin(start) ** 2)).to(t.dtype)


# ------------------------------------------------------------------------------------------ 01.4
a_betas_from = Answers("01.4")


@a_betas_from.reference
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    ends = torch.arange(T + 1, dtype=torch.float64) / T
    left = torch.stack([torch.as_tensor(alpha_bar(t), dtype=torch.float64) for t in ends])
    return (1 - left[1:] / left[:-1]).clamp(max=max_beta).float()


@a_betas_from.misconception(
    "ratio-upside-down",
    "Your ratio is upside down: you divide what is there at the start of a step by what is left "
    "at its end, a number above 1, and the betas come out negative.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (1 - left[:-1] / left[1:]).clamp(max=max_beta)


@a_betas_from.misconception(
    "not-clipped",
    "You do not clip at max_beta. A beta of 1 leaves nothing of the data, and formulas that "
    "divide by 1 - beta or by alpha_bar then divide by zero.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return 1 - left[1:] / left[:-1]


@a_betas_from.misconception(
    "ratio-itself",
    "You return the ratio itself: what a step keeps. beta is the rest, what it gives up.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (left[1:] / left[:-1]).clamp(max=max_beta)


@a_betas_from.misconception(
    "one-step-late",
    "Your betas sit one place too late: the first is 0, and the last step, to t = 1, is lost. "
    "betas[0] leads from t = 0 to t = 1/T.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.arange(T) / T)
    before = torch.cat([left[:1], left[:-1]])
    return (1 - left / before).clamp(max=max_beta)


@a_betas_from.misconception(
    "grid-too-short",
    "You ask for alpha_bar at T + 1 times, but spaced 1 / (T + 1) apart, so that the last is not "
    "t = 1. T steps are 1/T long each.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.arange(T + 1) / (T + 1))
    return (1 - left[1:] / left[:-1]).clamp(max=max_beta)


@a_betas_from.misconception(
    "T-times",
    "You ask for alpha_bar at T times only, and T times bound T - 1 steps: one beta is missing.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T))
    return (1 - left[1:] / left[:-1]).clamp(max=max_beta)


@a_betas_from.misconception(
    "T-times-and-a-1",
    "You ask for alpha_bar at T times from 0 to 1 and put a 1 in front. Your first beta compares "
    "time 0 with itself, and the other steps are 1 / (T - 1) long. T steps of 1 / T need T + 1 "
    "times.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    kept = alpha_bar(torch.linspace(0, 1, T))
    return (1 - kept / torch.cat([torch.ones(1), kept[:-1]])).clamp(max=max_beta)


@a_betas_from.misconception(
    "assumes-start-at-1",
    "You take it that alpha_bar(0) is 1 and compare the first step with that. Ask the function "
    "at 0 as well: only the ratio of neighbours counts.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.arange(1, T + 1) / T)
    before = torch.cat([torch.ones(1), left[:-1]])
    return (1 - left / before).clamp(max=max_beta)


@a_betas_from.misconception(
    "difference",
    "You subtract neighbours but do not divide. beta is the share lost of what was there at the "
    "start of the step, not of the data as it was at t = 0.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (left[:-1] - left[1:]).clamp(max=max_beta)


@a_betas_from.misconception(
    "divided-by-the-end",
    "You divide the loss of a step by what is left at its end; the share lost is of what was "
    "there at its start.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return ((left[:-1] - left[1:]) / left[1:]).clamp(max=max_beta)


@a_betas_from.misconception(
    "clips-what-is-kept",
    "You clip the ratio at max_beta, and so what a step keeps: no beta is then smaller than "
    "1 - max_beta. The clip is for beta, after the subtraction.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return 1 - (left[1:] / left[:-1]).clamp(max=max_beta)


@a_betas_from.misconception(
    "clips-from-below",
    "You raise small betas to max_beta in place of lowering large ones: min and max are easily "
    "swapped in a clip.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (1 - left[1:] / left[:-1]).clamp(min=max_beta)


@a_betas_from.misconception(
    "max-beta-fixed",
    "You clip at 0.999 whatever max_beta says: the number is written into the body.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


@a_betas_from.misconception(
    "floor-of-1e-4",
    "You clip from below as well, at 1e-4. Some code does, but with many steps the first betas "
    "are honestly smaller than that; clip from above only.",
)
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    return (1 - left[1:] / left[:-1]).clamp(1e-4, max_beta)


@a_betas_from.alternative("loop over floats")
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    betas = []
    for i in range(T):
        kept = float(alpha_bar((i + 1) / T)) / float(alpha_bar(i / T))
        betas.append(min(1 - kept, max_beta))
    return torch.tensor(betas, dtype=torch.float32)


@a_betas_from.alternative("one call, float32")
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    left = alpha_bar(torch.linspace(0, 1, T + 1))
    betas = 1 - left[1:] / left[:-1]
    return torch.minimum(betas, torch.tensor(max_beta))


@a_betas_from.alternative("two calls, float64")
def betas_from_alpha_bar(alpha_bar, T, max_beta=0.999):
    start = torch.arange(T, dtype=torch.float64) / T
    betas = (alpha_bar(start) - alpha_bar(start + 1 / T)) / alpha_bar(start)
    return torch.clip(betas, 0, max_beta).to(torch.float32)


# ------------------------------------------------------------------------------------------ 01.5
a_log_snr = Answers("01.5")


@a_log_snr.reference
def log_snr(alpha_bar):
    return torch.log(alpha_bar / (1 - alpha_bar))


@a_log_snr.misconception(
    "log10",
    "You take the logarithm to base 10. Here, and in the papers, it is the natural logarithm.",
)
def log_snr(alpha_bar):
    return torch.log10(alpha_bar / (1 - alpha_bar))


@a_log_snr.misconception(
    "log2",
    "You take the logarithm to base 2. Here, and in the papers, it is the natural logarithm.",
)
def log_snr(alpha_bar):
    return torch.log2(alpha_bar / (1 - alpha_bar))


@a_log_snr.misconception(
    "decibels",
    "You give decibels, 10 times the logarithm to base 10. The natural logarithm, without a "
    "factor, is wanted.",
)
def log_snr(alpha_bar):
    return 10 * torch.log10(alpha_bar / (1 - alpha_bar))


@a_log_snr.misconception(
    "root-taken",
    "Your values are half of what is wanted: you compare amplitudes, the roots. SNR is a ratio "
    "of powers, of variances.",
)
def log_snr(alpha_bar):
    return torch.log(torch.sqrt(alpha_bar) / torch.sqrt(1 - alpha_bar))


@a_log_snr.misconception(
    "inverted",
    "Your ratio is noise to signal, so every sign is wrong. Signal is above the line, noise below.",
)
def log_snr(alpha_bar):
    return torch.log((1 - alpha_bar) / alpha_bar)


@a_log_snr.misconception(
    "log1p-of-the-ratio",
    "log1p(r) is log(1 + r). Of the ratio itself the logarithm is wanted; log1p is safe only "
    "for what is 1 plus something.",
)
def log_snr(alpha_bar):
    return torch.log1p(alpha_bar / (1 - alpha_bar))


@a_log_snr.misconception(
    "no-log",
    "You return the SNR itself. Take its natural logarithm.",
)
def log_snr(alpha_bar):
    return alpha_bar / (1 - alpha_bar)


@a_log_snr.misconception(
    "log-of-alpha-bar",
    "You take the logarithm of alpha_bar alone. SNR compares it with the variance of the noise, "
    "1 - alpha_bar.",
)
def log_snr(alpha_bar):
    return torch.log(alpha_bar)


@a_log_snr.misconception(
    "ratio-of-logs",
    "You divide two logarithms. The logarithm of a ratio is the difference of the logarithms.",
)
def log_snr(alpha_bar):
    return torch.log(alpha_bar) / torch.log(1 - alpha_bar)


@a_log_snr.misconception(
    "kept-away-from-zero",
    "You add a small number or clamp, so that nothing is infinite. Here infinite is the honest "
    "answer at alpha_bar = 0 and 1, and the small number bends the values near both ends.",
)
def log_snr(alpha_bar):
    return torch.log((alpha_bar + 1e-8) / (1 - alpha_bar + 1e-8))


@a_log_snr.alternative("difference of logarithms")
def log_snr(alpha_bar):
    return alpha_bar.log() - (1 - alpha_bar).log()


@a_log_snr.alternative("logit")
def log_snr(alpha_bar):
    return torch.logit(alpha_bar)


@a_log_snr.alternative("log1p where it belongs")
def log_snr(alpha_bar):
    return torch.log(alpha_bar) - torch.log1p(-alpha_bar)


# ------------------------------------------------------------------------------------------ 01.6
a_sigmoid = Answers("01.6")


@a_sigmoid.reference
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "not-rescaled",
    "Your curve does not reach 1 at t = 0 and 0 at t = 1: a sigmoid only comes near. Shift and "
    "divide by its values at the two ends.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    return torch.sigmoid(-(start + t * (end - start)) / tau)


@a_sigmoid.misconception(
    "time-reversed",
    "Time runs backwards in your curve: it is what t = 1 - t would give, turned upside down. "
    "With ends that mirror each other (-3 and 3) nothing shows; with others it does. "
    "t = 0 belongs to start.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((end + t * (start - end)) / tau)
    return (v - v_start) / (v_end - v_start)


@a_sigmoid.misconception(
    "noise-share",
    "Your curve rises from 0 to 1: that is 1 - alpha_bar, the share of the noise. What is left "
    "of the data falls.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v - v_start) / (v_end - v_start)


@a_sigmoid.misconception(
    "ends-exchanged",
    "Your curve rises with t: the two ends are exchanged, v_end where v_start belongs, or t runs "
    "from end to start.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((end + t * (start - end)) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "tau-multiplied",
    "You multiply by tau where it divides. A large tau makes the curve straighter, not steeper.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start * tau))
    v_end = 1 / (1 + math.exp(-end * tau))
    v = torch.sigmoid((start + t * (end - start)) * tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "tau-forgotten",
    "You do not use tau: right for tau = 1 only.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start))
    v_end = 1 / (1 + math.exp(-end))
    v = torch.sigmoid(start + t * (end - start))
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "tau-not-at-the-ends",
    "tau divides the argument at t, but not at the two ends. The curve then misses 1 and 0; all "
    "three sigmoids take it.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start))
    v_end = 1 / (1 + math.exp(-end))
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "tau-in-part",
    "tau divides only t * (end - start), not start: a pair of brackets is missing.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid(start + t * (end - start) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "ends-fixed",
    "You use -3 and 3 whatever start and end say: the numbers are written into the body.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(3 / tau))
    v_end = 1 / (1 + math.exp(-3 / tau))
    v = torch.sigmoid((-3 + 6 * t) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "divided-by-the-end",
    "You divide by v_end alone. At t = 0 the numerator is v_end - v_start, so only that makes "
    "the curve begin at 1.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v_end - v) / v_end


@a_sigmoid.misconception(
    "rescaled-by-what-came",
    "You stretch by the least and the greatest of the values that you were given, so alpha_bar at "
    "one time depends on which other times were asked for. The ends of the curve are t = 0 and "
    "t = 1, whether asked for or not.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v = torch.sigmoid(-(start + t * (end - start)) / tau)
    return (v - v.min()) / (v.max() - v.min())


@a_sigmoid.misconception(
    "shifted-not-divided",
    "You take v away from its last value and stop there: the curve ends at 0, and begins at "
    "v(1) - v(0), which is less than 1. What must it be divided by to begin at 1?",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_end = 1 / (1 + math.exp(-end / tau))
    return v_end - torch.sigmoid((start + t * (end - start)) / tau)


@a_sigmoid.misconception(
    "tau-in-part-everywhere",
    "tau divides only t * (end - start), not start, in all three sigmoids: a pair of brackets is "
    "missing where you compute v. The ends fit, and what lies between is another piece.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start))
    v_end = 1 / (1 + math.exp(-(start + (end - start) / tau)))
    v = torch.sigmoid(start + t * (end - start) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "length-for-end",
    "You walk from start to start + end: t is multiplied by end, where it should be by the length "
    "of the piece. At t = 1 the argument has to be end (over tau). Is it?",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((start + t * end) / tau)
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "tau-at-the-ends-only",
    "tau divides the argument at the two ends, but not at t. The curve then misses 1 and 0; all "
    "three sigmoids take it.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid(start + t * (end - start))
    return (v_end - v) / (v_end - v_start)


@a_sigmoid.misconception(
    "first-and-last-of-what-came",
    "You take v[0] and v[-1] for v(0) and v(1). The times that are asked for may begin and end "
    "anywhere, in any order, or be one number: work out the values at t = 0 and t = 1 apart.",
)
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v[-1] - v) / (v[-1] - v[0])


@a_sigmoid.alternative("helper function")
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)

    def v(u):
        return torch.sigmoid(torch.as_tensor((start + u * (end - start)) / tau, dtype=t.dtype))

    return (v(t) - v(1.0)) / (v(0.0) - v(1.0))


@a_sigmoid.alternative("tanh")
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    v = torch.tanh((t * (end - start) + start) / (2 * tau))
    first, last = math.tanh(start / (2 * tau)), math.tanh(end / (2 * tau))
    return (last - v) / (last - first)


@a_sigmoid.alternative("sigmoid of minus")
def sigmoid_alpha_bar(t, start=-3, end=3, tau=1):
    t = torch.as_tensor(t)
    u = ((1 - t) * start + t * end).double()
    high, low = torch.tensor([-start / tau, -end / tau], dtype=torch.float64).sigmoid()
    return ((torch.sigmoid(-u / tau) - low) / (high - low)).to(t.dtype)


# ------------------------------------------------------------------------------------------ 01.7
a_karras = Answers("01.7")


@a_karras.reference
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.linspace(high, low, n) ** rho


@a_karras.misconception(
    "ascending",
    "Your levels rise from sigma_min to sigma_max. Sampling starts in noise, so the largest "
    "comes first.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return torch.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), n) ** rho


@a_karras.misconception(
    "rho-not-inverted",
    "You space sigma ** rho evenly and take the root at the end. The powers are exchanged: the "
    "straight line is in sigma ** (1 / rho), which crowds the levels at the small end.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    i = torch.linspace(0, 1, n, dtype=torch.float64)
    line = sigma_max**rho + i * (sigma_min**rho - sigma_max**rho)
    return (line ** (1 / rho)).float()


@a_karras.misconception(
    "linear",
    "Your levels are evenly spaced. rho has to bend them, so that most are small.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return torch.linspace(sigma_max, sigma_min, n)


@a_karras.misconception(
    "power-not-undone",
    "You return the evenly spaced roots. The last part is missing: raise them to the power rho "
    "again.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n)


@a_karras.misconception(
    "appended-zero",
    "You append a zero. Samplers need one, but here whoever samples appends it: n values are "
    "wanted, the last being sigma_min.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    sigmas = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


@a_karras.misconception(
    "zero-as-the-last",
    "Your last level is 0 in place of sigma_min. Whoever samples appends the zero; none of the n "
    "levels is given up for it.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    sigmas = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n - 1) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


@a_karras.misconception(
    "divided-by-n",
    "Your last level is not sigma_min: you divide i by n, but n levels that include both ends "
    "have n - 1 gaps.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + torch.arange(n) / n * (low - high)) ** rho


@a_karras.misconception(
    "geometric",
    "Your levels fall by equal factors, evenly spaced in the logarithm. That is what a very "
    "large rho comes to; the given rho keeps more levels large.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return torch.exp(torch.linspace(math.log(sigma_max), math.log(sigma_min), n))


@a_karras.misconception(
    "rho-fixed",
    "You use a power of 7 whatever rho says: the number is written into the body.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return torch.linspace(sigma_max ** (1 / 7), sigma_min ** (1 / 7), n) ** 7


@a_karras.misconception(
    "root-of-the-difference",
    "You bend the position between the ends, not the levels: sigma_max - sigma_min times a "
    "power. Each end takes its own root first.",
)
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    return sigma_min + (sigma_max - sigma_min) * torch.linspace(1, 0, n) ** rho


@a_karras.alternative("as the paper writes it")
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    i = torch.arange(n)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + i / (n - 1) * (low - high)) ** rho


@a_karras.alternative("numpy, converted")
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    roots = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n)
    return torch.tensor(roots**rho, dtype=torch.float32)


@a_karras.alternative("ascending, then flipped")
def karras_sigmas(n, sigma_min, sigma_max, rho=7):
    ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64) ** (1 / rho)
    share = torch.linspace(0, 1, n, dtype=torch.float64)
    return torch.flip(((1 - share) * ends[0] + share * ends[1]) ** rho, dims=(0,)).float()


# ------------------------------------------------------------------------------------------ 01.8
a_rescale = Answers("01.8")


@a_rescale.reference
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    kept = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - kept


@a_rescale.misconception(
    "shift-only",
    "You shift the roots down and do not stretch them. The last is 0 as it should be, but the "
    "first is now too small: even step 0 adds a lot of noise.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = (root - root[-1]) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "alpha-bar-not-its-root",
    "You shift and stretch alpha_bar itself. x_0 is multiplied by its root, and that root is "
    "what has to be moved.",
)
def rescale_zero_terminal_snr(betas):
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    alpha_bar = (alpha_bar - alpha_bar[-1]) * alpha_bar[0] / (alpha_bar[0] - alpha_bar[-1])
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "one-minus-last",
    "You divide by 1 - the last root, as if the first root were 1. It is a little less, so the "
    "first step changes; divide by first - last.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    root = (root - root[-1]) * root[0] / (1 - root[-1])
    alpha_bar = root**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "first-stretched-to-1",
    "Your first beta is 0: either you stretch the roots until the first is 1, or you compare the "
    "first alpha_bar with itself. Step 0 should keep the beta it had; before it stands clean "
    "data, with alpha_bar = 1.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) / (root[0] - root[-1])) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "divided-by-one-minus-last-alone",
    "You divide by 1 - the last root, as if the first root were 1, and do not multiply by the "
    "first. Both are needed for the first root to stay what it was.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) / (1 - root[-1])) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "not-squared-back",
    "You divide neighbouring roots. Square them first: 1 - beta is a ratio of alpha_bar, not of "
    "its roots.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return 1 - torch.cat([root[:1], root[1:] / root[:-1]])


@a_rescale.misconception(
    "returns-alpha-bar",
    "You return the new alpha_bar. Betas went in and betas are wanted: divide neighbours, and "
    "subtract from 1.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


@a_rescale.misconception(
    "returns-what-is-kept",
    "You return what each step keeps. beta is 1 minus that.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@a_rescale.misconception(
    "cut-off",
    "You cut the betas off below 1, as 01.4 does. Here the last one has to be 1: with 0.999 a "
    "trace of the data would be left at the end, and that is what the repair is for.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    kept = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return (1 - kept).clamp(max=0.999)


@a_rescale.misconception(
    "only-the-last",
    "You set the last beta to 1 and leave the others. The SNR then falls off a cliff in one "
    "step; the whole curve has to bend.",
)
def rescale_zero_terminal_snr(betas):
    new = betas.clone()
    new[-1] = 1.0
    return new


@a_rescale.misconception(
    "first-step-lost",
    "You return T - 1 betas: the first step has no neighbour before it, and keeps alpha_bar[0] "
    "itself.",
)
def rescale_zero_terminal_snr(betas):
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


@a_rescale.alternative("one in front")
def rescale_zero_terminal_snr(betas):
    roots = torch.sqrt(alpha_bar_from_betas(betas))
    first, last = roots[0].clone(), roots[-1].clone()
    roots = (roots - last) / (first - last) * first
    alpha_bar = torch.cat([torch.ones_like(roots[:1]), roots.square()])
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


@a_rescale.alternative("in float64, in place on its own copy")
def rescale_zero_terminal_snr(betas):
    roots = torch.cumprod(1.0 - betas.double(), dim=0) ** 0.5
    first, last = roots[0].item(), roots[-1].item()
    roots -= last
    roots *= first / (first - last)
    kept = roots**2
    kept[1:] = (roots[1:] / roots[:-1]) ** 2
    return (1 - kept).to(betas.dtype)


@a_rescale.alternative("loop")
def rescale_zero_terminal_snr(betas):
    root = torch.exp(0.5 * torch.cumsum(torch.log1p(-betas), 0))
    stretch = root[0] / (root[0] - root[-1])
    before, out = torch.ones((), dtype=betas.dtype), []
    for r in root:
        now = ((r - root[-1]) * stretch) ** 2
        out.append(1 - now / before)
        before = now
    return torch.stack(out)


def alpha_bar_from_betas(betas):
    """What exercise 01.2 supplies, for the alternative above that calls it."""
    return torch.cumprod(1 - betas, dim=0)
