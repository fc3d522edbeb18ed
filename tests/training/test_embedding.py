"""Queries find their documents among those of all ranks, as in a naive loss; others compute the same vectors."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from pretune_trainer.data.example import Example, Pack, Place, Row
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.inputs import Inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.tasks.embedding import Embedding
from support.group import in_ranks
from support.jobs import classification
from support.language import TINY
from support.objectives import ARCHITECTURES, masked
from support.runs import as_parent, assert_same_bits, gathered, named, packs_of, path_of, run, run_until, weights_of
from support.searching import SEARCH, embedding

KINDS: dict[str, dict[str, Any]] = {
    **ARCHITECTURES,
    "llama": {"type": "llama", "config": TINY["llama"]},
    "squeezebert": {"type": "squeezebert", "config": ARCHITECTURES["bert"]["config"] | {"embedding_size": 32}},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return gathered(embedding(tmp_path_factory.mktemp("search")))


@pytest.fixture(scope="module")
def model(inputs: Inputs) -> torch.nn.Module:
    model: torch.nn.Module = inputs.make_model().model
    return model.eval()


def vector(model: torch.nn.Module, ids: Any) -> Tensor:
    """A text's vector: one text at a time, nothing padded."""
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids.tolist()])).last_hidden_state[0]
    return torch.nn.functional.normalize(hidden.mean(0), dim=0).double()


TEXTS = [np.array([2, *ids, 3], np.int32) for ids in ([7], [8, 9], [10, 11, 12], [13, 14], [15] * 9, [16, 17])]


def example(query: int, document: int, negatives: list[int]) -> Example:
    ids = [TEXTS[number] for number in negatives]
    return {
        "ids": TEXTS[query],
        "document": TEXTS[document],
        "negatives": np.concatenate([np.zeros(0, np.int32), *ids]),
        "lengths": np.array([len(each) for each in ids], np.int32),
    }


text = st.integers(0, len(TEXTS) - 1)


