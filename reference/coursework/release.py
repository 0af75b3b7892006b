"""``course release FOLDER``: what a class gets, without solutions, the same to the byte each time.

A bundle holds the lessons, the library and the data, and of the checks the cases, drivers and
judges with the recorded outcomes of the public seed. Answers, solutions, the seeds of a grading
and hidden cases stay behind. ``release.json`` says what it was made from and lists its files with
their hashes, by which ``upgrade`` knows what a student changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

from coursework import build, copies, recorded, structure
from coursework import checks as checks_of
from coursework import variants as private
from coursework.config import Course
from coursework.exercise import Checks
from coursework.feedback import PUBLIC_SEED

TOP = ("pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "LICENSE-TEXTS")
TOP += ("CITATION.cff", ".gitignore", ".gitattributes", ".editorconfig")
FILE = "release.json"
NOT_DATA = {"build", "cache", "__pycache__"}
EPOCH = 1_577_836_800  # 2020-01-01: archives of two bundles are the same, too

README = """# {title}: lessons {numbers}

You need Python 3.11 or newer and, on Linux and macOS, `make`.

    make learn

makes an environment in `.venv`, looks at your machine, copies the lessons to `work/` and opens the
next one in JupyterLab. Where there is no `make` (Windows):

    python -m venv .venv
    .venv\\Scripts\\pip install -c constraints.txt -e .
    .venv\\Scripts\\python -m coursework learn

You work in `work/`; nothing else changes. In a notebook, `check("{first}")` tells you at once what
is right, and names a known mistake; `hint("{first}")` gives a hint. Both cost nothing. Hand in the
notebooks from `work/`.

When your teacher hands out a newer bundle, do not unpack it over this one:

    .venv/bin/course upgrade THE-NEW-ONE.zip

brings this folder up to date. Your answers in `work/` are carried over into the new lessons, and
each notebook is kept as it was beside the new one.

