"""What a process gives up before it runs a learner's code: limits, capabilities, files, calls.

Everything here narrows the calling process and those it starts, for good. Linux calls are made
through ctypes; each function raises ``OSError`` with the call's name where the kernel refuses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from functools import cache

LINUX = sys.platform == "linux"

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 28, 36, 38, 47
SECURE_BITS = 0b101111  # no capabilities for uid 0, none kept over a change of uid, all locked

# Numbers from the table that all architectures share.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446

MACHINE = platform.machine().lower()


@cache
def libc() -> ctypes.CDLL:
    """The C library, with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def checked(name: str, result: int) -> int:
    """``result`` of a C call, or an ``OSError`` that names the call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, *values: int) -> None:
    """``prctl(2)`` with the unused arguments zero."""
    args = [ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]
    checked(f"prctl({option})", libc().prctl(option, *args))


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that started it ends (Linux)."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, 9)


def hide_memory() -> None:
    """No other process of the same user may read or trace this one (Linux)."""
    if LINUX:
        with contextlib.suppress(OSError):
            prctl(PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Descendants whose parent ended become children of this process (Linux)."""
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)


def process_limit(room: int, alone: bool, filtered: bool) -> int | None:
    """What RLIMIT_NPROC must be for ``room`` more processes, None where it is of no use.

    Since Linux 5.14 it counts by user namespace; before, and outside of one, it counts all that
    the user runs, so that those are counted here. Filtered calls start no process anyway.
    """
    if not LINUX or (filtered and not alone):
        return None
    version = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])
    if alone and version >= (5, 14):
        return room
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count + room if count else None


def limit_resources(
    cpu: int, memory: int | None, file: int, files: int, processes: int | None
) -> None:
    """Hard limits: CPU seconds, bytes of address space, bytes a file, open files, processes."""
    import resource

    def put(name: str, value: int | None) -> None:
        number = getattr(resource, name, None)
        if number is None or value is None:
            return
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # macOS refuses some of these (RLIMIT_AS above all); the time limit still holds there.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(number, (value, value))

    put("RLIMIT_CORE", 0)
    put("RLIMIT_CPU", cpu)
    put("RLIMIT_AS", memory)
    put("RLIMIT_FSIZE", file)
    put("RLIMIT_NOFILE", files)
    put("RLIMIT_MEMLOCK", 1 << 20)
    put("RLIMIT_MSGQUEUE", 0)
    put("RLIMIT_NPROC", processes)


def address_space() -> int:
    """Bytes of address space that this process has now; 0 where that is not to be found out."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def drop_capabilities() -> None:
    """No capability, and none to be had again by starting a program."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            # EINVAL: past the last one there is. EPERM: nothing that could be dropped.
            if error.errno in (1, 22):
                break
            raise
    with contextlib.suppress(OSError):
        prctl(PR_SET_SECUREBITS, SECURE_BITS)
    with contextlib.suppress(OSError):
        prctl(PR_CAP_AMBIENT, 4)
    header = struct.pack("=Ii", 0x20080522, 0)
    checked("capset", libc().capset(header, b"\0" * 24))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


# Landlock ------------------------------------------------------------------------------------

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
READ = READ_FILE | READ_DIR


@cache
def landlock_version() -> int:
    """Version of Landlock that the kernel offers, 0 for none."""
    if not LINUX:
        return 0
    return max(0, libc().syscall(LANDLOCK_CREATE_RULESET, None, 0, 1))


