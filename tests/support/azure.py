"""A stand-in for Azure Blob Storage, as its documentation and Azurite have it: what obstore asks of it, and no more.

It takes every signature. Its one container is `tests`; in `real/` folders are real, as in Data Lake Storage.
"""

import base64
import email.utils
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from pretune_api.storage import Location

CONTAINER = "tests"
ACCOUNT = "account"
KEY = base64.b64encode(b"a key").decode()
_WRITTEN = email.utils.formatdate(1_700_000_000, usegmt=True)


@dataclass
class AzureAccount:
    """A running account."""

    variables: dict[str, str] = field(default_factory=dict)
    """What a pod would have in its environment."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """What is in the container."""
    blocks: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Parts of uploads that are not finished."""
    refuses: int | None = None
    """Status with which every request is refused."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def new_folder(self) -> Location:
        """A folder that no other test uses."""
        return Location(uri=f"az://{CONTAINER}/{secrets.token_hex(4)}")


@contextmanager
def azure_account() -> Iterator[AzureAccount]:
    """An account that answers until the context ends."""
    account = AzureAccount()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"account": account}))
    account.variables = {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{server.server_port}/{ACCOUNT}",
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account: AzureAccount

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        container, _, self.name = unquote(parts.path).removeprefix(f"/{ACCOUNT}/").partition("/")
        if self.account.refuses is not None:
            self._refuse(self.account.refuses, "AuthorizationFailure")
        elif container != CONTAINER:
            self._refuse(404, "ContainerNotFound")
        else:
            with self.account.lock:
                getattr(self, f"_{self.command.lower()}_{self.query.get('comp', 'blob')}")()

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815  # names that http.server asks for

    def _get_blob(self) -> None:
        content = self.account.blobs.get(self.name)
        if content is None and self._is_folder():
            content = b""
        if content is None:
            self._refuse(404, "BlobNotFound")
        elif asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            place = f"bytes {start}-{end}/{len(content)}"
            self._answer(206, content[start : end + 1], {"Content-Range": place})
        else:
            self._answer(200, content)

    _head_blob = _get_blob

    def _put_blob(self) -> None:
        if self.headers.get("If-None-Match") == "*" and self.name in self.account.blobs:
            self._refuse(409, "BlobAlreadyExists")
            return
        self.account.blobs[self.name] = self.body
        self._answer(201)

    def _put_block(self) -> None:
        self.account.blocks[self.name, self.query["blockid"]] = self.body
        self._answer(201)

    def _put_blocklist(self) -> None:
        ids = re.findall(r"<(?:Uncommitted|Latest)>([^<]+)<", self.body.decode())
        self.account.blobs[self.name] = b"".join(self.account.blocks.pop((self.name, id_)) for id_ in ids)
        self._answer(201)

    def _post_batch(self) -> None:
        """Deletions, each a request in a part of the body."""
        answers = []
        for number, path in enumerate(re.findall(r"^DELETE (\S+) HTTP", self.body.decode(), re.MULTILINE)):
            name = unquote(path).removeprefix(f"/{ACCOUNT}").removeprefix(f"/{CONTAINER}/")
            said = "202 Accepted" if self.account.blobs.pop(name, None) is not None else "404 BlobNotFound"
            code = "" if said.startswith("202") else "x-ms-error-code: BlobNotFound\r\n"
            part = f"Content-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {said}\r\n{code}\r\n"
            answers.append(f"--part\r\n{part}")
        self._answer(202, f"{''.join(answers)}--part--".encode(), {"Content-Type": "multipart/mixed; boundary=part"})

    def _get_list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        found, folders = [], set()
        for name in sorted(self.account.blobs):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                found.append(self._listed(name))
        listed = "".join(found + [f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in sorted(folders)])
        head = '<?xml version="1.0" encoding="utf-8"?>'
        self._answer(
            200, f"{head}<EnumerationResults><Blobs>{listed}</Blobs><NextMarker/></EnumerationResults>".encode()
        )

    def _listed(self, name: str) -> str:
        properties = {"Last-Modified": _WRITTEN, "Etag": "0x1", "Content-Type": "text/plain"}
        properties["Content-Length"] = str(len(self.account.blobs[name]))
        told = "".join(f"<{key}>{value}</{key}>" for key, value in properties.items())
        return f"<Blob><Name>{escape(name)}</Name><Properties>{told}</Properties></Blob>"

    def _is_folder(self) -> bool:
        return self.name.startswith("real/") and any(name.startswith(f"{self.name}/") for name in self.account.blobs)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(
            status, f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode(), {"x-ms-error-code": code}
        )

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        told = {"ETag": '"0x1"', "Last-Modified": _WRITTEN, "Content-Length": str(len(content)), **(headers or {})}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""
