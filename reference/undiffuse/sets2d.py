"""Point sets in the plane, a distance between them, and a small network that learns one.

Two dimensions show everything: the data, the denoiser's arrows and the samples fit one picture,
and a network learns in seconds. Each set is ``f(n, generator) -> (n, 2)`` float32, independent
points whose distribution has mean 0 and deviation 1 along each axis.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import torch
from torch import nn

from undiffuse._arguments import require_count, require_finite, require_float
from undiffuse.schedules import Schedule, cosine_alpha_bar, cosine_schedule

Raw = Callable[[int, torch.Generator | None], torch.Tensor]


def _uniform(n: int, generator: torch.Generator | None) -> torch.Tensor:
    return torch.rand(n, generator=generator)


def _normal(n: int, generator: torch.Generator | None) -> torch.Tensor:
    return torch.randn(n, 2, generator=generator)


def _polar(radius: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)


def _two_moons(n: int, generator: torch.Generator | None) -> torch.Tensor:
    angle = math.pi * _uniform(n, generator)
    upper = (_uniform(n, generator) < 0.5)[:, None]
    moon = _polar(torch.ones(n), angle)
    points = torch.where(upper, moon, torch.tensor([1.0, 0.5]) - moon)
    return points + 0.06 * _normal(n, generator)


def _spiral(n: int, generator: torch.Generator | None) -> torch.Tensor:
    turn = 3 * math.pi * _uniform(n, generator).sqrt()
    arm = (_uniform(n, generator) < 0.5) * math.pi
    return _polar(turn, turn + arm) + 0.25 * _normal(n, generator)


def _checkerboard(n: int, generator: torch.Generator | None) -> torch.Tensor:
    x = 4 * _uniform(n, generator) - 2
    inside = _uniform(n, generator)
    row = torch.randint(0, 2, (n,), generator=generator) * 2 - 2
    return torch.stack([x, inside + row + x.floor() % 2], dim=1)


def _pinwheel(n: int, generator: torch.Generator | None) -> torch.Tensor:
    blade = torch.randint(0, 5, (n,), generator=generator) * (2 * math.pi / 5)
    points = _normal(n, generator) * torch.tensor([0.3, 0.1]) + torch.tensor([1.0, 0.0])
    angle = blade + 0.25 * points[:, 0].exp()
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = points.unbind(1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=1)


def _eight_gaussians(n: int, generator: torch.Generator | None) -> torch.Tensor:
    which = torch.randint(0, 8, (n,), generator=generator)
    return _polar(torch.full((n,), 2.0), which * (math.pi / 4)) + 0.15 * _normal(n, generator)


def _swiss_roll(n: int, generator: torch.Generator | None) -> torch.Tensor:
    turn = 1.5 * math.pi * (1 + 2 * _uniform(n, generator))
    return _polar(turn, turn) + 0.3 * _normal(n, generator)


def _ring(n: int, generator: torch.Generator | None) -> torch.Tensor:
    angle = 2 * math.pi * _uniform(n, generator)
    return _polar(torch.ones(n), angle) + 0.05 * _normal(n, generator)


@functools.cache
def _centre_and_scale(raw: Raw) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the distribution, from many points with a fixed seed.

    Standardising each draw by its own mean would tie its points together and give every draw
    another scale; one point could not be drawn at all.
    """
    many = raw(400_000, torch.Generator().manual_seed(0)).double()
    return many.mean(0).float(), many.std(0).float()


def _standardised(raw: Raw, n: int, generator: torch.Generator | None) -> torch.Tensor:
    require_count("n", n)
    centre, scale = _centre_and_scale(raw)
    return (raw(n, generator) - centre) / scale


