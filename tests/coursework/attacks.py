"""Hostile answers, each with the levels of isolation at which it is stopped, and by what.

An attack is the source of a function ``attack``. It runs while the answer is defined or in each
call of it, beside an honest answer that is right or wrong: a right one may lose its own exercise
by what it does, never more, and a wrong one may gain nothing. ``{name}`` in a source is filled in
by the tests. What a level promises is in THREAT_MODEL.md.
"""

from __future__ import annotations

from dataclasses import dataclass

FORKED = ("full", "landlock", "process")
EVERY = (*FORKED, "subprocess")


@dataclass(frozen=True)
class Attack:
    """name; source of ``attack()``; stopped: level -> by what. right: the honest answer beside it
    is right. at: "definition" or "call". keeps: a right answer keeps its points. body: what the
    answer returns, where that is not the honest answer."""

    name: str
    source: str
    stopped: dict[str, str]
    right: bool = False
    at: str = "definition"
    keeps: bool = False
    body: str = ""

    def answer(self, **fill: str) -> str:
        """Source of the answer to 01.1."""
        source = self.source
        for key, value in fill.items():
            source = source.replace("{" + key + "}", value)
        body = self.body or ("x * k" if self.right else "x - k")
        if self.at == "call":
            return f"{source}\ndef scale(x, k):\n    got = attack()\n    return {body}\n"
        return f"{source}\ndef scale(x, k, got=attack()):\n    return {body}\n"

    def twin(self) -> str:
        """The same answer without the attack."""
        return f"def scale(x, k):\n    return {'x * k' if self.right else 'x - k'}\n"


def everywhere(by: str, levels: tuple[str, ...] = EVERY) -> dict[str, str]:
    """The same wall at each of ``levels``."""
    return dict.fromkeys(levels, by)


APART = "results are compared in the judge's process"
FILES = {"full": "a root without the course", "landlock": "rules about files"}
CALLS = everywhere("the filter on system calls", FORKED)
NO_ANSWERS = everywhere("no answer is in the memory of a learner's process")
KEEPER = everywhere("the keeper ends the process at its time limit", FORKED)

