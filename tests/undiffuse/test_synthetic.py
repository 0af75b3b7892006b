"""Drawn data for training: counts that add up, and what is left out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.synthetic import balanced_labels, mix_real_and_synthetic


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 80))
def test_labels_as_by_hand(counts, n):
    have, dealt = list(counts), []
    for _ in range(n):
        fewest = have.index(min(have))
        have[fewest] += 1
        dealt.append(fewest)
    labels = balanced_labels(n, len(counts), counts)
    assert labels.tolist() == sorted(dealt)
    assert labels.dtype == torch.int64 and labels.shape == (n,)


def test_labels_without_counts():
    assert balanced_labels(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("counts", [[1, 2], [1, -1, 0], [[1, 2, 3]]])
def test_counts_that_do_not_fit(counts):
    with pytest.raises(ValueError, match="counts"):
        balanced_labels(4, 3, counts)


def test_what_is_tested_on_is_not_trained_on(generator):
    test = torch.randn(5, 1, 6, 6, generator=generator)
    real = torch.cat([torch.randn(3, 1, 6, 6, generator=generator), test[2:3] + 0.001])
    fresh = torch.randn(2, 1, 6, 6, generator=generator)
    drawn = torch.cat([test[:1] + 0.002, fresh[:1], real[:1] - 0.002, fresh, fresh[:1] + 0.001])
    labels = torch.arange(4), torch.arange(10, 16)
    x, y, is_drawn = mix_real_and_synthetic((real, labels[0]), (drawn, labels[1]), test, 0.01)
    assert torch.equal(x, torch.cat([real[:3], fresh[:1], fresh[1:]]))
    assert y.tolist() == [0, 1, 2, 11, 14]
    assert is_drawn.tolist() == [False] * 3 + [True] * 2


def test_nothing_drawn(generator):
    x = torch.randn(3, 4, generator=generator)
    nothing = x[:0], torch.zeros(0, dtype=torch.int64)
    found = mix_real_and_synthetic((x, torch.arange(3)), nothing, x + 5, 0.1)
    assert torch.equal(found[0], x) and not bool(found[2].any())


def test_sets_that_do_not_fit():
    x, y = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="labels"):
        mix_real_and_synthetic((x, y[:1]), (x, y), x, 0.1)
    with pytest.raises(ValueError, match="test items"):
        mix_real_and_synthetic((x, y), (x, y), torch.zeros(2, 5), 0.1)
    with pytest.raises(ValueError, match="tol"):
        mix_real_and_synthetic((x, y), (x, y), x, -1.0)
