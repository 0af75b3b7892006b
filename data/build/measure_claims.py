"""Measure claims 1, 7, 8 and 12 on small trained models: data/results/C*-digits.json

    python data/build/measure_claims.py --write          # all four, with the full budget
    python data/build/measure_claims.py C7 --write       # one of them
    UNDIFFUSE_BUDGET=small python data/build/measure_claims.py   # a trial: a minute, nothing kept

Every training is one job with one thread; ``--workers`` of them run at a time. What a job has
found is kept in ``.course-cache/claims``, so that a measurement that was stopped goes on where it
was, and a verdict that is worded anew needs no new one. (Delete the folder to measure again.)
Without ``--write`` nothing goes to data/, and the figures are printed.

All models are class-conditional U-Nets of one size, trained with one recipe; what a claim is about
is the only thing that differs. They are small and trained for seconds: the figures compare models
with each other, and are no record of what can be reached.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import budget, data, judging, recipes, trainer, watch  # noqa: E402
from undiffuse.metrics import memorisation_ratio  # noqa: E402
from undiffuse.results import record  # noqa: E402
from undiffuse.sampling import sample  # noqa: E402
from undiffuse.training import EMA  # noqa: E402

SEEDS = (0, 1, 2)
SCHEDULES = ("linear", "cosine", "sigmoid", "flow")
NETWORK = budget(
    full={"channels": [16, 32], "patch": 2, "classes": 10},
    small={"channels": [8, 8], "patch": 4, "classes": 10},
)
BATCH, CALLS = 32, budget(full=10, small=2)
STEPS, LONG = budget(full=400, small=3), budget(full=800, small=4)
N, N_LATER = budget(full=500, small=20), budget(full=400, small=20)  # samples: at an end; midway
MOMENTS = tuple(round(LONG * share) for share in budget((0.1, 0.3, 0.6, 1.0), (0.5, 1.0)))
FEW, TAUGHT = budget(full=200, small=60), budget(full=500, small=60)
PROBE = budget(full=500, small=20)  # images on which a loss is measured
PARTS = 10  # of the noise levels
# Three seeds that agree are no rare chance, so an effect must be of some size as well.
CLEAR = 0.10  # of excess FD
UP, APART, COPIES = 0.02, 1.05, 0.9
FAR = 0.25  # losses that differ by more are called far apart
KEPT = Path(".course-cache") / "claims"
NOT_SHOWN = (
    "one small network, one optimiser, seconds of training; three seeds show a spread and no "
    "significance"
)


@dataclass(frozen=True)
class Job:
    """One training, and at which steps it is measured."""

    name: str = "digits"
    images: int | None = None
    schedule: str = "cosine"
    shift: int = 0
    flip: bool = False
    steps: int = STEPS
    moments: tuple[int, ...] = (STEPS,)
    samples: int = N
    spacings: tuple[str, ...] = ("log_snr",)  # of the levels that sampling visits
    seed: int = 0

    def recipe(self) -> recipes.Recipe:
        """As the trainer takes it. All levels are drawn alike: the schedule alone weighs them."""
        return recipes.Recipe(
            name="claim", data=self.name, n=self.images, network=NETWORK, schedule=self.schedule,
            optimizer="muon", lr=0.02, steps=self.steps, batch=BATCH, ema=0.99, drop_labels=0.0,
            shift=self.shift, flip=self.flip, seed=self.seed,
        )  # fmt: skip

    def key(self) -> str:
        """Names the file that keeps what was found; another size of anything is another name."""
        sizes = NETWORK, BATCH, CALLS, PROBE, PARTS
        text = json.dumps([asdict(self), sizes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def losses_by_level(model, schedule, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """The loss (v) in each part of the times that training visits; fixed times, fixed noise."""

    def loss(x0, t, noise, cond):
        return trainer.denoising_loss(model, schedule, x0, t, noise, cond, "v", reduce=False)

    low, high = trainer.time_range(schedule)
    return watch.loss_by_level(loss, images, labels, low, high, PARTS).tolist()


@torch.no_grad()
def drawn(model, job: Job, spacing: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(samples, labels) in the class shares of the reference set, from the job's own noise."""
    labels = judging.labels_like(job.name, job.samples)
    g = torch.Generator().manual_seed(1000 + job.seed)
    schedule = job.recipe().make_schedule()
    parts = [
        sample(model, schedule, (len(y), 1, 28, 28), kind="v", calls=CALLS, cond=y, generator=g,
               spacing=spacing, clip=(-1.0, 1.0))
        for y in labels.split(250)
    ]  # fmt: skip
    return torch.cat(parts), labels


