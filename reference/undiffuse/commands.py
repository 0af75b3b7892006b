"""The library's own commands: ``course train``, ``sample``, ``networks`` and ``experiment``.

torch is imported inside, so that ``course --help`` stays quick. ``coursework`` finds this module by
its name in ``[tool.coursework] commands``; what goes wrong carries the exit code of its kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(rich_markup_mode=None)

NOT_RIGHT, USAGE, NOT_FOUND, STORAGE, INVALID, INTERRUPTED = 1, 2, 3, 5, 7, 130
LINE_SECONDS = 30.0  # between lines where there is no progress bar


class CommandError(Exception):
    """What a command says in place of a traceback, and the code that it ends with."""

    def __init__(self, text: str, exit_code: int = NOT_RIGHT) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@contextmanager
def told(lower: str) -> Iterator[None]:
    """Errors inside as sentences with exit codes; ``lower``: what helps when memory runs out."""
    from undiffuse.checkpoints import CheckpointNotFound
    from undiffuse.data import DamagedData, DataNotFound
    from undiffuse.recipes import RecipeError, RecipeNotFound
    from undiffuse.trainer import Diverged
    from undiffuse.training import CheckpointError

    try:
        yield
    except (CheckpointNotFound, RecipeNotFound, DataNotFound) as error:
        raise CommandError(str(error), NOT_FOUND) from None
    except (CheckpointError, RecipeError, DamagedData) as error:
        raise CommandError(str(error), INVALID) from None
    except Diverged as error:
        raise CommandError(str(error), NOT_RIGHT) from None
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise CommandError(f"out of memory: {lower}", NOT_RIGHT) from None


def out_of_memory(error: Exception) -> bool:
    """Whether torch or Python ran out of memory (torch's CPU allocator has no type for it)."""
    return isinstance(error, MemoryError) or any(
        text in str(error) for text in ("out of memory", "can't allocate memory")
    )


def find_device(name: str) -> str:
    """ "auto" as the best there is; CommandError for one that is not there."""
    import torch

    has = {"cpu": True, "cuda": torch.cuda.is_available()}
    has["mps"] = torch.backends.mps.is_available()
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if has[kind])
    kind = name.split(":")[0]
    if kind not in has:
        raise CommandError(f"device is auto, {', '.join(has)} or cuda:N, not {name!r}", USAGE)
    if not has[kind]:
        raise CommandError(f"torch finds no {kind} here; leave --device out, or use cpu", USAGE)
    if name.startswith("cuda:"):
        there = torch.cuda.device_count()
        if name.removeprefix("cuda:") not in map(str, range(there)):
            raise CommandError(f"there is no {name} here, but cuda:0 to cuda:{there - 1}", USAGE)
    return name


def bar(total: int, title: str, unit: str, plain: bool = False) -> Any:
    """A progress bar on stderr; without a terminal, or if ``plain``, nothing is drawn."""
    from tqdm import tqdm

    hidden = plain or not sys.stderr.isatty()
    return tqdm(total=total, desc=title, unit=unit, disable=hidden, file=sys.stderr)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (lesson05), or a .toml file of your own.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run [default: runs/ and its name].")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="As many steps as fit into this time.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="In place of the recipe's steps.")] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Batches go through the network in so many parts: the same steps, less memory."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between states on disk, should the power fail.")
    ] = 60.0,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines in place of a progress bar.")
    ] = False,
) -> None:
    """Train what a recipe says, and go on where a run was stopped.

    The run's folder gets state.pt (what is needed to go on), log.jsonl, samples where the recipe
    says sample_every, and at the end
    NAME.safetensors, which `course sample` reads, and curves.png. Ctrl-C saves and stops; the same
    command goes on, to the same weights. Several processes share each batch, on CPUs or each on a
    GPU of its own: torchrun --nproc-per-node 2 -m coursework train NAME.

    Example: course train lesson05 --out runs/lesson05
    """
    from dataclasses import replace

    from undiffuse import checkpoints, recipes, team, trainer

    parts = 2 * (accumulate or 1)
    less = f"--accumulate {parts} makes the same steps in less memory"
    with told(f"lower batch in the recipe, or the network's size; {less}"):
        chosen = recipes.load(recipe)
        changes: dict[str, Any] = {} if accumulate is None else {"accumulate": accumulate}
        if steps is not None:
            changes = {"steps": steps, "seconds": 0.0}
        if seconds is not None:
            changes["seconds"] = seconds
        chosen = replace(chosen, **changes)
        take = chosen.source.take
        known = chosen.network.get("classes")
        if known not in (None, chosen.source.classes):
            raise recipes.RecipeError(
                f"network: classes = {known}, but {chosen.data} has {chosen.source.classes}"
            )
        x, labels = chosen.training_data()
        folder = out or Path("runs") / chosen.name
        file = folder / f"{chosen.name}.safetensors"
        where = find_device(device)
        joined = team.join(where)
        leads, size = joined.leads, joined.size
        options = {"folder": folder, "device": where, "save_every": save_every}
        if chosen.validate_every:
            options["validation"] = take("validation")

        def keep(run: trainer.Run, path: Path) -> None:
            if leads:
                what = trainer.facts(run, where)
                checkpoints.save(path, run.model, run.recipe, tuple(x.shape[1:]), **what)

        try:
            with shown(chosen.name, plain) as show:
                run = trainer.train(chosen, x, labels, on_step=show, **options)
        except KeyboardInterrupt:
            raise CommandError(
                f"stopped; the same command goes on from {folder}", INTERRUPTED
            ) from None
        except trainer.Diverged as error:
            good = folder / f"{chosen.name}-last-good.safetensors"
            keep(error.run, good)
            raise CommandError(f"{error}. The last good weights are in {good}") from None
        finally:
            team.leave()
        keep(run, file)
        machine = trainer.facts(run, where)["machine"]
    if leads:
        pace = f"{trainer.samples_per_second(run):,.0f} {'images' if x.ndim == 4 else 'sounds'}"
        shared = f" by {size} processes" if size > 1 else ""
        typer.echo(
            f"{file}: {run.steps} steps in {run.seconds:.0f} s{shared}, {pace} a second on "
            f"{machine}; see curves.png beside it"
        )


