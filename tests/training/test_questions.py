"""Question answering: answers stay where the row says through windows and tokens; what does not fit is named."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import QuestionAnswering as Spec
from pretune_trainer.data.example import Example, Pack, Place, Row
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import BadRowError
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.base import Batch
from pretune_trainer.tasks.question_answering import QuestionAnswering
from support.jobs import Recorder, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer

TEXT = "The red house stands in Oslo, and the blue house stands in Bergen."
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def task(kind: str = "bpe", length: int = 64, **spec: Any) -> QuestionAnswering:
    if kind == "bpe":
        tokenizer = copy.deepcopy(small_tokenizer())
    else:
        tokenizer = train(TokenizerTraining(algorithm=kind, vocab_size=400), iter(paragraphs()[:800]), length)
    return QuestionAnswering(Context(Spec(**spec), tokenizer, length, False, False, 0))


def answers(*texts: str, start: int | None = None) -> dict[str, list[Any]]:
    return {"text": list(texts), "answer_start": [TEXT.index(text) if start is None else start for text in texts]}


def row(found: object, question: object = "Where is the blue house?", text: str = TEXT) -> Row:
    return Row({"text": text, "question": question, "answers": found}, Place("file:///faq.jsonl", 3), "text")


def said(task: QuestionAnswering, example: Example) -> str:
    first, last = example["span"]
    answer: str = task.tokenizer.decode(example["ids"][first : last + 1]).strip()
    return answer


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
@pytest.mark.parametrize("answer", ["Bergen", "the blue house", "red", "Oslo"])
def test_the_span_is_the_answer(kind: str, answer: str) -> None:
    answering = task(kind, length=128)
    ((example,),) = answering.examples([row(answers(answer))])
    assert said(answering, example) == answer


def test_of_the_windows_of_a_long_text_those_with_the_whole_answer_have_a_span() -> None:
    answering = task(length=48)
    text = "Nothing is here. " * 12 + TEXT
    found = {"text": ["Bergen"], "answer_start": [text.index("Bergen")]}
    (examples,) = answering.examples([row(found, text=text)])
    assert len(examples) > 3
    spans = [example["span"].tolist() for example in examples]
    assert [0, 0] in spans
    assert len({int(example["question"][0]) for example in examples}) == 1
    assert {said(answering, example) for example in examples if example["span"].any()} == {"Bergen"}


def test_a_question_has_one_name_under_all_spellings_of_its_source_and_another_in_each_row() -> None:
    rows = [
        Row({"text": TEXT, "question": "Where?", "answers": answers("Oslo")}, Place(uri, number), "text")
        for uri, number in [("file:///faq.jsonl", 1), ("file:///%66aq.jsonl", 1), ("file:///faq.jsonl", 2)]
    ]
    here, there, other = (int(example["question"][0]) for (example,) in task(length=128).examples(rows))
    assert here == there != other


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (answers("Oslo", start=3), ": the answer 'Oslo' is not at character 3 of the text; it is at 24"),
        (
            answers("Rome", start=3),
            ": the answer 'Rome' is not at character 3 .*; it is not in the text at all",
        ),
        (
            {"text": [], "answer_start": []},
            " answers: the question has no answer; if that is intended, set .*unanswerable",
        ),
        ({"text": ["Oslo"]}, " answers: as in SQuAD, answers must be an object"),
        ({"text": ["Oslo"], "answer_start": []}, " answers: as in SQuAD, answers must be an object"),
        ("Oslo", " answers: as in SQuAD, answers must be an object"),
    ],
)
def test_an_answer_that_does_not_fit_is_named_with_its_file_and_row(found: object, sentence: str) -> None:
    with pytest.raises(BadRowError, match=rf"^file:///faq.jsonl row 3{sentence}"):
        list(task().examples([row(found)]))


@pytest.mark.parametrize(("question", "says"), [("", "not a question"), (7, "not a question"), ("why? " * 40, "raise")])
def test_a_question_that_does_not_fit_is_named_with_its_file_and_row(question: object, says: str) -> None:
    with pytest.raises(BadRowError, match=rf"^file:///faq.jsonl row 3: .*{says}"):
        list(task().examples([row(answers("Oslo"), question)]))


def _loss_of_transformers(model: PreTrainedModel, batch: Batch, number: int) -> torch.Tensor:
    """Of one row of a batch, by itself."""
    length = int(batch.inputs["attention_mask"][number].sum())
    kept = {name: value[number : number + 1, :length] for name, value in batch.inputs.items()}
    if model.config.model_type == "bert":
        kept["token_type_ids"] = batch.targets["types"][number : number + 1, :length]
    start, end = (batch.targets[name][number : number + 1] for name in ("start", "end"))
    loss: torch.Tensor = model(**kept, start_positions=start, end_positions=end).loss
    return loss


def test_a_wordpiece_of_ours_tells_bert_where_the_text_begins() -> None:
    training = TokenizerTraining(algorithm="wordpiece", vocab_size=400)
    tokenizer = train(training, iter(paragraphs()[:800]), 64, Form.FRAMED)
    silent, answering = (
        QuestionAnswering(Context(Spec(), tokenizer, 64, False, False, 0, token_types=kinds)) for kinds in (0, 2)
    )
    ((example,),) = answering.examples([row(answers("Oslo"))])
    separator = example["ids"].tolist().index(tokenizer.sep_token_id)
    assert example["types"].tolist() == [0] * (separator + 1) + [1] * (len(example["ids"]) - separator - 1)
    assert answering.fingerprint == f"{silent.fingerprint}/segments"


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
def test_a_model_is_given_what_its_tokenizer_gives_those_who_use_it(algorithm: str) -> None:
    training = TokenizerTraining(algorithm=algorithm, vocab_size=400)
    tokenizer = train(training, iter(paragraphs()[:800]), 64, Form.FRAMED)
    answering = QuestionAnswering(Context(Spec(), tokenizer, 64, False, False, 0))
    architecture = Architecture(type="bert", config=BERT)
    model = answering.model(Build(architecture, tokenizer, 64)).eval()
    found = {"text": ["Oslo"], "answer_start": [12]}
    ((example,),) = answering.examples([row(found, text="He lives in Oslo.")])
    (ours,) = answering.evaluate(model, answering.batch([Pack((example,))]))
    theirs = model(**tokenizer("Where is the blue house?", "He lives in Oslo.", return_tensors="pt"))
    assert ours.none_score == pytest.approx(float((theirs.start_logits + theirs.end_logits)[0, 0]), abs=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_loss_is_that_of_transformers(family: str) -> None:
    answering = task(length=128)
    architecture = Architecture(type=family, config=BERT if family == "bert" else TINY[family])
    model = answering.model(Build(architecture, answering.tokenizer, 128)).eval()
    rows = [row(answers("Oslo")), row(answers("the blue house"))]
    batch = answering.batch([*(Pack((example,)) for (example,) in answering.examples(rows)), Pack()])
    ours = answering.loss(model, batch)["span"].detach() / batch.counts["span"]
    # One by one: to transformers an answer could begin in what fills a row up, so that its loss depends on that.
    theirs = [_loss_of_transformers(model, batch, number) for number in (0, 1)]
    torch.testing.assert_close(ours, sum(theirs) / 2)
    judged = answering.evaluate(model, batch)
    assert [outcome.expected for outcome in judged] == [("Oslo",), ("the blue house",)]
    assert all(outcome.text in TEXT for outcome in judged)


def test_windows_end_where_the_positions_of_a_model_end() -> None:
    answering = task(length=21)
    model = answering.model(Build(Architecture(type="bert", config=BERT), answering.tokenizer, 21)).eval()
    (examples,) = answering.examples([row(answers("Oslo"), question="Where?")])
    batch = answering.batch([Pack((example,)) for example in examples])
    assert batch.inputs["input_ids"].shape[1] == model.config.max_position_embeddings == 21
    assert len(answering.evaluate(model, batch)) == len(examples)


def people(number: int) -> Iterator[dict[str, object]]:
    """Who is where, and a question about one of the two."""
    random = np.random.default_rng(4)
    names, places = ["anna", "bo", "carla", "dmitri"], ["oslo", "bergen", "rome", "paris", "lima"]
    for _ in range(number):
        name, place = str(random.choice(names)), str(random.choice(places))
        text = f"{random.choice(['today', 'now'])} {name} is in {place}"
        question, answer = ("who", name) if random.random() < 0.5 else ("where", place)
        yield {"text": text, "question": question, "answers": {"text": [answer], "answer_start": [text.index(answer)]}}


def test_answers_are_found(tmp_path: Path) -> None:
    job = finetune(
        tmp_path,
        {"questionAnswering": {}},
        write_rows(tmp_path / "people.jsonl", people(400)),
        tokenizer={"train": {"vocabSize": 300}},
        data__sequence_length=32,
        training__max_steps=200,
    )
    result = run_rank(job, Ranks(), Recorder())
    assert result.metrics["exactMatch"] > 0.9
