"""Claims 1, 7, 8 and 12, measured on small models of digits and clothes (lesson 05).

Their experiments share runs: what claim 12 looks at was trained for claims 1 and 8.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from undiffuse.experiments import Experiment
from undiffuse.experiments._digit_runs import SIZES, Job, Sizes, job, measure

SEEDS = (0, 1, 2)
SCHEDULES = ("linear", "cosine", "sigmoid", "flow")
# Three seeds that agree are no rare chance, so an effect must be of some size as well.
CLEAR = 0.10  # of excess FD
UP, APART, COPIES = 0.02, 1.05, 0.9
FAR = 0.25  # losses that differ by more are called far apart
NOT_SHOWN = (
    "one small network, one optimiser, seconds of training; three seeds show a spread and no "
    "significance"
)


def jobs_of(claim: str, sizes: Sizes) -> dict[tuple, Job]:
    """The trainings that a claim needs, by what is compared and seed. Claims share some."""
    found: dict[tuple, Job] = {}
    for seed in SEEDS:
        if claim in ("C1", "C12"):
            for schedule in SCHEDULES:
                found[schedule, seed] = job(
                    sizes, schedule=schedule, spacings=("log_snr", "time"), seed=seed
                )
        if claim == "C7":
            for name, ways in (("digits", ("none", "shifts", "flips")),
                               ("fashion", ("none", "flips"))):  # fmt: skip
                for way in ways:
                    found[name, way, seed] = job(
                        sizes, name=name, images=sizes.taught, shift=2 * (way == "shifts"),
                        flip=way == "flips", seed=seed,
                    )  # fmt: skip
        if claim in ("C8", "C12"):
            for count in (sizes.few, None):
                found[count, seed] = job(sizes, long=True, images=count, seed=seed)
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


def c1(found: dict[tuple, dict], sizes: Sizes) -> dict[str, Any]:
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


def c7(found: dict[tuple, dict], sizes: Sizes) -> dict[str, Any]:
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
    return {"rows": rows, "verdict": f"{word}: {said}; {leak}", "images": sizes.taught}


def level_mean(found: dict, step: int, kind: str, name: str) -> float:
    """A loss, mean over the parts of the levels."""
    return mean(found["moments"][str(step)][kind][name])


def c8(found: dict[tuple, dict], sizes: Sizes) -> dict[str, Any]:
    """Validation loss beside FD and nearness to the training images, over training."""
    rows, summary = [], {}
    for (count, seed), outcome in found.items():
        for step in sizes.moments:
            m = outcome["moments"][str(step)]["average"]
            rows.append({
                "digits": count or "all", "seed": seed, "step": step,
                "training loss": mean(m["train"]), "unseen loss": mean(m["unseen"]),
                "FD": m["log_snr"]["fd"], "floor": m["log_snr"]["floor"],
                "nearness": m["log_snr"]["nearness"],
            })  # fmt: skip
    for count in (sizes.few, None):
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
    few, many = summary[sizes.few], summary[None]
    up, apart = min(few["rise"]) > UP, min(few["apart"]) > APART
    if up:
        text = (f"with {sizes.few} images it turned up in every run, by {mean(few['rise']):.0%} "
                "at the end")  # fmt: skip
    elif apart:
        text = (f"with {sizes.few} images it became {told(few['apart'], 1)} times the training "
                "loss, but did not turn up in every run")  # fmt: skip
    else:
        text = f"with {sizes.few} images it did not show any within {sizes.long} steps"
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


def c12(found: dict[tuple, dict], sizes: Sizes) -> dict[str, Any]:
    """Pairs of models, and whether the one with the lower training loss has the lower FD."""
    rows = []
    for key, outcome in found.items():
        seed = key[-1]
        if key[0] in SCHEDULES:
            m = end(outcome)
            rows.append({"run": f"{key[0]} schedule", "weights": "average", "seed": seed,
                         "step": sizes.steps, "training loss": mean(m["train"]),
                         "FD": m["log_snr"]["fd"]})  # fmt: skip
            continue
        for step in sizes.moments:
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
        f"{sizes.few} digits against all, same step": lambda a, b: (
            {a["run"], b["run"]} == {whole, f"{sizes.few} digits"}
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


CLAIMS: dict[str, Callable[[dict[tuple, dict], Sizes], dict[str, Any]]] = {
    "C1": c1, "C7": c7, "C8": c8, "C12": c12,
}  # fmt: skip


def conclude_on(claim: str) -> Callable[[Mapping[Job, Mapping[str, Any]]], dict[str, dict]]:
    """What ``Experiment`` takes: the figures of all jobs -> the result of this claim."""

    def conclude(found: Mapping[Job, Mapping[str, Any]]) -> dict[str, dict]:
        sizes = next(s for s in SIZES.values() if set(jobs_of(claim, s).values()) == set(found))
        by_key = {key: found[j] for key, j in jobs_of(claim, sizes).items()}
        kept = {
            "n": sizes.n_later if claim in ("C8", "C12") else sizes.n,
            "calls": sizes.calls,
            "steps": {"short": sizes.steps, "long": sizes.long},
            "network": {"channels": list(sizes.channels), "patch": sizes.patch, "classes": 10},
            "not_shown": NOT_SHOWN,
        }
        return {f"{claim}-digits": kept | CLAIMS[claim](by_key, sizes)}

    return conclude


def runs_of(claim: str) -> Callable[[str], list[Job]]:
    """The jobs of a budget."""
    return lambda budget: list(jobs_of(claim, SIZES[budget]).values())


ABOUT = {
    "C1": "noise schedules, sampled at two spacings",
    "C7": "shifts and flips, on digits and on clothes",
    "C8": "unseen loss beside samples over training, on few digits and on all",
    "C12": "training loss against the quality of samples",
}
EXPERIMENTS = tuple(
    Experiment(
        name=claim,
        about=ABOUT[claim],
        claims=(claim,),
        runs=runs_of(claim),
        measure=measure,
        conclude=conclude_on(claim),
        store="digit-claims",
    )
    for claim in CLAIMS
)
