"""Distil the shipped digits to few calls, and measure it: data/results/C5-distilled.json

    python data/build/distil_checkpoints.py --out runs/distilled          # train and show
    python data/build/distil_checkpoints.py --out runs/distilled --write  # and write the results
    python data/build/distil_checkpoints.py --out runs/distilled --steps 100 --count 300  # a look

Progressive distillation from 32 steps of the guided teacher down to one call takes less than an
hour of one core with the default steps; the consistency model (``--method consistency``) about half
an hour. Each student is kept in ``--out`` as it is made, and the same command goes on from there,
on another machine as well: what was made with ``--device cuda`` is measured, and its CPU seconds
with it, by the command without. With ``--write`` the students of 4 calls and of 1, and the
consistency model, are copied to ``data/checkpoints`` beside the figures, of three seeds, against
the teacher at 50 calls of DDIM.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import (  # noqa: E402
    checkpoints,
    consistency,
    costs,
    data,
    distillation,
    judging,
    presets,
    trainer,
)
from undiffuse.blocks import count_parameters  # noqa: E402
from undiffuse.draw import draw  # noqa: E402
from undiffuse.results import record  # noqa: E402

SHIPPED = (4, 1)  # calls of the students that are copied to data/checkpoints
BARS = {4: 1.5, 1: 4.0}  # FD of a student over that of the teacher, at most
TEACHER_CALLS = 50
CARD = """# {name}

A student of [`{teacher}`](../checkpoints/{teacher}.md) that draws in {calls} network call{plural},
by progressive distillation: `course sample {name}`. Guidance {guidance} is inside it.

- **Learnt** from its teacher's steps on the teacher's training images, in the last stage
  {steps:,} steps of {batch}, {minutes:.1f} minutes on {machine}.
- **Made by** `{command}`.
- **Network**: that of the teacher, {parameters:,} parameters, float16, {bytes:,} bytes.

| {n:,} samples a seed | {calls} call{plural}: mean (range) | teacher, {old} calls | real |
|---|---:|---:|---:|
| FD (Fréchet distance) | {fd:.3f} ({low:.3f} to {high:.3f}) | {before:.3f} | {floor[fd]:.3f} |
| precision | {mean[precision]:.3f} | | {floor[precision]:.3f} |
| recall | {mean[recall]:.3f} | | {floor[recall]:.3f} |
| class accuracy | {mean[accuracy]:.3f} | | {floor[accuracy]:.3f} |

Features, classes, reference set and what must not be read into the figures: as with the teacher.
All figures are written by the command above, and are in `{name}.json`.
"""
PLANS = {
    "progressive": {"steps": 1200, "lr": 0.005, "ema": 0.99},
    "consistency": {"steps": 3600, "lr": 0.001, "ema": 0.999},
}


def fingerprint(path: Path) -> str:
    """Which weights: the beginning of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def shown(name: str):
    """An ``on_step`` that prints a line now and then."""
    said = time.monotonic()
    recent: list[float] = []

    def show(step: int, of: int, loss: float) -> None:
        nonlocal said
        recent.append(loss)
        if time.monotonic() - said > 30 or step == of:
            said = time.monotonic()
            mean = sum(recent[-50:]) / len(recent[-50:])
            print(f"{name}: step {step} of {of}, loss {mean:.4f}", flush=True)

    return show


def kept(made: checkpoints.Checkpoint, folder: Path) -> Path:
    """Writes a student into ``folder``."""
    path = folder / f"{made.name}.safetensors"
    facts = made.facts | trainer.machine_of(device_of(made))
    print(f"{made.name}: {facts}", flush=True)
    return checkpoints.save(path, made.model, made.recipe, made.shape, **facts)


def students(
    teacher: checkpoints.Checkpoint, first: int, plans: list[distillation.Plan], folder: Path
) -> Iterator[Path]:
    """The files of the students of first, first / 2, ..., 1 calls, those that are missing made.

    plans: one for each student; the last one serves for all that follow.
    """
    x, labels = teacher.recipe.source.take("train", teacher.recipe.n)
    before, calls, left = teacher, first, list(plans)
    while calls >= 1:
        path = folder / f"{teacher.name}-{calls}.safetensors"
        plan = left.pop(0) if len(left) > 1 else left[0]
        if not path.exists():
            (made,) = distillation.progressive(
                before, x, labels, first=calls, last=calls, plan=plan, on_step=shown(path.stem)
            )
            kept(made, folder)
        before = checkpoints.load(path, device_of(teacher))
        yield path
        calls //= 2


def consistent(
    teacher: checkpoints.Checkpoint, plan: distillation.Plan, grid: int, folder: Path
) -> Path:
    """The file of the consistency model, made where it is missing."""
    path = folder / f"{teacher.name}-consistency.safetensors"
    if not path.exists():
        x, labels = teacher.recipe.source.take("train", teacher.recipe.n)
        made = consistency.consistency_distillation(
            teacher, x, labels, grid=grid, plan=plan, on_step=shown(path.stem)
        )
        kept(made, folder)
    return path


