"""Makes lessons from solutions: one source, two notebooks.

``solutions/NN_slug.py`` (percent format) is what people write and review. From it come
``lessons/NN_slug.ipynb``, with stubs in place of answers and no output, and
``solutions/NN_slug.ipynb``, executed. The same source gives the same bytes, except for what the
executed cells themselves show.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import re
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coursework import checks as checks_of
from coursework.config import Course
from coursework.exercise import Checks, Exercise
from coursework.notebook import CALLS_CHECK, Cell, read

SOURCE_NAME = re.compile(r"^(\d\d[a-z]?)_[\w-]+\.py$")
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
HEADER = re.compile(r"<!--\s*lesson-header\s*-->")
EXERCISE = re.compile(r"<!--\s*exercise\s+(\S+?)\s*-->")
OUTPUT_LIMIT = 1_500_000
READING_SPEED = 150  # words a minute, for text with mathematics in it
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")


class BuildError(Exception):
    """A source cannot be built; the message names the file, the cell and what is wanted."""


@dataclass(frozen=True)
class Source:
    """One ``solutions/NN_slug.py`` with the checks of its lesson (None where it has none)."""

    course: Course
    number: str
    path: Path

    @property
    def lesson_path(self) -> Path:
        return self.course.lessons / f"{self.path.stem}.ipynb"

    @property
    def solution_path(self) -> Path:
        return self.path.with_suffix(".ipynb")

    @cached_property
    def cells(self) -> list[Cell]:
        return read(self.path).cells

    @cached_property
    def checks(self) -> Checks | None:
        if self.number not in checks_of.lessons(self.course):
            return None
        return checks_of.load(self.number, self.course, answers=False)

    @property
    def exercises(self) -> dict[str, Exercise]:
        return self.checks.exercises if self.checks else {}

    @cached_property
    def digest(self) -> str:
        """Of everything a lesson is made from: the source and the exercises' texts."""
        files = [self.path, self.course.checks / f"lesson_{self.number}.py"]
        return _digest(f for f in files if f.is_file())


def _digest(files: Any) -> str:
    found = hashlib.sha256()
    for file in files:
        text = file.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{file.name}\0{len(text)}\0".encode() + text)
    return found.hexdigest()[:16]


def checks_version(course: Course, number: str) -> str:
    """Which checks a lesson was made with: changes when its cases, judges or answers do."""
    names = (f"lesson_{number}.py", f"answers/lesson_{number}.py")
    return _digest(f for n in names if (f := course.checks / n).is_file())


def sources(course: Course, numbers: list[str] | None = None) -> list[Source]:
    """The sources of the lessons ``numbers`` (all of them), in order; unknown numbers raise."""
    found = {
        m[1]: Source(course, m[1], p)
        for p in sorted(course.solutions.glob("*.py"))
        if (m := SOURCE_NAME.match(p.name))
    }
    unknown = [n for n in numbers or () if n not in found]
    if unknown:
        raise BuildError(
            f"there is no lesson {', '.join(unknown)} in {course.solutions.name}/ "
            f"(there are: {', '.join(found) or 'none'})"
        )
    return [found[n] for n in sorted(set(numbers or found))]


# What both notebooks have in common


def header(source: Source) -> str:
    """What the lesson takes and gives: minutes, points, a table of its exercises."""
    exercises = sorted(source.exercises.values(), key=lambda e: [*map(int, e.id.split("."))])
    words = sum(len(c.source.split()) for c in source.cells if c.kind == "markdown")
    minutes = words / READING_SPEED + sum(e.minutes for e in exercises if e.core)
    extra = sum(e.minutes for e in exercises if not e.core)
    lines = [f"*About {_round(minutes)} minutes" + " for the core" * bool(extra)]
    if extra:
        lines[0] += f" and {_round(extra)} for the extras"
    lines[0] += " (an estimate)."
    if not source.exercises:
        return lines[0] + " Nothing is graded here.*"
    core = sum(e.out_of for e in exercises if e.core)
    total = sum(e.out_of for e in exercises)
    lines[0] += f" {total} points" + (f", {core} of them core" if core < total else "") + ".*"
    lines += ["", "| exercise | | difficulty | minutes | points |", "|---|---|---|---|---|"]
    for e in exercises:
        kind = "core" if e.core else "extra"
        lines.append(f"| {e.id} {e.title} | {kind} | {dots(e)} | {e.minutes} | {e.out_of} |")
    return "\n".join(lines)


