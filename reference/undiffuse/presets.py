"""Networks that are known to serve a purpose, by its name; ``course networks`` lists them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

import torch

from undiffuse.blocks import count_parameters
from undiffuse.unet import UNet


@dataclass(frozen=True)
class Preset:
    """A network for a purpose.

    purpose: in a few words. shape: of one sample, (C, ...), that the cost is told for; any other
    size works as well. network: arguments of ``UNet``.
    """

    purpose: str
    shape: tuple[int, ...]
    network: dict[str, Any] = field(default_factory=dict)


PRESETS = {
    "tiny": Preset(
        "tests, and trying out a loop in seconds",
        (1, 28, 28),
        {"channels": [16, 16], "patch": 4, "classes": 10},
    ),
    "five-minutes": Preset(
        "lesson 05: digits in five minutes on two cores",
        (1, 28, 28),
        {"channels": [32, 64], "blocks": 1, "patch": 2, "classes": 10},
    ),
    "one-hour": Preset(
        "the shipped checkpoints of digits and clothes, in an hour on a core",
        (1, 28, 28),
        {"channels": [48, 96], "blocks": 1, "patch": 2, "classes": 10},
    ),
    "efficient": Preset(
        "lesson 10: digits with separable convolutions, a sixth of the arithmetic of one-hour",
        (1, 28, 28),
        {"channels": [48, 96], "blocks": 1, "patch": 2, "classes": 10, "separable": True},
    ),
    "tiny-sound": Preset(
        "tests with sound",
        (1, 1024),
        {"channels": [16, 16], "patch": 8, "classes": 10},
    ),
}


def preset(name: str) -> Preset:
    """The preset called ``name``; ValueError with the nearest name for one that is not there."""
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, 1)
        raise ValueError(
            f"there is no preset {name!r}"
            + (f"; did you mean {near[0]}?" if near else f" (there are {', '.join(PRESETS)})")
        )
    return PRESETS[name]


def build(name: str, **changes: Any) -> UNet:
    """The network of a preset, with ``changes`` to its arguments."""
    chosen = preset(name)
    options = {"in_channels": chosen.shape[0], "dims": len(chosen.shape) - 1, **chosen.network}
    return UNet(**(options | changes))


@torch.no_grad()
def flops_per_call(
    model: torch.nn.Module, shape: tuple[int, ...], cond: torch.Tensor | None = None
) -> int:
    """Floating-point operations of one call on one sample of ``shape`` (C, ...).

    cond: what a network that needs a condition is told, for one sample: a vocoder's mel.

    A multiplication and an addition count as two; convolutions, matrix products and attention are
    counted, as they are nearly all. The network is in evaluation mode meanwhile.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    try:
        # Attention as two matrix products: the CPU's kernel for all of it is not counted.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            x = torch.zeros(1, *shape, device=device)
            model(x, 0.5) if cond is None else model(x, 0.5, cond)
    finally:
        model.train(was_training)
    return counter.get_total_flops()


def cost(name: str) -> tuple[int, int]:
    """(parameters, FLOPs per call on one sample) of a preset."""
    model = build(name)
    return count_parameters(model), flops_per_call(model, preset(name).shape)
