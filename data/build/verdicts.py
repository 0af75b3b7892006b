"""The table of claims and verdicts, from data/claims.toml and data/results.

``short`` and ``brief`` are tables of the README, ``page`` is all of it: data/results/README.md. All
are written by ``build_readme.py``. What people say and what would change a verdict is in
claims.toml; verdicts, figures, seeds and machines come from result files alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
CLAIMS = ROOT / "data" / "claims.toml"
OPEN = "not measured yet"
SEEDS = 3
INTRO = """\
# Claims and verdicts

<!-- made by data/build/build_readme.py from data/claims.toml and the result files beside this -->

What people say about diffusion models, and what was measured. Figures are means, with the lowest
and the highest seed in brackets; FD is the Fréchet distance, lower is better, and its floor is what
real data get against real data. A verdict holds for what was measured: small networks, small
pictures and short sounds. Where seeds do not separate two settings, none is called better: *not
separable at this size* (`undiffuse.experiments.separate` is the rule).
"""


class Missing(ValueError):
    """claims.toml and the result files do not fit together; the message says where."""


def load(
    claims: Path = CLAIMS, results: Path = RESULTS
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """(claims, results), checked against each other; raises ``Missing``."""
    from undiffuse.results import load_results

    told = tomllib.loads(claims.read_text(encoding="utf-8"))
    found = load_results(results)
    known = {name for claim in told.values() for name in claim["measured"]}
    for name, result in found.items():
        claim = name.split("-")[0]
        if claim in told and name not in known:
            raise Missing(f"{claims.name} does not say what {name}.json measured")
        if claim in told:
            for key in ("verdict", "seeds", "versions", "machine", "budget", "command"):
                if not result.get(key):
                    raise Missing(f"{name}.json has no {key}")
            fact = told[claim]["measured"][name].get("fact", False)
            if len(set(result["seeds"])) < SEEDS and not fact:
                raise Missing(f"{name}.json has {len(set(result['seeds']))} seeds; {SEEDS} or more")
            if result["budget"] == "small":
                raise Missing(f"{name}.json was made with the small budget: it means nothing")
    for name, claim in told.items():
        if not claim["said"] and not claim.get("snippet"):
            raise Missing(f"{name}: where is it said?")
        for result, how in claim["measured"].items():
            if result.split("-")[0] != name:
                raise Missing(f"{result} is listed under {name}")
            columns = [*how["table"]["rows"], *how["table"]["columns"]]
            rows = found.get(result, {"rows": [{c: 0 for c in columns}]})["rows"]
            lost = [c for c in columns if not any(c in row for row in rows)]
            if lost:
                raise Missing(f"{result}.json has no column {lost[0]!r}")
    return told, found


def word_and_rest(verdict: str) -> tuple[str, str]:
    """A verdict cut after its word: at the first ": ", "; " or ". " that is not within brackets.

    A scope that comes first, as in "on digits: false: ...", belongs to the word.
    """
    text = verdict.strip()
    for i in _cuts(text, ":;."):
        if not (text.startswith("on ") and ":" not in text[:i]):
            return text[:i], text[i + 2 :]
    return text.rstrip("."), ""


def first_figure(rest: str) -> str:
    """``rest`` up to the first "; " or ". " with a number before it; all of it where none is."""
    for i in _cuts(rest, ";."):
        if any(c.isdigit() for c in rest[:i]):
            return rest[:i]
    return rest.rstrip(".")


def _cuts(text: str, signs: str) -> Iterator[int]:
    depth = 0
    for i, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if not depth and sign in signs and text[i + 1 : i + 2] == " ":
            yield i


def spread(values: list[Any]) -> str:
    """Numbers of several seeds as mean (lowest to highest); one value as it is; nothing as ""."""
    if not values:
        return ""
    if any(not isinstance(v, int | float) or isinstance(v, bool) for v in values):
        return ", ".join(dict.fromkeys("–" if v is None else _text(v) for v in values))
    mean = sum(values) / len(values)
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(mean)} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _text(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def cells(
    result: Mapping[str, Any], table: Mapping[str, list[str]]
) -> tuple[list[str], dict[tuple[str, ...], list[str]]]:
    """(columns, names of a row -> its figures); rows of equal names are seeds of one setting."""
    columns = [c for c in table["columns"] if any(c in row for row in result["rows"])]
    several: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        several.setdefault(tuple(_text(row.get(n, "")) for n in table["rows"]), []).append(row)
    return columns, {
        key: [spread([row[c] for row in rows if c in row]) for c in columns]
        for key, rows in several.items()
    }


def figures(result: Mapping[str, Any], table: Mapping[str, list[str]]) -> list[str]:
    """Lines of a table."""
    columns, rows = cells(result, table)
    names = table["rows"]
    head = [_line([*names, *columns]), "|" + "---|" * len(names) + "---:|" * len(columns)]
    return head + [_line([*key, *row]) for key, row in rows.items()]


def lead(result: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Some rows in a sentence, where the table says which: for verdicts without a figure."""
    columns, rows = cells(result, table)
    chosen = [(name, rows[tuple(name.split(" / "))][0]) for name in table.get("lead", [])]
    return f"{columns[0]}: " + ", ".join(f"{n} {v}" for n, v in chosen) if chosen else ""


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def said(claim: Mapping[str, Any]) -> str:
    """Links, or the snippet."""
    links = [f"[{urlparse(u).netloc.removeprefix('www.')}]({u})" for u in claim["said"]]
    return ", ".join(links) or claim["snippet"]


