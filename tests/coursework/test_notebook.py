"""Reading notebooks that editors, learners and accidents have changed, and finding answers."""

from __future__ import annotations

import json
import time

import pytest

from coursework import harness
from coursework.exercise import Exercise
from coursework.notebook import (
    InvalidNotebook,
    Notebook,
    extract,
    lesson_of,
    parse,
    python_source,
    read,
)

JUMP = Exercise("02.2", "Jump", ("jump",), {"main": 1}, ("hint",), library=("bib.process.jump",))
PAIR = Exercise("02.5", "Pair", ("first", "second"), {"main": 2}, ("hint",))
PROVIDES = ("bib.data", "bib.schedules")
STUB = (
    'def jump(x, k):\n    """x moved by k."""\n    raise NotImplementedError("02.2: write jump")\n'
)
ANSWER = 'def jump(x, k):\n    """x moved by k."""\n    return x + k\n'
SETUP = "import math\nimport torch\nfrom coursework import check, hint\nfrom bib import data\n"


def code(source, *tags, exercise=None, **metadata):
    if tags:
        metadata["tags"] = list(tags)
    if exercise:
        metadata["exercise"] = exercise
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "x",
        "metadata": metadata,
        "outputs": [],
        "source": source.splitlines(True),
    }


def answer(source, exercise="02.2"):
    return code(source, "answer", exercise=exercise)


def checked(exercise="02.2"):
    return code(f'check("{exercise}")', "check")


def book(*cells, **metadata) -> Notebook:
    cells = [code(c) if isinstance(c, str) else c for c in cells]
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    return parse(json.dumps(tree).encode())


def take(*cells, exercise=JUMP, skip=(), provides=PROVIDES):
    return extract(book(*cells), exercise, "bib", provides, skip)


def run(extracted, given=""):
    """The names after running the chunks, as the grader does."""
    assert extracted.status == "ok", (extracted.status, extracted.says)
    names, problem = harness.execute(extracted.chunks, given)
    assert problem is None, (problem, extracted.chunks)
    return names


def jump(*cells, **options):
    return run(take(*cells, **options))["jump"]


def text(extracted) -> str:
    return "".join(source for _, source in extracted.chunks)


# Reading


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"not json", "is not JSON"),
        (b"[1, 2]", "a JSON list"),
        (b"3", "a JSON int"),
        (b"{}", "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"cells": [3]}', "cell 1 is a int"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "source of cell 1"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "source of cell 1"),
        (b'{"nbformat": 2, "cells": []}', "format 2"),
        (b'{"nbformat": 5, "cells": []}', "format 5"),
        (b'{"nbformat": 3, "worksheets": 4}', "no list of cells"),
        (b"\x80\x81\xff", "is not a text file"),
        (b"[" * 200_000, "deeply"),
        (b'{"cells": [' + b"1" * 6000 + b"]}", "JSON"),
        (b'{"cells": [', "is not JSON"),
    ],
)
def test_what_is_not_a_notebook_is_refused_with_a_reason(data, says):
    with pytest.raises(InvalidNotebook, match=r"notebook\.ipynb") as caught:
        parse(data)
    assert says in str(caught.value)


def test_too_big_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("coursework.notebook.SIZE_LIMIT", 100)
    file = tmp_path / "big.ipynb"
    file.write_bytes(b" " * 101)
    with pytest.raises(InvalidNotebook, match="clear its outputs"):
        read(file)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.ipynb")


def test_missing_fields_cost_nothing():
    tree = {"cells": [{"cell_type": "code", "source": ANSWER}, {"source": "?"}]}
    found = parse(json.dumps(tree).encode())
    assert [c.kind for c in found.cells] == ["code", "raw"]
    assert extract(found, JUMP, "bib", PROVIDES).status == "ok"
    odd = {"cell_type": "code", "source": ANSWER, "metadata": {"tags": "answer", "exercise": 4}}
    found = parse(json.dumps({"cells": [odd], "metadata": 3, "nbformat_minor": "x"}).encode())
    assert found.cells[0].tags == () and found.cells[0].exercise == ""


def test_format_3():
    sheet = {
        "cells": [
            {"cell_type": "heading", "level": 1, "source": ["Title"]},
            {"cell_type": "code", "input": ANSWER.splitlines(True), "language": "python"},
        ]
    }
    tree = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}
    found = parse(json.dumps(tree).encode())
    assert found.cells[0].kind == "markdown"
    assert run(extract(found, JUMP, "bib", PROVIDES))["jump"](1, 2) == 3


