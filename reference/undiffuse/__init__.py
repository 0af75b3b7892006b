"""A diffusion library small enough to read, built step by step by the course's lessons.

What lives here, from the bottom up:

- ``schedules``: how much noise there is at each time; ``process``: putting it in
- ``prediction``: what a network may predict, and the interface that samplers see
- ``denoisers``: the best possible denoisers, in closed form; ``losses``: what training minimises
- ``flow``: the straight path, its velocity and the way back; ``dit``: a transformer in place of the
  U-Net
- ``sets2d``: point sets in the plane and a denoiser that learns one in seconds
- ``data``, ``downloads``: images with their cards; ``plots``, ``palette``: pictures of all of it
- ``sound``, ``resampling``, ``transforms``: clips of sound, and their spectrograms and back;
  ``sound_metrics``: what is measured on them; ``listen``: players and pictures for notebooks
- ``subsets``, ``affine``, ``finetune``, ``stopping``: what helps where data are few
- ``distillation``, ``consistency``: students that need few calls; ``latents``: diffusion on codes;
  ``costs``, ``quantising``: what a call costs, and weights of eight bits
- ``text``: prompts as numbers and the network that reads them; ``drawings``: emoji with their
  prompts; ``prompts``: asking with words; ``attributes``, ``prompt_judging``: was it drawn
- ``repair``, ``measurements``, ``posterior``: holes, gaps and lost detail, filled by a network;
  ``classical_repair``: without one; ``synthetic``: drawn data to train other models on
- ``results``: measured figures, shown and kept; ``experiments``: what measures claims, run by run

Nothing is imported until it is used: ``import undiffuse`` costs no torch. It does ask the C library
to keep freed memory for the next call of a network (``heap``).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import TypeVar

from undiffuse import heap

__version__ = "0.1.0"
__all__ = ["__version__", "budget"]

_BUDGETS = ("full", "small")

T = TypeVar("T")

heap.keep()


def budget(full: T, small: T) -> T:
    """``full``, or ``small`` where the environment variable UNDIFFUSE_BUDGET is "small".

    Lessons name both sizes of an experiment with it: ``n = budget(full=1000, small=100)``.
    Unset or empty means full. Raises ValueError for any other value.
    """
    name = os.environ.get("UNDIFFUSE_BUDGET", "") or "full"
    if name not in _BUDGETS:
        raise ValueError(f"UNDIFFUSE_BUDGET is {name!r}; it may be 'full', 'small' or unset")
    return full if name == "full" else small


def __getattr__(name: str):
    """Modules on first use (PEP 562)."""
    if name in _modules():
        return importlib.import_module(f"undiffuse.{name}")
    raise AttributeError(f"module 'undiffuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules()})


def _modules() -> set[str]:
    return {m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
