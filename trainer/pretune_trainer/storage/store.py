"""A folder in an object store: everything a run writes, and what it reads back, goes through here."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import obstore
from obstore.exceptions import GenericError
from obstore.store import LocalStore

from pretune_api.manifest import File
from pretune_api.storage import Location
from pretune_trainer.ahead import ahead
from pretune_trainer.errors import MissingObjectError, ObjectExistsError, StorageDeniedError, StorageError
from pretune_trainer.storage.client import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Patience,
    connect,
    explained,
    passes,
)
from pretune_trainer.storage.upload import Data, Upload

if TYPE_CHECKING:
    from obstore import ListResult, ObjectMeta
    from obstore.store import ObjectStore

T = TypeVar("T")

PART: Final = 16 * 2**20
"""Bytes of one part of an upload or a download. S3 takes 10,000 parts: files of up to 160 GB."""
_PARALLEL_PARTS: Final = 6
"""Parts in flight in one upload or download: with `PART`, 96 MiB of buffers at most."""
_PAUSES: Final = (0.1, 0.4, 1.6, 6.4)
"""Seconds before a request is made again that obstore does not repeat."""


@dataclass(frozen=True)
class Object:
    """One object of a store."""

    path: str
    """Path below the store's folder."""
    size: int
    """Bytes."""
    modified: int = field(default=0, compare=False)
    """When it was last written, in nanoseconds since 1970."""


@dataclass
class _Bucket:
    """A connection that all folders of a bucket share, and what is known of it."""

    objects: "ObjectStore"
    patience: Patience
    guarantees_create: bool | None = None
    honours_ranges: bool = True
    """`rclone serve s3` answers them with status 200, which obstore refuses: then objects are read whole."""


