"""Puts the book's source together: pages of docs/, other Markdown, lessons, scripts of the page."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import api
import notebooks
import tables
from links import Links

DOCS = Path(__file__).parent
ROOT = DOCS.parent
OTHERS = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "data/README.md": "data",
    "data/recipes/README.md": "recipes",
    "reference/coursework/THREAT_MODEL.md": "threat-model",
    "reference/coursework/FORMATS.md": "formats",
}
CARDS = ("data/images", "data/audio", "data/checkpoints")
OWN = ("book.css", "book.js")
MATHJAX = ("tex-chtml.js", "a11y/assistive-mml.js", "output/chtml/fonts/woff-v2/")
COLAB = "https://colab.research.google.com/github/{repository}/blob/main/lessons/{file}"
BINDER = "https://mybinder.org/v2/gh/{repository}/main?labpath=lessons/{file}"


def pages() -> dict[str, str]:
    """Path in the repository -> page, of everything that is one."""
    own = (p for p in sorted(DOCS.glob("*.md")) if not p.name.startswith("README"))
    found = {f"docs/{p.name}": p.stem for p in own}
    found |= OTHERS
    for folder in CARDS:
        for card in sorted((ROOT / folder).glob("*.md")):
            found[f"{folder}/{card.name}"] = f"cards/{card.stem}"
    for solution in sorted((ROOT / "solutions").glob("*.ipynb")):
        for folder in ("solutions", "lessons"):
            found[f"{folder}/{solution.name}"] = f"lessons/{solution.stem}"
    return found


def stage(out: Path, repository: str = "") -> None:
    """Writes the source of the book to the folder ``out``, which is emptied first.

    repository: "owner/name" on GitHub, for links to the source, Colab and Binder; without it
    there are none.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    links = Links(pages(), repository)
    for path, page in links.pages.items():
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            text = tables.filled(text) if path.startswith("docs/") else text
            if page in OTHERS.values() or page.startswith("cards/"):
                text = f"---\nfile: {path}\n---\n{text}"
            _write(out / f"{page}.md", links.rewrite(text, path, page))
        elif path.startswith("solutions/"):
            _lesson(out, path, page, links)
    for module, text in api.pages().items():
        _write(out / "api" / f"{module}.md", text)
    static = out / "_static"
    for name in OWN:
        (static / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DOCS / name, static / name)
    for file in sorted(links.media):
        (static / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, static / file)
    _mathjax(static / "mathjax")


def doors(file: str, repository: str) -> str:
    """Markdown links to a lesson on Colab and Binder; "" where the public address is not known."""
    if not repository:
        return ""
    colab = COLAB.format(repository=repository, file=file)
    binder = BINDER.format(repository=repository, file=file)
    return f"[Colab]({colab}) or [Binder]({binder}) (see [what they install](../doors.md))"


def _lesson(out: Path, path: str, page: str, links: Links) -> None:
    name = Path(path).name
    solution = json.loads((ROOT / path).read_text(encoding="utf-8"))
    lesson = json.loads((ROOT / "lessons" / name).read_text(encoding="utf-8"))
    made, files = notebooks.page(
        solution,
        lesson,
        Path(path).stem,
        lambda text: links.rewrite(text, path, page),
        doors(name, links.repository),
    )
    _write(out / f"{page}.ipynb", json.dumps(made))
    folder = out / "_static" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def _mathjax(out: Path) -> None:
    """Of MathJax, which the package sphinx-mathjax-offline brings whole, what pages load."""
    whole = "sphinx-mathjax-offline/static/mathjax/"
    for file in importlib.metadata.files("sphinx-mathjax-offline") or ():
        part = file.as_posix().removeprefix(whole)
        if part != file.as_posix() and part.startswith(MATHJAX):
            (out / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), out / part)
    if not (out / MATHJAX[0]).is_file():
        raise FileNotFoundError(f"sphinx-mathjax-offline holds no {MATHJAX[0]}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline=os.linesep if os.name == "nt" else "\n")
