"""The first hour in JupyterLab, in a real browser: what a newcomer does, step by step.

Screenshots of every step lie in ``build/screenshots`` (COURSE_SCREENSHOTS names another folder).
"""

from __future__ import annotations

import os
from pathlib import Path

import browser
import pytest
from lab import I_KEY, RIGHT, STATUS, Lab, Learn

from coursework import build, checks, config

COURSE = config.find(Path(__file__).parent)
RAISE = "raise NotImplementedError"
WRONG = "    return torch.linspace(beta_start, beta_end, T + 1)[:-1]"  # the end is left out
RIGHT_ANSWER = "    return torch.linspace(beta_start, beta_end, T)"
SOLVED = "solved_schedules.ipynb"
POINTS = {e.id: e.out_of for e in checks.load("01", COURSE.root, answers=False)}
PASSED = f"passed, {POINTS['01.1']} of {POINTS['01.1']} points"


@pytest.fixture
def pictures():
    folder = Path(os.environ.get("COURSE_SCREENSHOTS") or COURSE.root / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def work(tmp_path):
    """The learner's folder; beside the lessons, lesson 01 with its answers, not executed."""
    folder = tmp_path / "work"
    source = build.sources(COURSE, ["01"])[0]
    build.write(folder / SOLVED, build.compose(source, lesson=False))
    return folder


@pytest.fixture
def lab(work, pictures):
    browser.need()
    with Learn(work, "01") as learn, browser.Browser() as window:
        yield Lab(window, learn.address, pictures)


def the_first_passed_check_takes_at_most_five_actions(lab):
    lab.replace_line("def linear_betas", RAISE, RIGHT_ANSWER)
    lab.menu("Run", "Run All Cells")
    lab.says('check("01.1")', PASSED)
    print("actions after make learn: " + "; ".join(lab.actions))
    assert len(lab.actions) <= 5, lab.actions
    lab.picture("1-first-passed-check")


def a_wrong_answer_is_named_and_mended_with_a_hint(lab):
    lab.until_idle()
    lab.replace_line("def linear_betas", RIGHT_ANSWER.strip(), WRONG)
    lab.run()
    lab.click_into('check("01.1")')
    lab.run()
    lab.says('check("01.1")', "A known mistake: end excluded")
    lab.picture("2-mistake-named")

    lab.click_into('check("01.1")')
    lab.new_cell('hint("01.1")')
    lab.run()
    lab.says('hint("01.1")', "Hint 1 of 3")
    lab.picture("3-hint")

    lab.replace_line("def linear_betas", WRONG.strip(), RIGHT_ANSWER)
    lab.run()
    lab.click_into('check("01.1")')
    lab.run()
    lab.says('check("01.1")', PASSED)
    lab.picture("4-mended")


def a_check_reads_well_with_a_screen_reader(lab):
    cell = lab.cell('check("01.1")')
    shown = f"({cell}).querySelector('.jp-OutputArea-output')"
    assert lab.browser.violations(shown) == []


def progress_moves(lab):
    lab.click_into('hint("01.1")')
    lab.new_cell("from coursework import status; status()")
    lab.run()
    lab.says("import status", f"{POINTS['01.1']} of {sum(POINTS.values())}")
    panel = f"({lab.cell('import status')}).querySelector('.jp-OutputArea-output')"
    value = lab.browser.run(f"({panel}).querySelector('progress').value")
    assert value == POINTS["01.1"]
    assert lab.browser.violations(panel) == []
    lab.picture("5-progress")


def a_training_cell_can_be_interrupted(lab):
    lab.click_into("import status")
    lab.new_cell(
        "from undiffuse import sets2d\n"
        "g = torch.Generator().manual_seed(0)\n"
        "sets2d.fit_2d(sets2d.two_moons(500, g), 10_000_000, g)"
    )
    lab.run()
    lab.browser.wait(f"{STATUS}.includes('| Busy')", "the training to begin")
    lab.picture("6-training")
    lab.click_into("fit_2d")
    lab.browser.press("Escape", 27)
    lab.key("i", I_KEY)
    lab.key("i", I_KEY)
    lab.says("fit_2d", "KeyboardInterrupt")
    lab.until_idle()
    lab.picture("7-interrupted")


def after_a_restart_it_goes_on(lab):
    lab.menu("Kernel", "Restart Kernel…")
    lab.browser.click("document.querySelector('.jp-Dialog .jp-mod-accept')", "the dialog's button")
    lab.browser.wait("!document.querySelector('.jp-Dialog')", "the dialog to close")
    lab.until_idle()
    lab.click_into('check("01.1")')
    lab.menu("Run", "Run All Above Selected Cell")
    lab.until_idle()
    lab.click_into('check("01.1")')
    lab.run()
    lab.says('check("01.1")', PASSED)
    lab.picture("8-restarted")


def the_slider_moves_by_keys_and_a_sound_plays(lab):
    lab.goto(SOLVED)
    lab.menu("Run", "Run All Cells")
    lab.browser.wait(f"{STATUS}.includes('| Busy')", "the cells to run")
    lab.until_idle(400)
    lab.find("schedule_slider")
    image = f"({lab.cell('schedule_slider')})?.querySelector('.jp-OutputArea img')"
    lab.browser.wait(f"({image})?.alt.includes('Now at t = 500')", "the slider's first picture")
    handle = f"({lab.cell('schedule_slider')}).querySelector('[role=slider]')"
    lab.browser.run(f"({handle}).focus()")
    named = lab.browser.run(
        f"(h => h.getAttribute('aria-label') || h.closest('.widget-slider')"
        f".querySelector('label')?.textContent)({handle})"
    )
    assert named == "t"
    lab.browser.press("ArrowRight", RIGHT)
    lab.browser.wait(f"({image})?.alt.includes('Now at t = 501')", "the picture to follow")
    lab.picture("9-slider")

    lab.find("listen.sounds")
    player = f"({lab.cell('listen.sounds')}).querySelector('audio')"
    lab.browser.run(f"({player})?.scrollIntoView({{block: 'center'}})")
    lab.browser.wait(f"({player})?.readyState > 0", "the player to know its sound")
    words = lab.browser.run(f"({player}).getAttribute('aria-label')")
    assert "clean bar" in words and "Hz" in words
    lab.browser.run(f"({player}).play()")
    lab.browser.wait(f"({player}).currentTime > 0.1", "the sound to play")
    lab.picture("10-sound")


def nothing_was_asked_of_another_host(lab):
    assert lab.browser.requests(lab.host) == []


@pytest.mark.slow
def test_the_first_hour(lab):
    """One story: each step begins where the one before has ended."""
    for step in (
        the_first_passed_check_takes_at_most_five_actions,
        a_wrong_answer_is_named_and_mended_with_a_hint,
        a_check_reads_well_with_a_screen_reader,
        progress_moves,
        a_training_cell_can_be_interrupted,
        after_a_restart_it_goes_on,
        nothing_was_asked_of_another_host,
    ):
        try:
            step(lab)
        except Exception as error:
            lab.picture("failed")
            error.add_note(f"in the step: {step.__name__.replace('_', ' ')}")
            raise


@pytest.mark.slow
def test_the_slider_and_a_sound(lab):
    the_slider_moves_by_keys_and_a_sound_plays(lab)
    nothing_was_asked_of_another_host(lab)
