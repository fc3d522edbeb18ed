"""The first training example as the model sees it: what is learnt is told apart from what is only read."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pretune_api.embedding import Embedding as EmbeddingSpec
from pretune_api.objectives import CausalLM as CausalSpec
from pretune_api.objectives import Denoising as DenoisingSpec
from pretune_api.objectives import MaskedLM as MaskedSpec
from pretune_api.preference import Preference as PreferenceSpec
from pretune_api.tasks import Chat as ChatSpec
from pretune_api.tasks import QuestionAnswering as QuestionSpec
from pretune_api.tasks import SequenceClassification as ClassificationSpec
from pretune_api.tasks import SequenceRegression as RegressionSpec
from pretune_api.tasks import Summarization
from pretune_api.tasks import TokenClassification as TagSpec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.drive.log_sink import LogSink
from pretune_trainer.drive.wire import event_from_json, event_to_json
from pretune_trainer.first_example import as_seen, first_example
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Shown
from pretune_trainer.tasks import TASKS, Context
from support.jobs import Recorder, finetune, pretrain, write_rows
from support.language import paragraphs, small_tokenizer
from support.runs import gathered, run_until
from support.speech import listening, spoken, write_clips
from support.words import opened

WORDS = ["the", "house", "is", "red", "and", "old"]
TEXT = " ".join(WORDS)
TALK = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}]
LABELS = {0: "O", 1: "B-place", 2: "I-place", 3: "rest"}


def seen(stage: str, spec: Any, *, words: bool = True, both: bool = False, length: int = 64, **values: Any) -> str:
    tokenizer = opened(WORDS) if words else copy.deepcopy(small_tokenizer())
    task = TASKS[stage](Context(spec, tokenizer, length, not both, False, 1, both))
    (examples,) = task.examples([Row({"text": TEXT, **values}, Place("file:///a.jsonl", 1), "text")])
    return as_seen(task.batch([Pack(tuple(examples))]), tokenizer, LABELS)


def test_of_a_conversation_what_the_assistant_says_is_learnt() -> None:
    assert seen("chat", ChatSpec(), words=False, text=TALK) == (r"<s><|user|>\nIs it?</s>\n<|assistant|>\n⟦Yes.</s>⟧\n")


@pytest.mark.parametrize(
    ("stage", "spec", "values", "expected"),
    [
        ("causalLM", CausalSpec(), {}, f"<s>⟦ {TEXT} </s>⟧"),
        ("summarization", Summarization(max_target_tokens=8), {"summary": "old"}, f"<s> {TEXT}⟦ old </s>⟧"),
        (
            "preference",
            PreferenceSpec(),
            {"text": "the house is ", "chosen": "red ", "rejected": "old "},
            "<s> the house is⟦ red </s>⟧\n<s> the house is⟦ old </s>⟧",
        ),
        ("sequenceClassification", ClassificationSpec(labels=["a", "b"]), {"label": "b"}, f"{TEXT} ⇒ ⟦B-place⟧"),
        (
            "sequenceClassification",
            ClassificationSpec(labels=["a", "b", "c", "d"], multi_label=True),
            {"label": ["b", "d"]},
            f"{TEXT} ⇒ ⟦B-place, rest⟧",
        ),
        (
            "sequenceClassification",
            ClassificationSpec(labels=["a", "b"], pair_column="other"),
            {"label": "b", "other": "the old house"},
            f"{TEXT} the old house ⇒ ⟦B-place⟧",
        ),
        ("sequenceRegression", RegressionSpec(target_column="score"), {"score": 2.5}, f"{TEXT} ⇒ ⟦2.5⟧"),
        (
            "tokenClassification",
            TagSpec(labels=["place"]),
            {"text": ["the", "red", "house"], "labels": ["O", "B-place", "I-place"]},
            "the⟦O⟧ red⟦B-place⟧ house⟦I-place⟧",
        ),
        (
            "embedding",
            EmbeddingSpec(positive_column="found"),
            {"text": "the house", "found": "red and old"},
            "the house\nred and old",
        ),
    ],
)
def test_what_is_learnt_is_told_apart(stage: str, spec: Any, values: dict[str, Any], expected: str) -> None:
    assert seen(stage, spec, **values) == expected


def test_what_an_encoder_decoder_writes_stands_behind_what_it_reads() -> None:
    found = seen("summarization", Summarization(max_target_tokens=8), both=True, summary="old house")
    assert found == f"{TEXT} ⇒ ⟦old house </s>⟧"
    found = seen("denoising", DenoisingSpec.model_validate({"spanCorruption": {}}), both=True)
    read, written = found.split(" ⇒ ")
    assert "<extra_id_0>" in read
    assert written.startswith("⟦<extra_id_0> ")


def test_a_word_that_is_hidden_stands_behind_what_hides_it() -> None:
    found = seen("maskedLM", MaskedSpec(masking_rate=0.5), text=" ".join(WORDS * 3))
    assert "<mask>⟦" in found
    assert found.count("⟦") == 9
    assert {word for part in found.split("⟦")[1:] for word in [part.split("⟧")[0]]} <= {*WORDS}


@pytest.mark.parametrize(
    ("answer", "expected"), [("red", "⟦ red⟧"), ("", "⟦the⟧ house is the")], ids=["a span", "none"]
)
def test_an_answer_is_marked_where_it_stands(answer: str, expected: str) -> None:
    answers = {"text": [answer] if answer else [], "answer_start": [TEXT.index(answer)] if answer else []}
    found = seen("questionAnswering", QuestionSpec(unanswerable=True), question="the house is", answers=answers)
    assert expected in found
    assert found.count("⟦") == 1


def test_long_texts_lose_their_middle_and_boundaries_stay() -> None:
    prompt, answer = "a long question. " * 100, "a long answer. " * 100
    talk = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    found = seen("chat", ChatSpec(), words=False, length=4000, text=talk)
    assert len(found) < 650
    assert r"question. </s>\n<|assistant|>\n⟦a long answer." in found
    assert found.endswith(r"a long answer. </s>⟧\n")
    many = [{**message, "content": f"{message['content']} {turn}"} for turn in range(100) for message in TALK]
    found = seen("chat", ChatSpec(), words=False, length=4000, text=many)
    assert len(found) < 750
    assert " … " in found
    assert found.count("⟦") == found.count("⟧") > 5
    assert "⟦Yes. 0</s>⟧" in found
    assert "⟦Yes. 99</s>⟧" in found


def test_what_could_steer_a_terminal_is_written_out() -> None:
    found = seen("chat", ChatSpec(), words=False, text=[{**TALK[0], "content": "a\x1b[31m\tb\x9b"}, TALK[1]])
    assert r"a\x1b[31m\tb\x9b" in found
    assert found.isprintable()


@pytest.mark.parametrize(("kind", "expected"), [("wav2vec2", "⟦bcee|dc⟧"), ("whisper", "bcee dc<|endoftext|>⟧")])
def test_of_a_clip_the_transcript_is_shown_letter_by_letter(tmp_path: Path, kind: str, expected: str) -> None:
    (content, _), *others = spoken(30)
    uri = write_clips(tmp_path / "clips.parquet", [(content, "bcee dc"), *others])
    inputs = gathered(listening(tmp_path, uri, kind))
    assert first_example(inputs, {}).endswith(expected)


def test_it_is_told_when_training_begins_and_not_when_it_goes_on(tmp_path: Path) -> None:
    job = pretrain(tmp_path, checkpoint={"everySteps": 2})
    run_until(Ranks(), job, 4)
    later = Recorder()
    run_rank(job, Ranks(), later)
    assert later.of(Shown) == []


def test_it_is_the_first_row_of_the_data(tmp_path: Path) -> None:
    said = ["Yes, first of all.", *paragraphs()[:200]]
    rows = ({"messages": [TALK[0], {**TALK[1], "content": each}]} for each in said)
    uri = write_rows(tmp_path / "rows.jsonl", rows)
    source = {"uri": uri, "column": "messages"}
    job = finetune(tmp_path, {"chat": {}}, uri, data__train=[source], data__validation=None, training__max_steps=2)
    events = Recorder()
    run_rank(job, Ranks(), events)
    (shown,) = events.of(Shown)
    assert "⟦Yes, first of all.</s>⟧" in shown.text


def test_it_goes_into_no_log() -> None:
    shown = Shown("the house ⇒ ⟦red⟧")
    assert event_from_json(json.loads(json.dumps(event_to_json(shown)))) == shown
    lines: list[str] = []
    LogSink(lines.append).write([shown])
    assert lines == []
