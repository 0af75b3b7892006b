"""The command: quick help, sentences in place of tracebacks, exit codes by kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import small_course

from coursework import cli, copies, exits, progress

COMMANDS = [
    "learn",
    "doctor",
    "status",
    "check",
    "watch",
    "hint",
    "grade",
    "scores",
    "build",
    "release",
    "upgrade",
    "ci",
    "export",
    "import",
]
COMMANDS += ["feedback", "report", "similar", "pseudonymise", "identify", "forget"]
COMMANDS += ["marks questions", "marks collect", "marks apply"]


def notebook(path, source):
    """A submission that answers 42.1 with ``source``."""
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}
    path.write_text(json.dumps({"cells": [cell], "metadata": {"coursework": {"lesson": "42"}}}))
    return path


def seconds_of_work() -> float:
    """What finished child processes have used of a processor; where unknown, the clock."""
    spent = os.times()
    return (spent.children_user + spent.children_system) or time.perf_counter()


def test_help_answers_at_once():
    # Work, not waiting: other tests may keep both cores busy.
    quickest = 9.0
    for _ in range(5):
        start = seconds_of_work()
        done = subprocess.run(
            [sys.executable, "-m", "coursework", "--help"], capture_output=True, text=True
        )
        quickest = min(quickest, seconds_of_work() - start)
    assert done.returncode == 0 and "course learn" in done.stdout
    assert quickest < 0.5


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom coursework import cli\ntry:\n    cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'rich', 'nbformat', 'jupytext') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command):
    code, said, _ = run(*command.split(), "--help")
    assert code == 0 and f"Example: course {command}" in said


def test_help_lists_exit_codes_and_commands(run):
    code, said, _ = run("--help")
    assert code == 0
    assert all(f"  {command.split()[0]} " in said for command in COMMANDS)
    for number, text in exits.MEANS.items():
        assert f"{number}  {text}" in said
        assert f"| {number} | {text} |" in exits.markdown()


def test_an_old_console_gets_other_signs(monkeypatch):
    import io

    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    cli.say("✓ done · ✗ α é")
    assert shown.getvalue().decode("cp1252").strip() == "+ done · x ? é".replace("·", "-")


def test_without_arguments_help_is_shown(run):
    code, out, err = run()
    assert code in (0, 2) and "Usage" in out + err


def test_typos_in_commands_suggest(run):
    code, _, said = run("chek")
    assert code == exits.USAGE and "'check'" in said


def test_outside_of_a_course(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    code, _, said = run("status")
    assert code == exits.NOT_FOUND and "COURSE_ROOT" in said


def test_status(course, run):
    code, said, _ = run("status")
    assert code == 0
    assert "42 Signal and noise" in said and "0 of 3" in said and "next: 42.1" in said
    progress.note(course, "42.1", 3, 3)
    assert "done" in run("status")[1]


def test_hints_come_one_at_a_time_and_are_remembered(course, run):
    assert "Hint 1 of 2 for 42.1" in run("hint", "42.1")[1]
    code, said, _ = run("hint", "42.1")
    assert code == 0 and "Hint 2 of 2" in said and "x_t = sqrt" in said
    assert "Hint 1 of 2" in run("hint", "42.1", "--level", "1")[1]
    code, _, said = run("hint", "42.1", "--level", "5")
    assert code == exits.NOT_FOUND and "hints 1 to 2" in said


@pytest.mark.parametrize("id", ["42.2", "42,1", "41.1", "421"])
def test_a_typo_in_an_exercise_suggests_the_nearest(course, run, id):
    code, _, said = run("hint", id)
    assert code == exits.NOT_FOUND and f"no exercise {id!r}" in said and "42.1" in said


@pytest.mark.parametrize("command", [("build",), ("learn",), ("release", "out")])
def test_a_lesson_that_does_not_exist(course, run, command):
    code, _, said = run(*command, "47")
    assert code == exits.NOT_FOUND and "no lesson '47'; did you mean 42?" in said


def test_check_a_right_and_a_wrong_answer(course, run, tmp_path):
    code, said, _ = run("check", notebook(tmp_path / "a.ipynb", small_course.RIGHT))
    assert code == exits.OK
    assert "✓ 42.1 How much signal is left?: passed, 3 of 3 points" in said
    code, said, _ = run("check", notebook(tmp_path / "b.ipynb", small_course.WRONG))
    assert code == exits.NOT_RIGHT
    assert "A known mistake: inverted. This is noise over signal" in said
    assert "schedules, 0 of 2 points: fails on falling; much signal" in said
    code, said, _ = run("check", course.lessons / f"{small_course.SLUG}.ipynb")
    assert code == exits.NOT_RIGHT and "not attempted" in said


@pytest.mark.slow
def test_points_of_the_own_copy_are_noted(course, run, tmp_path):
    run("check", notebook(tmp_path / "another.ipynb", small_course.RIGHT))
    assert progress.load(course).best == {}
    course.work.mkdir(exist_ok=True)
    run("check", notebook(course.work / "42_mine.ipynb", small_course.RIGHT))
    assert progress.load(course).is_solved("42.1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}'])
def test_check_what_is_no_notebook(course, run, tmp_path, text):
    file = tmp_path / "x.ipynb"
    file.write_text(text)
    code, out, err = run("check", file)
    assert code == exits.INVALID and "x.ipynb" in out + err


def test_check_a_file_that_is_not_there(course, run):
    code, _, said = run("check", f"lessons/{small_course.SLUG[:-1]}.ipynb")
    assert code == exits.NOT_FOUND and f"did you mean lessons/{small_course.SLUG}.ipynb" in said


@pytest.mark.slow
def test_watch_checks_again_and_ends_with_ctrl_c(course, run, tmp_path, monkeypatch):
    file = notebook(tmp_path / "a.ipynb", small_course.WRONG)

    def once(path, changed):
        changed()
        path.write_text("{")
        changed()
        notebook(path, small_course.RIGHT)
        changed()
        raise KeyboardInterrupt

    monkeypatch.setattr("coursework.watch.watch", once)
    code, said, _ = run("watch", file)
    assert code == 0 and said.rstrip().endswith("Stopped.")
    assert said.index("inverted") < said.index("is not JSON") < said.index("passed, 3 of 3")


def test_grade_a_folder(course, run, tmp_path):
    folder = tmp_path / "handed-in"
    folder.mkdir()
    notebook(folder / "ada.ipynb", small_course.RIGHT)
    notebook(folder / "bob.ipynb", small_course.WRONG)
    (folder / "eve.ipynb").write_text("{")
    out, junit, book = (tmp_path / n for n in ("g.json", "g.xml", "g.sqlite"))
    options = ("--lesson", "42", "--json", out, "--junit", junit, "--gradebook", book)
    command = ("grade", folder, *options, "--workers", "1", "--allow-unisolated")
    code, said, _ = run(*command)
    assert code == 0
    assert "ada" in said and "3/3" in said and "0/3" in said and "invalid notebook" in said
    assert "eve.ipynb is not JSON" in said and "3 graded, 0 of them already" in said
    found = {s["student"]: s["points"] for s in json.loads(out.read_text())["submissions"]}
    assert found == {"ada": 3, "bob": 0, "eve": 0}
    assert junit.read_text().startswith("<?xml")
    _, said, _ = run(*command)
    assert "already in the gradebook" in said and "3 graded, 0" not in said
    _, said, _ = run("grade", folder / "ada.ipynb", "--json", "-")
    assert json.loads(said)["submissions"][0]["points"] == 3


def test_grade_says_what_is_wrong_with_the_command(course, run, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, said = run("grade", empty)
    assert code == exits.NOT_FOUND and "nothing to grade" in said
    assert run("grade", tmp_path / "nobody")[0] == exits.NOT_FOUND
    file = notebook(tmp_path / "a.ipynb", small_course.RIGHT)
    code, _, said = run("grade", file, "--lesson", "43")
    assert code == exits.NOT_FOUND and "did you mean 42" in said
    code, _, said = run("grade", file, "--json", tmp_path / "none" / "x.json")
    assert code == exits.NOT_FOUND and "no folder" in said
    assert run("grade")[0] == exits.USAGE
    (tmp_path / "text.sqlite").write_text("not a database at all, but a text file " * 40)
    code, _, said = run("grade", file, "--gradebook", tmp_path / "text.sqlite")
    assert code == exits.STORAGE, said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder(course, run):
    course.root.chmod(0o500)
    try:
        code, _, said = run("learn", "--check")
    finally:
        course.root.chmod(0o700)
    assert code == exits.STORAGE and "read-only" in said


@pytest.mark.parametrize(
    "error, code, says",
    [
        (PermissionError(13, "Permission denied", "work/x"), exits.STORAGE, "read-only"),
        (OSError(30, "Read-only file system", "work/x"), exits.STORAGE, "work/x"),
        (OSError(28, "No space left on device"), exits.STORAGE, "disk is full"),
        (FileNotFoundError(2, "No such file", "x"), exits.NOT_FOUND, "x: No such file"),
        (ModuleNotFoundError("m", name="jupyterlab"), exits.NOT_FOUND, "jupyterlab is not"),
    ],
)
def test_errors_of_the_system_are_sentences(run, monkeypatch, error, code, says):
    def fail():
        raise error

    monkeypatch.setattr(cli, "find_course", fail)
    got, _, said = run("status")
    assert got == code and says in said


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "find_course", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["status"])


def test_ctrl_c_ends_with_its_own_code(run, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "find_course", stop)
    assert run("status")[0] in (exits.INTERRUPTED, 1)


def test_build_says_what_is_stale_and_refuses_what_is_wrong(course, run):
    code, said, _ = run("build", "--check")
    assert code == exits.NOT_RIGHT and "solutions/42_signal_and_noise.ipynb is missing" in said
    small_course.edit(small_course.source(course), ("# END SOLUTION", "# the end"))
    code, _, said = run("build")
    assert code == exits.INVALID and "not in pairs" in said
    assert run("build", "--budget", "huge")[0] == exits.USAGE


def test_build_lessons_only(course, run):
    (course.lessons / f"{small_course.SLUG}.ipynb").unlink()
    code, said, _ = run("build", "--lessons-only")
    assert code == 0 and "✓ 42_signal_and_noise.ipynb" in said
    assert "(as it was)" in run("build", "--lessons-only", "42")[1]


def test_release(course, run, tmp_path):
    code, said, _ = run("release", tmp_path / "bundle")
    assert code == 0 and "no solutions" in said
    code, _, said = run("release", tmp_path / "bundle")
    assert code == exits.INVALID and "not an empty folder" in said


@pytest.mark.slow
def test_learn_check_does_all_but_stay_open(course, run):
    code, said, err = run("learn", "--check")
    assert "1 lesson copied" in said and "JupyterLab started" in said, said + err
    assert "Your copy of lesson 42" in said and "not attempted yet" in said
    assert said.rstrip().split("\n")[-1].startswith("lesson 42, 3 of 3 points")
    assert copies.of_lesson(course, "42").is_file()
    assert code == 0, said
