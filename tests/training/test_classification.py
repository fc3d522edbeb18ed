"""Classification: the loss that transformers itself would take, and labels that are checked where they stand."""

import copy
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import SequenceClassification as Spec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.data.vocabulary import train
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said, Step
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.sequence_classification import SequenceClassification
from support.jobs import Recorder, classification, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer

LABELS = ["contract", "invoice", "letter"]
BERT = {
    "type": "bert",
    "config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}


def task_for(
    *, multi_label: bool, tokenizer: PreTrainedTokenizerBase | None = None, **fields: Any
) -> SequenceClassification:
    spec = Spec(labels=LABELS, multi_label=multi_label, **fields)
    tokenizer = tokenizer or copy.deepcopy(small_tokenizer())
    return SequenceClassification(Context(spec, tokenizer, 32, False, False, 0))


def row(text: str, label: object) -> Row:
    return Row({"text": text, "label": label}, Place("file:///mail.jsonl", 3), "text")


def packs_of(task: SequenceClassification, labels: list[object]) -> list[Pack]:
    rows = [row(text, label) for text, label in zip(paragraphs(), labels, strict=False)]
    return [Pack((example,)) for (example,) in task.examples(rows)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize(
    ("multi_label", "labels", "numbers"),
    [
        (False, ["letter", "contract", "invoice"], torch.tensor([2, 0, 1])),
        (True, [["letter", "contract"], [], ["invoice"]], torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])),
    ],
    ids=["one label", "several labels"],
)
def test_the_loss_is_that_of_transformers(
    family: str, multi_label: bool, labels: list[Any], numbers: torch.Tensor
) -> None:
    task = task_for(multi_label=multi_label)
    architecture = Architecture(type=family, config=BERT["config"] if family == "bert" else TINY[family])
    model = task.model(Build(architecture, task.tokenizer, 32)).eval()
    batch = task.batch([*packs_of(task, labels), Pack()])
    ours = task.loss(model, batch)["label"].detach() / batch.counts["label"]
    kept = {name: value[: len(labels)] for name, value in batch.inputs.items()}
    torch.testing.assert_close(ours, model(**kept, labels=numbers).loss)
    judged = task.evaluate(model, batch)
    assert sum(outcome.loss for outcome in judged) / len(judged) == pytest.approx(float(ours), rel=1e-5)


def test_class_weights_are_those_of_pytorch() -> None:
    weights = {"invoice": 5.0, "letter": 0.5}
    task = task_for(multi_label=False, class_weights=weights)
    model = task.model(Build(Architecture(type="bert", config=BERT["config"]), task.tokenizer, 32)).eval()
    numbers, tensor = torch.tensor([2, 0, 1]), torch.tensor([1.0, 5.0, 0.5])
    batch = task.batch([*packs_of(task, ["letter", "contract", "invoice"]), Pack()])
    logits = model(**{name: value[:3] for name, value in batch.inputs.items()}).logits
    ours = task.loss(model, batch)["label"]
    torch.testing.assert_close(ours, torch.nn.CrossEntropyLoss(tensor, reduction="sum")(logits, numbers))
    assert task.fingerprint == task_for(multi_label=False).fingerprint
    several = task_for(multi_label=True, class_weights=weights)
    batch = several.batch(packs_of(several, [["letter", "contract"], [], ["invoice"]]))
    ours = several.loss(model, batch)["label"]
    wanted = torch.nn.BCEWithLogitsLoss(pos_weight=tensor, reduction="sum")(logits, batch.targets["label"])
    torch.testing.assert_close(ours, wanted)


def test_weights_of_unknown_labels_are_refused() -> None:
    sentence = r"sequenceClassification.classWeights: 'invoce' is not a label; did you mean invoice\?"
    with pytest.raises(UserError, match=sentence):
        task_for(multi_label=False, class_weights={"invoce": 2.0})


@pytest.mark.parametrize(
    ("label", "multi_label", "sentence"),
    [
        ("invoce", False, "label 'invoce' is not listed in .*sequenceClassification.labels; did you mean invoice?"),
        (7, False, "label '7' is not listed .*; known: contract, invoice, letter"),
        (
            None,
            False,
            "the label is null; remove the row, or write one of .*sequenceClassification.labels",
        ),
        (10**400, False, "label '1000*…' is not listed .*; known: contract, invoice, letter"),
        ("a\nb", False, r"label 'a\\nb' is not listed"),
        (["letter", "leter"], True, "label 'leter' is not listed .*; did you mean letter?"),
        ("letter", True, "column 'label' holds str; multiLabel needs a list of labels"),
        (None, True, "column 'label' holds null; multiLabel needs a list of labels"),
        (["letter"], False, "column 'label' holds list; a list needs multiLabel: true"),
    ],
)
def test_a_label_that_does_not_fit_is_named_with_its_file_and_row(
    label: object, multi_label: bool, sentence: str
) -> None:
    with pytest.raises(BadRowError, match=rf"^file:///mail.jsonl row 3: {sentence}") as caught:
        list(task_for(multi_label=multi_label).examples([row("Dear Sir", label)]))
    assert len(str(caught.value)) < 250


