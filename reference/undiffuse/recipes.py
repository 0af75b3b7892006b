"""Recipes: everything that a training run depends on, as a small TOML file."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undiffuse import wavenets
from undiffuse.affine import AMOUNTS
from undiffuse.data import folder as data_folder
from undiffuse.dit import DiT
from undiffuse.optim import OPTIMIZERS
from undiffuse.presets import preset
from undiffuse.schedules import Schedule, cosine_schedule, flow_schedule, linear_schedule
from undiffuse.schedules import sigmoid_schedule as _sigmoid
from undiffuse.sources import SOURCES, Source, training_data
from undiffuse.spectral_vocoder import SpectralVocoder
from undiffuse.text import PAD, TextEncoder
from undiffuse.toned import TonedUNet
from undiffuse.unet import UNet
from undiffuse.vocoder import MelVocoder

SCHEDULES = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "sigmoid": _sigmoid,
    "flow": flow_schedule,
}
OCTAVE = 12  # semitones
DESIGNS = {
    "unet": UNet,
    "wavenet": wavenets.WaveNet1d,
    "vocoder": MelVocoder,
    "spectral": SpectralVocoder,
    "dit": DiT,
    "tone": TonedUNet,
}
DATA = tuple(SOURCES)
PREDICTIONS = ("eps", "x0", "v", "flow")
WEIGHTS = ("uniform", "min-snr")
TIMES = ("uniform", "logit-normal")
PRECISIONS = ("auto", "float32", "bfloat16", "float64")
DISTILLED = ("progressive", "consistency")


class RecipeError(ValueError):
    """A recipe cannot be used; the message says which entry and what is wanted."""


class RecipeNotFound(RecipeError):
    """There is no recipe of that name or at that path; the message says what there is."""


@dataclass(frozen=True)
class Recipe:
    """One training run.

    name: of the run and its checkpoint. data: one of ``sources.SOURCES``, such as "digits" or
    "drums"; n: the first n samples of the training split, None for all. network: arguments of
    ``unet.UNet`` or, with ``design``, of ``dit.DiT`` ("dit"), ``wavenets.WaveNet1d`` ("wavenet"),
    ``vocoder.MelVocoder`` ("vocoder") or ``spectral_vocoder.SpectralVocoder`` ("spectral"); or
    ``preset``, one of ``presets`` or of ``wavenets.PRESETS``, with changes to it; its ``text`` is a
    table of arguments of ``text.TextEncoder``, for a U-Net that reads prompts. schedule,
    schedule_options: the forward process. prediction: eps, x0, v or flow. weight: "uniform" (the
    plain loss of the prediction) or "min-snr". times: "uniform", of which middle says how much more
    often noise levels in the middle are trained (``training.sample_times``); or "logit-normal", of
    ``times_mean`` and ``times_std`` (``training.logit_normal_t``). optimizer: "adamw", or "muon"
    (``optim``). steps, batch, lr, warmup, final_lr, weight_decay, clip: as named. accumulate: in
    how many parts a batch goes through the network, one after the other, before the step: the same
    step but for rounding (and dropout's draws), in less memory. ema: decay of the averaged weights.
    drop_labels: share of labels, or prompts, dropped for guidance. drop_words: share of single
    words of prompts that are left out (``text.drop_words``). guidance: scale with which its samples
    are drawn where nothing else is asked for; 1 is none. guidance_interval: the times, [lo, hi] in
    [0, 1], between which they are guided (``guidance.guidance_interval``). shift, flip:
    augmentation of images (``training.augment``). shift, gain, polarity: of sound
    (``sound.augment_audio``): at most so many samples later and so many dB quieter, and whether it
    may be turned upside down. transpose: notes are also learned at keys so many semitones higher
    (``training_data``). scale: the network learns scale * x, and ``draw.draw`` divides by
    it again. A schedule that is made for data of about unit variance, as images are, drowns quiet
    ones for most of its times (Chen 2023, "On the importance of noise scheduling", input scaling);
    scaling by c moves log SNR by 2 log c.
    init: a checkpoint to begin from, by name or path, with the same network, schedule, prediction
    and scale; "" is none. freeze: patterns of parameters that do not learn (``finetune.freeze``).
    lora: if above 0, only additions of this rank learn, and what tells classes
    (``finetune.add_lora``); they are merged in the end. affine: limits of ``affine.random_affine``
    for images, such as {rotate = 10, shift = 2}; affine_share: the share of images that are
    altered; affine_told: whether the network is told how (``affine.augment_conditioned``).
    seconds: if above 0, ``steps`` is replaced by what the machine does in this time.
    validate_every, sample_every: steps between looks at the validation loss by noise level, and at
    samples; 0 for never; they change nothing in the run. precision: "float32", "bfloat16" (the
    network alone, by autocast), "float64", to compare runs, or "auto", which is bfloat16 on a GPU
    of CUDA that computes in it, and float32 elsewhere.
    distilled: of a network that learnt from another one's samples, not from data: the teacher's
    name, the method ("progressive", "consistency"), the calls that it makes, and what else is told;
    ``distillation`` fills it in, and ``draw.draw`` goes by it.
    Entries of the wrong kind, out of range or unknown raise RecipeError.
    """

    name: str
    data: str = "digits"
    n: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    prediction: str = "v"
    weight: str = "uniform"
    middle: float = 0.0
    times: str = "uniform"
    times_mean: float = 0.0
    times_std: float = 1.0
    optimizer: str = "adamw"
    steps: int = 1000
    seconds: float = 0.0
    batch: int = 64
    accumulate: int = 1
    lr: float = 1e-3
    final_lr: float = 0.0
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    drop_labels: float = 0.1
    drop_words: float = 0.0
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    shift: int = 0
    flip: bool = False
    gain: float = 0.0
    polarity: bool = False
    transpose: tuple[int, ...] = ()
    expander: tuple[float, float] | None = None
    scale: float = 1.0
    init: str = ""
    freeze: tuple[str, ...] = ()
    lora: int = 0
    affine: dict[str, float] = field(default_factory=dict)
    affine_share: float = 1.0
    affine_told: bool = False
    seed: int = 0
    validate_every: int = 0
    sample_every: int = 0
    precision: str = "auto"
    distilled: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, known in (
            ("data", DATA),
            ("schedule", tuple(SCHEDULES)),
            ("prediction", PREDICTIONS),
            ("weight", WEIGHTS),
            ("times", TIMES),
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, key)
            if value not in known:
                raise RecipeError(f"{key} = {value!r}; it may be {', '.join(known)}")
        for key in ("steps", "batch", "accumulate"):
            self._number(key, 1, whole=True)
        for key in ("warmup", "shift", "seed", "lora"):
            self._number(key, 0, whole=True)
        for key in ("validate_every", "sample_every"):
            self._number(key, 0, whole=True)
        if self.n is not None:
            self._number("n", 1, whole=True)
        self._number("times_mean", -math.inf)
        for key in ("seconds", "final_lr", "weight_decay", "clip", "guidance", "gain"):
            self._number(key, 0)
        for key, range_, fits in (
            ("lr", "above 0 and below 1", lambda v: 0 < v < 1),
            ("ema", "in [0, 1)", lambda v: 0 <= v < 1),
            ("middle", "in [0, 1)", lambda v: 0 <= v < 1),
            ("times_std", "above 0, and finite,", lambda v: 0 < v < math.inf),
            ("drop_labels", "in [0, 1]", lambda v: 0 <= v <= 1),
            ("affine_share", "in [0, 1]", lambda v: 0 <= v <= 1),
            ("drop_words", "in [0, 1]", lambda v: 0 <= v <= 1),
            ("scale", "above 0, and finite,", lambda v: 0 < v < math.inf),
        ):
            self._number(key, 0)
            if not fits(getattr(self, key)):
                raise RecipeError(f"{key} = {getattr(self, key)!r}; a number {range_} is wanted")
        if not math.isfinite(self.times_mean):
            raise RecipeError(f"times_mean = {self.times_mean!r}; a finite number is wanted")
        if self.times != "uniform" and self.middle:
            raise RecipeError(f"middle is for uniform times, and times is {self.times!r}")
        object.__setattr__(self, "guidance_interval", _times(self.guidance_interval))
        object.__setattr__(self, "transpose", _semitones(self.transpose))
        if self.expander is not None:
            object.__setattr__(self, "expander", _expander(self.expander))
            if self.source.kind != "sound":
                raise RecipeError(f"expander is for waveforms, and {self.data} has none")
        if self.transpose and not self.source.factors:
            raise RecipeError(f"transpose is for sounds with a key, and {self.data} has none")
        if self.flip and self.source.kind != "image":
            raise RecipeError(f"flip = true is for images, and {self.data} is sound")
        for key in ("gain", "polarity"):
            if getattr(self, key) and self.source.kind != "sound":
                raise RecipeError(f"{key} is for waveforms, and {self.data} has none")
        if self.sample_every and self.source.kind == "vocoder":
            raise RecipeError(f"sample_every: {self.data} has no samples to draw without a mel")
        self._check_beginning()
        self._check_affine()
        _check_distilled(self.distilled)
        _refuse_unknown(self.network, None, "network")
        design = self.network.get("design", "unet")
        if design not in DESIGNS:
            raise RecipeError(f"design = {design!r}; it may be {', '.join(DESIGNS)}")
        if self.affine_told and design != "unet":
            raise RecipeError(f"affine_told is for the design unet, not {design}")
        given_by_data = {"in_channels", "dims"}
        options = set(inspect.signature(DESIGNS[design]).parameters) - given_by_data
        _refuse_unknown(self.network, sorted({"design", *options}), "network")
        if self.told:
            if design != "unet" or not self.source.told:
                raise RecipeError(
                    f"network.text is for a unet and data with prompts, not {self.data}"
                )
            options = inspect.signature(TextEncoder).parameters
            _refuse_unknown(self.network["text"], options, "network.text")
        elif self.source.told and self.network.get("classes"):
            raise RecipeError(f"{self.data} has prompts and no classes: give [network.text]")
        if self.drop_words and not self.told:
            raise RecipeError("drop_words is for prompts, and the network has no [network.text]")
        options = inspect.signature(SCHEDULES[self.schedule]).parameters
        _refuse_unknown(self.schedule_options, options, "schedule_options")

    def _number(self, key: str, least: float, whole: bool = False) -> None:
        value = getattr(self, key)
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
            what = "whole number" if whole else "number"
            raise RecipeError(f"{key} = {value!r}; a {what} of at least {least} is wanted")

    def _check_beginning(self) -> None:
        if not isinstance(self.init, str):
            raise RecipeError(f"init = {self.init!r}; the name or path of a checkpoint is wanted")
        patterns = [self.freeze] if isinstance(self.freeze, str) else self.freeze
        if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
            raise RecipeError(f"freeze = {self.freeze!r}; a list of patterns is wanted")
        object.__setattr__(self, "freeze", tuple(patterns))
        if self.lora and not self.init:
            raise RecipeError("lora adds to a trained network: name one by init")
        if self.lora and self.freeze:
            raise RecipeError("lora freezes everything but what it adds: leave freeze out")

    def _check_affine(self) -> None:
        if self.affine and self.source.kind != "image":
            raise RecipeError(f"affine is for images, and {self.data} is sound")
        _refuse_unknown(self.affine, ("rotate", "scale", "shift", "shear"), "affine")
        for key, value in self.affine.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise RecipeError(f"affine: {key} = {value!r}; a number of at least 0 is wanted")
        if self.affine_told and not self.affine:
            raise RecipeError(
                "affine_told = true, but affine has no limits: there is nothing to tell"
            )

    def make_schedule(self) -> Schedule:
        """The forward process."""
        return SCHEDULES[self.schedule](**self.schedule_options)

    def make_network(self, shape: tuple[int, ...]) -> nn.Module:
        """An untrained network for samples of ``shape`` (C, ...)."""
        options = dict(self.network)
        design = options.pop("design", "unet")
        if self.told and "words" not in options["text"]:
            options["text"] = {"words": len(self.source.vocab), **options["text"]}
        if design in ("vocoder", "spectral"):
            return DESIGNS[design](**options)
        if design == "wavenet":
            return wavenets.WaveNet1d(in_channels=shape[0], **options)
        if self.affine_told:
            options["augmentation"] = len(AMOUNTS)
        return DESIGNS[design](in_channels=shape[0], dims=len(shape) - 1, **options)

    @property
    def told(self) -> bool:
        """Whether its network reads prompts."""
        return bool(self.network.get("text"))

    @property
    def null(self) -> int | None:
        """The condition that means none: the number of classes, ``text.PAD``, or None."""
        return PAD if self.told else self.network.get("classes")

    @property
    def source(self) -> Source:
        """What ``data`` names."""
        return SOURCES[self.data]

    def training_data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What it trains on, samples and labels: ``n`` of the set's, and the notes transposed."""
        return training_data(self.source, self.n, self.transpose)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for logs and checkpoints."""
        return asdict(self)


def _check_distilled(told: Any) -> None:
    if told == {}:
        return
    calls = told.get("calls") if isinstance(told, dict) else None
    if (
        type(calls) is not int
        or calls < 1
        or told.get("method") not in DISTILLED
        or not isinstance(told.get("teacher"), str)
    ):
        raise RecipeError(
            f"distilled = {told!r}; a table with teacher, calls (at least 1) and method "
            f"({', '.join(DISTILLED)}) is wanted"
        )


def _two(key: str, given: Any, fits: Callable[[float, float], bool], wanted: str) -> tuple:
    """``given`` as two numbers; RecipeError, saying what is ``wanted``, where they do not fit."""
    try:
        first, second = (float(v) for v in given)
    except (TypeError, ValueError):
        first = second = math.nan
    if not fits(first, second):
        raise RecipeError(f"{key} = {given!r}; {wanted}")
    return first, second


def _times(given: Any) -> tuple[float, float]:
    wanted = "two times are wanted, [lo, hi] with 0 <= lo < hi <= 1"
    return _two("guidance_interval", given, lambda lo, hi: 0 <= lo < hi <= 1, wanted)


def _expander(given: Any) -> tuple[float, float]:
    wanted = "a threshold from -120 to 0 dBFS and a ratio from 1 to 20 are wanted"
    return _two("expander", given, lambda db, ratio: -120 <= db <= 0 and 1 <= ratio <= 20, wanted)


def _semitones(given: Any) -> tuple[int, ...]:
    """Whole numbers other than 0, each once."""
    fits = isinstance(given, list | tuple) and len(set(given)) == len(given)
    if not fits or not all(type(k) is int and k and abs(k) <= OCTAVE for k in given):
        raise RecipeError(
            f"transpose = {given!r}; whole numbers of semitones are wanted, from {-OCTAVE} to "
            f"{OCTAVE}, without 0, each once"
        )
    return tuple(given)


def _refuse_unknown(given: Any, known: Iterable[str] | None, where: str) -> None:
    if not isinstance(given, dict):
        raise RecipeError(f"{where} must be a table of entries, got {given!r}")
    known = list(given if known is None else known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise RecipeError(
                f"{where} has an unknown entry {key!r}"
                + (f"; did you mean {near[0]}?" if near else f" (there are {', '.join(known)})")
            )


def from_dict(data: dict[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from plain data; an unknown key raises RecipeError with the nearest known one."""
    _refuse_unknown(data, [f.name for f in fields(Recipe)], where)
    if "name" not in data:
        raise RecipeError(f"{where} has no name")
    network = data.get("network", {})
    if isinstance(network, dict) and "preset" in network:
        # Written out, so that a checkpoint does not change its meaning with a preset.
        rest = {k: v for k, v in network.items() if k != "preset"}
        name = network["preset"]
        try:
            if name in wavenets.PRESETS:
                found = {"design": "wavenet"} | wavenets.PRESETS[name].network
            else:
                found = preset(name).network
        except ValueError as error:
            raise RecipeError(f"{where}: {error}") from None
        data = data | {"network": found | rest}
    return Recipe(**data)


def folder() -> Path:
    """Where shipped recipes lie: ``data/recipes``."""
    return data_folder() / "recipes"


def locate(name: str | os.PathLike) -> Path:
    """The file ``name``, or the shipped recipe of that name; RecipeNotFound with the nearest."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise RecipeNotFound(f"there is no recipe at {path}")
        return path
    known = {p.stem: p for p in sorted(folder().glob("*.toml"))}
    if str(name) in known:
        return known[str(name)]
    near = difflib.get_close_matches(str(name), known, 1)
    raise RecipeNotFound(
        f"there is no recipe {str(name)!r}"
        + (f"; did you mean {near[0]}?" if near else "")
        + f" (shipped: {', '.join(known) or 'none'}; or name a .toml file)"
    )


def load(path: str | os.PathLike) -> Recipe:
    """The recipe in a TOML file, or the shipped one of that name.

    Raises RecipeNotFound or, for a file that cannot be read or used, RecipeError.
    """
    path = locate(path)
    try:
        with open(path, "rb") as f:
            data = tomllib.load(f)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from None
    return from_dict({"name": path.stem, **data}, str(path))
