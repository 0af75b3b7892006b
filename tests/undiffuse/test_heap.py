"""Freed memory is kept: the system is not asked for new pages at every call."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
if sys.argv[1] == "with": import undiffuse
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.set_num_threads(1)
x = torch.zeros(12 * 2**20)  # 48 MiB, 12288 pages
for _ in range(3): y = x + 1; del y
before = faults()
for _ in range(20): y = x + 1; z = y * 2; del y, z
print(faults() - before)
"""


def faults(how: str, **environment: str) -> int:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None,
    reason="only the C library of GNU can be asked to keep memory",
)
def test_large_blocks_are_used_again():
    assert faults("with") < 10 * 12288  # a few blocks once, not 40 times


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_what_the_environment_says_goes_first():
    """Where it asks for blocks to be given back, they are, with the course and without."""
    told = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
    assert faults("with", **told) == pytest.approx(faults("without", **told), rel=0.2)
