"""Archives of images in the layout of the Open Container Initiative (image-spec, image-layout.md)."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from .storage import Storage


def write_archive(image: str, archive: Path, storage: Storage, known: Iterable[str]) -> None:
    """Write an image to `archive`, without the layers that `known` images have.

    containerd reads from an archive what it has not got already, and asks for no more.
    """
    document, manifest = storage.document(image, "manifest"), storage.manifest(image)
    config = manifest["config"]["digest"]
    there = {layer["digest"] for name in known if storage.has(name) for layer in storage.manifest(name)["layers"]}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [_reference(image, manifest, document)]}))
        _add(tar, _blob(_digest(document)), document)
        _add(tar, _blob(config), storage.document(image, config))
        for layer in manifest["layers"]:
            if layer["digest"] not in there:
                with storage.layer(layer["digest"]) as content:
                    _add_stream(tar, _blob(layer["digest"]), content, layer["size"])


def _reference(image: str, manifest: dict[str, Any], document: bytes) -> dict[str, Any]:
    return {
        "mediaType": manifest["mediaType"],
        "digest": _digest(document),
        "size": len(document),
        "annotations": {"io.containerd.image.name": image},
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add_stream(tar, name, io.BytesIO(content), len(content))


def _add_stream(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
