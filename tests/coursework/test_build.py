"""Lessons are made from solutions, the same each time, and give nothing away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import small_course

from coursework import build, checks, config, structure
from coursework.notebook import extract, lesson_of, read


@pytest.fixture
def course(tmp_path):
    made = small_course.make(tmp_path / "course")
    checks.load.cache_clear()
    yield made
    checks.load.cache_clear()


def the_source(course) -> build.Source:
    return build.sources(course)[0]


def texts(notebook: dict) -> str:
    return "\n".join(c["source"] for c in notebook["cells"])


def test_the_lesson_has_stubs_and_no_solution(course):
    lesson = build.compose(the_source(course), lesson=True)
    shown = texts(lesson)
    for line in small_course.SOLUTION_LINES:
        assert line not in shown
    assert 'raise NotImplementedError("42.1: write snr")' in shown
    assert "SOLUTION" not in shown
    assert all(c["outputs"] == [] for c in lesson["cells"] if c["cell_type"] == "code")


def test_header_and_exercise_come_from_the_checks(course):
    shown = texts(build.compose(the_source(course), lesson=True))
    assert "| 42.1 How much signal is left? | core | ●○○○○ | 5 | 3 |" in shown
    assert "minutes (an estimate). 3 points.*" in shown
    assert "### Exercise 42.1 · How much signal is left?" in shown
    assert "core · difficulty ●○○○○ · about 5 minutes · 3 points (schedules 2, float64 1)" in shown
    assert 'Run `hint("42.1")`: there are 2, one at a time.' in shown


def test_the_same_source_gives_the_same_bytes(course):
    source = the_source(course)
    first = build.dumps(build.compose(source, lesson=True))
    assert first == build.dumps(build.compose(the_source(course), lesson=True))
    assert build.write(source.lesson_path, build.compose(source, lesson=True))
    assert not build.write(source.lesson_path, build.compose(source, lesson=True))
    assert source.lesson_path.read_text(encoding="utf-8") == first


def test_ids_are_stable_and_valid(course):
    import nbformat

    source = the_source(course)
    lesson = build.compose(source, lesson=True)
    nbformat.validate(nbformat.from_dict(lesson))
    ids = {c["id"] for c in lesson["cells"]}
    assert len(ids) == len(lesson["cells"]) and {"answer-42-1", "exercise-42-1"} <= ids
    small_course.edit(source.path, ("Signal and noise\n", "Noise and signal\n"))
    after = {c["id"] for c in build.compose(the_source(course), lesson=True)["cells"]}
    assert len(ids - after) == 1


def test_metadata_names_lesson_checks_and_course(course):
    own = build.compose(the_source(course), lesson=True)["metadata"]["coursework"]
    assert own["lesson"] == "42" and own["course"] == "Small 0.3"
    before = own["checks_version"]
    small_course.edit(course.checks / "answers/lesson_42.py", ("inverted", "upside-down"))
    assert build.checks_version(course, "42") != before


def test_a_lesson_reads_back_as_an_untouched_submission(course):
    source = the_source(course)
    build.write(source.lesson_path, build.compose(source, lesson=True))
    found = read(source.lesson_path)
    assert lesson_of(found) == "42"
    exercise = source.exercises["42.1"]
    assert extract(found, exercise, "undiffuse", ()).status == "not attempted"


@pytest.mark.parametrize(
    "before, after",
    [
        (
            "def f():\n    # BEGIN SOLUTION\n    x = 1\n    # END SOLUTION\n    return x",
            'def f():\n    raise NotImplementedError("1: write f")\n    return x',
        ),
        (
            "class A:\n    def f(self):\n        # BEGIN SOLUTION\n        pass\n"
            "        # END SOLUTION\n\n    def g(self):\n        # BEGIN SOLUTION\n        pass\n"
            "        # END SOLUTION\n",
            'class A:\n    def f(self):\n        raise NotImplementedError("1: write A.f")\n\n'
            '    def g(self):\n        raise NotImplementedError("1: write A.g")\n',
        ),
        (
            "# BEGIN SOLUTION\nx = 3\n# END SOLUTION",
            'raise NotImplementedError("1: write your answer")',
        ),
        (
            "def f():\n    # BEGIN SOLUTION\n    def inner():\n        pass\n    # END SOLUTION\n"
            "def g():\n    # BEGIN SOLUTION\n    pass\n    # END SOLUTION",
            'def f():\n    raise NotImplementedError("1: write f")\n'
            'def g():\n    raise NotImplementedError("1: write g")',
        ),
    ],
)
def test_stubs(before, after):
    assert build.stub(before, "1") == after
    assert "SOLUTION" not in build.without_markers(before)


def test_the_small_course_has_no_problem(course):
    source = the_source(course)
    assert structure.problems(source) == []
    assert structure.lesson_problems(source) == []


@pytest.mark.parametrize(
    "change, says",
    [
        (('tags=["setup"]', 'tags=["setpu"]'), "unknown tag 'setpu'"),
        (("# <!-- lesson-header -->\n", ""), "0 <!-- lesson-header -->"),
        (("# # 42 · ", "# # 43 · "), 'must begin with a title "# 42'),
        (("# <!-- exercise 42.1 -->\n", ""), "has no <!-- exercise 42.1 -->"),
        (
            ("<!-- exercise 42.1 -->", "<!-- exercise 42.7 -->"),
            "exercise 42.7 is not in the checks",
        ),
        (('tags=["answer"] exercise="42.1"', ""), "has no cell with tags"),
        (('tags=["answer"] exercise="42.1"', 'tags=["answer"]'), "needs its exercise"),
        (('check("42.1")', "pass"), 'has no cell with check("42.1")'),
        (('check("42.1")', 'check("42.1"); hint("42.9")'), "exercise 42.9"),
        (("    # END SOLUTION\n", ""), "not in pairs"),
        (("    # BEGIN SOLUTION\n", ""), "not in pairs"),
        (("def snr(", "def snrr("), "42.1 must define snr"),
        (('tags=["compare"]', 'tags=["figure"]'), "a figure needs alt="),
        (('tags=["answer"] exercise', 'tags=["setup"] exercise'), "solution outside a cell"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(course, change, says):
    small_course.edit(small_course.source(course), change)
    found = structure.problems(the_source(course))
    assert any(says in text for text in found), found


def test_a_solution_in_the_prose_is_a_leak(course):
    line = small_course.SOLUTION_LINES[0]
    small_course.edit(
        small_course.source(course),
        ("# Write `snr`.", f"# ```\n# {line}\n# ```\n# Write `snr`."),
    )
    found = structure.lesson_problems(the_source(course))
    assert len(found) == 1 and line in found[0]


def test_cells_for_the_solution_only_stay_there(course):
    path = small_course.source(course)
    more = '\n# %% tags=["solution-only"]\nnobody_may_see_this = snr\n'
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    source = the_source(course)
    assert "nobody_may" not in texts(build.compose(source, lesson=True))
    assert "nobody_may" in texts(build.compose(source, lesson=False))


def test_unknown_lessons_are_named(course):
    with pytest.raises(build.BuildError, match="no lesson 07"):
        build.sources(course, ["07"])


def test_heavy_outputs_are_refused():
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 2_000_000}
    cell = {"cell_type": "code", "source": "draw()\n", "outputs": [output], "metadata": {}}
    with pytest.raises(build.BuildError, match=r"2\.0 MB.*cell 1.*draw"):
        build._refuse_heavy("02.py", {"cells": [cell]})


def test_outputs_lose_what_differs_from_run_to_run():
    bar = {"output_type": "stream", "name": "stderr", "text": "\r 1%\r 50%\r100%\nat 0x7f12ab34cd"}
    assert build._stable(bar)["text"] == "100%\nat 0x..."
    data = {"text/plain": ["<Figure at 0x7f00aa11bb22>"], "image/png": "AA=="}
    shown = {"output_type": "display_data", "data": data, "transient": {"display_id": "1"}}
    assert build._stable(shown)["data"]["text/plain"] == "<Figure at 0x...>"
    assert "transient" not in build._stable(shown)


@pytest.mark.parametrize(
    "output, says",
    [
        ({"output_type": "stream", "text": "saved /home/anna/x.png"}, "path of this machine"),
        ({"output_type": "stream", "text": ["x/site-packages/y"]}, "of a package"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "no"}, "ValueError: no"),
        ({"output_type": "display_data", "data": {"image/png": "A"}}, "alternative text"),
    ],
)
def test_bad_outputs_are_told(tmp_path, output, says):
    file = tmp_path / "x.ipynb"
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [output]}
    file.write_text(json.dumps({"cells": [cell]}))
    assert says in structure.output_problems(file)[0]


def test_good_outputs_are_not(tmp_path):
    file = tmp_path / "x.ipynb"
    image = {"data": {"image/png": "A"}, "metadata": {"image/png": {"alt": "a digit"}}}
    text = {"output_type": "stream", "text": "a/b/home/c and https://x.org/home/y"}
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [image, text]}
    file.write_text(json.dumps({"cells": [cell]}))
    assert structure.output_problems(file) == []


def test_results_of_a_lesson_name_its_command(course, tmp_path, monkeypatch):
    name = f"{course.library.upper()}_COMMAND"
    monkeypatch.setenv(name, "somebody's own")
    with build.quiet_room(course, "full", tmp_path / "kept", "course build 42") as (_, env):
        assert env[name] == "course build 42"
    with build.quiet_room(course, "full", None, "course build 42") as (_, env):
        assert name not in env  # nothing is kept, so nothing is named


# With a kernel


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small course with its lesson and its executed solution; not to be changed."""
    course = small_course.make(tmp_path_factory.mktemp("built") / "course")
    source = build.sources(course)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))
    build.write(source.solution_path, build.execute(source, results=course.root / "results"))
    return course


