"""Committed folders: all files, then a manifest of their sizes and digests, then the marker that readers trust."""

import hashlib
import re
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from pretune_api.manifest import COMMITTED_NAME, MANIFEST_NAME, File, Manifest
from pretune_trainer.errors import DamagedError, MissingObjectError, ObjectExistsError, UserError
from pretune_trainer.storage.store import Object, Store

Kind = Literal["checkpoints", "artifact"]
"""What a job's folder has commits of."""

Document = TypeVar("Document", bound=BaseModel)

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
    _sync_files(folder, manifest)
    still_allowed()
    _mark(folder, manifest)


def commit_first(folder: Store, manifest: Manifest) -> None:
    """Commit what several may make at once, and each otherwise: the first manifest stands for all.

    The files of each must lie under names of their own, and be there already: so whoever comes second, or finds what
    one has left who died here, commits what the first has made.
    """
    try:
        folder.create(MANIFEST_NAME, manifest.to_bytes())
    except ObjectExistsError:
        manifest = Manifest.model_validate_json(folder.get(MANIFEST_NAME))
    _sync_files(folder, manifest)
    _mark(folder, manifest)


def read_commit(folder: Store) -> Manifest:
    """The manifest of a committed folder.

    Raises:
        MissingObjectError: the folder is not committed.
        DamagedError: the manifest is not the one that was committed.
        UserError: another version of Pretune has written it.
    """
    digest = folder.get(COMMITTED_NAME).decode(errors="replace").strip()
    try:
        content = folder.get(MANIFEST_NAME)
    except MissingObjectError as error:
        raise DamagedError(f"{folder.uri} is damaged: {MANIFEST_NAME} is missing") from error
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise DamagedError(f"{folder.uri} is damaged: {MANIFEST_NAME} is not the one that was committed")
    return understood(Manifest, content, f"{folder.uri}/{MANIFEST_NAME}")


def understood(kind: type[Document], content: bytes, uri: str) -> Document:
    """A document that lies at `uri`, and is whole.

    Raises:
        UserError: another version of Pretune has written it. It is not damaged: nothing may take its place.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UserError(uri, "was written by another version of Pretune; use that one") from error


def verify(folder: Store, manifest: Manifest) -> None:
    """Compare a folder's files with its manifest, byte for byte.

    Raises:
        DamagedError: a file is missing, or is not what the manifest says.
    """
    for file in manifest.files:
        verify_file(folder, file, folder.digest)


def verify_file(folder: Store, file: File, digest: Callable[[str, int], str]) -> None:
    """Compare a file with what the manifest says of it; `digest` reads it, as `Store.digest` does.

    Raises:
        DamagedError: it is missing, or is not what the manifest says.
    """
    try:
        size = folder.size(file.path)
    except MissingObjectError as error:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} is missing") from error
    if size != file.size:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} has {size} bytes, its manifest says {file.size}")
    if digest(file.path, size) != file.sha256:
        raise DamagedError(f"{folder.uri} is damaged: {file.path} has changed since it was committed")


def commits(job: Store, kind: Kind) -> list[Commit]:
    """The committed folders of a job, newest first: the highest run, then the highest step."""
    return sorted(_committed(_paths(job, kind)), reverse=True)


def kept(commits: Iterable[Commit], keep: int, best_step: int | None) -> set[Commit]:
    """What retention leaves: the `keep` newest, and the newest one of `best_step`."""
    newest_first = sorted(commits, reverse=True)
    best = [commit for commit in newest_first if commit.step == best_step]
    return {*newest_first[:keep], *best[:1]}


def remove(folder: Store) -> None:
    """Delete a folder. The marker goes first, so that readers never see a part of it."""
    folder.delete(COMMITTED_NAME)
    folder.clear()


def remove_unfinished(job: Store, kind: Kind, before: int) -> None:
    """Remove what runs before that one have begun to write, or to remove."""
    for folder in _uncommitted(job, kind):
        if folder.run < before:
            remove(job.child(folder.path))


def manifest_of(folder: Store, read: Callable[[str], bool] = lambda _: True) -> Manifest:
    """The manifest of a model's folder: the one that was committed, or the one that it would have.

    Of files that are not to be `read`, by their paths, the former is not compared, and the latter does not tell.

    Raises:
        MissingObjectError: the folder is empty.
        DamagedError: it was committed, and has changed since.
    """
    if folder.exists(COMMITTED_NAME):
        manifest = read_commit(folder)
        verify(folder, manifest.model_copy(update={"files": [file for file in manifest.files if read(file.path)]}))
        return manifest
    found = [object_ for object_ in folder.list() if object_.path != MANIFEST_NAME and read(object_.path)]
    files = [_describe(folder, object_) for object_ in found]
    if not files:
        raise MissingObjectError(f"{folder.uri}: the folder is empty; check the URI")
    return Manifest(content="artifact", files=files)


def _sync_files(folder: Store, manifest: Manifest) -> None:
    folder.sync([*(file.path for file in manifest.files), MANIFEST_NAME])


def _mark(folder: Store, manifest: Manifest) -> None:
    folder.create(COMMITTED_NAME, manifest.digest.encode())
    folder.sync([COMMITTED_NAME])


def _describe(folder: Store, object_: Object) -> File:
    return File(path=object_.path, size=object_.size, sha256=folder.digest(object_.path, object_.size))


def _uncommitted(job: Store, kind: Kind) -> list[Commit]:
    """Folders without a marker. On a file system there may be no whole file in one; elsewhere emptied ones may stay."""
    folders = _folders(job, kind) if job.is_local else []  # before the markers: what is committed meanwhile has one
    paths = _paths(job, kind)
    return sorted({commit for path in (*folders, *paths) if (commit := _commit_of(path))} - _committed(paths))


def _paths(job: Store, kind: Kind) -> set[str]:
    return {object_.path for object_ in job.list(kind)}


def _committed(paths: Set[str]) -> set[Commit]:
    """What has its marker among a job's paths."""
    return {commit for path in paths if (commit := _commit_of(path)) and f"{commit.path}/{COMMITTED_NAME}" in paths}


def _folders(job: Store, kind: Kind) -> list[str]:
    runs = job.folders(kind)
    return [f"{path}/" for path in (runs if kind == "artifact" else chain(*map(job.folders, runs)))]


def _commit_of(path: str) -> Commit | None:
    """Which folder that can be committed a path below a job's leads into; None if none."""
    match = _FOLDER.match(path)
    if match is None:
        return None
    return Commit(int(match[1] or match[3]), int(match[2] or 0), "artifact" if match[3] else "checkpoints")
