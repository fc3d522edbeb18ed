"""A stand-in for Google Cloud Storage: what obstore asks of its XML API, as its documentation has it, and no more."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from pretune_api.storage import Location
from support.object_server import XML, ObjectHandler, listing, serving

BUCKET = "tests"


@dataclass
class GoogleStore:
    """A running store."""

    variables: dict[str, str] = field(default_factory=dict)
    """What a pod would have in its environment."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What is in the bucket."""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """Parts of uploads that are not finished."""

    def new_folder(self) -> Location:
        """A folder that no other test uses."""
        return Location(uri=f"gs://{BUCKET}/{secrets.token_hex(4)}")


@contextmanager
def google_store(folder: Path) -> Iterator[GoogleStore]:
    """A store that answers until the context ends; a file in `folder` tells clients where it is."""
    store = GoogleStore()
    with serving(type("Handler", (_Handler,), {"store": store})) as address:
        nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        key = {"gcs_base_url": address, "disable_oauth": True, **nobody}
        (folder / "google.json").write_text(json.dumps(key))
        store.variables = {"GOOGLE_SERVICE_ACCOUNT": str(folder / "google.json")}
        yield store


class _Handler(ObjectHandler):
    store: GoogleStore

    def handle_object(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        bucket, _, name = path[1:].partition("/")
        if bucket != BUCKET:
            self.refuse(404, "NoSuchBucket")
        elif not name:
            self._list(query)
        elif "uploads" in query or "uploadId" in query:
            self._upload(name, query, body)
        elif self.command == "PUT":
            self._put(name, body)
        elif name not in self.store.objects:
            self.refuse(404, "NoSuchKey")
        elif self.command == "DELETE":
            del self.store.objects[name]
            self.answer(204)
        else:
            self.answer_content(self.store.objects[name])

    def _put(self, name: str, body: bytes) -> None:
        if self.headers.get("x-goog-if-generation-match") == "0" and name in self.store.objects:
            self.refuse(412, "PreconditionFailed")
            return
        self.store.objects[name] = body
        self.answer(200, x_goog_generation="1")

    def _upload(self, name: str, query: Mapping[str, str], body: bytes) -> None:
        upload = query.get("uploadId") or secrets.token_hex(4)
        parts = self.store.parts.setdefault(upload, {})
        if self.command == "PUT":
            parts[int(query["partNumber"])] = body
            self.answer(200)
        elif "uploads" in query:
            self._tell("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        else:
            del self.store.parts[upload]
            if self.command == "POST":
                self.store.objects[name] = b"".join(parts[number] for number in sorted(parts))
            self._tell("CompleteMultipartUploadResult", '<ETag>"1"</ETag>')

    def _list(self, query: Mapping[str, str]) -> None:
        names = [name for name in self.store.objects if name > query.get("start-after", "")]
        found, folders = listing(names, query.get("prefix", ""), query.get("delimiter", ""))
        objects = [
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.store.objects[name])}</Size><ETag>1</ETag>"
            "<LastModified>2023-11-14T22:13:20.000Z</LastModified></Contents>"
            for name in found
        ]
        below = [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders]
        self._tell("ListBucketResult", "".join(objects + below))

    def _tell(self, kind: str, content: str) -> None:
        self.answer(200, f"{XML}<{kind}>{content}</{kind}>".encode())
