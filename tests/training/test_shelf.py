"""Copies of committed files on this machine."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pretune_api.manifest import Manifest
from pretune_trainer.data.shelf import Shelf, cache_folder
from pretune_trainer.errors import StorageError, UserError
from pretune_trainer.storage.store import Store
from support.s3 import S3Server


def test_copies_are_their_users_own_where_everybody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRETUNE_CACHE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700
    folder.rename(tmp_path / "theirs")
    for theirs in ("theirs", "nothing"):
        folder.symlink_to(tmp_path / theirs)
        with pytest.raises(UserError, match="belongs to somebody else; remove it, or name a folder of yours"):
            cache_folder()
        folder.unlink()


def test_files_of_any_name_are_copied_to_this_node_as_they_are(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    folder, names = Store.open(s3.new_folder()), ["poetry.json", "poetry.lock"]
    shelf = Shelf(folder, Manifest(content="artifact", files=[folder.put(name, name.encode()) for name in names]))
    assert [shelf.path(name).read_text() for name in names] == names


def test_a_copy_that_a_power_cut_has_emptied_is_made_again(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    folder = Store.open(s3.new_folder())
    shelf = Shelf(folder, Manifest(content="artifact", files=[folder.put("a", b"content")]))
    shelf.path("a").write_bytes(b"")
    assert shelf.path("a").read_bytes() == b"content"


def test_a_copy_that_could_not_be_made_takes_no_room_on_the_node(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    folder = Store.open(s3.new_folder())
    shelf = Shelf(folder, Manifest(content="artifact", files=[folder.put("a", b"content")]))

    def broken(*_: object) -> Iterator[bytes]:
        yield b"cont"
        raise StorageError("the store does not answer")

    monkeypatch.setattr(Store, "stream", broken)
    with pytest.raises(StorageError):
        shelf.path("a")
    assert [path.name for path in (tmp_path / "node").rglob("*") if path.stat().st_size and path.is_file()] == []