@pytest.fixture
def built_copy(built, tmp_path):
    shutil.copytree(built.root, tmp_path / "copy")
    checks.load.cache_clear()
    return config.load((tmp_path / "copy").resolve())


@pytest.mark.slow
def test_a_solution_is_executed_with_its_outputs(built):
    source = build.sources(built)[0]
    found = json.loads(source.solution_path.read_text(encoding="utf-8"))
    cells = {tuple(c["metadata"].get("tags", ())): c for c in found["cells"]}
    compared = cells["compare", "nbval-check-output"]
    assert "[9.0, 0.667, 0.111]" in json.dumps(compared["outputs"])
    checked = json.dumps(cells[("check",)]["outputs"])
    assert "42.1" in checked and "passed" in checked
    assert "# BEGIN" not in json.dumps(found) and "execution" not in str(compared["metadata"])
    assert found["metadata"]["kernelspec"]["name"] == "python3"
    assert not (built.root / "work").exists(), "building must not touch a learner's progress"
    assert build.stale(source) == [] and structure.output_problems(source.solution_path) == []
    assert build.orphans(built) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, says",
    [
        (("solutions/42_signal_and_noise.py", "How much of a", "How little of a"), "not what"),
        (
            ("solutions/42_signal_and_noise.py", "signal / noise", "signal / (noise)"),
            "from another",
        ),
        (("tests/exercises/lesson_42.py", '"falling"', '"sinking"'), "other checks"),
        (("tests/exercises/answers/lesson_42.py", "inverted", "turned"), "other checks"),
        (("lessons/42_signal_and_noise.ipynb", "How much of a", "Why"), "lessons/42"),
    ],
)
def test_what_is_stale_is_told_without_executing(built_copy, change, says):
    file, old, new = change
    small_course.edit(built_copy.root / file, (old, new))
    found = build.stale(build.sources(built_copy)[0])
    assert any(says in text for text in found), found


