"""What a network call costs, and which of many ways are worth their cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from undiffuse._arguments import require_count
from undiffuse.blocks import SelfAttention


def conv_flops(
    in_channels: int,
    out_channels: int,
    kernel: int | Sequence[int],
    size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> int:
    """Floating-point operations of a convolution on one sample.

    size: of its input, (L,) or (H, W). kernel, stride, padding, dilation: one number for all axes,
    or one for each. A multiplication and an addition count as two; the bias, one addition a place,
    is left out, as ``torch.utils.flop_counter`` leaves it out: 2 * places * out_channels *
    in_channels / groups * kernel places, with floor((n + 2 padding - dilation (kernel - 1) - 1) /
    stride) + 1 places along an axis. Raises TypeError or ValueError for numbers below 1 (padding
    below 0), channels that groups do not divide, or an input smaller than the kernel.
    """
    axes = len(size)
    kernels, strides, dilations = (
        _each(name, value, axes)
        for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    paddings = _each("padding", padding, axes, least=0)
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if require_count(name, value) % require_count("groups", groups):
            raise ValueError(f"{name} = {value} cannot be shared by {groups} groups")
    places = 1
    for n, k, s, p, d in zip(size, kernels, strides, paddings, dilations, strict=True):
        along = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if along < 1:
            raise ValueError(f"an input of {n} places is too small for a kernel of {k}")
        places *= along
    return 2 * places * out_channels * (in_channels // groups) * math.prod(kernels)


def _each(name: str, value: int | Sequence[int], axes: int, least: int = 1) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{name} has {len(values)} numbers for {axes} axes")
    for v in values:
        require_count(name, v, least)
    return values


@torch.no_grad()
def model_flops(model: nn.Module, shape: tuple[int, ...], *inputs: Any) -> int:
    """Floating-point operations of ``model(x, *inputs)`` with x of ``shape`` (B, ...).

    Convolutions, linear layers and ``blocks.SelfAttention`` are counted, layer by layer as the call
    reaches them, a layer that is called twice twice; activations, norms and sums are not, as they
    are few operations (though not no time). The network is in evaluation mode meanwhile, and then
    as it was. The same as ``torch.utils.flop_counter`` for the networks here.
    """
    total = 0

    def conv(module: nn.Module, args: tuple, out: torch.Tensor) -> None:
        nonlocal total
        x = args[0]
        total += len(x) * conv_flops(
            module.in_channels, module.out_channels, module.kernel_size, x.shape[2:],
            module.stride, module.padding, module.groups, module.dilation,
        )  # fmt: skip

    def linear(module: nn.Linear, args: tuple, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * module.in_features * out.numel()

    def attention(module: SelfAttention, args: tuple, out: torch.Tensor) -> None:
        nonlocal total
        places = math.prod(out.shape[2:])
        total += 4 * len(out) * places**2 * out.shape[1]  # queries by keys, weights by values

    kinds = ((nn.Conv1d, conv), (nn.Conv2d, conv), (nn.Linear, linear), (SelfAttention, attention))
    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        for kind, count in kinds
        if isinstance(module, kind)
    ]
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        model(torch.zeros(shape, device=device), *inputs)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return total


def pareto_front(points: torch.Tensor | Sequence[Sequence[float]]) -> torch.Tensor:
    """Which of ``points`` (N, D) no other one beats: int64 indices, rising.

    Smaller is better in every column (seconds, FD). A point is dominated when another is at most as
    large in every column, and smaller in one. Of equal points none beats the other: all stay.
    Raises ValueError for another shape or NaN.
    """
    points = torch.as_tensor(points, dtype=torch.float64)
    if points.ndim != 2:
        raise ValueError(f"points must be (N, D), got shape {tuple(points.shape)}")
    if points.isnan().any():
        raise ValueError("points hold NaN, which is neither better nor worse")
    no_worse = (points[:, None] <= points[None]).all(2)  # [i, j]: i is nowhere worse than j
    better = (points[:, None] < points[None]).any(2)
    return (~(no_worse & better).any(0)).nonzero()[:, 0]


def cpu_seconds(call: Callable[[], Any], repeats: int = 5) -> list[float]:
    """CPU seconds of this process in ``repeats`` calls, smallest first, after one to warm up.

    All threads count, so that a call on two cores for a second costs two: a proxy of the energy.
    Take the median, ``cpu_seconds(call)[repeats // 2]``; the smallest says how quiet the machine
    was.
    """
    require_count("repeats", repeats)
    call()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return sorted(found)