def device_of(found: checkpoints.Checkpoint) -> torch.device:
    """Where a network is."""
    return next(found.model.parameters()).device


def measured(
    found: checkpoints.Checkpoint, count: int, seeds: list[int], **way: object
) -> dict[str, object]:
    """FD, recall and accuracy of each seed, and CPU seconds a sample (of 50, median of 3).

    On a GPU there are no CPU seconds to be had: None.
    """
    labels = judging.labels_like("digits", count)
    figures = []
    for seed in seeds:
        images, _ = draw(found, count, seed=seed, labels=labels, **way)
        figures.append(judging.judge_images(images, labels, "digits", (seed,), resamples=20))
    seconds = None
    if device_of(found).type == "cpu":
        seconds = costs.cpu_seconds(lambda: draw(found, 50, seed=1, **way), 3)[1] / 50
    return {"fd": [f.fd for f in figures], "each": figures, "seconds": seconds}


def known(name: str, count: int, seeds: list[int]) -> list[float] | None:
    """FD of the teacher at 50 calls from its card's figures, if of the same weights and count."""
    path = data.folder() / "checkpoints" / f"{name}.json"
    if not path.exists():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    quality, run = card["quality"], card["quality"]["samplers"].get(f"ddim_{TEACHER_CALLS}")
    same = card["sha256"][:16] == fingerprint(checkpoints.locate(name))
    if not same or run is None or quality["n"] != count or quality["seeds"] != seeds:
        return None
    return [s["fd"] for s in run["seeds"]]


def judge(rows: list[dict], teacher: dict) -> tuple[str, list[dict]]:
    """(verdict on the calls of C5, the bars)."""
    base = sum(teacher["fd"]) / len(teacher["fd"])
    bars = []
    for row in rows:
        if row["method"] == "progressive" and row["calls"] in BARS:
            ratio = row["FD"] / base
            bars.append(
                {
                    "what": f"FD of {row['calls']} calls over that of the teacher at "
                    f"{TEACHER_CALLS}",
                    "ratio": ratio,
                    "wanted": f"at most {BARS[row['calls']]}",
                    "met": ratio <= BARS[row["calls"]],
                    "CPU speed-up": row["CPU seconds"] and teacher["seconds"] / row["CPU seconds"],
                }
            )
    said = "; ".join(
        f"{b['what']}: {b['ratio']:.2f} ({b['wanted']}: {'met' if b['met'] else 'not met'})"
        + (f", {b['CPU speed-up']:.0f} times less CPU time" if b["CPU speed-up"] else "")
        for b in bars
    )
    if not said:
        return "no student of 4 calls or of 1 was made", bars
    good = all(b["met"] for b in bars)
    return ("not of drawing, once distilled: " if good else "depends on the calls: ") + said, bars


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the students")
    parser.add_argument("--teacher", default="digits")
    parser.add_argument("--method", nargs="+", choices=tuple(PLANS), default=["progressive"])
    parser.add_argument("--first", type=int, default=16, help="calls of the first student (16)")
    parser.add_argument("--steps", type=int, nargs="+", help="of each student, the last for others")
    parser.add_argument("--seconds", type=float, nargs="+", help="the same, in place of --steps")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--optimizer", default="muon")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--ema", type=float)
    parser.add_argument("--grid", type=int, default=18, help="levels of consistency's paths (18)")
    parser.add_argument("--count", type=int, default=1000, help="samples a figure (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calls", type=int, nargs="+", help="measure these students only")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--write", action="store_true", help="write results and checkpoints")
    asked = parser.parse_args()
    if asked.write and (len(asked.seeds) < 3 or asked.device != "cpu"):
        parser.error("what is published has three seeds or more, and CPU seconds")

    teacher = checkpoints.load(asked.teacher, asked.device)
    asked.out.mkdir(parents=True, exist_ok=True)
    fd = known(asked.teacher, asked.count, asked.seeds)
    way = {"solver": "ddim", "calls": TEACHER_CALLS}
    if not fd:
        base = measured(teacher, asked.count, asked.seeds, **way)
        base["floor"] = base["each"][0].floor
    elif asked.device != "cpu":
        base = {"fd": fd, "seconds": None}
    else:
        seconds = costs.cpu_seconds(lambda: draw(teacher, 20, seed=1, **way), 1)[0] / 20
        base = {"fd": fd, "seconds": seconds}
    rows = [row("teacher, DDIM", TEACHER_CALLS, "teacher", base)]
    print(rows[-1], flush=True)
    paths, qualities = [], {}
    for method in asked.method:
        plans = plans_of(asked, method)
        if method == "progressive":
            made = students(teacher, asked.first, plans, asked.out)
        else:
            made = iter([consistent(teacher, plans[0], asked.grid, asked.out)])
        for path in made:
            paths.append(path)
            found = checkpoints.load(path, asked.device)
            told = found.recipe.distilled
            calls = (1, 2, 4) if method == "consistency" else (told["calls"],)
            for c in calls:
                if asked.calls and c not in asked.calls:
                    continue
                figures = measured(found, asked.count, asked.seeds, calls=c)
                rows.append(row(path.stem, c, method, figures))
                base.setdefault("floor", figures["each"][0].floor)
                qualities[path.stem, c] = figures["each"]
                ratio = rows[-1]["FD"] / rows[0]["FD"]
                print(f"{ratio:.2f} times the teacher's FD: {rows[-1]}", flush=True)
    verdict, bars = judge(rows, base)
    print(verdict)
    if not asked.write:
        return
    os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    record(
        "C5-distilled", rows, verdict, asked.seeds,
        n=asked.count, floor=base["floor"], bars=bars, teacher=asked.teacher,
        checkpoint=fingerprint(checkpoints.locate(asked.teacher)),
        trained={p.stem: made_by(p) for p in paths}, command=again(paths),
    )  # fmt: skip
    for path in paths:
        for calls in SHIPPED:
            if path.stem == f"{teacher.name}-{calls}":
                ship(path, calls, qualities[path.stem, calls], again(paths), base["fd"])


