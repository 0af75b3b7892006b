"""What training minimises, what the weights amount to, and the bound on the likelihood.

Conventions shared by this file: ``t`` is a 0-based integer step per sample (B,), ``alpha_bar`` or
``betas`` (T,) belong to it. A model is called as ``model(x_t, time, cond)`` with ``time`` the float
t / (T - 1), one per sample (B,), in x_t's dtype, and 0 where T = 1. SNR is
alpha_bar / (1 - alpha_bar).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from undiffuse._arguments import per_sample, require_finite, require_float
from undiffuse.prediction import network_time
from undiffuse.process import q_sample, v_target, x0_from_v
from undiffuse.schedules import alpha_bar_from_betas

Model = Callable[..., torch.Tensor]
PREDICTIONS = ("eps", "x0", "v")
WEIGHTS = ("eps", "x0", "v", "flow", "min-snr")


def simple_loss(
    model: Model,
    x0: torch.Tensor,
    t: torch.Tensor,
    alpha_bar: torch.Tensor,
    noise: torch.Tensor,
    cond: torch.Tensor | None = None,
    prediction: str = "eps",
) -> torch.Tensor:
    """Mean squared error of the model's prediction: one number, with its graph.

    x_t = q_sample(x0, t, alpha_bar, noise); the model is called once, as
    ``model(x_t, t / (T - 1), cond)`` (all three by position), and compared with the target:
    ``noise`` for "eps", ``x0`` for "x0", ``v_target(x0, t, alpha_bar, noise)`` for "v". The mean
    is over every element of the batch.

    x0, noise: (B, ...) float; t: (B,) int64 in [0, T-1]; alpha_bar: (T,) in [0, 1]. Returns a
    tensor without dimensions, in x0's dtype. Ho et al. 2020 (DDPM), eq. 14 (eps); Salimans & Ho
    2022, section 4 (x0, v). Raises ValueError for another prediction, NaN data or a model output
    of the wrong shape, and as ``q_sample`` does.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
    x_t = q_sample(x0, t, alpha_bar, noise)
    output = _call(model, x_t, network_time(t, len(alpha_bar), x0.dtype), cond)
    if prediction == "v":
        target = v_target(x0, t, alpha_bar, noise)
    else:
        target = noise if prediction == "eps" else x0
    return (output - target).square().mean()


