"""Labels that Hugging Face's datasets library wrote to Parquet as numbers are the names that it wrote beside them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pretune_api.tasks import SequenceClassification, SequenceRegression, TokenClassification
from pretune_trainer import tasks
from pretune_trainer.data.example import Example, Row
from pretune_trainer.data.groups import Grouping
from pretune_trainer.errors import BadRowError
from support.language import small_tokenizer
from support.sources import read

Feature = dict[str, Any]


def class_label(*names: str) -> Feature:
    return {"names": list(names), "_type": "ClassLabel"}


def listed(feature: Feature) -> Feature:
    return {"feature": feature, "_type": "List"}


def listed_before_4(feature: Feature) -> Feature:
    return {"feature": {**feature, "id": None}, "length": -1, "id": None, "_type": "Sequence"}


def write(path: Path, columns: Mapping[str, object], features: dict[str, Feature]) -> Path:
    """As `datasets.Dataset.to_parquet` does (`Features.arrow_schema`)."""
    text = {name: {"dtype": "string", "_type": "Value"} for name in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": text | features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def examples(spec: SequenceClassification | SequenceRegression | TokenClassification, rows: list[Row]) -> list[Example]:
    kinds: dict[type[Any], Any] = {
        SequenceClassification: tasks.sequence_classification.SequenceClassification,
        SequenceRegression: tasks.sequence_regression.SequenceRegression,
        TokenClassification: tasks.token_classification.TokenClassification,
    }
    task = kinds[type(spec)](tasks.Context(spec, copy.deepcopy(small_tokenizer()), 32, False, False, 0))
    return [example for (example,) in task.examples(rows)]


def labels(path: Path, *names: str, **fields: Any) -> list[list[int]]:
    spec = SequenceClassification(labels=list(names), **fields)
    return [example["labels"].tolist() for example in examples(spec, read(path, ["label"]))]


def test_files_with_the_same_names_in_another_order_agree_by_name(tmp_path: Path) -> None:
    texts = {"text": ["good", "bad", "fair"]}
    train = write(tmp_path / "a.parquet", texts | {"label": [1, 0, 2]}, {"label": class_label("neg", "pos", "so")})
    judged = write(tmp_path / "b.parquet", texts | {"label": [0, 2, 1]}, {"label": class_label("pos", "so", "neg")})
    assert labels(train, "neg", "so", "pos") == labels(judged, "neg", "so", "pos") == [[2], [0], [1]]


@pytest.mark.parametrize("several", [listed, listed_before_4])
def test_several_labels_of_a_text_have_their_names(tmp_path: Path, several: Any) -> None:
    columns = {"text": ["a", "b"], "label": [[0, 1], []]}
    path = write(tmp_path / "a.parquet", columns, {"label": several(class_label("x", "y"))})
    assert labels(path, "y", "x", multi_label=True) == [[1, 0], []]


@pytest.mark.parametrize("several", [listed, listed_before_4, lambda feature: [feature]])
def test_tags_of_words_have_their_names(tmp_path: Path, several: Any) -> None:
    columns = {"words": [["see", "Ada", "Byron"]], "tags": [[0, 1, 2]]}
    path = write(tmp_path / "a.parquet", columns, {"tags": several(class_label("O", "B-PER", "I-PER"))})
    spec = TokenClassification(labels=["PER"], label_column="tags")
    (example,) = examples(spec, read(path, ["tags"], column="words"))
    assert [tag for tag in example["tags"].tolist() if tag >= 0] == [0, 1, 2]


def test_marked_spans_have_their_names(tmp_path: Path) -> None:
    spans = [[{"start": 4, "end": 7, "label": 1}]]
    integer = {"dtype": "int64", "_type": "Value"}
    feature = listed({"start": integer, "end": integer, "label": class_label("LOC", "PER")})
    path = write(tmp_path / "a.parquet", {"text": ["see Ada"], "labels": spans}, {"labels": feature})
    (example,) = examples(TokenClassification(labels=["PER"]), read(path, ["labels"]))
    assert [tag for tag in example["tags"].tolist() if tag >= 0] == [0, 1]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (-1, "a.parquet row 2: the label is null; remove the row, or write one of .*labels"),
        (2, "a.parquet row 2: label '2' is not listed in .*labels"),
        (-2, "a.parquet row 2: label '-2' is not listed in .*labels"),
    ],
)
def test_a_number_that_stands_for_no_name_is_no_label(tmp_path: Path, number: int, sentence: str) -> None:
    columns = {"text": ["a", "b"], "label": [0, number]}
    path = write(tmp_path / "a.parquet", columns, {"label": class_label("neg", "pos")})
    with pytest.raises(BadRowError, match=sentence):
        labels(path, "neg", "pos")


def test_groups_have_the_names_of_their_classes(tmp_path: Path) -> None:
    columns = {"text": ["a", "b", "c"], "language": [1, 0, -1]}
    path = write(tmp_path / "a.parquet", columns, {"language": class_label("de", "sw")})
    grouping = Grouping(validation=("language",))
    assert [grouping.of(row, "validation") for row in read(path, ["language"])] == [("sw",), ("de",), ("null",)]


def test_a_class_that_is_read_as_a_number_is_one(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "label": [4, 0]}
    stars = class_label(*(f"{number} stars" for number in range(1, 6)))
    path = write(tmp_path / "a.parquet", columns, {"label": stars})
    found = examples(SequenceRegression(target_column="label"), read(path, ["label"]))
    assert [example["target"].tolist() for example in found] == [[4.0], [0.0]]


@pytest.mark.parametrize("metadata", [None, {"pandas": "{}"}, {"huggingface": '{"info": {"features": null}}'}])
def test_numbers_without_names_stay_numbers(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    table = pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    assert labels(tmp_path / "a.parquet", "0", "1") == [[1], [0]]
