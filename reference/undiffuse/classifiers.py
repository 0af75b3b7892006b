"""Small classifiers whose features and labels judge the models: trained apart from all of them.

``load("digits")`` gives a shipped one, of ``NAMES``; those of sounds are ``SoundClassifier``. Those
of ``OF_ATTRIBUTES`` judge drawings, and are ``AttributeClassifier``. They
have seen only the split ``features``, which no generative model is trained on or compared with, so
that what they say of samples is the word of somebody who was not there when these were made.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse import data
from undiffuse._files import replacing
from undiffuse.training import CheckpointError

if TYPE_CHECKING:
    from undiffuse.sound_classifiers import SoundClassifier

FORMAT = "undiffuse-classifier-1"
NAMES = ("digits", "fashion", "drums", "notes", "fsdd")
OF_ATTRIBUTES = ("portraits", "emoji")


class Classifier(nn.Module):
    """Three stages of convolutions, a layer of features, and the classes.

    channels: of the images; classes; width: channels of the first stage, doubled in each further
    one; size: pixels a side, or (rows, columns); dim: how many features; dropout: its share, while
    training.

    The features are batch-normalised and taken before their ReLU, so that their distribution is
    smooth and every one of them has about the same spread: a Frechet distance of them is in units
    of that spread.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        width: int = 24,
        size: int | tuple[int, int] = 28,
        dim: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.options = {
            "channels": channels,
            "classes": classes,
            "width": width,
            "size": size,
            "dim": dim,
            "dropout": dropout,
        }

        def stage(inside: int, outside: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]

        rows, columns = (size, size) if isinstance(size, int) else size
        half, quarter = 2 * width, 4 * width
        places = (rows // 8) * (columns // 8)
        self.stages = nn.Sequential(
            *stage(channels, width),
            nn.MaxPool2d(2),
            *stage(width, half),
            *stage(half, half),
            nn.MaxPool2d(2),
            *stage(half, quarter),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.embed = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(quarter * places, dim, bias=False),
            nn.BatchNorm1d(dim),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, classes))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, dim) of images (N, C, H, W) in [-1, 1]."""
        o = self.options
        size = o["size"]
        wanted = (o["channels"], *((size, size) if isinstance(size, int) else size))
        if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
            raise ValueError(f"images must be (N, {', '.join(map(str, wanted))}), got "
                             f"{tuple(x.shape)}")  # fmt: skip
        return self.embed(self.stages(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))


@torch.no_grad()
def examine(
    classifier: Classifier | SoundClassifier, images: torch.Tensor, batch: int = 500
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features (N, dim), logits (N, classes)) in batches.

    images: (N, C, H, W) in [-1, 1]; for a ``SoundClassifier`` clips (N, 1, L). Raises ValueError
    for images that are empty, of the wrong shape, or not finite.
    """
    what = "clips" if images.ndim == 3 else "images"
    if not len(images):
        raise ValueError(f"there are no {what} to examine")
    if not torch.isfinite(images).all():
        raise ValueError(f"the {what} hold NaN or infinite values")
    device = next(classifier.parameters()).device
    features = torch.cat([classifier.features(x.to(device)).cpu() for x in images.split(batch)])
    return features, classifier.head(features.to(device)).cpu()


def accuracy(
    classifier: Classifier | SoundClassifier, images: torch.Tensor, labels: torch.Tensor
) -> float:
    """The share of images, or clips, whose most likely class is their label (N,)."""
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    _, logits = examine(classifier, images)
    return float((logits.argmax(1) == labels).double().mean())


