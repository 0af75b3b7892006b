"""Recording figures, the budget, and how lightly the package loads."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

import undiffuse
from undiffuse.results import load_results, record

ROWS = [{"model": "small", "loss": 0.12345678, "FD": 3}, {"model": "big", "loss": 0.2, "FD": 10}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_RESULTS", str(tmp_path / "results"))
    for name in ("UNDIFFUSE_BUDGET", "UNDIFFUSE_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "results"


def test_record_returns_writes_and_loads_the_same(folder):
    result = record("C12", ROWS, "false", seeds=range(3), n=1000, floor=np.float32(0.5))
    assert result["rows"] == ROWS and result["seeds"] == [0, 1, 2] and result["n"] == 1000
    assert result["floor"] == 0.5 and result["verdict"] == "false" and result["budget"] == "full"
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    assert load_results(folder) == {"C12": result}
    assert [p.name for p in folder.iterdir()] == ["C12.json"]


def test_record_names_the_command(folder, monkeypatch):
    assert "command" not in record("C12", ROWS, "false", seeds=range(3))
    monkeypatch.setenv("UNDIFFUSE_COMMAND", "course build 03 --record results")
    assert record("C12", ROWS, "false", seeds=[0])["command"] == "course build 03 --record results"
    assert record("C12", ROWS, "false", seeds=[0], command="mine")["command"] == "mine"
    assert load_results(folder)["C12"]["command"] == "mine"


def test_record_without_a_folder_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("UNDIFFUSE_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    record("C1", ROWS, "depends on size", seeds=[4])
    assert list(tmp_path.iterdir()) == []
    assert "depends on size" in capsys.readouterr().out


def test_record_prints_a_table(folder, capsys):
    record("C12", ROWS, "false", seeds=[0, 1])
    assert capsys.readouterr().out.splitlines() == [
        "C12: false",
        "",
        "model    loss  FD",
        "-----  ------  --",
        "small  0.1235   3",
        "big       0.2  10",
        "",
        "seeds 0, 1; budget full",
    ]


def test_record_shows_html_in_a_notebook(folder, monkeypatch, capsys):
    """With a kernel's shell: one display of text and HTML, and text is escaped."""
    display = pytest.importorskip("IPython.display")
    import IPython

    class Shell:
        kernel = object()

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell())
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data))
    record("C1", [{"<b>": "<script>"}], "true", seeds=[0])
    assert capsys.readouterr().out == ""
    (data,) = shown
    assert "<table>" in data["text/html"] and "<script>" not in data["text/html"]
    assert data["text/plain"].startswith("C1: true")


def test_values_become_plain_data(folder):
    rows = [{"a": torch.tensor([1.5, 2.5]), "b": np.int64(3), "c": float("nan"), "d": True,
             "e": None, "f": (1, 2), "g": torch.tensor(2.5)}]  # fmt: skip
    result = record("C1", rows, "true", seeds=np.arange(2), table={"x": np.ones(2)})
    wanted = {"a": [1.5, 2.5], "b": 3, "c": None, "d": True, "e": None, "f": [1, 2], "g": 2.5}
    assert result["rows"] == [wanted] and result["table"] == {"x": [1.0, 1.0]}
    json.loads((folder / "C1.json").read_text(), parse_constant=pytest.fail)


def test_file_tells_no_host_and_no_path(folder):
    record("C1", ROWS, "true", seeds=[0])
    text = (folder / "C1.json").read_text()
    assert str(folder) not in text and os.getcwd() not in text
    machine = json.loads(text)["machine"]
    assert set(machine) == {"system", "processor", "cpus", "gpu"}
    assert not platform.node() or platform.node() not in machine.values()


def test_second_record_replaces_the_first_and_failure_leaves_it(folder, monkeypatch):
    record("C1", ROWS, "true", seeds=[0])
    record("C1", ROWS, "false", seeds=[0])
    assert load_results(folder)["C1"]["verdict"] == "false"

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        record("C1", ROWS, "true", seeds=[0])
    assert load_results(folder)["C1"]["verdict"] == "false"
    assert [p.name for p in folder.iterdir()] == ["C1.json"]


def test_load_results_in_natural_order(folder):
    for claim in ("C12", "C2", "C1"):
        record(claim, ROWS, "true", seeds=[0])
    assert list(load_results(folder)) == ["C1", "C2", "C12"]


def test_load_results_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_results(tmp_path / "nowhere")
    (tmp_path / "C3.json").write_text('{"claim": "C3", "rows')
    with pytest.raises(ValueError, match=r"C3\.json is damaged"):
        load_results(tmp_path)
    (tmp_path / "C3.json").write_text('{"claim": "C4"}')
    with pytest.raises(ValueError, match=r"C3\.json does not hold the results of C3"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("error", "says", "arguments"),
    [
        (ValueError, "claim must be", {"claim": "../C1"}),
        (ValueError, "claim must be", {"claim": ""}),
        (ValueError, "at least one row", {"rows": []}),
        (ValueError, "at least one row and one seed", {"seeds": []}),
        (ValueError, "verdict in words", {"verdict": " "}),
        (ValueError, "date is filled in", {"date": "today"}),
        (
            TypeError,
            r"rows\[0\]\['a'\] must be plain data, got object",
            {"rows": [{"a": object()}]},
        ),
    ],
)
def test_bad_input_is_named(folder, error, says, arguments):
    with pytest.raises(error, match=says):
        record(**{"claim": "C1", "rows": ROWS, "verdict": "true", "seeds": [0], **arguments})
    assert not folder.exists()


# -- the package itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "wanted"), [(None, 9), ("", 9), ("full", 9), ("small", 2)])
def test_budget(monkeypatch, value, wanted):
    monkeypatch.delenv("UNDIFFUSE_BUDGET", raising=False)
    if value is not None:
        monkeypatch.setenv("UNDIFFUSE_BUDGET", value)
    assert undiffuse.budget(full=9, small=2) == wanted


def test_budget_of_another_name_is_an_error(monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_BUDGET", "tiny")
    with pytest.raises(ValueError, match="UNDIFFUSE_BUDGET is 'tiny'"):
        undiffuse.budget(full=1, small=0)


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, undiffuse; undiffuse.budget(1, 2); import undiffuse.results; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert undiffuse.schedules.linear_betas(2).shape == (2,)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing_here"):
        undiffuse.nothing_here  # noqa: B018
    assert "schedules" in dir(undiffuse) and undiffuse.__version__
