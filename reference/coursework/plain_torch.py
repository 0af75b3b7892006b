"""Torch as grading processes need it: on the CPU, with nothing compiled.

Both changes give the same numbers in less time. They are made before anything is forked, so that no
answer's process pays for what it does not use.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

COMPILER = "torch._dynamo"


def seed_simply() -> None:
    """``torch.manual_seed`` without the devices that are not there: for each of them torch keeps a
    formatted stack, which takes longer than most calls of an answer."""
    import torch

    def manual_seed(seed: int) -> torch.Generator:
        return torch.default_generator.manual_seed(int(seed))

    torch.manual_seed = torch.random.manual_seed = manual_seed


def leave_compiler_out() -> None:
    """Every step of an optimiser imports torch's compiler, to tell it to keep out.

    That is a thousand modules: seconds, and a third more memory to be forked. In its place stands a
    module that does these two things, and becomes the real one for whoever asks for more
    (``torch.compile`` does).
    """
    if COMPILER in sys.modules:
        return
    import torch

    sys.modules[COMPILER] = torch._dynamo = _KeptOut(COMPILER)


class _KeptOut(types.ModuleType):
    """What ``torch.optim`` calls of the compiler; anything else brings the compiler itself."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing is compiled, so nothing has to be broken off."""

    @staticmethod
    def disable(fn: Any = None, *_: Any, **__: Any) -> Any:
        """``fn`` as it is."""
        return fn if fn is not None else lambda f: f

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # which is where its parts are found
            raise AttributeError(name)
        return getattr(self._real(), name)

    @staticmethod
    def _real() -> types.ModuleType:
        if isinstance(sys.modules.get(COMPILER), _KeptOut):
            import torch

            del sys.modules[COMPILER]
            torch._dynamo = importlib.import_module(COMPILER)
        return sys.modules[COMPILER]
