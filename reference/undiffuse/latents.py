"""Diffusion in latents: a small autoencoder whose codes have unit variance (Rombach et al. 2022).

A network that works on a quarter of the numbers costs about a quarter. The price is whatever the
autoencoder loses, which no diffusion model brings back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse._arguments import require_count


class LatentCodec(nn.Module):
    """An autoencoder of images, and one factor that gives its codes unit variance.

    Encoder: two convolutions of stride 2, so that (B, in_channels, H, W) with H and W divisible by
    4 becomes (B, latent_channels, H / 4, W / 4). ``scale``, a buffer, is 1 until it is set: a
    schedule is made for data of unit variance, and codes have whatever variance training gave them.
    One factor for all codes, kept with the weights: were it computed of each batch anew, the same
    image would get another code in other company. Rombach et al. 2022 (Latent diffusion), section
    3.1 and appendix G.
    """

    def __init__(self, in_channels: int = 1, latent_channels: int = 4, width: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(width, 4 * in_channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes (B, latent_channels, H / 4, W / 4) of images, times ``scale``. ValueError for sizes
        that 4 does not divide."""
        if x.ndim != 4 or x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(
                f"images must be (B, C, H, W) with H and W divisible by 4, got {tuple(x.shape)}"
            )
        return self.scale * self.encoder(x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Images of codes as ``encode`` gives them."""
        return self.decoder(z / self.scale)

    @torch.no_grad()
    def set_scale(self, x: torch.Tensor) -> float:
        """Sets ``scale`` so that the codes of all of ``x`` have deviation 1; returns it.

        The deviation is that of all numbers of all codes about their mean, without Bessel's
        correction. Raises ValueError where they do not vary.
        """
        self.scale.fill_(1.0)
        deviation = torch.cat([self.encode(part) for part in x.split(500)]).std(correction=0)
        if not deviation > 0:
            raise ValueError("the codes do not vary: train the autoencoder first")
        self.scale.copy_(1 / deviation)
        return float(self.scale)

    def fit(
        self,
        x: torch.Tensor,
        steps: int,
        generator: torch.Generator | None = None,
        batch: int = 64,
        lr: float = 1e-3,
    ) -> list[float]:
        """Trains encoder and decoder on ``x`` (N, C, H, W), then sets the scale; the losses.

        The loss is the mean squared error of the decoded images, the optimiser Adam. Each step
        draws its batch by ``torch.randint(N, (batch,))``. Raises ValueError for steps below 1.
        """
        require_count("steps", steps)
        self.scale.fill_(1.0)
        optimizer = torch.optim.Adam(self.parameters(), lr)
        losses = []
        for _ in range(steps):
            index = torch.randint(len(x), (batch,), generator=generator)
            loss = F.mse_loss(self.decode(self.encode(x[index])), x[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.set_scale(x)
        return losses
