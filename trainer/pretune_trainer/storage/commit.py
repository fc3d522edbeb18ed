"""Committed folders: all files, then a manifest of their sizes and digests, then the marker that readers trust."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ValidationError

from pretune_api.manifest import COMMITTED_NAME, MANIFEST_NAME, File, Manifest
from pretune_trainer.errors import DamagedError, MissingObjectError
from pretune_trainer.storage.store import Object, Store

Kind = Literal["checkpoints", "artifact"]
"""What a job's folder has commits of."""

_FOLDER: Final = re.compile(r"^(?:checkpoints/(\d{4,})/step-(\d{8,})|artifact/(\d{4,}))(?=/)")


@dataclass(frozen=True, order=True)
class Commit:
    """A folder of a job that can be committed; the order is that of readers: by run, then by step."""

    run: int
    """Ordinal of the run that wrote it."""
    step: int
    """Optimizer steps done; 0 for an artifact."""
    kind: Kind = "checkpoints"
    """What it holds."""

    @property
    def path(self) -> str:
        """The folder, below the job's."""
        if self.kind == "artifact":
            return f"artifact/{self.run:04d}"
        return f"checkpoints/{self.run:04d}/step-{self.step:08d}"


def commit(folder: Store, manifest: Manifest, still_allowed: Callable[[], None] = lambda: None) -> None:
    """Make a folder, whose files are all there, visible to readers.

    `still_allowed`, such as `Run.check`, is asked last, right before the marker: it raises when this must not be. A
    cache belongs to no run: whoever makes it makes the same, and nobody is asked.
    """
    folder.put(MANIFEST_NAME, manifest.to_bytes())
    still_allowed()
    folder.create(COMMITTED_NAME, manifest.digest.encode())


def read_commit(folder: Store) -> Manifest:
    """The manifest of a committed folder.

    Raises:
        MissingObjectError: the folder is not committed.
        DamagedError: the manifest is not the one that was committed.
    """
    digest = folder.get(COMMITTED_NAME).decode(errors="replace").strip()
    try:
        content = folder.get(MANIFEST_NAME)
    except MissingObjectError as error:
        raise DamagedError(f"{folder.uri} is damaged: {MANIFEST_NAME} is missing") from error
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise DamagedError(f"{folder.uri} is damaged: {MANIFEST_NAME} is not the one that was committed")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise DamagedError(
            f"{folder.uri} was written by another version of Pretune: {MANIFEST_NAME} is not known"
        ) from error


def verify(folder: Store, manifest: Manifest, part: tuple[int, int] = (0, 1)) -> None:
    """Compare a folder's files with its manifest, byte for byte; as rank r of n, `part` (r, n), every n-th of them.

    Raises:
        DamagedError: a file is missing, or is not what the manifest says.
    """
    rank, size = part
    for file in manifest.files[rank::size]:
        _verify_file(folder, file)


def _verify_file(folder: Store, file: File) -> None:
    try:
        size = folder.size(file.path)
    except MissingObjectError as error:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} is missing") from error
    if size != file.size:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} has {size} bytes, its manifest says {file.size}")
    if _sha256(folder, file.path, size) != file.sha256:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} has other content than when it was committed")


def commits(job: Store, kind: Kind) -> list[Commit]:
    """The committed folders of a job, newest first: the highest run, then the highest step."""
    return [commit for commit, committed in _folders(job, kind).items() if committed]


def uncommitted(job: Store, kind: Kind) -> list[Commit]:
    """Folders that someone has begun to write, or to remove."""
    return [commit for commit, committed in _folders(job, kind).items() if not committed]


def kept(commits: Iterable[Commit], keep: int, best_step: int | None) -> set[Commit]:
    """What retention leaves: the `keep` newest, and the newest one of `best_step`."""
    newest_first = sorted(commits, reverse=True)
    best = [commit for commit in newest_first if commit.step == best_step]
    return {*newest_first[:keep], *best[:1]}


def remove(folder: Store) -> None:
    """Delete a folder. The marker goes first, so that readers never see a part of it."""
    folder.delete(COMMITTED_NAME)
    for object_ in folder.list():
        folder.delete(object_.path)


def manifest_of(folder: Store) -> Manifest:
    """The manifest of a model's folder: the one that was committed, or the one that it would have.

    Raises:
        MissingObjectError: the folder is empty.
        DamagedError: it was committed, and has changed since.
    """
    if folder.exists(COMMITTED_NAME):
        manifest = read_commit(folder)
        verify(folder, manifest)
        return manifest
    files = [_describe(folder, object_) for object_ in folder.list() if object_.path != MANIFEST_NAME]
    if not files:
        raise MissingObjectError(f"{folder.uri}: there is nothing in this folder; check the URI")
    return Manifest(content="artifact", files=files)


def _describe(folder: Store, object_: Object) -> File:
    return File(path=object_.path, size=object_.size, sha256=_sha256(folder, object_.path, object_.size))


def _sha256(folder: Store, path: str, size: int) -> str:
    digest = hashlib.sha256()
    for chunk in folder.stream(path, size):
        digest.update(chunk)
    return digest.hexdigest()


def _folders(job: Store, kind: Kind) -> dict[Commit, bool]:
    """Folders of that kind, newest first, and whether each is committed."""
    found: dict[Commit, bool] = {}
    for object_ in job.list(kind):
        if match := _FOLDER.match(object_.path):
            commit = Commit(int(match[1] or match[3]), int(match[2] or 0), kind)
            found[commit] = found.get(commit, False) or object_.path == f"{commit.path}/{COMMITTED_NAME}"
    return dict(sorted(found.items(), reverse=True))
