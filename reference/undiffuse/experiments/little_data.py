"""Few data (lesson 09): claims 4, 7, 8 and 10, measured on digits.

Every run trains one network on some digits, drawn anew for each seed with every class in its share,
and measures what it draws. All runs of a budget have the same network, steps, batch and sampler;
what differs is how many digits there are and in which *way* one trains (``WAYS``). One way costs no
run of its own: "stopped" is the plain run at the look that ``generalisation_gap`` keeps.

The networks that some ways begin from are trained first (``beginning``), once on a machine, as the
runs themselves are. Learning rates and the like were tried with seeds that no figure is of.

Nearness to the training digits is measured in features, so that a copy that is a little moved
counts as a copy.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from undiffuse.experiments import Experiment, compare, separate, winner
from undiffuse.experiments._separable import NOT_SEPARABLE, told

WAYS = {
    "plain": "from scratch",
    "altered": "from scratch, digits turned, resized and moved at random",
    "told": "the same, and the network is told how each digit was altered",
    "tuned": "beginning from a network of clothes",
    "LoRA": "beginning there, and learning small additions alone",
    "printed": "beginning from a network of printed digits",
}
STOPPED = "stopped"
BEGUN = {"tuned": "clothes", "LoRA": "clothes", "printed": "printed digits"}
SHIPPED = {"clothes": "fashion"}  # where no steps are said for a beginning
MOST = 5000  # examples that a beginning is trained on: all clothes that the split has
AFFINE = {"rotate": 10.0, "scale": 0.1, "shift": 2.0, "shear": 5.0}
COUNTS = (50, 200, 1000, 5000)
FEW = 200  # where the ways are compared
HALF = 0.5  # of the FD of plain training: what the best way is to reach
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the steps, at which plain runs are looked at
# Times the steps, for LONG_WAYS with FEW digits and plain training with any: what more changes.
LONGER = 4
LONG_WAYS = ("plain", "told", "printed")


@dataclass(frozen=True)
class Training:
    """One run: which digits, how trained, how measured."""

    count: int
    way: str
    seed: int
    steps: int
    looks: tuple[int, ...]
    batch: int
    samples: int
    calls: int
    probe: int  # images on which a loss is measured
    network: str = "five-minutes"
    begin: int = 0  # steps of the network that a way begins from; 0: a shipped one
    device: str = "cpu"


def runs(budget: str) -> list[Training]:
    """Small: two counts, one seed, a few steps. GPU: as full, on one.

    The first ones are those that claims hang on: a job that is cut short has them.
    """
    size: dict[str, Any] = {
        "small": {"steps": 8, "batch": 16, "samples": 40, "calls": 2, "probe": 40, "begin": 4},
        "full": {
            "steps": 250,
            "batch": 32,
            "samples": 1000,
            "calls": 10,
            "probe": 500,
            "begin": 1500,
        },
    }["small" if budget == "small" else "full"]
    if budget == "gpu":
        size["device"] = "cuda"
    counts, seeds = ((FEW, 5000, 50, 1000), (0, 1, 2)) if budget != "small" else ((50, 200), (0,))
    ways = WAYS if budget != "small" else ("plain", "told", "LoRA", "printed")

    def training(count: int, way: str, seed: int, times: int = 1) -> Training:
        more = size | {"steps": times * size["steps"]}
        shares = SHARES if way == "plain" else (1.0,)
        looks = tuple(int(s * more["steps"]) for s in shares)
        return Training(count=count, way=way, seed=seed, looks=looks, **more)

    found = [training(c, way, seed) for c in counts for seed in seeds for way in ways]
    if budget == "small":
        return found
    longer = [training(FEW, way, seed, LONGER) for seed in seeds for way in LONG_WAYS]
    longer += [training(c, "plain", s, LONGER) for s in seeds for c in counts if c != FEW]
    half = len(found) // 2
    return [*found[:half], *longer, *found[half:]]


def recipe_of(run: Training, init: str = ""):
    """As the trainer takes it. init: what the way of the run begins from (``beginning``)."""
    from undiffuse.presets import preset
    from undiffuse.recipes import Recipe

    changed = run.way in ("altered", "told")
    return Recipe(
        name="little-data",
        network=preset(run.network).network,
        middle=0.5,
        optimizer="muon",
        lr=0.02,
        steps=run.steps,
        batch=min(run.batch, run.count),
        ema=0.99,
        drop_labels=0.0,
        init=init,
        lora=8 if run.way == "LoRA" else 0,
        affine=AFFINE if changed else {},
        affine_share=0.8 if changed else 1.0,
        affine_told=run.way == "told",
        seed=run.seed,
        precision="auto" if run.device == "cuda" else "float32",
    )


def digits_of(run: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits that a run trains on: another choice for each seed."""
    from undiffuse import data
    from undiffuse.subsets import stratified_subset

    x, y = data.digits("train")
    chosen = stratified_subset(y, run.count, torch.Generator().manual_seed(run.seed))
    return x[chosen], y[chosen]


