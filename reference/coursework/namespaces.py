"""A learner's process in namespaces of its own, with a small read-only root (Linux).

Every function changes the calling process. Order: ``in_namespaces`` forks a process that enters
them and whose child, the first process of the process namespace, calls ``make_root``; each
exercise is a child of that one, and calls ``private_room`` before it gives up its capabilities.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coursework import lockdown
from coursework.lockdown import checked, libc

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH, AT_RECURSIVE, MOUNT_SETATTR = 2, 0x8000, 442
NOBODY = 65534
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives")
DEVICES = ("null", "zero", "urandom", "random")
COURSE = "/course"  # where the stripped library lies in the new root
STAGE = "/.stage"


@dataclass(frozen=True)
class Room:
    """What a learner's process may see of the disk.

    base: a folder of the grader's own, with ``root`` (empty), ``stage`` (one folder for each
    stripped library) and ``scratch``. read: what Python needs, and the course's data. hide: paths
    that stay hidden even where they lie below a path in ``read``.
    """

    base: str
    read: tuple[str, ...]
    hide: tuple[str, ...]

    @property
    def scratch(self) -> str:
        """Where an answer may write, in the new root: /tmp, unless what it reads lies there."""
        return "/scratch" if any(below(p, ["/tmp"]) for p in self.read) else "/tmp"


def below(path: str, tops: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``tops``, or lies below one."""
    return any(path == t or path.startswith(t.rstrip("/") + "/") for t in tops)


def outermost(paths: Iterable[str]) -> list[str]:
    """``paths`` without those that lie below another."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not below(path, kept):
            kept.append(path)
    return kept


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """``mount(2)``; the error names the target."""
    args = [os.fsencode(a) if a else None for a in (source, target, kind)]
    done = libc().mount(*args, ctypes.c_ulong(flags), os.fsencode(data) if data else None)
    checked(f"mount {target}", done)


def unmount(target: str) -> None:
    """Takes a mount away at once, whoever uses it."""
    checked(f"umount {target}", libc().umount2(os.fsencode(target), MNT_DETACH))


def unshare(flags: int, what: str) -> None:
    """``unshare(2)``; the error names ``what``."""
    checked(f"unshare {what}", libc().unshare(flags))


def other_user() -> int | None:
    """Under root: the user that learners' processes become; else None."""
    if os.getuid() != 0:
        return None
    # Files that only root may read would be lost to it.
    readable = os.stat(os.__file__).st_mode & 0o004 and os.stat(sys.prefix).st_mode & 0o005
    return NOBODY if readable else None


def write_maps(pid: int | str, uid: int, gid: int, also: int | None) -> None:
    """User and group maps of process ``pid``'s new user namespace: its own, and ``also``."""
    extra = f"{also} {also} 1\n" if also is not None else ""
    if also is None:
        with open(f"/proc/{pid}/setgroups", "w") as f:
            f.write("deny")
    for name, number in (("uid_map", uid), ("gid_map", gid)):
        # The kernel takes a map in one write, and once.
        with open(f"/proc/{pid}/{name}", "wb", buffering=0) as f:
            f.write(f"{number} {number} 1\n{extra}".encode())


def in_namespaces(first: Callable[[], None], failed: Callable[[OSError], object]) -> int:
    """Forks; runs ``first`` as the first process of new namespaces; the outer process's id.

    ``failed`` is called in the outer process with what the kernel refused. The outer process ends
    when ``first`` has, and takes all others in the namespaces with it.
    """
    asked, ready = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.close(asked[1])
        os.close(ready[0])
        if os.read(asked[0], 1):
            try:
                write_maps(pid, 0, 0, other_user())
                os.write(ready[1], b"m")
            except OSError as error:
                failed(error)
        os.close(asked[0])
        os.close(ready[1])
        return pid
    try:
        lockdown.die_with_parent()

        def ask_parent() -> None:
            os.write(asked[1], b"u")
            os.read(ready[0], 1)

        try:
            enter_namespaces(ask_parent)
        except OSError as error:
            failed(error)
            os._exit(1)
        for fd in (*asked, *ready):
            os.close(fd)
        inner = os.fork()
        if inner == 0:
            lockdown.die_with_parent()
            first()
            os._exit(0)
        _, status = os.waitpid(inner, 0)
        os._exit(0 if status == 0 else 1)
    finally:
        os._exit(70)


