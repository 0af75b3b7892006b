"""A network of less arithmetic against the shipped one: data/results/C5-efficient.json

    python data/build/measure_efficient.py            # show
    python data/build/measure_efficient.py --write    # and write the result

Both are sampled in the same way. FD is that of their JSON files in data/checkpoints, of three seeds
(``train_checkpoints.py`` measured it); CPU seconds are measured here, in turn, so that both have
the same company on the machine. The bar: half the CPU seconds a sample at no more than 1.25 times
the FD.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DATA.parent / "reference"))
from undiffuse import checkpoints, costs  # noqa: E402
from undiffuse.draw import draw  # noqa: E402
from undiffuse.results import record  # noqa: E402

SHIPPED, EFFICIENT = "digits", "digits-efficient"
SAMPLERS = {"ddim_50": "DDIM, 50 calls", "dpmpp_2m_10": "DPM-Solver++, 10 calls"}
WITHIN, SHARE = 1.25, 0.5
SAMPLES, ROUNDS = 20, 5


def seconds(names: tuple[str, ...], solver: str, calls: int) -> dict[str, list[float]]:
    """CPU seconds a sample of each network, ``ROUNDS`` times, in turn."""
    found: dict[str, list[float]] = {name: [] for name in names}
    networks = {name: checkpoints.load(name) for name in names}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            taken = costs.cpu_seconds(
                lambda n=network: draw(n, SAMPLES, seed=1, solver=solver, calls=calls), 1
            )
            found[name].append(taken[0] / SAMPLES)
    return found


def rows_of(cards: dict[str, dict], taken: dict[str, dict[str, list[float]]]) -> list[dict]:
    """One row a network and sampler. cards: NAME.json; taken: sampler -> network -> seconds."""
    rows = []
    for sampler, title in SAMPLERS.items():
        for name, card in cards.items():
            fd = [q["fd"] for q in card["quality"]["samplers"][sampler]["seeds"]]
            rows.append({
                "network": f"{name}, {title}",
                "FD": statistics.fmean(fd), "from": min(fd), "to": max(fd),
                "CPU seconds": statistics.median(taken[sampler][name]),
                "MFLOP a call": card["flops_per_call"] / 1e6,
                "parameters": card["parameters"],
            })  # fmt: skip
    return rows


def judge(rows: list[dict]) -> tuple[str, list[dict]]:
    """(verdict, the bars)."""
    bars = []
    for title in SAMPLERS.values():
        small, large = (next(r for r in rows if r["network"] == f"{n}, {title}")
                        for n in (EFFICIENT, SHIPPED))  # fmt: skip
        share, ratio = small["CPU seconds"] / large["CPU seconds"], small["FD"] / large["FD"]
        bars.append({
            "what": title, "share of CPU seconds": share, "FD over that of the shipped": ratio,
            "wanted": f"at most {SHARE} and {WITHIN}", "met": share <= SHARE and ratio <= WITHIN,
        })  # fmt: skip
    said = "; ".join(
        f"{b['what']}: {b['share of CPU seconds']:.2f} of the CPU seconds at "
        f"{b['FD over that of the shipped']:.2f} times the FD" for b in bars
    )  # fmt: skip
    word = "less will do" if all(b["met"] for b in bars) else "depends on what is wanted"
    return f"{word}: {said}", bars


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = (SHIPPED, EFFICIENT)
    cards = {n: json.loads((DATA / "checkpoints" / f"{n}.json").read_text()) for n in names}
    ways = {s: (next(iter(cards.values()))["quality"]["samplers"][s]) for s in SAMPLERS}
    taken = {s: seconds(names, w["solver"], w["calls"]) for s, w in ways.items()}
    rows = rows_of(cards, taken)
    verdict, bars = judge(rows)
    if asked.write:
        os.environ["UNDIFFUSE_RESULTS"] = str(DATA / "results")
    quality = cards[SHIPPED]["quality"]
    record(
        "C5-efficient", rows, verdict, quality["seeds"], n=quality["n"], bars=bars,
        floor=quality["floor"]["fd"], checkpoints={n: c["sha256"][:16] for n, c in cards.items()},
        command="python data/build/measure_efficient.py --write",
    )  # fmt: skip


if __name__ == "__main__":
    main()