@pytest.mark.slow
def test_a_draft_may_be_executed_with_the_small_budget(built_copy):
    path = build.sources(built_copy)[0].solution_path
    full = path.read_text(encoding="utf-8")
    small = full.replace('"budget": "full"', '"budget": "small"')
    assert small != full

    def said(text: str, drafts: tuple[str, ...]) -> list[str]:
        path.write_text(text, encoding="utf-8")
        return build.stale(build.sources(replace(built_copy, drafts=drafts))[0])

    assert said(full, ()) == said(small, ("42",)) == []
    assert "was executed with the small budget" in said(small, ("41",))[0]
    assert "it is no draft any more" in said(full, ("42",))[0]


@pytest.mark.slow
def test_outputs_are_kept_where_only_texts_change(built_copy):
    path = built_copy.root / "solutions/42_signal_and_noise.py"
    small_course.edit(path, ("How much of a", "How little of a"))
    source = build.sources(built_copy)[0]
    kept = build.with_old_outputs(source)
    build.write(source.lesson_path, build.compose(source, lesson=True))
    build.write(source.solution_path, kept)
    assert any(c.get("outputs") for c in kept["cells"])
    assert build.stale(source) == []
    small_course.edit(path, ("signal / noise", "signal / (noise)"))
    assert build.with_old_outputs(build.sources(built_copy)[0]) is None