@dataclass(frozen=True)
class Store:
    """A folder in an object store or a file system. Safe to use from several threads."""

    uri: str
    """Where the folder is, without a slash at the end."""
    _bucket: _Bucket = field(repr=False)
    _path: str

    @classmethod
    def open(cls, location: Location, patience: Patience | None = None) -> Self:
        """The folder at `location`; it need not exist yet. Nothing is asked of the store.

        Raises:
            StorageError: stores of that kind are not known.
        """
        patience = patience or Patience.with_store_of(location)
        objects, path = connect(location, patience)
        return cls(location.uri.rstrip("/"), _Bucket(objects, patience), path)

    def child(self, path: str) -> Self:
        """A folder below this one."""
        return replace(self, uri=f"{self.uri}/{path}", _path=self._at(path))

    @property
    def guarantees_create(self) -> bool:
        """Whether of two who `create` one object only one succeeds. Asked of the store once, by trying.

        `rclone serve s3`, for one, takes a conditional put for any other.
        """
        if self._bucket.guarantees_create is None:
            path = f".probe-{secrets.token_hex(8)}"
            self._bucket.guarantees_create = self._patiently(lambda: self._probe(path))
            self.delete(path)
        return self._bucket.guarantees_create

    def get(self, path: str) -> bytes:
        """The whole of a small object.

        Raises:
            MissingObjectError: there is none.
        """
        return self._ask("read", path, lambda: obstore.get(self._objects, self._at(path)).bytes().to_bytes())

    def get_range(self, path: str, start: int, length: int) -> memoryview:
        """`length` bytes of an object from `start` on; it must have them."""
        return self.get_ranges(path, [(start, length)])[0]

    def get_ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        """Several ranges of an object, each (start, length); neighbours are read with one request."""
        if self._bucket.honours_ranges:
            found = self._ask("read", path, lambda: self._ranges(path, spans))
            if found is not None:
                return found
            self._bucket.honours_ranges = False
        whole = memoryview(self.get(path))
        return [whole[start : start + length] for start, length in spans]

    def stream(self, path: str, size: int) -> Iterator[memoryview]:
        """The bytes of an object of `size` bytes, in order, a part at a time; the next parts are fetched meanwhile."""
        spans = ((start, min(PART, size - start)) for start in range(0, size, PART))
        return ahead(lambda span: self.get_range(path, *span), spans, _PARALLEL_PARTS)

    def size(self, path: str) -> int:
        """Bytes of an object.

        Raises:
            MissingObjectError: there is none.
        """
        return self.describe(path).size

    def describe(self, path: str) -> Object:
        """An object without its content.

        Raises:
            MissingObjectError: there is none.
        """
        return self._object(self._ask("read", path, lambda: obstore.head(self._objects, self._at(path))))

    def digest(self, path: str, size: int) -> str:
        """SHA-256 of an object of `size` bytes, in hex."""
        digest = hashlib.sha256()
        for chunk in self.stream(path, size):
            digest.update(chunk)
        return digest.hexdigest()

    def exists(self, path: str) -> bool:
        """Whether there is an object under that very name."""
        try:
            self.size(path)
        except MissingObjectError:
            return False
        return True

    def put(self, path: str, data: Data) -> File:
        """Write an object, or replace it: the whole of it appears at once, or nothing does. Parts go in parallel.

        Returns its size and SHA-256, computed on the way.
        """
        return self._ask("write", path, lambda: self._put(path, data))

    def create(self, path: str, data: bytes) -> None:
        """Write a small object that must not exist yet. Finding exactly `data` there is success too: a lost answer.

        Where `guarantees_create` is false, another may create it at the same moment unseen.

        Raises:
            ObjectExistsError: it exists, with other content.
        """
        if not self.guarantees_create:
            self._put_if_absent(path, data)
            return
        self._patiently(lambda: self._create(path, data))

    def list(self, prefix: str = "", after: str | None = None) -> list[Object]:
        """All objects below a folder, or those that come after a path there, in order of their paths; not what stands
        for a folder."""
        at, offset = self._at(prefix), None if after is None else self._at(after)
        found = self._ask("list", prefix, lambda: list(chain(*obstore.list(self._objects, at, offset=offset))))
        objects = sorted(map(self._object, found), key=lambda object_: object_.path)
        return _without_markers(objects, {prefix, *_folders_of(object_.path for object_ in objects)})

    def list_here(self, prefix: str = "") -> Sequence[Object]:
        """The objects right below a folder, in order of their paths; what is in its folders is not listed."""
        level = self._level(prefix)
        objects = sorted(map(self._object, level["objects"]), key=lambda object_: object_.path)
        return _without_markers(objects, {prefix, *(path[self._cut :] for path in level["common_prefixes"])})

    def folders(self, prefix: str = "") -> Sequence[str]:
        """Paths of the folders right below a folder, in order; what is in them is not listed."""
        return sorted(path[self._cut :] for path in self._level(prefix)["common_prefixes"])

    def delete(self, path: str) -> None:
        """Remove an object; it may be gone already."""
        self._patiently(lambda: self._delete(path))

    def clear(self) -> None:
        """Remove all objects; on a file system also their folders, and the beginnings of files whose writers died.

        obstore writes `name` as `name#1` until it is whole: no listing shows that.
        """
        for object_ in self.list():
            self.delete(object_.path)
        if self.is_local:
            with explained("delete", self.uri), suppress(FileNotFoundError):
                shutil.rmtree(f"/{self._path}")

    def sync(self, paths: Sequence[str]) -> None:
        """Wait until objects would outlive a power cut: a store's answer promises that, a file system's does not."""
        if not self.is_local:
            return
        files = [Path("/", self._at(path)) for path in paths]
        with explained("write", self.uri):
            for path in [*files, *{file.parent for file in files}]:
                _sync(path)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of a file system."""
        return isinstance(self._objects, LocalStore)

    @property
    def _objects(self) -> "ObjectStore":
        return self._bucket.objects

    def _level(self, prefix: str) -> "ListResult[Sequence[ObjectMeta]]":
        return self._ask("list", prefix, lambda: obstore.list_with_delimiter(self._objects, self._at(prefix)))

    def _object(self, meta: "ObjectMeta") -> Object:
        return Object(meta["path"][self._cut :], meta["size"], round(meta["last_modified"].timestamp() * 1e6) * 1_000)

    @property
    def _cut(self) -> int:
        """Characters of a path in the bucket before that below the folder."""
        return len(self._path) + 1 if self._path else 0

    def _at(self, path: str) -> str:
        return "/".join(part for part in (self._path, path) if part)

    def _uri(self, path: str) -> str:
        return f"{self.uri}/{path}" if path else self.uri

    def _ask(self, doing: str, path: str, do: Callable[[], T]) -> T:
        """Do what may be done twice, and again where obstore has given up at a failure that may pass."""
        patience = self._bucket.patience
        for pause in _PAUSES if patience.total_seconds else ():
            started = time.monotonic()
            try:
                return self._once(doing, path, do)
            except StorageError as error:
                if not passes(error, time.monotonic() - started, patience):
                    raise
            time.sleep(pause)
        return self._once(doing, path, do)

    def _once(self, doing: str, path: str, do: Callable[[], T]) -> T:
        with explained(doing, self._uri(path)):
            return do()

    def _ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview] | None:
        """None where the store answers with the whole object."""
        starts, lengths = [start for start, _ in spans], [length for _, length in spans]
        try:
            parts = obstore.get_ranges(self._objects, self._at(path), starts=starts, lengths=lengths)
        except GenericError as error:
            if "non-partial response" in str(error):
                return None
            raise
        return [memoryview(part) for part in parts]

    def _put(self, path: str, data: Data) -> File:
        upload, to = Upload(data, PART), self._at(path)
        obstore.put(self._objects, to, upload.content(), chunk_size=PART, max_concurrency=_PARALLEL_PARTS)
        return File(path=path, size=upload.size, sha256=upload.digest.hexdigest())

    def _conditional_put(self, path: str, data: bytes) -> None:
        with explained("create", self._uri(path)):
            obstore.put(self._objects, self._at(path), data, mode="create", use_multipart=False)

    def _probe(self, path: str) -> bool:
        """Create one object twice; a store that lets the second pass, or knows no conditions, guarantees nothing."""
        try:
            self._conditional_put(path, b"first")
            self._conditional_put(path, b"second")
        except ObjectExistsError:
            return True
        except StorageError as error:
            if "501 Not Implemented" not in str(error.__cause__):  # what Backblaze B2 answers
                raise
        return False

    def _patiently(self, do: Callable[[], T]) -> T:
        """Do what may be done twice. obstore repeats most requests, but not an unsafe one that timed out."""
        deadline, pause = time.monotonic() + self._bucket.patience.total_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return do()
            except (StorageDeniedError, ObjectExistsError):
                raise
            except StorageError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _create(self, path: str, data: bytes) -> None:
        try:
            self._conditional_put(path, data)
        except ObjectExistsError:
            if self.get(path) != data:
                raise

    def _delete(self, path: str) -> None:
        try:
            with explained("delete", self._uri(path)):
                obstore.delete(self._objects, self._at(path))
        except MissingObjectError:
            return

    def _put_if_absent(self, path: str, data: bytes) -> None:
        if not self.exists(path):
            self.put(path, data)
        elif self.get(path) != data:
            raise ObjectExistsError(f"{self._uri(path)}: cannot create: it already exists")


def _folders_of(paths: Iterable[str]) -> set[str]:
    """All folders that something lies in, the one that all paths are below (an empty one) among them."""
    folders = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _without_markers(objects: Iterable[Object], folders: Set[str]) -> list[Object]:
    """What is no empty object under the name of a folder, as consoles and Data Lake Storage make them."""
    return [object_ for object_ in objects if object_.size or object_.path not in folders]


def _sync(path: Path) -> None:
    """A file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
