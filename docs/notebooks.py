"""A lesson as a page of the book: its executed solution, with the answers behind a click.

Pictures leave the notebook for files of their own (a page loads quickly, and a picture when it
comes into view) and keep their alternative text. Before each solution stands the stub that the
lesson has there.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import io
import re
from collections.abc import Callable

from PIL import Image

KEPT = ("text/html", "text/markdown", "text/plain", "image/png", "image/gif", "image/svg+xml")
DOOR = """```{{admonition}} Read here, do it in your own copy
:class: tip
The answers on this page are folded away, and the figures are those of the last full run. To write
the answers yourself, with each one checked at once, run `make learn`{more}.
```"""


def page(
    solution: dict,
    lesson: dict,
    name: str,
    rewrite: Callable[[str], str] = lambda text: text,
    doors: str = "",
) -> tuple[dict, dict[str, bytes]]:
    """(the notebook that Sphinx reads, picture files by name).

    solution, lesson: notebooks of format 4.5 made from one source. name: of the page, for its
    pictures. rewrite: for links in Markdown. doors: Markdown links to other places to do it.
    """
    stubs = {c["id"]: c for c in lesson["cells"]}
    cells, files = [], {}
    for cell in copy.deepcopy(solution["cells"]):
        cell["source"] = "".join(cell["source"])
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "markdown":
            cell["source"] = rewrite(cell["source"])
            cells.append(cell)
            if len(cells) == 1:
                title, _, rest = cell["source"].partition("\n")
                more = f", or open it in {doors}" if doors else ""
                cell["source"] = f"{title}\n\n{DOOR.format(more=more)}\n{rest}"
            continue
        cell["outputs"] = [_output(o, name, files) for o in cell["outputs"] if _worth(o)]
        what = ""
        if "answer" in tags:
            id = cell["metadata"]["exercise"]
            what = f"a solution of {id}"
            if stub := stubs.get(cell["id"]):
                cells.append(_stub(stub))
        elif "solution-only" in tags:
            what = "what the solution adds here"
        metadata: dict = {}
        if what:
            metadata["tags"] = ["hide-input"]
            metadata["mystnb"] = {
                "code_prompt_show": f"Show {what}",
                "code_prompt_hide": f"Hide {what}",
            }
        cell["metadata"] = metadata
        cells.append(cell)
    for cell in cells:
        if cell["cell_type"] == "markdown":
            cell["metadata"] = {}
    made = {
        **solution,
        "cells": cells,
        "metadata": {"kernelspec": solution["metadata"]["kernelspec"]},
    }
    return made, files


def _stub(cell: dict) -> dict:
    return {
        "cell_type": "code",
        "id": f"stub-{cell['id']}"[:64],
        "metadata": {},
        "source": "".join(cell["source"]),
        "outputs": [],
        "execution_count": None,
    }


def _worth(output: dict) -> bool:
    """Not: a progress bar that stands still."""
    data = output.get("data")
    if data is None or set(data) != {"text/plain"}:
        return True
    return not re.search(r"\d+%.*\d\d:\d\d|\d+\w* \[\d\d:\d\d", "".join(data["text/plain"]))


def _output(output: dict, name: str, files: dict[str, bytes]) -> dict:
    data = output.get("data")
    if not data:
        return output
    picture = next((m for m in ("image/png", "image/gif") if m in data), None)
    if picture:
        content = base64.b64decode("".join(data[picture]))
        ending = picture.split("/")[1]
        file = f"{name}-{hashlib.sha256(content).hexdigest()[:10]}.{ending}"
        files[file] = content
        width, height = Image.open(io.BytesIO(content)).size
        alt = (output.get("metadata") or {}).get(picture, {}).get("alt", "")
        shown = (
            f'<img class="figure" src="../_static/figures/{file}" alt="{html.escape(alt)}" '
            f'width="{width}" height="{height}" loading="lazy">'
        )
        if ending == "gif":  # moves without end: only for who asks
            words = "Show the moving picture"
            shown = f"<details><summary>{words}</summary>{shown}</details>"
        return {**output, "data": {"text/html": shown}, "metadata": {}}
    kept = {k: v for k, v in data.items() if k in KEPT}
    return {**output, "data": kept, "metadata": {}}
