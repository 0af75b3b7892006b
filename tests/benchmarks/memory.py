"""What it saves that freed memory is kept for the next call (undiffuse.heap).

    python tests/benchmarks/memory.py [--name digits fashion] [--count 100] [--rounds 3]

Draws ``count`` samples in 10 calls of a shipped network, in a process that keeps memory and in one
that does not, in turn; prints the processor seconds of both and their ratio. Not a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

DRAW = """
import json, resource, sys
import torch
from undiffuse import checkpoints
from undiffuse.draw import draw
torch.set_num_threads(1)
network = checkpoints.load(sys.argv[1])
draw(network, 4, calls=2)
before = resource.getrusage(resource.RUSAGE_SELF)
draw(network, int(sys.argv[2]), calls=10)
after = resource.getrusage(resource.RUSAGE_SELF)
seconds = [after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime]
print(json.dumps({"seconds": sum(seconds), "system": seconds[1], "peak": after.ru_maxrss / 1024}))
"""
# Any setting of the environment makes undiffuse leave the C library alone; this one changes nothing
# for one thread.
WAYS = {"kept": {}, "given back": {"MALLOC_ARENA_MAX": "8"}}


def measure(name: str, count: int, way: str) -> dict[str, float]:
    """Processor seconds, those of the system among them, and peak memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, name, str(count)],
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | WAYS[way],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", nargs="+", default=["digits"], help="shipped networks")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.name:
        runs = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, found in runs.items():
                found.append(measure(name, options.count, way))
        median = {
            way: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for way, found in runs.items()
        }
        for way, found in median.items():
            print(
                f"{name}, memory {way}: {1000 * found['seconds'] / options.count:.1f} ms a sample, "
                f"of them the system's {1000 * found['system'] / options.count:.1f}; "
                f"peak {found['peak']:.0f} MiB"
            )
        print(f"{name}: ratio {median['kept']['seconds'] / median['given back']['seconds']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
