"""Which files a URI names, and that they lie apart from what the job writes."""

import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretune_api.data import Data, Source
from pretune_api.storage import Storage
from pretune_cli.documents import file_uri
from pretune_trainer.data import sources
from pretune_trainer.data.inputs import data_sources, fingerprint
from pretune_trainer.data.storage_overlap import check_storage_overlap
from pretune_trainer.errors import UserError
from support.letters import data_of, write_jsonl
from support.sources import opened, read, texts


def test_files_come_in_order_of_their_paths_and_markers_of_other_tools_are_left_out(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a.jsonl", "b/1.jsonl", "_SUCCESS", ".hidden/x.jsonl", "b/.1.jsonl.crc"):
        write_jsonl(tmp_path / name, [name])
    assert texts(tmp_path) == ["a.jsonl", "b/1.jsonl", "b/2.jsonl"]
    assert [file.name for file in opened(tmp_path).files()] == ["a.jsonl", "b/1.jsonl", "b/2.jsonl"]


def test_the_folder_of_a_source_may_be_hidden_itself(tmp_path: Path) -> None:
    write_jsonl(tmp_path / ".cache" / "_corpus" / "a.jsonl", ["a"])
    assert texts(tmp_path / ".cache" / "_corpus") == ["a"]


@pytest.mark.parametrize(
    ("history", "kind"), [("_delta_log/00000.json", "Delta"), ("t/.hoodie/hoodie.properties", "Hudi")]
)
def test_a_table_with_older_versions_is_refused_as_a_folder_and_read_by_a_glob(
    tmp_path: Path, history: str, kind: str
) -> None:
    for name in ("a.jsonl", history):
        write_jsonl(tmp_path / name, [name])
    with pytest.raises(UserError, match=rf"train\[0\].uri: file://{tmp_path} is a {kind} table, whose folder also has"):
        texts(tmp_path)
    assert texts(tmp_path / "*.jsonl") == ["a.jsonl"]


def test_the_glob_that_is_advised_for_a_table_reads_nothing_of_its_history(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    for name, column in {"a": "text", "_delta_log/00010.checkpoint": "add"}.items():
        pq.write_table(pa.table({column: [name]}), tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match="is a Delta table") as refused:
        texts(tmp_path)
    advised = re.findall(r"such as (\S+)", refused.value.sentence)[0].rstrip(",")
    assert texts(tmp_path / advised) == ["a"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("*/*.jsonl", ["b/1.jsonl", "b/2.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "b/1.jsonl", "b/2.jsonl", "b/c/3.jsonl"]),
        ("b/[2-9].jsonl", ["b/2.jsonl"]),
        ("b/?.jsonl", ["b/1.jsonl", "b/2.jsonl"]),
        ("b/[!2-9].jsonl", ["b/1.jsonl"]),
        ("[!b]*.jsonl", ["a.jsonl"]),
        ("b/1.jsonl", ["b/1.jsonl"]),
        (".*.jsonl", [".a.jsonl"]),
        ("**/.copies/*.jsonl", ["b/.copies/1.jsonl"]),
        ("e[1].ndjson", ["e[1].ndjson"]),
    ],
)
def test_globs_are_those_of_a_shell(tmp_path: Path, glob: str, found: list[str]) -> None:
    hidden = (".a.jsonl", "b/.1.jsonl", "b/.copies/1.jsonl", "b/..jsonl")
    for name in ("a.jsonl", "b/1.jsonl", "b/2.jsonl", "b/c/3.jsonl", "e[1].ndjson", *hidden):
        write_jsonl(tmp_path / name, [name])
    assert texts(tmp_path / glob) == found


@pytest.mark.parametrize(("glob", "folders"), [("*.jsonl", [""]), ("*/2.jsonl", ["", "/b"]), ("**.jsonl", ["", "/b"])])
def test_folders_that_a_glob_cannot_reach_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, glob: str, folders: list[str]
) -> None:
    for name in ("a.jsonl", "b/2.jsonl"):
        write_jsonl(tmp_path / name, [name])
    seen: list[str] = []
    listed = sources._listed

    def noted(folder: str) -> list[str]:
        seen.append(folder)
        return listed(folder)

    monkeypatch.setattr(sources, "_listed", noted)
    assert opened(tmp_path / glob).files()
    assert seen == [f"{tmp_path}{folder}" for folder in folders]


def write_media(folder: Path) -> Path:
    """Two clips with what is said in them, and an image with metadata; of no use to whoever decodes them."""
    clips = {"a.wav": "", "a.txt": "one", "b.wav": "", "b.txt": "two", "notes.md": ""}
    photos = {"photos/metadata.jsonl": '{"file_name": "in/1.png", "text": "red"}', "photos/in/1.png": ""}
    for name, content in {**clips, **photos}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("uri", "fields", "names", "said"),
    [
        ("*.wav", {}, ["a.txt", "a.wav", "b.txt", "b.wav"], ["one", "two"]),
        ("*.[tw]*", {"format": "audio"}, ["a.txt", "a.wav", "b.txt", "b.wav"], ["one", "two"]),
        ("b.wav", {}, ["b.txt", "b.wav"], ["two"]),
        ("photos", {}, ["in/1.png", "metadata.jsonl"], ["red"]),
        ("photos", {"format": "image"}, ["in/1.png", "metadata.jsonl"], ["red"]),
        ("photos/*.jsonl", {}, ["in/1.png", "metadata.jsonl"], ["red"]),
        ("photos/metadata.jsonl", {}, ["in/1.png", "metadata.jsonl"], ["red"]),
    ],
)
def test_what_is_read_with_a_file_is_a_part_of_the_source(
    tmp_path: Path, uri: str, fields: dict[str, Any], names: list[str], said: list[str]
) -> None:
    folder = write_media(tmp_path)
    assert [file.name for file in opened(folder / uri, **fields).files()] == names
    assert [row.values["text"] for row in read(folder / uri, **fields)] == said


@pytest.mark.parametrize("fields", [{}, {"format": "audio"}], ids=str)
def test_a_transcript_whose_recording_is_missing_is_not_passed_over(tmp_path: Path, fields: dict[str, Any]) -> None:
    for name in ("a.1.wav", "a.1.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    assert [set(row.values) for row in read(tmp_path, **fields)] == [{"text"}, {"audio", "text"}]


def test_another_transcript_is_other_data(tmp_path: Path) -> None:
    sources = data_sources(data_of(write_media(tmp_path) / "*.wav"))
    before = fingerprint(sources, [source.opened.files() for source in sources])
    (tmp_path / "b.txt").write_text("three")
    assert fingerprint(sources, [source.opened.files() for source in sources]) != before


def test_a_file_that_is_written_anew_is_other_data_though_it_is_as_large(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["a"])
    sources, found = data_sources(data_of(path)), []
    for second in (1, 2):
        os.utime(path, (second, second))
        found.append(fingerprint(sources, [source.opened.files() for source in sources]))
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["100%.jsonl", "a%20b.jsonl", "a b.jsonl", "%41.jsonl"])
def test_the_name_of_a_local_file_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / name, [name])
    write_jsonl(tmp_path / unquote(name), [unquote(name)])
    assert texts(file_uri(name, tmp_path)) == [name]


