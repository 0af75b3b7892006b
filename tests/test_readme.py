"""The README says what the checks and the result files say."""

import importlib.util
import platform
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location(
        "build_readme", ROOT / "data" / "build" / "build_readme.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(text, name):
    start = f"<!-- {name}: made by data/build/build_readme.py -->"
    return text.split(start, 1)[1].split(f"<!-- end {name} -->", 1)[0].strip()


@pytest.mark.parametrize(
    "name", ["lessons", "claims-short", "claims", "check", "checkpoints", "environment", "exits"]
)
def test_block_is_up_to_date(builder, name, monkeypatch):
    if name == "check" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the last digits of the example are those of Linux on x86_64")
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert block(text, name) == builder.BLOCKS[name]().strip(), (
        "README.md is stale: python data/build/build_readme.py"
    )


def test_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []
