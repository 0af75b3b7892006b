"""Fixtures for the library's tests."""

import pytest
import torch
from hypothesis import settings

# The same examples on every run: a failure is the code's doing, not the draw's.
settings.register_profile("undiffuse", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("undiffuse")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


class Float64Torch:
    """The torch module as seen by another library's file, with float32 read as float64."""

    float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


@pytest.fixture
def ddpm(monkeypatch):
    """diffusers' ddpm scheduler module, computing in float64 and adding zeros for noise.

    diffusers writes float32 into its formulas. So that both sides are compared in float64, the
    name ``torch`` inside that one file is bound to an object that reads float32 as float64; every
    formula is diffusers' own code. Its step adds fresh noise to the posterior's mean; the noise
    is replaced by zeros so that the mean can be seen.
    """
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    monkeypatch.setattr(module, "torch", Float64Torch())
    monkeypatch.setattr(
        module,
        "randn_tensor",
        lambda shape, generator=None, device=None, dtype=None: torch.zeros(shape, dtype=dtype),
    )
    return module
