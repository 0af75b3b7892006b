"""Several processes that train one network: what ``torchrun`` starts, or one process alone.

Every process draws the whole batch from a generator of the same state and takes its share of it.
Gradients are summed, so that each step is that of one process with the whole batch, but for the
order of sums; and a checkpoint does not depend on how many processes there were. What it costs is
that each of them draws all the noise, which is little beside a network's work.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Team:
    """rank: this process's number; size: how many there are; device: where this one computes."""

    rank: int = 0
    size: int = 1
    device: str | torch.device = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def mine(self, batch: int) -> slice:
        """This process's share of a batch. Raises ValueError where some would have none."""
        if batch < self.size:
            raise ValueError(f"a batch of {batch} cannot be shared by {self.size} processes")
        return slice(self.rank, batch, self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], value: float) -> float:
        """Sums all gradients over the processes, in place, and ``value``, which is returned."""
        if self.size == 1:
            return value
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in grads), grads[0].new_tensor([value])])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat[:-1].split([g.numel() for g in grads])):
            grad.copy_(part.view_as(grad))
        return float(flat[-1])

    def most(self, *values: float) -> tuple[float, ...]:
        """The greatest of each value over the processes: what they agree on."""
        if self.size == 1:
            return values
        # In float64, which a GPU of Apple's lacks; there is no team of those.
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return tuple(found.tolist())


def join(device: str | torch.device = "cpu") -> Team:
    """The team that this process belongs to, by the variables that ``torchrun`` sets.

    Without them it is alone. On CUDA each process takes the GPU of its local rank, and they talk
    by NCCL; on CPUs by Gloo. Raises ValueError for more processes than there are GPUs.
    """
    device = torch.device(device)
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if device.type == "cuda" and size > 1:
        mine, there = int(os.environ.get("LOCAL_RANK", rank)), torch.cuda.device_count()
        if mine >= there:
            raise ValueError(
                f"each process needs a GPU of its own, and this machine has {there}: start at most "
                f"{there} here (--nproc-per-node), or use --device cpu"
            )
        device = torch.device("cuda", mine)
        torch.cuda.set_device(device)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Team(rank, size, device)


def leave() -> None:
    """Ends what ``join`` began."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
