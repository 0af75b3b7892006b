"""Clips of sound: made alike, varied, set to one level, and put together to music.

A clip is (L,) or (..., L), floating point, with full scale 1.0. Levels are in dBFS: 20 log10 of
the root mean square, where 0 dB is an RMS of 1. A clip quieter than ``SILENT`` dBFS counts as
silent, and nothing here divides by its level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from undiffuse._arguments import require_count, require_finite, require_float
from undiffuse.resampling import resample

SILENT = -120.0  # dBFS; one step of 16-bit sound is -90
FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31, torch.uint8: 2.0**7}


def prepare_clip(
    audio: np.ndarray | torch.Tensor, rate: int, target_rate: int, length: int
) -> torch.Tensor:
    """Any recording as a clip of ``length`` samples at ``target_rate``: (length,) float32.

    audio: (n,) or (n, channels), as soundfile gives it: int16, int32 (24 bits too, as its upper
    bits), uint8 (128 is silence), or float with full scale 1. Channels are averaged, the rate is
    changed by ``resample``, then the clip is cut, or filled with silence at its END. If its
    largest absolute value is then above 1, all of it is divided by that: nothing is cut off at
    full scale, and what was quieter keeps its level. Lies in [-1, 1]. TypeError for another
    dtype, ValueError for another shape, no samples, NaN or infinite values.
    """
    require_count("length", length)
    x = _tensor(audio)
    if x.ndim not in (1, 2) or not x.numel():
        raise ValueError(f"audio must be (n,) or (n, channels), got shape {tuple(x.shape)}")
    if x.ndim == 2 and x.shape[1] > x.shape[0]:
        raise ValueError(
            f"audio must be (n, channels), got shape {tuple(x.shape)}: more channels than samples; "
            "should it be transposed?"
        )
    x = as_float(x)
    if x.ndim == 2:
        x = x.mean(1)
    # In float64: where one rate is no simple share of the other, float32 would add noise.
    x = resample(x.double(), rate, target_rate)[:length].float()
    x = torch.nn.functional.pad(x, (0, length - len(x)))
    return x / x.abs().max().clamp(min=1.0)


def as_float(audio: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Samples of any of the dtypes of ``prepare_clip`` as floats with full scale 1, same shape.

    int16, int32 and uint8 become float32; floats stay as they are. TypeError for another dtype,
    ValueError for NaN or infinite values.
    """
    x = _tensor(audio)
    if x.is_floating_point():
        return require_finite("audio", x)
    if x.dtype not in FULL_SCALE:
        raise TypeError(f"audio must be int16, int32, uint8 or floating point, got {x.dtype}")
    middle = 128.0 if x.dtype == torch.uint8 else 0.0
    return ((x.double() - middle) / FULL_SCALE[x.dtype]).float()


def _tensor(audio: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(audio, torch.Tensor):
        return audio
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio must be an array or a tensor, got {type(audio).__name__}")
    return torch.from_numpy(np.array(audio))  # torch takes no backward or read-only views


def augment_audio(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    gain_db: tuple[float, float] = (-6.0, 0.0),
    max_shift: int = 128,
    polarity: bool = True,
) -> torch.Tensor:
    """Each clip louder or quieter, later, and perhaps upside down: same shape (B, C, L).

    For each sample of the batch, in this order, from ``generator``: ``torch.rand(B)`` for the
    gain, even in dB from gain_db[0] to gain_db[1] (a factor 10 ** (dB / 20)); ``torch.randint(0,
    max_shift + 1, (B,))`` for the delay, which lets silence in at the start and drops the end;
    with ``polarity``, ``torch.randint(0, 2, (B,))``, where 1 turns the sign. The defaults fit
    clips that begin with their attack. ValueError for gains in the wrong order or a delay that is
    not from 0 to L - 1.
    """
    require_float("x", x)
    if x.ndim != 3:
        raise ValueError(f"x must be (B, C, L), got shape {tuple(x.shape)}")
    low, high = gain_db
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"gain_db must be (low, high) with low <= high, got {gain_db}")
    require_count("max_shift", max_shift, 0)
    batch, _, length = x.shape
    if max_shift >= length:
        raise ValueError(f"max_shift must be below the length of a clip, {length}, got {max_shift}")
    device = "cpu" if generator is None else generator.device
    u = torch.rand(batch, generator=generator, device=device)
    shift = torch.randint(0, max_shift + 1, (batch,), generator=generator, device=device)
    gain = 10 ** ((low + (high - low) * u.double()) / 20)
    if polarity:
        gain = gain * (1 - 2 * torch.randint(0, 2, (batch,), generator=generator, device=device))
    source = torch.arange(length, device=x.device) - shift.to(x.device)[:, None]
    moved = x.gather(2, source.clamp(min=0)[:, None].expand_as(x))
    return moved * (source >= 0)[:, None] * gain.to(x)[:, None, None]