@pytest.mark.parametrize("minor", [0, 2, 4, 5, 9])
def test_format_4_with_an_unknown_kernel(minor):
    kernel = {"kernelspec": {"name": "no-such-kernel", "language": "klingon"}}
    tree = {"nbformat": 4, "nbformat_minor": minor, "metadata": kernel, "cells": [answer(ANSWER)]}
    assert extract(parse(json.dumps(tree).encode()), JUMP, "bib", PROVIDES).status == "ok"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_and_windows_line_ends(encoding):
    tree = {"cells": [answer(("\ufeff" + ANSWER).replace("\n", "\r\n"))]}
    found = parse(json.dumps(tree).encode(encoding))
    assert found.cells[0].source == ANSWER
    assert run(extract(found, JUMP, "bib", PROVIDES))["jump"](1, 2) == 3


def test_percent_files(tmp_path):
    file = tmp_path / "02_x.py"
    file.write_bytes(
        b"# %% [markdown]\r\n# # Title\r\n\r\n"
        b'# %% tags=["answer"] exercise="02.2"\r\ndef jump(x, k):\r\n    return x + k\r\n'
    )
    found = read(file)
    assert [c.kind for c in found.cells] == ["markdown", "code"]
    assert found.cells[1].tags == ("answer",) and found.cells[1].exercise == "02.2"
    assert lesson_of(found) == "02"


def test_reading_and_cutting_take_milliseconds():
    cells = [code(SETUP)] + [code(f"def f{i}(x):\n    return x + {i}\n" * 5) for i in range(60)]
    data = json.dumps({"cells": [*cells, answer(ANSWER)]}).encode()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        extract(parse(data), JUMP, "bib", PROVIDES)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1


@pytest.mark.parametrize(
    "found, number",
    [
        (book("1", coursework={"lesson": "07"}), "07"),
        (book(answer(ANSWER), coursework={"lesson": 7}), "02"),
        (book(code("x", exercise="03.1"), code("y", exercise="03.2")), "03"),
        (book(ANSWER, "check('04.2')"), "04"),
        (book("x = 1"), None),
    ],
)
def test_lesson_of(found, number):
    found.path = None
    assert lesson_of(found) == number


@pytest.mark.parametrize(
    "name, number",
    [
        ("02_forward.ipynb", "02"),
        ("lesson 02.ipynb", "02"),
        ("anna_02.ipynb", "02"),
        ("2024_notes.ipynb", None),
        ("notes.ipynb", None),
    ],
)
def test_lesson_by_file_name(tmp_path, name, number):
    file = tmp_path / name
    file.write_text('{"cells": []}')
    assert lesson_of(read(file)) == number


# Finding the answer


def test_a_tagged_answer_with_its_imports():
    found = take(SETUP, answer("def jump(x, k):\n    return math.floor(x) + k\n"), checked())
    assert run(found)["jump"](1.5, 2) == 3
    assert found.chunks[0][0] == "<cell 1>" and found.chunks[1][0] == "<cell 2>"
    assert "torch" not in text(found) and "coursework" not in text(found)
    assert "bib" not in text(found)


def test_the_stub_is_not_attempted():
    assert take(SETUP, answer(STUB), checked()).status == "not attempted"
    kept = 'def jump(x, k):\n    n = 3\n    raise NotImplementedError("02.2")\n'
    assert take(answer(kept)).status == "not attempted"
    assert take(answer("def jump(x, k): raise NotImplementedError\n")).status == "not attempted"
    assert take(answer('raise NotImplementedError("02.2: write jump")')).status == "not attempted"


def test_the_stubs_raise_left_below_an_answer_is_no_stub():
    left = ANSWER + '    raise NotImplementedError("02.2: write jump")\n'
    assert jump(answer(left))(1, 2) == 3


@pytest.mark.parametrize("cells", [(), (answer(""),), ("x = 1",), (answer("# nothing"),)])
def test_an_emptied_notebook_has_no_answer(cells):
    found = take(*cells)
    assert found.status == "missing" and "jump is not defined" in found.says


def test_tags_removed():
    assert jump(SETUP, ANSWER, 'check("02.2")')(1, 2) == 3


