"""Grades submissions, one test for each case; without ``--submission`` the course's solutions."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursework import checks as checks_of
from coursework import config, grader, notebook
from coursework.submissions import Submission, collect

COURSE = config.load(Path(__file__).resolve().parents[2])


def solutions() -> list[Submission]:
    """The solution of each lesson that has checks: the notebook, or its source before that."""
    found = []
    for number in checks_of.lessons(COURSE):
        built = sorted(COURSE.solutions.glob(f"{number}_*.ipynb"))
        found += [Submission(p, p.stem) for p in built or COURSE.solutions.glob(f"{number}_*.py")]
    return found


def cases(submission: Submission, lesson: str | None, seed: int) -> list[tuple[str, str]]:
    """(exercise id, case name) of every case; ("", why) for what is no notebook."""
    if submission.problem:
        return [("", "link")]
    try:
        number = lesson or notebook.lesson_of(notebook.parse(submission.data, submission.path))
        checks = checks_of.load(number or "none", COURSE.root)
    except (notebook.InvalidNotebook, OSError):
        return [("", "notebook")]
    except checks_of.UnknownExercise:
        return [("", "lesson")]
    return [(e.id, c.name) for e in checks for c in e.make_cases(seed)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    path, lesson = option("--submission"), option("--submission-lesson")
    seed = option("--submission-seed") or grader.SEED
    found = collect(path) if path else solutions()
    made = [
        pytest.param(s, id_, case, id=f"{s.student}-{id_ or 'file'}-{case}")
        for s in found
        for id_, case in cases(s, lesson, seed)
    ]
    metafunc.parametrize("submission, exercise, case", made)


@pytest.fixture(scope="session")
def graded(pytestconfig, record_testsuite_property):
    """Report on a submission, made when its first case is asked for."""
    option = pytestconfig.getoption
    lesson, seed = option("--submission-lesson"), option("--submission-seed") or grader.SEED
    made: dict[Submission, object] = {}
    with grader.Grader(COURSE, lesson, seed) as one:

        def report_on(submission: Submission):
            if submission not in made:
                report = next(iter(one.grade([submission])))[1]
                total = f"{report.points}/{report.out_of}"
                record_testsuite_property(f"points {report.student} {report.lesson}", total)
                made[submission] = report
            return made[submission]

        yield report_on


def test_case(graded, submission, exercise, case, request):
    report = graded(submission)

    def record_property(name: str, value: str) -> None:
        # The fixture of this name warns about the newest JUnit format, and does the same.
        request.node.user_properties.append((name, value))

    record_property("submission", str(submission.path))
    record_property("student", report.student)
    record_property("total", f"{report.points}/{report.out_of}")
    record_property("verdict", report.verdict)
    record_property("notes", "\n".join(report.notes))
    record_property("isolation", report.isolation)
    if not exercise:
        pytest.fail(f"{report.verdict}: {' '.join(report.notes)}", pytrace=False)
    result = next(e for e in report.exercises if e.id == exercise)
    record_property("exercise", exercise)
    record_property("points", f"{result.points}/{result.out_of}")
    judged = next((c for c in result.cases if c.name == case), None)
    if judged is None:
        said = result.finding.says if result.finding else result.status
        pytest.fail(f"{exercise} {result.status}: {said}", pytrace=False)
    if not judged.passed:
        named = result.finding and result.finding.kind == "misconception"
        finding = result.finding if named else judged.finding
        pytest.fail(f"{exercise}, {case}: {finding.says}", pytrace=False)
