"""What stand-ins for object stores share: a server on this machine, ranges, and listings by folder."""

import email.utils
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

WRITTEN: Final = email.utils.formatdate(1_700_000_000, usegmt=True)
"""When every object was written."""
XML: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_HEADERS: Final = {"ETag": '"1"', "Last-Modified": WRITTEN}


@contextmanager
def serving(handler: type["ObjectHandler"]) -> Iterator[str]:
    """The address of a server that answers until the context ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class ObjectHandler(ABC, BaseHTTPRequestHandler):
    """One request at a time, taken apart."""

    protocol_version = "HTTP/1.1"
    _lock = threading.Lock()

    @abstractmethod
    def handle_object(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        """Answer a request for a path, which is decoded."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self._lock:
            self.handle_object(unquote(parts.path), query, body)

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815  # names that http.server asks for

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        """Underscores in the names of headers stand for dashes."""
        self.send_response(status)
        told = {**_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        for name, value in {**told, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_content(self, content: bytes) -> None:
        """An object, or what the request wants of it."""
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            self.answer(206, content[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(content)}")
        else:
            self.answer(200, content)

    def refuse(self, status: int, code: str) -> None:
        """An error, as all these stores word it."""
        self.answer(status, f"{XML}<Error><Code>{code}</Code></Error>".encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def listing(names: Iterable[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """Names that begin with a prefix; where there is a delimiter, of those that have it further on their folders."""
    found, folders = [], set()
    for name in sorted(name for name in names if name.startswith(prefix)):
        folder, slash, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
        if slash:
            folders.add(f"{prefix}{folder}{slash}")
        else:
            found.append(name)
    return found, sorted(folders)
