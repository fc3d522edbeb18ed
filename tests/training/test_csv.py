"""CSV and TSV, as spreadsheets and libraries write them, give the rows that they hold, or say which one is wrong."""

import csv
import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.data.inputs import data_sources, fingerprint
from pretune_trainer.errors import UserError
from support.letters import Letters, data_of, make_cache, text_of
from support.sources import read, texts

Record = dict[str, str]
RECORDS: list[Record] = [
    {"text": "Arrived broken, and late.", "label": "bad"},
    {"text": 'They call it "new".\nIt is not.', "label": "bad"},
    {"text": "Größe passt\tgut", "label": "NA"},
]
TEXT = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=12)


def written(records: list[Record], **style: Any) -> bytes:
    """As Python's csv module writes them."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(records[0]), **style)
    writer.writeheader()
    writer.writerows(records)
    return content.getvalue().encode()


def values(path: Path) -> list[dict[str, object]]:
    return [dict(row.values) for row in read(path)]


def test_every_form_of_csv_gives_the_same_rows(tmp_path: Path) -> None:
    commas, tabs = written(RECORDS), written(RECORDS, delimiter="\t", lineterminator="\n")
    forms = {
        "a.csv": commas,
        "bom.csv": b"\xef\xbb\xbf" + commas,
        "A.CSV": commas,
        "a.csv.gz": gzip.compress(commas),
        "a.csv.zst": pa.compress(commas, "zstd", asbytes=True),
        "a.tsv": tabs,
        "a.tsv.gz": gzip.compress(tabs),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        assert values(tmp_path / name) == RECORDS, name
    (tmp_path / "export").write_bytes(commas)
    assert texts(tmp_path / "export", format="csv") == [record["text"] for record in RECORDS]


@given(st.lists(st.tuples(TEXT, TEXT).filter(any), min_size=1, max_size=8), st.sampled_from([",", "\t"]))
def test_what_is_written_is_read(found: list[tuple[str, str]], delimiter: str) -> None:
    records = [{"text": text, "label": label} for text, label in found]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv" if delimiter == "\t" else "a.csv")
        path.write_bytes(written(records, delimiter=delimiter))
        assert values(path) == records


def test_what_spreadsheets_leave_around_a_table_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n,text,label,,\n\n0,one,good,,\n,,,,\n1,two,bad,,\n,,,,\n")
    assert values(tmp_path / "a.csv") == [{"text": "one", "label": "good"}, {"text": "two", "label": "bad"}]
    assert [row.place.row for row in read(tmp_path / "a.csv")] == [2, 4]


def test_a_document_may_be_as_long_as_it_is(tmp_path: Path) -> None:
    wanted = ["word, " * 500_000, "short"]
    (tmp_path / "a.csv").write_bytes(written([{"text": text} for text in wanted]))
    assert texts(tmp_path / "a.csv") == wanted


def test_what_an_open_quote_swallows_has_a_bound(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\na\n"b\n' + "c\n" * 100)
    before = csv.field_size_limit(100)
    try:
        with pytest.raises(
            UserError, match=r"a.csv row 2: the CSV is not valid \(field larger than field limit \(100\)\)"
        ):
            texts(tmp_path / "a.csv")
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"text,label\na,x\nb\n", "row 2: there are 1 fields, but the header has 2; quote fields with commas"),
        ("a.csv", b'text\n"a" b\n', "row 1: the CSV is not valid (',' expected after '\"'); quote fields with commas"),
        (
            "a.tsv",
            b'text\tlabel\n"a" b\tx\n',
            "row 1: the CSV is not valid ('\\t' expected after '\"'); quote fields with tabs",
        ),
        (
            "a.csv",
            b'text\na\n"b\nc\n',
            "row 2: the CSV is not valid (unexpected end of data); quote fields with commas",
        ),
        ("a.csv", b'text\n"a\nb"\nc\nd\xff\n', "row 3: byte 2 is not valid UTF-8; convert the file to UTF-8"),
        ("a.csv", "text\na\n".encode("utf-16"), "row 1: it is UTF-16; convert it to UTF-8"),
        ("a.csv", gzip.compress(b"text\na\n"), "row 1: it is compressed with gzip; unpack it, or rename it"),
        ("a.csv", b"body,label\na,x\n", "row 1: there is no column 'text'; known: body, label"),
        ("a.csv", b"text;label\na;x\n", "row 1: there is no column 'text'; known: text;label"),
        ("a.csv", b"text,label,text\na,x,b\n", "header: there are 2 columns 'text'; rename or remove all but one"),
        ("a.csv", b"w" * 500 + b"\nb\n", f"row 1: there is no column 'text'; known: {'w' * 99}…"),
    ],
)
def test_bad_csv_is_named_with_its_row(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        texts(tmp_path / name)
    assert f"{name} {says}" in str(caught.value)


def test_metadata_beside_images_stays_what_is_known_of_them_unless_the_source_is_csv(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,red\n")
    (tmp_path / "a.png").write_bytes(b"an image")
    assert [row.values["image"] for row in read(tmp_path)] == [b"an image"]
    assert values_of_csv(tmp_path / "metadata.csv") == [{"file_name": "a.png", "text": "red"}]


@pytest.mark.parametrize(("media", "table"), [("a.png", "labels.csv"), ("clips/a.wav", "validated.tsv")])
def test_a_table_among_images_or_audio_is_told_from_data(tmp_path: Path, media: str, table: str) -> None:
    for name in (media, table):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("file,label\na,b\n")
    with pytest.raises(UserError, match=rf"{table} is a table among images or audio, .* leave it out with a glob"):
        read(tmp_path)
    assert values_of_csv(tmp_path / table)


def values_of_csv(path: Path) -> list[dict[str, object]]:
    return [dict(row.values) for row in read(path, format="csv")]


def test_another_way_of_reading_is_other_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    found = [
        data_sources(data_of({"uri": f"file://{tmp_path}/a.csv", "format": form})) for form in (None, "csv", "text")
    ]
    by_name, named, as_text = (fingerprint(each, [source.opened.files() for source in each]) for each in found)
    assert by_name == named != as_text


def test_a_cache_holds_each_record_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(written(RECORDS))
    (train,) = make_cache(tmp_path, data_of(tmp_path / "a.csv"), Letters()).train
    assert "".join(text_of(train.example(index)) for index in range(len(train))) == "".join(
        record["text"] for record in RECORDS
    )