def test_of_several_the_last_that_is_not_the_stub():
    other = ANSWER.replace("x + k", "x - k")
    assert jump(answer(ANSWER), answer(STUB))(1, 2) == 3
    assert jump(answer(STUB), ANSWER)(1, 2) == 3
    assert jump(answer(STUB), answer(ANSWER), answer(other))(1, 2) == -1
    assert jump(answer(ANSWER), checked(), other, answer(STUB))(1, 2) == -1


def test_a_figure_that_rebinds_the_name_is_not_the_answer():
    assert jump(answer(ANSWER), code("jump = None", "figure"))(1, 2) == 3


def test_cells_reordered():
    body = "def jump(x: torch.Tensor, k: int = K):\n    return helper(x) + k\n"
    helper = "def helper(x):\n    return x * SCALE\n"
    found = take(checked(), answer(body), helper, "K = 4", "SCALE = 3", SETUP)
    assert run(found)["jump"](2) == 10


def test_an_answer_as_an_assignment():
    assert jump(answer("jump = lambda x, k: x + k"))(1, 2) == 3
    wrapped = ANSWER + "import torch\njump = torch.no_grad()(jump)\n"
    assert jump(answer(wrapped))(1, 2) == 3
    assert jump(answer("import operator as o\njump = o.add"))(1, 2) == 3


def test_two_names_of_one_exercise():
    first = "def first(x):\n    return 1\n"
    second = "def second(x):\n    return first(x) + 1\n"
    assert run(take(first, second, exercise=PAIR))["second"](0) == 2
    assert take(first, exercise=PAIR).status == "missing"
    stub = "def second(x):\n    raise NotImplementedError\n"
    half = take(answer(first + stub, "02.5"), exercise=PAIR)
    assert half.status == "ok"
    stubs = stub + stub.replace("second", "first")
    assert take(answer(stubs, "02.5"), exercise=PAIR).status == "not attempted"


def test_a_class_with_helpers():
    found = take(
        "import torch\nfrom torch import nn\nWIDTH = 3",
        "class Base(nn.Module):\n    pass\n",
        answer(
            "class jump(Base):\n    width: int = WIDTH\n\n"
            "    def forward(self, x):\n        return shift(x)\n"
        ),
        "def shift(x):\n    return x + jump.width\n",
        checked(),
    )
    assert run(found)["jump"]()(4) == 7


def test_a_class_with_a_stub_left_loses_to_one_without():
    def of(body):
        return answer(f"class jump:\n    def go(self):\n        {body}\n")

    found = take(of("return 1"), of("raise NotImplementedError"))
    assert run(found)["jump"]().go() == 1


# What it brings along


@pytest.mark.parametrize(
    "helpers, expression, result",
    [
        ("def helper(x):\n    return x + 1\n", "helper(x)", 2),
        ("def sum(x):\n    return x + 10\n", "sum(x)", 11),
        ("def fact(n):\n    return n * fact(n - 1) if n > 1 else 1\n", "fact(x + 3)", 24),
        ("def a(x):\n    return b(x)\ndef b(x):\n    return x + C\nC = 5\n", "a(x)", 6),
        ("A, (B, *C) = 1, (2, 3, 4)\n", "B + C[1]", 6),
        ("TABLE = []\nfor i in range(4):\n    TABLE.append(i * i)\n", "TABLE[x + 2]", 9),
        ("TABLE = {}\nTABLE['a'] = 3\nTABLE |= {'b': 4}\n", "TABLE['a'] + TABLE['b']", 7),
        ("N = 1\nN += 1\nN = N * 5\n", "N", 10),
        ("N = 1\nif N:\n    M = 3\nelse:\n    M = 4\n", "M", 3),
        ("try:\n    import nothing_there as q\nexcept ImportError:\n    q = 8\n", "q", 8),
        ("with open(__import__('os').devnull) as f:\n    D = f.read()\n", "D + 'x'", "x"),
        ("if (n := 10) > 5:\n    pass\n", "n", 10),
        ("S = [(m := i) for i in range(3)]\n", "m", 2),
        ("import os.path\nimport os\n", "os.path.basename('a/b')", "b"),
        ("import xml.dom\nimport xml.sax\n", "[xml.dom, xml.sax, 4][2]", 4),
        ("from math import *\n", "floor(2.5)", 2),
        ("from math import floor as down, pi\n", "down(pi)", 3),
        ("from functools import cache\n@cache\ndef h(x): return x\n", "h(x)", 1),
        ("def twice(f): return lambda x: 2 * f(x)\n@twice\ndef h(x): return x\n", "h(x)", 2),
        ("def base(): return 7\nD = base()\ndef h(x=D): return x\n", "h()", 7),
        ("a = 1; b = 2; c = a + b\n", "c", 3),
        ("global_one = 1\ndef count():\n    global global_one\n    global_one += 1\n    "
         "return global_one\n", "count()", 2),
        ("class P:\n    x = 3\n    @property\n    def y(self): return self.x\n", "P().y", 3),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 2\n", "P().x", 2),
        ("from functools import singledispatch\n@singledispatch\ndef f(x): return 0\n"
         "@f.register(int)\ndef _(x): return 1\n", "f(x)", 1),
        ("match 3:\n    case int() as found:\n        pass\n", "found", 3),
        ("import typing as t\nT = t.TypeVar('T')\ndef h(x: T) -> T: return x\n", "h(x)", 1),
    ],
)  # fmt: skip
def test_helpers_in_other_cells(helpers, expression, result):
    body = f"def jump(x, k):\n    return {expression}\n"
    assert jump(SETUP, helpers, answer(body), checked())(1, 2) == result
    # The same without any tag, and with the helpers under the answer.
    assert jump(SETUP, body, helpers, 'check("02.2")')(1, 2) == result
    assert jump(SETUP, body, 'check("02.2")', helpers)(1, 2) == result


