"""Token classification: words keep their labels through any tokenizer; what does not fit is named where it stands."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerBase,
    pipeline,
)

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import TokenClassification as Spec
from pretune_trainer.data.example import Example, Pack, Place, Row
from pretune_trainer.data.vocabulary import train
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.encoding import encode_with_offsets
from pretune_trainer.tasks.token_classification import TokenClassification
from support.jobs import Recorder, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer
from support.slots import LABELS, sentences
from support.words import vocabulary

WORDS = ["Severe", "dry", "cough", "since", "2021", "."]
TAGS = ["B-symptom", "I-symptom", "I-symptom", "O", "B-date", "O"]


def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    texts = [*paragraphs()[:800], " ".join(WORDS)]
    kinds = {"wordpiece": 400, "unigram": 200}
    trained = {
        kind: train(TokenizerTraining(algorithm=kind, vocab_size=size), iter(texts), 32) for kind, size in kinds.items()
    }
    return {"bpe": copy.deepcopy(small_tokenizer()), **trained}


def task(tokenizer: PreTrainedTokenizerBase | None = None, length: int = 64) -> TokenClassification:
    tokenizer = tokenizer or copy.deepcopy(small_tokenizer())
    return TokenClassification(Context(Spec(labels=["symptom", "date"]), tokenizer, length, False, False, 0))


def row(text: object, labels: object) -> Row:
    return Row({"text": text, "labels": labels}, Place("file:///notes.jsonl", 3), "text")


def tags_of(task: TokenClassification, example: Example) -> list[str]:
    return [task.tags.names[tag] for tag in example["tags"].tolist() if tag != IGNORED]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_each_word_has_its_tag_on_its_first_token(kind: str) -> None:
    tagging = task(tokenizers()[kind])
    ((example,),) = tagging.examples([row(WORDS, TAGS)])
    assert tags_of(tagging, example) == TAGS
    at = np.flatnonzero(example["tags"] != IGNORED)
    begins = [tagging.tokenizer.decode(example["ids"][place]).strip() for place in at]
    assert all(word.startswith(begin) for word, begin in zip(WORDS, begins, strict=True))


def test_marked_spans_are_the_same_as_tagged_words() -> None:
    text = " ".join(WORDS)
    spans = [{"start": 0, "end": 16, "label": "symptom"}, {"start": 23, "end": 27, "label": "date"}]
    ((from_spans,),) = task().examples([row(text, spans)])
    ((from_words,),) = task().examples([row(WORDS, TAGS)])
    assert {name: array.tolist() for name, array in from_spans.items()} == {
        name: array.tolist() for name, array in from_words.items()
    }


@pytest.mark.parametrize(
    ("text", "start", "end", "words", "tags"),
    [
        ("वह दिल्ली में है", 3, 9, ["वह", "दिल्ली", "में", "है"], ["O", "B-date", "O", "O"]),
        ("我住北京。", 2, 4, ["我", "住", "北", "京", "。"], ["O", "O", "B-date", "I-date", "O"]),
    ],
)
def test_marked_spans_are_of_words_in_any_script(
    text: str, start: int, end: int, words: list[str], tags: list[str]
) -> None:
    tagging = task()
    found = tagging.tagger.read(row(text, [{"start": start, "end": end, "label": "date"}]))
    assert [text[slice(*word)] for word in found.words] == words
    assert [tagging.tags.names[tag] for tag in found.tags] == tags


def test_an_example_bears_the_labels_of_its_entities() -> None:
    tagging = task()
    ((both,),) = tagging.examples([row(WORDS, TAGS)])
    ((late,),) = tagging.examples([row(["since", "May"], ["O", "B-date"])])
    assert [tagging.listed_labels[number] for number in sorted(tagging.labels_of(both))] == ["symptom", "date"]
    assert [tagging.listed_labels[number] for number in tagging.labels_of(late)] == ["date"]


def test_a_long_text_is_cut_between_entities_and_loses_no_word() -> None:
    tagging = task(tokenizers()["wordpiece"], length=24)
    (examples,) = tagging.examples([row(WORDS * 10, TAGS * 10)])
    assert len(examples) > 3
    assert all(len(example["ids"]) <= 24 for example in examples)
    assert [tag for example in examples for tag in tags_of(tagging, example)] == TAGS * 10
    assert all(not tags_of(tagging, example)[0].startswith("I-") for example in examples)
    first, *_, last = tagging.tokenizer.convert_ids_to_tokens(examples[1]["ids"])
    assert (first, last) == ("[CLS]", "[SEP]")


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (WORDS, TAGS[1:], r" column 'text' has 6 words, column 'labels' 5 tags; expected one for each word"),
        (WORDS, "O", r" column 'labels' holds str, expected a list"),
        (["a", ""], ["O", "O"], r" word 2: '' is not a word"),
        (["a", 7], ["O", "O"], r" word 2: 7 is not a word"),
        (["a"], ["B-symptm"], r" word 1: tag 'B-symptm' is not O, B- or I- of .*; did you mean B-symptom\?"),
        (["a"], [3], r" word 1: tag 3 is not O"),
        ("a cough", ["O", "B-symptom"], r" labels\[0\]: a span must be .*; tags need a list of words"),
        (["a", "b"], ["O", "I-date"], r" word 2: I-date follows O; in IOB2 an entity begins with B-date"),
        (["a", "b"], ["B-date", "I-symptom"], r" word 2: I-symptom follows B-date; in IOB2"),
        ("a cough", [{"start": 2, "end": 5, "label": "symptom"}], r" labels\[0\]: 'cou' cuts a word"),
        (
            "a cough",
            [{"start": 2, "end": 9, "label": "symptom"}],
            r" labels\[0\]: characters 2 to 9 are not in",
        ),
        (
            "a cough",
            [{"start": 2, "end": 7, "label": "sign"}],
            r" labels\[0\]: label 'sign' is not listed in spec.task",
        ),
        ("a cough", [{"start": 2}], r" labels\[0\]: a span must be an object with start, end and label"),
        (
            "a dry cough",
            [{"start": 2, "end": 11, "label": "symptom"}, {"start": 6, "end": 11, "label": "symptom"}],
            r" labels\[1\]: 'cough' overlaps another span",
        ),
        (["x" * 900], ["O"], r": a word or an entity has more than the 64 tokens that fit into a row"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file_and_row(text: object, labels: object, sentence: str) -> None:
    with pytest.raises(BadRowError, match=rf"^file:///notes.jsonl row 3{sentence}".replace("3 column", "3: column")):
        list(task().examples([row(text, labels)]))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_loss_is_that_of_transformers(family: str) -> None:
    tagging = task()
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    architecture = Architecture(type=family, config=shape if family == "bert" else TINY[family])
    model = tagging.model(Build(architecture, tagging.tokenizer, 64)).eval()
    examples = list(tagging.examples([row(WORDS, TAGS), row(WORDS[2:], ["O", *TAGS[3:]])]))
    batch = tagging.batch([*(Pack((example,)) for (example,) in examples), Pack()])
    ours = tagging.loss(model, batch)["tags"].detach() / batch.counts["tags"]
    torch.testing.assert_close(ours, model(**batch.inputs, labels=batch.targets["tags"]).loss)
    judged = tagging.evaluate(model, batch)
    assert [len(outcome.expected) for outcome in judged] == [6, 4]
    assert sum(outcome.loss for outcome in judged) / batch.counts["tags"] == pytest.approx(float(ours), rel=1e-5)


def test_slots_of_templates_are_found_and_a_pipeline_finds_them_too(tmp_path: Path) -> None:
    notes = list(sentences(400, seed=1))
    words = sorted({word for note in notes for word in note["text"]})
    uri = write_rows(tmp_path / "notes.jsonl", iter(notes))
    shape = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96}
    job: dict[str, Any] = {
        "model__architecture": {"type": "bert", "config": shape},
        # The same each time: WordPiece's training differs from run to run, and so does what is learnt.
        "tokenizer": {"from": {"uri": vocabulary(tmp_path / "tokenizer", words)}},
        "data__sequence_length": 32,
        "training__max_steps": 150,
    }
    config = finetune(tmp_path, {"tokenClassification": {"labels": LABELS}}, uri, **job)
    result = run_rank(config, Ranks(), Recorder())
    assert result.metrics["f1"] > 0.9
    folder = result.artifact_uri.removeprefix("file://")
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    find = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple")
    found = find("strong head ache since last week")
    assert [(entity["entity_group"], entity["word"]) for entity in found] == [
        ("symptom", "strong head ache"),
        ("time", "last week"),
    ]


def test_a_tokenizer_that_does_not_say_where_its_tokens_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"^spec.tokenizer: it does not report the positions of its tokens; use a fast"):
        encode_with_offsets(ByT5Tokenizer(), ["Severe dry cough"])
