"""Recipes: everything that a training run depends on, as a small TOML file."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from undiffuse.schedules import Schedule, cosine_schedule, flow_schedule, linear_schedule
from undiffuse.schedules import sigmoid_schedule as _sigmoid

SCHEDULES = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "sigmoid": _sigmoid,
    "flow": flow_schedule,
}
DATA = ("digits", "fashion")
PREDICTIONS = ("eps", "x0", "v")
WEIGHTS = ("uniform", "min-snr")


class RecipeError(ValueError):
    """A recipe cannot be used; the message says which entry and what is wanted."""


@dataclass(frozen=True)
class Recipe:
    """One training run.

    name: of the run and its checkpoint. data: "digits" or "fashion"; n: the first n images of the
    training split, None for all. network: arguments of ``unet.UNet``. schedule, schedule_options:
    the forward process. prediction: eps, x0 or v. weight: "uniform" (the plain loss of the
    prediction) or "min-snr". steps, batch, lr, warmup, final_lr, weight_decay, clip: as named. ema:
    decay of the averaged weights. drop_labels: share of labels dropped for guidance. shift, flip:
    augmentation. seconds: if above 0, ``steps`` is replaced by what the machine does in this time.
    """

    name: str
    data: str = "digits"
    n: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    prediction: str = "v"
    weight: str = "uniform"
    steps: int = 1000
    seconds: float = 0.0
    batch: int = 64
    lr: float = 1e-3
    final_lr: float = 0.0
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    drop_labels: float = 0.1
    shift: int = 0
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for key, known in (
            ("data", DATA),
            ("schedule", tuple(SCHEDULES)),
            ("prediction", PREDICTIONS),
            ("weight", WEIGHTS),
        ):
            value = getattr(self, key)
            if value not in known:
                raise RecipeError(f"{key} = {value!r}; it may be {', '.join(known)}")
        for key in ("steps", "batch"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RecipeError(f"{key} = {value!r}; a whole number of at least 1 is wanted")
        if not 0 < self.lr < 1:
            raise RecipeError(f"lr = {self.lr!r}; a number between 0 and 1 is wanted")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"ema = {self.ema!r}; a number in [0, 1) is wanted")
        if not 0 <= self.drop_labels <= 1:
            raise RecipeError(f"drop_labels = {self.drop_labels!r}; a share in [0, 1] is wanted")

    def make_schedule(self) -> Schedule:
        """The forward process."""
        return SCHEDULES[self.schedule](**self.schedule_options)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for logs and checkpoints."""
        return asdict(self)


def from_dict(data: dict[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from plain data; an unknown key raises RecipeError with the nearest known one."""
    known = {f.name for f in fields(Recipe)}
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise RecipeError(
                f"{where} has an unknown entry {key!r}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
    if "name" not in data:
        raise RecipeError(f"{where} has no name")
    return Recipe(**data)


def load(path: str | os.PathLike) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError for a file that cannot be read or used."""
    path = Path(path)
    try:
        with open(path, "rb") as f:
            data = tomllib.load(f)
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe at {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from None
    return from_dict({"name": path.stem, **data}, str(path))
