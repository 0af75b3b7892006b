"""Torch in grading processes: the same numbers, and the compiler only for whoever asks for it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

from coursework import plain_torch


def fresh(program: str) -> str:
    """What a program prints in a Python of its own, with the compiler left out."""
    head = "from coursework import plain_torch\nplain_torch.leave_compiler_out()\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63 - 1, 3.0])
def test_seeding_gives_torchs_own_numbers(seed, monkeypatch):
    monkeypatch.setattr(torch, "manual_seed", torch.manual_seed)
    monkeypatch.setattr(torch.random, "manual_seed", torch.random.manual_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = torch.randn(5), torch.initial_seed()
        plain_torch.seed_simply()
        generator = torch.manual_seed(seed)
        found = torch.randn(5), torch.initial_seed()
    assert generator is torch.default_generator
    assert torch.equal(found[0], wanted[0]) and found[1] == wanted[1]


TRAIN = """
import sys, torch
for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "Muon"):
    w = torch.nn.Parameter(torch.linspace(0.1, 1, 9).reshape(3, 3))
    optimizer = getattr(torch.optim, name)([w], lr=0.1)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    for _ in range(3):
        optimizer.zero_grad()
        w.square().sum().backward()
        optimizer.step()
        plan.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2, 2))]})
    print(name, w.tolist())
"""


@pytest.mark.slow
def test_optimisers_step_as_ever_and_bring_no_compiler():
    count = 'print("torch._dynamo.symbolic_convert" in sys.modules)'
    out = fresh(TRAIN + count).splitlines()
    assert out.pop() == "False"
    command = [sys.executable, "-c", TRAIN]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == plain.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "asks",
    [
        "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item())",
        "import torch._dynamo.config; print(2.0 if torch._dynamo.config else 0)",
        "from torch._dynamo import reset; reset(); print(2.0)",
        "print(2.0 if torch._dynamo.list_backends() else 0)",
    ],
)
def test_who_asks_for_the_compiler_has_it(asks):
    step = "w = torch.nn.Parameter(torch.ones(1)); torch.optim.SGD([w], lr=1.0).step()\n"
    assert fresh("import torch\n" + step + asks + "\n" + step) == "2.0"