def again(paths: list[Path]) -> str:
    """The command that makes these students on any machine, by the steps that they had."""
    found = [checkpoints.load(p).recipe for p in paths]
    told = [r.distilled for r in found]
    words = ["python data/build/distil_checkpoints.py --out runs/distilled --write"]
    words += ["--method", *dict.fromkeys(t["method"] for t in told)]
    students = [r for r in found if r.distilled["method"] == "progressive"]
    if students:
        first = students[0]
        words += ["--first", str(first.distilled["calls"])]
        words += ["--batch", str(first.batch), "--lr", f"{first.lr:g}"]
        words += ["--steps", *(str(r.steps) for r in students)]
    return " ".join(words)


def ship(path: Path, calls: int, each: list, command: str, teacher: list[float]) -> None:
    """Copies a student to data/checkpoints, with its JSON and its card."""
    found = checkpoints.load(path)
    target = DATA / "checkpoints" / path.name
    shutil.copyfile(path, target)
    seeds = [judging.as_dict(q) for q in each]
    keys = ("fd", "ratio", "precision", "recall", "accuracy", "memorisation")
    mean = {k: sum(q[k] for q in seeds) / len(seeds) for k in keys}
    first = each[0]
    floor = {"fd": first.floor, "precision": first.floor_precision,
             "recall": first.floor_recall, "accuracy": first.floor_accuracy}  # fmt: skip
    facts = {
        "name": path.stem,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "parameters": count_parameters(found.model),
        "flops_per_call": presets.flops_per_call(found.model, found.shape),
        "distilled": found.recipe.distilled,
        "recipe": found.recipe.to_dict(),
        "run": found.facts,
        "quality": {
            "n": first.n,
            "seeds": [q["seeds"][0] for q in seeds],
            "floor": floor,
            "samplers": {"own": {"solver": "its own", "calls": calls, "mean": mean,
                                 "seeds": seeds}},
        },
        "command": command,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    text = json.dumps(facts, indent=1) + "\n"
    target.with_suffix(".json").write_text(text, encoding="utf-8")
    values = {**facts, "calls": calls, "teacher": found.recipe.distilled["teacher"]}
    values |= {
        "guidance": found.recipe.distilled["guidance"],
        "floor": floor,
        "mean": mean,
        "fd": mean["fd"],
    }
    values |= {"low": min(q["fd"] for q in seeds), "high": max(q["fd"] for q in seeds)}
    values |= {"n": first.n, "before": sum(teacher) / len(teacher), "steps": found.recipe.steps}
    values |= {"batch": found.recipe.batch, "minutes": found.facts["seconds"] / 60}
    values |= {"machine": found.facts.get("machine", "a machine that was not noted")}
    card = CARD.format(**values, plural="s" if calls > 1 else "", old=TEACHER_CALLS)
    target.with_suffix(".md").write_text(card, encoding="utf-8")


def plans_of(asked: argparse.Namespace, method: str) -> list[distillation.Plan]:
    """One plan for each student: what the command line says, else ``PLANS``."""
    own = PLANS[method] | {k: v for k in ("lr", "ema") if (v := getattr(asked, k)) is not None}
    own |= {"batch": asked.batch, "optimizer": asked.optimizer}
    if asked.seconds:
        return [distillation.Plan(**own | {"seconds": s}) for s in asked.seconds]
    return [distillation.Plan(**own | {"steps": s}) for s in asked.steps or [own["steps"]]]


def made_by(path: Path) -> dict[str, object]:
    """How a student was trained: steps, batch and more."""
    found = checkpoints.load(path)
    keys = ("steps", "batch", "lr", "optimizer", "ema", "seed")
    return {k: getattr(found.recipe, k) for k in keys} | {"machine": found.facts.get("machine")}


def row(name: str, calls: int, method: str, figures: dict) -> dict:
    """A line of the table."""
    fd = figures["fd"]
    return {
        "model": name,
        "method": method,
        "calls": calls,
        "FD": sum(fd) / len(fd),
        "from": min(fd),
        "to": max(fd),
        "CPU seconds": figures["seconds"],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
