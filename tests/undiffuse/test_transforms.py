"""Transforms of sound against librosa (recorded), scipy, and what must come back unchanged."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from undiffuse import transforms as tr

F64 = torch.float64
ORACLE = dict(np.load(Path(__file__).with_name("oracles") / "librosa.npz"))
ABOUT = json.loads(str(ORACLE["about"]))
CLIP = torch.from_numpy(ORACLE["clip"])
PRECISION = {torch.float64: 1e-10, torch.float32: 1e-5}  # of the largest value; the bar is 1e-4
BOTH = pytest.mark.parametrize("dtype", PRECISION, ids=str)


def noise(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def close(found, wanted, dtype):
    """Every element, to a share of its own size and of the largest."""
    wanted = torch.as_tensor(wanted)
    assert found.real.dtype == dtype
    share = PRECISION[dtype]
    torch.testing.assert_close(
        found.to(wanted.dtype), wanted, rtol=10 * share, atol=share * float(wanted.abs().max())
    )


# --- librosa ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", ABOUT["frames"])
def test_stft_and_its_inverse_are_librosas(name, dtype):
    n_fft, hop = ABOUT["frames"][name]
    wanted = torch.from_numpy(ORACLE[f"stft {name}"])
    found = tr.stft(CLIP.to(dtype), n_fft, hop)
    close(found, wanted, dtype)
    close(tr.stft_magnitude(CLIP.to(dtype), n_fft, hop), wanted.abs(), dtype)
    bent = torch.polar(wanted.abs().sqrt(), 2 * wanted.angle())
    complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
    inverse = tr.istft(bent.to(complex_dtype), n_fft, hop, len(CLIP))
    close(inverse, ORACLE[f"istft {name}"], dtype)


@BOTH
@pytest.mark.parametrize("name", ABOUT["filters"])
def test_mel_filters_are_librosas(name, dtype):
    n_mels, n_fft, rate, f_min, f_max, htk = ABOUT["filters"][name]
    found = tr.mel_filterbank(n_mels, n_fft, rate, f_min, f_max, htk=htk, dtype=dtype)
    close(found, ORACLE[f"mel {name}"], dtype)


@BOTH
def test_log_mel_is_the_logarithm_of_librosas_mel(dtype):
    wanted = torch.from_numpy(ORACLE["melspectrogram"])
    found = tr.log_mel(CLIP.to(dtype), 8000)
    close(found.exp(), wanted.clamp(min=tr.FLOOR), dtype)
    quiet = wanted < tr.FLOOR
    assert quiet.any() and (found[quiet] == math.log(tr.FLOOR)).all()
    # In logarithms the bar of 1e-4 relative is one of 1e-4 absolute, of quiet bands as of loud.
    torch.testing.assert_close(found.double(), wanted.clamp(min=1e-5).log(), rtol=0, atol=1e-4)


def test_mel_scales_are_librosas_and_invert():
    hz = torch.from_numpy(ORACLE["hz"])
    for htk, name in ((False, "hz_to_mel"), (True, "hz_to_mel htk")):
        mel = tr.hz_to_mel(hz, htk)
        torch.testing.assert_close(mel, torch.from_numpy(ORACLE[name]), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tr.mel_to_hz(mel, htk), hz, rtol=1e-12, atol=1e-10)


# --- STFT ------------------------------------------------------------------------------------


def test_a_frame_is_the_fourier_transform_of_a_windowed_piece():
    x, window = noise(0, 3, 700), noise(1, 64).abs()
    found = tr.stft(x, 64, 30, window, center=False)
    assert found.shape == (3, 33, 1 + (700 - 64) // 30)
    for i in (0, 7, 21):
        wanted = torch.fft.rfft(x[:, 30 * i : 30 * i + 64] * window)
        torch.testing.assert_close(found[..., i], wanted, rtol=1e-11, atol=1e-11)
    centred = tr.stft(x, 64, 30, window)
    assert centred.shape == (3, 33, 1 + 700 // 30)
    wanted = torch.fft.rfft(x[:, 300 - 32 : 300 + 32] * window)
    torch.testing.assert_close(centred[..., 10], wanted, rtol=1e-11, atol=1e-11)


def test_a_sine_peaks_at_half_the_sum_of_the_window():
    t = torch.arange(4000, dtype=F64) / 8000
    found = tr.stft_magnitude(0.7 * torch.sin(2 * math.pi * 1000 * t), 256, 64)[:, 20]
    assert int(found.argmax()) == 32
    assert float(found[32]) == pytest.approx(0.7 * 128 / 2, rel=1e-6)


@given(
    st.integers(0, 1000),
    st.integers(1, 3),
    st.integers(8, 70),
    st.floats(0.05, 0.5),
    st.floats(1.0, 9.0),
)
def test_stft_comes_back(seed, clips, n_fft, share, long):
    hop, length = max(1, int(share * n_fft)), int(long * n_fft)
    x = noise(seed, clips, 2, length)
    spectrum = tr.stft(x, n_fft, hop)
    back = tr.istft(spectrum, n_fft, hop, length)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
    without = tr.istft(tr.stft(x, n_fft, hop, center=False), n_fft, hop, center=False)
    inside = slice(n_fft // 2, without.shape[-1] - n_fft // 2)
    torch.testing.assert_close(without[..., inside], x[..., inside], rtol=0, atol=1e-7)


def test_leading_dimensions_and_batches_change_nothing():
    x = noise(0, 2, 3, 500)
    whole = tr.log_mel(x, 8000, 20, 128, 50)
    assert whole.shape == (2, 3, 20, 11)
    torch.testing.assert_close(whole[1, 2], tr.log_mel(x[1, 2], 8000, 20, 128, 50))
    assert tr.istft(tr.stft(x), length=500).shape == x.shape
    assert tr.istft(tr.stft(x[0, 0])).shape == (448,)
    assert tr.istft(tr.stft(x[0, 0]), length=800)[700:].abs().max() == 0


# --- mel -------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.sampled_from([512, 1024, 2048]), st.integers(4000, 48000))
def test_filters_have_area_one_and_cover_what_is_between_their_ends(n_mels, n_fft, rate):
    filters = tr.mel_filterbank(n_mels, n_fft, rate, dtype=F64)
    assert filters.shape == (n_mels, n_fft // 2 + 1) and (filters >= 0).all()
    assert (filters[:, 0] == 0).all() and (filters[:, -1].abs() < 1e-9).all()
    # A triangle seen at few bins has its area only roughly.
    area = filters.sum(1) * rate / n_fft
    seen = (filters > 0).sum(1)
    assert ((area - 1).abs() < 1.2 / seen).all()
    centre = filters.argmax(1)
    assert (centre.diff() >= 0).all()


def test_filters_between_two_bins_are_told():
    with pytest.warns(
        UserWarning, match=r"filters \[.*\] of 128 .* fewer filters or longer frames"
    ):
        filters = tr.mel_filterbank(128, 256, 16000)
    assert (filters.sum(1) == 0).any() and filters.isfinite().all()


def test_silence_is_the_floor_and_has_no_gradient():
    x = torch.zeros(2, 1000, requires_grad=True)
    found = tr.log_mel(x, 8000)
    assert (found == math.log(tr.FLOOR)).all()
    (found.sum() + tr.stft_magnitude(x).sum()).backward()
    assert (x.grad == 0).all()


@given(st.integers(0, 1000), st.floats(-20, 0), st.floats(0.1, 20))
def test_the_model_range_comes_back(seed, low, span):
    y = 5 * noise(seed, 3, 4)
    unit = tr.log_mel_to_model_range(y, low, low + span)
    torch.testing.assert_close(tr.log_mel_from_model_range(unit, low, low + span), y)
    ends = tr.log_mel_to_model_range(torch.tensor([low, low + span], dtype=F64), low, low + span)
    torch.testing.assert_close(ends, torch.tensor([-1.0, 1.0], dtype=F64))


def test_the_range_holds_silence_and_full_scale():
    t = torch.arange(8000) / 8000
    loud = tr.log_mel(torch.sin(2 * math.pi * 440 * t), 8000)
    for y in (loud, tr.log_mel(torch.zeros(8000), 8000)):
        unit = tr.log_mel_to_model_range(y)
        assert unit.min() >= -1.0 - 1e-6 and unit.max() <= 1.0


def test_filters_that_are_kept_also_serve_gradients():
    with torch.inference_mode():
        tr.log_mel(noise(0, 600), 8123, 17)
    x = noise(0, 600).requires_grad_()
    tr.log_mel(x, 8123, 17).sum().backward()
    assert x.grad.abs().sum() > 0


def test_mel_to_magnitude_is_as_near_as_scipys_nnls():
    filters = tr.mel_filterbank(20, 64, 8000, f_max=3000.0, dtype=F64)
    mel = noise(0, 2, 20, 3).abs() / 30  # no spectrum has this
    found = tr.mel_to_magnitude(mel, filters, 2000)
    assert found.shape == (2, 33, 3) and (found >= 0).all()
    size = filters.norm(dim=1, keepdim=True)
    left = ((filters @ found - mel) / size).norm(dim=1)
    for i, j in np.ndindex(2, 3):
        _, least = nnls((filters / size).numpy(), (mel[i, :, j, None] / size)[:, 0].numpy())
        assert float(left[i, j]) == pytest.approx(least, rel=1e-5, abs=1e-7)


@BOTH
def test_mel_of_a_sound_is_met(dtype):
    filters = tr.mel_filterbank(64, 256, 8000, dtype=dtype)
    mel = filters @ tr.stft_magnitude(CLIP.to(dtype))
    found = tr.mel_to_magnitude(mel, filters)
    assert found.dtype == dtype and (found >= 0).all()
    torch.testing.assert_close(filters @ found, mel, rtol=1e-2, atol=1e-3 * float(mel.max()))
    assert (tr.mel_to_magnitude(torch.zeros_like(mel), filters) == 0).all()
    errors = [
        float((filters @ tr.mel_to_magnitude(mel, filters, n) - mel).norm()) for n in (0, 20, 200)
    ]
    assert errors[0] > errors[1] > errors[2]


# --- Griffin-Lim -----------------------------------------------------------------------------


def spectral_error(x, magnitude, n_fft, hop):
    """Squared, over both halves of the spectrum: what Griffin and Lim's theorem is about."""
    weight = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=F64)
    weight[0] = 1
    if n_fft % 2 == 0:
        weight[-1] = 1
    return float((weight * (tr.stft_magnitude(x, n_fft, hop) - magnitude) ** 2).sum())