def beginning(run: Training) -> str:
    """The checkpoint that a run begins from: a shipped one, or a file that this trains first.

    Trained as a plain run is, with ``run.begin`` steps and seed 0, on ``MOST`` clothes or printed
    digits. The file lies in the user's cache, by what it depends on, and other processes that want
    the same one wait for it. Raises ValueError for ``begin`` 0 where nothing fitting is shipped.
    """
    import pooch

    from undiffuse import checkpoints, data, trainer
    from undiffuse._files import locked
    from undiffuse.printed import printed_digits

    kind = BEGUN[run.way]
    if not run.begin:
        if kind not in SHIPPED:
            raise ValueError(f"no network of {kind} is shipped: begin must be at least 1")
        return SHIPPED[kind]
    many = min(MOST, run.begin * run.batch)  # no more than are looked at
    plainly = replace(run, way="plain", count=many, seed=0, steps=run.begin, looks=())
    what = [kind, run.network, run.begin, run.batch, run.device, torch.__version__]
    mark = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
    folder = Path(pooch.os_cache("undiffuse")) / "beginnings"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind.replace(' ', '-')}-{mark}.safetensors"
    with locked(path, patient=True):
        if not path.is_file():
            x, y = data.fashion("train", many) if kind == "clothes" else printed_digits(many)
            made = trainer.train(recipe_of(plainly), x, y, device=run.device)
            checkpoints.save(path, made.model, made.recipe, tuple(x.shape[1:]))
    return str(path)


def measure(run: Training) -> dict[str, Any]:
    """Trains, and looks at the averaged weights at each of ``run.looks``."""
    from undiffuse import trainer
    from undiffuse.training import EMA

    x, y = digits_of(run)
    recipe = recipe_of(run, beginning(run) if run.way in BEGUN else "")
    averages: list[EMA] = []
    found: list[dict[str, Any]] = []

    def look(step: int, of: int, loss: float, model: torch.nn.Module) -> None:
        if not averages:
            averages.append(EMA(model, recipe.ema))
        averages[0].update(model)
        if step in run.looks:
            average = copy.deepcopy(model)
            averages[0].copy_to(average)
            found.append({"step": step} | figures(average.eval(), run, x, y))

    trained = trainer.train(recipe, x, y, on_step=look, device=run.device)
    last = trained.losses[-50:]
    return {"looks": found, "last training losses": sum(last) / len(last)}


