"""Small classifiers that judge sounds: a log-mel spectrogram, and the network that judges images.

They are loaded, saved and asked by ``classifiers``, as those of images are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from undiffuse.classifiers import Classifier, random_affine, train_on


class SoundClassifier(nn.Module):
    """Tells classes of clips apart by their log-mel spectrograms.

    rate: Hz; length: samples a clip; classes; n_mels, n_fft, hop: of the spectrogram
    (``transforms.log_mel``), which lies about in [-1, 1]; width, dim, dropout: as ``Classifier``.
    """

    def __init__(
        self,
        rate: int,
        classes: int,
        length: int = 8192,
        n_mels: int = 64,
        n_fft: int = 512,
        hop: int = 128,
        width: int = 16,
        dim: int = 32,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.options = {
            "rate": rate,
            "classes": classes,
            "length": length,
            "n_mels": n_mels,
            "n_fft": n_fft,
            "hop": hop,
            "width": width,
            "dim": dim,
            "dropout": dropout,
        }
        frames = 1 + length // hop
        self.net = Classifier(1, classes, width, (n_mels, frames), dim, dropout)

    def mel(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrograms (N, 1, n_mels, frames) of clips (N, 1, length) in [-1, 1]."""
        # Here and not above: lesson 12 asks the learner for it, and must not take this away.
        from undiffuse.transforms import log_mel, log_mel_to_model_range

        o = self.options
        if x.ndim != 3 or tuple(x.shape[1:]) != (1, o["length"]):
            raise ValueError(f"clips must be (N, 1, {o['length']}), got {tuple(x.shape)}")
        found = log_mel(x, o["rate"], n_mels=o["n_mels"], n_fft=o["n_fft"], hop=o["hop"])
        return log_mel_to_model_range(found)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, dim) of clips (N, 1, length) in [-1, 1]."""
        return self.net.features(self.mel(x))

    @property
    def head(self) -> nn.Module:
        """From features (N, dim) to logits (N, classes)."""
        return self.net.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of clips (N, 1, length) in [-1, 1]."""
        return self.head(self.features(x))


def vary_mel(
    mel: torch.Tensor,
    generator: torch.Generator,
    pitch: float = 0.1,
    speed: float = 0.1,
    shift: float = 4.0,
    gain: float = 0.2,
    tilt: float = 0.3,
    noise: float = 0.5,
    mask: int = 8,
) -> torch.Tensor:
    """Each spectrogram (N, 1, n_mels, frames) in [-1, 1] changed by its own random amounts.

    pitch, speed: stretch over frequency and time, as shares; shift: bands and frames; gain, tilt:
    at most so much is added, evenly and from low to high; noise: the chance of a noisy floor;
    mask: at most so many bands and frames are blotted out (Park et al. 2019, SpecAugment).
    """
    n = len(mel)

    def amount(most: float) -> torch.Tensor:
        return ((2 * torch.rand(n, generator=generator) - 1) * most).reshape(n, 1, 1, 1)

    x = random_affine(mel, generator, 0.0, (speed, pitch), 0.0, shift)
    x = x + amount(gain) + amount(tilt) * torch.linspace(-1, 1, x.shape[2]).reshape(1, 1, -1, 1)
    floor = -1 + 0.6 * torch.rand(n, 1, 1, 1, generator=generator)
    floor = floor + 0.08 * torch.randn(x.shape, generator=generator)
    noisy = torch.rand(n, 1, 1, 1, generator=generator) < noise
    x = torch.where(noisy, torch.maximum(x, floor), x).clamp(min=-1)
    for axis in (2, 3):
        size = x.shape[axis]
        start = torch.randint(0, size, (n, 1), generator=generator)
        stop = start + torch.randint(0, mask + 1, (n, 1), generator=generator)
        place = torch.arange(size)
        hidden = (place >= start) & (place < stop)
        shape = (n, 1, size, 1) if axis == 2 else (n, 1, 1, size)
        x = x.masked_fill(hidden.reshape(shape), -0.6)
    return x


def transposed(x: torch.Tensor, semitones: float) -> torch.Tensor:
    """Clips (N, 1, L) played faster, so that they sound higher, or slower; silent after their end.

    Between samples a straight line: rough, but what is learnt from need not be clean.
    """
    length = x.shape[-1]
    place = torch.arange(length, dtype=torch.float64) * 2 ** (semitones / 12)
    before = place.long().clamp(max=length - 2)
    share = (place - before).clamp(0, 1).to(x.dtype)
    found = torch.lerp(x[..., before], x[..., before + 1], share)
    return found * (place <= length - 1)


def fit_sound(
    audio: torch.Tensor,
    labels: torch.Tensor,
    rate: int,
    classes: int,
    *,
    transpose: Sequence[float] = (0,),
    vary: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> SoundClassifier:
    """A classifier trained on clips (N, 1, L) in [-1, 1] with labels (N,), in evaluation mode.

    transpose: by how many semitones the clips are also ``transposed``, all of them by each; vary:
    arguments of ``vary_mel``, None for no change; network: those of ``SoundClassifier``; training:
    those of ``classifiers.train_on``.
    """
    torch.manual_seed(seed)
    audio = torch.cat([transposed(audio, k) if k else audio for k in transpose])
    labels = labels.repeat(len(transpose))
    model = SoundClassifier(rate, classes, audio.shape[-1], **(network or {}))
    with torch.no_grad():
        mel = torch.cat([model.mel(x) for x in audio.split(100)])
    change = None if vary is None else lambda x, g: vary_mel(x, g, **vary)
    train_on(model.net, mel, labels, change, seed=seed, **training)
    return model.eval()
