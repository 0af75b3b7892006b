"""Other doors: what they name is there, and the course needs no more than they install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coursework import build, config, grader

ROOT = Path(__file__).parents[1]
COURSE = config.load(ROOT)
DOORS = (ROOT / "docs" / "doors.md").read_text(encoding="utf-8")
# What Colab has of what the course depends on (https://colab.research.google.com, `!pip list`);
# doors.md names them, or they are only needed to serve and to build notebooks.
COLAB_HAS = {
    *("torch", "numpy", "scipy", "matplotlib", "pillow", "tqdm", "safetensors", "soundfile"),
    *("scikit-learn", "ipykernel", "ipywidgets", "nbformat", "nbclient", "typer", "rich"),
    *("pyyaml", "jinja2"),
}
NOT_FOR_A_LESSON = {"jupyterlab"}


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {canonicalize_name(Requirement(d).name) for d in project["dependencies"]}


def closure(names: set[str]) -> set[str]:
    """The distributions that come with ``names``, as they are installed here."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            plain = canonicalize_name(need.name)
            if (need.marker is None or need.marker.evaluate({"extra": ""})) and plain not in found:
                left.add(plain)
    return found


def hidden() -> list[str]:
    """Modules that are installed here, but not by ``pip install -e .``."""
    allowed = closure(dependencies()) | {"undiffuse", "pip", "setuptools", "wheel"}
    owners = metadata.packages_distributions()
    return sorted(
        module
        for module, dists in owners.items()
        if not {canonicalize_name(d) for d in dists} & allowed
    )


def in_plain_environment(code: str, tmp_path: Path) -> str:
    """What ``code`` prints in a Python that has only what ``pip install -e .`` brings."""
    guard = f"""
        import sys
        HIDDEN = set({hidden()!r})
        from importlib.machinery import PathFinder
        real = PathFinder.find_spec
        def seen(name, path=None, target=None):
            return None if name.split(".")[0] in HIDDEN else real(name, path, target)
        PathFinder.find_spec = staticmethod(seen)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(guard) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**_environment(), "COURSE_ROOT": str(ROOT), "COURSE_WORK": str(tmp_path / "work")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}


def test_the_guard_hides_what_tests_bring(tmp_path):
    assert {"pytest", "diffusers", "hypothesis"} <= set(hidden())
    assert not {"torch", "numpy", "jupyterlab", "undiffuse", "IPython"} & set(hidden())
    said = in_plain_environment(
        """
        import importlib.util
        print([importlib.util.find_spec(m) is None for m in ("diffusers", "hypothesis", "numpy")])
        """,
        tmp_path,
    )
    assert said.strip() == "[True, True, False]"


@pytest.mark.slow
def test_every_module_loads_with_only_what_pip_installs(tmp_path):
    said = in_plain_environment(
        """
        import importlib, pkgutil
        import coursework, undiffuse
        missing = []
        for package in (coursework, undiffuse):
            for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                if m.name.endswith("__main__"):
                    continue
                try:
                    importlib.import_module(m.name)
                except ModuleNotFoundError as error:
                    missing.append((m.name, error.name))
        print(missing)
        """,
        tmp_path,
    )
    # What an extra of pyproject.toml brings is asked for with a sentence where it is used; the
    # plugins run inside the programs that they are named after.
    extras = {"dask", "distributed", "pyarrow"}
    clients = {"coursework.formats.nbgrader_plugin": "nbgrader",
               "coursework.formats.otter_plugin": "otter"}  # fmt: skip
    assert all(name in extras or clients.get(module) == name for module, name in eval(said)), said


@pytest.mark.slow
def test_a_check_runs_with_only_what_pip_installs(tmp_path):
    said = in_plain_environment(
        """
        import torch
        from coursework import check, hint, status

        def linear_betas(T, beta_start=1e-4, beta_end=0.02):
            return torch.linspace(beta_start, beta_end, T)

        print(repr(check("01.1")).split(",")[0])
        print(repr(hint("01.1")).split(":")[0])
        print("next" in repr(status()))
        """,
        tmp_path,
    )
    assert "passed" in said and "Hint 1" in said and said.strip().endswith("True")


def test_colab_gets_what_it_lacks():
    (cell,) = re.findall(r"```ipython\n(.*?)```", DOORS, re.S)
    (line,) = re.findall(r"^!pip install -q (.+)$", cell, re.M)
    named = {canonicalize_name(Requirement(n).name) for n in line.split()}
    assert dependencies() - COLAB_HAS - NOT_FOR_A_LESSON == named
    assert "/content/course/reference" in cell
    told = DOORS.lower()
    for name in ("torch", "numpy", "scipy", "matplotlib", "safetensors", "soundfile", "jinja2"):
        assert name in told


def test_binder_installs_the_course_as_it_was_tested():
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").split("\n")
    wanted = [x for x in lines if x and not x.startswith("#")]
    assert wanted[-2:] == ["-c ../constraints.txt", "-e ."]
    assert (ROOT / ".binder" / "../constraints.txt").is_file()
    version = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f">={version}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_container_copies_what_is_there_and_starts_what_exists():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for sources in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", text, re.M):
        for name in sources.split():
            assert (ROOT / name).exists(), name
    assert "-c constraints.txt" in text and "USER learner" in text
    command = json.loads(re.search(r"^CMD (.+)$", text, re.M)[1])
    assert command[:4] == ["python", "-m", "coursework", "learn"]
    done = subprocess.run(
        [sys.executable, *command[1:4], "--help"], capture_output=True, text=True, cwd=ROOT
    )
    options = [w for w in command[4:] if w.startswith("--")]
    assert all(o in done.stdout.replace("browser/--no-", "no-") for o in options), done.stdout
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()


def test_pip_lines_of_the_doors_install_what_is_named():
    lines = re.findall(r"^\S*pip install (.+)$", DOORS, re.M)
    assert len(lines) >= 3
    for line in (x for x in lines if "-e" in x):
        assert line.endswith("-e .") and "-c constraints.txt" in line


@pytest.mark.slow
@pytest.mark.parametrize("number", ["00", "02", "06"])
def test_a_notebook_that_lost_every_tag_is_graded_the_same(number, tmp_path):
    """As some editors save it: no tags, no ids, no metadata of ours, an older format."""
    (source,) = build.sources(COURSE, [number])
    notebook = build.compose(source, lesson=False)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id")
        if cell["cell_type"] == "code":
            cell["source"] = [*cell["source"].splitlines(True)]
    notebook.update(nbformat_minor=4, metadata={"language_info": {"name": "python"}})
    file = tmp_path / source.lesson_path.name
    file.write_text(json.dumps(notebook), encoding="utf-8")
    report = grader.grade_file(file, COURSE)
    assert report.points == report.out_of > 0, report
