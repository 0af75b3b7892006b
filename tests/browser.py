"""Headless Chromium for tests, over its DevTools protocol: looks, requests, and what axe says.

``Browser`` opens pages, waits, clicks and types as a person does, and tells what was asked of whom.

Looked for: a browser in CHROMIUM or under its usual names, and axe-core's script in AXE_CORE, in
node_modules, or in the PyPI packages that bring it (``pip install axe-core-python``).
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
AXE_PACKAGES = ("axe_playwright_python", "axe_core_python")
PHONE, DESK = 390, 1280


def chromium() -> str | None:
    """The browser's program, or None."""
    named = os.environ.get("CHROMIUM")
    return named or next((p for n in NAMES if (p := shutil.which(n))), None)


def axe() -> Path | None:
    """The file axe.min.js, or None."""
    found = [Path(os.environ["AXE_CORE"])] if os.environ.get("AXE_CORE") else []
    found += [Path("node_modules/axe-core/axe.min.js")]
    for name in AXE_PACKAGES:
        if spec := importlib.util.find_spec(name):
            found.append(Path(spec.origin).parent / "axe.min.js")
    return next((p for p in found if p.is_file()), None)


def need(with_axe: bool = True) -> None:
    """Skips the test, with the reason, where something is not at hand."""
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    if chromium() is None:
        pytest.skip("no Chromium here (CHROMIUM names it)")
    if with_axe and axe() is None:
        pytest.skip("no axe-core here (AXE_CORE names axe.min.js)")


class Browser:
    """One browser; a context manager."""

    def __enter__(self) -> Browser:
        import websocket

        self.folder = tempfile.mkdtemp(prefix="course-browser-")
        command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--remote-debugging-port=0", "--remote-allow-origins=*", "--mute-audio"]
        command += [f"--user-data-dir={self.folder}", "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        port = Path(self.folder, "DevToolsActivePort")
        until = time.monotonic() + 300
        while not (port.is_file() and port.read_text().count("\n")):
            if self.process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                pytest.skip("Chromium does not start here")
            time.sleep(0.2)
        number, path = port.read_text().split("\n")[:2]
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{number}{path}", timeout=300)
        self.count, self.session, self.events = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        if self.process.poll() is None:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict:
        """One command of the protocol; its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            got = json.loads(self.socket.recv())
            if got.get("id") == self.count:
                assert "error" not in got, got
                return got["result"]
            self.events.append(got)
            if got.get("method") == "Page.javascriptDialogOpening":
                self._accept()

    def _accept(self) -> None:
        """Agrees to leave a page that asks, or everything would wait for an answer."""
        command = {"id": -1, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
        self.socket.send(json.dumps({**command, "sessionId": self.session}))

    def open(self, page: Path | str, width: int = DESK, dark: bool = False) -> None:
        """Loads a page, a file or an address, at ``width`` px and waits for it."""
        scheme = "dark" if dark else "light"
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState == 'complete'", "the page to load", 120)

    def wait(self, script: str, what: str, seconds: float = 120) -> Any:
        """The value of an expression once it is true. Fails, and names ``what``, when it never is.

        True is what JavaScript takes for it: an element is, though its value here is an empty dict.
        A page that is being left cannot be asked: that counts as not yet.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError):
                if (value := self.run(script)) not in (None, False, 0, ""):
                    return value
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")

    def click(self, element: str, what: str, seconds: float = 120) -> None:
        """Clicks, with the mouse, the middle of what the expression ``element`` gives, in view."""
        place = (
            f"(() => {{ const e = {element}; if (!e) return null; "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return r.width && r.height ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        x, y = self.wait(place, what, seconds)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="none" if kind == "mouseMoved" else "left",
                clickCount=int(kind != "mouseMoved"),
            )

    def type(self, text: str) -> None:
        """Puts ``text`` where the cursor is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """One key: its name ("Enter"), its Windows code; modifiers: 1 alt, 2 control, 8 shift."""
        key_of = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": "\r"} if key == "Enter" and not modifiers else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key_of, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key_of)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited; the page's own policy binds it not."""
        got = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def requests(self, host: str = "") -> list[str]:
        """What the page asked for since it was opened, but itself and data: addresses.

        host: "http://127.0.0.1:8000" of which it may ask, too.
        """
        sent = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        urls = [p["request"]["url"] for p in sent if p.get("type") != "Document"]
        own = (host,) if host else ()
        return [u for u in urls if not u.startswith(("data:", "blob:", *own))]

    def violations(self, within: str = "document") -> list[str]:
        """What axe-core finds wrong ``within`` an expression: rule, how grave, and where.

        Colours are judged when what fades in has done so.
        """
        fading = "a.playState === 'running' && a.effect.getTiming().iterations !== Infinity"
        self.wait(f"!document.getAnimations().some(a => {fading})", "animations to end", 20)
        self.run(axe().read_text(encoding="utf-8") + "; 1")
        found = self.run(f"axe.run({within}, {{resultTypes: ['violations']}})")["violations"]
        return [
            f"{v['id']} ({v['impact']}): {v['help']}: {n['target']} {n.get('failureSummary', '')}"
            for v in found
            for n in v["nodes"]
        ]

    def check_looks(self, file: Path, pictures: Path, name: str) -> None:
        """In light and dark, on a phone and a desk: nothing hangs over, axe finds nothing, nothing
        is fetched. Screenshots lie in ``pictures``."""
        for width in (PHONE, DESK):
            for dark in (False, True):
                self.open(file, width, dark)
                assert self.overflow() <= 0
                assert self.violations() == []
                assert self.requests() == []
                self.picture(pictures / f"{name}-{width}-{'dark' if dark else 'light'}.png")

    def overflow(self) -> int:
        """By how many px the page is wider than the window."""
        return self.run("document.documentElement.scrollWidth - window.innerWidth")

    def picture(self, file: Path) -> None:
        """A screenshot of the whole page."""
        height = self.run("Math.min(document.documentElement.scrollHeight, 8000)")
        width = self.run("window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(data))
