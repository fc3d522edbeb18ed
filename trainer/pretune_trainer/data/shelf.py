"""Files of a committed folder, where this node can map them into memory."""

import fcntl
import hashlib
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO, TypeVar
from urllib.parse import unquote

from pretune_api.manifest import File, Manifest
from pretune_api.names import DISK_VARIABLE
from pretune_trainer.data.cache_index import BatchEntry
from pretune_trainer.errors import DamagedError, UserError
from pretune_trainer.storage.client import explained
from pretune_trainer.storage.store import Store

T = TypeVar("T")

_CACHE_VARIABLE: Final = "PRETUNE_CACHE"
"""Folder for copies of what lies in remote stores; a user's own in the system's temporary folder when unset."""
_SHARE: Final = 0.5
"""Part of the disk for copies that can be made again."""
_FULL: Final = 0.9
"""Part of that which stays filled where room is made, so that it need not be made for each copy."""
_PRIVATE: Final = 0o700
"""Mode of that folder: everybody may write beside it, and what is in it is trusted."""
_LOCKS: Final = "locks"
"""Folder of the locks, apart from the copies: a model may have a file of any name."""


@dataclass(frozen=True)
class Shelf:
    """Gives local paths of a committed folder's files; a remote one is copied to this node once, for all its ranks."""

    store: Store
    """The folder."""
    manifest: Manifest
    """What it consists of."""
    _files: dict[str, File] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_files", {file.path: file for file in self.manifest.files})

    @property
    def is_local(self) -> bool:
        """Whether the folder is one of this machine's file system: nothing is copied then."""
        return local_path(self.store) is not None

    def path(self, name: str) -> Path:
        """Where the file is.

        Raises:
            DamagedError: it is missing, or is not what the manifest says.
        """
        file = self._files[name]
        here = local_path(self.store)
        if here is not None:
            return self._sized(here / name, file)
        copy = cache_folder() / self._place(name)
        self._fetch(copy, name, file.sha256, file.size, lambda: self.store.stream(name, file.size))
        return copy

    def lend(self, name: str, batch: BatchEntry, open_: Callable[[Path, int, int], T]) -> T:
        """What `open_` makes of a batch of a file, given path, offset and size; it stays readable.

        A token cache can be of terabytes: of a remote one, each batch is copied by itself, and where the disk is small,
        those that nobody has opened for longest make room for others.

        Raises:
            DamagedError: the file is missing, or is not what the manifest says.
        """
        if self.is_local:
            return open_(self.path(name), batch.offset, batch.size)
        copy = self._copy(name, batch)
        while True:
            fetched = self._fetch(
                copy, name, batch.sha256, batch.size, lambda: [self.store.get_range(name, *batch.span)]
            )
            with suppress(FileNotFoundError):  # another rank has made room in between
                os.utime(copy)
                opened = open_(copy, 0, batch.size)
                if fetched:
                    self._make_room(copy, batch.size)
                return opened

    def lacks(self, name: str, batch: BatchEntry) -> bool:
        """Whether a batch has to be fetched first."""
        return not self.is_local and not _is_whole(self._copy(name, batch), batch.size)

    def _copy(self, name: str, batch: BatchEntry) -> Path:
        return cache_folder() / self._place(f"{name}.{batch.offset}")

    def _make_room(self, newest: Path, size: int) -> None:
        """Remove what is too much, `newest` of `size` bytes not; how much there is, is written into the lock."""
        with _alone(cache_folder() / _LOCKS / self._place("room")) as ledger:
            ledger.seek(0)
            noted = ledger.read()
            # A crash or a power cut may leave none.
            held = int(noted) + size if noted.isdigit() else _thin(newest, math.inf)
            room = _room(newest.parent, held)
            if held > room:
                held = _thin(newest, room * _FULL)
            ledger.truncate(0)
            ledger.write(str(held))

    def _place(self, name: str) -> Path:
        return Path(self.manifest.digest.removeprefix("sha256:"), name)

    def _sized(self, path: Path, file: File) -> Path:
        size = path.stat().st_size if path.exists() else None
        if size != file.size:
            said = "is missing" if size is None else f"has {size} bytes, its manifest says {file.size}"
            raise DamagedError(f"{self.store.uri} is damaged: {file.path} {said}; remove the folder to create it again")
        return path

    def _fetch(self, copy: Path, name: str, sha256: str, size: int, read: Callable[[], Iterable[memoryview]]) -> bool:
        """Make a copy, unless there is one; whether it had to be made."""
        if _is_whole(copy, size):
            return False
        with _alone(cache_folder() / _LOCKS / copy.relative_to(cache_folder())):
            if _is_whole(copy, size):
                return False
            self._write(copy, name, sha256, read())
        return True

    def _write(self, copy: Path, name: str, sha256: str, content: Iterable[memoryview]) -> None:
        digest = hashlib.sha256()
        copy.parent.mkdir(parents=True, exist_ok=True)
        with explained("write", f"file://{copy}"), tempfile.TemporaryDirectory(dir=copy.parent) as folder:
            part = Path(folder, "part")
            with part.open("wb") as written:
                for chunk in content:
                    digest.update(chunk)
                    written.write(chunk)
            if digest.hexdigest() != sha256:
                raise DamagedError(
                    f"{self.store.uri} is damaged: {name} has changed; remove the folder to create it again"
                )
            part.replace(copy)


def _room(folder: Path, held: int) -> float:
    """Bytes that the copies in a folder may take, of which they take `held` now."""
    given = os.environ.get(DISK_VARIABLE)
    return _SHARE * (int(given) if given else shutil.disk_usage(folder).free + held)


def _thin(newest: Path, room: float) -> int:
    """Remove copies beside `newest`, those not opened for longest first, until `room` bytes are left; what is left."""
    copies = sorted(
        (each for each in os.scandir(newest.parent) if each.is_file()), key=lambda each: each.stat().st_mtime
    )
    held = sum(each.stat().st_size for each in copies)
    for each in copies:
        if held > room and each.name != newest.name:
            Path(each).unlink()
            held -= each.stat().st_size
    return held


def _is_whole(copy: Path, size: int) -> bool:
    """Whether it is there, and as long as it was: of a copy a power cut may leave the name alone."""
    try:
        return copy.stat().st_size == size
    except FileNotFoundError:
        return False


@contextmanager
def _alone(lock: Path) -> Iterator[TextIO]:
    """One rank of this node at a time: the others find the copy when their turn comes. The lock can be written to."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield held


def local_path(store: Store) -> Path | None:
    """The folder itself, where the store is a file system of this machine."""
    scheme, _, path = store.uri.partition("://")
    return Path(unquote(path)) if scheme == "file" else None


def cache_folder() -> Path:
    """Where this node keeps copies and unfinished work.

    Raises:
        UserError: in the system's temporary folder somebody else has one of our name.
    """
    if chosen := os.environ.get(_CACHE_VARIABLE):
        return Path(chosen)
    folder = Path(tempfile.gettempdir()) / f"pretune-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=_PRIVATE)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        advice = f"remove it, or name a folder of yours in {_CACHE_VARIABLE}"
        raise UserError(str(folder), f"belongs to somebody else; {advice}")
    if stat.S_IMODE(found.st_mode) != _PRIVATE:
        folder.chmod(_PRIVATE)
    return folder
