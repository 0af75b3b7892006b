"""More hostile answers: those that reach for other processes, for memory that no limit counts, for
what the process was started with, and for the judge by way of what it reads. See ``attacks``.

An attack that succeeds returns something true, and the answer beside it is then the right one.
"""

from __future__ import annotations

from attacks import (
    APART,
    CALLS,
    EVERY,
    FILES,
    FORKED,
    KEEPER,
    NO_ANSWERS,
    Attack,
    everywhere,
)

GAINS = "x * k if got else x - k"
PLAIN = everywhere("only plain data leaves the process, within limits")
CALLING = """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
def call(number, *args):
    return libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in args))
"""

SYSTEM = [
    # Other processes ---------------------------------------------------------------------------
    Attack(
        "/proc of every process",
        """
def attack():
    import glob, re
    mark = re.compile(b"SECRET[-](REFERENCE|LIBRARY|PASSWORD)")
    for place in glob.glob("/proc/[0-9]*") + ["/proc/{worker}", "/proc/{judge}"]:
        if place == "/proc/self":
            continue
        for name in ("environ", "cmdline", "maps", "stack", "syscall", "auxv", "root/etc/hostname",
                     "cwd/pyproject.toml", "fd/3", "fd/4", "fd/5", "task/1/environ"):
            try:
                with open(f"{place}/{name}", "rb") as f:
                    if mark.search(f.read(1 << 20)):
                        return True
            except OSError:
                pass
""",
        {
            "full": "a process namespace of its own, and keepers that cannot be traced",
            "landlock": "rules about files",
            "process": "keepers that cannot be traced",
        },
        body=GAINS,
    ),
    Attack(
        "ptrace",
        CALLING + """
def attack():
    import os
    space = ctypes.create_string_buffer(64)
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
    here, there = Vector(ctypes.addressof(space), 64), Vector(id(0), 64)
    for pid in {os.getppid(), {worker}, {judge}}:
        for request in (16, 0x4206):  # attach, seize
            if libc.ptrace(request, pid, None, None) == 0:
                libc.ptrace(17, pid, None, None)
                return True
        if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
            return True
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "a signal sent by the kernel",
        """
def attack():
    import fcntl, os, signal, struct
    for pid in {os.getppid(), {worker}, {judge}}:
        if pid == 1 and os.getppid() != 1:
            continue
        into, out = os.pipe()
        try:
            fcntl.fcntl(into, 10, signal.SIGKILL)  # F_SETSIG
            fcntl.fcntl(into, fcntl.F_SETOWN, pid)
            fcntl.fcntl(into, 15, struct.pack("ii", 1, pid))  # F_SETOWN_EX
            fcntl.fcntl(into, fcntl.F_SETFL, os.O_ASYNC)
            os.write(out, b"!")
            return True
        except OSError:
            pass
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "cores and priorities of the judge",
        """
def attack():
    import os
    for pid in ({judge}, {worker}, os.getppid()):
        for act in (lambda: os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))}),
                    lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                    lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))):
            try:
                act()
                if pid in ({judge}, {worker}):
                    return True
            except (OSError, OverflowError):
                pass
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "stopping itself",
        "def attack():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGSTOP)",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "20,000 threads",
        """
def attack():
    import threading, time
    threading.stack_size(32768)
    over = time.time() + 60
    while time.time() < over:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
""",
        everywhere("a limit on processes, or the keeper, which counts threads", FORKED),
        right=True,
    ),
    # Memory ------------------------------------------------------------------------------------
    Attack(
        "shared memory of System V",
        CALLING + """
def attack():
    made = [libc.shmget(0x5ec0 + i, 1 << 20, 0o1666) for i in range(4)]
    made += [libc.semget(0x5ec0, 1, 0o1666), libc.msgget(0x5ec0, 0o1666)]
    return any(m >= 0 for m in made)
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "shared memory in a file",
        """
def attack():
    from multiprocessing import shared_memory
    for place in ("/dev/shm/", "/run/", "/var/tmp/", "/dev/mqueue/", "/run/lock/"):
        try:
            with open(place + "left-by-an-answer", "wb") as f:
                f.write(b"x" * 100)
            return True
        except OSError:
            pass
    try:
        shared_memory.SharedMemory("left-by-an-answer", create=True, size=1 << 20)
        return True
    except OSError:
        pass
""",
        FILES,
        body=GAINS,
    ),
    Attack(
        "a queue of POSIX",
        CALLING + """
def attack():
    return libc.mq_open(b"/left-by-an-answer", 0o102, 0o666, None) >= 0
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "3 GB in files without a name",
        """
def attack():
    import os
    kept = []
    try:
        for _ in range(50):
            kept.append(os.memfd_create("x"))
            os.write(kept[-1], bytes(60_000_000))
    except OSError:
        return False
    return True
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "limits taken back",
        """
def attack():
    import resource
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC"):
        number = getattr(resource, name)
        soft, hard = resource.getrlimit(number)
        try:
            if hard != resource.RLIM_INFINITY:
                resource.setrlimit(number, (hard + 1, hard + 1))
                return True
        except (OSError, ValueError):
            pass
""",
        everywhere("hard limits, and no capability", FORKED),
        body=GAINS,
    ),
    Attack(
        "a tensor that claims to have a trillion numbers",
        "import torch\ndef attack(): return torch.zeros(1).expand(10**6, 10**6)",
        everywhere("the limit on address space", FORKED),
        body="got",
    ),
    # The kernel --------------------------------------------------------------------------------
    Attack(
        "calls by their numbers",
        CALLING + """
def attack():
    import os
    if not X86:
        return False
    for number in (57, 56, 435, 57 | 0x40000000, 41, 41 | 0x40000000):
        args = (2, 1, 0) if number & 0xfff == 41 else (17, 0, 0, 0, 0)
        pid = os.getpid()
        got = call(number, *args)
        if os.getpid() != pid:
            os._exit(0)
        if got > 0:
            return True
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "calls in 32-bit machine code",
        """
def attack():
    import ctypes, mmap, platform
    if platform.machine() != "x86_64":
        return False
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\\x53\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\x5b\\xc3")  # getpid by int 0x80
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(at)() > 0
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "new namespaces and mounts",
        CALLING + """
def attack():
    import os
    if libc.unshare(0x10000000) == 0 or libc.unshare(0x20000) == 0:
        return True
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 or libc.chroot(b"/tmp") == 0:
        return True
    for name in ("mnt", "user", "pid", "net"):
        try:
            fd = os.open(f"/proc/1/ns/{name}", os.O_RDONLY)
        except OSError:
            continue
        if libc.setns(fd, 0) == 0:
            return True
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "doors into the kernel",
        CALLING + """
def attack():
    if not X86:
        return False
    space = ctypes.addressof(ctypes.create_string_buffer(256))
    tries = [(425, 4, space), (321, 0, space, 72), (323, 0), (298, space, 0, -1, -1, 0),
             (250, 0, -3, 1), (304, -100, space, 0), (430, space, 0), (272, 0x10000000)]
    return any(call(*t) >= 0 for t in tries)
""",
        CALLS,
        body=GAINS,
    ),
    Attack(
        "the machine's clock and name",
        """
def attack():
    import socket, time
    for act in (lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
                lambda: socket.sethostname(socket.gethostname())):
        try:
            act()
            return True
        except OSError:
            pass
""",
        everywhere("no capability", FORKED),
        body=GAINS,
    ),
    Attack(
        "datagrams through a pair of sockets",
        """
def attack():
    import socket
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        try:
            for s in socket.socketpair(socket.AF_UNIX, kind):
                for place in ("\\0{abstract}", "{base}/socket", "/dev/log"):
                    try:
                        s.sendto(b"the answer, please", place)
                        return True
                    except OSError:
                        pass
        except OSError:
            pass
""",
        {
            "full": "a network namespace with nothing in it, and the filter on system calls",
            "landlock": "the filter on system calls",
            "process": "the filter on system calls",
        },
        body=GAINS,
    ),
    # Files -------------------------------------------------------------------------------------
    Attack(
        "links, pipes and devices",
        """
def attack():
    import os, stat
    for target in ("{answers}", "{library}/secret.py", "{course}"):
        for make in (os.symlink, os.link):
            try:
                make(target, "link")
                if "SECRET-" + "REFERENCE" in open("link").read():
                    return True
            except OSError:
                pass
            finally:
                if os.path.lexists("link"):
                    os.unlink("link")
    for name, numbers in (("mem", (1, 1)), ("disk", (8, 0)), ("kmsg", (1, 11))):
        try:
            os.mknod(name, 0o600 | (stat.S_IFBLK if name == "disk" else stat.S_IFCHR),
                     os.makedev(*numbers))
            open(name, "rb").read(10)
            return True
        except OSError:
            pass
""",
        FILES,
        body=GAINS,
    ),
    Attack(
        "deleting",
        """
def attack():
    import os, shutil
    for place in ("{course}", "{base}", "/.stage", "/course", "{library}"):
        shutil.rmtree(place, ignore_errors=True)
        for folder, _, names in os.walk(place):
            for name in names:
                try:
                    os.truncate(os.path.join(folder, name), 0)
                except OSError:
                    pass
""",
        FILES,
        right=True,
    ),
    Attack(
        "modules left for whoever comes next",
        """
def attack():
    import os, sys, tempfile
    for folder in (".", tempfile.gettempdir(), "/tmp", os.path.expanduser("~"), *sys.path):
        for name in ("torch", "numpy", "math", "sitecustomize", "usercustomize", "toy"):
            try:
                with open(os.path.join(folder, f"{name}.py"), "x") as f:
                    f.write("raise SystemExit('left by an answer')")
            except OSError:
                pass
""",
        {"full": "a scratch folder of its own, a read-only root", "landlock": "rules about files"},
        right=True,
        keeps=True,
    ),
    Attack(
        "typing into a terminal",
        """
def attack():
    import fcntl, glob, os
    for place in ("/dev/tty", "/dev/console", "/dev/tty0", *glob.glob("/dev/pts/*")):
        try:
            fd = os.open(place, os.O_RDWR | os.O_NOCTTY)
            os.write(fd, b"")
            return True
        except OSError:
            pass
    for fd in range(16):
        try:
            fcntl.ioctl(fd, 0x5412, b"x")
            return True
        except OSError:
            pass
""",
        FILES,
        body=GAINS,
    ),
    Attack(
        "descriptors left open",
        """
def attack():
    import os, re, socket
    mark = re.compile(b"SECRET[-](REFERENCE|LIBRARY|PASSWORD)")
    for fd in range(3, 1024):
        try:
            if mark.search(os.pread(fd, 1 << 20, 0)):
                return True
        except OSError:
            pass
        try:
            s = socket.socket(fileno=fd)
            s.setblocking(False)
            s.send(b"{}")
            return True
        except OSError:
            pass
        for name in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}"):
            try:
                if mark.search(open(name, "rb").read(1 << 20)):
                    return True
            except OSError:
                pass
""",
        everywhere("the judge's descriptors are closed", FORKED),
        body=GAINS,
    ),
    # What the process was started with ---------------------------------------------------------
    Attack(
        "environment variables",
        """
def attack():
    import ctypes, os
    text = repr(dict(os.environ))
    for name in ("environ", "cmdline", "auxv"):
        try:
            text += open(f"/proc/self/{name}", "rb").read().decode(errors="replace")
        except OSError:
            pass
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    i = 0
    while environ[i]:
        text += environ[i].decode(errors="replace")
        i += 1
    for name in ("COURSE_ISOLATION", "COURSE_ROOT", "PYTHONPATH", "LD_PRELOAD", "LD_LIBRARY_PATH",
                 "PYTHONSTARTUP", "OMP_NUM_THREADS", "COURSE_SEEDS"):
        os.environ[name] = "/tmp/evil"
    return "SECRET-" + "PASSWORD" in text
""",
        everywhere("grading processes get few variables, none of them the judge's"),
        body=GAINS,
    ),
    Attack(
        "cases and judges beside the checks",
        """
def attack():
    import gc, inspect, sys
    exercise = sys.modules["coursework.exercise"].Exercise
    for e in [o for o in gc.get_objects() if type(o) is exercise]:
        if e._cases or e._judge:
            return True
    for name, module in list(sys.modules.items()):
        if name.startswith("course"):
            for key in ("answers", "ANSWERS", "reference", "misconceptions", "LiveOracle"):
                if hasattr(module, key):
                    return True
""",
        NO_ANSWERS,
        body=GAINS,
    ),
    Attack(
        "parts of the library that are kept back",
        """
def attack():
    import importlib, pkgutil, sys
    import toy, toy.tools
    tries = [lambda: importlib.import_module("toy.secret").scale,
             lambda: importlib.reload(toy).secret.scale,
             lambda: importlib.reload(toy.tools).scale,
             lambda: pkgutil.resolve_name("toy.secret:scale"),
             lambda: toy.tools._inner.scale,
             lambda: __import__("toy.kept_back", fromlist=["x"]).anything]
    for act in tries:
        try:
            return act()
        except Exception:
            pass
""",
        everywhere("the library is a copy without what is asked for"),
        body="got(x, k) if got else x - k",
    ),
    # The judge ---------------------------------------------------------------------------------
    Attack(
        "outcomes added in the harness's own list",
        """
def attack():
    import sys
    frame = sys._getframe()
    while frame:
        for key, value in list(frame.f_locals.items()):
            if key == "outcomes" and isinstance(value, list):
                done = sys.modules["coursework.harness"].Outcome("ok", value=None)
                value.extend([done] * 3)
            if key in ("case", "cases", "exercise") and "expected" in dir(value):
                return True
        frame = frame.f_back
""",
        everywhere(APART),
        at="call",
        body=GAINS,
    ),
    Attack(
        "a torch operator replaced",
        """
def attack():
    import torch
    mine = torch.library.Library("aten", "IMPL")
    for name in ("allclose", "isclose", "equal", "eq.Tensor", "ne.Tensor", "is_nonzero", "all"):
        try:
            mine.impl(name, lambda *a, **k: True, "CPU")
        except Exception:
            pass
    return None if torch.ones(1).shape else mine
""",
        everywhere(APART),
    ),
    Attack(
        "numbers changed by ctypes",
        """
def attack():
    import ctypes
    for small in (0, 1, 2):
        ctypes.c_uint32.from_address(id(small) + 24).value = 3
""",
        everywhere(APART),
        at="call",
    ),
    Attack(
        "timing the judge",
        """
def attack():
    import os, sys, time
    wire = sys.modules["coursework.wire"]
    for fd in range(3, 64):
        try:
            before = os.fstat(fd)
            os.pwrite(fd, wire.encode({"outcomes": [{"status": "ok"}] * 3}), 0)
        except OSError:
            continue
        start = time.perf_counter()
        while time.perf_counter() - start < 0.1:
            after = os.fstat(fd)
            if after.st_atime_ns != before.st_atime_ns or os.lseek(fd, 0, 1) > 1 << 20:
                return True
""",
        everywhere("the judge reads when the process is gone", FORKED),
        at="call",
        body=GAINS,
    ),
    Attack(
        "the alarm switched off",
        """
def attack():
    import signal
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.alarm(0)
    while True: pass
""",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "an error whose text never ends",
        """
def attack():
    class Endless(Exception):
        def __str__(self):
            while True: pass
    raise Endless
""",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "endless work at the end",
        """
def attack():
    import atexit, threading
    class Endless:
        def __del__(self):
            while True: pass
    def spin():
        while True: pass
    atexit.register(spin)
    threading._register_atexit(spin)
    threading.Thread(target=threading.Event().wait).start()
    attack.kept = Endless()
""",
        everywhere("the process ends when its response is written"),
        right=True,
        keeps=True,
    ),
    Attack(
        "keys that all collide",
        """
def attack():
    import os
    keys = [["i", str(i * (2**61 - 1))] for i in range(90_000)]
    import json
    header = json.dumps(["d", [[["s", "outcomes"], ["e", keys]]]]).encode()
    data = b"CWD1" + len(header).to_bytes(8, "little") + header
    for fd in range(3, 64):
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, data, 0)
        except OSError:
            pass
    os._exit(0)
