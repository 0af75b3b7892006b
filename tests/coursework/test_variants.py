"""Variants and hidden cases; a bundle is solved, checked, graded, and brought up to date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import small_course
from toy_course import FORKED, copy_course, lesson_01, points, write

from coursework import build, checks, config, grader, release, upgrade, variants
from coursework.variants import VariantError

needs_fork = pytest.mark.skipif(not FORKED, reason="nothing can be forked here")
HIDDEN = """from coursework.exercise import Case


@scale.more_cases
def _(draw):
    yield Case("hidden: negative", (-draw.uniform(1, 2, 3), draw.uniform(2, 3)), group="float32")
"""
# Right but for numbers below nothing.
SHY = "def scale(x, k):\n    return (x.abs() * k) * torch.where(x < -0.9, 1, x.sign())\n"
OTHER = """from __future__ import annotations

from coursework.exercise import Case, Draw, Exercise

tripled = Exercise(
    id="01.1", title="Triple", names=("triple",), points={"main": 7}, hints=("three",), limit=2.0
)


@tripled.cases
def _(draw: Draw):
    yield Case("row", (draw.normal(4),), group="main", driver=thrice)


def thrice(answer, x):
    return answer.triple(x)
"""
OTHER_ANSWERS = """from coursework.exercise import Answers

a_tripled = Answers("01.1")


@a_tripled.reference
def triple(x):
    return 3 * x
"""


@pytest.fixture
def course(tmp_path):
    made = copy_course(tmp_path / "toy")
    made.solutions.mkdir(exist_ok=True)
    checks.load.cache_clear()
    yield made
    checks.load.cache_clear()


def folder(tmp_path, files: dict[str, str]):
    for name, text in files.items():
        path = tmp_path / "private" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "private"


@needs_fork
def test_hidden_cases_are_graded(course, tmp_path):
    private = folder(tmp_path, {"hidden_01.py": HIDDEN})
    file = write(tmp_path / "a.ipynb", lesson_01(SHY))
    with variants.applied(course, private) as inner:
        made = {e.id: e.make_cases(7) for e in checks.load("01", inner)}
        assert [c.name for c in made["01.1"]][-1] == "hidden: negative"
        report = grader.grade_file(file, inner)
        again = grader.grade_file(write(tmp_path / "b.ipynb", lesson_01()), inner)
    assert report.exercises[0].cases[-1].name == "hidden: negative"
    assert not report.exercises[0].cases[-1].passed and again.points == 5
    with variants.applied(course, private, hidden=False) as inner:
        assert len(next(iter(checks.load("01", inner))).make_cases(7)) == 3
    assert len(next(iter(checks.load("01", course))).make_cases(7)) == 3


@pytest.mark.slow
@needs_fork
def test_another_exercise_takes_the_place_of_the_public_one(course, tmp_path):
    files = {"lesson_01.py": OTHER, "answers/lesson_01.py": OTHER_ANSWERS}
    triple = "def triple(x):\n    return x + x + x\n"
    with variants.applied(course, folder(tmp_path, files)) as inner:
        report = grader.grade_file(write(tmp_path / "a.ipynb", lesson_01(triple)), inner)
        public = grader.grade_file(write(tmp_path / "b.ipynb", lesson_01()), inner)
    assert points(report) == {"01.1": 7, "01.2": 2} and report.out_of == 9
    assert points(public) == {"01.1": 0, "01.2": 2}
    before = grader.grade_file(tmp_path / "b.ipynb", course)
    assert before.points == 5
    # Only what the variant replaces has another hash.
    changed = {id for id in before.parts if before.parts[id] != public.parts[id]}
    assert changed == {"01.1"}


@pytest.mark.parametrize(
    "files, says",
    [
        ({}, "not a folder"),
        ({"lessons_01.py": ""}, "did you mean 'lesson_05.py'"),
        ({"lesson_47.py": ""}, "no lesson 47"),
        ({"answers/lesson_01.py": OTHER_ANSWERS}, "no lesson_01.py beside it"),
        ({"lesson_01.py": OTHER}, "do not work: ExerciseError: 01.1: the reference lacks triple"),
        ({"lesson_01.py": "def twice(x):\n    return x"}, "twice another meaning, and 01.2 uses"),
        ({"lesson_01.py": "def f(:"}, "line 1: invalid syntax"),
        ({"hidden_01.py": HIDDEN.replace("float32", "floats")}, "do not work: ExerciseError"),
        ({"hidden_01.py": HIDDEN.replace("scale", "scales")}, "do not work: NameError"),
    ],
)
def test_what_is_wrong_with_variants_is_told(course, tmp_path, files, says):
    private = folder(tmp_path, files) if files else tmp_path / "private"
    with pytest.raises(VariantError, match=says), variants.applied(course, private):
        pass


# Bundles -------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    made = small_course.make(tmp_path / "course", library=True)
    checks.load.cache_clear()
    rebuild(made)
    yield made
    checks.load.cache_clear()


def rebuild(course):
    checks.load.cache_clear()
    source = build.sources(course)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))


def solved(path, source: str):
    """The notebook in ``path`` with its stub replaced, as a learner does."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    (cell,) = [c for c in tree["cells"] if "answer" in c["metadata"].get("tags", ())]
    assert "NotImplementedError" in "".join(cell["source"])
    cell["source"] = source
    path.write_text(json.dumps(tree), encoding="utf-8")


