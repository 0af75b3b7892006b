"""From a mel spectrogram to the sound, by diffusion: the condition of each sample is its mel.

``MelVocoder`` is called like every denoiser, ``(x_t, t, cond)``, with the mel as ``cond``, so that
schedules, losses, training and samplers are those of images. What it learns are not plain sounds
but ``MelLevels.flatten`` of them: speech is a thousand times as loud in a vowel as in the pause
before it, and the mel says so; a network that is told need not learn it.

Log-mel spectrograms are those of ``transforms.log_mel`` in model range
(``transforms.log_mel_to_model_range``), (B, n_mels, frames); frame i is centred on sample i * hop.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse._arguments import require_count, require_float
from undiffuse.blocks import PatchStem, timestep_embedding, zero_init_
from undiffuse.sampling import sample
from undiffuse.schedules import Schedule
from undiffuse.transforms import log_mel, log_mel_from_model_range, log_mel_to_model_range
from undiffuse.transforms import mel_filterbank as _mel_filterbank
from undiffuse.wavenets import TIME_SCALE, TIME_WAVES, GatedResBlock1d, dilations

QUIETEST = 1e-5  # no gain falls below it: a third of a bit of 16-bit sound


class MelConditioner(nn.Module):
    """From mel frames to one condition for each sample.

    n_mels: bands. channels: of the result. hop: samples from one frame to the next.

    forward(mel (B, n_mels, frames), length) -> (B, channels, length): a convolution over frames
    and a SiLU; straight lines between frames, frame i lying on sample i * hop; the last frame held
    where the sound goes on after it; cut to ``length``; a convolution over samples, which rounds
    the corners that the lines leave. Raises ValueError for a mel of another shape.
    """

    def __init__(self, n_mels: int, channels: int, hop: int) -> None:
        super().__init__()
        self.hop = require_count("hop", hop)
        self.frames = nn.Conv1d(n_mels, channels, 3, padding=1)
        self.smooth = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, mel: torch.Tensor, length: int) -> torch.Tensor:
        if mel.ndim != 3 or mel.shape[1] != self.frames.in_channels or not mel.shape[2]:
            raise ValueError(
                f"mel must be (B, {self.frames.in_channels}, frames), got {tuple(mel.shape)}"
            )
        h = F.silu(self.frames(mel))
        h = lines(h, self.hop, require_count("length", length))
        return self.smooth(h)


def lines(frames: torch.Tensor, hop: int, length: int) -> torch.Tensor:
    """Straight lines through frames (..., channels, n), frame i on place i * hop; the last is held.

    Returns (..., channels, length).
    """
    flat = frames.reshape(-1, *frames.shape[-2:])
    span = (flat.shape[-1] - 1) * hop + 1
    flat = F.interpolate(flat, size=span, mode="linear", align_corners=True)
    flat = F.pad(flat, (0, max(0, length - span)), mode="replicate")[..., :length]
    return flat.reshape(*frames.shape[:-1], length)


class MelVocoder(nn.Module):
    """DiffWave's stack (Kong et al. 2021) with a mel as its condition, folded for speed.

    n_mels, hop: of the mel. channels: width of all layers. layers, cycle: see
    ``wavenets.dilations``. patch: samples folded into channels (``PatchStem``); it must divide
    ``hop``.

    forward(x, t, cond): x (B, 1, L); t (B,) or a number, continuous time in [0, 1]; cond
    (B, n_mels, frames), log-mel in model range. A patch is told what holds at its first sample.
    Returns x's shape, zero before training. Raises ValueError for other shapes, or no condition.
    """

    def __init__(
        self,
        n_mels: int = 64,
        hop: int = 64,
        channels: int = 64,
        layers: int = 8,
        cycle: int = 4,
        patch: int = 16,
        emb_dim: int | None = None,
    ) -> None:
        super().__init__()
        if patch < 1 or hop % patch:
            raise ValueError(f"patch must divide hop, got {patch} and {hop}")
        self.config: dict[str, Any] = {
            "n_mels": n_mels,
            "hop": hop,
            "channels": channels,
            "layers": layers,
            "cycle": cycle,
            "patch": patch,
            "emb_dim": emb_dim,
        }
        emb_dim = emb_dim or 2 * channels
        self.dims, self.null = 1, None
        self.time_mlp = nn.Sequential(
            nn.Linear(TIME_WAVES, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim), nn.SiLU()
        )
        self.conditioner = MelConditioner(n_mels, channels, hop // patch)
        self.stem = PatchStem(patch, dims=1)
        self.conv_in = nn.Conv1d(patch, channels, 3, padding=1)
        self.layers = nn.ModuleList(
            GatedResBlock1d(channels, d, emb_dim, channels) for d in dilations(layers, cycle)
        )
        self.conv_skip = nn.Conv1d(channels, channels, 1)
        self.conv_out = zero_init_(nn.Conv1d(channels, patch, 3, padding=1))

    def forward(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.ndim != 3 or x.shape[1] != 1:
            raise ValueError(f"x must be (B, 1, L), got shape {tuple(x.shape)}")
        if cond is None or len(cond) != len(x):
            given = "none" if cond is None else f"one of shape {tuple(cond.shape)}"
            raise ValueError(f"a mel for each of {len(x)} sounds is wanted, got {given}")
        time = torch.as_tensor(t, device=x.device).to(torch.float32).expand(len(x))
        emb = self.time_mlp(timestep_embedding(TIME_SCALE * time, TIME_WAVES).to(x.dtype))
        h = F.silu(self.conv_in(self.stem.fold(x)))
        mel = self.conditioner(cond.to(x.dtype), h.shape[-1])
        total = torch.zeros_like(h)
        for layer in self.layers:
            h, skip = layer(h, emb, mel)
            total = total + skip
        h = F.silu(self.conv_skip(F.silu(total / math.sqrt(len(self.layers)))))
        return self.stem.unfold(self.conv_out(h), x.shape[2:])


class MelLevels:
    """Takes out of a sound what its mel already says about how loud it is, and puts it back.

    ``flatten`` pre-emphasises the sound (y[n] = x[n] - emphasis x[n - 1], which lifts the weak high
    frequencies of speech) and divides each sample by the deviation that the mel lets expect there:
    the result has about variance 1 in loud and in soft places. ``restore`` is the exact inverse
    (up to rounding). The idea of a prior whose size follows from the mel is that of PriorGrad (Lee
    et al. 2022); there the noise is scaled, here, which is the same, the data.
    """

    def __init__(
        self,
        rate: float = 8000,
        n_mels: int = 64,
        n_fft: int = 256,
        hop: int = 64,
        emphasis: float = 0.9,
    ) -> None:
        if not 0 <= emphasis < 1:
            raise ValueError(f"emphasis must lie in [0, 1), got {emphasis}")
        self.rate, self.n_mels, self.n_fft, self.hop = rate, n_mels, n_fft, hop
        self.emphasis = emphasis
        filters = _mel_filterbank(n_mels, n_fft, rate, dtype=torch.float64)
        shares = filters / filters.sum(0).clamp(min=1e-12)  # of each bin, how it belongs to bands
        means = 1 / filters.sum(1)
        angle = 2 * math.pi * torch.arange(n_fft // 2 + 1, dtype=torch.float64) / n_fft
        response = 1 + emphasis**2 - 2 * emphasis * angle.cos()  # |1 - emphasis e^-ia| squared
        twice = torch.full_like(angle, 2.0)
        twice[[0, -1]] = 1.0
        window = torch.hann_window(n_fft, dtype=torch.float64)
        weight = twice * response / (n_fft * window.square().sum())  # Parseval
        self._power = (shares @ weight) * means.square()  # (n_mels,), of mel squared

    def mel(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel in model range of sounds (..., L): (..., n_mels, frames)."""
        return log_mel_to_model_range(log_mel(x, self.rate, self.n_mels, self.n_fft, self.hop))

    def gain(self, mel: torch.Tensor, length: int) -> torch.Tensor:
        """Deviation of the emphasised sound that the mel lets expect: (..., length), above 0.

        mel: log-mel in model range (..., n_mels, frames). Between frames its logarithm is linear.
        """
        require_float("mel", mel)
        if mel.ndim < 2 or mel.shape[-2] != self.n_mels:
            raise ValueError(f"mel must be (..., {self.n_mels}, frames), got {tuple(mel.shape)}")
        power = self._power.to(mel) @ (2 * log_mel_from_model_range(mel)).exp()
        level = 0.5 * power.clamp(min=QUIETEST**2).log()
        return lines(level[..., None, :], self.hop, length)[..., 0, :].exp()

    def flatten(self, x: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """Sounds (..., L) with their mel (..., n_mels, frames), as the vocoder learns them."""
        require_float("x", x)
        before = F.pad(x, (1, 0))[..., :-1]
        return (x - self.emphasis * before) / self.gain(mel, x.shape[-1])

    def restore(self, z: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """The inverse of ``flatten``: (..., L)."""
        require_float("z", z)
        y = z * self.gain(mel, z.shape[-1])
        if not self.emphasis:
            return y
        # 1 / (1 - a s) is the product of (1 + (a s)^(2^k)): a doubling filter, exact after log2 L.
        share, step = self.emphasis, 1
        while step < y.shape[-1] and share > 1e-12:
            y = y + share * F.pad(y, (step, 0))[..., : y.shape[-1]]
            share, step = share**2, 2 * step
        return y


@torch.no_grad()
def vocode(
    network: nn.Module,
    schedule: Schedule,
    levels: MelLevels,
    mel: torch.Tensor,
    length: int | None = None,
    *,
    kind: str = "v",
    solver: str = "ddim",
    calls: int = 12,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Sounds for mels (B, n_mels, frames) in model range: (B, length), float32.

    length: hop * (frames - 1) if None. kind: what ``network`` predicts. solver, calls, generator:
    of ``sampling.sample``.
    """
    length = levels.hop * (mel.shape[-1] - 1) if length is None else length
    z = sample(
        network,
        schedule,
        (len(mel), 1, length),
        kind=kind,
        solver=solver,
        calls=calls,
        cond=mel,
        generator=generator,
        device=mel.device,
    )
    return levels.restore(z[:, 0], mel)
