"""A folder in a store: the same promises on this machine's disk, on a real S3 endpoint, on Azure and Google."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from pretune_api.storage import Location
from pretune_trainer.errors import MissingObjectError, ObjectExistsError, StorageDeniedError, StorageError
from pretune_trainer.storage import store as storage
from pretune_trainer.storage.client import Patience
from pretune_trainer.storage.commit import manifest_of
from pretune_trainer.storage.store import Object, Store
from support.azure import AzureAccount
from support.faulty_proxy import proxy
from support.google import GoogleStore
from support.s3 import BUCKET, S3Server

HURRIED = Patience(connect_seconds=0.5, request_seconds=0.5, total_seconds=0.5)


@pytest.fixture
def small_parts() -> Iterator[int]:
    """Parts of 64 KiB, so that a megabyte goes in many."""
    with patch.object(storage, "PART", 65_536):
        yield 65_536


def test_what_was_put_is_read_back_with_its_size_and_digest(store: Store) -> None:
    file = store.put("a/b.bin", b"content")
    assert store.get("a/b.bin") == b"content"
    assert (file.path, file.size, file.sha256) == ("a/b.bin", 7, hashlib.sha256(b"content").hexdigest())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_001])
def test_chunks_are_streamed_in_parts_and_arrive_whole(store: Store, small_parts: int, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    file = store.put("large", [content[start : start + 100_003] for start in range(0, size, 100_003)])
    assert file.size == size
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert b"".join(store.stream("large", size)) == content


def test_a_local_file_is_put(store: Store, tmp_path: Path, small_parts: int) -> None:
    content = b"0123456789" * 30_000
    (tmp_path / "source").write_bytes(content)
    assert store.put("folder/file", tmp_path / "source").sha256 == hashlib.sha256(content).hexdigest()
    assert store.get("folder/file") == content


def test_an_object_whose_chunks_fail_half_way_does_not_appear(store: Store, small_parts: int) -> None:
    class Failing(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            yield b"x" * 300_000
            raise RuntimeError("the source has failed")

    with pytest.raises(RuntimeError, match="the source has failed"):
        store.put("half", Failing())
    assert not store.exists("half")
    assert store.list() == []


def test_a_replaced_object_has_the_new_content(store: Store) -> None:
    store.put("name", b"old")
    store.put("name", b"new and longer")
    assert store.get("name") == b"new and longer"


def test_ranges_of_an_object_are_read(store: Store) -> None:
    store.put("letters", b"abcdefghij")
    assert bytes(store.get_range("letters", 2, 3)) == b"cde"
    assert bytes(store.get_range("letters", 0, 10)) == b"abcdefghij"
    assert [bytes(part) for part in store.get_ranges("letters", [(8, 2), (0, 1)])] == [b"ij", b"a"]


def test_objects_are_listed_below_their_folder_only(store: Store) -> None:
    for path in ("runs/1", "runs/2/deep", "runs-too/3", "top"):
        store.put(path, b"12")
    assert store.list("runs") == [Object("runs/1", 2), Object("runs/2/deep", 2)]
    assert store.child("runs").list() == [Object("1", 2), Object("2/deep", 2)]
    assert store.list("nothing") == []


def test_folders_are_those_right_below(store: Store) -> None:
    for path in ("a/b/c/1", "a/b/2", "a/d/3", "a/4"):
        store.put(path, b"")
    assert store.folders() == ["a"]
    assert store.folders("a") == ["a/b", "a/d"]


@pytest.mark.parametrize("scheme", ["az", "gs"])
def test_empty_objects_that_stand_for_folders_are_no_files(
    azure: AzureAccount, google: GoogleStore, scheme: str
) -> None:
    made = {"empty/": b"", "llama/": b"", "llama/1_Pooling/": b"", "llama/1_Pooling/config.json": b"{}"}
    azure.blobs |= made | {"llama/config.json": b"{}"}
    google.objects |= made | {"llama/config.json": b"{}"}
    llama = Store.open(Location(uri=f"{scheme}://tests/llama"))
    assert [found.path for found in llama.list()] == ["1_Pooling/config.json", "config.json"]
    assert [found.path for found in llama.list_here()] == ["config.json"]
    assert [file.path for file in manifest_of(llama).files] == ["1_Pooling/config.json", "config.json"]
    assert Store.open(Location(uri=f"{scheme}://tests/empty")).list() == []


def test_deleting_twice_is_deleting_once(store: Store) -> None:
    store.put("gone", b"")
    store.delete("gone")
    store.delete("gone")
    assert not store.exists("gone")


def test_a_missing_object_is_named(store: Store) -> None:
    for read in (store.get, store.size, lambda path: store.get_range(path, 0, 1)):
        with pytest.raises(MissingObjectError, match=f"^{store.uri}/no/where: cannot read: it does not exist"):
            read("no/where")


def test_an_object_is_created_once(store: Store) -> None:
    store.create("claim", b"mine")
    with pytest.raises(ObjectExistsError, match="claim: cannot create: it already exists"):
        store.create("claim", b"theirs")
    assert store.get("claim") == b"mine"


def test_creating_the_same_content_again_is_the_answer_to_a_lost_answer(store: Store) -> None:
    store.create("claim", b"mine")
    store.create("claim", b"mine")
    assert store.get("claim") == b"mine"


def test_the_store_is_asked_whether_it_honours_conditional_puts(local: Store, s3: S3Server) -> None:
    assert local.guarantees_create
    remote = Store.open(s3.new_folder())
    assert not remote.guarantees_create, "rclone ignores If-None-Match"
    assert local.list() == remote.list() == [], "the probe is removed"


def test_a_store_is_asked_once(local: Store) -> None:
    with patch.object(storage.Store, "_probe", return_value=True) as probe:
        assert local.guarantees_create
        assert local.child("below").guarantees_create
    probe.assert_called_once()


def test_names_are_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20é#x"
    Store.open(Location(uri=folder.as_uri())).put("c d%25", b"1")
    assert (folder / "c d%25").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["api/tokens", "latest/api/token", "NoSuchBucket", "token"])
def test_a_path_is_not_taken_for_an_error(s3: S3Server, path: str) -> None:
    store = Store.open(s3.location(f"{BUCKET}/{path}"))
    assert not store.exists("nothing")
    with pytest.raises(MissingObjectError):
        store.get("nothing")


def test_slashes_too_many_are_one_on_a_file_system(tmp_path: Path) -> None:
    Store.open(Location(uri=f"file://{tmp_path}//store//")).put("x", b"1")
    assert (tmp_path / "store" / "x").read_bytes() == b"1"


@pytest.mark.parametrize("uri", ["s3://bucket/a//b", "s3://bucket/a/../b", "file:///folder/../other"])
def test_a_path_that_no_store_takes_is_refused_in_words(uri: str) -> None:
    with pytest.raises(StorageDeniedError, match=r"cannot open: a path must not have //, \. or \.\. in it"):
        Store.open(Location(uri=uri))


def test_an_unreachable_store_is_given_up_within_its_time() -> None:
    location = Location(uri="s3://bucket/folder", endpoint="http://127.0.0.1:1", region="us-east-1")
    with pytest.raises(StorageError, match="s3://bucket/folder/x: cannot write: the store cannot be reached") as caught:
        Store.open(location, HURRIED).put("x", b"1")
    assert not isinstance(caught.value, StorageDeniedError)


def test_wrong_credentials_are_told_from_missing_rights(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageDeniedError, match="the credentials are wrong; check AWS_ACCESS_KEY_ID"):
        Store.open(s3.new_folder()).put("x", b"1")


@pytest.mark.parametrize("missing", [["AWS_ACCESS_KEY_ID"], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]])
def test_missing_credentials_are_told_from_wrong_ones(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    for name in missing:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StorageDeniedError, match="no credentials were found; set AWS_ACCESS_KEY_ID"):
        Store.open(s3.new_folder(), HURRIED).put("x", b"1")


def test_an_account_that_is_not_named_is_told_from_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.setenv(name, "of the pod's identity")
    with pytest.raises(StorageDeniedError, match=r"^az://container/folder: cannot open: no storage account is named"):
        Store.open(Location(uri="az://container/folder"))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_credentials_with_a_line_break_are_named(s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f"{os.environ[name]}\n")
    with pytest.raises(StorageDeniedError, match=f"{name} begins or ends with a blank or a line break"):
        Store.open(s3.new_folder())


def test_credentials_of_a_store_that_is_not_asked_are_not_looked_at(
    tmp_path: Path, azure: AzureAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key\n")
    for location in (Location(uri=f"file://{tmp_path}"), azure.new_folder()):
        store = Store.open(location)
        store.put("x", b"1")
        assert store.get("x") == b"1"


def test_an_endpoint_is_where_an_account_of_azure_is(azure: AzureAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = os.environ["AZURE_STORAGE_ENDPOINT"]
    monkeypatch.delenv("AZURE_STORAGE_ENDPOINT")
    Store.open(azure.new_folder().model_copy(update={"endpoint": elsewhere})).put("x", b"1")
    assert [*azure.blobs.values()] == [b"1"]


def test_an_endpoint_is_where_google_s_store_is(google: GoogleStore, tmp_path: Path) -> None:
    key = json.loads((tmp_path / "google.json").read_text())
    elsewhere = key.pop("gcs_base_url")
    (tmp_path / "google.json").write_text(json.dumps(key))
    Store.open(google.new_folder().model_copy(update={"endpoint": elsewhere})).put("x", b"1")
    assert [*google.objects.values()] == [b"1"]


def test_a_key_of_azure_that_is_none_is_named(azure: AzureAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no key")
    with pytest.raises(StorageDeniedError, match="the credentials are wrong; check AZURE_STORAGE_ACCOUNT_NAME and"):
        Store.open(azure.new_folder())


def test_a_file_that_is_no_key_of_a_service_account_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    for name in ("key.json", "missing.json"):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / name))
        with pytest.raises(StorageDeniedError, match="GOOGLE_APPLICATION_CREDENTIALS does not name the key"):
            Store.open(Location(uri="gs://models/team"))


def test_a_federated_identity_of_google_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"type": "external_account"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(StorageDeniedError, match=r"names a federated identity \(external_account\)"):
        Store.open(Location(uri="gs://models/team"))


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("s3://models/team", {"AWS_WEB_IDENTITY_TOKEN_FILE": "TOKEN", "AWS_ROLE_ARN": "arn:aws:iam::1:role/trainer"}),
        (
            "az://models/team",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": "example",
                "AZURE_FEDERATED_TOKEN_FILE": "TOKEN",
                "AZURE_CLIENT_ID": "client",
                "AZURE_TENANT_ID": "tenant",
            },
        ),
    ],
)
def test_a_pods_identity_whose_token_is_missing_is_named(
    uri: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("TOKEN", str(tmp_path / "none")))
    with pytest.raises(StorageDeniedError, match="the token of the pod's identity, which AWS_WEB_IDENTITY_TOKEN_FILE"):
        Store.open(Location(uri=uri)).list()


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_that_refuses_whatever_is_asked_is_not_taken_for_an_outage(s3: S3Server, status: int) -> None:
    with proxy(s3.endpoint) as refusing:
        refusing.refuses = status
        store = Store.open(Location(uri=f"s3://{BUCKET}/x", endpoint=refusing.endpoint, region="us-east-1"), HURRIED)
        uses = (store.list, store.folders, lambda: store.put("x", b"1"), lambda: store.get("x"))
        for use in uses:
            with pytest.raises(StorageDeniedError, match="access denied; check the credentials and permissions"):
                use()
        assert len(refusing.requests) == len(uses), "nothing is asked twice"


def test_a_missing_bucket_is_told_from_a_missing_object(s3: S3Server) -> None:
    store = Store.open(s3.location("no-such-bucket/folder"))
    for use in (lambda: store.put("x", b"1"), lambda: store.get("x"), store.list):
        with pytest.raises(StorageDeniedError, match="the bucket does not exist; create it, or correct the URI"):
            use()
    assert not Store.open(s3.location(f"{BUCKET}/folder")).exists("x")


def test_a_file_in_the_place_of_a_folder_is_named(local: Store) -> None:
    local.put("name", b"")
    with pytest.raises(StorageDeniedError, match="name/below: cannot write: there is a file where a folder is needed"):
        local.put("name/below", b"")


def test_a_folder_that_cannot_be_made_is_named_at_once() -> None:
    store = Store.open(Location(uri="file:///proc/folder"))
    with pytest.raises(StorageDeniedError, match=r"/proc/folder/\.probe-.*: its folder cannot be created; correct"):
        assert store.guarantees_create


_ON_A_DISK_OF_ONE_MEGABYTE = """
import subprocess, sys
from pretune_api.storage import Location
from pretune_trainer.storage.store import Store
folder, options = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
store = Store.open(Location(uri=f"file://{folder}"))
try:
    store.put("shard", [b"x" * 100_000] * 30)
except Exception as error:
    print(type(error).__name__, error)
print(store.list())
"""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("size=1m", "StorageError file://{}/shard: cannot write: the disk is full; free some space"),
        ("ro", "StorageDeniedError file://{}/shard: cannot write: permission denied; check the folder's owner"),
    ],
)
def test_a_full_disk_and_a_read_only_one_are_named(tmp_path: Path, options: str, sentence: str) -> None:
    script = [sys.executable, "-c", _ON_A_DISK_OF_ONE_MEGABYTE, str(tmp_path), options]
    # A mount of its own in a namespace of its own: real, and gone with the process; no rights are needed for it.
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", *script], capture_output=True, text=True, check=True
    )
    said, left = done.stdout.splitlines()
    assert said.startswith(sentence.format(tmp_path))
    assert left == "[]"
