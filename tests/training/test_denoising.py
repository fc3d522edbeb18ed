"""denoising: what is taken out of a text, and written again; the loss that transformers takes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_api.model import Architecture
from pretune_api.objectives import Denoising as Spec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.errors import UserError
from pretune_trainer.model.build import Build
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.denoising import Denoising
from support.language import small_tokenizer
from support.objectives import ARCHITECTURES, denoised
from support.runs import assert_refused
from support.words import opened

WORDS = [f"w{number}" for number in range(100)]
TEXT = " ".join(WORDS[:40])
KINDS: dict[str, dict[str, Any]] = {"t5": {"spanCorruption": {}}, "bart": {"infilling": {}}}


def task_for(spec: dict[str, Any], length: int = 64) -> Denoising:
    return Denoising(Context(Spec.model_validate(spec), opened(WORDS), length, False, False, seed=1))


def packs(task: Denoising, *texts: str, epoch: int = 0) -> list[Pack]:
    rows = [Row({"text": text}, Place("file:///a.jsonl", 1), "text") for text in texts]
    return [Pack(tuple(found), (epoch, 0, number)) for number, found in enumerate(task.examples(rows))]


def words(task: Denoising, ids: torch.Tensor) -> list[str]:
    """Without padding."""
    tokens: list[str] = task.tokenizer.convert_ids_to_tokens([id_ for id_ in ids.tolist() if id_ > task.pad])
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str) -> None:
    task = task_for(KINDS[kind])
    model = task.model(Build(Architecture.model_validate(ARCHITECTURES[kind]), task.tokenizer, 64)).eval()
    batch = task.batch([*packs(task, TEXT, "w1 w2 w3 w4 w5 w6"), Pack()])
    ours = task.loss(model, batch)["lm"] / batch.counts["lm"]
    torch.testing.assert_close(ours, model(**batch.inputs, labels=batch.targets["lm"]).loss)
    (answers,) = task.evaluate(model, batch)
    assert answers.mean == pytest.approx(float(ours), rel=1e-5)


def test_t5_reads_sentinels_and_writes_each_span_after_its_own() -> None:
    task = task_for({"spanCorruption": {"maskingRate": 0.2}})
    batch = task.batch(packs(task, TEXT))
    text, answer = words(task, batch.inputs["input_ids"][0]), words(task, batch.targets["lm"][0])
    spans: dict[str, list[str]] = {}
    for word in answer[:-1]:
        if word.startswith("<extra_id_"):
            spans[word] = []
        else:
            spans[list(spans)[-1]].append(word)
    assert list(spans) == [f"<extra_id_{number}>" for number in range(3)] == [w for w in text if w.startswith("<extra")]
    assert sum(map(len, spans.values())) == 8
    assert [part for word in text[:-1] for part in spans.get(word, [word])] == TEXT.split()
    assert (text[-1], answer[-1]) == ("</s>", "</s>")


def test_bart_reads_one_mask_a_span_and_writes_the_whole_text() -> None:
    task = task_for({"infilling": {}})
    batch = task.batch(packs(task, TEXT))
    text, answer = words(task, batch.inputs["input_ids"][0]), words(task, batch.targets["lm"][0])
    assert answer == ["<s>", *TEXT.split(), "</s>"]
    assert [word for word in text if word != "<mask>"] == [word for word in answer if word in text]
    assert len([word for word in text if word in WORDS]) == 40 - 12
    assert "<mask>" in text


def test_damage_belongs_to_seed_epoch_and_row_and_differs_between_epochs() -> None:
    task = task_for({"infilling": {}})
    first, again = (task.batch(packs(task, TEXT, TEXT)).inputs["input_ids"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert first.tolist() != task.batch(packs(task, TEXT, TEXT, epoch=1)).inputs["input_ids"].tolist()


def test_rows_are_full_after_the_damage() -> None:
    """A row of 64 tokens has the end token and 63 of text and sentinels: of 68 tokens, 10 are in 3 spans."""
    task = task_for({"spanCorruption": {}})
    (pack, *_) = packs(task, " ".join(WORDS * 3))
    assert task.batch([pack]).inputs["attention_mask"].sum() == 64


def test_what_cannot_learn_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    encoder = denoised(tmp_path, model__architecture=ARCHITECTURES["bert"])
    assert_refused(
        encoder,
        "spec.model.architecture.type: transformers has no Seq2SeqLM model of type 'bert'; "
        "supported types include .*t5, bart",
    )
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    plain = {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    assert_refused(denoised(tmp_path, tokenizer=plain), "spec.tokenizer: it has no sentinels <extra_id_0>")
    infilling = denoised(tmp_path, "bart", tokenizer=plain)
    assert_refused(infilling, "spec.tokenizer: it has no mask token, which denoising.infill")


def test_more_spans_than_sentinels_are_refused() -> None:
    with pytest.raises(UserError, match=r"spanCorruption: a row of 512 tokens has 28 spans, but the tokenizer has 10"):
        task_for({"spanCorruption": {}}, length=512)
