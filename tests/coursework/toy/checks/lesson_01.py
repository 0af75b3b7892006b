"""Two small exercises, the second a bystander of what is done to the first."""

import torch

from coursework.exercise import Case, Draw, Exercise, Given, Lesson

LESSON = Lesson("01", provides=("toy.tools",))

scale = Exercise(
    id="01.1",
    title="Scale",
    names=("scale",),
    points={"float32": 2, "float64": 1},
    hints=("multiply",),
    library=("toy.tools.scale", "toy.secret.scale"),
    limit=1.0,
)


@scale.cases
def _(draw: Draw):
    yield Case("pair", (draw.normal(2), draw.uniform(2, 3)), group="float32")
    yield Case("table", (draw.normal(3, 4), draw.uniform(2, 3)), group="float32")
    yield Case("float64", (draw.normal(3, 4, dtype="float64"), draw.uniform(2, 3)), group="float64")


shift = Exercise(
    id="01.2", title="Shift", names=("shift",), points={"main": 2}, hints=("add",), limit=2.0
)


@shift.cases
def _(draw: Draw):
    yield Case("row", (draw.normal(5), draw.uniform(2, 3)), group="main")
    yield Case("given", (Given(twice, draw.normal(2)), 1.0), group="main")


def twice(x: torch.Tensor) -> torch.Tensor:
    """For ``Given``: x and x again."""
    return torch.cat([x, x])
