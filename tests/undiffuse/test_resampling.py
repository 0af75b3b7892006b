"""Resampling against scipy's polyphase filter, and what it must keep and take out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from undiffuse.resampling import resample

F64 = torch.float64


def noise(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sine(hz, rate, seconds=0.5):
    return torch.sin(2 * math.pi * hz * torch.arange(int(seconds * rate), dtype=F64) / rate)


RATES = [(8000, 16000), (16000, 8000), (44100, 16000), (16000, 11025), (3, 2), (8000, 7999)]


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
def test_scipys_resample_poly_is_a_special_case(rate, target, dtype):
    x = noise(0, 2, 3, 997, dtype=dtype)
    found = resample(x, rate, target, zeros=10, rolloff=1.0, beta=5.0)
    wanted = signal.resample_poly(x.double().numpy(), target, rate, axis=-1)
    assert found.dtype == dtype
    share = 1e-12 if dtype == F64 else 1e-5
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), rtol=share, atol=5 * share)


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 200), st.integers(1, 20),
    st.floats(0.3, 1.0), st.floats(0.0, 14.0),
)  # fmt: skip
def test_scipy_with_the_same_filter_gives_the_same(up, down, length, zeros, rolloff, beta):
    x = noise(up * down, length)
    a, b = up // math.gcd(up, down), down // math.gcd(up, down)
    n = np.arange(-zeros * max(a, b), zeros * max(a, b) + 1)
    taps = np.sinc(n * rolloff / max(a, b)) * np.kaiser(len(n), beta)
    wanted = signal.resample_poly(x.numpy(), up, down, window=taps / taps.sum())
    found = resample(x, down, up, zeros=zeros, rolloff=rolloff, beta=beta)
    assert len(found) == math.ceil(length * up / down)
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-9, atol=1e-10)


@given(st.sampled_from([(8000, 16000), (8000, 11025), (16000, 44100)]), st.integers(0, 1000))
def test_up_and_down_again_is_what_was_below_nine_tenths_of_nyquist(rates, seed):
    low, high = rates
    x = resample(noise(seed, 600), 10, 9)  # nothing above 0.9 of Nyquist
    x = resample(x, 9, 10)[:600] * torch.hann_window(600, dtype=F64)
    back = resample(resample(x, low, high), high, low)[:600]
    assert float((back - x).norm() / x.norm()) < 0.01


@pytest.mark.parametrize(("rate", "target"), [(48000, 8000), (44100, 16000)])
def test_tones_pass_or_vanish(rate, target):
    inside = slice(500, -500)
    for share in (0.05, 0.5, 0.9):
        hz = share * target / 2
        found = resample(sine(hz, rate), rate, target)
        wanted = sine(hz, target)[: len(found)]
        assert float((found[: len(wanted)] - wanted)[inside].abs().max()) < 1e-3
    for share in (1.01, 1.3, 2.2):
        above = resample(sine(share * target / 2, rate), rate, target)[inside]
        assert 20 * math.log10(float(above.abs().max())) < -75


def test_odd_rates_take_blocks():
    """More phases than one matrix makes: 11,025 of them, and a common clip beside it."""
    x = sine(440, 16001)
    found = resample(x, 16001, 11025)
    wanted = sine(440, 11025)
    assert len(found) == math.ceil(len(x) * 11025 / 16001)
    torch.testing.assert_close(found[300:-300], wanted[300 : len(found) - 300], rtol=0, atol=1e-4)


def test_silence_the_same_rate_and_single_samples():
    assert (resample(torch.zeros(3, 50), 8000, 11025) == 0).all()
    x = noise(0, 4, 9)
    same = resample(x, 8000, 8000)
    assert torch.equal(same, x) and same.data_ptr() != x.data_ptr()
    assert resample(torch.ones(1), 16000, 8000).shape == (1,)
    assert resample(torch.ones(1), 8000, 16000).shape == (2,)
    assert torch.equal(resample(x, np.int64(8000), np.int64(8000)), x)


def test_gradients():
    x = noise(1, 2, 30).requires_grad_()
    for rate, target in ((2, 1), (2, 3), (441, 160)):
        assert torch.autograd.gradcheck(
            lambda v, r=rate, t=target: resample(v, r, t, zeros=4), (x,)
        )


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: resample(np.zeros(9), 1, 2), TypeError, "torch.Tensor"),
        (lambda: resample(torch.zeros(9, dtype=torch.int16), 1, 2), TypeError, "int16"),
        (
            lambda: resample(torch.zeros(0), 1, 2),
            ValueError,
            r"at least 1 sample, got shape \(0,\)",
        ),
        (lambda: resample(torch.zeros(9), 8000.5, 8000), TypeError, "float"),
        (lambda: resample(torch.zeros(9), 0, 8000), ValueError, "rate must be at least 1, got 0"),
        (lambda: resample(torch.zeros(9), 8000, -1), ValueError, "target_rate must be at least 1"),
        (lambda: resample(torch.zeros(9), 8000, 1, zeros=0), ValueError, "zeros must be"),
    ],
)
def test_errors_say_what_was_given_and_wanted(call, error, says):
    with pytest.raises(error, match=says):
        call()
