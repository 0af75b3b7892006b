"""Answers of lesson 12: references, named mistakes with what to say about them, alternatives."""

import math
import re

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers


def first_says(pattern):
    """A ``detect`` for mistakes that crash in the first case with a message like this."""

    def detect(got, expected, cases):
        return got[0].status == "error" and bool(re.search(pattern, got[0].message))

    return detect


# --- 12.1 ----------------------------------------------------------------------------------

a_stft = Answers("12.1")


@a_stft.reference
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if window is None:
        window = torch.hann_window(n_fft, dtype=x.dtype)
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, n_fft // 2), mode="reflect")
    frames = flat[:, 0].unfold(-1, n_fft, hop) * window
    found = torch.fft.rfft(frames).abs().transpose(-1, -2)
    return found.reshape(*x.shape[:-1], *found.shape[-2:])


def _stft(x, n_fft, hop, window=None, center=True, mode="reflect", fft=torch.fft.rfft, size=abs):
    """The reference with its choices laid open."""
    window = torch.hann_window(n_fft, dtype=x.dtype) if window is None else window
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, n_fft // 2), mode=mode)
    found = size(fft(flat[:, 0].unfold(-1, n_fft, hop) * window)).transpose(-1, -2)
    return found.reshape(*x.shape[:-1], *found.shape[-2:])


