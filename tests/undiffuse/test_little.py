"""Few data: subsets in shares, when to stop, images altered at random and what is told of it."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.affine import AMOUNTS, affine_images, augment_conditioned, random_affine
from undiffuse.stopping import generalisation_gap
from undiffuse.subsets import stratified_subset


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- subsets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "n", "wanted"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([5, 3, 2], 5, [3, 1, 1]),  # quotas 2.5, 1.5, 1: equal fractions, the smaller label first
        ([1, 1, 98], 10, [0, 0, 10]),
        ([7, 7, 7], 4, [2, 1, 1]),
        ([4, 9], 13, [4, 9]),
        ([6], 3, [3]),
        ([10, 25, 64], 1, [0, 0, 1]),
    ],
)
def test_shares_by_hand(counts, n, wanted):
    labels = torch.cat([torch.full((c,), 3 * i - 1) for i, c in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=seeded(5))]
    index = stratified_subset(labels, n, seeded())
    assert index.dtype == torch.int64 and index.tolist() == sorted(set(index.tolist()))
    assert [int((labels[index] == 3 * i - 1).sum()) for i in range(len(counts))] == wanted


def test_subsets_follow_the_generator_alone():
    labels = torch.arange(200) % 7
    before = torch.get_rng_state()
    first = stratified_subset(labels, 40, seeded(1))
    assert torch.equal(first, stratified_subset(labels, 40, seeded(1)))
    assert not torch.equal(first, stratified_subset(labels, 40, seeded(2)))
    assert torch.equal(before, torch.get_rng_state())


def test_every_sample_of_a_class_has_the_same_chance():
    """3 of 12 in 2,000 draws: 500 each, deviation 19; seven of them: one false alarm in 10^10."""
    labels = torch.zeros(12, dtype=torch.int64)
    g = seeded(3)
    counts = torch.zeros(12)
    for _ in range(2000):
        counts[stratified_subset(labels, 3, g)] += 1
    assert float((counts - 500).abs().max()) < 7 * math.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize(
    ("labels", "n", "says"),
    [
        (torch.zeros(4), 2, "whole numbers"),
        (torch.zeros(2, 2, dtype=torch.int64), 2, "whole numbers"),
        (torch.arange(4), 5, "1 to 4"),
        (torch.arange(4), 0, "1 to 4"),
    ],
)
def test_subsets_that_cannot_be(labels, n, says):
    with pytest.raises(ValueError, match=says):
        stratified_subset(labels, n)


# --- affine maps -------------------------------------------------------------------------------


def spot(h=21, w=15, row=6, column=10, dtype=torch.float64):
    """An image of -1 with one bright pixel."""
    x = torch.full((1, 1, h, w), -1.0, dtype=dtype)
    x[0, 0, row, column] = 1.0
    return x


def amounts(**given):
    return torch.tensor([[float(given.get(name, 0.0)) for name in AMOUNTS]])


def centre(x):
    """(right, down) of the middle of what is bright, in pixels from the middle of the image."""
    weight = (x[0, 0] + 1) / (x[0, 0] + 1).sum()
    h, w = weight.shape
    right = (weight.sum(0) * (torch.arange(w) - (w - 1) / 2)).sum()
    down = (weight.sum(1) * (torch.arange(h) - (h - 1) / 2)).sum()
    return float(right), float(down)


@pytest.mark.parametrize(
    ("given", "limits", "wanted"),
    [
        # The spot stands at (3, -4): three to the right of the middle, four above it.
        ({"right": 1.0}, {"shift": 2.0}, (5.0, -4.0)),
        ({"down": -0.5}, {"shift": 2.0}, (3.0, -5.0)),
        ({"turn": 1.0}, {"rotate": 90.0}, (4.0, 3.0)),  # clockwise: from above to the right
        ({"turn": -1.0}, {"rotate": 90.0}, (-4.0, -3.0)),
        ({"slant": 1.0}, {"shear": 45.0}, (-1.0, -4.0)),  # x + y
        ({"turn": 1.0, "right": 0.5}, {"rotate": 90.0, "shift": 2.0}, (5.0, 3.0)),  # turned first
        (
            {"turn": 1.0, "slant": 1.0},
            {"rotate": 90.0, "shear": 45.0},
            (4.0, -1.0),
        ),  # slanted first
    ],
)
def test_where_things_go(given, limits, wanted):
    full = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0} | limits
    out = affine_images(spot(), amounts(**given), **full)
    assert centre(out) == pytest.approx(wanted, abs=1e-6)


def test_sizes_grow_and_shrink_by_the_same_factor():
    x = torch.full((1, 1, 31, 31), -1.0, dtype=torch.float64)
    x[0, 0, 10:21, 12:19] = 1.0
    area = float((x + 1).sum())
    for size in (1.0, -1.0, 0.5):
        out = affine_images(x, amounts(size=size), 0.0, 0.5, 0.0, 0.0)
        assert float((out + 1).sum()) / area == pytest.approx(1.5 ** (2 * size), rel=0.03)


def test_whole_pixels_move_exactly_and_nothing_wraps():
    x = torch.randn(1, 3, 6, 9, generator=seeded(), dtype=torch.float64)
    out = affine_images(x, amounts(right=1.0, down=-1.0), 0.0, 0.0, 2.0, 0.0, fill=0.25)
    wanted = torch.full_like(x, 0.25)
    wanted[..., :-2, 2:] = x[..., 2:, :-2]
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)


def test_a_quarter_turn_is_rot90():
    x = torch.randn(2, 1, 7, 7, generator=seeded(), dtype=torch.float64)
    out = affine_images(x, amounts(turn=1.0).repeat(2, 1), 90.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(out, x.rot90(-1, (2, 3)), rtol=1e-9, atol=1e-9)


def test_random_affine_is_its_draw_and_affine_images():
    x = torch.randn(5, 2, 8, 11, generator=seeded(1))
    kept = x.clone()
    limits = {"rotate": 20.0, "scale": 0.2, "shift": 1.5, "shear": 8.0}
    out, told = random_affine(x, seeded(2), **limits, fill=-0.5)
    assert torch.equal(told, 2 * torch.rand(5, 5, generator=seeded(2)) - 1)
    assert torch.equal(out, affine_images(x, told, **limits, fill=-0.5))
    alone = affine_images(x[3:4], told[3:4], **limits, fill=-0.5)  # each image by its own amounts
    torch.testing.assert_close(out[3:4], alone)
    assert torch.equal(x, kept) and out.dtype == torch.float32


def test_limits_of_zero_are_told_as_zero():
    x = torch.randn(4, 1, 8, 8, generator=seeded(1))
    _, told = random_affine(x, seeded(2), rotate=0.0, scale=0.1, shift=0.0, shear=5.0)
    assert [bool(c.any()) for c in told.T] == [False, True, False, False, True]
    same, told = random_affine(x, seeded(2), 0.0, 0.0, 0.0, 0.0)
    assert torch.equal(same, x) and not told.any()


def test_unaltered_images_are_those_that_are_told_zeros():
    x = torch.randn(400, 1, 6, 6, generator=seeded(1))
    out, told = augment_conditioned(x, seeded(2), share=0.3, rotate=25.0)
    same = (out == x).flatten(1).all(1)
    assert torch.equal(same, ~told.any(1))
    # 120 of 400, deviation 9.2; seven of them: one false alarm in 10^11.
    assert abs(int((~same).sum()) - 120) < 7 * math.sqrt(400 * 0.3 * 0.7)
    changed, amounts = random_affine(x, seeded(2), rotate=25.0)
    assert torch.equal(out[~same], changed[~same]) and torch.equal(told[~same], amounts[~same])


def test_at_sampling_nothing_is_altered_drawn_or_told():
    x, g = torch.randn(3, 1, 6, 6, generator=seeded(1)), seeded(2)
    before = g.get_state()
    out, told = augment_conditioned(x, g, share=1.0, training=False)
    assert torch.equal(out, x) and torch.equal(told, torch.zeros(3, 5))
    assert torch.equal(before, g.get_state())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: affine_images(torch.zeros(2, 8, 8), torch.zeros(2, 5)), "B, C, H, W"),
        (lambda: affine_images(torch.zeros(2, 1, 8, 8), torch.zeros(1, 5)), "must be \\(2, 5\\)"),
        (lambda: random_affine(torch.zeros(2, 1, 8, 8), shear=90.0), "shear below 90"),
        (lambda: random_affine(torch.zeros(2, 1, 8, 8), rotate=-1.0), "at least 0"),
        (lambda: augment_conditioned(torch.zeros(2, 1, 8, 8), share=1.5), "share"),
    ],
)
def test_bad_affine_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("val", "near", "more", "keep", "stop"),
    [
        ([3, 2, 1], [1, 1, 1], {}, 2, 2),
        ([3, 1, 2, 2, 2, 0], [1] * 6, {}, 1, 4),  # three in a row that are no better
        ([3, 1, 2, 2, 2, 0], [1] * 6, {"patience": 4}, 5, 5),
        ([3, 2, 1], [1, 0.95, 0.5], {}, 1, 2),  # copies, though the loss still falls
        ([3, 2, 1], [1, 0.95, 0.5], {"copies": 0.4}, 2, 2),
        ([3, 2, 1], [0.1, 1, 1], {}, None, 0),
        ([2, 1, 1, 0.5], [1] * 4, {"patience": 2}, 3, 3),
        ([2, 1, 1, 1], [1] * 4, {"patience": 2}, 1, 3),  # equal is no better, the earlier is kept
        ([float("nan"), 2, 3], [1] * 3, {}, 1, 2),
        ([4], [0.9], {}, 0, 0),  # the limit itself is no copy
    ],
)
def test_stops_by_hand(val, near, more, keep, stop):
    train = [0.5 - 0.1 * i for i in range(len(val))]
    found = generalisation_gap(train, val, near, **more)
    assert (found.keep, found.stop) == (keep, stop)
    assert found.gaps == pytest.approx([v - t for v, t in zip(val, train)], nan_ok=True)


def test_the_training_loss_decides_nothing():
    a = generalisation_gap([9, 1, 5], [3, 1, 2], [1, 1, 1])
    b = generalisation_gap([1, 5, 9], [3, 1, 2], [1, 1, 1])
    assert (a.keep, a.stop) == (b.keep, b.stop) == (1, 2)


def test_bad_rows_are_named():
    with pytest.raises(ValueError, match="as many of each"):
        generalisation_gap([1, 2], [1], [1])
    with pytest.raises(ValueError, match="at least one"):
        generalisation_gap([], [], [])
    with pytest.raises(ValueError, match="patience"):
        generalisation_gap([1], [1], [1], patience=0)
