"""A stand-in for Azure Blob Storage, as its documentation and Azurite have it: what obstore asks of it, and no more.

It takes every signature. Its one container is `tests`; in `real/` folders are real, as in Data Lake Storage.
"""

import base64
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.sax.saxutils import escape

from pretune_api.storage import Location
from support.object_server import WRITTEN, XML, ObjectHandler, listing, serving

CONTAINER = "tests"
_ACCOUNT = "account"
_KEY = base64.b64encode(b"a key").decode()


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

    def new_folder(self) -> Location:
        """A folder that no other test uses."""
        return Location(uri=f"az://{CONTAINER}/{secrets.token_hex(4)}")


@contextmanager
def azure_account() -> Iterator[AzureAccount]:
    """An account that answers until the context ends."""
    account = AzureAccount()
    with serving(type("Handler", (_Handler,), {"account": account})) as address:
        account.variables = {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "AZURE_STORAGE_ENDPOINT": f"{address}/{_ACCOUNT}",
        }
        yield account


class _Handler(ObjectHandler):
    account: AzureAccount

    def handle_object(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        container, _, name = path.removeprefix(f"/{_ACCOUNT}/").partition("/")
        if self.account.refuses is not None:
            self.refuse(self.account.refuses, "AuthorizationFailure")
        elif container != CONTAINER:
            self.refuse(404, "ContainerNotFound")
        elif query.get("comp") == "list":
            self._list(query)
        elif query.get("comp") == "batch":
            self._delete(body)
        elif self.command == "PUT":
            self._put(name, query, body)
        elif name in self.account.blobs or self._is_folder(name):
            self.answer_content(self.account.blobs.get(name, b""))
        else:
            self.refuse(404, "BlobNotFound")

    def _put(self, name: str, query: Mapping[str, str], body: bytes) -> None:
        if self.headers.get("If-None-Match") == "*" and name in self.account.blobs:
            self.refuse(409, "BlobAlreadyExists")
            return
        if query.get("comp") == "block":
            self.account.blocks[name, query["blockid"]] = body
        elif query.get("comp") == "blocklist":
            blocks = re.findall(r"<(?:Uncommitted|Latest)>([^<]+)<", body.decode())
            self.account.blobs[name] = b"".join(self.account.blocks.pop((name, block)) for block in blocks)
        else:
            self.account.blobs[name] = body
        self.answer(201)

    def _delete(self, body: bytes) -> None:
        """A batch: each deletion is a request in a part of the body."""
        parts = []
        for number, path in enumerate(re.findall(r"^DELETE (\S+) HTTP", body.decode(), re.MULTILINE)):
            name = unquote(path).removeprefix(f"/{_ACCOUNT}").removeprefix(f"/{CONTAINER}/")
            gone = self.account.blobs.pop(name, None) is None
            said = "404 BlobNotFound\r\nx-ms-error-code: BlobNotFound" if gone else "202 Accepted"
            head = f"Content-Type: application/http\r\nContent-ID: {number}"
            parts.append(f"--part\r\n{head}\r\n\r\nHTTP/1.1 {said}\r\n\r\n")
        self.answer(202, f"{''.join(parts)}--part--".encode(), Content_Type="multipart/mixed; boundary=part")

    def _list(self, query: Mapping[str, str]) -> None:
        found, folders = listing(self.account.blobs, query.get("prefix", ""), query.get("delimiter", ""))
        blobs = [
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{WRITTEN}</Last-Modified><Etag>1</Etag>"
            f"<Content-Length>{len(self.account.blobs[name])}</Content-Length><Content-Type>text/plain</Content-Type>"
            "</Properties></Blob>"
            for name in found
        ]
        below = [f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in folders]
        listed = f"<Blobs>{''.join(blobs + below)}</Blobs><NextMarker/>"
        self.answer(200, f"{XML}<EnumerationResults>{listed}</EnumerationResults>".encode())

    def _is_folder(self, name: str) -> bool:
        return name.startswith("real/") and any(found.startswith(f"{name}/") for found in self.account.blobs)
