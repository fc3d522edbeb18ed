"""Sources on Azure, read as storage is: one client, with the same credentials, patience and errors.

pyarrow's client, which reads from other stores, knows no AZURE_STORAGE_* variables, asks the Data Lake endpoint, too,
gives up after 6 s of errors, and waits for an answer for 4 minutes.
"""

import io
from typing import overload

import pyarrow as pa
from pyarrow import fs

from pretune_api.storage import Location
from pretune_trainer.errors import MissingObjectError
from pretune_trainer.storage.store import Object, Store


class Objects:
    """What sources ask of a pyarrow file system. Paths begin with the container, and errors are those of `Store`."""

    def __init__(self, source: Location) -> None:
        """The container that a source lies in; nothing is asked of it yet.

        Raises:
            StorageError: the store takes no such path, or lacks a setting.
        """
        Store.open(source)
        scheme, _, path = source.uri.partition("://")
        self._container = path.partition("/")[0]
        self._store = Store.open(Location(uri=f"{scheme}://{self._container}", endpoint=source.endpoint))

    @overload
    def get_file_info(self, wanted: str) -> fs.FileInfo: ...
    @overload
    def get_file_info(self, wanted: fs.FileSelector) -> list[fs.FileInfo]: ...
    def get_file_info(self, wanted: str | fs.FileSelector) -> fs.FileInfo | list[fs.FileInfo]:
        """What is at a path; or the files in a folder, which need not exist."""
        if isinstance(wanted, str):
            return self._at(wanted)
        listing = self._store.list if wanted.recursive else self._store.list_here
        listed = listing(self._key(wanted.base_dir))
        return [self._file(found) for found in listed if found.size or not _is_marker(found.path)]

    def open_input_file(self, path: str) -> pa.NativeFile:
        """A file, to be read from anywhere.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            size = self._store.size(self._key(path))
        except MissingObjectError as error:
            raise FileNotFoundError(path) from error
        return pa.PythonFile(_Reader(self._store, self._key(path), size), mode="r")

    def open_input_stream(self, path: str, compression: str | None, buffer_size: int) -> pa.NativeFile:
        """What is in a file, from its beginning on, unpacked.

        Raises:
            FileNotFoundError: there is none.
        """
        stream = pa.BufferedInputStream(self.open_input_file(path), buffer_size)
        return pa.CompressedInputStream(stream, compression) if compression else stream

    def _at(self, path: str) -> fs.FileInfo:
        """Where folders are real (Data Lake Storage), asking for one is answered as for an empty file."""
        try:
            found = self._store.describe(self._key(path)) if self._key(path) else Object("", 0)
        except MissingObjectError:
            found = Object("", 0)
        if found.size:
            return self._file(found)
        if self._store.list_here(self._key(path)) or self._store.folders(self._key(path)):
            return fs.FileInfo(path, fs.FileType.Directory)
        return self._file(found) if found.path else fs.FileInfo(path, fs.FileType.NotFound)

    def _file(self, found: Object) -> fs.FileInfo:
        path = f"{self._container}/{found.path}"
        return fs.FileInfo(path, fs.FileType.File, size=found.size, mtime_ns=found.modified)

    def _key(self, path: str) -> str:
        return path[len(self._container) :].strip("/")


def _is_marker(path: str) -> bool:
    """Whether an empty object stands for a folder with nothing in it, as some tools have it."""
    return "." not in path.rpartition("/")[2]


class _Reader(io.RawIOBase):
    """An object of `size` bytes as a file of Python's."""

    def __init__(self, store: Store, path: str, size: int) -> None:
        self._store = store
        self._path = path
        self._size = size
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._position, 0)
        length = left if size < 0 else min(size, left)
        if not length:
            return b""
        found = self._store.get_range(self._path, self._position, length)
        self._position += length
        return bytes(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        beginning = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = beginning + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
