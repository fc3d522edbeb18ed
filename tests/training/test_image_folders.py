"""Captions in a file beside the images, as Hugging Face's imagefolder has them, are as good as in Parquet."""

import csv
import json
from pathlib import Path

import pytest

from pretune_api.data import Source
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.sources import OpenedSource
from pretune_trainer.errors import BadRowError, UserError
from support.pairs import matched, write_pairs
from support.pairs import rows as pairs
from support.runs import gathered

Pair = dict[str, object]


def write_folder(folder: Path, form: str) -> str:
    """Some pairs as files, captions in metadata; the folder's URI."""
    (folder / "train").mkdir(parents=True)
    found = []
    for number, pair in enumerate(pairs(1, 1)[:40]):
        name = f"train/{number:04}.png"
        (folder / name).write_bytes(pair["image"]["bytes"])
        found.append({"file_name": name, "text": pair["text"], "label": pair["label"]})
    with (folder / f"metadata.{form}").open("w", newline="") as file:
        if form == "csv":
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        else:
            file.writelines(json.dumps(row) + "\n" for row in found)
    return folder.as_uri()


def read(uri: str, column: str = "text") -> list[Pair]:
    opened = OpenedSource(Source(uri=uri, column=column), "spec.data.train[0]")
    found = [row for unit in units(opened, 0, opened.files()) for row in rows(opened, unit)]
    return [{**row.values, "own": row.column} for row in found]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_each_image_comes_once_with_its_caption(tmp_path: Path, form: str) -> None:
    found = read(write_folder(tmp_path, form))
    expected = pairs(1, 1)[:40]
    assert [(row["image"], row["text"], row["label"]) for row in found] == [
        (pair["image"]["bytes"], pair["text"], pair["label"]) for pair in expected
    ]
    assert {row["own"] for row in found} == {"text"}
    assert {row["own"] for row in read(tmp_path.as_uri(), column="image")} == {"image"}


def test_images_match_captions_of_a_folder_as_those_of_parquet(tmp_path: Path) -> None:
    uris = [write_folder(tmp_path / "files", "jsonl"), write_pairs(tmp_path / "pairs.parquet", pairs(1, 1)[:40])]
    words = {"train": {"algorithm": "bpe", "vocabSize": 300}}
    caches = [gathered(matched(tmp_path / str(at), uri, tokenizer=words)).cache for at, uri in enumerate(uris)]
    first, second = (
        [source.example(index) for source in [*cache.train, *cache.validation] for index in range(len(source))]
        for cache in caches
    )
    assert [(a["ids"].tolist(), a["file"].tobytes()) for a in first] == [
        (b["ids"].tolist(), b["file"].tobytes()) for b in second
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.png", "metadata.jsonl row 1: there is no gone.png next to it"),
        (
            "../other/0001.png",
            r"row 1: 'file_name' is '../other/0001.png'; expected the path of an image, relative to this folder",
        ),
        (None, "row 1: 'file_name' is null; expected the path of an image, relative to this folder"),
        (".", "row 1: file:///.* cannot be read; .*is a directory"),
    ],
)
def test_a_row_without_its_image_is_named(tmp_path: Path, name: str | None, says: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "a red circle"}))
    with pytest.raises(UserError, match=says):
        read(tmp_path.as_uri())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "file_name,text\na.png,red,blue\n",
            "row 1: there are 3 fields, but the header has 2; quote fields with commas",
        ),
        ("file_name,text\na.png,red\na.png\n", "row 2: there are 1 fields, but the header has 2"),
        ("file_name;text\na.png;red\n", "row 1: there is no column 'file_name'; known: file_name;text"),
        (
            'file_name,text\na.png,"red\na.png,blue\n',
            r"row 1: the CSV is not valid \(unexpected end of data\); quote fields",
        ),
        ("file_name,text\ra.png,red\r", r"row 1: the CSV is not valid \(new-line character seen in unquoted field\); "),
    ],
    ids=["more", "fewer", "semicolons", "quote", "line ends"],
)
def test_a_csv_that_is_none_is_named_with_its_row(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.png").write_bytes(b"an image")
    (tmp_path / "metadata.csv").write_text(content, newline="")
    with pytest.raises(BadRowError, match=f"metadata.csv {says}"):
        read(tmp_path.as_uri())