@contextmanager
def shown(title: str, plain: bool) -> Iterator[Callable]:
    """What ``trainer.train`` calls after each step: a bar, or now and then a line on stderr."""
    import time

    lines = plain or not sys.stderr.isatty()
    start = said = time.monotonic()
    with bar(1, title, "step", plain) as drawn:

        def show(step: int, of: int, loss: float, model: object) -> None:
            nonlocal said
            if not lines:
                drawn.total = of
                drawn.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                drawn.update(step - drawn.n)
                return
            now = time.monotonic()
            if now - said > LINE_SECONDS or step == of:
                said = now
                print(
                    f"{title}: step {step} of {of}, loss {loss:.4f}, {now - start:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

        yield show


@app.command()
def sample(
    name: Annotated[
        str, typer.Argument(help="A shipped checkpoint (digits), or a .safetensors file.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 16,
    calls: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Network calls a sample, at most [default: 20; a distilled network has its own "
            "number].",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The .npz file to write.")] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="dpmpp_2m, dpmpp_2m_sde, ddim, euler, heun, ancestral, ddpm or euler_maruyama "
            "[default: dpmpp_2m; a distilled network is its own solver]."
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Above 1 exaggerates the class, at twice the cost; 1 does not "
            "[default: what the checkpoint's recipe says]."
        ),
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Guide between these two of the times 0 (data) to 1 (noise) "
            "[default: what the checkpoint's recipe says].",
            metavar="LO HI",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="One class for all, by number or name (kick; of notes reed:69); without it they "
            "come in turn."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Words, for a network that reads them (portraits, emoji); without it the prompts "
            "of the split reference come in turn."
        ),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="Words for what is not wanted in the picture.")
    ] = None,
    also: Annotated[
        str | None, typer.Option(help="A second prompt, wanted as well as the first.")
    ] = None,
    second_scale: Annotated[
        float | None,
        typer.Option(min=0, help="How strongly --negative or --also counts [default: 1.5 or 2]."),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="A .png file of all images, or spectrograms of sounds.")
    ] = None,
    wav: Annotated[
        Path | None, typer.Option(help="A folder for sounds, as .wav files of 16 bits.")
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(
            help="What makes spectrograms sound: a vocoder's checkpoint, or griffin-lim [default: "
            "the shipped vocoder where it was measured to be nearer to recordings]."
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Samples at a time; what is drawn stays the same.")
    ] = 250,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
) -> None:
    """Draw samples from a trained network, shipped or your own.

    Writes images (uint8), or audio (float32) with its rate, and labels. A model of spectrograms
    also writes these (mel, in [-1, 1]); its audio is made of them by a vocoder or by Griffin-Lim,
    and the output says which. NAME is looked for in data/checkpoints/; a file of your own that
    `course train` wrote may be named by its path, or put there in place of a shipped one. A damaged
    file, or one of another program, is refused with the reason.

    Each sample has a random stream of its own: sample 7 of a seed is the same whatever --batch and
    --count, but for the last bits of sums, which may round differently.

    A prompt may say anything; words that the network does not know are left out, and the output
    names them with the nearest that it knows.

    Example: course sample digits --count 100 --calls 20 --out digits.npz --grid digits.png
    Example: course sample portraits --prompt "a pilot with dark skin" --grid pilots.png
    """
    if out is None and grid is None and wav is None:
        raise CommandError(
            "name a file to write: --out FILE.npz, --grid FILE.png or, of sounds, --wav FOLDER",
            USAGE,
        )
    for file, suffix in ((out, ".npz"), (grid, ".png")):
        if file is not None and file.suffix != suffix:
            raise CommandError(f"{file} must end with {suffix}", USAGE)

    if prompt is None and (negative is not None or also is not None):
        raise CommandError("--negative and --also go with --prompt", USAGE)
    if prompt is not None and label is not None:
        raise CommandError("give --prompt or --label, as the network reads words or labels", USAGE)

    import numpy as np

    from undiffuse import checkpoints, draw, hearing, prompts, sampling

    with told(f"lower --batch (it is {batch})"):
        found = checkpoints.load(name, find_device(device))
        kind, rate = draw.kind_of(found), draw.rate_of(found)
        if label is not None and found.recipe.told:
            raise CommandError(f"{found.name} reads words: --prompt in place of --label", USAGE)
        if kind == "image" and wav is not None:
            raise CommandError(f"{found.name} makes images: there is no --wav of them", USAGE)
        if kind != "image" and rate is None:
            raise CommandError(f"{found.name} does not say its sampling rate", INVALID)
        if kind != "mel" and vocoder is not None:
            raise CommandError(f"{found.name} makes no spectrograms: --vocoder is for these", USAGE)
        voice, by = None, ""
        if kind == "mel":
            voice, by = hearing.choose(vocoder, find_device(device), found.recipe.data)
        chosen = None if label is None else label_of(label, found)
        sampling.steps_for(solver or draw.SOLVER, calls or draw.CALLS)
        made = calls or found.recipe.distilled.get("calls", draw.CALLS)
        with bar(made * count, found.name, "call") as shown:
            options = {
                "calls": calls,
                "seed": seed,
                "solver": solver,
                "guidance": guidance,
                "guidance_interval": guidance_interval,
                "batch": batch,
                "progress": shown.update,
            }
            if prompt is not None:
                second = {"negative": negative or "", "also": also or ""}
                asked = prompts.ask(
                    found, prompt, count, **second, second_scale=second_scale, **options
                )
                samples, labels = asked.samples, asked.tokens
            else:
                samples, labels = draw.draw(found, count, label=chosen, **options)
        for line in asked.said if prompt is not None else ():
            typer.echo(line, err=True)
        if found.recipe.told:
            arrays = draw.arrays(samples)
            arrays["prompts"] = np.array(prompts.words_from(labels, found.vocab))
        elif kind == "image":
            arrays = draw.arrays(samples, labels)
        else:
            arrays = draw.arrays(draw.heard(found, samples, seed, voice), labels, rate)
        if kind == "mel":
            arrays["mel"] = samples[:, 0].numpy()
            typer.echo(by)
    main = "images" if kind == "image" else "audio"
    if out is not None:
        draw.save_arrays(out, arrays)
        shape = " x ".join(map(str, arrays[main].shape))
        typer.echo(f"{out}: {main} {shape}, {arrays[main].dtype}")
    if grid is not None:
        pixels = arrays[main] if kind == "image" else draw.spectrogram_pixels(arrays["audio"])
        draw.save_grid(grid, pixels)
        typer.echo(f"{grid}: {count} {'images' if kind == 'image' else 'spectrograms'}")
    if wav is not None:
        names = [f"{i:03d}" + ("" if labels is None else f"-{labels[i]}") for i in range(count)]
        draw.save_sounds(wav, arrays["audio"], rate, names)
        typer.echo(f"{wav}: {count} sounds")


