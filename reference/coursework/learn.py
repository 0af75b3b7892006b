"""``course learn``: looks at the machine, makes the learner's copies, opens the next lesson."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coursework import checks as checks_of
from coursework import copies, doctor, progress
from coursework.config import Course

ANY = 0  # as a port: the system chooses one that is free
START_LIMIT = 240.0  # seconds: a busy or an old machine takes its time
LOCAL = "127.0.0.1"
SETTINGS = Path(__file__).parent / "templates"  # its labconfig/ is JupyterLab's


class ServerFailed(RuntimeError):
    """JupyterLab did not start; the message holds the last lines it said."""


@dataclass(frozen=True)
class Standing:
    """Where a learner stands in one lesson."""

    number: str
    title: str
    points: int
    out_of: int
    core: int
    core_out_of: int
    minutes_left: int
    next: str = ""
    next_title: str = ""


def standing(course: Course) -> list[Standing]:
    """One row a lesson that has exercises, in order."""
    done = progress.load(course)
    names = copies.lessons(course)
    rows = []
    for number in checks_of.lessons(course):
        if number not in names:
            continue
        exercises = list(checks_of.load(number, course.root, answers=False))
        left = [e for e in exercises if not done.is_solved(e.id)]
        first = next((e for e in left if e.core), left[0] if left else None)
        rows.append(
            Standing(
                number,
                copies.title(names[number]),
                sum(done.best.get(e.id, 0) for e in exercises),
                sum(e.out_of for e in exercises),
                sum(done.best.get(e.id, 0) for e in exercises if e.core),
                sum(e.out_of for e in exercises if e.core),
                sum(e.minutes for e in left if e.core),
                first.id if first else "",
                first.title if first else "",
            )
        )
    return rows


def next_lesson(rows: list[Standing]) -> Standing | None:
    """The first lesson whose core is not done; then the first with extras left."""
    core = [r for r in rows if r.minutes_left]
    return next(iter(core or [r for r in rows if r.next]), None)


def prepare(course: Course, say: Callable[[str], None]) -> tuple[list[copies.Copied], bool]:
    """Everything before JupyterLab: (the copies, whether the machine is fit)."""
    fit = True
    for line in doctor.look(course):
        say(str(line))
        fit = fit and line.state != "bad"
    made = [copies.bring(course, number) for number in copies.lessons(course)]
    for copied in made:
        if copied.what in ("updated", "damaged"):
            say(f"! {copied}")
    new = sum(c.what == "new" for c in made)
    if new:
        say(f"✓ {new} lesson{'s' * (new > 1)} copied to {course.work}")
    return made, fit


def summary(rows: list[Standing]) -> str:
    """Progress in one line."""
    points, out_of = sum(r.points for r in rows), sum(r.out_of for r in rows)
    ahead = next_lesson(rows)
    text = f"{points} of {out_of} points"
    if ahead is None:
        return text + (": all exercises are solved" if rows else "")
    return f"{text}; next: {ahead.next} {ahead.next_title} (lesson {ahead.number}, {ahead.title})"


def has_browser() -> bool:
    """Whether a browser on this machine can be seen by whoever sits here."""
    if os.environ.get("BROWSER"):
        return True
    if os.environ.get("SSH_CONNECTION") or os.environ.get("CI"):
        return False
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def is_taken(port: int) -> bool:
    """Whether somebody listens at ``port`` of this machine."""
    with socket.socket() as s:
        s.settimeout(5)
        return s.connect_ex(("127.0.0.1", port)) == 0


def free_port(wanted: int | None = None) -> int:
    """``wanted`` (8888) if nobody listens there, else any that is free."""
    for port in (8888 if wanted is None else wanted, ANY):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return s.getsockname()[1]
    raise ServerFailed("no port is free on 127.0.0.1")


class Server:
    """JupyterLab in ``work/``, on this machine's own address only, without calling home.

    ip: another address to listen at, for a container, whose own address nobody else can reach.
    """

    def __init__(
        self, course: Course, lesson: Path | None, port: int | None = None, ip: str = LOCAL
    ) -> None:
        self.course, self.token, self.ip = course, secrets.token_urlsafe(24), ip
        self.page = f"/lab/tree/{lesson.name}" if lesson else "/lab"
        log = course.work / ".jupyter.log"
        self.log = open(log, "w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._start(free_port(port))

    def _start(self, port: int) -> None:
        course, self.port = self.course, port
        self.base = f"http://127.0.0.1:{self.port}"
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={self.port}"),
            *(f"--ip={self.ip}", "--ServerApp.port_retries=0", "--log-level=WARN"),
            f"--ServerApp.root_dir={course.work}",
            f"--LabApp.default_url={self.page}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        env = {**os.environ, "JUPYTER_TOKEN": self.token, "COURSE_ROOT": str(course.root)}
        # Beside the learner's own settings: JupyterLab does not ask to be allowed to fetch news.
        own = [str(SETTINGS), *filter(None, [env.get("JUPYTER_CONFIG_PATH")])]
        env["JUPYTER_CONFIG_PATH"] = os.pathsep.join(own)
        self.process = subprocess.Popen(
            command, cwd=course.work, env=env, stdout=self.log, stderr=subprocess.STDOUT
        )

    @property
    def address(self) -> str:
        return f"{self.base}{self.page}?token={self.token}"

    def get(self, path: str) -> bytes:
        """The server's answer to ``path``."""
        request = urllib.request.Request(
            self.base + path, headers={"Authorization": f"token {self.token}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return answer.read()

    def wait_until_ready(self, limit: float = START_LIMIT) -> dict:
        """The server's status, once it answers. Raises ``ServerFailed``.

        Where somebody else took the port in between, it is started at another one.
        """
        end, again = time.monotonic() + limit, 3
        while time.monotonic() < end:
            if self.process.poll() is not None:
                if not again or not is_taken(self.port):
                    break
                again -= 1
                self._start(free_port(ANY))
            with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
                return json.loads(self.get("/api/status"))
            time.sleep(0.2)
        self.stop()
        self.log.seek(0)
        said = "\n".join(self.log.read().strip().split("\n")[-8:])
        raise ServerFailed(f"JupyterLab did not start; it said:\n{said or '(nothing)'}")

    def stop(self) -> None:
        """Ends the server and its kernels."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if not self.log.closed:
            self.log.flush()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.log.close()


def stay(
    course: Course, lesson: Path | None, browser: bool, port: int | None, say, ip: str = LOCAL
) -> None:
    """Serves JupyterLab until Ctrl-C."""
    with Server(course, lesson, port, ip) as server:
        server.wait_until_ready()
        opened = browser and has_browser() and webbrowser.open(server.address)
        say("")
        say("JupyterLab runs." if opened else "JupyterLab runs. Open this address in a browser:")
        say(f"  {server.address}")
        say("Stop it with Ctrl-C in this window. Your work is saved in the notebooks.")
        try:
            code = server.process.wait()
        except KeyboardInterrupt:
            say("\nStopped. `course learn` goes on where you are.")
            return
        if code:
            raise ServerFailed(f"JupyterLab ended with code {code}: see {server.log.name}")


def try_server(course: Course, lesson: Path | None) -> str:
    """Starts JupyterLab, asks it for the lesson, stops it; says so in one line."""
    start = time.monotonic()
    with Server(course, lesson) as server:
        server.wait_until_ready()
        server.get(server.page)
        if lesson is not None:
            found = json.loads(server.get(f"/api/contents/{lesson.name}?content=0"))
            if found.get("type") != "notebook":
                raise ServerFailed(f"JupyterLab does not know {lesson.name} as a notebook")
    seconds = time.monotonic() - start
    shown = f" with {lesson.name}" if lesson is not None else ""
    return f"JupyterLab started on a free port, answered{shown} and was stopped ({seconds:.0f} s)"
