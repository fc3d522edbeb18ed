"""Files of a committed folder, where this node can map them into memory."""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote

from pretune_api.manifest import File, Manifest
from pretune_api.names import DISK_VARIABLE
from pretune_trainer.errors import DamagedError, UserError
from pretune_trainer.storage.client import explained
from pretune_trainer.storage.store import Store

T = TypeVar("T")

_CACHE_VARIABLE: Final = "PRETUNE_CACHE"
"""Folder for copies of what lies in remote stores; a user's own in the system's temporary folder when unset."""
_SHARE: Final = 0.5
"""Part of the disk for copies that can be made again."""
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
        if not _is_whole(copy, file):
            with _alone(cache_folder() / _LOCKS / self._place(name)):
                self._fetch(file, copy)
        return copy

    def lend(self, name: str, open_: Callable[[Path], T]) -> T:
        """What `open_` makes of a file, which stays readable; where the disk is small, its copy may go later.

        A token cache can be of terabytes: copies that nobody has opened for longest make room for others in the folder.

        Raises:
            DamagedError: it is missing, or is not what the manifest says.
        """
        if local_path(self.store) is not None:
            return open_(self.path(name))
        while True:
            is_new = not (cache_folder() / self._place(name)).exists()
            path = self.path(name)
            with suppress(FileNotFoundError):  # another rank has made room in between
                os.utime(path)
                opened = open_(path)
                if is_new:
                    self._make_room(path)
                return opened

    def _make_room(self, newest: Path) -> None:
        with _alone(cache_folder() / _LOCKS / self._place("room")):
            copies = [path for path in newest.parent.iterdir() if path.is_file() and path != newest]
            held = newest.stat().st_size + sum(path.stat().st_size for path in copies)
            room = _room(newest.parent, held)
            for path in sorted(copies, key=lambda path: path.stat().st_mtime_ns):
                if held <= room:
                    break
                held -= path.stat().st_size
                path.unlink()

    def _place(self, name: str) -> Path:
        return Path(self.manifest.digest.removeprefix("sha256:"), name)

    def _sized(self, path: Path, file: File) -> Path:
        size = path.stat().st_size if path.exists() else None
        if size != file.size:
            said = "is missing" if size is None else f"has {size} bytes, its manifest says {file.size}"
            raise DamagedError(f"{self.store.uri} is damaged: {file.path} {said}; remove the folder to create it again")
        return path

    def _fetch(self, file: File, copy: Path) -> None:
        if _is_whole(copy, file):
            return
        digest = hashlib.sha256()
        copy.parent.mkdir(parents=True, exist_ok=True)
        with explained("write", f"file://{copy}"), tempfile.TemporaryDirectory(dir=copy.parent) as folder:
            part = Path(folder, "part")
            with part.open("wb") as written:
                for chunk in self.store.stream(file.path, file.size):
                    digest.update(chunk)
                    written.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise DamagedError(
                    f"{self.store.uri} is damaged: {file.path} has changed; remove the folder to create it again"
                )
            part.replace(copy)


def _room(folder: Path, held: int) -> float:
    """Bytes that the copies in a folder may take, of which they take `held` now."""
    given = os.environ.get(DISK_VARIABLE)
    return _SHARE * (int(given) if given else shutil.disk_usage(folder).free + held)


def _is_whole(copy: Path, file: File) -> bool:
    """Whether it is there, and as long as it was: of a copy a power cut may leave the name alone."""
    return copy.exists() and copy.stat().st_size == file.size


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One rank of this node at a time: the others find the copy when their turn comes."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


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
