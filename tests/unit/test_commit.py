"""Committed folders: what readers trust, in which order they look, what retention leaves."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pretune_api.manifest import File, Manifest
from pretune_api.storage import Location
from pretune_trainer.errors import DamagedError, MissingObjectError, SupersededError, UserError
from pretune_trainer.storage.commit import (
    Commit,
    Kind,
    commit,
    commit_first,
    commits,
    kept,
    manifest_of,
    read_commit,
    remove,
    remove_unfinished,
    verify,
)
from pretune_trainer.storage.store import Store
from support.azure import AzureAccount

COMMITS = st.builds(Commit, run=st.integers(1, 12_000), step=st.integers(0, 200_000_000))


def write(folder: Store, content: bytes = b"weights") -> Manifest:
    manifest = Manifest(content="checkpoint", files=[folder.put("a", content), folder.put("b/c", b"more")])
    commit(folder, manifest, lambda: None)
    return manifest


@given(st.sets(COMMITS, max_size=12), st.integers(1, 4), st.integers(0, 200_000_000) | st.none())
def test_retention_leaves_the_newest_and_the_best(every: set[Commit], keep: int, best: int | None) -> None:
    newest_first = sorted(every, key=lambda commit: (commit.run, commit.step), reverse=True)
    left = kept(every, keep, best)
    assert left <= every
    assert set(newest_first[:keep]) <= left
    assert len(left) <= keep + 1
    of_the_best = [commit for commit in newest_first if commit.step == best]
    assert left.issuperset(of_the_best[:1])


@given(COMMITS, COMMITS)
def test_a_higher_run_comes_first_then_a_higher_step(one: Commit, other: Commit) -> None:
    assert (one < other) == ((one.run, one.step) < (other.run, other.step))


def test_commits_are_found_newest_first_and_nothing_else_is(local: Store) -> None:
    every = [Commit(1, 900), Commit(2, 100), Commit(2, 50), Commit(10_000, 1), Commit(3, 123_456_789)]
    for found in every:
        write(local.child(found.path))
    local.child("checkpoints/0004/step-00000001").put("manifest.json", b"not committed")
    local.put("checkpoints/0005/step-00000001/below/COMMITTED", b"too deep")
    local.put("checkpoints/notes.txt", b"")
    assert commits(local, "checkpoints") == sorted(every, reverse=True)
    assert commits(local, "artifact") == []


def test_artifacts_have_a_run_and_no_step(local: Store) -> None:
    write(local.child("artifact/0002"))
    assert commits(local, "artifact") == [Commit(2, 0, "artifact")]
    assert commits(local, "artifact")[0].path == "artifact/0002"


def test_a_committed_folder_is_read_as_it_was_written(store: Store) -> None:
    manifest = write(store)
    assert read_commit(store) == manifest
    verify(store, manifest)


def test_who_may_not_commit_any_more_leaves_no_marker(local: Store) -> None:
    def superseded() -> None:
        raise SupersededError("a newer run has started")

    with pytest.raises(SupersededError):
        commit(local, Manifest(content="checkpoint", files=[local.put("a", b"")]), superseded)
    with pytest.raises(MissingObjectError, match="COMMITTED"):
        read_commit(local)


def test_of_several_that_make_a_folder_at_once_the_first_is_read_whole(store: Store) -> None:
    made = [Manifest(content="cache", files=[store.put(f"{own}/a", own.encode())]) for own in ("one", "other")]
    for manifest in made:
        commit_first(store, manifest)
    assert read_commit(store) == made[0]
    verify(store, made[0])


def test_what_one_has_made_who_died_before_the_marker_is_committed_by_the_next(local: Store) -> None:
    first, second = (Manifest(content="cache", files=[local.put(f"{own}/a", b"")]) for own in ("one", "other"))
    commit_first(local, first)
    local.delete("COMMITTED")
    commit_first(local, second)
    assert read_commit(local) == first


@pytest.mark.parametrize("make", [commit, commit_first])
def test_on_a_disk_all_is_written_down_before_the_marker_and_the_marker_before_anything_else(
    local: Store, tmp_path: Path, make: Callable[[Store, Manifest], None]
) -> None:
    manifest = Manifest(content="cache", files=[local.put("a", b"tokens"), local.put("b/c", b"more")])
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)))
        assert local.exists("COMMITTED") == ("store/COMMITTED" in synced)

    with patch.object(os, "fsync", fsync):
        make(local, manifest)
    assert {"store/a", "store/b/c", "store/manifest.json", "store", "store/b"} <= set(synced)
    assert synced[-2:] == ["store/COMMITTED", "store"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: folder.put("a", b"weightz"), "a has changed since it was committed"),
        (lambda folder: folder.put("a", b"weight"), "a has 6 bytes, its manifest says 7"),
        (lambda folder: folder.delete("a"), "a is missing"),
        (lambda folder: folder.delete("manifest.json"), "manifest.json is missing"),
        (lambda folder: folder.put("manifest.json", b"{}"), "manifest.json is not the one that was committed"),
        (lambda folder: folder.put("COMMITTED", b""), "manifest.json is not the one that was committed"),
    ],
)
def test_damage_is_named(store: Store, damage: Callable[[Store], object], sentence: str) -> None:
    write(store)
    damage(store)
    with pytest.raises(DamagedError, match=f"^{store.uri} is damaged: {sentence}"):
        verify(store, read_commit(store))


def test_a_manifest_of_another_version_is_refused(local: Store) -> None:
    unknown = b'{"content":"checkpoint","files":[],"version":2}'
    local.put("manifest.json", unknown)
    local.put("COMMITTED", f"sha256:{hashlib.sha256(unknown).hexdigest()}".encode())
    with pytest.raises(UserError, match=r"manifest.json: was written by another version of Pretune"):
        read_commit(local)


@pytest.mark.parametrize("path", ["../.bashrc", "/etc/passwd", "adapter/../../.bashrc", "a//b", "."])
def test_a_file_lies_below_its_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="is no path below a folder"):
        File(path=path, size=0, sha256="0" * 64)


def test_the_marker_goes_first(local: Store) -> None:
    write(local)
    local.put("1_Pooling/config.json", b"which is listed before it")
    with patch.object(Store, "delete", autospec=True, side_effect=Store.delete) as delete:
        remove(local)
    assert delete.call_args_list[0].args[1] == "COMMITTED"
    assert local.list() == []


@pytest.mark.parametrize("kind", ["checkpoints", "artifact"])
def test_what_older_runs_have_not_finished_is_removed_and_nothing_else(store: Store, kind: Kind) -> None:
    begun = [Commit(run, 0, kind) for run in (1, 2, 3)]
    for each in begun:
        store.put(f"{each.path}/a", b"")
    write(store.child(begun[1].path))
    remove_unfinished(store, kind, before=3)
    left = {object_.path.rsplit("/a", 1)[0] for object_ in store.list() if object_.path.endswith("/a")}
    assert left == {begun[1].path, begun[2].path}


def test_a_store_lists_what_is_unfinished_once(azure: AzureAccount) -> None:
    job = Store.open(Location(uri="az://tests/real/job"))
    write(job.child(Commit(1, 2).path))
    with patch.object(Store, "list", autospec=True, side_effect=Store.list) as listed:
        remove_unfinished(job, "checkpoints", before=3)
    listed.assert_called_once()


def test_an_emptied_folder_that_stays_is_not_removed_again(azure: AzureAccount) -> None:
    azure.blobs["real/job/checkpoints/0001/step-00000002/"] = b""  # as Data Lake Storage has it
    with patch("pretune_trainer.storage.commit.remove") as removed:
        remove_unfinished(Store.open(Location(uri="az://tests/real/job")), "checkpoints", before=3)
    removed.assert_not_called()


def test_a_folder_without_a_manifest_has_the_digest_of_the_one_that_it_would_have(store: Store) -> None:
    files = [store.put("config.json", b"{}"), store.put("sub/model.safetensors", b"weights")]
    manifest = manifest_of(store)
    assert manifest == Manifest(content="artifact", files=files)
    commit(store, manifest, lambda: None)
    assert manifest_of(store).digest == manifest.digest, "and committing it changes nothing"


def test_another_content_has_another_digest(store: Store) -> None:
    store.put("config.json", b"{}")
    digest = manifest_of(store).digest
    store.put("config.json", b"{ }")
    assert manifest_of(store).digest != digest


def test_a_committed_model_that_has_changed_is_refused(store: Store) -> None:
    write(store)
    store.put("a", b"weightz")
    with pytest.raises(DamagedError, match="a has changed since it was committed"):
        manifest_of(store)


def test_an_empty_folder_is_no_model(store: Store) -> None:
    with pytest.raises(MissingObjectError, match="the folder is empty; check the URI"):
        manifest_of(store)