def inside(bundle, *command: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COURSE_", "UNDIFFUSE_"))}
    kept.update(PYTHONPATH=str(bundle / "reference"), PYTHONDONTWRITEBYTECODE="1")
    command = [sys.executable, "-m", "coursework", *command]
    return subprocess.run(command, cwd=bundle, env=kept, capture_output=True, text=True)


@needs_fork
@pytest.mark.slow
def test_a_bundle_is_solved_checked_and_graded_and_both_agree(small, tmp_path):
    bundle = tmp_path / "bundle"
    release.release(small, bundle)
    solution = next(
        c for c in build.sources(small)[0].cells if "answer" in c.tags and c.exercise == "42.1"
    )
    for name, source, earned in (
        ("right", build.without_markers(solution.source), 3),
        ("wrong", small_course.WRONG, 0),
    ):
        mine = bundle / "work" / f"42_{name}.ipynb"
        mine.parent.mkdir(exist_ok=True)
        shutil.copy(bundle / "lessons" / f"{small_course.SLUG}.ipynb", mine)
        solved(mine, source)
        done = inside(bundle, "check", str(mine))
        assert f"lesson 42, {earned} of 3 points" in done.stdout, done.stdout + done.stderr
        report = grader.grade_file(mine, small)
        assert report.points == earned and report.lesson == "42"
        shown = done.stdout.split("\n")[0]
        assert shown.startswith("✓" if earned else "✗") and "42.1" in shown


VARIANT = """from coursework.exercise import Case


@snr.more_cases
def _(draw):
    yield Case("hidden SECRET", (draw.uniform(0.2, 0.3, 2),), group="schedules")
"""


def test_hidden_cases_stay_behind(small, tmp_path):
    private = folder(tmp_path, {"hidden_42.py": VARIANT})
    release.release(small, tmp_path / "plain")
    release.release(small, tmp_path / "bundle", variants=private)
    files = {}
    for name in ("plain", "bundle"):
        files[name] = {
            p.relative_to(tmp_path / name): p.read_bytes()
            for p in (tmp_path / name).rglob("*") if p.is_file()
        }  # fmt: skip
    assert files["plain"] == files["bundle"]
    assert not any(b"hidden SECRET" in data for data in files["bundle"].values())


def test_a_lesson_of_its_own_goes_with_its_variant(small, tmp_path):
    text = small_course.source(small).read_text(encoding="utf-8")
    own = text.replace("# 42 · ", "# 42 · Private: ", 1)
    assert own != text
    private = folder(tmp_path, {f"{small_course.SLUG}.py": own})
    release.release(small, tmp_path / "bundle", variants=private)
    made = (tmp_path / "bundle" / "lessons" / f"{small_course.SLUG}.ipynb").read_text()
    assert "42 · Private: " in made
    for line in small_course.SOLUTION_LINES:
        assert line not in made


def test_zips_are_the_same_to_the_byte(small, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        release.release(small, tmp_path / name / "week-1.zip")
    first, second = ((tmp_path / n / "week-1.zip").read_bytes() for n in "ab")
    assert first == second
    with zipfile.ZipFile(tmp_path / "a" / "week-1.zip") as archive:
        names = archive.namelist()
    assert "week-1/README.md" in names and names == sorted(names)
    with pytest.raises(release.ReleaseError, match="exists"):
        release.release(small, tmp_path / "a" / "week-1.zip")


def test_data_goes_with_the_lessons_that_need_it(tmp_path):
    made = small_course.make(tmp_path / "course", library=True)
    (made.root / "data" / "sound.npz").write_bytes(b"x")
    (made.root / "data" / "digits.npz").write_bytes(b"y")
    with open(made.root / "pyproject.toml", "a") as f:
        f.write('[tool.coursework.lesson-data]\n"sound.*" = ["43"]\n"digits.*" = ["42", "43"]\n')
    config.load.cache_clear()
    rebuild(made := config.load(made.root))
    files = release.release(made, tmp_path / "bundle")
    assert "data/digits.npz" in files and "data/images/dots.md" in files
    assert "data/sound.npz" not in files


@pytest.mark.parametrize("packed", [True, False])
def test_a_bundle_in_use_is_brought_up_to_date(small, tmp_path, packed):
    bundle, new = tmp_path / "bundle", tmp_path / ("new.zip" if packed else "new")
    release.release(small, bundle)
    mine = bundle / "work" / f"{small_course.SLUG}.ipynb"
    student = config.load(bundle.resolve())
    from coursework import copies

    copies.bring(student, "42")
    solved(mine, "# mine\n" + small_course.WRONG)
    (bundle / "README.md").write_text("my own notes")
    (bundle / "work" / "notes.txt").write_text("kept")
    # The course goes on: another text, a file less, a file more.
    small_course.edit(small_course.source(small), ("# 42 · ", "# 42 · New: "))
    rebuild(small)
    (small.root / "data" / "images" / "dots.md").unlink()
    (small.root / "data" / "images" / "more.md").write_text("# More\n")
    release.release(small, new)
    done = upgrade.upgrade(student, new)
    assert "data/images/more.md" in done.written and done.removed == ["data/images/dots.md"]
    assert len(done.aside) == 1 and (bundle / done.aside[0]).read_text() == "my own notes"
    assert "make learn" in (bundle / "README.md").read_text(encoding="utf-8")
    assert (bundle / "work" / "notes.txt").read_text() == "kept"
    text = mine.read_text(encoding="utf-8")
    assert "42 · New: " in text and "# mine" in text
    assert [c.what for c in done.copies] == ["updated"] and done.copies[0].kept_old.is_file()
    again = upgrade.upgrade(student, new)
    assert not again.written and not again.removed and [c.what for c in again.copies] == ["kept"]
    folder_of = lambda root: {  # noqa: E731
        p.relative_to(root): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not {"work", "__pycache__"} & set(p.relative_to(root).parts)
    }
    if not packed:
        found = folder_of(bundle)
        found.pop(next(p for p in found if ".before-" in p.name))
        assert found == folder_of(new)


def test_an_upgrade_that_cannot_be_changes_nothing(small, tmp_path):
    bundle, new = tmp_path / "bundle", tmp_path / "new"
    release.release(small, bundle)
    release.release(small, new)
    student = config.load(bundle.resolve())
    before = (bundle / "release.json").read_bytes()
    (new / "README.md").write_text("cut")
    with pytest.raises(upgrade.UpgradeError, match=r"README.md in .* is damaged"):
        upgrade.upgrade(student, new)
    about = json.loads(before)
    for name in ("../out.txt", "/out.txt", "work/42.ipynb", "a\\b"):
        about["files"] = {name: "0"}
        (new / "release.json").write_text(json.dumps(about))
        with pytest.raises(upgrade.UpgradeError, match=r"leads out|never a bundle"):
            upgrade.upgrade(student, new)
    about["course"] = "Another 1.0"
    about["files"] = {}
    (new / "release.json").write_text(json.dumps(about))
    with pytest.raises(upgrade.UpgradeError, match="Another"):
        upgrade.upgrade(student, new)
    with pytest.raises(upgrade.UpgradeError, match="no bundle"):
        upgrade.upgrade(small, new)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    with pytest.raises(upgrade.UpgradeError, match="not to be unpacked"):
        upgrade.upgrade(student, tmp_path / "x.zip")
    assert (bundle / "release.json").read_bytes() == before
    assert not (tmp_path / "out.txt").exists() and not (tmp_path / "evil.txt").exists()