@torch.no_grad()
def figures(
    model: torch.nn.Module, run: Training, x: torch.Tensor, y: torch.Tensor
) -> dict[str, Any]:
    """Losses on digits that are trained on and on others, and the figures of samples."""
    from undiffuse import classifiers, data, judging, trainer, watch
    from undiffuse.metrics import memorisation_ratio
    from undiffuse.sampling import sample

    schedule = recipe_of(replace(run, way="plain")).make_schedule()
    low, high = trainer.time_range(schedule)

    def loss(x0, t, noise, cond):
        x0, t, noise, cond = (a.to(run.device) for a in (x0, t, noise, cond))
        return trainer.denoising_loss(model, schedule, x0, t, noise, cond, reduce=False)

    # As many of both, so that the noise is alike.
    probe = torch.arange(run.probe) % len(x)
    unseen = data.digits("validation", run.probe)
    losses = [
        float(watch.loss_by_level(loss, *pair, low, high).mean())
        for pair in ((x[probe], y[probe]), unseen)
    ]
    labels = judging.labels_like("digits", run.samples)
    g = torch.Generator().manual_seed(1000 + run.seed)
    images = torch.cat([
        sample(model, schedule, (len(some), 1, 28, 28), kind="v", calls=run.calls,
               cond=some.to(run.device), generator=g, clip=(-1.0, 1.0), device=run.device).cpu()
        for some in labels.split(250)
    ])  # fmt: skip
    quality = judging.judge_images(images, labels, "digits", (1000 + run.seed,), resamples=2)
    judge = _judge()
    near = memorisation_ratio(
        *(classifiers.examine(judge, a)[0] for a in (images, x)), _held_out(run.samples)
    )
    return {
        "training loss": losses[0],
        "unseen loss": losses[1],
        "FD": quality.fd,
        "floor": quality.floor,
        "recall": quality.recall,
        "real recall": quality.floor_recall,
        "accuracy": quality.accuracy,
        "memorisation": near,
    }


@functools.lru_cache(maxsize=1)
def _judge():
    from undiffuse import classifiers

    return classifiers.load("digits")


@functools.lru_cache(maxsize=2)
def _held_out(n: int) -> torch.Tensor:
    from undiffuse import classifiers, data

    return classifiers.examine(_judge(), data.digits("held_out", n)[0])[0]


# --- what the figures show -------------------------------------------------------------------


def ends(found: Mapping[Training, Mapping[str, Any]]) -> dict[tuple[int, str], list[dict]]:
    """(count, way) -> the figures of each seed, in the order of the seeds; "stopped" among them."""
    from undiffuse.stopping import generalisation_gap

    table: dict[tuple[int, str], list[dict]] = {}
    for run, outcome in sorted(found.items(), key=lambda pair: pair[0].seed):
        looks = outcome["looks"]
        table.setdefault((run.count, run.way), []).append({"seed": run.seed} | looks[-1])
        if run.way == "plain":
            rows = ([k[name] for k in looks] for name in
                    ("training loss", "unseen loss", "memorisation"))  # fmt: skip
            keep = generalisation_gap(*rows).keep
            # Where every look is a copier's there is nothing to keep; the first is least of one.
            chosen = looks[keep or 0] | {"all copies": keep is None}
            table.setdefault((run.count, STOPPED), []).append({"seed": run.seed} | chosen)
    return table


