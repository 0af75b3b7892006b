"""What the transforms of a batch of 64 clips cost, as a share of a training step on them.

    python tests/benchmarks/transforms_speed.py [--recipe FILE] [--threads N] [--clock cpu]

The bar: log-mel of 64 clips, the transform that training on spectrograms needs, takes under a tenth
of a training step (forward, backward, clipping, optimiser, EMA) of the recipe's network on 64
clips. The step is that of ``undiffuse.trainer``, on waveforms; without a recipe, of the smallest
network that could serve, so that the bar is met for those that do. Beside it, each transform alone,
and Griffin-Lim by the step of it, which training does not need. Steps and transforms take turns.

Not a test: see training_speed.py for what the clocks mean.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from training_speed import CLOCKS, Step, take_turns

from undiffuse import recipes, sound, sound_metrics, transforms
from undiffuse.blocks import count_parameters

BATCH, LENGTH, RATE = 64, 8192, 8000
BAR = 0.1
SMALL = {
    "name": "small",
    "batch": BATCH,
    "network": {"channels": [16, 32], "patch": 8, "classes": 10},
}


def work(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Transforms of a batch (B, 1, L), by name."""
    clips = x[:, 0]
    magnitude = transforms.stft_magnitude(clips)
    filters = transforms.mel_filterbank(64, 256, RATE)
    mel = filters @ magnitude
    generator = torch.Generator().manual_seed(0)
    return {
        "log_mel": lambda: transforms.log_mel_to_model_range(transforms.log_mel(clips, RATE)),
        "stft_magnitude": lambda: transforms.stft_magnitude(clips),
        "istft": lambda: transforms.istft(magnitude.to(torch.complex64), length=LENGTH),
        "resample 16 to 8 kHz": lambda: transforms.resample(clips, 16000, 8000),
        "resample 44.1 to 16 kHz": lambda: transforms.resample(clips, 44100, 16000),
        "augment_audio": lambda: sound.augment_audio(x, generator),
        "loudness_normalise": lambda: sound.loudness_normalise(x),
        "estimate_pitch": lambda: sound_metrics.estimate_pitch(clips, RATE),
        "mel_to_magnitude, 1 step": lambda: transforms.mel_to_magnitude(mel, filters, 1),
        "griffin_lim, 1 step": lambda: transforms.griffin_lim(magnitude, 1, generator),
    }


def measure(recipe: recipes.Recipe, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of a training step ("step") and of each transform."""
    x = torch.rand(BATCH, 1, LENGTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step = Step(recipe, x, torch.arange(BATCH) % 8, channels_last=False)
    return take_turns({"step": step, **work(x)}, rounds, clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", type=Path, help="of sound; else the smallest network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = recipes.load(args.recipe) if args.recipe else recipes.from_dict(SMALL)
    print(f"torch {torch.__version__}, {args.threads} threads, {platform.machine()}; {recipe.name}")
    found = measure(recipe, args.rounds, CLOCKS[args.clock])
    step = found.pop("step")
    shares = {name: seconds / step for name, seconds in found.items()}
    network = Step(recipe, torch.zeros(1, 1, LENGTH), torch.zeros(1).long()).network
    print(f"{step * 1e3:9.1f} ms  a training step, {count_parameters(network):,} parameters")
    for name, seconds in found.items():
        print(f"{seconds * 1e3:9.1f} ms  {shares[name]:7.2%}  {name}")
    share = shares["log_mel"]
    verdict = "met" if share < BAR else "NOT met"
    print(f"log_mel takes {share:.2%} of a training step (bar: {BAR:.0%}; {verdict})")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "recipe": recipe.name,
            "torch": torch.__version__,
            "threads": args.threads,
            "clock": args.clock,
            "clips": [BATCH, LENGTH],
            "seconds_per_step": step,
            "seconds": found,
            "share_of_step": shares,
            "bar": BAR,
        }
        args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
