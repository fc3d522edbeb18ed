"""An HTTP server in front of another that fails on demand, as networks and object stores do."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["500", "503", "slow body", "reset", "lost answer", "broken answer", "stall"]
"""What happens to a request: an error; S3's word for an upload that came too slowly; a broken connection; done, but the
answer is lost, or breaks off; no answer at all."""

_SLOW_BODY = b"<Error><Code>RequestTimeout</Code></Error>"


@dataclass
class Proxy:
    """A running proxy."""

    endpoint: str = ""
    """Its address."""
    target: str = ""
    """Address that it passes requests on to."""
    faults: list[Fault | None] = field(default_factory=list)
    """What happens to the next requests, in order; None, and whatever comes after the last, is passed on."""
    always: Fault | None = None
    """What happens to every request."""
    refuses_conditions: bool = False
    """Whether a conditional put is answered with 501, as some stores do."""
    refuses: int | None = None
    """Status with which every request is refused."""
    requests: list[str] = field(default_factory=list)
    """Methods seen, in order."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when stalled requests are let go."""

    def next_fault(self) -> Fault | None:
        return self.always or (self.faults.pop(0) if self.faults else None)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy in front of `target` until the context ends."""
    state = Proxy(target=urlsplit(target).netloc)
    handler = type("Handler", (_Handler,), {"proxy": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        self.proxy.requests.append(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.next_fault()
        if fault == "stall":
            self.proxy.closing.wait()
        if fault in ("reset", "stall"):
            self._reset()
        elif self.proxy.refuses is not None:
            self._answer(self.proxy.refuses, [], b"")
        elif self.proxy.refuses_conditions and "If-None-Match" in self.headers:
            self._answer(501, [], b"")
        elif fault in ("500", "503"):
            self._answer(int(fault), [], b"")
        elif fault == "slow body" and self.command in ("PUT", "POST"):
            self._answer(400, [], _SLOW_BODY)
        else:
            self._pass_on(body, fault)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815  # names that http.server asks for

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        # The signature covers the Host header, so all headers stay as they are.
        connection = http.client.HTTPConnection(self.proxy.target, timeout=30)
        connection.request(self.command, self.path, body or None, dict(self.headers.items()))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if fault == "lost answer":
            self._reset()
        elif fault == "broken answer":
            headers = {name.lower(): value for name, value in response.getheaders()}
            whole = {"content-length": str(len(content)), **headers}
            self._answer(response.status, [*whole.items()], content[: len(content) // 2])
            self._reset()
        else:
            self._answer(response.status, response.getheaders(), content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        kept = [(name, value) for name, value in headers if name.lower() not in ("transfer-encoding", "connection")]
        if not any(name.lower() == "content-length" for name, _ in kept):
            kept.append(("Content-Length", str(len(content))))
        for name, value in kept:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        """Break the connection as a crashed server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