def _round(minutes: float) -> int:
    return max(5, 5 * round(minutes / 5))


def dots(exercise: Exercise) -> str:
    """Difficulty from ●○○○○ to ●●●●●."""
    return ("●" * exercise.difficulty).ljust(5, "○")[:5]


def exercise_block(exercise: Exercise) -> str:
    """Heading of an exercise, what it is worth and where its hints are."""
    e = exercise
    groups = ", ".join(f"{group} {points}" for group, points in e.points.items())
    worth = f"{e.out_of} point{'s' * (e.out_of > 1)}"
    if len(e.points) > 1:
        worth += f" ({groups})"
    kind = "core" if e.core else "extra"
    count = len(e.hints)
    stages = "there is 1 hint" if count == 1 else f"there are {count}, one at a time"
    return (
        f"<!-- exercise {e.id} -->\n### Exercise {e.id} · {e.title}\n\n"
        f"*{kind} · difficulty {dots(e)} · about {e.minutes} minutes · {worth}*\n\n"
        f'Stuck? Run `hint("{e.id}")`: {stages}. Hints cost nothing.'
    )


def _markdown(source: Source, text: str) -> str:
    text = HEADER.sub(lambda _: header(source), text)

    def block(match: re.Match) -> str:
        if match[1] not in source.exercises:
            raise BuildError(f"{source.path.name}: exercise {match[1]} is not in the checks")
        return exercise_block(source.exercises[match[1]]) + "\n"

    return EXERCISE.sub(block, text).strip("\n")


def stub(text: str, id: str) -> str:
    """The source of an answer with every solution replaced by ``raise NotImplementedError``."""
    lines, inside, names = [], False, []
    for line in text.split("\n"):
        word = line.strip()
        opened = re.match(r"(\s*)(?:async\s+)?(?:def|class)\s+(\w+)", line)
        if opened and not inside:
            depth = len(opened[1])
            names = [(d, n) for d, n in names if d < depth] + [(depth, opened[2])]
        if word == BEGIN:
            indent = line[: len(line) - len(line.lstrip())]
            within = [n for d, n in names if d < len(indent)]
            what = ".".join(within) or "your answer"
            lines.append(f'{indent}raise NotImplementedError("{id}: write {what}")')
            inside = True
        elif word == END:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def without_markers(text: str) -> str:
    """The source of an answer with the solution's markers taken out."""
    return "\n".join(x for x in text.split("\n") if x.strip() not in (BEGIN, END))


def compose(source: Source, lesson: bool) -> dict:
    """The lesson's notebook, or the solution's before it is executed, as format 4.5."""
    cells: list[dict] = []
    used: Counter = Counter()
    for cell in source.cells:
        tags = list(cell.tags)
        if lesson and "solution-only" in tags:
            continue
        text = cell.source
        if cell.kind == "markdown":
            text = _markdown(source, text)
        elif "answer" in tags:
            text = stub(text, cell.exercise) if lesson else without_markers(text)
        if not lesson and "compare" in tags:
            tags.append("nbval-check-output")
        metadata = {k: v for k, v in cell.metadata.items() if k != "tags"}
        if tags:
            metadata["tags"] = tags
        made = {
            "cell_type": cell.kind,
            "id": _cell_id(source, cell, used),
            "metadata": metadata,
            "source": text,
        }
        if cell.kind == "code":
            made.update(execution_count=None, outputs=[])
        cells.append(made)
    own = {
        "lesson": source.number,
        "course": _course_version(source.course),
        "checks_version": checks_version(source.course, source.number),
        "source_version": source.digest,
    }
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {**copy.deepcopy(KERNEL), "coursework": own},
        "cells": cells,
    }


def _cell_id(source: Source, cell: Cell, used: Counter) -> str:
    """The same after an update where the cell is the same: editors and merges rely on it."""
    about = EXERCISE.search(cell.source) if cell.kind == "markdown" else None
    id = cell.exercise or (about[1] if about else "")
    kind = next((t for t in ("answer", "remark") if t in cell.tags), "exercise" if about else "")
    if id and kind:
        name = f"{kind}-{id.replace('.', '-')}"
    else:
        name = hashlib.sha256(f"{source.number}\0{cell.kind}\0{cell.source}".encode()).hexdigest()
        name = name[:10]
    used[name] += 1
    return name if used[name] == 1 else f"{name}-{used[name]}"