def expand_downward(
    x: torch.Tensor, threshold_db: float = -30.0, ratio: float = 2.0, window: int = 257
) -> torch.Tensor:
    """What is quieter than a threshold made quieter still: (..., L) -> (..., L).

    At each sample the level is the RMS of the ``window`` samples around it, in dBFS; each dB that
    it lies below ``threshold_db`` becomes ``ratio`` dB, to 80 dB of change at most. Louder places
    stay as they are, and silence stays silent. A downward expander, as studios use against hiss: a
    network that draws a loud hit leaves noise of about -40 dBFS where recordings have none, and
    that is small beside the hit but all that there is after it. ValueError for a ratio below 1, or
    a window that is not odd, or longer than twice the clip.
    """
    require_float("x", x)
    if not (ratio >= 1 and math.isfinite(threshold_db)):
        raise ValueError(f"the ratio must be at least 1, got {ratio} from {threshold_db} dBFS on")
    half = require_count("window", window) // 2
    if window % 2 == 0 or half >= x.shape[-1]:
        raise ValueError(f"window must be odd, and not twice as long as the clip, got {window}")
    flat = x.reshape(-1, 1, x.shape[-1])
    power = torch.nn.functional.pad(flat.square(), (half, half), mode="reflect")
    power = torch.nn.functional.avg_pool1d(power, window, 1)
    level = 10 * power.clamp(min=1e-12).log10()
    gain = ((level - threshold_db).clamp(max=0) * (ratio - 1)).clamp(min=-80)
    return (flat * 10 ** (gain / 20)).reshape(x.shape)


def rms_dbfs(x: torch.Tensor, floor: float = SILENT) -> torch.Tensor:
    """20 log10 of the root mean square over the last dimension, in dBFS: (..., L) -> (...,).

    A full-scale square wave has 0 dBFS, a full-scale sine -3.01. What is quieter than ``floor``,
    silence too, gives ``floor`` (and no gradient).
    """
    require_float("x", x)
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"x must be (..., L) with at least 1 sample, got shape {tuple(x.shape)}")
    return 10 * x.square().mean(-1).clamp(min=10 ** (floor / 10)).log10()


def loudness_normalise(x: torch.Tensor, target_db: float = -20.0) -> torch.Tensor:
    """Each clip (..., L) with an RMS of ``target_db`` dBFS, by one factor a clip; same shape.

    A silent clip (not above ``SILENT`` dBFS) comes back as it is. Nothing is limited: peaks may
    pass 1 (``sound_metrics.clipping_share`` counts them). ValueError for an infinite target.
    """
    if not math.isfinite(target_db):
        raise ValueError(f"target_db must be finite, got {target_db}")
    level = rms_dbfs(x)
    gain = torch.where(level > SILENT, 10 ** ((target_db - level) / 20), 1.0)
    return x * gain[..., None]


def shift_schedule(
    log_snr: torch.Tensor | float, length: float, base_length: float, dims: int = 1
) -> torch.Tensor | float:
    """The log SNR that a base schedule needs at another resolution of the same data.

    log_snr + dims * log(base_length / length). ``length`` is the number of samples along each of
    ``dims`` dimensions (a side in pixels, or a sampling rate), ``base_length`` that for which the
    schedule was made. Averaging k neighbours in each dimension leaves the slowly varying data as
    they are and divides the variance of the noise by k ** dims; so data sampled k times as finely
    keep as much of their large features in noise of k ** dims times the variance. Hoogeboom et
    al. 2023 ("Simple diffusion"), section 3.1, is dims = 2. ValueError for lengths that are not
    positive or dims below 1.
    """
    if not (length > 0 and base_length > 0):
        raise ValueError(f"lengths must be positive, got {length} and {base_length}")
    return log_snr + require_count("dims", dims) * math.log(base_length / length)


