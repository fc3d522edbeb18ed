"""Manifests: what a committed checkpoint, artifact or cache consists of."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pretune_api.base import Spec
from pretune_api.units import Digest

MANIFEST_NAME = "manifest.json"
COMMITTED_NAME = "COMMITTED"


def _below(path: str) -> str:
    """Whoever copies the folder writes where its paths say."""
    if any(step in ("", ".", "..") for step in path.split("/")):
        raise ValueError(f"{path} is no path below a folder")
    return path


class File(Spec):
    """One file of a committed folder."""

    path: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_below)]
    """Path below the folder, such as adapter/config.json."""
    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the bytes, in hex."""


class Manifest(Spec):
    """All files of a committed folder but the manifest and the marker; its digest stands for the folder's content."""

    version: Literal[1] = 1
    """Version of this format."""
    content: Literal["checkpoint", "artifact", "cache"]
    """What the folder is."""
    files: list[File]
    """Files, in order of their paths."""
    parent: Digest | None = None
    """Digest of what this was made from: a run's first checkpoint, or the model that training started from."""

    def to_bytes(self) -> bytes:
        """The canonical form: keys sorted, no spaces, UTF-8; its SHA-256 is the digest."""
        document = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """`sha256:` and the SHA-256 of the canonical form."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"
