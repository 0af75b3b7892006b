"""The repository stays light: whoever clones it pays for every byte."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE_HERE = {"__pycache__", "downloads"}  # what git ignores


def size(folder: Path) -> int:
    return sum(
        p.stat().st_size
        for p in folder.rglob("*")
        if p.is_file() and not MADE_HERE & set(p.relative_to(folder).parts)
    )


def test_data_take_less_than_60_mb():
    assert size(ROOT / "data") < 60e6


def test_a_checkpoint_takes_less_than_5_mb():
    heavy = [p.name for p in (ROOT / "data/checkpoints").iterdir() if p.stat().st_size > 5e6]
    assert heavy == []


def test_sounds_for_the_web_take_less_than_600_kb():
    assert size(ROOT / "data/sounds") < 600e3
