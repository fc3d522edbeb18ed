"""A large file of lines is read in units: each line once, by any ranks."""

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.data import readers
from pretune_trainer.data.cleaning.clean import cleaned
from pretune_trainer.data.inputs import data_sources, fingerprint
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.work import Work, share
from pretune_trainer.errors import BadRowError
from pretune_trainer.parallel import Ranks
from support.letters import Letters, data_of, make_cache, on_ranks, store_at, text_of, write_jsonl
from support.sources import opened, texts

LINES = [f"line {number} {'x' * (number * 37 % 90)}" for number in range(60)]


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_CUT", 400)


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12), max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 9),
)
def test_every_line_is_a_row_of_one_unit_wherever_the_cuts_fall(
    lines: list[str], end: str, ended: bool, cut: int, chunk: int
) -> None:
    content = (end.join(lines) + end * ended).encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "a.txt")
        path.write_bytes(content)
        whole = texts(path, document="line")
        patch.setattr(readers, "_CUT", cut)
        patch.setattr(readers, "_CHUNK", chunk)
        patch.setattr(readers, "_BUFFER", chunk)
        found = units(source := opened(path, document="line"), 0, source.files())
        assert len(found) == max(1, -(-len(content) // cut))
        assert [row.text() for unit in found for row in rows(source, unit)] == whole
    assert whole == lines or not (lines and lines[-1])


def test_what_is_packed_or_one_document_is_read_in_one(tmp_path: Path) -> None:
    content = "".join(json.dumps({"text": line}) + "\n" for line in LINES).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content, compresslevel=0))
    (tmp_path / "a.txt").write_bytes(content)
    source = opened(tmp_path)
    assert [unit.span for unit in units(source, 0, source.files())] == [None, None]


def test_a_bad_line_is_told_with_the_byte_from_which_lines_are_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", LINES)
    content = path.read_bytes()
    path.write_bytes(content + b"{\n")
    source = opened(path)
    *_, last = units(source, 0, source.files())
    assert last.span is not None
    start, _ = last.span
    number = content[start:].count(b"\n")
    said = rf"a.jsonl row {number} of the lines that begin after byte {start}: the line is not valid JSON"
    with pytest.raises(BadRowError, match=said):
        list(rows(source, last))


def test_ranks_share_one_file_and_its_examples_keep_their_order(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", LINES)
    source = opened(path)
    found = units(source, 0, source.files())
    sizes = [
        sum(found[each].size for each in share(Work("", False, found, frozenset()), Ranks(rank, 2))) for rank in (0, 1)
    ]
    assert max(sizes) - min(sizes) <= 400
    (cache, _) = on_ranks(2, lambda ranks: make_cache(tmp_path, data_of(path), Letters(), ranks))
    (train,) = cache.train
    assert "".join(text_of(train.example(index)) for index in range(len(train))) == "".join(LINES)


def test_verdicts_are_those_of_the_lines_wherever_the_cuts_fall(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*LINES, *LINES[20:40]])
    data = data_of(path, cleaning={"duplicates": "exact"})
    found = cleaned(data, (), store_at(tmp_path / "store"), Ranks(), lambda: False)
    assert found is not None
    (learnt,) = data_sources(data)
    kept = [
        row.text()
        for unit in units(learnt.opened, 0, learnt.opened.files())
        for row in found.rows(learnt, unit, rows(learnt.opened, unit))
    ]
    assert kept == LINES


def test_what_is_made_of_a_cut_file_has_another_name_than_what_was_made_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (learnt,) = data_sources(data_of(write_jsonl(tmp_path / "a.jsonl", LINES)))
    listed = learnt.opened.files()
    cut = fingerprint([learnt], [listed])
    monkeypatch.setattr(readers, "_CUT", listed[0].size)
    assert fingerprint([learnt], [listed]) != cut