@given(
    st.integers(0, 1000),
    st.sampled_from([(32, 8), (32, 13), (24, 12), (21, 5)]),
    st.sampled_from(["silent ends", "noise", "no sound has it"]),
)
def test_griffin_lim_does_not_get_worse(seed, frames, kind):
    n_fft, hop = frames
    x = noise(seed, 5 * n_fft + seed % hop)
    if kind == "silent ends":
        x[: 3 * n_fft // 2], x[-3 * n_fft // 2 :] = 0, 0
    magnitude = tr.stft_magnitude(x, n_fft, hop)
    if kind == "no sound has it":
        magnitude = noise(seed, *magnitude.shape).abs()
    errors = [
        spectral_error(
            tr.griffin_lim(magnitude, i, generator(seed), n_fft, hop, len(x)), magnitude, n_fft, hop
        )
        for i in range(12)
    ]
    rise = 1e-9 if kind == "silent ends" else 1e-3  # the theorem's, and what reflection adds
    assert all(b <= a * (1 + rise) for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    ("momentum", "librosas"), list(zip((0.0, 0.99), ORACLE["griffin-lim errors"]))
)
def test_griffin_lim_gets_as_far_as_librosas(momentum, librosas):
    """What is left after 100 steps depends on the random start, of which both have 40. The mean of
    ours may be above librosa's by 3 standard errors: were they alike, it would be once in 700."""
    magnitude = tr.stft_magnitude(CLIP).expand(len(librosas), -1, -1)

    def shares(iterations):
        x = tr.griffin_lim(magnitude, iterations, generator(), length=len(CLIP), momentum=momentum)
        left = tr.stft_magnitude(x) - magnitude
        return left.norm(dim=(1, 2)) / magnitude.norm(dim=(1, 2))

    ours = shares(100)
    error = math.sqrt((float(ours.var()) + librosas.var(ddof=1)) / len(librosas))
    assert float(ours.mean()) < librosas.mean() + 3 * error
    assert float(ours.mean()) < 0.4 * float(shares(0).mean())


def test_griffin_lim_draws_from_its_generator_alone_and_batches():
    magnitude = tr.stft_magnitude(noise(0, 2, 3, 512, dtype=torch.float32))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b = (tr.griffin_lim(magnitude, 3, generator(7)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(torch.get_rng_state(), before)
    assert a.shape == (2, 3, 512) and a.dtype == torch.float32
    assert not torch.equal(a, tr.griffin_lim(magnitude, 3, generator(8)))
    flat = tr.griffin_lim(magnitude.flatten(0, 1), 3, generator(7))
    torch.testing.assert_close(flat, a.flatten(0, 1))


def test_griffin_lim_of_silence_is_silence():
    magnitude = torch.zeros(2, 129, 9)
    magnitude[1] = 1.0
    for momentum in (0.0, 0.9):
        x = tr.griffin_lim(magnitude, 5, generator(), momentum=momentum)
        assert (x[0] == 0).all() and x.isfinite().all() and (x[1] != 0).any()


# --- gradients, errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tr.stft_magnitude(x, 16, 5),
        lambda x: tr.stft(x, 16, 5, center=False),
        lambda x: tr.istft(tr.stft(x, 15, 4) * 2, 15, 4, 40),
        lambda x: tr.log_mel(x, 8000, 4, 32, 8),
        lambda x: tr.log_mel_to_model_range(x),
    ],
)
def test_gradients(f):
    x = noise(3, 2, 40).requires_grad_()
    assert torch.autograd.gradcheck(f, (x,), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: tr.stft(np.zeros(900)), TypeError, "torch.Tensor, got ndarray"),
        (lambda: tr.stft(torch.zeros(900, dtype=torch.int16)), TypeError, "int16"),
        (lambda: tr.stft(torch.zeros(128)), ValueError, "at least 129 samples .* of 256"),
        (lambda: tr.stft(torch.zeros(255), center=False), ValueError, "at least 256"),
        (lambda: tr.stft(torch.zeros(900), hop=0), ValueError, "hop must be at least 1"),
        (lambda: tr.stft(torch.zeros(900), window=torch.ones(9)), ValueError, r"\(256,\), got \(9"),
        (lambda: tr.istft(torch.zeros(129, 4)), TypeError, "spectrum must be complex"),
        (lambda: tr.istft(torch.zeros(128, 4, dtype=torch.cfloat)), ValueError, "129, frames"),
        (lambda: tr.mel_filterbank(0, 256, 8000), ValueError, "n_mels must be at least 1"),
        (lambda: tr.mel_filterbank(8, 256, 8000, 0, 4001), ValueError, "f_max <= rate / 2"),
        (lambda: tr.mel_filterbank(8, 256, 8000, 900, 300), ValueError, "f_min < f_max"),
        (lambda: tr.log_mel(torch.zeros(900), 8000, floor=0), ValueError, "above 0, or silence"),
        (lambda: tr.log_mel_to_model_range(torch.zeros(3), 1, 1), ValueError, "low must be below"),
        (
            lambda: tr.mel_to_magnitude(torch.zeros(9, 3), torch.ones(8, 17)),
            ValueError,
            r"got shapes \(9, 3\) and \(8, 17\)",
        ),
        (lambda: tr.griffin_lim(torch.zeros(129, 9).neg_() - 1, 1, None), ValueError, "negative"),
        (lambda: tr.griffin_lim(torch.full((129, 9), math.nan), 1, None), ValueError, "NaN"),
        (lambda: tr.griffin_lim(torch.zeros(129, 9), 1, None, length=600), ValueError, "9 frames"),
        (lambda: tr.griffin_lim(torch.zeros(129, 9), 1, None, momentum=1), ValueError, "momentum"),
        (lambda: tr.griffin_lim(torch.zeros(129, 9), -1, None), ValueError, "iterations"),
        (lambda: tr.griffin_lim(torch.zeros(100, 9), 1, None), ValueError, "129, frames"),
    ],
)
def test_errors_say_what_was_given_and_wanted(call, error, says):
    with pytest.raises(error, match=says):
        call()
