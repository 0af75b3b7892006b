"""nbgrader: a lesson as a source assignment, and its grades as CSV.

Cells have metadata of schema version 3 (``nbgrader.nbgraderformat.v3``): answers are solution
cells, whose ``BEGIN SOLUTION`` regions ``nbgrader generate_assignment`` takes out, and behind each
exercise stands a locked test cell for each group of its cases. Its value is the group's points,
which nbgrader takes as partial credit (``nbgrader.utils.determine_grade``). Tried with nbgrader
0.9.6, whose environment must have the course installed, with its answers.

``nbgrader export`` writes CSV without quotes (``plugins/export.py``), so a name with a comma
shifts its row; it is read from both ends.
"""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coursework import build
from coursework.exercise import Exercise
from coursework.formats import FormatError
from coursework.notebook import CALLS_CHECK
from coursework.reports import SubmissionReport

SCHEMA_VERSION = 3
COLUMNS = (
    "assignment",
    "duedate",
    "timestamp",
    "student_id",
    "last_name",
    "first_name",
    "email",
    "raw_score",
    "late_submission_penalty",
    "score",
    "max_score",
)
TEST = """# {points} point{s}. This cell is locked; its value is the points.
from coursework.formats import judged

judged.points({id!r}, {group!r})"""

CONFIG = """# Settings of nbgrader for lessons that `course export nbgrader` wrote.
import os

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader import preprocessors as of_nbgrader

from coursework.formats.nbgrader_plugin import Elsewhere

c = get_config()  # noqa: F821
# Answers run in the course's own grader, isolated, and in no kernel of nbgrader's. Without this,
# nbgrader runs each notebook whole, and its test cells ask the same grader.
c.Autograde.autograde_preprocessors = [
    Elsewhere,
    of_nbgrader.IgnorePattern,
    ClearMetadataPreprocessor,
    of_nbgrader.LimitOutput,
    of_nbgrader.SaveAutoGrades,
    of_nbgrader.AssignLatePenalties,
    of_nbgrader.CheckCellMetadata,
]
c.CourseDirectory.course_id = {course_id!r}
# The first test cell grades the whole notebook; some lessons train something.
c.Execute.timeout = 1800
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError()"}}
os.environ.setdefault("COURSE_PROGRESS", "off")
os.environ.setdefault({budget!r}, "small")
"""


def assignment(source: build.Source) -> dict[str, Any]:
    """The lesson as a notebook for nbgrader's ``source`` folder, solutions in it."""
    if not source.checks:
        raise FormatError(f"lesson {source.number} has no exercises to grade")
    kept = [c for c in source.cells if "solution-only" not in c.tags]
    made = build.compose(source, lesson=True)
    last: dict[str, int] = {}
    for i, (cell, out) in enumerate(zip(kept, made["cells"], strict=True)):
        if "answer" in cell.tags:
            out["source"] = cell.source
            count = sum(c.exercise == cell.exercise and "answer" in c.tags for c in kept[:i])
            name = f"answer-{cell.exercise.replace('.', '-')}"
            out["metadata"]["nbgrader"] = _metadata(
                name if not count else f"{name}-{count + 1}", solution=True
            )
        ids = [cell.exercise] if cell.exercise else CALLS_CHECK.findall(cell.source)
        if cell.kind == "code":
            last.update({id: i for id in ids if id in source.exercises})
    missing = [id for id in source.exercises if id not in last]
    if missing:
        raise FormatError(f"lesson {source.number} has no cell of exercise {', '.join(missing)}")
    cells: list[dict[str, Any]] = []
    for i, out in enumerate(made["cells"]):
        cells.append(out)
        for id, where in last.items():
            if where == i:
                cells += _tests(source.exercises[id])
    made["cells"] = cells
    return made


def _metadata(grade_id: str, solution: bool = False, points: float | None = None) -> dict:
    grade = points is not None
    data = {
        "schema_version": SCHEMA_VERSION,
        "grade_id": grade_id,
        "grade": grade,
        "solution": solution,
        "locked": grade,
        "task": False,
        "cell_type": "code",
    }
    return {**data, "points": points} if grade else data


