"""Clips: any file's samples become one form; variations, levels, bars and melodies as stated."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import sound
from undiffuse.resampling import resample

F64 = torch.float64


def noise(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- prepare_clip ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        ("int16", [-32768, 16384, 0, 32767], [-1.0, 0.5, 0.0, 32767 / 32768]),
        ("int32", [-(2**31), 2**30, 0, 2**31 - 1], [-1.0, 0.5, 0.0, 1.0]),
        ("int32", [2**8, -(2**8)], [2.0**-23, -(2.0**-23)]),  # the last bit of 24
        ("uint8", [0, 192, 128, 255], [-1.0, 0.5, 0.0, 127 / 128]),
        ("float64", [-1.0, 0.25, 0.0, 1.0], [-1.0, 0.25, 0.0, 1.0]),
        ("float32", [0.1, -0.2], [0.1, -0.2]),
        ("float16", [0.5, -0.25], [0.5, -0.25]),
    ],
)
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_samples_of_every_dtype_keep_their_size(dtype, values, wanted, kind):
    audio = kind(values, dtype=getattr(torch, dtype) if kind is torch.tensor else dtype)
    found = sound.prepare_clip(audio, 8000, 8000, len(values))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=1e-7)


def test_channels_are_averaged_and_rates_are_changed():
    audio = noise(0, 900, 2).numpy() / 10
    found = sound.prepare_clip(audio, 44100, 16000, 300)
    wanted = resample(torch.from_numpy(audio.mean(1)), 44100, 16000)[:300].float()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)
    one = sound.prepare_clip(audio[:, :1], 16000, 16000, 900)
    torch.testing.assert_close(one, torch.from_numpy(audio[:, 0]).float())
    opposite = np.stack([audio[:, 0], -audio[:, 0]], 1)
    assert sound.prepare_clip(opposite, 16000, 16000, 900).abs().max() == 0


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 2),
    st.sampled_from([8000, 11025, 16000]), st.floats(0.01, 40.0),
)  # fmt: skip
def test_length_range_and_end(n, length, channels, rate, size):
    audio = size * noise(n, n, channels).numpy()
    if channels > n:
        return
    found = sound.prepare_clip(audio, rate, 8000, length)
    assert found.shape == (length,) and found.dtype == torch.float32
    assert found.abs().max() <= 1
    whole = resample(torch.from_numpy(audio.mean(1)), rate, 8000)
    kept = whole[:length]
    scale = max(1.0, float(kept.abs().max()))
    torch.testing.assert_close(found[: len(kept)], (kept / scale).float(), rtol=1e-5, atol=1e-6)
    assert (found[len(whole) :] == 0).all()


def test_nothing_is_cut_off_at_full_scale():
    """A square wave grows beyond 1 where the filter rings; all of it becomes quieter instead."""
    audio = np.tile(np.repeat([1.0, -1.0], 50), 20)
    found = sound.prepare_clip(audio, 16000, 8000, 1000)
    assert int((found.abs() == 1).sum()) < 5 and float(found.abs().max()) == 1
    resampled = resample(torch.from_numpy(audio), 16000, 8000).float()
    torch.testing.assert_close(found / found[100], resampled / resampled[100], rtol=1e-4, atol=1e-5)


def test_silence_stays_silence():
    for audio in (np.zeros(500), np.zeros((500, 2), np.int16), np.full(500, 128, np.uint8)):
        found = sound.prepare_clip(audio, 44100, 16000, 700)
        assert (found == 0).all() and found.shape == (700,)


def test_views_and_read_only_arrays_are_read_and_not_changed():
    audio = np.arange(10, dtype=np.int16) * 1000
    audio.flags.writeable = False
    found = sound.prepare_clip(audio[::-1], 8000, 8000, 10)
    torch.testing.assert_close(found, torch.arange(9.0, -1, -1) * 1000 / 32768)
    given_tensor = 3 * torch.ones(10)
    sound.prepare_clip(given_tensor, 8000, 8000, 10)[:] = 0
    assert (given_tensor == 3).all()


@pytest.mark.parametrize(
    ("audio", "error", "says"),
    [
        (np.zeros(0), ValueError, r"\(n,\) or \(n, channels\), got shape \(0,\)"),
        (np.zeros((0, 2)), ValueError, r"got shape \(0, 2\)"),
        (np.zeros((2, 900)), ValueError, "more channels than samples; should it be transposed"),
        (np.zeros((2, 2, 2)), ValueError, r"got shape \(2, 2, 2\)"),
        (
            np.zeros(9, np.int64),
            TypeError,
            "int16, int32, uint8 or floating point, got torch.int64",
        ),
        (np.zeros(9, bool), TypeError, "got torch.bool"),
        ([0.0, 1.0], TypeError, "an array or a tensor, got list"),
        (np.array([0.0, np.nan, np.inf]), ValueError, "2 of 3 values that are NaN or infinite"),
    ],
)
def test_what_is_no_sound_is_refused(audio, error, says):
    with pytest.raises(error, match=says):
        sound.prepare_clip(audio, 8000, 8000, 100)


def test_a_clip_has_a_length_and_rates():
    for rate, target, length in ((0, 8000, 9), (8000, -1, 9), (8000, 8000, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            sound.prepare_clip(np.zeros(9), rate, target, length)


# --- augmentation ----------------------------------------------------------------------------


def test_augmentation_is_what_its_draws_say():
    x = noise(0, 6, 2, 50)
    found = sound.augment_audio(x, generator(3), (-9.0, -1.0), 7)
    g = generator(3)
    db = -9 + 8 * torch.rand(6, generator=g).double()
    shift = torch.randint(0, 8, (6,), generator=g)
    sign = 1 - 2 * torch.randint(0, 2, (6,), generator=g)
    assert len(set(shift.tolist())) > 2 and len(set(sign.tolist())) == 2
    for i in range(6):
        wanted = torch.zeros(2, 50, dtype=F64)
        wanted[:, shift[i] :] = x[i, :, : 50 - shift[i]] * sign[i] * 10 ** (db[i] / 20)
        torch.testing.assert_close(found[i], wanted)


@given(st.integers(0, 1000), st.booleans(), st.integers(0, 20))
def test_augmentation_keeps_what_it_promises(seed, polarity, max_shift):
    x = torch.ones(40, 1, 30, dtype=F64)
    found = sound.augment_audio(x, generator(seed), max_shift=max_shift, polarity=polarity)
    level = 20 * found[..., -1].abs().log10()
    assert (level >= -6 - 1e-9).all() and (level <= 1e-9).all()
    silent = (found == 0).sum(-1)
    assert (silent <= max_shift).all()
    assert polarity or (found >= 0).all()
    assert torch.equal(found, sound.augment_audio(x, generator(seed), (-6, 0), max_shift, polarity))


def test_augmentation_uses_the_whole_range_and_draws_for_each():
    x = torch.ones(4000, 1, 12, dtype=F64)
    found = sound.augment_audio(x, generator(), max_shift=3)
    level, shift = 20 * found[:, 0, -1].abs().log10(), (found[:, 0] == 0).sum(1)
    # Means of 4,000 even draws: 5 standard errors, wrong once in two million seeds.
    assert float(level.mean()) == pytest.approx(-3, abs=5 * 6 / 12**0.5 / 4000**0.5)
    assert float((found[:, 0, -1] < 0).double().mean()) == pytest.approx(
        0.5, abs=5 * 0.5 / 4000**0.5
    )
    share = torch.bincount(shift, minlength=4) / 4000
    torch.testing.assert_close(share, torch.full((4,), 0.25), rtol=0, atol=5 * 0.433 / 4000**0.5)


def test_augmentation_has_gradients_and_no_global_state():
    before = torch.get_rng_state()
    x = noise(0, 3, 1, 12).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: sound.augment_audio(v, generator(1), max_shift=4), (x,)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert sound.augment_audio(torch.zeros(2, 1, 300), generator()).abs().max() == 0
    assert sound.augment_audio(torch.ones(2, 1, 300), None).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gain_db": (0, -6)}, "low <= high"),
        ({"gain_db": (-math.inf, 0)}, "low <= high"),
        ({"max_shift": 50}, "below the length of a clip, 50, got 50"),
        ({"max_shift": -1}, "max_shift must be at least 0"),
    ],
)
def test_augmentation_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        sound.augment_audio(torch.zeros(2, 1, 50), generator(), **options)
    with pytest.raises(ValueError, match=r"\(B, C, L\), got shape \(50,\)"):
        sound.augment_audio(torch.zeros(50), generator())


# --- level -----------------------------------------------------------------------------------


def test_levels_of_known_signals():
    t = torch.arange(8000, dtype=F64) / 8000
    sine = torch.sin(2 * math.pi * 100 * t)
    square = torch.where(sine >= 0, 1.0, -1.0).double()
    found = sound.rms_dbfs(torch.stack([sine, square, square / 10, square * 10, 0 * square]))
    wanted = torch.tensor([10 * math.log10(0.5), 0.0, -20.0, 20.0, -120.0], dtype=F64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    assert sound.rms_dbfs(sine, floor=-2.0) == -2.0


@given(st.integers(0, 1000), st.floats(-60, 6), st.floats(-80, 20))
def test_normalised_clips_have_the_level_and_the_shape(seed, target, before):
    x = 10 ** (before / 20) * noise(seed, 2, 3, 200)
    found = sound.loudness_normalise(x, target)
    torch.testing.assert_close(sound.rms_dbfs(found), torch.full((2, 3), target, dtype=F64))
    ratio = found / x
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(x))
    assert (ratio > 0).all()
    torch.testing.assert_close(sound.loudness_normalise(found, before), 
                               sound.loudness_normalise(x, before))  # fmt: skip


def test_silence_has_no_level_to_be_normalised():
    x = torch.zeros(3, 1, 100)
    x[1] = 1e-7  # below -120 dBFS
    x[2] = 0.1
    x.requires_grad_()
    found = sound.loudness_normalise(x, -6.0)
    assert torch.equal(found[:2], x[:2]) and found.isfinite().all()
    assert found[2, 0, 0].item() == pytest.approx(10 ** (-6 / 20), rel=1e-5)
    found.sum().backward()
    assert x.grad.isfinite().all()


def test_level_gradients_and_errors():
    x = noise(0, 2, 20).requires_grad_()
    assert torch.autograd.gradcheck(sound.rms_dbfs, (x,))
    assert torch.autograd.gradcheck(lambda v: sound.loudness_normalise(v, -3.0), (x,))
    with pytest.raises(ValueError, match="at least 1 sample"):
        sound.rms_dbfs(torch.zeros(3, 0))
    with pytest.raises(TypeError, match="int16"):
        sound.loudness_normalise(torch.zeros(3, dtype=torch.int16))
    with pytest.raises(ValueError, match="target_db must be finite"):
        sound.loudness_normalise(x, -math.inf)


# --- schedule --------------------------------------------------------------------------------


def test_shift_keeps_the_signal_to_noise_ratio_of_averages():
    """Data sampled 4 times as finely, averaged back: the ratio is that of the base schedule."""
    for dims in (1, 2):
        base_log_snr = torch.tensor([3.0, 0.0, -3.0], dtype=F64)
        shifted = sound.shift_schedule(base_log_snr, 4 * 25, 25, dims)
        signal, noise_variance = torch.sigmoid(shifted), torch.sigmoid(-shifted)
        averaged = signal / (noise_variance / 4**dims)
        torch.testing.assert_close(averaged.log(), base_log_snr)
    # Hoogeboom et al. 2023: 2 log(64 / 256) for images of 256 by a schedule for 64.
    assert sound.shift_schedule(0.0, 256, 64, dims=2) == pytest.approx(2 * math.log(64 / 256))
    assert sound.shift_schedule(1.5, 8000, 8000) == 1.5
    with pytest.raises(ValueError, match="lengths must be positive"):
        sound.shift_schedule(0.0, 0, 8000)


# --- bars and melodies -----------------------------------------------------------------------

KIT = {"kick": torch.tensor([0.5, 0.25, 0.125]), "hat": torch.tensor([0.25])}


def test_a_bar_by_hand():
    # 16th notes at 60 bpm and 8 Hz: 2 samples a step.
    found = sound.drum_loop(KIT, {"kick": "x..x", "hat": "xx.."}, 60, 8)
    wanted = torch.tensor([0.75, 0.25, 0.375, 0, 0, 0, 0.5, 0.25])
    torch.testing.assert_close(found, wanted)


@given(st.floats(30, 300), st.integers(100, 48000), st.integers(0, 2**16 - 1))
def test_hits_begin_on_their_steps(bpm, rate, bits):
    marks = "".join("x" if bits >> i & 1 else "." for i in range(16))
    found = sound.drum_loop({"a": torch.ones(1, dtype=F64) / 2}, {"a": marks}, bpm, rate)
    step = 60 / bpm / 4 * rate
    assert len(found) == round(16 * step)
    wanted = torch.zeros(len(found), dtype=F64)
    wanted[[round(i * step) for i in range(16) if marks[i] == "x"]] = 0.5
    assert torch.equal(found, wanted)


def test_a_loud_bar_is_scaled_and_a_quiet_one_is_not():
    loud = {"a": 0.9 * torch.ones(4), "b": 0.6 * torch.ones(2)}
    found = sound.drum_loop(loud, {"a": "xx", "b": "x."}, 60, 8)
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 1.0, 1.0]) * torch.tensor(
        [1.5, 1.5, 1.8, 1.8]) / 1.8)  # fmt: skip
    assert (sound.drum_loop(loud, {"a": ".."}, 60, 8) == 0).all()
    assert torch.equal(loud["a"], 0.9 * torch.ones(4))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sound.drum_loop(KIT, {}, 60, 8), "pattern is empty"),
        (lambda: sound.drum_loop(KIT, {"kick": "x", "hat": "x."}, 60, 8), r"got \[1, 2\]"),
        (lambda: sound.drum_loop(KIT, {"kick": ""}, 60, 8), "as many steps"),
        (lambda: sound.drum_loop(KIT, {"kick": "x-"}, 60, 8), '"x" .hit. and "." .rest.'),
        (lambda: sound.drum_loop(KIT, {"tom": "x"}, 60, 8), r"no sample 'tom': there are \['hat'"),
        (lambda: sound.drum_loop(KIT, {"kick": "x"}, 0, 8), "bpm and rate must be positive"),
        (lambda: sound.drum_loop({"a": torch.ones(1, 3)}, {"a": "x"}, 60, 8), r"\(n,\), got shape"),
        (lambda: sound.drum_loop({}, {"a": "."}, 60, 8), "no samples to play"),
        (lambda: sound.melody({}, [], 60, 8), "score is empty"),
        (lambda: sound.melody({60: torch.ones(9)}, [(60, 0)], 60, 8), "more than 0"),
        (lambda: sound.melody({60: torch.ones(9)}, [(61, 1)], 60, 8), r"no sample 61: .*\[60\]"),
    ],
)
def test_music_that_cannot_be_played(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_melody_by_hand():
    notes = {60: torch.full((20,), 0.5), 62: torch.full((3,), 0.25)}
    # 8 samples a beat; a release of half a second, 4 samples: 3/4, 2/4, 1/4 and 0 of the note.
    found = sound.melody(notes, [(60, 0.5), (62, 1), (None, 0.25), (60, 0.25)], 60, 8, release=0.5)
    tail = [0.375, 0.25, 0.125, 0.0]
    wanted = [0.5] * 4 + [0.25 + tail[0], 0.25 + tail[1], 0.25 + tail[2], tail[3]] + [0] * 4
    wanted += [0, 0, 0.5, 0.5]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_melody_does_not_click_and_does_not_clip():
    t = torch.arange(8192) / 8000
    notes = {m: torch.sin(2 * math.pi * 440 * 2 ** ((m - 69) / 12) * t) for m in (60, 64, 67)}
    found = sound.melody(notes, [(60, 1), (64, 1), (67, 2)], 120, 8000)
    assert found.shape == (16000,) and float(found.abs().max()) <= 1
    largest = max(float(v.diff().abs().max()) for v in notes.values())
    assert float(found.diff().abs().max()) < 2 * largest


def test_expander_lowers_what_is_quiet_and_only_that():
    t = torch.arange(4096) / 16000
    tone = torch.sin(2 * torch.pi * 1000 * t)
    loud, quiet = 0.5 * tone, 0.001 * tone  # -9 and -63 dBFS
    x = torch.stack([torch.cat([loud, quiet]), torch.zeros(8192)])[:, None]
    y = sound.expand_downward(x, -30.0, 2.0)
    assert y.shape == x.shape and y.dtype == x.dtype
    torch.testing.assert_close(y[0, 0, :3900], x[0, 0, :3900], atol=0, rtol=0)
    inside = slice(4096 + 300, -300)
    levels = [float(sound.rms_dbfs(v[0, 0, inside])) for v in (x, y)]
    assert levels[1] == pytest.approx(-30 + 2 * (levels[0] + 30), abs=0.1)
    assert not y[1].any()
    torch.testing.assert_close(sound.expand_downward(x, -30.0, 1.0), x)
    limited = sound.expand_downward(x, 0.0, 20.0)
    torch.testing.assert_close(limited[0, 0, inside], 1e-4 * x[0, 0, inside])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 0.5}, "the ratio must be at least 1, got 0.5"),
        ({"window": 256}, "window must be odd"),
        ({"window": 999}, "not twice as long as the clip"),
        ({"threshold_db": float("nan")}, "from nan dBFS on"),
    ],
)
def test_expander_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        sound.expand_downward(torch.zeros(1, 400), **options)
