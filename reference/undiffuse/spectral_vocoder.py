"""From a mel spectrogram to the sound in two steps: its spectrum by diffusion, phases by rounds.

A mel spectrogram says how loud bands are, and not which of the several frequencies within a band
sound. ``mel_to_magnitude`` answers with the smoothest spectrum, and Griffin-Lim then looks for
phases that hardly exist for it. A ``SpectralVocoder`` draws what that spectrum lacks: the logarithm
of the true magnitude over the smooth one, a picture of frequency and time, so that everything that
works on pictures works on it. Phases are found by Griffin-Lim as before, and sooner, since
spectra like those of recordings have phases that fit.

How much is left to chance is the ``temperature``: at 1 a draw with all its grain, at 0 nearly the
mean of all draws (Popov et al. 2021, Grad-TTS, section 3.4, lower it likewise). Distances in dB are
least to means; grain costs distance, whether it sounds right or not.

Frames are those of ``transforms.log_mel`` with the options of ``sources.MEL``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from undiffuse._arguments import require_float
from undiffuse.sampling import noise_like, sample
from undiffuse.schedules import Schedule
from undiffuse.transforms import (
    griffin_lim,
    log_mel,
    log_mel_from_model_range,
    log_mel_to_model_range,
    mel_filterbank,
    mel_to_magnitude,
    stft_magnitude,
)
from undiffuse.unet import UNet

QUIET = -6.2  # natural logarithm of a magnitude about 90 dB below a sine of full scale: silence
CENTRE, SPAN = -1.0, 4.0  # of such logarithms, for the network
SPREAD = 0.6  # about the deviation of what is learned
ROUNDS, MOMENTUM = 60, 0.9


class SpectralVocoder(nn.Module):
    """A U-Net over frequency and time that is told the smooth spectrum, and where it is.

    n_mels, n_fft, hop: of the mels it serves. The rest are arguments of ``UNet``.

    forward(x, t, cond): x (B, 1, n_fft // 2, frames), what the smooth spectrum lacks, noised (the
    row of 0 Hz is left out); t (B,) or a number, continuous time in [0, 1]; cond, the same shape,
    from ``smooth_spectrum``. Returns x's shape. Raises ValueError for other shapes, or no
    condition.
    """

    def __init__(
        self,
        n_mels: int = 64,
        n_fft: int = 256,
        hop: int = 64,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        patch: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "n_mels": n_mels,
            "n_fft": n_fft,
            "hop": hop,
            "channels": list(channels),
            "blocks": blocks,
            "patch": patch,
            "dropout": dropout,
        }
        self.dims, self.null, self.rows = 2, None, n_fft // 2
        self.unet = UNet(
            in_channels=3, channels=tuple(channels), blocks=blocks, patch=patch, dropout=dropout
        )

    def forward(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.ndim != 4 or x.shape[1:3] != (1, self.rows):
            raise ValueError(f"x must be (B, 1, {self.rows}, frames), got {tuple(x.shape)}")
        if cond is None or cond.shape != x.shape:
            given = "none" if cond is None else f"one of shape {tuple(cond.shape)}"
            raise ValueError(f"a spectrum of shape {tuple(x.shape)} is wanted, got {given}")
        height = torch.linspace(-1, 1, self.rows, dtype=x.dtype, device=x.device)
        height = height[:, None].expand_as(x)
        return self.unet(torch.cat([x, cond.to(x.dtype), height], 1), t)[:, :1]


def smooth_spectrum(
    mel: torch.Tensor, rate: float = 8000, n_mels: int = 64, n_fft: int = 256, hop: int = 64
) -> torch.Tensor:
    """Natural logarithm of the smoothest magnitude with this mel: (..., n_fft // 2 + 1, frames).

    mel: log-mel in model range (..., n_mels, frames). hop is not used; it is there so that the
    options of a mel can be handed on. Never below ``QUIET``.
    """
    require_float("mel", mel)
    filters = mel_filterbank(n_mels, n_fft, rate).to(mel)
    found = mel_to_magnitude(log_mel_from_model_range(mel).exp(), filters)
    return found.log().clamp(min=QUIET)


def lacking(
    clips: torch.Tensor, rate: float = 8000, n_mels: int = 64, n_fft: int = 256, hop: int = 64
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the smooth spectra of sounds (N, L) lack, and these, for the network.

    Both (N, 1, n_fft // 2, frames): log magnitude less ``smooth_spectrum``, divided by ``SPREAD``;
    and that, centred and scaled.
    """
    options = {"rate": rate, "n_mels": n_mels, "n_fft": n_fft, "hop": hop}
    smooth = smooth_spectrum(log_mel_to_model_range(log_mel(clips, **options)), **options)
    true = stft_magnitude(clips, n_fft, hop).log().clamp(min=QUIET)
    return (true - smooth)[:, None, 1:] / SPREAD, _told(smooth)


def _told(smooth: torch.Tensor) -> torch.Tensor:
    return (smooth[:, None, 1:] - CENTRE) / SPAN


def spectral_pieces(
    clips: torch.Tensor,
    frames: int = 32,
    each: int = 3,
    seed: int = 0,
    margin: int = 4,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What such a vocoder trains on: pieces of ``lacking``, both (M, 1, n_fft // 2, frames).

    clips: (N, L); of each, ``each`` pieces that begin at a random frame, and end at most ``margin``
    frames after the sound does. options: of the mel. ValueError for clips with fewer frames.
    """
    if clips.ndim != 2:
        raise ValueError(f"clips must be (N, L), got {tuple(clips.shape)}")
    hop = options.get("hop", 64)
    g = torch.Generator().manual_seed(seed)
    cut, told = [], []
    for some in clips.split(100):
        x, cond = lacking(some, **options)
        if x.shape[-1] < frames:
            raise ValueError(f"clips have {x.shape[-1]} frames; pieces of {frames} are wanted")
        for one, its, clip in zip(x, cond, some):
            heard = clip.nonzero()
            end = (int(heard.max()) // hop if len(heard) else 0) + margin
            starts = max(1, min(end, x.shape[-1]) - frames + 1)
            for first in torch.randint(starts, (each,), generator=g).tolist():
                cut.append(one[..., first : first + frames])
                told.append(its[..., first : first + frames])
    return torch.stack(cut), torch.stack(told)


@torch.no_grad()
def resound(
    network: nn.Module,
    schedule: Schedule,
    mel: torch.Tensor,
    length: int | None = None,
    *,
    kind: str = "v",
    solver: str = "ddim",
    calls: int = 8,
    temperature: float = 0.0,
    rounds: int = ROUNDS,
    scale: float = 1.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Sounds for mels (B, n_mels, frames) in model range: (B, length), float32.

    length: hop * (frames - 1) if None. kind: what ``network`` predicts. solver, calls: of
    ``sampling.sample``. temperature: the first noise is multiplied by it. rounds: of Griffin-Lim.
    generator: of the noise and of the first phases; a list, one a sound, makes each independent of
    the others. scale: of the recipe that ``network`` was trained by. options: of the mel.
    ValueError for a temperature below 0.
    """
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature!r}")
    smooth = smooth_spectrum(mel, **options)
    told = _told(smooth)
    start = temperature * noise_like(told, generator)
    x = sample(
        network, schedule, x=start, kind=kind, solver=solver, calls=calls, cond=told,
        generator=generator,
    )  # fmt: skip
    log = smooth.clone()
    log[:, 1:] += SPREAD / scale * x[:, 0]
    # Where nothing can be told from silence, there is none.
    magnitude = log.exp().masked_fill(log <= QUIET, 0.0)
    n_fft, hop = options.get("n_fft", 256), options.get("hop", 64)
    return griffin_lim(magnitude.float(), rounds, generator, n_fft, hop, length, momentum=MOMENTUM)
