"""A diffusion transformer: patches as words of a sentence, and no U in it.

Peebles & Xie 2022, "Scalable diffusion models with transformers" (DiT). The picture (or the sound)
is cut into patches; each becomes a row of numbers, a *token*; blocks of self-attention and a small
network for each token follow. Time and class reach every block as a shift, a scale and a gate
(adaLN-Zero), and at the start all gates are closed: each block passes its tokens on unchanged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse.blocks import (
    ClassConditioner,
    PatchStem,
    embed_time_and_class,
    timestep_embedding,
    zero_init_,
)

TIME_WAVES = 128  # columns of the embedding of t


def patchify(x: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, H, W) as tokens (B, ceil(H / patch) * ceil(W / patch), C * patch ** 2).

    Patches come row by row; the numbers of one in the order channel, row, column. Sizes that
    ``patch`` does not divide are padded at the bottom and the right with their last row and column.
    Sound (B, C, L) gives (B, ceil(L / patch), C * patch). Dosovitskiy et al. 2020 (ViT), eq. 1.
    """
    return PatchStem(patch, x.ndim - 2).fold(x).flatten(2).transpose(1, 2)


def unpatchify(tokens: torch.Tensor, size: tuple[int, ...], patch: int) -> torch.Tensor:
    """The inverse of ``patchify``: (B, N, C * patch ** 2) back to (B, C, H, W) of ``size`` (H, W).

    What padding added is cut off. Raises ValueError for another number of tokens than ``size`` has.
    """
    grid = [-(-n // patch) for n in size]
    folded = tokens.transpose(1, 2)
    places = math.prod(grid)
    if folded.shape[2] != places:
        raise ValueError(f"{tuple(size)} in patches of {patch} is {places} tokens, got "
                         f"{folded.shape[2]}")  # fmt: skip
    return PatchStem(patch, len(grid)).unfold(folded.unflatten(2, grid), tuple(size))


def grid_embedding(grid: tuple[int, ...], dim: int) -> torch.Tensor:
    """Where each place of a grid is: (places, dim), waves of its row and of its column.

    Half of ``dim`` tells the row and half the column, each as ``timestep_embedding`` does; nothing
    is learnt, so that any size works. Vaswani et al. 2017, section 3.5, in two dimensions.
    """
    share = dim // len(grid)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    waves = [timestep_embedding(axis.flatten(), share) for axis in axes]
    return F.pad(torch.cat(waves, 1), (0, dim - share * len(grid)))


class DiTBlock(nn.Module):
    """Attention among tokens, then a small network for each, both steered by ``emb``.

    forward(x (B, N, dim), emb (B, emb_dim)) -> (B, N, dim). With (shift_a, scale_a, gate_a,
    shift_m, scale_m, gate_m) = the six parts of ``modulation(SiLU(emb))``, in this order:

    x <- x + gate_a * attend(norm1(x) * (1 + scale_a) + shift_a)
    x <- x + gate_m * mlp(norm2(x) * (1 + scale_m) + shift_m)

    ``modulation`` starts at zero, and so do the gates. Peebles & Xie 2022, section 3.2.
    """

    def __init__(self, dim: int, emb_dim: int, heads: int = 4, widen: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} numbers a token cannot be shared by {heads} heads")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(dim, widen * dim), nn.GELU(), nn.Linear(widen * dim, dim)
        )
        self.modulation = zero_init_(nn.Linear(emb_dim, 6 * dim))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Every token looks at every other, in ``heads`` heads: (B, N, dim)."""
        b, n, dim = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, dim / heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).reshape(b, n, dim))

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        parts = self.modulation(F.silu(emb))[:, None].chunk(6, dim=2)  # each (B, 1, dim)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        x = x + gate_a * self.attend(self.norm1(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)


class DiT(nn.Module):
    """A diffusion transformer for images (``dims=2``) or sound (``dims=1``).

    dim: numbers a token. depth: blocks. heads: of attention, must divide ``dim``. patch: side of a
    patch; halving it makes four times as many tokens of a picture. classes: number of labels, None
    for a network without. widen: how much wider than a token the inside of each small network is.

    forward(x, t, cond=None) as ``unet.UNet``: x (B, C, H, W) or (B, C, L) of any size, t (B,) or a
    number in [0, 1], cond (B,) int64 labels of which ``self.null`` (the number of classes) means
    none, as None does. Returns x's shape; zeros before training.
    """

    def __init__(
        self,
        in_channels: int = 1,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
        classes: int | None = None,
        dims: int = 2,
        widen: int = 4,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "in_channels": in_channels, "dim": dim, "depth": depth, "heads": heads, "patch": patch,
            "classes": classes, "dims": dims, "widen": widen,
        }  # fmt: skip
        self.patch, self.dims, self.dim, self.null = patch, dims, dim, classes
        inside = in_channels * patch**dims
        self.tokens_in = nn.Linear(inside, dim)
        self.time_mlp = nn.Sequential(nn.Linear(TIME_WAVES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.conditioner = ClassConditioner(classes, dim) if classes else None
        self.blocks = nn.ModuleList(DiTBlock(dim, dim, heads, widen) for _ in range(depth))
        self.norm_out = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation_out = zero_init_(nn.Linear(dim, 2 * dim))
        self.tokens_out = zero_init_(nn.Linear(dim, inside))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weights that an optimiser of matrices (``optim.Muon``) moves."""
        inside = (m for block in self.blocks for m in block.modules())
        return [m.weight for m in inside if isinstance(m, nn.Linear)]

    def embed(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None) -> torch.Tensor:
        """(B, dim): time, plus the class where the network knows classes."""
        return embed_time_and_class(self, x, t, cond, TIME_WAVES)

    def forward(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.ndim != self.dims + 2:
            wanted = "(B, C, L)" if self.dims == 1 else "(B, C, H, W)"
            raise ValueError(f"x must be {wanted}, got shape {tuple(x.shape)}")
        size = tuple(x.shape[2:])
        grid = tuple(-(-n // self.patch) for n in size)
        emb = self.embed(x, t, cond)
        h = self.tokens_in(patchify(x, self.patch))
        h = h + grid_embedding(grid, self.dim).to(h)
        for block in self.blocks:
            h = block(h, emb)
        shift, scale = self.modulation_out(F.silu(emb))[:, None].chunk(2, dim=2)
        h = self.tokens_out(self.norm_out(h) * (1 + scale) + shift)
        return unpatchify(h, size, self.patch)