@pytest.mark.parametrize("folder", ["[2026] all*", "what?", "50%5B"])
@pytest.mark.parametrize("written", ["corpus", "corpus/*.jsonl", "corpus/a.jsonl"])
def test_the_folder_of_a_jobs_file_is_no_glob(tmp_path: Path, folder: str, written: str) -> None:
    write_jsonl(tmp_path / folder / "corpus" / "a.jsonl", ["a"])
    assert texts(file_uri(written, tmp_path / folder)) == ["a"]


def test_a_folder_is_found_by_its_name_though_that_looks_like_a_glob(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "runs[1]" / "in" / "a.jsonl", ["a"])
    assert texts(tmp_path / "runs[1]") == ["a"]


def test_a_link_back_to_a_folder_around_it_gives_no_file_twice(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "apart" / "b.jsonl", ["b"])
    write_jsonl(tmp_path / "corpus" / "a.jsonl", ["a"])
    for name, target in (("current", "."), ("latest", "../corpus"), ("more", "../apart")):
        (tmp_path / "corpus" / name).symlink_to(target)
    assert texts(tmp_path / "corpus") == ["a", "b"]


def test_what_is_no_file_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind("b.jsonl")
        assert texts(tmp_path) == ["a"]


@pytest.mark.parametrize("uri", ["", "*.jsonl"])
def test_a_link_to_nothing_is_no_data(tmp_path: Path, uri: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    (tmp_path / ".#a.jsonl").symlink_to("an editor's lock")
    assert texts(tmp_path / uri) == ["a"]
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"b\.jsonl is a link to nothing; correct or remove it"):
        texts(tmp_path / uri)


@pytest.mark.parametrize(
    ("source", "storage", "is_apart"),
    [
        ("file:///here", "file:///here/out", False),
        ("file:///here/", "file:///here/", False),
        ("file:///", "file:///out", False),
        ("file:///here/**/*.jsonl", "file:///here/out", False),
        ("file:///out/team", "file:///out", False),
        ("s3://models", "s3://models/team-a", False),
        ("file:///here/*.jsonl", "file:///here", True),
        ("file:///here/data", "file:///here", True),
        ("file:///here/output", "file:///here/out", True),
        ("file:///here/data/**", "file:///here/out", True),
        ("s3://models/corpus", "s3://models", True),
        ("gs://models", "s3://models/team-a", True),
    ],
)
def test_a_source_lies_apart_from_what_the_job_writes(source: str, storage: str, is_apart: bool) -> None:
    data, where = Data(train=[Source(uri=source)]), Storage(uri=storage)
    if is_apart:
        check_storage_overlap(data, where, "team")
    else:
        with pytest.raises(UserError, match=r"spec.data.train\[0\].uri: .* overlaps with spec.storage.uri"):
            check_storage_overlap(data, where, "team")
