"""Answers of lesson 03, the best possible denoiser: reference, misconceptions, alternatives."""

import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

# 03.1 ---------------------------------------------------------------------------------------------

gaussian = Answers("03.1")


@gaussian.reference
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)


@gaussian.alternative("precisions")
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    prior, seen = 1 / var, alpha**2 / sigma**2
    return (prior * mean + seen * (x_t / alpha)) / (prior + seen)


@gaussian.alternative("weighted sum, level by level")
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    n = len(x_t)
    alphas = alpha if isinstance(alpha, torch.Tensor) else torch.full((n,), float(alpha))
    sigmas = sigma if isinstance(sigma, torch.Tensor) else torch.full((n,), float(sigma))
    rows = []
    for x, a, s in zip(x_t, alphas, sigmas):
        rows.append((a * var * x + s**2 * mean) / (a**2 * var + s**2))
    return torch.stack(rows).to(x_t.dtype)


@gaussian.alternative("Tweedie's formula")
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    a, s = alpha, sigma
    if torch.is_tensor(a):
        a = a.view(len(a), *[1] * (x_t.dim() - 1))
    if torch.is_tensor(s):
        s = s.view(len(s), *[1] * (x_t.dim() - 1))
    score = -(x_t - a * mean) / (a**2 * var + s**2)
    return (x_t + s**2 * score) / a


