"""What grading a submission gives: verdict, points, findings; as JSON and as JUnit XML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from coursework.results import CaseResult, ExerciseResult, Finding

# Verdict of a submission for each status of an exercise, the worst first.
VERDICTS = {
    "invalid": "invalid notebook",
    "crashed": "crashed",
    "out of memory": "out of memory",
    "timeout": "timeout",
    "forbidden import": "forbidden import",
    "missing": "missing answer",
}
ORDER = ("invalid notebook", *list(VERDICTS.values())[1:], "ok")
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class SubmissionReport:
    """One graded submission.

    verdict: ok, timeout, out of memory, crashed, invalid notebook, missing answer or forbidden
    import: the worst that happened to any exercise; a wrong answer is ok. isolation: one
    sentence; isolated: whether it kept answers from the course's files and the network. notes:
    sentences that whoever reads the grade must see. name, ids, late, handed_in: as in
    ``Submission``. parts: for each exercise the hash of what its points depend on. reused: taken
    from the gradebook. before: what was there of the same submission, graded by other checks.
    """

    student: str
    path: str
    lesson: str
    verdict: str
    points: int
    out_of: int
    exercises: list[ExerciseResult] = field(default_factory=list)
    level: str = ""
    isolation: str = ""
    isolated: bool = True
    seed: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    submission: str = ""
    checks: str = ""
    environment: str = ""
    name: str = ""
    ids: list[str] = field(default_factory=list)
    late: bool = False
    handed_in: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    reused: bool = False
    before: SubmissionReport | None = None

    def drop_values(self) -> None:
        """Forgets what answers gave and should have given, which only pictures need: large."""
        for case in (c for e in self.exercises for c in e.cases):
            case.got = case.expected = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        data = dict(self.__dict__)
        data["exercises"] = [e.to_dict() for e in self.exercises]
        del data["reused"], data["before"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SubmissionReport:
        """The inverse of ``to_dict``."""
        own = {k: v for k, v in data.items() if k != "exercises"}
        return cls(**own, exercises=[_exercise(e) for e in data["exercises"]])


def _finding(data: dict | None) -> Finding | None:
    return Finding(**data) if data else None


def _exercise(data: dict) -> ExerciseResult:
    known = ("id", "title", "status", "points", "out_of", "note")
    result = ExerciseResult(**{k: data[k] for k in known})
    result.groups = {g: (p[0], p[1]) for g, p in data["groups"].items()}
    result.finding = _finding(data["finding"])
    result.picture = data.get("picture")
    for c in data["cases"]:
        case = CaseResult(c["name"], c["group"], c["passed"], _finding(c["finding"]))
        case.hidden = c.get("hidden", False)
        result.cases.append(case)
    return result


def verdict(exercises: Iterable[ExerciseResult]) -> str:
    """The worst that happened in ``exercises``.

    A single answer that was handed in as something that is no result makes the submission
    "crashed": "invalid notebook" is said of files only.
    """
    found = {VERDICTS.get(e.status, "ok") for e in exercises}
    found = {"crashed" if v == "invalid notebook" else v for v in found}
    return next((v for v in ORDER if v in found), "ok")


def to_json(reports: Iterable[SubmissionReport]) -> str:
    """All reports as one JSON document."""
    reports = list(reports)
    data = {
        "submissions": [r.to_dict() for r in reports],
        "isolated": all(r.isolated for r in reports),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def to_junit(reports: Iterable[SubmissionReport]) -> str:
    """All reports as JUnit XML: a suite for each submission, a test case for each case."""
    root = ElementTree.Element("testsuites", name="course grade")
    total = failed = 0
    for r in reports:
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(f"{r.student} {r.lesson}"))
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (
            ("student", r.student),
            ("verdict", r.verdict),
            ("points", f"{r.points}/{r.out_of}"),
            ("isolation", r.isolation),
            ("seed", r.seed),
            *((f"points {e.id}", f"{e.points}/{e.out_of}") for e in r.exercises),
            *(("note", n) for n in r.notes),
        ):
            ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
        tests = failures = skipped = 0
        for e in r.exercises:
            for name, passed, text, seconds in _tests(e):
                tests += 1
                case = ElementTree.SubElement(
                    suite,
                    "testcase",
                    classname=_xml(f"{r.student}.{e.id}"),
                    name=_xml(name),
                    time=f"{seconds:.3f}",
                )
                if passed:
                    continue
                if e.status == "not attempted":
                    skipped += 1
                    ElementTree.SubElement(case, "skipped", message="not attempted")
                else:
                    failures += 1
                    node = ElementTree.SubElement(case, "failure", message=_xml(text)[:500])
                    node.text = _xml(text)
        if not r.exercises:
            tests = failures = 1
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(r.student), name=_xml(r.path), time="0"
            )
            ElementTree.SubElement(
                case, "failure", message=_xml(f"{r.verdict}: {' '.join(r.notes)}")
            )
        counts = {"tests": tests, "failures": failures, "errors": 0, "skipped": skipped}
        suite.attrib.update({k: str(v) for k, v in counts.items()}, time=f"{r.seconds:.3f}")
        total, failed = total + tests, failed + failures
    root.attrib.update(tests=str(total), failures=str(failed), errors="0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _tests(e: ExerciseResult) -> list[tuple[str, bool, str, float]]:
    """(name, passed, what is wrong, seconds) of each case, or of the exercise without cases."""
    said = f"{e.status}: {e.finding.says}" if e.finding else e.status
    if not e.cases:
        return [(f"{e.id} {e.title}", e.status == "passed", said, 0.0)]
    return [
        (f"{e.id} {c.name}", c.passed, c.finding.says if c.finding else said, c.seconds)
        for c in e.cases
    ]


def _xml(value: Any) -> str:
    return NOT_XML.sub("\ufffd", str(value))
