"""From a mel spectrogram to the sound, by diffusion: the condition of each sample is its mel.

``MelVocoder`` is called like every denoiser, ``(x_t, t, cond)``, with the mel as ``cond``, so that
schedules, losses, training and samplers are those of images. What it learns are not plain sounds
but ``MelLevels.flatten`` of them: speech is a thousand times as loud in a vowel as in the pause
before it, and at low frequencies as at high ones, and the mel says so; a network that is told need
not learn it.

Log-mel spectrograms are those of ``transforms.log_mel`` in model range
(``transforms.log_mel_to_model_range``), (B, n_mels, frames); frame i is centred on sample i * hop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse._arguments import require_count, require_float
from undiffuse.blocks import TIME_SCALE, PatchStem, timestep_embedding, zero_init_
from undiffuse.sampling import sample
from undiffuse.schedules import Schedule
from undiffuse.transforms import (
    FLOOR,
    istft,
    log_mel,
    log_mel_from_model_range,
    log_mel_to_model_range,
    stft,
)
from undiffuse.transforms import mel_filterbank as _mel_filterbank
from undiffuse.wavenets import TIME_WAVES, GatedResBlock1d, dilations


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
    """Takes out of a sound what its mel already says of its spectrum, and puts it back.

    ``flatten`` divides each frequency at each time by the deviation that the mel lets expect there,
    so that what is left has about variance 1 everywhere, in loud and soft places, high and low;
    ``restore`` multiplies by it again. White noise, restored, is noise with about this mel. That
    the noise of a vocoder should be shaped by the mel is the idea of PriorGrad (Lee et al. 2022)
    and SpecGrad (Koizumi et al. 2022); here, which comes to the same, the data are.

    Both go over the modified cosine transform (MDCT; Princen, Johnson, Bradley 1987) with a sine
    window of two hops: it is orthogonal, so that white noise stays white, and ``restore`` undoes
    ``flatten`` up to rounding, but for the first hop of a sound and from its last whole hop on,
    where frames lap over its ends.
    """

    def __init__(
        self, rate: float = 8000, n_mels: int = 64, n_fft: int = 256, hop: int = 64
    ) -> None:
        self.rate, self.n_mels, self.n_fft, self.hop = rate, n_mels, n_fft, hop
        filters = _mel_filterbank(n_mels, n_fft, rate, dtype=torch.float64)
        bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (rate / n_fft)
        total = filters.sum(1)
        centres = (filters @ bins) / total
        places = (torch.arange(hop, dtype=torch.float64) + 0.5) * (rate / 2 / hop)
        right = torch.searchsorted(centres, places).clamp(1, n_mels - 1)
        share = (places - centres[right - 1]) / (centres[right] - centres[right - 1])
        share = share.clamp(0, 1)[:, None]
        rows = torch.eye(n_mels, dtype=torch.float64)
        self._between = rows[right - 1] * (1 - share) + rows[right] * share  # (hop, n_mels)
        self._filters = filters
        covered = filters.sum(0)
        self._shares = (filters / covered.clamp(min=1e-12)).T  # of each bin, (bins, n_mels)
        window = torch.hann_window(n_fft, dtype=torch.float64)
        # A bin of white noise of variance 1 has this mean magnitude (Rayleigh's).
        noise = math.sqrt(math.pi) / 2 * window.square().sum().sqrt()
        self._unit = (total * noise).log()  # (n_mels,), log-mel of that noise

    def mel(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel in model range of sounds (..., L): (..., n_mels, frames)."""
        return log_mel_to_model_range(log_mel(x, self.rate, self.n_mels, self.n_fft, self.hop))

    def gain(self, mel: torch.Tensor, frames: int | None = None) -> torch.Tensor:
        """Deviation that the mel lets expect: (..., frames, hop), in hop bands of equal width.

        mel: log-mel in model range (..., n_mels, frames). frames: more are held, others cut.
        """
        require_float("mel", mel)
        if mel.ndim < 2 or mel.shape[-2] != self.n_mels or not mel.shape[-1]:
            raise ValueError(f"mel must be (..., {self.n_mels}, frames), got {tuple(mel.shape)}")
        level = log_mel_from_model_range(mel) - self._unit.to(mel)[:, None]
        level = (self._between.to(mel) @ level).transpose(-1, -2)
        if frames is not None:
            place = torch.arange(frames, device=mel.device).clamp(max=level.shape[-2] - 1)
            level = level[..., place, :]
        return level.exp()

    def flatten(self, x: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """Sounds (..., L) with their mel (..., n_mels, frames), as the vocoder learns them."""
        c = mdct(require_float("x", x), self.hop)
        return imdct(c / self.gain(mel, c.shape[-2]), x.shape[-1])

    def restore(self, z: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """The inverse of ``flatten``: (..., L)."""
        c = mdct(require_float("z", z), self.hop)
        return imdct(c * self.gain(mel, c.shape[-2]), z.shape[-1])

    def match(self, x: torch.Tensor, mel: torch.Tensor, rounds: int = 10) -> torch.Tensor:
        """Sounds (..., L) nudged towards the mel (..., n_mels, frames) that they should have.

        In each round, every bin of the STFT is multiplied by what its bands lack, and the sound
        nearest to that is taken, as Griffin and Lim do with whole magnitudes. Fine structure and
        phases stay what they are.
        """
        require_count("rounds", rounds, 0)
        filters, shares = self._filters.to(x), self._shares.to(x)
        place = torch.arange(1 + x.shape[-1] // self.hop, device=mel.device)
        wanted = log_mel_from_model_range(mel)[..., place.clamp(max=mel.shape[-1] - 1)]
        for _ in range(rounds):
            spectrum = stft(x, self.n_fft, self.hop)
            has = (filters @ spectrum.abs()).clamp(min=FLOOR).log()
            factor = (shares @ (wanted - has).clamp(-3.0, 3.0)).exp()
            x = istft(spectrum * factor, self.n_fft, self.hop, x.shape[-1])
        return x


def mdct(x: torch.Tensor, bands: int) -> torch.Tensor:
    """Modified discrete cosine transform with a sine window: (..., L) -> (..., frames, bands).

    Frame i is centred on sample i * bands and 2 * bands long; zeros stand outside of x. Orthogonal:
    lengths and inner products stay.
    """
    flat = x.reshape(-1, x.shape[-1])
    flat = F.pad(flat, (bands, bands + -x.shape[-1] % bands))
    made = flat.unfold(-1, 2 * bands, bands) @ _mdct_matrix(bands, x)
    return made.reshape(*x.shape[:-1], *made.shape[1:])


def imdct(c: torch.Tensor, length: int) -> torch.Tensor:
    """The inverse of ``mdct``, cut to ``length``: (..., frames, bands) -> (..., length)."""
    frames, bands = c.shape[-2:]
    pieces = c.reshape(-1, frames, bands) @ _mdct_matrix(bands, c).T
    first, second = F.pad(pieces, (0, 0, 0, 1)).split(bands, -1)
    made = (first + second.roll(1, 1)).flatten(1)[:, bands : bands + length]
    return made.reshape(*c.shape[:-2], length)


def _mdct_matrix(bands: int, like: torch.Tensor) -> torch.Tensor:
    """(2 * bands, bands): windowed cosines."""
    n = torch.arange(2 * bands, dtype=torch.float64) + 0.5  # on the CPU: not every GPU has float64
    k = torch.arange(bands, dtype=torch.float64) + 0.5
    window = torch.sin(math.pi * n / (2 * bands))
    cosines = torch.cos(math.pi / bands * (n[:, None] + bands / 2) * k)
    return (window[:, None] * cosines * math.sqrt(2 / bands)).to(like)


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
    calls: int = 25,
    rounds: int = 10,
    scale: float = 1.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> torch.Tensor:
    """Sounds for mels (B, n_mels, frames) in model range: (B, length), float32.

    length: hop * (frames - 1) if None. kind: what ``network`` predicts. solver, calls, generator:
    of ``sampling.sample``, at levels even in time. rounds: of ``MelLevels.match`` at the end.
    scale: of the recipe that ``network`` was trained by.
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
        spacing="time",
        device=mel.device,
    )
    return levels.match(levels.restore(z[:, 0] / scale, mel), mel, rounds)


def pieces(
    clips: torch.Tensor,
    levels: MelLevels,
    size: int = 2048,
    each: int = 4,
    seed: int = 0,
    margin: int = 256,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a vocoder trains on: flat pieces (M, 1, size), and their mels (M, n_mels, frames).

    clips: (N, L); of each, ``each`` pieces that begin at a random hop, and end at most ``margin``
    samples after the sound does. They are cut after flattening, so that a piece and its mel know
    what was around it; frames is size // hop + 1. ValueError for clips shorter than ``size``, or a
    size that is no multiple of the hop.
    """
    hop, length = levels.hop, clips.shape[-1]
    if clips.ndim != 2 or length < size or size % hop:
        raise ValueError(
            f"clips must be (N, L) of at least {size} samples, a multiple of {hop}, got "
            f"{tuple(clips.shape)}"
        )
    g = torch.Generator().manual_seed(seed)
    cut, frames = [], []
    for x in clips:
        mel = levels.mel(x)
        flat = levels.flatten(x, mel)
        heard = x.nonzero()
        end = min(length, (int(heard.max()) if len(heard) else 0) + margin)
        for first in torch.randint(max(1, (end - size) // hop + 1), (each,), generator=g).tolist():
            cut.append(flat[first * hop : first * hop + size])
            frames.append(mel[:, first : first + size // hop + 1])
    return torch.stack(cut)[:, None], torch.stack(frames)
