"""Draw the gallery of the README from the shipped checkpoints, prompts chosen by a seed.

    python data/build/build_gallery.py           # pictures, and README.md between its markers
    python data/build/build_gallery.py --check   # only say whether README.md is up to date

The prompts are combinations that were never trained on, drawn from the split ``held_out`` by seed
0; nothing is chosen by eye. Where README.md has no markers yet, the text is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "reference"))

PICTURES = ROOT / "data" / "pictures"
SHOWN = {"portraits": 24, "emoji": 24}
TOLD = 4  # prompts that are written out
COLUMNS, ZOOM, SEED = 12, 2, 0
START, END = "<!-- gallery: made by data/build/build_gallery.py -->", "<!-- end gallery -->"


def chosen(name: str, seed: int = SEED) -> list[str]:
    """Prompts of the split ``held_out``, by seed."""
    import torch

    from undiffuse import prompt_judging

    drawings = prompt_judging.held(name)
    rows = drawings.splits["held_out"]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return drawings.prompts(rows[order[: SHOWN[name]].numpy()])


def draw_pictures() -> None:
    """``pictures/NAME.png`` of each checkpoint."""
    import numpy as np

    from undiffuse import checkpoints, draw, prompts

    for name in SHOWN:
        found = prompts.ask(checkpoints.load(name), chosen(name), seed=SEED)
        pixels = draw.to_uint8(found.samples)
        pixels = np.repeat(np.repeat(pixels, ZOOM, axis=1), ZOOM, axis=2)
        draw.save_grid(PICTURES / f"{name}.png", pixels, columns=COLUMNS)


def text() -> str:
    """The gallery as Markdown."""
    parts = []
    for name in SHOWN:
        asked = chosen(name)
        told = "; ".join(f"“{prompt}”" for prompt in asked[:TOLD])
        parts.append(
            f"![{len(asked)} small drawings, two rows of {COLUMNS}, one for each of "
            f"{len(asked)} prompts](data/pictures/{name}.png)\n\n"
            f"*Drawn from words by the shipped checkpoint [`{name}`](data/checkpoints/{name}.md), "
            f"for combinations that it was never trained on. Prompts by seed {SEED}, not chosen by "
            f"eye. The first {TOLD}: {told}.*"
        )
    return "\n\n".join(parts)


def filled(readme: str) -> str | None:
    """``readme`` with the gallery between its markers, or None where it has none."""
    if START not in readme or END not in readme:
        return None
    before, rest = readme.split(START, 1)
    return f"{before}{START}\n{text()}\n{END}{rest.split(END, 1)[1]}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = filled(old)
    if new is None:
        print(f"README.md lacks {START}\n\n{text()}")
        return 1
    if options.check:
        print("the gallery is " + ("up to date" if new == old else "stale: run this script"))
        return int(new != old)
    draw_pictures()
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
