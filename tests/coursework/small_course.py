"""A course of one lesson in a folder of its own: the one that CONTRIBUTING.md writes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from coursework import config

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r"^`([\w./]+\.py)`\n\n```python\n(.*?)^```$", re.M | re.S)
PYPROJECT = """[project]
name = "small"
version = "0.3"

[tool.setuptools.packages.find]
where = ["reference"]

[tool.coursework]
title = "Small"
lessons = "lessons"
solutions = "solutions"
checks = "tests/exercises"
work = "work"
library = "undiffuse"
"""
NUMBER, SLUG = "42", "42_signal_and_noise"
SOLUTION_LINES = ("signal, noise = alpha_bar, 1 - alpha_bar", "return signal / noise")
RIGHT = "def snr(alpha_bar):\n    return alpha_bar / (1 - alpha_bar)\n"
WRONG = "def snr(alpha_bar):\n    return (1 - alpha_bar) / alpha_bar\n"


def files() -> dict[str, str]:
    """Path -> text of the files that CONTRIBUTING.md shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(FILE.findall(text))


def make(root: Path, library: bool = False) -> config.Course:
    """The course in ``root``; with ``library``, the packages too."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text(PYPROJECT)
    for name, text in files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "lessons").mkdir(exist_ok=True)
    if library:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "reference/coursework", root / "reference/coursework", ignore=ignore)
        package = root / "reference/undiffuse"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "schedules.py").write_text('"""Nothing yet."""\n')
        (root / "LICENSE").write_text("free\n")
        cards = root / "data" / "images"
        cards.mkdir(parents=True)
        (cards / "dots.md").write_text("# Dots\n")
        (root / "data" / "cache").mkdir()
        (root / "data" / "cache" / "big.bin").write_bytes(b"0" * 1000)
    return config.load(root.resolve())


def source(course: config.Course) -> Path:
    """The lesson's source."""
    return course.solutions / f"{SLUG}.py"


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replaces text that must be there."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