def two_moons(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Two half circles, one hooked into the other: (n, 2)."""
    return _standardised(_two_moons, n, generator)


def spiral(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Two arms that wind one and a half times around the centre: (n, 2)."""
    return _standardised(_spiral, n, generator)


def checkerboard(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """The dark fields of a board of 4 x 4, each as likely, with sharp edges: (n, 2)."""
    return _standardised(_checkerboard, n, generator)


def pinwheel(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Five curved blades: (n, 2)."""
    return _standardised(_pinwheel, n, generator)


def eight_gaussians(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Eight round clusters on a circle, each as likely: (n, 2)."""
    return _standardised(_eight_gaussians, n, generator)


def swiss_roll(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """One band rolled up one and a half times: (n, 2)."""
    return _standardised(_swiss_roll, n, generator)


def ring(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """A thin circle with nothing inside: (n, 2)."""
    return _standardised(_ring, n, generator)


SETS: dict[str, Callable[..., torch.Tensor]] = {
    f.__name__: f
    for f in (two_moons, spiral, checkerboard, pinwheel, eight_gaussians, swiss_roll, ring)
}


def energy_distance(a: torch.Tensor, b: torch.Tensor, unbiased: bool = True) -> float:
    """How far two point sets are apart as distributions: 2 E|a - b| - E|a - a'| - E|b - b'|.

    a: (n, D), b: (m, D), float, at least 2 points each. Distances are Euclidean. 0 if and only
    if both come from one distribution; the scale is that of a distance. ``unbiased`` leaves out
    each point's distance to itself, so that two draws from one distribution give 0 on average,
    a little below as often as above; without it the figure is never negative, and grows as the
    sets shrink. Szekely & Rizzo 2013 ("Energy statistics"), section 2. Raises TypeError or
    ValueError for bad types, shapes or NaN.
    """
    for name, points in (("a", a), ("b", b)):
        require_finite(name, require_float(name, points))
        if points.ndim != 2 or len(points) < 2:
            raise ValueError(
                f"{name} must have shape (n, D) with n >= 2, got {tuple(points.shape)}"
            )
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must have one dimension, got {a.shape[1]} and {b.shape[1]}")

    def within(points: torch.Tensor) -> float:
        n = len(points)
        return _distance_sum(points, points) / (n * (n - 1 if unbiased else n))

    return 2 * _distance_sum(a, b) / (len(a) * len(b)) - within(a) - within(b)


def _distance_sum(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double(), b.double()
    exact = "donot_use_mm_for_euclid_dist"
    return sum(torch.cdist(rows, b, compute_mode=exact).sum().item() for rows in a.split(1024))


class PointNet(nn.Module):
    """A small residual MLP ``(x_t (B, D), t, cond) -> v``: time comes in as sines and cosines.

    t: a number or one per sample (B,), in [0, 1]. Without the residual paths some seeds never
    leave a plateau where thin structures (the ring) are blurred.
    """

    def __init__(self, width: int = 128, depth: int = 3, frequencies: int = 8, D: int = 2) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi / 2 * torch.arange(1, frequencies + 1))
        self.first = nn.Linear(D + 1 + 2 * frequencies, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, D))

    def forward(
        self, x_t: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        t = t.reshape(-1, 1).expand(len(x_t), 1)
        phase = t * self.frequencies
        h = self.first(torch.cat([x_t, t, torch.cos(phase), torch.sin(phase)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def fit_2d(
    points: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    *,
    batch: int = 512,
    lr: float = 3e-3,
) -> Callable[..., torch.Tensor]:
    """Trains a small MLP on ``points`` and returns it as a denoiser ``(x_t, t, cond=None) -> x0``.

    points: (n, 2) float, about standardised, n >= 1. steps: optimiser steps, at least 1; 2,000
    take a few seconds on one core. generator: draws the weights and everything else; the global
    generator is left alone, so the same seed gives the same denoiser.

    The denoiser returned takes x_t (B, 2) and the continuous time t in [0, 1], a number or one
    per sample (B,), of the cosine schedule: alpha(t) = sqrt(cosine_alpha_bar(t)), sigma(t) =
    sqrt(1 - cosine_alpha_bar(t)). It returns its estimate of x0, (B, 2), without a graph. Inside,
    the network predicts v, from which x0 = alpha x_t - sigma v needs no division (Salimans & Ho
    2022, section 4); its weights are averaged over the last steps (EMA).

    Raises TypeError or ValueError for points of another type or shape, an empty set, NaN, or
    steps below 1.
    """
    require_finite("points", require_float("points", points))
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 1:
        raise ValueError(f"points must have shape (n, 2), n >= 1, got {tuple(points.shape)}")
    require_count("steps", steps)
    points = points.float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        net = PointNet()
    average = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        x0 = points[torch.randint(len(points), (batch,), generator=generator)]
        t = torch.rand(batch, generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        alpha, sigma = _cosine_levels(t)
        v = net(alpha * x0 + sigma * noise, t)
        loss = (v - (alpha * noise - sigma * x0)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        # The average follows at once in the first steps, then over about 100.
        decay = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), net.parameters()):
                kept.lerp_(new, 1 - decay)
    average.eval()

    @torch.no_grad()
    def denoiser(
        x_t: torch.Tensor, t: float | torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        time = torch.as_tensor(t, dtype=torch.float32).expand(len(x_t))
        alpha, sigma = _cosine_levels(time)
        x = x_t.float()
        return (alpha * x - sigma * average(x, time)).to(x_t.dtype)

    return denoiser


def _cosine_levels(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    alpha_bar = cosine_alpha_bar(t.double())[:, None]
    return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()


@torch.no_grad()
def sample_2d(
    denoiser: Callable[..., torch.Tensor],
    n: int,
    generator: torch.Generator | None = None,
    steps: int = 100,
    schedule: Schedule | None = None,
) -> torch.Tensor:
    """n points drawn with a denoiser ``(x_t, t, cond) -> x0``: (n, 2) float32.

    Starts from Normal(0, sigma(1)^2) at t = 1 and takes ``steps`` even steps in time down to 0, the
    last of which is the denoiser's own estimate. Each keeps the noise that the estimate implies,
    x_s = alpha(s) x0_hat + sigma(s) eps_hat with eps_hat = (x_t - alpha(t) x0_hat) / sigma(t):
    Euler's method for dx/dsigma in the variables x / alpha and sigma / alpha (Song et al. 2021,
    DDIM, eq. 12 with no fresh noise, and eq. 14). No randomness but the start.

    schedule: that of the denoiser, the cosine one by default, as ``fit_2d`` has it. Raises
    TypeError or ValueError for n or steps below 1.
    """
    require_count("n", n)
    require_count("steps", steps)
    schedule = schedule or cosine_schedule()
    ts = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    alphas, sigmas = schedule.alpha(ts), schedule.sigma(ts)
    x = torch.randn(n, 2, generator=generator) * float(sigmas[0])
    for i in range(steps):
        x0 = denoiser(x, ts[i].float().expand(n), None)
        if i == steps - 1:
            return x0
        eps = (x - float(alphas[i]) * x0) / float(sigmas[i])
        x = float(alphas[i + 1]) * x0 + float(sigmas[i + 1]) * eps
    raise AssertionError("unreachable: steps is at least 1")