def random_affine(
    x: torch.Tensor,
    generator: torch.Generator,
    degrees: float,
    zoom: float | tuple[float, float],
    shear: float,
    shift: float,
    flip: bool = False,
) -> torch.Tensor:
    """Each image (N, C, H, W) turned, zoomed, sheared and moved by its own random amounts.

    degrees: at most this much either way; zoom, shear: as shares (zoom may be one across and one
    down); shift: in pixels. What comes in from outside is the image's edge, repeated.
    """
    n = len(x)
    across_most, down_most = (zoom, zoom) if isinstance(zoom, int | float) else zoom

    def amount(most: float) -> torch.Tensor:
        return (2 * torch.rand(n, generator=generator) - 1) * most

    angle, slant = amount(degrees / 180 * math.pi), amount(shear)
    wide, high = 1 + amount(across_most), 1 + amount(down_most)
    if flip:
        wide = wide * (1 - 2 * (torch.rand(n, generator=generator) < 0.5).float())
    across, down = amount(2 * shift / x.shape[-1]), amount(2 * shift / x.shape[-2])
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([wide * cos, wide * (slant * cos - sin), across], 1),
        torch.stack([high * sin, high * (slant * sin + cos), down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def fit(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    affine: dict[str, Any] | None = None,
    seed: int = 0,
    epochs: int,
    batch: int = 50,
    lr: float = 4e-3,
    weight_decay: float = 0.02,
    smoothing: float = 0.1,
    on_epoch: Callable[[int, float], Any] | None = None,
    **options: Any,
) -> Classifier:
    """A classifier trained on images (N, C, H, W) in [-1, 1] with labels (N,), in evaluation mode.

    Images are varied by ``random_affine`` with the arguments ``affine``. options: those of
    ``Classifier``; the rest: see ``train_on``.
    """
    torch.manual_seed(seed)
    model = Classifier(channels=images.shape[1], size=images.shape[-1], **options)
    vary = None if not affine else lambda x, g: random_affine(x, g, **affine)
    train_on(
        model,
        images,
        labels,
        vary,
        seed=seed,
        epochs=epochs,
        batch=batch,
        lr=lr,
        weight_decay=weight_decay,
        smoothing=smoothing,
        on_epoch=on_epoch,
    )
    return model.eval()


def train_on(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    vary: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    *,
    seed: int = 0,
    epochs: int,
    batch: int = 50,
    lr: float = 4e-3,
    weight_decay: float = 0.02,
    smoothing: float = 0.1,
    on_epoch: Callable[[int, float], Any] | None = None,
) -> None:
    """Trains ``model`` in place: AdamW on one cycle of the learning rate, label smoothing.

    vary(batch, generator) changes each batch before it is learnt. on_epoch(epoch, loss) is called
    after each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay)
    steps = len(images) // batch
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps, pct_start=0.25)
    for epoch in range(epochs):
        order, total = torch.randperm(len(images), generator=generator), 0.0
        for index in order[: steps * batch].split(batch):
            x = images[index]
            if vary:
                x = vary(x, generator)
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[index], label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item()
        if on_epoch:
            on_epoch(epoch, total / steps)


def save(
    path: str | os.PathLike,
    classifier: Classifier | SoundClassifier,
    classes: tuple[str, ...] = (),
) -> Path:
    """Writes ``classifier`` as float16 safetensors, atomically; returns the path."""
    from safetensors.torch import save_file

    path = Path(path)
    weights = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
        for k, v in classifier.state_dict().items()
    }
    text = {
        "format": FORMAT,
        "options": json.dumps(classifier.options),
        "classes": json.dumps(list(classes)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            save_file(weights, temporary, metadata=text)
    except OSError as error:
        raise OSError(f"the classifier {path} could not be written: {error}") from error
    return path


def locate(name: str | os.PathLike) -> Path:
    """The file of a shipped classifier (see ``NAMES``), or ``name`` where it is a file."""
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise CheckpointError(f"there is no classifier file {path}")
        return path
    if str(name) not in (*NAMES, *OF_ATTRIBUTES):
        raise CheckpointError(
            f"there is no classifier {str(name)!r}: there are "
            f"{', '.join((*NAMES, *OF_ATTRIBUTES))}, or name a "
            ".safetensors file"
        )
    path = data.folder() / "checkpoints" / f"{name}_classifier.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; git checkout brings it back")
    return path


def facts(name: str) -> dict[str, Any]:
    """What was measured of a shipped classifier, as written by the script that trained it."""
    path = locate(name).with_suffix(".json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def load(
    name: str | os.PathLike, device: str | torch.device = "cpu"
) -> Classifier | SoundClassifier:
    """The classifier called ``name``, or in the file of that name, in evaluation mode.

    A shipped one must have the checksum that its JSON records. Raises CheckpointError, with the
    file's name, for one that is missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = locate(name)
    if str(name) in (*NAMES, *OF_ATTRIBUTES):
        found, wanted = hashlib.sha256(path.read_bytes()).hexdigest(), facts(name)["sha256"]
        if found != wanted:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 begins with {found[:12]}, and {wanted[:12]} is "
                "recorded beside it. git checkout brings it back"
            )
    try:
        with safe_open(path, framework="pt") as f:
            text = f.metadata() or {}
            weights = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    if text.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds no classifier of this course: its format is {text.get('format')!r}, "
            f"and {FORMAT!r} is wanted"
        )
    from undiffuse.attributes import AttributeClassifier
    from undiffuse.sound_classifiers import SoundClassifier

    try:
        options = json.loads(text["options"])
        kind = SoundClassifier if "rate" in options else Classifier
        model = (AttributeClassifier if "attributes" in options else kind)(**options)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v
                               for k, v in weights.items()})  # fmt: skip
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network it names: {error}") from None
    bad = [k for k, v in weights.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise CheckpointError(f"{path} is damaged: {bad[0]} holds NaN or infinite values")
    return model.to(device).eval()