def test_async_answers():
    import asyncio

    source = "async def jump(x, k):\n    return await step(x) + k\n"
    found = jump("async def step(x):\n    return x\n", "await step(1)\ny = await step(2)", source)
    assert asyncio.run(found(1, 2)) == 3


def test_annotations_defaults_and_walrus():
    body = "def jump(x: Vector, k: int = K) -> Vector:\n    return [y := x[0], y + k]\n"
    found = take("Vector = list[float]\nK = 4\n", answer(body))
    assert run(found)["jump"]([1]) == [1, 5]


def test_a_local_name_does_not_bring_a_global_one():
    costly = "x = train()\ny = data.load()\n"
    found = take(
        "def train():\n    raise SystemExit\n",
        costly,
        answer("def jump(x, k):\n    y = [x for x in (x,)]\n    return y[0] + k\n"),
    )
    assert run(found)["jump"](1, 2) == 3
    assert "train" not in text(found)


def test_nothing_else_runs():
    found = take(
        SETUP + "print('hello')\nplt = 1 / 0\n",
        "raise SystemExit",
        answer("1 / 0\n" + ANSWER + "assert False\nprint(jump(1, 2))\n"),
        code("import nothing_there\nfig = 1 / 0", "figure"),
        "for i in range(10**12):\n    model = step(i)\n",
        checked(),
    )
    assert run(found)["jump"](1, 2) == 3
    assert [label for label, _ in found.chunks] == ["<cell 3>"]


def test_a_loop_does_not_bring_other_loops():
    table = "T = []\nfor i in range(3):\n    y = i\n    T.append(y)\n"
    found = take("for i in range(9):\n    y = 1 / 0\n", table, "def jump(x, k): return T[x]")
    assert run(found)["jump"](2, 0) == 2


def test_the_last_definition_before_the_check_counts():
    cells = ["K = 1", answer("def jump(x, k):\n    return K\n"), "K = 2", checked(), "K = 3"]
    assert jump(*cells)(0, 0) == 2


def test_a_value_is_taken_as_it_was_where_it_was_used():
    cells = ["T = 10\nA = [T]\n", "T = 20", answer("def jump(x, k):\n    return A[0], T\n")]
    assert jump(*cells)(0, 0) == (10, 20)


def test_decorators_of_modules_bring_no_functions_along():
    cells = [
        "import functools\n@functools.lru_cache()\ndef other(x):\n    return 1 / 0\nother(0)\n",
        answer("def jump(x, k):\n    return functools.reduce(max, [x, k])\n"),
    ]
    assert "other" not in jump(*cells).__globals__


def test_names_that_the_grader_supplies_are_left_out():
    cells = [
        answer("def earlier(x):\n    return NEEDED\n", "02.1"),
        "NEEDED = 1 / 0",
        "from bib.process import earlier as e, jump as j",
        answer("def jump(x, k):\n    return earlier(x) + k\n"),
    ]
    found = take(*cells, skip=("earlier",))
    assert [label for label, _ in found.chunks] == ["<cell 4>"]
    assert run(found, "def earlier(x):\n    return 100\n")["jump"](1, 2) == 102


