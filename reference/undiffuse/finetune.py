"""Beginning from a trained network: its weights taken over, some frozen, or small additions alone.

LoRA: Hu et al. 2021, "LoRA: Low-rank adaptation of large language models", section 4.1, here for
convolutions too.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NEW = ("conditioner.*", "augmentation.*")  # what another set of data gives another meaning


def freeze(model: nn.Module, patterns: str | Iterable[str]) -> int:
    """Stops the learning of every parameter whose name a pattern matches; returns how many numbers.

    patterns: as file names are matched, "down.0.*" or "*.weight"; one, or several. A frozen
    parameter gets no gradient any more, and one that it has is taken away, so that an optimizer
    that was built before does not move it. A normalisation layer that keeps statistics of what it
    sees (BatchNorm) and whose own parameters are all frozen stops keeping them: it is in evaluation
    mode, and stays so when ``model.train()`` is called. A parameter shared under several names is
    frozen by any of them and counted once; those that were frozen before are counted too.

    Raises ValueError for a pattern that matches nothing.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    named = list(model.named_parameters(remove_duplicate=False))
    frozen: dict[int, nn.Parameter] = {}
    for pattern in patterns:
        found = [p for name, p in named if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(
                f"the pattern {pattern!r} matches no parameter; there are "
                + ", ".join(name for name, _ in named[:3])
                + (", ..." if len(named) > 3 else "")
            )
        frozen.update((id(p), p) for p in found)
    for p in frozen.values():
        p.requires_grad_(False)
        p.grad = None
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        keeps = getattr(module, "track_running_stats", False)
        touched = any(id(p) in frozen for p in own)
        if keeps and touched and not any(p.requires_grad for p in own):
            module.eval()
            module.register_forward_pre_hook(_stay)
    return sum(p.numel() for p in frozen.values())


def _stay(module: nn.Module, inputs: Any) -> None:
    """Keeps a frozen layer in evaluation mode, whatever mode the network is put into."""
    module.eval()


class LoRAConv(nn.Module):
    """A trained layer, frozen, with a small trained one beside it: base(x) + scale up(down(x)).

    base: ``nn.Linear``, ``nn.Conv1d`` or ``nn.Conv2d`` without groups. ``down`` is a layer as base
    is, without bias and with ``rank`` outputs; ``up`` makes of these, place by place, what base
    gives. Together they are a change of base's weight, reshaped to (out, rest), of at most that
    rank. ``up`` starts at zero, so that at first nothing is changed. scale = alpha / rank; alpha is
    ``rank`` where it is not given. ``merge`` adds the change to base's weight, ``unmerge`` takes it
    back to the bit; either does nothing where it has been done. Raises ValueError for other layers.
    """

    def __init__(self, base: nn.Module, rank: int = 4, alpha: float | None = None) -> None:
        super().__init__()
        if not isinstance(base, KINDS):
            raise ValueError(f"base must be a linear layer or a convolution, got {base}")
        if getattr(base, "groups", 1) != 1:
            raise ValueError(f"base must be without groups, got {base.groups}")
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"rank must be a whole number of at least 1, got {rank!r}")
        self.base, self.rank = base, rank
        self.scale = (rank if alpha is None else alpha) / rank
        self.merged = False
        self.kept: torch.Tensor | None = None
        like = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, **like)
            self.up = nn.Linear(rank, base.out_features, **like)
        else:
            kind = type(base)
            self.down = kind(base.in_channels, rank, base.kernel_size, base.stride, base.padding,
                             base.dilation, padding_mode=base.padding_mode, **like)  # fmt: skip
            self.up = kind(rank, base.out_channels, 1, **like)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        for p in base.parameters():
            p.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.base(x)
        return out if self.merged else out + self.scale * self.up(self.down(x))

    def change(self) -> torch.Tensor:
        """What is to be added to base's weight, of its shape."""
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return self.scale * product.reshape(self.base.weight.shape)

    @torch.no_grad()
    def merge(self) -> None:
        """From now on base alone does it: no more cost than without."""
        if not self.merged:
            self.kept = self.base.weight.clone()
            self.base.weight += self.change()
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Base's weight as it was before ``merge``."""
        if self.merged:
            self.base.weight.copy_(self.kept)
            self.kept, self.merged = None, False


def add_lora(
    model: nn.Module, rank: int = 4, alpha: float | None = None, learn: Iterable[str] = NEW
) -> int:
    """Puts a ``LoRAConv`` in the place of every layer it can stand for, in place.

    Everything else is frozen but parameters that a pattern in ``learn`` matches: what a class is
    must be learnt anew. Returns how many numbers are trained. Raises ValueError for a network that
    has such layers already, or none.
    """
    if any(isinstance(m, LoRAConv) for m in model.modules()):
        raise ValueError("the network has LoRA layers already")
    for name, p in model.named_parameters():
        p.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in learn))
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, KINDS) and getattr(child, "groups", 1) == 1:
                if any(p.requires_grad for p in child.parameters()):
                    continue
                setattr(parent, name, LoRAConv(child, rank, alpha))
                count += 1
    if not count:
        raise ValueError("the network has no linear layer and no convolution")
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merge_lora(model: nn.Module) -> nn.Module:
    """Puts each layer back in the place of its ``LoRAConv``, with the change in its weight.

    In place; afterwards the network is as one that never had any, and all of it may learn. Returns
    it.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRAConv):
                child.merge()
                setattr(parent, name, child.base)
    return model.requires_grad_(True)


def take_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Copies ``weights`` into a network; returns the names of those that begin anew.

    Only what ``NEW`` matches may be missing, or of another shape: classes that the other set did
    not have. ValueError for any other difference, with the first name.
    """

    def new(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in NEW)

    own = model.state_dict()
    fresh = [k for k, v in own.items() if k not in weights or weights[k].shape != v.shape]
    for name in [k for k in fresh if not new(k)] + [k for k in weights if k not in own]:
        if new(name):
            continue
        here, there = own.get(name), weights.get(name)
        raise ValueError(
            f"{name} is {'missing' if here is None else tuple(here.shape)} in this network and "
            f"{'missing' if there is None else tuple(there.shape)} in the one to begin from: give "
            "both the same network"
        )
    with torch.no_grad():
        for name, value in own.items():
            if name not in fresh:
                value.copy_(weights[name])
    return fresh
