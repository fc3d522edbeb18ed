"""Rows that are longer than spec.data.sequenceLength: counted as they are tokenised, told once, with what would do."""

import copy
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase

from pretune_api.embedding import Embedding as EmbeddingSpec
from pretune_api.model import TokenizerTraining
from pretune_api.preference import Preference as PreferenceSpec
from pretune_api.tasks import Chat as ChatSpec
from pretune_api.tasks import SequenceClassification as ClassificationSpec
from pretune_api.tasks import SequenceRegression as RegressionSpec
from pretune_api.tasks import Summarization
from pretune_trainer.data.cache_index import INDEX_NAME, Index
from pretune_trainer.data.commit_cache import UnitReport
from pretune_trainer.data.example import Example, Layout, Place, Row
from pretune_trainer.data.npy import npz
from pretune_trainer.data.truncation import Truncated, fitted, lengths_needed, truncation_sentence
from pretune_trainer.data.vocabulary import train
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.base import Task
from pretune_trainer.tasks.chat import Chat
from pretune_trainer.tasks.embedding import Embedding
from pretune_trainer.tasks.encoding import encode_whole
from pretune_trainer.tasks.preference import Preference
from pretune_trainer.tasks.sequence_classification import SequenceClassification
from pretune_trainer.tasks.sequence_regression import SequenceRegression
from pretune_trainer.tasks.text_to_text import TextToText
from support.jobs import Recorder, classification, finetune, write_rows
from support.language import paragraphs, small_tokenizer
from support.letters import Letters, data_of, make_cache, on_ranks, store_at, write_jsonl
from support.runs import as_parent, named, path_of, run

LONG, SHORT = "one word " * 90, "one word"
ASKED = [{"role": "user", "content": "What is a list?"}]
TALK = [*ASKED, {"role": "assistant", "content": LONG}]
TASKS: dict[str, tuple[Callable[[Context], Task[Any]], Any, dict[str, Any], bool]] = {
    "chat": (Chat, ChatSpec(), {"text": TALK}, False),
    "an answer": (Chat, ChatSpec(answer_column="answer"), {"text": SHORT, "answer": LONG}, False),
    "classification": (SequenceClassification, ClassificationSpec(labels=["a", "b"]), {"label": "a"}, False),
    "regression": (SequenceRegression, RegressionSpec(target_column="label"), {"label": 1.5}, False),
    "a pair": (
        SequenceClassification,
        ClassificationSpec(labels=["a", "b"], pair_column="other"),
        {"label": "a", "other": LONG * 2},
        False,
    ),
    "preference": (Preference, PreferenceSpec(), {"chosen": "Yes.", "rejected": "No."}, False),
    "a document": (Embedding, EmbeddingSpec(positive_column="found"), {"text": SHORT, "found": LONG}, False),
    "an encoder-decoder": (TextToText, Summarization(max_target_tokens=16), {"summary": SHORT}, True),
    "a decoder": (TextToText, Summarization(max_target_tokens=16), {"summary": SHORT}, False),
}


def made(name: str, length: int) -> list[Example]:
    kind, spec, values, both = TASKS[name]
    task = kind(Context(spec, copy.deepcopy(small_tokenizer()), length, False, False, 0, both))
    (examples,) = task.examples([Row({"text": LONG, **values}, Place("file:///rows.jsonl", 1), "text")])
    return examples


@pytest.mark.parametrize("name", TASKS)
def test_a_row_of_the_length_that_is_told_holds_the_whole_example(name: str) -> None:
    (truncated,) = made(name, 64)
    assert isinstance(truncated, Truncated)
    (still,) = made(name, truncated.needed - 1)
    (whole,) = made(name, truncated.needed)
    assert isinstance(still, Truncated)
    assert not isinstance(whole, Truncated)


def wordpiece() -> PreTrainedTokenizerBase:
    return train(TokenizerTraining(algorithm="wordpiece", vocab_size=400), iter(paragraphs()[:800]), 32)


