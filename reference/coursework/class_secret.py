"""The class's secret: one file, made once, that pseudonyms and seeds of students are made with."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

LEAST = 16  # characters


def class_secret(path: Path, error: type[Exception]) -> bytes:
    """What ``path`` holds; made where it is not there, readable by its owner alone.

    Raises ``error`` for less than ``LEAST`` characters.
    """
    try:
        data = path.read_bytes().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = secrets.token_hex(32).encode()
        # Made whole before it has its name: of two commands at once, the first one's stays.
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 600
        with os.fdopen(fd, "wb") as f:
            f.write(data + b"\n")
        try:
            os.link(name, path)
        except FileExistsError:
            data = path.read_bytes().strip()
        finally:
            os.unlink(name)
    if len(data) < LEAST:
        raise error(f"{path} should hold a secret of at least {LEAST} characters")
    return data
