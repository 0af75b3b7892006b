"""Plain data survives the trip; everything else becomes opaque; damage is refused."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursework import wire
from coursework.exercise import Given, Seed

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_plain_data_round_trip(value):
    again = wire.decode(wire.encode(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("name", wire.TORCH_DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 1, 5)])
def test_tensors_round_trip_to_the_bit(name, shape):
    dtype = getattr(torch, name)
    value = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    again = wire.decode(wire.encode(value))
    assert (again.dtype, again.shape) == (value.dtype, value.shape)
    assert torch.equal(again, value)


def test_nan_and_infinity_keep_their_place():
    value = torch.tensor([float("nan"), float("inf"), -0.0])
    again = wire.decode(wire.encode([value, float("-inf")]))
    assert torch.equal(torch.isnan(again[0]), torch.tensor([True, False, False]))
    assert again[1] == float("-inf")
    assert str(again[0][2].item()) == "-0.0"


def test_views_strides_and_gradients():
    x = torch.arange(12.0, requires_grad=True).reshape(3, 4).t()[1:]
    again = wire.decode(wire.encode(x))
    assert torch.equal(again, x.detach())
    assert not again.requires_grad


@pytest.mark.parametrize("value", [np.arange(6, dtype=np.int16).reshape(2, 3), np.float32(0.5)])
def test_numpy_round_trip(value):
    again = wire.decode(wire.encode(value))
    assert again.dtype == value.dtype
    np.testing.assert_array_equal(again, value)


def test_stand_ins_round_trip():
    value = [Seed(7), Given("model", 3, dim=torch.ones(2))]
    again = wire.decode(wire.encode(value))
    assert again[0] == Seed(7)
    assert again[1].name == "model"
    assert torch.equal(again[1].kwargs["dim"], torch.ones(2))


def test_objects_become_opaque_and_are_never_called():
    class Trap:
        def __reduce__(self):
            raise AssertionError("pickled")

        def __repr__(self):
            raise ValueError("no text")

    again = wire.decode(wire.encode({"trap": Trap(), "function": len}))
    assert again["trap"].type.endswith("Trap")
    assert isinstance(again["function"], wire.Opaque)


def test_a_tensor_subclass_arrives_as_its_plain_bytes():
    class Liar(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return True

    x = torch.arange(3.0).as_subclass(Liar)
    again = wire.decode(wire.encode(x))
    assert type(again) is torch.Tensor
    assert torch.equal(again, torch.arange(3.0))


def forged(header, body=b""):
    text = json.dumps(header).encode()
    return wire.MAGIC + struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        wire.MAGIC + struct.pack("<Q", 99) + b"[]",
        forged(["t", "float32", [4], 0, 16]),
        forged(["t", "float32", [4], 0, 8], b"12345678"),
        forged(["t", "float32", [-1], 0, 4], b"1234"),
        forged(["t", "object", [1], 0, 8], b"12345678"),
        forged(["a", "O", [1], 0, 8], b"12345678"),
        forged(["a", "float32", [2**41], 0, 4], b"1234"),
        forged(["y", -4, 8], b"1234"),
        forged(["f", "not a number"]),
        forged(["who", 1]),
        forged({"a": 1}),
        forged(["d", [[["l", []], ["n"]]]]),
        forged(["i", "1" * 100_000 + "x"]),
    ],
)
def test_malformed_bytes_are_refused_or_opaque(data):
    try:
        assert isinstance(wire.decode(data), wire.Opaque)
    except wire.WireError as error:
        assert str(error)


def test_depth_and_size_are_limited():
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(wire.WireError, match="deep"):
        wire.encode(deep)
    nested = ["n"]
    for _ in range(100):
        nested = ["l", [nested]]
    with pytest.raises(wire.WireError, match="deep"):
        wire.decode(forged(nested))
    with pytest.raises(wire.WireError, match="more than"):
        wire.decode(wire.encode(torch.zeros(1000)), limit=100)


def test_keys_that_collide_are_few():
    """Python's hash of n * (2^61 - 1) is 0 for every n: a set of 100,000 such takes minutes."""
    chosen = {i * (2**61 - 1) for i in range(wire.MAX_KEYS)}
    assert wire.decode(wire.encode(chosen)) == chosen
    for value in (set(range(wire.MAX_KEYS + 1)), dict.fromkeys(range(wire.MAX_KEYS + 1))):
        with pytest.raises(wire.WireError, match="keys"):
            wire.encode(value)
    header = json.dumps(["e", [["i", str(i)] for i in range(wire.MAX_KEYS + 1)]]).encode()
    with pytest.raises(wire.WireError, match="keys"):
        wire.decode(wire.MAGIC + len(header).to_bytes(8, "little") + header)


def test_many_small_dicts_are_no_danger():
    """Results of a lesson with many cases: each of their dicts has a few keys."""
    value = [{"a": i, "b": {"c": i}} for i in range(2 * wire.MAX_KEYS)]
    assert wire.decode(wire.encode(value)) == value