def enter_namespaces(ask_parent: Callable[[], None]) -> None:
    """New namespaces for this process; children are in a process namespace of their own.

    Under root the maps are written by the parent: ``ask_parent()`` returns when they are.
    """
    uid, gid, other = os.getuid(), os.getgid(), other_user()
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWPID
    unshare(flags, "user, mount, process, network, IPC and host name namespaces")
    if other is None:
        lockdown.prctl(lockdown.PR_SET_DUMPABLE, 1)  # else the maps belong to root
        write_maps("self", uid, gid, None)
    else:
        ask_parent()
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def make_root(room: Room) -> None:
    """A read-only root with what ``room`` allows, a fresh /proc and four devices; enters it.

    To be called by the first process of a process namespace.
    """
    root = os.path.join(room.base, "root")
    os.umask(0o022)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,mode=755")
    places = [(p, "bind") for p in room.read] + [(p, "bind") for p in SYSTEM]
    places += [(f"/etc/{name}", "bind") for name in ETC]
    bound = outermost(p for p, _ in places)
    places += [(h, "hide") for h in room.hide if below(h, bound)]
    for path, how in sorted(set(places), key=lambda p: (p[0].count("/"), p)):
        _place(path, how, root)
    for name in ("proc", "tmp", "scratch", "dev", "etc", COURSE[1:], STAGE[1:], ".old"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in DEVICES:
        open(f"{root}/dev/{name}", "w").close()
    for name, text in (
        ("passwd", f"root:x:0:0::/:/bin/false\nlearner:x:{os.getuid()}:0::/tmp:/bin/false\n"),
        ("group", "root:x:0:\n"),
        ("hosts", "127.0.0.1 localhost\n"),
    ):
        with open(f"{root}/etc/{name}", "w") as f:
            f.write(text)
    stage = os.path.join(room.base, "stage")
    mount(stage, root + STAGE, None, MS_BIND | MS_REC)
    read_only = struct.pack("=QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    done = libc().syscall(MOUNT_SETATTR, -100, os.fsencode(root), AT_RECURSIVE, read_only, 32)
    checked("mount_setattr", done)
    for name in DEVICES:
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    _mount_proc(f"{root}/proc")
    checked("pivot_root", libc().pivot_root(os.fsencode(root), os.fsencode(f"{root}/.old")))
    os.chdir("/")
    unmount("/.old")


def _place(path: str, how: str, root: str) -> None:
    target = root + path
    if how == "bind" and not os.path.lexists(path):
        return
    if os.path.islink(path) and path in SYSTEM:
        if not os.path.lexists(target):
            os.symlink(os.readlink(path), target)
        return
    if how == "hide":
        if os.path.isdir(target):
            mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
        elif os.path.exists(target):
            mount("/dev/null", target, None, MS_BIND)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()
    mount(path, target, None, MS_BIND | MS_REC)


def _mount_proc(target: str) -> None:
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    try:
        mount("proc", target, "proc", flags)
    except OSError:
        return  # a container that masks parts of /proc: the folder stays empty
    with contextlib.suppress(OSError), open(f"{target}/sys/user/max_user_namespaces", "w") as f:
        f.write("0")
    mount(None, target, None, MS_REMOUNT | MS_RDONLY | flags)


def private_room(room: Room, library: str, size: int) -> str:
    """In the new root, for one exercise: its stripped library and an empty folder, returned.

    library: name of the folder in the stage. The stage with the others goes out of sight.
    """
    unshare(CLONE_NEWNS, "mount namespace")
    mount(f"{STAGE}/{library}", COURSE, None, MS_BIND)
    unmount(STAGE)
    options = f"size={size},mode=1777,nr_inodes=10000"
    mount("tmpfs", room.scratch, "tmpfs", MS_NOSUID | MS_NODEV, options)
    return room.scratch


def ignore_signals() -> None:
    """Signals that a learner's process could send its keepers are ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE"):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
