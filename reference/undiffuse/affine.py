"""Images turned, resized, moved and slanted, each by its own amounts, in one resampling.

The amounts are returned, so that a network can be told them: then it learns which pictures are
altered, and draws unaltered ones when it is told zeros (Karras et al. 2022, "Elucidating the design
space of diffusion-based generative models", section 5 and appendix F.2).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

AMOUNTS = ("turn", "size", "right", "down", "slant")


def random_affine(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    rotate: float = 10.0,
    scale: float = 0.1,
    shift: float = 2.0,
    shear: float = 0.0,
    fill: float = -1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image of x (B, C, H, W) changed by its own random affine map: (images, amounts (B, 5)).

    rotate: at most so many degrees; scale: sizes between 1 / (1 + scale) and 1 + scale; shift: at
    most so many pixels right and down; shear: at most so many degrees; fill: what comes in from
    outside. amounts: float32 in [-1, 1], the shares of these limits in the order of ``AMOUNTS``;
    zero where a limit is zero. Draws: one ``torch.rand(B, 5)``, amounts being 2 u - 1.
    ``affine_images`` says what is done with them. Returns new tensors, the images of x's dtype.
    """
    u = torch.rand(len(x), len(AMOUNTS), generator=generator)
    limits = torch.tensor([rotate, scale, shift, shift, shear])
    amounts = (2 * u - 1) * (limits != 0)
    return affine_images(x, amounts, rotate, scale, shift, shear, fill), amounts


def affine_images(
    x: torch.Tensor,
    amounts: torch.Tensor,
    rotate: float = 10.0,
    scale: float = 0.1,
    shift: float = 2.0,
    shear: float = 0.0,
    fill: float = -1.0,
) -> torch.Tensor:
    """The images x (B, C, H, W) changed by given amounts (B, 5), bilinearly, resampled once.

    What stood at p (in pixels from the middle, to the right and down) stands at R K s p + d then:
    R turns by a = amounts[:, 0] rotate, [[cos a, -sin a], [sin a, cos a]], which is clockwise to
    the eye; K slants by k = tan(amounts[:, 4] shear), [[1, k], [0, 1]]; s is
    (1 + scale) ** amounts[:, 1]; d is shift times amounts[:, 2] right and amounts[:, 3] down. An
    image whose amounts are all zero comes back to the bit. Raises ValueError for other shapes,
    negative limits, or limits of 90 degrees and more for ``shear``.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x must be float (B, C, H, W), got {x.dtype} {tuple(x.shape)}")
    if amounts.shape != (len(x), len(AMOUNTS)):
        raise ValueError(f"amounts must be ({len(x)}, 5), got {tuple(amounts.shape)}")
    if min(rotate, scale, shift, shear) < 0 or shear >= 90:
        raise ValueError(
            "rotate, scale, shift and shear must be at least 0, and shear below 90, got "
            f"{rotate}, {scale}, {shift} and {shear}"
        )
    h, w = x.shape[2:]
    turn, size, right, down, slant = amounts.to(x.device, x.dtype).unbind(1)
    a, k = math.radians(rotate) * turn, torch.tan(math.radians(shear) * slant)
    s = (1 + scale) ** size
    cos, sin = a.cos(), a.sin()
    forward = torch.stack([cos, cos * k - sin, sin, sin * k + cos], 1).reshape(-1, 2, 2)
    # grid_sample asks where a pixel comes from, in units in which the image is 2 wide and 2 high.
    back = torch.linalg.inv(forward * s[:, None, None])
    move = torch.stack([shift * right, shift * down], 1)[:, :, None]
    half = x.new_tensor([w / 2, h / 2])
    linear = back * half / half[:, None]
    offset = -(back @ move) / half[:, None]
    grid = F.affine_grid(torch.cat([linear, offset], 2), list(x.shape), align_corners=False)
    out = F.grid_sample(x - fill, grid, padding_mode="zeros", align_corners=False) + fill
    changed = (amounts != 0).any(1).to(x.device)
    return torch.where(changed[:, None, None, None], out, x)


def augment_conditioned(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    share: float = 0.5,
    training: bool = True,
    **limits: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the images changed at random, and what a network is told of it: (images, (B, 5)).

    share: the probability with which an image is changed, by ``random_affine`` with ``limits``; the
    others come back to the bit, with amounts of zero. Zeros so mean "as the data are", and that is
    what a sampler says. training=False gives x itself and zeros, without a draw. Draws:
    ``random_affine``'s, then one ``torch.rand(B)``, an image being changed where it is below
    ``share``. (Karras et al. switch each kind of change on by itself; here one draw decides for
    all.) Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    if not training:
        return x, torch.zeros(len(x), len(AMOUNTS))
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    images = torch.where(on.to(x.device)[:, None, None, None], changed, x)
    return images, amounts * on[:, None]
