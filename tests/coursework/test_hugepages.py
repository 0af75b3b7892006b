"""Large pages: which memory is meant, and that what lies in it stays as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coursework import hugepages

MB2 = 2 * 2**20


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0", (0x7F0000000000, 2 * MB2)),
        ("7f0000001000-7f0000600000 rw-p 00000000 00:00 0 [heap]", (0x7F0000200000, 2 * MB2)),
        ("7f0000001000-7f0000200000 rw-p 00000000 00:00 0", None),  # no whole large page
        ("7f0000000000-7f0000400000 r--p 00000000 00:00 0", None),
        ("7f0000000000-7f0000400000 rw-s 00000000 00:00 0", None),  # shared with others
        ("7f0000000000-7f0000400000 rw-p 00000000 08:01 77 /lib/libtorch_cpu.so", None),
        ("7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0 [stack]", None),
    ],
)
def test_which_memory(line, own):
    assert hugepages._own(line) == own


def test_nothing_changes_but_the_pages():
    program = (
        "from coursework import hugepages\n"
        "data = [bytes([i % 251]) * 40_000 for i in range(600)]\n"
        "before = hash(tuple(data))\n"
        "done = hugepages.gather()\n"
        "again = hash(tuple(bytes(bytearray(d)) for d in data))\n"
        "print(before == again, done >= 0)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["True", "True"]


def test_where_nothing_can_be_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hugepages.gather() == 0
