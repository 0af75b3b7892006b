"""This project against diffusers and smalldiffusion: the same digits, cores and seconds.

    python tests/benchmarks/peers_images.py [--seconds 300] [--out FILE.json]
    python tests/benchmarks/peers_images.py --tune FILE.json [--seconds 90]

Each trains a class-conditional network of about the same size on the same 5,000 digits, in a
process of its own, one after the other. Then each draws 1,000 images with 50 network calls, labels
in the shares of the reference set, and ``undiffuse.judging`` judges all alike. Printed: FD, its
multiple of the floor, the excess over the floor, recall, class accuracy, milliseconds a step and
seconds to sample; then ours over the best peer's. Bars: a tenth of the excess FD, three times the
speed of sampling. A peer that knows several samplers is drawn with each in ``SETTINGS`` and counts
with the one that does best.

``--tune`` walks through ``CHANGES``, keeps each that lowers a peer's FD, and writes the settings
and what each change gave; ``--settings FILE.json`` then trains with those. Wanted beside the test
extra: ``pip install '.[peers]'``, here or in the environment of ``--python``. Not a test: the
machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "data/recipes/lesson05.toml"
DIGITS = 5000
EXCESS_BAR, SPEED_BAR = 0.1, 3.0
NEEDS = {"ours": [], "diffusers": ["diffusers"], "smalldiffusion": ["smalldiffusion", "accelerate"]}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

# What each library documents for such a task, made smaller to the size of our network (640,000
# parameters) and fitted to minutes in place of hours. CHANGES starts from here. channels_last is
# off as both libraries have it: their steps are no faster with it on a CPU (set it to see).
SETTINGS: dict[str, dict[str, Any]] = {
    # diffusers 0.42, examples/unconditional_image_generation/train_unconditional.py and its basic
    # training tutorial: AdamW (0.95, 0.999), weight decay 1e-6, batch 16, lr 1e-4 with 500 steps
    # of warm-up and a cosine, clipping at 1, EMA with inv_gamma 1, power 3/4 and at most 0.9999,
    # DDPM of 1,000 steps, linear betas, epsilon. Its six levels of 128 to 512 channels become
    # three of 32, 32 and 64 (28 halves twice at most); its 32 groups of norm have four channels
    # each at the least, and so have the eight here: 32 of them, one channel each, are several
    # times worse (FD 47 after five minutes). A class is an embedding added to that of time
    # (num_class_embeds).
    # 500 steps of warm-up would be most of the run, and 1e-4 is for 100 times as many steps. What
    # --tune gave in 40 s of processor time (one thread, 100 images, 15 calls; FD): lr 1e-3 152,
    # 1e-4 326, 3e-4 209, 2e-3 127; from there batch 32 159, a shorter EMA 136, cosine betas 129,
    # [32, 32, 64] 120, and that without attention 94, at half the time a step: taken.
    "diffusers": {
        "channels": [32, 32, 64],
        "attention": False,
        "layers": 1,
        "groups": 8,
        "batch": 16,
        "lr": 2e-3,
        "warmup": 50,
        "decay_lr": True,
        "ema": 0.9999,
        "ema_power": 0.75,
        "betas": "linear",
        "channels_last": False,
        "samplers": ["ddpm", "ddim"],
    },
    # smalldiffusion 0.5, examples/fashion_mnist_unet.py: Scaled(Unet)(28, 1, 1, ch=64, (1, 1, 2),
    # attention at 14), ScheduleLogLinear(N=800, 0.01 to 20), batch 1024, AdamW at a constant 7e-4,
    # EMA 0.999 as torch-ema has it, samples with gam=1.6. Here ch=32 and one block a level; a
    # batch of 1024 would leave some twenty steps. Classes as in its conditional examples:
    # CondEmbedderLabel, a tenth of labels dropped. What --tune gave in 120 s of processor time (one
    # thread, 300 images, 25 calls; FD): as documented 46.6, lr 2e-3 48.7, 4e-3 46.7, a cosine
    # after 20 steps of warm-up 46.0, from there batch 32 49.4, 16 50.4, EMA 0.99 45.9, sigmas from
    # 0.02 46.5.
    "smalldiffusion": {
        "channels": 32,
        "multiples": [1, 1, 2],
        "blocks": 1,
        "batch": 64,
        "lr": 7e-4,
        "warmup": 20,
        "decay_lr": True,
        "ema": 0.99,
        "sigmas": [0.01, 20.0],
        "channels_last": False,
        "samplers": ["accelerated", "ddpm", "guided"],
    },
}
CHANGES: dict[str, list[dict[str, Any]]] = {
    "diffusers": [
        {"groups": 32},
        {"lr": 1e-4},
        {"lr": 1e-3},
        {"lr": 4e-3},
        {"batch": 32},
        {"ema": 0.98, "ema_power": 1.0},
        {"betas": "squaredcos_cap_v2"},
        {"channels": [32, 64]},
        {"attention": True},
    ],
    "smalldiffusion": [
        {"lr": 2e-3},
        {"lr": 4e-3},
        {"decay_lr": False, "warmup": 0},
        {"batch": 32},
        {"batch": 16},
        {"ema": 0.999},
        {"sigmas": [0.02, 20.0]},
        {"channels": 64, "multiples": [1, 1]},
    ],
}

# What a contender gives: (steps made, parameters, {sampler: draw(labels) -> images in [-1, 1]})
Made = tuple[int, int, dict[str, Callable[[Any], Any]]]


# In a process of its own: training and drawing.


def hide_torchvision(stub: bool) -> None:
    """Neither peer needs torchvision here, and one that does not fit torch breaks both on import
    (the wheels of PyPI beside a CPU build of torch). diffusers does without it; smalldiffusion
    imports its transforms for data sets that are not used, so it gets a module that answers
    everything with a function that does nothing."""
    if not stub:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        return

    class Transforms(types.ModuleType):
        def __getattr__(self, name: str) -> Callable:
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *args, **kwargs: None

    for name in ("torchvision", "torchvision.transforms"):
        module = Transforms(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]


def rate(settings: dict[str, Any], step: int, share: float) -> float:
    """The learning rate: linear warm-up, then half a cosine over the time, or constant."""
    value = settings["lr"] * min(1.0, (step + 1) / max(1, settings["warmup"]))
    return (
        value * 0.5 * (1 + math.cos(math.pi * min(1.0, share))) if settings["decay_lr"] else value
    )


def parameters(network: Any) -> int:
    return sum(p.numel() for p in network.parameters())


def ours(x, labels, settings, args, clock) -> Made:
    import dataclasses

    import torch

    from undiffuse import guidance, recipes, sampling, trainer

    if args.clock != "wall":
        raise SystemExit("the trainer of this project counts wall time only")
    recipe = dataclasses.replace(
        recipes.load(RECIPE), n=DIGITS, seconds=args.seconds, steps=10**6, seed=args.seed
    )
    run = trainer.train(recipe, x, labels)

    # As lesson 05 draws with this recipe: a guided step takes two calls.
    model, steps = run.model, args.calls
    if recipe.guidance != 1:
        model = guidance.guided(model, model.null, recipe.guidance, recipe.guidance_interval)
        steps = max(1, args.calls // 2)

    def draw(wanted):
        generator = torch.Generator().manual_seed(args.seed)
        return sampling.sample(
            model,
            run.schedule,
            (len(wanted), 1, 28, 28),
            kind=recipe.prediction,
            calls=steps,
            cond=wanted,
            generator=generator,
            clip=(-1.0, 1.0),
        )

    return run.steps, parameters(run.model), {"dpmpp_2m": draw}


def diffusers(x, labels, settings, args, clock) -> Made:
    hide_torchvision(stub=False)
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    levels = len(settings["channels"])
    middle = [settings["attention"] and level == 1 for level in range(levels)]
    model = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=settings["layers"],
        block_out_channels=tuple(settings["channels"]),
        down_block_types=tuple("AttnDownBlock2D" if m else "DownBlock2D" for m in middle),
        up_block_types=tuple("AttnUpBlock2D" if m else "UpBlock2D" for m in reversed(middle)),
        norm_num_groups=settings["groups"],
        num_class_embeds=10,
    )
    if settings["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    options = {
        "num_train_timesteps": 1000,
        "beta_schedule": settings["betas"],
        "prediction_type": "epsilon",
    }
    noising = DDPMScheduler(**options)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["lr"], betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    ema = EMAModel(
        model.parameters(),
        decay=settings["ema"],
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=settings["ema_power"],
    )
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, labels), settings["batch"], shuffle=True
    )
    model.train()
    step, start = 0, clock()
    while (spent := clock() - start) < args.seconds:
        for x0, y in loader:
            spent = clock() - start
            if spent >= args.seconds:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate(settings, step, spent / args.seconds)
            noise = torch.randn_like(x0)
            t = torch.randint(0, 1000, (len(x0),))
            found = model(noising.add_noise(x0, noise, t), t, class_labels=y).sample
            loss = torch.nn.functional.mse_loss(found, noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(model.parameters())
            step += 1
    ema.copy_to(model.parameters())
    model.eval()

    def drawn(kind: Any) -> Callable:
        @torch.no_grad()
        def draw(wanted):
            # The loop of DDPMPipeline and DDIMPipeline, which take no labels.
            scheduler = kind(**options)
            scheduler.set_timesteps(args.calls)
            generator = torch.Generator().manual_seed(args.seed)
            image = torch.randn((len(wanted), 1, 28, 28), generator=generator)
            for t in scheduler.timesteps:
                found = model(image, t, class_labels=wanted).sample
                image = scheduler.step(found, t, image, generator=generator).prev_sample
            return image

        return draw

    known = {"ddpm": drawn(DDPMScheduler), "ddim": drawn(DDIMScheduler)}
    return step, parameters(model), {name: known[name] for name in settings["samplers"]}


def smalldiffusion(x, labels, settings, args, clock) -> Made:
    hide_torchvision(stub=True)
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from accelerate import Accelerator
    from smalldiffusion import (
        CondEmbedderLabel,
        Scaled,
        ScheduleLogLinear,
        Unet,
        samples,
        training_loop,
    )

    from undiffuse.training import EMA  # by torch-ema's rule, which the example uses

    width, low_high = settings["channels"], settings["sigmas"]
    model = Scaled(Unet)(
        28,
        1,
        1,
        ch=width,
        ch_mult=tuple(settings["multiples"]),
        num_res_blocks=settings["blocks"],
        attn_resolutions=(14,),
        cond_embed=CondEmbedderLabel(4 * width, 10, 0.1),
    )
    if settings["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    schedule = ScheduleLogLinear(N=800, sigma_min=low_high[0], sigma_max=low_high[1])
    accelerator = Accelerator(cpu=True)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, labels), settings["batch"], shuffle=True
    )
    ema = EMA(model, settings["ema"])
    loop = training_loop(
        loader, model, schedule, accelerator, 10**6, settings["lr"], conditional=True
    )
    start, step = clock(), 0
    for told in loop:  # comes back between the loss and its gradient, of step number ``step``
        if step:
            ema.update(model)
        spent = clock() - start
        if spent >= args.seconds:
            break
        for group in told.optimizer.param_groups:
            group["lr"] = rate(settings, step, spent / args.seconds)
        step += 1
    loop.close()
    ema.copy_to(model)
    model.eval()

    def drawn(**options: float) -> Callable:
        def draw(wanted):
            torch.manual_seed(args.seed)
            guided = options.get("cfg_scale", 0) != 0  # a guided step takes two calls
            sigmas = schedule.sample_sigmas(max(1, args.calls // 2) if guided else args.calls)
            *_, last = samples(
                model,
                sigmas,
                batchsize=len(wanted),
                cond=wanted,
                accelerator=accelerator,
                **options,
            )
            return last

        return draw

    known = {
        "accelerated": drawn(gam=1.6),
        "ddpm": drawn(gam=1.0, mu=0.5),
        "ddim": drawn(gam=1.0),
        "guided": drawn(gam=1.6, cfg_scale=0.3),  # 1.3 as we count it
    }
    return step, parameters(model), {name: known[name] for name in settings["samplers"]}


CONTENDERS = {"ours": ours, "diffusers": diffusers, "smalldiffusion": smalldiffusion}


def work(args: argparse.Namespace) -> None:
    """Trains and draws one contender; leaves ``images_SAMPLER`` and figures in ``--save``."""
    import torch

    from undiffuse import data, judging

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    x, labels = data.digits("train", DIGITS)
    clock = CLOCKS[args.clock]
    settings = json.loads(args.worker_settings)
    start = clock()
    steps, count, samplers = CONTENDERS[args.worker](x, labels, settings, args, clock)
    trained = clock() - start
    wanted = judging.labels_like("digits", args.count)
    found: dict[str, Any] = {"steps": steps, "parameters": count, "train_seconds": trained}
    images, found["sample_seconds"] = {}, {}
    for name, draw in samplers.items():
        start = clock()
        parts = [draw_seeded(draw, part, args, k) for k, part in enumerate(wanted.split(250))]
        found["sample_seconds"][name] = clock() - start
        images[name] = torch.cat(parts).clamp(-1, 1).numpy()
    np.savez(args.save, figures=json.dumps(found), **{f"images_{k}": v for k, v in images.items()})


def draw_seeded(draw: Callable, wanted: Any, args: argparse.Namespace, part: int) -> Any:
    """One batch, with a seed of its own."""
    seed = args.seed
    args.seed = 1000 * (seed + 1) + part
    try:
        return draw(wanted)
    finally:
        args.seed = seed


# In the process that judges.


def missing(name: str, python: str) -> list[str]:
    """Packages that a contender needs and ``python`` lacks."""
    code = (
        "import importlib.util, sys\n"
        "print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n) is None])"
    )
    told = subprocess.run(
        [python, "-c", code, *NEEDS[name], "torch", "numpy"], capture_output=True, text=True
    )
    if told.returncode:
        raise SystemExit(f"{python} does not run: {told.stderr.strip()[-300:]}")
    return told.stdout.split()


def contest(name: str, settings: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Trains, draws and judges one contender: its figures, those of its best sampler on top."""
    from undiffuse import judging

    environment = dict(os.environ)
    paths = [str(ROOT / "reference"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[key] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        save = Path(folder) / "made.npz"
        command = [args.python if NEEDS[name] else sys.executable, __file__, "--worker", name]
        command += ["--worker-settings", json.dumps(settings), "--save", str(save)]
        for key in ("seconds", "threads", "seed", "count", "calls", "clock"):
            command += [f"--{key}", str(getattr(args, key))]
        told = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if told.returncode:
            raise RuntimeError(f"{name} failed:\n{told.stderr.strip()[-2000:]}")
        with np.load(save) as made:
            figures = json.loads(str(made["figures"]))
            images = {k.removeprefix("images_"): made[k] for k in made.files if k != "figures"}
    labels = judging.labels_like("digits", args.count)
    judged = {
        sampler: judging.as_dict(judging.judge_images(pixels, labels, "digits", (args.seed,)))
        for sampler, pixels in images.items()
    }
    best = min(judged, key=lambda sampler: judged[sampler]["fd"])
    return {
        "name": name,
        "settings": settings,
        **figures,
        "ms_per_step": 1e3 * figures["train_seconds"] / max(1, figures["steps"]),
        "judged": judged,
        "sampler": best,
        "sampling": figures["sample_seconds"][best],
        **{key: judged[best][key] for key in ("fd", "ratio", "excess", "recall", "accuracy")},
    }


def line(found: dict[str, Any]) -> str:
    return (
        f"{found['name']:15}{found['sampler']:12}{found['parameters']:>9,}{found['steps']:>7,}"
        f"{found['ms_per_step']:9.1f}{found['fd']:10.2f}{found['ratio']:9.1f}"
        f"{found['excess']:10.2f}{found['recall']:8.3f}{found['accuracy']:9.3f}"
        f"{found['sampling']:10.1f}"
    )


HEADER = (
    f"{'':15}{'sampler':12}{'numbers':>9}{'steps':>7}{'ms/step':>9}{'FD':>10}{'x floor':>9}"
    f"{'excess':>10}{'recall':>8}{'accuracy':>9}{'sampling':>10}"
)


def tune(args: argparse.Namespace, settings: dict[str, dict[str, Any]]) -> None:
    """Keeps each of ``CHANGES`` that lowers FD; writes what each gave after every one."""
    report: dict[str, Any] = {"seconds": args.seconds, "count": args.count, "tried": []}
    for name in [n for n in args.contenders if n != "ours"]:
        print(HEADER)
        best = None
        for change in [{}, *CHANGES[name]]:
            candidate = settings[name] | change
            try:
                found = contest(name, candidate, args)
            except Exception as error:  # a rate that diverges is a result too
                print(f"{name:15}{change}: {str(error).splitlines()[-1]}", flush=True)
                report["tried"].append({"name": name, "change": change, "error": str(error)})
                continue
            kept = best is None or found["fd"] < best
            print(f"{line(found)}  {change} {'kept' if kept else ''}", flush=True)
            if kept:
                best, settings[name] = found["fd"], candidate
            found = {k: found[k] for k in ("name", "fd", "steps", "accuracy", "sampler")}
            report["tried"].append({**found, "change": change, "kept": kept})
            report["settings"] = settings
            args.tune.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def compare(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Ours over the best peer's: lowest excess FD, and fastest sampling."""
    mine = next((f for f in found if f["name"] == "ours"), None)
    peers = [f for f in found if f["name"] != "ours"]
    if mine is None or not peers:
        return {}
    excess = mine["excess"] / min(f["excess"] for f in peers)
    speed = min(f["sampling"] for f in peers) / mine["sampling"]
    return {
        "excess_ratio": excess,
        "excess_met": excess <= EXCESS_BAR,
        "sampling_speed_up": speed,
        "sampling_met": speed >= SPEED_BAR,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of training, for each")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--count", type=int, default=1000, help="images drawn by each")
    parser.add_argument("--calls", type=int, default=50, help="of the network, for each image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--python", default=sys.executable, help="the peers' interpreter")
    parser.add_argument("--settings", type=Path, help="of the peers, as written by --tune")
    parser.add_argument("--tune", type=Path, help="try CHANGES, write this file, and stop")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor time, for tuning with --threads 1 on a machine that is busy",
    )
    for name in ("--worker", "--worker-settings", "--save"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.worker:
        work(args)
        return
    for name in args.contenders:
        if lacks := missing(name, args.python if NEEDS[name] else sys.executable):
            raise SystemExit(
                f"{name} needs {', '.join(lacks)}, which {args.python} lacks: pip install "
                f"{' '.join(lacks)}, or name an environment that has them with --python, or leave "
                "it out with --contenders"
            )
    settings = {name: dict(values) for name, values in SETTINGS.items()}
    if args.settings:
        settings |= json.loads(args.settings.read_text(encoding="utf-8"))["settings"]
    if args.tune:
        tune(args, settings)
        return
    print(f"{args.seconds:g} s of training on {args.threads} threads, {args.calls} calls a sample")
    print(HEADER)
    found = []
    for name in args.contenders:
        found.append(contest(name, settings.get(name, {}), args))
        print(line(found[-1]), flush=True)
    ratios = compare(found)
    if ratios:
        word = {True: "met", False: "NOT met"}
        print(
            f"excess FD, ours / best peer's: {ratios['excess_ratio']:.3f} "
            f"(bar: at most {EXCESS_BAR:g}; {word[ratios['excess_met']]})"
        )
        print(
            f"sampling, times as fast as the fastest peer: {ratios['sampling_speed_up']:.2f} "
            f"(bar: at least {SPEED_BAR:g}; {word[ratios['sampling_met']]})"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        kept = {k: getattr(args, k) for k in ("seconds", "threads", "count", "calls", "seed")}
        report = {**kept, "contenders": found, **ratios}
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
