"""Answers of lesson 02: references, named mistakes with what to say about them, alternatives."""
# ruff: noqa: F811

import math

import torch
from coursework.exercise import Answers

a_q_step = Answers("02.1")


@a_q_step.reference
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "no-roots",
    "You scale by 1 - beta and beta themselves. These are variances; a number multiplied by c has "
    "its variance multiplied by c squared. Which factors give the noise variance beta, and keep "
    "data of variance 1 at variance 1?",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta) * x_prev + beta * noise


@a_q_step.misconception(
    "noise-without-root",
    "The noise is scaled by beta. beta is meant to be the variance of what is added, and "
    "multiplying by beta gives it variance beta squared: for beta = 0.01 a hundred times too "
    "little.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta * noise


@a_q_step.misconception(
    "signal-without-root",
    "The noise has the right factor, but x_prev is scaled by 1 - beta. Its variance then shrinks "
    "by (1 - beta) squared, and the sum no longer has variance 1: after many steps the data fade "
    "faster than the noise accounts for.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta) * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "coefficients-swapped",
    "The two factors have changed places: a small beta now keeps little of x_prev and adds much "
    "noise. A step with a small beta has to change x_prev a little.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return beta.sqrt() * x_prev + (1 - beta).sqrt() * noise


@a_q_step.misconception(
    "signal-not-shrunk",
    "You add noise of the right size, but leave x_prev at full size. The variance then grows by "
    "beta at every step (that is another process, called variance exploding). Here the sum has to "
    "keep variance 1.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "last-axis",
    "beta of shape (B,) is multiplied as it is. torch lines shapes up from the last axis, so it "
    "scales columns (or moments of a sound), not samples, and where the sizes differ it crashes. "
    "beta needs axes of length 1 behind its first.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "images-only",
    "You append exactly three axes to beta. That fits images (B, C, H, W); for sound (B, C, L) it "
    "is one too many, and the result grows an axis. Let x_prev.ndim say how many.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype).reshape(-1, 1, 1, 1)
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "first-beta-for-all",
    "Every sample gets the beta of the first. With a beta of shape (B,) each sample has its own "
    "step size.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype).reshape(-1)[0]
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "own-noise",
    "You draw new noise and leave the argument unused. Use the noise you are given: a loss needs "
    "to know it, and a test needs to repeat it.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * torch.randn_like(x_prev)


@a_q_step.misconception(
    "in-place",
    "The numbers are right, but x_prev itself was changed (an operation ending in an underscore, "
    "or *= and +=). Whoever called you still needs the old x_prev.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    x_prev *= (1 - beta).sqrt()
    x_prev += beta.sqrt() * noise
    return x_prev


@a_q_step.alternative("powers and view")
def q_step(x_prev, beta, noise):
    if isinstance(beta, torch.Tensor) and beta.ndim == 1:
        beta = beta.view(len(beta), *(1 for _ in x_prev.shape[1:]))
    return x_prev * (1 - beta) ** 0.5 + noise * beta**0.5


@a_q_step.alternative("sample by sample")
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=torch.float64).expand(len(x_prev))
    rows = [
        math.sqrt(1 - float(b)) * x + math.sqrt(float(b)) * n
        for x, b, n in zip(x_prev, beta, noise)
    ]
    return torch.stack(rows)


@a_q_step.alternative("batch axis last")
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    x, n = x_prev.movedim(0, -1), noise.movedim(0, -1)
    return (torch.sqrt(1 - beta) * x + torch.sqrt(beta) * n).movedim(-1, 0)


a_q_sample = Answers("02.2")


@a_q_sample.reference
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "no-roots",
    "You scale by alpha_bar and 1 - alpha_bar. They are shares of variance; the factors have to be "
    "standard deviations, or x_t loses variance (at the middle of the way, half of it).",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab * x0 + (1 - ab) * noise


@a_q_sample.misconception(
    "noise-without-root",
    "x0 has the right factor, but the noise is scaled by 1 - alpha_bar, the variance it should "
    "have, not by the factor that gives it this variance.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab) * noise


@a_q_sample.misconception(
    "signal-without-root",
    "The noise has the right factor, but x0 is scaled by alpha_bar. What remains of the data's "
    "variance is then alpha_bar squared.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "noise-minus-root",
    "The noise is scaled by 1 minus the root of alpha_bar. The two squared factors have to add up "
    "to 1; which order of root and difference does that?",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab.sqrt()) * noise


@a_q_sample.misconception(
    "coefficients-swapped",
    "The two factors have changed places. alpha_bar is near 1 at t = 0, where nearly all of x_t "
    "must still be data. (An alpha_bar taken for a beta gives this too.)",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - ab).sqrt() * x0 + ab.sqrt() * noise


@a_q_sample.misconception(
    "one-step-beta",
    "This is what a single step with beta_t gives, applied to x0. All steps from 0 to t lie "
    "between x0 and x_t; alpha_bar[t] is their product already.",
)
def q_sample(x0, t, alpha_bar, noise):
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    alpha = (alpha_bar / before)[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise


@a_q_sample.misconception(
    "product-twice",
    "You take the cumulative product of alpha_bar. It is a cumulative product already; look it up "
    "at t as it is.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar.cumprod(0)[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "index-minus-one",
    "You look alpha_bar up at t - 1. Here t counts from 0: alpha_bar[0] belongs to the first noisy "
    "state, and t - 1 = -1 would give pure noise from the end of the schedule.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t - 1].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "last-axis",
    "alpha_bar[t] of shape (B,) is multiplied as it is. torch lines shapes up from the last axis, "
    "so every column gets a noise level of its own, not every sample; where the sizes differ it "
    "crashes.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "one-axis-too-few",
    "You append a single axis to alpha_bar[t]. (B, 1) meets the last two axes of x0, so the noise "
    "level changes along rows or channels. How many axes does x0 have after the first?",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).unsqueeze(-1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "images-only",
    "You append exactly three axes. That fits images (B, C, H, W), not sound (B, C, L), where the "
    "result grows an axis. Let x0.ndim say how many.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "sound-only",
    "You append exactly two axes. That fits sound (B, C, L); in images (B, C, H, W) the noise "
    "level then follows the channels, or it crashes. Let x0.ndim say how many.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "first-t-for-all",
    "Every sample gets the noise level of the first. t holds one time for each sample, and they "
    "differ: in training a batch sees many noise levels at once.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t[0]].to(x0.dtype)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "own-noise",
    "You draw new noise and leave the argument unused. Use the noise you are given: the network "
    "will be asked for exactly this noise.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * torch.randn_like(x0)


@a_q_sample.misconception(
    "dtype-of-the-schedule",
    "With a float64 schedule your result is float64, though x0 is float32. A network with float32 "
    "weights refuses such an input. Bring the factors to x0's dtype.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@a_q_sample.misconception(
    "in-place",
    "The numbers are right, but x0 itself was changed. The clean data are needed again: for the "
    "loss, and for the next epoch.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return x0.mul_(ab.sqrt()).add_((1 - ab).sqrt() * noise)


@a_q_sample.alternative("einsum")
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar.to(x0.dtype)[t]
    signal = torch.einsum("b,b...->b...", torch.sqrt(ab), x0)
    return signal + torch.einsum("b,b...->b...", torch.sqrt(1 - ab), noise)


@a_q_sample.alternative("alpha and sigma from log-SNR")
def q_sample(x0, t, alpha_bar, noise):
    log_snr = torch.logit(alpha_bar[t].double()).view([len(t)] + [1] * (x0.dim() - 1))
    alpha, sigma = torch.sigmoid(log_snr) ** 0.5, torch.sigmoid(-log_snr) ** 0.5
    return alpha.to(x0.dtype) * x0 + sigma.to(x0.dtype) * noise


@a_q_sample.alternative("sample by sample")
def q_sample(x0, t, alpha_bar, noise):
    out = torch.empty_like(x0)
    for i, step in enumerate(t.tolist()):
        ab = alpha_bar[step].item()
        out[i] = math.sqrt(ab) * x0[i] + math.sqrt(1 - ab) * noise[i]
    return out
