"""Answers of lesson 14: references, named mistakes, and other right answers."""

import heapq
import math
from itertools import pairwise

import torch

from coursework.exercise import Answers

# 14.1 ---------------------------------------------------------------------------------------------

a_inpaint = Answers("14.1")


@a_inpaint.reference
def inpaint_step(x, step, known, mask, now, then, noises):
    (alpha, sigma), (alpha_then, sigma_then) = now, then
    back = alpha / alpha_then
    spread = math.sqrt(max(0.0, sigma**2 - (back * sigma_then) ** 2))
    at_now = x
    for on_known, on_the_way in noises:
        x = torch.where(mask, alpha_then * known + sigma_then * on_known, step(at_now, now, then))
        at_now = back * x + spread * on_the_way
    return x


def _rounds(x, step, now, then, noises, merge, rise):
    """RePaint with parts to be exchanged: merge(drawn, noise), rise(at then, noise)."""
    here = x
    for on_known, on_the_way in noises:
        x = merge(step(here, now, then), on_known)
        here = rise(x, on_the_way)
    return x


def _rise(now, then):
    (alpha, sigma), (alpha_then, sigma_then) = now, then
    back = alpha / alpha_then
    spread = math.sqrt(max(0.0, sigma**2 - (back * sigma_then) ** 2))
    return lambda x, noise: back * x + spread * noise


def _merge(known, mask, level):
    return lambda drawn, noise: torch.where(mask, level[0] * known + level[1] * noise, drawn)


