"""Encoder-decoders that classify: from scratch, and whatever the texts hold."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import SequenceClassification as Spec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import UserError
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.preflight.run import preflight
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.sequence_classification import SequenceClassification
from support.group import in_ranks
from support.jobs import classification, finetune, write_rows
from support.language import paragraphs, small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import named, path_of, run

T5, BART = (ARCHITECTURES[kind]["config"] for kind in ("t5", "bart"))
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
    "bart": BART,
    "mbart": BART,
    "mvp": BART,
    "plbart": BART,
    "bigbird_pegasus": {**BART, "attention_type": "original_full"},
}


def task(tokenizer: Any) -> SequenceClassification:
    return SequenceClassification(Context(Spec(labels=["no", "yes"]), tokenizer, 64, False, False, 0, True))


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_with_end_tokens_of_their_own_are_judged_beside_others_as_alone(family: str) -> None:
    tokenizer = train(TokenizerTraining(vocab_size=400), iter(paragraphs()[:800]), 64, Form.FRAMED)
    reading = task(tokenizer)
    model = reading.model(Build(Architecture(type=family, config=FAMILIES[family]), tokenizer, 64)).eval()
    reading.observe(model)
    texts = ["the name", "<s>the old</s> the new value</s> of the name", "</s>"]
    rows = [Row({"text": text, "label": "yes"}, Place("file:///a.jsonl", 1), "text") for text in texts]
    examples = [example for (example,) in reading.examples(rows)]
    with torch.no_grad():
        ours = reading.logits(model, reading.batch([*(Pack((example,)) for example in examples), Pack()]))[:3]
        theirs = [model(**tokenizer(text, return_tensors="pt")).logits for text in texts]
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("family", "algorithm"), [("t5", "bpe"), ("bart", "wordpiece")])
def test_an_encoder_decoder_classifies_from_scratch(tmp_path: Path, family: str, algorithm: str) -> None:
    tokenizer = {"train": {"algorithm": algorithm, "vocabSize": 512}}
    job = classification(
        tmp_path, model__architecture=ARCHITECTURES[family], tokenizer=tokenizer, training__max_steps=2
    )
    assert [finding for finding in preflight(job) if finding.ok is False] == []
    folder = str(path_of(run_rank(job, Ranks(), Silent())))
    assert pipeline("text-classification", folder)("a text of a few words")[0]["label"] in ("short", "long")


def test_two_ranks_learn_from_texts_with_end_tokens_what_one_learns(tmp_path: Path) -> None:
    texts = [text[:60] + "</s>" * (number % 3) for number, text in enumerate(paragraphs()[:80])]
    uri = write_rows(tmp_path / "rows.jsonl", ({"text": text, "label": str(len(text) % 2)} for text in texts))
    learn = {"sequenceClassification": {"labels": ["0", "1"]}}
    config = finetune(tmp_path, learn, uri, model__architecture=ARCHITECTURES["bart"], training__max_steps=3)
    _, steps = run(Ranks(), config)
    (_, others), *_ = in_ranks(2, run, named(config, "other"))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in others], rel=1e-5)


def test_a_tokenizer_that_marks_no_end_is_refused_where_the_model_looks_for_it() -> None:
    tokenizer = small_tokenizer()
    reading = task(tokenizer)
    model = reading.model(Build(Architecture(type="bart", config=BART), tokenizer, 64))
    with pytest.raises(UserError, match=r"^spec.tokenizer: it puts no end token \(eos\) behind a text, by which bart"):
        reading.observe(model)
