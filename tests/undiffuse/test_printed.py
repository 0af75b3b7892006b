"""Printed digits: laid out as handwritten ones are, the same for the same seed."""

import numpy as np
import pytest
import torch

from undiffuse import classifiers
from undiffuse.printed import fonts, printed_digits


@pytest.fixture(scope="module")
def made():
    return printed_digits(300, seed=1)


def test_shapes_and_range(made):
    x, labels = made
    assert x.shape == (300, 1, 28, 28) and x.dtype == torch.float32
    assert x.min() == -1 and 0.9 < x.max() <= 1
    assert torch.equal(labels, torch.arange(300) % 10)


def test_the_same_for_the_same_seed(made):
    again = printed_digits(20, seed=1)[0]
    assert torch.equal(again, made[0][:20])
    assert not torch.equal(printed_digits(20, seed=2)[0], again)


def test_laid_out_as_handwritten_digits_are(made):
    ink = (made[0][:, 0] + 1) / 2
    there = ink > 0.05
    tall, wide = (there.any(axis).sum(1) for axis in (2, 1))
    assert torch.maximum(tall, wide).max() <= 20
    assert torch.maximum(tall, wide).min() >= 17
    places = torch.arange(28.0)
    for axis in (1, 2):
        share = ink.sum(3 - axis) / ink.sum((1, 2))[:, None]
        assert ((share * places).sum(1) - 13.5).abs().max() < 1.01


def test_they_are_read_as_what_they_are(made):
    """By the judge of handwritten digits: most, not all, since it has never seen print."""
    assert classifiers.accuracy(classifiers.load("digits"), *made) > 0.7


def test_each_is_another(made):
    x = made[0].flatten(1).numpy()
    assert len(np.unique(x, axis=0)) == 300
    assert len(fonts()) > 10


def test_none_is_no_number():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        printed_digits(0)