def _tests(exercise: Exercise) -> list[dict[str, Any]]:
    made = []
    for number, (group, points) in enumerate(exercise.points.items(), 1):
        name = f"test-{exercise.id.replace('.', '-')}-{number}"
        text = TEST.format(points=points, s="s" * (points != 1), id=exercise.id, group=group)
        made.append(
            {
                "cell_type": "code",
                "id": name,
                "metadata": {
                    "deletable": False,
                    "editable": False,
                    "nbgrader": _metadata(name, points=points),
                },
                "source": text,
                "execution_count": None,
                "outputs": [],
            }
        )
    return made


def export(source: build.Source, folder: Path) -> list[Path]:
    """Writes ``source/NN_slug/NN_slug.ipynb`` and, where there is none, ``nbgrader_config.py`` into
    ``folder``, a course folder of nbgrader's. The files written or found."""
    name = source.path.stem
    target = folder / "source" / name / f"{name}.ipynb"
    build.write(target, copy.deepcopy(assignment(source)))
    settings = folder / "nbgrader_config.py"
    if not settings.exists():
        slug = re.sub(r"\W+", "-", source.course.title.lower()).strip("-") or "course"
        budget = f"{source.course.library.upper()}_BUDGET"
        text = CONFIG.format(course_id=slug, budget=budget)
        settings.write_text(text, encoding="utf-8", newline="\n")
    return [target, settings]


@dataclass(frozen=True)
class Grade:
    """One row of nbgrader's CSV. submitted: when, "" where that is not told."""

    assignment: str
    student: str
    submitted: str
    score: float
    max_score: float

    @property
    def lesson(self) -> str:
        """The lesson that the assignment is named after ("02"), or ""."""
        found = re.match(r"(\d\d)[_-]", self.assignment)
        return found[1] if found else ""


def read_grades(text: str) -> list[Grade]:
    """The rows of a CSV that ``nbgrader export`` wrote. Raises ``FormatError`` for another."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or tuple(lines[0].split(",")) != COLUMNS:
        raise FormatError(
            f"this is no CSV of nbgrader's: its header is {','.join(COLUMNS)} (`nbgrader export`)"
        )
    found = []
    for number, line in enumerate(lines[1:], 2):
        parts = line.split(",")
        try:
            if len(parts) < len(COLUMNS):
                raise ValueError(f"{len(parts)} fields")
            score, maximum = float(parts[-2]), float(parts[-1])
            if not 0 <= score <= maximum < float("inf"):
                raise ValueError(f"{score} of {maximum} points")
        except ValueError as error:
            raise FormatError(f"line {number} of nbgrader's CSV: {error}") from None
        found.append(Grade(parts[0], parts[3], parts[2], score, maximum))
    return found


def reports(grades: list[Grade]) -> list[SubmissionReport]:
    """Grades of lessons as reports for a gradebook: points, and where they come from.

    What was not handed in is left out, as far as the sheet tells: nbgrader writes no time for it,
    nor for anything where submissions came without times. An assignment that is not named after a
    lesson raises.
    """
    made = []
    for g in grades:
        if not handed_in(g, grades):
            continue
        if not g.lesson:
            raise FormatError(
                f"the assignment {g.assignment!r} is of no lesson: its name begins 01_ or the like"
            )
        text = repr((g.assignment, g.student, g.submitted, g.score, g.max_score))
        made.append(
            SubmissionReport(
                g.student,
                f"nbgrader:{g.assignment}/{g.student}",
                g.lesson,
                "ok",
                _whole(g.score),
                _whole(g.max_score),
                level="nbgrader",
                isolation="graded by nbgrader, which runs answers without isolation",
                isolated=False,
                notes=["Imported from nbgrader's CSV."],
                submission=hashlib.sha256(text.encode()).hexdigest(),
                checks="nbgrader",
                environment="nbgrader",
            )
        )
    return made


def handed_in(grade: Grade, grades: list[Grade]) -> bool:
    """Whether ``grade`` is of something handed in; True where no row of its assignment is timed."""
    timed = any(g.submitted for g in grades if g.assignment == grade.assignment)
    return bool(grade.submitted or grade.score) or not timed


def _whole(value: float) -> Any:
    return int(value) if value == int(value) else value