class Landlock:
    """Rules about files, made once; ``enforce`` binds the calling process to them for good.

    What no rule allows is refused: files, starting programs, TCP in both directions (version 4),
    signals to and abstract sockets of processes outside (version 6).
    """

    def __init__(self) -> None:
        version = landlock_version()
        if not version:
            raise OSError(38, "landlock: not in this kernel, or not switched on")
        self.rights = ALL_FILE_RIGHTS[max(v for v in ALL_FILE_RIGHTS if v <= version)]
        network = 3 if version >= 4 else 0
        scopes = 3 if version >= 6 else 0
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        attributes = struct.pack("=QQQ", self.rights, network, scopes)[:size]
        made = libc().syscall(LANDLOCK_CREATE_RULESET, attributes, size, 0)
        self.fd = checked("landlock_create_ruleset", made)

    def allow(self, path: str, rights: int) -> None:
        """``rights`` on ``path`` and all below it; a path that is not there is passed over."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            mask = self.rights if os.path.isdir(path) else self.rights & FILE_ONLY
            rule = struct.pack("=Qi", rights & mask, fd)
            added = libc().syscall(LANDLOCK_ADD_RULE, self.fd, 1, rule, 0)
            checked(f"landlock_add_rule {path}", added)
        finally:
            os.close(fd)

    def allow_but(self, path: str, hidden: Iterable[str], rights: int = READ) -> None:
        """``rights`` on ``path``, but not on the paths in ``hidden`` that lie below it."""
        within = [h for h in hidden if h == path or h.startswith(path.rstrip("/") + "/")]
        if path in within:
            return
        if not within:
            self.allow(path, rights)
            return
        self.allow(path, rights & READ_DIR)
        with contextlib.suppress(OSError):
            for name in os.listdir(path):
                below = os.path.join(path, name)
                if not os.path.islink(below):
                    self.allow_but(below, within, rights)

    def enforce(self) -> None:
        """From here on this process and those it starts are bound by the rules."""
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        done = libc().syscall(LANDLOCK_RESTRICT_SELF, self.fd, 0)
        checked("landlock_restrict_self", done)


# Seccomp -------------------------------------------------------------------------------------

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls that no answer needs: starting processes and programs, sockets, reaching into other
# processes, mounting, and doors into the kernel that have been broken more than once.
# Changing modes, owners and times is refused because Landlock leaves it free. The last line of
# each is memory that no limit counts or that outlives its process: shared memory, queues and
# semaphores of System V and POSIX, files without a name; and moving another's pages.
REFUSED = {
    "x86_64": (
        57, 58, 59, 322, 41, 101, 310, 311, 312, 129, 297, 434, 424, 438, 165, 166, 155, 161,
        272, 308, 323, 425, 321, 298, 248, 249, 250, 304, 428, 430, 141, 251, 144, 142, 314,
        90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 197, 198, 199, 132, 235, 261, 280,
        29, 30, 31, 64, 65, 66, 67, 68, 69, 70, 71, 220, *range(240, 246), 319, 447, 256, 279,
    ),
    "aarch64": (
        221, 281, 198, 117, 270, 271, 272, 138, 240, 434, 424, 438, 40, 39, 41, 51, 97, 268, 282,
        425, 280, 241, 217, 218, 219, 265, 428, 430, 140, 30, 119, 118, 274,
        52, 53, 452, 54, 55, 5, 6, 7, 14, 15, 16, 88,
        *range(180, 198), 279, 447, 238, 239,
    ),
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
# Calls that are allowed on the process itself: kill, tkill, tgkill.
ON_SELF = {"x86_64": (62, 200, 234), "aarch64": (129, 130, 131)}
# And these, for which 0 is the process itself too: prlimit64, sched_setaffinity.
ON_SELF_OR_0 = {"x86_64": (302, 203), "aarch64": (261, 122)}
# Calls that are refused for some values of their second argument. fcntl: F_SETOWN, F_SETSIG and
# F_SETOWN_EX, by which the kernel sends any signal to any process of the same user. ioctl:
# FIOSETOWN and SIOCSPGRP, which do the same; TIOCSTI and TIOCLINUX, which type into a terminal.
ONLY_SOME = {
    "x86_64": ((72, (8, 10, 15)), (16, (0x8901, 0x8902, 0x5412, 0x541C))),
    "aarch64": ((25, (8, 10, 15)), (29, (0x8901, 0x8902, 0x5412, 0x541C))),
}
# socketpair: a pair of streams can reach nobody else; datagrams could be sent anywhere.
SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
STREAM = 1
CLONE_THREAD = 0x10000
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS = 1, 38


def _program(pid: int) -> bytes:
    """The filter, as BPF: a chain of tests on the call's number, each with its own verdict."""
    load, equal, at_least, bits, mask, give = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
    refuse, first, second = (give, 0, 0, ERRNO | EPERM), (load, 0, 0, 16), (load, 0, 0, 24)
    code: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, ARCHITECTURES[MACHINE]),
        (give, 0, 0, KILL),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 numbers, a second way to every call
        refuse,
    ]
    for number in REFUSED[MACHINE]:
        code += [(equal, 0, 1, number), refuse]
    code += [(equal, 0, 1, CLONE3), (give, 0, 0, ERRNO | ENOSYS)]  # libraries then use clone
    code += [
        (equal, 0, 4, CLONE[MACHINE]),
        first,
        (bits, 0, 1, CLONE_THREAD),
        (give, 0, 0, ALLOW),
        refuse,
    ]
    for number in (*ON_SELF[MACHINE], *ON_SELF_OR_0[MACHINE]):
        code += [
            (equal, 0, 5, number),
            first,
            (equal, 2, 0, pid),
            (equal, 1, 0, 0 if number in ON_SELF_OR_0[MACHINE] else pid),
            refuse,
            (give, 0, 0, ALLOW),
        ]
    for number, values in ONLY_SOME[MACHINE]:
        tests = [(equal, len(values) - i, 0, value) for i, value in enumerate(values)]
        code += [(equal, 0, len(values) + 3, number), second, *tests, (give, 0, 0, ALLOW), refuse]
    code += [
        (equal, 0, 5, SOCKETPAIR[MACHINE]),
        second,
        (mask, 0, 0, 0xFF),
        (equal, 0, 1, STREAM),
        (give, 0, 0, ALLOW),
        refuse,
        (give, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def seccomp_possible() -> bool:
    """Whether calls can be filtered here."""
    if not LINUX or MACHINE not in ARCHITECTURES or sys.byteorder != "little":
        return False
    try:
        with open("/proc/self/status") as f:
            return "Seccomp:" in f.read()
    except OSError:
        return False


def refuse_calls() -> None:
    """From here on the calls in ``REFUSED`` fail with "operation not permitted"."""
    program = _program(os.getpid())
    held = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    at = ctypes.create_string_buffer(prog, len(prog))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(at))
