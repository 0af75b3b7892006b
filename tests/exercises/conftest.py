"""``pytest tests/exercises --submission PATH`` grades a notebook or a folder of notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("submissions", "grading submissions of the course")
    group.addoption(
        "--submission", metavar="PATH", help="grade this notebook, or all in this folder"
    )
    group.addoption(
        "--submission-lesson", metavar="NN", help="the lesson they are of, where they do not tell"
    )
    group.addoption(
        "--submission-seed", type=int, metavar="N", help="the seed of the cases (as course grade)"
    )
    group.addoption(
        "--allow-unisolated", action="store_true", help="grade a folder without isolation"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ends the run with a sentence, and the exit code of ``course grade``, where it cannot be."""
    option = session.config.getoption
    path, lesson = option("--submission", default=None), option("--submission-lesson", default=None)
    if not path:
        return
    from coursework import checks, config, grader, sandbox
    from coursework.errors import GradingError

    known = checks.lessons(config.load(Path(__file__).resolve().parents[2]))
    if lesson and lesson not in known:
        pytest.exit(f"there is no lesson {lesson!r}; there are {', '.join(known)}", 3)
    try:
        if len(grader.collect(path)) > 1:
            grader.require_isolation(sandbox.available(), option("--allow-unisolated"))
    except (GradingError, sandbox.Unavailable) as error:
        pytest.exit(str(error), getattr(error, "exit_code", 4))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With a submission, its grading is all there is to run here."""
    if not config.getoption("--submission", default=None):
        return None
    here = Path(__file__).parent
    other = collection_path.name.startswith("test_") and collection_path.parent == here
    return True if other and collection_path.name != "test_submission.py" else None


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Points of each submission, from what its tests recorded (in other processes, too)."""
    found: dict[tuple[str, str], dict] = {}
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if getattr(report, "when", "") == "call" and "submission" in told:
                key = told["student"], told["submission"]
                found.setdefault(key, {"told": told, "exercises": {}})
                if told.get("exercise"):
                    found[key]["exercises"][told["exercise"]] = told["points"]
    asked = config.getoption("--submission", default=None) or config.option.verbose > 0
    if not found or not asked:
        return
    terminalreporter.section("points")
    for (student, path), entry in sorted(found.items()):
        told = entry["told"]
        terminalreporter.write_line(
            f"{student} ({path}): {told['total']} points, {told['verdict']}"
        )
        for id, points in sorted(entry["exercises"].items()):
            terminalreporter.write_line(f"  {id}  {points}")
        for note in filter(None, told["notes"].split("\n")):
            terminalreporter.write_line(f"  {note}")
