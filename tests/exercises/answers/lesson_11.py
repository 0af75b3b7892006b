"""Answers of lesson 11: references, named mistakes with what to say about them, alternatives.

A wrong or alternative module is the reference with another ``forward``: the constructors are
given in the lesson.
"""

import math
import re

import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F
from scipy.signal import resample_poly
from torch import nn

from coursework.exercise import Answers
from undiffuse.blocks import (
    ClassConditioner,
    Downsample,
    PatchStem,
    ResBlock,
    Upsample,
    group_norm,
    timestep_embedding,
)


def of_calls(got, cases):
    """Outcomes of the cases in which ``forward`` is called: one of 11.4 looks at sizes alone."""
    return [o for o, case in zip(got, cases) if case.name != "sizes by themselves"]


def crash_says(pattern):
    """A ``detect`` for mistakes that crash in every call, the first with a message like this."""

    def detect(got, expected, cases):
        calls = of_calls(got, cases)
        return all(o.status == "error" for o in calls) and bool(
            re.search(pattern, calls[0].message)
        )

    return detect


# --- 11.1 ----------------------------------------------------------------------------------

a_prepare = Answers("11.1")


@a_prepare.reference
def prepare_clip(audio, rate, target_rate, length):
    x = np.asarray(audio)
    if x.dtype == np.uint8:
        x = (x - 128.0) / 128
    elif x.dtype.kind == "i":
        x = x / 2.0 ** (8 * x.dtype.itemsize - 1)
    x = x.astype(np.float64)
    if x.ndim == 2:
        x = x.mean(axis=1)
    shared = math.gcd(rate, target_rate)
    x = resample_poly(x, target_rate // shared, rate // shared)[:length]
    x = np.pad(x, (0, length - len(x)))
    x = x / max(1.0, np.abs(x).max())
    return torch.from_numpy(x).float()


class _Steps:
    """The reference taken apart, so that each wrong answer changes one step only."""

    @staticmethod
    def numbers(x):
        if x.dtype == np.uint8:
            return (x - 128.0) / 128
        if x.dtype.kind == "i":
            return x / 2.0 ** (8 * x.dtype.itemsize - 1)
        return x.astype(np.float64)

    @staticmethod
    def mono(x):
        return x.mean(axis=1) if x.ndim == 2 else x

    @staticmethod
    def rated(x, rate, target_rate):
        shared = math.gcd(rate, target_rate)
        return resample_poly(x, target_rate // shared, rate // shared)

    @staticmethod
    def long(x, length):
        x = x[:length]
        return np.pad(x, (0, length - len(x)))

    @staticmethod
    def level(x):
        return x / max(1.0, np.abs(x).max())

    @staticmethod
    def last(x):
        return torch.from_numpy(x).float()


def _prepare(**steps):
    """``prepare_clip`` with other steps."""
    do = type("Steps", (_Steps,), {k: staticmethod(v) for k, v in steps.items()})

    def prepare_clip(audio, rate, target_rate, length):
        x = do.mono(do.numbers(np.asarray(audio)))
        return do.last(do.level(do.long(do.rated(x, rate, target_rate), length)))

    return {"prepare_clip": prepare_clip}


def _wrong_clip(name, says, **steps):
    a_prepare.misconception(name, says, defines=_prepare(**steps))


_wrong_clip(
    "whole-numbers-as-they-are",
    "Whole numbers keep their size: an int16 sample of 20,000 stays 20,000 (or, brought down at "
    "the end, makes the clip as loud as it can be). Divide by the full scale of the dtype.",
    numbers=lambda x: x.astype(np.float64),
)
_wrong_clip(
    "largest-number",
    "You divide by the largest number of the dtype, 32767 for int16. The range is not symmetric: "
    "the most negative sample, -32768, then lies below -1. Full scale is 2 ** 15.",
    numbers=lambda x: (
        (x - 128.0) / 127
        if x.dtype == np.uint8
        else x / np.iinfo(x.dtype).max
        if x.dtype.kind == "i"
        else x.astype(np.float64)
    ),
)
_wrong_clip(
    "always-16-bit",
    "All whole numbers are divided by 32768. That fits int16; a 32-bit sample is 65,536 times as "
    "large. Ask x.dtype for its size.",
    numbers=lambda x: (
        (x - 128.0) / 128
        if x.dtype == np.uint8
        else x / 32768
        if x.dtype.kind == "i"
        else x.astype(np.float64)
    ),
)
_wrong_clip(
    "8-bit-not-centred",
    "Silence in 8-bit sound is the number 128, not 0: it has no negative numbers. Yours has a "
    "constant of about 1 in it, which is heard as a click at both ends. Subtract 128 first.",
    numbers=lambda x: x / 128 if x.dtype == np.uint8 else _Steps.numbers(x),
)
_wrong_clip(
    "8-bit-from-0-to-1",
    "You bring 8-bit sound to [0, 1] as if it were a picture. Its silence is 128, and it swings to "
    "both sides of it.",
    numbers=lambda x: x / 255 if x.dtype == np.uint8 else _Steps.numbers(x),
)
_wrong_clip(
    "8-bit-wraps",
    "You subtract 128 from 8-bit numbers while they are still 8-bit and unsigned: 100 - 128 is 228 "
    "there. Turn them into floats first.",
    numbers=lambda x: (x - np.uint8(128)) / 128 if x.dtype == np.uint8 else _Steps.numbers(x),
)
_wrong_clip(
    "8-bit-silence-between-numbers",
    "You map 0 to -1 and 255 to 1, as for a picture. Silence then lies between two numbers, at "
    "127.5, and no silent file is silent. It is the number 128 itself, and full scale is 2 ** 7.",
    numbers=lambda x: x / 127.5 - 1 if x.dtype == np.uint8 else _Steps.numbers(x),
)


def _mono_fails(got, expected, cases):
    """Whether there is an error for each sound without an axis of channels, and for no other."""
    return all((o.status == "error") == (case.args[0].ndim == 1) for o, case in zip(got, cases))


a_prepare.misconception(
    "channels-where-there-are-none",
    "You take the mean over channels of a sound that has none: (n,) has one axis, and that is "
    "time. Ask for the number of axes first.",
    defines=_prepare(mono=lambda x: x.mean(axis=-1)),
    detect=_mono_fails,
)


@a_prepare.misconception(
    "torch-asked-for-a-dtype-of-numpy",
    "You compare the dtype of a torch tensor with one of numpy. They are never equal, so that "
    "whole numbers of a tensor are taken for floats. Make an array of the sound first.",
)
def prepare_clip(audio, rate, target_rate, length):
    x = np.asarray(audio)
    x = x.astype(np.float64) if isinstance(audio, torch.Tensor) else _Steps.numbers(x)
    x = _Steps.rated(_Steps.mono(x), rate, target_rate)
    return _Steps.last(_Steps.level(_Steps.long(x, length)))


_wrong_clip(
    "mean-over-samples",
    "You average over axis 0, which are the samples: what is left is one number for each channel. "
    "soundfile gives (samples, channels).",
    mono=lambda x: x.mean(axis=0) if x.ndim == 2 else x,
)
_wrong_clip(
    "first-channel-only",
    "You keep one channel and drop the others. What was recorded on the right only is gone: take "
    "the mean of the channels.",
    mono=lambda x: x[:, 0] if x.ndim == 2 else x,
)
_wrong_clip(
    "channels-summed",
    "You add the channels without dividing by their number: a stereo file becomes twice as loud as "
    "the same sound in mono.",
    mono=lambda x: x.sum(axis=1) if x.ndim == 2 else x,
)
_wrong_clip(
    "channels-interleaved",
    "You flatten the channels into one row: left, right, left, right. Played as mono that is twice "
    "as long, and garbled. Take the mean over the channels.",
    mono=lambda x: x.reshape(-1),
)


@a_prepare.misconception(
    "sum-overflows",
    "You add the channels while they are whole numbers: 30,000 + 30,000 does not fit into int16 "
    "and comes out negative. Make floats of them first.",
)
def prepare_clip(audio, rate, target_rate, length):
    x = np.asarray(audio)
    if x.ndim == 2 and x.dtype.kind == "i":
        total = x[:, 0].copy()
        for channel in x.T[1:]:
            total += channel
        x = _Steps.numbers(total) / len(x.T)
    else:
        x = _Steps.mono(_Steps.numbers(x))
    return _Steps.last(_Steps.level(_Steps.long(_Steps.rated(x, rate, target_rate), length)))


@a_prepare.misconception(
    "channels-before-the-full-scale",
    "You average the channels first. Their mean is no whole number any more: the dtype, which says "
    "what full scale is, has gone. Numbers first, then channels.",
)
def prepare_clip(audio, rate, target_rate, length):
    x = _Steps.numbers(_Steps.mono(np.asarray(audio)))
    return _Steps.last(_Steps.level(_Steps.long(_Steps.rated(x, rate, target_rate), length)))


_wrong_clip(
    "rate-ignored",
    "The rate is never changed: played at target_rate the clip has another speed and another "
    "pitch.",
    rated=lambda x, rate, target_rate: x,
)
_wrong_clip(
    "samples-dropped",
    "You pick samples by index, without a filter. What lies above the new Nyquist frequency does "
    "not go away so: it comes back as another, lower tone (aliasing). resample_poly filters.",
    rated=lambda x, rate, target_rate: x[
        (np.arange(-(-len(x) * target_rate // rate)) * rate // target_rate)
    ],
)
_wrong_clip(
    "linear-interpolation",
    "You interpolate in a straight line between samples. That dampens high tones, adds new ones, "
    "and leaves in what lies above the new Nyquist frequency. A low-pass filter is needed: "
    "resample_poly has one.",
    rated=lambda x, rate, target_rate: np.interp(
        np.arange(-(-len(x) * target_rate // rate)) * rate / target_rate, np.arange(len(x)), x
    ),
)
_wrong_clip(
    "interpolated-from-end-to-end",
    "You interpolate in a straight line, between places that reach from the first sample to the "
    "last. The new last sample need not lie there, so that the speed is a little off; and nothing "
    "takes away what lies above the new Nyquist frequency. resample_poly does both rightly.",
    rated=lambda x, rate, target_rate: (
        x
        if rate == target_rate
        else np.interp(
            np.linspace(0, len(x) - 1, round(len(x) * target_rate / rate)), np.arange(len(x)), x
        )
    ),
)
_wrong_clip(
    "fourier-as-if-it-repeated",
    "You resample by Fourier transform (scipy.signal.resample). That takes the sound for one round "
    "of a loop: its end leaks into its beginning, and a rounded number of samples changes its "
    "speed. resample_poly has neither fault.",
    rated=lambda x, rate, target_rate: scipy.signal.resample(x, round(len(x) * target_rate / rate)),
)
_wrong_clip(
    "rates-swapped",
    "up and down have changed places: 48 kHz to 16 kHz gives you more samples, where there have to "
    "be a third of them. resample_poly takes up first.",
    rated=lambda x, rate, target_rate: _Steps.rated(x, target_rate, rate),
)
_wrong_clip(
    "whole-ratio-only",
    "You round the ratio of the rates to a whole number. 44,100 is 2.76 times 16,000: at a ratio "
    "of 2 the clip is played too slowly. Both up and down are needed.",
    rated=lambda x, rate, target_rate: (
        resample_poly(x, 1, rate // target_rate)
        if rate >= target_rate
        else resample_poly(x, target_rate // rate, 1)
    ),
)
_wrong_clip(
    "pads-at-the-start",
    "The silence comes first and the sound afterwards. A clip begins with its sound: pad at the "
    "end.",
    long=lambda x, n: np.pad(x[:n], (max(0, n - len(x)), 0)),
)
_wrong_clip(
    "pads-on-both-sides",
    "You put half of the silence before the sound. All of it belongs behind it.",
    long=lambda x, n: np.pad(
        x[:n], (max(0, n - len(x)) // 2, max(0, n - len(x)) - max(0, n - len(x)) // 2)
    ),
)
_wrong_clip(
    "repeats-to-fill",
    "You repeat the sound until the length is reached. What is missing is to be silence.",
    long=lambda x, n: np.resize(x, n),
)
_wrong_clip(
    "keeps-the-end",
    "You keep the last `length` samples of a long clip. The attack, which is what makes a drum, is "
    "in the first.",
    long=lambda x, n: np.pad(x[-n:], (0, max(0, n - len(x)))),
)
_wrong_clip(
    "not-padded",
    "A clip that is too short stays short. Fill it with zeros at the end, or a batch cannot be "
    "made of such clips.",
    long=lambda x, n: x[:n],
)
_wrong_clip(
    "not-cut",
    "A clip that is too long stays long. Keep its first `length` samples.",
    long=lambda x, n: np.pad(x, (0, max(0, n - len(x)))),
)


@a_prepare.misconception(
    "cut-before-resampling",
    "You cut to `length` while the clip still has its old rate. `length` counts samples at "
    "target_rate: change the rate first.",
)
def prepare_clip(audio, rate, target_rate, length):
    x = _Steps.mono(_Steps.numbers(np.asarray(audio)))[:length]
    return _Steps.last(_Steps.level(_Steps.long(_Steps.rated(x, rate, target_rate), length)))


_wrong_clip(
    "clips",
    "You cut off what lies beyond 1. That bends the wave, and is heard as distortion. Divide the "
    "whole clip by its largest absolute value in place of that.",
    level=lambda x: x.clip(-1, 1),
)
_wrong_clip(
    "level-left",
    "What lies beyond 1 stays there. Divide the whole clip by its largest absolute value where "
    "that is above 1.",
    level=lambda x: x,
)
_wrong_clip(
    "always-loudest",
    "Every clip is scaled until it reaches 1, quiet ones too. Only a clip that goes beyond 1 is to "
    "be scaled: how loud a sound is belongs to it.",
    level=lambda x: x / max(np.abs(x).max(), 1e-9),
)


def _silence(x):
    with np.errstate(invalid="ignore"):
        return x / np.abs(x).max()


_wrong_clip(
    "silence-is-nan",
    "You divide every clip by its largest absolute value. That makes quiet clips loud, and silence "
    "NaN: 0 / 0. Only a clip that goes beyond 1 is to be scaled.",
    level=_silence,
)
_wrong_clip(
    "largest-without-abs",
    "You look for the largest value, not for the largest absolute value. A wave swings below zero "
    "as well, and may reach further there.",
    level=lambda x: x / max(1.0, x.max()),
)


@a_prepare.misconception(
    "level-before-the-cut",
    "You look for the largest value before the clip is cut: a loud part that is not kept makes the "
    "rest quieter. Cut first.",
)
def prepare_clip(audio, rate, target_rate, length):
    x = _Steps.mono(_Steps.numbers(np.asarray(audio)))
    return _Steps.last(_Steps.long(_Steps.level(_Steps.rated(x, rate, target_rate)), length))


_wrong_clip(
    "float64",
    "The values are right, but the clip is float64, as numpy computes. A network's weights are "
    "float32: convert at the end.",
    last=torch.from_numpy,
)
_wrong_clip(
    "numpy-array",
    "The values are right, but the result is a numpy array. A torch tensor is wanted.",
    last=lambda x: x.astype(np.float32),
)


@a_prepare.alternative("torch to the end, scipy for the rate")
def prepare_clip(audio, rate, target_rate, length):
    x = torch.as_tensor(audio)
    full = {torch.int16: 2**15, torch.int32: 2**31, torch.uint8: 2**7}.get(x.dtype, 1)
    x = x.to(torch.float64)
    if full == 2**7:
        x = x - 128
    x = x / full
    if x.ndim > 1:
        x = x.mean(1)
    if rate != target_rate:
        x = torch.from_numpy(resample_poly(x.numpy(), target_rate, rate))
    out = torch.zeros(length)
    n = min(length, len(x))
    out[:n] = x[:n]
    peak = out.abs().max().item()
    return out / peak if peak > 1 else out


@a_prepare.alternative("resampled by Fourier transform")
def prepare_clip(audio, rate, target_rate, length):
    x = _Steps.mono(_Steps.numbers(np.asarray(audio)))
    if rate != target_rate:
        padded = np.concatenate([x, np.zeros(-len(x) % rate + rate)])
        count = len(padded) * target_rate // rate
        x = scipy.signal.resample(padded, count)[: -(-len(x) * target_rate // rate)]
    x = np.concatenate([x, np.zeros(length)])[:length].astype(np.float32)
    return torch.tensor(x / max(1.0, float(max(x.max(), -x.min()))))


@a_prepare.alternative("the rate first, all in float32")
def prepare_clip(audio, rate, target_rate, length):
    x = np.asarray(audio)
    if x.dtype == np.uint8:
        x = (x.astype(np.float32) - 128) / 128
    elif np.issubdtype(x.dtype, np.integer):
        x = x.astype(np.float32) / (1 + float(np.iinfo(x.dtype).max))
    x = x.astype(np.float32)
    if rate != target_rate:
        x = resample_poly(x, target_rate, rate, axis=0, window=("kaiser", 8.0))
    if x.ndim > 1:
        x = np.mean(x, axis=-1)
    out = np.zeros(length, dtype=np.float32)
    out[: len(x)] = x[:length]
    if np.abs(out).max() > 1:
        out /= np.abs(out).max()
    return torch.from_numpy(out)


# --- 11.2 ----------------------------------------------------------------------------------

a_augment = Answers("11.2")


@a_augment.reference
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    batch, length = len(x), x.shape[-1]
    low, high = gain_db
    level = low + (high - low) * torch.rand(batch, generator=generator)
    gain = 10 ** (level / 20)
    shift = torch.randint(0, max_shift + 1, (batch,), generator=generator)
    if polarity:
        gain = gain * (2 * torch.randint(0, 2, (batch,), generator=generator) - 1)
    moved = torch.zeros_like(x)
    for i, k in enumerate(shift.tolist()):
        moved[i, :, k:] = x[i, :, : length - k]
    return moved * gain.to(x.dtype)[:, None, None]


def _delayed(x, shift):
    """Each clip later by its number of samples; earlier where it is negative."""
    moved = torch.zeros_like(x)
    for i, k in enumerate(shift.tolist()):
        if k >= 0:
            moved[i, :, k:] = x[i, :, : x.shape[-1] - k]
        else:
            moved[i, :, :k] = x[i, :, -k:]
    return moved


def _factors(batch, generator, low, high):
    return 10 ** ((low + (high - low) * torch.rand(batch, generator=generator)) / 20)


def _shifts(batch, generator, max_shift):
    return torch.randint(0, max_shift + 1, (batch,), generator=generator)


def _signs(batch, generator):
    return 2 * torch.randint(0, 2, (batch,), generator=generator) - 1


def _augment(factors=_factors, shifts=_shifts, signs=_signs, move=_delayed, always_sign=False):
    """``augment_audio`` with other steps."""

    def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
        gain = factors(len(x), generator, *gain_db)
        shift = shifts(len(x), generator, max_shift)
        if polarity or always_sign:
            gain = gain * signs(len(x), generator)
        return move(x, shift) * gain.to(x.dtype)[:, None, None]

    return {"augment_audio": augment_audio}


def _wrong_augment(name, says, detect=None, **steps):
    a_augment.misconception(name, says, defines=_augment(**steps), detect=detect)


def _moved_so(move):
    """A ``detect``, however it was drawn: where only shifts happen, all clips are moved so."""

    def detect(got, expected, cases):
        i = [case.name for case in cases].index("shift alone")
        x, _, _, options = cases[i].args
        if not isinstance(got[i].value, dict):
            return False
        out = got[i].value["out"] / 10 ** (options["gain_db"][0] / 20)
        fits = torch.zeros(out.shape[:2], dtype=torch.bool)
        for k in range(1, options["max_shift"] + 1):
            fits |= (out - move(x, torch.full((len(x),), k))).abs().amax((-2, -1)) < 1e-4
        still = (out - x).abs().amax((-2, -1)) < 1e-4
        return bool((fits | still).all() and fits.any())

    return detect


_wrong_augment(
    "ten-for-twenty",
    "A factor of 10 ** (dB / 10) is one of power. Samples are amplitudes, whose square is power: "
    "20 dB, not 10, are a factor of ten.",
    factors=lambda n, g, low, high: 10 ** ((low + (high - low) * torch.rand(n, generator=g)) / 10),
)
_wrong_augment(
    "e-for-ten",
    "You raise e to dB / 20. Decibels are made with logarithms to base 10.",
    factors=lambda n, g, low, high: torch.exp(
        (low + (high - low) * torch.rand(n, generator=g)) / 20
    ),
)
_wrong_augment(
    "db-as-a-factor",
    "The number of decibels itself is the factor: -6 dB turns the clip upside down and makes it "
    "six times as loud. -6 dB are a factor of about one half.",
    factors=lambda n, g, low, high: low + (high - low) * torch.rand(n, generator=g),
)
_wrong_augment(
    "even-in-amplitude",
    "Your factors are even between the two ends in amplitude, so that loud clips come more often "
    "than quiet ones. Draw the level evenly in dB, and make a factor of it afterwards.",
    factors=lambda n, g, low, high: (
        10 ** (low / 20) + (10 ** (high / 20) - 10 ** (low / 20)) * torch.rand(n, generator=g)
    ),
)
_wrong_augment(
    "gain-up",
    "The sign of the level is lost: what should become quieter becomes louder.",
    factors=lambda n, g, low, high: 1 / _factors(n, g, low, high),
)
_wrong_augment(
    "one-gain-for-the-batch",
    "All clips of a batch get the same gain. Draw one for each clip.",
    factors=lambda n, g, low, high: _factors(1, g, low, high).expand(n),
)
_wrong_augment(
    "one-shift-for-the-batch",
    "All clips of a batch are moved by the same amount. Draw one for each clip.",
    shifts=lambda n, g, k: _shifts(1, g, k).expand(n),
)
_wrong_augment(
    "one-sign-for-the-batch",
    "The whole batch is turned upside down, or none of it. Draw a sign for each clip.",
    signs=lambda n, g: _signs(1, g).expand(n),
)


@a_augment.misconception(
    "one-for-all",
    "Gain, shift and sign are drawn once for the whole batch. Each clip needs its own, or a batch "
    "holds one variation only.",
)
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    gain = _factors(1, generator, *gain_db)
    shift = _shifts(1, generator, max_shift).expand(len(x))
    if polarity:
        gain = gain * _signs(1, generator)
    return _delayed(x, shift) * gain.to(x.dtype)


def _rolled(x, shift):
    return torch.stack([torch.roll(c, k, -1) for c, k in zip(x, shift.tolist())])


def _earlier(x, shift):
    return _delayed(x, -shift)


def _held(x, shift):
    return torch.stack(
        [
            torch.cat([c[:, :1].expand(-1, k), c[:, : c.shape[-1] - k]], 1)
            for c, k in zip(x, shift.tolist())
        ]
    )


_wrong_augment(
    "wraps-around",
    "What leaves at the end comes in at the beginning: that is what torch.roll does. The tail of a "
    "drum would be heard before its attack. Zeros come in.",
    move=_rolled,
    detect=_moved_so(_rolled),
)
_wrong_augment(
    "earlier",
    "Your clips begin earlier, not later: their attack is cut off. Later means zeros first.",
    move=_earlier,
    detect=_moved_so(_earlier),
)
_wrong_augment(
    "both-ways",
    "Your shifts go both ways. A clip that begins earlier loses its attack, which is what makes it "
    "a drum: only later, from 0 to max_shift.",
    shifts=lambda n, g, k: torch.randint(-k, k + 1, (n,), generator=g),
)
_wrong_augment(
    "first-sample-held",
    "The clip's first sample is repeated until it begins. Before a sound there is silence: zeros.",
    move=_held,
    detect=_moved_so(_held),
)
_wrong_augment(
    "never-all-the-way",
    "A shift by max_shift itself never comes: torch.randint leaves its upper bound out.",
    shifts=lambda n, g, k: torch.randint(0, max(k, 1), (n,), generator=g),
)
_wrong_augment(
    "at-least-one",
    "A shift by 0 never comes: a clip that starts at once, as all real ones do, is never seen.",
    shifts=lambda n, g, k: torch.randint(min(1, k), k + 1, (n,), generator=g),
)
_wrong_augment(
    "ends-half-as-often",
    "You round torch.rand times max_shift. Only half as many draws round to 0 and to max_shift as "
    "to each number between. torch.randint draws whole numbers evenly.",
    shifts=lambda n, g, k: (torch.rand(n, generator=g) * k).round().long(),
)


def _cut_by_minus_k(x, shift):
    moved = torch.zeros_like(x)
    for i, k in enumerate(shift.tolist()):
        moved[i, :, k:] = x[i, :, :-k]
    return moved


def _nothing_left(got, expected, cases):
    """Whether the first case, in which no clip is moved, had nothing of a clip to work with."""
    if got[0].status == "ok" and isinstance(got[0].value, torch.Tensor):
        return got[0].value.shape[-1] == 0
    return "existing size (0)" in got[0].message


a_augment.misconception(
    "cut-by-minus-k",
    "You cut the end off with [:-k]. Where k is 0 that is [:0], and nothing is left of the clip. "
    "Count from the beginning: how many samples stay?",
    defines=_augment(move=_cut_by_minus_k),
    detect=_nothing_left,
)


def _into_a_copy(x, shift):
    moved = x.clone()
    for i, k in enumerate(shift.tolist()):
        moved[i, :, k:] = x[i, :, : x.shape[-1] - k]
    return moved


_wrong_augment(
    "start-not-cleared",
    "You write into a copy of x, so that the clip's first samples stay where they were and are "
    "heard twice. Before the clip there is silence: write into zeros.",
    move=_into_a_copy,
    detect=_moved_so(_into_a_copy),
)


@a_augment.misconception(
    "factors-along-the-samples",
    "A factor for each clip, (B,), is multiplied with clips (B, 1, L) as it is. torch lines shapes "
    "up from the last axis, so that it meets the samples. It needs two axes of length 1 behind it.",
    detect=lambda got, expected, cases: bool(
        re.search(r"\((12|5)\) must match the size of tensor b \((12|5)\)", got[0].message)
    ),
)
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    return x * _factors(len(x), generator, *gain_db)


@a_augment.misconception(
    "factors-with-one-axis-too-few",
    "Your factors are (B, 1). Lined up from the last axis with clips (B, 1, L) that makes "
    "(B, B, L): each clip with the factor of every other. One more axis of length 1 is needed.",
    detect=lambda got, expected, cases: (
        isinstance(got[0].value, torch.Tensor) and got[0].value.shape == (5, 5, 12)
    ),
)
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    return x * _factors(len(x), generator, *gain_db)[:, None]


_wrong_augment(
    "always-polarity",
    "Clips are turned upside down though polarity is False.",
    always_sign=True,
)
_wrong_augment(
    "every-clip-turned",
    "With polarity=True every clip is turned upside down. Half of them, by chance, are to stay.",
    signs=lambda n, g: -torch.ones(n),
)
_wrong_augment(
    "sign-or-silence",
    "Your factor for the sign is 0 or 1: half of the clips become silent. It has to be -1 or 1.",
    signs=lambda n, g: torch.randint(0, 2, (n,), generator=g),
)
_wrong_augment(
    "sign-may-be-zero",
    "Your factor for the sign is -1, 0 or 1: a third of the clips become silent. It has to be -1 "
    "or 1.",
    signs=lambda n, g: torch.randint(-1, 2, (n,), generator=g),
)
_wrong_augment(
    "reversed-in-time",
    "You play half of the clips backwards. Polarity is about the sign of the samples, not about "
    "their order.",
    signs=lambda n, g: torch.ones(n),
    move=lambda x, shift: torch.cat([_delayed(x, shift)[::2].flip(-1), _delayed(x, shift)[1::2]]),
)
_wrong_augment(
    "generator-ignored",
    "A draw does not use the generator, so the same seed gives other clips, and a run cannot be "
    "repeated. Every torch.rand and torch.randint takes generator=generator.",
    factors=lambda n, g, low, high: _factors(n, None, low, high),
    shifts=lambda n, g, k: _shifts(n, None, k),
    signs=lambda n, g: _signs(n, None),
)


@a_augment.misconception(
    "always-alike-without-a-generator",
    "Where no generator is given you make one, with the same seed each time: every call then draws "
    "the same, and training sees one variation. None may go to torch as it is: that is torch's own "
    "generator, which goes on.",
)
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    generator = generator or torch.Generator().manual_seed(0)
    return _augment()["augment_audio"](x, generator, gain_db, max_shift, polarity)


@a_augment.misconception(
    "writes-into-x",
    "x itself is changed: whoever keeps the clips (a data set, say) has them ever quieter and "
    "later. Write into a new tensor.",
)
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    gain = _factors(len(x), generator, *gain_db)
    shift = _shifts(len(x), generator, max_shift)
    if polarity:
        gain = gain * _signs(len(x), generator)
    return x.copy_(_delayed(x, shift) * gain.to(x.dtype)[:, None, None])


@a_augment.alternative("a clip at a time")
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    out = []
    for clip in x:
        k = int(torch.randint(max_shift + 1, (1,), generator=generator))
        level = torch.empty((), dtype=x.dtype).uniform_(*gain_db, generator=generator)
        clip = F.pad(clip, (k, 0))[..., : x.shape[-1]] * 10 ** (level / 20)
        if polarity and float(torch.rand(1, generator=generator)) < 0.5:
            clip = -clip
        out.append(clip)
    return torch.stack(out)


@a_augment.alternative("by index")
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    b, _, n = x.shape
    draws = torch.rand(3, b, generator=generator, dtype=torch.float64)
    db = torch.lerp(torch.tensor(gain_db[0]).double(), torch.tensor(gain_db[1]).double(), draws[0])
    source = torch.arange(n) - (draws[1] * (max_shift + 1)).long()[:, None]
    moved = torch.gather(x, 2, source.clamp(min=0)[:, None].expand_as(x)) * (source >= 0)[:, None]
    factor = torch.exp(db * math.log(10) / 20)
    if polarity:
        factor = torch.where(draws[2] < 0.5, -factor, factor)
    return moved * factor.to(x.dtype).reshape(b, 1, 1)


@a_augment.alternative("rolled in a copy, and the start cleared")
def augment_audio(x, generator=None, gain_db=(-6.0, 0.0), max_shift=128, polarity=True):
    y = x.clone()
    for clip in y:
        if polarity and torch.rand((), generator=generator) > 0.5:
            clip *= -1
        k = torch.randint(0, max_shift + 1, (), generator=generator).item()
        clip.copy_(torch.roll(clip, k, dims=-1))
        clip[:, :k] = 0
        share = torch.rand((), generator=generator).item()
        clip *= 10 ** ((gain_db[0] * (1 - share) + gain_db[1] * share) / 20)
    return y


# --- 11.3 ----------------------------------------------------------------------------------

a_block = Answers("11.3")


@a_block.reference
class GatedResBlock1d(nn.Module):
    def __init__(self, channels, dilation, emb_dim, cond_channels=None):
        super().__init__()
        self.dilation = dilation
        self.emb = nn.Linear(emb_dim, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, dilation=dilation)
        self.cond = nn.Conv1d(cond_channels, 2 * channels, 1) if cond_channels else None
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x, emb, cond=None):
        h = x + self.emb(emb)[:, :, None]
        h = self.dilated(F.pad(h, (self.dilation, self.dilation)))
        if cond is not None:
            h = h + self.cond(cond)
        content, gate = h.chunk(2, dim=1)
        residual, skip = self.out(torch.tanh(content) * torch.sigmoid(gate)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip


class _Gated(GatedResBlock1d):
    """The reference taken apart, so that each wrong block changes one step only."""

    def told(self, x, emb):
        return x + self.emb(emb)[:, :, None]

    def pad(self, h):
        return F.pad(h, (self.dilation, self.dilation))

    def conditioned(self, h, cond):
        return h if cond is None else h + self.cond(cond)

    def halves(self, h):
        return h.chunk(2, dim=1)

    def gated(self, content, gate):
        return torch.tanh(content) * torch.sigmoid(gate)

    def results(self, x, residual, skip):
        return (x + residual) / math.sqrt(2), skip

    def forward(self, x, emb, cond=None):
        h = self.conditioned(self.dilated(self.pad(self.told(x, emb))), cond)
        h = self.out(self.gated(*self.halves(h)))
        return self.results(x, *h.chunk(2, dim=1))


@a_block.misconception(
    "tanh-and-sigmoid-swapped",
    "tanh and sigmoid have changed places: in your block the second half is the content and the "
    "first is the gate. The first half goes through tanh here.",
)
class GatedResBlock1d(_Gated):
    def gated(self, content, gate):
        return torch.sigmoid(content) * torch.tanh(gate)


@a_block.misconception(
    "no-gate",
    "The second half of the channels is never used: nothing decides how much of the content "
    "passes. Multiply by its sigmoid.",
)
class GatedResBlock1d(_Gated):
    def gated(self, content, gate):
        return torch.tanh(content)


@a_block.misconception(
    "two-tanh",
    "Both halves go through tanh. A gate lies between 0 (closed) and 1 (open): sigmoid.",
)
class GatedResBlock1d(_Gated):
    def gated(self, content, gate):
        return torch.tanh(content) * torch.tanh(gate)


@a_block.misconception(
    "content-without-tanh",
    "The first half passes the gate as it is (that is a gated linear unit). Asked for is its tanh.",
)
class GatedResBlock1d(_Gated):
    def gated(self, content, gate):
        return content * torch.sigmoid(gate)


@a_block.misconception(
    "gate-added",
    "You add the two halves. A gate multiplies: where it is closed, nothing may pass.",
)
class GatedResBlock1d(_Gated):
    def gated(self, content, gate):
        return torch.tanh(content) + torch.sigmoid(gate)


@a_block.misconception(
    "halves-interleaved",
    "You take every other channel for the two halves. They lie one behind the other: the first "
    "`channels` channels, then the rest. chunk(2, dim=1) cuts them so.",
)
class GatedResBlock1d(_Gated):
    def halves(self, h):
        return h[:, ::2], h[:, 1::2]


@a_block.misconception(
    "content-and-gate-not-halves-of-the-channels",
    "self.out expects `channels` channels and gets other than that: the two halves, content and "
    "gate, are halves of the channels, which are axis 1. chunk cuts axis 0, the batch, if you do "
    "not say which.",
    detect=lambda got, expected, cases: (
        got[0].status == "error"
        and bool(
            re.search(
                r"to have 4 channels, but got 8|tensor a \(9\) must match.*tensor b \(8\)",
                got[0].message,
            )
        )
    ),
)
class GatedResBlock1d(_Gated):
    def halves(self, h):
        return h.chunk(2)


@a_block.misconception(
    "outputs-not-halves-of-the-channels",
    "x meets all that self.out gives, or half of the batch of it. self.out makes twice the "
    "channels, and its halves along axis 1 are the residual and the skip.",
    detect=crash_says(r"tensor a \(4\) must match the size of tensor b \(8\).*dimension 1"),
)
class GatedResBlock1d(_Gated):
    def forward(self, x, emb, cond=None):
        h = self.conditioned(self.dilated(self.pad(self.told(x, emb))), cond)
        both = self.out(self.gated(*self.halves(h)))
        return (x + both) / math.sqrt(2), both


@a_block.misconception(
    "outputs-swapped",
    "The halves of self.out have changed places: the first is the residual, the second the skip.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return (x + skip) / math.sqrt(2), residual


@a_block.misconception(
    "returned-in-the-other-order",
    "You return the skip first. What goes on to the next block comes first, then the skip.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return skip, (x + residual) / math.sqrt(2)


@a_block.misconception(
    "skip-lost",
    "You return one tensor. The block has two ways out: what goes on, and the skip, which the "
    "network sums over all blocks.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return (x + residual) / math.sqrt(2)


@a_block.misconception(
    "skip-holds-x",
    "Your skip has x in it. It is what this block has found, and nothing else: x goes on by the "
    "other way.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return (x + residual) / math.sqrt(2), x + skip


@a_block.misconception(
    "skip-divided",
    "You divide the skip by the root of 2 as well. Only the sum of two, x and the residual, needs "
    "it to keep its variance.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return (x + residual) / math.sqrt(2), skip / math.sqrt(2)


@a_block.misconception(
    "not-divided",
    "The sum of x and the residual is not divided by the root of 2. Its variance then doubles from "
    "block to block, and there may be thirty.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return x + residual, skip


@a_block.misconception(
    "residual-alone-divided",
    "Only the residual is divided by the root of 2: a division comes before a sum. It is the sum "
    "of x and the residual whose variance has to be kept.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return x + residual / math.sqrt(2), skip


@a_block.misconception(
    "divided-by-two",
    "You take the mean of x and the residual. A division by the root of 2 keeps the variance; by 2 "
    "halves it, block after block.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return (x + residual) / 2, skip


@a_block.misconception(
    "no-residual",
    "x is not added: the block returns only what its convolutions make. Without the shortcut deep "
    "stacks hardly learn.",
)
class GatedResBlock1d(_Gated):
    def results(self, x, residual, skip):
        return residual / math.sqrt(2), skip


@a_block.misconception(
    "shortcut-with-embedding",
    "Your shortcut starts behind the embedding: what is added at the end is x plus the embedding. "
    "It has to carry x as it came in.",
)
class GatedResBlock1d(_Gated):
    def forward(self, x, emb, cond=None):
        x = self.told(x, emb)
        h = self.out(self.gated(*self.halves(self.conditioned(self.dilated(self.pad(x)), cond))))
        return self.results(x, *h.chunk(2, dim=1))


@a_block.misconception(
    "x-changed-in-place",
    "x itself is changed: h = x is only another name for it, and += writes into it. The shortcut "
    "then carries the embedding as well, and whoever still has x finds another one. Make a new "
    "tensor.",
)
class GatedResBlock1d(_Gated):
    def told(self, x, emb):
        x += self.emb(emb)[:, :, None]
        return x


@a_block.misconception(
    "not-padded",
    "The convolution gets x without zeros at its ends and returns fewer samples than it got (or "
    "none at all). How far does the kernel reach to each side?",
    detect=crash_says(r"size of tensor a \(17\) must match.*\(13\)"),
)
class GatedResBlock1d(_Gated):
    def pad(self, h):
        return h


@a_block.misconception(
    "padded-by-one",
    "You pad by 1 on each side, whatever the dilation. With weights that are `dilation` apart, a "
    "kernel of 3 reaches `dilation` samples to each side.",
    detect=lambda got, expected, cases: (
        [o.status for o in got[:3]] == ["error", "error", "ok"]
        and bool(re.search(r"size of tensor a \(17\) must match.*\(15\)", got[0].message))
    ),
)
class GatedResBlock1d(_Gated):
    def pad(self, h):
        return F.pad(h, (1, 1))


@a_block.misconception(
    "padded-twice",
    "You pad by 2 * dilation on each side, and get more samples than there were. That is how far "
    "the kernel reaches from its first weight to its last. How far is it from the middle one?",
    detect=crash_says(r"size of tensor a \((17|21)\) must match.*\((17|21)\)"),
)
class GatedResBlock1d(_Gated):
    def pad(self, h):
        return F.pad(h, (2 * self.dilation, 2 * self.dilation))


@a_block.misconception(
    "causal",
    "All your zeros are on the left: each sample then sees only what came before it. WaveNet "
    "needed that, as it makes one sample after the other. A denoiser has the whole sound and "
    "looks both ways.",
)
class GatedResBlock1d(_Gated):
    def pad(self, h):
        return F.pad(h, (2 * self.dilation, 0))


@a_block.misconception(
    "padded-before-the-embedding",
    "You pad x first and add the embedding afterwards: then the padding is not zeros. Add first.",
)
class GatedResBlock1d(_Gated):
    def told(self, x, emb):
        return super().told(F.pad(x, (self.dilation, self.dilation)), emb)

    def pad(self, h):
        return h


@a_block.misconception(
    "edges-repeated",
    "You continue the sound beyond its ends with its last value. Zeros are asked for: silence.",
)
class GatedResBlock1d(_Gated):
    def pad(self, h):
        return F.pad(h, (self.dilation, self.dilation), mode="replicate")


@a_block.misconception(
    "dilation-ignored",
    "Your convolution has its weights side by side: a stack of such blocks sees a few samples, "
    "where dilated ones see thousands.",
)
class GatedResBlock1d(_Gated):
    def forward(self, x, emb, cond=None):
        weight, bias = self.dilated.weight, self.dilated.bias
        h = self.conditioned(F.conv1d(self.told(x, emb), weight, bias, padding=1), cond)
        h = self.out(self.gated(*self.halves(h)))
        return self.results(x, *h.chunk(2, dim=1))


@a_block.misconception(
    "embedding-ignored",
    "The embedding leaves no trace in the output: the block does the same at every noise level.",
)
class GatedResBlock1d(_Gated):
    def told(self, x, emb):
        return x + 0 * self.emb(emb)[:, :, None]


@a_block.misconception(
    "embedding-broadcast",
    "The embedding (B, channels) is added as it is. torch lines shapes up from the last axis, so "
    "that it meets the samples, or crashes. It needs an axis of length 1 at its end.",
)
class GatedResBlock1d(_Gated):
    def told(self, x, emb):
        return x + self.emb(emb)


@a_block.misconception(
    "embedding-after-the-convolution",
    "You add the embedding behind the dilated convolution. It goes in before it, to x.",
    detect=crash_says(r"size of tensor a \(8\) must match.*tensor b \(4\)"),
)
class GatedResBlock1d(_Gated):
    def forward(self, x, emb, cond=None):
        h = self.dilated(self.pad(x)) + self.emb(emb)[:, :, None]
        h = self.out(self.gated(*self.halves(self.conditioned(h, cond))))
        return self.results(x, *h.chunk(2, dim=1))


@a_block.misconception(
    "silu-on-the-embedding",
    "You put a SiLU before self.emb, as the blocks of lesson 04 do. Here the network does that "
    "once, for all blocks.",
)
class GatedResBlock1d(_Gated):
    def told(self, x, emb):
        return x + self.emb(F.silu(emb))[:, :, None]


@a_block.misconception(
    "condition-ignored",
    "The condition leaves no trace in the output.",
)
class GatedResBlock1d(_Gated):
    def conditioned(self, h, cond):
        return h if cond is None else h + 0 * self.cond(cond)


@a_block.misconception(
    "condition-not-projected",
    "The condition is added as it is. It has channels of its own: self.cond makes as many of them "
    "as the gate needs.",
)
class GatedResBlock1d(_Gated):
    def conditioned(self, h, cond):
        return h if cond is None else h + cond


@a_block.misconception(
    "condition-demanded",
    "Without a condition your block crashes. cond may be None; then nothing is added.",
)
class GatedResBlock1d(_Gated):
    def conditioned(self, h, cond):
        return h + self.cond(cond)


@a_block.misconception(
    "condition-behind-the-gate",
    "You add the condition to what has passed the gate. It comes before: it shall also decide what "
    "passes.",
)
class GatedResBlock1d(_Gated):
    def forward(self, x, emb, cond=None):
        h = self.gated(*self.halves(self.dilated(self.pad(self.told(x, emb)))))
        if cond is not None:
            h = h + self.cond(cond)[:, : h.shape[1]]
        return self.results(x, *self.out(h).chunk(2, dim=1))


@a_block.alternative("padded by the convolution itself, and cut by number")
class GatedResBlock1d(GatedResBlock1d):
    def forward(self, x, emb, cond=None):
        c, d = x.shape[1], self.dilated.dilation[0]
        h = torch.nn.functional.conv1d(
            x + self.emb(emb).unsqueeze(-1), self.dilated.weight, self.dilated.bias,
            padding=d, dilation=d,
        )  # fmt: skip
        if self.cond is not None:
            h = h + self.cond(cond)
        h = self.out(h[:, :c].tanh() * h[:, c:].sigmoid())
        return (x + h[:, :c]) * 0.5**0.5, h[:, c:]


@a_block.alternative("split, and the gate by exponentials")
class GatedResBlock1d(GatedResBlock1d):
    def forward(self, x, emb, cond=None):
        shift = self.emb(emb)
        y = x + shift.reshape(*shift.shape, 1).expand_as(x)
        zeros = x.new_zeros(len(x), x.shape[1], self.dilation)
        h = self.dilated(torch.cat([zeros, y, zeros], dim=-1))
        h = h if cond is None else torch.add(h, self.cond(cond))
        a, b = torch.split(h, h.shape[1] // 2, dim=1)
        residual, skip = torch.tensor_split(self.out(a.tanh() / (1 + torch.exp(-b))), 2, dim=1)
        return torch.div(residual + x, 2**0.5), skip


# --- 11.4 ----------------------------------------------------------------------------------

a_unet = Answers("11.4")


@a_unet.reference
class UNet1d(nn.Module):
    def __init__(self, in_channels=1, channels=(32, 64, 64), patch=8, classes=None):
        super().__init__()
        self.time_dim, emb_dim = channels[0], 4 * channels[0]
        self.null = classes
        self.time_mlp = nn.Sequential(
            nn.Linear(self.time_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.conditioner = ClassConditioner(classes, emb_dim) if classes else None
        self.stem = PatchStem(patch, dims=1)
        self.conv_in = nn.Conv1d(patch * in_channels, channels[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, wide in enumerate(channels):
            if level:
                self.downsample.append(Downsample(width, dims=1))
                skips.append(width)
            self.down.append(ResBlock(width, wide, emb_dim, dims=1))
            width = wide
            skips.append(width)
        self.mid = nn.ModuleList([ResBlock(width, width, emb_dim, dims=1) for _ in range(2)])
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(reversed(channels)):
            if level:
                self.upsample.append(Upsample(width, dims=1))
            blocks = nn.ModuleList()
            for _ in range(2):
                blocks.append(ResBlock(width + skips.pop(), wide, emb_dim, dims=1))
                width = wide
            self.up.append(blocks)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv1d(width, patch * in_channels, 3, padding=1)

    def embed(self, x, t, cond):
        time = torch.as_tensor(t).to(x.dtype).expand(len(x))
        emb = self.time_mlp(timestep_embedding(1000 * time, self.time_dim))
        if self.conditioner is not None:
            cond = torch.full((len(x),), self.null) if cond is None else cond
            emb = emb + self.conditioner(cond)
        return emb

    def forward(self, x, t, cond=None):
        emb = self.embed(x, t, cond)
        h = self.conv_in(self.stem.fold(x))
        skips = [h]
        for level, block in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
                skips.append(h)
            h = block(h, emb)
            skips.append(h)
        for block in self.mid:
            h = block(h, emb)
        for level, blocks in enumerate(self.up):
            if level:
                h = self.upsample[level - 1](h, skips[-1].shape[2:])
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.stem.unfold(self.conv_out(F.silu(self.norm_out(h))), x.shape[2:])


class _Net(UNet1d):
    """The reference taken apart, so that each wrong network changes one step only."""

    def told(self, x, t, cond):
        return self.embed(x, t, cond)

    def begin(self, x):
        return self.conv_in(self.stem.fold(x))

    def way_down(self, h, emb):
        """(h, skips): a list of two for each level, what came in and what the block gave."""
        skips = []
        for level, block in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
            before = h
            h = block(h, emb)
            skips.append([before, h])
        return h, skips

    def middle(self, h, emb):
        for block in self.mid:
            h = block(h, emb)
        return h

    def order(self, skips):
        """The skips in the order in which the way up takes them."""
        return [skip for pair in reversed(skips) for skip in reversed(pair)]

    def join(self, h, skip):
        return torch.cat([h, skip], dim=1)

    def enlarge(self, up, h, skip):
        return up(h, skip.shape[2:])

    def way_up(self, h, skips, emb):
        skips = iter(self.order(skips))
        for level, blocks in enumerate(self.up):
            for i, block in enumerate(blocks):
                skip = next(skips)
                if level and not i:
                    h = self.enlarge(self.upsample[level - 1], h, skip)
                h = block(self.join(h, skip), emb)
        return h

    def finish(self, x, h):
        return self.stem.unfold(self.conv_out(F.silu(self.norm_out(h))), x.shape[2:])

    def forward(self, x, t, cond=None):
        emb = self.told(x, t, cond)
        h, skips = self.way_down(self.begin(x), emb)
        return self.finish(x, self.way_up(self.middle(h, emb), skips, emb))


@a_unet.misconception(
    "skips-from-the-front",
    "The way up takes the skips in the order in which they were made, the finest first. It starts "
    "at the coarsest level: the last one made is the first one needed.",
    detect=crash_says(r"Sizes of tensors must match.*Expected size 10 but got size 37"),
)
class UNet1d(_Net):
    def order(self, skips):
        return [skip for pair in skips for skip in pair]


@a_unet.misconception(
    "skips-swapped-within-a-level",
    "The levels are right, but within a level the two skips have changed places: the first block "
    "of the way up takes what the block of the way down gave, the second what came in there.",
    detect=lambda got, expected, cases: _norm_complains(of_calls(got, cases), "more"),
)
class UNet1d(_Net):
    def order(self, skips):
        return [skip for pair in reversed(skips) for skip in pair]


@a_unet.misconception(
    "one-skip-lost",
    "One skip a level never arrives: the second block of each level gets h twice, in place of h "
    "and a skip.",
)
class UNet1d(_Net):
    def way_up(self, h, skips, emb):
        for level, (blocks, pair) in enumerate(zip(self.up, reversed(skips))):
            if level:
                h = self.enlarge(self.upsample[level - 1], h, pair[1])
            h = blocks[0](torch.cat([h, pair[1]], dim=1), emb)
            wide = self._wide(blocks[1]) - h.shape[1]
            h = blocks[1](torch.cat([h, h.repeat(1, 2, 1)[:, :wide]], dim=1), emb)
        return h

    def _wide(self, block):
        return block.conv1.in_channels


@a_unet.misconception(
    "one-skip-a-level",
    "You keep one skip for each level, what its block gives, but take two. What conv_in gives and "
    "what each downsampling gives are skips as well.",
    detect=crash_says(r"Sizes of tensors must match.*Expected size 10 but got size 19"),
)
class UNet1d(_Net):
    def order(self, skips):
        return [after for _, after in reversed(skips)]


@a_unet.misconception(
    "first-skip-not-kept",
    "The list of skips is empty before the last block has its own. What conv_in gives is the first "
    "of them: append it before the way down begins.",
    detect=crash_says(r"pop from empty list"),
)
class UNet1d(_Net):
    def way_up(self, h, skips, emb):
        left = self.order(skips)[:-1][::-1]
        for level, blocks in enumerate(self.up):
            if level:
                h = self.enlarge(self.upsample[level - 1], h, left[-1])
            for block in blocks:
                h = block(self.join(h, left.pop()), emb)
        return h


@a_unet.misconception(
    "skips-added",
    "You add the skips. The blocks of the way up expect them beside h, as further channels.",
    detect=lambda got, expected, cases: _norm_complains(of_calls(got, cases), "half"),
)
class UNet1d(_Net):
    def join(self, h, skip):
        return h[:, : skip.shape[1]] + skip[:, : h.shape[1]]


@a_unet.misconception(
    "batch-axis",
    "The skips are joined along the batch (axis 0): twice as many sounds in place of more "
    "channels. Channels are axis 1.",
    detect=lambda got, expected, cases: _norm_complains(of_calls(got, cases), "batch"),
)
class UNet1d(_Net):
    def join(self, h, skip):
        return torch.cat([h, skip], dim=0)


@a_unet.misconception(
    "time-axis",
    "The skips are joined along the time (the last axis): a sound twice as long. Channels are "
    "axis 1.",
    detect=lambda got, expected, cases: _norm_complains(of_calls(got, cases), "long"),
)
class UNet1d(_Net):
    def join(self, h, skip):
        return torch.cat([h, skip], dim=2)


def _norm_complains(got, of):
    """Whether every call ends with a norm whose complaint about its input shows this mistake."""
    found = [re.search(r"input of shape \[(\d+), (\d+), (\d+)\]", o.message) for o in got]
    # The first case: 2 sounds of 37 samples; 12 channels, 10 places at the coarsest level.
    return (
        all(found)
        and found[0].group(0).removeprefix("input of shape ")
        == {
            "more": "[2, 20, 19]",
            "half": "[2, 12, 10]",
            "batch": "[4, 12, 10]",
            "long": "[2, 12, 20]",
        }[of]
    )


@a_unet.misconception(
    "skip-first",
    "The two halves have changed places: h comes first, then the skip.",
)
class UNet1d(_Net):
    def join(self, h, skip):
        return torch.cat([skip, h], dim=1)


@a_unet.misconception(
    "always-doubles",
    "You make every level twice as long as the coarser one. 37 places become 19, and twice 19 is "
    "38: take the length from the skip that comes next.",
)
class UNet1d(_Net):
    def enlarge(self, up, h, skip):
        return up(h, (2 * h.shape[2],))


@a_unet.misconception(
    "length-as-a-number",
    "You give Upsample (or unfold) the length as a number. Both take a size as shapes are written, "
    "with one entry for each axis of places: here a tuple of one.",
    detect=crash_says(r"'int' object is not (iterable|subscriptable)"),
)
class UNet1d(_Net):
    def enlarge(self, up, h, skip):
        return up(h, skip.shape[-1])


@a_unet.misconception(
    "crops",
    "You make every level twice as long and cut off what is too much. The end then comes from a "
    "place that does not exist: give Upsample the length of the skip.",
)
class UNet1d(_Net):
    def enlarge(self, up, h, skip):
        return up(h, (2 * h.shape[2],))[:, :, : skip.shape[2]]


@a_unet.misconception(
    "not-folded",
    "x goes to conv_in as it is. With patches the convolution expects `patch` samples of each "
    "channel at each place: self.stem.fold makes them.",
)
class UNet1d(_Net):
    def begin(self, x):
        return self.conv_in(x)


@a_unet.misconception(
    "not-unfolded",
    "The output is still folded: patches stand where channels belong, and the length is that of "
    "the folded sound. self.stem.unfold brings it back.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.conv_out(F.silu(self.norm_out(h)))


@a_unet.misconception(
    "unfolded-to-whole-patches",
    "The output is as long as a whole number of patches. Zeros that fold had added come back as "
    "samples: unfold to the size that x had.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.stem.unfold(
            self.conv_out(F.silu(self.norm_out(h))), (h.shape[2] * self.stem.patch,)
        )


@a_unet.misconception(
    "unfolded-to-the-folded-length",
    "You unfold to the length that h has, which counts patches. The output has to be as long as x "
    "was.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.stem.unfold(self.conv_out(F.silu(self.norm_out(h))), h.shape[2:])


@a_unet.misconception(
    "labels-ignored",
    "The labels leave no trace in the output: cond does not reach self.embed.",
)
class UNet1d(_Net):
    def told(self, x, t, cond):
        return self.embed(x, t, None)


@a_unet.misconception(
    "one-time-for-all",
    "All sounds of the batch get the time of the first. Each has its own.",
)
class UNet1d(_Net):
    def told(self, x, t, cond):
        return self.embed(x, t[:1], cond)


@a_unet.misconception(
    "middle-left-out",
    "The two blocks in the middle are never used: the way up starts right where the way down ends.",
)
class UNet1d(_Net):
    def middle(self, h, emb):
        return h


@a_unet.misconception(
    "half-of-the-middle",
    "Only one of the two blocks in the middle is used.",
)
class UNet1d(_Net):
    def middle(self, h, emb):
        return self.mid[0](h, emb)


@a_unet.misconception(
    "no-norm-at-the-end",
    "The last convolution gets h as it is. A normalisation and a SiLU come before it.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.stem.unfold(self.conv_out(h), x.shape[2:])


@a_unet.misconception(
    "no-silu-at-the-end",
    "Between the last normalisation and the last convolution the SiLU is missing.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.stem.unfold(self.conv_out(self.norm_out(h)), x.shape[2:])


@a_unet.misconception(
    "silu-before-the-norm",
    "At the end the SiLU comes before the normalisation. It is the other way round: norm_out, "
    "SiLU, conv_out.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return self.stem.unfold(self.conv_out(self.norm_out(F.silu(h))), x.shape[2:])


@a_unet.misconception(
    "silu-on-the-embedding",
    "You send what embed gives through a SiLU. Each block has its own for that: hand the embedding "
    "on as it is.",
)
class UNet1d(_Net):
    def told(self, x, t, cond):
        return F.silu(self.embed(x, t, cond))


@a_unet.misconception(
    "adds-the-input",
    "You add x to the output. What is predicted, noise or v, is no correction to x: the network "
    "returns it as it is.",
)
class UNet1d(_Net):
    def finish(self, x, h):
        return x + super().finish(x, h)


@a_unet.alternative("recursion into the coarser levels")
class UNet1d(UNet1d):
    def forward(self, x, t, cond=None):
        emb = self.embed(x, t, cond)
        deepest = len(self.down) - 1

        def level(i, a):
            b = self.down[i](a, emb)
            if i == deepest:
                h = self.mid[1](self.mid[0](b, emb), emb)
            else:
                h = level(i + 1, self.downsample[i](b))
                h = self.upsample[deepest - i - 1](h, b.shape[2:])
            first, second = self.up[deepest - i]
            return second(torch.hstack([first(torch.hstack([h, b]), emb), a]), emb)

        h = level(0, self.conv_in(self.stem.fold(x)))
        return self.stem.unfold(self.conv_out(nn.functional.silu(self.norm_out(h))), x.shape[-1:])


@a_unet.alternative("a stack of skips, with names")
class UNet1d(UNet1d):
    def forward(self, x, t, cond=None):
        size, embedding = tuple(x.shape[2:]), self.embed(x, t, cond)
        kept = [self.conv_in(self.stem.fold(x))]
        for i in range(len(self.down)):
            if i > 0:
                kept += [self.downsample[i - 1](kept[-1])]
            kept += [self.down[i](kept[-1], embedding)]
        h = self.mid[0](kept[-1], embedding)
        h = self.mid[1](h, embedding)
        for i in range(len(self.up)):
            if i > 0:
                h = self.upsample[i - 1](h, size=tuple(kept[-1].shape[2:]))
            for j in (0, 1):
                h = self.up[i][j](torch.cat((h, kept.pop(-1)), 1), embedding)
        h = self.norm_out(h)
        return self.stem.unfold(self.conv_out(h * torch.sigmoid(h)), size)


# --- 11.5 ----------------------------------------------------------------------------------

a_shift = Answers("11.5")


@a_shift.reference
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + dims * math.log(base_length / length)


@a_shift.misconception(
    "wrong-way",
    "Longer sounds get less noise in yours. The more samples say the same, the more noise it takes "
    "to hide it: log SNR has to go down where length is above base_length.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + dims * math.log(length / base_length)


@a_shift.misconception(
    "that-of-pictures",
    "You shift by twice the logarithm, as the paper does for pictures: a picture is larger in two "
    "directions at once. Sound has one.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + 2 * math.log(base_length / length)


@a_shift.misconception(
    "dims-ignored",
    "dims makes no difference in yours. A picture twice as wide and high has four times as many "
    "pixels.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + math.log(base_length / length)


@a_shift.misconception(
    "no-logarithm",
    "You add the ratio itself. It is a factor of the SNR, and log SNR is a logarithm: there a "
    "factor becomes a summand, its logarithm.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + (base_length / length) ** dims


@a_shift.misconception(
    "multiplied",
    "You multiply log SNR by the ratio. The SNR is multiplied by it; its logarithm gets a summand.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr * (base_length / length) ** dims


@a_shift.misconception(
    "log10",
    "The logarithm is to base 10. log SNR is a natural one.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + dims * math.log10(base_length / length)


@a_shift.misconception(
    "log2",
    "The logarithm is to base 2, as if counting octaves. log SNR is a natural one.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + dims * math.log2(base_length / length)


@a_shift.misconception(
    "amplitude",
    "You shift by half of it: that is the logarithm of a ratio of amplitudes. The SNR is a ratio "
    "of powers, and it is variances that averaging divides.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + dims * math.log(base_length / length) / 2


@a_shift.misconception(
    "decibels",
    "The shift is in decibels, 10 log10 of the ratio. log SNR is a plain natural logarithm.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + 10 * dims * math.log10(base_length / length)


@a_shift.misconception(
    "logarithm-to-the-power-of-dims",
    "You raise the logarithm to the power of dims. It is the ratio that has the power; in the "
    "logarithm that is a factor. (A square of a logarithm also loses its sign.)",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + math.log(base_length / length) ** dims


@a_shift.misconception(
    "one-side-to-the-power-of-dims",
    "Only one of the two lengths has the power of dims: ** comes before /. It is the ratio of both "
    "that counts along each axis.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + math.log(base_length / length**dims)


@a_shift.misconception(
    "divided-by-dims",
    "You divide by dims. A picture twice as wide and high has more values than a sound twice as "
    "long, not fewer: the shift grows with every axis.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr + math.log(base_length / length) / dims


@a_shift.misconception(
    "changed-in-place",
    "log_snr itself is changed (an operation like +=). Whoever still has the schedule finds "
    "another one there.",
)
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr.add_(dims * math.log(base_length / length))


@a_shift.alternative("on the SNR itself")
def shift_schedule(log_snr, length, base_length, dims=1):
    ratio = torch.tensor(base_length / length, dtype=torch.float64) ** dims
    return (log_snr.double() + ratio.log()).to(log_snr.dtype)


@a_shift.alternative("a difference of logarithms")
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr - dims * float(np.log(length)) + dims * float(np.log(base_length))


@a_shift.alternative("a logarithm by torch, in float32")
def shift_schedule(log_snr, length, base_length, dims=1):
    return log_snr - dims * torch.log(torch.tensor(length / base_length))


# --- 11.6 ----------------------------------------------------------------------------------

a_loud = Answers("11.6")


@a_loud.reference
def loudness_normalise(x, target_db):
    rms = x.square().mean(-1, keepdim=True).sqrt()
    gain = 10 ** (target_db / 20) / rms
    return torch.where(rms > 0, x * gain, x)


def _to(x, target_db, level, factor=20.0):
    """x scaled so that ``level(x)`` is the target; silence stays."""
    now = level(x)
    return torch.where(now > 0, x * (10 ** (target_db / factor) / now), x)


def _rms(x):
    return x.square().mean(-1, keepdim=True).sqrt()


@a_loud.misconception(
    "ten-for-twenty",
    "Your target is 10 ** (dB / 10), a power. RMS is an amplitude, whose square is power: 20 dB, "
    "not 10, are a factor of ten.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, _rms, 10.0)


@a_loud.misconception(
    "peak",
    "You bring the peak to target_db, not the RMS. One tall sample then decides how loud a sound "
    "is; the ear goes by something like the mean power.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.abs().amax(-1, keepdim=True))


@a_loud.misconception(
    "mean-of-absolute-values",
    "You take the mean of the absolute values. RMS is the root of the mean of the squares: loud "
    "moments count more in it.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.abs().mean(-1, keepdim=True))


@a_loud.misconception(
    "no-root",
    "You divide by the mean square; its root is missing. A clip twice as loud then comes out half "
    "as loud.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.square().mean(-1, keepdim=True))


@a_loud.misconception(
    "sum-for-mean",
    "You sum the squares without dividing by their number (as a norm does): long clips come out "
    "quieter than short ones.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.norm(dim=-1, keepdim=True))


@a_loud.misconception(
    "standard-deviation",
    "You use the standard deviation, which takes the mean away first. RMS counts all that is "
    "there, a constant as well.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.std(-1, keepdim=True, correction=0))


@a_loud.misconception(
    "one-for-all",
    "One RMS is taken of all clips together. Quiet clips stay quieter than loud ones: take the "
    "mean over the last axis only.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.square().mean().sqrt())


@a_loud.misconception(
    "channels-together",
    "The mean runs over all axes but the first. It is each row of the last axis that is to be "
    "brought to the level.",
)
def loudness_normalise(x, target_db):
    return _to(
        x,
        target_db,
        lambda x: x.square().mean(tuple(range(min(1, x.ndim - 1), x.ndim)), True).sqrt(),
    )


@a_loud.misconception(
    "over-the-batch",
    "The mean runs over the first axis, the clips, and not over the samples: each moment in time "
    "gets a factor of its own.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.square().mean(0, keepdim=True).sqrt())


@a_loud.misconception(
    "gain-not-level",
    "You make every clip louder by target_db. It is to be brought *to* target_db: how loud it is "
    "has to be measured.",
)
def loudness_normalise(x, target_db):
    return x * 10 ** (target_db / 20)


@a_loud.misconception(
    "upside-down",
    "Your factor is upside down: what is too quiet becomes quieter still. The wanted RMS goes "
    "above the line, the one that is there below.",
)
def loudness_normalise(x, target_db):
    rms = _rms(x)
    return torch.where(rms > 0, x * rms / 10 ** (target_db / 20), x)


@a_loud.misconception(
    "unit-level",
    "Every clip comes out with an RMS of 1, whatever target_db is.",
)
def loudness_normalise(x, target_db):
    return _to(x, 0.0, _rms)


@a_loud.misconception(
    "silence-is-nan",
    "A silent clip becomes NaN: 0 / 0. One such clip in a batch and the loss of the whole batch is "
    "NaN. Silence has to stay silence.",
)
def loudness_normalise(x, target_db):
    return x * (10 ** (target_db / 20) / _rms(x))


def _quiet_too_quiet(got, expected, cases):
    """Whether clips come out right to 1 %, but for those hardly audible, which are too quiet."""
    for o, e, case in zip(got, expected, cases):
        same = o.status == "ok" and isinstance(o.value, torch.Tensor)
        if not same or o.value.shape != e.value.shape or o.mutated:
            return False
        if case.name != "hardly audible":
            if not torch.allclose(o.value.double(), e.value.double(), rtol=0.01):
                return False
            continue
        factor = (o.value / e.value).double()
        if bool((factor > 0.999).any() or (factor < 0).any() or (factor.std(-1) > 1e-3).any()):
            return False
    return True


@a_loud.misconception(
    "too-large-an-epsilon",
    "You add a small number to the RMS against a division by 0 (or under its root), or give it a "
    "least value. That is not small beside a quiet clip, which comes out too quiet: look for "
    "silence itself.",
    detect=_quiet_too_quiet,
)
def loudness_normalise(x, target_db):
    return x * (10 ** (target_db / 20) / (_rms(x) + 1e-4))


@a_loud.misconception(
    "axis-not-kept",
    "Your factors have lost the last axis: torch lines shapes up from the end, so that they meet "
    "samples, not clips. keepdim=True keeps an axis of length 1 there.",
    detect=lambda got, expected, cases: (
        got[0].status == "ok"
        and bool(
            re.search(r"\((77|3)\) must match the size of tensor b \((77|3)\)", got[1].message)
        )
    ),
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, lambda x: x.square().mean(-1).sqrt())


@a_loud.misconception(
    "ten-for-the-level",
    "The level that you measure is 10 log10 of the RMS. RMS is an amplitude: 20 log10. (10 goes "
    "with the mean square, which is a power.)",
)
def loudness_normalise(x, target_db):
    rms = _rms(x)
    gain = 10 ** ((target_db - 10 * torch.log10(rms)) / 20)
    return torch.where(rms > 0, x * gain, x)


@a_loud.misconception(
    "one-silent-and-all-stay",
    "If one clip of the batch is silent, all stay as they are. Each clip has its own answer: "
    "torch.where chooses row by row.",
)
def loudness_normalise(x, target_db):
    return x if bool((_rms(x) == 0).any()) else _to(x, target_db, _rms)


@a_loud.misconception(
    "if-for-a-batch",
    "`if` asks one question, and a batch has as many answers as clips: torch cannot choose. "
    "torch.where takes from one of two, row by row.",
    detect=lambda got, expected, cases: "Boolean value of Tensor with more" in got[1].message,
)
def loudness_normalise(x, target_db):
    rms = _rms(x)
    return x if rms == 0 else x * (10 ** (target_db / 20) / rms)


@a_loud.misconception(
    "clips",
    "You limit the result to [-1, 1]. That changes its level and distorts it. What target_db asks "
    "for may go beyond 1.",
)
def loudness_normalise(x, target_db):
    return _to(x, target_db, _rms).clamp(-1, 1)


@a_loud.misconception(
    "x-changed-in-place",
    "x itself is changed (an operation like *= or mul_). Whoever still has the clip finds it at "
    "another level.",
)
def loudness_normalise(x, target_db):
    rms = _rms(x)
    return x.mul_(torch.where(rms > 0, 10 ** (target_db / 20) / rms, 1.0))


@a_loud.alternative("in decibels")
def loudness_normalise(x, target_db):
    level = 10 * torch.log10(x.pow(2).mean(dim=-1))
    gain = torch.pow(10.0, (target_db - level) / 20)
    gain = torch.where(torch.isinf(level), torch.zeros_like(gain), gain).to(x.dtype)
    return x * gain.unsqueeze(-1)


@a_loud.alternative("by the norm, and one clip at a time")
def loudness_normalise(x, target_db):
    rows = x.reshape(-1, x.shape[-1])
    out = torch.zeros_like(rows)
    for i, row in enumerate(rows):
        rms = float(row.double().norm()) / len(row) ** 0.5
        if rms:
            out[i] = row * (10 ** (target_db / 20) / rms)
    return out.reshape(x.shape)


@a_loud.alternative("a tiny number against a division by 0")
def loudness_normalise(x, target_db):
    return x * 10 ** (target_db / 20) / (x.pow(2).mean(-1, keepdim=True).sqrt() + 1e-8)


@a_loud.alternative("normalised by torch")
def loudness_normalise(x, target_db):
    return F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) * 10 ** (target_db / 20)


# --- 11.7 ----------------------------------------------------------------------------------

a_loop = Answers("11.7")


@a_loop.reference
def drum_loop(samples, pattern, bpm, rate):
    step = 60 / bpm / 4 * rate
    steps = len(next(iter(pattern.values())))
    first = next(iter(samples.values()))
    bar = torch.zeros(round(steps * step), dtype=first.dtype)
    for name, row in pattern.items():
        for i, mark in enumerate(row):
            if mark == "x":
                start = round(i * step)
                hit = samples[name][: len(bar) - start]
                bar[start : start + len(hit)] += hit
    return bar / max(1.0, float(bar.abs().max()))


class _Bar:
    """The reference taken apart, so that each wrong answer changes one step only."""

    @staticmethod
    def step(bpm, rate):
        return 60 / bpm / 4 * rate

    @staticmethod
    def start(i, step):
        return round(i * step)

    @staticmethod
    def total(steps, step):
        return round(steps * step)

    @staticmethod
    def add(bar, start, hit):
        hit = hit[: max(0, len(bar) - start)]
        bar[start : start + len(hit)] += hit

    @staticmethod
    def level(bar):
        return bar / max(1.0, float(bar.abs().max()))


def _loop(**steps):
    """``drum_loop`` with other steps."""
    do = type("Bar", (_Bar,), {k: staticmethod(v) for k, v in steps.items()})

    def drum_loop(samples, pattern, bpm, rate):
        step = do.step(bpm, rate)
        count = len(next(iter(pattern.values())))
        kind = next(iter(samples.values())).dtype
        bar = torch.zeros(do.total(count, step), dtype=kind)
        for name, row in pattern.items():
            for i, mark in enumerate(row):
                if mark == "x":
                    do.add(bar, do.start(i, step), samples[name])
        return do.level(bar)

    return {"drum_loop": drum_loop}


def _wrong_loop(name, says, **steps):
    a_loop.misconception(name, says, defines=_loop(**steps))


def _overwrite(bar, start, hit):
    hit = hit[: max(0, len(bar) - start)]
    bar[start : start + len(hit)] = hit


def _wrap(bar, start, hit):
    places = (start + torch.arange(len(hit))) % len(bar)
    bar.index_add_(0, places, hit)


def _drop_if_long(bar, start, hit):
    if start + len(hit) <= len(bar):
        bar[start : start + len(hit)] += hit


_wrong_loop(
    "one-step-late",
    "Every hit comes one step too late, as if the first step began at 1. It begins at the first "
    "sample of the bar.",
    start=lambda i, step: round((i + 1) * step),
)
_wrong_loop(
    "a-beat-for-a-step",
    "Your steps are as long as a beat, 60 / bpm seconds. A beat has four steps.",
    step=lambda bpm, rate: 60 / bpm * rate,
)
_wrong_loop(
    "a-sixteenth-of-a-beat",
    "You divide a beat by 16. It is the bar, four beats, that has 16 steps.",
    step=lambda bpm, rate: 60 / bpm / 16 * rate,
)
_wrong_loop(
    "two-steps-a-beat",
    "You put two steps into a beat (eighth notes). Four are asked for: sixteenth notes.",
    step=lambda bpm, rate: 60 / bpm / 2 * rate,
)
_wrong_loop(
    "bpm-upside-down",
    "bpm / 60 are beats a second. You need seconds a beat: the faster the music, the shorter the "
    "step.",
    step=lambda bpm, rate: bpm / 60 / 4 * rate,
)
_wrong_loop(
    "step-rounded-first",
    "You round the length of a step to whole samples, and multiply afterwards. The error grows "
    "from step to step; in a longer loop the drums drift away from the beat. Multiply first.",
    step=lambda bpm, rate: round(60 / bpm / 4 * rate),
)
_wrong_loop(
    "rounded-down",
    "You cut off the fraction of a start (int, //) where it is to be rounded to the nearest "
    "sample.",
    start=lambda i, step: int(i * step),
    total=lambda steps, step: int(steps * step),
)
_wrong_loop(
    "overwrites",
    "A hit replaces what was there: of two drums at once one is heard, and tails are cut off. "
    "Sounds add up.",
    add=_overwrite,
)
_wrong_loop(
    "tail-wraps",
    "The tail of a hit near the end comes in at the beginning. In a loop that plays on and on it "
    "would be right; asked for is one bar, in which it is cut off.",
    add=_wrap,
)
_wrong_loop(
    "long-hits-dropped",
    "A hit whose tail reaches beyond the end of the bar is left out. Keep the part that fits.",
    add=_drop_if_long,
)
_wrong_loop(
    "clips",
    "You cut off what lies beyond 1. That is heard as distortion. Divide the whole bar by its "
    "largest absolute value.",
    level=lambda bar: bar.clamp(-1, 1),
)
_wrong_loop(
    "squashed",
    "You send the mix through tanh. That keeps it within 1, but distorts it, quiet parts as well. "
    "Divide the whole bar by its largest absolute value where that is above 1.",
    level=torch.tanh,
)
_wrong_loop(
    "too-loud",
    "The mix goes beyond 1: a player cuts it off there. Divide the whole bar by its largest "
    "absolute value.",
    level=lambda bar: bar,
)
_wrong_loop(
    "always-loudest",
    "Every bar is scaled until it reaches 1, quiet ones too. Only a bar that goes beyond 1 is to "
    "be scaled.",
    level=lambda bar: bar / bar.abs().max().clamp(min=1e-9),
)
_wrong_loop(
    "rests-are-nan",
    "You divide every bar by its largest absolute value: quiet bars become loud, and a bar of "
    "rests is NaN, 0 / 0. Only a bar that goes beyond 1 is to be scaled.",
    level=lambda bar: bar / bar.abs().max(),
)
_wrong_loop(
    "largest-without-abs",
    "You look for the largest value, not for the largest absolute value. The mix may reach further "
    "below zero than above.",
    level=lambda bar: bar / max(1.0, float(bar.max())),
)


def _not_cut(bar, start, hit):
    bar[start : start + len(hit)] += hit


_wrong_loop(
    "tail-does-not-fit",
    "Near the end a hit is longer than what is left of the bar, and two lengths that differ cannot "
    "be added. A slice of the bar ends where the bar does: cut the hit to that, too.",
    add=_not_cut,
)


@a_loop.misconception(
    "goes-through-the-samples",
    "You go through the samples and look each up in the pattern. There may be samples that the "
    "pattern does not name: go through the pattern.",
)
def drum_loop(samples, pattern, bpm, rate):
    rows = {name: pattern[name] for name in samples}
    return _loop()["drum_loop"](samples, rows, bpm, rate)


@a_loop.misconception(
    "always-four-beats",
    "You divide four beats into as many steps as the pattern has. A step is a quarter of a beat, "
    "whatever their number: a pattern of 12 steps is three beats long.",
)
def drum_loop(samples, pattern, bpm, rate):
    count = len(next(iter(pattern.values())))
    return _loop(step=lambda bpm, rate: 4 * 60 / bpm * rate / count)["drum_loop"](
        samples, pattern, bpm, rate
    )


@a_loop.misconception(
    "longer-than-the-bar",
    "Your bar goes on until the last tail has died away. Played again and again, it would lose the "
    "beat: it has to end where the next bar begins.",
)
def drum_loop(samples, pattern, bpm, rate):
    step = _Bar.step(bpm, rate)
    count = len(next(iter(pattern.values())))
    longest = max(len(v) for v in samples.values())
    bar = torch.zeros(round(count * step) + longest, dtype=next(iter(samples.values())).dtype)
    for name, row in pattern.items():
        for i, mark in enumerate(row):
            if mark == "x":
                _Bar.add(bar, _Bar.start(i, step), samples[name])
    return _Bar.level(bar)


@a_loop.misconception(
    "averaged",
    "You divide the mix by the number of drums: the more of them there are, the quieter each "
    "becomes, even where only one plays. Add, and scale only what goes beyond 1.",
)
def drum_loop(samples, pattern, bpm, rate):
    bar = _loop(level=lambda bar: bar)["drum_loop"](samples, pattern, bpm, rate)
    return _Bar.level(bar / len(pattern))


@a_loop.misconception(
    "scaled-hit-by-hit",
    "You scale whenever a hit makes the mix too loud, in the middle of the work: what was there "
    "becomes quieter, what comes later does not. Scale once, at the very end.",
)
def drum_loop(samples, pattern, bpm, rate):
    def add(bar, start, hit):
        _Bar.add(bar, start, hit)
        bar /= max(1.0, float(bar.abs().max()))

    return _loop(add=add)["drum_loop"](samples, pattern, bpm, rate)


@a_loop.misconception(
    "choked",
    "A drum's new hit silences its last one. A hit rings on while the next begins.",
)
def drum_loop(samples, pattern, bpm, rate):
    step = _Bar.step(bpm, rate)
    count = len(next(iter(pattern.values())))
    kind = next(iter(samples.values())).dtype
    mix = torch.zeros(round(count * step), dtype=kind)
    for name, row in pattern.items():
        mine = torch.zeros_like(mix)
        for i, mark in enumerate(row):
            if mark == "x":
                mine[round(i * step) :] = 0
                _Bar.add(mine, round(i * step), samples[name])
        mix += mine
    return _Bar.level(mix)


@a_loop.misconception(
    "first-hit-only",
    "Each drum plays once: you look for the first x of its row (find, index) and stop. Go through "
    "all of the row.",
)
def drum_loop(samples, pattern, bpm, rate):
    once = {
        name: "".join(m if i == row.find("x") else "." for i, m in enumerate(row))
        for name, row in pattern.items()
    }
    return _loop()["drum_loop"](samples, once, bpm, rate)


@a_loop.misconception(
    "always-sixteen",
    "Your bar always has 16 steps. Take their number from the pattern.",
)
def drum_loop(samples, pattern, bpm, rate):
    longer = {name: (row + "." * 16)[:16] for name, row in pattern.items()}
    return _loop()["drum_loop"](samples, longer, bpm, rate)


@a_loop.misconception(
    "float32-always",
    "The values are right, but float64 samples are mixed in float32: torch.zeros makes float32 "
    "where it is not told otherwise. Give it the dtype of the samples.",
)
def drum_loop(samples, pattern, bpm, rate):
    return _loop()["drum_loop"]({k: v.float() for k, v in samples.items()}, pattern, bpm, rate)


@a_loop.alternative("a row of ones, convolved with the sample")
def drum_loop(samples, pattern, bpm, rate):
    step = rate * 15 / bpm
    length = round(len(next(iter(pattern.values()))) * step)
    kind = next(iter(samples.values())).dtype
    bar = torch.zeros(length, dtype=torch.float64)
    for name, row in pattern.items():
        ticks = torch.zeros(length, dtype=torch.float64)
        ticks[[round(i * step) for i, c in enumerate(row) if c == "x"]] = 1
        hit = samples[name].double()
        bar += F.conv1d(F.pad(ticks, (len(hit) - 1, 0))[None, None], hit.flip(0)[None, None])[0, 0]
    peak = bar.abs().max()
    return (bar / peak if peak > 1 else bar).to(kind)


@a_loop.alternative("with a tail that is cut off at the end")
def drum_loop(samples, pattern, bpm, rate):
    beat = 60.0 * rate / bpm
    steps = max(map(len, pattern.values()))
    end = round(steps * beat / 4)
    room = max(map(len, samples.values()))
    mix = torch.zeros(end + room + 1, dtype=next(iter(samples.values())).dtype)
    for i in range(steps):
        at = round(i * beat / 4)
        for name in pattern:
            if pattern[name][i] == "x":
                mix[at : at + len(samples[name])] += samples[name]
    mix = mix[:end]
    return mix / torch.clamp(mix.abs().max(), min=1)
