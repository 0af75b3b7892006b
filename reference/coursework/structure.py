"""Looks a lesson's source and its notebooks over: what is missing, unknown, or gives away."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from coursework.build import BEGIN, END, EXERCISE, HEADER, Source, compose
from coursework.notebook import CALLS_CHECK, Cell
from coursework.statements import UNREADABLE, bindings, parse

TAGS = {"setup", "answer", "check", "figure", "remark", "compare", "solution-only", "slow"}
TAGS |= {"raises-exception", "self-test", "experiment"}
CALLS_HINT = re.compile(r"""\bhint\(\s*["'](\d\d\.\d{1,2})["']""")
LOCAL_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|root|tmp|Users|work|mnt|var/folders)/[\w.-]+|[A-Z]:\\\\?Users"
)
TRIVIAL = 20  # characters; shorter lines are found in anybody's code
FRAMES = ("with ", "except ", "else:", "try:", "finally:")


def problems(source: Source) -> list[str]:
    """What is wrong with the source, each with the place; empty when it can be built."""
    found: list[str] = []
    name, exercises = source.path.name, source.exercises
    headers: dict[str, list[int]] = {}
    answers: dict[str, list[int]] = {}
    checked: dict[str, list[int]] = {}
    top = 0

    def tell(i: int, text: str) -> None:
        found.append(f"{name}, cell {i}: {text}")

    for i, cell in enumerate(source.cells, 1):
        for tag in sorted(set(cell.tags) - TAGS):
            tell(i, f"unknown tag {tag!r} (known: {', '.join(sorted(TAGS))})")
        ids = {*CALLS_CHECK.findall(cell.source), *CALLS_HINT.findall(cell.source), cell.exercise}
        if cell.kind == "markdown":
            top += len(HEADER.findall(cell.source))
            for id in EXERCISE.findall(cell.source):
                headers.setdefault(id, []).append(i)
                ids.add(id)
        for id in sorted(ids - {""} - set(exercises)):
            tell(i, f"exercise {id} is not in the checks of lesson {source.number}")
        if cell.kind == "code":
            _look_at_code(cell, i, exercises, answers, checked, tell)
    first = source.cells[0].source.lstrip() if source.cells else ""
    if not re.match(rf"# {source.number} · \S", first):
        found.append(f'{name} must begin with a title "# {source.number} · ..."')
    if top != 1:
        found.append(f"{name} has {top} <!-- lesson-header -->, where one is wanted")
    for id in exercises:
        _look_at_exercise(name, id, headers, answers, checked, found)
    return found


def _look_at_code(cell: Cell, i: int, exercises: dict, answers: dict, checked: dict, tell) -> None:
    marks = [w for line in cell.source.split("\n") if (w := line.strip()) in (BEGIN, END)]
    if marks != [BEGIN, END] * (len(marks) // 2):
        tell(i, f"{BEGIN!r} and {END!r} are not in pairs")
    if "answer" in cell.tags:
        if not cell.exercise:
            tell(i, 'an answer needs its exercise: tags=["answer"] exercise="NN.N"')
            return
        answers.setdefault(cell.exercise, []).append(i)
        if not marks:
            tell(i, f"the answer has no {BEGIN!r}: the lesson would show it")
        if cell.exercise in exercises:
            lacks = set(exercises[cell.exercise].names) - _defines(cell)
            if lacks:
                tell(i, f"{cell.exercise} must define {', '.join(sorted(lacks))}")
    elif marks:
        tell(i, 'a solution outside a cell with tags=["answer"]')
    for id in CALLS_CHECK.findall(cell.source):
        checked.setdefault(id, []).append(i)
    if "figure" in cell.tags and "alt=" not in cell.source:
        tell(i, "a figure needs alt=, what a person who cannot see it needs to know")


def _look_at_exercise(
    name: str, id: str, headers: dict, answers: dict, checked: dict, found: list[str]
) -> None:
    for places, what in (
        (headers, f"<!-- exercise {id} -->"),
        (answers, f'cell with tags=["answer"] exercise="{id}"'),
        (checked, f'cell with check("{id}")'),
    ):
        if id not in places:
            found.append(f"{name} has no {what}")
    if len(headers.get(id, ())) > 1:
        found.append(f"{name} has exercise {id} {len(headers[id])} times")
    everything = id in headers and id in answers and id in checked
    if everything and not headers[id][0] < answers[id][0] < checked[id][-1]:
        found.append(f"{name}: exercise {id} must go text, answer, check")


def _defines(cell: Cell) -> set[str]:
    try:
        return {n for s in parse(cell.source).body for n in bindings(s)}
    except UNREADABLE:
        return set()


def solution_lines(source: Source) -> set[str]:
    """The lines of the solutions that say something, without indentation and comments."""
    found: set[str] = set()
    for cell in source.cells:
        inside = False
        for line in cell.source.split("\n"):
            word = line.strip()
            if word in (BEGIN, END):
                inside = word == BEGIN
            elif inside or "solution-only" in cell.tags:
                bare = _bare(word)
                if len(bare) >= TRIVIAL and not bare.startswith(FRAMES):
                    found.add(bare)
    return found


def _bare(line: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*$", "", line)).strip()


def leaks(source: Source, text: str) -> list[str]:
    """Lines of the solution that ``text`` holds."""
    lines = {_bare(line) for line in text.split("\n")}
    return sorted(line for line in solution_lines(source) if line in lines)


def lesson_problems(source: Source) -> list[str]:
    """What the lesson to be made would give away."""
    cells = compose(source, lesson=True)["cells"]
    text = "\n".join(c["source"] for c in cells)
    found = [f"the lesson shows a line of the solution: {line}" for line in leaks(source, text)]
    if BEGIN in text or END in text:
        found.append("the lesson shows a marker of a solution")
    for cell in cells:
        if cell["cell_type"] == "code" and "answer" in cell["metadata"].get("tags", ()):
            try:
                ast.parse(cell["source"])
            except SyntaxError as error:
                id = cell["metadata"].get("exercise")
                found.append(f"the stub of {id} is not Python: {error.msg}, line {error.lineno}")
    return [f"{source.path.name}: {text}" for text in found]


def output_problems(path: Path) -> list[str]:
    """What is wrong with the outputs of an executed notebook: errors, paths, bare pictures."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for i, cell in enumerate(tree["cells"], 1):
        for output in cell.get("outputs", ()):
            data = output.get("data") or {}
            texts = [output.get("text", ""), *(v for k, v in data.items() if k.startswith("text/"))]
            text = "\n".join("".join(t) for t in texts)
            if match := LOCAL_PATH.search(text):
                found.append(f"cell {i} shows a path of this machine: {match[0]}")
            if "site-packages" in text:
                found.append(f"cell {i} shows a path of this machine or a warning of a package")
            expected = "raises-exception" in cell["metadata"].get("tags", ())
            if output.get("output_type") == "error" and not expected:
                found.append(f"cell {i} ends with {output.get('ename')}: {output.get('evalue')}")
            alt = (output.get("metadata") or {}).get("image/png", {}).get("alt")
            if "image/png" in data and not alt:
                found.append(f"cell {i} shows a picture without alternative text")
    return [f"{path.name}, {text}" for text in found]
