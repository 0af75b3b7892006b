"""The library's own commands: ``course train``, ``course sample``, ``course networks``.

torch is imported inside, so that ``course --help`` stays quick. ``coursework`` finds this module by
its name in ``[tool.coursework] commands``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class CommandError(Exception):
    """What a command says in place of a traceback."""


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"course: {error}", err=True)
    return typer.Exit(1)


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, such as data/recipes/digits.toml.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the run; one that exists is gone on with.")
    ] = Path("runs"),
    seconds: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    steps: Annotated[int | None, typer.Option(help="In place of the recipe's steps.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
) -> None:
    """Train what a recipe says, and go on where a run was stopped.

    Example: course train data/recipes/digits.toml --out runs/digits
    """
    from dataclasses import replace

    from tqdm import tqdm

    from undiffuse import checkpoints, data, recipes, trainer

    try:
        chosen = recipes.load(recipe)
        changes = {k: v for k, v in (("seconds", seconds), ("steps", steps)) if v is not None}
        chosen = replace(chosen, **changes)
        x, labels = getattr(data, chosen.data)("train", chosen.n)
        folder = out / chosen.name if out == Path("runs") else out
        bar = tqdm(total=chosen.steps, desc=chosen.name, unit="step")

        def show(step: int, of: int, loss: float, model: object) -> None:
            bar.total = of
            bar.n = step
            bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            bar.update(0)

        run = trainer.train(chosen, x, labels, folder=folder, on_step=show, device=_device(device))
        bar.close()
        path = checkpoints.save(
            folder / f"{chosen.name}.safetensors",
            run.model,
            chosen,
            tuple(x.shape[1:]),
            steps=run.steps,
            seconds=round(run.seconds, 1),
        )
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; the same command goes on from {folder}")
        raise typer.Exit(130) from None
    except (recipes.RecipeError, trainer.Diverged, ValueError, RuntimeError, OSError) as error:
        raise _fail(_plainer(error)) from None
    typer.echo(f"{path}: {run.steps} steps in {run.seconds:.0f} s")


def _plainer(error: Exception) -> Exception:
    text = str(error)
    if "out of memory" in text or "can't allocate memory" in text:
        return CommandError(f"out of memory: lower batch or the network's channels ({text[:200]})")
    return error


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="A shipped checkpoint, or a .safetensors file.")],
    count: Annotated[int, typer.Option(help="How many.")] = 16,
    calls: Annotated[int, typer.Option(help="Network calls at most.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="An .npz file to write.")] = None,
    solver: Annotated[str, typer.Option(help="ddim, heun, dpmpp_2m, ...")] = "dpmpp_2m",
    guidance: Annotated[float, typer.Option(help="Scale; 1 is none.")] = 1.0,
    label: Annotated[int | None, typer.Option(help="One class for all; default: in turn.")] = None,
    grid: Annotated[Path | None, typer.Option(help="A .png file to draw.")] = None,
    batch: Annotated[int, typer.Option(help="Samples at a time.")] = 250,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
) -> None:
    """Draw samples from a checkpoint.

    Example: course sample digits --count 100 --calls 20 --out digits.npz --grid digits.png
    """
    import numpy as np

    from undiffuse import checkpoints, draw
    from undiffuse.training import CheckpointError

    try:
        if out is None and grid is None:
            raise CommandError("name a file to write: --out FILE.npz or --grid FILE.png")
        loaded = checkpoints.load(name, _device(device))
        images, labels = draw.draw(
            loaded,
            count,
            calls=calls,
            seed=seed,
            solver=solver,
            guidance=guidance,
            label=label,
            batch=batch,
        )
        pixels = draw.to_uint8(images)
        if out is not None:
            arrays = {"images": pixels}
            if labels is not None:
                arrays["labels"] = labels.numpy()
            out.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(out, **arrays)
            typer.echo(f"{out}: images {pixels.shape}, uint8")
        if grid is not None:
            draw.save_grid(grid, pixels)
            typer.echo(f"{grid}: {len(pixels)} images")
    except (CommandError, CheckpointError, ValueError, OSError) as error:
        raise _fail(error) from None
