"""The transformer: patches there and back, blocks that start closed, any size, both dimensions."""

import pytest
import torch
from torch import nn

from undiffuse import presets
from undiffuse.blocks import count_parameters
from undiffuse.dit import DiT, DiTBlock, grid_embedding, patchify, unpatchify
from undiffuse.optim import hidden_matrices
from undiffuse.recipes import Recipe, RecipeError


def opened(module: nn.Module, seed: int = 0) -> nn.Module:
    """``module`` in float64 with random numbers everywhere: what starts at zero hides nothing."""
    g = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return module


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (4, 4), (1, 9), (10,), (7,), (1,)])
def test_patches_there_and_back(size):
    x = torch.randn(2, 3, *size)
    tokens = patchify(x, 4)
    places = 1
    for n in size:
        places *= -(-n // 4)
    assert tokens.shape == (2, places, 3 * 4 ** len(size))
    assert torch.equal(unpatchify(tokens, size, 4), x)


def test_patches_in_order():
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6).float()
    tokens = patchify(x, 2)
    assert tokens.shape == (1, 6, 8)
    for row in range(2):
        for column in range(3):
            patch = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(tokens[0, 3 * row + column], patch.flatten())
    odd = patchify(x[:, :1, :3, :5], 2)
    assert odd[0, 5].tolist() == [x[0, 0, 2, 4].item()] * 4  # its only pixel, repeated


def test_wrong_number_of_tokens():
    with pytest.raises(ValueError, match=r"\(8, 12\) in patches of 4 is 6 tokens, got 5"):
        unpatchify(torch.zeros(1, 5, 16), (8, 12), 4)


def test_every_place_of_a_grid_is_another():
    places = grid_embedding((7, 5), 30)
    assert places.shape == (35, 30)
    assert float(torch.cdist(places, places).fill_diagonal_(9).min()) > 0.1
    assert grid_embedding((9,), 12).shape == (9, 12)


def test_a_new_block_passes_tokens_on():
    x, emb = torch.randn(2, 5, 16), torch.randn(2, 8)
    assert torch.equal(DiTBlock(16, 8)(x, emb), x)
    assert not torch.equal(opened(DiTBlock(16, 8))(x.double(), emb.double()), x.double())


def test_norm_and_shares_as_in_diffusers():
    """adaLN-Zero of another library, with the same weights: the same shift, scale and gate."""
    normalization = pytest.importorskip("diffusers.models.normalization")
    block = opened(DiTBlock(12, 12, heads=2))
    theirs = normalization.AdaLayerNormZero(12).double()
    theirs.linear.load_state_dict(block.modulation.state_dict())
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    emb = torch.randn(3, 12, dtype=torch.float64)
    normed, gate_a, shift_m, scale_m, gate_m = theirs(x, emb=emb)
    # Their norm adds 1e-6 to the variance and ours 1e-5.
    block.norm1.eps = block.norm2.eps = theirs.norm.eps
    h = x + gate_a[:, None] * block.attend(normed)
    inside = block.norm2(h) * (1 + scale_m[:, None]) + shift_m[:, None]
    wanted = h + gate_m[:, None] * block.mlp(inside)
    torch.testing.assert_close(block(x, emb), wanted, rtol=1e-12, atol=1e-12)


def test_attention_as_torch_has_it():
    block = opened(DiTBlock(12, 4, heads=3))
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = block.qkv.weight, block.qkv.bias
    theirs.out_proj.load_state_dict(block.proj.state_dict())
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(block.attend(x), theirs(x, x, x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(28, 28), (30, 29), (5, 3), (101,), (2,)])
def test_any_size_comes_back(size):
    model = opened(DiT(2, dim=16, depth=1, classes=4, dims=len(size)))
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    y = model(x, torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 3, 4]))
    assert y.shape == x.shape and torch.isfinite(y).all()
    assert torch.equal(model(x, 0.5), model(x, 0.5, torch.full((3,), 4)))
    assert not torch.equal(model(x, 0.5), model(x, 0.6))
    assert not torch.equal(model(x, 0.5, torch.full((3,), 1)), model(x, 0.5))
    if max(size) <= 4:  # one patch
        return
    moved = model(x.roll(4, -1), 0.5)  # it knows where a patch is
    assert not torch.allclose(moved, model(x, 0.5).roll(4, -1))


def test_starts_at_zero_and_samples_do_not_mix():
    model = DiT(dim=16, depth=1)
    x = torch.randn(2, 1, 8, 8)
    assert not model(x, 0.5).any()
    model = opened(model)
    other = x.double().clone()
    other[1] += 1
    assert torch.equal(model(x.double(), 0.5)[0], model(other, 0.5)[0])


def test_what_does_not_fit():
    model = DiT(dim=16, depth=1)
    with pytest.raises(ValueError, match=r"x must be \(B, C, H, W\)"):
        model(torch.zeros(1, 1, 8), 0.5)
    with pytest.raises(ValueError, match="without classes, and got labels"):
        model(torch.zeros(1, 1, 8, 8), 0.5, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="cannot be shared by 3 heads"):
        DiT(dim=16, heads=3)


def test_muon_moves_the_matrices_of_its_blocks():
    model = DiT(dim=16, depth=2, classes=3)
    matrices, others = hidden_matrices(model)
    assert len(matrices) == 2 * 5 and all(p.ndim == 2 for p in matrices)
    assert sum(p.numel() for p in [*matrices, *others]) == count_parameters(model)


def test_flops_are_counted_by_torch():
    """Twice the products of all linear layers, and of the attention between tokens."""
    dim, depth, tokens = 16, 2, 49
    model = DiT(dim=dim, depth=depth, classes=10)
    block = tokens * 12 * dim**2 + 6 * dim**2 + 2 * tokens**2 * dim
    ends = 2 * tokens * 16 * dim + 128 * dim + dim**2 + 2 * dim**2
    assert presets.flops_per_call(model, (1, 28, 28)) == 2 * (depth * block + ends)


def test_in_a_recipe():
    recipe = Recipe(name="a", network={"design": "dit", "dim": 16, "depth": 1, "classes": 10})
    assert isinstance(recipe.make_network((1, 28, 28)), DiT)
    assert recipe.make_network((2, 100)).dims == 1
    with pytest.raises(RecipeError, match="'dept'; did you mean depth"):
        Recipe(name="a", network={"design": "dit", "dept": 2})
