"""JSON can escape half a character; no tokenizer takes it, so that it is refused where it stands."""

from pathlib import Path

import pytest

from pretune_api.data import Source
from pretune_trainer.data.example import Row
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.sources import OpenedSource
from pretune_trainer.errors import BadRowError


def read(folder: Path, *lines: str) -> list[Row]:
    file = folder / "a.jsonl"
    file.write_text("\n".join(lines))
    opened = OpenedSource(Source(uri=file.as_uri()), "spec.data.train[0]")
    return [row for unit in units(opened, 0, opened.files()) for row in rows(opened, unit)]


@pytest.mark.parametrize(
    "line", [r'{"text": "\ud83d"}', r'{"text": "\uDE00 \uD83D"}', r'{"messages": [{"content": "\udfff"}]}']
)
def test_half_a_character_is_named_with_its_row(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadRowError, match=r"a.jsonl row 2: it escapes half a character, .* write both halves"):
        read(tmp_path, '{"text": "a"}', line)


def test_characters_in_two_halves_are_read_whole(tmp_path: Path) -> None:
    (row,) = read(tmp_path, r'{"text": "\ud83d\ude00 \\ud83d"}')
    assert row.text() == "\N{GRINNING FACE} \\ud83d"
