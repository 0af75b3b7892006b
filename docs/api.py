"""Pages of the reference: one a module of ``undiffuse``, filled from docstrings by autodoc."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "reference" / "undiffuse"


def modules() -> dict[str, str]:
    """Public module -> the first line of its docstring, in order of their names."""
    found = {}
    for file in sorted(LIBRARY.rglob("*.py")):
        parts = file.relative_to(LIBRARY.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(p.startswith("_") for p in parts):
            continue
        says = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[".".join(parts)] = says.split("\n\n")[0].replace("\n", " ")
    return found


def pages() -> dict[str, str]:
    """Name of a page -> its Markdown; "index" lists the others."""
    found = modules()
    made = {
        module: f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"
        for module in found
    }
    rows = "\n".join(f"| [`{m}`]({m}.md) | {_bare(says)} |" for m, says in found.items())
    listed = "\n".join(found)
    made["index"] = (
        "# API reference\n\n"
        "`undiffuse` is the library that the course builds. Lessons write many of its functions "
        "anew;\nthe rest is used by them. All of it is read from the docstrings.\n\n"
        f"| module | what it is |\n|---|---|\n{rows}\n\n"
        f"```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    )
    return made


def _bare(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")
