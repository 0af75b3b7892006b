"""Trained networks in files: float16 safetensors with the recipe inside, a few MB each.

``load("digits")`` reads a shipped one, ``load("my.safetensors")`` one of your own. A file holds
weights and text, nothing that runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undiffuse import data
from undiffuse._files import replacing
from undiffuse.recipes import Recipe, from_dict
from undiffuse.schedules import Schedule
from undiffuse.training import CheckpointError

FORMAT = "undiffuse-1"


class CheckpointNotFound(CheckpointError):
    """There is no checkpoint of that name or at that path; the message says what there is."""


@dataclass
class Checkpoint:
    """A network ready to draw samples from.

    model: in evaluation mode, float32. kind: what it predicts. scale: the model knows data times
    this, 1 for images; ``draw.draw`` divides by it, and so must whoever samples from ``model``
    otherwise. shape: of one sample, (C, ...). null: the label for "none" (of prompts the token), or
    None. facts: what the
    run that made it wrote (steps, seconds, measured quality where that was recorded).
    """

    name: str
    model: nn.Module
    schedule: Schedule
    recipe: Recipe
    shape: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.recipe.prediction

    @property
    def scale(self) -> float:
        return self.recipe.scale

    @property
    def null(self) -> int | None:
        return self.recipe.null

    @property
    def vocab(self) -> dict[str, int]:
        """Word -> number of a network that reads prompts; ValueError for another."""
        if not self.recipe.told:
            raise ValueError(f"{self.name} reads no prompts")
        words = self.facts.get("words")
        return {w: i for i, w in enumerate(words)} if words else self.recipe.source.vocab


def folder() -> Path:
    """Where shipped checkpoints lie: ``data/checkpoints``."""
    return data.folder() / "checkpoints"


def names() -> list[str]:
    """The shipped checkpoints (classifiers, which lie beside them, are not among these)."""
    found = (p.stem for p in folder().glob("*.safetensors"))
    return sorted(name for name in found if not name.endswith("_classifier"))


def quality(name: str) -> dict[str, Any] | None:
    """What was measured of a shipped checkpoint: ``quality`` of its NAME.json, as its card has it.

    None where there is no such checkpoint, nothing is recorded of it, or what is recorded was
    measured of other weights.
    """
    path = folder() / f"{name}.safetensors"
    try:
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found, wanted = told["quality"], told["sha256"]
        same = hashlib.sha256(path.read_bytes()).hexdigest() == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if same and isinstance(found, dict) else None


def save(
    path: str | os.PathLike,
    model: nn.Module,
    recipe: Recipe,
    shape: tuple[int, ...],
    **facts: Any,
) -> Path:
    """Writes ``model`` as float16 with its recipe, atomically; returns the path."""
    from safetensors.torch import save_file

    path = Path(path)
    weights = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
        for k, v in model.state_dict().items()
    }
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{name} has values that float16 cannot hold; nothing was written"
            )
    text = {
        "format": FORMAT,
        "recipe": json.dumps(recipe.to_dict()),
        "shape": json.dumps(list(shape)),
        "facts": json.dumps(facts),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            save_file(weights, temporary, metadata=text)
    except OSError as error:
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error
    return path


def locate(name: str | os.PathLike) -> Path:
    """The file of a shipped checkpoint, or ``name`` itself where it is a file."""
    path = Path(name)
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise CheckpointNotFound(f"there is no checkpoint file {path}")
        return path
    shipped = folder() / f"{name}.safetensors"
    if shipped.is_file():
        return shipped
    near = difflib.get_close_matches(str(name), names(), 1)
    raise CheckpointNotFound(
        f"there is no checkpoint {str(name)!r}"
        + (f"; did you mean {near[0]}?" if near else "")
        + f" (shipped: {', '.join(names()) or 'none yet'}; or name a .safetensors file)"
    )


def load(name: str | os.PathLike, device: str | torch.device = "cpu") -> Checkpoint:
    """The checkpoint called ``name``, or in the file of that name.

    Raises CheckpointError for a file that is missing, damaged, of another program, or whose
    weights do not fit the network that its recipe names: the message says which.
    """
    from safetensors import SafetensorError, safe_open

    path = locate(name)
    try:
        with safe_open(path, framework="pt") as f:
            text = f.metadata() or {}
            weights = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    if text.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of this course: its format is "
            f"{text.get('format')!r}, and {FORMAT!r} is wanted"
        )
    try:
        recipe = from_dict(json.loads(text["recipe"]), str(path))
        shape = tuple(json.loads(text["shape"]))
        facts = json.loads(text["facts"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} does not say how it was made: {error}") from None
    for key, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{path} is damaged: {key} holds NaN or infinite values")
    model = recipe.make_network(shape)
    try:
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network of its recipe: {error}") from None
    model = model.to(device).eval()
    if len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
    return Checkpoint(path.stem, model, recipe.make_schedule(), recipe, shape, facts)
