"""Exercises that build on an earlier one, with a driver and a judge of its own."""

from coursework.exercise import Case, Draw, Exercise, Lesson

LESSON = Lesson("02", provides=("toy.tools",))

line = Exercise(
    id="02.1",
    title="Line",
    names=("line",),
    points={"main": 2},
    hints=("scale, then add",),
    uses=("01.1",),
    limit=2.0,
)


@line.cases
def _(draw: Draw):
    yield Case("row", (draw.normal(5), draw.uniform(2, 3), draw.uniform(2, 3)), group="main")
    yield Case("driven", (draw.normal(3),), group="main", driver=drive)


def drive(answer, x):
    """The line at two places."""
    return [answer.line(x, 2.0, 1.0), answer.line(x, 3.0, 0.5)]


fill = Exercise(
    id="02.2",
    title="Fill",
    names=("fill",),
    points={"main": 1},
    hints=("in place",),
    uses=("02.1",),
    limit=2.0,
)


@fill.cases
def _(draw: Draw):
    yield Case("row", (draw.normal(5),), group="main")


@fill.judge
def _(case, got, expected):
    return None if (got - expected).abs().max() < 1e-6 else "not near"
