"""Hostile submissions, by what is handed in and not by what an answer does. See ``attacks``.

Each makes a folder or a zip in which Eve's submission lies beside Anna's, which is right. Eve may
get what ``most`` says and no more, and Anna gets all her points, under her own name.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from toy_course import SCALE, SHIFT, WRONG_SCALE, lesson_01, notebook

JUDGED = "the judge reads files as text, within limits, and runs nothing"
EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;title\x07\x1b[31mred\x1b[2J"
    "\u202egnp\r\n::error file=a.py::forged\n::stop-commands::x\n=HYPERLINK(1)|@everyone ]]>"
)
FORMULA = '=HYPERLINK("http://x.example","you have won")'


@dataclass(frozen=True)
class Handed:
    """make: (folder to put things in, root of the toy course) -> what is graded."""

    name: str
    make: Callable[[Path, Path], Path]
    stopped: str = JUDGED
    most: int = 0


def right() -> str:
    """Anna's notebook."""
    return nbformat.writes(lesson_01())


def answer(scale: str, shift: str = SHIFT, extra: tuple[str, ...] = ()) -> str:
    """A notebook with ``scale`` as answer to 01.1."""
    return nbformat.writes(lesson_01(scale, shift, extra))


def tree(folder: Path, files: dict[str, str | bytes]) -> Path:
    """``files`` in ``folder``."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    """A zip with ``files``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def flat(**eve: str | Callable[[], str]) -> Callable[[Path, Path], Path]:
    """A folder with Anna's notebook and Eve's, whose text is ``eve["ipynb"]`` or ``eve["py"]``,
    or made by it where it is long."""
    ((suffix, text),) = eve.items()

    def make(folder: Path, _: Path) -> Path:
        own = text() if callable(text) else text
        return tree(folder, {"anna.ipynb": right(), f"eve.{suffix}": own})

    return make


def inside(**files: str | bytes) -> Callable[[Path, Path], Path]:
    """A folder a student; Eve has a wrong notebook and ``files`` beside it."""
    own = {f"eve/{name}": data for name, data in files.items()}
    both = {"anna/01.ipynb": right(), "eve/01.ipynb": answer(WRONG_SCALE)}
    return lambda folder, _: tree(folder, {**both, **own})


def _bomb(folder: Path, _: Path) -> Path:
    return zipped(folder / "c.zip", {"anna.ipynb": right(), "eve.ipynb": b" " * 40_000_000})


def _lying_bomb(folder: Path, _: Path) -> Path:
    path = zipped(folder / "c.zip", {"anna.ipynb": right(), "eve.ipynb": b" " * 5_000_000})
    packed = struct.pack("<I", 5_000_000)
    path.write_bytes(path.read_bytes().replace(packed, struct.pack("<I", 5000)))
    return path


def _huge_claim(folder: Path, _: Path) -> Path:
    path = zipped(folder / "c.zip", {"eve.ipynb": answer(SCALE), "anna.ipynb": right()})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    data[first + 24 : first + 28] = struct.pack("<I", 4_294_000_000)
    path.write_bytes(bytes(data))
    return path


def _same_bytes(folder: Path, _: Path) -> Path:
    path = zipped(folder / "c.zip", {"anna.ipynb": right(), "eve.ipynb": answer(SCALE)})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 10)
    path.write_bytes(bytes(data))
    return path


def _encrypted(folder: Path, _: Path) -> Path:
    path = zipped(folder / "c.zip", {"anna.ipynb": right(), "eve.ipynb": answer(SCALE)})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(bytes(data))
    return path


def _traversal(folder: Path, _: Path) -> Path:
    names = ["../eve.ipynb", "../../anna.ipynb", "/tmp/left-by-eve.ipynb", "C:\\eve.ipynb"]
    names += ["a\\..\\..\\left-by-eve.ipynb", "eve/../anna.ipynb", "//eve/../../x.ipynb"]
    made = {name: answer(WRONG_SCALE) for name in names}
    return zipped(folder / "c.zip", {"anna.ipynb": right(), **made})