@gaussian.misconception(
    "shrinks to zero",
    "You shrink x_t towards zero. That is right only when the data have mean zero. When the noise "
    "hides everything, what single guess has the smallest squared error?",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return alpha * var / (alpha**2 * var + sigma**2) * x_t


@gaussian.misconception(
    "variance used as deviation",
    "You square `var` again, as if it were a standard deviation. It is a variance already: "
    "compare the units of the two terms in the denominator.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha * var**2 / (alpha**2 * var**2 + sigma**2)
    return mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "deviations in the gain",
    "Your gain is made of standard deviations. Variances of independent parts add, deviations do "
    "not: the variance of x_t is alpha^2 var + sigma^2.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    std = torch.as_tensor(var, dtype=x_t.dtype).sqrt()
    return mean + std / (alpha * std + sigma) * (x_t - alpha * mean)


@gaussian.misconception(
    "sigma not squared",
    "You add sigma to a variance. The noise has variance sigma squared; sigma is its deviation.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha * var / (alpha**2 * var + sigma)
    return mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "alpha forgotten",
    "You treat x_t as x0 plus noise. The process also scales the data: x_t = alpha x0 + sigma eps. "
    "Where does alpha enter the mean and the variance of x_t?",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + var / (var + sigma**2) * (x_t - mean)


@gaussian.misconception(
    "alpha forgotten in the covariance",
    "Your gain has var over Var(x_t). Above the line belongs Cov(x0, x_t), and x_t holds alpha x0, "
    "not x0: how does that change the covariance with x0?",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + var / (alpha**2 * var + sigma**2) * (x_t - alpha * mean)


@gaussian.misconception(
    "alpha not squared",
    "In Var(x_t) you scale var by alpha. A factor is squared in a variance.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + alpha * var / (alpha * var + sigma**2) * (x_t - alpha * mean)


@gaussian.misconception(
    "sigma taken from alpha",
    "You put 1 - alpha^2 in place of sigma^2. That holds for schedules that keep the variance; "
    "here sigma is given, and need not fit alpha.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + alpha * var / (alpha**2 * var + 1 - alpha**2) * (x_t - alpha * mean)


@gaussian.misconception(
    "noise share as gain",
    "Your gain is the share of the noise in Var(x_t): you would follow x_t the more, the noisier "
    "it is. The guess moves by the part of the surprise that is signal.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + sigma**2 / (alpha**2 * var + sigma**2) * (x_t - alpha * mean)


@gaussian.misconception(
    "noise not divided along",
    "You divide x_t by alpha and go on as if its noise still had the deviation sigma. The noise "
    "is divided, too: in x_t / alpha it has another deviation.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return mean + var / (var + sigma**2) * (x_t / alpha - mean)


@gaussian.misconception(
    "starts at the scaled mean",
    "You start from alpha times the mean. That is what you expected to *see*; what you guess is "
    "x0, and before anything is seen the best guess of x0 is its mean.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return alpha * mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "mean not scaled",
    "Your gain is right, but the surprise is measured from `mean`. What did you expect to see "
    "before you saw x_t? The process scales x0 by alpha.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - mean)


@gaussian.misconception(
    "denoises to alpha x0",
    "You return the best guess of alpha x0, the signal as it stands inside x_t. Asked for is x0 "
    "itself, at its own scale: one factor alpha is too much.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    gain = alpha**2 * var / (alpha**2 * var + sigma**2)
    return alpha * mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "level on the wrong axis",
    "A number works, but alpha of shape (B,) meets the last axis of x_t: broadcasting aligns from "
    "the right. There is one level per sample: give alpha and sigma the shape (B, 1, ..., 1).",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "textbook formula",
    "var / (var + sigma^2) times x_t is the textbook case: mean 0, and nothing scaled. Here the "
    "data have a mean, and x_t = alpha x0 + sigma eps. Start again from Cov(x0, x_t) / Var(x_t).",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return var / (var + sigma**2) * x_t


@gaussian.misconception(
    "for (B, D) only",
    "alpha of shape (B, 1) fits points (B, D). Images have two more dimensions, sounds one: give "
    "alpha and sigma as many ones behind B as x_t has.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)


@gaussian.misconception(
    "undoes the scale only",
    "You divide x_t by alpha. That is the least squares guess of someone who knows nothing about "
    "the data; with a mean and a variance known, noise can be told from signal.",
)
def gaussian_denoiser(x_t, alpha, sigma, mean, var):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    return x_t / torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)


# 03.2 ---------------------------------------------------------------------------------------------

mixture = Answers("03.2")


@mixture.reference
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    d = x_t.shape[1]
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * d * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.alternative("torch.distributions")
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    n, d = x_t.shape
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).expand(n)[:, None, None]
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).expand(n)[:, None, None]
    v = variances[None, :, None].expand(n, -1, d)
    total = alpha**2 * v + sigma**2
    normal = torch.distributions.Normal(alpha * means[None], total.sqrt())
    log_joint = normal.log_prob(x_t[:, None]).sum(-1) + weights.log()
    share = (log_joint - torch.logsumexp(log_joint, 1, keepdim=True)).exp()
    each = means + alpha * v / total * (x_t[:, None] - alpha * means)
    return torch.einsum("bk,bkd->bd", share, each)


@mixture.alternative("one component at a time")
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    if torch.is_tensor(alpha):
        alpha = alpha[:, None]
    if torch.is_tensor(sigma):
        sigma = sigma[:, None]
    logs, guesses = [], []
    for mu, v, w in zip(means, variances, weights):
        total = alpha**2 * v + sigma**2
        off = x_t - alpha * mu
        log_n = -((off**2).sum(1, keepdim=True)) / (2 * total)
        log_n = log_n - x_t.shape[1] / 2 * torch.log(2 * math.pi * total)
        logs.append(torch.log(w) + log_n)
        guesses.append(mu + alpha * v / total * off)
    logs = torch.stack(logs)
    share = torch.exp(logs - logs.max(0).values)
    share = share / share.sum(0)
    return (share * torch.stack(guesses)).sum(0)


@mixture.alternative("Tweedie by autograd")
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    n, d = x_t.shape
    a = torch.as_tensor(alpha, dtype=torch.float64).reshape(-1, 1).expand(n, 1)
    s = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1).expand(n, 1)
    x = x_t.detach().double().requires_grad_()
    total = a**2 * variances.double() + s**2
    square = ((x[:, None] - a[:, None] * means.double()) ** 2).sum(-1)
    log_joint = weights.double().log() - square / (2 * total) - d / 2 * total.log()
    (score,) = torch.autograd.grad(torch.logsumexp(log_joint, 1).sum(), x)
    return ((x.detach() + s**2 * score) / a).to(x_t.dtype)


@mixture.misconception(
    "densities underflow",
    "You compute densities and divide them by their sum. Far from every component, or in many "
    "dimensions, all of them round to 0, and 0/0 is NaN. Stay with logarithms as long as you can.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    density = torch.exp(-0.5 * (surprise**2).sum(-1) / total) / total ** (x_t.shape[1] / 2)
    joint = weights * density
    share = joint / joint.sum(1, keepdim=True)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "normaliser forgotten",
    "Your log density is the exponent alone. A wide component is lower at its centre than a "
    "narrow one: the normaliser holds the component's variance, so it does not cancel.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "normaliser of one dimension",
    "Your normaliser is that of a one-dimensional Gaussian. In D dimensions the same factor "
    "stands there once for each of them.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "normaliser squared",
    "Your normaliser is total to the power -D. In the density stands the deviation to the power "
    "-D, so the variance has only half of that exponent.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total
    log_density = log_density - x_t.shape[1] * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "means not scaled in the densities",
    "Your densities measure from the means themselves. At this noise level component k lies around "
    "alpha means[k], as it does in your posterior means.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * ((x_t[:, None, :] - means) ** 2).sum(-1) / total
    log_density = log_density - 0.5 * x_t.shape[1] * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "responsibilities over the samples",
    "Your softmax runs over the samples of the batch. Each sample is shared out among the "
    "components: its responsibilities have to sum to one over k.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total
    log_density = log_density - 0.5 * x_t.shape[1] * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=0)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "weights ignored",
    "All components count the same in your answer. `weights` says how often each occurs before "
    "anything is seen: Bayes' rule multiplies the density by it.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * x_t.shape[1] * torch.log(total)
    share = torch.softmax(log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "weights without logarithm",
    "You add the weights to log densities. A product of probabilities is a sum of logarithms: all "
    "of them have to be logarithms.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * x_t.shape[1] * torch.log(total)
    share = torch.softmax(weights + log_density, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "component means",
    "You average the centres of the components. Inside a component x_t still says where: average "
    "what 03.1 would answer for each.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * x_t.shape[1] * torch.log(total)
    return torch.softmax(torch.log(weights) + log_density, dim=1) @ means


@mixture.misconception(
    "component width forgotten",
    "Your responsibilities spread a component by the noise alone. x_t of component k has two "
    "sources of spread: the noise, and the component's own variance scaled by alpha squared.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    share = torch.softmax(torch.log(weights) - 0.5 * (surprise**2).sum(-1) / sigma**2, dim=1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * posterior).sum(1)


@mixture.misconception(
    "most likely component only",
    "You answer for the most likely component alone. The best guess in squared error is an "
    "average: between two components it lies between.",
)
def mixture_denoiser(x_t, alpha, sigma, means, variances, weights):
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(-1, 1)
    total = alpha**2 * variances + sigma**2
    surprise = x_t[:, None, :] - alpha[:, :, None] * means
    log_density = -0.5 * (surprise**2).sum(-1) / total - 0.5 * x_t.shape[1] * torch.log(total)
    best = (torch.log(weights) + log_density).argmax(1)
    posterior = means + (alpha * variances / total)[:, :, None] * surprise
    return posterior[torch.arange(len(x_t)), best]


# 03.3 ---------------------------------------------------------------------------------------------

empirical = Answers("03.3")


@empirical.reference
def empirical_denoiser(x_t, alpha, sigma, data):
    x = x_t.flatten(1).double()
    points = data.flatten(1).double()
    alpha = torch.as_tensor(alpha, dtype=torch.float64).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1)
    distance = alpha * torch.cdist(x / alpha, points)
    share = torch.softmax(-(distance**2) / (2 * sigma**2), dim=1)
    return (share @ points).reshape(x_t.shape).to(x_t.dtype)


@empirical.alternative("one sample at a time, float32")
def empirical_denoiser(x_t, alpha, sigma, data):
    n = len(x_t)
    alphas = alpha if torch.is_tensor(alpha) else [alpha] * n
    sigmas = sigma if torch.is_tensor(sigma) else [sigma] * n
    points = data.reshape(len(data), -1)
    rows = []
    for x, a, s in zip(x_t.reshape(n, -1), alphas, sigmas):
        square = ((x - a * points) ** 2).sum(1)
        rows.append(torch.softmax(-square / (2 * s**2), 0) @ points)
    return torch.stack(rows).reshape(x_t.shape)


@empirical.alternative("chunks of data, running maximum")
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    a = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1, 1)
    s = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    top = torch.full((len(x), 1), -math.inf, dtype=x.dtype)
    total, weighted = torch.zeros_like(top), torch.zeros_like(x)
    for chunk in points.split(1000):
        logits = -((x[:, None] - a * chunk) ** 2).sum(-1) / (2 * s**2)
        new = torch.maximum(top, logits.max(1, keepdim=True).values)
        w = torch.exp(logits - new)
        keep = torch.exp(top - new)
        total = total * keep + w.sum(1, keepdim=True)
        weighted = weighted * keep + w @ chunk
        top = new
    return (weighted / total).reshape(x_t.shape)


@empirical.alternative("matrix product in float64")
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1).double(), data.flatten(1).double()
    a = torch.as_tensor(alpha).double().reshape(-1, 1)
    s = torch.as_tensor(sigma).double().reshape(-1, 1)
    # |x|^2 is the same for every point and cancels in the softmax.
    logits = (a * (x @ points.T) - a**2 * (points**2).sum(1) / 2) / s**2
    share = torch.exp(logits - torch.logsumexp(logits, 1, keepdim=True))
    return (share @ points).to(x_t.dtype).view_as(x_t)


@empirical.alternative("cdist without matrix product, float32")
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    a = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    s = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    d = torch.cdist(x / a, points, compute_mode="donot_use_mm_for_euclid_dist")
    return (F.softmax(-0.5 * (d * a / s) ** 2, dim=-1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "softmax over the samples",
    "Your softmax runs over the samples of the batch. Each sample divides its own attention among "
    "the data points: its weights have to sum to one over the points.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - alpha[:, :, None] * points) ** 2).sum(-1)
    return (torch.softmax(-square / (2 * sigma**2), dim=0) @ points).reshape(x_t.shape)


@empirical.misconception(
    "data not scaled",
    "You measure the distance from x_t to the data points themselves. At this noise level a point "
    "lies at alpha times its place; the noise is spread around that.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - points) ** 2).sum(-1)
    return (torch.softmax(-square / (2 * sigma**2), dim=1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "two forgotten",
    "Your exponent is the squared distance over sigma squared. A Gaussian has a 2 there: without "
    "it you denoise as if sigma were smaller by the square root of 2.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - alpha[:, :, None] * points) ** 2).sum(-1)
    return (torch.softmax(-square / sigma**2, dim=1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "sigma not squared",
    "Your exponent divides by 2 sigma. The variance of the noise belongs there, sigma squared.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - alpha[:, :, None] * points) ** 2).sum(-1)
    return (torch.softmax(-square / (2 * sigma), dim=1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "distance not squared",
    "Your exponent holds the distance. A Gaussian falls with the squared distance: far points "
    "count too much in your average.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    distance = (x[:, None] - alpha[:, :, None] * points).norm(dim=-1)
    return (torch.softmax(-distance / (2 * sigma**2), dim=1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "mean over the coordinates",
    "You average the squared differences over the coordinates. The log density of independent "
    "coordinates is a sum; with the mean, images look as if they had D times the noise variance.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - alpha[:, :, None] * points) ** 2).mean(-1)
    return (torch.softmax(-square / (2 * sigma**2), dim=1) @ points).reshape(x_t.shape)


@empirical.misconception(
    "far points count most",
    "The exponent has lost its minus: the furthest point gets the largest weight. Near points are "
    "the probable ones.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1).double(), data.flatten(1).double()
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = (torch.cdist(x / alpha, points) * alpha) ** 2
    weights = torch.softmax(square / (2 * sigma**2), dim=1)
    return (weights @ points).reshape(x_t.shape).to(x_t.dtype)


@empirical.misconception(
    "nearest point",
    "You return the nearest data point. Others could have made this x_t too: the best guess "
    "averages them all by how probable each is.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1, 1)
    square = ((x[:, None] - alpha * points) ** 2).sum(-1)
    return points[square.argmin(1)].reshape(x_t.shape)


@empirical.misconception(
    "weights underflow",
    "You divide exp(...) by its sum. For small sigma every exp(...) rounds to 0, and 0/0 is NaN. "
    "torch.softmax subtracts the largest exponent first.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    share = []
    for x_i, a, s in zip(x, alpha.expand(len(x), 1), sigma.expand(len(x), 1)):
        share.append(torch.exp(-((x_i - a * points) ** 2).sum(1) / (2 * s**2)))
    share = torch.stack(share)
    share = share / share.sum(1, keepdim=True)
    return (share @ points).reshape(x_t.shape)


@empirical.misconception(
    "all differences at once",
    "The values are right, but x_t[:, None] - data makes a tensor of B x N x D numbers. With 16 "
    "images of 784 pixels and 10,000 points that is 500 MB for a result of 16 images. You need "
    "only the B x N distances: go through the samples or the points in parts.",
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = ((x[:, None] - alpha[:, :, None] * points) ** 2).sum(-1)
    return (torch.softmax(-square / (2 * sigma**2), dim=1) @ points).reshape(x_t.shape)


def loses_digits(got, expected, cases):
    """Right everywhere but between close pairs, where the values are finite and off."""
    off = []
    for case, g, e in zip(cases, got, expected):
        if g.status != "ok" or type(g.value) is not type(e.value):
            return False
        if isinstance(e.value, dict):
            off.append(g.value != e.value)
            continue
        if g.value.shape != e.value.shape or g.value.dtype != e.value.dtype:
            return False
        worst = float((g.value - e.value).abs().max() / e.value.abs().max())
        if case.name == "close pairs":
            # A lost digit moves weight within a pair, which lies 0.0019 apart.
            if not 3e-5 < worst < 3e-3 / 3:
                return False
        else:
            off.append(not worst < 3e-4)
    return not any(off)


@empirical.misconception(
    "digits lost in float32",
    "The formula is right, but at small sigma digits are lost: |x|^2 + |y|^2 - 2xy in float32 "
    "subtracts big numbers to get a small one, and the error is then divided by 2 sigma^2. "
    "torch.cdist does the same for more than 25 rows, unless you set compute_mode or use float64.",
    detect=loses_digits,
)
def empirical_denoiser(x_t, alpha, sigma, data):
    x, points = x_t.flatten(1), data.flatten(1)
    alpha = torch.as_tensor(alpha, dtype=x.dtype).reshape(-1, 1)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    square = (x**2).sum(1, keepdim=True) - 2 * alpha * (x @ points.T)
    square = square + alpha**2 * (points**2).sum(1)
    return (torch.softmax(-square / (2 * sigma**2), dim=1) @ points).reshape(x_t.shape)


# 03.4 ---------------------------------------------------------------------------------------------

scores = Answers("03.4")


@scores.reference
def score_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (alpha * x0_hat - x_t) / sigma**2


@scores.reference
def score_from_eps(eps, sigma):
    return -eps / torch.as_tensor(sigma, dtype=eps.dtype).reshape(-1, *[1] * (eps.ndim - 1))


def alternative_from_x0(x_t, x0_hat, alpha, sigma):
    while torch.is_tensor(alpha) and alpha.ndim < x_t.ndim:
        alpha = alpha[..., None]
    while torch.is_tensor(sigma) and sigma.ndim < x_t.ndim:
        sigma = sigma[..., None]
    eps = (x_t - alpha * x0_hat) / sigma
    return -1 / sigma * eps


def alternative_from_eps(eps, sigma):
    if torch.is_tensor(sigma):
        return torch.stack([-e / s for e, s in zip(eps, sigma)])
    return eps * (-1 / sigma)


def moved_from_x0(x_t, x0_hat, alpha, sigma):
    x, x0 = x_t.movedim(0, -1), x0_hat.movedim(0, -1)
    return (-(x - alpha * x0) / (sigma * sigma)).movedim(-1, 0)


def moved_from_eps(eps, sigma):
    return (eps.movedim(0, -1) / sigma).neg().movedim(-1, 0)


scores.alternative(
    "by way of eps",
    {"score_from_x0": alternative_from_x0, "score_from_eps": alternative_from_eps},
)
scores.alternative(
    "batch axis last", {"score_from_x0": moved_from_x0, "score_from_eps": moved_from_eps}
)


@scores.misconception(
    "from x0: wrong sign",
    "Your score from x0 points away from the data. The score is the direction in which the density "
    "grows: from x_t towards alpha x0_hat.",
)
def score_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (x_t - alpha * x0_hat) / sigma**2


@scores.misconception(
    "from x0: sigma not squared",
    "Your score from x0 divides by sigma: that gives minus the noise eps. The score is steeper by "
    "one more factor 1 / sigma. Check the units: a gradient of a logarithm has 1 over those of x.",
)
def score_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (alpha * x0_hat - x_t) / sigma


@scores.misconception(
    "from x0: alpha forgotten",
    "You compare x_t with x0_hat itself. At this level the clean sample stands in x_t scaled by "
    "alpha; only where alpha is 1 can it be left out.",
)
def score_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (x0_hat - x_t) / sigma**2


@scores.misconception(
    "from x0: alpha on x_t",
    "You scale x_t by alpha and not x0_hat. It is the clean sample that the process scales.",
)
def score_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (x0_hat - alpha * x_t) / sigma**2


@scores.misconception(
    "from eps: wrong sign",
    "Your score from eps points along the noise. Noise leads away from the data; the score leads "
    "back.",
)
def score_from_eps(eps, sigma):
    return eps / torch.as_tensor(sigma, dtype=eps.dtype).reshape(-1, *[1] * (eps.ndim - 1))


@scores.misconception(
    "from eps: sigma squared",
    "Your score from eps divides by sigma squared. eps has been divided by sigma once already: "
    "x_t - alpha x0 is sigma eps.",
)
def score_from_eps(eps, sigma):
    return -eps / torch.as_tensor(sigma, dtype=eps.dtype).reshape(-1, *[1] * (eps.ndim - 1)) ** 2


@scores.misconception(
    "from eps: sigma forgotten",
    "You return minus eps. The score is larger the smaller the noise is: near the data the density "
    "is steep.",
)
def score_from_eps(eps, sigma):
    return -eps


def both_signs_from_x0(x_t, x0_hat, alpha, sigma):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha = torch.as_tensor(alpha, dtype=x_t.dtype).reshape(shape)
    sigma = torch.as_tensor(sigma, dtype=x_t.dtype).reshape(shape)
    return (x_t - alpha * x0_hat) / sigma**2


def both_signs_from_eps(eps, sigma):
    return eps / torch.as_tensor(sigma, dtype=eps.dtype).reshape(-1, *[1] * (eps.ndim - 1))


scores.misconception(
    "both: wrong sign",
    "Both scores point away from the data. You have the gradient of the energy, minus log p; the "
    "score is the gradient of log p, and points to where the density grows.",
    defines={"score_from_x0": both_signs_from_x0, "score_from_eps": both_signs_from_eps},
)


def wrong_axis_from_x0(x_t, x0_hat, alpha, sigma):
    return (alpha * x0_hat - x_t) / sigma**2


def wrong_axis_from_eps(eps, sigma):
    return -eps / sigma


scores.misconception(
    "level on the wrong axis",
    "A number works, but a tensor of shape (B,) meets the last axis: broadcasting aligns from the "
    "right. There is one level per sample: give alpha and sigma the shape (B, 1, ..., 1).",
    defines={"score_from_x0": wrong_axis_from_x0, "score_from_eps": wrong_axis_from_eps},
)


# 03.5 ---------------------------------------------------------------------------------------------

loss = Answers("03.5")


@loss.reference
def simple_loss(model, x0, t, alpha_bar, noise, cond=None, prediction="eps"):
    shape = (-1,) + (1,) * (x0.ndim - 1)
    alpha = alpha_bar[t].sqrt().reshape(shape)
    sigma = (1 - alpha_bar[t]).sqrt().reshape(shape)
    x_t = alpha * x0 + sigma * noise
    if prediction == "eps":
        target = noise
    elif prediction == "x0":
        target = x0
    elif prediction == "v":
        target = alpha * noise - sigma * x0
    else:
        raise ValueError(f"prediction must be 'eps', 'x0' or 'v', not {prediction!r}")
    time = t.to(x0.dtype) / (len(alpha_bar) - 1)
    return ((model(x_t, time, cond) - target) ** 2).mean()


@loss.alternative("F.mse_loss and a dict")
def simple_loss(model, x0, t, alpha_bar, noise, cond=None, prediction="eps"):
    a_bar = alpha_bar.to(x0.dtype)[t].view(len(x0), *[1] * (x0.dim() - 1))
    targets = {
        "eps": lambda: noise,
        "x0": lambda: x0,
        "v": lambda: torch.sqrt(a_bar) * noise - torch.sqrt(1 - a_bar) * x0,
    }
    if prediction not in targets:
        raise ValueError(prediction)
    x_t = torch.sqrt(a_bar) * x0 + torch.sqrt(1 - a_bar) * noise
    return F.mse_loss(model(x_t, t / (alpha_bar.shape[0] - 1), cond), targets[prediction]())


@loss.alternative("mean per sample, then over the batch")
def simple_loss(model, x0, t, alpha_bar, noise, cond=None, prediction="eps"):
    if prediction not in ("eps", "x0", "v"):
        raise ValueError("unknown prediction")
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = torch.stack([signal[i] * x + spread[i] * e for x, i, e in zip(x0, t, noise)])
    if prediction == "v":
        target = torch.stack([signal[i] * e - spread[i] * x for x, i, e in zip(x0, t, noise)])
    else:
        target = noise if prediction == "eps" else x0
    steps = torch.linspace(0, 1, len(alpha_bar), dtype=x0.dtype)
    out = model(x_t, steps[t], cond=cond)
    return (out - target).square().flatten(1).mean(1).mean()


def wrong_loss(
    forward="alpha * x0 + sigma * noise",
    time="t.to(x0.dtype) / (len(alpha_bar) - 1)",
    output="model(x_t, time, cond)",
    v="alpha * noise - sigma * x0",
    eps="noise",
    x0="x0",
    reduce="((out - target) ** 2).mean()",
    levels="alpha_bar[t].sqrt().reshape(shape), (1 - alpha_bar[t]).sqrt().reshape(shape)",
    refuse=True,
):
    """simple_loss with some of its lines replaced: one mistake at a time, the rest as it is."""
    other = (
        'raise ValueError(f"unknown prediction {prediction!r}")' if refuse else f"target = {eps}"
    )
    source = f"""
def simple_loss(model, x0, t, alpha_bar, noise, cond=None, prediction="eps"):
    shape = (-1,) + (1,) * (x0.ndim - 1)
    alpha, sigma = {levels}
    x_t = {forward}
    if prediction == "eps":
        target = {eps}
    elif prediction == "x0":
        target = {x0}
    elif prediction == "v":
        target = {v}
    else:
        {other}
    time = {time}
    out = {output}
    return {reduce}
"""
    names = {"torch": torch, "F": F}
    exec(source, names)
    return {"simple_loss": names["simple_loss"]}


loss.misconception(
    "compares with x0",
    "Whatever the model predicts, you compare it with x0. With prediction='eps' it is asked for "
    "the noise, so the noise is what its answer is held against.",
    defines=wrong_loss(eps="x0", v="x0"),
)
loss.misconception(
    "sums instead of averaging",
    "You add up the squared errors. Then the loss grows with batch and image size, and a learning "
    "rate that suits one size is wrong for another: average over all elements.",
    defines=wrong_loss(reduce="((out - target) ** 2).sum()"),
)
loss.misconception(
    "sums over the elements",
    "You sum the squared errors of each sample and average over the batch only. Average over all "
    "elements, so that the loss of a large image compares with that of a small one.",
    defines=wrong_loss(reduce="((out - target) ** 2).flatten(1).sum(1).mean()"),
)
loss.misconception(
    "no average",
    "You return one squared error per element. backward() wants a single number: the mean.",
    defines=wrong_loss(reduce="(out - target) ** 2"),
)
loss.misconception(
    "absolute error",
    "You average the absolute error. Its best answer is a median; the theory of this lesson, and "
    "the samplers built on it, need the mean, which squared error gives.",
    defines=wrong_loss(reduce="(out - target).abs().mean()"),
)
loss.misconception(
    "own noise",
    "You draw noise of your own and leave the argument unused. Use the noise you are given: the "
    "caller decides what is drawn, so that a run can be repeated.",
    defines=wrong_loss(forward="alpha * x0 + sigma * (noise := torch.randn_like(x0))"),
)
loss.misconception(
    "half the error",
    "Your loss is half of what is asked for. Textbooks like a factor of one half, because it "
    "cancels in the derivative; the simple loss has none.",
    defines=wrong_loss(reduce="((out - target) ** 2).mean() / 2"),
)
loss.misconception(
    "a number",
    "You return a plain number (.item() or float()). It has lost the graph that leads to the "
    "weights, and backward() cannot be called on it: return the tensor.",
    defines=wrong_loss(reduce="((out - target) ** 2).mean().item()"),
)
loss.misconception(
    "shows the model x0",
    "You hand the clean x0 to the model. At sampling time nobody has it: the model has to learn "
    "from x_t.",
    defines=wrong_loss(output="model(x0, time, cond)"),
)
loss.misconception(
    "time not passed",
    "The model gets the same time for every sample. It cannot know how much noise to expect, and "
    "learns an average over all levels.",
    defines=wrong_loss(time="torch.zeros_like(t, dtype=x0.dtype)"),
)
loss.misconception(
    "time as integer step",
    "You pass the integer t. A network of this course receives t / (T - 1), a float from 0 to 1, "
    "so that it does not depend on how many steps a schedule has.",
    defines=wrong_loss(time="t"),
)
loss.misconception(
    "time over T",
    "You divide t by T. The last step is T - 1 and has to arrive as exactly 1.",
    defines=wrong_loss(time="t.to(x0.dtype) / len(alpha_bar)"),
)
loss.misconception(
    "T taken for 1000",
    "You divide t by 999. The number of steps is the length of alpha_bar, whatever it is: with "
    "another schedule the last step would not arrive as 1.",
    defines=wrong_loss(time="t / 999"),
)
loss.misconception(
    "level on the wrong axis",
    "alpha_bar[t] has shape (B,) and meets the last axis of x0: broadcasting aligns from the "
    "right. Give it the shape (B, 1, ..., 1).",
    defines=wrong_loss(levels="alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()"),
)
loss.misconception(
    "condition dropped",
    "`cond` never reaches the model. Without it a class-conditional model trains as if it had no "
    "classes, and nothing warns you.",
    defines=wrong_loss(output="model(x_t, time)"),
)
loss.misconception(
    "prediction ignored",
    "You compare with the noise whatever `prediction` says. A model that is to predict x0 or v "
    "has another target.",
    defines=wrong_loss(x0="noise", v="noise", refuse=False),
)
loss.misconception(
    "v with the wrong sign",
    "Your v is sigma x0 - alpha eps. The convention of lesson 02 is v = alpha eps - sigma x0.",
    defines=wrong_loss(v="sigma * x0 - alpha * noise"),
)
loss.misconception(
    "v with swapped roles",
    "Your v is alpha x0 - sigma eps. In v = alpha eps - sigma x0 the factors stand the other way "
    "round than in x_t: v is x_t turned by a quarter.",
    defines=wrong_loss(v="alpha * x0 - sigma * noise"),
)
loss.misconception(
    "no roots",
    "You noise with alpha_bar and 1 - alpha_bar themselves. They are the squares of alpha and "
    "sigma: variances, where deviations belong.",
    defines=wrong_loss(levels="alpha_bar[t].reshape(shape), (1 - alpha_bar[t]).reshape(shape)"),
)
loss.misconception(
    "gradient cut off",
    "The number is right, but no gradient can flow: .item(), .detach() or no_grad took the graph "
    "away. Return the tensor.",
    defines=wrong_loss(reduce="((out - target) ** 2).mean().detach()"),
)
loss.misconception(
    "unknown prediction accepted",
    "A prediction that does not exist is accepted in silence. A typo would train the wrong thing "
    "for hours: raise a ValueError.",
    defines=wrong_loss(refuse=False),
)


# 03.6 ---------------------------------------------------------------------------------------------

weight = Answers("03.6")


@weight.reference
def loss_weight(kind, snr, gamma=5.0):
    if kind == "eps":
        return snr.clone()
    if kind == "x0":
        return torch.ones_like(snr)
    if kind == "v":
        return snr + 1
    if kind == "min-snr":
        return snr.clamp(max=gamma)
    raise ValueError(f"kind must be 'eps', 'x0', 'v' or 'min-snr', not {kind!r}")


@weight.alternative("dict")
def loss_weight(kind, snr, gamma=5.0):
    weights = {
        "eps": snr,
        "x0": snr**0,
        "v": 1 + snr,
        "min-snr": torch.minimum(snr, torch.full_like(snr, gamma)),
    }
    if kind not in weights:
        raise ValueError(f"unknown kind {kind}")
    return weights[kind]


@weight.alternative("from alpha and sigma")
def loss_weight(kind, snr, gamma=5.0):
    if kind not in ("eps", "x0", "v", "min-snr"):
        raise ValueError(kind)
    sigma2 = 1 / (1 + snr)
    alpha2 = snr * sigma2
    if kind == "x0":
        return torch.full(snr.shape, 1.0, dtype=snr.dtype)
    if kind == "v":
        return 1 / sigma2
    ratio = alpha2 / sigma2
    return ratio if kind == "eps" else torch.where(ratio > gamma, gamma, ratio)


def wrong_weight(eps="snr", x0="torch.ones_like(snr)", v="snr + 1", min_snr="snr.clamp(max=gamma)",
                 other="raise ValueError(kind)"):  # fmt: skip
    """loss_weight with some of its lines replaced."""
    source = f"""
def loss_weight(kind, snr, gamma=5.0):
    if kind == "eps":
        return {eps}
    if kind == "x0":
        return {x0}
    if kind == "v":
        return {v}
    if kind == "min-snr":
        return {min_snr}
    {other}
"""
    names = {"torch": torch}
    exec(source, names)
    return {"loss_weight": names["loss_weight"]}


weight.misconception(
    "inverted",
    "Your weights are upside down: they fall where the signal is strong. Near the data a tiny "
    "error of x0 is a large error of eps, so the plain eps loss weighs it heavily.",
    defines=wrong_weight(eps="1 / snr", v="1 / (snr + 1)", min_snr="1 / snr.clamp(max=gamma)"),
)
weight.misconception(
    "max for min",
    "Your min-snr never falls below gamma. It is there to stop the weight from growing where there "
    "is hardly any noise: a ceiling, not a floor.",
    defines=wrong_weight(min_snr="snr.clamp(min=gamma)"),
)
weight.misconception(
    "weight on the eps error",
    "You give the weights that stand before the error of eps. Asked for are those before the error "
    "of x0; the two errors differ by a factor snr.",
    defines=wrong_weight(
        eps="torch.ones_like(snr)", x0="1 / snr", v="(snr + 1) / snr",
        min_snr="snr.clamp(max=gamma) / snr",
    ),
)  # fmt: skip
weight.misconception(
    "min-snr on the eps error",
    "Your min-snr is the factor before the eps loss, min(snr, gamma) / snr, as it is used in code "
    "that trains eps. Asked for is the weight on the x0 error, as for the other kinds.",
    defines=wrong_weight(min_snr="snr.clamp(max=gamma) / snr"),
)
weight.misconception(
    "v like eps",
    "Your weight for v is that of eps. The error of v counts where there is only noise, too: what "
    "remains of it as snr goes to 0?",
    defines=wrong_weight(v="snr"),
)
weight.misconception(
    "gamma fixed",
    "You use 5 whatever gamma says. It is the default, not the only value.",
    defines=wrong_weight(min_snr="snr.clamp(max=5.0)"),
)
weight.misconception(
    "root of snr",
    "You weigh with the root of the SNR, alpha over sigma. That is the factor between the errors; "
    "the loss squares them.",
    defines=wrong_weight(
        eps="snr.sqrt()", v="(snr + 1).sqrt()", min_snr="snr.sqrt().clamp(max=gamma)"
    ),
)
weight.misconception(
    "a number for x0",
    "For x0 you return the number 1. The caller multiplies tensors: give a tensor of the shape and "
    "dtype of snr for every kind.",
    defines=wrong_weight(x0="1.0"),
)
weight.misconception(
    "unknown kind accepted",
    "A kind that does not exist gets a weight. A typo would train with the wrong loss in silence: "
    "raise a ValueError.",
    defines=wrong_weight(other="return torch.ones_like(snr)"),
)


# 03.7 ---------------------------------------------------------------------------------------------

fit = Answers("03.7")


@fit.reference
def fit_2d(points, steps, generator):
    def linear(n_in, n_out):
        layer = nn.Linear(n_in, n_out)
        for p in layer.parameters():
            p.data.uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator)
        return layer

    net = nn.Sequential(
        linear(9, 96),
        nn.SiLU(),
        linear(96, 96),
        nn.SiLU(),
        linear(96, 96),
        nn.SiLU(),
        linear(96, 2),
    )

    def levels(t):
        f = torch.cos((t.double() + 0.008) / 1.008 * math.pi / 2) ** 2
        alpha_bar = (f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(0, 1)
        return alpha_bar.sqrt().float()[:, None], (1 - alpha_bar).sqrt().float()[:, None]

    def predict_v(x_t, t):
        phase = t[:, None] * torch.tensor([1.0, 2.0, 4.0])
        return net(torch.cat([x_t, t[:, None], phase.sin(), phase.cos()], 1))

    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        x0 = points[torch.randint(len(points), (256,), generator=generator)]
        t = torch.rand(256, generator=generator)
        noise = torch.randn(256, 2, generator=generator)
        alpha, sigma = levels(t)
        v = predict_v(alpha * x0 + sigma * noise, t)
        loss = ((v - (alpha * noise - sigma * x0)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def denoiser(x_t, t, cond=None):
        t = torch.as_tensor(t, dtype=torch.float32).expand(len(x_t))
        alpha, sigma = levels(t)
        return alpha * x_t - sigma * predict_v(x_t, t)

    return denoiser


def trainer(
    target="alpha * noise - sigma * x0",
    answer="alpha * x_t - sigma * out",
    before="levels(t)",
    time="t[:, None]",
    draw="generator=generator",
    start="torch.randint(2**31, (1,), generator=generator)",
    used="net",
    batch="points[torch.randint(len(points), (256,), {draw})]",
    lr="3e-3",
    first="pass",
    levels="alpha_bar.sqrt(), (1 - alpha_bar).sqrt()",
):
    """fit_2d written more simply than the reference, with some of its lines replaced."""
    source = f"""
def fit_2d(points, steps, generator):
    {first}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int({start}))
        net = nn.Sequential(nn.Linear(9, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(),
                            nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 2))

    def levels(t):
        f = torch.cos((t.reshape(-1, 1) + 0.008) / 1.008 * math.pi / 2) ** 2
        alpha_bar = (f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(0.0, 1.0)
        return {levels}

    def ask(x_t, t):
        t = {time}
        waves = [torch.sin(k * t) for k in (1, 2, 4)] + [torch.cos(k * t) for k in (1, 2, 4)]
        return net(torch.cat([x_t, t, *waves], 1))

    optimizer = torch.optim.AdamW({used}.parameters(), lr={lr})
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for _ in range(steps):
        x0 = {batch.format(draw=draw)}
        t = torch.rand(256, {draw})
        noise = torch.randn(256, 2, {draw})
        alpha, sigma = {before}
        x_t = alpha * x0 + sigma * noise
        loss = F.mse_loss(ask(x_t, t), {target})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def denoiser(x_t, t, cond=None):
        t = torch.as_tensor(t).float().expand(x_t.shape[0])
        alpha, sigma = levels(t)
        out = ask(x_t, t)
        return {answer}

    return denoiser
"""
    names = {"torch": torch, "nn": nn, "F": F, "math": math}
    exec(source, names)
    return {"fit_2d": names["fit_2d"]}


fit.alternative("another network, AdamW", trainer())
fit.alternative("network predicts x0", trainer(target="x0", answer="out"))
fit.alternative(
    "network predicts eps, clean at the ends",
    trainer(
        target="noise",
        # At t = 1 alpha is 0: any answer near the data will do there.
        answer="((x_t - sigma * out) / alpha.clamp(min=0.02)).clamp(-4, 4)",
    ),
)


def measure(seeds):
    """Prints what the thresholds of this exercise rest on: each figure's mean and deviation."""
    from coursework import checks, harness

    course = checks.load("03")
    exercise, module = course.exercises["03.7"], course.module
    for name, defines in [("reference", {}), *fit.alternatives.items()]:
        rows = []
        for seed in range(seeds):
            cases = exercise.make_cases(seed)
            out = harness.run_cases(fit.complete(defines), exercise.names, cases, module)
            rows.append(
                (
                    module.mean_error(cases[0], out[0].value["x0_hat"]),
                    module.recalled(cases[0], out[0].value["x0_hat"]),
                    *module.sample_figures(cases[1], out[1].value),
                )
            )
        rows = torch.tensor(rows)
        print(name, "(mean error, from recall, energy, stray, novelty)")
        print("  mean", " ".join(f"{v:.4f}" for v in rows.mean(0)))
        print("  sd  ", " ".join(f"{v:.4f}" for v in rows.std(0)), flush=True)


last_verdict = [None, ""]


def verdict(got, cases):
    """The name that the exercise's judge gives to the first mistake it finds."""
    if last_verdict[0] is not got:
        judge = sys.modules["course_checks_03"].fit_2d._judge
        found = [judge(c, o.value, None) if o.status == "ok" else o for c, o in zip(cases, got)]
        first = next((f for f in found if f is not None), None)
        last_verdict[:] = got, getattr(first, "name", "")
    return last_verdict[1]


def seen(name):
    return lambda got, expected, cases: verdict(got, cases) == name


def wrong_fit(name, defines):
    fit.misconception(name, sys.modules["course_checks_03"].SAYS[name], seen(name), defines)


def empirical_of_the_points(points, steps, generator):
    def denoiser(x_t, t, cond=None):
        t = torch.as_tensor(t).double().expand(len(x_t))
        f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        alpha_bar = (f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(0, 1)[:, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt().clamp(min=1e-3)
        square = ((x_t[:, None] - alpha[:, :, None] * points) ** 2).sum(-1)
        return (torch.softmax(-square / (2 * sigma**2), 1) @ points.double()).float()

    return denoiser


wrong_fit("returns the points", {"fit_2d": empirical_of_the_points})
wrong_fit("nothing learned", trainer(used="nn.Linear(9, 96)"))
wrong_fit("returns the noisy point", trainer(target="x_t", answer="out"))
wrong_fit("returns the noise", trainer(target="noise", answer="out"))
wrong_fit("returns v", trainer(answer="out"))
wrong_fit("ignores the time", trainer(target="x0", answer="out", time="0 * t[:, None]"))
wrong_fit("generator ignored", trainer(draw="generator=None", start="torch.randint(2**31, (1,))"))
wrong_fit("seed has no effect", trainer(first="generator = torch.Generator().manual_seed(0)"))


# 03.8 ---------------------------------------------------------------------------------------------

edm = Answers("03.8")


@edm.reference
def edm_precondition(sigma, sigma_data):
    total = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / total
    c_out = sigma * sigma_data / total.sqrt()
    c_in = 1 / total.sqrt()
    c_noise = sigma.log() / 4
    return c_skip, c_out, c_in, c_noise


@edm.alternative("by an angle")
def edm_precondition(sigma, sigma_data):
    angle = torch.atan(sigma / sigma_data)
    norm = torch.hypot(sigma, torch.full_like(sigma, sigma_data))
    return torch.cos(angle) ** 2, sigma_data * torch.sin(angle), norm**-1, 0.25 * torch.log(sigma)


@edm.alternative("by rsqrt")
def edm_precondition(sigma, sigma_data):
    c_in = torch.rsqrt(sigma.square() + sigma_data**2)
    return ((sigma_data * c_in) ** 2, sigma * sigma_data * c_in, c_in, torch.log(sigma**0.25))


def wrong_edm(skip="sigma_data**2 / total", out="sigma * sigma_data / total.sqrt()",
              into="1 / total.sqrt()", noise="sigma.log() / 4"):  # fmt: skip
    """edm_precondition with some of its lines replaced."""
    source = f"""
def edm_precondition(sigma, sigma_data):
    total = sigma**2 + sigma_data**2
    return {skip}, {out}, {into}, {noise}
"""
    names = {"torch": torch}
    exec(source, names)
    return {"edm_precondition": names["edm_precondition"]}


edm.misconception(
    "c_in inverted",
    "Your c_in multiplies by the deviation of x_t. The network's input should have variance one: "
    "divide by it.",
    defines=wrong_edm(into="total.sqrt()"),
)
edm.misconception(
    "c_in without the root",
    "You divide the input by its variance. To get variance one, divide by the deviation.",
    defines=wrong_edm(into="1 / total"),
)
edm.misconception(
    "c_out without the root",
    "Your c_out divides by the variance of x_t. What the skip connection leaves over has variance "
    "sigma^2 sigma_data^2 / (sigma^2 + sigma_data^2); c_out is its deviation.",
    defines=wrong_edm(out="sigma * sigma_data / total"),
)
edm.misconception(
    "c_out is sigma",
    "Your c_out is sigma, the deviation of what is left if x passes whole. c_skip takes part of x "
    "away where the noise is strong, and what is left then has deviation sigma_data at most.",
    defines=wrong_edm(out="sigma"),
)
edm.misconception(
    "c_out and c_in exchanged",
    "Your second and third factors have changed places. The order is c_skip, c_out, c_in, c_noise.",
    defines=wrong_edm(out="1 / total.sqrt()", into="sigma * sigma_data / total.sqrt()"),
)
edm.misconception(
    "c_skip without squares",
    "Your c_skip compares deviations. The gain of 03.1 compares variances: both are squared.",
    defines=wrong_edm(skip="sigma_data / (sigma + sigma_data)"),
)
edm.misconception(
    "decimal logarithm",
    "Your c_noise uses the logarithm to base 10. Table 1 writes ln, the natural one.",
    defines=wrong_edm(noise="sigma.log10() / 4"),
)
edm.misconception(
    "quarter forgotten",
    "Your c_noise is ln(sigma). EDM takes a quarter of it.",
    defines=wrong_edm(noise="sigma.log()"),
)
edm.misconception(
    "c_skip swapped",
    "Your c_skip grows with the noise. Where sigma is small, x_t is almost the answer, and should "
    "pass almost unchanged: c_skip tends to 1 there.",
    defines=wrong_edm(skip="sigma**2 / total"),
)
edm.misconception(
    "c_skip with a root",
    "Your c_skip is a ratio of deviations. The best linear denoiser is a ratio of variances, as in "
    "03.1 with alpha = 1.",
    defines=wrong_edm(skip="sigma_data / total.sqrt()"),
)
edm.misconception(
    "variances not squared",
    "You add sigma and sigma_data. Both are deviations: variances add, and those are their "
    "squares.",
    defines=wrong_edm(
        skip="sigma_data / (sigma + sigma_data)",
        out="sigma * sigma_data / (sigma + sigma_data).sqrt()",
        into="1 / (sigma + sigma_data).sqrt()",
    ),
)


# 03.9 ---------------------------------------------------------------------------------------------

elbo = Answers("03.9")


@elbo.reference
def elbo_terms(x0, model, betas, generator):
    betas = betas.double()
    alpha_bar = torch.cumprod(1 - betas, 0)
    snr = alpha_bar / (1 - alpha_bar)
    T, dims = len(betas), x0[0].numel()
    terms = torch.zeros(T + 1, dtype=torch.float64)
    for t in range(T):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x_t = alpha_bar[t].sqrt().to(x0.dtype) * x0 + (1 - alpha_bar[t]).sqrt().to(x0.dtype) * noise
        time = torch.full((len(x0),), t / (T - 1), dtype=x0.dtype)
        square = ((model(x_t, time, None) - noise).double() ** 2).flatten(1).sum(1).mean() / snr[t]
        if t == 0:
            terms[0] = dims / 2 * torch.log(2 * math.pi * betas[0]) + square / (2 * betas[0])
        else:
            terms[t] = (snr[t - 1] - snr[t]) / 2 * square
    kept = alpha_bar[-1]
    square = (x0.double() ** 2).flatten(1).sum(1).mean()
    terms[T] = (kept * square - dims * kept - dims * torch.log(1 - kept)) / 2
    return terms / (dims * math.log(2))


@elbo.alternative("with the posterior's means, and x0")
def elbo_terms(x0, model, betas, generator):
    x = x0.double()
    beta = betas.double()
    ab = torch.cumprod(1 - beta, 0)
    T = len(beta)
    nats = []
    for t in range(T):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x_t = (ab[t].sqrt() * x + (1 - ab[t]).sqrt() * noise.double()).to(x0.dtype)
        time = torch.full((len(x0),), t / (T - 1)).to(x0.dtype)
        eps = model(x_t, time, None).double()
        x0_hat = (x_t.double() - (1 - ab[t]).sqrt() * eps) / ab[t].sqrt()
        if t == 0:
            normal = torch.distributions.Normal(x0_hat, beta[0].sqrt())
            nats.append(-normal.log_prob(x).flatten(1).sum(1).mean())
            continue
        weight = ab[t - 1].sqrt() * beta[t] / (1 - ab[t])
        variance = beta[t] * (1 - ab[t - 1]) / (1 - ab[t])
        off = weight * (x - x0_hat)
        nats.append((off**2 / (2 * variance)).flatten(1).sum(1).mean())
    one = torch.distributions.Normal(ab[-1].sqrt() * x, (1 - ab[-1]).sqrt().expand_as(x))
    prior = torch.distributions.kl_divergence(one, torch.distributions.Normal(0.0, 1.0))
    nats.append(prior.flatten(1).sum(1).mean())
    return torch.stack(nats) / math.log(2) / x0[0].numel()


@elbo.alternative("means over everything")
def elbo_terms(x0, model, betas, generator):
    a = (1 - betas.to(torch.float64)).cumprod(0)
    s = 1 - a
    T = betas.shape[0]
    out = []
    for t in range(T):
        e = torch.randn(*x0.shape, generator=generator, dtype=x0.dtype)
        x_t = (a[t] ** 0.5).to(x0.dtype) * x0 + (s[t] ** 0.5).to(x0.dtype) * e
        guess = model(x_t, torch.ones(len(x0), dtype=x0.dtype) * (t / (T - 1)), None)
        mse = F.mse_loss(guess.double(), e.double()) * s[t] / a[t]
        if t == 0:
            out.append(0.5 * math.log(2 * math.pi * float(betas[0])) + mse / (2 * s[0]))
        else:
            out.append(0.5 * (a[t - 1] / s[t - 1] - a[t] / s[t]) * mse)
    out.append(0.5 * (a[-1] * x0.double().square().mean() - a[-1] - s[-1].log()))
    return torch.stack([o / math.log(2) for o in out])


def wrong_elbo(
    log="torch.log(2 * math.pi * betas[0])",
    decoder="dims / 2 * {log} + square / (2 * betas[0])",
    step="(snr[t - 1] - snr[t]) / 2 * square",
    prior="(kept * square - dims * kept - dims * torch.log(1 - kept)) / 2",
    error="((model(x_t, time, None) - noise).double() ** 2).flatten(1).sum(1).mean() / snr[t]",
    unit="terms / (dims * math.log(2))",
    reduce="mean()",
    source="generator=generator",
    time="t / (T - 1)",
    steps="range(T)",
):
    """elbo_terms with some of its lines replaced."""
    text = f"""
def elbo_terms(x0, model, betas, generator):
    betas = betas.double()
    alpha_bar = torch.cumprod(1 - betas, 0)
    snr = alpha_bar / (1 - alpha_bar)
    T, dims = len(betas), x0[0].numel()
    terms = torch.zeros(T + 1, dtype=torch.float64)
    for t in {steps}:
        noise = torch.randn(x0.shape, {source}, dtype=x0.dtype)
        x_t = alpha_bar[t].sqrt().to(x0.dtype) * x0 + (1 - alpha_bar[t]).sqrt().to(x0.dtype) * noise
        time = torch.full((len(x0),), {time}, dtype=x0.dtype)
        square = {error.replace("mean()", reduce)}
        if t == 0:
            terms[0] = {decoder.format(log=log)}
        else:
            terms[t] = {step}
    kept = alpha_bar[-1]
    square = (x0.double() ** 2).flatten(1).sum(1).{reduce}
    terms[T] = {prior}
    return {unit}
"""
    names = {"torch": torch, "math": math}
    exec(text, names)
    return {"elbo_terms": names["elbo_terms"]}


elbo.misconception(
    "averaged over the elements twice",
    "You average the squared error over the elements of a sample and divide by their number once "
    "more. Sum over the elements, or leave the division out.",
    defines=wrong_elbo(unit="terms / (dims**2 * math.log(2))"),
)
elbo.misconception(
    "noise drawn from the last step on",
    "Your noise is drawn for t = T - 1 first. Asked for is t = 0 first: with the same generator, "
    "each step then gets other noise than the check expects.",
    defines=wrong_elbo(steps="reversed(range(T))"),
)
elbo.misconception(
    "nats",
    "Your terms are in nats. Natural logarithms measure in nats; one bit is ln 2 of them.",
    defines=wrong_elbo(unit="terms / dims"),
)
elbo.misconception(
    "bits per sample",
    "Your terms are bits per sample. Divide by the number of elements of one sample, so that sizes "
    "can be compared.",
    defines=wrong_elbo(unit="terms / math.log(2)"),
)
elbo.misconception(
    "sum over the batch",
    "You sum over the batch. The bound is an expectation over data: average over the samples, and "
    "sum over the elements of each.",
    defines=wrong_elbo(reduce="sum()"),
)
elbo.misconception(
    "last term forgotten",
    "The last of the T + 1 terms is missing: the prior, what it costs that x at step T - 1 is not "
    "quite standard normal. No training changes it, but without it this is no bound.",
    defines=wrong_elbo(unit="terms[:T] / (dims * math.log(2))"),
)
elbo.misconception(
    "prior left at zero",
    "Your prior term is zero. x at step T - 1 still holds sqrt(alpha_bar) of the data, and the "
    "divergence from a standard normal counts.",
    defines=wrong_elbo(prior="0.0"),
)
elbo.misconception(
    "decoder like the other steps",
    "Step 0 is not a comparison of two Gaussians: there, x0 itself is seen, and the term is minus "
    "the log of a density, with its normaliser.",
    defines=wrong_elbo(decoder="square / (2 * betas[0])"),
)
elbo.misconception(
    "half forgotten",
    "The KL divergence of two Gaussians of equal variance has a factor 1/2, which your steps lack.",
    defines=wrong_elbo(step="(snr[t - 1] - snr[t]) * square"),
)
elbo.misconception(
    "negative steps",
    "Your steps are negative, and a KL divergence never is. The SNR falls with t, so SNR[t-1] is "
    "the larger one.",
    defines=wrong_elbo(step="(snr[t] - snr[t - 1]) / 2 * square"),
)
elbo.misconception(
    "error of eps",
    "You weigh the error of eps with weights that belong to the error of x0. The two differ by a "
    "factor SNR[t].",
    defines=wrong_elbo(error="((model(x_t, time, None) - noise).double() ** 2)"
                             ".flatten(1).sum(1).mean()"),
)  # fmt: skip
elbo.misconception(
    "plain loss",
    "Your steps are the plain, unweighted loss of lesson 03.5. The bound weighs each step with a "
    "difference of SNRs.",
    defines=wrong_elbo(step="square * snr[t]"),
)
elbo.misconception(
    "generator ignored",
    "Your noise does not come from the generator that was given: the same seed gives other terms.",
    defines=wrong_elbo(source="generator=None"),
)
elbo.misconception(
    "time over T",
    "You tell the model t / T. The last step, T - 1, has to arrive as exactly 1.",
    defines=wrong_elbo(time="t / T"),
)
