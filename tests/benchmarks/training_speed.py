"""What share of the machine's convolution peak a training step uses, and where its time goes.

    python tests/benchmarks/training_speed.py [--recipe FILE] [--threads N] [--out FILE.json]

Peak: the fastest of several convolutions, forward only, float32, channels_last, all threads. Share:
the floating point operations of a step (counted by torch: forward and backward of convolutions and
matrix products, nothing else) over its time in ``undiffuse.trainer``, as a share of that peak; the
bar is 40 %. Then what the parts of a step take, and what layouts, optimisers and torch.compile
change. Variants of a step take turns, so that a machine that slows down slows all of them.

Not a test: the machine should have nothing else to do. On one that has, ``--clock cpu --threads 1``
counts processor time in place of wall time, and only the ratios mean something.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from undiffuse import data, optim, recipes, trainer, training
from undiffuse.unet import UNet

ROOT = Path(__file__).parents[2]
BAR = 0.4
CONVOLUTIONS = (  # (batch, channels in, channels out, height and width, kernel)
    (32, 32, 32, 14, 3),
    (32, 64, 64, 14, 3),
    (32, 128, 128, 14, 3),
    (32, 64, 64, 28, 3),
    (32, 128, 128, 28, 3),
    (64, 256, 256, 14, 3),
    (32, 256, 256, 7, 3),
    (32, 256, 256, 28, 1),
)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def best_time(work: Callable[[], object], clock: Callable[[], float], seconds: float) -> float:
    """The fastest of as many repetitions as fit into ``seconds``, three at least."""
    work()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        before = clock()
        work()
        times.append(clock() - before)
    return min(times)


def convolution_peak(clock: Callable[[], float], seconds: float = 1.0) -> dict[str, float]:
    """FLOP/s of each of ``CONVOLUTIONS``, by name."""
    found = {}
    with torch.no_grad():
        for batch, inside, outside, size, kernel in CONVOLUTIONS:
            conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
            conv = conv.to(memory_format=torch.channels_last)
            x = torch.randn(batch, inside, size, size).to(memory_format=torch.channels_last)
            with FlopCounterMode(display=False) as counter:
                conv(x)
            took = best_time(lambda conv=conv, x=x: conv(x), clock, seconds)
            name = f"{batch} x {inside} -> {outside}, {size} x {size}, kernel {kernel}"
            found[name] = counter.get_total_flops() / took
    return found


class Step:
    """A training step of a recipe on one batch that stays the same, in parts, with options."""

    def __init__(
        self,
        recipe: recipes.Recipe,
        x: torch.Tensor,
        labels: torch.Tensor,
        channels_last: bool = True,
        adamw: dict | None = None,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(0)
        network = UNet(in_channels=x.shape[1], dims=x.ndim - 2, **recipe.network)
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.recipe, self.schedule = recipe, recipe.make_schedule()
        self.x, self.t, self.noise = x, torch.rand(len(x)), torch.randn_like(x)
        self.labels = labels if network.null is not None else None
        self.network = network
        self.model = torch.compile(network) if compiled else network
        if adamw is None:
            self.optimizer = optim.make_optimizer(network, recipe.optimizer, recipe.lr)
        else:
            self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, **adamw)
        self.ema = training.EMA(network, recipe.ema)

    def backward(self) -> None:
        loss = trainer.denoising_loss(
            self.model,
            self.schedule,
            self.x,
            self.t,
            self.noise,
            self.labels,
            self.recipe.prediction,
            self.recipe.weight,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def __call__(self) -> None:
        self.backward()
        training.clip_and_report(self.network.parameters(), self.recipe.clip or 1.0)
        self.optimizer.step()
        self.ema.update(self.network)


def flops(step: Step) -> int:
    with FlopCounterMode(display=False) as counter:
        step.backward()
    return counter.get_total_flops()


@contextlib.contextmanager
def parts_timed(clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Seconds in the parts of ``trainer.train``'s step, summed over all steps inside."""
    spent: dict[str, float] = collections.defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            start = clock()
            result = function(*args, **kwargs)
            spent[name] += clock() - start
            return result

        return wrapped

    def make_optimizer(*args, **kwargs):
        optimizer = optim.make_optimizer(*args, **kwargs)
        optimizer.step = timed("optimizer", optimizer.step)
        return optimizer

    with contextlib.ExitStack() as stack:
        for owner, attribute, name in (
            (trainer, "denoising_loss", "forward"),
            (torch.Tensor, "backward", "backward"),
            (trainer, "clip_and_report", "clipping"),
            (training.EMA, "update", "EMA"),
        ):
            replacement = timed(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        stack.enter_context(mock.patch.object(trainer, "make_optimizer", make_optimizer))
        yield spent


def whole_steps(
    recipe: recipes.Recipe, x: torch.Tensor, labels: torch.Tensor, steps: int, clock: Callable
) -> tuple[float, dict[str, float]]:
    """(seconds of the median step, mean seconds of its parts) in ``trainer.train``."""
    ticks: list[float] = []
    warm = 5
    with parts_timed(clock) as spent:

        def on_step(step: int, *_) -> None:
            if step == warm:
                spent.clear()
            ticks.append(clock())

        counted = dataclasses.replace(recipe, steps=warm + steps, seconds=0.0)
        trainer.train(counted, x, labels, on_step=on_step)
    times = [b - a for a, b in zip(ticks[warm - 1 :], ticks[warm:])]
    parts = {name: total / steps for name, total in spent.items()}
    parts["batch and the rest"] = max(0.0, statistics.mean(times) - sum(parts.values()))
    return statistics.median(times), parts


def take_turns(
    variants: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of each, one call of each in turn."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 2):
        for name, work in variants.items():
            start = clock()
            work()
            if number >= 2:  # the first ones prepare kernels
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def options(recipe, x, labels, rounds: int, clock: Callable) -> tuple[dict, dict[str, str]]:
    """(seconds by option, reasons why an option was left out)."""
    made = {
        "as in the recipe": Step(recipe, x, labels),
        "channels_last off": Step(recipe, x, labels, channels_last=False),
        "AdamW, plain": Step(recipe, x, labels, adamw={"foreach": False}),
        "AdamW, foreach": Step(recipe, x, labels, adamw={"foreach": True}),
        "AdamW, fused": Step(recipe, x, labels, adamw={"fused": True}),
    }
    left_out = {}
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        left_out["torch.compile"] = "no C++ compiler was found"
    else:
        compiled = Step(recipe, x, labels, compiled=True)
        try:
            start = time.perf_counter()
            compiled()
            print(f"torch.compile took {time.perf_counter() - start:.0f} s to compile")
            made["torch.compile"] = compiled
        except Exception as error:
            left_out["torch.compile"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return take_turns(made, rounds, clock), left_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", type=Path, default=ROOT / "data/recipes/lesson05.toml")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30, help="of each option; 0 leaves them out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = CLOCKS[args.clock]
    recipe = recipes.load(args.recipe)
    x, labels = getattr(data, recipe.data)("train", recipe.n)
    if "classes" not in recipe.network:
        labels = None
    batch = x[: recipe.batch]
    batch_labels = None if labels is None else labels[: recipe.batch]

    print(f"torch {torch.__version__}, {args.threads} threads, {platform.machine()}; {args.recipe}")
    peaks = convolution_peak(clock)
    for name, value in peaks.items():
        print(f"{value / 1e9:8.1f} GFLOP/s  convolution {name}")
    peak = max(peaks.values())
    one = Step(recipe, batch, batch_labels)
    work = flops(one)
    print(f"{work / 1e9:8.2f} GFLOP in a step (forward and backward, batch {recipe.batch})")
    took, parts = whole_steps(recipe, x, labels, args.steps, clock)
    share = work / took / peak
    print(f"{took * 1e3:8.1f} ms a step: {work / took / 1e9:.1f} GFLOP/s")
    print(f"{share:8.1%} of the peak (bar: {BAR:.0%}; {'met' if share >= BAR else 'NOT met'})")
    total = sum(parts.values())
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{seconds * 1e3:8.1f} ms  {seconds / total:6.1%}  {name}")
    timed: dict[str, float] = {}
    left_out: dict[str, str] = {}
    if args.rounds:
        timed, left_out = options(recipe, batch, batch_labels, args.rounds, clock)
        base = timed["as in the recipe"]
        for name, seconds in timed.items():
            print(f"{seconds * 1e3:8.1f} ms  {seconds / base:5.2f} x  {name}")
        for name, reason in left_out.items():
            print(f"{'':8} left out: {name}: {reason}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "recipe": str(args.recipe),
            "torch": torch.__version__,
            "threads": args.threads,
            "clock": args.clock,
            "convolutions_flops_per_second": peaks,
            "peak_flops_per_second": peak,
            "flops_per_step": work,
            "seconds_per_step": took,
            "share_of_peak": share,
            "bar": BAR,
            "seconds_of_parts": parts,
            "seconds_of_options": timed,
            "left_out": left_out,
        }
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
