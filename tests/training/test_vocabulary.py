import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pretune_api.model import TokenizerTraining
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.tokenizer import tokenizer_digest, trained_tokenizer
from pretune_trainer.data.vocabulary import train
from pretune_trainer.errors import BadRowError, StopRequestedError, UserError
from pretune_trainer.parallel import Ranks
from support.language import paragraphs
from support.letters import data_of, on_ranks, store_at, write_jsonl

TEXTS = paragraphs()[:800]
KINDS = {"bpe": 400, "unigram": 400, "wordpiece": 400}


def training(algorithm: str = "bpe", size: int = 400, documents: int = 1000) -> TokenizerTraining:
    return TokenizerTraining(algorithm=algorithm, vocab_size=size, sample_documents=documents)


def tokenizer_of(
    tmp_path: Path,
    *uris: Path,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
    spec: TokenizerTraining | None = None,
    **fields: Any,
) -> Path:
    corpus = Corpus(data_of(*uris, **fields))
    return trained_tokenizer(spec or training(), corpus, store_at(tmp_path / "s"), ranks or Ranks(), stop)


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    return train(training(), iter(TEXTS), 64)


@given(st.text())
@settings(max_examples=200)
def test_byte_level_bpe_decodes_every_text_to_itself(byte_level: PreTrainedTokenizerFast, text: str) -> None:
    ids = byte_level(text, add_special_tokens=False)["input_ids"]
    assert byte_level.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("algorithm", KINDS)
def test_each_kind_has_the_size_and_the_special_tokens_asked_for(algorithm: str) -> None:
    tokenizer = train(training(algorithm), iter(TEXTS), 64)
    assert (len(tokenizer), tokenizer.model_max_length) == (400, 64)
    bert = algorithm == "wordpiece"
    named = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"] if bert else ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(named) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (2, 3, 4)
    if bert:
        assert tokenizer.decode(tokenizer("the value")["input_ids"]) == "[CLS] the value [SEP]"
    else:
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
        assert tokenizer.decode(tokenizer("the value")["input_ids"]) == "the value"


@pytest.mark.parametrize("algorithm", KINDS)
@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (90, r"spec.tokenizer.train.vocabSize: 90 entries are too few"),
        (50_000, r"spec.tokenizer.train.vocabSize: 50000 entries are too many for the training documents: they yield"),
    ],
)
def test_a_vocabulary_that_does_not_fit_the_data_is_refused(algorithm: str, size: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        train(training(algorithm, size), iter(TEXTS), 64)


def test_a_long_clause_without_spaces_is_no_unknown_word() -> None:
    clauses = ["ภาษาไทยเขียนติดกันโดยไม่เว้นวรรคระหว่างคำ" * times for times in (1, 2, 3, 4)]
    tokenizer = train(training("wordpiece", 80), iter(clauses * 20), 512)
    assert max(map(len, clauses)) > 100
    assert all(tokenizer.unk_token_id not in tokenizer(clause)["input_ids"] for clause in clauses)


def test_one_rank_trains_all_read_and_nobody_trains_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    spec = training("unigram")
    folders = on_ranks(3, lambda ranks: tokenizer_of(tmp_path, corpus, ranks=ranks, spec=spec))
    monkeypatch.delattr("pretune_trainer.data.tokenizer.train")
    assert {*folders, tokenizer_of(tmp_path, corpus, spec=spec)} == {folders[0]}


def test_jobs_that_train_the_same_at_once_and_get_other_ids_all_take_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    both_train, sizes = Barrier(2), iter((400, 390))

    def other_ids_each_time(spec: TokenizerTraining, texts: Iterator[str], *rest: Any) -> PreTrainedTokenizerFast:
        both_train.wait()
        return train(spec.model_copy(update={"vocab_size": next(sizes)}), texts, *rest)

    monkeypatch.setattr("pretune_trainer.data.tokenizer.train", other_ids_each_time)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: tokenizer_of(tmp_path, corpus), range(2)))
    later = tokenizer_of(tmp_path, corpus)
    assert {*folders, later} == {later}
    assert len(AutoTokenizer.from_pretrained(later)) in (400, 390)


def test_the_folder_gives_transformers_the_ids_that_were_trained(tmp_path: Path) -> None:
    folder = tokenizer_of(tmp_path, write_jsonl(tmp_path / "a.jsonl", TEXTS))
    trained = Tokenizer.from_file(str(folder / "tokenizer.json"))
    opened = AutoTokenizer.from_pretrained(folder)
    assert opened(TEXTS[:50])["input_ids"] == [each.ids for each in trained.encode_batch(TEXTS[:50])]
    assert (opened.bos_token, opened.eos_token, opened.pad_token) == ("<s>", "</s>", "<pad>")


