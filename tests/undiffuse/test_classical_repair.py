"""Classical repair: what it can do exactly, where it is made for, and bad input."""

import math

import numpy as np
import pytest
import torch

from undiffuse import classical_repair as classical

F64 = torch.float64
RATE = 8000


def tones(*hz: float, n: int = 2000) -> torch.Tensor:
    t = torch.arange(n, dtype=F64) / RATE
    return sum(0.3 * torch.sin(2 * math.pi * f * t + f) for f in hz)[None, None]


def test_biharmonic_continues_what_is_flat_or_tilted():
    """Planes have no second derivative: their filling is exact, away from the edge."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(14.0), indexing="ij")
    rows, columns = rows.to(F64), columns.to(F64)
    x = torch.stack([0.02 * rows - 0.03 * columns, torch.full_like(rows, 0.4)])[:, None]
    mask = torch.ones(1, 12, 14, dtype=torch.bool)
    mask[:, 4:8, 5:9] = False
    out = classical.biharmonic(torch.where(mask, x, torch.zeros_like(x)), mask)
    torch.testing.assert_close(out, x, rtol=0, atol=1e-8)


def test_biharmonic_agrees_with_scikit_image():
    restoration = pytest.importorskip("skimage.restoration")
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 6, 6, generator=g, dtype=F64)
    x = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bicubic")
    mask = torch.ones(1, 24, 24, dtype=torch.bool)
    mask[:, 9:14, 8:15] = False
    ours = classical.biharmonic(x, mask)[0, 0]
    theirs = restoration.inpaint_biharmonic(x[0, 0].numpy(), ~mask[0].numpy())
    difference = (ours - torch.from_numpy(theirs))[9:14, 8:15]
    # Both minimise bending; how the hole's rim is counted differs a little.
    assert float(difference.abs().mean()) < 0.05 * float(x.std())


def test_burg_knows_an_autoregressive_process():
    random = np.random.default_rng(0)
    a = np.array([1.5, -0.8])
    x = np.zeros(20_000)
    for i in range(2, len(x)):
        x[i] = a[0] * x[i - 1] + a[1] * x[i - 2] + random.normal()
    np.testing.assert_allclose(classical.burg(x, 2), a, atol=0.03)  # 7 standard errors
    assert np.array_equal(classical.burg(np.zeros(50), 4), np.zeros(4))
    with pytest.raises(ValueError, match="more samples"):
        classical.burg(np.ones(4), 4)


@pytest.mark.parametrize("fill", [
    lambda x: classical.predict_gap(x, 900, 1000, order=40),
    lambda x: classical.autoregressive_gap(x, 900, 1000, order=20),
])  # fmt: skip
def test_tones_are_continued_across_a_gap(fill):
    x = tones(220.0, 530.0)
    broken = x.clone()
    broken[..., 900:1000] = math.nan
    out = fill(broken)
    wrong = (out - x)[..., 900:1000].square().sum()
    assert float(wrong) < 0.02 * float(x[..., 900:1000].square().sum())  # at least 17 dB
    keep = torch.cat([x[..., :900], x[..., 1000:]], -1)
    torch.testing.assert_close(torch.cat([out[..., :900], out[..., 1000:]], -1), keep)


def test_prediction_from_one_side_only():
    x = tones(300.0)
    out = classical.predict_gap(x, 0, 60, order=30)
    wrong = (out - x)[..., :60].square().sum()
    assert float(wrong) < 0.05 * float(x[..., :60].square().sum())


def test_spectral_filling_keeps_the_level_of_noise():
    g = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(20, 1, 4000, generator=g, dtype=F64)
    out = classical.spectral_gap(x, 1500, 2500, frame=256)
    level = float(out[..., 1500:2500].std())
    assert level == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "fill", [classical.predict_gap, classical.autoregressive_gap, classical.spectral_gap]
)
def test_gaps_that_cannot_be_filled(fill):
    x = torch.zeros(1, 1, 50)
    for start, stop in ((-1, 4), (4, 4), (40, 51), (0, 50)):
        with pytest.raises(ValueError, match="gap"):
            fill(x, start, stop)
    with pytest.raises(ValueError, match="clips"):
        fill(torch.zeros(1, 2, 50), 10, 20)
    silent = fill(x, 10, 20)
    assert bool(torch.isfinite(silent).all())
