"""Images that are damaged, small or there twice are dropped and counted; what is left is learnt from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs
from support.images import digits, painted, png, write_images
from support.jobs import classification
from support.pairs import matched, rows, write_pairs
from support.runs import gathered

GOOD = digits()[:20]
DIRTY = [*GOOD, GOOD[0], (b"no image", "0"), (GOOD[1][0][:60], "0"), (png(np.zeros((7, 90), np.uint8)), "0")]


def dropped(inputs: Inputs) -> dict[str, int]:
    assert inputs.clean is not None
    return inputs.clean.report.dropped


def test_damaged_small_and_equal_images_are_dropped_and_the_rest_is_learnt_from(tmp_path: Path) -> None:
    uri = write_images(tmp_path / "dirty.parquet", DIRTY)
    cleaning = {"images": {}, "duplicates": "exact", "balance": ["label"]}
    inputs = gathered(painted(tmp_path, uri, data__cleaning=cleaning, data__validation=None))
    assert dropped(inputs) == {"undecodable": 2, "duplicate": 1, "smallImage": 1}
    (source,) = inputs.cache.train
    assert {source.example(index)["file"].tobytes() for index in range(len(source))} == {file for file, _ in GOOD}


def test_pairs_are_dropped_for_their_images_and_for_their_captions(tmp_path: Path) -> None:
    pairs = rows(1, 1)
    again = {**pairs[0], "image": pairs[1]["image"]}
    bad = {**pairs[2], "image": {"bytes": b"no image", "path": None}}
    short = {**pairs[3], "text": "a red one"}
    uri = write_pairs(tmp_path / "dirty.parquet", [*pairs, pairs[5], again, bad, short])
    cleaning = {"images": {}, "length": {"minWords": 4}, "duplicates": "exact"}
    inputs = gathered(matched(tmp_path, uri, data__cleaning=cleaning, data__validation=None))
    assert dropped(inputs) == {"duplicate": 1, "tooShort": 1, "undecodable": 1}


@pytest.mark.parametrize(
    ("cleaning", "says"),
    [
        ({"length": {"minWords": 4}}, r"cleaning: maskedImage reads no text; remove length, characters"),
        ({"images": {}, "duplicates": "near"}, r"cleaning\.duplicates: near compares words; set it to exact"),
    ],
)
def test_rules_on_text_are_refused_for_images(tmp_path: Path, cleaning: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        gathered(painted(tmp_path, write_images(tmp_path / "few.parquet", GOOD), data__cleaning=cleaning))


def test_rules_on_images_are_refused_for_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cleaning\.images: sequenceClassification reads no images; remove it"):
        gathered(classification(tmp_path, data__cleaning={"images": {}}))