def lessons(claim: Mapping[str, Any]) -> str:
    """Numbers, with links to those that are there."""
    found = {n: next(iter((ROOT / "lessons").glob(f"{n}_*.ipynb")), None) for n in claim["lessons"]}
    return ", ".join(f"[{n}](lessons/{p.name})" if p else n for n, p in found.items())


def measured(
    claim: Mapping[str, Any], found: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str, str]]:
    """(how, result, word, rest of the verdict) of each result of a claim that is there."""
    return [
        (how, found[name], *word_and_rest(found[name]["verdict"]))
        for name, how in claim["measured"].items()
        if name in found
    ]


def brief(claims: Path = CLAIMS, results: Path = RESULTS) -> str:
    """The table of the README: one row a claim."""
    told, found = load(claims, results)
    lines = [
        "| | claim, and where it is said | what was measured, verdict, first figure (lowest to "
        "highest seed) | what would change it | lessons, and again by |",
        "|---|---|---|---|---|",
    ]
    for name, claim in told.items():
        parts, commands = [], []
        for how, result, word, rest in measured(claim, found):
            said_so = [t for t in (first_figure(rest), lead(result, how["table"])) if t]
            text = f": {_text('; '.join(said_so))}" if said_so else ""
            parts.append(f"{_text(how['what'])}: **{_text(word)}**{text}")
            commands.append(f"`{result['command']}`")
        lines.append(_line([
            f"[{name}](data/results/README.md#{name.lower()})",
            f"{claim['claim']} ({said(claim)})",
            "<br>".join(parts) or OPEN,
            claim["change"],
            "<br>".join([lessons(claim), *dict.fromkeys(commands)]),
        ]))  # fmt: skip
    return "\n".join(lines)


def short(claims: Path = CLAIMS, results: Path = RESULTS) -> str:
    """A table to be read at a glance: claim, verdicts, the first figure, lessons."""
    told, found = load(claims, results)
    lines = ["| | claim | verdict, and its first figure (lowest to highest seed) | lessons |",
             "|---|---|---|---|"]  # fmt: skip
    for name, claim in told.items():
        parts, results = [], measured(claim, found)
        for how, result, word, rest in results:
            figure = "" if parts else first_figure(rest) or lead(result, how["table"])
            about = f"{_text(how['what'])}: " if len(results) > 1 else ""
            parts.append(f"{about}**{_text(word)}**" + (f": {_text(figure)}" if figure else ""))
        lines.append(_line([
            f"[{name}](data/results/README.md#{name.lower()})", claim["claim"],
            "<br>".join(dict.fromkeys(parts)) or OPEN, lessons(claim),
        ]))  # fmt: skip
    return "\n".join(lines)


def page(claims: Path = CLAIMS, results: Path = RESULTS) -> str:
    """data/results/README.md: every result with its figures, machine and command."""
    told, found = load(claims, results)
    lines = [INTRO]
    for name, claim in told.items():
        lines += [f"## {name}\n", f"> {claim['claim']}\n", f"Said by: {said(claim)}.\n"]
        where = lessons(claim).replace("](lessons/", "](../../lessons/")
        lines.append(f"Lessons: {where}. What would change it: {claim['change']}\n")
        present = [r for r in claim["measured"] if r in found]
        if not present:
            lines.append(f"**{OPEN[0].upper()}{OPEN[1:]}.**\n")
        for result in present:
            how, kept = claim["measured"][result], found[result]
            word, _ = word_and_rest(kept["verdict"])
            lines += [
                f"### {result}: {how['what']}\n",
                f"**{word}**{kept['verdict'].strip().removeprefix(word)}\n",
                *figures(kept, how["table"]),
                "",
                "; ".join(conditions(kept)) + f". Again: `{kept['command']}`. All of it: "
                f"[{result}.json]({result}.json).\n",
            ]
            if kept.get("longer"):
                lines.append(f"Trained for longer: {kept['longer']}.\n")
            if kept.get("not_shown"):
                lines.append(f"Not shown: {kept['not_shown']}.\n")
    return "\n".join(lines).rstrip() + "\n"


def conditions(result: Mapping[str, Any]) -> list[str]:
    """Seeds, samples, floor, date, machine and versions."""
    found = [f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"]
    if isinstance(result.get("n"), int):
        found.append(f"{result['n']:,} samples a figure")
    if isinstance(result.get("floor"), int | float):
        found.append(f"floor {result['floor']:.3g}")
    found.append(result["date"])
    places = result.get("measured_on") or [result]
    kinds = dict.fromkeys(
        p["machine"].get("gpu") or f"{p['machine']['cpus']} CPUs ({p['machine']['processor']})"
        for p in places
    )
    found.append(" and ".join(kinds))
    found.append(" and ".join(dict.fromkeys(f"torch {p['versions'].get('torch', '?')}"
                                            for p in places)))  # fmt: skip
    return found
