"""A U-Net for notes that sees a plain tone of the key it is asked for.

    network = TonedUNet(1, [48, 96, 96], patch=4)
    network(x_t, t, labels)                 labels as ``sources.note_labels`` packs them

A label says which key, and nothing about how keys sound: a network has to learn each of them from
the few notes of it that there are. A spectrogram of a plain tone beside the noisy one shows where
the harmonics lie, for keys that were never learned, too; what is left to learn is the timbre. The
idea is that of neural source-filter models (Wang, Takaki, Yamagishi 2019, arXiv:1904.12088).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from undiffuse.sound import loudness_normalise
from undiffuse.sources import FAMILIES, KEYS, LOWEST_KEY, MEL, log_mels
from undiffuse.unet import UNet

LEVEL = -18.0  # dBFS of a tone
HARMONICS = 8
LENGTH = 8192  # samples


def plain_tone(midi: torch.Tensor, length: int = LENGTH, rate: int = MEL["rate"]) -> torch.Tensor:
    """Tones of MIDI pitches (N,), equally tempered, A4 = 69 = 440 Hz: (N, length) float32.

    Harmonic k of eight has the amplitude 1 / k; those above 0.45 x rate are left out. All have an
    RMS of -18 dBFS, but for keys that have no harmonic below that, which are silent.
    """
    hz = 440 * 2 ** ((midi.double() - 69) / 12)
    at = torch.arange(length, dtype=torch.float64) / rate
    tone = torch.zeros(len(midi), length, dtype=torch.float64)
    for k in range(1, HARMONICS + 1):
        fits = (k * hz < 0.45 * rate)[:, None]
        tone += fits * torch.sin(2 * math.pi * k * hz[:, None] * at) / k
    return loudness_normalise(tone, LEVEL).float()


class TonedUNet(nn.Module):
    """A U-Net of log-mel spectrograms of notes, with the tone of the key as a second channel.

    Options are those of ``UNet``, in two dimensions. forward(x (B, 1, 64, 128), t, cond) -> as x:
    cond is (B,) labels (``sources.note_labels``), the null label, or None for none, of which the
    tone is silence. ValueError for other shapes or numbers of classes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (48, 96, 96),
        blocks: int = 1,
        attention: tuple[bool, ...] | None = None,
        patch: int = 4,
        classes: int = FAMILIES * KEYS,
        dims: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        emb_dim: int | None = None,
        factors: tuple[int, ...] | None = (FAMILIES, KEYS),
    ) -> None:
        super().__init__()
        if (in_channels, dims, classes) != (1, 2, FAMILIES * KEYS):
            raise ValueError(
                f"the design tone is for spectrograms of notes: in_channels 1, dims 2 and classes "
                f"{FAMILIES * KEYS} are wanted, got {in_channels}, {dims} and {classes}"
            )
        self.net = UNet(
            2, channels, blocks, attention, patch, classes, 2, heads, dropout, emb_dim, factors
        )
        self.config: dict[str, Any] = self.net.config | {"in_channels": 1}
        self.null = classes
        tones = log_mels(plain_tone(torch.arange(LOWEST_KEY, LOWEST_KEY + KEYS))[:, None])
        silence = torch.full_like(tones[:1], -1.0)
        self.register_buffer("tones", torch.cat([tones, silence]), persistent=False)

    def forward(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.shape[1:] != self.tones.shape[1:]:
            wanted = " x ".join(map(str, self.tones.shape[1:]))
            raise ValueError(f"x must be (B, {wanted}), got {tuple(x.shape)}")
        if cond is None:
            cond = torch.full((len(x),), self.null, device=x.device)
        key = torch.where(cond == self.null, KEYS, cond % KEYS)
        return self.net(torch.cat([x, self.tones[key].to(x)], 1), t, cond)[:, :1]
