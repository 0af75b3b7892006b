# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Sound II: spectrograms, a vocoder, speech and notes
# <!-- lesson-header -->
#
# Lesson 11 made sound sample by sample. Most systems that speak or sing today do not: they draw a
# *picture* of the sound first, and a second model, the *vocoder*, turns that picture into a
# waveform. You will be able to
#
# - write the picture's parts: the short-time Fourier transform, mel filters, the logarithm,
# - find a sound for a picture without its phases, and measure how far off it is,
# - build a vocoder by diffusion, and compare it with the classic without any learning,
# - let a model speak digits, and have somebody else write down what they are,
# - play a melody of notes that no instrument has played,
# - say from measurements what the detour over a picture buys, and what it costs.
#
# You need lessons 05 and 06 (training and sampling), and from lesson 11 what a sampling rate is.

# %% tags=["setup"]
import math
import time

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from coursework import check, hint
from undiffuse import budget, data, plots

# %% [markdown]
# ## A claim, and your guesses
#
# > **Claim 3.** "Diffusion models are only for images."
#
# Lesson 11 answered it with waveforms. Here is the other answer: a sound can be made *into* an
# image. Is that better, or only more familiar?

# %% [markdown] tags=["remark"]
# 1. A picture of a sound keeps how strong each frequency is, and throws the phases away. How much
#    of a spoken digit can be recovered from it: nothing, a whisper, nearly all? My guess:
# 2. Two models learn notes for the same time, one the waveforms, one their pictures. Whose notes
#    are better in tune? My guess:
# 3. And whose spoken digits are easier to understand? My guess:
# 4. A classifier has heard five speakers. How often does it understand a sixth: 99 %, 90 %, 70 %?
#    My guess:

# %% [markdown]
# ## The sounds
#
# Everything in this lesson has 8,000 samples a second, as a telephone has. Three sets are used:
#
# - `data.speech_prompts()`: ten digits, as a telephone system speaks them. They come with the
#   course, and are only there to look at.
# - `data.notes()`: single notes of instruments, with their family and their pitch. They come with
#   the course, too.
# - FSDD, the *Free Spoken Digit Dataset*: 3,000 recordings of digits by six speakers (Jackson and
#   others, CC BY-SA 4.0). It is a download of 16 MB, which you can make, but need not:
#   `python -m undiffuse.downloads fsdd` in a terminal. Without it the cells that train on speech
#   are skipped, and say so.

# %%
from undiffuse import downloads, listen

RATE = 8000
try:
    fsdd = downloads.load("fsdd")
except (ValueError, data.DataNotFound) as error:
    fsdd = None
    print("FSDD is not here: what trains on speech is skipped below.", str(error).splitlines()[0])
prompts, prompt_digits = data.speech_prompts()  # (10, 1, 8192) in [-1, 1], and (10,)
word = prompts[7, 0, : budget(full=6400, small=6400)]
print(f"the word for {prompt_digits[7]}")
listen.player(word, RATE)

# %% [markdown]
# ## Which frequencies, and when
#
# A Fourier transform tells which frequencies are in a sound, and nothing about when. The
# **short-time Fourier transform** (STFT) cuts the sound into short, overlapping frames, and
# transforms each of them:
#
# $$X_{k,i} = \sum_{n=0}^{N-1} w_n \; x_{\,iH + n - N/2} \; e^{-2\pi \mathrm{i}\, k n / N},
# \qquad k = 0, \dots, N/2.$$
#
# - $N$ (`n_fft`): samples in a frame; $H$ (`hop`): samples from one frame to the next;
# - $w$: the *window*, which fades each frame in and out, so that its edges make no sound of their
#   own. The **Hann window** is $w_n = \tfrac12 - \tfrac12 \cos(2\pi n / N)$. (It is called
#   *periodic*, as $w_N$ would be $w_0$ again.)
# - $k$: the *bin*, at $k \cdot \text{rate} / N$ Hz. The bins above $N/2$ mirror those below, as
#   the sound is real, and are left out.
# - $i$: the *frame*. It is *centred*: its middle lies on sample $iH$. So the first and the last
#   frames reach beyond the sound, which is therefore mirrored at both ends.
#
# The **magnitude** $|X_{k,i}|$ says how much of a frequency is there; the angle, or *phase*, says
# where in its period it stands. A picture of the magnitudes over time is a **spectrogram**.

