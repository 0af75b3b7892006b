"""Muon: gradient steps whose matrices are made orthogonal, for training in few steps.

Adam gives every number of a weight its own step size. Muon (Jordan et al. 2024, "Muon: an optimizer
for hidden layers in neural networks") looks at a weight as a matrix: it replaces the averaged
gradient U S V^T by U V^T, so that all directions move equally far, the rare ones too. What is no
hidden matrix (biases, norms, embeddings, the first and the last layer) is left to Adam.
torch.optim.Muon refuses the weights of convolutions, of which a U-Net consists; hence this one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.adam import adam

from undiffuse.blocks import CONV

OPTIMIZERS = ("adamw", "muon")
# Jordan et al. 2024: a quintic whose repeated use brings singular values near 1 in few rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
FRESH = 4


def orthogonalise(matrix: torch.Tensor, rounds: int = 4) -> torch.Tensor:
    """(m, n), or several (k, m, n), with singular values brought near 1, the vectors kept.

    Newton-Schulz iteration: matrix products only, no decomposition. It does not converge to 1 but
    to a band around it, and values that are tiny beside the largest get there in more rounds only.
    A matrix of zeros stays zero.

    A round is x <- P x with P = a + b S + c S^2 and S = x x^T, so that S <- P S P: the rounds go on
    among the small m x m matrices, and x is needed at the start and at the end only. Rounding
    errors of S grow about twelvefold a round, so S is made anew after ``FRESH`` of them.
    Raises ValueError for anything but matrices.
    """
    if matrix.ndim not in (2, 3):
        raise ValueError(
            f"a matrix (m, n) or several (k, m, n) are wanted, got shape {tuple(matrix.shape)}"
        )
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for done in range(0, rounds, FRESH):
        x = _some_rounds(x, min(FRESH, rounds - done))
    return x.mT if tall else x


def _some_rounds(x: torch.Tensor, rounds: int) -> torch.Tensor:
    a, b, c = QUINTIC
    square = x @ x.mT
    product = None
    for k in range(rounds):
        step = b * square + c * square @ square
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else step @ product
        if k < rounds - 1:
            square = step @ square @ step
    return product @ x


class Muon(torch.optim.Optimizer):
    """Muon for ``matrices`` and Adam for ``others``, as one optimiser.

    matrices: parameters of two dimensions or more; a convolution (out, in, ...) counts as a matrix
    (out, in * ...). lr: of the matrices, whose update has a root mean square of about
    lr / sqrt(columns); momentum: Nesterov's, of the averaged gradient. The others move with
    ``lr * adam_share``, ``betas`` and ``eps`` (Kingma & Ba 2015, algorithm 1). Both groups take
    part when a schedule sets ``group["lr"]`` alike. Raises ValueError for a matrix of fewer than
    two dimensions.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter] = (),
        lr: float = 0.02,
        momentum: float = 0.95,
        adam_share: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        matrices, others = list(matrices), list(others)
        for p in matrices:
            if p.ndim < 2:
                raise ValueError(f"Muon moves matrices, got a parameter of {tuple(p.shape)}")
        groups: list[dict[str, Any]] = [{"params": matrices, "adam": False}]
        if others:
            # fused: torch then keeps the count of steps beside the weights when a state is loaded.
            groups.append({"params": others, "adam": True, "fused": True})
        kept = {"lr": lr, "momentum": momentum, "adam_share": adam_share, "betas": betas}
        super().__init__(groups, {**kept, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            if given:
                (self._adam if group["adam"] else self._muon)(group, given)

    def _muon(self, group: dict[str, Any], given: list[torch.Tensor]) -> None:
        for p in given:
            if not self.state[p]:
                self.state[p]["average"] = torch.zeros_like(p)
        averages, gradients = [self.state[p]["average"] for p in given], [p.grad for p in given]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        alike = defaultdict(list)  # matrices of one size are multiplied together
        for p, a in zip(given, ahead):
            alike[a.flatten(1).shape].append((p, a.flatten(1)))
        for (rows, columns), pairs in alike.items():
            updates = orthogonalise(torch.stack([a for _, a in pairs]))
            scale = max(1.0, rows / columns) ** 0.5
            for (p, _), update in zip(pairs, updates):
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * scale)

    def _adam(self, group: dict[str, Any], given: list[torch.Tensor]) -> None:
        states = [self.state[p] for p in given]
        for state, p in zip(states, given):
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        adam(
            given,
            [p.grad for p in given],
            *([s[k] for s in states] for k in ("mean", "square")),
            [],
            [s["step"] for s in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * group["adam_share"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def hidden_matrices(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices, others): the weights of convolutions but the first and the last, and the rest.

    A network without convolutions names its matrices itself, in ``hidden_matrices()``.
    """
    if hasattr(model, "hidden_matrices"):
        found = model.hidden_matrices()
    else:
        found = [m.weight for m in model.modules() if isinstance(m, tuple(CONV.values()))][1:-1]
    inside = {id(w) for w in found if w.requires_grad}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in inside]
    return matrices, [p for p in trained if id(p) not in inside]


def make_optimizer(model: nn.Module, name: str, lr: float, weight_decay: float = 0.0):
    """The optimiser of a recipe: "adamw", or "muon". Raises ValueError for another name."""
    if name == "adamw":
        trained = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, fused=True)
    if name == "muon":
        if weight_decay:
            raise ValueError("weight_decay is not used with muon; leave it out, or take adamw")
        return Muon(*hidden_matrices(model), lr=lr)
    raise ValueError(f"the optimizer must be {' or '.join(OPTIMIZERS)}, got {name!r}")