@settings(max_examples=40)
@given(st.lists(st.tuples(text, text, st.lists(text, max_size=2)), min_size=1, max_size=5), st.integers(0, 2))
def test_the_loss_is_that_of_each_query_by_itself(
    inputs: Inputs, model: torch.nn.Module, rows: list[tuple[int, int, list[int]]], blank: int
) -> None:
    """Whatever the padding and rows without a pair; what is equal, or of an equal query, is not compared."""
    packs = [*(Pack((example(*row),)) for row in rows), *[Pack()] * blank]
    batch = inputs.task.batch(packs)
    vectors = [vector(model, ids) for ids in TEXTS]
    expected = 0.0
    for query, document, _ in rows:
        others = [other for asked, other, _ in rows if asked != query and other != document]
        others += [other for _, _, negatives in rows for other in negatives if other != document]
        scores = torch.stack([vectors[query] @ vectors[other] for other in [document, *others]]) / 0.05
        expected += float(scores.logsumexp(0) - scores[0])
    assert batch.counts == {"pair": len(rows)}
    with torch.no_grad():
        assert float(inputs.task.loss(model, batch)["pair"]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_an_evaluation_of_one_batch_has_the_loss_of_training_on_it(inputs: Inputs, model: torch.nn.Module) -> None:
    batch = inputs.task.batch([Pack((example(0, 1, [2]),)), Pack(), Pack((example(3, 4, [5]),))])
    (report,) = inputs.task.metrics()
    with torch.no_grad():
        report.update(inputs.task.evaluate(model, batch))
        loss = float(inputs.task.loss(model, batch)["pair"]) / batch.counts["pair"]
    assert report.result()["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("spec", [SEARCH, {}], ids=["search", "texts alone"])
def test_two_ranks_learn_what_one_learns(tmp_path: Path, spec: dict[str, Any]) -> None:
    config = embedding(tmp_path, spec, training__examples_per_step=15, training__max_steps=4)
    whole, steps = run(Ranks(), config)
    (half, others), *_ = in_ranks(2, run, named(config, "other"))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-5)
    assert half.metrics == pytest.approx(whole.metrics, abs=1e-4)
    assert [step.tokens_total for step in others] == [step.tokens_total for step in steps]


def test_stopped_and_gone_on_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = embedding(tmp_path, checkpoint__every_steps=4)
    whole, _ = run(Ranks(), named(config, "whole"))
    run_until(Ranks(), config, 3)
    again, steps = run(Ranks(), config)
    assert 1 < steps[0].step <= 8
    assert_same_bits(again, whole)


def test_one_rank_goes_on_where_two_stopped(tmp_path: Path) -> None:
    config = embedding(tmp_path)
    _, undisturbed = run(Ranks(), named(config, "whole"))
    in_ranks(2, run_until, config, 1)
    _, steps = run(Ranks(), config)
    losses = {step.step: step.loss for step in undisturbed}
    assert [step.loss for step in steps] == pytest.approx([losses[step.step] for step in steps], abs=1e-4)


def test_a_text_is_its_own_document_under_another_dropout(tmp_path: Path) -> None:
    noisy = {"type": "bert", "config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}}
    inputs = gathered(embedding(tmp_path, {}, model__architecture=noisy))
    model, batch = inputs.make_model().model, inputs.task.batch(packs_of(inputs, 4))
    assert isinstance(inputs.task, Embedding)
    query, document = inputs.task._vectors(model.train(), batch)
    assert (query * document).sum(-1).max() < 0.9999
    query, document = inputs.task._vectors(model.eval(), batch)
    torch.testing.assert_close(query, document)


def test_hard_negatives_are_drawn_anew_each_epoch_but_not_to_judge(inputs: Inputs) -> None:
    assert isinstance(inputs.task, Embedding)
    row = example(0, 1, [2, 3, 4, 5])
    drawn = {
        tuple(inputs.task.batch([Pack((row,), (epoch, 0, 0))]).targets["name"][2:, 0].tolist()) for epoch in range(9)
    }
    assert len(drawn) > 2
    judged = {
        tuple(inputs.task.batch([Pack((row,), (0, 0, place), held_out=True)]).targets["name"][2:, 0].tolist())
        for place in range(9)
    }
    assert len(judged) == 1


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", "bert"), ("cls", "roberta"), ("last", "llama"), ("mean", "squeezebert")]
)
def test_an_artifact_computes_the_same_vectors_with_transformers_alone(tmp_path: Path, pooling: str, kind: str) -> None:
    spec = {**SEARCH, "pooling": pooling, "queryPrefix": "query: ", "documentPrefix": "passage: "}
    config = embedding(tmp_path, spec, model__architecture=KINDS[kind], training__max_steps=2)
    result, _ = run(Ranks(), config)
    inputs = gathered(config)
    model, loaded = AutoModel.from_pretrained(path_of(result), output_loading_info=True)
    new = {name.partition(".")[0] for name in loaded["missing_keys"]}
    assert new == (set() if kind == "llama" else {"pooler"}), "vectors are not made of it: it was never trained"
    assert not loaded["unexpected_keys"] | loaded["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(path_of(result))
    values = {"text": "a name", "positive": "a value", "negatives": ["a word"]}
    ((found,),) = inputs.task.examples([Row(values, Place("file:///rows.jsonl", 1), "text")])
    with torch.no_grad():
        (ours,) = inputs.task.evaluate(model.eval(), inputs.task.batch([Pack((found,))]))
    texts = ("query: a name", "passage: a value", "passage: a word")
    for text, vector in zip(texts, ours.vectors, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        whole = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        torch.testing.assert_close(torch.nn.functional.normalize(whole, dim=0), torch.from_numpy(vector))


def test_sentence_transformers_is_told_how_vectors_are_made(tmp_path: Path) -> None:
    spec = {"pooling": "cls", "queryPrefix": "query: "}
    result, _ = run(Ranks(), embedding(tmp_path, spec, training__max_steps=1))
    names = ("modules", "1_Pooling/config", "sentence_bert_config", "config_sentence_transformers")
    modules, pooling, text, whole = (json.loads((path_of(result) / f"{name}.json").read_text()) for name in names)
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert [module["path"] for module in modules[:2]] == ["", "1_Pooling"]
    assert {name for name, value in pooling.items() if value is True} == {"pooling_mode_cls_token"}
    assert (pooling["word_embedding_dimension"], text["max_seq_length"]) == (32, 64)
    assert whole["prompts"] == {"query": "query: ", "document": ""}


def test_a_chain_leads_from_reading_to_searching_and_on(tmp_path: Path) -> None:
    read, _ = run(Ranks(), masked(tmp_path / "read", training__max_steps=2))
    linear = {"lora": {"targets": "linear"}}
    alone, _ = run(Ranks(), embedding(tmp_path / "alone", {}, as_parent(read), method=linear, training__max_steps=2))
    before = weights_of(read)
    start = gathered(embedding(tmp_path / "again", SEARCH, as_parent(read))).make_model().model.state_dict()
    body = [name for name in start if f"bert.{name}" in before]
    assert len(body) > 20
    assert all(torch.equal(start[name], before[f"bert.{name}"]) for name in body)
    search, _ = run(Ranks(), embedding(tmp_path / "search", SEARCH, as_parent(alone), evaluation={"baseline": True}))
    assert search.metrics.keys() == {"loss", "recallAt1", "recallAt5", "recallAt10", "mrrAt10"}
    assert alone.metrics.keys() == {"loss"}
    run(Ranks(), classification(tmp_path / "labels", as_parent(search), training__max_steps=1))


METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"targets": "linear"}},
    "ia3": {"ia3": {}},
    "adapter": {"adapter": {"channels": 4}},
    "freeze": {"freeze": {"lastBlocks": 1}},
    "full": {"full": {"layerDecay": 0.5}},
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_each_method_trains_a_model_without_a_head(tmp_path: Path, method: dict[str, Any]) -> None:
    result, steps = run(Ranks(), embedding(tmp_path, method=method, training__max_steps=4))
    assert math.isfinite(steps[-1].loss)
    assert result.metrics["recallAt10"] > 0
    if "adapter" not in method:
        assert not AutoModel.from_pretrained(path_of(result), output_loading_info=True)[1]["unexpected_keys"]
    else:
        assert "num_labels" not in (path_of(result) / "README.md").read_text()


@pytest.mark.parametrize("method", [{"prefix": {}}, {"promptTuning": {}}, {"freeze": {}}], ids=str)
def test_a_method_that_vectors_cannot_learn_by_is_refused(tmp_path: Path, method: dict[str, Any]) -> None:
    says = (
        "no head of its own to train" if "freeze" in method else "virtual tokens would be part of the vectors; use lora"
    )
    with pytest.raises(UserError, match=says):
        gathered(embedding(tmp_path, method=method, model__architecture=KINDS["llama"])).make_model()


GOOD: dict[str, Any] = {"text": "a", "positive": "b", "negatives": []}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positive": 3}, "column 'positive' holds int, expected text"),
        ({"negatives": 3}, "column 'negatives' holds int, expected a list of texts"),
        ({"negatives": [{"text": "c"}]}, "column 'negatives' holds list, expected a list of texts"),
        ({"text": 3}, "column 'text' holds int, expected text"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named(inputs: Inputs, changes: dict[str, Any], says: str) -> None:
    row = Row(GOOD | changes, Place("file:///rows.jsonl", 7), "text")
    with pytest.raises(BadRowError, match=f"file:///rows.jsonl row 7: {says}"):
        list(inputs.task.examples([row]))


def test_rows_without_a_query_or_a_document_are_left_out_and_one_negative_may_be_a_text(inputs: Inputs) -> None:
    changes: list[dict[str, Any]] = [{"text": " "}, {"positive": None}, {"negatives": "c"}, {"negatives": ["c", " "]}]
    rows = [Row(GOOD | change, Place("file:///rows.jsonl", 1), "text") for change in changes]
    blank, alone, one, other = inputs.task.examples(rows)
    assert (blank, alone) == ([], [])
    assert one[0]["negatives"].tolist() == other[0]["negatives"].tolist()


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"queryPrefix": "query: "}, True),
        ({"documentPrefix": "passage: "}, True),
        ({"positiveColumn": "text"}, True),
        ({"hardNegatives": None}, True),
        ({"hardNegatives": {"perQuery": 1}, "temperature": 0.1, "pooling": "cls"}, False),
    ],
    ids=str,
)
def test_texts_are_read_again_only_where_they_become_other_tokens(
    tmp_path: Path, inputs: Inputs, changes: dict[str, Any], again: bool
) -> None:
    other = gathered(embedding(tmp_path, SEARCH | changes)).task
    assert (other.fingerprint != inputs.task.fingerprint) is again


def test_texts_that_are_their_own_documents_are_not_searched(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluation\.metrics\[0\]: embedding does not measure 'recallAt1'; it measures l"
    ):
        gathered(embedding(tmp_path, {}, evaluation__metrics=["recallAt1"]))
    gathered(embedding(tmp_path, SEARCH, evaluation__metrics=["recallAt1"]))


def test_a_model_that_cannot_be_pooled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"architecture\.type: embedding trains encoders and decoders .*, not 't5'"):
        gathered(embedding(tmp_path, kind="t5")).make_model()
