"""Measured figures: shown where they are measured, and kept beside what made them.

A lesson's experiment ends in one call of ``record``. Where the environment variable
UNDIFFUSE_RESULTS names a folder, the figures also go there as ``<claim>.json``, from which texts
quote them. UNDIFFUSE_COMMAND says which command measures them again. Nothing in such a file names a
person, a host or a path.
"""

from __future__ import annotations

import datetime
import html
import importlib.metadata
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from undiffuse import __version__, budget
from undiffuse._files import write_json

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
_OWN = ("claim", "verdict", "rows", "seeds", "budget", "date", "versions", "machine")


def record(
    claim: str,
    rows: Sequence[Mapping[str, Any]],
    verdict: str,
    seeds: Iterable[int],
    size: str | None = None,
    folder: str | os.PathLike | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Shows the figures of one experiment as a table, and returns and keeps them.

    claim: a short name such as "C12", of letters, digits, "-", "_" and "."; it names the file.
    rows: one dict per line of the table, column -> text, number, bool, None, or a tensor or numpy
    array (which becomes a list). verdict: what the figures say, decided by code. seeds: those
    used, at least one. size: what the budget is called, where it is not that of the environment.
    folder: where it is kept, where that is not UNDIFFUSE_RESULTS. extra: anything more to be kept,
    such as n=1000, floor=0.12 or the command, where that is not UNDIFFUSE_COMMAND.

    Returns a dict of plain data with the keys claim, verdict, rows, seeds, budget, date (UTC),
    versions, machine (system, processor kind and count), command (where one is known) and the extra
    ones; NaN and infinities become None, as JSON has none. Where UNDIFFUSE_RESULTS names a folder
    (made if need be), writes it there as <claim>.json: a reader sees the old file or the new one,
    never half of one.

    Raises ValueError for a claim that cannot be a file name, no rows, no seeds or an empty
    verdict, TypeError for values that are not plain data.
    """
    if not isinstance(claim, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", claim):
        raise ValueError(f"claim must be a short name such as 'C12', got {claim!r}")
    rows = [{str(k): plain(v, f"rows[{i}][{k!r}]") for k, v in row.items()}
            for i, row in enumerate(rows)]  # fmt: skip
    seeds = [int(seed) for seed in seeds]
    if not rows or not seeds:
        raise ValueError(f"{claim} needs at least one row and one seed, got {len(rows)} rows "
                         f"and {len(seeds)} seeds")  # fmt: skip
    if not isinstance(verdict, str) or not verdict.strip():
        raise ValueError(f"{claim} needs a verdict in words, got {verdict!r}")
    taken = sorted(set(extra) & set(_OWN))
    if taken:
        raise ValueError(f"{claim}: {', '.join(taken)} is filled in by record itself")
    if command := os.environ.get("UNDIFFUSE_COMMAND"):
        extra.setdefault("command", command)
    result = {
        "claim": claim,
        "verdict": verdict,
        "rows": rows,
        "seeds": seeds,
        **{name: plain(value, name) for name, value in extra.items()},
        "budget": size or budget(full="full", small="small"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "machine": machine(),
    }
    folder = os.environ.get("UNDIFFUSE_RESULTS", "") if folder is None else folder
    if folder:
        write_json(Path(folder) / f"{claim}.json", result)
    _show(result)
    return result


def load_results(folder: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """What ``record`` wrote into ``folder``: claim -> its dict, in the order of the names.

    Raises FileNotFoundError where there is no such folder, ValueError that names the file where
    one is not what ``record`` writes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of results at {folder}")
    results = {}
    for path in sorted(folder.glob("*.json"), key=lambda p: _natural(p.stem)):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path.name} is damaged: {error}") from error
        if not isinstance(result, dict) or result.get("claim") != path.stem:
            raise ValueError(f"{path.name} does not hold the results of {path.stem}")
        results[path.stem] = result
    return results


def plain(value: Any, name: str) -> Any:
    """``value`` as what JSON can hold: tensors and arrays become lists, NaN and infinities None.

    name: what the TypeError calls a value that is no plain data.
    """
    if hasattr(value, "tolist"):  # torch tensors, numpy arrays and numpy scalars
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{name}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(v, f"{name}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{name} must be plain data, got {type(value).__name__}")


def versions() -> dict[str, str]:
    """Package -> version, of those that a figure may depend on."""
    found = {"undiffuse": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Its kind: system, processor, number of processors, GPU."""
    # What may differ from machine to machine and change a figure; nothing that tells which one.
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else None
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count()
    return {"system": platform.system(), "processor": platform.machine(), "cpus": cpus, "gpu": gpu}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts C2 before C12."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name) if p]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(v) for v in value)
    return str(value)


def _show(result: dict[str, Any]) -> None:
    """A table: HTML in a notebook, text elsewhere."""
    columns = list(dict.fromkeys(name for row in result["rows"] for name in row))
    cells = [[_cell(row[c]) if c in row else "" for c in columns] for row in result["rows"]]
    # A column is set right where all of it is numbers, so that digits stand below each other.
    right = [all(isinstance(row.get(c), int | float | None) for row in result["rows"])
             for c in columns]  # fmt: skip
    seeds = ", ".join(map(str, result["seeds"]))
    title = f"{result['claim']}: {result['verdict']}"
    note = f"seeds {seeds}; budget {result['budget']}"
    text = "\n".join([title, "", *_text_table(columns, cells, right), "", note])
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        print(text)
        return
    from IPython.display import display

    page = _html_table(title, columns, cells, right, note)
    display({"text/plain": text, "text/html": page}, raw=True)


def _text_table(columns: list[str], cells: list[list[str]], right: list[bool]) -> list[str]:
    lines = [columns, *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]

    def aligned(line: list[str]) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right))
        return "  ".join(parts).rstrip()

    return [aligned(columns), "  ".join("-" * w for w in widths), *map(aligned, cells)]


def _html_table(
    title: str, columns: list[str], cells: list[list[str]], right: list[bool], note: str
) -> str:
    def row(tag: str, line: list[str]) -> str:
        made = (
            f'<{tag} style="text-align: {"right" if r else "left"}">{html.escape(c)}</{tag}>'
            for c, r in zip(line, right)
        )
        return f"<tr>{''.join(made)}</tr>"

    head, body = row("th", columns), "".join(row("td", line) for line in cells)
    return (
        f"<p><strong>{html.escape(title)}</strong></p>"
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        f"<p><small>{html.escape(note)}</small></p>"
    )
