"""otter-grader: the ``autograder.zip`` that grades a lesson with ``otter run``.

It holds ``otter_config.json`` (``otter.run.run_autograder.AutograderConfig``) and, in ``tests``, a
file for each exercise in otter's exception-based format (``OK_FORMAT = False``; a ``test_case`` for
each group of cases). A plugin takes the learner's cells out before otter runs the notebook: they
run where the course's grader runs them, isolated, and nowhere else. Tried with otter-grader 7.0.0.

otter's environment must have the course installed, with its answers.
"""

from __future__ import annotations

import re
from pathlib import Path

from coursework import checks as checks_of
from coursework.config import Course
from coursework.exercise import Exercise
from coursework.formats import bundle
from coursework.formats.rows import EVERYTHING, Visibility

PLUGIN = "coursework.formats.otter_plugin.Elsewhere"
TEST = '''"""Exercise {id}, for otter-grader: made by `course export otter`."""

from otter.test_files import test_case

OK_FORMAT = False
name = {id!r}
points = None
all_or_nothing = False
'''
CASE = """

@test_case(name={name!r}, points={points!r}, hidden={hidden!r})
def test_{number}():
    from coursework.formats import judged

    judged.require({id!r}, {group!r})
"""


def autograder(
    course: Course, number: str, target: Path, visibility: Visibility = EVERYTHING
) -> list[str]:
    """Writes the zip that grades lesson ``number``; the names in it, sorted."""
    bundle.require_answers(course)
    exercises = checks_of.load(number, course.root, answers=False)
    visibility.check({e.id: tuple(e.points) for e in exercises})
    contents: dict[str, bytes | Path] = {
        f"tests/q{e.id.replace('.', '_')}.py": test_file(e, visibility).encode() for e in exercises
    }
    contents["otter_config.json"] = bundle.dumps(
        {
            "lang": "python",
            "points_possible": sum(e.out_of for e in exercises),
            "plugins": [PLUGIN],
            "pdf": False,
        }
    )
    bundle.zipped(target, contents, ())
    return sorted(contents)


def test_file(exercise: Exercise, visibility: Visibility = EVERYTHING) -> str:
    """The tests of one exercise: a case for each group."""
    text = TEST.format(id=exercise.id)
    for number, (group, points) in enumerate(exercise.points.items(), 1):
        name = f"{exercise.id} {exercise.title}" + (f": {group}" if group != "main" else "")
        text += CASE.format(
            name=re.sub(r"\s+", " ", name),
            points=points,
            hidden=visibility.of(exercise.id, group) != "visible",
            number=number,
            id=exercise.id,
            group=group,
        )
    return text


test_file.__test__ = False  # for pytest: its name begins with test