@pytest.mark.parametrize("kind", [wordpiece, small_tokenizer, ByT5Tokenizer], ids=["two around", "none", "in Python"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_that_are_left_out_are_counted_by_any_tokenizer(kind: Any, side: str) -> None:
    tokenizer = copy.deepcopy(kind())
    tokenizer.truncation_side = side
    texts = ["", SHORT, LONG, *paragraphs()[:200]]
    whole = tokenizer(texts, verbose=False)["input_ids"]
    found = encode_whole(tokenizer, texts, 32)
    assert [needed for _, needed in found] == [len(ids) for ids in whole]
    assert [len(ids) for ids, _ in found] == [min(32, len(ids)) for ids in whole]
    assert encode_whole(tokenizer, [SHORT], 32)[0][1] == len(tokenizer(SHORT)["input_ids"]), "where none is too long"


@dataclass
class Beginnings(Letters):
    """The first letters of each text."""

    layout: Layout = field(default_factory=lambda: Layout(length=16, packs=False))
    fingerprint: str = "beginnings/1"

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        for pieces in super().examples(rows):
            yield [fitted(pieces[0], sum(len(piece["ids"]) for piece in pieces), self.layout.length)]


def files(folder: Path) -> Path:
    for number in range(5):
        write_jsonl(folder / f"{number}.jsonl", ["a" * length for length in (4, 16, 17, 20, 32, 33, 100 + number)])
    return folder


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_count_is_the_same_at_any_number_of_ranks_and_when_the_cache_is_used_again(
    tmp_path: Path, ranks: int
) -> None:
    data = data_of(files(tmp_path / "corpus"), validation={"fraction": 0.3})
    for _ in range(2):
        caches = on_ranks(ranks, lambda ranks: make_cache(tmp_path, data, Beginnings(), ranks))
        assert [cache.truncated for cache in caches] == [{32: 15, 64: 5, 128: 5}] * ranks


def test_the_caches_of_several_ranks_are_the_same_to_the_byte(tmp_path: Path) -> None:
    data = data_of(files(tmp_path / "corpus"))
    one, *others = (
        on_ranks(ranks, lambda ranks: make_cache(tmp_path / str(ranks.size), data, Beginnings(), ranks))[0].digest
        for ranks in (1, 2, 3)
    )
    assert others == [one, one]


def test_of_what_an_older_version_has_made_nothing_is_claimed(tmp_path: Path) -> None:
    head = {"documents": 3, "dropped": 0, "parts": []}
    assert UnitReport.from_bytes(npz(head, {})).truncated is None
    assert UnitReport.from_bytes(UnitReport(3).to_bytes()).truncated is None
    assert UnitReport.from_bytes(UnitReport(3, truncated={}).to_bytes()).truncated == {}
    index = Index(3, 0, [], [], {32: 1}).to_json()
    assert Index.from_json(index).truncated == {32: 1}
    older = {name: value for name, value in json.loads(index).items() if name != "truncated"}
    assert Index.from_json(json.dumps(older).encode()).truncated is None


def test_units_that_an_older_version_has_left_behind_leave_the_count_unknown(tmp_path: Path) -> None:
    data = data_of(files(tmp_path / "corpus"))
    make_cache(tmp_path, data, Beginnings())
    (folder,) = (tmp_path / "store" / "cache").iterdir()
    unit = folder / "units" / "000000.npz"
    report = UnitReport.from_bytes(unit.read_bytes())
    unit.write_bytes(UnitReport(report.documents, report.dropped, report.parts).to_bytes())
    for name in ("COMMITTED", "manifest.json", INDEX_NAME):
        (folder / name).unlink()
    cache = make_cache(tmp_path, data, Beginnings())
    assert cache.truncated == {}
    assert Index.from_json(store_at(folder).get(INDEX_NAME)).truncated is None


@pytest.mark.parametrize(
    ("truncated", "most", "advice"),
    [
        ({256: 312}, None, "256 would hold 100% of the rows"),
        ({256: 280, 512: 32}, 512, "256 would hold 99% of the rows"),
        ({256: 12, 512: 200, 4096: 100}, None, "4096 would hold 100% of the rows"),
        ({256: 12, 512: 200, 4096: 100}, 1024, "512 would hold 98% of the rows, and the model reads 1024 at most"),
        ({256: 12, 512: 200, 4096: 100}, 128, "the model reads 128 at most"),
        ({256: 12, 512: 200, 4096: 100}, 200, "the model reads 200 at most"),
    ],
)
def test_the_length_that_is_advised_holds_nearly_all_rows_where_the_model_reads_as_much(
    truncated: dict[int, int], most: int | None, advice: str
) -> None:
    assert truncation_sentence(truncated, 5000, 128, most) == (
        "312 of 5,000 rows (6.2%) are longer than spec.data.sequenceLength, 128 tokens, and were truncated; " + advice
    )


def test_shares_and_lengths_are_never_said_to_be_nothing() -> None:
    assert truncation_sentence({}, 5000, 128, None) == ""
    assert "1 of 9,000 rows (less than 0.1%) are" in truncation_sentence({256: 1}, 9000, 128, None)
    needed = [Truncated({}, length) for length in (129, 256, 257)]
    assert list(lengths_needed([{}, *needed])) == [256, 256, 512]


def told(events: Recorder) -> list[str]:
    return [said.text for said in events.of(Said) if "truncated" in said.text]


def test_a_run_tells_once_how_many_rows_are_truncated_and_so_does_the_model_card(tmp_path: Path) -> None:
    texts = [*(text for text in paragraphs() if len(text) < 100)][:60] + [LONG] * 40
    uri = write_rows(tmp_path / "rows.jsonl", ({"text": text, "label": "ab"[len(text) % 2]} for text in texts))
    job = finetune(
        tmp_path,
        {"sequenceClassification": {"labels": ["a", "b"]}},
        uri,
        data__sequence_length=128,
        training__max_steps=4,
        evaluation={"everySteps": 1},
    )
    first, again = Recorder(), Recorder()
    made = run_rank(job, Ranks(), first)
    (sentence,) = told(first)
    told_of = "40 of 100 rows (40.0%) are longer than spec.data.sequenceLength, 128 tokens, and were truncated; "
    assert re.fullmatch(re.escape(told_of) + "(256|512) would hold 100% of the rows", sentence)
    assert f"\n\n{sentence}.\n" in (path_of(made) / "README.md").read_text()
    run_rank(named(job, "other"), Ranks(), again)
    assert told(again) == [sentence], "the cache is used again"


def test_no_more_is_advised_than_the_parent_reads(tmp_path: Path) -> None:
    parent = as_parent(run(Ranks(), classification(tmp_path / "parent", training__max_steps=1))[0])
    events = Recorder()
    run_rank(classification(tmp_path, parent, training__max_steps=1), Ranks(), events)
    assert told(events)[0].endswith("; the model reads 64 at most")


def test_of_a_long_conversation_that_fits_transformers_does_not_say_that_it_is_too_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.model_max_length = 16
    task = Chat(Context(ChatSpec(), tokenizer, 512, True, False, 0))
    transformers = logging.getLogger("transformers")
    transformers.addHandler(caplog.handler)
    list(task.examples([Row({"text": TALK}, Place("file:///rows.jsonl", 1), "text")]))
    transformers.removeHandler(caplog.handler)
    assert caplog.messages == []