def conclude(found: Mapping[Training, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Claims 4, 7, 8 and 10."""
    steps = min(run.steps for run in found)
    longer = {run: f for run, f in found.items() if run.steps > steps}
    found = {run: f for run, f in found.items() if run.steps == steps}
    table = ends(found)
    counts = sorted({count for count, _ in table})
    few = FEW if FEW in counts else counts[0]
    ways = [w for w in (*WAYS, STOPPED) if (few, w) in table]
    rows = [
        {"digits": count, "way": way, **{k: v for k, v in f.items() if k != "all copies"}}
        for (count, way), several in sorted(table.items(), key=lambda kv: kv[0][0])
        for f in several
    ]
    run = next(iter(found))
    common = {
        "n": run.samples,
        "calls": run.calls,
        "steps": run.steps,
        "batch": run.batch,
        "network": run.network,
        "steps of a beginning": run.begin,
        "ways": WAYS | {STOPPED: "plain, at the look that validation and memorisation choose"},
        "floor": rows[0]["floor"],
        "not_shown": "one network and, but for a look at longer runs, one length of training; "
        "sizes of pictures and of networks other than these were not tried",
    }

    def column(count: int, way: str, key: str = "FD") -> list[float]:
        return [f[key] for f in table[count, way]]

    made = {
        "C4-digits": amount(table, counts, few, ways, column),
        "C7-few-digits": _against("plain", ("altered", "told"), counts, table, column,
                                  "augmentation"),
        "C10-digits": _against("plain", tuple(BEGUN), counts, table, column,
                               "a beginning from other pictures"),
        "C8-few-digits": early(counts, table, column),
    }  # fmt: skip
    kept = {"C7-few-digits": ("plain", "altered", "told"),
            "C10-digits": ("plain", *BEGUN),
            "C8-few-digits": ("plain", STOPPED)}  # fmt: skip
    if longer:
        made["C4-digits"] |= at_length(longer, few, steps)
    for name, said in made.items():
        mine = [r for r in rows if r["way"] in kept.get(name, (*WAYS, STOPPED))]
        made[name] = {"rows": mine, **common, **said}
    return made


def amount(table, counts, few, ways, column) -> dict[str, Any]:
    """Claim 4: how much data is needed, and what one can have in place of it."""
    means = {w: sum(column(few, w)) / len(column(few, w)) for w in ways}
    best = min((w for w in ways if w != "plain"), key=means.get)
    ratios = [a / b for a, b in zip(column(few, best), column(few, "plain"))]
    near, plain_near = column(few, best, "memorisation"), column(few, "plain", "memorisation")
    # "No worse": not further below 1, where samples are as far from training data as new ones are.
    worse = separate([min(v, 1.0) for v in near], [min(v, 1.0) for v in plain_near],
                     lower_is_better=False) == "second"  # fmt: skip
    ratio = means[best] / means["plain"]
    most = counts[-1]
    parts, needed = [], None
    for count in counts:
        if count > few and separate(column(few, best), column(count, "plain")) != "second":
            needed = count
    parts.append(
        f"with {few} digits, {best} has an FD of {told(column(few, best))}, plain training "
        f"{told(column(few, 'plain'))}, and with {most} plain training "
        f"{told(column(most, 'plain'))}"
    )
    if needed:
        parts.append(f"so {few} digits did no worse than {needed} from scratch")
        word = "depends on what one begins from and does with the data"
    else:
        word = "true of training from scratch" if most > few and separate(
            column(most, "plain"), column(few, "plain")) == "first" else NOT_SEPARABLE  # fmt: skip
    clear = winner({w: column(few, w) for w in ways})
    parts.append(f"best of all ways at {few}: {clear or NOT_SEPARABLE}")
    bar = {
        "what": f"FD of the best way ({best}) with {few} digits over that of plain training",
        "ratio": ratio,
        "by seed": ratios,
        "memorisation": {"best": near, "plain": plain_near},
        "wanted": f"at most {HALF}, with memorisation no worse",
        "met": ratio <= HALF and not worse,
    }
    return {"verdict": f"{word}: " + "; ".join(parts), "bar": bar, "best": best}


def at_length(longer: Mapping[Training, Mapping[str, Any]], few: int, steps: int) -> dict[str, Any]:
    """What runs of more steps say: of the ways at ``few`` digits, and of plain training at any."""
    table = ends(longer)
    times = next(iter(longer)).steps // steps
    rows = [{"digits": c, "way": w, **{k: v for k, v in f.items() if k != "all copies"}}
            for (c, w), several in table.items() for f in several]  # fmt: skip

    def column(count: int, way: str, key: str) -> list[float]:
        return [f[key] for f in table.get((count, way), [])]

    def said(count: int, way: str, name: str) -> str:
        return (f"{name}: FD {told(column(count, way, 'FD'))}, memorisation "
                f"{told(column(count, way, 'memorisation'))}")  # fmt: skip

    ways = [said(few, way, way) for way in (*WAYS, STOPPED) if (few, way) in table]
    counts = sorted({c for c, way in table if way == "plain"})
    text = f"{times} times the steps, {few} digits: " + "; ".join(ways)
    if len(counts) > 1:
        text += ". Plain training by number of digits: "
        text += "; ".join(said(c, "plain", f"{c}") for c in counts)
    return {"longer": text, "longer_rows": rows}


def _against(base, ways, counts, table, column, what) -> dict[str, Any]:
    """Whether ways are better than ``base``, count by count."""
    said = [
        (separate(column(count, way), column(count, base)),
         f"{count} digits: " + compare(way, column(count, way), base, column(count, base)))
        for count in counts for way in ways if (count, way) in table
    ]  # fmt: skip
    # What helped first, then what did harm, then what three seeds cannot tell.
    said.sort(key=lambda pair: ("first", "second", None).index(pair[0]))
    words, parts = zip(*said)
    found = set(words)
    if found == {"first"}:
        word = f"true here: {what} helped at every count"
    elif found == {None}:
        word = NOT_SEPARABLE
    elif "first" in found:
        word = f"depends on how many there are and on how it is done: {what}"
    else:
        word = "not true here"
    return {"verdict": f"{word}: " + "; ".join(parts)}


def early(counts, table, column) -> dict[str, Any]:
    """Claim 8: whether stopping by unseen loss and copies gives better samples than going on."""
    parts, words = [], []
    for count in counts:
        stopped = table[count, STOPPED]
        found = separate(column(count, STOPPED), column(count, "plain"))
        words.append(found)
        text = compare(STOPPED, column(count, STOPPED), "the end", column(count, "plain"))
        steps = sorted({f["step"] for f in stopped})
        copies = sum(f["all copies"] for f in stopped)
        text += f", at step {', '.join(map(str, steps))}"
        if copies:
            text += f" ({copies} of {len(stopped)} runs copied at every look)"
        parts.append(f"{count} digits: {text}")
    word = {True: "depends on how many there are", False: "not shown here"}["first" in words]
    if set(words) == {"first"}:
        word = "true here"
    if set(words) == {None}:
        word = NOT_SEPARABLE
    return {"verdict": f"{word}: " + "; ".join(parts)}


def figure(name: str, result: Mapping[str, Any]):
    """FD over the number of digits, a line for each way."""
    from undiffuse import plots

    rows = result["rows"]
    ways = list(dict.fromkeys(r["way"] for r in rows))
    counts = sorted({r["digits"] for r in rows})
    seeds = sorted({r["seed"] for r in rows})
    if len(counts) < 2:
        return None

    def value(count: int, way: str, seed: int) -> float:
        return next((r["FD"] for r in rows if (r["digits"], r["way"], r["seed"])
                     == (count, way, seed)), float("nan"))  # fmt: skip

    series = {w: [[value(c, w, s) for c in counts] for s in seeds] for w in ways}
    fig = plots.curves(
        series,
        counts,
        xlabel="digits to train on",
        ylabel="Fréchet distance",
        log_x=True,
        log_y=True,
        markers=True,
        floor=result["floor"],
        floor_name="real against real",
    )
    ends = ", ".join(
        f"{w} {sum(v[0] for v in s) / len(s):.2g} to {sum(v[-1] for v in s) / len(s):.2g}"
        for w, s in series.items()
    )
    alt = (
        f"The Fréchet distance of samples over the number of digits trained on, from {counts[0]} "
        f"to {counts[-1]}, for {len(ways)} ways of training: {ends}."
    )
    caption = (
        f"Lower is better. Lines: the median of {len(seeds)} seeds; bands: their range. Each "
        f"figure is of {result['n']} samples."
    )
    return fig, alt, caption


EXPERIMENT = Experiment(
    name="little-data",
    about="digits from 50 to 5,000: augmentation, fine-tuning, LoRA, early stopping",
    claims=("C4", "C7", "C8", "C10"),
    runs=runs,
    measure=measure,
    conclude=conclude,
    figure=figure,
)
