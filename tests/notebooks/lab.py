"""JupyterLab in a browser, used as a person uses it: by mouse and keys, one action after another.

Starts what ``make learn`` starts, in a folder of its own, and counts what a person does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from browser import Browser

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
# "Python 3 (ipykernel) | Idle": before there is a kernel, nothing else says so.
STATUS = "(document.querySelector('#jp-main-statusbar')?.textContent ?? '')"
B_KEY, I_KEY, ESCAPE, ENTER, RIGHT, ZERO = 66, 73, 27, 13, 39, 48
SHIFT = 8


class Learn:
    """``course learn`` as a process; a context manager. ``address`` is what it tells to open."""

    def __init__(self, work: Path, lesson: str) -> None:
        env = {**os.environ, "COURSE_WORK": str(work), "UNDIFFUSE_BUDGET": "small"}
        for name in ("BROWSER", "COURSE_PROGRESS", "UNDIFFUSE_STATIC"):
            env.pop(name, None)
        for name in [n for n in env if n.startswith("PYTEST")]:
            del env[name]
        command = [sys.executable, "-m", "coursework", "learn", lesson, "--no-browser"]
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Learn:
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+\S*token=\S+", line):
                self.address = found[0]
                # Nobody reads on: a full pipe would stop the server.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return self
        self.__exit__()
        raise AssertionError("course learn told no address:\n" + "".join(said))

    def __exit__(self, *_: object) -> None:
        import signal

        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lab:
    """One JupyterLab window. ``actions`` lists what was done, in words."""

    def __init__(self, browser: Browser, address: str, pictures: Path) -> None:
        self.browser, self.pictures, self.actions = browser, pictures, []
        self.host = address.split("/lab")[0]
        self.token = address.split("token=")[1]
        browser.open(address)
        self.settle()

    def goto(self, name: str) -> None:
        """Opens another notebook of the folder, and no other beside it."""
        self.browser.open(f"{self.host}/lab/tree/{name}?reset&token={self.token}")
        self.settle()

    def settle(self, seconds: float = 300) -> None:
        """Waits until a notebook is shown and its kernel has nothing to do."""
        self.browser.wait(
            f"document.querySelectorAll('{PANEL} .jp-Cell').length > 3", "the notebook", seconds
        )
        self.until_idle(seconds)

    def until_idle(self, seconds: float = 300) -> None:
        self.browser.wait(f"{STATUS}.includes('| Idle')", "the kernel to be idle", seconds)

    def did(self, what: str) -> None:
        self.actions.append(what)

    def cell(self, text: str, within: str = ".jp-InputArea") -> str:
        """An expression: the first code cell whose input (or ``within``) holds ``text``."""
        return (
            f"[...document.querySelectorAll('{PANEL} .jp-CodeCell')].find(c => "
            f"c.querySelector('{within}')?.textContent.includes({json.dumps(text)}))"
        )

    def find(self, text: str) -> str:
        """Scrolls until a code cell that holds ``text`` is drawn; the expression for it."""
        element = self.cell(text)
        script = (
            f"(() => {{ if ({element}) return true; "
            f"const s = document.querySelector('{PANEL} .jp-WindowedPanel-outer') || "
            f"document.querySelector('{PANEL} .jp-Notebook'); "
            "s.scrollTop = s.scrollTop + s.clientHeight >= s.scrollHeight - 4 ? 0 : "
            "s.scrollTop + s.clientHeight * 0.7; return false; })()"
        )
        self.browser.wait(script, f"a cell with {text!r}")
        return element

    def replace_line(self, in_cell: str, line: str, text: str) -> None:
        """Two actions: three clicks on a line mark it; typing replaces it."""
        element = self.find(in_cell)
        row = (
            f"[...({element}).querySelectorAll('.cm-line')]"
            f".find(l => l.textContent.includes({json.dumps(line)}))"
        )
        place = (
            f"(() => {{ const e = {row}; if (!e) return null; "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return r.height ? [r.x + 60, r.y + r.height / 2] : null; })()"
        )
        self.browser.wait(place, f"the line {line!r}")
        x, y = self.browser.run(place)
        for count in (1, 2, 3):
            for kind in ("mousePressed", "mouseReleased"):
                self.browser.call(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count
                )
        self.did(f"mark the line {line!r}")
        self.browser.type(text)
        self.did("type")

    def menu(self, name: str, item: str) -> None:
        """Two actions: open a menu, choose an item."""
        for kind, text in (("lm-MenuBar-itemLabel", name), ("lm-Menu-itemLabel", item)):
            labels = f"[...document.querySelectorAll('.{kind}')]"
            entry = f"{labels}.find(e => e.textContent === {json.dumps(text)})"
            self.browser.click(entry, f"{name} > {item}")
            self.did(f"click {text}")

    def click_into(self, text: str) -> None:
        element = self.find(text)
        self.browser.click(f"({element})?.querySelector('.cm-content')", f"the cell {text!r}")
        self.did(f"click into the cell with {text!r}")

    def run(self) -> None:
        """Shift-Enter."""
        self.browser.press("Enter", ENTER, SHIFT)
        self.did("Shift-Enter")

    def new_cell(self, text: str) -> None:
        """A cell below the one that is in use, with ``text``; not run yet."""
        cells = f"Number({STATUS}.match(/Cell \\d+\\/(\\d+)/)?.[1] ?? 0)"
        before = self.browser.run(cells)
        self.browser.press("Escape", ESCAPE)
        # A letter that comes too early would be typed, and not obeyed.
        self.browser.wait(f"{STATUS}.includes('Mode: Command')", "command mode")
        self.key("b", B_KEY)
        self.browser.wait(f"{cells} > {before}", "one more cell")
        self.browser.press("Enter", ENTER)
        self.browser.wait(
            "document.activeElement?.closest('.cm-content')?.textContent === ''", "an empty cell"
        )
        self.browser.type(text)
        self.did("add a cell")

    def key(self, key: str, code: int) -> None:
        """A letter, where it is a command."""
        self.browser.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            code=f"Key{key.upper()}" if key.isalpha() else f"Digit{key}",
            windowsVirtualKeyCode=code,
            text=key,
        )
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def says(self, cell: str, words: str, seconds: float = 300) -> None:
        """Waits until the output of the cell whose input holds ``cell`` has ``words``.

        JupyterLab draws only what is near the window, and follows what runs: so this waits for
        the kernel, then goes there.
        """
        self.until_idle(seconds)
        self.find(cell)
        output = f"({self.cell(cell)})?.querySelector('.jp-OutputArea')?.textContent"
        self.browser.wait(
            f"({output} || '').includes({json.dumps(words)})", f"{cell} to say {words!r}", seconds
        )

    def picture(self, name: str) -> None:
        """What is seen now, kept as an artefact."""
        import base64

        data = self.browser.call("Page.captureScreenshot")["data"]
        (self.pictures / f"{name}.png").write_bytes(base64.b64decode(data))