def _link_in_zip(folder: Path, course: Path) -> Path:
    path = folder / "c.zip"
    with zipfile.ZipFile(path, "w") as z:
        link = zipfile.ZipInfo("eve.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        z.writestr(link, "anna.ipynb")
        z.writestr("anna.ipynb", right())
    return path


def _archive_in_archive(folder: Path, _: Path) -> Path:
    inner = zipped(folder / "in.zip", {"01.ipynb": answer(SCALE)}).read_bytes()
    (folder / "in.zip").unlink()
    return zipped(folder / "c.zip", {"anna/01.ipynb": right(), "eve/01.zip": inner})


def _many_files(folder: Path, _: Path) -> Path:
    files = {f"eve/{i}.txt": b"" for i in range(25_000)}
    return zipped(folder / "c.zip", {"anna/01.ipynb": right(), **files})


def _links(folder: Path, course: Path) -> Path:
    tree(folder, {"anna/01.ipynb": right(), "eve/notes.md": "x"})
    os.symlink("../anna/01.ipynb", folder / "eve" / "01.ipynb")
    os.symlink(course / "checks" / "answers" / "lesson_01.py", folder / "eve" / "01.py")
    os.symlink("..", folder / "eve" / "up")
    os.symlink("round", folder / "eve" / "round")
    os.symlink("/dev/zero", folder / "eve" / "zero.ipynb")
    os.symlink("/proc/self/environ", folder / "eve" / "environ.ipynb")
    return folder


def _pipes(folder: Path, _: Path) -> Path:
    tree(folder, {"anna.ipynb": right()})
    for name in ("eve.ipynb", "eve2.py", "eve3.zip"):
        os.mkfifo(folder / name)
    return folder


def _deep_folders(folder: Path, _: Path) -> Path:
    tree(folder, {"anna/01.ipynb": right(), "eve/x.md": "x"})
    back = os.getcwd()
    os.chdir(folder / "eve")
    try:
        for _i in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(back)
    return folder


def _lookalikes(folder: Path, _: Path) -> Path:
    wrong = answer(WRONG_SCALE)
    names = [
        "ev\u200be",
        "\u202eeve",
        "e\u0301ve",
        "\u00e9ve",
        "\uff45ve",
        "eve\u2060",
        "eve\x1b[1m",
        "\u0430nna",
        "ann\u0430",
    ]
    return tree(folder, {"anna.ipynb": right(), **{f"{n}.ipynb": wrong for n in names}})


def _evil_names(folder: Path, _: Path) -> Path:
    names = [
        EVIL.replace("/", "\u2215")[:120],
        FORMULA.replace("/", "\u2215"),
        "\t=1+1",
        "-- --help",
    ]
    names += ["eve\n::error::forged", "eve\r\nX: 1", "'; DROP TABLE grades; --", "%s%n{0}", "CON"]
    wrong = answer(WRONG_SCALE)
    return tree(folder, {"anna.ipynb": right(), **{f"{n}.ipynb": wrong for n in names}})


def _deep_code() -> str:
    shapes = [
        "-" * 3000 + "1", "not " * 3000 + "1", "(" * 150 + ")" * 150, "a" + ".b" * 9000,
        "lambda: " * 3000 + "1", "f" + "()" * 9000, "1" + "+1" * 9000, "1" + "<1" * 9000,
        "1 if 1 else " * 3000 + "1", "[1 " + "for a in b " * 3000 + "]", "[" * 150 + "]" * 150,
        "f'{" * 3 + "1" + "}'" * 3, "9" * 9000, "a" + "[0]" * 9000,
    ]  # fmt: skip
    cells = [f"deep{i} = {s}" for i, s in enumerate(shapes)]
    cells += ["@a\n" * 9000 + "def deep(): pass", "if 1: pass\n" + "elif 1: pass\n" * 3000]
    names = ", ".join(f"deep{i}" for i in range(len(shapes)))
    return answer(f"def scale(x, k):\n    {names}\n    return x - k\n", extra=tuple(cells))


def _nested(depth: int) -> str:
    return '{"nbformat": 4, "cells": [], "metadata": {"x": ' + "[" * depth + "]" * depth + "}}"


def _headed(lines: list[str]) -> str:
    header = "".join(f"# {line}\n" for line in ["---", "jupyter:", *lines, "---"])
    return f'{header}\n# %% tags=["answer"] exercise="01.1"\n{WRONG_SCALE}'


RULES = '[[overrides]]\nstudent = "eve"\nlesson = "01"\npoints = 5\nreason = "mine"\n'
MAGICS = (
    "%%bash\ntouch left-by-eve", "!touch left-by-eve", "%run 01.py", "%%writefile left-by-eve\nx",
    "%load_ext autoreload", "get_ipython().system('touch left-by-eve')",
)  # fmt: skip
ALIASES = ["  a0: &a0 {k: v}"]
ALIASES += [f"  a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]


def _huge_output() -> str:
    stream = '{"output_type": "stream", "name": "stdout", "text": "%s"}' % ("x" * 40_000_000)
    return answer(WRONG_SCALE).replace('"outputs": []', f'"outputs": [{stream}]', 1)


def _in_metadata() -> str:
    made = lesson_01(WRONG_SCALE)
    made.metadata["coursework"] = {
        "lesson": "01", "points": 99, "student": "anna", "checks_version": "../..", "seed": 1,
        "verdict": "ok", "exercises": {"01.1": {"points": 99}},
    }  # fmt: skip
    for c in made.cells:
        c.metadata["points"], c.metadata["passed"] = 99, True
        if c.cell_type == "code":
            c.outputs = [nbformat.v4.new_output("stream", text="✓ 01.1: 3 of 3 points")]
    return nbformat.writes(made)


def _two_of_all() -> str:
    """JSON with its keys twice, and the answer in outputs and raw cells."""
    text = answer(WRONG_SCALE)
    return text.rstrip().removesuffix("}") + ', "cells": ' + json.dumps([]) + "}"


def _evil_texts() -> str:
    source = (
        f"EVIL = {EVIL!r}\nclass Evil(Exception): pass\nEvil.__name__ = Evil.__qualname__ = EVIL\n"
        "def scale(x, k):\n    print(EVIL)\n    raise Evil(EVIL)\n"
    )
    shift = f"def shift(x, k):\n    return [{EVIL!r}, {FORMULA!r}]\n"
    return answer(source, shift)


HANDED_IN = [
    Handed("a zip bomb", _bomb, "a member's ratio"),
    Handed("a zip bomb that lies about its size", _lying_bomb, "what is read is cut"),
    Handed("a file that claims 4 GB", _huge_claim, "what is too large is not read"),
    Handed("bytes of another's file", _same_bytes, "members that share bytes are not read"),
    Handed("an encrypted member", _encrypted, "it is not read"),
    Handed("paths out of a zip", _traversal, "nothing is unpacked"),
    Handed("a link in a zip", _link_in_zip, "links in zips are not followed"),
    Handed("an archive in an archive", _archive_in_archive, "archives are opened once"),
    Handed("25,000 files in a zip", _many_files, "a zip is listed once"),
    Handed("links to answers, devices and another's work", _links, "links out are not followed"),
    Handed("pipes", _pipes, "only files are opened"),
    Handed("1,500 folders in one another", _deep_folders, "a limit on depth"),
    Handed("names that look alike", _lookalikes, "names are shown without what cannot be seen", 2),
    Handed("names that are code", _evil_names, "names are cleaned, and quoted where they stand", 2),
    Handed("JSON nested 100,000 deep", flat(ipynb=_nested(100_000))),
    Handed(
        "sixteen million lists",
        flat(ipynb=lambda: _nested(1).replace("[]", "[" + "[]," * 16_000_000 + "1]")),
        "a limit on lists",
    ),
    Handed("a notebook of 60 MB", flat(ipynb=lambda: " " * 60_000_000), "a limit on size"),
    Handed(
        "40 MB of output",
        flat(ipynb=_huge_output),
        "outputs are not looked at", 2,
    ),
    Handed("code nested so deep that parsers break", flat(ipynb=_deep_code()), JUDGED, 2),
    Handed(
        "a million dependences",
        flat(ipynb=answer("y = []\n" + "y.append(y)\n" * 4000
                          + "def scale(x, k):\n    return x - k if y else x\n")),
        "a limit on steps", 2,
    ),
    Handed("90,000 statements", flat(ipynb=lambda: answer("z\n" * 90_000)), "a limit"),
    Handed("aliases that stand for terabytes", flat(py=_headed(ALIASES)), "headers are left out"),
    Handed("100,000 cells", flat(py=lambda: "# %%\nx = 1\n" * 100_000), "a limit on cells"),
    Handed("points in the metadata", flat(ipynb=_in_metadata()), "only answers count", 2),
    Handed("keys twice, and nothing in them", flat(ipynb=_two_of_all()), "only answers count", 0),
    Handed(
        "rules, roster and gradebook of one's own",
        inside(**{
            "class.toml": RULES,
            "roster.csv": "id,name\nanna,eve\n", "gradebook.sqlite": b"SQLite format 3\0",
            "class.secret": "0" * 64, "grades.json": "{}", "results.json": '{"score": 5}',
        }),
        "rules are never read from where submissions lie", 2,
    ),
    Handed(
        "Gradescope's table of who is who",
        inside(**{
            "submission_metadata.yml": "\n".join(
                ["submission_1:", "  :submitters:", "  - :name: anna", *ALIASES]
            ),
        }),
        "it is read at the top of a platform's zip alone", 2,
    ),
    Handed(
        "modules beside the notebook",
        inside(**{f"{n}.py": "raise SystemExit('left by eve')" for n in
                  ("torch", "numpy", "sitecustomize", "conftest", "json", "coursework", "toy")}),
        "nothing that is handed in is on the path", 2,
    ),
    Handed("markup, commands and escapes in texts", flat(ipynb=_evil_texts()), "texts are cleaned"),
    Handed(
        "exercises that are nowhere",
        flat(ipynb=nbformat.writes(notebook({"01.1": WRONG_SCALE, "02.1": SHIFT, "99.9": "x = 1",
                                             "../../x": WRONG_SCALE, "": WRONG_SCALE}))),
        "an answer is looked for by its exercise's names", 2,
    ),
    Handed(
        "magics and other languages",
        flat(ipynb=answer(WRONG_SCALE, extra=MAGICS)),
        "magics are taken out", 2,
    ),
]  # fmt: skip
