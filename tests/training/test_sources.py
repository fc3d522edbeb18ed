"""What is read of files, whatever their format, and what is said of those that cannot be read."""

import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretune_trainer.data import readers
from pretune_trainer.data.readers import rows, units
from pretune_trainer.errors import BadRowError, UserError
from support.letters import write_jsonl
from support.sources import opened, read, texts


def write_parquet(path: Path, table: dict[str, list[Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, **options)
    return path


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    wanted = ["one", "zwei ü", "", "four"]
    write_jsonl(tmp_path / "a.jsonl", wanted)
    content = (tmp_path / "a.jsonl").read_bytes()
    for name in ("a.jsonl.gz", "B.JSONL.GZ"):
        (tmp_path / name).write_bytes(gzip.compress(content))
    (tmp_path / "a.jsonl.zst").write_bytes(pa.compress(content, "zstd", asbytes=True))
    write_parquet(tmp_path / "a.parquet", {"other": [1, 2, 3, 4], "text": wanted}, row_group_size=2)
    (tmp_path / "a.txt").write_bytes("\r\n".join(wanted).encode() + b"\r\n")
    for name in ("a.jsonl", "a.jsonl.gz", "B.JSONL.GZ", "a.jsonl.zst", "a.parquet"):
        assert texts(tmp_path / name) == wanted
    assert texts(tmp_path / "a.txt", document="line") == wanted
    assert texts(tmp_path / "a.txt") == ["\r\n".join(wanted) + "\r\n"]


def test_a_row_knows_where_it_stands(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": list("abcdef")}, row_group_size=2)
    assert str(read(path)[4].place) == f"file://{path} row 5"
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert [row.place.row for row in read(path)] == [1, 3]


def test_row_groups_are_shared_out_and_keep_their_row_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": list("abcdefg")}, row_group_size=2)
    monkeypatch.setattr("pretune_trainer.data.readers._UNIT", 1)
    source = opened(path)
    found = units(source, 0, source.files())
    assert [(unit.groups, unit.first) for unit in found] == [((0, 1), 1), ((1, 2), 3), ((2, 3), 5), ((3, 4), 7)]
    groups = pq.ParquetFile(path).metadata
    assert [unit.size for unit in found] == [groups.row_group(number).total_byte_size for number in range(4)]
    assert [(row.text(), row.place.row) for unit in found for row in rows(source, unit)] == [
        (letter, number) for number, letter in enumerate("abcdefg", start=1)
    ]


def test_what_a_source_says_of_all_its_rows_is_said_of_each_whatever_its_files_have(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "language": "en"}\n{"text": "b"}\n')
    assert [row.value("language") for row in read(path, values={"language": "de"})] == ["de", "de"]


def test_of_parquet_only_wanted_columns_are_read(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"], "label": ["x"], "image": [b"large"]})
    assert [set(row.values) for row in read(path, columns=("label",))] == [{"text", "label"}]


def test_whoever_names_a_column_that_parquet_has_not_is_told_of_all_that_it_has(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"], "label": ["x"], "other": ["b"]})
    (row,) = read(path, columns=("label", "second"))
    with pytest.raises(BadRowError, match=r"a\.parquet row 1: there is no column 'second'; known: label, other, text$"):
        row.value("second")


def test_a_line_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    wanted = ["x" * 3_000_000, "short", "y" * 1_500_000]
    assert texts(write_jsonl(tmp_path / "a.jsonl", wanted)) == wanted


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20])
    return path


def damaged_gzip(folder: Path) -> Path:
    path = folder / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": "a" * 1000}).encode()))
    return truncated(path)


def bytes_file(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


GOOD, LIST = b'{"text": "a"}\n', b'["a"]\n'


@pytest.mark.parametrize(
    ("write", "fields", "sentence"),
    [
        (lambda folder: folder / "nothing", {}, "spec.data.train[0].uri: file://{uri} matches no file"),
        (lambda folder: folder / "*.jsonl", {}, "spec.data.train[0].uri: file://{uri} matches no file"),
        (bytes_file("a.xyz", b""), {}, "the format of file://{uri} is not clear from its name; set format"),
        (bytes_file("a.jsonl", GOOD + b'{"text": \n'), {}, "{uri} row 2: the line is not valid JSON (Expecting value"),
        (bytes_file("a.jsonl", GOOD + LIST), {}, "row 2: the line holds a JSON list; expected one object per line"),
        (bytes_file("a.jsonl", b'{"text": "\xff"}\n'), {}, "row 1: byte 11 is not valid UTF-8"),
        (bytes_file("a.txt", b"a\nb\xffc\n"), {"document": "line"}, "row 2: byte 2 is not valid UTF-8"),
        (bytes_file("a.jsonl", b'{"text": "a\0"}\n'), {}, "row 1: the line has NUL characters; is the file UTF-16"),
        (bytes_file("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}"), {}, "row 1: a number with thousands of digits"),
        (bytes_file("a.jsonl", b'{"text": ' + b"[" * 10**5), {}, "row 1: a number with thousands of digits, or lists"),
        (bytes_file("a.jsonl", b"{}"), {}, "row 1: there is no column 'text'; known: none"),
        (bytes_file("a.jsonl", GOOD), {"column": "body"}, "row 1: there is no column 'body'; known: text"),
        (bytes_file("a.jsonl", b'{"text": 3}'), {}, "row 1: column 'text' holds int, expected text"),
        (damaged_gzip, {}, "spec.data.train[0].uri: file://{uri} cannot be read; is it truncated or damaged?"),
        (
            bytes_file("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
            {},
            "spec.data.train[0].uri: file://{uri} is a pointer of Git LFS; run git lfs pull to fetch what it",
        ),
        (
            bytes_file("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
            {},
            "spec.data.train[0].uri: file://{uri} is a pointer of Git LFS; run git lfs pull to fetch what it",
        ),
        (bytes_file("a.parquet", b"PAR1 and no more"), {}, "file://{uri} cannot be read; is it truncated or damaged?"),
        (
            lambda folder: truncated(write_parquet(folder / "a.parquet", {"text": ["a"]})),
            {},
            "spec.data.train[0].uri: file://{uri} cannot be read; is it truncated or damaged?",
        ),
        (
            bytes_file("a.parquet.gz", b""),
            {},
            "file://{uri} is Parquet compressed with gzip, which cannot be read; unpack",
        ),
        (
            lambda folder: write_parquet(folder / "a.parquet", {"text": pa.array([2**62], pa.timestamp("us"))}),
            {},
            "row 1 and following: a time or a number cannot be read: date value out of range",
        ),
        (
            lambda folder: write_parquet(folder / "a.parquet", {"b": [1], "a": [2]}),
            {},
            "spec.data.train[0].column: file://{uri} has no column 'text'; it has: a, b",
        ),
        (
            lambda folder: write_parquet(folder / "a.parquet", {"text": [1.5]}),
            {},
            "row 1: column 'text' holds float, expected text",
        ),
    ],
)
def test_bad_input_is_named_in_a_sentence(
    tmp_path: Path, write: Callable[[Path], Path], fields: dict[str, Any], sentence: str
) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError) as caught:
        texts(path, **fields)
    assert sentence.format(uri=path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (gzip.compress, "it is compressed with gzip; unpack it, or rename it to end in .gz"),
        (
            lambda text: pa.compress(text, "zstd", asbytes=True),
            "it is compressed with zstd; unpack it, or rename it to end in .zst",
        ),
        (lzma.compress, "it is compressed with xz; unpack it, or compress it with gzip or zstd"),
        (lambda text: text.decode().encode("utf-16"), "it is UTF-16; convert it to UTF-8"),
        (lambda _: b"PAR1\xff", "it is Parquet; rename it to end in .parquet, or set format"),
    ],
    ids=["gzip", "zstd", "xz", "utf-16", "parquet"],
)
def test_what_is_no_text_is_told_by_how_it_begins(
    tmp_path: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    for name in ("a.jsonl", "a.txt"):
        (tmp_path / name).write_bytes(change(GOOD))
        with pytest.raises(UserError, match=rf"/{name} row 1: {sentence}"):
            texts(tmp_path / name)


def test_a_file_that_goes_while_a_job_reads_is_no_damaged_one(tmp_path: Path) -> None:
    source = opened(write_jsonl(tmp_path / "a.jsonl", ["a"]))
    (unit,) = units(source, 0, source.files())
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(UserError, match=r"a.jsonl is gone since the source was listed; keep it while a job reads it"):
        list(rows(source, unit))


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_small_files_are_read_in_runs_and_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    for kind in ("text", "jsonl"):
        monkeypatch.setitem(readers._BY_RUNS, kind, 40)
    written = {
        "a": "one",
        "b": "two",
        "c": "longer by itself than a run of small files may be",
        "d": "four",
        "e": "five",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.{form}").write_text(text if form == "txt" else json.dumps({"text": text}))
    source = opened(tmp_path, document="line")
    found = units(source, 0, source.files())
    assert [len(unit.files) for unit in found] == [2, 1, 2]
    assert [(row.text(), str(row.place)) for unit in found for row in rows(source, unit)] == [
        (text, f"file://{tmp_path}/{name}.{form} row 1") for name, text in written.items()
    ]
    (tmp_path / f"b.{form}").write_bytes(b"\xff")
    with pytest.raises(UserError, match=rf"b.{form} row 1: byte 1 is not valid UTF-8"):
        list(rows(source, found[0]))


def test_small_files_are_read_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"image")
    together, whole = Barrier(8), readers._whole
    monkeypatch.setattr(readers, "_whole", lambda *asked: (together.wait(60), whole(*asked))[1])
    assert [row.place.uri[-5:] for row in read(tmp_path)] == [f"{number}.png" for number in range(8)]


PEAK = """
import resource, sys
from pretune_api.data import Source
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.sources import OpenedSource
def read(uri):
    source = OpenedSource(Source(uri=uri), "")
    return sum(len(row.text()) for unit in units(source, 0, source.files()) for row in rows(source, unit))
read(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = read(sys.argv[1])
print(size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("form", ["jsonl.gz", "parquet"])
def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"large.{form}"
    many = ["word " * 2000] * 6_000
    if form == "parquet":
        distinct = [f"{number} {text}" for number, text in enumerate(many)]
        write_parquet(path, {"text": distinct}, compression="zstd", use_dictionary=False, data_page_size=2**16)
        write_parquet(tmp_path / "small.parquet", {"text": distinct[:300]})
    else:
        path.write_bytes(gzip.compress(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in many), 1))
        (tmp_path / "small.jsonl.gz").write_bytes(gzip.compress(GOOD))
    command = [sys.executable, "-c", PEAK, f"file://{path}", f"file://{tmp_path}/small.{form}"]
    size, grown = map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    assert size >= 60_000_000
    assert grown < 25_000_000
