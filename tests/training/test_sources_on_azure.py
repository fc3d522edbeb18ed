import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretune_trainer.data import readers
from pretune_trainer.errors import StorageDeniedError, UserError
from pretune_trainer.storage.store import Store
from support.azure import CONTAINER, AzureAccount
from support.letters import write_jsonl
from support.sources import opened, read, texts


@pytest.fixture
def folder(azure: AzureAccount, tmp_path: Path) -> str:
    """The URI of one with a file of Parquet, and one of JSON lines below."""
    location = azure.new_folder()
    store = Store.open(location)
    pq.write_table(pa.table({"text": ["one", "two", "three"]}), tmp_path / "a.parquet", row_group_size=2)
    write_jsonl(tmp_path / "b.jsonl", ["four"] * 3)
    store.put("a.parquet", tmp_path / "a.parquet")
    store.put("below/b.jsonl.gz", gzip.compress((tmp_path / "b.jsonl").read_bytes()))
    return location.uri


def test_azure_gives_the_same_rows_as_a_folder(folder: str) -> None:
    assert texts(folder) == ["one", "two", "three", "four", "four", "four"]
    assert texts(f"{folder}/*.parquet") == ["one", "two", "three"]
    assert texts(f"{folder}/**/*.jsonl.gz") == texts(f"{folder}/below/b.jsonl.gz") == ["four", "four", "four"]
    assert str(read(folder)[4].place) == f"{folder}/below/b.jsonl.gz row 2"


def test_an_endpoint_is_where_the_account_is(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = os.environ["AZURE_STORAGE_ENDPOINT"]
    monkeypatch.delenv("AZURE_STORAGE_ENDPOINT")
    assert texts(f"{folder}/*.parquet", endpoint=elsewhere) == ["one", "two", "three"]


def test_a_file_is_told_from_one_that_replaces_it(folder: str) -> None:
    [file] = opened(f"{folder}/a.parquet").files()
    assert (file.name, file.modified) == ("a.parquet", 1_700_000_000 * 10**9)


def test_an_empty_object_under_the_name_of_a_folder_is_no_file_of_its_own(folder: str, azure: AzureAccount) -> None:
    for name in ("below", "with.point", "with.point/a.txt", "empty"):
        azure.blobs[f"{folder.split('/', 3)[3]}/{name}"] = b""
    assert texts(f"{folder}/below/") == ["four", "four", "four"]
    assert texts(folder) == ["one", "two", "three", "four", "four", "four", ""]


def test_where_folders_are_real_one_is_no_empty_file(azure: AzureAccount) -> None:
    azure.blobs["real/corpus/a.txt"] = b"one"
    assert texts(f"az://{CONTAINER}/real/corpus") == ["one"]


def test_what_is_not_there_is_named(folder: str) -> None:
    for uri in (f"{folder}/nothing", f"{folder}/*.txt", f"{folder[:-1]}"):
        with pytest.raises(UserError, match="matches no file; check the path"):
            texts(uri)
    with pytest.raises(StorageDeniedError, match="az://other/x: cannot list: the bucket does not exist; create it"):
        texts("az://other/x")


def test_a_file_that_goes_while_it_is_read_is_named(folder: str, azure: AzureAccount) -> None:
    source = opened(f"{folder}/a.parquet")
    files = source.files()
    azure.blobs.clear()
    with pytest.raises(UserError, match=r"a.parquet is gone since the source was listed; keep it"):
        readers.units(source, 0, files)


@pytest.mark.parametrize("status", [401, 403])
def test_a_container_that_refuses_is_told_at_once(folder: str, azure: AzureAccount, status: int) -> None:
    azure.refuses = status
    for uri in (folder, f"{folder}/*.parquet", f"{folder}/a.parquet"):
        with pytest.raises(StorageDeniedError, match="access denied; check the credentials and permissions"):
            texts(uri)


def test_a_path_that_no_store_takes_is_refused_in_words(azure: AzureAccount) -> None:
    with pytest.raises(StorageDeniedError, match="a path must not have //"):
        texts(f"az://{CONTAINER}/a//b.txt")
