"""What test cells of nbgrader and test files of otter call: a group's points, by the real grader.

Both run a learner's whole notebook in one kernel and grade what they find there. Here the kernel
only asks: the notebook's file is graded as ``course grade`` does it, in a process of its own,
isolated, on the class's inputs and with the earlier exercises supplied, so that the points are
those that the course itself gives. A kernel that runs a learner's code can still be made to lie
about them; where that matters, grade with the course.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from coursework import config, notebook
from coursework.formats import FormatError, rows
from coursework.reports import SubmissionReport

LIMIT = 1800.0
_known: dict[tuple[str, int, int], SubmissionReport] = {}


def points(id: str, group: str) -> float:
    """Points of ``group`` of the exercise ``id``, as the value of a cell; says what is missing.

    While nbgrader autogrades, they are the class's. On a learner's machine they are what
    ``check`` says.
    """
    if os.environ.get("NBGRADER_EXECUTION") == "autograde":
        row = _row(id, group)
        earned, text = row.points, row.text
    else:
        earned, text = _here(id, group)
    if text:
        print(text)
    return earned


def require(id: str, group: str) -> None:
    """Raises ``AssertionError`` with what is missing where the group's points are not reached."""
    row = _row(id, group)
    if not row.passed:
        raise AssertionError(row.text or row.status)


def _here(id: str, group: str) -> tuple[float, str]:
    """(points, what is missing) by the public check of the names in this kernel."""
    from coursework import feedback

    _, result = feedback.run_check(id, feedback.learner_names())
    made = SubmissionReport("", "", id.split(".")[0], "ok", 0, 0, [result])
    row = next(r for r in rows.rows(made) if r.group == group)
    return row.points, row.text


def _row(id: str, group: str) -> rows.Row:
    number = id.split(".")[0]
    try:
        made = report(_notebook(number), number)
    except FormatError as error:
        _give_up(error)
    found = next((r for r in rows.rows(made) if (r.id, r.group) == (id, group)), None)
    if found is not None:
        return found
    why = " ".join(rows.notes(made)) or "it has no such exercise"
    return rows.Row(id, "", group, 0, 1, made.verdict, why)


def _notebook(number: str) -> Path:
    """The notebook of lesson ``number`` in this folder; the only one there is, where none says."""
    here = sorted(Path.cwd().glob("*.ipynb"))
    fitting = []
    for path in here:
        with contextlib.suppress(notebook.InvalidNotebook, OSError):
            if notebook.lesson_of(notebook.read(path)) == number:
                fitting.append(path)
    found = fitting or here
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise FormatError(
            f"one notebook of lesson {number} is wanted in {Path.cwd()}, there are: {names}"
        )
    return found[0]


def report(path: Path, number: str) -> SubmissionReport:
    """The class's report on the notebook in ``path``, made once for each state of the file.

    Raises ``FormatError`` where it could not be made.
    """
    state = path.stat()
    key = str(path), state.st_mtime_ns, state.st_size
    if key not in _known:
        command = [sys.executable, "-P", "-m", "coursework.formats.judged"]
        command += [str(path.resolve()), number]
        # Outside of the learner's folder: no file in it can pass for a module.
        env = {**os.environ, "PYTHONSAFEPATH": "1"}
        try:
            root = config.find().root
            done = subprocess.run(
                command, capture_output=True, text=True, env=env, cwd=root, timeout=LIMIT
            )
            data = json.loads(done.stdout)
            made = SubmissionReport.from_dict(data)
        except config.CourseNotFound as error:
            raise FormatError(str(error)) from None
        except subprocess.TimeoutExpired:
            raise FormatError(f"grading took more than {LIMIT:g} s") from None
        except (ValueError, LookupError, TypeError):
            said = done.stderr.strip()[-1000:]
            raise FormatError(f"the course could not grade this notebook: {said}") from None
        _known[key] = made
    return _known[key]


def _give_up(error: FormatError) -> NoReturn:
    """Ends the kernel: nbgrader and otter would make a fault of the machine into no points."""
    if os.environ.get("COURSE_GIVE_UP") == "raise":
        raise error
    with contextlib.suppress(OSError):
        os.write(2, f"course: {error}\n".encode())
    os._exit(70)


def _main(path: str, number: str) -> None:
    """Prints the report on one notebook. No settings that lie beside it are looked for."""
    from coursework import grader

    print(json.dumps(grader.grade_file(path, lesson=number).to_dict()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
