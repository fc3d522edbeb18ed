"""Serves a board over HTTP.

Two ports. The read-only one serves GET /progress and GET /metrics. The guarded one, for which a bearer token is needed,
is the desk of driver and ranks. It runs in a thread of `pretune run`, or as a process, `python -m
pretune_trainer.drive.board_server`, that outlives the driver on a cluster. Nothing here imports torch: it answers at
once.
"""

import argparse
import hmac
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from pretune_trainer.drive.board import Board
from pretune_trainer.drive.desk import LONGEST_WAIT
from pretune_trainer.drive.tokens import TOKEN_VARIABLE
from pretune_trainer.drive.wire import ending_from_json, event_from_json

_LONGEST_BODY: Final = 64 << 20
_JSON: Final = "application/json"

Answer = tuple[HTTPStatus, str, bytes]
Route = Callable[[dict[str, Any]], Answer]


class BoardServer:
    """Serves a board on its two ports, until it is closed."""

    def __init__(self, board: Board, token: str, host: str = "127.0.0.1", port: int = 0, desk_port: int = 0) -> None:
        """`port` is the read-only one, `desk_port` the guarded one; 0 takes a free one.

        Raises:
            OSError: a port is taken.
        """
        self._public = _Server((host, port), _public_routes(board), None)
        self._desk = _Server((host, desk_port), _desk_routes(board), token)
        for server in (self._public, self._desk):
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def port(self) -> int:
        """The read-only port."""
        return self._public.server_port

    @property
    def desk_port(self) -> int:
        """The guarded port."""
        return self._desk.server_port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._public, self._desk):
            server.shutdown()
            server.server_close()


def _public_routes(board: Board) -> dict[str, Route]:
    return {
        "GET /progress": lambda _: _json(board.progress()),
        "GET /metrics": lambda _: (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", board.metrics()),
    }


def _desk_routes(board: Board) -> dict[str, Route]:
    return {
        "POST /order": lambda body: _next_order(board, body["group"]),
        "POST /orders": lambda body: _json({"number": board.put(**body)}),
        "POST /close": lambda _: _done(board.close),
        "POST /stop": lambda _: _done(board.stop),
        "POST /events": lambda body: _json(
            {"stop": board.take(body["number"], [event_from_json(event) for event in body["events"]], body["group"])}
        ),
        "POST /ending": lambda body: _done(
            lambda: board.end(body["number"], ending_from_json(body["ending"]), body["group"])
        ),
        "POST /rest": lambda body: _json({"atRest": board.at_rest(min(body["wait"], LONGEST_WAIT))}),
        "POST /commits": lambda _: _json({"commits": board.commits}),
        "POST /endings": lambda body: _ending(board, body["number"], body["wait"]),
    }


def _next_order(board: Board, group: str) -> Answer:
    try:
        order = board.next_order(LONGEST_WAIT, group)
    except TimeoutError:
        return HTTPStatus.ACCEPTED, _JSON, b"{}"
    return _json(asdict(order)) if order else (HTTPStatus.NO_CONTENT, _JSON, b"")


def _ending(board: Board, number: int, wait: float) -> Answer:
    ending = board.ending(number, min(wait, LONGEST_WAIT))
    return _json(asdict(ending)) if ending else (HTTPStatus.ACCEPTED, _JSON, b"{}")


def _done(action: Callable[[], None]) -> Answer:
    action()
    return _json({})


def _json(document: dict[str, Any]) -> Answer:
    return HTTPStatus.OK, _JSON, json.dumps(document).encode()


class _Server(ThreadingHTTPServer):
    """Listens at an address of either family; at the one of IPv6 that stands for all, on both families."""

    def __init__(self, address: tuple[str, int], routes: dict[str, Route], token: str | None) -> None:
        self.routes, self.token = routes, token
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who hangs up before the answer, as a scraper does whose time is up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30.0

    def do_GET(self) -> None:  # the name that http.server calls
        self._answer(f"GET {self.path}")

    def do_POST(self) -> None:
        self._answer(f"POST {self.path}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
        """Say nothing: a poll is not news."""

    def _answer(self, name: str) -> None:
        if not self._admitted():
            return self._send((HTTPStatus.UNAUTHORIZED, _JSON, b"{}"))
        route = self.server.routes.get(name)
        if route is None:
            return self._send((HTTPStatus.NOT_FOUND, _JSON, b"{}"))
        # Whoever may merely read sends no body that would be kept in memory.
        size = int(self.headers.get("Content-Length", 0)) if self.command == "POST" else 0
        if not 0 <= size <= _LONGEST_BODY:
            return self._send((HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _JSON, b"{}"))
        return self._send(route(json.loads(self.rfile.read(size) or b"{}")))

    def _admitted(self) -> bool:
        if self.server.token is None:
            return True
        given = self.headers.get("Authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {self.server.token}".encode())

    def _send(self, answer: Answer) -> None:
        status, content_type, body = answer
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve a board until SIGTERM or SIGINT; the first line of output names its process and the two ports."""
    parser = argparse.ArgumentParser(prog="python -m pretune_trainer.drive.board_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="read-only port; 0 takes a free one")
    parser.add_argument("--desk-port", type=int, default=0, help="guarded port; 0 takes a free one")
    parser.add_argument("--detach", action="store_true", help="be nobody's child, and in nobody's session")
    arguments = parser.parse_args()
    if arguments.detach and not _detach():
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with BoardServer(
        Board(), os.environ[TOKEN_VARIABLE], arguments.host, arguments.port, arguments.desk_port
    ) as server:
        ready = {"pid": os.getpid(), "port": server.port, "deskPort": server.desk_port}
        print(json.dumps(ready), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _detach() -> bool:
    """Go on in a process that no tree of the caller's leads to; returns whether this is the one.

    Ray stops a job by ending its driver, and every child and grandchild that it finds.
    """
    if os.fork():
        return False
    os.setsid()
    return True


if __name__ == "__main__":
    main()
