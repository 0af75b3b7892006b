"""Sound as frequencies over time, and back: STFT, mel, Griffin-Lim, another sampling rate.

All functions take float32 or float64 tensors ``(..., L)`` with any leading dimensions, on any
device, and give the same dtype back (spectra: the complex dtype of it). They are differentiable,
but for ``mel_to_magnitude`` and ``griffin_lim``, which search; where a magnitude is 0 its gradient
is 0, so silence gives no NaN. ``n_fft`` is the length of a frame and ``hop`` the way from one
frame to the next, both in samples; ``rate`` is in Hz.

Conventions are librosa's (``pad_mode="reflect"``, mel filters in the Slaney scale and scaling).
TypeError or ValueError say what was given and what is wanted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F

from undiffuse._arguments import require_count, require_float, require_tensor
from undiffuse.resampling import resample as resample

FLOOR = 1e-5  # below it a mel band counts as silent; rounding to 16 bits makes a quarter of it
LOW, HIGH = math.log(FLOOR), 1.0  # log-mel values that become -1 and 1; few are higher


def stft(
    x: torch.Tensor,
    n_fft: int = 256,
    hop: int = 64,
    window: torch.Tensor | None = None,
    center: bool = True,
) -> torch.Tensor:
    """Short-time Fourier transform: complex (..., n_fft // 2 + 1, frames).

    x: (..., L). window: (n_fft,), the periodic Hann window if None. With ``center``, frame i is
    centred on sample i * hop, ``x`` is reflected at both ends, and there are 1 + L // hop frames
    (for even n_fft); without, frame i begins there and no frame passes the end. Not scaled: a
    sine of amplitude a peaks at a * sum(window) / 2. ValueError if ``x`` is too short for a frame.
    """
    require_float("x", x)
    window = _window(window, n_fft, hop, x.dtype, x.device)
    least = n_fft // 2 + 1 if center else n_fft
    if x.ndim < 1 or x.shape[-1] < least:
        raise ValueError(
            f"x must be (..., L) with at least {least} samples for frames of {n_fft}, "
            f"got shape {tuple(x.shape)}"
        )
    flat = x.reshape(-1, x.shape[-1])
    if center:
        flat = F.pad(flat[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
    found = torch.stft(flat, n_fft, hop, window=window, center=False, return_complex=True)
    return found.reshape(*x.shape[:-1], *found.shape[1:])


def stft_magnitude(
    x: torch.Tensor,
    n_fft: int = 256,
    hop: int = 64,
    window: torch.Tensor | None = None,
    center: bool = True,
) -> torch.Tensor:
    """Absolute value of ``stft``, in the dtype of ``x``: (..., n_fft // 2 + 1, frames)."""
    return stft(x, n_fft, hop, window, center).abs()


def istft(
    spectrum: torch.Tensor,
    n_fft: int = 256,
    hop: int = 64,
    length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
) -> torch.Tensor:
    """The sound of a spectrum by windowed overlap-add: (..., length). Undoes ``stft``.

    spectrum: complex (..., n_fft // 2 + 1, frames), made with the same other arguments. Griffin
    and Lim 1984, eq. 6. length: hop * (frames - 1) if None (n_fft more without ``center``); what
    the frames do not reach is 0.
    """
    frames = _spectrum("spectrum", spectrum, n_fft, complex_wanted=True)
    window = _window(window, n_fft, hop, spectrum.real.dtype, spectrum.device)
    flat = spectrum.reshape(-1, n_fft // 2 + 1, frames)
    pieces = torch.fft.irfft(flat, n_fft, dim=1) * window[:, None]
    weight = _overlap_add((window**2)[None, :, None].expand(1, n_fft, frames), hop)
    weight = weight.where(weight > torch.finfo(weight.dtype).tiny, torch.ones_like(weight))
    x = _overlap_add(pieces, hop) / weight
    start = n_fft // 2 if center else 0
    if length is None:
        length = hop * (frames - 1) + (0 if center else n_fft)
    x = x[:, start : start + require_count("length", length)]
    return F.pad(x, (0, length - x.shape[1])).reshape(*spectrum.shape[:-2], length)


def mel_filterbank(
    n_mels: int,
    n_fft: int,
    rate: float,
    f_min: float = 0.0,
    f_max: float | None = None,
    *,
    htk: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Triangles over frequency, evenly spaced in mel: (n_mels, n_fft // 2 + 1), at least 0.

    Filter i rises from corner i to corner i + 1 and falls to corner i + 2 of n_mels + 2 corners
    between f_min and f_max (rate / 2 if None), and has area 1 over Hz (height 2 / width). Mel is
    Slaney's (Auditory Toolbox, 1998: linear to 1 kHz, logarithmic above), or with ``htk`` 2595
    log10(1 + f / 700). Equal to ``librosa.filters.mel``. A filter that falls between two
    bins is 0 everywhere and never sees anything: a warning says which.
    """
    require_count("n_mels", n_mels)
    require_count("n_fft", n_fft, 2)
    f_max = rate / 2 if f_max is None else f_max
    if not 0 <= f_min < f_max <= rate / 2:
        raise ValueError(
            f"0 <= f_min < f_max <= rate / 2 is wanted, got f_min={f_min}, f_max={f_max}, "
            f"rate={rate}"
        )
    low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), htk).tolist()
    corners = mel_to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64), htk)[:, None]
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (rate / n_fft)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0) * 2 / (corners[2:] - corners[:-2])
    empty = (filters.sum(1) == 0).nonzero()[:, 0].tolist()
    if empty:
        warnings.warn(
            f"filters {empty} of {n_mels} fall between the bins of n_fft={n_fft} and are 0: take "
            "fewer filters or longer frames",
            stacklevel=2,
        )
    return filters.to(device=device, dtype=dtype)


def hz_to_mel(hz: torch.Tensor, htk: bool = False) -> torch.Tensor:
    """Mel of frequencies in Hz, elementwise; see ``mel_filterbank`` for the two scales."""
    if htk:
        return 2595 * torch.log10(1 + hz / 700)
    return torch.where(hz < 1000, hz * 3 / 200, 15 + torch.log(hz.clamp(min=1) / 1000) * _PER_LOG)


def mel_to_hz(mel: torch.Tensor, htk: bool = False) -> torch.Tensor:
    """Inverse of ``hz_to_mel``."""
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) / _PER_LOG))


_PER_LOG = 27 / math.log(6.4)  # Slaney: 27 mels from 1 kHz to 6.4 kHz


def log_mel(
    x: torch.Tensor,
    rate: float,
    n_mels: int = 64,
    n_fft: int = 256,
    hop: int = 64,
    f_min: float = 0.0,
    f_max: float | None = None,
    *,
    htk: bool = False,
    floor: float = FLOOR,
) -> torch.Tensor:
    """log(max(filters @ |STFT|, floor)), the natural logarithm: (..., n_mels, frames).

    Of magnitudes, not of power. x: (..., L); the rest as in ``stft_magnitude`` and
    ``mel_filterbank``. floor > 0 makes silence finite. ``exp`` gives the mel spectrogram back.
    """
    if not floor > 0:
        raise ValueError(f"floor must be above 0, or silence has no logarithm; got {floor}")
    magnitude = stft_magnitude(x, n_fft, hop)
    filters = _filters(n_mels, n_fft, rate, f_min, f_max, htk, x.dtype, x.device)
    return (filters @ magnitude).clamp(min=floor).log()


def log_mel_to_model_range(y: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """Log-mel values low .. high as -1 .. 1, by a straight line; nothing is cut off."""
    _range(low, high)
    return (require_float("y", y) - low) * (2 / (high - low)) - 1


def log_mel_from_model_range(y: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """Inverse of ``log_mel_to_model_range``: -1 .. 1 as log-mel values low .. high."""
    _range(low, high)
    return (require_float("y", y) + 1) * ((high - low) / 2) + low


@torch.no_grad()
def mel_to_magnitude(
    mel: torch.Tensor, filterbank: torch.Tensor, iterations: int = 100
) -> torch.Tensor:
    """A magnitude >= 0 whose mel spectrogram is ``mel``, or comes near: (..., bins, frames).

    mel: (..., n_mels, frames), not its logarithm. filterbank: (n_mels, bins). Non-negative least
    squares, with each band's error divided by the length of its filter, by accelerated projected
    gradients (Beck & Teboulle 2009) that start again where they overshoot (O'Donoghue & Candes
    2015), from the pseudo-inverse. Fewer bands than bins: of the many answers, one near the
    smoothest.
    """
    require_float("mel", mel)
    if filterbank.ndim != 2 or mel.ndim < 2 or mel.shape[-2] != len(filterbank):
        raise ValueError(
            f"mel must be (..., n_mels, frames) and filterbank (n_mels, bins), got shapes "
            f"{tuple(mel.shape)} and {tuple(filterbank.shape)}"
        )
    require_count("iterations", iterations, 0)
    filters = filterbank.to(mel)
    size = filters.norm(dim=1, keepdim=True)
    filters, mel = filters / size, mel / size
    gram = filters.T @ filters
    step = 1 / torch.linalg.matrix_norm(gram, 2)
    wanted = filters.T @ mel
    s = (torch.linalg.pinv(filters) @ mel).clamp(min=0)
    ahead, momentum = s, torch.ones_like(s[..., :1, :])
    for _ in range(iterations):
        new = (ahead - step * (gram @ ahead - wanted)).clamp(min=0)
        overshot = ((ahead - new) * (new - s)).sum(-2, keepdim=True) > 0
        momentum = momentum.where(~overshot, torch.ones_like(momentum))
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + (momentum - 1) / following * (new - s)
        s, momentum = new, following
    return s


@torch.no_grad()
def griffin_lim(
    magnitude: torch.Tensor,
    iterations: int,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    n_fft: int = 256,
    hop: int = 64,
    length: int | None = None,
    momentum: float = 0.0,
) -> torch.Tensor:
    """A sound whose STFT has nearly this magnitude, by finding phases: (..., length).

    magnitude: (..., n_fft // 2 + 1, frames), of ``stft_magnitude`` with the default window.
    Starts with random phases, 2 pi ``torch.rand`` from ``generator``; then, ``iterations`` times:
    ``istft``, its ``stft``, and the given magnitude with the phases of that; last, ``istft``.
    Griffin & Lim 1984, section III. With momentum 0 the squared error of the magnitude (summed
    over both halves of the spectrum) never rises where the ends are silent for n_fft samples;
    elsewhere the reflection there lets it rise by less than a thousandth, seldom. A momentum of
    about 0.99 gets further in as many steps, not steadily (Perraudin et al. 2013). length: hop *
    (frames - 1) if None. generator: a list of them, one for each sound of the first dimension,
    makes each independent of the others. ValueError for negative magnitudes, a momentum outside
    [0, 1), or a length that has another number of frames.
    """
    frames = _spectrum("magnitude", magnitude, n_fft, complex_wanted=False)
    require_count("iterations", iterations, 0)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    if not (magnitude >= 0).all():
        raise ValueError("magnitude has values that are negative or NaN")
    length = hop * (frames - 1) if length is None else require_count("length", length)
    if length <= n_fft // 2 or 1 + (length + n_fft // 2 * 2 - n_fft) // hop != frames:
        raise ValueError(f"{frames} frames, {hop} apart, do not belong to {length} samples")
    if isinstance(generator, Sequence):
        if len(generator) != len(magnitude):
            raise ValueError(f"{len(generator)} generators cannot serve {len(magnitude)} sounds")
        angle = torch.stack([_turns(m, g) for m, g in zip(magnitude, generator)])
    else:
        angle = _turns(magnitude, generator)
    spectrum = torch.polar(magnitude, 2 * math.pi * angle)
    last = torch.zeros_like(spectrum)
    for _ in range(iterations):
        seen = stft(istft(spectrum, n_fft, hop, length), n_fft, hop)
        spectrum = torch.polar(magnitude, (seen + momentum * (seen - last)).angle())
        last = seen
    return istft(spectrum, n_fft, hop, length)


def _turns(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, dtype=like.dtype, device=device).to(like)


@lru_cache(maxsize=8)
def _filters(n_mels, n_fft, rate, f_min, f_max, htk, dtype, device) -> torch.Tensor:
    with torch.inference_mode(False):  # what is kept must also serve a later call with gradients
        return mel_filterbank(
            n_mels, n_fft, rate, f_min, f_max, htk=htk, dtype=dtype, device=device
        )


def _overlap_add(pieces: torch.Tensor, hop: int) -> torch.Tensor:
    """(N, n_fft, frames), each ``hop`` after the last, added up: (N, n_fft + hop (frames - 1))."""
    size, frames = pieces.shape[1:]
    total = size + hop * (frames - 1)
    return F.fold(pieces, (1, total), (1, size), stride=(1, hop))[:, 0, 0]


def _window(window, n_fft: int, hop: int, dtype, device) -> torch.Tensor:
    require_count("n_fft", n_fft, 2)
    require_count("hop", hop)
    if window is None:
        return torch.hann_window(n_fft, dtype=dtype, device=device)
    if window.shape != (n_fft,):
        raise ValueError(f"window must be (n_fft,), ({n_fft},), got {tuple(window.shape)}")
    return window.to(dtype=dtype, device=device)


def _spectrum(name: str, value, n_fft: int, complex_wanted: bool) -> int:
    """How many frames ``value`` has, if it is a spectrum of frames of n_fft."""
    require_tensor(name, value)
    if complex_wanted != value.is_complex() or not (
        value.is_complex() or value.is_floating_point()
    ):
        wanted = "complex" if complex_wanted else "floating point"
        raise TypeError(f"{name} must be {wanted}, got dtype {value.dtype}")
    bins = n_fft // 2 + 1
    if value.ndim < 2 or value.shape[-2] != bins or value.shape[-1] < 1:
        raise ValueError(f"{name} must be (..., {bins}, frames), got shape {tuple(value.shape)}")
    return value.shape[-1]


def _range(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
