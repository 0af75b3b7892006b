"""Tables of the book that are made and not written: lessons, verdicts, checkpoints, symbols."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARK = re.compile(r"^<!-- table: (\w+) -->$", re.M)


def readme() -> ModuleType:
    """The builder of the README's tables."""
    spec = importlib.util.spec_from_file_location(
        "build_readme", ROOT / "data" / "build" / "build_readme.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def symbols() -> list[dict[str, str]]:
    """Rows of symbols.toml: tex, code, lesson, says."""
    return tomllib.loads((DOCS / "symbols.toml").read_text(encoding="utf-8"))["symbol"]


def symbol_table() -> str:
    """Symbol, name in code, lesson, what it is; links as from docs/."""
    rows = ["| symbol | in code | lesson | what it is |", "|---|---|---|---|"]
    for s in symbols():
        rows.append(f"| ${s['tex']}$ | `{s['code']}` | {lesson_link(s['lesson'])} | {s['says']} |")
    return "\n".join(rows)


def lesson_link(number: str) -> str:
    """A link to a lesson; its bare number where there is none yet."""
    found = sorted((ROOT / "lessons").glob(f"{number}_*.ipynb"))
    return f"[{number}](../lessons/{found[0].name})" if found else number


def _at_docs(table: str) -> str:
    """A table of the README, whose links count from the root, for a page of docs/."""
    return re.sub(r"\]\((?!\w+:)", "](../", table)


def claim_sections(table: str) -> str:
    """The README's table of claims as sections: its verdicts are too long for a phone's table.

    A row is | [number](link) | claim (where it is said) | verdicts | what would change it | lessons
    and commands |; several verdicts or commands are divided by <br>.
    """
    out = []
    for row in table.split("\n")[2:]:
        inside = row.removeprefix("|").removesuffix("|")
        number, claim, verdicts, change, where = (c.strip() for c in re.split(r"(?<!\\)\|", inside))
        name = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", number)
        claim, said, sources = claim.partition(" (")
        out.append(f"## {name} · {claim}\n")
        if said:
            out.append(f"Said by {sources.removesuffix(')')}.\n")
        out += [f"- {verdict}" for verdict in verdicts.split("<br>")]
        links, *commands = where.split("<br>")
        out.append(f"\nWhat would change it: {change}\n")
        measured = f" Again by {', '.join(commands)}." if commands else ""
        out.append(f"Lessons that measure it: {links}.{measured} Figures: {number}.\n")
    return "\n".join(out)


def filled(text: str) -> str:
    """``text`` with each line ``<!-- table: NAME -->`` replaced by the table.

    Raises KeyError for a name that is none.
    """
    makers = {
        "lessons": lambda: _at_docs(readme().lesson_table()),
        "claims": lambda: _at_docs(claim_sections(readme().verdicts.brief())),
        "checkpoints": lambda: _at_docs(readme().checkpoint_table()),
        "exits": lambda: readme().exit_table(),
        "symbols": symbol_table,
    }
    return MARK.sub(lambda m: makers[m[1]](), text)
