"""Answers of lesson 06: references, named mistakes with what to say about them, alternatives."""

import itertools
import math

import torch

from coursework.exercise import Answers

# 06.1 ---------------------------------------------------------------------------------------------

a_ddpm_step = Answers("06.1")


@a_ddpm_step.reference
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "noise-at-the-end",
    "You add noise at t = 0 too. That step gives the finished sample; noise added there is never "
    "taken away again, and stays in the picture as grain.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise


@a_ddpm_step.misconception(
    "last-step-one-too-early",
    "You leave the noise out at t = 1 as well. Only t = 0 leads to the data; t counts from 0 here "
    "(in the paper it counts from 1).",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 1).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "no-noise",
    "You add no noise at any step. What you return is the mean of the step; without the random "
    "part all samples run to the middle of the data and lose variance.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    return (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()


@a_ddpm_step.misconception(
    "beta-as-deviation",
    "The noise is multiplied by beta. beta is the variance that it should have; the factor is its "
    "root.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta * noise * later


@a_ddpm_step.misconception(
    "divided-by-root-alpha-bar",
    "You divide the bracket by the root of alpha_bar. That undoes all steps up to t at once, but "
    "only one is taken back here: the root of alpha_t = 1 - beta_t belongs there.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / ab.sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "divided-by-the-step-before",
    "You divide the bracket by the root of alpha_bar one step before. The factor is that of the "
    "single step from t - 1 to t, the root of 1 - beta_t.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    alpha_bar = torch.cumprod(1 - betas, 0)
    ab = alpha_bar[t].to(x_t.dtype).reshape(shape)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / before.sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "divided-by-alpha",
    "You divide the bracket by 1 - beta, not by its root. A step of the forward process multiplied "
    "x by the root, and that is what has to be undone.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta)
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "noise-estimate-without-root",
    "You divide beta by 1 - alpha_bar, without the root. eps has variance 1, and in x_t it stands "
    "with the root of 1 - alpha_bar before it.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab) * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "all-the-noise",
    "You take out root(1 - alpha_bar) eps: all the noise that x_t holds. One step removes only a "
    "share of it, beta / root(1 - alpha_bar).",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "straight-to-the-guess",
    "Your mean is the guess of x0 itself. From far away the guess is an average over all data that "
    "fit, and not to be trusted: take out a share of the noise, as the formula says. (At t = 0 "
    "both are the same.)",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "shrinking-not-undone",
    "A share of the noise is taken out, but the shrinking of this one step is not undone: divide "
    "by root(alpha_t) = root(1 - beta_t), the new noise left out.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = x_t - beta / (1 - ab).sqrt() * eps
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "product-of-betas",
    "Your alpha_bar is the product of the betas. It is the product of all alphas up to t, of "
    "1 - beta: torch.cumprod(1 - betas, 0).",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "noise-put-in",
    "You add the estimated noise in place of taking it out. This step goes back: the bracket has a "
    "minus.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t + beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "posterior-variance",
    "Your noise has the variance of the posterior, (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) "
    "beta_t. That is the paper's other choice, and 06.10 asks for it; here it is beta_t.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    alpha_bar = torch.cumprod(1 - betas, 0)
    ab = alpha_bar[t].to(x_t.dtype).reshape(shape)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])[t].to(x_t.dtype).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + ((1 - before) / (1 - ab) * beta).sqrt() * noise


