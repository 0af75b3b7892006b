"""Messages between the judge and its grading processes: plain data with descriptors beside."""

from __future__ import annotations

import socket
from typing import Any

from coursework import wire


def send(sock: socket.socket, message: Any, fds: tuple[int, ...] = ()) -> None:
    """One message with its length before it; ``fds`` travel with the length."""
    data = wire.encode(message)
    head = len(data).to_bytes(8, "little")
    if fds:
        socket.send_fds(sock, [head], list(fds))
        sock.sendall(data)
    else:
        sock.sendall(head + data)


def receive(sock: socket.socket) -> tuple[Any, list[int]]:
    """The next message and the descriptors that came with it; ``EOFError`` at the end."""
    head, fds = b"", []
    while len(head) < 8:
        part, more, _, _ = socket.recv_fds(sock, 8 - len(head), 200)
        fds += more
        if not part:
            raise EOFError
        head += part
    left, parts = int.from_bytes(head, "little"), []
    while left:
        part = sock.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return wire.decode(b"".join(parts)), fds
