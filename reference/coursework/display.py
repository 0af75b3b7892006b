"""How a check looks: HTML in a notebook, plain text in a terminal.

The HTML uses no script, no outside resource and JupyterLab's own colours, so that it is readable
in the dark theme, when exported, and by a screen reader. Colours carry nothing that words and
line styles do not.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap

import numpy as np

from coursework import pictures
from coursework.exercise import Exercise
from coursework.results import CaseResult, ExerciseResult

MARKS = {True: "✓", False: "✗"}
TITLES = {
    "passed": "passed",
    "partial": "partly right",
    "failed": "not right yet",
    "not attempted": "not attempted yet",
    "missing": "not found",
    "timeout": "took too long",
    "out of memory": "ran out of memory",
    "crashed": "crashed",
    "forbidden import": "not your own",
}
SHOWN = 2  # failing cases told in full, of each group
BOX = (
    "border-left:4px solid {edge};padding:.4em .8em;margin:.4em 0;max-width:60em;"
    "color:var(--jp-content-font-color1,inherit)"
)
GOOD, BAD, NEUTRAL = "#0072B2", "#D55E00", "#767676"


class Note:
    """A sentence or two for the learner."""

    def __init__(self, text: str, title: str = "") -> None:
        self.text, self.title = text, title

    def __repr__(self) -> str:
        return f"{self.title}: {self.text}" if self.title else self.text

    def _repr_html_(self) -> str:
        title = f"<b>{html.escape(self.title)}</b><br>" if self.title else ""
        return f'<div style="{BOX.format(edge=NEUTRAL)}">{title}{html.escape(self.text)}</div>'


class CheckDisplay:
    """A checked exercise, for display; ``result`` holds everything as data."""

    def __init__(self, exercise: Exercise, result: ExerciseResult, trouble: str = "") -> None:
        self.exercise, self.result, self.trouble = exercise, result, trouble

    @property
    def passed(self) -> bool:
        return self.result.status == "passed"

    def __repr__(self) -> str:
        return text(self.exercise, self.result, self.trouble)

    def _repr_html_(self) -> str:
        return as_html(self.exercise, self.result, self.trouble)


def headline(result: ExerciseResult) -> str:
    """ "02.2 Jump to any noise level: partly right, 3 of 5 points"."""
    status = TITLES.get(result.status, result.status)
    points = f"{result.points} of {result.out_of} points"
    return f"{result.id} {result.title}: {status}, {points}"


def mistake(result: ExerciseResult) -> tuple[str, str]:
    """(title, explanation) of the main finding; ("", "") when there is none."""
    found = result.finding
    if found is None or result.status in ("passed", "not attempted"):
        return "", ""
    if found.kind == "misconception":
        return f"A known mistake: {found.name.replace('-', ' ')}", found.says
    first = next((c for c in result.cases if not c.passed), None)
    where = f" (case: {first.name})" if first else ""
    return "What was seen", f"{found.says}{where}"


def _groups(result: ExerciseResult) -> list[tuple[bool, str, str, list[CaseResult]]]:
    rows = []
    for group, (earned, points) in result.groups.items():
        cases = [c for c in result.cases if c.group == group]
        passed = sum(c.passed for c in cases)
        words = f"{earned} of {points} points, {passed} of {len(cases)} cases"
        rows.append((earned == points, group, words, cases))
    return rows


def _advice(exercise: Exercise, result: ExerciseResult) -> str:
    if result.status == "passed":
        return ""
    if result.status == "not attempted":
        return f"Write {', '.join(exercise.names)}, run its cell, then check again. " + (
            f"Stuck? hint({exercise.id!r})"
        )
    if result.status == "missing":
        return "Run the cell that defines it, then check again."
    return f"A hint costs nothing: hint({exercise.id!r})"


def text(exercise: Exercise, result: ExerciseResult, trouble: str = "", width: int = 100) -> str:
    """The check as plain text, wrapped at ``width`` columns."""
    lines: list[str] = []

    def add(words: str, indent: int = 2) -> None:
        lines.extend(
            textwrap.wrap(
                words,
                width,
                initial_indent=" " * indent,
                subsequent_indent=" " * (indent + 2),
                break_long_words=False,
            )
            or [""]
        )

    add(f"{MARKS[result.status == 'passed']} {headline(result)}", 0)
    title, says = mistake(result)
    if title:
        add(f"{title}. {says}")
    named = result.finding is not None and result.finding.kind == "misconception"
    for ok, group, points, cases in _groups(result) if result.cases else []:
        add(f"{MARKS[ok]} {group}: {points}")
        failing = [c for c in cases if not c.passed]
        # A named mistake explains the rest: one case is enough to see it by.
        shown = failing[: 1 if named else SHOWN]
        for c in shown:
            add(f"{c.name}: {c.finding.says}", 6)
        if len(failing) > len(shown):
            add(f"and {len(failing) - len(shown)} more", 6)
    printed = next((c.stdout for c in result.cases if c.stdout and not c.passed), "")
    if printed:
        add("Your function printed: " + printed.strip()[:500])
    for extra in (_advice(exercise, result), trouble):
        if extra:
            add(extra)
    return "\n".join(lines)


def as_html(exercise: Exercise, result: ExerciseResult, trouble: str = "") -> str:
    """The check as a self-contained piece of HTML."""
    ok = result.status == "passed"
    edge = GOOD if ok else NEUTRAL if result.status == "not attempted" else BAD
    esc = html.escape
    parts = [
        f'<div role="status" style="{BOX.format(edge=edge)}">',
        f"<b>{MARKS[ok]} {esc(headline(result))}</b>",
    ]
    title, says = mistake(result)
    if title:
        parts.append(f'<p style="margin:.4em 0"><b>{esc(title)}.</b> {esc(says)}</p>')
    if result.cases and not ok:
        parts.append(_case_list(result))
        picture = best_picture(result)
        if picture:
            parts.append(picture)
        printed = next((c.stdout for c in result.cases if c.stdout and not c.passed), "")
        if printed:
            parts.append(
                f"<details><summary>What your function printed</summary>"
                f"<pre>{esc(printed[:2000])}</pre></details>"
            )
    elif result.cases:
        done = "; ".join(f"{group} ({points})" for _, group, points, _ in _groups(result))
        parts.append(f"<br><small>{esc(done)}</small>")
    for extra in (_advice(exercise, result), trouble):
        if extra:
            parts.append(f'<p style="margin:.4em 0"><small>{esc(extra)}</small></p>')
    parts.append("</div>")
    return "".join(parts)


def _case_list(result: ExerciseResult) -> str:
    esc = html.escape
    named = result.finding is not None and result.finding.kind == "misconception"
    rows = []
    for ok, group, points, cases in _groups(result):
        failing = [c for c in cases if not c.passed]
        shown = failing[: 1 if named else SHOWN]
        inner = "".join(f"<li>{esc(c.name)}: {esc(c.finding.says)}</li>" for c in shown)
        if len(failing) > len(shown):
            inner += f"<li>and {len(failing) - len(shown)} more</li>"
        inner = f'<ul style="margin:.1em 0 .3em 1.2em">{inner}</ul>' if inner else ""
        rows.append(f"<li>{MARKS[ok]} {esc(group)}: {esc(points)}{inner}</li>")
    return f'<ul style="list-style:none;padding-left:.2em;margin:.3em 0">{"".join(rows)}</ul>'


def best_picture(result: ExerciseResult) -> str:
    """Yours against the expected for the first failing case that can be drawn; "" if none."""
    picture = pictures.best(result)
    if picture is None:
        return ""
    name, got, expected = html.escape(picture.case), picture.got, picture.expected
    if picture.kind == "curve":
        drawn = _svg(got, expected)
        return f"<div><small>Case: {name}</small><br>{drawn}</div>" if drawn else ""
    images = "".join(
        f'<figure style="display:inline-block;margin:.2em .8em .2em 0">{_png(a, expected)}'
        f"<figcaption><small>{label}</small></figcaption></figure>"
        for a, label in ((got, "yours"), (expected, "expected"))
    )
    return f"<div><small>Case: {name}, image {picture.place}</small><br>{images}</div>"


def _png(image: np.ndarray, like: np.ndarray) -> str:
    from PIL import Image

    low, high = float(np.nanmin(like)), float(np.nanmax(like))
    scaled = (np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-12)
    pixels = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    factor = max(1, 112 // max(pixels.shape))
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{image.shape[0]} by {image.shape[1]} values as grey levels" ' + (
        f'src="data:image/png;base64,{data}">'
    )


def _svg(got: np.ndarray, expected: np.ndarray, width: int = 420, height: int = 150) -> str:
    if len(expected) > 400:
        keep = np.linspace(0, len(expected) - 1, 400).astype(int)
        got, expected = got[keep], expected[keep]
    both = np.concatenate([got, expected])
    finite = both[np.isfinite(both)]
    if not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    if math.isclose(low, high):
        low, high = low - 1, high + 1
    pad = 8

    def path(values: np.ndarray) -> str:
        n = len(values)
        points, pen = [], "M"
        for i, v in enumerate(values):
            if not np.isfinite(v):
                pen = "M"
                continue
            x = pad + (width - 2 * pad) * i / max(n - 1, 1)
            y = height - pad - (height - 2 * pad) * (v - low) / (high - low)
            points.append(f"{pen}{x:.1f},{y:.1f}")
            pen = "L"
        return "".join(points)

    label = (
        f"Two curves over {len(expected)} places, from {low:.3g} to {high:.3g}: expected, solid, "
        "and yours, dashed"
    )
    return (
        f'<svg role="img" aria-label="{label}" width="{width}" height="{height + 18}" '
        f'viewBox="0 0 {width} {height + 18}" style="max-width:100%">'
        f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" fill="none" '
        f'stroke="{NEUTRAL}" stroke-width="0.5"/>'
        f'<path d="{path(expected)}" fill="none" stroke="{GOOD}" stroke-width="2.5"/>'
        f'<path d="{path(got)}" fill="none" stroke="{BAD}" stroke-width="2" '
        f'stroke-dasharray="6 4"/>'
        f'<g font-size="12" fill="currentColor"><text x="{pad}" y="{height + 13}">'
        f"— expected &#160;&#160; - - yours &#160;&#160; {low:.3g} to {high:.3g}</text></g></svg>"
    )