def test_a_blank_text_gives_no_example() -> None:
    blank, empty, some = task_for(multi_label=False).examples([row(text, "letter") for text in (" \n", "", "a")])
    assert (blank, empty, len(some)) == ([], [], 1)


def test_numbers_and_truth_values_are_labels_by_the_names_that_json_gives_them() -> None:
    task = SequenceClassification(
        Context(Spec(labels=["0", "true"]), copy.deepcopy(small_tokenizer()), 32, False, False, 0)
    )
    examples = [example for (example,) in task.examples([row("a", 0), row("b", True)])]
    assert [example["labels"].tolist() for example in examples] == [[0], [1]]


def test_a_batch_in_which_no_row_has_a_text_gives_no_examples() -> None:
    assert list(task_for(multi_label=False).examples([])) == []


def test_a_long_text_is_cut_and_keeps_its_special_tokens() -> None:
    wordpiece = train(TokenizerTraining(algorithm="wordpiece", vocab_size=400), iter(paragraphs()[:800]), 32)
    task = task_for(multi_label=False, tokenizer=wordpiece)
    ((example,),) = task.examples([row("the value of the name " * 20, "letter")])
    first, *_, last = wordpiece.convert_ids_to_tokens(example["ids"])
    assert (len(example["ids"]), first, last) == (32, "[CLS]", "[SEP]")


def test_an_encoder_learns_to_classify_from_scratch(tmp_path: Path) -> None:
    # WordPiece trains differently on each run, and with one vocabulary in eight this learns later.
    tokenizer = {"train": {"algorithm": "bpe", "vocabSize": 512}}
    recorder = Recorder()
    job = classification(tmp_path, model__architecture=BERT, tokenizer=tokenizer, training__max_steps=120)
    result = run_rank(job, Ranks(), recorder)
    assert result.metrics["accuracy"] > 0.8
    losses = [step.loss for step in recorder.of(Step)]
    assert mean(losses[-20:]) < losses[0] / 2
    model = AutoModelForSequenceClassification.from_pretrained(result.artifact_uri.removeprefix("file://"))
    assert model.config.id2label == {0: "short", 1: "long"}


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ({"sequenceClassification": {"labels": ["calm", "loud", "wild"]}}, ["calm", "wild"]),
        ({"sequenceClassification": {"labels": ["calm", "loud"], "multiLabel": True}}, [["calm"], []]),
    ],
    ids=["one label", "several labels"],
)
def test_a_label_that_no_training_row_has_is_told(tmp_path: Path, task: dict[str, Any], rows: list[Any]) -> None:
    texts = paragraphs()[:80]
    labelled = ({"text": text, "label": label} for text, label in zip(texts, rows * 40, strict=True))
    uri = write_rows(tmp_path / "rows.jsonl", labelled)
    recorder = Recorder()
    run_rank(finetune(tmp_path, task, uri, training__max_steps=1), Ranks(), recorder)
    assert recorder.of(Said)[-1].text == (
        "spec.task.sequenceClassification.labels: no training row has 'loud', which the model cannot learn;"
        " add rows, or remove it"
    )


def test_rows_that_teach_nothing_are_counted_and_told(tmp_path: Path) -> None:
    texts = [*paragraphs()[:80], " ", None]
    uri = write_rows(tmp_path / "rows.jsonl", ({"text": text, "label": "calm"} for text in texts))
    recorder = Recorder()
    job = finetune(tmp_path, {"sequenceClassification": {"labels": ["calm", "loud"]}}, uri, training__max_steps=1)
    run_rank(job, Ranks(), recorder)
    told = "2 of 82 rows (2.4%) give nothing to learn from: they are null, blank or too short"
    assert told in [said.text for said in recorder.of(Said)]


def test_a_warm_up_that_training_does_not_outlast_is_told(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "rows.jsonl", ({"text": text, "label": "calm"} for text in paragraphs()[:80]))
    rates: dict[str, Any] = {
        "training__learning_rate": 5.0e-5,
        "training__warmup_steps": 9,
        "training__max_steps": 9,
    }
    job = finetune(tmp_path, {"sequenceClassification": {"labels": ["calm", "loud"]}}, uri, **rates)
    recorder = Recorder()
    run_rank(job, Ranks(), recorder)
    assert f"{recorder.of(Step)[-1].learning_rate:.1e}" == "4.5e-05"
    assert recorder.of(Said)[-1].text == (
        "spec.training.warmupSteps: training ends with step 9, so the learning rate rises to 4.5e-05 alone,"
        " not to 5.0e-05; lower it, or train longer"
    )


def test_the_label_column_is_read_from_parquet_too(tmp_path: Path) -> None:
    texts = [f"{mood} {text}" for text, mood in zip(paragraphs()[:160], ["calm", "wild"] * 80, strict=True)]
    pq.write_table(
        pa.table({"text": texts, "mood": ["calm", "wild"] * 80, "unused": [0, 1] * 80}), tmp_path / "rows.parquet"
    )
    task = {"sequenceClassification": {"labels": ["calm", "wild"], "labelColumn": "mood"}}
    recorder = Recorder()
    run_rank(finetune(tmp_path, task, (tmp_path / "rows.parquet").as_uri()), Ranks(), recorder)
    assert len(recorder.of(Step)) == 8
