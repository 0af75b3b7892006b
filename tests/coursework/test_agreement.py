"""The same submissions, graded in every way there is: scores are equal to the last digit."""

from __future__ import annotations

import sys

import pytest
from test_cluster import Cluster
from test_formats_gradescope import Container
from toy_course import FORKED, ISOLATED, WRONG_SCALE, copy_course, lesson_01, write

from coursework import checks, grader, harness, notebook, sandbox
from coursework.formats import gradescope
from coursework.harness import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FORKED and ISOLATED), reason="no isolation here to compare with"),
]
SCALES = {
    "right": "def scale(x, k):\n    return x * k\n",
    "wrong": WRONG_SCALE,
    "added": "def scale(x, k):\n    return k + x\n",
    "partly": "def scale(x, k):\n    return x.float() * k\n",
    # Sums whose last digits hang on the order and on the number of threads.
    "summed": "def scale(x, k):\n    return (torch.ones(999, dtype=x.dtype) / 999).sum() * x * k\n",
    "nearly": "def scale(x, k):\n    return x * k * (1 + 3e-6)\n",
    "drawn": "def scale(x, k):\n    return x * k + torch.rand(()) * 1e-3\n",
    "raises": "def scale(x, k):\n    raise ValueError('no')\n",
    "stub": 'def scale(x, k):\n    raise NotImplementedError("01.1: write scale")\n',
    "empty": "",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    checks.load.cache_clear()
    yield copy_course(tmp_path_factory.mktemp("agreement") / "toy")
    checks.load.cache_clear()


def content(results) -> list[dict]:
    """All of some exercises' results but how long they took."""
    made = [r.to_dict() for r in results]
    for exercise in made:
        exercise["seconds"] = 0
        for case in exercise["cases"]:
            case["seconds"] = 0
    return made


def in_process(course, path) -> list[dict]:
    """Graded in this very process, without a pool."""
    main = sys.modules["__main__"]
    found = []
    with grader.Grader(course, "01") as toy:
        lesson = toy.lesson_grader("01").for_seed(toy.seed)
        book = notebook.read(path)
        for exercise in lesson.checks:
            extracted = lesson.extract(book, exercise)
            if extracted.status != "ok":
                found.append(lesson.without_run(exercise, extracted))
                continue
            try:
                request = lesson.job(exercise, extracted).request
                done = harness.serve(request, lesson.checks.module)
            finally:
                sys.modules["__main__"] = main
            outcomes = [Outcome.from_dict(o) for o in done["outcomes"]]
            found.append(lesson.result(exercise, outcomes))
    return content(found)


def test_scores_agree_to_the_last_digit(course, tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install -e '.[cluster]'")
    folder = tmp_path / "class"
    folder.mkdir()
    paths = {n: write(folder / f"{n}.ipynb", lesson_01(s)) for n, s in SCALES.items()}

    def graded(**options) -> dict[str, list[dict]]:
        made = grader.grade_many(folder, course, "01", allow_unisolated=True, **options)
        return {r.student: content(r.exercises) for r in made}

    first = {name: in_process(course, path) for name, path in paths.items()}
    points = {name: sum(e["points"] for e in found) for name, found in first.items()}
    assert points["right"] == 5 and points["wrong"] == 2 and points["partly"] == 4
    assert len({str(found) for found in first.values()}) > 6, "too much alike to compare"
    levels = [n for n in ("full", "landlock", "process") if not sandbox.lacks(n)]
    ways = {f"at level {n}": {"level": n, "workers": 1} for n in levels}
    ways["on two cores"] = {"workers": 2}
    for way, options in ways.items():
        assert graded(**options) == first, way
    place = tmp_path / "cluster"
    place.mkdir()
    cluster = Cluster(place)
    try:
        assert graded(scheduler=cluster.address) == first, "on Dask"
    finally:
        cluster.close()
    gradescope.autograder(course, "01", tmp_path / "a.zip")
    container = Container(tmp_path / "a.zip", tmp_path / "autograder")
    for name, path in paths.items():
        there = container.run(path)
        groups = [p for e in first[name] for p, _ in e["groups"].values()]
        assert there["score"] == points[name], name
        assert [t["score"] for t in there["tests"]] == groups, name