def _course_version(course: Course) -> str:
    with open(course.root / "pyproject.toml", "rb") as f:
        project = tomllib.load(f).get("project", {})
    return f"{course.title} {project.get('version', '0')}"


def dumps(notebook: dict) -> str:
    """The notebook as text, always the same for the same content."""
    tree = copy.deepcopy(notebook)
    for cell in tree["cells"]:
        cell["source"] = cell["source"].splitlines(True)
    return json.dumps(tree, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write(path: Path, notebook: dict) -> bool:
    """Writes the notebook whole or not at all; False when it was the same already."""
    text = dumps(notebook)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    return True


# Executing


@contextlib.contextmanager
def quiet_room(
    course: Course, budget: str, results: Path | None, command: str = ""
) -> Iterator[tuple[Path, dict]]:
    """An empty folder and an environment without the user's own settings, to execute in.

    command: what results are to name as the way to measure them again.
    """
    with tempfile.TemporaryDirectory(prefix="course-build-") as folder:
        env = {
            **os.environ,
            "COURSE_ROOT": str(course.root),
            "COURSE_PROGRESS": "off",
            "IPYTHONDIR": str(Path(folder) / ".ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYTHONHASHSEED": "0",
            "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path(folder) / ".matplotlib")),
        }
        prefix = course.library.upper()
        for name in (f"{prefix}_BUDGET", f"{prefix}_RESULTS", f"{prefix}_COMMAND"):
            env.pop(name, None)
        env[f"{prefix}_STATIC"] = "1"  # nobody is there to move a slider
        if budget != "full":
            env[f"{prefix}_BUDGET"] = budget
        if results:
            results.mkdir(parents=True, exist_ok=True)
            env[f"{prefix}_RESULTS"] = str(results.resolve())
            env[f"{prefix}_COMMAND"] = command
        yield Path(folder), env


def execute(
    source: Source,
    budget: str = "full",
    results: Path | None = None,
    timeout: int = 900,
    progress: Any = None,
) -> dict:
    """The solution's notebook with its outputs. Raises ``BuildError`` for a cell that fails."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.from_dict(compose(source, lesson=False))
    name = source.path.name
    command = f"course build {source.number} --record data/results"
    with quiet_room(source.course, budget, results, command) as (folder, env):
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--IPKernelApp.log_level=40"],
            on_cell_executed=progress,
        )
        try:
            client.execute(env=env)
        except CellExecutionError as error:
            raise BuildError(f"{name}: a cell fails\n{error}") from None
        except (CellTimeoutError, DeadKernelError) as error:
            raise BuildError(f"{name}: {error}") from None
    done = json.loads(json.dumps(notebook))
    for cell in done["cells"]:
        if isinstance(cell["source"], list):
            cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["outputs"] = [_stable(o) for o in cell["outputs"]]
    done["metadata"] = {
        **copy.deepcopy(KERNEL),
        "coursework": {**done["metadata"]["coursework"], "budget": budget},
    }
    _refuse_heavy(name, done)
    return done


def _stable(output: dict) -> dict:
    """Without what differs from run to run: addresses, and all but the end of progress bars."""
    output = {k: v for k, v in output.items() if k != "transient"}
    if output.get("output_type") == "stream":
        lines = _text(output["text"]).split("\n")
        output["text"] = ADDRESS.sub("0x...", "\n".join(x.split("\r")[-1] for x in lines))
    data = output.get("data")
    if isinstance(data, dict):
        output["data"] = {
            k: ADDRESS.sub("0x...", _text(v)) if k.startswith("text/") else v
            for k, v in data.items()
            if k != "application/vnd.jupyter.widget-view+json"
        }
    return output


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else value


def _refuse_heavy(name: str, notebook: dict) -> None:
    sizes = [
        (len(json.dumps(c["outputs"])), i)
        for i, c in enumerate(notebook["cells"], 1)
        if c["cell_type"] == "code"
    ]
    total = sum(size for size, _ in sizes)
    if total > OUTPUT_LIMIT:
        size, i = max(sizes)
        first = notebook["cells"][i - 1]["source"].strip().split("\n")[0]
        raise BuildError(
            f"{name}: the outputs have {total / 1e6:.1f} MB, more than the "
            f"{OUTPUT_LIMIT / 1e6:.1f} MB allowed; the heaviest is cell {i} with "
            f"{size / 1e6:.1f} MB ({first})"
        )


# What is stale


def with_old_outputs(source: Source) -> dict | None:
    """The solution's notebook with the outputs of the last run, where no code has changed.

    Where the checks have, the solution's answers are graded by them, in isolation as submissions
    are, and the outputs of the cells that check become what the checks say now. None when a code
    cell or the budget differs, or an answer does not pass: then it has to be executed.
    """
    wanted = compose(source, lesson=False)
    try:
        built = json.loads(source.solution_path.read_text(encoding="utf-8"))
        own = built["metadata"]["coursework"]
        old = [c for c in built["cells"] if c["cell_type"] == "code"]
        texts = ["".join(c["source"]) for c in old]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    new = [c for c in wanted["cells"] if c["cell_type"] == "code"]
    if own.get("budget") != "full" or texts != [c["source"] for c in new]:
        return None
    for cell, before in zip(new, old):
        cell.update(execution_count=before["execution_count"], outputs=before["outputs"])
    other_checks = own.get("checks_version") != wanted["metadata"]["coursework"]["checks_version"]
    if other_checks and not _check_again(source, new):
        return None
    wanted["metadata"] = {
        **copy.deepcopy(KERNEL),
        "coursework": {**wanted["metadata"]["coursework"], "budget": "full"},
    }
    return wanted


def _check_again(source: Source, cells: list[dict]) -> bool:
    """Puts what the checks say now under the cells that check; False where one does not pass."""
    from coursework import display
    from coursework.feedback import PUBLIC_SEED
    from coursework.grader import grade_file

    report = grade_file(source.solution_path, source.course, source.number, PUBLIC_SEED)
    results = {r.id: r for r in report.exercises}
    for cell in cells:
        if "check" not in cell["metadata"].get("tags", ()):
            continue
        called = CALLS_CHECK.fullmatch(cell["source"].strip().removesuffix(")"))
        found = results.get(called[1]) if called else None
        if found is None or found.status != "passed" or len(cell["outputs"]) != 1:
            return False
        shown = display.CheckDisplay(source.exercises[found.id], found)
        cell["outputs"][0]["data"] = {
            "text/html": shown._repr_html_(),
            "text/plain": repr(shown),
        }
    return True


def stale(source: Source) -> list[str]:
    """Which of the lesson's two notebooks is not what the source gives now, and why."""
    name = f"{source.course.lessons.name}/{source.lesson_path.name}"
    found = []
    if not source.lesson_path.is_file():
        found.append(f"{name} is missing")
    elif source.lesson_path.read_text(encoding="utf-8") != dumps(compose(source, lesson=True)):
        found.append(f"{name} is not what {source.path.name} gives")
    name = f"{source.course.solutions.name}/{source.solution_path.name}"
    if not source.solution_path.is_file():
        return [*found, f"{name} is missing"]
    try:
        built = json.loads(source.solution_path.read_text(encoding="utf-8"))
        own = built["metadata"]["coursework"]
        texts = ["".join(c["source"]) for c in built["cells"]]
    except (ValueError, KeyError, TypeError):
        return [*found, f"{name} is damaged"]
    wanted = compose(source, lesson=False)
    expected = wanted["metadata"]["coursework"]
    draft = source.number in source.course.drafts
    if own.get("budget") == "full" and draft:
        found.append(f"{name} was executed with the full budget: it is no draft any more")
    elif own.get("budget") != "full" and not draft:
        found.append(f"{name} was executed with the {own.get('budget')} budget")
    if own.get("checks_version") != expected["checks_version"]:
        found.append(f"{name} was executed with other checks")
    elif texts != [c["source"] for c in wanted["cells"]]:
        found.append(f"{name} was executed from another {source.path.name}")
    return found


def orphans(course: Course) -> list[str]:
    """Notebooks whose source is gone."""
    known = {s.path.stem for s in sources(course)}
    return [
        f"{folder.name}/{p.name} has no source"
        for folder in (course.lessons, course.solutions)
        for p in sorted(folder.glob("*.ipynb"))
        if p.stem not in known
    ]
