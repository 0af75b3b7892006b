"""Measure flow matching and a diffusion transformer, and how fast training is: data/results/L15*

    python data/build/measure_flow.py all --device cuda --out FOLDER     # tunes, trains, judges
    python data/build/measure_flow.py speed --device cuda --out FOLDER   # samples a second
    python data/build/measure_flow.py write FOLDER                       # verdicts to data/results

``all`` compares, on digits and with three seeds, a U-Net and a transformer in two ways each
(v-prediction with the cosine schedule, the velocity of straight paths), at an equal number of
floating-point operations of training, counted by torch. It is small enough for one quiet core.
Each network and way first chooses its optimiser among three in short runs of another seed, by
validation loss. Every training is a process of its own, ``--workers`` at a time, that leaves one
JSON file in FOLDER; a file that is there is not made again. ``run`` makes a single one.

``speed`` writes FOLDER/speed.jsonl, row by row, so that what is there counts when it is stopped.

UNDIFFUSE_BUDGET=small tries everything in a minute; such figures are not written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import budget, data, judging, presets, recipes, trainer, watch  # noqa: E402
from undiffuse.blocks import count_parameters  # noqa: E402
from undiffuse.results import record  # noqa: E402
from undiffuse.sampling import sample  # noqa: E402

SEEDS, TUNING_SEED = (0, 1, 2), 100
SHAPE = (1, 28, 28)
NETWORKS: dict[str, dict[str, Any]] = budget(
    full={
        "U-Net": {"channels": [16, 32], "patch": 2},
        "DiT": {"design": "dit", "dim": 64, "depth": 4, "patch": 4},
    },
    small={
        "U-Net": {"channels": [8, 8], "patch": 4},
        "DiT": {"design": "dit", "dim": 16, "depth": 1, "patch": 4},
    },
)
WAYS: dict[str, dict[str, Any]] = {
    "v, cosine": {"schedule": "cosine", "prediction": "v", "middle": 0.5},
    "flow, straight": {"schedule": "flow", "prediction": "flow", "times": "logit-normal"},
}
OPTIMIZERS = (("muon", 0.02), ("muon", 0.04), ("adamw", 2e-3))
BATCH = budget(full=32, small=8)
# That the U-Net makes; the others make as many as cost the same.
STEPS, TUNING_STEPS = budget(full=400, small=2), budget(full=100, small=2)
N = budget(full=400, small=20)
CALLS = budget(full=(2, 4, 8, 16), small=(2, 4))
SAMPLERS = (("euler", "time"), ("dpmpp_2m", "log_snr"))
PROBE = budget(full=500, small=20)
CLEAR = 0.10  # three seeds that agree are no rare chance: an effect must be of some size as well
MAIN = f"dpmpp_2m, {CALLS[-1]} calls"
PRECISIONS = ("float32", "TF32", "bfloat16")
# Until which step it warms up, and the last one: of small networks, and of large ones.
SPEED_STEPS = {False: budget((10, 40), (1, 3)), True: budget((5, 20), (1, 3))}
CIFAR_SHAPE = (3, 32, 32)
MADE_BY = "python data/build/measure_flow.py {} --out FOLDER, then write FOLDER"


# --- one training --------------------------------------------------------------------------


def flops_per_step(network: str) -> int:
    """Of one training step on a batch: three times those of a call, forward, and twice back."""
    model = recipe_of(network, "v, cosine", 0, *OPTIMIZERS[0], 1).make_network(SHAPE)
    return 3 * BATCH * presets.flops_per_call(model, SHAPE)


def steps_of(network: str, steps: int) -> int:
    """How many steps of a network cost as much as ``steps`` of the U-Net."""
    return max(1, round(steps * flops_per_step("U-Net") / flops_per_step(network)))


def recipe_of(
    network: str, way: str, seed: int, optimizer: str, lr: float, steps: int
) -> recipes.Recipe:
    """As the trainer takes it; float32, so that it does not matter where it runs."""
    return recipes.Recipe(
        name="flow", network=NETWORKS[network] | {"classes": 10}, optimizer=optimizer, lr=lr,
        steps=steps, batch=BATCH, warmup=30, ema=0.99, seed=seed, precision="float32",
        **WAYS[way],
    )  # fmt: skip


def validation(run: trainer.Run, device: str) -> float:
    """Mean loss of the averaged weights on unseen digits, at fixed times and noise."""

    def loss(x0, t, noise, cond):
        there = (a.to(device) for a in (x0, t, noise, cond))
        return trainer.denoising_loss(
            run.model, run.schedule, *there, run.recipe.prediction, reduce=False
        ).cpu()

    low, high = trainer.time_range(run.schedule)
    return float(watch.loss_by_level(loss, *data.digits("validation", PROBE), low, high).mean())


def judged(run: trainer.Run, seed: int, device: str) -> dict[str, dict[str, float]]:
    """Figures of samples, by solver and number of calls; not guided, classes as in real data."""
    labels = judging.labels_like("digits", N)
    found = {}
    for solver, spacing in SAMPLERS:
        for calls in CALLS:
            images = sample(
                run.model, run.schedule, (N, *SHAPE), kind=run.recipe.prediction, solver=solver,
                spacing=spacing, calls=calls, cond=labels.to(device), clip=(-1.0, 1.0),
                generator=torch.Generator().manual_seed(1000 + seed), device=device,
            ).cpu()  # fmt: skip
            quality = judging.judge_images(images.clamp(-1, 1), labels, "digits", resamples=2)
            found[f"{solver}, {calls} calls"] = {
                "fd": quality.fd,
                "floor": quality.floor,
                "accuracy": quality.accuracy,
                "recall": quality.recall,
                "precision": quality.precision,
            }
    return found


def run_one(
    network: str, way: str, seed: int, optimizer: str, lr: float, steps: int, device: str,
    samples: bool,
) -> dict[str, Any]:  # fmt: skip
    """Trains, measures, and gives everything as plain data."""
    warnings.filterwarnings("ignore", message=".*of the labels would have to change.*")
    recipe = recipe_of(network, way, seed, optimizer, lr, steps_of(network, steps))
    x, y = data.digits("train")
    found: dict[str, Any] = {
        "network": network, "way": way, "seed": seed, "optimizer": optimizer, "lr": lr,
        "steps": recipe.steps, "batch": BATCH, "training FLOPs": recipe.steps
        * flops_per_step(network),
    }  # fmt: skip
    try:
        run = trainer.train(recipe, x, y, device=device)
    except trainer.Diverged as error:
        return found | {"diverged": str(error)}
    found |= {
        "parameters": count_parameters(run.model),
        "seconds": round(run.seconds, 1),
        "machine": trainer.facts(run, device)["machine"],
        "training loss": statistics.fmean(run.losses[-50:]),
        "validation loss": validation(run, device),
    }
    return found | ({"samples": judged(run, seed, device)} if samples else {})


# --- all of them ---------------------------------------------------------------------------


def file_of(folder: Path, kind: str, *what: Any) -> Path:
    """A name that says what is in it."""
    text = "-".join(str(w) for w in (kind, *what))
    return folder / ("".join(c if c.isalnum() or c in ".-" else "_" for c in text) + ".json")


def command(path: Path, device: str, kind: str, what: tuple) -> list[str]:
    """The process that makes ``path``."""
    network, way, seed, optimizer, lr = what
    return [
        sys.executable, str(Path(__file__)), "run", "--network", network, "--way", way,
        "--seed", str(seed), "--optimizer", optimizer, "--lr", str(lr), "--device", device,
        "--out", str(path), *(["--tuning"] if kind == "tuning" else []),
    ]  # fmt: skip


def do(folder: Path, device: str, workers: int, kind: str, jobs: list[tuple]) -> None:
    """Runs the jobs whose files are not there yet, ``workers`` at a time."""
    waiting = [(file_of(folder, kind, *what), what) for what in jobs]
    waiting = [(path, what) for path, what in waiting if not path.exists()]
    running: list[tuple[subprocess.Popen, Path]] = []
    failed, start = [], time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                path, what = waiting.pop(0)
                running.append((subprocess.Popen(command(path, device, kind, what)), path))
            time.sleep(0.2)
            for process, path in [pair for pair in running if pair[0].poll() is not None]:
                running.remove((process, path))
                failed += [path.name] * bool(process.returncode)
                print(f"{time.monotonic() - start:5.0f} s  {path.name}", flush=True)
    finally:
        for process, _ in running:
            process.terminate()
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What runs of a kind have left."""
    files = sorted(folder.glob(f"{kind}-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def chosen(folder: Path) -> dict[tuple[str, str], tuple[str, float]]:
    """The optimiser of each network and way: that with the lowest validation loss."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for found in read(folder, "tuning"):
        key = found["network"], found["way"]
        if "diverged" not in found and (
            key not in best or found["validation loss"] < best[key]["validation loss"]
        ):
            best[key] = found
    return {key: (found["optimizer"], found["lr"]) for key, found in best.items()}


def do_all(folder: Path, device: str, workers: int) -> None:
    """Tunes, then trains with three seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(network, way) for network in NETWORKS for way in WAYS]
    tuning = [(*pair, TUNING_SEED, *how) for pair in pairs for how in OPTIMIZERS]
    do(folder, device, workers, "tuning", tuning)
    how = chosen(folder)
    jobs = [(*pair, seed, *how[pair]) for seed in SEEDS for pair in pairs]
    do(folder, device, workers, "run", jobs)


# --- speed ---------------------------------------------------------------------------------


@contextlib.contextmanager
def precision(name: str) -> Iterator[str]:
    """What the recipe says for a precision, while torch's switches for TF32 are set."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = name == "TF32"
    try:
        yield "float32" if name == "TF32" else name
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before


def pace(recipe: recipes.Recipe, x: torch.Tensor, y: torch.Tensor, device: str) -> dict[str, float]:
    """Samples a second of ``trainer.train`` once it has warmed up, and the memory it took."""
    warm, last = SPEED_STEPS[recipe.data == "cifar10"]
    at: list[float] = []
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer.train(
        replace(recipe, steps=last, warmup=1), x, y, device=device,
        on_step=lambda *_: at.append(time.perf_counter()),
    )  # fmt: skip
    seconds = at[-1] - at[warm - 1]
    found = {"images a second": (last - warm) * recipe.batch / seconds}
    if on_gpu:
        found["GiB of GPU memory"] = torch.cuda.max_memory_allocated() / 2**30
    return found


SPEED_NETWORKS = budget(
    full={
        "U-Net": {"channels": [32, 64], "patch": 2, "classes": 10},
        "DiT": {"design": "dit", "dim": 128, "depth": 4, "patch": 4, "classes": 10},
    },
    small=NETWORKS,
)


def speeds(device: str) -> Iterator[dict[str, Any]]:
    """A row for each network, precision, batch and number of parts."""
    x, y = data.digits("train")
    base = recipe_of("U-Net", "v, cosine", 0, *OPTIMIZERS[0], 1)
    g = torch.Generator().manual_seed(0)
    photographs = torch.rand(budget(2048, 16), *CIFAR_SHAPE, generator=g) * 2 - 1
    kinds = torch.randint(10, (len(photographs),), generator=g)
    small = {"network": {"channels": [8], "patch": 4, "classes": 10}}
    large = replace(recipes.load("cifar10"), validate_every=0, sample_every=0,
                    **budget({}, small))  # fmt: skip
    plan: list[tuple[str, recipes.Recipe, tuple, int, int]] = [
        (f"digits, {name}", replace(base, network={"classes": 10} | network), (x, y), batch, 1)
        for name, network in SPEED_NETWORKS.items()
        for batch in budget((128, 512, 2048), (4, 8))
    ]
    plan += [("CIFAR-10, U-Net", large, (photographs, kinds), batch, parts)
             for batch, parts in budget(((128, 1), (256, 1), (512, 1), (512, 4)),
                                        ((8, 1), (8, 4)))]  # fmt: skip
    on_gpu = device.startswith("cuda")
    machine = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    for name, recipe, known, batch, parts in plan:
        for kind in PRECISIONS if on_gpu else ("float32",):
            with precision(kind) as said:
                mine = replace(recipe, batch=batch, accumulate=parts, precision=said)
                row = {"network": name, "device": machine, "precision": kind, "batch": batch,
                       "parts": parts}  # fmt: skip
                try:
                    row |= pace(mine, *known, device)
                except torch.OutOfMemoryError:
                    row["out of memory"] = True
            print(row, flush=True)
            yield row


# --- verdicts ------------------------------------------------------------------------------


def told(values: list[float], digits: int = 2) -> str:
    """Mean, lowest and highest."""
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def against(mine: list[float], others: list[float]) -> str:
    """Whether the first are clearly lower; seeds are pairs."""
    ratios = [a / b for a, b in zip(mine, others, strict=True)]
    mean = statistics.fmean(ratios)
    word = "no clear difference"
    if max(ratios) < 1 and mean < 1 - CLEAR:
        word = "clearly lower"
    elif min(ratios) > 1 and mean > 1 + CLEAR:
        word = "clearly higher"
    return f"{word} ({told(ratios)} times)"


def verdict(runs: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """In words, and rows: one for each network, way and sampler."""
    excess: dict[tuple[str, str, str], list[float]] = {}
    rows = []
    for network in NETWORKS:
        for way in WAYS:
            mine = sorted(
                (r for r in runs if (r["network"], r["way"]) == (network, way)),
                key=lambda r: r["seed"],
            )
            if [r["seed"] for r in mine] != list(SEEDS):
                sys.exit(f"{network}, {way}: runs of seeds {[r['seed'] for r in mine]} are there")
            for sampler in mine[0]["samples"]:
                at = [r["samples"][sampler] for r in mine]
                excess[network, way, sampler] = [a["fd"] - a["floor"] for a in at]
                rows.append({
                    "network": network, "way": way, "sampler": sampler,
                    "FD": [a["fd"] for a in at], "accuracy": [a["accuracy"] for a in at],
                    "recall": [a["recall"] for a in at], "floor": at[0]["floor"],
                    "steps": mine[0]["steps"], "optimizer": mine[0]["optimizer"],
                    "lr": mine[0]["lr"], "parameters": mine[0]["parameters"],
                    "seconds": [r["seconds"] for r in mine],
                })  # fmt: skip
    few = CALLS[1]
    straight, curved = "flow, straight", "v, cosine"
    parts = []
    for way in WAYS:
        for network in list(NETWORKS)[1:]:
            word = against(excess[network, way, MAIN], excess["U-Net", way, MAIN])
            parts.append(f"{network} against the U-Net ({way}): excess FD {word}")
    for network in NETWORKS:
        word = against(excess[network, straight, MAIN], excess[network, curved, MAIN])
        parts.append(f"straight paths against v in the {network}: {word}")
    euler = f"euler, {few} calls"
    for network in NETWORKS:
        word = against(excess[network, straight, euler], excess[network, curved, euler])
        parts.append(f"with {few} calls of Euler, even in t, in the {network}: {word}")
    return f"at equal training FLOPs, {MAIN}: " + "; ".join(parts), rows


def speed_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows that ``speed`` has left, whole lines only."""
    path = folder / "speed.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def write(folder: Path, conditions: str = "") -> None:
    """The files in data/results that lesson 15 quotes."""
    if budget(full=False, small=True):
        sys.exit("figures of the small budget mean nothing and are not written")
    os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    runs = read(folder, "run")
    if runs:
        said, rows = verdict(runs)
        record(
            "L15-digits", rows, said, SEEDS, n=N, training_flops=runs[0]["training FLOPs"],
            machine_of_runs=runs[0]["machine"], batch=BATCH, command=MADE_BY.format("all"),
            tuning=[{k: f.get(k) for k in ("network", "way", "optimizer", "lr", "validation loss")}
                    for f in read(folder, "tuning")],
        )  # fmt: skip
    rows = speed_rows(folder)
    if rows:
        best: dict[str, dict[str, Any]] = {}
        for row in (r for r in rows if "images a second" in r):
            name, speed = row["network"], row["images a second"]
            if name not in best or speed > best[name]["images a second"]:
                best[name] = row
        said = "; ".join(
            f"{name}: {row['images a second']:,.0f} images a second at most, in {row['precision']} "
            f"with batches of {row['batch']}"
            for name, row in best.items()
        )
        said = f"on one {rows[0]['device']}: {said}"
        record("L15-speed", rows, said, (0,), conditions=conditions,
               command=MADE_BY.format("speed --device cuda"))  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("all", "speed", "run"):
        sub = commands.add_parser(name)
        sub.add_argument("--device", default="cpu")
        sub.add_argument("--out", type=Path, required=True)
        if name == "all":
            sub.add_argument("--workers", type=int, default=1, help="trainings at a time")
        if name == "run":
            sub.add_argument("--network", choices=NETWORKS, required=True)
            sub.add_argument("--way", choices=WAYS, required=True)
            sub.add_argument("--seed", type=int, required=True)
            sub.add_argument("--optimizer", default=OPTIMIZERS[0][0])
            sub.add_argument("--lr", type=float, default=OPTIMIZERS[0][1])
            sub.add_argument("--tuning", action="store_true", help="short, and without samples")
    sub = commands.add_parser("write")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--conditions", default="", help="what else the machine did, for L15-speed")
    given = parser.parse_args(arguments)
    if given.command == "all":
        do_all(given.out, given.device, given.workers)
    elif given.command == "speed":
        given.out.mkdir(parents=True, exist_ok=True)
        with open(given.out / "speed.jsonl", "w", encoding="utf-8") as file:
            for row in speeds(given.device):
                print(json.dumps(row), file=file, flush=True)
    elif given.command == "run":
        found = run_one(
            given.network, given.way, given.seed, given.optimizer, given.lr,
            TUNING_STEPS if given.tuning else STEPS, given.device, not given.tuning,
        )  # fmt: skip
        temporary = given.out.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        os.replace(temporary, given.out)
    else:
        write(given.folder, given.conditions)


if __name__ == "__main__":
    main()