# %% [markdown]
# <!-- exercise 12.1 -->
#
# Write it. There is `torch.stft`, and you may use it; it takes more thought and less typing to do
# without.


# %% tags=["answer"] exercise="12.1"
def stft_magnitude(
    x: torch.Tensor,
    n_fft: int = 256,
    hop: int = 64,
    window: torch.Tensor | None = None,
    center: bool = True,
) -> torch.Tensor:
    """Size of the short-time Fourier transform: (..., n_fft // 2 + 1, frames), in x's dtype.

    x: (..., L), float32 or float64, with any number of leading dimensions, or none; longer than
        half a frame. n_fft: even. The transform is not scaled.
    window: (n_fft,), or None for the periodic Hann window in x's dtype.
    center: True, frame i has its middle on sample i * hop, with n_fft // 2 samples mirrored at
        both ends (the end sample itself is not repeated); False, frame i begins at sample
        i * hop of x as it is. No frame reaches beyond the end.
    """
    # BEGIN SOLUTION
    if window is None:
        window = torch.hann_window(n_fft, dtype=x.dtype)
    flat = x.reshape(-1, 1, x.shape[-1])
    if center:
        flat = F.pad(flat, (n_fft // 2, n_fft // 2), mode="reflect")
    frames = flat[:, 0].unfold(-1, n_fft, hop) * window
    found = torch.fft.rfft(frames).abs().transpose(-1, -2)
    return found.reshape(*x.shape[:-1], *found.shape[-2:])
    # END SOLUTION


# %% tags=["check"]
check("12.1")

# %% [markdown]
# How long should a frame be? The next cell shows the same word with frames of three lengths.

# %% tags=["figure"]
from matplotlib.figure import Figure


def pictures(values: dict[str, torch.Tensor], seconds: float, top: str, unit: str) -> Figure:
    """Matrices (rows, frames) side by side: low rows below, brighter where larger."""
    fig = Figure(figsize=(7.0, 2.6), dpi=100, layout="constrained")
    low = min(float(v.min()) for v in values.values())
    high = max(float(v.max()) for v in values.values())
    for i, (name, value) in enumerate(values.items()):
        ax = fig.add_subplot(1, len(values), i + 1)
        shown = ax.imshow(value, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high,
                          interpolation="nearest", extent=(0, seconds, 0, len(value)))  # fmt: skip
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("time in seconds")
        if i == 0:
            ax.set_ylabel(top)
    fig.colorbar(shown, ax=fig.axes, label=unit, shrink=0.9)
    return fig


def decibels(magnitude: torch.Tensor, below: float = 80.0) -> torch.Tensor:
    """dB below the loudest place, at least -below."""
    level = 20 * torch.log10(magnitude / magnitude.max().clamp(min=1e-9) + 1e-9)
    return level.clamp(min=-below)


lengths = {"64 samples, 8 ms": 64, "256 samples, 32 ms": 256, "1024 samples, 128 ms": 1024}
fig = pictures(
    {name: decibels(stft_magnitude(word, n, 64)) for name, n in lengths.items()},
    len(word) / RATE,
    "bin",
    "dB",
)
plots.show(
    fig,
    alt="Three spectrograms of a spoken word. With short frames upright stripes, one for each "
    "pulse of the voice, and blurred bands; with long frames fine horizontal lines, the harmonics "
    "of the voice, smeared in time; the middle length shows some of both.",
    caption="Short frames know when, long frames know which frequency, and no frame knows both: "
    "the width in time times the width in frequency has a lower bound. 256 samples are a usual "
    "choice for speech at this rate.",
)

# %% [markdown]
# ## As the ear spaces it
#
# The ear tells 200 Hz from 300 Hz easily, and 3,200 Hz from 3,300 Hz hardly. The **mel scale**
# spaces frequencies as listeners do. There are two in use. *Slaney's* is straight up to 1,000 Hz
# and logarithmic above; *HTK's* is $2595 \log_{10}(1 + f / 700)$. Mixing them up is a classic
# mistake: a vocoder that learned one does not understand the other. They are given:


# %%
def hz_to_mel(hz: torch.Tensor, htk: bool = False) -> torch.Tensor:
    """Mel of frequencies in Hz, elementwise."""
    if htk:
        return 2595 * torch.log10(1 + hz / 700)
    high = 15 + 27 * torch.log(hz.clamp(min=1) / 1000) / math.log(6.4)
    return torch.where(hz < 1000, hz * 3 / 200, high)


def mel_to_hz(mel: torch.Tensor, htk: bool = False) -> torch.Tensor:
    """The inverse."""
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    high = 1000 * torch.exp((mel - 15) * math.log(6.4) / 27)
    return torch.where(mel < 15, mel * 200 / 3, high)


# %% [markdown]
# A **mel filter** is a triangle over frequency: a weighted sum of neighbouring bins. Take
# $n_\text{mels} + 2$ *corners* from `f_min` to `f_max`, evenly spaced in mel, and convert them to
# Hz: $c_0 < c_1 < \dots$ Filter $m$ (from 0) rises in a straight line from 0 at $c_m$ to its peak
# at $c_{m+1}$, and falls to 0 at $c_{m+2}$:
#
# $$\Lambda_{m}(f) = \frac{2}{c_{m+2} - c_m}\, \max\!\Big(0,\ \min\Big(
# \frac{f - c_m}{c_{m+1} - c_m},\ \frac{c_{m+2} - f}{c_{m+2} - c_{m+1}}\Big)\Big).$$
#
# The factor in front makes its area 1, so that noise that is equally strong everywhere comes out
# equally strong in narrow and in wide filters.

# %% [markdown]
# <!-- exercise 12.2 -->
#
# Make the matrix, with the two functions above.


# %% tags=["answer"] exercise="12.2"
def mel_filterbank(
    n_mels: int,
    n_fft: int,
    rate: float,
    f_min: float = 0.0,
    f_max: float | None = None,
    htk: bool = False,
) -> torch.Tensor:
    """Mel filters as rows: (n_mels, n_fft // 2 + 1) float32, so that filters @ magnitudes works.

    Entry (m, k) is filter m at the frequency of bin k, k * rate / n_fft Hz; of area 1 over Hz.
    f_min, f_max: the first and the last corner in Hz; f_max None is rate / 2.
    htk: False for Slaney's scale, True for HTK's. Compute in float64, and convert at the end.
    ``hz_to_mel(hz, htk)`` and ``mel_to_hz(mel, htk)`` take tensors.
    """
    # BEGIN SOLUTION
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
    # END SOLUTION


# %% tags=["check"]
check("12.2")

# %% tags=["figure"]
hz = torch.arange(513) * RATE / 1024
fig = plots.curves(
    {f"filter {m + 1} of 16": mel_filterbank(16, 1024, RATE)[m] for m in (0, 3, 7, 11, 15)},
    hz,
    xlabel="frequency in Hz",
    ylabel="weight",
)
plots.show(
    fig,
    alt="Five triangles over frequency, numbers 1, 4, 8, 12 and 16 of 16 mel filters. Further right "
    "they get wider and lower; all have the same area.",
    caption="Narrow where the ear is sharp, wide where it is not.",
)

# %% [markdown]
# ## The logarithm, and the range of a model
#
# Loudness is heard in ratios: twice the magnitude is as large a step from a whisper as from a
# shout. So one more function goes on top, the logarithm. And a model wants its data around zero,
# about as large as the noise: in [-1, 1].
#
# $$M = \log \max(\Lambda\, |X|,\ \text{floor}), \qquad
# z = 2\, \frac{M - \text{low}}{\text{high} - \text{low}} - 1 .$$
#
# - the **floor** keeps silence out of the logarithm: 1e-5 here, less than one bit of a 16-bit
#   recording does to a band;
# - low and high are fixed numbers, log(1e-5) and 1: what the model draws must be turned back, on
#   another day and without the data. Some loud places lie above 1 then. That is no harm.

# %% [markdown]
# <!-- exercise 12.3 -->
#
# Write all three. The logarithm is the natural one.

# %% tags=["answer"] exercise="12.3"
LOW, HIGH = math.log(1e-5), 1.0


def log_mel(
    x: torch.Tensor,
    rate: float,
    n_mels: int = 64,
    n_fft: int = 256,
    hop: int = 64,
    floor: float = 1e-5,
) -> torch.Tensor:
    """Natural logarithm of max(filters @ magnitudes, floor): (..., n_mels, frames), x's dtype.

    x: (..., L). Magnitudes from your ``stft_magnitude`` (Hann window, centred), filters from your
    ``mel_filterbank`` (Slaney's, over all frequencies).
    """
    # BEGIN SOLUTION
    filters = mel_filterbank(n_mels, n_fft, rate).to(x.dtype)
    return torch.log((filters @ stft_magnitude(x, n_fft, hop)).clamp(min=floor))
    # END SOLUTION


def log_mel_to_model_range(y: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """Log-mel values as a model takes them: low becomes -1, high becomes 1, by a straight line.

    Nothing is cut off: values beyond low and high lie beyond -1 and 1.
    """
    # BEGIN SOLUTION
    return 2 * (y - low) / (high - low) - 1
    # END SOLUTION


def log_mel_from_model_range(y: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """The inverse: -1 becomes low, 1 becomes high; log-mel values again, no exponential."""
    # BEGIN SOLUTION
    return low + (y + 1) / 2 * (high - low)
    # END SOLUTION


# %% tags=["check"]
check("12.3")

# %% tags=["figure"]
magnitude = stft_magnitude(word)
mel = mel_filterbank(64, 256, RATE) @ magnitude
fig = pictures(
    {
        "magnitudes": magnitude / magnitude.max(),
        "mel bands": mel / mel.max(),
        "log-mel": log_mel_to_model_range(log_mel(word, RATE)) / 2 + 0.5,
    },
    len(word) / RATE,
    "bin or band",
    "0 to 1",
)
plots.show(
    fig,
    alt="The same word three times. As plain magnitudes nearly all is black, but for a few bright "
    "spots at low bins. As mel bands the spots are spread out. As log-mel the whole shape of the "
    "word can be seen, soft parts too.",
    caption="The same sound, three scales. Only the right one looks as the word sounds.",
)

# %% [markdown]
# Which of them should a diffusion model learn? It mixes data with noise of one size everywhere. The
# next cell asks which share of all values is large enough to be seen in noise a tenth as large as
# the data's own deviation.

# %%
everything = torch.cat([prompts[:, 0], data.notes("train", 100)[0][:, 0]])
scales = {
    "waveform": everything,
    "magnitudes": stft_magnitude(everything),
    "mel bands": mel_filterbank(64, 256, RATE) @ stft_magnitude(everything),
    "log-mel": log_mel(everything, RATE),
}
for name, value in scales.items():
    centred = value - value.mean()
    seen = (centred.abs() > 0.1 * centred.std()).float().mean()
    print(f"{name:11} {seen:.0%} of the values stand out of such noise; the largest is "
          f"{centred.abs().max() / centred.std():.0f} deviations")  # fmt: skip

# %% [markdown]
# ## Phases out of nothing
#
# Back from the picture to the sound. Two things are missing. The mel bands are fewer than the bins:
# there a non-negative least-squares fit finds magnitudes that would give these bands
# (`mel_to_magnitude` in the library). And the phases are gone altogether.
#
# They are not free, though. Frames overlap, so that one sample lies in several of them, and most
# choices of phases contradict themselves: no sound has them. **Griffin and Lim** (1984) look for
# phases that agree:
#
# 1. Start with the given magnitudes $A$ and random phases: $S = A\, e^{2\pi \mathrm{i} u}$.
# 2. Make the sound that comes nearest to $S$ (the inverse STFT: overlap and add).
# 3. Take its STFT. Its magnitudes are no longer $A$, but its phases belong to a sound.
# 4. Put $A$ back, keep the phases, and go to 2.
#
# Each round brings the sound's magnitudes nearer to $A$. No network, no training: the method to
# beat. Two functions are given.


# %%
def to_spectrum(x: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """The STFT itself, complex: (..., L) -> (..., n_fft // 2 + 1, frames)."""
    window = torch.hann_window(n_fft, dtype=x.dtype)
    flat = x.reshape(-1, x.shape[-1])
    found = torch.stft(flat, n_fft, hop, window=window, return_complex=True)
    return found.reshape(*x.shape[:-1], *found.shape[1:])


def to_sound(spectrum: torch.Tensor, n_fft: int, hop: int, length: int | None) -> torch.Tensor:
    """The sound nearest to a spectrum: (..., n_fft // 2 + 1, frames) -> (..., length)."""
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype)
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    x = torch.istft(flat, n_fft, hop, window=window, length=length)
    return x.reshape(*spectrum.shape[:-2], x.shape[-1])


# %% [markdown]
# <!-- exercise 12.4 -->
#
# Write it, with these two. The check compares a few rounds exactly in the middle of the sound (good
# programs treat its ends differently), and many rounds by how near they come.


# %% tags=["answer"] exercise="12.4"
def griffin_lim(
    magnitude: torch.Tensor,
    iterations: int,
    generator: torch.Generator | None,
    n_fft: int = 256,
    hop: int = 64,
    length: int | None = None,
) -> torch.Tensor:
    """A sound whose STFT has nearly these magnitudes: (..., length).

    magnitude: (..., n_fft // 2 + 1, frames), at least 0, of the Hann window, centred; zeros occur.
    iterations: rounds of 2, 3 and 4 above; 0 is the sound of the first phases. At the end, once
        more, the sound of the spectrum you hold.
    generator: the first phases are 2 pi times
        ``torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)``.
    length: samples; None is hop * (frames - 1). All leading dimensions are kept.
    """
    # BEGIN SOLUTION
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator, dtype=magnitude.dtype)
    for _ in range(iterations):
        x = to_sound(torch.polar(magnitude, angle), n_fft, hop, length)
        angle = to_spectrum(x, n_fft, hop).angle()
    return to_sound(torch.polar(magnitude, angle), n_fft, hop, length)
    # END SOLUTION


# %% tags=["check"]
check("12.4")

# %% [markdown]
# <!-- exercise 12.5 -->

# %% tags=["answer"] exercise="12.5"
class MelConditioner(nn.Module):
    """From mel frames to one condition for each sample.

    n_mels: bands. channels: of the result. hop: samples from one frame to the next.
    forward(mel (B, n_mels, frames), length) -> (B, channels, length).
    """

    def __init__(self, n_mels: int, channels: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.frames = nn.Conv1d(n_mels, channels, 3, padding=1)
        self.smooth = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, mel: torch.Tensor, length: int) -> torch.Tensor:
        # BEGIN SOLUTION
        h = F.silu(self.frames(mel))
        span = (mel.shape[-1] - 1) * self.hop + 1
        h = F.interpolate(h, size=span, mode="linear", align_corners=True)
        h = F.pad(h, (0, max(0, length - span)), mode="replicate")
        return self.smooth(h[..., :length])
        # END SOLUTION


# %% tags=["check"]
check("12.5")

# %% [markdown]
# <!-- exercise 12.6 -->

# %% tags=["answer"] exercise="12.6"
def log_spectral_distance(
    a: torch.Tensor, b: torch.Tensor, floor: float = 1e-5
) -> torch.Tensor:
    """d"""
    # BEGIN SOLUTION
    difference = 20 * (torch.log10(a.clamp(min=floor)) - torch.log10(b.clamp(min=floor)))
    return difference.square().mean(-2).sqrt().mean(-1)
    # END SOLUTION


# %% tags=["check"]
check("12.6")

# %% [markdown]
# <!-- exercise 12.7 -->

# %% tags=["answer"] exercise="12.7"
def transcribe_and_score(fit, clips, digits, speakers, held_out, generated, asked) -> dict:
    """d"""
    # BEGIN SOLUTION
    new = speakers == held_out
    classifier = fit(clips[~new], digits[~new])
    scores = classifier(generated)
    heard = scores.argmax(1)
    understood = classifier(clips[new]).argmax(1) == digits[new]
    table = torch.zeros(scores.shape[1], scores.shape[1], dtype=torch.int64)
    table.index_put_((asked, heard), torch.ones_like(heard), accumulate=True)
    return {
        "heard": heard,
        "accuracy": (heard == asked).double().mean().item(),
        "reals": understood.double().mean().item(),
        "table": table,
    }
    # END SOLUTION


# %% tags=["check"]
check("12.7")
