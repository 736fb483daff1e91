"""Headless Chromium in a node of a lab, driven by its WebDriver (W3C), without a library in between."""

import base64
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from router_lab import wait_for

from services.common import netns
from services.launcher.lab.lab import Lab

START_LIMIT_S: Final = 60.0
_CALL_LIMIT_S: Final = 60.0
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One window. Its console is read by `console`, which must be empty for a page without errors."""

    def __init__(self, lab: Lab, node: str, profile: Path) -> None:
        driver = shutil.which("chromedriver")
        assert driver is not None, "Debian's chromium-driver is missing; .ci/run installs it"
        self._namespace = lab.namespace(node)
        with netns.inside(self._namespace), socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._lab = lab
        self._address = f"http://127.0.0.1:{port}"
        self._session = ""
        self._process = lab.popen(
            node, [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for("chromedriver answers", self._answers, START_LIMIT_S)
        capabilities = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [*_FLAGS, f"--user-data-dir={profile}"]},
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._lab.end(self._process)

    def _answers(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except OSError:
            return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}{path}", data, method=method)
        with netns.inside(self._namespace):
            try:
                with urllib.request.urlopen(request, timeout=_CALL_LIMIT_S) as answer:
                    return json.load(answer)["value"]
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{path}: {error.read().decode()}") from error

    def show(self, width: int, height: int, scheme: str) -> None:
        """Be a screen of this size, whose owner likes the `light` or the `dark` scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def command(self, name: str, **params: Any) -> Any:
        """Give a command of the DevTools protocol."""
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": params})

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": f"return {expression};", "args": []})

    def text(self, identifier: str) -> str:
        """Return what a person reads in an element."""
        return str(self.evaluate(f"document.getElementById({json.dumps(identifier)}).innerText"))

    def console(self) -> list[str]:
        """Return what the browser has logged since this was asked last: errors of scripts, requests that failed."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        picture = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(picture["data"])
