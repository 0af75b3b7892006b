"""Distil the shipped digits to few calls, and measure it: data/results/C5-distilled.json

    python data/build/distil_checkpoints.py --out runs/distilled          # train and show
    python data/build/distil_checkpoints.py --out runs/distilled --write  # and write the results
    python data/build/distil_checkpoints.py --out runs/distilled --steps 100 --count 300  # a look

Progressive distillation from 32 steps of the guided teacher down to one call takes less than an
hour of one core with the default steps; the consistency model (``--consistency``) about half an
hour more. Each student is kept in ``--out`` as it is made, and the same command goes on from there.
With ``--write`` the students of 4 calls and of 1, and the consistency model, are copied to
``data/checkpoints`` beside the figures, of three seeds, against the teacher at 50 calls of DDIM.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import checkpoints, consistency, costs, data, distillation, judging  # noqa: E402
from undiffuse.draw import draw  # noqa: E402
from undiffuse.results import record  # noqa: E402

SHIPPED = (4, 1)  # calls of the students that are copied to data/checkpoints
BARS = {4: 1.5, 1: 4.0}  # FD of a student over that of the teacher, at most
TEACHER_CALLS = 50


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
    print(f"{made.name}: {made.facts}", flush=True)
    return checkpoints.save(path, made.model, made.recipe, made.shape, **made.facts)


def students(
    teacher: checkpoints.Checkpoint, first: int, plan: distillation.Plan, folder: Path
) -> list[Path]:
    """The files of the students of first, first / 2, ..., 1 calls, those that are missing made."""
    x, labels = teacher.recipe.source.take("train", teacher.recipe.n)
    before, paths, calls = teacher, [], first
    while calls >= 1:
        path = folder / f"{teacher.name}-{calls}.safetensors"
        if not path.exists():
            (made,) = distillation.progressive(
                before, x, labels, first=calls, last=calls, plan=plan, on_step=shown(path.stem)
            )
            kept(made, folder)
        before = checkpoints.load(path)
        paths.append(path)
        calls //= 2
    return paths


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


def measured(
    found: checkpoints.Checkpoint, count: int, seeds: list[int], **way: object
) -> dict[str, object]:
    """FD, recall and accuracy of each seed, and CPU seconds a sample (of 50, median of 3)."""
    labels = judging.labels_like("digits", count)
    figures = []
    for seed in seeds:
        images, _ = draw(found, count, seed=seed, labels=labels, **way)
        figures.append(judging.judge_images(images, labels, "digits", (seed,), resamples=20))
    seconds = costs.cpu_seconds(lambda: draw(found, 50, seed=1, **way), 3)[1] / 50
    return {
        "fd": [f.fd for f in figures],
        "floor": figures[0].floor,
        "recall": [f.recall for f in figures],
        "accuracy": [f.accuracy for f in figures],
        "seconds": seconds,
    }


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
                    "CPU speed-up": teacher["seconds"] / row["CPU seconds"],
                }
            )
    said = "; ".join(
        f"{b['what']}: {b['ratio']:.2f} ({b['wanted']}: {'met' if b['met'] else 'not met'}), "
        f"{b['CPU speed-up']:.0f} times less CPU time"
        for b in bars
    )
    return said or "no student of 4 calls or of 1 was made", bars


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the students")
    parser.add_argument("--teacher", default="digits")
    parser.add_argument("--first", type=int, default=16, help="calls of the first student (16)")
    parser.add_argument("--steps", type=int, default=1200, help="of each student (1200)")
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--consistency", action="store_true", help="a consistency model as well")
    parser.add_argument("--grid", type=int, default=18, help="levels of its paths (18)")
    parser.add_argument("--count", type=int, default=1000, help="samples a figure (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calls", type=int, nargs="+", help="measure these students only")
    parser.add_argument("--write", action="store_true", help="write results and checkpoints")
    asked = parser.parse_args()
    if asked.write and len(asked.seeds) < 3:
        parser.error("what is published has three seeds or more")

    teacher = checkpoints.load(asked.teacher)
    plan = distillation.Plan(steps=asked.steps, lr=asked.lr)
    asked.out.mkdir(parents=True, exist_ok=True)
    made = students(teacher, asked.first, plan, asked.out)
    if asked.consistency:
        more = distillation.Plan(steps=3 * asked.steps, lr=asked.lr / 5, ema=0.999)
        made.append(consistent(teacher, more, asked.grid, asked.out))

    fd = known(asked.teacher, asked.count, asked.seeds)
    way = {"solver": "ddim", "calls": TEACHER_CALLS}
    if not fd:
        base = measured(teacher, asked.count, asked.seeds, **way)
    else:
        seconds = costs.cpu_seconds(lambda: draw(teacher, 20, seed=1, **way), 1)[0] / 20
        base = {"fd": fd, "seconds": seconds}
    rows = [row("teacher, DDIM", TEACHER_CALLS, "teacher", base)]
    print(rows[-1], flush=True)
    for path in made:
        found = checkpoints.load(path)
        told = found.recipe.distilled
        if asked.calls and told["method"] == "progressive" and told["calls"] not in asked.calls:
            continue
        for calls in (1, 2, 4) if told["method"] == "consistency" else (told["calls"],):
            figures = measured(found, asked.count, asked.seeds, calls=calls)
            rows.append(row(path.stem, calls, told["method"], figures))
            base.setdefault("floor", figures["floor"])
            print(rows[-1], flush=True)
    verdict, bars = judge(rows, base)
    print(verdict)
    if not asked.write:
        return
    os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    record(
        "C5-distilled", rows, verdict, asked.seeds,
        n=asked.count, floor=base["floor"], bars=bars, teacher=asked.teacher,
        checkpoint=fingerprint(checkpoints.locate(asked.teacher)),
        command="python data/build/distil_checkpoints.py --out runs/distilled --write"
        + (" --consistency" if asked.consistency else ""),
    )  # fmt: skip
    for path in made:
        if path.stem.endswith("consistency") or path.stem in [
            f"{teacher.name}-{calls}" for calls in SHIPPED
        ]:
            shutil.copyfile(path, DATA / "checkpoints" / path.name)


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
