"""Private variants: a teacher's own exercises in place of the public ones, and hidden cases.

A folder that is not part of the course, with any of

- ``lesson_05.py`` and ``answers/lesson_05.py``: exercises (and their answers) that replace those of
  the same id, or add new ones;
- ``hidden_05.py``: more cases, which a bundle never holds: ``@name.more_cases``, where ``name`` is
  what the lesson's checks call the exercise;
- ``05_training.py``: the lesson's source with the variants' texts, in place of the public one.

Each is read as if it stood at the end of the course's own file: names of that file can be used.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from coursework import checks as checks_of
from coursework.config import Course
from coursework.errors import GradingError
from coursework.fingerprints import Statements
from coursework.names import nearest

KNOWN = re.compile(r"^(?:(?P<kind>lesson|hidden)_(?P<number>\d\d)|(?P<source>\d\d)_[\w-]+)\.py$")


class VariantError(GradingError):
    """A folder of variants that cannot be used; the message names the file and what is wanted."""

    exit_code = 7


@contextmanager
def applied(course: Course, folder: Path, hidden: bool = True) -> Iterator[Course]:
    """The course with the variants in ``folder``, while the context lasts. hidden: with the hidden
    cases. The course's own files stay as they are."""
    wanted = _files(course, folder, hidden)
    with tempfile.TemporaryDirectory(prefix="variants-") as place:
        checks, solutions = Path(place) / "checks", Path(place) / "solutions"
        ignore = shutil.ignore_patterns("__pycache__", "test_*", "conftest.py")
        shutil.copytree(course.checks, checks, ignore=ignore)
        solutions.mkdir()
        for path in sorted(course.solutions.glob("*.py")):
            shutil.copyfile(path, solutions / path.name)
        for file, target in wanted:
            if target.startswith("solutions/"):
                for old in solutions.glob(f"{file.name[:2]}_*.py"):
                    old.unlink()
                shutil.copyfile(file, solutions / file.name)
            else:
                _append(checks / target.removeprefix("checks/"), file)
        made = replace(course, checks=checks, solutions=solutions)
        for number in sorted({t[-5:-3] for _, t in wanted if t.startswith("checks/")}):
            _try(made, number, folder)
        yield made


def _files(course: Course, folder: Path, hidden: bool) -> list[tuple[Path, str]]:
    """(file of the folder, where it belongs), in the order in which they are read."""
    if not folder.is_dir():
        raise VariantError(f"{folder} is not a folder of variants")
    found = []
    own = {p.name for p in folder.iterdir() if p.suffix == ".py"}
    for name in sorted(own):
        match = KNOWN.match(name)
        if not match:
            near = nearest(name, ["lesson_05.py", "hidden_05.py"])
            raise VariantError(
                f"{folder / name} is no part of variants: wanted are lesson_NN.py, hidden_NN.py, "
                f"NN_slug.py and answers/lesson_NN.py{near}"
            )
        number = match["number"] or match["source"]
        if number not in checks_of.lessons(course):
            raise VariantError(f"{folder / name}: the course has no lesson {number} with checks")
        if match["source"]:
            found.append((folder / name, f"solutions/{name}"))
        elif match["kind"] == "lesson":
            found.insert(0, (folder / name, f"checks/{name}"))
        elif hidden:
            found.append((folder / name, f"checks/lesson_{number}.py"))
    answers = folder / "answers"
    for path in sorted(answers.glob("*.py")) if answers.is_dir() else ():
        if path.name not in own or not path.name.startswith("lesson_"):
            raise VariantError(f"{path} answers exercises of no {path.name} beside it")
        found.append((path, f"checks/answers/{path.name}"))
    if not any(t for _, t in found) and not own:
        raise VariantError(f"{folder} holds no variants")
    return found


def _append(target: Path, file: Path) -> None:
    """Puts ``file`` behind ``target``; nothing that other exercises use may change its meaning."""
    text = file.read_text(encoding="utf-8")
    try:
        theirs = Statements(text)
    except SyntaxError as error:
        raise VariantError(f"{file}, line {error.lineno}: {error.msg}") from None
    whole = target.read_text(encoding="utf-8")
    course = Statements(whole)
    new = set().union(*theirs.bound) if theirs.bound else set()
    imported = {
        n for s, b in zip(theirs.body, theirs.bound) for n in b
        if isinstance(s, (ast.Import, ast.ImportFrom))
    }  # fmt: skip
    for id in set(course.makers) - set(theirs.makers):
        places = course.of(id) or range(len(course.body))
        names = set().union(*(course.used[i] | course.bound[i] for i in places))
        if clash := sorted(names & new - imported):
            raise VariantError(
                f"{file} gives {', '.join(clash)} another meaning, and {id} uses that name: "
                "choose another"
            )
    lines = ["" if line.startswith("from __future__") else line for line in text.splitlines()]
    body = "\n".join(lines)
    target.write_text(f"{whole}\n\n{body}\n", encoding="utf-8")


def _try(course: Course, number: str, folder: Path) -> None:
    """Loads the checks once, so that what is wrong is told before anything is graded."""
    try:
        loaded = checks_of.load(number, course, answers=True)
        for exercise in loaded:
            exercise.make_cases(1)
    except Exception as error:
        raise VariantError(
            f"the variants of lesson {number} in {folder} do not work: "
            f"{type(error).__name__}: {error}"
        ) from None