def label_of(text: str, found: Any) -> int:
    """The label that ``--label`` means for a checkpoint."""
    from undiffuse.sources import parse_label

    source = found.recipe.source
    if found.null != source.classes:  # of a set of one's own: numbers only
        if not text.lstrip("-").isdigit():
            raise ValueError(f"label must be a number for {found.name}, got {text!r}")
        return int(text)
    return parse_label(text, source)


@app.command()
def networks() -> None:
    """List the networks by purpose, with their parameters and their cost.

    FLOPs are those of one call on one sample; training on it costs about three times that.

    Example: course networks
    """
    from undiffuse import presets, wavenets

    known = {name: (p, presets.build) for name, p in presets.PRESETS.items()}
    known |= {name: (p, wavenets.build) for name, p in wavenets.PRESETS.items()}
    width = max(map(len, known))
    typer.echo(f"{'name':<{width}}  {'parameters':>10}  {'MFLOP/call':>10}  sample       purpose")
    for name, (chosen, build) in known.items():
        model = build(name)
        parameters = presets.count_parameters(model)
        flops = presets.flops_per_call(model, chosen.shape)
        shape = " x ".join(map(str, chosen.shape))
        typer.echo(
            f"{name:<{width}}  {parameters:>10,}  {flops / 1e6:>10,.1f}  {shape:<11}  "
            f"{chosen.purpose}"
        )