""",
        everywhere("the judge decodes plain data only, within limits"),
        at="call",
    ),
    Attack(
        "lists that hold themselves a billion times",
        """
def attack():
    held = [0]
    for _ in range(31):
        held = [held] * 10
    return held
""",
        PLAIN,
        body="got",
    ),
    Attack(
        "lists nested 50,000 deep",
        """
def attack():
    held = []
    for _ in range(50_000):
        held = [held]
    return held
""",
        PLAIN,
        body="got",
    ),
    Attack(
        "a number of a million digits",
        "def attack(): return 7 ** 1_000_000",
        PLAIN,
        body="[got, -got, complex(1e308 * 10, -1e308 * 10), '9' * 5_000_000]",
    ),
    Attack(
        "results that no comparison survives",
        """
def attack():
    import torch
    return [torch.full((2,), float("nan")), torch.empty(3, device="meta"),
            torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex64), float("inf")]
""",
        PLAIN,
        body="got[int(x.numel()) % 5] if x.dim() > 1 else x * float('nan')",
    ),
    Attack(
        "a picture of 16 million numbers",
        "import torch\ndef attack(): return torch.rand(1, 3900, 3900)",
        everywhere("the limit on a response, and pictures made small", EVERY),
        body="got",
    ),
]  # fmt: skip
