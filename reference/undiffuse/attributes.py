"""Which attributes a drawing has: classifiers of role, tone, category and style, trained apart.

One network for a set, with a group of logits for each attribute, so that its features know of all
of them. It has seen only the split ``features``, whose combinations are in no other split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from undiffuse.classifiers import Classifier, random_affine

JUDGED = {"portraits": ("role", "tone", "style"), "emoji": ("category", "style")}


class AttributeClassifier(Classifier):
    """A ``Classifier`` whose logits are those of several attributes, one after another.

    attributes: name -> how many values, in order. The rest: see ``Classifier``.
    """

    def __init__(self, attributes: Mapping[str, int], **options: Any) -> None:
        super().__init__(classes=sum(attributes.values()), **options)
        self.attributes = dict(attributes)
        del self.options["classes"]
        self.options["attributes"] = self.attributes

    def split(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Attribute -> its logits (N, values), of logits (N, all)."""
        parts = logits.split(list(self.attributes.values()), dim=1)
        return dict(zip(self.attributes, parts))


def random_colours(x: torch.Tensor, generator: torch.Generator, most: float) -> torch.Tensor:
    """Each image (N, 3, H, W) in [-1, 1] with its colours changed at random; white stays white.

    most: how much, as a share; 0 changes nothing. What stays is the form.
    """
    if not most:
        return x
    each = 2 * torch.rand(len(x), 3, 1, 1, generator=generator) - 1
    all_ = 2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1
    x = 1 - (1 - x) * (1 + most * (each + all_))
    grey = most * torch.rand(len(x), 1, 1, 1, generator=generator)
    return ((1 - grey) * x + grey * x.mean(1, keepdim=True)).clamp(-1, 1)


def fit_attributes(
    images: torch.Tensor,
    labels: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    *,
    affine: dict[str, Any] | None = None,
    colours: Mapping[str, float] | None = None,
    seed: int = 0,
    epochs: int,
    batch: int = 32,
    lr: float = 4e-3,
    weight_decay: float = 0.02,
    smoothing: float = 0.1,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, float], Any] | None = None,
    **options: Any,
) -> AttributeClassifier:
    """A classifier trained on images (N, C, H, W) in [-1, 1], in evaluation mode.

    labels: attribute -> (N,) int64; sizes: attribute -> how many values. The loss is the sum of the
    attributes' cross-entropies. colours: attribute -> how much the colours of the images that it is
    learnt from are varied (``random_colours``), so that a role is not taken for a colour of hair.
    The rest: see ``classifiers.fit``.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = AttributeClassifier(
        dict(sizes), channels=images.shape[1], size=images.shape[-1], **options
    )
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay)
    views: dict[float, list[str]] = {}
    for name in sizes:
        views.setdefault((colours or {}).get(name, 0.0), []).append(name)
    steps = len(images) // batch
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps, pct_start=0.25)
    for epoch in range(epochs):
        order, total = torch.randperm(len(images), generator=generator), 0.0
        for index in order[: steps * batch].split(batch):
            x = images[index]
            if affine:
                x = random_affine(x, generator, **affine)
            loss = torch.zeros((), device=device)
            for most, names in views.items():
                varied = random_colours(x, generator, most)
                varied = varied.contiguous(memory_format=torch.channels_last).to(device)
                parts = model.split(model(varied))
                for k in names:
                    wanted = labels[k][index].to(device)
                    loss = loss + F.cross_entropy(parts[k], wanted, label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item()
        if on_epoch:
            on_epoch(epoch, total / steps)
    return model.eval()


@torch.no_grad()
def told(
    classifier: AttributeClassifier, images: torch.Tensor, batch: int = 500
) -> dict[str, torch.Tensor]:
    """Attribute -> the most likely value of each image (N,) int64."""
    device = next(classifier.parameters()).device
    found = [classifier.split(classifier(x.to(device))) for x in images.split(batch)]
    return {k: torch.cat([f[k].argmax(1) for f in found]).cpu() for k in classifier.attributes}


def shares_right(
    classifier: AttributeClassifier, images: torch.Tensor, wanted: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Attribute -> share of images that show the value wanted; "all": that show every one."""
    found = told(classifier, images)
    right = {k: found[k] == wanted[k].cpu() for k in classifier.attributes}
    every = torch.stack(list(right.values())).all(0)
    return {k: float(v.double().mean()) for k, v in (right | {"all": every}).items()}
