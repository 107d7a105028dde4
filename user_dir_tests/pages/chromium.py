"""Chromium without a window, by its own protocol over a pipe: nothing to install for it."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
    "--remote-debugging-pipe",
)
# It reads from 3 and writes to 4.
START = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'
SECONDS = 60
# Of the pictures that are taken of a page, in CSS pixels.
LARGEST = 16_000


class View(NamedTuple):
    """How a page is looked at: ``width`` in CSS pixels; ``media`` "screen" or "print"."""

    name: str
    width: int
    scheme: str = "light"
    media: str = "screen"


class Gone(Exception):
    """The browser has ended, does not answer, or refuses what was asked."""


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process, and the one tab of it that is looked at."""

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._left = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": tab["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict:
        """Ask, and wait for the answer; what is told meanwhile is added to ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            told = self._read()
            if told.get("id") == self._number:
                if "error" in told:
                    raise Gone(f"{method}: {told['error']['message']}")
                return told["result"]
            self.events.append(told)

    def _read(self) -> dict:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._left:
            pipe = self._process.stdout.fileno()
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                raise Gone(f"the browser has not answered for {SECONDS} seconds")
            if not (read := os.read(pipe, 1 << 20)):
                raise Gone("the browser has ended")
            self._left += read
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def open(self, address: str, view: View) -> None:
        """Load it anew as it is seen so; ``events`` are those of this load."""
        is_phone = view.width < 600
        size = {"width": view.width, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": view.scheme}
        media = "" if view.media == "screen" else view.media
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=address)
        end = time.monotonic() + SECONDS
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            if time.monotonic() > end:
                raise Gone(f"{address} was not loaded in {SECONDS} seconds")
            self.events.append(self._read())
        self.run("document.fonts.ready.then(() => null)")

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript, or of what it promises."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=script, **how)
        if "exceptionDetails" in answer:
            raise Gone(f"the script that measures: {told_error(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """The whole page, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        height = min(size["height"], LARGEST)
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def printed(self) -> bytes:
        """The page on A4, as PDF, by its own margins where it has some."""
        how = {"preferCSSPageSize": True, "paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.call("Page.printToPDF", **how)["data"])


def told_error(details: dict) -> str:
    words = details.get("exception", {}).get("description") or details["text"]
    return words.splitlines()[0]


@contextlib.contextmanager
def browser(program: str) -> Iterator[Browser]:
    """Start it, with a folder of its own that goes with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        as_root = ["--no-sandbox"] if os.getuid() == 0 else []
        words = [program, *OPTIONS, *as_root, f"--user-data-dir={folder}"]
        process = subprocess.Popen(
            ["bash", "-c", START, "chromium", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Its caches and crash reports go with the folder.
            env={**os.environ, "HOME": folder},
        )
        try:
            yield Browser(process)
        finally:
            # At the end of the pipe it ends, and all processes that it has started with it.
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
            process.kill()
            process.wait()
            process.stdout.close()


def address_of(page: Path) -> str:
    return page.resolve().as_uri()
