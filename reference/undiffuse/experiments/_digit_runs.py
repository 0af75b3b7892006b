"""The trainings on which claims 1, 7, 8 and 12 are measured; ``digit_claims`` says what they show.

All models are class-conditional U-Nets of one size, trained with one recipe; what a claim is about
is the only thing that differs. They are small and trained for seconds: the figures compare models
with each other, and are no record of what can be reached.
"""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse import data, judging, recipes, trainer, watch
from undiffuse.metrics import memorisation_ratio
from undiffuse.sampling import sample
from undiffuse.training import EMA

PARTS = 10  # of the noise levels


@dataclass(frozen=True)
class Sizes:
    """What a budget means.

    steps, long: of trainings for C1 and C7, and for C8 and C12. n, n_later: samples measured at an
    end, and midway. moments: at which steps the long ones are measured. few, taught: how many
    images for C8, and for C7. probe: images on which a loss is measured.
    """

    steps: int = 400
    long: int = 800
    n: int = 500
    n_later: int = 400
    moments: tuple[int, ...] = (80, 240, 480, 800)
    few: int = 200
    taught: int = 500
    probe: int = 500
    channels: tuple[int, ...] = (16, 32)
    patch: int = 2
    batch: int = 32
    calls: int = 10
    device: str = "cpu"


SIZES = {
    "small": Sizes(steps=3, long=4, n=20, n_later=20, moments=(2, 4), few=60, taught=60, probe=20,
                   channels=(8, 8), patch=4, calls=2),
    "full": Sizes(),
    "gpu": Sizes(steps=4000, long=8000, n=1000, n_later=1000, moments=(800, 2400, 4800, 8000),
                 channels=(48, 96), calls=20, device="cuda"),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training, and at which steps it is measured."""

    name: str
    images: int | None
    steps: int
    moments: tuple[int, ...]
    samples: int
    probe: int
    channels: tuple[int, ...]
    patch: int
    batch: int
    calls: int
    device: str
    schedule: str = "cosine"
    shift: int = 0
    flip: bool = False
    spacings: tuple[str, ...] = ("log_snr",)  # of the levels that sampling visits
    seed: int = 0

    def recipe(self) -> recipes.Recipe:
        """As the trainer takes it. All levels are drawn alike: the schedule alone weighs them."""
        network = {"channels": list(self.channels), "patch": self.patch, "classes": 10}
        return recipes.Recipe(
            name="claim", data=self.name, n=self.images, network=network, schedule=self.schedule,
            optimizer="muon", lr=0.02, steps=self.steps, batch=self.batch, ema=0.99,
            drop_labels=0.0, shift=self.shift, flip=self.flip, seed=self.seed,
        )  # fmt: skip


def job(sizes: Sizes, long: bool = False, **more: Any) -> Job:
    """A job of these sizes: a long one is measured at ``sizes.moments``, another at its end."""
    steps = sizes.long if long else sizes.steps
    same = ("probe", "channels", "patch", "batch", "calls", "device")
    given: dict[str, Any] = {"name": "digits", "images": None, "steps": steps}
    given["moments"] = sizes.moments if long else (steps,)
    given["samples"] = sizes.n_later if long else sizes.n
    return Job(**given | {k: getattr(sizes, k) for k in same} | more)


def losses_by_level(
    model, schedule, images: torch.Tensor, labels: torch.Tensor, device: str = "cpu"
) -> list[float]:
    """The loss (v) in each part of the times that training visits; fixed times, fixed noise."""

    def loss(x0, t, noise, cond):
        x0, t, noise, cond = (a.to(device) for a in (x0, t, noise, cond))
        return trainer.denoising_loss(model, schedule, x0, t, noise, cond, "v", reduce=False)

    low, high = trainer.time_range(schedule)
    return watch.loss_by_level(loss, images, labels, low, high, PARTS).tolist()


@torch.no_grad()
def drawn(model, job: Job, spacing: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(samples, labels) in the class shares of the reference set, from the job's own noise."""
    labels = judging.labels_like(job.name, job.samples)
    g = torch.Generator().manual_seed(1000 + job.seed)
    schedule = job.recipe().make_schedule()
    parts = [
        sample(model, schedule, (len(y), 1, 28, 28), kind="v", calls=job.calls,
               cond=y.to(job.device), generator=g, spacing=spacing, clip=(-1.0, 1.0),
               device=job.device).cpu()
        for y in labels.split(250)
    ]  # fmt: skip
    return torch.cat(parts), labels


def mirrored_share(images: torch.Tensor, labels: torch.Tensor, name: str) -> float:
    """The share of samples that are nearer to a mirrored real image of their class than to a real
    one as it is. (Pixels; the real images are the split ``features``, which nothing trains on.)"""
    real, classes = getattr(data, name)("features")
    count = 0
    for k in labels.unique():
        mine, known = images[labels == k].flatten(1), real[classes == k]
        near = [torch.cdist(mine, r.flatten(1)).amin(1) for r in (known, known.flip(3))]
        count += int((near[1] < near[0]).sum())
    return count / len(images)


def measured(model, job: Job, known: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Losses of a network on the images that it is trained on and on others, and the figures of
    its samples. Nearness: the median distance of samples to the training images, however few, over
    that of new reals; in pixels."""
    model = copy.deepcopy(model).eval()
    schedule = job.recipe().make_schedule()
    new = getattr(data, job.name)("held_out", job.samples)[0].flatten(1)
    probe = torch.arange(job.probe) % len(
        known
    )  # as many as unseen ones, so that the noise is alike
    unseen = getattr(data, job.name)("validation", job.probe)
    found: dict[str, Any] = {
        "train": losses_by_level(model, schedule, known[probe], labels[probe], job.device),
        "unseen": losses_by_level(model, schedule, *unseen, job.device),
    }
    for spacing in job.spacings:
        images, wanted = drawn(model, job, spacing)
        with warnings.catch_warnings():  # beginnings of the set have its shares, but for rounding
            warnings.filterwarnings("ignore", message=".*of the labels would have to change.*")
            seeds = (1000 + job.seed,)
            quality = judging.judge_images(images, wanted, job.name, seeds, resamples=2)
        found[spacing] = {
            "fd": quality.fd,
            "floor": quality.floor,
            "accuracy": quality.accuracy,
            "recall": quality.recall,
            "nearness": memorisation_ratio(images.flatten(1), known.flatten(1), new),
            "mirrored": mirrored_share(images, wanted, job.name),
        }
    return found


def measure(job: Job) -> dict[str, Any]:
    """Trains and measures; everything as plain data."""
    x, y = getattr(data, job.name)("train", job.images)
    found: dict[str, Any] = {}
    ema: list[EMA] = []
    recipe = job.recipe()

    def look(step: int, of: int, loss: float, model: torch.nn.Module) -> None:
        if not ema:
            ema.append(EMA(model, recipe.ema))
        ema[0].update(model)
        if step not in job.moments:
            return
        average = copy.deepcopy(model)
        ema[0].copy_to(average)
        found[str(step)] = {"average": measured(average, job, x, y)}
        if len(job.moments) > 1:
            found[str(step)]["raw"] = measured(model, job, x, y)

    started = time.monotonic()
    trained = trainer.train(recipe, x, y, on_step=look, device=job.device)
    last = trained.losses[-50:]
    return {"moments": found, "last training losses": sum(last) / len(last),
            "seconds": time.monotonic() - started}  # fmt: skip
