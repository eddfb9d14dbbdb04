"""A headless Chromium, driven over its DevTools protocol through two pipes: no package and no port is needed."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--no-sandbox",  # it does not start for root otherwise, and sees pages of ours alone
    "--hide-scrollbars", "--force-color-profile=srgb",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
PATIENCE = 60  # seconds
KEYS = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
FIRST_FREE = 10  # a number of a pipe that is none of 3 and 4, at which Chromium reads commands and writes answers
SHIFT = 8  # of the protocol's modifiers


def find() -> str | None:
    """The browser that VAE_BROWSER names, or one that is installed."""
    named = os.environ.get("VAE_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one tab. A context manager."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vae-browser-", ignore_cleanup_errors=True)
        (commands, self._write), (self._read, answers) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for pipe in (commands, answers)]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", program, *FLAGS,
             f"--user-data-dir={self._folder.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
        )  # fmt: skip
        for end in (commands, answers, *ends):
            os.close(end)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.problems: list[str] = []  # what the console has of errors, and every exception
        self.requests: list[str] = []  # the addresses that were asked for
        self.address = ""  # of the page that is open
        self._choosers: list[int] = []  # of files, that are open

    def __enter__(self) -> Self:
        tab = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._next(end)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 2**20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        facts, name = event.get("params", {}), event.get("method")
        if name == "Runtime.exceptionThrown":
            self.problems.append(str(facts["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.problems.append(str(facts["args"]))
        elif name == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(facts["entry"]))
        elif name == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif name == "Page.fileChooserOpened":
            self._choosers.append(facts["backendNodeId"])

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited where it is a promise."""
        found = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            allowUnsafeEvalBlockedByCSP=False,  # the page's own policy holds for tests, too
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"{expression} does not become true; {self.problems}"
            time.sleep(0.02)
        return value

    def open(self, address: str) -> None:
        """Open a page of `vae explore` and wait until it is ready."""
        self.send("Page.navigate", url="about:blank")
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=address)
        self.address = address
        state = self.wait_for("document.documentElement?.dataset.state")
        assert state == "ready", (self.run("document.getElementById('status').textContent"), self.problems)

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """The size of the window and the colours that the visitor prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        picture = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, into which it is scrolled."""
        left, top, width, height = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{ block: 'center' }});"
            " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        return left, top, width, height

    def settle(self) -> None:
        """Wait until nothing is computed any more, and what was computed is drawn."""
        self.run(
            "(async () => { const quiet = () => new Promise((done) => setTimeout(done, 30));"
            " for (let last; explore.isWorking() || last !== explore.network.last; await quiet())"
            " await (last = explore.network.last); })()"
        )

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        """Press the mouse at the first of `places`, shares of an element's size, move through the others, let go."""
        box = self.box(selector)
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0] + x * box[2],
                y=box[1] + y * box[3],
                button="left",
                buttons=0 if kind == "mouseReleased" else 1,
                clickCount=1,
            )

    def touch(self, selector: str, *places: tuple[float, float]) -> None:
        """The same with one finger."""
        left, top, width, height = self.box(selector)
        for kind, (x, y) in zip(["touchStart", *["touchMove"] * (len(places) - 1)], places, strict=True):
            self.send(
                "Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": left + x * width, "y": top + y * height}]
            )
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def hover(self, selector: str, x: float, y: float) -> None:
        """Move the mouse to a place of an element, in pixels."""
        left, top, _, _ = self.box(selector)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + x, y=top + y)

    def press(self, *keys: str, modifiers: int = 0, command: str | None = None) -> None:
        """Keys one after the other, such as ArrowLeft; `command` is what a desktop makes of one, such as paste."""
        for key in keys:
            known: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
            known |= {"text": "\r"} if key == "Enter" else {}
            down = {**known, "modifiers": modifiers, "commands": [command] if command else []}
            self.send("Input.dispatchKeyEvent", type="keyDown" if "text" in known else "rawKeyDown", **down)
            self.send("Input.dispatchKeyEvent", type="keyUp", **known)

    def choose_file(self, selector: str, path: Path) -> None:
        """Press what opens a dialog for files, and choose one there."""
        self.send("Page.setInterceptFileChooserDialog", enabled=True)
        self.drag(selector, (0.5, 0.5))
        end = time.monotonic() + PATIENCE
        while not self._choosers:
            assert time.monotonic() < end, "no dialog for files opens"
            self.run("0")
        self.send("DOM.setFileInputFiles", files=[str(path)], backendNodeId=self._choosers.pop())

    def downloads_to(self, folder: Path) -> None:
        """Where files are saved that the page gives."""
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
