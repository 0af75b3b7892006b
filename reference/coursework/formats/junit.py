"""JUnit XML as Jenkins, GitLab and GitHub's report actions read it.

A suite for each submission, a test case for each case. The schema is that of Jenkins' xunit plugin
(``junit-10.xsd``), which pytest validates its own reports with; GitLab reads ``classname``,
``name``, ``time`` and the text of ``failure`` (docs.gitlab.com/ci/testing/unit_test_reports), and
a ``file``, which Jenkins' schema does not know. XML 1.0 has no sign for most control characters,
not even escaped (section 2.2): they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from coursework import safe
from coursework.formats.rows import told
from coursework.judge import ExerciseResult
from coursework.reports import SubmissionReport

MESSAGE_LIMIT = 500


def junit(reports: Iterable[SubmissionReport]) -> str:
    """All reports as one document."""
    root = ElementTree.Element("testsuites", name="course grade")
    total = failed = 0
    for r in reports:
        suite = ElementTree.SubElement(
            root, "testsuite", name=safe.plain(f"{r.student} {r.lesson}")
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (
            ("student", r.student),
            ("path", r.path),
            ("verdict", r.verdict),
            ("points", f"{r.points}/{r.out_of}"),
            ("isolation", r.isolation),
            ("seed", r.seed),
            *((f"points {e.id}", f"{e.points}/{e.out_of}") for e in r.exercises),
            *(("note", n) for n in r.notes),
        ):
            ElementTree.SubElement(properties, "property", name=name, value=safe.plain(value))
        tests = failures = skipped = 0
        for e in r.exercises:
            for name, passed, text, seconds in _tests(e):
                tests += 1
                case = _case(suite, f"{r.student}.{e.id}", name, seconds)
                if passed:
                    continue
                if e.status == "not attempted":
                    skipped += 1
                    ElementTree.SubElement(case, "skipped", message="not attempted")
                else:
                    failures += 1
                    _failure(case, text, e.status)
        if not r.exercises:
            tests = failures = 1
            case = _case(suite, r.student, r.path, 0.0)
            _failure(case, f"{r.verdict}: {' '.join(r.notes)}", r.verdict)
        counts = {"tests": tests, "failures": failures, "errors": 0, "skipped": skipped}
        suite.attrib.update({k: str(v) for k, v in counts.items()}, time=f"{r.seconds:.3f}")
        total, failed = total + tests, failed + failures
    root.attrib.update(tests=str(total), failures=str(failed), errors="0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: Any, owner: str, name: str, seconds: float) -> Any:
    return ElementTree.SubElement(
        suite, "testcase", classname=safe.plain(owner), name=safe.plain(name), time=f"{seconds:.3f}"
    )


def _failure(case: Any, text: str, kind: str) -> None:
    message = safe.plain(text, MESSAGE_LIMIT)
    ElementTree.SubElement(
        case, "failure", message=message, type=safe.plain(kind)
    ).text = safe.plain(text)


def _tests(e: ExerciseResult) -> list[tuple[str, bool, str, float]]:
    """(name, passed, what is wrong, seconds) of each case, or of the exercise without cases."""
    said = f"{e.status}: {e.finding.says}" if e.finding else e.status
    if not e.cases:
        return [(f"{e.id} {e.title}", e.status == "passed", said, 0.0)]
    shown = [(c, *told(c, said)) for c in e.cases]
    return [(f"{e.id} {name}", c.passed, says, c.seconds) for c, name, says in shown]
