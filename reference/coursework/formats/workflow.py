"""A GitHub workflow for students' repositories: checks at each push, with the bundle's checks.

It may read the repository and nothing else; a pull request from a fork gets no secret, for there is
none. Syntax: docs.github.com, "Workflow syntax for GitHub Actions".
"""

from __future__ import annotations

from pathlib import Path

from coursework.formats import FormatError

NAME = ".github/workflows/course.yml"
KEEP = """
# Handed in with this repository: what a learner writes, and nothing that a run leaves.
!/work/
/work/*
!/work/*.ipynb
"""

WORKFLOW = """# Checks the notebooks in work/ at each push. The points are feedback: the class is
# graded with other inputs. Made by `course export github-workflow`.
name: course
on:
  push:
  pull_request:
  workflow_dispatch:

permissions:
  contents: read

concurrency:
  group: course-${{ github.ref }}
  cancel-in-progress: true

jobs:
  check:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
        with:
          persist-credentials: false
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
          cache: pip
          cache-dependency-path: constraints.txt
      - name: Install
        run: >-
          python -m pip install -c constraints.txt
          --extra-index-url https://download.pytorch.org/whl/cpu -e .
      - name: Check
        id: check
        run: python -m coursework ci work --format github --format junit=junit.xml
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: junit
          path: junit.xml
          if-no-files-found: ignore
"""


def write(folder: Path) -> list[Path]:
    """Writes the workflow into a student bundle, and lets git keep ``work/*.ipynb``.

    The files written; the same folder a second time stays as it is. Raises ``FormatError`` for a
    folder that is no student bundle: a workflow in a course with answers would publish points.
    """
    if not (folder / "release.json").is_file():
        raise FormatError(f"{folder} is no student bundle (`course release` makes one)")
    target = folder / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(WORKFLOW, encoding="utf-8", newline="\n")
    ignore = folder / ".gitignore"
    text = ignore.read_text(encoding="utf-8") if ignore.is_file() else ""
    if KEEP.strip() not in text:
        ignore.write_text(text + KEEP, encoding="utf-8", newline="\n")
    return [target, ignore]