def loss_weight(kind: str, snr: float | torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
    """The weight on the squared error of x0 to which a loss of this kind amounts.

    ``kind``: "eps" gives snr, "x0" gives 1, "v" gives snr + 1, "flow" gives (1 + sqrt(snr)) ** 2
    (the plain, unweighted loss of that prediction), "min-snr" gives min(snr, gamma). So the plain
    eps loss is |eps - eps_hat|^2 = snr |x0 - x0_hat|^2.

    snr: float or floating-point tensor of any shape, at least 0 (a ratio, no logarithm). Returns
    its shape and dtype (a Python float gives float64). Salimans & Ho 2022, section 4; Hang et al.
    2023 ("Efficient diffusion training via min-SNR weighting strategy"), section 3. Raises
    ValueError for another kind, a negative snr or NaN.
    """
    if kind not in WEIGHTS:
        raise ValueError(f"kind must be one of {WEIGHTS}, got {kind!r}")
    if not isinstance(snr, torch.Tensor):
        snr = torch.tensor(float(snr), dtype=torch.float64)
    require_float("snr", snr)
    if not (snr >= 0).all():
        raise ValueError("snr must be at least 0, a ratio of variances, and not NaN")
    if kind == "eps":
        return snr.clone()
    if kind == "x0":
        return torch.ones_like(snr)
    if kind == "v":
        return snr + 1.0
    if kind == "flow":
        return (1.0 + snr.sqrt()).square()
    if not gamma > 0:
        raise ValueError(f"gamma must be above 0, got {gamma}")
    return snr.clamp(max=gamma)


def edm_precondition(
    sigma: float | torch.Tensor, sigma_data: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(c_skip, c_out, c_in, c_noise), with which a network F becomes a denoiser D.

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where x = x0 + sigma eps and data has
    deviation ``sigma_data``:

    c_skip = sigma_data^2 / (sigma^2 + sigma_data^2)
    c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)
    c_in = 1 / sqrt(sigma^2 + sigma_data^2)
    c_noise = ln(sigma) / 4, natural logarithm

    sigma: float or floating-point tensor of any shape, above 0; each result has its shape and
    dtype (a Python float gives float64). Karras et al. 2022 (EDM), eq. 7 and table 1. Raises
    TypeError or ValueError for a sigma or sigma_data that is not above 0.
    """
    if not isinstance(sigma, torch.Tensor):
        sigma = torch.tensor(float(sigma), dtype=torch.float64)
    require_float("sigma", sigma)
    if not ((sigma > 0) & torch.isfinite(sigma)).all():
        raise ValueError("sigma must be above 0 and finite everywhere")
    if not (sigma_data > 0 and math.isfinite(sigma_data)):
        raise ValueError(f"sigma_data must be above 0, got {sigma_data}")
    level = sigma.double()
    total = level**2 + sigma_data**2
    four = (
        sigma_data**2 / total,
        level * sigma_data / total.sqrt(),
        total.rsqrt(),
        level.log() / 4,
    )
    return tuple(c.to(sigma.dtype) for c in four)


@torch.no_grad()
def elbo_terms(
    x0: torch.Tensor,
    model: Model,
    betas: torch.Tensor,
    generator: torch.Generator | None = None,
    prediction: str = "eps",
) -> torch.Tensor:
    """The T + 1 terms of the bound on -log2 p(x0), in bits per dimension: (T + 1,).

    ``elbo_terms(...).sum()`` bounds the bits per dimension from above. Each term is the mean over
    the batch of a term in nats, divided by D ln 2, D the number of elements of one sample.
    With 0-based steps, SNR_t = alpha_bar[t] / (1 - alpha_bar[t]) and x0_hat_t the model's
    estimate of x0 at step t:

    terms[t], t = 1..T-1: KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) = (SNR_{t-1} - SNR_t) / 2
        * |x0 - x0_hat_t|^2. Both have the posterior's variance (``posterior_mean_variance``), so
        only the means differ.
    terms[0]: -log p(x0 | x at step 0), the decoder, a density: Normal(x0_hat_0, betas[0] I), so
        D / 2 ln(2 pi betas[0]) + |x0 - x0_hat_0|^2 / (2 betas[0]). It can be negative.
    terms[T]: KL(q(x at step T-1 | x0) || Normal(0, I)), the prior; it does not ask the model:
        1/2 sum(alpha_bar x0^2 - alpha_bar - ln(1 - alpha_bar)) with alpha_bar[T-1].

    The expectation over noise is one draw a term: for t = 0, 1, ..., T-1 in this order,
    ``torch.randn(x0.shape, generator=generator, dtype=x0.dtype)``. The model is called T times
    with the whole batch, as ``model(x_t, t / (T - 1), None)``, and returns eps, or what
    ``prediction`` says ("eps", "x0", "v").

    For data Normal(0, s^2 I) and the exact model, |x0 - x0_hat_t|^2 has the expectation
    D s^2 / (s^2 SNR_t + 1), which gives each term in closed form.

    x0: (B, ...) float, not empty; betas: (T,) in (0, 1). Returns float64. Ho et al. 2020 (DDPM),
    eq. 5; Kingma et al. 2021 (VDM), section 4, for the form in SNR. Raises TypeError or ValueError
    for bad x0, betas, prediction or model output.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
    require_finite("x0", require_float("x0", x0))
    if x0.ndim < 2 or x0.numel() == 0:
        raise ValueError(f"x0 must be a batch (B, ...) that is not empty, got {tuple(x0.shape)}")
    betas = betas.to(x0.device, torch.float64)
    alpha_bar = alpha_bar_from_betas(betas)
    snr = alpha_bar / (1 - alpha_bar)
    T, batch = len(betas), len(x0)
    D = x0[0].numel()
    terms = torch.empty(T + 1, dtype=torch.float64)
    for step in range(T):
        t = torch.full((batch,), step, dtype=torch.int64, device=x0.device)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        x_t = q_sample(x0, t, alpha_bar, noise)
        output = _call(model, x_t, network_time(t, T, x0.dtype), None)
        error = _x0_error(prediction, output, x0, x_t, t, alpha_bar, noise)
        error = error.double().flatten(1).square().sum(1).mean()
        if step == 0:
            terms[0] = D / 2 * math.log(2 * math.pi * betas[0]) + error / (2 * betas[0])
        else:
            terms[step] = (snr[step - 1] - snr[step]) / 2 * error
    last = alpha_bar[-1]
    square = x0.double().flatten(1).square().sum(1).mean()
    terms[T] = (last * square - D * last - D * torch.log1p(-last)) / 2
    return terms / (D * math.log(2))


def _x0_error(
    prediction: str,
    output: torch.Tensor,
    x0: torch.Tensor,
    x_t: torch.Tensor,
    t: torch.Tensor,
    alpha_bar: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """x0 - x0_hat up to its sign."""
    if prediction == "x0":
        return x0 - output
    if prediction == "v":
        return x0 - x0_from_v(x_t, t, alpha_bar, output)
    # Subtracting the noises loses no digits; going through x0_hat would at small sigma.
    ratio = (1 / alpha_bar - 1).sqrt()[t]
    return per_sample("t", ratio, x0) * (output - noise)


def _call(
    model: Model, x_t: torch.Tensor, time: torch.Tensor, cond: torch.Tensor | None
) -> torch.Tensor:
    output = model(x_t, time, cond)
    if not isinstance(output, torch.Tensor) or output.shape != x_t.shape:
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(f"the model must return the shape of x_t, {tuple(x_t.shape)}, got {got}")
    return output