def test_lines_keep_their_numbers():
    source = (
        "# a comment\n\nimport math; y = 3\n\n@staticmethod\ndef jump(x, k):\n    return 1 / 0\n"
    )
    found = take("", "x = 1", answer(source))
    assert found.chunks == [
        ("<cell 2>", "\n\n\n\n@staticmethod\ndef jump(x, k):\n    return 1 / 0\n")
    ]
    outcome = harness.serve(
        {"names": ("jump",), "chunks": found.chunks, "cases": [CASE], "given": ""}, None
    )["outcomes"][0]
    assert outcome["where"] == "<cell 2>, line 7 of jump: return 1 / 0"


CASE = {"name": "c", "args": (1, 2), "kwargs": {}, "driver": None, "mutates": ()}


def test_future_imports_come_first_and_reach_all_cells():
    found = take(
        ["x = 1", "from __future__ import annotations", ""][1] + "\nimport math\n",
        answer("def jump(x: Nowhere, k):\n    return math.floor(x) + k\n"),
    )
    assert run(found)["jump"](1.5, 2) == 3
    assert all("from __future__ import annotations" in source for _, source in found.chunks)


def test_imports_are_cut_to_what_is_used():
    found = take(
        "from math import (\n    floor,\n    nothing_there,\n)\n",
        answer("def jump(x, k):\n    return floor(x)\n"),
    )
    assert run(found)["jump"](1.5, 0) == 1


def test_a_syntax_error_elsewhere_costs_nothing():
    cells = ["def broken(:\n", answer(ANSWER), "x = = 3", "'''open", "\0", "(" * 500]
    assert jump(*cells)(1, 2) == 3


@pytest.mark.parametrize(
    "cells",
    [
        (answer("def jump(x, k):\n    return (x\n"),),
        ("def jump(x, k):\n    return (x\n",),
        (answer(STUB), "def jump(x, k):\nreturn x"),
        (answer("jump = lambda x k: 3"),),
    ],
)
def test_a_syntax_error_in_the_answer_is_told(cells):
    found = take(SETUP, *cells)
    assert found.status == "error"
    assert "SyntaxError" in found.says and "<cell " in found.says
    names, problem = harness.execute(found.chunks)
    assert problem.error == "SyntaxError" and not names


def test_type_comments_and_odd_bytes():
    source = (
        "def jump(x, k):  # type: (int, int) -> int\n    y = x  # type: ignore\n    return y + k\n"
    )
    assert jump(answer(source))(1, 2) == 3
    assert jump(answer(ANSWER.replace("x moved", "x \ud800 é moved")))(1, 2) == 3


def test_a_cell_indented_as_a_whole():
    assert jump(answer("    def jump(x, k):\n        return x + k\n"))(1, 2) == 3


# IPython's own syntax


def test_magics_are_made_harmless_line_by_line():
    source = (
        "%matplotlib inline\n!pip install torch\nfiles = !ls\nx = (7\n  % 4)\nhelp?\n"
        "?help\nif x:\n    %timeit 3\ns = '''\n%kept\n!kept\n'''\n%time y = x + 1\n"
    )
    lines = python_source(source).split("\n")
    assert len(lines) == len(source.split("\n"))
    names: dict = {}
    exec("\n".join(lines), names)
    assert names["x"] == 3 and names["y"] == 4 and names["files"] is None
    assert names["s"] == "\n%kept\n!kept\n"


@pytest.mark.parametrize("first", ["%%time", "%%capture out", "%%timeit -n 1", "\n%%time"])
def test_python_under_a_cell_magic_is_kept(first):
    assert jump(answer(f"{first}\n{ANSWER}"))(1, 2) == 3


@pytest.mark.parametrize("first", ["%%bash", "%%html", "%%writefile x.py", "%%javascript"])
def test_other_languages_are_not_python(first):
    assert take(f"{first}\n{ANSWER}").status == "missing"


def test_magics_beside_an_answer():
    source = "%load_ext autoreload\n" + ANSWER + "jump?\n!echo done\n"
    found = take(answer(source))
    assert run(found)["jump"](1, 2) == 3
    assert found.chunks[0][1].split("\n")[1] == "def jump(x, k):"


# What an answer may not import


