import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune_api.data import Data
from pretune_api.storage import Location
from pretune_trainer.data import parts, readers, tokenise
from pretune_trainer.data.example import Cursor, Example, Layout, Row
from pretune_trainer.data.stream import Stream
from pretune_trainer.data.token_cache import TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation, Tokenises
from pretune_trainer.errors import BadRowError, DamagedError, StopRequestedError, UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.store import Store
from support.letters import Letters, data_of, errors_on_ranks, make_cache, on_ranks, text_of, texts_of, write_jsonl
from support.s3 import S3Server

LONG = Layout(length=1000, packs=True)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files of 25 documents, each a unit."""
    monkeypatch.setitem(readers._BY_RUNS, "jsonl", 0)
    for file in range(4):
        write_jsonl(tmp_path / f"corpus/{file}.jsonl", [f"document {file}-{number}" for number in range(25)])
    return tmp_path / "corpus"


def every(corpus: Path) -> list[str]:
    return [f"document {file}-{number}" for file in range(4) for number in range(25)]


def test_examples_come_back_as_the_task_made_them_by_source_and_index(tmp_path: Path, corpus: Path) -> None:
    task = Letters(layout=LONG)
    cache = make_cache(tmp_path, data_of(corpus / "0.jsonl", corpus), task)
    assert [len(source) for source in cache.train] == [25, 100]
    assert texts_of(cache.train[1:]) == every(corpus)
    assert cache.train[1].lengths.tolist() == [len(text) for text in every(corpus)]
    assert cache.train[1].tokens == sum(map(len, every(corpus)))


def test_an_example_is_a_view_of_the_mapped_file(tmp_path: Path, corpus: Path) -> None:
    ids = make_cache(tmp_path, data_of(corpus)).train[0].example(7)["ids"]
    assert not ids.flags.owndata
    assert not ids.flags.writeable
    assert ids.dtype == np.int32


class Judged(Letters):
    """Texts with a mask, a score and a number of labels."""

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        for row in rows:
            n = len(row.text())
            yield [
                {
                    "ids": np.arange(n, dtype=np.int32),
                    "mask": np.ones(n, np.uint8),
                    "score": np.array([n / 7], np.float32),
                    "labels": np.arange(n % 3, dtype=np.int64),
                }
            ]


def test_all_arrays_of_an_example_keep_their_kind_and_their_own_length(tmp_path: Path, corpus: Path) -> None:
    example = make_cache(tmp_path, data_of(corpus), Judged()).train[0].example(3)
    assert {name: (array.dtype.name, len(array)) for name, array in example.items()} == {
        "ids": ("int32", 12),
        "mask": ("uint8", 12),
        "score": ("float32", 1),
        "labels": ("int64", 0),
    }
    assert example["score"][0] == np.float32(12 / 7)


def test_many_record_batches_are_read_as_one(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune_trainer.data.parts._NUMBERS", 50)
    monkeypatch.setattr(tokenise, "_ROWS", 3)
    assert texts_of(make_cache(tmp_path, data_of(corpus), Letters(layout=LONG)).train) == every(corpus)


def test_the_second_time_nothing_is_tokenised(tmp_path: Path, corpus: Path) -> None:
    first, second = Letters(), Letters()
    made = make_cache(tmp_path, data_of(corpus), first)
    opened = make_cache(tmp_path, data_of(corpus), second)
    assert (first.seen, second.seen) == (100, 0)
    assert opened.digest == made.digest


def test_ranks_share_the_work_and_make_the_same_cache(tmp_path: Path, corpus: Path) -> None:
    alone = make_cache(tmp_path, data_of(corpus))
    tasks = [Letters() for _ in range(3)]
    caches = on_ranks(3, lambda ranks: make_cache(tmp_path / "shared", data_of(corpus), tasks[ranks.rank], ranks))
    assert {cache.digest for cache in caches} == {alone.digest}
    assert sorted(task.seen for task in tasks) == [25, 25, 50]


def test_a_stopped_run_keeps_what_is_done_and_the_next_does_the_rest(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenise, "_ROWS", 10)
    first, second = Letters(), Letters()
    with pytest.raises(StopRequestedError, match="what is done is kept"):
        make_cache(tmp_path, data_of(corpus), first, stop=lambda: first.seen >= 60)
    assert first.seen == 60
    cache = make_cache(tmp_path, data_of(corpus), second)
    assert second.seen == 50
    assert cache.digest == make_cache(tmp_path / "undisturbed", data_of(corpus)).digest


def test_what_stops_one_rank_stops_all(tmp_path: Path, corpus: Path) -> None:
    ended = errors_on_ranks(
        3, lambda ranks: make_cache(tmp_path, data_of(corpus), ranks=ranks, stop=lambda: ranks.rank == 1)
    )
    assert [type(error) for error in ended] == [StopRequestedError] * 3


def test_a_bad_row_on_one_rank_is_told_by_all(tmp_path: Path, corpus: Path) -> None:
    (corpus / "2.jsonl").write_text('{"text": 1}\n')
    ended = errors_on_ranks(3, lambda ranks: make_cache(tmp_path, data_of(corpus), ranks=ranks))
    sentence = f"file://{corpus}/2.jsonl row 1: column 'text' holds int, expected text"
    assert [(type(error), str(error)) for error in ended] == [(BadRowError, sentence)] * 3


def test_a_fraction_is_held_out_by_content(tmp_path: Path) -> None:
    documents = [f"document {number}" for number in range(1000)]
    write_jsonl(tmp_path / "corpus/a.jsonl", documents)
    write_jsonl(tmp_path / "corpus/b.jsonl", reversed(documents))
    cache = make_cache(tmp_path, data_of(tmp_path / "corpus", validation={"fraction": 0.1}), Letters(layout=LONG))
    train, held_out = Counter(texts_of(cache.train)), Counter(texts_of(cache.validation))
    assert train + held_out == Counter(documents * 2)
    assert not train & held_out
    assert 70 < len(held_out) < 130


def test_sources_of_their_own_are_only_evaluated_on(tmp_path: Path, corpus: Path) -> None:
    data = data_of(corpus / "0.jsonl", validation={"sources": [{"uri": f"file://{corpus}/3.jsonl"}]})
    cache = make_cache(tmp_path, data, Letters(layout=LONG))
    assert (texts_of(cache.train), texts_of(cache.validation)) == (every(corpus)[:25], every(corpus)[75:])


@pytest.mark.parametrize("train", ["", "*.jsonl", "3.jsonl"])
def test_what_is_judged_on_is_not_learnt_from(tmp_path: Path, corpus: Path, train: str) -> None:
    data = data_of(tmp_path / "corpus" / train, validation={"sources": [{"uri": f"file://{corpus}/3.jsonl"}]})
    sentence = rf"spec.data.validation.sources\[0\].uri: file://{corpus}/3.jsonl is in spec.data.train\[0\], too, and"
    with pytest.raises(UserError, match=sentence):
        make_cache(tmp_path, data)


def test_documents_that_give_nothing_are_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["one", "", None, "four"])
    cache = make_cache(tmp_path, data_of(tmp_path / "a.jsonl"))
    assert (cache.documents, cache.dropped, len(cache.train[0])) == (4, 2, 2)


def touch(corpus: Path) -> None:
    write_jsonl(corpus / "0.jsonl", ["another text"] * 25)


@pytest.mark.parametrize(
    ("change", "fields", "task"),
    [
        (touch, {}, {}),
        (lambda corpus: (corpus / "3.jsonl").unlink(), {}, {}),
        (lambda corpus: None, {"validation": {"fraction": 0.2}}, {}),
        (lambda corpus: None, {}, {"fingerprint": "letters/2"}),
        (lambda corpus: None, {}, {"layout": Layout(length=8, packs=True)}),
    ],
)
def test_whatever_changes_the_tokens_makes_another_cache(
    tmp_path: Path, corpus: Path, change: Callable[[Path], None], fields: dict[str, Any], task: dict[str, Any]
) -> None:
    make_cache(tmp_path, data_of(corpus))
    change(corpus)
    again = Letters(**task)
    make_cache(tmp_path, data_of(corpus, **fields), again)
    assert again.seen in (75, 100)


def test_weights_can_change_without_another_cache(tmp_path: Path, corpus: Path) -> None:
    make_cache(tmp_path, data_of(corpus))
    task = Letters()
    cache = make_cache(tmp_path, data_of({"uri": f"file://{corpus}", "weight": 2.0}), task)
    assert (task.seen, cache.weights) == (0, [2.0])


def test_a_moved_folder_is_still_the_same_data(tmp_path: Path, corpus: Path) -> None:
    first = make_cache(tmp_path, data_of(corpus)).digest
    shutil.move(corpus, tmp_path / "elsewhere")
    task = Letters()
    assert make_cache(tmp_path, data_of(tmp_path / "elsewhere"), task).digest == first
    assert task.seen == 0


@pytest.mark.parametrize(
    ("documents", "fields", "sentence"),
    [
        ([], {}, "spec.data.train[0].uri: file://{uri} is empty: its files have no rows"),
        (["", None, ""], {}, "spec.data.train[0].uri: nothing can be learned from the 3 rows of file://{uri}"),
        (["six"], {"validation": {"fraction": 0.4}}, "none of the 1 documents is left for the validation; raise it"),
        (["one"], {"validation": {"fraction": 0.49}}, "data.validation.fraction: none of the 1 documents is left to"),
    ],
)
def test_data_that_leaves_nothing_to_learn_from_is_refused(
    tmp_path: Path, documents: list[str | None], fields: dict[str, Any], sentence: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", documents)
    with pytest.raises(UserError) as caught:
        make_cache(tmp_path, data_of(tmp_path / "a.jsonl", **fields))
    assert sentence.format(uri=tmp_path / "a.jsonl") in str(caught.value)


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_truncated_or_missing_part_is_told(tmp_path: Path, corpus: Path) -> None:
    cache = make_cache(tmp_path, data_of(corpus / "0.jsonl"))
    part = only(tmp_path, "store/cache/*/parts/*.arrow")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DamagedError, match=r"000000-train.arrow has 100 bytes, its manifest says \d+; remove the"):
        cache.train[0].example(0)
    part.unlink()
    with pytest.raises(DamagedError, match=r"is damaged: parts/000000-train.arrow is missing; remove the folder"):
        cache.train[0].example(0)


def remote_cache(location: Location, data: Data, task: Tokenises | None = None) -> TokenCache:
    tokenisation = Tokenisation(data, task or Letters(layout=LONG), "tokenizer")
    return token_cache(tokenisation, Store.open(location), Ranks(), lambda: False)


def test_a_remote_cache_is_copied_to_this_node_once_and_checked_on_the_way(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    location, data = s3.new_folder(), data_of(corpus / "0.jsonl")
    assert texts_of(remote_cache(location, data).train) == every(corpus)[:25]
    part = only(s3.folder / location.uri.removeprefix("s3://"), "cache/*/parts/*.arrow")
    damaged = part.read_bytes().replace(b"\x64\x00\x00\x00", b"\x65\x00\x00\x00")
    part.write_bytes(damaged)
    assert texts_of(remote_cache(location, data).train) == every(corpus)[:25]
    shutil.rmtree(tmp_path / "node")
    with pytest.raises(DamagedError, match=r"parts/000000-train.arrow has changed; remove the folder"):
        texts_of(remote_cache(location, data).train)


def test_ranks_of_a_node_fetch_each_file_once(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    location, data = s3.new_folder(), data_of(corpus / "0.jsonl")
    remote_cache(location, data)
    fetched: list[str] = []
    read = Store.get_range

    def noted(store: Store, path: str, *span: int) -> memoryview:
        fetched.append(path)
        return read(store, path, *span)

    monkeypatch.setattr(Store, "get_range", noted)
    found = on_ranks(4, lambda ranks: texts_of(remote_cache(location, data).train))
    assert found == [every(corpus)[:25]] * 4
    assert [path for path in fetched if path.startswith("parts/")] == ["parts/000000-train.arrow"]


def test_copies_take_half_of_a_small_disk_and_those_not_read_for_longest_go(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    location = s3.new_folder()
    cache = remote_cache(location, data_of(corpus))
    (source,) = cache.train
    stored = (s3.folder / location.uri.removeprefix("s3://")).rglob("parts/*.arrow")
    sizes = {part.name: part.stat().st_size for part in stored}
    monkeypatch.setenv("PRETUNE_DISK", str(round(2 * 2.3 * max(sizes.values()))))

    def kept_after(*files: int) -> list[str]:
        assert [text_of(source.example(25 * file)) for file in files] == [f"document {file}-0" for file in files]
        cache._lend.cache_clear()
        return sorted(path.name for path in (tmp_path / "node").rglob("parts/*.arrow.0") if path.stat().st_size)

    names = [f"{name}.0" for name in sorted(sizes)]
    assert kept_after(0, 1) == names[:2]
    assert kept_after(0, 2) == [names[0], names[2]]
    assert kept_after(3, 1, 2, 0) == [names[0], names[2]]


@pytest.mark.parametrize("noted", ["", "\0\0"])
def test_copies_are_counted_anew_where_a_power_cut_has_lost_how_much_they_take(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, noted: str
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    location = s3.new_folder()
    cache = remote_cache(location, data_of(corpus))
    assert texts_of(cache.train) == every(corpus)
    only(tmp_path / "node", "locks/*/room").write_text(noted)
    first, *others = sorted((tmp_path / "node").glob("*/parts/0*"))
    monkeypatch.setenv("PRETUNE_DISK", str(round(2 * 2.3 * first.stat().st_size)))
    first.unlink()
    (source,) = remote_cache(location, data_of(corpus)).train
    assert text_of(source.example(0)) == "document 0-0"
    assert sum(copy.exists() for copy in [first, *others]) == 2


def test_ranks_that_have_room_for_one_copy_read_all_the_same(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    monkeypatch.setenv("PRETUNE_DISK", "1")
    location, data = s3.new_folder(), data_of(corpus)
    remote_cache(location, data)
    assert on_ranks(4, lambda ranks: texts_of(remote_cache(location, data).train)) == [every(corpus)] * 4


def test_few_copies_that_have_made_room_stay_mapped_however_many_the_sources(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    monkeypatch.setenv("PRETUNE_DISK", "1")
    monkeypatch.setattr("pretune_trainer.data.token_cache._LENT", 2)
    cache = remote_cache(s3.new_folder(), data_of(*sorted(corpus.iterdir())))
    assert [text_of(source.example(0)) for source in cache.train] == [f"document {file}-0" for file in range(4)]
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert len(mapped) == 2


@pytest.mark.parametrize("sources", [1, 4])
def test_what_a_step_reads_is_fetched_at_once(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, sources: int
) -> None:
    location, data = s3.new_folder(), data_of(*(sorted(corpus.iterdir()) if sources > 1 else [corpus]))
    cache, layout = remote_cache(location, data), Layout(length=12, packs=False)
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    met, read = threading.Barrier(4, timeout=60), Store.get_range

    def read_when_all_are_asked_for(store: Store, path: str, *span: int) -> memoryview:
        if path.startswith("parts/"):
            met.wait()
        return read(store, path, *span)

    monkeypatch.setattr(Store, "get_range", read_when_all_are_asked_for)
    step = next(Stream(cache, layout, seed=0, rows_per_step=100).steps(Cursor()))
    assert sorted(text_of(example) for pack in step.packs for example in pack.examples) == sorted(every(corpus))


def test_of_a_remote_part_what_is_read_alone_is_fetched(
    tmp_path: Path, corpus: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr(parts, "_NUMBERS", 50)
    location, data = s3.new_folder(), data_of(corpus / "0.jsonl")
    (source,) = remote_cache(location, data).train
    whole = only(s3.folder / location.uri.removeprefix("s3://"), "cache/*/parts/*.arrow").stat().st_size
    assert text_of(source.example(24)) == "document 0-24"
    (copy,) = (path for path in (tmp_path / "node").rglob("parts/*") if path.stat().st_size)
    assert copy.stat().st_size < whole / 4
    assert texts_of([source]) == every(corpus)[:25]


def test_a_source_may_have_nothing_held_out_while_another_has(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "first.jsonl", ["six"])
    second = write_jsonl(tmp_path / "second.jsonl", ["six", "one"])
    cache = make_cache(tmp_path, data_of(first, second, validation={"fraction": 0.4}))
    assert [source.lengths.tolist() for source in cache.validation] == [[], [3]]


def test_nothing_is_left_behind_on_the_node(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    make_cache(tmp_path, data_of(corpus))
    assert list((tmp_path / "node").rglob("*")) == []


def test_two_runs_that_make_the_same_cache_at_once_do_not_disturb_each_other(tmp_path: Path, corpus: Path) -> None:
    caches = on_ranks(2, lambda _: make_cache(tmp_path, data_of(corpus), Letters(layout=LONG)))
    assert [texts_of(cache.train) for cache in caches] == [every(corpus)] * 2
    assert caches[0].digest == caches[1].digest