def test_the_digest_is_that_of_the_files(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    first, second = tokenizer_of(tmp_path, corpus), tokenizer_of(tmp_path / "again", corpus)
    assert tokenizer_digest(first) == tokenizer_digest(second)
    assert tokenizer_digest(tokenizer_of(tmp_path, corpus, spec=training(size=401))) != tokenizer_digest(first)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "source.spm"])
def test_whatever_file_a_vocabulary_is_in_has_its_part_in_the_digest(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    digests = set()
    for content in (b"one", b"another"):
        (tmp_path / name).write_bytes(content)
        digests.add(tokenizer_digest(tmp_path))
    assert len(digests) == 2


def words_of(folder: Path) -> str:
    return "".join(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])


def test_held_out_documents_teach_the_tokenizer_nothing(tmp_path: Path) -> None:
    # By its hash "two" is never held out by a fraction of 0.4, and "one" always is.
    corpus = write_jsonl(tmp_path / "a.jsonl", ["one", "two"] * 200)
    spec = training(size=263)
    learnt = words_of(tokenizer_of(tmp_path, corpus, spec=spec, validation={"fraction": 0.4}))
    assert "two" in learnt
    assert "one" not in learnt


def test_a_source_that_is_all_held_out_is_left_to_the_validation(tmp_path: Path) -> None:
    judged = write_jsonl(tmp_path / "judged.jsonl", ["one"] * 5)
    learnt = write_jsonl(tmp_path / "learnt.jsonl", ["two"] * 5)
    assert list(Corpus(data_of(judged, learnt, validation={"fraction": 0.4})).sample(100)) == ["two"] * 5
    with pytest.raises(UserError, match=r"spec.data.validation.fraction: all documents are held out"):
        list(Corpus(data_of(judged, validation={"fraction": 0.4})).sample(100))


def test_the_sample_is_spread_evenly_over_sources_and_files(tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", ["few"] * 10)
    for name in "ab":
        write_jsonl(tmp_path / f"many/{name}.jsonl", [name] * 500)
    seen = list(Corpus(data_of(tmp_path / "many", few)).sample(100))
    assert {name: seen.count(name) for name in ("few", "a", "b")} == {"few": 10, "a": 45, "b": 45}


def test_words_and_messages_are_text_to_learn_from_too(tmp_path: Path) -> None:
    words = write_jsonl(tmp_path / "words.jsonl", [["dry", "cough"]] * 5)
    chats = write_jsonl(tmp_path / "chats.jsonl", [[{"role": "user", "content": "Why?"}]] * 5)
    assert set(Corpus(data_of(words, chats)).sample(100)) == {"dry cough", "user Why?"}


def test_the_texts_of_other_columns_are_learnt_from_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a house", "question": "what", "labels": ["x", 1]}\n')
    assert list(Corpus(data_of(path), ["question", "labels"]).sample(100)) == ["a house\nwhat\nx "]


def test_training_stops_when_asked(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    with pytest.raises(StopRequestedError, match="while the tokenizer was trained"):
        tokenizer_of(tmp_path, corpus, stop=lambda: True)


def test_an_empty_source_is_named(tmp_path: Path) -> None:
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    full = write_jsonl(tmp_path / "full.jsonl", TEXTS)
    with pytest.raises(UserError, match=r"spec.data.train\[1\].uri: .*empty.jsonl is empty: it has no documents"):
        tokenizer_of(tmp_path, full, empty)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ([b"some text"], r"parquet row 1: column 'text' holds bytes, expected text"),
        ([" ", ""], r"spec.data.train\[0\].uri: .*parquet has no text to learn from, only blanks"),
        (pa.nulls(3, pa.string()), r"spec.data.train\[0\].uri: .*parquet has no documents to learn from: all are null"),
    ],
)
def test_a_source_without_any_text_is_named(tmp_path: Path, column: Any, sentence: str) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=sentence):
        tokenizer_of(tmp_path, tmp_path / "rows.parquet")


def test_a_word_without_end_takes_no_time_without_end() -> None:
    since = time.process_time()
    assert len(train(training(size=300), iter([*TEXTS[:50], "QUJD" * 50_000]), 64)) == 300
    assert time.process_time() - since < 5  # some 20 s, were it not cut


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 5}\n')
    with pytest.raises(BadRowError, match=r"a.jsonl row 1: column 'text' holds int"):
        tokenizer_of(tmp_path, tmp_path / "a.jsonl")