@pytest.mark.parametrize(
    "cells, says",
    [
        (("from bib.process import jump",), "bib.process.jump, which this exercise asks"),
        (("from bib import process\njump = process.jump",), "bib.process"),
        (("import bib.process as p\njump = p.jump",), "bib.process"),
        (("import bib\ndef jump(x, k): return bib.process.other(x)",), "bib.process"),
        (("import bib.process\ndef jump(x, k): return bib.process.jump(x, k)",), "this exercise"),
        (("def jump(x, k):\n    from bib.process import jump as j\n    return j(x)",), "asks you"),
        (("def jump(x, k):\n    import bib.process\n    return 1",), "may use bib.data"),
        (("import importlib\ndef jump(x, k):\n    return "
          "importlib.import_module('bib.process')",), "bib.process"),
        (("def jump(x, k): return __import__('bib.process')",), "bib.process"),
        (("from bib.process import *\nhelper = 3\njump = lambda x, k: mystery(x)",), "bib.process"),
        (("def jump(x, k):\n    import coursework.judge\n",), "coursework.judge"),
        (("from coursework.judge import compare\ndef jump(x, k): return compare",), "coursework"),
        (("def jump(x, k):\n    from tests.exercises.answers import lesson_02\n",), "tests"),
        (("def jump(x, k):\n    import answers.lesson_02\n",), "answers"),
        (("import course_answers_02 as a\njump = a.jump",), "course_answers_02"),
    ],
)  # fmt: skip
def test_forbidden_imports_are_named(cells, says):
    found = take(*cells)
    assert found.status == "forbidden", found
    assert says in found.says and "<cell 1>" in found.says


def test_unused_imports_are_not_brought():
    setup = (
        "from bib import data, process\nimport bib.process\nfrom bib.process import jump as j\n"
        "from bib.losses import *\nimport nothing_there\nfrom coursework.judge import compare\n"
    )
    assert jump(setup, answer(ANSWER))(1, 2) == 3


def test_the_untouched_stub_beside_an_import_is_not_attempted():
    assert take("from bib.process import jump", answer(STUB)).status == "not attempted"
    replaced = take(answer(STUB), answer("from bib.process import jump"))
    assert replaced.status == "forbidden"


def test_provided_modules_are_brought():
    found = take("from bib import data as d\nimport bib.schedules", answer(
        "def jump(x, k):\n    return d.load(x), bib.schedules.linear\n"))  # fmt: skip
    assert found.status == "ok"
    assert "from bib import data as d" in text(found) and "import bib.schedules" in text(found)


def test_one_name_of_a_module_may_be_what_is_asked():
    exercise = Exercise(
        "02.2", "t", ("jump",), {"main": 1}, ("h",), library=("bib.schedules.jump",)
    )
    fine = take("from bib import schedules", "def jump(x, k): return schedules.other(x)",
                exercise=exercise)  # fmt: skip
    assert fine.status == "ok"
    asked = take("from bib import schedules", "def jump(x, k): return schedules.jump(x)",
                 exercise=exercise)  # fmt: skip
    assert asked.status == "forbidden" and "bib.schedules.jump" in asked.says


def test_hostile_shapes_do_not_break_the_cutter():
    deep = "x = " + "+".join(["1"] * 20_000)
    nested = "def jump(x, k):\n" + "".join(f"{' ' * (i + 1)}if x:\n" for i in range(90)) + " " * 92
    assert take(deep, nested + "return 1", answer(ANSWER)).status in ("ok", "error")
    assert jump(deep, answer(ANSWER))(1, 2) == 3
    assert take(answer("def jump(x, k): return " + "(" * 5000 + ")" * 5000)).status == "error"


def test_cells_that_two_notebooks_share_keep_their_own_numbers():
    """What was read of a cell is kept; where the cell stands is each notebook's own."""
    helper, wrong = "def helper(x):\n    return x + 1\n", "def helper(x):\n    return x - 1\n"
    body = answer("def jump(x, k):\n    return helper(x) * k\n")
    one = take(helper, body)
    other = take("y = 3", wrong, helper, body)
    assert [name for name, _ in one.chunks] == ["<cell 1>", "<cell 2>"]
    assert [name for name, _ in other.chunks] == ["<cell 3>", "<cell 4>"]
    assert run(one)["jump"](2, 10) == run(other)["jump"](2, 10) == 30
    assert run(take(wrong, body))["jump"](2, 10) == 10
    assert take("def jump(x, k:\n").status == take("def jump(x, k:\n").status == "error"
