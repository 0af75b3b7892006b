"""What is supplied to exercises that use another one: its reference, and whom that calls."""

from coursework.exercise import Answers

GIVEN = Answers("42.1")
LIMIT = 3


def half(x):
    return x / 2


def quarter(x):
    return half(half(x)) if x < LIMIT else odd(x)


def odd(x):  # calls who called it
    return quarter(x - 1)


def nobody(x):
    return x


@GIVEN.reference
def eighth(x):
    return quarter(x) / 2


def test_given_source_runs_by_itself():
    source = GIVEN.given_source()
    assert "nobody" not in source and "reference" not in source
    assert source.count("def ") == 4
    room = {"LIMIT": LIMIT}
    exec(source, room)
    assert room["eighth"](2.0) == 0.25