@a_stft.misconception(
    "no-window",
    "The frames are cut out and transformed as they are. A frame's sharp edges are no part of the "
    "sound, but the transform hears them: every tone leaks into all other bins. Multiply by the "
    "window first.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, torch.ones(n_fft, dtype=x.dtype), center)


@a_stft.misconception(
    "symmetric-window",
    "Your Hann window is symmetric: its first and its last value are both 0. For spectra the "
    "periodic one is used, whose next value would be 0 again, so that shifted windows add up to a "
    "constant. (torch.hann_window makes the periodic one; np.hanning the symmetric one.)",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if window is None:
        window = torch.hann_window(n_fft, periodic=False, dtype=x.dtype)
    return _stft(x, n_fft, hop, window, center)


@a_stft.misconception(
    "hamming-window",
    "Your window is Hamming's, which does not reach 0 at its ends. Asked for is the Hann window.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if window is None:
        window = torch.hamming_window(n_fft, dtype=x.dtype)
    return _stft(x, n_fft, hop, window, center)


@a_stft.misconception(
    "window-ignored",
    "A window that is given makes no difference: yours is always the Hann window.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, None, center)


@a_stft.misconception(
    "float32-window",
    "The window is made in float32, so that a float64 sound gets spectra with the digits of "
    "float32. torch.hann_window takes a dtype: give it that of x.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    window = torch.hann_window(n_fft) if window is None else window
    return _stft(x, n_fft, hop, window, center)


@a_stft.misconception(
    "power",
    "You give the power, which is the magnitude squared. Both are in use: what is asked for "
    "doubles when the sound gets twice as loud.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center).square()


@a_stft.misconception(
    "real-part-only",
    "You take the size of the real part. A tone that falls into a frame a quarter of a period "
    "later has all of itself in the imaginary part: the magnitude takes both, as the length of "
    "an arrow.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center, size=lambda z: z.real.abs())


@a_stft.misconception(
    "two-sided",
    "You have n_fft bins. For a real sound the upper half mirrors the lower one and says nothing "
    "new: keep the bins from 0 to half the rate, n_fft // 2 + 1 of them.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center, fft=torch.fft.fft)


@a_stft.misconception(
    "last-bin-missing",
    "You keep n_fft // 2 bins: the one at half the rate is missing. From 0 to half the rate, both "
    "included, there is one more.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center)[..., :-1, :]


@a_stft.misconception(
    "not-centred",
    "Your first frame begins at the first sample. With center=True it has its middle there, so "
    "half a frame of mirrored sound has to be put before the beginning and behind the end.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, False)


@a_stft.misconception(
    "always-centred",
    "center=False makes no difference: you put mirrored sound at the ends all the same.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, True)


@a_stft.misconception(
    "zeros-at-the-ends",
    "You put zeros at the ends, and the sound then seems to start and stop with a jump. Asked for "
    "is the sound itself, mirrored (pad_mode reflect).",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center, mode="constant")


@a_stft.misconception(
    "only-the-beginning-mirrored",
    "You put mirrored sound before the beginning, and none behind the end. The last frames, whose "
    "middle is near the end, are then missing. Both ends need half a frame.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, 0), mode="reflect")
    found = _stft(flat[:, 0], n_fft, hop, window, False)
    return found.reshape(*x.shape[:-1], *found.shape[-2:])


@a_stft.misconception(
    "end-repeated",
    "Your mirror stands behind the end sample, which so comes twice. It has to stand on it: the "
    "first mirrored sample is the neighbour of the end.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if center:
        half = n_fft // 2
        x = torch.cat([x[..., :half].flip(-1), x, x[..., -half:].flip(-1)], -1)
    return _stft(x, n_fft, hop, window, False)


@a_stft.misconception(
    "mirrored-without-a-channel-axis",
    "torch.nn.functional.pad mirrors the samples only where other axes stand before them, and one "
    "clip by itself has none. Give it a second axis, and take it away at the end.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if center:
        x = F.pad(x, (n_fft // 2, n_fft // 2), mode="reflect")
    return _stft(x, n_fft, hop, window, False)


@a_stft.misconception(
    "leading-axes-lost",
    "Your result is always (clips, bins, frames). Leading dimensions come back as they were: none "
    "for one clip, both for (batch, channel). Note the shape of x before you reshape.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x.reshape(-1, x.shape[-1]), n_fft, hop, window, center)


@a_stft.misconception(
    "too-many-axes-for-the-transform",
    "torch.stft takes (L,) or (clips, L). Any number of leading dimensions may come: put them "
    "together into one before, and take them apart afterwards.",
    detect=lambda got, expected, cases: any("expected a 1D or 2D" in o.message for o in got),
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    window = torch.hann_window(n_fft, dtype=x.dtype) if window is None else window
    return torch.stft(x, n_fft, hop, window=window, center=center, return_complex=True).abs()


@a_stft.misconception(
    "last-frame-missing",
    "You have one frame too few. The first frame needs no hop: the number of hops that fit behind "
    "it is not yet the number of frames.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center)[..., :-1]


@a_stft.misconception(
    "last-frame-missing-where-it-fits",
    "Where the last frame ends exactly with the sound, it is missing: range leaves its end out. "
    "The last sample at which a frame may begin is one that range has to reach.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    found = _stft(x, n_fft, hop, window, center)
    room = x.shape[-1] - (0 if center else n_fft)
    return found[..., : -(-room // hop)]


@a_stft.misconception(
    "last-frame-filled-up",
    "You fill the end with zeros, so that one more frame fits. No frame reaches beyond the end: "
    "what is left over there is dropped.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, n_fft // 2), mode="reflect")
    flat = F.pad(flat, (0, -(flat.shape[-1] - n_fft) % hop))
    found = _stft(flat[:, 0], n_fft, hop, window, False)
    return found.reshape(*x.shape[:-1], *found.shape[-2:])


@a_stft.misconception(
    "hop-of-a-quarter",
    "Your frames always move by n_fft // 4, whatever hop says. That is only the usual choice.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, n_fft // 4, window, center)


@a_stft.misconception(
    "frames-without-overlap",
    "Your frames stand side by side: they move by n_fft. A window fades out at both ends of each "
    "frame, so that what lies between two frames would hardly be seen. Move by hop.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, n_fft, window, center)


@a_stft.misconception(
    "frames-before-bins",
    "Your axes are (frames, bins). Asked for is (bins, frames): time runs along the last axis, as "
    "it does in the sound.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center).transpose(-1, -2)


@a_stft.misconception(
    "divided-by-the-root",
    "You divide by the root of n_fft (norm='ortho', or normalized=True). Asked for is the plain "
    "transform, not scaled.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return _stft(x, n_fft, hop, window, center) / math.sqrt(n_fft)


@a_stft.misconception(
    "divided-by-the-window",
    "You divide by the sum of the window, as scipy.signal.stft does: a tone then shows its "
    "amplitude. Asked for is the plain transform, not scaled.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    window = torch.hann_window(n_fft, dtype=x.dtype) if window is None else window
    return _stft(x, n_fft, hop, window, center) / window.sum()


@a_stft.misconception(
    "something-under-the-root",
    "You add a small number under the root. That keeps gradients finite at 0, but silence is not "
    "0 any more. The floor comes later, before the logarithm; abs() needs none.",
)
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    return (_stft(x, n_fft, hop, window, center).square() + 1e-9).sqrt()


@a_stft.alternative("torch.stft")
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    if window is None:
        window = torch.hann_window(n_fft).to(x)
        window = torch.hann_window(n_fft, dtype=x.dtype)
    flat = x.reshape(-1, x.shape[-1])
    found = torch.stft(
        flat, n_fft, hop, window=window, center=center, pad_mode="reflect", return_complex=True
    ).abs()
    return found.reshape(*x.shape[:-1], *found.shape[1:])


@a_stft.alternative("frame by frame, the transform as a matrix")
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    n = torch.arange(n_fft, dtype=x.dtype)
    if window is None:
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * n / n_fft)
    if center:
        half = n_fft // 2
        before, after = x[..., 1 : half + 1].flip(-1), x[..., -half - 1 : -1].flip(-1)
        x = torch.cat([before, x, after], -1)
    angle = 2 * math.pi * torch.arange(n_fft // 2 + 1, dtype=x.dtype)[:, None] * n / n_fft
    out = []
    for start in range(0, x.shape[-1] - n_fft + 1, hop):
        frame = x[..., start : start + n_fft] * window
        real, imaginary = frame @ angle.cos().T, frame @ angle.sin().T
        out.append(torch.sqrt(real**2 + imaginary**2))
    return torch.stack(out, -1)


@a_stft.alternative("a convolution with the transform's waves")
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    window = torch.hann_window(n_fft, dtype=x.dtype) if window is None else window
    waves = torch.fft.rfft(torch.eye(n_fft, dtype=x.dtype)).T * window
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, n_fft // 2), mode="reflect")
    real = F.conv1d(flat, waves.real[:, None].contiguous(), stride=hop)
    imaginary = F.conv1d(flat, waves.imag[:, None].contiguous(), stride=hop)
    found = torch.hypot(real, imaginary)
    return found.reshape(x.shape[:-1] + found.shape[1:])


@a_stft.alternative("in numpy")
def stft_magnitude(x, n_fft=256, hop=64, window=None, center=True):
    import numpy as np

    y = x.double().numpy()
    weights = np.hanning(n_fft + 1)[:-1] if window is None else window.numpy()
    if center:
        y = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(n_fft // 2,) * 2], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(y, n_fft, axis=-1)[..., ::hop, :]
    found = np.abs(np.fft.rfft(frames * weights)).swapaxes(-1, -2)
    return torch.from_numpy(found.copy()).to(x.dtype)


# --- 12.2 ----------------------------------------------------------------------------------

a_mel = Answers("12.2")


def hz_to_mel(hz, htk=False):
    if htk:
        return 2595 * torch.log10(1 + hz / 700)
    high = 15 + 27 * torch.log(hz.clamp(min=1) / 1000) / math.log(6.4)
    return torch.where(hz < 1000, hz * 3 / 200, high)


def mel_to_hz(mel, htk=False):
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    high = 1000 * torch.exp((mel - 15) * math.log(6.4) / 27)
    return torch.where(mel < 15, mel * 200 / 3, high)


@a_mel.reference
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    f_max = rate / 2 if f_max is None else f_max
    low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), htk).tolist()
    mels = torch.linspace(low, high, n_mels + 2, dtype=torch.float64)
    corners = mel_to_hz(mels, htk)[:, None]
    start, peak, end = corners[:-2], corners[1:-1], corners[2:]
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    rising = (bins - start) / (peak - start)
    falling = (end - bins) / (end - peak)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (end - start)).float()


def _corners(n_mels, rate, f_min, f_max, htk, count=None, to=hz_to_mel, back=mel_to_hz):
    f_max = rate / 2 if f_max is None else f_max
    ends = to(torch.tensor([f_min, f_max], dtype=torch.float64), htk).tolist()
    return back(torch.linspace(*ends, count or n_mels + 2, dtype=torch.float64), htk)


def _bins(n_fft, rate):
    return torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft


def _triangles(corners, bins, cut=True):
    corners = corners[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    found = torch.minimum(rising, falling)
    return found.clamp(min=0) if cut else found


def _area(corners):
    return 2 / (corners[2:] - corners[:-2])[:, None]


@a_mel.misconception(
    "spaced-in-hz",
    "Your corners are evenly spaced in Hz, so that all triangles are equally wide. Space them "
    "evenly in mel, then convert to Hz: wide at high frequencies, where the ear is not sharp.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    even = lambda v, htk: v  # noqa: E731
    c = _corners(n_mels, rate, f_min, f_max, htk, to=even, back=even)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "not-normalised",
    "All your triangles are of height 1. Wide ones then collect more of the same noise than narrow "
    "ones. Asked for is area 1 over Hz.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    return _triangles(_corners(n_mels, rate, f_min, f_max, htk), _bins(n_fft, rate)).float()


@a_mel.misconception(
    "sums-to-one",
    "You divide each filter by the sum of its values. That depends on how many bins happen to lie "
    "under the triangle, and counts them, not Hz. Asked for is the area of the triangle itself, "
    "from its corners.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    t = _triangles(_corners(n_mels, rate, f_min, f_max, htk), _bins(n_fft, rate))
    return (t / t.sum(1, keepdim=True)).float()


@a_mel.misconception(
    "area-counted-at-the-bins",
    "You measure the area of each triangle at the bins: the sum of its values times the distance "
    "of bins. That misses its corners, and a narrow triangle between two bins has none at all. "
    "Its corners say its area exactly.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    t = _triangles(_corners(n_mels, rate, f_min, f_max, htk), _bins(n_fft, rate))
    return (t / (t.sum(1, keepdim=True) * rate / n_fft)).float()


@a_mel.misconception(
    "height-1-over-width",
    "Your height is 1 / width. The area of a triangle is half its width times its height: yours "
    "is one half.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c) / 2).float()


@a_mel.misconception(
    "htk-for-slaney",
    "Your filters are always on HTK's scale. Without htk=True the scale is Slaney's: straight up "
    "to 1000 Hz, logarithmic above.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, True)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "htk-ignored",
    "htk=True makes no difference: your filters are always on Slaney's scale. Pass it on to "
    "hz_to_mel and mel_to_hz.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, False)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "htk-there-and-not-back",
    "You go to mel on HTK's scale and come back on Slaney's: htk has not reached mel_to_hz. A mel "
    "of one scale means nothing on the other.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk, back=lambda mel, htk: mel_to_hz(mel))
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "htk-back-and-not-there",
    "You go to mel on Slaney's scale and come back on HTK's: htk has not reached hz_to_mel. A mel "
    "of one scale means nothing on the other.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk, to=lambda hz, htk: hz_to_mel(hz))
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "last-edge-above-the-end",
    "Your last triangle has its peak at f_max, and its falling side beyond, where (above half the "
    "rate) no bin is. f_max is the last corner, not the last peak: n_mels + 2 corners in all.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    f_max = rate / 2 if f_max is None else f_max
    low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), htk).tolist()
    step = (high - low) / n_mels
    c = mel_to_hz(low + step * torch.arange(n_mels + 2, dtype=torch.float64), htk)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "corners-up-to-the-rate",
    "Your corners reach up to the rate. A sound holds nothing above half of it: f_max is rate / 2 "
    "where it is not given.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, rate if f_max is None else f_max, htk)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "too-few-filters",
    "You make n_mels corners. A triangle needs three, and neighbours share two, so that you get "
    "n_mels - 2 triangles. How many corners give n_mels?",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk, count=max(n_mels, 2))
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "one-filter-too-few",
    "You make n_mels + 1 corners, and get one triangle less than asked for. The first triangle "
    "alone takes three corners. Each further one adds how many?",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk, count=n_mels + 1)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "corners-on-bins",
    "You move each corner to the nearest bin, as some tutorials do. Narrow filters then change "
    "their shape, or vanish. The lines can be evaluated at the bins as they are.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    rounded = (c * n_fft / rate).round() * rate / n_fft
    return torch.nan_to_num(_triangles(rounded, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "triangles-in-mel",
    "Your sides are straight lines over mel. In Hz they are bent. Only the corners come from the "
    "mel scale; the triangles are straight over Hz.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return (_triangles(hz_to_mel(c, htk), hz_to_mel(_bins(n_fft, rate), htk)) * _area(c)).float()


@a_mel.misconception(
    "not-cut-off",
    "Outside a triangle your lines go on below 0: a filter would subtract all other frequencies. "
    "What is negative becomes 0.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return (_triangles(c, _bins(n_fft, rate), cut=False) * _area(c)).float()


@a_mel.misconception(
    "limits-ignored",
    "f_min and f_max make no difference: your filters always reach from 0 to half the rate.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, 0.0, None, htk)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float()


@a_mel.misconception(
    "bins-up-to-the-rate",
    "Your bins reach up to the rate. Bin k lies at k * rate / n_fft, so that the last one, "
    "n_fft // 2, is at half the rate.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    bins = torch.linspace(0, rate, n_fft // 2 + 1, dtype=torch.float64)
    return (_triangles(c, bins) * _area(c)).float()


@a_mel.misconception(
    "bins-between-the-limits",
    "Your bins reach from f_min to f_max. Where bins lie is settled by the transform alone, from 0 "
    "to half the rate; f_min and f_max say where filters are.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    high = rate / 2 if f_max is None else f_max
    bins = torch.linspace(f_min, high, n_fft // 2 + 1, dtype=torch.float64)
    return (_triangles(c, bins) * _area(c)).float()


@a_mel.misconception(
    "bins-up-to-f-max",
    "Your bins reach up to f_max. Where bins lie is settled by the transform alone, up to half the "
    "rate; f_max says where filters end.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    high = rate / 2 if f_max is None else f_max
    bins = torch.linspace(0, high, n_fft // 2 + 1, dtype=torch.float64)
    return (_triangles(c, bins) * _area(c)).float()


@a_mel.misconception(
    "last-bin-missing",
    "You have n_fft // 2 bins: the one at half the rate is missing. From 0 to half the rate, both "
    "included, there is one more.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return (_triangles(c, _bins(n_fft, rate)[:-1]) * _area(c)).float()


@a_mel.misconception(
    "the-larger-line",
    "You take the larger of the two lines, which is 1 and more outside of the triangle. Inside it "
    "the smaller one is the side that you are on.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)[:, None]
    bins = _bins(n_fft, rate)
    rising, falling = (bins - c[:-2]) / (c[1:-1] - c[:-2]), (c[2:] - bins) / (c[2:] - c[1:-1])
    return (torch.maximum(rising, falling).clamp(min=0) * 2 / (c[2:] - c[:-2])).float()


@a_mel.misconception(
    "transposed",
    "Your axes are (bins, filters). A filter is a row here, so that filters @ magnitudes works.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return (_triangles(c, _bins(n_fft, rate)) * _area(c)).float().T


@a_mel.misconception(
    "float64-kept",
    "The values are right. They come in float64, and sounds are float32: convert the result.",
)
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk)
    return _triangles(c, _bins(n_fft, rate)) * _area(c)


@a_mel.alternative("filter by filter, bin by bin")
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    c = _corners(n_mels, rate, f_min, f_max, htk).tolist()
    rows = []
    for start, peak, end in zip(c, c[1:], c[2:]):
        row = []
        for k in range(n_fft // 2 + 1):
            f = k * rate / n_fft
            if start < f <= peak:
                value = (f - start) / (peak - start)
            elif peak < f < end:
                value = (end - f) / (end - peak)
            else:
                value = 0.0
            row.append(2 * value / (end - start))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


@a_mel.alternative("in numpy, by interpolation")
def mel_filterbank(n_mels, n_fft, rate, f_min=0.0, f_max=None, htk=False):
    import numpy as np

    c = _corners(n_mels, rate, f_min, f_max, htk).numpy()
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1) if n_fft % 2 == 0 else _bins(n_fft, rate)
    out = np.zeros((n_mels, len(bins)), dtype=np.float32)
    for m in range(n_mels):
        height = 2 / (c[m + 2] - c[m])
        out[m] = np.interp(bins, c[m : m + 3], [0, height, 0], left=0, right=0)
    return torch.from_numpy(out)


# --- 12.3 ----------------------------------------------------------------------------------

a_log = Answers("12.3")
LOW, HIGH = math.log(1e-5), 1.0


@a_log.reference
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x, n_fft, hop)).clamp(min=floor))


@a_log.reference
def log_mel_to_model_range(y, low=LOW, high=HIGH):
    return 2 * (y - low) / (high - low) - 1


@a_log.reference
def log_mel_from_model_range(y, low=LOW, high=HIGH):
    return low + (y + 1) / 2 * (high - low)


def _mel(x, rate, n_mels, n_fft, hop):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return filters @ stft_magnitude(x, n_fft, hop)


@a_log.misconception(
    "log10",
    "You take the logarithm to base 10. Here it is the natural one (torch.log), so that torch.exp "
    "gives the mel spectrogram back.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log10(_mel(x, rate, n_mels, n_fft, hop).clamp(min=floor))


@a_log.misconception(
    "decibels",
    "You give decibels. They are a logarithm too, but what is asked for is the natural logarithm "
    "itself.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return 20 * torch.log10(_mel(x, rate, n_mels, n_fft, hop).clamp(min=floor))


@a_log.misconception(
    "log-of-zero",
    "Silence becomes minus infinity: nothing keeps 0 out of the logarithm. A model that is shown "
    "one such number gives NaN ever after.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log(_mel(x, rate, n_mels, n_fft, hop))


@a_log.misconception(
    "floor-added",
    "You add the floor. That moves every value, soft ones most. Asked for is the larger of value "
    "and floor: what is above the floor stays as it is.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log(_mel(x, rate, n_mels, n_fft, hop) + floor)


@a_log.misconception(
    "log1p",
    "log1p is log(1 + value): it is finite at 0, but presses all soft sounds together near 0. The "
    "ear, and the model, should see them as far apart as loud ones.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log1p(_mel(x, rate, n_mels, n_fft, hop).clamp(min=floor))


@a_log.misconception(
    "floor-after-the-logarithm",
    "The floor is compared with logarithms: all that is softer than exp(floor), nearly everything, "
    "is cut off. It is a magnitude: apply it before the logarithm.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log(_mel(x, rate, n_mels, n_fft, hop)).clamp(min=floor)


@a_log.misconception(
    "reference-per-clip",
    "Each clip is measured against its own loudest place. A soft clip and a loud one then look "
    "alike, and no sound can be made from them again, as nobody knows how loud it was. (A silent "
    "clip divides 0 by 0.)",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    mel = _mel(x, rate, n_mels, n_fft, hop)
    mel = mel / mel.amax((-2, -1), keepdim=True)
    return torch.log(mel.clamp(min=floor))


@a_log.misconception(
    "of-the-power",
    "You square the magnitudes before the filters. Both are in use; asked for are filters on "
    "magnitudes.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x, n_fft, hop).square()).clamp(min=floor))


@a_log.misconception(
    "logarithm-before-the-filters",
    "You take the logarithm of each bin and then apply the filters. A mean of logarithms is not "
    "the logarithm of a mean: one silent bin would pull a loud band down.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return filters @ torch.log(stft_magnitude(x, n_fft, hop).clamp(min=floor))


@a_log.misconception(
    "floor-ignored",
    "Your floor is always 1e-5: another one makes no difference.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    return torch.log(_mel(x, rate, n_mels, n_fft, hop).clamp(min=1e-5))


@a_log.misconception(
    "dtypes-that-do-not-meet",
    "Filters are float32, and sounds may be float64: a product of matrices wants one dtype. It is "
    "x's dtype that is asked for, so bring the filters to that.",
    detect=first_says("same dtype|scalar type"),
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate)
    return torch.log((filters @ stft_magnitude(x, n_fft, hop)).clamp(min=floor))


@a_log.misconception(
    "magnitudes-to-float32",
    "You bring the magnitudes to the dtype of the filters. Asked for is the dtype of x: bring the "
    "filters to that.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    found = mel_filterbank(n_mels, n_fft, rate) @ stft_magnitude(x, n_fft, hop).float()
    return torch.log(found.clamp(min=floor))


@a_log.misconception(
    "floor-before-the-filters",
    "You put the floor under the magnitudes of bins. What goes into the logarithm is what the "
    "filters give: that is where nothing below the floor may be left.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log(filters @ stft_magnitude(x, n_fft, hop).clamp(min=floor))


@a_log.misconception(
    "frame-size-not-passed-on",
    "Your stft_magnitude works with its own n_fft, 256, whatever log_mel is asked for, and the "
    "filters do not fit. Hand n_fft and hop on.",
    detect=first_says(r"\(6x33 and 129x\d+\)"),
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x)).clamp(min=floor))


@a_log.misconception(
    "hop-not-passed-on",
    "Your stft_magnitude moves by its own hop, 64, whatever log_mel is asked for. Hand hop on.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x, n_fft)).clamp(min=floor))


@a_log.misconception(
    "htk-for-slaney",
    "Your filters are on HTK's scale. Slaney's are asked for, which mel_filterbank gives when it "
    "is told nothing.",
)
def log_mel(x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5):
    filters = mel_filterbank(n_mels, n_fft, rate, htk=True).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x, n_fft, hop)).clamp(min=floor))


a_log.misconception(
    "range-from-0-to-1",
    "Your range is 0 to 1. A model's data lie around 0, from -1 to 1, as the noise does.",
    defines={
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: (y - low) / (high - low),
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: low + y * (high - low),
    },
)
a_log.misconception(
    "range-cut-off",
    "You cut off what lies outside. There are values beyond low and high, in data and in samples: "
    "a straight line has a place for them, and its inverse brings them back.",
    defines={
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: (
            2 * (y - low) / (high - low) - 1
        ).clamp(-1, 1),
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: (
            low + (y.clamp(-1, 1) + 1) / 2 * (high - low)
        ),
    },
)
a_log.misconception(
    "range-of-the-batch",
    "You measure the range on the batch. What -1 means then changes from batch to batch, and "
    "nothing that the model draws can be turned back. low and high are fixed.",
    defines={
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: (
            2 * (y - y.min()) / (y.max() - y.min()) - 1
        ),
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: (
            low + (y - y.min()) / (y.max() - y.min()) * (high - low)
        ),
    },
)
a_log.misconception(
    "range-always-the-usual",
    "You use LOW and HIGH whatever low and high are: others make no difference.",
    defines={
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: 2 * (y - LOW) / (HIGH - LOW) - 1,
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: LOW + (y + 1) / 2 * (HIGH - LOW),
    },
)
a_log.misconception(
    "way-back-twice-as-far",
    "From -1 to 1 it is a distance of 2, and you count it as 1. Put 1 in: high has to come out.",
    defines={
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: low + (y + 1) * (high - low)
    },
)
a_log.misconception(
    "not-inverted",
    "The way back is the same line as the way there. Put -1 in: low has to come out.",
    defines={
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: 2 * (y - low) / (high - low) - 1
    },
)
a_log.misconception(
    "exp-on-the-way-back",
    "You go back further than asked: to magnitudes. The way back of the range ends at log-mel "
    "values; the exponential comes later.",
    defines={
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: torch.exp(
            low + (y + 1) / 2 * (high - low)
        )
    },
)


a_log.alternative(
    "written out",
    defines={
        "log_mel": lambda x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5: torch.maximum(
            torch.einsum(
                "mf,...ft->...mt",
                mel_filterbank(n_mels, n_fft, rate).to(x.dtype),
                stft_magnitude(x, n_fft, hop),
            ),
            torch.tensor(floor, dtype=x.dtype),
        ).log(),
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: (
            (y - (high + low) / 2) / ((high - low) / 2)
        ),
        "log_mel_from_model_range": lambda y, low=LOW, high=HIGH: (
            (1 - y) / 2 * low + (1 + y) / 2 * high
        ),
    },
)
a_log.alternative(
    "floor as a logarithm",
    defines={
        "log_mel": lambda x, rate, n_mels=64, n_fft=256, hop=64, floor=1e-5: torch.log(
            torch.matmul(
                mel_filterbank(n_mels, n_fft, rate).to(x.dtype), stft_magnitude(x, n_fft, hop)
            )
        ).clamp(min=math.log(floor)),
        "log_mel_to_model_range": lambda y, low=LOW, high=HIGH: torch.add(
            torch.mul(y, 2 / (high - low)), -2 * low / (high - low) - 1
        ),
    },
)


# --- 12.4 ----------------------------------------------------------------------------------

a_griffin = Answers("12.4")


@a_griffin.reference
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)
    for _ in range(iterations):
        x = _to_sound(torch.polar(magnitude, angle), n_fft, hop, length)
        angle = _to_spectrum(x, n_fft, hop).angle()
    return _to_sound(torch.polar(magnitude, angle), n_fft, hop, length)


def _to_spectrum(x, n_fft, hop):
    window = torch.hann_window(n_fft, dtype=x.dtype)
    flat = x.reshape(-1, x.shape[-1])
    found = torch.stft(flat, n_fft, hop, window=window, return_complex=True)
    return found.reshape(*x.shape[:-1], *found.shape[1:])


def _to_sound(spectrum, n_fft, hop, length, window=None):
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype) if window is None else window
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    x = torch.istft(flat, n_fft, hop, window=window, length=length)
    return x.reshape(*spectrum.shape[:-2], x.shape[-1])


def _drawn(magnitude, generator, turn=2 * math.pi):
    return turn * torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)


def _iterated(magnitude, iterations, angle, n_fft, hop, length, keep=False):
    """The spectrum after the iterations."""
    spectrum = torch.polar(magnitude, angle)
    for _ in range(iterations):
        seen = _to_spectrum(_to_sound(spectrum, n_fft, hop, length), n_fft, hop)
        spectrum = seen if keep else torch.polar(magnitude, seen.angle())
    return spectrum


@a_griffin.misconception(
    "magnitude-not-restored",
    "You go to the sound and back, and keep the spectrum that comes. Its sizes are no longer those "
    "that were asked for; nothing pulls them back, so that nothing changes after the first "
    "iteration. Keep only its angles.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, _drawn(magnitude, generator), n_fft, hop, length, True)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "phase-of-zero-start",
    "You start with angles of 0. Every frame is then a pulse in its middle: a buzz that iterations "
    "do not get rid of. Draw the angles from the generator.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, torch.zeros_like(magnitude), n_fft, hop, length)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "last-inverse-missing",
    "You return a spectrum. After the last iteration one more step leads to the sound.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    return _iterated(magnitude, iterations, _drawn(magnitude, generator), n_fft, hop, length)


@a_griffin.misconception(
    "global-generator",
    "Your angles do not come from the generator: the same seed gives another sound.",
    detect=lambda got, expected, cases: all(
        o.status == "ok"
        and isinstance(o.value, dict)
        and not torch.equal(o.value["sound"], o.value["again"])
        for o in got
    ),
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, _drawn(magnitude, None), n_fft, hop, length)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "angles-below-one",
    "torch.rand gives numbers below 1, and you take them as angles: all phases point nearly the "
    "same way. A whole turn is 2 pi.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, _drawn(magnitude, generator, 1.0), n_fft, hop, length)
    return _to_sound(s, n_fft, hop, length)


def _float32_phases(got, expected, cases):
    """Whether the first sound, without iterations, is that of phases drawn in float32."""
    magnitude, _, seed, n_fft, hop, length = cases[0].args
    if got[0].status != "ok" or not isinstance(got[0].value, dict):
        return False
    whole = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(seed))
    angle = 2 * math.pi * whole.to(magnitude.dtype)
    wanted = _to_sound(torch.polar(magnitude, angle), n_fft, hop, length)
    mine = got[0].value["sound"]
    return mine.shape == wanted.shape and torch.allclose(mine.to(wanted.dtype), wanted, atol=1e-4)


@a_griffin.misconception(
    "drawn-in-float32",
    "You draw the phases without a dtype. torch.rand then makes float32, and for float64 "
    "magnitudes these are other numbers of the generator than those that were asked for.",
    detect=_float32_phases,
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator)
    angle = angle.to(magnitude.dtype)
    return _to_sound(
        _iterated(magnitude, iterations, angle, n_fft, hop, length), n_fft, hop, length
    )


@a_griffin.misconception(
    "float32-phases-beside-float64-sizes",
    "Your phases are float32 and the magnitudes are float64: torch.polar wants one dtype. "
    "torch.rand takes a dtype; without one it makes float32.",
    detect=first_says("scalar type Double but got scalar type Float|same dtype"),
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator)
    return _to_sound(
        _iterated(magnitude, iterations, angle, n_fft, hop, length), n_fft, hop, length
    )


@a_griffin.misconception(
    "half-a-turn-further",
    "Your phases lie between -pi and pi. That is as random, but all are half a turn further than "
    "those that were asked for, from 0 to 2 pi: the whole sound is upside down.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = _drawn(magnitude, generator) - math.pi
    return _to_sound(
        _iterated(magnitude, iterations, angle, n_fft, hop, length), n_fft, hop, length
    )


@a_griffin.misconception(
    "new-sizes-with-old-phases",
    "You keep the old phases and take the new sizes. It is the other way round: the sizes are "
    "known, they were given; the phases are what is looked for.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = _drawn(magnitude, generator)
    s = torch.polar(magnitude, angle)
    for _ in range(iterations):
        seen = _to_spectrum(_to_sound(s, n_fft, hop, length), n_fft, hop)
        s = torch.polar(seen.abs(), angle)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "drawn-anew-each-time",
    "You draw new angles in each iteration and forget what the last one found. Draw once, before "
    "the loop.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    for _ in range(iterations + 1):
        x = _to_sound(torch.polar(magnitude, _drawn(magnitude, generator)), n_fft, hop, length)
    return x


@a_griffin.misconception(
    "one-iteration-too-many",
    "You make one iteration more than asked for. With 0 iterations the sound is that of the angles "
    "as they were drawn.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations + 1, _drawn(magnitude, generator), n_fft, hop, length)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "one-iteration-too-few",
    "You make one iteration less than asked for.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    count = max(0, iterations - 1)
    s = _iterated(magnitude, count, _drawn(magnitude, generator), n_fft, hop, length)
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "zero-over-zero",
    "You divide the new spectrum by its size. Where the sound is silent that is 0 over 0, and NaN "
    "spreads. torch.angle of 0 is 0; or put a tiny floor under the size.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = torch.polar(magnitude, _drawn(magnitude, generator))
    for _ in range(iterations):
        seen = _to_spectrum(_to_sound(s, n_fft, hop, length), n_fft, hop)
        s = magnitude * seen / seen.abs()
    return _to_sound(s, n_fft, hop, length)


@a_griffin.misconception(
    "window-left-out",
    "Your way back has no window: frames are added up as they are. The STFT was made with the Hann "
    "window, and its inverse needs the same one, or both do not belong together.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    ones = torch.ones(n_fft, dtype=magnitude.dtype)
    angle = _drawn(magnitude, generator)
    for _ in range(iterations):
        x = _to_sound(torch.polar(magnitude, angle), n_fft, hop, length, ones)
        angle = _to_spectrum(x, n_fft, hop).angle()
    return _to_sound(torch.polar(magnitude, angle), n_fft, hop, length, ones)


@a_griffin.misconception(
    "phases-turned-back",
    "Your new spectrum has the angles with the wrong sign: the complex conjugate. Each iteration "
    "then undoes the last.",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = _drawn(magnitude, generator)
    for _ in range(iterations):
        x = _to_sound(torch.polar(magnitude, angle), n_fft, hop, length)
        angle = -_to_spectrum(x, n_fft, hop).angle()
    return _to_sound(torch.polar(magnitude, angle), n_fft, hop, length)


def _ends_with_the_last_frame(got, expected, cases):
    """Whether each sound is hop * (frames - 1) long, some of which should be longer."""
    if not all(o.status == "ok" and isinstance(o.value, dict) for o in got):
        return False
    long = [
        (o.value["sound"].shape[-1], (c.args[4] or 64) * (c.args[0].shape[-1] - 1), c.args[5])
        for o, c in zip(got, cases)
    ]
    return all(is_ == frames for is_, frames, _ in long) and any(f != n for _, f, n in long)


@a_griffin.misconception(
    "length-ignored",
    "Your sound ends with its last frame: length makes no difference. Hand it on to to_sound.",
    detect=_ends_with_the_last_frame,
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, _drawn(magnitude, generator), n_fft, hop, None)
    return _to_sound(s, n_fft, hop, None)


@a_griffin.misconception(
    "brought-to-full-scale",
    "You scale the sound to a peak of 1. How loud it is stands in the magnitudes; leave it there. "
    "(A silent clip divides by 0.)",
)
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    s = _iterated(magnitude, iterations, _drawn(magnitude, generator), n_fft, hop, length)
    x = _to_sound(s, n_fft, hop, length)
    return x / x.abs().amax(-1, keepdim=True)


@a_griffin.alternative("sizes by division, with a floor")
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)
    s = magnitude * torch.exp(1j * angle)
    x = _to_sound(s, n_fft, hop, length)
    for _ in range(iterations):
        seen = _to_spectrum(x, n_fft, hop)
        s = magnitude * seen / seen.abs().clamp(min=1e-12)
        x = _to_sound(s, n_fft, hop, length)
    return x


@a_griffin.alternative("clip by clip")
def griffin_lim(magnitude, iterations, generator, n_fft=256, hop=64, length=None):
    whole = torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)
    sizes = magnitude.reshape(-1, *magnitude.shape[-2:])
    angles = whole.reshape(sizes.shape) * math.tau
    out = []
    for size, angle in zip(sizes, angles):
        s = torch.complex(size * angle.cos(), size * angle.sin())
        for _ in range(iterations):
            seen = _to_spectrum(_to_sound(s, n_fft, hop, length), n_fft, hop)
            s = torch.complex(size * seen.angle().cos(), size * seen.angle().sin())
        out.append(_to_sound(s, n_fft, hop, length))
    return torch.stack(out).reshape(*magnitude.shape[:-2], -1)


# --- 12.5 ----------------------------------------------------------------------------------

a_conditioner = Answers("12.5")


@a_conditioner.reference
class MelConditioner(nn.Module):
    def __init__(self, n_mels, channels, hop):
        super().__init__()
        self.hop = hop
        self.frames = nn.Conv1d(n_mels, channels, 3, padding=1)
        self.smooth = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        h = F.pad(h, (0, max(0, length - span)), mode="replicate")
        return self.smooth(h[..., :length])


def _held(h, length):
    return F.pad(h, (0, max(0, length - h.shape[-1])), mode="replicate")[..., :length]


def _lines(h, hop, length):
    span = (h.shape[-1] - 1) * hop + 1
    return _held(F.interpolate(h, size=span, mode="linear", align_corners=True), length)


@a_conditioner.misconception(
    "nearest",
    "You repeat each frame hop times. The condition then jumps where a frame ends, hop samples "
    "apart, and the network can hear that as a tone. Draw straight lines between frames.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel)).repeat_interleave(self.hop, -1)
        return self.smooth(_held(h, length))


@a_conditioner.misconception(
    "not-smoothed",
    "The second convolution, smooth, is never used.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        return _lines(F.silu(self.frames(mel)), self.hop, length)


@a_conditioner.misconception(
    "smoothed-too-early",
    "You smooth frames, and then draw the lines. smooth is meant for samples: it has to come last, "
    "to round off the corners that the lines leave.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        return _lines(self.smooth(F.silu(self.frames(mel))), self.hop, length)


@a_conditioner.misconception(
    "off-by-a-hop",
    "All is a hop late: your frame 0 belongs to sample hop. The first frame of a centred STFT has "
    "its middle on the first sample.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = _lines(F.silu(self.frames(mel)), self.hop, length)
        return self.smooth(F.pad(h, (self.hop, 0), mode="replicate")[..., :length])


@a_conditioner.misconception(
    "half-a-hop-late",
    "Your frame i lies in the middle of samples i * hop to (i + 1) * hop: that is what "
    "F.interpolate does with a factor, or without align_corners. It is half a hop late: frame i "
    "belongs to sample i * hop itself.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        h = F.interpolate(h, scale_factor=self.hop, mode="linear", align_corners=False)
        return self.smooth(_held(h, length))


@a_conditioner.misconception(
    "stretched-to-the-length",
    "You stretch the frames to length, whatever it is. Frame i then belongs to sample i * hop only "
    "by luck: the condition runs ahead of the sound, or behind. Draw the lines first, then cut or "
    "hold.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        h = F.interpolate(h, size=length, mode="linear", align_corners=True)
        return self.smooth(h)


@a_conditioner.misconception(
    "ends-not-on-samples",
    "The number of samples is right, but align_corners is left out: F.interpolate then thinks of "
    "frames as wide pieces, and puts the middle of the first one inside. Frame 0 belongs to sample "
    "0 itself.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        return self.smooth(_held(F.interpolate(h, size=span, mode="linear"), length))


@a_conditioner.misconception(
    "stretched-and-ends-not-on-samples",
    "You stretch the frames to length, whatever it is, and leave align_corners out. Frame i then "
    "lies nowhere near sample i * hop. How many samples do the frames reach over? Cut or hold "
    "afterwards.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        return self.smooth(F.interpolate(h, size=length, mode="linear"))


@a_conditioner.misconception(
    "stretched-by-a-sample",
    "Your lines reach over frames * hop samples, or (frames - 1) * hop. The distance from the "
    "first to the last of n posts is n - 1 gaps, and both ends are counted: how many samples is "
    "that?",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        size = max(1, (mel.shape[-1] - 1) * self.hop)
        h = F.interpolate(h, size=size, mode="linear", align_corners=True)
        return self.smooth(_held(h, length))


@a_conditioner.misconception(
    "frames-times-hop",
    "Your lines reach over frames * hop samples: the last frame then belongs to sample "
    "frames * hop - 1, and every other one is late as well. From the first to the last of n frames "
    "there are n - 1 hops.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        size = mel.shape[-1] * self.hop
        h = F.interpolate(h, size=size, mode="linear", align_corners=True)
        return self.smooth(_held(h, length))


@a_conditioner.misconception(
    "zeros-behind-the-last-frame",
    "Behind the last frame you give zeros. Zero is no silence: it is some loudness of its own. "
    "Hold the last frame.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        return self.smooth(F.pad(h, (0, max(0, length - span)))[..., :length])


@a_conditioner.misconception(
    "cut-at-the-start",
    "Where there are more frames than samples you drop the beginning. The sound starts with frame "
    "0: cut the end.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        return self.smooth(_held(h, max(length, span))[..., -length:])


@a_conditioner.misconception(
    "too-short-at-the-end",
    "Your condition ends with the last frame, and the sound goes on: both must have length "
    "samples.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        return self.smooth(h[..., :length])


@a_conditioner.misconception(
    "too-long-at-the-end",
    "Your condition goes on to the last frame, and the sound has ended: both must have length "
    "samples.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        span = (mel.shape[-1] - 1) * self.hop + 1
        return self.smooth(_lines(F.silu(self.frames(mel)), self.hop, max(length, span)))


@a_conditioner.misconception(
    "no-silu",
    "The SiLU behind the first convolution is missing. What follows is linear, so that both "
    "convolutions could be merged into one.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        return self.smooth(_lines(self.frames(mel), self.hop, length))


@a_conditioner.misconception(
    "lines-before-the-frames",
    "You draw the lines first and send samples through frames. That convolution is meant to look "
    "at three frames at once; at samples it sees three values that are nearly the same, at hop "
    "times the cost.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        return self.smooth(F.silu(self.frames(_lines(mel, self.hop, length))))


@a_conditioner.misconception(
    "silu-at-the-end",
    "A SiLU stands behind smooth as well. The condition goes out as it is: what adds it may want "
    "values below 0.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        return F.silu(self.smooth(_lines(F.silu(self.frames(mel)), self.hop, length)))


@a_conditioner.misconception(
    "smoothed-before-it-is-held",
    "You smooth first, and hold the last value (or cut) then. smooth has seen zeros behind the "
    "last frame, and that value is held. Hold and cut, and then smooth.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = self.smooth(_lines(F.silu(self.frames(mel)), self.hop, span))
        return _held(h, length)


@a_conditioner.misconception(
    "smoothed-before-the-cut",
    "Where there are more frames than samples, you smooth first and cut then: the last sample sees "
    "what lies behind the end. Cut (or hold), and then smooth.",
)
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = self.smooth(_lines(h, self.hop, max(span, length)))
        return h[..., :length]


@a_conditioner.alternative("by places and shares")
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = self.frames(mel)
        h = h * torch.sigmoid(h)
        place = torch.arange(length, device=mel.device)
        last = mel.shape[-1] - 1
        left = (place // self.hop).clamp(max=last)
        right = (left + 1).clamp(max=last)
        share = ((place - left * self.hop).to(h.dtype) / self.hop).clamp(max=1)
        return self.smooth(h[..., left] * (1 - share) + h[..., right] * share)


@a_conditioner.alternative("last frame repeated first")
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        more = max(0, -(-length // self.hop) + 1 - h.shape[-1])
        h = torch.cat([h, h[..., -1:].expand(-1, -1, more)], -1)
        size = self.hop * (h.shape[-1] - 1) + 1
        h = F.interpolate(h, size=size, mode="linear", align_corners=True)
        return self.smooth(h.narrow(-1, 0, length))


@a_conditioner.alternative("cut by a negative pad")
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        return self.smooth(F.pad(h, (0, length - span), mode="replicate"))


@a_conditioner.alternative("sample by sample")
class MelConditioner(MelConditioner):
    def forward(self, mel, length):
        h = F.silu(self.frames(mel))
        last, out = h.shape[-1] - 1, []
        for place in range(length):
            i, beyond = divmod(place, self.hop)
            a, b = h[..., min(i, last)], h[..., min(i + 1, last)]
            out.append(a + (b - a) * beyond / self.hop)
        return self.smooth(torch.stack(out, -1))


# --- 12.6 ----------------------------------------------------------------------------------

a_distance = Answers("12.6")


@a_distance.reference
def log_spectral_distance(a, b, floor=1e-5):
    difference = 20 * (torch.log10(a.clamp(min=floor)) - torch.log10(b.clamp(min=floor)))
    return difference.square().mean(-2).sqrt().mean(-1)


def _db(a, floor):
    return 20 * torch.log10(a.clamp(min=floor))


@a_distance.misconception(
    "natural-logarithm",
    "You use the natural logarithm. Decibels are to base 10: twice the magnitude is 6.02 dB more.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = 20 * (torch.log(a.clamp(min=floor)) - torch.log(b.clamp(min=floor)))
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "10-for-20",
    "You multiply the logarithm by 10. That is right for powers; for magnitudes it is 20, as power "
    "is magnitude squared.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return ((_db(a, floor) - _db(b, floor)) / 2).square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "no-logarithm",
    "You compare magnitudes, not their logarithms. Loud places then decide everything, and a wrong "
    "sound where it should be soft counts nothing.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (a.clamp(min=floor) - b.clamp(min=floor)).square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "logarithm-of-the-mean",
    "You take the mean over bins before the logarithm: two spectra with the same sum would count "
    "as equal. Logarithm first, bin by bin.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = _db(a.clamp(min=floor).mean(-2), floor) - _db(b.clamp(min=floor).mean(-2), floor)
    return d.abs().mean(-1)


@a_distance.misconception(
    "one-mean-before-the-root",
    "You take the mean over everything and then one root. A few bad frames weigh too much then. "
    "Asked for is a root for each frame, and the mean of those.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().mean((-2, -1)).sqrt()


@a_distance.misconception(
    "root-forgotten",
    "The root is missing: your result is in squared decibels.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().mean(-2).mean(-1)


@a_distance.misconception(
    "sum-over-bins",
    "You add up over the bins. More bins would mean a larger distance; take the mean.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().sum(-2).sqrt().mean(-1)


@a_distance.misconception(
    "axes-swapped",
    "You take the root over frames and the mean over bins. Bins come first, frames last: the root "
    "belongs to each frame.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().mean(-1).sqrt().mean(-1)


@a_distance.misconception(
    "size-of-the-difference",
    "You take the mean of the sizes of the differences. Asked for is the root of the mean square, "
    "in which large differences count more.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).abs().mean(-2).mean(-1)


@a_distance.misconception(
    "one-number-for-the-batch",
    "You give one number for all clips. Asked for is one for each: leading axes stay.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().mean(-2).sqrt().mean()


@a_distance.misconception(
    "no-floor",
    "Nothing keeps 0 out of the logarithm: a silent bin is minus infinity, and two of them are "
    "NaN apart.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (20 * (a.log10() - b.log10())).square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "floor-added",
    "You add the floor in place of taking the larger of the two: every value is moved.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = 20 * ((a + floor).log10() - (b + floor).log10())
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "floor-ignored",
    "Your floor is always 1e-5: another one makes no difference.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, 1e-5) - _db(b, 1e-5)).square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "floor-on-the-ratio",
    "You divide first and put the floor under the ratio. A ratio below the floor is a large "
    "difference, not silence, and 0 / 0 stays NaN. It is each magnitude that has a floor.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = 20 * torch.log10((a / b).clamp(min=floor))
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "floor-on-the-power",
    "You square first and put the floor under powers. A magnitude of 0.001 has a power of "
    "0.000001, which is below a floor meant for magnitudes. Floor first.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = 10 * (a.square().clamp(min=floor).log10() - b.square().clamp(min=floor).log10())
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "floor-after-the-logarithm",
    "You compare decibels with the floor: all that is softer than a magnitude of 1, which is 0 dB, "
    "is cut off. The floor is a magnitude: apply it before the logarithm.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = (20 * a.log10()).clamp(min=floor) - (20 * b.log10()).clamp(min=floor)
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "squared-and-times-20",
    "You square the magnitudes and multiply the logarithm by 20. Either of them makes decibels of "
    "the power; both together count twice.",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = 2 * (_db(a, floor) - _db(b, floor))
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "no-decibels",
    "You stop at the logarithm to base 10. Decibels are that times a number: how many of them is "
    "ten times the magnitude, if twice the magnitude is 6.02?",
)
def log_spectral_distance(a, b, floor=1e-5):
    d = (_db(a, floor) - _db(b, floor)) / 20
    return d.square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "logarithm-of-the-difference",
    "You subtract first and take the logarithm of what is left: two spectra that are alike would "
    "be far apart, as the logarithm of nearly 0 is large and negative. Logarithms first.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return _db((a - b).abs(), floor).square().mean(-2).sqrt().mean(-1)


@a_distance.misconception(
    "axes-from-the-front",
    "You count axes from the front, as if there were one clip only. With leading axes the first "
    "one is no bin. Count from the end: bins are axis -2.",
)
def log_spectral_distance(a, b, floor=1e-5):
    return (_db(a, floor) - _db(b, floor)).square().mean(0).sqrt().mean(0)


@a_distance.alternative("as a norm, from one ratio")
def log_spectral_distance(a, b, floor=1e-5):
    ratio = torch.log(torch.clamp(a, min=floor) / torch.clamp(b, min=floor))
    norms = torch.linalg.vector_norm(ratio, dim=-2) / a.shape[-2] ** 0.5
    return norms.mean(dim=-1) * 20 / math.log(10)


@a_distance.alternative("frame by frame")
def log_spectral_distance(a, b, floor=1e-5):
    low = torch.tensor(floor, dtype=a.dtype)
    total = 0
    for i in range(a.shape[-1]):
        x, y = torch.maximum(a[..., i], low), torch.maximum(b[..., i], low)
        total = total + torch.sqrt(torch.mean((10 * torch.log10((x / y) ** 2)) ** 2, dim=-1))
    return total / a.shape[-1]


@a_distance.alternative("powers with a floor by torch.where")
def log_spectral_distance(a, b, floor=1e-5):
    def level(v):
        return 10 * torch.where(v < floor, floor, v).pow(2).log10()

    squares = F.mse_loss(level(a), level(b), reduction="none")
    return squares.mean(dim=-2).pow(0.5).mean(dim=-1)


# --- 12.7 ----------------------------------------------------------------------------------

a_transcribe = Answers("12.7")


@a_transcribe.reference
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    heard = scores.argmax(1)
    known = classifier(clips[new]).argmax(1) == digits[new]
    table = torch.zeros(scores.shape[1], scores.shape[1], dtype=torch.int64)
    table.index_put_((asked, heard), torch.ones_like(heard), accumulate=True)
    return {
        "heard": heard,
        "accuracy": (heard == asked).double().mean().item(),
        "reals": known.double().mean().item(),
        "table": table,
    }


def _score(heard, asked, real, classes):
    table = torch.bincount(asked * classes + heard, minlength=classes**2)
    return {
        "heard": heard,
        "accuracy": (heard == asked).double().mean().item(),
        "reals": real.double().mean().item(),
        "table": table.reshape(classes, classes),
    }


@a_transcribe.misconception(
    "speaker-not-held-out",
    "Your classifier learns from all speakers, the held-out one too. What it then gets on that "
    "speaker says how well it remembers, not how well it would do with a new voice.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new, classifier = speakers == held_out, fit(clips, digits)
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "judged-on-its-training-speakers",
    "The figure for real clips comes from clips that the classifier was trained on. It has seen "
    "them, so it is nearly perfect there, and any generated set looks bad beside it.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[~new]).argmax(1) == digits[~new]
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "held-out-and-others-swapped",
    "You train on the held-out speaker alone and judge on all others. It is the other way round.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers != held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "judged-on-all-speakers",
    "The figure for real clips is over all speakers, most of whom the classifier was trained on. "
    "Take the held-out one alone.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips).argmax(1) == digits
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "trained-on-generated",
    "Your classifier learns from the generated clips. It then agrees with them whatever they sound "
    "like: a judge must not be taught by the accused.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(torch.cat([clips[~new], generated]), torch.cat([digits[~new], asked]))
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "wrong-labels",
    "What is heard in the generated clips is compared with the digits of the real ones. Compare "
    "with what was asked for, clip by clip.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), digits[: len(generated)], real, scores.shape[1])


@a_transcribe.misconception(
    "accuracy-of-the-order",
    "You sort, or count how often each digit was heard, before you compare. A seven that sounds "
    "like a one and a one that sounds like a seven then count as right. Compare clip by clip.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    heard = scores.argmax(1)
    out = _score(heard, asked, real, scores.shape[1])
    return out | {"accuracy": (heard.sort().values == asked.sort().values).double().mean().item()}


@a_transcribe.misconception(
    "largest-of-the-clips",
    "Your argmax runs over the clips. Each clip is a row: the largest number in the row says what "
    "is heard.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(0)
    heard = scores.argmax(0)
    classes = scores.shape[1]
    real = real == digits[new][:classes]
    return _score(heard, asked, real, classes)


@a_transcribe.misconception(
    "table-transposed",
    "Your table has what was heard in its rows and what was asked for in its columns. Rows are "
    "what was asked.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    out = _score(scores.argmax(1), asked, real, scores.shape[1])
    return out | {"table": out["table"].T}


@a_transcribe.misconception(
    "counted-once",
    "table[asked, heard] += 1 counts each pair only once, however often it comes: indexing writes "
    "all of them into one place at the same time. Count with accumulate=True, or by "
    "torch.bincount.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    out = _score(scores.argmax(1), asked, real, scores.shape[1])
    return out | {"table": out["table"].clamp(max=1)}


@a_transcribe.misconception(
    "table-of-the-digits-that-came",
    "You count the classes from the digits that came. One that nobody happened to say or to ask "
    "for is missing then, and tables differ in size. The classifier knows: it gives a number for "
    "each class.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    out = _score(scores.argmax(1), asked, real, scores.shape[1])
    count = int(asked.max()) + 1
    return out | {"table": out["table"][:count, :count]}


@a_transcribe.misconception(
    "always-ten",
    "Your table is always 10 by 10. There are ten digits, but fit may be for other classes, more "
    "or less: how many numbers does the classifier give for a clip?",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), asked, real, scores.shape[1]) | {
        "table": _score(scores.argmax(1), asked, real, 10)["table"]
    }


@a_transcribe.misconception(
    "trained-twice",
    "You call fit twice. Training begins with chance, so that these are two listeners, and their "
    "figures cannot be compared; it also takes twice as long. One classifier hears both sets.",
    detect=first_says("fit was called a second time"),
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    scores = fit(clips[~new], digits[~new])(generated)
    real = fit(clips[~new], digits[~new])(clips[new]).argmax(1) == digits[new]
    return _score(scores.argmax(1), asked, real, scores.shape[1])


@a_transcribe.misconception(
    "percent",
    "Your accuracies are in per cent. Shares from 0 to 1 are wanted.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    out = _score(scores.argmax(1), asked, real, scores.shape[1])
    return out | {"accuracy": 100 * out["accuracy"], "reals": 100 * out["reals"]}


@a_transcribe.misconception(
    "accuracy-over-reals",
    "You divide the accuracy of generated clips by that of real ones. The ratio is a good figure, "
    "but both are asked for as they are: alone, a ratio hides a classifier that hears badly.",
)
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    real = classifier(clips[new]).argmax(1) == digits[new]
    out = _score(scores.argmax(1), asked, real, scores.shape[1])
    return out | {"accuracy": out["accuracy"] / max(out["reals"], 1e-9)}


@a_transcribe.alternative("by index, counted in a loop")
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    known = [i for i, s in enumerate(speakers.tolist()) if s != int(held_out)]
    new = [i for i, s in enumerate(speakers.tolist()) if s == int(held_out)]
    classifier = fit(clips[known], digits[known])
    with torch.no_grad():
        scores = torch.cat([classifier(one[None]) for one in generated])
        reals = classifier(clips[new])
    heard = torch.max(scores, dim=1).indices
    table = torch.zeros((scores.shape[1],) * 2, dtype=torch.int64)
    for row, column in zip(asked.tolist(), heard.tolist()):
        table[row, column] += 1
    return {
        "heard": heard,
        "accuracy": sum(int(a == b) for a, b in zip(heard, asked)) / len(asked),
        "reals": sum(int(a == b) for a, b in zip(reals.argmax(1), digits[new])) / len(new),
        "table": table,
    }


@a_transcribe.alternative("from the table")
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked):
    theirs = speakers.eq(held_out)
    classifier = fit(clips[theirs.logical_not()], digits[theirs.logical_not()])
    scores = classifier(generated)
    n = scores.shape[-1]
    heard = scores.softmax(-1).argmax(-1)
    table = torch.bincount(n * asked + heard, minlength=n * n).view(n, n)
    hits = classifier(clips[theirs]).argmax(-1).eq(digits[theirs])
    return {
        "table": table,
        "heard": heard,
        "accuracy": float(table.diagonal().sum()) / len(asked),
        "reals": float(hits.sum()) / len(hits),
    }