@a_ddpm_step.misconception(
    "betas-as-alpha-bar",
    "You look up alpha_bar in betas. What you were given are the variances of single steps; "
    "alpha_bar is the cumulative product of 1 - beta, and you have to make it.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - beta).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "index-minus-one",
    "You look beta up at t - 1. betas[t] belongs to the step that led to x_t, the one that is "
    "taken back.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t - 1].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "one-t-only",
    "For a single int your step is right. A tensor t of shape (B,) needs its factors reshaped, so "
    "that they act along the first axis, and a question `if t > 0` has no single answer there.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    beta = betas[t].to(x_t.dtype)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise if t > 0 else mean


@a_ddpm_step.misconception(
    "first-t-decides",
    "Whether noise is added is decided by one sample for the whole batch. With a t for each "
    "sample, some may be at 0 while others are not.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    if torch.as_tensor(t).min() > 0:
        mean = mean + beta.sqrt() * noise
    return mean


@a_ddpm_step.misconception(
    "dtype-of-the-betas",
    "With float64 betas your result is float64, though x_t is float32. Bring the factors to x_t's "
    "dtype.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * noise * later


@a_ddpm_step.misconception(
    "own-noise",
    "You draw new noise and leave the argument unused. The caller draws, so that a run can be "
    "repeated.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    mean = (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt()
    return mean + beta.sqrt() * torch.randn_like(x_t) * later


@a_ddpm_step.misconception(
    "in-place",
    "The numbers are right, but x_t itself was changed (-=, /= or an operation ending in an "
    "underscore). Whoever called you may still need the old x_t.",
)
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    beta = betas[t].to(x_t.dtype).reshape(shape)
    ab = torch.cumprod(1 - betas, 0)[t].to(x_t.dtype).reshape(shape)
    later = (torch.as_tensor(t) > 0).reshape(shape)
    x_t -= beta / (1 - ab).sqrt() * eps
    x_t /= (1 - beta).sqrt()
    x_t += beta.sqrt() * noise * later
    return x_t


@a_ddpm_step.alternative("by way of x0 and the posterior's mean")
def ddpm_step(x_t, t, eps, betas, noise):
    shape = (-1, *[1] * (x_t.ndim - 1))
    betas = betas.double()
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar])[t].reshape(shape)
    beta, ab = betas[t].reshape(shape), alpha_bar[t].reshape(shape)
    x0 = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    mean = before.sqrt() * beta / (1 - ab) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - ab) * x_t
    wanted = torch.as_tensor(t).reshape(shape) != 0
    return torch.where(wanted, mean + beta.sqrt() * noise, mean).to(x_t.dtype)


@a_ddpm_step.alternative("sample by sample")
def ddpm_step(x_t, t, eps, betas, noise):
    steps = t.tolist() if isinstance(t, torch.Tensor) else [t] * len(x_t)
    rows = []
    for x, i, e, z in zip(x_t, steps, eps, noise):
        beta = float(betas[i])
        ab = math.prod(1 - b for b in betas[: i + 1].tolist())
        row = (x - beta / math.sqrt(1 - ab) * e) / math.sqrt(1 - beta)
        rows.append(row + math.sqrt(beta) * z if i > 0 else row)
    return torch.stack(rows)


@a_ddpm_step.alternative("noise set to zero where t is 0")
def ddpm_step(x_t, t, eps, betas, noise):
    t = torch.as_tensor(t).expand(len(x_t))
    noise = noise.clone()
    noise[t == 0] = 0
    alphas = 1 - betas
    axes = (...,) + (None,) * (x_t.ndim - 1)
    alpha, ab = alphas[t][axes].to(x_t), alphas.log().cumsum(0).exp()[t][axes].to(x_t)
    return (x_t - (1 - alpha) * (1 - ab).rsqrt() * eps) * alpha.rsqrt() + (1 - alpha).sqrt() * noise


# 06.10 --------------------------------------------------------------------------------------------

a_posterior = Answers("06.10")


@a_posterior.reference
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = (1 - before[t]) / (1 - alpha_bar[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.sqrt().to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "still-beta",
    "Your noise still has the variance beta_t. It was to be that of the posterior, which is a "
    "little smaller, and 0 at t = 0.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    return ddpm_step(x_t, t, eps, betas, noise)


@a_posterior.misconception(
    "variance-as-factor",
    "You multiply the noise by the variance of the posterior. The factor is its root.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = (1 - before[t]) / (1 - alpha_bar[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "ratio-upside-down",
    "You multiply beta by (1 - alpha_bar_t) / (1 - alpha_bar_{t-1}), which is above 1 (and "
    "infinite at t = 0). Knowing x0 as well makes the variance smaller than beta.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = (1 - alpha_bar[t]) / (1 - before[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.sqrt().to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "wraps-around",
    "alpha_bar[t - 1] at t = 0 is alpha_bar[-1], the *last* value. Before the first step nothing "
    "has been added: alpha_bar is 1 there, and the variance 0.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.sqrt().to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "without-one-minus",
    "You take the ratio of the two alpha_bar. The variance has the ratio of the noise that is in "
    "x_{t-1} and in x_t, which is one minus them.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = alpha_bar[t] / before[t] * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.sqrt().to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "both-noises",
    "You add the new noise to a step that has its own already: pass zeros for the noise of "
    "ddpm_step where you want its mean.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = (1 - before[t]) / (1 - alpha_bar[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, noise)
    return mean + variance.sqrt().to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) * noise


@a_posterior.misconception(
    "one-t-only",
    "For a single int your step is right. With a t for each sample the variance has shape (B,), "
    "and must be reshaped to act along the first axis.",
)
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    variance = (1 - before[t]) / (1 - alpha_bar[t]) * betas[t]
    mean = ddpm_step(x_t, t, eps, betas, torch.zeros_like(noise))
    return mean + variance.sqrt().to(x_t.dtype) * noise


@a_posterior.alternative("the noise scaled before an ordinary step")
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    share = ((1 - before[t]) / (1 - alpha_bar[t])).sqrt().to(x_t.dtype)
    scaled = share.reshape(-1, *[1] * (x_t.ndim - 1)) * noise
    return ddpm_step(x_t, t, eps, betas, scaled)


@a_posterior.alternative("without ddpm_step")
def ddpm_posterior_step(x_t, t, eps, betas, noise):
    steps = torch.as_tensor(t).expand(len(x_t)).tolist()
    levels = [1.0, *torch.cumprod(1 - betas, 0).tolist()]
    rows = []
    for x, i, e, z in zip(x_t, steps, eps, noise):
        beta, before, ab = float(betas[i]), levels[i], levels[i + 1]
        mean = (x - beta / math.sqrt(1 - ab) * e) / math.sqrt(1 - beta)
        rows.append(mean + math.sqrt(beta * (1 - before) / (1 - ab)) * z)
    return torch.stack(rows)


# 06.2 ---------------------------------------------------------------------------------------------

a_ddpm_sample = Answers("06.2")


@a_ddpm_sample.reference
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "ascending",
    "You walk from t = 0 up to T - 1. x starts as pure noise, which is the state at T - 1; the "
    "walk goes down from there.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in range(T):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "stops-at-one",
    "You stop after t = 1. The step at t = 0 is the last: it takes out the noise of the first "
    "beta. range(T - 1, 0, -1) ends before 0.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in range(T - 1, 0, -1):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "starts-one-late",
    "You start at t = T - 2. Steps are numbered from 0 to T - 1, and the noisy end T - 1 has a "
    "step of its own.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T - 1)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "new-generator-each-step",
    "You make a new generator with the same seed at every step. Each starts from the beginning, so "
    "every step adds the very same noise, which is no noise at all. Pass on the one you were "
    "given.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    seed = generator.initial_seed()
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        x = ddpm_step(x, t, eps, betas, noise)
    return x


@a_ddpm_sample.misconception(
    "one-noise-for-all-steps",
    "You draw the noise once, before the loop, and add the same at every step. The steps' noises "
    "must be independent: draw inside the loop.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, noise)
    return x


@a_ddpm_sample.misconception(
    "generator-unused-in-the-loop",
    "The start comes from the generator, but the noise of the steps does not: torch.randn_like "
    "takes the global one. The same seed then gives other samples on the next call.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn_like(x))
    return x


@a_ddpm_sample.misconception(
    "generator-ignored",
    "You never use the generator. All draws come from torch's global one, and the same seed does "
    "not give the same samples.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape))
    return x


@a_ddpm_sample.misconception(
    "starts-from-zeros",
    "You start from zeros. All samples then begin at one point; the walk begins with standard "
    "normal noise.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.zeros(shape)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "uniform-start",
    "You draw from a uniform distribution (torch.rand). The end of the forward process is standard "
    "normal: torch.randn.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.rand(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "integer-time",
    "The model gets the step number t itself. It was trained with the float t / (T - 1) (03.5), so "
    "that 0 is clean and 1 is all noise, whatever T is.",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "time-over-T",
    "You give the model t / T. The last step is T - 1, and it has to be the time 1: the network "
    "was trained with t / (T - 1).",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / T), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "time-without-a-batch",
    "The model gets one number for the time. Its samples may each have a time of their own, so it "
    "wants a tensor of shape (B,).",
)
@torch.no_grad()
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.tensor(t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.misconception(
    "keeps-the-graph",
    "The samples are right, but torch has kept a graph through every step, to differentiate "
    "through all of them: with a network that fills the memory. Switch gradients off for sampling.",
)
def ddpm_sample(model, shape, betas, generator):
    T = len(betas)
    x = torch.randn(shape, generator=generator)
    for t in reversed(range(T)):
        eps = model(x, torch.full((len(x),), t / (T - 1)), None)
        x = ddpm_step(x, t, eps, betas, torch.randn(shape, generator=generator))
    return x


@a_ddpm_sample.alternative("no draw for the last step")
def ddpm_sample(model, shape, betas, generator):
    steps = len(betas)
    with torch.inference_mode():
        x = torch.normal(0.0, 1.0, shape, generator=generator)
        for t in range(steps - 1, -1, -1):
            time = torch.tensor([t], dtype=torch.float32).expand(shape[0]) / (steps - 1)
            noise = torch.randn(*shape, generator=generator) if t else torch.zeros(shape)
            x = ddpm_step(x, t, model(x, time, None), betas, noise)
    return x.clone()


@a_ddpm_sample.alternative("a while loop with t as a tensor")
def ddpm_sample(model, shape, betas, generator):
    x = torch.empty(shape).normal_(generator=generator)
    t = torch.full((shape[0],), len(betas) - 1)
    while t[0] >= 0:
        eps = model(x, t.float() / (len(betas) - 1), None).detach()
        x = ddpm_step(x, t, eps, betas, torch.empty(shape).normal_(generator=generator))
        t = t - 1
    return x


# 06.3 ---------------------------------------------------------------------------------------------

a_ddim_step = Answers("06.3")


@a_ddim_step.reference
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])  # index -1 is the data
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    variance = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    keep = (1 - to - variance).sqrt()
    x0 = (x_t - (1 - ab).sqrt().to(x_t.dtype) * eps) / ab.sqrt().to(x_t.dtype)
    x = to.sqrt().to(x_t.dtype) * x0 + keep.to(x_t.dtype) * eps
    return x + variance.sqrt().to(x_t.dtype) * noise if eta > 0 else x


def _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, variance, keep, levels=None):
    """Wrong steps share this: ``variance(ab, to, eta)`` and ``keep(to, variance)``."""
    shape = (-1, *[1] * (x_t.ndim - 1))
    if levels is None:
        levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = variance(ab, to, eta)
    x0 = (x_t - (1 - ab).sqrt().to(x_t.dtype) * eps) / ab.sqrt().to(x_t.dtype)
    x = to.sqrt().to(x_t.dtype) * x0 + keep(to, v if eta > 0 else 0 * to).to(x_t.dtype) * eps
    return x + v.sqrt().to(x_t.dtype) * noise if eta > 0 else x


def _right_variance(ab, to, eta):
    return eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)


def _right_keep(to, v):
    return (1 - to - v).sqrt()


def _no_keep(to, v):
    return torch.zeros_like(to)


@a_ddim_step.misconception(
    "t-minus-one",
    "You go to t - 1, whatever t_prev is. The point of DDIM is that a step may be as long as you "
    "like: look alpha_bar up at t_prev.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    return _ddim(x_t, t, t - 1, eps, alpha_bar, eta, noise, _right_variance, _right_keep)


@a_ddim_step.misconception(
    "data-wraps-around",
    "For t_prev = -1 you take alpha_bar[-1], which in Python is the last and noisiest level. -1 "
    "means the data, where alpha_bar is 1.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    return _ddim(
        x_t, t, t_prev, eps, alpha_bar, eta, noise, _right_variance, _right_keep, alpha_bar
    )


@a_ddim_step.misconception(
    "data-is-level-zero",
    "For t_prev = -1 you take alpha_bar[0]. That level still has the noise of one step; the data "
    "have alpha_bar = 1.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    levels = torch.cat([alpha_bar, alpha_bar[:1]])
    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, _right_variance, _right_keep, levels)


@a_ddim_step.misconception(
    "eta-not-squared",
    "eta stands under the root as it is. It multiplies the deviation of the new noise, so its "
    "square belongs into the variance.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    def variance(ab, to, eta):
        return eta * (1 - to) / (1 - ab) * (1 - ab / to)

    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, variance, _right_keep)


@a_ddim_step.misconception(
    "eta-on-the-new-noise-only",
    "eta scales the new noise, but the old noise is reduced as if eta were 1. What is taken from "
    "the old must be what the new brings, or the total is wrong for every eta below 1.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = ((1 - to) / (1 - ab) * (1 - ab / to)).clamp(min=0)
    x0 = (x_t - (1 - ab).sqrt().to(x_t.dtype) * eps) / ab.sqrt().to(x_t.dtype)
    x = to.sqrt().to(x_t.dtype) * x0 + (1 - to - v).sqrt().to(x_t.dtype) * eps
    return x + eta * v.sqrt().to(x_t.dtype) * noise if eta > 0 else x


@a_ddim_step.misconception(
    "old-noise-not-reduced",
    "You add the new noise on top of all of the old. The old one has to make room: of its variance "
    "1 - alpha_bar_prev, the variance of the new is taken away.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    def keep(to, v):
        return (1 - to).sqrt()

    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, _right_variance, keep)


@a_ddim_step.misconception(
    "eta-ignored",
    "eta does nothing in your step: it is always the deterministic one. Which share of the noise "
    "is renewed is for eta to say.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    return _ddim(x_t, t, t_prev, eps, alpha_bar, 0.0, noise, _right_variance, _right_keep)


@a_ddim_step.misconception(
    "always-all-of-the-noise",
    "Your step always renews the noise as far as it can (eta = 1), where eta says how much. With "
    "eta = 0 nothing random may be left.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    if noise is None:
        noise = torch.zeros_like(x_t)
    if torch.as_tensor(t_prev > t).any():
        return _ddim(x_t, t, t_prev, eps, alpha_bar, 0.0, noise, _right_variance, _right_keep)
    return _ddim(x_t, t, t_prev, eps, alpha_bar, 1.0, noise, _right_variance, _right_keep)


@a_ddim_step.misconception(
    "ratio-of-the-variance-upside-down",
    "In the variance of the new noise you divide (1 - alpha_bar) by (1 - alpha_bar_prev). The "
    "less noise the target has, the less of it can be new: the target's stands above.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    def variance(ab, to, eta):
        return eta**2 * (1 - ab) / (1 - to) * (1 - ab / to)

    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, variance, _right_keep)


@a_ddim_step.misconception(
    "variance-without-its-second-factor",
    "The variance of the new noise lacks the factor 1 - alpha_bar / alpha_bar_prev, which makes it "
    "small for a short step.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    def variance(ab, to, eta):
        return eta**2 * (1 - to) / (1 - ab)

    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, variance, _right_keep)


@a_ddim_step.misconception(
    "new-noise-without-root",
    "The new noise is multiplied by its variance. The factor is the root.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    x0 = (x_t - (1 - ab).sqrt().to(x_t.dtype) * eps) / ab.sqrt().to(x_t.dtype)
    x = to.sqrt().to(x_t.dtype) * x0 + (1 - to - v).sqrt().to(x_t.dtype) * eps
    return x + v.to(x_t.dtype) * noise if eta > 0 else x


@a_ddim_step.misconception(
    "new-noise-left-out",
    "You make room for the new noise, and then do not add it: with eta above 0 your x is too "
    "quiet for its level. Its deviation times noise belongs to the sum.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    nothing = torch.zeros_like(x_t)
    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, nothing, _right_variance, _right_keep)


@a_ddim_step.misconception(
    "old-noise-left-out",
    "You scale the guess of x0 to the new level, and leave its noise out. A state at level t_prev "
    "has noise in it: eps comes back, with the deviation that is not new noise.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    return _ddim(x_t, t, t_prev, eps, alpha_bar, eta, noise, _right_variance, _no_keep)


@a_ddim_step.misconception(
    "levels-swapped",
    "t and t_prev have changed places: you estimate x0 as if x_t were at the level of t_prev.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])
    to, ab = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = (eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)).clamp(min=0)
    x0 = (x_t - (1 - ab).sqrt().to(x_t.dtype) * eps) / ab.sqrt().to(x_t.dtype)
    x = to.sqrt().to(x_t.dtype) * x0 + (1 - to - v).clamp(min=0).sqrt().to(x_t.dtype) * eps
    return x + v.sqrt().to(x_t.dtype) * noise if eta > 0 else x


@a_ddim_step.misconception(
    "no-roots",
    "You use alpha_bar and 1 - alpha_bar themselves as factors. They are shares of variance; "
    "factors are their roots.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])]).to(x_t.dtype)
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    x0 = (x_t - (1 - ab) * eps) / ab
    x = to * x0 + (1 - to - v) * eps if eta > 0 else to * x0 + (1 - to) * eps
    return x + v * noise if eta > 0 else x


@a_ddim_step.misconception(
    "noise-for-eps",
    "You go back to the lower level with fresh noise in place of the estimated one. That throws "
    "away what x_t says: with eta = 0 the noise of x_t is kept, only weaker.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])]).to(x_t.dtype)
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    x0 = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    noise = torch.randn_like(x_t) if noise is None else noise
    return to.sqrt() * x0 + (1 - to).sqrt() * noise


@a_ddim_step.misconception(
    "one-t-only",
    "For ints your step is right. Where t and t_prev have shape (B,), so do the factors, and they "
    "must be reshaped to act along the first axis.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])]).to(x_t.dtype)
    ab, to = levels[t], levels[t_prev]
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to) if eta > 0 else 0 * to
    x0 = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    x = to.sqrt() * x0 + (1 - to - v).sqrt() * eps
    return x + v.sqrt() * noise if eta > 0 else x


@a_ddim_step.misconception(
    "needs-noise",
    "Your step fails where noise is None. With eta = 0 nothing is drawn, and nobody has to pass "
    "noise.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])]).to(x_t.dtype)
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    x0 = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    return to.sqrt() * x0 + (1 - to - v).sqrt() * eps + v.sqrt() * noise


@a_ddim_step.misconception(
    "clamped",
    "You clamp the estimate of x0 to [-1, 1]. Samplers for images may do that, but it was not "
    "asked for, and it hides what the network says: sounds and points may lie outside.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])]).to(x_t.dtype)
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    x0 = ((x_t - (1 - ab).sqrt() * eps) / ab.sqrt()).clamp(-1, 1)
    x = to.sqrt() * x0 + (1 - to - v).sqrt() * eps
    return x + v.sqrt() * noise if eta > 0 else x


@a_ddim_step.misconception(
    "dtype-of-the-levels",
    "With a float64 alpha_bar your result is float64, though x_t is float32. Bring the factors to "
    "x_t's dtype.",
)
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    shape = (-1, *[1] * (x_t.ndim - 1))
    levels = torch.cat([alpha_bar, torch.ones_like(alpha_bar[:1])])
    ab, to = levels[t].reshape(shape), levels[t_prev].reshape(shape)
    v = eta**2 * (1 - to) / (1 - ab) * (1 - ab / to)
    x0 = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    x = to.sqrt() * x0 + (1 - to - v).sqrt() * eps
    return x + v.sqrt() * noise if eta > 0 else x


@a_ddim_step.alternative("the two terms of eps joined")
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    t, to = (torch.as_tensor(i).expand(len(x_t)) for i in (t, t_prev))
    axes = (...,) + (None,) * (x_t.ndim - 1)
    a = alpha_bar[t].double()[axes]
    b = torch.where(to < 0, 1.0, alpha_bar[to].double())[axes]
    s2 = eta**2 * ((1 - b) / (1 - a)) * (1 - a / b)
    direct = torch.sqrt(torch.clamp(1 - b - s2, min=0))
    out = torch.sqrt(b / a) * x_t + (direct - torch.sqrt((1 - a) * b / a)) * eps
    if eta:
        out = out + torch.sqrt(s2) * noise
    return out.to(x_t.dtype)


@a_ddim_step.alternative("sample by sample")
def ddim_step(x_t, t, t_prev, eps, alpha_bar, eta=0.0, noise=None):
    rows = []
    steps, targets = (torch.as_tensor(i).expand(len(x_t)).tolist() for i in (t, t_prev))
    for i, (now, then) in enumerate(zip(steps, targets)):
        a = float(alpha_bar[now])
        b = 1.0 if then == -1 else float(alpha_bar[then])
        s = eta * math.sqrt(max(0.0, (1 - b) / (1 - a) * (1 - a / b)))
        x0 = (x_t[i] - math.sqrt(1 - a) * eps[i]) / math.sqrt(a)
        row = math.sqrt(b) * x0 + math.sqrt(max(0.0, 1 - b - s**2)) * eps[i]
        rows.append(row + s * noise[i] if s else row)
    return torch.stack(rows)


# 06.4 ---------------------------------------------------------------------------------------------

a_subsequence = Answers("06.4")


@a_subsequence.reference
def timestep_subsequence(T, n, kind="linspace"):
    if not 1 <= n <= T:
        raise ValueError(f"n must lie in [1, {T}], got {n}")
    if kind not in ("linspace", "quadratic"):
        raise ValueError(f"kind must be 'linspace' or 'quadratic', got {kind!r}")
    if n == 1:
        return torch.tensor([T - 1])
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    if kind == "quadratic":
        way = way**2
    steps = (way * (T - 1)).round().long().tolist()
    for i in range(1, n):
        steps[i] = max(steps[i], steps[i - 1] + 1)
    return torch.tensor(steps)


def _steps(T, n, kind, way, last, spread=True, one=True):
    """Wrong subsequences share this."""
    if not 1 <= n <= T:
        raise ValueError(f"n must lie in [1, {T}], got {n}")
    if kind not in ("linspace", "quadratic"):
        raise ValueError(f"kind must be 'linspace' or 'quadratic', got {kind!r}")
    if n == 1 and one:
        return torch.tensor([T - 1])
    steps = (way * last).round().long().tolist()
    for i in range(1, n) if spread else ():
        steps[i] = max(steps[i], steps[i - 1] + 1)
    return torch.tensor(steps)


@a_subsequence.misconception(
    "misses-the-last",
    "Your steps stop short of T - 1: this is what range(0, T, T // n) gives. Sampling starts from "
    "pure noise, and that belongs to the level T - 1.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.arange(n, dtype=torch.float64) / n
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T)


@a_subsequence.misconception(
    "ends-at-T",
    "Your last step is T. Steps count from 0, so the last one is T - 1, and alpha_bar has no "
    "element T.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T)


@a_subsequence.misconception(
    "starts-above-zero",
    "You leave out step 0: your steps begin one distance above it. Both ends belong in.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.arange(1, n + 1, dtype=torch.float64) / n
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1)


@a_subsequence.misconception(
    "duplicates",
    "Some of your steps are equal: where the ideal steps are less than 1 apart, rounding makes "
    "neighbours the same. A step visited twice does nothing, and (1 - a / b) is 0 there.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1, spread=False)


@a_subsequence.misconception(
    "duplicates-dropped",
    "You remove steps that are equal (torch.unique), and end up with fewer than n. Move them apart "
    "in place of dropping them.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1, spread=False).unique()


@a_subsequence.misconception(
    "floats",
    "The steps are floats. They index alpha_bar, so they have to be integers: round them, then "
    "convert.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1).float()


@a_subsequence.misconception(
    "descending",
    "Your steps fall. They are asked for in rising order; whoever samples walks them backwards.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1).flip(0)


@a_subsequence.misconception(
    "one-step-at-the-clean-end",
    "For n = 1 you give step 0. A single step has to start where sampling starts, at T - 1.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way**2 if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1, one=False)


@a_subsequence.misconception(
    "kind-ignored",
    "Both kinds give the same steps in yours. The quadratic one squares the way from 0 to 1.",
)
def timestep_subsequence(T, n, kind="linspace"):
    return _steps(T, n, kind, torch.linspace(0, 1, n, dtype=torch.float64), T - 1)


@a_subsequence.misconception(
    "root-for-square",
    "You take the root of the way where the square belongs: the steps are dense near T - 1, and "
    "should be dense near 0, where detail is decided.",
)
def timestep_subsequence(T, n, kind="linspace"):
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    way = way.sqrt() if kind == "quadratic" else way
    return _steps(T, n, kind, way, T - 1, spread=kind == "linspace" or n < 50)


@a_subsequence.misconception(
    "unchecked",
    "The steps are right, but more steps than there are, or a kind that does not exist, must raise "
    "a ValueError. A wrong name should not silently give something else.",
)
def timestep_subsequence(T, n, kind="linspace"):
    if n == 1:
        return torch.tensor([T - 1])
    way = torch.linspace(0, 1, n, dtype=torch.float64)
    steps = ((way**2 if kind == "quadratic" else way) * (T - 1)).round().long().tolist()
    for i in range(1, n):
        steps[i] = max(steps[i], steps[i - 1] + 1)
    return torch.tensor(steps)


@a_subsequence.alternative("a running maximum")
def timestep_subsequence(T, n, kind="linspace"):
    if n > T or n < 1:
        raise ValueError(f"{n} steps out of {T}")
    power = {"linspace": 1, "quadratic": 2}.get(kind)
    if power is None:
        raise ValueError(kind)
    place = torch.arange(n)
    way = (place.double() / max(n - 1, 1)) ** power if n > 1 else torch.ones(1)
    steps = torch.floor(way * (T - 1) + 0.5).long()
    return torch.cummax(steps - place, 0).values + place


@a_subsequence.alternative("integers only")
def timestep_subsequence(T, n, kind="linspace"):
    if kind not in ("linspace", "quadratic") or not 0 < n <= T:
        raise ValueError(f"no {n} steps of kind {kind} out of {T}")
    if n == 1:
        return torch.tensor([T - 1], dtype=torch.int64)
    steps = []
    for i in range(n):
        if kind == "linspace":
            step = (i * (T - 1)) // (n - 1)
        else:
            step = (i * i * (T - 1)) // (n - 1) ** 2
        if steps and step <= steps[-1]:
            step = steps[-1] + 1
        steps.append(step)
    return torch.tensor(steps)


# 06.9 ---------------------------------------------------------------------------------------------

a_sigma = Answers("06.9")


@a_sigma.reference
def sigma_from_alpha_bar(alpha_bar):
    return ((1 - alpha_bar) / alpha_bar).sqrt()


@a_sigma.misconception(
    "variance",
    "That is sigma squared: the ratio of the variances. sigma is a standard deviation, the root.",
)
def sigma_from_alpha_bar(alpha_bar):
    return (1 - alpha_bar) / alpha_bar


@a_sigma.misconception(
    "inverted",
    "Yours is large where there is little noise: the ratio stands upside down. alpha_bar near 1 "
    "must give a sigma near 0.",
)
def sigma_from_alpha_bar(alpha_bar):
    return (alpha_bar / (1 - alpha_bar)).sqrt()


@a_sigma.misconception(
    "not-divided",
    "That is the noise in x_t itself. After the division by the root of alpha_bar the noise is "
    "larger by that factor.",
)
def sigma_from_alpha_bar(alpha_bar):
    return (1 - alpha_bar).sqrt()


@a_sigma.misconception(
    "divided-by-alpha-bar",
    "You divide the root of 1 - alpha_bar by alpha_bar. x_t is divided by the *root* of alpha_bar, "
    "so the noise is too.",
)
def sigma_from_alpha_bar(alpha_bar):
    return (1 - alpha_bar).sqrt() / alpha_bar


@a_sigma.misconception(
    "root-of-signal-only",
    "Only the factor of the signal has its root. The noise stands in x_t with the root of "
    "1 - alpha_bar before it.",
)
def sigma_from_alpha_bar(alpha_bar):
    return (1 - alpha_bar) / alpha_bar.sqrt()


@a_sigma.misconception(
    "snr",
    "That is the signal-to-noise ratio. sigma is the root of its inverse.",
)
def sigma_from_alpha_bar(alpha_bar):
    return alpha_bar / (1 - alpha_bar)


@a_sigma.misconception(
    "logarithm",
    "You took the logarithm. sigma itself is asked for, from 0 to infinity.",
)
def sigma_from_alpha_bar(alpha_bar):
    return ((1 - alpha_bar) / alpha_bar).sqrt().log()


@a_sigma.misconception(
    "one-minus-the-root",
    "You took 1 minus the root of alpha_bar for the noise. The two squared factors of x_t add up "
    "to 1: root of (1 - alpha_bar).",
)
def sigma_from_alpha_bar(alpha_bar):
    return (1 - alpha_bar.sqrt()) / alpha_bar.sqrt()


@a_sigma.alternative("from log SNR")
def sigma_from_alpha_bar(alpha_bar):
    return torch.exp(-0.5 * (torch.log(alpha_bar) - torch.log1p(-alpha_bar)))


@a_sigma.alternative("power of the inverse")
def sigma_from_alpha_bar(alpha_bar):
    return (1 / alpha_bar.double() - 1).pow(0.5).to(alpha_bar.dtype)


@a_sigma.alternative("two roots")
def sigma_from_alpha_bar(alpha_bar):
    return torch.sqrt(1 - alpha_bar) / torch.sqrt(alpha_bar)


# 06.5 ---------------------------------------------------------------------------------------------

a_euler_heun = Answers("06.5")


@a_euler_heun.reference
def euler_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + (sigmas[i + 1] - sigmas[i]) * slope
    return x


@a_euler_heun.reference
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1] > 0:
            there = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (slope + there) / 2
        x = ahead
    return x


@a_euler_heun.misconception(
    "average-of-states",
    "Heun: you look up the slope halfway between the old and the new *state*, but at the new "
    "level. What is averaged are the slopes at both ends, not the states.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1] > 0:
            middle = (x + ahead) / 2
            there = (middle - denoise(middle, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * there
        x = ahead
    return x


@a_euler_heun.misconception(
    "average-with-the-second-step",
    "Heun: you make a second step from the new state and average both states. Start the corrected "
    "step from the *old* x, once, with the mean of the two slopes.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        step = sigmas[i + 1] - sigmas[i]
        ahead = x + step * (x - denoise(x, sigmas[i])) / sigmas[i]
        if sigmas[i + 1] > 0:
            further = ahead + step * (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = (ahead + further) / 2
        x = ahead
    return x


@a_euler_heun.misconception(
    "correction-at-zero",
    "Heun: you divide by sigma = 0 in the last step, and get NaN. Where the next level is 0, the "
    "slope there has no value: Euler's step is the whole step.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        there = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
        x = x + (sigmas[i + 1] - sigmas[i]) * (slope + there) / 2
    return x


@a_euler_heun.misconception(
    "heun-is-euler",
    "heun_sample gives what Euler gives, of order 1. The slope at the far end has to come in.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + (sigmas[i + 1] - sigmas[i]) * slope
    return x


@a_euler_heun.misconception(
    "second-slope-from-the-old-state",
    "Heun: the second slope is looked up at the new level, but with the old x. Go there first: "
    "both x and sigma have to be those of the far end.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        if sigmas[i + 1] > 0:
            there = (x - denoise(x, sigmas[i + 1])) / sigmas[i + 1]
            slope = (slope + there) / 2
        x = x + (sigmas[i + 1] - sigmas[i]) * slope
    return x


@a_euler_heun.misconception(
    "second-slope-at-the-old-level",
    "Heun: the second slope is looked up with the new x, but at the old level. The denoiser must "
    "be told the noise that x has.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1] > 0:
            there = (ahead - denoise(ahead, sigmas[i])) / sigmas[i]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (slope + there) / 2
        x = ahead
    return x


@a_euler_heun.misconception(
    "second-slope-only",
    "Heun: you take the slope of the far end alone. That is again of order 1; the mean of both "
    "ends is what cancels the error.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1] > 0:
            there = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * there
        x = ahead
    return x


@a_euler_heun.misconception(
    "slopes-added",
    "Heun: you add the two slopes without halving. The step then goes twice as far as it should.",
)
def heun_sample(denoise, sigmas, x):
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1] > 0:
            there = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (slope + there)
        x = ahead
    return x


def _both(step_of):
    """Both samplers with a wrong ``step_of(x, x0, now, then)`` or wrong levels."""

    def euler_sample(denoise, sigmas, x):
        for i in range(len(sigmas) - 1):
            x = x + step_of(x, denoise(x, sigmas[i]), sigmas[i], sigmas[i + 1])
        return x

    def heun_sample(denoise, sigmas, x):
        for i in range(len(sigmas) - 1):
            first = step_of(x, denoise(x, sigmas[i]), sigmas[i], sigmas[i + 1])
            ahead = x + first
            if sigmas[i + 1] > 0:
                x0 = denoise(ahead, sigmas[i + 1])
                part = step_of(ahead, x0, sigmas[i + 1], sigmas[i + 1] * 2 - sigmas[i])
                ahead = x + (first + part) / 2
            x = ahead
        return x

    return {"euler_sample": euler_sample, "heun_sample": heun_sample}


a_euler_heun.misconception(
    "step-has-the-wrong-sign",
    "You step by sigmas[i] - sigmas[i + 1], which is above 0, so that noise grows. The change of "
    "sigma is the next level minus this one, below 0.",
    defines=_both(lambda x, x0, now, then: (now - then) * (x - x0) / now),
)
a_euler_heun.misconception(
    "slope-not-divided",
    "Your slope is x - x0 without the division by sigma: that is the noise with its size. dx / "
    "dsigma is the noise per unit of sigma.",
    defines=_both(lambda x, x0, now, then: (then - now) * (x - x0)),
)
a_euler_heun.misconception(
    "slope-divided-by-variance",
    "You divide x - x0 by sigma squared. That is the negative of the score; the slope is sigma "
    "times that.",
    defines=_both(lambda x, x0, now, then: (then - now) * (x - x0) / now**2),
)
a_euler_heun.misconception(
    "denoised-is-noise",
    "You use what the denoiser gives as the slope, as if it predicted the noise. It predicts x0; "
    "the noise is what is left of x, over sigma.",
    defines=_both(lambda x, x0, now, then: (then - now) * x0),
)


def _euler(denoise, sigmas, x):
    for now, then in itertools.pairwise(sigmas):
        x = x + (then - now) * (x - denoise(x, now)) / now
    return x


def _heun(denoise, sigmas, x):
    for now, then in itertools.pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
        x = x + (then - now) * slope
    return x


def _appended(solve):
    return lambda denoise, sigmas, x: solve(denoise, torch.cat([sigmas, 0 * sigmas[:1]]), x)


def _cut(solve):
    return lambda denoise, sigmas, x: solve(denoise, sigmas[:-1], x)


def _nudged(solve):
    return lambda denoise, sigmas, x: solve(denoise, torch.where(sigmas > 0, sigmas, 1e-3), x)


def _zero_skipped(solve):
    """Appends a zero unless there is one."""
    return lambda denoise, sigmas, x: solve(
        denoise, sigmas if sigmas[-1] == 0 else torch.cat([sigmas, 0 * sigmas[:1]]), x
    )


a_euler_heun.misconception(
    "start-scaled-again",
    "You multiply x by the first level. x is given at that level already; scaled again it has far "
    "too much noise.",
    defines={
        "euler_sample": lambda denoise, sigmas, x: _euler(denoise, sigmas, x * sigmas[0]),
        "heun_sample": lambda denoise, sigmas, x: _heun(denoise, sigmas, x * sigmas[0]),
    },
)
a_euler_heun.misconception(
    "zero-always-appended",
    "You append a level 0 even where the caller has done so, and divide by 0 in the step from "
    "there. The levels are taken as they are given.",
    defines={"euler_sample": _appended(_euler), "heun_sample": _appended(_heun)},
)
a_euler_heun.misconception(
    "goes-on-to-zero",
    "Where the levels stop above 0 you go on to 0. Whoever calls decides where to stop; nothing "
    "is appended here.",
    defines={"euler_sample": _zero_skipped(_euler), "heun_sample": _zero_skipped(_heun)},
)
a_euler_heun.misconception(
    "last-level-left-out",
    "You stop one level before the last. n + 1 levels make n steps.",
    defines={"euler_sample": _cut(_euler), "heun_sample": _cut(_heun)},
)
a_euler_heun.misconception(
    "zero-replaced",
    "You replace the level 0 by a small number, to avoid the division. The result then keeps noise "
    "of that size, and Heun pays a call for it; at 0 Euler's step needs no division.",
    defines={"euler_sample": _nudged(_euler), "heun_sample": _nudged(_heun)},
)


@a_euler_heun.misconception(
    "midpoint",
    "Heun: you look up the second slope in the middle of the step. That is the midpoint rule, of "
    "order 2 too, but another method: Heun's takes the mean of the slopes at both ends.",
)
def heun_sample(denoise, sigmas, x):
    for now, then in itertools.pairwise(sigmas):
        middle = (now + then) / 2
        half = x + (middle - now) * (x - denoise(x, now)) / now
        x = x + (then - now) * (half - denoise(half, middle)) / middle
    return x


def _euler_in_place(denoise, sigmas, x):
    for now, then in itertools.pairwise(sigmas):
        x += (then - now) * (x - denoise(x, now)) / now
    return x


def _heun_in_place(denoise, sigmas, x):
    for now, then in itertools.pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        if then > 0:
            ahead = x + (then - now) * slope
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
        x += (then - now) * slope
    return x


a_euler_heun.misconception(
    "in-place",
    "The numbers are right, but += changes the x that you were given: whoever called you has lost "
    "the starting noise. Write x = x + ...",
    defines={"euler_sample": _euler_in_place, "heun_sample": _heun_in_place},
)
a_euler_heun.alternative(
    "a mix of estimate and x",
    defines={
        "euler_sample": lambda denoise, sigmas, x: _mixed(denoise, sigmas, x),
        "heun_sample": lambda denoise, sigmas, x: _trapezoid(denoise, sigmas, x),
    },
)


def _mixed(denoise, sigmas, x):
    """(1 - r) x0 + r x with r = next level over this one."""
    for now, then in zip(sigmas.tolist()[:-1], sigmas.tolist()[1:]):
        x = torch.lerp(denoise(x, now), x, then / now)
    return x


def _trapezoid(denoise, sigmas, x):
    levels = sigmas.tolist()
    for now, then in itertools.pairwise(levels):
        half = 0.5 * (then - now)
        first = (x - denoise(x, now)) / now
        if then == 0:
            x = x + 2 * half * first
            continue
        guess = x + 2 * half * first
        x = x + half * first + half * (guess - denoise(guess, then)) / then
    return x


a_euler_heun.alternative(
    "pairs of levels, a level for each sample",
    defines={
        "euler_sample": lambda denoise, sigmas, x: _batched(denoise, sigmas, x, False),
        "heun_sample": lambda denoise, sigmas, x: _batched(denoise, sigmas, x, True),
    },
)


def _batched(denoise, sigmas, x, second):
    def slope(x, level):
        return (x - denoise(x, level.expand(len(x)))) / level

    for now, then in itertools.pairwise(sigmas.unbind()):
        d = slope(x, now)
        if second and then != 0:
            d = 0.5 * d + 0.5 * slope(x + d * (then - now), then)
        x = x + d * (then - now)
    return x


# 06.6 ---------------------------------------------------------------------------------------------

a_dpmpp = Answers("06.6")


@a_dpmpp.reference
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None and s[i + 1] > 0:
            r = (lam[i] - lam[i - 1]) / h
            better = x0 + (x0 - before) / (2 * r)
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * better
        before = x0
    return x


def _multistep(denoise, alpha, sigma, ts, x, better_of, step_of=None, first=True):
    """Wrong solvers share this: ``better_of(x0, before, h, h_before)``."""
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None and s[i + 1] > 0:
            better = better_of(x0, before, h, lam[i] - lam[i - 1])
        elif before is None and not first:
            better = better_of(x0, torch.zeros_like(x0), h, h)
        if step_of is None:
            x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * better
        else:
            x = step_of(x, better, h, a[i], a[i + 1], s[i], s[i + 1])
        before = x0
    return x


def _extrapolated(x0, before, h, h_before):
    return x0 + (x0 - before) * h / (2 * h_before)


@a_dpmpp.misconception(
    "first-order",
    "You never use the estimate of the step before: that is DDIM, of order 1. The second order "
    "comes from extrapolating how the estimate changes.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    return _multistep(denoise, alpha, sigma, ts, x, lambda x0, before, h, h_before: x0)


@a_dpmpp.misconception(
    "r-inverted",
    "Your r is this step over the step before. r = h_before / h: after a long step, the change of "
    "the estimate is spread over a long way, and less of it counts.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def better(x0, before, h, h_before):
        return x0 + (x0 - before) * h_before / (2 * h)

    return _multistep(denoise, alpha, sigma, ts, x, better)


@a_dpmpp.misconception(
    "r-is-one",
    "You extrapolate as if all steps were equally long in lambda. They are not here: r is the "
    "length of the step before over that of this one.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def better(x0, before, h, h_before):
        return x0 + (x0 - before) / 2

    return _multistep(denoise, alpha, sigma, ts, x, better)


@a_dpmpp.misconception(
    "half-forgotten",
    "You extrapolate by 1 / r, where 1 / (2 r) belongs. The estimate is wanted at the *middle* of "
    "the step, not at its end.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def better(x0, before, h, h_before):
        return x0 + (x0 - before) * h / h_before

    return _multistep(denoise, alpha, sigma, ts, x, better)


@a_dpmpp.misconception(
    "interpolates",
    "You mix the two estimates with a plus: that looks back, between them. To look ahead, the "
    "change since the step before is *added* to the new estimate, so the old one has a minus.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def better(x0, before, h, h_before):
        return x0 - (x0 - before) * h / (2 * h_before)

    return _multistep(denoise, alpha, sigma, ts, x, better)


@a_dpmpp.misconception(
    "lambda-sign",
    "Your lambda is log(sigma / alpha), which falls, so every h is below 0. lambda = log(alpha / "
    "sigma) rises as noise goes.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return s_next / s * x - a_next * torch.expm1(h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "lambda-is-log-snr",
    "Your lambda is the log SNR, log(alpha^2 / sigma^2). The solver's lambda is half of that, "
    "log(alpha / sigma).",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return s_next / s * x - a_next * torch.expm1(-2 * h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "alpha-of-this-level",
    "You multiply the estimate by the alpha of the level you come from. It is that of the level "
    "you go to.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return s_next / s * x - a * torch.expm1(-h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "sigma-ratio-inverted",
    "You multiply x by sigma of this level over that of the next. Noise becomes less: the next "
    "level's sigma stands above.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return s / s_next * x - a_next * torch.expm1(-h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "alpha-ratio",
    "You multiply x by the ratio of the alphas. In this form of the step it is the ratio of the "
    "sigmas; the alphas belong to the form with the noise estimate.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return a_next / a * x - a_next * torch.expm1(-h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "sign-of-the-second-term",
    "You add alpha times (exp(-h) - 1), which is below 0, so the estimate comes in with a minus. "
    "The two minus signs have to meet.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    def step(x, better, h, a, a_next, s, s_next):
        return s_next / s * x + a_next * torch.expm1(-h) * better

    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, step)


@a_dpmpp.misconception(
    "first-step-extrapolates-from-zero",
    "In the first step you extrapolate from zeros, as if a step before had given them. There was "
    "none: the first step takes the estimate as it is.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    return _multistep(denoise, alpha, sigma, ts, x, _extrapolated, first=False)


@a_dpmpp.misconception(
    "extrapolates-to-the-data",
    "In a last step with sigma = 0 you extrapolate too: h is infinite there, r is 0, and the "
    "result is not a number. Take the estimate as it is in that step.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None:
            better = x0 + (x0 - before) * h / (2 * (lam[i] - lam[i - 1]))
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * better
        before = x0
    return x


@a_dpmpp.misconception(
    "last-step-always-first-order",
    "You make the last step of first order wherever it leads. That is needed only where sigma is "
    "0; above that the second order holds to the end.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None and i < len(ts) - 2:
            better = x0 + (x0 - before) * h / (2 * (lam[i] - lam[i - 1]))
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * better
        before = x0
    return x


@a_dpmpp.misconception(
    "remembers-the-extrapolated",
    "You keep the extrapolated estimate for the next step. What the next one compares with is what "
    "the denoiser itself said.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        if before is not None and s[i + 1] > 0:
            x0 = x0 + (x0 - before) * h / (2 * (lam[i] - lam[i - 1]))
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * x0
        before = x0
    return x


@a_dpmpp.misconception(
    "in-place",
    "The numbers are right, but the x that you were given was changed: *= and += work on the very "
    "tensor. Whoever called you has lost the starting noise.",
)
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    lam = (a / s).log()
    before = None
    for i in range(len(ts) - 1):
        x0, h = denoise(x, ts[i]), lam[i + 1] - lam[i]
        better = x0
        if before is not None and s[i + 1] > 0:
            better = x0 + (x0 - before) * h / (2 * (lam[i] - lam[i - 1]))
        x *= s[i + 1] / s[i]
        x -= a[i + 1] * torch.expm1(-h) * better
        before = x0
    return x


@a_dpmpp.alternative("the exponential written out")
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts), sigma(ts)
    old = None
    for i in range(1, len(ts)):
        x0 = denoise(x, ts[i - 1])
        ratio = (a[i - 1] * s[i]) / (a[i] * s[i - 1])  # exp(-h)
        d = x0
        if old is not None and s[i] > 0:
            r = torch.log(old[1]) / torch.log(ratio)
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * old[0]
        x = (s[i] / s[i - 1]) * x + a[i] * (1 - ratio) * d
        old = (x0, ratio)
    return x


@a_dpmpp.alternative("plain numbers")
def dpmpp_2m_sample(denoise, alpha, sigma, ts, x):
    a, s = alpha(ts).double().tolist(), sigma(ts).double().tolist()
    lam = [math.log(p) - math.log(q) if q > 0 else math.inf for p, q in zip(a, s)]
    history = []
    for i, t in enumerate(ts[:-1]):
        history.append(denoise(x, t))
        h = lam[i + 1] - lam[i]
        d = history[-1]
        if len(history) > 1 and math.isfinite(h):
            w = h / (lam[i] - lam[i - 1]) / 2
            d = (1 + w) * d - w * history[-2]
        x = s[i + 1] / s[i] * x - a[i + 1] * math.expm1(-h) * d
    return x


# 06.7 ---------------------------------------------------------------------------------------------

a_invert = Answers("06.7")


@a_invert.reference
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "asks-at-the-target",
    "You ask the model with the time of the level you go to. x is not there yet: the model must be "
    "told the noise that x has now.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i + 1]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "descending",
    "You walk through ts from its end, down. Inversion goes up, from little noise to much, and "
    "x is at level ts[0].",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    ts = ts.flip(0)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "levels-swapped",
    "You pass the two levels to ddim_step the wrong way round: t is where x is, t_prev where it "
    "goes, and here it goes up.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i + 1], ts[i], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "starts-from-the-data",
    "Your first step goes from the data (-1) to ts[0]. x is at level ts[0] already, and has its "
    "noise.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T, before = len(alpha_bar), int(ts[0])
    levels = torch.cat([torch.ones_like(alpha_bar[:1]) * (1 - 1e-6), alpha_bar])
    for i, t in enumerate(ts.tolist()):
        time = torch.full((len(x),), before / (T - 1), dtype=x.dtype)
        now = 0 if i == 0 else before + 1
        x = ddim_step(x, now, t + 1, model(x, time, None), levels)
        before = t
    return x


@a_invert.misconception(
    "one-level-too-few",
    "You stop one level before the last: n levels have n - 1 steps between them, and yours makes "
    "one less.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 2):
        time = torch.full((len(x),), float(ts[i]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "integer-time",
    "The model gets the step number. It wants the float ts[i] / (T - 1), between 0 and 1.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    for i in range(len(ts) - 1):
        eps = model(x, ts[i].expand(len(x)), None)
        x = ddim_step(x, ts[i], ts[i + 1], eps, alpha_bar)
    return x


@a_invert.misconception(
    "time-over-T",
    "You give the model ts[i] / T. The time 1 belongs to the last step, T - 1, as in 06.2.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i]) / T, dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "length-of-ts-for-T",
    "You take T from the number of levels visited. T is the number of all steps, the length of "
    "alpha_bar.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), i / (len(ts) - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.misconception(
    "one-estimate-for-all",
    "You ask the model once, before the loop. The noise it sees changes as x moves: ask at every "
    "level.",
)
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    eps = model(x, torch.full((len(x),), float(ts[0]) / (T - 1), dtype=x.dtype), None)
    for i in range(len(ts) - 1):
        x = ddim_step(x, ts[i], ts[i + 1], eps, alpha_bar)
    return x


@a_invert.misconception(
    "keeps-the-graph",
    "The noise is right, but torch keeps a graph through all steps. Switch gradients off.",
)
def ddim_invert(model, x, alpha_bar, ts):
    T = len(alpha_bar)
    for i in range(len(ts) - 1):
        time = torch.full((len(x),), float(ts[i]) / (T - 1), dtype=x.dtype)
        x = ddim_step(x, ts[i], ts[i + 1], model(x, time, None), alpha_bar)
    return x


@a_invert.alternative("pairs of plain ints")
@torch.no_grad()
def ddim_invert(model, x, alpha_bar, ts):
    steps = ts.tolist()
    for now, then in itertools.pairwise(steps):
        time = torch.tensor([now / (len(alpha_bar) - 1)] * len(x)).to(x)
        x = ddim_step(x, now, then, model(x, time, None), alpha_bar, 0.0)
    return x


@a_invert.alternative("in the variables x over alpha")
def ddim_invert(model, x, alpha_bar, ts):
    ab = alpha_bar.double()[ts]
    sigma = torch.sqrt(1 / ab - 1)
    times = (ts.double() / (alpha_bar.shape[0] - 1)).to(x.dtype)
    with torch.no_grad():
        u = x.double() / ab[0].sqrt()
        for i in range(1, len(ts)):
            eps = model((u * ab[i - 1].sqrt()).to(x.dtype), times[i - 1].expand(len(x)), None)
            u = u + (sigma[i] - sigma[i - 1]) * eps
    return (u * ab[-1].sqrt()).to(x.dtype)


# 06.8 ---------------------------------------------------------------------------------------------

a_reverse_sde = Answers("06.8")


@a_reverse_sde.reference
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        x = x + d * beta(t) * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + (d * beta(t)).sqrt() * z
    return x


def _sde(score, beta, ts, x, generator, drift, spread=None, last=False, at=0):
    """Wrong samplers share this: ``drift(x, score)`` per unit of beta and time."""
    for i in range(len(ts) - 1):
        t, d = ts[i + at], ts[i] - ts[i + 1]
        x = x + d * beta(t) * drift(x, score(x, t))
        if i < len(ts) - 2 or last:
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + ((d * beta(t)).sqrt() if spread is None else spread(d, beta(t))) * z
    return x


def _right_drift(x, s):
    return x / 2 + s


@a_reverse_sde.misconception(
    "drift-sign",
    "You let x drift towards 0 on the way back as it does forwards. Backwards in time that part "
    "changes its sign: x grows by beta x / 2.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, lambda x, s: -x / 2 + s)


@a_reverse_sde.misconception(
    "score-sign",
    "You walk against the score. It points to where data are likely, and that is where the way "
    "back leads.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, lambda x, s: x / 2 - s)


@a_reverse_sde.misconception(
    "negative-time-step",
    "The whole drift has the wrong sign: you multiplied it by ts[i + 1] - ts[i], which is below 0, "
    "while the formula with its signs is for d above 0.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, lambda x, s: -x / 2 - s)


@a_reverse_sde.misconception(
    "time-step-without-root",
    "The noise is multiplied by the time step, not by its root. Variances add up over time, so a "
    "step d brings variance d and deviation root(d). Yours vanishes as steps get small.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, lambda d, b: d * b.sqrt())


@a_reverse_sde.misconception(
    "beta-without-root",
    "The noise is multiplied by beta. beta is a variance per unit of time; the factor is its root.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, lambda d, b: d.sqrt() * b)


@a_reverse_sde.misconception(
    "no-roots-in-the-noise",
    "The noise is multiplied by its variance, beta times the step. The factor is the root of that.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, lambda d, b: d * b)


@a_reverse_sde.misconception(
    "time-step-forgotten-in-the-noise",
    "The noise of a step does not shrink with the step: the root of the time step is missing.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, lambda d, b: b.sqrt())


@a_reverse_sde.misconception(
    "half-the-score",
    "You take half the score. That is the drift of the probability flow, which adds no noise; with "
    "noise the score counts in full.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, lambda x, s: (x + s) / 2)


@a_reverse_sde.misconception(
    "drift-not-halved",
    "You let x grow by beta x. The forward process shrinks it by beta x / 2 (the root of 1 - beta "
    "is about 1 - beta / 2).",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, lambda x, s: x + s)


@a_reverse_sde.misconception(
    "noise-in-the-last-step",
    "You add noise in the last step too. Nothing takes it away again; the last step gives its "
    "mean.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, last=True)


@a_reverse_sde.misconception(
    "asks-at-the-target",
    "You ask for score and beta at the time you go to, with the x of the time you come from. Both "
    "belong to ts[i], where x is.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, at=1)


@a_reverse_sde.misconception(
    "no-noise",
    "You add no noise at all, but take the full score. That is neither the SDE nor the flow: "
    "samples gather in the middle of the data.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    return _sde(score, beta, ts, x, generator, _right_drift, lambda d, b: 0 * b)


@a_reverse_sde.misconception(
    "generator-ignored",
    "You draw from torch's global generator (randn_like), not from the one you were given.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        x = x + d * beta(t) * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            x = x + (d * beta(t)).sqrt() * torch.randn_like(x)
    return x


@a_reverse_sde.misconception(
    "new-generator-each-step",
    "You start the generator anew at every step, so that each adds the same noise. Draw from the "
    "one object that goes on.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        x = x + d * beta(t) * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            generator.manual_seed(generator.initial_seed())
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + (d * beta(t)).sqrt() * z
    return x


@a_reverse_sde.misconception(
    "noise-of-another-type",
    "Your noise is float32 even where x is float64, which gives other draws. torch.randn takes a "
    "dtype.",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        x = x + d * beta(t) * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            x = x + (d * beta(t)).sqrt() * torch.randn(x.shape, generator=generator)
    return x


@a_reverse_sde.misconception(
    "in-place",
    "The numbers are right, but += changes the x that you were given: whoever called you has lost "
    "the starting noise. Write x = x + ...",
)
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i in range(len(ts) - 1):
        t, d = ts[i], ts[i] - ts[i + 1]
        x += d * beta(t) * (x / 2 + score(x, t))
        if i < len(ts) - 2:
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x += (d * beta(t)).sqrt() * z
    return x


@a_reverse_sde.alternative("drift and diffusion by name, negative steps")
def euler_maruyama_sample(score, beta, ts, x, generator):
    for i, (t, to) in enumerate(itertools.pairwise(ts)):
        dt = to - t
        drift = -0.5 * beta(t) * x - beta(t) * score(x, t)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        noisy = beta(t) ** 0.5 * (-dt) ** 0.5 * z
        x = x + drift * dt + (noisy if i + 2 < len(ts) else 0.0)
    return x


@a_reverse_sde.alternative("plain numbers")
def euler_maruyama_sample(score, beta, ts, x, generator):
    steps = len(ts) - 1
    for i in range(steps):
        share = float(beta(ts[i])) * (float(ts[i]) - float(ts[i + 1]))
        x = (1 + share / 2) * x + share * score(x, ts[i])
        if i + 1 < steps:
            x = x + math.sqrt(share) * torch.empty_like(x).normal_(generator=generator)
    return x