def drum_loop(
    samples: Mapping[str, torch.Tensor], pattern: Mapping[str, str], bpm: float, rate: int
) -> torch.Tensor:
    """A bar of drums: hits added up where the pattern has an "x": (round(steps * step),).

    samples: name -> clip (n,). pattern: name -> "x...x...x...x...", where "." is a rest; each
    character is a sixteenth note, a quarter of a beat, so that sixteen make a bar of four. Hit i
    begins at sample round(i * 60 / bpm / 4 * rate). Hits sound on into those that follow, and are
    cut off at the end of the bar. If the sum passes 1, all of it is divided by its peak. Returns
    the dtype of the first sample. ValueError for other characters, patterns of different lengths
    or none, a name without a sample, or bpm or rate that are not positive.
    """
    if not pattern:
        raise ValueError("pattern is empty: name -> steps is wanted")
    steps = {len(p) for p in pattern.values()}
    if len(steps) > 1 or 0 in steps:
        raise ValueError(f"all patterns must have as many steps, got {sorted(steps)}")
    for name, p in pattern.items():
        if set(p) - {"x", "."}:
            raise ValueError(f'pattern of {name!r} is {p!r}: "x" (hit) and "." (rest) are wanted')
    step = _seconds_a_beat(bpm, rate) / 4 * rate
    hits = [
        (round(i * step), _sample(samples, name))
        for name, p in pattern.items()
        for i, mark in enumerate(p)
        if mark == "x"
    ]
    return _mix(hits, round(steps.pop() * step), samples)


def melody(
    notes: Mapping[int, torch.Tensor],
    score: Sequence[tuple[int | None, float]],
    bpm: float,
    rate: int,
    release: float = 0.03,
) -> torch.Tensor:
    """Notes one after the other: (round(beats * 60 / bpm * rate),).

    notes: MIDI pitch -> clip (n,). score: (pitch, beats), where pitch None is a rest. A note is
    heard for its beats, or as long as its clip, and fades out over the ``release`` seconds that
    follow, so that it does not click; that tail overlaps with the next. If the sum passes 1, all
    of it is divided by its peak. ValueError for an empty score, beats or bpm that are not
    positive, or a pitch that is not in ``notes``.
    """
    if not score:
        raise ValueError("score is empty: (pitch or None, beats) pairs are wanted")
    second = _seconds_a_beat(bpm, rate)
    fade = max(1, round(release * rate))
    hits, at = [], 0.0
    for pitch, beats in score:
        if not beats > 0:
            raise ValueError(f"a note of {beats} beats: more than 0 are wanted")
        start, at = round(at * second * rate), at + beats
        if pitch is None:
            continue
        long = round(at * second * rate) - start
        clip = _sample(notes, pitch)[: long + fade]
        ramp = torch.ones_like(clip)
        tail = len(clip) - long
        if tail > 0:
            ramp[long:] = torch.linspace(1, 0, fade + 1, dtype=clip.dtype)[1 : tail + 1]
        hits.append((start, clip * ramp))
    return _mix(hits, round(at * second * rate), notes)


def _seconds_a_beat(bpm: float, rate: int) -> float:
    if not (0 < bpm < math.inf and rate > 0):
        raise ValueError(f"bpm and rate must be positive, got {bpm} and {rate}")
    return 60 / bpm


def _sample(samples: Mapping, name) -> torch.Tensor:
    if name not in samples:
        raise ValueError(f"there is no sample {name!r}: there are {sorted(samples)}")
    clip = require_float(f"sample {name!r}", samples[name])
    if clip.ndim != 1:
        raise ValueError(f"sample {name!r} must be (n,), got shape {tuple(clip.shape)}")
    return clip


def _mix(hits: list[tuple[int, torch.Tensor]], length: int, samples: Mapping) -> torch.Tensor:
    """Clips added up where they begin, over ``length`` samples; divided by the peak if above 1."""
    if not samples:
        raise ValueError("there are no samples to play")
    like = next(iter(samples.values()))
    out = torch.zeros(length, dtype=like.dtype, device=like.device)
    for start, clip in hits:
        piece = clip[: max(0, length - start)]
        out[start : start + len(piece)] += piece
    return out / out.abs().max().clamp(min=1.0) if length else out
