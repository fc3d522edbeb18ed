"""Images of a single static program, as archives that a container runtime imports; and what it calls images."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def one_program_image(program: Path, name: str, archive: Path, *, path: str) -> Path:
    """Writes an image called `name` that holds and starts `program`, at `path`, and nothing else.

    The archive is what `docker save` would write.
    """
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(program, arcname=path.lstrip("/"), filter=_reproducible)
    config = json.dumps(_config(layer, path)).encode()
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, arcname="layer.tar")
        _add(tar, "config.json", config)
        _add(tar, "manifest.json", _manifest(name))
    layer.unlink()
    return archive


def names_of(image: str, listing: str) -> list[str]:
    """The name `image`, and, where no other tag names the same, the runtime's own: it is kept until none is left.

    `listing` is what `ctr images list` prints. The runtime's own say a digest: sha256:…, and after `kind load`
    import-2026-11-22@sha256:… as well.
    """
    digests = dict(line.split()[:3:2] for line in listing.splitlines())
    others = [name for name, digest in digests.items() if digest == digests[image] and name != image]
    return [image, *others] if all("sha256:" in name for name in others) else [image]


def _reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode, member.mtime, member.uid, member.gid, member.uname, member.gname = 0o755, 0, 0, 0, "", ""
    return member


def _config(layer: Path, path: str) -> dict[str, Any]:
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [path], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }


def _manifest(name: str) -> bytes:
    return json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