@pytest.mark.slow
def test_outputs_are_kept_where_only_checks_change_and_the_answers_still_pass(built_copy):
    before = json.loads(build.sources(built_copy)[0].solution_path.read_text(encoding="utf-8"))

    def kept_after(path: str, *changes: tuple[str, str]) -> dict | None:
        small_course.edit(built_copy.checks / path, *changes)
        checks.load.cache_clear()
        return build.with_old_outputs(build.sources(built_copy)[0])

    kept = kept_after("answers/lesson_42.py", ("inverted", "upside-down"))
    outputs = [[c.get("outputs") for c in tree["cells"]] for tree in (before, kept)]
    assert outputs[0] == outputs[1] and any(outputs[0])
    own = [tree["metadata"]["coursework"]["checks_version"] for tree in (before, kept)]
    assert own[0] != own[1]
    kept = kept_after("lesson_42.py", ("How much signal is left?", "How much is left?"))
    (shown,) = [c for c in kept["cells"] if "check" in c["metadata"].get("tags", ())]
    assert "42.1 How much is left?: passed" in shown["outputs"][0]["data"]["text/plain"]
    wrong = ("return alpha_bar / (1 - alpha_bar)", "return alpha_bar / (2 - alpha_bar)")
    assert kept_after("answers/lesson_42.py", wrong) is None


def test_a_cell_that_fails_is_told(course):
    small_course.edit(small_course.source(course), ('check("42.1")', 'check("42.1"); 1 / 0'))
    with pytest.raises(build.BuildError, match="ZeroDivisionError"):
        build.execute(the_source(course))


@pytest.mark.slow
def test_contributing_works_word_for_word(built, tmp_path):
    """The commands of CONTRIBUTING.md, on the files that it shows."""
    shutil.copytree(built.root, tmp_path / "course")
    root = tmp_path / "course"
    exercises = small_course.ROOT / "tests/exercises"
    shutil.copy(exercises / "test_checks.py", root / "tests/exercises")
    (root / "tests/exercises/checks_notes.toml").write_text("[fewer]\n[fixed_cases]\n")
    env = {**os.environ, "COURSE_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    env.pop("PYTEST_ADDOPTS", None)

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=root, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "up to date" in run("coursework", "build", "42")
    assert "lessons 42 are as" in run("coursework", "build", "--check")
    assert "3 of 3 points" in run("coursework", "check", "solutions/42_signal_and_noise.py")
    options = ("-q", "-p", "no:cacheprovider", "-c", str(small_course.ROOT / "pyproject.toml"))
    said = run("pytest", "tests/exercises/test_checks.py", "-k", "42", *options)
    assert "passed" in said and "failed" not in said