def mirrored_share(images: torch.Tensor, labels: torch.Tensor, name: str) -> float:
    """The share of samples that are nearer to a mirrored real image of their class than to a real
    one as it is. (Pixels; the real images are the split ``features``, which nothing trains on.)"""
    real, classes = getattr(data, name)("features")
    count = 0
    for k in labels.unique():
        mine, known = images[labels == k].flatten(1), real[classes == k]
        near = [torch.cdist(mine, r.flatten(1)).amin(1) for r in (known, known.flip(3))]
        count += int((near[1] < near[0]).sum())
    return count / len(images)


def measured(model, job: Job, known: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Losses of a network on the images that it is trained on and on others, and the figures of
    its samples. Nearness: the median distance of samples to the training images, however few, over
    that of new reals; in pixels."""
    model = copy.deepcopy(model).eval()
    schedule = job.recipe().make_schedule()
    new = getattr(data, job.name)("held_out", job.samples)[0].flatten(1)
    probe = torch.arange(PROBE) % len(known)  # as many as unseen ones, so that the noise is alike
    unseen = getattr(data, job.name)("validation", PROBE)
    found: dict[str, Any] = {
        "train": losses_by_level(model, schedule, known[probe], labels[probe]),
        "unseen": losses_by_level(model, schedule, *unseen),
    }
    for spacing in job.spacings:
        images, wanted = drawn(model, job, spacing)
        quality = judging.judge_images(images, wanted, job.name, (1000 + job.seed,), resamples=2)
        found[spacing] = {
            "fd": quality.fd,
            "floor": quality.floor,
            "accuracy": quality.accuracy,
            "recall": quality.recall,
            "nearness": memorisation_ratio(images.flatten(1), known.flatten(1), new),
            "mirrored": mirrored_share(images, wanted, job.name),
        }
    return found


def run(job: Job) -> dict[str, Any]:
    """Trains and measures; everything as plain data."""
    torch.set_num_threads(1)
    x, y = getattr(data, job.name)("train", job.images)
    found: dict[str, Any] = {}
    ema: list[EMA] = []
    recipe = job.recipe()

    def watch(step: int, of: int, loss: float, model: torch.nn.Module) -> None:
        if not ema:
            ema.append(EMA(model, recipe.ema))
        ema[0].update(model)
        if step not in job.moments:
            return
        average = copy.deepcopy(model)
        ema[0].copy_to(average)
        found[str(step)] = {"average": measured(average, job, x, y)}
        if len(job.moments) > 1:
            found[str(step)]["raw"] = measured(model, job, x, y)

    started = time.monotonic()
    trained = trainer.train(recipe, x, y, on_step=watch)
    last = trained.losses[-50:]
    return {"moments": found, "last training losses": sum(last) / len(last),
            "seconds": time.monotonic() - started}  # fmt: skip


# --- the claims ----------------------------------------------------------------------------


def jobs_of(claim: str) -> dict[tuple, Job]:
    """The trainings that a claim needs, by what is compared and seed. Claims share some."""
    found: dict[tuple, Job] = {}
    for seed in SEEDS:
        if claim in ("C1", "C12"):
            for schedule in SCHEDULES:
                found[schedule, seed] = Job(
                    schedule=schedule, spacings=("log_snr", "time"), seed=seed
                )
        if claim == "C7":
            for name, ways in (("digits", ("none", "shifts", "flips")),
                               ("fashion", ("none", "flips"))):  # fmt: skip
                for way in ways:
                    found[name, way, seed] = Job(
                        name, TAUGHT, shift=2 * (way == "shifts"), flip=way == "flips", seed=seed
                    )
        if claim in ("C8", "C12"):
            for count in (FEW, None):
                found[count, seed] = Job(images=count, steps=LONG, moments=MOMENTS,
                                         samples=N_LATER, seed=seed)  # fmt: skip
    return found


def mean(values: Iterable[float]) -> float:
    """Of the seeds."""
    return statistics.fmean(values)


def told(values: list[float], digits: int = 2) -> str:
    """Mean, lowest and highest."""
    return f"{mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def end(outcome: dict, kind: str = "average") -> dict[str, Any]:
    """What was measured last."""
    return outcome["moments"][max(outcome["moments"], key=int)][kind]


def c1(found: dict[tuple, dict]) -> dict[str, Any]:
    """Schedules at equal training: the same network, data, steps, target and sampler."""
    rows, excess = [], {}
    for spacing, said in (("log_snr", "even in log SNR"), ("time", "even in t")):
        for schedule in SCHEDULES:
            mine = [end(found[schedule, seed])[spacing] for seed in SEEDS]
            excess[spacing, schedule] = [m["fd"] - m["floor"] for m in mine]
            for seed, m in zip(SEEDS, mine):
                rows.append({"schedule": schedule, "sampled at levels": said, "seed": seed,
                             "FD": m["fd"], "floor": m["floor"], "accuracy": m["accuracy"],
                             "recall": m["recall"]})  # fmt: skip
    parts, clear, factors = [], [], {}
    for spacing, said in (("log_snr", "levels even in log SNR"), ("time", "levels even in t")):
        mine = {s: excess[spacing, s] for s in SCHEDULES}
        best = min(mine, key=lambda s: mean(mine[s]))
        worst = max(mine, key=lambda s: mean(mine[s]))
        # Seeds are pairs: the same seed gives the same first weights, batches and noise.
        ratios = [w / b for w, b in zip(mine[worst], mine[best])]
        inside = mean(max(v) / min(v) for v in mine.values())
        factors[spacing] = {"best": best, "worst": worst, "ratios": ratios, "seeds": inside}
        more = f"{worst} has {told(ratios, 1)} times the excess FD of {best}"
        seeds = f"seeds of one schedule differ {inside:.1f} times"
        apart = min(ratios) > 1 + CLEAR and mean(ratios) > inside
        clear.append(apart)
        parts.append(f"at {said}, {more}, and {seeds}" + ("" if apart else ": no clear difference"))
    words = {2: "true here", 1: "depends on how samples are drawn", 0: "not shown here"}
    word = words[sum(clear)]
    return {"rows": rows, "verdict": f"{word}: " + "; ".join(parts), "factors": factors}


def c7(found: dict[tuple, dict]) -> dict[str, Any]:
    """Augmentation, where data are few."""
    rows = []
    for (name, way, seed), outcome in found.items():
        m = end(outcome)["log_snr"]
        rows.append({"data": name, "augmentation": way, "seed": seed, "FD": m["fd"],
                     "floor": m["floor"], "accuracy": m["accuracy"], "recall": m["recall"],
                     "mirrored": m["mirrored"]})  # fmt: skip

    def column(name: str, way: str, key: str) -> list[float]:
        return [r[key] for r in rows if (r["data"], r["augmentation"]) == (name, way)]

    def effect(name: str, way: str) -> tuple[str, str]:
        ratios = [
            (fd - floor) / (without - floor)
            for fd, without, floor in zip(column(name, way, "FD"), column(name, "none", "FD"),
                                          column(name, way, "floor"))
        ]  # fmt: skip
        if max(ratios) < 1 and mean(ratios) < 1 - CLEAR:
            word = "help"
        elif min(ratios) > 1 and mean(ratios) > 1 + CLEAR:
            word = "harm"
        else:
            word = "make no clear difference to"
        return word, f"{way} {word} {name} (excess FD {told(ratios)} times as large)"

    effects = [effect(*pair) for pair in (("digits", "shifts"), ("digits", "flips"),
                                          ("fashion", "flips"))]  # fmt: skip
    words = {word for word, _ in effects}
    if words == {"help"}:
        word = "true here"
    elif "help" in words:
        word = "depends on the data and the change"
    else:
        word = "not true here"
    flips, plain = column("digits", "flips", "mirrored"), column("digits", "none", "mirrored")
    leak = (f"with flips {mean(flips):.0%} of drawn digits are nearer to mirrored digits than to "
            f"real ones, without {mean(plain):.0%}")  # fmt: skip
    said = "; ".join(text for _, text in effects)
    return {"rows": rows, "verdict": f"{word}: {said}; {leak}", "images": TAUGHT}


def level_mean(found: dict, step: int, kind: str, name: str) -> float:
    """A loss, mean over the parts of the levels."""
    return mean(found["moments"][str(step)][kind][name])


def c8(found: dict[tuple, dict]) -> dict[str, Any]:
    """Validation loss beside FD and nearness to the training images, over training."""
    rows, summary = [], {}
    for (count, seed), outcome in found.items():
        for step in MOMENTS:
            m = outcome["moments"][str(step)]["average"]
            rows.append({
                "digits": count or "all", "seed": seed, "step": step,
                "training loss": mean(m["train"]), "unseen loss": mean(m["unseen"]),
                "FD": m["log_snr"]["fd"], "floor": m["log_snr"]["floor"],
                "nearness": m["log_snr"]["nearness"],
            })  # fmt: skip
    for count in (FEW, None):
        mine = [[r for r in rows if r["digits"] == (count or "all") and r["seed"] == s]
                for s in SEEDS]  # fmt: skip
        low = [min(range(len(m)), key=lambda i: m[i]["unseen loss"]) for m in mine]
        summary[count] = {
            "rise": [m[-1]["unseen loss"] / m[i]["unseen loss"] - 1 for m, i in zip(mine, low)],
            "apart": [m[-1]["unseen loss"] / m[-1]["training loss"] for m in mine],
            "nearness, lowest": [m[i]["nearness"] for m, i in zip(mine, low)],
            "nearness, end": [m[-1]["nearness"] for m in mine],
            "FD, lowest": [m[i]["FD"] for m, i in zip(mine, low)],
            "FD, end": [m[-1]["FD"] for m in mine],
        }
    few, many = summary[FEW], summary[None]
    up, apart = min(few["rise"]) > UP, min(few["apart"]) > APART
    if up:
        text = f"with {FEW} images it turned up in every run, by {mean(few['rise']):.0%} at the end"
    elif apart:
        text = (f"with {FEW} images it became {told(few['apart'], 1)} times the training loss, but "
                "did not turn up in every run")  # fmt: skip
    else:
        text = f"with {FEW} images it did not show any within {LONG} steps"
    parts = [text]
    parts.append("with all of them it " + ("turned up in some run as well"
                 if max(many["rise"]) > UP else "never did"))  # fmt: skip
    early = max(few["nearness, lowest"]) < COPIES
    late = max(few["nearness, end"]) < COPIES
    near = (f"nearness {told(few['nearness, lowest'])} at its lowest point, "
            f"{told(few['nearness, end'])} at the end, with all images "
            f"{told(many['nearness, end'])}")  # fmt: skip
    if early:
        parts.append("but where it was lowest, samples were already nearer to the training images "
                     f"than new images are: {near}")  # fmt: skip
    elif late:
        parts.append("and samples came nearer to the training images than new images are after "
                     f"its lowest point: {near}")  # fmt: skip
    else:
        parts.append(f"samples did not come clearly nearer to the training images than new images "
                     f"are: {near}")  # fmt: skip
    better = [e < l for e, l in zip(few["FD, end"], few["FD, lowest"])]
    if up and any(better):
        parts.append("in spite of the turn FD was lower at the end than at the lowest point in "
                     f"{sum(better)} of {len(SEEDS)} runs")  # fmt: skip
    word = "partly true" if up or apart else "not shown here"
    if up and not early and late and not any(better):
        word = "true here"
    return {
        "rows": rows, "verdict": f"{word}: " + "; ".join(parts),
        "by count": {str(k or "all"): v for k, v in summary.items()},
        "limits": {"turned up": UP, "parted": APART, "copies": COPIES},
    }  # fmt: skip


def c12(found: dict[tuple, dict]) -> dict[str, Any]:
    """Pairs of models, and whether the one with the lower training loss has the lower FD."""
    rows = []
    for key, outcome in found.items():
        seed = key[-1]
        if key[0] in SCHEDULES:
            m = end(outcome)
            rows.append({"run": f"{key[0]} schedule", "weights": "average", "seed": seed,
                         "step": STEPS, "training loss": mean(m["train"]),
                         "FD": m["log_snr"]["fd"]})  # fmt: skip
            continue
        for step in MOMENTS:
            for kind in ("raw", "average"):
                m = outcome["moments"][str(step)][kind]
                rows.append({"run": f"{key[0] or 'all'} digits", "weights": kind, "seed": seed,
                             "step": step, "training loss": mean(m["train"]),
                             "FD": m["log_snr"]["fd"]})  # fmt: skip

    def differ(a: dict, b: dict) -> float:
        low, high = sorted((a["training loss"], b["training loss"]))
        return high / low - 1

    def share(of: Callable[[dict, dict], bool]) -> tuple[list[float], int]:
        """Per seed, the share of pairs that agree; and how many pairs there are."""
        shares, pairs = [], 0
        for seed in SEEDS:
            mine = [r for r in rows if r["seed"] == seed]
            chosen = [(a, b) for i, a in enumerate(mine) for b in mine[:i] if of(a, b)]
            agree = [(a["training loss"] < b["training loss"]) == (a["FD"] < b["FD"])
                     for a, b in chosen]  # fmt: skip
            pairs += len(agree)
            if agree:
                shares.append(sum(agree) / len(agree))
        return shares, pairs

    whole = "all digits"
    scheduled = tuple(f"{s} schedule" for s in SCHEDULES)
    groups = {
        f"one run, losses more than {FAR:.0%} apart": lambda a, b: (
            a["run"] == b["run"] == whole and differ(a, b) > FAR
        ),
        f"one run, losses up to {FAR:.0%} apart": lambda a, b: (
            a["run"] == b["run"] == whole and differ(a, b) <= FAR
        ),
        f"{FEW} digits against all, same step": lambda a, b: (
            {a["run"], b["run"]} == {whole, f"{FEW} digits"}
            and (a["step"], a["weights"]) == (b["step"], b["weights"])
        ),
        "schedules": lambda a, b: a["run"] in scheduled and b["run"] in scheduled,
    }
    agreement = {name: share(of) for name, of in groups.items()}
    said = [
        f"{name}: " + (f"{mean(shares):.0%} of {pairs} pairs ({min(shares):.0%} to "
                       f"{max(shares):.0%})" if pairs else "no such pairs")
        for name, (shares, pairs) in agreement.items()
    ]  # fmt: skip
    good = {name: bool(shares) and min(shares) >= 0.9 for name, (shares, _) in agreement.items()}
    if all(good.values()):
        word = "true here"
    elif any(good.values()):
        word = "depends on what is compared"
    else:
        word = "not true here"
    verdict = f"{word}; the lower training loss had the lower FD in these shares of pairs: " + (
        "; ".join(said)
    )
    floor = end(next(iter(found.values())))["log_snr"]["floor"]
    kept = {name: {"shares": shares, "pairs": pairs} for name, (shares, pairs) in agreement.items()}
    return {"rows": rows, "verdict": verdict, "agreement": kept, "floor": floor}


CLAIMS: dict[str, Callable[[dict[tuple, dict]], dict[str, Any]]] = {
    "C1": c1, "C7": c7, "C8": c8, "C12": c12,
}  # fmt: skip


def do(jobs: list[Job], folder: Path | None, workers: int) -> dict[Job, dict]:
    """What each job found, from ``folder`` where it has been kept."""
    outcomes: dict[Job, dict] = {}
    for job in jobs:
        if folder and (folder / f"{job.key()}.json").exists():
            outcomes[job] = json.loads((folder / f"{job.key()}.json").read_text(encoding="utf-8"))
    left = sorted((j for j in jobs if j not in outcomes), key=lambda j: -j.steps)

    def keep(job: Job, outcome: dict) -> None:
        outcome = json.loads(json.dumps(outcome))
        outcomes[job] = outcome
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{job.key()}"
            temporary.write_text(json.dumps(outcome), encoding="utf-8")
            os.replace(temporary, folder / f"{job.key()}.json")
        print(f"{len(outcomes)} of {len(jobs)} trainings; the last took "
              f"{outcome['seconds']:.0f} s", file=sys.stderr, flush=True)  # fmt: skip

    if workers == 1:
        for job in left:
            keep(job, run(job))
        return outcomes
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run, job): job for job in left}
        for done in as_completed(waiting):
            keep(waiting[done], done.result())
    return outcomes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(CLAIMS)}; none named: all")
    parser.add_argument("--write", action="store_true", help="write data/results/CLAIM-digits.json")
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time (default 2)")
    parser.add_argument(
        "--keep", type=Path, default=KEPT, help=f"folder of what trainings found (default {KEPT})"
    )
    chosen = parser.parse_args(arguments)
    if odd := sorted(set(chosen.claims) - set(CLAIMS)):
        parser.error(f"no claim is called {', '.join(odd)}; there are {', '.join(CLAIMS)}")
    if chosen.workers < 1:
        parser.error("workers must be at least 1")
    small = budget(full=False, small=True)
    if small and chosen.write:
        parser.error("figures of the small budget mean nothing and are not written")
    if chosen.write:
        os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    warnings.filterwarnings("ignore", message=".*of the labels would have to change.*")
    claims = chosen.claims or list(CLAIMS)
    wanted = {claim: jobs_of(claim) for claim in claims}
    unique = list(dict.fromkeys(job for jobs in wanted.values() for job in jobs.values()))
    outcomes = do(unique, None if small else chosen.keep, chosen.workers)
    for claim in claims:
        found = {key: outcomes[job] for key, job in wanted[claim].items()}
        record(f"{claim}-digits", seeds=SEEDS, n=N_LATER if claim in ("C8", "C12") else N,
               calls=CALLS, steps={"short": STEPS, "long": LONG}, network=NETWORK,
               not_shown=NOT_SHOWN, **CLAIMS[claim](found))  # fmt: skip


if __name__ == "__main__":
    main()
