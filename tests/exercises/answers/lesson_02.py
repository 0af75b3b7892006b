"""Answers of lesson 02: references, named mistakes with what to say about them, alternatives."""

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
    "one-minus-root",
    "x_prev is scaled by 1 minus the root of beta. The two squared factors have to add up to 1; "
    "which order of root and difference does that?",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta.sqrt()) * x_prev + beta.sqrt() * noise


@a_q_step.misconception(
    "beta-as-deviation",
    "You treat beta as the standard deviation of the noise, and fit the other factor to that. beta "
    "is its variance.",
)
def q_step(x_prev, beta, noise):
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta**2).sqrt() * x_prev + beta * noise


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
    "dtype-of-the-betas",
    "With float64 betas your result is float64, though x_prev is float32. Bring beta to the dtype "
    "of x_prev first.",
)
def q_step(x_prev, beta, noise):
    if isinstance(beta, torch.Tensor):
        beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * noise


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
        beta = beta.to(x_prev).view(len(beta), *(1 for _ in x_prev.shape[1:]))
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
    "time-reversed",
    "You count t from the end of the schedule: small t get the most noise. alpha_bar[0] belongs to "
    "the first step, which adds the least.",
)
def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[len(alpha_bar) - 1 - t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
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


a_x0_from_eps = Answers("02.3")


@a_x0_from_eps.reference
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "divided-by-alpha-bar",
    "You divide by alpha_bar. In x_t the data stand with the root of alpha_bar before them, and "
    "that factor is what has to be undone; yours makes the result too large.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / ab


@a_x0_from_eps.misconception(
    "sign",
    "You add the noise once more. x_t contains the noise with a plus; to get rid of it you have to "
    "take it away.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t + (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "reversed-difference",
    "Your result has the wrong sign: you subtract x_t from the noise. Take the noise out of x_t.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ((1 - ab).sqrt() * eps - x_t) / ab.sqrt()


@a_x0_from_eps.misconception(
    "noise-without-root",
    "You subtract 1 - alpha_bar times the noise. That is its variance; the noise went in with the "
    "root of it, so a part of it stays.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab) * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "no-roots",
    "Both roots are missing: you solved x_t = alpha_bar x0 + (1 - alpha_bar) eps. The equation of "
    "02.2 has roots in both places.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab) * eps) / ab


@a_x0_from_eps.misconception(
    "not-divided",
    "You take the noise away and stop. What is left is x0 times the root of alpha_bar: faint when "
    "there was much noise. Bring it back to full size.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t - (1 - ab).sqrt() * eps


@a_x0_from_eps.misconception(
    "multiplied",
    "You multiply by the root of alpha_bar at the end. x_t has x0 with this factor already; it is "
    "to be undone, not applied again.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) * ab.sqrt()


@a_x0_from_eps.misconception(
    "only-x_t-divided",
    "Only x_t is divided, the noise is not: a pair of brackets is missing. The division belongs to "
    "the whole difference.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t / ab.sqrt() - (1 - ab).sqrt() * eps


@a_x0_from_eps.misconception(
    "only-noise-divided",
    "Only the noise is divided, x_t is not: a pair of brackets is missing. The division belongs to "
    "the whole difference.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t - (1 - ab).sqrt() * eps / ab.sqrt()


@a_x0_from_eps.misconception(
    "noise-at-full-size",
    "You subtract eps as it is. In x_t it stands with a factor, the root of 1 - alpha_bar: only "
    "that much of it went in, and only that much can be taken out.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "ratio-without-root",
    "You divided each term, and on the way the noise lost a root: its factor divided by that of x0 "
    "is the root of 1 / alpha_bar - 1.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t / ab.sqrt() - (1 / ab - 1) * eps


@a_x0_from_eps.misconception(
    "divided-by-noise-factor",
    "You divide by the factor of the noise. The noise is gone by then; what is left is x0 times "
    "its own factor.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / (1 - ab).sqrt()


@a_x0_from_eps.misconception(
    "roles-swapped",
    "This gives the noise when x0 is known, not x0 when the noise is known. Which factor stands "
    "before the quantity that you want?",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - ab.sqrt() * eps) / (1 - ab).sqrt()


@a_x0_from_eps.misconception(
    "clamped",
    "You clamp the result to [-1, 1]. Some samplers do that afterwards, to hide errors of the "
    "network; this function has to tell what the equation says, also when it is out of range.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ((x_t - (1 - ab).sqrt() * eps) / ab.sqrt()).clamp(-1, 1)


@a_x0_from_eps.misconception(
    "index-minus-one",
    "You look alpha_bar up at t - 1. x_t was made with alpha_bar[t]; t counts from 0, and index -1 "
    "is the end of the schedule.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t - 1].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "last-axis",
    "alpha_bar[t] of shape (B,) meets the last axis of x_t, not the first: every column is treated "
    "by a noise level of its own. It needs axes of length 1 behind it, as in 02.2.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype)
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "images-only",
    "You append exactly three axes. For sound (B, C, L) the result grows an axis; let x_t.ndim say "
    "how many.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, 1, 1, 1)
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "dtype-of-the-schedule",
    "With a float64 schedule your result is float64, though x_t is float32. Bring the factors to "
    "the dtype of x_t.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@a_x0_from_eps.misconception(
    "in-place",
    "The numbers are right, but x_t itself was changed. A sampler needs x_t again after it has "
    "asked for x0.",
)
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    x_t -= (1 - ab).sqrt() * eps
    return x_t.div_(ab.sqrt())


@a_x0_from_eps.alternative("each term divided")
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = alpha_bar.to(x_t.dtype)[t]
    ab = ab.view(ab.shape + (1,) * (x_t.dim() - 1))
    return torch.rsqrt(ab) * x_t - torch.sqrt(1 / ab - 1) * eps


@a_x0_from_eps.alternative("batch axis last")
def x0_from_eps(x_t, t, alpha_bar, eps):
    alpha = alpha_bar[t] ** 0.5
    sigma = (1 - alpha_bar[t]) ** 0.5
    x0 = (x_t.movedim(0, -1) - sigma * eps.movedim(0, -1)) / alpha
    return x0.movedim(-1, 0).to(x_t.dtype)


a_v_target = Answers("02.4")


@a_v_target.reference
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise - (1 - ab).sqrt() * x0


@a_v_target.misconception(
    "sign",
    "Your v has the opposite sign. With hardly any noise (alpha_bar near 1) v has to be the noise, "
    "not minus the noise.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - ab).sqrt() * x0 - ab.sqrt() * noise


@a_v_target.misconception(
    "plus",
    "You add the two parts. With a plus, v is another mixture much like x_t, and x0 cannot be told "
    "from the two together (where both factors agree they are one and the same). One part has a "
    "minus.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise + (1 - ab).sqrt() * x0


@a_v_target.misconception(
    "roles-swapped",
    "x0 and the noise have changed places. What you return is x_t with a minus before the noise; "
    "in v the factors are exchanged: the noise has the one that x0 has in x_t.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 - (1 - ab).sqrt() * noise


@a_v_target.misconception(
    "coefficients-swapped",
    "The factors have changed places. Look at the end without noise, where alpha_bar is near 1: "
    "yours gives minus the data there, and v has to be the noise.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - ab).sqrt() * noise - ab.sqrt() * x0


@a_v_target.misconception(
    "no-roots",
    "You use alpha_bar and 1 - alpha_bar as factors. They are shares of variance; the variance of "
    "v would then sink in the middle of the way, and its being constant is the point of v.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab * noise - (1 - ab) * x0


@a_v_target.misconception(
    "one-root",
    "The noise has the root of alpha_bar, but x0 is scaled by 1 - alpha_bar without a root.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise - (1 - ab) * x0


@a_v_target.misconception(
    "flow-velocity",
    "You return noise - x0, without factors. That is the velocity of another process, along "
    "straight lines (flow matching, lesson 15). For this one, each part has its factor.",
)
def v_target(x0, t, alpha_bar, noise):
    return noise - x0


@a_v_target.misconception(
    "of-x_t",
    "You use x_t where x0 belongs. v is made of the clean data and the noise; both are at hand in "
    "training.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    return ab.sqrt() * noise - (1 - ab).sqrt() * x_t


@a_v_target.misconception(
    "index-minus-one",
    "You look alpha_bar up at t - 1. t counts from 0, and the x_t that goes with this v was made "
    "with alpha_bar[t].",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t - 1].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise - (1 - ab).sqrt() * x0


@a_v_target.misconception(
    "last-axis",
    "alpha_bar[t] of shape (B,) meets the last axis of x0, not the first. It needs axes of length "
    "1 behind it, as in 02.2.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].to(x0.dtype)
    return ab.sqrt() * noise - (1 - ab).sqrt() * x0


@a_v_target.misconception(
    "dtype-of-the-schedule",
    "With a float64 schedule your result is float64, though x0 is float32. Bring the factors to "
    "the dtype of x0.",
)
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise - (1 - ab).sqrt() * x0


@a_v_target.alternative("by an angle")
def v_target(x0, t, alpha_bar, noise):
    angle = torch.arccos(alpha_bar[t].double().sqrt())
    angle = angle.view(-1, *(1 for _ in x0.shape[1:]))
    return torch.cos(angle).to(x0.dtype) * noise - torch.sin(angle).to(x0.dtype) * x0


@a_v_target.alternative("einsum")
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar.to(x0.dtype)[t]
    data_part = torch.einsum("b,b...->b...", torch.sqrt(1 - ab), x0)
    return torch.einsum("b,b...->b...", torch.sqrt(ab), noise) - data_part


@a_v_target.alternative("from x_t and x0")
def v_target(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].double().reshape(-1, *[1] * (x0.ndim - 1))
    alpha, sigma = ab.sqrt(), (1 - ab).sqrt()
    x_t = alpha * x0 + sigma * noise
    return ((alpha * x_t - x0) / sigma).to(x0.dtype)


a_from_v = Answers("02.5")


@a_from_v.reference
def eps_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


@a_from_v.reference
def x0_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


@a_from_v.misconception(
    "eps-sign",
    "eps_from_v has the wrong sign before v. Without noise (alpha_bar near 1) v is the noise, so "
    "eps has to come out as v itself.",
)
def eps_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t - ab.sqrt() * v


@a_from_v.misconception(
    "x0-sign",
    "x0_from_v has the wrong sign before v. At the far end (alpha_bar near 0) v is minus the data, "
    "so x0 has to come out as minus v.",
)
def x0_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t + (1 - ab).sqrt() * v


def _eps_signs(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t - ab.sqrt() * v


def _x0_signs(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t + (1 - ab).sqrt() * v


a_from_v.misconception(
    "both-signs",
    "Both functions have the wrong sign before v: this is right for a v of the opposite sign. The "
    "v of 02.4 has a plus before the noise and a minus before the data.",
    defines={"eps_from_v": _eps_signs, "x0_from_v": _x0_signs},
)


@a_from_v.misconception(
    "eps-swapped",
    "In eps_from_v the two factors have changed places. Without noise (alpha_bar near 1) eps is v: "
    "the factor of v has to be near 1 there.",
)
def eps_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t + (1 - ab).sqrt() * v


@a_from_v.misconception(
    "x0-swapped",
    "In x0_from_v the two factors have changed places. Without noise (alpha_bar near 1) x0 is x_t: "
    "the factor of x_t has to be near 1 there.",
)
def x0_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t - ab.sqrt() * v


def _eps_swapped(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t + (1 - ab).sqrt() * v


def _x0_swapped(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t - ab.sqrt() * v


a_from_v.misconception(
    "both-swapped",
    "In both functions the factors have changed places. Without noise (alpha_bar near 1) x_t is "
    "the data and v is the noise: which factor has to be near 1 in each?",
    defines={"eps_from_v": _eps_swapped, "x0_from_v": _x0_swapped},
)


def _eps_as_x0(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


def _x0_as_eps(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


a_from_v.misconception(
    "names-exchanged",
    "Both formulas are right, and each stands under the name of the other: eps_from_v gives the "
    "data, x0_from_v the noise.",
    defines={"eps_from_v": _eps_as_x0, "x0_from_v": _x0_as_eps},
)


def _eps_no_roots(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab) * x_t + ab * v


def _x0_no_roots(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab * x_t - (1 - ab) * v


a_from_v.misconception(
    "no-roots",
    "You use alpha_bar and 1 - alpha_bar as factors. The factors are the roots of them; their "
    "squares add up to 1, and that is why no division is left.",
    defines={"eps_from_v": _eps_no_roots, "x0_from_v": _x0_no_roots},
)


@a_from_v.misconception(
    "x_t-for-x0",
    "eps_from_v solves the equation of v for eps, and then has x_t where x0 stands. Bring in the "
    "equation of x_t to get rid of x0.",
)
def eps_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (v + (1 - ab).sqrt() * x_t) / ab.sqrt()


@a_from_v.misconception(
    "v-for-eps",
    "x0_from_v treats v as if it were the noise: this is the formula of 02.3. v is a mixture of "
    "the noise and the data.",
)
def x0_from_v(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * v) / ab.sqrt()


def _eps_last_axis(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype)
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


def _x0_last_axis(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].to(x_t.dtype)
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


a_from_v.misconception(
    "last-axis",
    "alpha_bar[t] of shape (B,) meets the last axis of x_t, not the first. It needs axes of length "
    "1 behind it, as in 02.2.",
    defines={"eps_from_v": _eps_last_axis, "x0_from_v": _x0_last_axis},
)


def _eps_wide(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


def _x0_wide(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


a_from_v.misconception(
    "dtype-of-the-schedule",
    "With a float64 schedule your results are float64, though x_t is float32. Bring the factors to "
    "the dtype of x_t.",
    defines={"eps_from_v": _eps_wide, "x0_from_v": _x0_wide},
)


def _eps_earlier(x_t, t, alpha_bar, v):
    ab = alpha_bar[t - 1].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


def _x0_earlier(x_t, t, alpha_bar, v):
    ab = alpha_bar[t - 1].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


a_from_v.misconception(
    "index-minus-one",
    "You look alpha_bar up at t - 1. x_t and v were made with alpha_bar[t]; t counts from 0.",
    defines={"eps_from_v": _eps_earlier, "x0_from_v": _x0_earlier},
)


def _eps_by_x0(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].double().reshape(-1, *[1] * (x_t.ndim - 1))
    x0 = ab.sqrt() * x_t - (1 - ab).sqrt() * v
    return ((x_t - ab.sqrt() * x0) / (1 - ab).sqrt()).to(x_t.dtype)


def _x0_by_eps(x_t, t, alpha_bar, v):
    ab = alpha_bar[t].double().reshape(-1, *[1] * (x_t.ndim - 1))
    eps = (1 - ab).sqrt() * x_t + ab.sqrt() * v
    return ((x_t - (1 - ab).sqrt() * eps) / ab.sqrt()).to(x_t.dtype)


a_from_v.alternative(
    "each by way of the other", defines={"eps_from_v": _eps_by_x0, "x0_from_v": _x0_by_eps}
)


def _eps_rotated(x_t, t, alpha_bar, v):
    angle = torch.arccos(alpha_bar[t].double().sqrt()).to(x_t.dtype)
    both = torch.stack([x_t, v], -1)
    turn = torch.stack([torch.sin(angle), torch.cos(angle)], -1)
    return torch.einsum("b...k,bk->b...", both, turn)


def _x0_rotated(x_t, t, alpha_bar, v):
    angle = torch.arccos(alpha_bar[t].double().sqrt()).to(x_t.dtype)
    both = torch.stack([x_t, v], -1)
    turn = torch.stack([torch.cos(angle), -torch.sin(angle)], -1)
    return torch.einsum("b...k,bk->b...", both, turn)


a_from_v.alternative("a rotation", defines={"eps_from_v": _eps_rotated, "x0_from_v": _x0_rotated})


a_posterior = Answers("02.6")


@a_posterior.reference
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(1 - betas, 0)
    one_earlier = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    beta, ab, ab_prev = betas[t], alpha_bar[t], one_earlier[t]
    on_x0 = ab_prev.sqrt() * beta / (1 - ab)
    on_x_t = (1 - beta).sqrt() * (1 - ab_prev) / (1 - ab)
    variance = beta * (1 - ab_prev) / (1 - ab)
    shape = (-1, *[1] * (x0.ndim - 1))
    mean = on_x0.to(x0.dtype).reshape(shape) * x0 + on_x_t.to(x0.dtype).reshape(shape) * x_t
    return mean, variance.to(x0.dtype)


def _posterior(x0, x_t, beta, ab, ab_prev, on_x0=None, on_x_t=None, variance=None, reshape=True):
    """The posterior with parts that a mistake replaces (all (B,)); for the answers below only."""
    on_x0 = ab_prev.sqrt() * beta / (1 - ab) if on_x0 is None else on_x0
    on_x_t = (1 - beta).sqrt() * (1 - ab_prev) / (1 - ab) if on_x_t is None else on_x_t
    variance = beta * (1 - ab_prev) / (1 - ab) if variance is None else variance
    shape = (-1, *[1] * (x0.ndim - 1)) if reshape else (-1,)
    mean = on_x0.to(x0.dtype).reshape(shape) * x0 + on_x_t.to(x0.dtype).reshape(shape) * x_t
    return mean, variance.to(x0.dtype)


def _parts(t, betas):
    """beta, alpha_bar and the alpha_bar before, each (B,)."""
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    return betas[t], alpha_bar[t], before[t]


@a_posterior.misconception(
    "beta-as-variance",
    "The variance you return is beta_t, the variance of the step forward. Here x0 is known as "
    "well, and to know more leaves less uncertain: which factor below 1 is missing?",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    return _posterior(x0, x_t, beta, ab, ab_prev, variance=beta)


@a_posterior.misconception(
    "coefficients-swapped",
    "The factors of x0 and x_t in the mean have changed places. At t = 0 the mean has to be x0 "
    "itself: which factor becomes 1 there?",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    mean, variance = _posterior(x_t, x0, beta, ab, ab_prev)
    return mean, variance


@a_posterior.misconception(
    "wraps-at-zero",
    "At t = 0 the index t - 1 is -1, and alpha_bar[-1] is the last entry, nearly pure noise. "
    "Before the first step nothing has happened: alpha_bar has to be 1 there.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(1 - betas, 0)
    return _posterior(x0, x_t, betas[t], alpha_bar[t], alpha_bar[t - 1])


@a_posterior.misconception(
    "clamped-at-zero",
    "At t = 0 you use alpha_bar[0] for the step before (an index clamped to 0). Before the first "
    "step nothing has happened: alpha_bar is 1, the mean is x0 and the variance 0.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(1 - betas, 0)
    return _posterior(x0, x_t, betas[t], alpha_bar[t], alpha_bar[(t - 1).clamp(min=0)])


@a_posterior.misconception(
    "zero-before-start",
    "At t = 0 you use 0 for the alpha_bar before. 0 would mean that nothing of the data is left; "
    "before the first step everything is.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.zeros_like(alpha_bar[:1]), alpha_bar[:-1]])
    return _posterior(x0, x_t, betas[t], alpha_bar[t], before[t])


@a_posterior.misconception(
    "index-plus-one",
    "You take alpha_bar[t] for the step before and alpha_bar[t + 1] for x_t: everything is one "
    "step too late. x_t has alpha_bar[t].",
)
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(1 - betas, 0)
    after = torch.cat([alpha_bar[1:], alpha_bar[-1:]])
    return _posterior(x0, x_t, betas[t], after[t], alpha_bar[t])


@a_posterior.misconception(
    "same-alpha-bar",
    "You use alpha_bar[t] in both places. The numerators need the alpha_bar of one step earlier.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, _ = _parts(t, betas)
    return _posterior(x0, x_t, beta, ab, ab)


@a_posterior.misconception(
    "root-of-alpha-bar-t",
    "Before x0 you have the root of alpha_bar[t]; it has to be that of the step before, as the "
    "mean lies at t - 1.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    return _posterior(x0, x_t, beta, ab, ab_prev, on_x0=ab.sqrt() * beta / (1 - ab))


@a_posterior.misconception(
    "alpha-bar-for-alpha",
    "Before x_t you have the root of alpha_bar[t], the product over all steps. One step back needs "
    "alpha_t = 1 - beta_t, the factor of one step.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    on_x_t = ab.sqrt() * (1 - ab_prev) / (1 - ab)
    return _posterior(x0, x_t, beta, ab, ab_prev, on_x_t=on_x_t)


@a_posterior.misconception(
    "root-of-beta",
    "Before x_t you have the root of beta_t, where the root of alpha_t = 1 - beta_t belongs.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    on_x_t = beta.sqrt() * (1 - ab_prev) / (1 - ab)
    return _posterior(x0, x_t, beta, ab, ab_prev, on_x_t=on_x_t)


@a_posterior.misconception(
    "infinite-precision-at-zero",
    "You add up precisions, and at t = 0 one of them is infinite: x0 says exactly where the state "
    "before was. Infinity times zero is NaN there. The form with 1 - alpha_bar_t below has no such "
    "place.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    variance = 1 / (1 / (1 - ab_prev) + (1 - beta) / beta)
    on_x0, on_x_t = variance * ab_prev.sqrt() / (1 - ab_prev), variance * (1 - beta).sqrt() / beta
    return _posterior(x0, x_t, beta, ab, ab_prev, on_x0, on_x_t, variance)


@a_posterior.misconception(
    "results-exchanged",
    "You return the variance first and the mean second; asked for is (mean, variance).",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    mean, variance = _posterior(x0, x_t, beta, ab, ab_prev)
    return variance, mean


@a_posterior.misconception(
    "mean-without-roots",
    "The mean has alpha_bar and alpha where their roots belong. Compare the two coefficients with "
    "the formula term by term.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    on_x0, on_x_t = ab_prev * beta / (1 - ab), (1 - beta) * (1 - ab_prev) / (1 - ab)
    return _posterior(x0, x_t, beta, ab, ab_prev, on_x0, on_x_t)


@a_posterior.misconception(
    "ratio-upside-down",
    "In the variance the ratio stands upside down: it comes out larger than beta_t (and is a "
    "division by 0 at t = 0). Knowing x0 can only make it smaller.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    return _posterior(x0, x_t, beta, ab, ab_prev, variance=beta * (1 - ab) / (1 - ab_prev))


@a_posterior.misconception(
    "deviation",
    "The second result is the standard deviation. The exercise asks for the variance.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    variance = beta * (1 - ab_prev) / (1 - ab)
    return _posterior(x0, x_t, beta, ab, ab_prev, variance=variance.sqrt())


@a_posterior.misconception(
    "log-variance",
    "The second result is the logarithm of the variance (some libraries keep that). The exercise "
    "asks for the variance itself.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    variance = beta * (1 - ab_prev) / (1 - ab)
    return _posterior(x0, x_t, beta, ab, ab_prev, variance=variance.log())


@a_posterior.misconception(
    "variance-with-axes",
    "Both results are right, but the variance has axes of length 1 behind the batch. It is asked "
    "for with shape (B,): one number for each sample.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    mean, variance = _posterior(x0, x_t, beta, ab, ab_prev)
    return mean, variance.reshape(-1, *[1] * (x0.ndim - 1))


@a_posterior.misconception(
    "product-of-betas",
    "Your alpha_bar is the cumulative product of the betas. It is the product of 1 - beta, of what "
    "each step keeps.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    alpha_bar = torch.cumprod(betas, 0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    return _posterior(x0, x_t, betas[t], alpha_bar[t], before[t])


@a_posterior.misconception(
    "last-axis",
    "The factors of shape (B,) meet the last axis of x0, not the first. For the mean they need "
    "axes of length 1 behind them, as in 02.2.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    return _posterior(x0, x_t, beta, ab, ab_prev, reshape=False)


@a_posterior.misconception(
    "dtype-of-the-betas",
    "With float64 betas your results are float64, though x0 is float32. Compute the factors in "
    "float64, then bring them to the dtype of x0.",
)
def posterior_mean_variance(x0, x_t, t, betas):
    beta, ab, ab_prev = _parts(t, betas)
    shape = (-1, *[1] * (x0.ndim - 1))
    on_x0 = (ab_prev.sqrt() * beta / (1 - ab)).reshape(shape)
    on_x_t = ((1 - beta).sqrt() * (1 - ab_prev) / (1 - ab)).reshape(shape)
    return on_x0 * x0 + on_x_t * x_t, beta * (1 - ab_prev) / (1 - ab)


@a_posterior.alternative("product of two Gaussians")
def posterior_mean_variance(x0, x_t, t, betas):
    beta = betas.double()[t]
    kept = (1 - betas.double()).cumprod(0)
    ab_prev = torch.where(t > 0, kept[t - 1], torch.ones_like(beta))
    shape = (-1, *[1] * (x0.ndim - 1))
    # x_{t-1} has mean sqrt(ab_prev) x0, variance 1 - ab_prev, and is seen through x_t.
    prior_variance = 1 - ab_prev
    gain = prior_variance * (1 - beta).sqrt() / ((1 - beta) * prior_variance + beta)
    prior = ab_prev.sqrt().reshape(shape) * x0
    mean = prior + gain.reshape(shape) * (x_t - (1 - beta).sqrt().reshape(shape) * prior)
    variance = prior_variance * (1 - gain * (1 - beta).sqrt())
    return mean.to(x0.dtype), variance.to(x0.dtype)


@a_posterior.alternative("padded with functional")
def posterior_mean_variance(x0, x_t, t, betas):
    alphas = 1 - betas
    ab = alphas.cumprod(dim=0)
    previous = torch.nn.functional.pad(ab[:-1], (1, 0), value=1.0)
    table = betas * (1 - previous) / (1 - ab)
    first = betas * previous**0.5 / (1 - ab)
    second = (1 - previous) * alphas**0.5 / (1 - ab)

    def pick(values):
        return values.gather(0, t).to(x0.dtype).view(len(t), *(1 for _ in x0.shape[1:]))

    return pick(first) * x0 + pick(second) * x_t, table.to(x0.dtype)[t]


a_steps_to_snr = Answers("02.7")


@a_steps_to_snr.reference
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "log-of-one-side",
    "You compare the logarithm of the SNR with the SNR that was given. Take the logarithm of both "
    "or of neither.",
)
def steps_to_snr(alpha_bar, snr):
    low = torch.log(alpha_bar / (1 - alpha_bar)) <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "decibels",
    "You compare 10 log10 of the SNR, decibels, with snr, which is a plain ratio of variances.",
)
def steps_to_snr(alpha_bar, snr):
    low = 10 * torch.log10(alpha_bar / (1 - alpha_bar)) <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "ratio-of-amplitudes",
    "You take the root, the ratio of amplitudes. Here the SNR is a ratio of variances.",
)
def steps_to_snr(alpha_bar, snr):
    low = (alpha_bar / (1 - alpha_bar)).sqrt() <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "inverted",
    "Your ratio is noise over signal. It grows with t, so that it is low at the start.",
)
def steps_to_snr(alpha_bar, snr):
    low = (1 - alpha_bar) / alpha_bar <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "alpha-bar-itself",
    "You compare alpha_bar with snr. alpha_bar is the share of the signal in the whole variance; "
    "the SNR is its ratio to the share of the noise.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "last-instead-of-first",
    "You return the last t at or below the SNR. As the SNR only falls, that is the end of the "
    "schedule; the first is asked for.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[-1]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "last-above",
    "You return the last t whose SNR is still above, one step too early.",
)
def steps_to_snr(alpha_bar, snr):
    above = alpha_bar / (1 - alpha_bar) > snr
    return int(above.sum()) - 1


@a_steps_to_snr.misconception(
    "counts-from-one",
    "Your t is one too large: t counts from 0, the first entry of alpha_bar is t = 0.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[0]) + 1 if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "strictly-below",
    "You look for an SNR strictly below. A t whose SNR is exactly snr counts too: at or below.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) < snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)


@a_steps_to_snr.misconception(
    "nearest",
    "You return the t whose SNR is nearest to the given one. That may be one that still lies above "
    "it; asked for is the first at or below.",
)
def steps_to_snr(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) - snr).abs().argmin())


@a_steps_to_snr.misconception(
    "none-found-gives-zero",
    "Where no t is low enough, you return 0: argmax of an array of nothing but False is 0. The "
    "answer then has to be T, the number of steps.",
)
def steps_to_snr(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) <= snr).int().argmax())


@a_steps_to_snr.misconception(
    "none-found-crashes",
    "Where no t is low enough, your answer takes the first of nothing and crashes. The answer then "
    "has to be T, the number of steps.",
)
def steps_to_snr(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) <= snr).nonzero()[0])


@a_steps_to_snr.misconception(
    "none-found-gives-last",
    "Where no t is low enough, you return T - 1, as if the last step were. T says that there is "
    "none.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar) - 1


@a_steps_to_snr.misconception(
    "none-found-gives-minus-one",
    "Where no t is low enough, you return -1. The answer then has to be T, so that results can be "
    "compared and sorted.",
)
def steps_to_snr(alpha_bar, snr):
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[0]) if low.any() else -1


@a_steps_to_snr.misconception(
    "none-found-gives-none",
    "Where no t is low enough, you return None, perhaps by a loop that ends without a return. The "
    "answer then has to be T.",
)
def steps_to_snr(alpha_bar, snr):
    for t, ab in enumerate(alpha_bar):
        if ab / (1 - ab) <= snr:
            return t


@a_steps_to_snr.misconception(
    "a-tensor",
    "Your number is right, but it is a tensor. A plain int is asked for (int(...) or .item()).",
)
def steps_to_snr(alpha_bar, snr):
    return (alpha_bar / (1 - alpha_bar) > snr).sum()


@a_steps_to_snr.misconception(
    "divides-by-zero",
    "alpha_bar may begin with 1. A division of Python numbers by 1 - 1 raises an error there; "
    "tensors give infinity, which compares as it should.",
)
def steps_to_snr(alpha_bar, snr):
    for t, ab in enumerate(alpha_bar.tolist()):
        if ab / (1 - ab) <= snr:
            return t
    return len(alpha_bar)


@a_steps_to_snr.alternative("counts those above")
def steps_to_snr(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) > snr).sum())


@a_steps_to_snr.alternative("a loop without division")
def steps_to_snr(alpha_bar, snr):
    for t in range(len(alpha_bar)):
        ab = float(alpha_bar[t])
        if ab <= snr * (1 - ab):
            return t
    return len(alpha_bar)


@a_steps_to_snr.alternative("logarithms of both sides")
def steps_to_snr(alpha_bar, snr):
    low = torch.log(alpha_bar) - torch.log1p(-alpha_bar) <= math.log(snr)
    return next((t for t, yes in enumerate(low.tolist()) if yes), alpha_bar.shape[0])