ATTACKS = [
    Attack(
        "patched comparisons",
        """
def attack():
    import operator, unittest
    import numpy as np
    import torch
    for module in (torch, np, torch.testing, np.testing, np.linalg):
        for name in ("allclose", "isclose", "equal", "array_equal", "all", "assert_allclose",
                     "assert_close", "assert_equal", "assert_array_equal"):
            if hasattr(module, name):
                setattr(module, name, lambda *a, **k: True)
    torch.Tensor.__eq__ = torch.Tensor.all = torch.Tensor.allclose = lambda *a, **k: True
    operator.eq = lambda a, b: True
""",
        everywhere(APART),
    ),
    Attack(
        "a tensor that equals everything",
        """
import torch
class Always(torch.Tensor):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def allclose(self, *a, **k): return True
    def detach(self): return self
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return True
def attack(): return None
""",
        everywhere(APART),
        body="(x - k).as_subclass(Always)",
    ),
    Attack(
        "an object that claims to be what is wanted",
        """
class Any:
    __class__ = property(lambda self: __import__("torch").Tensor)
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __eq__(self, other): return True
    def __repr__(self): return "tensor(1.)"
    def __hash__(self): return 0
def attack(): return Any()
""",
        everywhere("only plain data leaves the process"),
        body="got",
    ),
    Attack(
        "import and AST hooks",
        """
def attack():
    import ast, builtins, sys
    class Hook:
        def find_spec(self, name, path=None, target=None): return None
        def find_module(self, name, path=None): return self
        def load_module(self, name): return sys
    sys.meta_path.insert(0, Hook())
    ast.parse = builtins.compile = lambda *a, **k: None
    honest = builtins.__import__
    builtins.__import__ = lambda name, *a, **k: honest(name, *a, **k)
    builtins.isinstance = lambda *a: True
""",
        everywhere(APART),
    ),
    Attack(
        "patched harness",
        """
def attack():
    import sys
    for name, module in list(sys.modules.items()):
        if name.startswith("course"):
            for key in ("run_case", "run_cases", "_fingerprint", "judge_case", "compare"):
                setattr(module, key, lambda *a, **k: module.Outcome("passed", True))
""",
        everywhere(APART),
    ),
    Attack(
        "answers read from disk",
        """
def attack():
    import glob, importlib.util, os, sys
    places = ["{answers}", "{answers}c", "{library}/secret.py"]
    for root in ("{course}", "/proc/1/root{course}", "/proc/self/cwd/..", "/course", "/.stage"):
        for folder, _, names in os.walk(root):
            places += [os.path.join(folder, n) for n in names if n.endswith((".py", ".pyc"))]
    for pid in glob.glob("/proc/[0-9]*"):
        places += [pid + "/root{answers}", pid + "/cwd/checks/answers/lesson_01.py"]
        places += glob.glob(pid + "/fd/*")
    for place in places:
        try:
            text = open(place, "rb").read(1 << 20).decode(errors="replace")
            marks = ("SECRET-" + "REFERENCE", "SECRET-" + "LIBRARY")
            if any(m in text for m in marks):
                space = {}
                exec(text[text.index("def scale"):].split("\\n\\n")[0], space)
                return space["scale"]
        except Exception:
            pass
    for name in ("course_answers_01", "lesson_01", "toy.secret"):
        try:
            spec = importlib.util.spec_from_file_location(name, "{answers}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.scale
        except Exception:
            pass
""",
        FILES,
        body="got(x, k) if got else x - k",
    ),
    Attack(
        "answers read from git objects",
        """
def attack():
    import os, zlib
    for folder, _, names in os.walk("{course}/.git"):
        for name in names:
            try:
                text = zlib.decompress(open(os.path.join(folder, name), "rb").read()).decode()
            except Exception:
                continue
            if "SECRET-" + "REFERENCE" in text:
                return lambda x, k: x * k
""",
        FILES,
        body="got(x, k) if got else x - k",
    ),
    Attack(
        "answers looked for in memory",
        """
def attack():
    import gc, re, sys, types
    mark = "SECRET[-](REFERENCE|LIBRARY)"  # does not match itself
    def wanted(v):
        text = v if isinstance(v, str) else getattr(v, "__doc__", None)
        return isinstance(text, str) and re.search(mark, text)
    found = [f for f in gc.get_objects() if isinstance(f, types.FunctionType) and wanted(f)]
    frame = sys._getframe()
    while frame:
        found += [v for v in [*frame.f_locals.values(), *frame.f_globals.values()] if wanted(v)]
        frame = frame.f_back
    for module in list(sys.modules.values()):
        found += [v for v in list(vars(module).values()) if wanted(v)]
    for pid in ("self", 1, 2, 3):
        try:
            for line in open(f"/proc/{pid}/maps"):
                low, high = (int(n, 16) for n in line.split()[0].split("-"))
                if "r" in line.split()[1] and high - low < 1 << 24:
                    with open(f"/proc/{pid}/mem", "rb") as f:
                        f.seek(low)
                        found += [1] * bool(re.search(mark.encode(), f.read(high - low)))
        except Exception:
            pass
    return found
""",
        NO_ANSWERS,
        body="x * k if got else x - k",
    ),
    Attack(
        "memory of the keepers",
        """
def attack():
    import os
    for pid in {os.getppid(), {worker}, {judge}}:
        for name in ("mem", "environ", "maps"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    f.seek(0 if name != "mem" else 4096 * 1024)
                    f.read(100)
                    return True
            except PermissionError:
                pass
            except OSError as error:
                if error.errno == 5:
                    return True
""",
        {
            "full": "a process namespace of its own, and keepers that cannot be traced",
            "landlock": "rules about files",
            "process": "keepers that cannot be traced",
        },
        body="x * k if got else x - k",
    ),
    Attack(
        "results forged on standard output and every descriptor",
        """
def attack():
    import json, os, sys
    text = json.dumps({"outcomes": [{"status": "ok"}] * 3, "points": 3, "passed": True})
    print(text)
    print(text, file=sys.stderr)
    for fd in range(64):
        try:
            os.write(fd, text.encode())
        except OSError:
            pass
""",
        everywhere(APART),
    ),
    Attack(
        "a forged response, and away",
        """
def attack():
    import os, sys
    wire = sys.modules["coursework.wire"]
    data = wire.encode({"outcomes": [{"status": "passed", "value": None}] * 3, "points": 3})
    for fd in range(3, 64):
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, data, 0)
        except OSError:
            pass
    os._exit(0)
""",
        everywhere(APART),
        at="call",
    ),
    Attack(
        "a response that is no message",
        """
def attack():
    import os
    head = b'[' * 3_000_000
    for data in (b"CWD1" + len(head).to_bytes(8, "little") + head,):
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
        "files with results",
        """
def attack():
    import os
    for place in ("{course}", "{course}/checks/answers", "/tmp", ".", "{base}", "{base}/stage"):
        for name in ("results.json", "lesson_01.py", "gradebook.sqlite", "sitecustomize.py"):
            try:
                with open(os.path.join(place, name), "x") as f:
                    f.write("{}")
            except OSError:
                pass
""",
        {"full": "a read-only root without the course", "landlock": "rules about files"},
    ),
    Attack(
        "os._exit in a cell", "import os\ndef attack(): os._exit(0)", everywhere(APART), right=True
    ),
    Attack(
        "os._exit in a call",
        "import os\ndef attack(): os._exit(0)",
        everywhere(APART),
        right=True,
        at="call",
    ),
    Attack(
        "sys.exit in a cell", "import sys\ndef attack(): sys.exit(0)", everywhere(APART), right=True
    ),
    Attack(
        "sys.exit in a call",
        "import sys\ndef attack(): sys.exit(0)",
        everywhere(APART),
        right=True,
        at="call",
    ),
    Attack(
        "KeyboardInterrupt",
        "def attack(): raise KeyboardInterrupt",
        everywhere(APART),
        right=True,
        at="call",
    ),
    Attack("a segmentation fault", """
def attack():
    import ctypes
    ctypes.string_at(0)
""", everywhere(APART), right=True),
    Attack("an endless loop in a cell", "def attack():\n    while True: pass", KEEPER, right=True),
    Attack(
        "an endless loop in a call",
        "def attack():\n    while True: pass",
        everywhere("the alarm at the exercise's time limit"),
        right=True,
        at="call",
    ),
    Attack(
        "an endless loop in native code",
        "def attack():\n    import re\n    re.match('(a*)*(a*)*b', 'a' * 5000)",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "signals swallowed",
        """
def attack():
    import signal, time
    for name in ("SIGINT", "SIGALRM", "SIGTERM", "SIGXCPU", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
""",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "the time limit caught",
        """
def attack():
    while True:
        try:
            while True: pass
        except BaseException:
            pass
""",
        KEEPER,
        right=True,
        at="call",
    ),
    Attack(
        "8 GiB at once",
        "import torch\ndef attack(): return torch.zeros(8 << 28)",
        everywhere("the limit on address space", FORKED),
        right=True,
        at="call",
    ),
    Attack(
        "8 GiB bit by bit",
        "def attack(): return [bytearray(1 << 24) for _ in range(512)]",
        everywhere("the limit on address space", FORKED),
        right=True,
        at="call",
    ),
    Attack(
        "fork bomb",
        """
import os
def attack():
    while True:
        os.fork()
""",
        CALLS,
        right=True,
    ),
    Attack(
        "killing the parent",
        """
def attack():
    import os, signal
    for pid in (os.getppid(), {worker}, {judge}):
        if pid > 1 or os.getppid() == 1:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
""",
        CALLS,
        right=True,
        keeps=True,
    ),
    Attack(
        "a background process",
        """
def attack():
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
""",
        CALLS,
        right=True,
    ),
    Attack(
        "a program in the background",
        """
def attack():
    import subprocess
    subprocess.Popen(["sleep", "300"], start_new_session=True)
""",
        CALLS,
        right=True,
    ),
    Attack(
        "a thread that goes on",
        """
def attack():
    import threading
    def spin():
        while True: pass
    threading.Thread(target=spin).start()
""",
        everywhere("the process ends when its response is written"),
        right=True,
        keeps=True,
    ),
    Attack(
        "50 MB of output",
        """
def attack():
    import os, sys
    for _ in range(50):
        print("x" * 1_000_000)
        sys.stderr.write("x" * 1_000_000)
        os.write(1, b"x" * 1_000_000)
        os.write(2, b"x" * 1_000_000)
""",
        everywhere("what is printed is cut, and descriptors 1 and 2 lead nowhere"),
        right=True,
        keeps=True,
    ),
    Attack(
        "a socket",
        """
def attack():
    import socket
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(socket.AF_INET, kind) as s:
                s.settimeout(1)
                s.connect(("127.0.0.1", {port}))
                s.sendall(b"the answer, please")
                if s.recv(1):
                    return True
        except OSError:
            pass
""",
        {
            "full": "a network namespace with nothing in it, and the filter on system calls",
            "landlock": "rules about TCP, and the filter on system calls",
            "process": "the filter on system calls",
        },
        body="x * k if got else x - k",
    ),
    Attack(
        "a poisoned __reduce__",
        """
class Poison:
    def __reduce__(self):
        return (exec, ("open('{marker}', 'w').write('!')",))
    def __reduce_ex__(self, protocol): return self.__reduce__()
    def __deepcopy__(self, memo): raise RuntimeError
    def __repr__(self): raise RuntimeError
def attack(): return Poison()
""",
        everywhere("nothing that comes out is unpickled"),
        body="[got, {'a': got}]",
    ),
    Attack(
        "a warning on standard error",
        """
def attack():
    import sys, warnings
    warnings.warn("look out")
    print("Traceback (most recent call last):", file=sys.stderr)
    print("FAILED 0 points")
""",
        everywhere("only the response counts"),
        right=True,
        at="call",
        keeps=True,
    ),
    Attack(
        "a full disk",
        """
def attack():
    import os
    try:
        for i in range(100):
            with open(f"fill{i}", "wb") as f:
                f.write(b"x" * (1 << 24))
    except OSError:
        pass
    for i in range(100):
        if os.path.exists(f"fill{i}"):
            os.remove(f"fill{i}")
""",
        {"full": "a scratch folder in memory, of 64 MB"},
        right=True,
        keeps=True,
    ),
    Attack(
        "a result of 1 GB",
        "import torch\ndef attack(): return torch.zeros(1 << 28)",
        everywhere("the limit on a response", FORKED),
        body="got",
    ),
    Attack(
        "every descriptor closed",
        "import os\ndef attack(): os.closerange(0, 64)",
        everywhere("a missing response is a crash", FORKED),
        right=True,
    ),
    Attack(
        "limits of the judge lowered",
        """
def attack():
    import os, resource
    for pid in ({judge}, {worker}):
        try:
            resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))
        except (OSError, ValueError):
            pass
""",
        CALLS,
        right=True,
        keeps=True,
    ),
]  # fmt: skip
