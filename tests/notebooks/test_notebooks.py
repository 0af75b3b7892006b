"""Every solution runs from top to bottom with the small budget, and shows what it showed.

nbval executes each ``solutions/*.ipynb`` in a new kernel and compares the cells that the builder
tagged for comparing. Each runs in an empty folder, without a learner's progress.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coursework import build, config

COURSE = config.find(Path(__file__).parent)
NOTEBOOKS = sorted(COURSE.solutions.glob("*.ipynb"))


def test_every_solution_is_executed():
    built = {p.stem for p in NOTEBOOKS}
    assert {s.path.stem for s in build.sources(COURSE)} == built, "run: course build"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, tmp_path):
    with build.quiet_room(COURSE, "small", None) as (folder, env):
        env.pop("PYTEST_ADDOPTS", None)
        for name in [n for n in env if n.startswith("PYTEST_XDIST")]:
            del env[name]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "--nbval-lax", str(path), "-q"),
                *("-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={folder}"),
                *("-c", os.devnull, f"--nbval-cell-timeout={600}", "--nbval-current-env"),
            ],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