@app.command()
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="An experiment; --list shows which there are.")
    ] = None,
    budget: Annotated[str, typer.Option(help="small (a trial), full (two cores) or gpu.")] = "full",
    workers: Annotated[
        int, typer.Option(min=1, help="Runs at a time, each in a process of one thread.")
    ] = 1,
    job: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Measure every N-th run only, from the I-th on."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do the runs.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results [default: that of the runs].")
    ] = None,
    keep: Annotated[Path, typer.Option(help="Folder of what runs have found.")] = Path(
        "runs/experiments"
    ),
    list_: Annotated[
        bool, typer.Option("--list", help="Show the experiments, and how far each one is.")
    ] = False,
) -> None:
    """Measure a claim: all runs of an experiment, then its table, verdict and figure.

    A finished run is kept, so that the same command goes on after a stop; --workers and several
    calls at once divide the runs. As a job array, call it with --job 1/8 to 8/8 on machines that
    share a folder (--keep), then once without --job. Writes CLAIM.json, with versions, seeds,
    machine kind and this command, and CLAIM.png.

    Example: course experiment little-data --budget small
    """
    from undiffuse import data, experiments

    if list_ or name is None:
        if name is not None:
            raise CommandError("--list shows all experiments: leave the name out", USAGE)
        with told("close other programs"):
            _list_experiments(experiments, budget, keep)
        return
    with told("fewer --workers, or a smaller --budget"):
        chosen = experiments.find(name)
        runs = chosen.list_runs(budget)
        mine = runs if job is None else experiments.share(runs, *_job(job))
        folder = chosen.folder(keep)
        shipped = (data.folder() / "results").resolve()
        if budget == "small" and out is not None and out.resolve() == shipped:
            raise CommandError(
                "figures of the small budget mean nothing, and are not written to the course's "
                "results",
                USAGE,
            )

        def say(run: Any, outcome: dict, done: int, of: int) -> None:
            print(f"{done} of {of} runs; the last took {outcome['seconds']:.0f} s",
                  file=sys.stderr, flush=True)  # fmt: skip

        try:
            with _executor(scheduler) as executor:
                found = experiments.finish(
                    mine,
                    chosen.measure,
                    folder=folder,
                    workers=workers,
                    executor=executor,
                    version=chosen.version,
                    on_done=say,
                )
        except KeyboardInterrupt:
            raise CommandError(
                f"stopped; finished runs are in {folder}, and the same command goes on",
                INTERRUPTED,
            ) from None
        except experiments.RunsFailed as error:
            raise CommandError(str(error), NOT_RIGHT) from None
        if job is not None:
            kept = len(experiments.kept_runs(runs, folder, chosen.version))
            if kept < len(runs):
                typer.echo(f"job {job}: {len(mine)} runs finished; {kept} of {len(runs)} are kept")
                return
            found = experiments.kept_runs(runs, folder, chosen.version)
        command = f"course experiment {name} --budget {budget}"
        made = experiments.write_results(chosen, found, budget, command, out or folder / "results")
    for claim in made:
        typer.echo(f"{(out or folder / 'results') / claim}.json")


def _job(text: str) -> tuple[int, int]:
    """(I, N) of "I/N"."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit()):
        raise ValueError(f"--job is I/N, such as 1/8, not {text!r}")
    return int(first), int(last)


@contextmanager
def _executor(scheduler: str | None) -> Iterator[Any]:
    """What takes the calls: a Dask cluster's workers, or None."""
    if scheduler is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise CommandError(
            "--scheduler needs Dask: pip install distributed (and the same undiffuse on every "
            "worker)",
            USAGE,
        ) from None
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise CommandError(f"no Dask scheduler answers at {scheduler}: {error}", USAGE) from None
    with client:
        yield client.get_executor(pure=False, retries=1)


def _list_experiments(experiments: Any, budget: str, keep: Path) -> None:
    known = experiments.all_experiments()
    width = max(map(len, known), default=4)
    typer.echo(f"{'name':<{width}}  {'runs done':>10}  claims         what it measures")
    for name, one in known.items():
        runs = one.list_runs(budget)
        done = len(experiments.kept_runs(runs, one.folder(keep), one.version))
        count = f"{done}/{len(runs)}"
        typer.echo(f"{name:<{width}}  {count:>10}  {', '.join(one.claims):<13}  {one.about}")