@a_inpaint.misconception(
    "mask-inverted",
    "The mask is used the wrong way round: what is known is drawn, and the hole is kept. In this "
    "lesson True means known.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    return _rounds(x, step, now, then, noises, _merge(known, ~mask, then), _rise(now, then))


@a_inpaint.misconception(
    "known-not-noised",
    "The known part is put in without noise. The network has learnt what data look like when all "
    "of it is equally noisy; a clean piece in it is nothing it has ever seen.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    def merge(drawn, noise):
        return torch.where(mask, known, drawn)

    return _rounds(x, step, now, then, noises, merge, _rise(now, then))


@a_inpaint.misconception(
    "known-at-the-old-level",
    "The known part is brought to the level from which the step came. What the step returns is at "
    "the next one, and both parts have to be at the same.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    return _rounds(x, step, now, then, noises, _merge(known, mask, now), _rise(now, then))


@a_inpaint.misconception(
    "signal-not-scaled",
    "Noise of the right size is added to the known part, but the part itself is not multiplied by "
    "alpha of that level.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    def merge(drawn, noise):
        return torch.where(mask, known + then[1] * noise, drawn)

    return _rounds(x, step, now, then, noises, merge, _rise(now, then))


@a_inpaint.misconception(
    "merged-before-the-step",
    "You put the known part in before the step, at level `now`, and return what the step makes of "
    "it. It should be in what you return: put it in after the step, at level `then`.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    merge, rise = _merge(known, mask, now), _rise(now, then)
    here = x
    for on_known, on_the_way in noises:
        x = step(merge(here, on_known), now, then)
        here = rise(x, on_the_way)
    return x


@a_inpaint.misconception(
    "no-way-back",
    "From the second round on, `step` gets data at level `then`, and is told that they are at "
    "`now`. Noise has to be added again before the step is repeated.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    return _rounds(x, step, now, then, noises, _merge(known, mask, then), lambda x, noise: x)


@a_inpaint.misconception(
    "each-round-from-the-start",
    "Every round begins with the x that you were given, so that only the last round counts. What a "
    "round has found out must go into the next one.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    return _rounds(x, step, now, then, noises, _merge(known, mask, then), lambda _, noise: x)


@a_inpaint.misconception(
    "too-much-noise-on-the-way-back",
    "On the way back you add noise of size sigma_now, although some is there already. Variances "
    "add: what is wanted less what is there is what is to be added.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    def rise(x, noise):
        return now[0] / then[0] * x + now[1] * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "deviations-subtracted",
    "On the way back you add noise of size sigma_now - (what is there). It is the variances of "
    "independent noises that add up, not their standard deviations.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    back = now[0] / then[0]

    def rise(x, noise):
        return back * x + (now[1] - back * then[1]) * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "signal-not-scaled-on-the-way-back",
    "On the way back the signal keeps the size it had at `then`. At `now` it has alpha_now in "
    "front of it.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    def rise(x, noise):
        return x + math.sqrt(now[1] ** 2 - then[1] ** 2) * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "back-after-the-last-round",
    "You take the way back after the last round, too, and so return data at level `now`. The next "
    "step of the sampler wants them at `then`.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    merge, rise = _merge(known, mask, then), _rise(now, then)
    for on_known, on_the_way in noises:
        x = rise(merge(step(x, now, then), on_known), on_the_way)
    return x


@a_inpaint.misconception(
    "one-noise-for-all-rounds",
    "Every round puts the first pair's noise on the known part. Each round has its own pair.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    merge = _merge(known, mask, then)
    first = noises[0][0]
    return _rounds(x, step, now, then, noises, lambda drawn, _: merge(drawn, first),
                   _rise(now, then))  # fmt: skip


@a_inpaint.misconception(
    "known-in-the-last-round-only",
    "The known part is put in after the last round only. The rounds before it were to let the two "
    "parts hear of each other, and draw without having seen it: put it in after each step.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    rise, merge = _rise(now, then), _merge(known, mask, then)
    for _, on_the_way in noises:
        at_then = step(x, now, then)
        x = rise(at_then, on_the_way)
    return merge(at_then, noises[-1][0])


@a_inpaint.misconception(
    "noise-there-not-shrunk",
    "The noise that is there already shrinks with the signal on the way back. You take it off as "
    "it was before, sigma_then squared, and add too little.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    spread = math.sqrt(now[1] ** 2 - then[1] ** 2)

    def rise(x, noise):
        return now[0] / then[0] * x + spread * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "keeps-the-variance",
    "Your noise on the way back has the variance 1 - (alpha_now / alpha_then)^2. That is right "
    "only where alpha^2 + sigma^2 = 1 at both levels. Take it from the sigmas.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    back = now[0] / then[0]

    def rise(x, noise):
        return back * x + math.sqrt(max(0.0, 1 - back**2)) * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "variance-for-deviation",
    "You multiply the noise by the variance that is missing. A standard normal tensor is "
    "multiplied by its root, the standard deviation.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    back = now[0] / then[0]
    missing = max(0.0, now[1] ** 2 - (back * then[1]) ** 2)

    def rise(x, noise):
        return back * x + missing * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "ratio-upside-down",
    "Your factor on the way back is alpha_then / alpha_now. The signal has alpha_then in front of "
    "it, and alpha_now is wanted.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    back = then[0] / now[0]
    spread = math.sqrt(max(0.0, now[1] ** 2 - (back * then[1]) ** 2))

    def rise(x, noise):
        return back * x + spread * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "one-noise-of-the-pair",
    "The way back uses the noise that is on the known part already, the first of the pair. Then "
    "the two are not independent, and their variances do not add up. The second is for the way.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    pairs = [(first, first) for first, _ in noises]
    return _rounds(x, step, now, then, pairs, _merge(known, mask, then), _rise(now, then))


@a_inpaint.misconception(
    "noise-of-the-next-round",
    "The way back uses the second noise of the pair of the round that it leads to. It belongs to "
    "the round that has just been made.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    seconds = [second for _, second in noises[1:]] + [noises[0][1]]
    pairs = [(first, second) for (first, _), second in zip(noises, seconds)]
    return _rounds(x, step, now, then, pairs, _merge(known, mask, then), _rise(now, then))


@a_inpaint.misconception(
    "pair-exchanged",
    "The second noise of the pair is on the known part, and the first leads back. It is the other "
    "way round: the known part is put in first, and gets the first.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    pairs = [(second, first) for first, second in noises]
    return _rounds(x, step, now, then, pairs, _merge(known, mask, then), _rise(now, then))


@a_inpaint.misconception(
    "clean-at-the-end",
    "You put the known part in once more at the end, without noise. What you return is at level "
    "`then`, all of it; only where that is data is there no noise.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    x = _rounds(x, step, now, then, noises, _merge(known, mask, then), _rise(now, then))
    return torch.where(mask, known, x)


@a_inpaint.misconception(
    "first-round-only",
    "You make one round, whatever the number of pairs in `noises`. Each pair stands for a round: "
    "between two of them the way leads back up.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    return _merge(known, mask, then)(step(x, now, then), noises[0][0])


@a_inpaint.misconception(
    "one-step-for-all-rounds",
    "The step is made once, and the rounds only put the known part in and add noise. Each round "
    "begins with a step of its own: in it the two parts hear of each other.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    x, last = step(x, now, then), len(noises) - 1
    for i, (on_known, on_the_way) in enumerate(noises):
        x = _merge(known, mask, then)(x, on_known)
        if i < last:
            x = _rise(now, then)(x, on_the_way)
    return x


@a_inpaint.misconception(
    "ratio-not-squared",
    "For the way back you take off the variance sigma_then squared times the ratio of the alphas. "
    "The ratio multiplies the noise; what does that do to its variance?",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    back = now[0] / then[0]
    spread = math.sqrt(max(0.0, now[1] ** 2 - back * then[1] ** 2))

    def rise(x, noise):
        return back * x + spread * noise

    return _rounds(x, step, now, then, noises, _merge(known, mask, then), rise)


@a_inpaint.misconception(
    "alpha-taken-for-alpha-bar",
    "You take roots of alpha and of 1 - alpha to noise the known part. Those belong to alpha_bar; "
    "the levels here are (alpha, sigma), the factors themselves.",
)
def inpaint_step(x, step, known, mask, now, then, noises):
    level = math.sqrt(then[0]), math.sqrt(max(0.0, 1 - then[0]))
    return _rounds(x, step, now, then, noises, _merge(known, mask, level), _rise(now, then))


@a_inpaint.alternative("blended with numbers, by index")
def inpaint_step(x, step, known, mask, now, then, noises):
    keep = mask.to(x.dtype)
    for i in range(len(noises)):
        if i > 0:
            ratio = now[0] / then[0]
            x = ratio * x + (now[1] ** 2 - ratio**2 * then[1] ** 2) ** 0.5 * noises[i - 1][1]
        kept = then[0] * known + then[1] * noises[i][0]
        x = keep * kept + (1 - keep) * step(x, now, then)
    return x


@a_inpaint.alternative("a copy with the known part written into it")
def inpaint_step(x, step, known, mask, now, then, noises):
    everywhere = mask.expand_as(x)
    last = len(noises) - 1
    for i, (first, second) in enumerate(noises):
        new = step(x, now, then).clone()
        new[everywhere] = (then[0] * known + then[1] * first)[everywhere]
        if i == last:
            return new
        share = (now[0] / then[0]) ** 2
        x = share**0.5 * new + math.sqrt(now[1] ** 2 - share * then[1] ** 2) * second


# 14.2 ---------------------------------------------------------------------------------------------

a_edit = Answers("14.2")


@a_edit.reference
def edit(x0, strength, levels, step, noise):
    n = len(levels) - 1
    left = levels[n - round(strength * n) :]
    alpha, sigma = left[0]
    x = alpha * x0 + sigma * noise
    for now, then in pairwise(left):
        x = step(x, now, then)
    return x


def _steps(x, levels, step):
    for now, then in pairwise(levels):
        x = step(x, now, then)
    return x


def _left(strength, levels):
    n = len(levels) - 1
    return levels[n - round(strength * n) :]


@a_edit.misconception(
    "strength-inverted",
    "The greater the strength, the less you change: at strength 1 you return x0. It is the share "
    "of the steps that are made, not of those left out.",
)
def edit(x0, strength, levels, step, noise):
    left = levels[round(strength * (len(levels) - 1)) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "starts-from-pure-noise",
    "You begin with noise alone: nothing of x0 gets into the result. At the first level that is "
    "left, a part of x0 is still there.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    return _steps(left[0][1] * noise, left, step) if len(left) > 1 else x0


@a_edit.misconception(
    "no-noise",
    "x0 is scaled down, but no noise is added. The network takes what it finds for signal and "
    "noise, and there is nothing to take away.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    return _steps(left[0][0] * x0, left, step)


@a_edit.misconception(
    "signal-not-scaled",
    "Noise of the right size is added to x0, but x0 is not multiplied by alpha of that level.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    return _steps(x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "one-step-too-late",
    "x0 is noised to the right level, but the first step begins at the next one: the network is "
    "told of less noise than there is.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    return _steps(left[0][0] * x0 + left[0][1] * noise, left[1:], step)


@a_edit.misconception(
    "all-steps",
    "x0 is noised to the right level, and then all steps are made, from the noisiest on. The first "
    "of them are told of noise that is not there.",
)
def edit(x0, strength, levels, step, noise):
    alpha, sigma = _left(strength, levels)[0]
    return _steps(alpha * x0 + sigma * noise, levels, step)


@a_edit.misconception(
    "strength-as-noise",
    "You mix x0 and noise in the shares 1 - strength and strength. How much noise belongs to a "
    "level, `levels` says; the strength says with which of them to begin.",
)
def edit(x0, strength, levels, step, noise):
    return _steps((1 - strength) * x0 + strength * noise, _left(strength, levels), step)


@a_edit.misconception(
    "rounded-down",
    "The number of steps is rounded down. The stub asks for the nearest whole number.",
)
def edit(x0, strength, levels, step, noise):
    n = len(levels) - 1
    left = levels[n - int(strength * n) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "levels-counted-as-steps",
    "n levels make n - 1 steps. You count one step too many, and so begin one level too early or "
    "too late.",
)
def edit(x0, strength, levels, step, noise):
    n = len(levels)
    left = levels[max(0, n - 1 - round(strength * n)) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "first-steps",
    "x0 is brought to the noisiest level, and the first steps from there are made. Then you stop "
    "on the way, at a level with noise. It is the last steps that are made, down to data.",
)
def edit(x0, strength, levels, step, noise):
    k = round(strength * (len(levels) - 1))
    return _steps(levels[0][0] * x0 + levels[0][1] * noise, levels[: k + 1], step) if k else x0


@a_edit.misconception(
    "noised-to-the-top",
    "The right steps are made, but x0 was brought to the noisiest level of all. Bring it to the "
    "level at which the first of these steps begins.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    if len(left) == 1:
        return x0
    return _steps(levels[0][0] * x0 + levels[0][1] * noise, left, step)


@a_edit.misconception(
    "rounded-up",
    "The number of steps is rounded up. The stub asks for the nearest whole number.",
)
def edit(x0, strength, levels, step, noise):
    n = len(levels) - 1
    left = levels[n - math.ceil(strength * n) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "last-step-left-out",
    "You stop one step too early: what you return is at the last level with noise, and not data.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    start = left[0][0] * x0 + left[0][1] * noise
    return _steps(start, left[:-1], step) if len(left) > 1 else start


@a_edit.misconception(
    "noise-alone-at-strength-1",
    "At strength 1 you begin with noise alone. All steps are made then, but the first level is a "
    "level like the others: a little of x0 is there, alpha times.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    all_of_them = len(left) == len(levels)
    start = noise if all_of_them else left[0][0] * x0 + left[0][1] * noise
    return _steps(start, left, step)


@a_edit.misconception(
    "neither-noise-nor-scale",
    "The steps begin with x0 as it is. The first of them is told that there is noise: bring x0 to "
    "its level, alpha times x0 and sigma times the noise.",
)
def edit(x0, strength, levels, step, noise):
    return _steps(x0, _left(strength, levels), step)


@a_edit.misconception(
    "as-many-levels-as-steps",
    "You keep as many levels as steps are wanted. A step leads from one level to the next: how "
    "many levels do k steps need?",
)
def edit(x0, strength, levels, step, noise):
    left = levels[-round(strength * (len(levels) - 1)) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "share-of-the-levels",
    "You take a share of the levels, and n + 1 levels make n steps. The strength is a share of the "
    "steps: count those, and then ask at which level the first of them begins.",
)
def edit(x0, strength, levels, step, noise):
    n = len(levels)
    left = levels[min(n - round(strength * n), n - 1) :]
    return _steps(left[0][0] * x0 + left[0][1] * noise, left, step)


@a_edit.misconception(
    "alpha-taken-for-alpha-bar",
    "You take roots of alpha and of 1 - alpha to bring x0 to its level. Those belong to alpha_bar; "
    "the levels here are (alpha, sigma), the factors themselves.",
)
def edit(x0, strength, levels, step, noise):
    left = _left(strength, levels)
    alpha = left[0][0]
    return _steps(math.sqrt(alpha) * x0 + math.sqrt(1 - alpha) * noise, left, step)


@a_edit.alternative("by index")
def edit(x0, strength, levels, step, noise):
    steps = len(levels) - 1
    first = steps - int(strength * steps + 0.5)
    x = levels[first][0] * x0 + levels[first][1] * noise
    for i in range(first, steps):
        x = step(x, levels[i], levels[i + 1])
    return x


@a_edit.alternative("early return")
def edit(x0, strength, levels, step, noise):
    count = round(strength * (len(levels) - 1))
    if count == 0:
        return x0.clone()
    rest = list(levels)[-count - 1 :]
    (alpha, sigma), x = rest[0], x0
    x = torch.add(alpha * x, noise, alpha=sigma)
    for now, then in pairwise(rest):
        x = step(x, now, then)
    return x


# 14.3 ---------------------------------------------------------------------------------------------

a_posterior = Answers("14.3")


@a_posterior.reference
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        off = (y - measure(x0)).flatten(1)
        far = torch.linalg.vector_norm(off, dim=1).sum()
        (gradient,) = torch.autograd.grad(far, at)
    with torch.no_grad():
        return step(x_t.detach(), x0.detach()) - scale * gradient


def _guided(x_t, estimate, step, measure, y, scale, value):
    """As the reference, with another number to differentiate: value(y - A(x0), flat)."""
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        number = value((y - measure(x0)).flatten(1))
        (gradient,) = torch.autograd.grad(number, at)
    with torch.no_grad():
        return step(x_t.detach(), x0.detach()) - scale * gradient


def _norms(off):
    return torch.linalg.vector_norm(off, dim=1).sum()


@a_posterior.misconception(
    "gradient-by-the-estimate",
    "You differentiate by the estimate of x0, and not by x_t: the gradient does not go through the "
    "network. What the network knows of how x_t and x0 hang together is lost.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.no_grad():
        x0 = estimate(x_t)
    with torch.enable_grad():
        at = x0.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_norms((y - measure(at)).flatten(1)), at)
    with torch.no_grad():
        return step(x_t.detach(), x0) - scale * gradient


@a_posterior.misconception(
    "measures-the-noisy-one",
    "You measure x_t itself and compare that with y. y is what was measured of data without noise: "
    "compare it with the measurement of the estimate.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_norms((y - measure(at)).flatten(1)), at)
    with torch.no_grad():
        return step(x_t.detach(), estimate(x_t)) - scale * gradient


@a_posterior.misconception(
    "sign",
    "You move along the gradient, and so away from what was measured. The norm is to get smaller.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, -scale, _norms)


@a_posterior.misconception(
    "squared-norm",
    "You differentiate the square of the norm. Far from y it pushes without measure, near y hardly "
    "at all; the norm pushes alike wherever it is.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, lambda off: off.square().sum())


@a_posterior.misconception(
    "mean-square",
    "You take the root of the mean of the squares. The norm is the root of their sum: the more "
    "values are measured, the weaker yours gets.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    def value(off):
        return _norms(off) / math.sqrt(off.shape[1])

    return _guided(x_t, estimate, step, measure, y, scale, value)


@a_posterior.misconception(
    "one-norm-for-the-batch",
    "You take one norm of the whole batch. Then each sample is pushed the less, the further the "
    "others are off; every sample has its own norm.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, torch.linalg.vector_norm)


@a_posterior.misconception(
    "mean-over-the-batch",
    "The gradient is taken of the mean over the batch, so each sample's part is divided by B. Take "
    "it of the sum.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, lambda off: _norms(off) / len(off))


@a_posterior.misconception(
    "nan-where-it-fits",
    "Right, but where the estimate fits y already. The root of a sum of squares has no derivative "
    "at 0: 0 / 0 is NaN.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(
        x_t, estimate, step, measure, y, scale, lambda off: off.square().sum(1).sqrt().sum()
    )


@a_posterior.misconception(
    "sum-of-absolute-values",
    "You sum absolute values. The norm is the root of the sum of squares.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, lambda off: off.abs().sum())


@a_posterior.misconception(
    "estimate-moved-instead",
    "You move the estimate, and then make the step with it. The step shrinks what you did by a "
    "factor of its own; the result of the step is what is moved.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        (gradient,) = torch.autograd.grad(_norms((y - measure(x0)).flatten(1)), at)
    with torch.no_grad():
        return step(x_t.detach(), x0.detach() - scale * gradient)


@a_posterior.misconception(
    "graph-left-open",
    "The numbers are right, but the result carries the graph of the network. A sampler would pile "
    "up the graphs of all its steps. Return data only.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        far = _norms((y - measure(x0)).flatten(1))
        (gradient,) = torch.autograd.grad(far, at, retain_graph=True)
        return step(x_t, x0) - scale * gradient


@a_posterior.misconception(
    "backward-into-the-network",
    "backward() writes gradients into the parameters of the network, where they pile up from step "
    "to step. torch.autograd.grad gives the one you want and writes none.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().clone().requires_grad_(True)
        x0 = estimate(at)
        _norms((y - measure(x0)).flatten(1)).backward()
    return step(x_t, x0.detach()) - scale * at.grad


@a_posterior.misconception(
    "x_t-itself",
    "You set requires_grad on the x_t that you were given. From then on all that the sampler does "
    "with it is recorded. Work on a detached copy.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        x_t.requires_grad_(True)
        x0 = estimate(x_t)
        (gradient,) = torch.autograd.grad(_norms((y - measure(x0)).flatten(1)), x_t)
    return (step(x_t, x0) - scale * gradient).detach()


@a_posterior.misconception(
    "fails-in-a-sampler",
    "By itself it works, but samplers run under torch.no_grad(), where nothing is recorded that "
    "could be differentiated. Turn it on for your part: torch.enable_grad().",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    at = x_t.detach().requires_grad_(True)
    x0 = estimate(at)
    (gradient,) = torch.autograd.grad(_norms((y - measure(x0)).flatten(1)), at)
    return (step(x_t, x0) - scale * gradient).detach()


@a_posterior.misconception(
    "half-the-square",
    "You differentiate half of the square of the norm. Far from y it pushes without measure, near "
    "y hardly at all; the norm pushes alike wherever it is.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, lambda off: off.square().sum() / 2)


@a_posterior.misconception(
    "gradient-made-a-unit",
    "You divide the gradient by its own length. The norm of the misfit has been taken already; its "
    "gradient is used as it comes, with what the network made of it.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    still = _guided(x_t, estimate, step, measure, y, 0.0, _norms)
    moved = (_guided(x_t, estimate, step, measure, y, 1.0, _norms) - still).flatten(1)
    length = torch.linalg.vector_norm(moved, dim=1, keepdim=True).clamp(min=1e-12)
    return still + scale * (moved / length).reshape(x_t.shape)


@a_posterior.misconception(
    "moved-before-the-step",
    "You move x_t, and then make the step from there. The step shrinks what you did by a factor of "
    "its own; the result of the step is what is moved.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.enable_grad():
        at = x_t.detach().requires_grad_(True)
        x0 = estimate(at)
        (gradient,) = torch.autograd.grad(_norms((y - measure(x0)).flatten(1)), at)
    with torch.no_grad():
        return step(x_t.detach() - scale * gradient, x0.detach())


@a_posterior.misconception(
    "not-moved",
    "This is the sampler's step, and nothing more: the measurement has no part in what you return.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    with torch.no_grad():
        return step(x_t.detach(), estimate(x_t))


@a_posterior.misconception(
    "norm-of-each-row",
    "You take a norm along the last axis, one for each row of each sample, and add them up. Each "
    "sample has one norm, over all of its values: flatten all but the first axis before.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    def value(off):
        return torch.linalg.vector_norm(off.reshape(y.shape), dim=-1).sum()

    return _guided(x_t, estimate, step, measure, y, scale, value)


@a_posterior.misconception(
    "norm-over-channels",
    "You take a norm along axis 1 of (B, C, ...), which runs over the channels: one for each "
    "place. Each sample has one norm, over all of its values: flatten all but the first axis "
    "before.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    def value(off):
        return torch.linalg.vector_norm(off.reshape(y.shape), dim=1).sum()

    return _guided(x_t, estimate, step, measure, y, scale, value)


@a_posterior.misconception(
    "twice-the-gradient",
    "You move twice as far as asked: the gradient of the square over the norm, as in the paper's "
    "algorithm, is twice that of the norm. The stub's scale multiplies the gradient of the norm.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, 2 * scale, _norms)


@a_posterior.misconception(
    "mean-squared-error",
    "You differentiate the mean of the squares, as when a network is trained. Here it is a norm: "
    "the root of the sum of squares, one for each sample.",
)
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    return _guided(x_t, estimate, step, measure, y, scale, lambda off: off.square().mean())


@a_posterior.alternative("torch.func")
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    def misfit(at):
        return torch.linalg.norm((measure(estimate(at)) - y).flatten(1), dim=1).sum()

    with torch.enable_grad():
        gradient = torch.func.grad(misfit)(x_t.detach())
    with torch.no_grad():
        return (step(x_t, estimate(x_t)) - scale * gradient).detach()


@a_posterior.alternative("sample by sample")
def posterior_guidance_step(x_t, estimate, step, measure, y, scale):
    out = []
    for i in range(len(x_t)):
        with torch.enable_grad():
            at = x_t[i : i + 1].clone().detach()
            at.requires_grad = True
            x0 = estimate(at)
            far = (y[i : i + 1] - measure(x0)).norm()
            gradient = torch.autograd.grad(far, at)[0]
        out.append(step(at.detach(), x0.detach()) - scale * gradient)
    return torch.cat(out)


# 14.4 ---------------------------------------------------------------------------------------------

a_balanced = Answers("14.4")


@a_balanced.reference
def balanced_labels(n, classes, counts):
    have, more = list(counts), [0] * classes
    for _ in range(n):
        fewest = have.index(min(have))
        have[fewest] += 1
        more[fewest] += 1
    return torch.repeat_interleave(torch.arange(classes), torch.tensor(more))


def _spread(more):
    more = torch.as_tensor(more, dtype=torch.int64)
    return torch.repeat_interleave(torch.arange(len(more)), more)


@a_balanced.misconception(
    "rounding-loses-some",
    "n is divided by the number of classes, and what is left over is lost: you return fewer than n "
    "labels.",
)
def balanced_labels(n, classes, counts):
    level = (n + sum(counts)) // classes
    return _spread([max(0, level - c) for c in counts])


@a_balanced.misconception(
    "shares-rounded",
    "Each class gets its share of n, rounded by itself. Rounded numbers need not add up to n.",
)
def balanced_labels(n, classes, counts):
    level = (n + sum(counts)) / classes
    short = [max(0.0, level - c) for c in counts]
    whole = sum(short) or 1.0
    return _spread([math.floor(n * s / whole + 0.5) for s in short])


@a_balanced.misconception(
    "counts-ignored",
    "All classes get the same, whatever is there already. Then the classes that had the most still "
    "have.",
)
def balanced_labels(n, classes, counts):
    return _spread([n // classes + (k < n % classes) for k in range(classes)])


@a_balanced.misconception(
    "as-the-data-are",
    "Classes get labels in the shares that they have in the data, so that what is uneven stays "
    "uneven.",
)
def balanced_labels(n, classes, counts):
    shares = [c / sum(counts) if sum(counts) else 1 / classes for c in counts]
    ends = [round(n * sum(shares[: k + 1])) for k in range(classes)]
    return _spread([b - a for a, b in pairwise([0, *ends])])


@a_balanced.misconception(
    "level-rounded-up",
    "You fill each class, beginning with label 0, up to a level that is rounded up, until n are "
    "spent. The last classes then get less than their share.",
)
def balanced_labels(n, classes, counts):
    level, more = -(-(n + sum(counts)) // classes), []
    for c in counts:
        more.append(min(max(0, level - c), n - sum(more)))
    return _spread(more)


@a_balanced.misconception(
    "highest-label-first",
    "Where several classes have the fewest, the highest label gets the next one. The stub asks for "
    "the lowest.",
)
def balanced_labels(n, classes, counts):
    have, more = list(counts), [0] * classes
    for _ in range(n):
        fewest = min(range(classes), key=lambda k: (have[k], -k))
        have[fewest] += 1
        more[fewest] += 1
    return _spread(more)


@a_balanced.misconception(
    "numbers-not-labels",
    "You return how many of each class are wanted. What is asked for is a label for each of the n.",
)
def balanced_labels(n, classes, counts):
    have, more = list(counts), [0] * classes
    for _ in range(n):
        fewest = have.index(min(have))
        have[fewest] += 1
        more[fewest] += 1
    return torch.tensor(more)


@a_balanced.misconception(
    "in-the-order-of-drawing",
    "The right labels, in the order in which they were dealt out. The stub asks for them in "
    "ascending order.",
)
def balanced_labels(n, classes, counts):
    have, dealt = list(counts), []
    for _ in range(n):
        fewest = have.index(min(have))
        have[fewest] += 1
        dealt.append(fewest)
    return torch.tensor(dealt, dtype=torch.int64)


@a_balanced.misconception(
    "counts-changed",
    "The labels are right, but you count in the list that you were given: whoever called you finds "
    "other numbers in it afterwards.",
)
def balanced_labels(n, classes, counts):
    labels = []
    for _ in range(n):
        fewest = counts.index(min(counts))
        counts[fewest] += 1
        labels.append(fewest)
    return torch.tensor(sorted(labels), dtype=torch.int64)


@a_balanced.misconception(
    "drawn-ones-not-counted",
    "All n go to the class that has the fewest at the beginning. Each drawn one counts, too: after "
    "it, another class may have the fewest.",
)
def balanced_labels(n, classes, counts):
    return torch.full((n,), counts.index(min(counts)), dtype=torch.int64)


@a_balanced.misconception(
    "most-first",
    "Each drawn one goes to the class that has the most. The class with the fewest gets it.",
)
def balanced_labels(n, classes, counts):
    return torch.full((n,), counts.index(max(counts)), dtype=torch.int64)


@a_balanced.misconception(
    "empty-list-is-float",
    "Right, but for n = 0: torch cannot tell what an empty list holds, and makes float32 of it. "
    "Labels are int64, also where there are none: say so when you make the tensor.",
)
def balanced_labels(n, classes, counts):
    have, dealt = list(counts), []
    for _ in range(n):
        fewest = have.index(min(have))
        have[fewest] += 1
        dealt.append(fewest)
    return torch.tensor(sorted(dealt))


@a_balanced.misconception(
    "rest-dealt-from-label-0",
    "You fill up to one level and deal out what is left from label 0 on. A class that has more "
    "than its share gets nothing, so the level of the others lies lower than the mean; and the "
    "rest belongs to those that have the fewest.",
)
def balanced_labels(n, classes, counts):
    level = (n + sum(counts)) // classes
    more = [max(0, level - c) for c in counts]
    for k in range(max(0, n - sum(more))):
        more[k % classes] += 1
    return _spread(more)


@a_balanced.alternative("a heap")
def balanced_labels(n, classes, counts):
    heap = [(c, k) for k, c in enumerate(counts)]
    heapq.heapify(heap)
    labels = []
    for _ in range(n):
        c, k = heap[0]
        labels.append(k)
        heapq.heapreplace(heap, (c + 1, k))
    return torch.tensor(sorted(labels), dtype=torch.int64)


@a_balanced.alternative("every place that could be filled, sorted")
def balanced_labels(n, classes, counts):
    places = sorted((c + i, k) for k, c in enumerate(counts) for i in range(n))
    return torch.tensor(sorted(k for _, k in places[:n]), dtype=torch.int64)


@a_balanced.alternative("a level of water")
def balanced_labels(n, classes, counts):
    have = torch.as_tensor(counts)
    level = int(have.min())
    while int((level + 1 - have).clamp(min=0).sum()) <= n:
        level += 1
    more = (level - have).clamp(min=0)
    first = ((have + more) == level).nonzero().flatten()[: n - int(more.sum())]
    more[first] += 1
    return torch.arange(classes).repeat_interleave(more)


# 14.5 ---------------------------------------------------------------------------------------------

a_mix = Answers("14.5")


@a_mix.reference
def mix_real_and_synthetic(real, synthetic, test, tol):
    def same(a, b):
        off = a.flatten(1)[:, None] - b.flatten(1)[None]
        return off.square().mean(2).sqrt() <= tol

    (x, y), (x_more, y_more) = real, synthetic
    clean = ~same(x, test).any(1)
    fresh = ~same(x_more, torch.cat([test, x[clean]])).any(1)
    alike = same(x_more, x_more)
    for i in range(len(x_more)):
        fresh[i] &= not (alike[i, :i] & fresh[:i]).any()
    origin = torch.cat([torch.zeros(int(clean.sum())), torch.ones(int(fresh.sum()))]).bool()
    return torch.cat([x[clean], x_more[fresh]]), torch.cat([y[clean], y_more[fresh]]), origin


def _rms(a, b):
    return (a.flatten(1)[:, None] - b.flatten(1)[None]).square().mean(2).sqrt()


def _mixed(real, synthetic, clean, fresh, origin=None):
    (x, y), (x_more, y_more) = real, synthetic
    if origin is None:
        origin = torch.arange(int(clean.sum()) + int(fresh.sum())) >= int(clean.sum())
    return torch.cat([x[clean], x_more[fresh]]), torch.cat([y[clean], y_more[fresh]]), origin


def _first_ones(alike, fresh):
    """``fresh`` without those that are the same as one before them that is in it."""
    fresh = fresh.clone()
    for i in range(len(fresh)):
        fresh[i] &= not (alike[i, :i] & fresh[:i]).any()
    return fresh


def _choose(real, synthetic, test, tol, far=_rms):
    """(clean, fresh) as in the reference, with another distance perhaps."""
    clean = ~(far(real[0], test) <= tol).any(1)
    fresh = ~(far(synthetic[0], torch.cat([test, real[0][clean]])) <= tol).any(1)
    return clean, _first_ones(far(synthetic[0], synthetic[0]) <= tol, fresh)


@a_mix.misconception(
    "test-not-looked-at",
    "Synthetic copies of test items are taken. Whoever trains on them is tested on what has been "
    "learnt by heart.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], real[0][clean]) <= tol).any(1)
    fresh = _first_ones(_rms(synthetic[0], synthetic[0]) <= tol, fresh)
    return _mixed(real, synthetic, clean, fresh)


@a_mix.misconception(
    "real-ones-not-compared-with-the-test",
    "The synthetic items are compared with the test, the real ones are not. Real data hold "
    "duplicates, too, and split at random one of a pair may be in the test.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = torch.ones(len(real[0]), dtype=torch.bool)
    fresh = ~(_rms(synthetic[0], torch.cat([test, real[0]])) <= tol).any(1)
    fresh = _first_ones(_rms(synthetic[0], synthetic[0]) <= tol, fresh)
    return _mixed(real, synthetic, clean, fresh)


@a_mix.misconception(
    "only-exact-copies",
    "Only items that are equal to the last bit count as the same. A network never draws such; the "
    "stub says how near is the same.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    return _mixed(real, synthetic, *_choose(real, synthetic, test, 0.0))


@a_mix.misconception(
    "sum-not-mean",
    "You compare the root of the sum of squares with tol. It grows with the number of values, and "
    "the mean does not.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    def far(a, b):
        return torch.cdist(a.flatten(1), b.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")

    return _mixed(real, synthetic, *_choose(real, synthetic, test, tol, far))


@a_mix.misconception(
    "square-not-root",
    "You compare the mean square with tol, without its root. Small numbers get smaller when "
    "squared: items count as the same that are not.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    return _mixed(
        real,
        synthetic,
        *_choose(real, synthetic, test, tol, lambda a, b: _rms(a, b).square()),
    )


@a_mix.misconception(
    "duplicates-kept",
    "Items that were drawn several times are taken several times, and weigh more than others.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], torch.cat([test, real[0][clean]])) <= tol).any(1)
    return _mixed(real, synthetic, clean, fresh)


@a_mix.misconception(
    "all-of-the-duplicates-dropped",
    "Of items that are the same you take none. The first of them is new, and is to be kept.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], torch.cat([test, real[0][clean]])) <= tol).any(1)
    alike = _rms(synthetic[0], synthetic[0]) <= tol
    return _mixed(real, synthetic, clean, fresh & (alike.sum(1) == 1))


@a_mix.misconception(
    "copies-of-real-ones-kept",
    "Synthetic copies of the real training items are taken: they add nothing, and hide how little "
    "new data there is.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], test) <= tol).any(1)
    fresh = _first_ones(_rms(synthetic[0], synthetic[0]) <= tol, fresh)
    return _mixed(real, synthetic, clean, fresh)


@a_mix.misconception(
    "only-within-a-class",
    "A copy that carries another label passes. It is the same item all the same, and with a wrong "
    "label at that.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    near = _rms(synthetic[0], real[0][clean]) <= tol
    near &= synthetic[1][:, None] == real[1][clean]
    fresh = ~near.any(1) & ~(_rms(synthetic[0], test) <= tol).any(1)
    fresh = _first_ones(_rms(synthetic[0], synthetic[0]) <= tol, fresh)
    return _mixed(real, synthetic, clean, fresh)


@a_mix.misconception(
    "real-duplicates-dropped",
    "Real items that are alike are thrown away as well. The stub keeps every real item that is not "
    "in the test: how often something occurs is part of the data.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean, fresh = _choose(real, synthetic, test, tol)
    return _mixed(real, synthetic, _first_ones(_rms(real[0], real[0]) <= tol, clean), fresh)


@a_mix.misconception(
    "compared-with-those-not-taken",
    "An item is left out because it is the same as an earlier one that was left out itself. Only "
    "those that were taken count.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], torch.cat([test, real[0][clean]])) <= tol).any(1)
    alike = _rms(synthetic[0], synthetic[0]) <= tol
    return _mixed(real, synthetic, clean, fresh & ~alike.tril(-1).any(1))


@a_mix.misconception(
    "origin-inverted",
    "True stands for the real ones. is_synthetic is True where an item was drawn.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean, fresh = _choose(real, synthetic, test, tol)
    origin = torch.arange(int(clean.sum()) + int(fresh.sum())) < int(clean.sum())
    return _mixed(real, synthetic, clean, fresh, origin)


@a_mix.misconception(
    "labels-left-as-they-were",
    "Items are left out, but all the labels are kept: from the first gap on, each item has the "
    "label of another.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    x, _, origin = _mixed(real, synthetic, *_choose(real, synthetic, test, tol))
    return x, torch.cat([real[1], synthetic[1]])[: len(x)], origin


@a_mix.misconception(
    "mean-of-absolute-values",
    "You average absolute differences. Squares come first, then the mean, then the root: a few "
    "large differences weigh more in it.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    def far(a, b):
        return (a.flatten(1)[:, None] - b.flatten(1)[None]).abs().mean(2)

    return _mixed(real, synthetic, *_choose(real, synthetic, test, tol, far))


@a_mix.misconception(
    "greatest-difference",
    "You compare the greatest difference of any value with tol (torch.allclose does, too). The "
    "root of the mean of the squares is asked for.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    def far(a, b):
        return (a.flatten(1)[:, None] - b.flatten(1)[None]).abs().amax(2)

    return _mixed(real, synthetic, *_choose(real, synthetic, test, tol, far))


@a_mix.misconception(
    "compared-with-real-ones-not-taken",
    "A synthetic item is left out because it is the same as a real one that was left out itself. "
    "Only those that were taken count.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean = ~(_rms(real[0], test) <= tol).any(1)
    fresh = ~(_rms(synthetic[0], torch.cat([test, real[0]])) <= tol).any(1)
    return _mixed(
        real, synthetic, clean, _first_ones(_rms(synthetic[0], synthetic[0]) <= tol, fresh)
    )


@a_mix.misconception(
    "less-than-tol",
    "Two items whose difference is exactly tol are not the same in yours. The text says at most "
    "tol: equal counts.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    below = tol * (1 - 1e-6)  # as with <: no difference of a case lies between
    return _mixed(real, synthetic, *_choose(real, synthetic, test, below))


@a_mix.misconception(
    "origin-counted-before-leaving-out",
    "is_synthetic becomes True where all the real items would end. Some of them have been left "
    "out: count those that were taken.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean, fresh = _choose(real, synthetic, test, tol)
    origin = torch.arange(int(clean.sum()) + int(fresh.sum())) >= len(real[0])
    return _mixed(real, synthetic, clean, fresh, origin)


@a_mix.misconception(
    "the-same-as-itself",
    "No synthetic item is left: each is compared with all synthetic ones, itself among them, and "
    "is always the same as itself. Compare it with those before it.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    clean, fresh = _choose(real, synthetic, test, tol)
    return _mixed(real, synthetic, clean, torch.zeros_like(fresh))


@a_mix.misconception(
    "spread-of-the-difference",
    "You compare the standard deviation of the difference with tol. It takes the mean away first: "
    "the same picture, brighter all over, has a spread of 0 and is another picture.",
)
def mix_real_and_synthetic(real, synthetic, test, tol):
    def far(a, b):
        return (a.flatten(1)[:, None] - b.flatten(1)[None]).std(2)

    return _mixed(real, synthetic, *_choose(real, synthetic, test, tol, far))


@a_mix.alternative("one by one, in lists")
def mix_real_and_synthetic(real, synthetic, test, tol):
    def known(item, others):
        return any(float((item - o).square().mean() ** 0.5) <= tol for o in others)

    taken = [(v, y, False) for v, y in zip(*real) if not known(v, test)]
    bare = [v for v, _, _ in taken]
    for v, y in zip(*synthetic):
        if not known(v, test) and not known(v, bare):
            taken.append((v, y, True))
            bare.append(v)
    xs, ys, origin = zip(*taken)
    return torch.stack(xs), torch.stack(ys), torch.tensor(origin)


@a_mix.alternative("cdist, and indices")
def mix_real_and_synthetic(real, synthetic, test, tol):
    far = tol * test[0].numel() ** 0.5

    def apart(a, b):
        return torch.cdist(
            a.flatten(1).double(),
            b.flatten(1).double(),
            compute_mode="donot_use_mm_for_euclid_dist",
        )

    kept = (apart(real[0], test).amin(1) > far).nonzero()[:, 0]
    seen = torch.cat([test, real[0][kept]])
    rows = []
    for i, item in enumerate(synthetic[0]):
        if apart(item[None], seen).amin() > far:
            rows.append(i)
            seen = torch.cat([seen, item[None]])
    return (
        torch.cat([real[0][kept], synthetic[0][rows]]),
        torch.cat([real[1][kept], synthetic[1][rows]]),
        torch.tensor([False] * len(kept) + [True] * len(rows)),
    )


# 14.6 ---------------------------------------------------------------------------------------------

a_audio = Answers("14.6")


@a_audio.reference
def repair_audio(x, proposal, start, stop, fade):
    places = torch.arange(x.shape[-1])
    away = torch.maximum(start - places, places - (stop - 1)).clamp(min=0)
    near = (away > 0) & (away <= fade)
    gain = torch.ones_like(x[:, :1, :1])
    if near.any():
        wanted, found = (v[..., near].square().mean((1, 2), keepdim=True).sqrt()
                         for v in (x, proposal))  # fmt: skip
        heard = (wanted > 1e-6) & (found > 1e-6)
        gain = torch.where(heard, wanted / found, gain)
    share = (1 - away.to(x.dtype) / (fade + 1)).clamp(min=0)
    outside = torch.where(away > 0, x, torch.zeros_like(x))
    return (1 - share) * outside + share * gain * proposal


def _away(x, start, stop):
    places = torch.arange(x.shape[-1])
    return torch.maximum(start - places, places - (stop - 1)).clamp(min=0)


def _rms_of(v, places):
    return v[..., places].square().mean((1, 2), keepdim=True).sqrt()


def _gain(x, proposal, near, rms=_rms_of):
    if not near.any():
        return torch.ones_like(x[:, :1, :1])
    wanted, found = rms(x, near), rms(proposal, near)
    heard = (wanted > 1e-6) & (found > 1e-6)
    return torch.where(heard, wanted / found, torch.ones_like(wanted))


def _joined(x, proposal, start, stop, fade, gain=None, share=None):
    away = _away(x, start, stop)
    if gain is None:
        gain = _gain(x, proposal, (away > 0) & (away <= fade))
    if share is None:
        share = (1 - away / (fade + 1)).clamp(min=0)
    share = share.to(x.dtype)
    return (1 - share) * torch.where(away > 0, x, torch.zeros_like(x)) + share * gain * proposal


@a_audio.misconception(
    "hard-seam",
    "The proposal begins and ends at once, at the edges of the gap. The two do not meet there, and "
    "the step between them is heard as a click.",
)
def repair_audio(x, proposal, start, stop, fade):
    return _joined(x, proposal, start, stop, fade, share=_away(x, start, stop) == 0)


@a_audio.misconception(
    "fades-inside-the-gap",
    "You fade within the gap. There x has nothing to fade from, so that the sound dips at both "
    "ends. The samples next to the gap, which both know, are where to fade.",
)
def repair_audio(x, proposal, start, stop, fade):
    places = torch.arange(x.shape[-1])
    inside = torch.minimum(places - start + 1, stop - places)
    return _joined(x, proposal, start, stop, fade, share=(inside / (fade + 1)).clamp(min=0, max=1))


@a_audio.misconception(
    "level-as-it-comes",
    "The proposal is put in as loud as it is. The stub asks for the level that x has next to the "
    "gap.",
)
def repair_audio(x, proposal, start, stop, fade):
    return _joined(x, proposal, start, stop, fade, gain=1.0)


@a_audio.misconception(
    "gain-inverted",
    "The factor is the wrong way round: a proposal that is too loud gets louder.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    return _joined(x, proposal, start, stop, fade, gain=1 / gain)


@a_audio.misconception(
    "ratio-of-powers",
    "The factor is the ratio of the mean squares. That is of powers; samples are amplitudes, and "
    "their factor is its root.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    return _joined(x, proposal, start, stop, fade, gain=gain.square())


@a_audio.misconception(
    "peaks-compared",
    "You compare the largest values. One sample then decides how loud all others are; the stub "
    "asks for the root mean square.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)

    def peak(v, places):
        return v[..., places].abs().amax((1, 2), keepdim=True)

    gain = _gain(x, proposal, (away > 0) & (away <= fade), peak)
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.misconception(
    "level-of-the-whole-clip",
    "You compare all of the clip outside the gap. A drum is loud at first and quiet later: what "
    "counts is how loud it is next to the gap.",
)
def repair_audio(x, proposal, start, stop, fade):
    gain = _gain(x, proposal, _away(x, start, stop) > 0)
    return _joined(x, proposal, start, stop, fade, gain=gain if fade else 1.0)


@a_audio.misconception(
    "one-gain-for-all",
    "All clips of the batch get one factor. Each has a level of its own.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)

    def together(v, places):
        return v[..., places].square().mean().sqrt().expand(len(v), 1, 1)

    gain = _gain(x, proposal, (away > 0) & (away <= fade), together)
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.misconception(
    "equal-power",
    "The shares are roots, so that their squares add up to 1. That is right for two sounds that "
    "have nothing to do with each other; here they are nearly the same, and it bulges.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    share = (1 - away / (fade + 1)).clamp(min=0)
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    outside = torch.where(away > 0, x, torch.zeros_like(x))
    a, b = (1 - share).sqrt().to(x.dtype), share.sqrt().to(x.dtype)
    return a * outside + b * gain * proposal


@a_audio.misconception(
    "fade-one-too-short",
    "Your share reaches 0 at distance `fade` already, and the fade is one sample shorter than "
    "asked for: the divisor is fade + 1.",
)
def repair_audio(x, proposal, start, stop, fade):
    share = (1 - _away(x, start, stop) / max(fade, 1)).clamp(min=0)
    return _joined(x, proposal, start, stop, fade, share=share)


@a_audio.misconception(
    "nan-times-nothing",
    "Right, but where x holds NaN in the gap: 0 times NaN is NaN, and what is multiplied by a "
    "share of 0 is still there.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    share = (1 - away / (fade + 1)).clamp(min=0).to(x.dtype)
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    return (1 - share) * x + share * gain * proposal


@a_audio.misconception(
    "silence-divided",
    "Where the proposal is silent next to the gap you divide by 0, and where x is, you silence the "
    "proposal. The factor is 1 in both cases.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    near = (away > 0) & (away <= fade)
    gain = _rms_of(x, near) / _rms_of(proposal, near) if near.any() else 1.0
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.misconception(
    "fade-begins-too-late",
    "Next to the gap your proposal still has the share 1. At distance 1 it is 1 - 1 / (fade + 1) "
    "already: 1 belongs to the gap itself, distance 0.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    share = (1 - (away - 1).clamp(min=0) / max(fade, 1)).clamp(min=0) * (away <= fade)
    return _joined(x, proposal, start, stop, fade, share=share)


@a_audio.misconception(
    "one-gain-a-channel",
    "Each channel gets a factor of its own. The level is taken over all channels of a clip "
    "together, so that what is left and what is right stays so.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)

    def rms(v, places):
        return v[..., places].square().mean(2, keepdim=True).sqrt()

    gain = _gain(x, proposal, (away > 0) & (away <= fade), rms)
    return _joined(x, proposal, start, stop, fade, gain)


@a_audio.misconception(
    "proposal-measured-in-the-gap",
    "You take the level of the proposal in the gap, and that of x beside it. A drum fades: measure "
    "both at the same places, where samples are faded.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    near = (away > 0) & (away <= fade)

    def rms(v, places):
        return _rms_of(v, away == 0 if v is proposal else places)

    return _joined(x, proposal, start, stop, fade, _gain(x, proposal, near, rms))


@a_audio.misconception(
    "level-from-the-left",
    "You take the level on the left of the gap only. Both sides count, together.",
)
def repair_audio(x, proposal, start, stop, fade):
    places = torch.arange(x.shape[-1])
    near = (places < start) & (places >= start - fade)
    return _joined(x, proposal, start, stop, fade, _gain(x, proposal, near))


@a_audio.misconception(
    "fade-narrowed-at-the-edge",
    "Where one side has less room than `fade`, you make the fade shorter on both, shares and all. "
    "Only samples that do not exist are left out; the others keep their shares.",
)
def repair_audio(x, proposal, start, stop, fade):
    return _joined(x, proposal, start, stop, min(fade, start, x.shape[-1] - stop))


@a_audio.misconception(
    "around-the-end",
    "Near the start of the clip you count on to places below 0, and those are the last samples to "
    "Python. There is nothing before the first.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    for d in range(start + 1, fade + 1):
        away[start - d] = d
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    share = (1 - away / (fade + 1)).clamp(min=0)
    return _joined(x, proposal, start, stop, fade, gain, share)


@a_audio.misconception(
    "shares-exchanged",
    "In the fades the shares have changed places: next to the gap x has most, and far from it the "
    "proposal. Walk away from the gap: whose share should grow?",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    near = (away > 0) & (away <= fade)
    share = torch.where(near, away / (fade + 1), (away == 0).float())
    return _joined(x, proposal, start, stop, fade, share=share)


@a_audio.misconception(
    "ramp-with-both-ends",
    "Your fade holds the shares 1 and 0 themselves, as linspace(1, 0, fade) does. 1 belongs to the "
    "gap, at distance 0, and 0 to distance fade + 1; the faded samples lie between.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    ramp = 1 - (away - 1) / max(fade - 1, 1)
    share = torch.where(away == 0, 1.0, torch.where(away <= fade, ramp, 0.0))
    return _joined(x, proposal, start, stop, fade, share=share)


@a_audio.misconception(
    "ramp-not-turned",
    "After the gap your proposal comes in again where it should go out: both sides have the same "
    "ramp. On the right it runs the other way.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    share = (1 - away / (fade + 1)).clamp(min=0)
    right = (torch.arange(x.shape[-1]) >= stop) & (away <= fade)
    share = torch.where(right, away / (fade + 1), share)
    return _joined(x, proposal, start, stop, fade, share=share)


@a_audio.misconception(
    "level-in-the-gap-only",
    "The factor multiplies the proposal in the gap, and not where it fades. There the level jumps "
    "at the edges of the gap: it is one factor for all of the proposal.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    gain = _gain(x, proposal, (away > 0) & (away <= fade))
    gain = torch.where(away == 0, gain, torch.ones_like(gain))
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.misconception(
    "stop-taken-for-lost",
    "You treat sample number `stop` as lost, too: on the right all comes one sample too late. The "
    "last lost one is stop - 1. How far is `stop` from the gap?",
)
def repair_audio(x, proposal, start, stop, fade):
    return _joined(x, proposal, start, stop + 1, fade)


@a_audio.misconception(
    "mean-of-nothing",
    "Right, but where nothing is faded: the mean over no samples is NaN, and so is all that it "
    "multiplies. The factor is 1 then.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    near = (away > 0) & (away <= fade)
    wanted, found = _rms_of(x, near), _rms_of(proposal, near)
    silent = (wanted < 1e-6) | (found < 1e-6)
    gain = torch.where(silent, torch.ones_like(wanted), wanted / found)
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.misconception(
    "a-little-added-to-the-divisor",
    "You add a small number so as not to divide by 0. That keeps NaN away, and no more: where x is "
    "silent the factor is 0 and not 1, and everywhere else it is a little off.",
)
def repair_audio(x, proposal, start, stop, fade):
    away = _away(x, start, stop)
    near = (away > 0) & (away <= fade)
    gain = _rms_of(x, near) / (_rms_of(proposal, near) + 1e-8) if near.any() else 1.0
    return _joined(x, proposal, start, stop, fade, gain=gain)


@a_audio.alternative("clip by clip, sample by sample")
def repair_audio(x, proposal, start, stop, fade):
    length = x.shape[-1]
    near = [i for i in range(length) if start - fade <= i < start or stop <= i < stop + fade]
    out = x.clone()
    for b in range(len(x)):
        factor = 1.0
        if near:
            mine = float(x[b][:, near].double().square().mean()) ** 0.5
            theirs = float(proposal[b][:, near].double().square().mean()) ** 0.5
            if mine > 1e-6 and theirs > 1e-6:
                factor = mine / theirs
        out[b, :, start:stop] = factor * proposal[b, :, start:stop]
        for i in near:
            d = start - i if i < start else i - stop + 1
            w = 1 - d / (fade + 1)
            out[b, :, i] = (1 - w) * x[b, :, i] + w * factor * proposal[b, :, i]
    return out


@a_audio.alternative("ramps by linspace, joined")
def repair_audio(x, proposal, start, stop, fade):
    before, after = min(fade, start), min(fade, x.shape[-1] - stop)
    ramp = torch.linspace(0, 1, fade + 2, dtype=x.dtype)[1:-1]
    share = torch.zeros(x.shape[-1], dtype=x.dtype)
    share[start:stop] = 1
    share[start - before : start] = ramp[fade - before :]
    share[stop : stop + after] = ramp.flip(0)[:after]
    spots = list(range(start - before, start)) + list(range(stop, stop + after))
    clean = torch.nan_to_num(x)
    factor = torch.ones(len(x), 1, 1, dtype=x.dtype)
    if spots:
        a = clean[..., spots].pow(2).mean((1, 2)).sqrt()
        b = proposal[..., spots].pow(2).mean((1, 2)).sqrt()
        good = (a > 1e-6) & (b > 1e-6)
        factor[good, 0, 0] = a[good] / b[good]
    return torch.lerp(clean, factor * proposal, share)
