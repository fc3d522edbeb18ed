"""A headless Chromium, spoken to in its own protocol: https://chromedevtools.github.io/devtools-protocol."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websocket import WebSocket, create_connection

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1180, "height": 900, "deviceScaleFactor": 1, "mobile": False}


class Browser:
    """One tab, and what went wrong in it."""

    def __init__(self, tab: WebSocket) -> None:
        self.errors: list[str] = []
        self._tab = tab
        self._calls = 0
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path, *, dark: bool, screen: dict[str, Any] = PHONE) -> None:
        """Show a file on a screen, once it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=file.as_uri())
        while not self._loaded:
            self._hear(json.loads(self._tab.recv()))

    def value(self, expression: str) -> Any:
        """What JavaScript says."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def call(self, method: str, **parameters: Any) -> Any:
        """A call of the protocol, and its result."""
        self._calls += 1
        self._tab.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (message := json.loads(self._tab.recv())).get("id") != self._calls:
            self._hear(message)
        assert "error" not in message, message["error"]
        return message["result"]

    def _hear(self, message: dict[str, Any]) -> None:
        match message["method"], message["params"]:
            case "Page.loadEventFired", _:
                self._loaded = True
            case "Runtime.exceptionThrown", said:
                self.errors.append(said["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled", {"type": "error" | "warning"} as said:
                self.errors.append(str(said["args"]))
            case "Log.entryAdded", said:
                self.errors.append(said["entry"]["text"])
            case "Network.requestWillBeSent", {"request": {"url": url}} if not url.startswith("file:"):
                self.errors.append(f"fetches {url}")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile is in `folder`; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen([program, *options], stderr=subprocess.PIPE, text=True)
    try:
        with _connected(process) as tab:
            yield Browser(tab)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def _connected(process: subprocess.Popen[str]) -> Iterator[WebSocket]:
    assert process.stderr is not None
    address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on"))
    whole = create_connection(address, timeout=60)
    whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    while (answer := json.loads(whole.recv())).get("id") != 1:
        pass
    target = next(each["targetId"] for each in answer["result"]["targetInfos"] if each["type"] == "page")
    tab = create_connection(f"{address.split('/devtools')[0]}/devtools/page/{target}", timeout=60)
    try:
        yield tab
    finally:
        tab.close()
        whole.close()
