"""What can be measured on a sound without a classifier: spectra, pitch, attack, clipping.

Clips are (..., L), float32 or float64, with full scale 1.0 and any leading dimensions; a measure
gives one number for each. Silence has no pitch, no brightness and no attack: these are NaN then,
and nothing divides by zero. Levels are in ``sound.rms_dbfs``; distances between sets of features
in ``metrics``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from undiffuse._arguments import float64_device, require_float, require_same_shape
from undiffuse.resampling import resample
from undiffuse.sound import SILENT, rms_dbfs
from undiffuse.transforms import FLOOR, mel_filterbank, stft_magnitude

FINE = 8  # lags between two samples, when a period is looked for
ZEROS = 128  # of the sinc between them: so many that partials close to rate / 2 do not bend it


def log_spectral_distance(a: torch.Tensor, b: torch.Tensor, floor: float = FLOOR) -> torch.Tensor:
    """How far two spectrograms are apart, in dB: (..., bins, frames) each -> (...,).

    a, b: magnitudes (or mel) >= 0 of the same shape. With D = 20 log10(max(a, floor) / max(b,
    floor)): the root of the mean of D squared over the bins of a frame, then the mean over frames
    (Gray & Markel 1976, "Distance measures for speech processing"). Symmetric; 0 for equal ones; a
    factor of 2 everywhere is 6.02. ValueError for shapes that differ or floor <= 0.
    """
    require_float("a", a)
    require_same_shape("b", b, "a", a)
    if a.ndim < 2 or not a.numel():
        raise ValueError(f"a must be (..., bins, frames), got shape {tuple(a.shape)}")
    if not floor > 0:
        raise ValueError(f"floor must be above 0, got {floor}")
    d = 20 * (a.clamp(min=floor).log10() - b.clamp(min=floor).log10())
    # A norm and not a root of a mean: its gradient is 0, not NaN, where the frames are equal.
    return (torch.linalg.vector_norm(d, dim=-2) / math.sqrt(a.shape[-2])).mean(-1)


def estimate_pitch(
    x: torch.Tensor,
    rate: float,
    f_min: float = 27.0,
    f_max: float | None = None,
    *,
    peak: float = 0.9,
    clarity: float = 0.5,
) -> torch.Tensor:
    """The pitch of each clip in Hz: (..., L) -> (...,), NaN where there is none.

    One pitch for a whole clip, as a note has. The clip is compared with itself some samples later
    by McLeod and Wyvill's normalised square difference (2005, "A smarter way to find pitch"): 1
    where it repeats, 0 where nothing does. Of its peaks behind its first fall below 0, the first
    is taken that reaches ``peak`` of the highest: later ones are multiples of the period. The
    function is interpolated to an eighth of a sample, and by a parabola from there. It is computed
    in float64, on the CPU where the clip's device has none.

    No pitch: the highest peak is below ``clarity``, or the clip is silent. f_max: 0.49 rate if
    None. A clip should hold some periods: lags go to half of it at most. No gradient is of use.
    """
    require_float("x", x)
    f_max = 0.49 * rate if f_max is None else f_max
    if not 0 < f_min < f_max < rate / 2:
        raise ValueError(f"0 < f_min < f_max < rate / 2 is wanted, got {f_min}, {f_max}, {rate}")
    if x.ndim < 1 or x.shape[-1] < 16:
        raise ValueError(f"x must be (..., L) with at least 16 samples, got {tuple(x.shape)}")
    device, dtype = x.device, x.dtype
    x = x.to(float64_device(device))
    similar = _self_similarity(x, min(math.ceil(rate / f_min) + 1, x.shape[-1] // 2))
    left, middle, right = similar[..., :-2], similar[..., 1:-1], similar[..., 2:]
    lag = torch.arange(1, similar.shape[-1] - 1, device=x.device)
    after = torch.cumsum(similar < 0, -1)[..., 1:-1] > 0
    is_peak = (middle > left) & (middle >= right) & after & (lag >= FINE * rate / f_max - 1)
    height = middle.where(is_peak, torch.full_like(middle, -1.0))
    highest = height.amax(-1, keepdim=True)
    first = (height >= peak * highest).int().argmax(-1, keepdim=True)
    a, b, c = (v.gather(-1, first)[..., 0] for v in (left, middle, right))
    bend = (2 * b - a - c).clamp(min=torch.finfo(b.dtype).tiny)
    period = (lag[first[..., 0]] + (c - a) / (2 * bend)) / FINE
    clear = (highest[..., 0] >= clarity) & (rms_dbfs(x) > SILENT)
    found = (rate / period).where(clear, torch.full_like(period, math.nan))
    return found.to(dtype).to(device)


def pitch_error_cents(
    x: torch.Tensor,
    midi: torch.Tensor | float,
    rate: float,
    *,
    fold_octaves: bool = False,
    **options,
) -> torch.Tensor:
    """By how many cents each clip is above the pitch asked for: (..., L), (...,) -> (...,).

    1200 log2(f / f_asked); 100 cents are a semitone, below 0 is too low, NaN is no pitch. midi:
    MIDI numbers, also between whole ones. options: of ``estimate_pitch``.

    fold_octaves: the error to the nearest octave of the pitch asked for, from -600 to 600. That is
    right where the key that is asked for does not settle the octave: an organ that sounds pipes of
    twice the length repeats an octave below its key, and for bells and chords the strongest period
    is none of the key's. It is wrong where an octave is a mistake: a model that plays C2 for C4
    then passes for in tune. So give it beside the plain error, not in its place.
    """
    found = estimate_pitch(x, rate, **options)
    asked = torch.as_tensor(midi).to(found.dtype).to(found.device)
    cents = 1200 * torch.log2(found / midi_to_hz(asked))
    return cents - 1200 * (cents / 1200).round() if fold_octaves else cents


def midi_to_hz(midi: torch.Tensor) -> torch.Tensor:
    """440 * 2 ** ((midi - 69) / 12), elementwise: 69 is the A of 440 Hz, 60 the middle C."""
    return 440 * 2 ** ((midi - 69) / 12)


def hz_to_midi(hz: torch.Tensor) -> torch.Tensor:
    """Inverse of ``midi_to_hz``."""
    return 69 + 12 * torch.log2(hz / 440)


def spectral_centroid(x: torch.Tensor, rate: float, n_fft: int = 512) -> torch.Tensor:
    """Mean frequency in Hz, weighted by power over the whole clip: (..., L) -> (...,).

    Higher sounds brighter. Clips shorter than a frame are filled with silence. NaN for silence.
    """
    power = stft_magnitude(_long_enough(x, n_fft), n_fft, n_fft // 4).square().sum(-1)
    hz = torch.arange(n_fft // 2 + 1, dtype=x.dtype, device=x.device) * (rate / n_fft)
    total = power.sum(-1)
    some = rms_dbfs(x) > SILENT
    mean = (power @ hz) / total.where(some, torch.ones_like(total))
    return mean.where(some, torch.full_like(total, math.nan))


def attack_seconds(
    x: torch.Tensor, rate: float, shares: tuple[float, float] = (0.1, 0.5)
) -> torch.Tensor:
    """How long a sound takes from a tenth to half of its peak: (..., L) -> (...,).

    Of the envelope, the largest absolute value in each 2 ms: from where it first reaches
    ``shares[0]`` of its maximum until it first reaches ``shares[1]``. Half and not nearly all of
    it, since a held note may swell long after it has begun. NaN for silence.
    """
    if not 0 <= shares[0] <= shares[1] <= 1:
        raise ValueError(f"shares must rise and lie in [0, 1], got {shares}")
    size = max(1, round(0.002 * rate))
    envelope = _envelope(x, size)
    top = envelope.amax(-1, keepdim=True)
    start, end = ((envelope >= share * top).int().argmax(-1) for share in shares)
    seconds = (end - start).to(x.dtype) * (size / rate)
    return seconds.where(rms_dbfs(x) > SILENT, torch.full_like(seconds, math.nan))


def sounding_seconds(x: torch.Tensor, rate: float, below_peak: float = -40.0) -> torch.Tensor:
    """Time from the start until a clip stays ``below_peak`` dB under its peak: (...,); silence 0.

    Of the envelope as in ``attack_seconds``.
    """
    size = max(1, round(0.002 * rate))
    envelope = _envelope(x, size)
    top = envelope.amax(-1, keepdim=True)
    heard = (envelope >= 10 ** (below_peak / 20) * top) & (top > 0)
    count = torch.arange(1, envelope.shape[-1] + 1, device=x.device)
    samples = ((heard * count).amax(-1) * size).clamp(max=x.shape[-1])
    return samples.to(x.dtype) / rate


def clipping_share(x: torch.Tensor, level: float = 0.999) -> torch.Tensor:
    """Share of samples at or beyond +-``level``: (..., L) -> (...,), from 0 to 1."""
    require_float("x", x)
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"x must be (..., L) with at least 1 sample, got shape {tuple(x.shape)}")
    return (x.abs() >= level).to(x.dtype).mean(-1)


def mean_spectrum_db(
    x: torch.Tensor, rate: float, n_bands: int = 32, n_fft: int = 512, floor: float = -100.0
) -> torch.Tensor:
    """The average spectrum of a set of clips (N, L) in mel bands, in dB: (n_bands,).

    Mean power over all clips and frames, summed in bands by ``mel_filterbank`` times their width,
    so that white noise of 0 dBFS has 0 dB when summed over all; not below ``floor``.
    """
    if require_float("x", x).ndim != 2 or not x.numel():
        raise ValueError(f"x must be clips (N, L), got shape {tuple(x.shape)}")
    filters = mel_filterbank(n_bands, n_fft, rate, dtype=x.dtype, device=x.device)
    filters = filters / filters.sum(0).clamp(min=filters.max() * 1e-3)
    magnitude = stft_magnitude(_long_enough(x, n_fft), n_fft, n_fft // 4)
    power = magnitude.square().mean((0, 2)) * (2 / n_fft / (0.375 * n_fft))
    return 10 * (filters @ power).clamp(min=10 ** (floor / 10)).log10()


def spectrum_distance_db(a: torch.Tensor, b: torch.Tensor, rate: float, **options) -> float:
    """How different two sets of clips (N, L), (M, L) sound on average, in dB.

    Root of the mean square difference of their ``mean_spectrum_db``; options: of that. 0 for a
    set and itself; a set at twice the amplitude is 6.02 away. Says nothing of single clips.
    """
    d = mean_spectrum_db(a, rate, **options) - mean_spectrum_db(b, rate, **options)
    return float(d.square().mean().sqrt())


def _self_similarity(x: torch.Tensor, lags: int) -> torch.Tensor:
    """2 sum x[i] x[i + lag] / sum (x[i]^2 + x[i + lag]^2), at lags k / FINE: (..., FINE * lags)."""
    x = x.double()
    x = x - x.mean(-1, keepdim=True)
    n = x.shape[-1]
    beyond = min(lags + ZEROS, n - 1)
    size = 1 << (n + beyond).bit_length()
    product = torch.fft.irfft(torch.fft.rfft(x, size).abs().square(), size)[..., : beyond + 1]
    before = torch.arange(n - 1, n - beyond - 2, -1, device=x.device)
    square = x.square().cumsum(-1)
    # Lag k: the first n - k samples and the last n - k.
    both = square[..., before] + square[..., -1:]
    both[..., 1:] -= square[..., :beyond]
    similar = 2 * product / both.clamp(min=torch.finfo(x.dtype).tiny)
    # Both sides of lag 0, so that the interpolation finds what it needs there.
    around = torch.cat([similar[..., 1 : ZEROS + 1].flip(-1), similar], -1)
    first = FINE * min(ZEROS, beyond)
    fine = resample(around, 1, FINE, zeros=ZEROS, rolloff=0.98)[..., first : first + FINE * lags]
    # 1 at lag 0 again, also where partials next to rate / 2 were taken out.
    return fine / fine[..., :1].clamp(min=0.1)


def _envelope(x: torch.Tensor, size: int) -> torch.Tensor:
    require_float("x", x)
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"x must be (..., L) with at least 1 sample, got shape {tuple(x.shape)}")
    padded = F.pad(x.abs(), (0, -x.shape[-1] % size))
    return padded.unflatten(-1, (-1, size)).amax(-1)


def _long_enough(x: torch.Tensor, n_fft: int) -> torch.Tensor:
    return F.pad(require_float("x", x), (0, max(0, n_fft - x.shape[-1])))
