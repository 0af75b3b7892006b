"""Plain data as bytes: tensors, arrays, numbers, text and containers; nothing executable.

What comes from a learner's process is decoded with this and nothing else. Anything that is not
plain data travels as ``Opaque``: its type's name and a short text. Layout: the magic, the length
of a JSON header, the header, then the raw buffers that the header points into.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from coursework.exercise import Given, Seed

MAGIC = b"CWD1"
MAX_DEPTH = 32
MAX_ITEMS = 200_000
MAX_KEYS = 4000  # of all large dicts and sets in a message: keys can be chosen so that all collide
LARGE = 64  # smaller ones cannot cost much, whatever their keys

TORCH_DTYPES = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)


class WireError(ValueError):
    """Bytes that are not what this module writes; the message says what is wrong with them."""


@dataclass(frozen=True)
class Opaque:
    """Stands for a value that is not plain data."""

    type: str
    text: str = ""


def encode(value: Any) -> bytes:
    """``value`` as bytes. Unknown objects become ``Opaque``; deep or huge containers raise."""
    buffers: list[bytes] = []
    offset = 0
    items = keys = 0

    def add(data: bytes) -> list[int]:
        nonlocal offset
        buffers.append(data)
        start, offset = offset, offset + len(data)
        return [start, len(data)]

    def walk(v: Any, depth: int) -> Any:
        nonlocal items, keys
        items += 1
        if depth > MAX_DEPTH or items > MAX_ITEMS:
            raise WireError(f"containers deeper than {MAX_DEPTH} or over {MAX_ITEMS} items")
        kind = type(v)
        if v is None:
            return ["n"]
        if kind is bool:
            return ["b", v]
        if kind is int:
            return ["i", str(v)]
        if kind is float:
            return ["f", v.hex()]
        if kind is complex:
            return ["c", v.real.hex(), v.imag.hex()]
        if isinstance(v, str):
            return ["s", str.__str__(v)]
        if kind is bytes:
            return ["y", *add(v)]
        if kind is Seed:
            return ["z", v.value]
        if kind is Given:
            return ["g", v.name, walk(list(v.args), depth + 1), walk(v.kwargs, depth + 1)]
        if kind is Opaque:
            return ["o", v.type, v.text]
        if isinstance(v, list):
            return ["l", [walk(x, depth + 1) for x in list.__iter__(v)]]
        if isinstance(v, tuple):
            return ["u", [walk(x, depth + 1) for x in tuple.__iter__(v)]]
        if isinstance(v, (dict, set, frozenset)):
            keys += len(v) if len(v) > LARGE else 0
            if keys > MAX_KEYS:
                raise WireError(f"dicts and sets with over {MAX_KEYS} keys")
        if isinstance(v, dict):
            return ["d", [[walk(k, depth + 1), walk(x, depth + 1)] for k, x in dict.items(v)]]
        if isinstance(v, (set, frozenset)):
            return ["e", [walk(x, depth + 1) for x in sorted(v, key=repr)]]
        return special(v)

    def special(v: Any) -> Any:
        import numpy as np

        if isinstance(v, np.generic) and v.dtype.kind in "biufc":
            return ["a", str(v.dtype), [], *add(np.ascontiguousarray(v).tobytes())]
        if isinstance(v, np.ndarray):
            if v.dtype.kind in "biufc":
                shape = list(v.shape)
                return ["a", str(v.dtype), shape, *add(np.ascontiguousarray(v).tobytes())]
            if v.dtype.kind == "U":
                return ["l", [["s", str(x)] for x in v.reshape(-1)]]
        torch_data = tensor_bytes(v)
        if torch_data is not None:
            dtype, shape, data = torch_data
            return ["t", dtype, shape, *add(data)]
        try:
            text = repr(v)[:200]
        except Exception as error:
            text = f"<repr failed: {type(error).__name__}>"
        return ["o", f"{type(v).__module__}.{type(v).__qualname__}", text]

    header = json.dumps(walk(value, 0), separators=(",", ":")).encode()
    return b"".join([MAGIC, struct.pack("<Q", len(header)), header, *buffers])


def tensor_bytes(v: Any) -> tuple[str, list[int], bytes] | None:
    """(dtype, shape, raw bytes) of a tensor, or None for anything else."""
    import torch

    if not isinstance(v, torch.Tensor):
        return None
    with torch._C.DisableTorchFunctionSubclass():
        plain = v.detach()
        if type(plain) is not torch.Tensor:
            plain = plain.as_subclass(torch.Tensor)
        plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
        if plain.is_sparse:
            plain = plain.to_dense()
        name = str(plain.dtype).removeprefix("torch.")
        if name not in TORCH_DTYPES:
            return None
        shape = list(plain.shape)
        data = plain.reshape(-1).view(torch.uint8) if plain.numel() else plain.reshape(-1)
        return name, shape, data.numpy().tobytes() if plain.numel() else b""


def decode(data: bytes, limit: int = 512 * 2**20) -> Any:
    """The value that ``encode`` was given. Raises ``WireError`` for anything malformed."""
    if len(data) > limit:
        raise WireError(f"{len(data)} bytes, more than the {limit} allowed")
    if data[:4] != MAGIC or len(data) < 12:
        raise WireError("not a message: wrong first bytes")
    (length,) = struct.unpack("<Q", data[4:12])
    if 12 + length > len(data):
        raise WireError("message is cut short")
    try:
        tree = json.loads(data[12 : 12 + length])
    except (ValueError, RecursionError) as error:
        raise WireError(f"header is not JSON: {error}") from None
    body = memoryview(data)[12 + length :]
    items = keys = 0

    def cut(start: int, size: int) -> bytes:
        if not (isinstance(start, int) and isinstance(size, int)):
            raise WireError("buffer position is not a number")
        if start < 0 or size < 0 or start + size > len(body):
            raise WireError("buffer lies outside the message")
        return bytes(body[start : start + size])

    def array(dtype: str, shape: list, raw: bytes, torch_too: bool) -> Any:
        import numpy as np

        if not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
            raise WireError(f"impossible shape {shape}")
        if torch_too:
            import torch

            if dtype not in TORCH_DTYPES:
                raise WireError(f"unknown dtype {dtype!r}")
            kind = getattr(torch, dtype)
            count = 1
            for n in shape:
                count *= n
            if count * kind.itemsize != len(raw):
                raise WireError(f"{len(raw)} bytes do not fill {shape} of {dtype}")
            if not count:
                return torch.empty(shape, dtype=kind)
            return torch.frombuffer(bytearray(raw), dtype=kind).reshape(shape)
        try:
            kind = np.dtype(dtype)
            if kind.kind not in "biufc":
                raise WireError(f"unknown dtype {dtype!r}")
            return np.frombuffer(raw, dtype=kind).reshape(shape).copy()
        except (TypeError, ValueError) as error:
            raise WireError(str(error)) from None

    def walk(node: Any, depth: int) -> Any:
        nonlocal items, keys
        items += 1
        if depth > MAX_DEPTH or items > MAX_ITEMS:
            raise WireError("message is too deep or has too many items")
        if not isinstance(node, list) or not node:
            raise WireError("malformed header")
        tag, rest = node[0], node[1:]
        if tag == "n":
            return None
        if tag == "b":
            return bool(rest[0])
        if tag == "i":
            return int(rest[0]) if len(rest[0]) < 4000 else Opaque("builtins.int", "huge")
        if tag == "f":
            return float.fromhex(rest[0])
        if tag == "c":
            return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
        if tag == "s":
            return str(rest[0])
        if tag == "y":
            return cut(*rest)
        if tag == "z":
            return Seed(int(rest[0]))
        if tag == "g":
            return Given(str(rest[0]), *walk(rest[1], depth + 1), **walk(rest[2], depth + 1))
        if tag == "o":
            return Opaque(str(rest[0])[:200], str(rest[1])[:200])
        if tag == "l":
            return [walk(x, depth + 1) for x in rest[0]]
        if tag == "u":
            return tuple(walk(x, depth + 1) for x in rest[0])
        if tag in ("e", "d"):
            keys += len(rest[0]) if len(rest[0]) > LARGE else 0
            if keys > MAX_KEYS:
                raise WireError(f"dicts and sets with over {MAX_KEYS} keys")
        if tag == "e":
            return set(walk(x, depth + 1) for x in rest[0])
        if tag == "d":
            return {walk(k, depth + 1): walk(x, depth + 1) for k, x in rest[0]}
        if tag in ("t", "a"):
            return array(rest[0], rest[1], cut(*rest[2:4]), tag == "t")
        raise WireError(f"unknown tag {tag!r}")

    try:
        return walk(tree, 0)
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"malformed header: {type(error).__name__}: {error}") from None