This bundle was made from {course}. Its checks carry no answers, so they know one set of inputs;
the class is graded on others. Code: MIT ([LICENSE](LICENSE)); texts and notebooks: CC BY 4.0
([LICENSE-TEXTS](LICENSE-TEXTS)); data: as its cards in `data/` say.
"""


class ReleaseError(Exception):
    """A bundle cannot be made; the message says why."""


def release(
    course: Course,
    folder: Path,
    numbers: list[str] | None = None,
    variants: Path | None = None,
) -> list[str]:
    """Writes the bundle of lessons ``numbers`` (all) to ``folder``; its files, sorted.

    folder: new or empty, or the name of a zip file to be made (``.zip``). variants: a folder of
    private variants (see ``coursework.variants``), without whose hidden cases the lessons are
    made. Raises ``ReleaseError`` for a folder that holds something, a lesson that is stale or
    gives away a solution, or a course without answers to record.
    """
    if folder.suffix == ".zip":
        return _zipped(course, folder, numbers, variants)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} is not an empty folder: name one that is new or empty")
    _refuse_inside(course, folder)
    if not (course.checks / "answers").is_dir():
        raise ReleaseError("this is a bundle already: it holds no answers to record checks from")
    with ExitStack() as stack:
        own = course
        if variants is not None:
            own = stack.enter_context(private.applied(course, variants, hidden=False))
        sources = build.sources(own, numbers)
        if not sources:
            raise ReleaseError(f"{course.solutions.name}/ holds no lesson")
        public = {s.number: s for s in build.sources(course)}
        lessons = copies.lessons(course)
        for s in sources:
            if variants is not None and s.digest != public[s.number].digest:
                continue  # made here, and nowhere else
            composed = build.dumps(build.compose(s, lesson=True))
            if s.number not in lessons or s.lesson_path.read_text(encoding="utf-8") != composed:
                raise ReleaseError(
                    f"lesson {s.number} is stale: run `course build {s.number}` first"
                )
        graded = [s for s in sources if s.checks]
        loaded = {s.number: checks_of.load(s.number, own) for s in graded}
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _fill(course, folder, sources, loaded)
            _refuse_leaks(course, sources, folder)
        except ReleaseError:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for path in [*files, *(p for p in folder.rglob("*") if p.is_dir())]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))
    return [p.relative_to(folder).as_posix() for p in files]


def _refuse_inside(course: Course, folder: Path) -> None:
    if folder.resolve().is_relative_to(course.root.resolve()):
        inside = folder.resolve().relative_to(course.root.resolve()).parts
        if inside and inside[0] not in ("build", "dist", "work"):
            raise ReleaseError(f"{folder} lies in the course itself: name a folder outside of it")


def _zipped(
    course: Course, path: Path, numbers: list[str] | None, variants: Path | None
) -> list[str]:
    """The bundle as a zip with one folder in it, the same to the byte each time."""
    if path.exists():
        raise ReleaseError(f"{path} exists: name one that is new")
    _refuse_inside(course, path)
    if not path.absolute().parent.is_dir():
        raise ReleaseError(f"there is no folder {path.parent} to write {path.name} to")
    with tempfile.TemporaryDirectory(prefix="bundle-") as place:
        folder = Path(place) / path.stem
        files = release(course, folder, numbers, variants)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in files:
                    info = zipfile.ZipInfo(f"{path.stem}/{name}", (2020, 1, 1, 0, 0, 0))
                    info.create_system, info.external_attr = 3, 0o100644 << 16
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, (folder / name).read_bytes())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return files


def _fill(
    course: Course, folder: Path, sources: list[build.Source], loaded: dict[str, Checks]
) -> None:
    for name in TOP:
        if (course.root / name).is_file():
            _put(course.root / name, folder / name)
    for source in sources:
        target = folder / source.lesson_path.relative_to(course.root)
        build.write(target, build.compose(source, lesson=True))
    checks = folder / course.checks.relative_to(course.root)
    (checks / "recorded").mkdir(parents=True)
    for source in sources:
        number = source.number
        if number in loaded:
            _put(source.course.checks / f"lesson_{number}.py", checks / f"lesson_{number}.py")
            data = recorded.record(loaded[number], (PUBLIC_SEED,))
            (checks / "recorded" / f"{number}.bin").write_bytes(data)
    for package in _packages(course):
        for file in _files(package):
            _put(file, folder / file.relative_to(course.root))
    data = course.root / "data"
    for file in _files(data):
        if needed(course, file.relative_to(data).as_posix(), {s.number for s in sources}):
            _put(file, folder / file.relative_to(course.root))
    first = next((e.id for c in loaded.values() for e in c), "NN.N")
    made_from = build.compose(sources[0], lesson=True)["metadata"]["coursework"]["course"]
    text = README.format(
        title=course.title,
        numbers=", ".join(s.number for s in sources),
        first=first,
        course=made_from,
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
    about = {
        "course": made_from,
        "lessons": {
            s.number: {
                "checks_version": build.checks_version(s.course, s.number),
                "source_version": s.digest,
            }
            for s in sources
        },
        "files": {
            f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(folder.rglob("*"))
            if f.is_file()
        },
    }
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")


def needed(course: Course, name: str, numbers: set[str]) -> bool:
    """Whether a file of the data goes with the lessons ``numbers``."""
    of = [set(lessons) for pattern, lessons in course.lesson_data if fnmatch(name, pattern)]
    return not of or any(lessons & numbers for lessons in of)


def _packages(course: Course) -> list[Path]:
    """The folders of ``coursework`` and of the library, where the course keeps them."""
    text = (course.root / "pyproject.toml").read_text(encoding="utf-8")
    where = re.search(r'where\s*=\s*\["([^"]+)"\]', text)
    base = course.root / (where[1] if where else ".")
    return [p for name in ("coursework", course.library) if (p := base / name).is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not NOT_DATA & set(inside[:-1]) and path.suffix != ".pyc":
            yield path


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _refuse_leaks(course: Course, sources: list[build.Source], folder: Path) -> None:
    for source in sources:
        for part in (course.lessons, course.checks):
            for file in _files(folder / part.relative_to(course.root)):
                if file.suffix == ".bin":
                    continue
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".ipynb":
                    cells = json.loads(text)["cells"]
                    text = "\n".join("".join(c["source"]) for c in cells)
                if found := structure.leaks(source, text):
                    where = file.relative_to(folder)
                    raise ReleaseError(f"{where} holds a line of a solution: {found[0]}")
