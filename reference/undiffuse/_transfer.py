"""One file over HTTP: it goes on where it was cut, tries again, and arrives whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

CHUNK = 1 << 16


class TransferFailed(OSError):
    """The file could not be had; the message lists each try and why it failed."""


class _Again(Exception):
    """A failure that may pass."""


def transfer(
    address: str,
    target: Path,
    sha256: str | None,
    *,
    progress: bool,
    retries: int,
    timeout: float,
    pause: float,
) -> str:
    """Bring ``address`` to ``target`` and return its SHA-256.

    What has arrived lies in ``target`` + ".part" until it is whole, so that a cut costs nothing
    that is there already. The last step is a rename, done only when the checksum is ``sha256``;
    otherwise the file is removed and ``target`` does not come to be. A file that was put together
    from two connections and has the wrong checksum is fetched once more from its beginning: the
    server's copy may have changed in between. With ``sha256`` None any file is taken, which the
    caller must check. Raises TransferFailed.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise TransferFailed(f"the folder {target.parent} cannot be made: {e}") from e
    reasons: list[str] = []
    fresh = False
    while True:
        resumed = _size(part) > 0
        try:
            _connect(address, part, timeout, progress)
        except _Again as e:
            reasons.append(str(e))
            if len(reasons) > retries:
                tries = "\n  ".join(f"try {i}: {r}" for i, r in enumerate(reasons, 1))
                kept = _size(part)
                if kept:
                    tries += f"\n  {kept:,} bytes are kept; the next call goes on from there"
                raise TransferFailed(tries) from e
            time.sleep(pause * 2 ** (len(reasons) - 1))
            continue
        with open(part, "rb") as f:
            got = hashlib.file_digest(f, "sha256").hexdigest()
        if got == sha256 or sha256 is None:
            os.replace(part, target)
            return got
        part.unlink()
        if not resumed or fresh:
            return got
        fresh = True


def _connect(address: str, part: Path, timeout: float, progress: bool) -> None:
    """One connection: append to ``part`` until the file is whole, or raise _Again."""
    have = _size(part)
    # A server that packs the bytes for the way would make ranges and lengths mean something else.
    headers = {"User-Agent": "undiffuse", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as e:
        with e:
            if e.code == 416 and have:
                # There is nothing after what we have: it is whole, or it never was this file.
                # The checksum tells.
                return
            if e.code in (408, 425, 429) or e.code >= 500:
                raise _Again(f"the server says {e.code} {e.reason}") from e
            raise TransferFailed(f"the server says {e.code} {e.reason}") from e
    except ValueError as e:  # not an address at all
        raise TransferFailed(str(e)) from e
    except (OSError, http.client.HTTPException) as e:
        raise _Again(f"no connection: {getattr(e, 'reason', None) or e}") from e
    with answer:
        start, total = _extent(answer, part, have)
        try:
            file = open(part, "ab" if start else "wb")  # noqa: SIM115 - its errors are ours to name
        except OSError as e:
            raise TransferFailed(f"{part} cannot be written: {e}") from e
        with file, _bar(part.name.removesuffix(".part"), start, total, progress) as bar:
            here = start
            while True:
                try:
                    chunk = answer.read(CHUNK)
                except (OSError, http.client.HTTPException) as e:
                    raise _Again(f"cut after {here:,} bytes: {e or type(e).__name__}") from e
                if not chunk:
                    break
                try:
                    file.write(chunk)
                except OSError as e:
                    raise TransferFailed(f"{part} cannot be written: {e}") from e
                here += len(chunk)
                bar.update(len(chunk))
    if total is not None and here < total:
        raise _Again(f"cut after {here:,} of {total:,} bytes")


def _extent(answer, part: Path, have: int) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and how long the file is, if that is told."""
    length = answer.headers.get("Content-Length")
    rest = int(length) if length and length.isdigit() else None
    if answer.status != 206:
        return 0, rest  # the server does not do ranges: all of it, from the beginning
    told = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip()
    )
    if not told or int(told[1]) != have:
        part.unlink(missing_ok=True)
        raise _Again(
            f"asked for the bytes from {have:,} on, the server gave "
            f"{answer.headers.get('Content-Range')!r}: starting over"
        )
    if told[2] != "*":
        return have, int(told[2])
    return have, None if rest is None else have + rest


def _bar(name: str, start: int, total: int | None, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(
        desc=name,
        initial=start,
        total=total,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=not progress,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
