"""A student bundle: works, gives nothing away, and is the same to the byte each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import small_course

from coursework import build, checks, recorded, release

LEFT_BEHIND = ("answers", "solutions", "cache")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    made = small_course.make(tmp_path_factory.mktemp("release") / "course", library=True)
    checks.load.cache_clear()
    source = build.sources(made)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))
    yield made
    checks.load.cache_clear()


@pytest.fixture(scope="module")
def bundle(course):
    folder = course.root.parent / "bundle"
    release.release(course, folder)
    return folder


def contents(folder) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def inside(folder, *command: str, where: str = "", **env: str) -> subprocess.CompletedProcess:
    """A command that knows nothing but the bundle."""
    env = {"PYTHONPATH": str(folder / "reference"), "PYTHONDONTWRITEBYTECODE": "1", **env}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COURSE_", "UNDIFFUSE_"))}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder / where,
        env={**kept, **env},
        capture_output=True,
        text=True,
    )


def test_a_bundle_holds_what_a_class_needs(bundle):
    files = contents(bundle)
    assert f"lessons/{small_course.SLUG}.ipynb" in files
    assert "tests/exercises/lesson_42.py" in files
    assert "tests/exercises/recorded/42.bin" in files
    assert "reference/coursework/cli.py" in files
    assert "reference/undiffuse/schedules.py" in files
    assert "data/images/dots.md" in files and "pyproject.toml" in files
    assert "make learn" in (bundle / "README.md").read_text(encoding="utf-8")
    about = json.loads((bundle / "release.json").read_text())
    assert about["course"] == "Small 0.3" and set(about["lessons"]) == {"42"}


def test_a_bundle_holds_no_solution(bundle):
    for name, data in contents(bundle).items():
        assert not set(LEFT_BEHIND) & set(name.split("/")), name
        if name.startswith(("lessons/", "tests/")):
            for line in small_course.SOLUTION_LINES:
                assert line.encode() not in data, name
            assert b"alpha_bar / (1 - alpha_bar)" not in data, name


def test_bundles_are_the_same_to_the_byte(course, bundle, tmp_path):
    again = tmp_path / "again"
    release.release(course, again)
    assert contents(again) == contents(bundle)
    times = {p.stat().st_mtime for p in again.rglob("*")}
    assert times == {release.EPOCH}


def test_recordings_are_data_and_damage_is_told(bundle, tmp_path, course):
    path = bundle / "tests/exercises/recorded/42.bin"
    assert recorded.load(small_config(bundle), "42").exercises["42.1"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(recorded.NoRecording, match="damaged"):
            recorded.load(small_config(bundle), "42")
    finally:
        path.write_bytes(whole)
        os.utime(path, (release.EPOCH, release.EPOCH))


def small_config(root):
    from coursework import config

    return config.load(root.resolve())


CHECKS = """
import torch
from coursework import check, hint
def snr(alpha_bar):
    return alpha_bar / (1 - alpha_bar)
print(check("42.1"))
def snr(alpha_bar):
    return (1 - alpha_bar) / alpha_bar
print(check("42.1"))
print(hint("42.1"))
"""


@pytest.mark.parametrize("where", ["", "lessons"])
def test_check_works_in_a_bundle(bundle, where, tmp_path):
    done = inside(bundle, "-c", CHECKS, where=where, COURSE_WORK=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "passed, 3 of 3 points" in done.stdout
    assert "inverted" in done.stdout and "Hint 1 of 2" in done.stdout


@pytest.mark.slow
def test_the_command_works_in_a_bundle(bundle, tmp_path):
    cell = {"cell_type": "code", "metadata": {}, "source": small_course.WRONG, "outputs": []}
    file = tmp_path / "42_mine.ipynb"
    file.write_text(json.dumps({"cells": [cell]}))
    done = inside(bundle, "-m", "coursework", "check", str(file), COURSE_WORK=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "A known mistake: inverted" in done.stdout
    done = inside(bundle, "-m", "coursework", "grade", str(file), COURSE_WORK=str(tmp_path))
    assert done.returncode == 3 and "course check FILE" in done.stderr
    done = inside(bundle, "-m", "coursework", "status", COURSE_WORK=str(tmp_path))
    assert "42 Signal and noise" in done.stdout, done.stderr


def test_a_folder_that_holds_something_is_refused(course, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(release.ReleaseError, match="not an empty folder"):
        release.release(course, tmp_path)
    with pytest.raises(release.ReleaseError, match="not an empty folder"):
        release.release(course, tmp_path / "kept.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_a_folder_in_the_course_is_refused(course):
    with pytest.raises(release.ReleaseError, match="in the course itself"):
        release.release(course, course.root / "lessons" / "bundle")


def test_a_bundle_cannot_be_released_again(bundle, tmp_path):
    with pytest.raises(release.ReleaseError, match="a bundle already"):
        release.release(small_config(bundle), tmp_path / "x")


def test_a_stale_lesson_is_refused(tmp_path):
    made = small_course.make(tmp_path / "course")
    with pytest.raises(release.ReleaseError, match="42 is stale"):
        release.release(made, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_lesson_that_gives_away_its_solution_is_refused(tmp_path):
    made = small_course.make(tmp_path / "course")
    small_course.edit(
        made.checks / "lesson_42.py",
        ('LESSON = Lesson("42"', f'# {"-" * 3}\nNOTE = """\n{small_course.SOLUTION_LINES[0]}\n"""\n'
         'LESSON = Lesson("42"'),
    )  # fmt: skip
    source = build.sources(made)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))
    with pytest.raises(release.ReleaseError, match="holds a line of a solution: signal, noise"):
        release.release(made, tmp_path / "bundle")
    assert list((tmp_path / "bundle").iterdir()) == []
