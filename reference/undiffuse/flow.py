"""Flow matching: the straight path from data to noise, its velocity, and the way back.

It is one more schedule and one more prediction: alpha = 1 - t and sigma = t
(``schedules.flow_schedule``), and a network that predicts eps - x0 (kind "flow" of
``prediction``). ``trainer`` and ``sampling`` take both as they take all others. Here are the same
things as papers on flows write them, for points, images and sound alike.

Papers differ in which end time begins at. Here t = 0 is data and t = 1 is noise, as everywhere in
this library; Lipman et al. 2022 and Liu et al. 2022 count the other way.
"""

from __future__ import annotations

import torch

from undiffuse._arguments import require_count, require_finite, require_float
from undiffuse.prediction import Denoiser, levels, target
from undiffuse.process import diffuse
from undiffuse.schedules import flow_schedule

METHODS = ("euler", "midpoint")


def flow_pair(
    x0: torch.Tensor, x1: torch.Tensor, t: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, velocity): x_t = (1 - t) x0 + t x1 and dx_t / dt = x1 - x0, both of x0's shape.

    x0: data (B, ...) float. x1: noise of the same shape and dtype. t: a number or one per sample
    (B,), in [0, 1]. Lipman et al. 2022, eq. 22 and 23 with sigma_min = 0; Liu et al. 2022, eq. 1.
    Raises TypeError or ValueError for shapes that do not fit, t outside [0, 1] or NaN.
    """
    schedule = flow_schedule()
    return diffuse(schedule, x0, t, x1), target("flow", x0, x1, *levels(schedule, t))


@torch.no_grad()
def flow_sample(
    model: Denoiser,
    x: torch.Tensor,
    n: int,
    method: str = "euler",
    cond: torch.Tensor | None = None,
) -> torch.Tensor:
    """From noise at t = 1 to data at t = 0 along ``model``'s velocity, in n equal steps: as x.

    model: ``(x_t, t, cond) -> dx_t / dt``, called with t (B,) in x's dtype. x: noise (B, ...); it
    is not changed. method: "euler", one call a step with the slope where the step begins; or
    "midpoint", two: half a step with that slope, then the whole step with the slope found there,
    which is of second order. Euler's steps here are DDIM's (``sampling.ddim_update``). Raises
    TypeError or ValueError for an n below 1 or another method.
    """
    require_finite("x", require_float("x", x))
    require_count("n", n)
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        return model(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device), cond)

    step = 1.0 / n
    for k in range(n, 0, -1):
        t = k / n
        slope = velocity(x, t)
        if method == "midpoint":
            slope = velocity(x - step / 2 * slope, t - step / 2)
        x = x - step * slope
    return x
