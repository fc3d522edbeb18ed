"""Pairs of texts with a label or a number: read as transformers' tokenizers and pipelines read them."""

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    ByT5Tokenizer,
    DebertaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
    pipeline,
)

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import SequenceClassification as ClassificationSpec
from pretune_api.tasks import SequenceRegression as RegressionSpec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import BadRowError
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.preflight.run import preflight
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.encoding import encode_pairs
from pretune_trainer.tasks.sequence_classification import SequenceClassification
from pretune_trainer.tasks.sequence_regression import SequenceRegression
from support.jobs import Recorder, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer
from support.runs import gathered, path_of

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENCODER = {**_SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BART = {
    "d_model": 32,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
}
WORDS = ["zero", "one", "two", "three", "four", "five"]
PAIRS = [*itertools.pairwise(paragraphs()[:60]), ("short", "one word " * 90), ("one word " * 90, "short"), ("a", "b")]
Made = Callable[[], PreTrainedTokenizerBase]


def trained(form: Form) -> PreTrainedTokenizerBase:
    return train(TokenizerTraining(vocab_size=400), iter(paragraphs()[:800]), 64, form)


def of_bert() -> PreTrainedTokenizerBase:
    pieces = train(TokenizerTraining(algorithm="wordpiece", vocab_size=400), iter(paragraphs()[:800]), 64)
    return BertTokenizer(vocab=pieces.get_vocab())


def byte_level(kind: Any) -> Made:
    """A family's tokenizer, with the pieces of the small one."""

    def made() -> PreTrainedTokenizerBase:
        pieces = json.loads(small_tokenizer().backend_tokenizer.to_str())["model"]
        tokenizer: PreTrainedTokenizerBase = kind(vocab=pieces["vocab"], merges=[*map(tuple, pieces["merges"])])
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    return made


TOKENIZERS: dict[str, Made] = {
    "bert": of_bert,
    "roberta": byte_level(RobertaTokenizer),
    "deberta": byte_level(DebertaTokenizer),
    "gpt2": byte_level(GPT2Tokenizer),
    "llama": byte_level(LlamaTokenizer),
    "framed": lambda: trained(Form.FRAMED),
    "python": ByT5Tokenizer,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", ENCODER),
    "roberta": ("roberta", {**ENCODER, "type_vocab_size": 1}),
    "deberta": ("deberta", ENCODER),
    "modernbert": ("framed", _SIZES),
    "distilbert": ("bert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "gpt2": ("gpt2", TINY["gpt2"]),
    "llama": ("llama", TINY["llama"]),
}
"""The tokenizer of a family, and a small configuration."""


def task(tokenizer: PreTrainedTokenizerBase, length: int = 64, **fields: Any) -> SequenceClassification:
    spec = ClassificationSpec(labels=["no", "yes"], pair_column="hypothesis", **fields)
    return SequenceClassification(Context(spec, tokenizer, length, False, False, 0))


def row(first: object, second: object) -> Row:
    read = {"premise": first, "hypothesis": second, "label": "yes"}
    return Row(read, Place("file:///pairs.jsonl", 3), "premise")


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_pair_is_encoded_and_truncated_as_transformers_does(name: str, side: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.truncation_side = side
    firsts, seconds = map(list, zip(*PAIRS, strict=True))
    theirs = tokenizer(firsts, seconds, truncation="longest_first", max_length=32)
    whole = tokenizer(firsts, seconds, verbose=False)["input_ids"]
    found = encode_pairs(tokenizer, PAIRS, 32)
    assert [ids for ids, _, _ in found] == theirs["input_ids"]
    assert [types for _, types, _ in found] == theirs.get("token_type_ids", [[] for _ in PAIRS])
    assert [needed for _, _, needed in found] == [len(ids) for ids in whole]
    assert encode_pairs(tokenizer, [], 32) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_its_tokenizer_gives_those_who_use_it(family: str) -> None:
    name, config = FAMILIES[family]
    tokenizer = TOKENIZERS[name]()
    reading = task(tokenizer)
    model = reading.model(Build(Architecture(type=family, config=config), tokenizer, 64)).eval()
    reading.observe(model)
    short = [("A red house.", "It is red."), ("It is a list of names, or of values.", "No.")]
    examples = [example for (example,) in reading.examples([row(*pair) for pair in short])]
    batch = reading.batch([*(Pack((example,)) for example in examples), Pack()])
    with torch.no_grad():
        ours = reading.logits(model, batch)[:2]
        theirs = [pipeline_logits(model, tokenizer, *pair) for pair in short]
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-5, rtol=1e-4)


def pipeline_logits(model: Any, tokenizer: PreTrainedTokenizerBase, first: str, second: str) -> torch.Tensor:
    """What the pipeline "text-classification" computes, before it makes scores of it."""
    using = pipeline("text-classification", model=model, tokenizer=tokenizer)
    logits: torch.Tensor = using.forward(using.preprocess({"text": first, "text_pair": second}))["logits"]
    return logits


def test_bert_is_told_where_the_second_text_begins() -> None:
    tokenizer = of_bert()
    reading = task(tokenizer)
    reading.observe(reading.model(Build(Architecture(type="bert", config=ENCODER), tokenizer, 64)))
    examples = [example for (example,) in reading.examples([row("the name", "a value"), row("the", "a")])]
    types = reading.batch([*(Pack((example,)) for example in examples), Pack()]).inputs["token_type_ids"]
    seconds = [len(tokenizer(second)["input_ids"]) - 1 for second in ("a value", "a")]
    assert types.sum(-1).tolist() == [*seconds, 0]


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
def test_a_tokenizer_of_ours_tells_bert_and_those_who_use_it_the_same(tmp_path: Path, algorithm: str) -> None:
    learn = {"sequenceClassification": {"labels": ["no", "yes"], "pairColumn": "b"}}
    training = TokenizerTraining(algorithm=algorithm, vocab_size=400)
    train(training, iter(paragraphs()[:800]), 64, Form.FRAMED).save_pretrained(tmp_path / "tokenizer")
    tokenizer = {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    job = pairs_job(tmp_path, learn, tokenizer=tokenizer, training__max_steps=1)
    made = gathered(job)
    model = made.make_model().model.eval()
    saved = AutoTokenizer.from_pretrained(path_of(run_rank(job, Ranks(), Recorder())))
    pair = next(larger())
    read = Row(pair, Place("file:///pairs.jsonl", 1), "a")
    ((example,),) = made.task.examples([read])
    batch, used = made.task.batch([Pack((example,))]), saved(pair["a"], pair["b"], return_tensors="pt")
    assert ("token_type_ids" in used) == ("token_type_ids" in batch.inputs) == (algorithm == "wordpiece")
    with torch.no_grad():
        assert isinstance(made.task, SequenceClassification)
        torch.testing.assert_close(made.task.logits(model, batch), model(**used).logits)


def test_what_a_tokenizer_says_of_token_types_stands(tmp_path: Path) -> None:
    spec = ClassificationSpec(labels=["no", "yes"], pair_column="hypothesis")
    training, names = TokenizerTraining(algorithm="wordpiece", vocab_size=400), ["input_ids", "attention_mask"]
    train(training, iter(paragraphs()[:800]), 64).save_pretrained(tmp_path)
    ours: Made = partial(AutoTokenizer.from_pretrained, tmp_path, model_input_names=names)
    for made in (*TOKENIZERS.values(), ours):
        before, after = made(), made()
        alone, beside = (
            SequenceClassification(Context(spec, tokenizer, 64, False, False, 0, token_types=kinds))
            for tokenizer, kinds in ((before, 0), (after, 2))
        )
        assert (before.model_input_names, alone.fingerprint) == (after.model_input_names, beside.fingerprint)


def test_token_types_that_were_left_open_are_told_for_models_that_know_them_and_make_another_token_cache() -> None:
    spec, texts = ClassificationSpec(labels=["no", "yes"], pair_column="hypothesis"), iter(paragraphs()[:800])
    tokenizer = train(TokenizerTraining(algorithm="wordpiece", vocab_size=400), texts, 64)
    one, two = (
        SequenceClassification(Context(spec, tokenizer, 64, False, False, 0, token_types=kinds)) for kinds in (1, 2)
    )
    assert two.fingerprint == f"{one.fingerprint}/segments"
    assert "token_type_ids" in tokenizer.model_input_names


@pytest.mark.parametrize("column", [None, "hypothesis"], ids=["texts", "pairs"])
def test_what_fills_up_a_batch_is_read_by_models_that_look_for_the_end_of_a_text(column: str | None) -> None:
    spec, tokenizer = ClassificationSpec(labels=["no", "yes"], pair_column=column), trained(Form.FRAMED)
    reading = SequenceClassification(Context(spec, tokenizer, 64, False, False, 0, encoder_decoder=True))
    model = reading.model(Build(Architecture(type="bart", config=BART), tokenizer, 64)).eval()
    ((example,),) = reading.examples([row("the name", "a value")])
    alone = reading.logits(model, reading.batch([Pack((example,))]))
    torch.testing.assert_close(reading.logits(model, reading.batch([Pack((example,)), Pack()]))[:1], alone)
    assert reading.evaluate(model, reading.batch([Pack()])) == []


@pytest.mark.parametrize("second", [None, "", " \n"])
def test_a_row_without_a_second_text_gives_no_example(second: str | None) -> None:
    found = list(task(of_bert()).examples([row("the name", second), row("the name", "a value"), row(" ", "a value")]))
    assert [len(examples) for examples in found] == [0, 1, 0]


def test_a_second_text_that_is_none_is_named_with_its_file_and_row() -> None:
    sentence = r"^file:///pairs.jsonl row 3: column 'hypothesis' holds int, expected text$"
    with pytest.raises(BadRowError, match=sentence):
        list(task(of_bert()).examples([row("the name", 7)]))


def test_preflight_tells_which_field_names_a_column_that_is_not_there(tmp_path: Path) -> None:
    job = pairs_job(tmp_path, {"sequenceRegression": {"targetColumn": "by", "pairColumn": "other"}})
    wrong = [finding for finding in preflight(job) if finding.ok is False]
    assert {finding.place for finding in wrong} == {"spec.task.sequenceRegression.pairColumn"}
    assert wrong[0].sentence.endswith("train.jsonl row 1: there is no column 'other'; known: a, b, by, label")


def test_jobs_without_pairs_keep_their_token_caches() -> None:
    context = Context(ClassificationSpec(labels=["no", "yes"]), small_tokenizer(), 32, False, False, 0)
    alone = SequenceClassification(context)
    labels = '{"labels":["no","yes"],"labelColumn":"label","multiLabel":false}'
    assert (alone.fingerprint, alone.columns) == (f"sequenceClassification/3/32/{labels}", ("label",))
    numbers, scored = (
        SequenceRegression(Context(RegressionSpec(pair_column=column), small_tokenizer(), 32, False, False, 0))
        for column in (None, "other")
    )
    assert (numbers.fingerprint, numbers.columns) == ("sequenceRegression/2/32/target", ("target",))
    assert (scored.fingerprint, scored.columns) == ("sequenceRegression/2/32/target/other", ("target", "other"))
    assert task(small_tokenizer(), 32).fingerprint != alone.fingerprint


def test_of_what_is_cut_off_a_pair_a_tokenizer_in_python_does_not_say_each_time_that_it_is_not_returned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transformers = logging.getLogger("transformers")
    transformers.addHandler(caplog.handler)
    encode_pairs(ByT5Tokenizer(), PAIRS, 32)
    transformers.removeHandler(caplog.handler)
    assert caplog.messages == []


def larger() -> Iterator[dict[str, object]]:
    """All pairs of numbers, and whether the second is larger: neither of them tells."""
    for first, second in itertools.product(range(len(WORDS)), repeat=2):
        label = "yes" if second > first else "no"
        yield {"a": f"it is {WORDS[first]}", "b": f"it is {WORDS[second]}", "label": label, "by": (second - first) / 5}


def pairs_job(folder: Path, task: dict[str, Any], **changes: Any) -> Any:
    """A run config that learns from many copies of all pairs, and is judged on them."""
    source = {"uri": write_rows(folder / "train.jsonl", [*larger()] * 10), "column": "a"}
    judged = {"uri": write_rows(folder / "validation.jsonl", larger()), "column": "a"}
    given: dict[str, Any] = {
        "data__train": [source],
        "data__validation": {"sources": [judged]},
        "data__sequence_length": 16,
        "model__architecture": {"type": "bert", "config": ENCODER},
        "tokenizer": {"train": {"vocabSize": 276}},
        "training__max_steps": 150,
        "training__learning_rate": 0.003,
    }
    return finetune(folder, task, source["uri"], **{**given, **changes})


def test_what_both_texts_say_together_is_learnt_and_a_pipeline_tells_it(tmp_path: Path) -> None:
    learn = {"sequenceClassification": {"labels": ["no", "yes"], "pairColumn": "b"}}
    result = run_rank(pairs_job(tmp_path, learn), Ranks(), Recorder())
    assert result.metrics["accuracy"] > 0.9
    using = pipeline("text-classification", str(path_of(result)))
    said = [using({"text": each["a"], "text_pair": each["b"]})["label"] for each in larger()]
    right = sum(label == each["label"] for label, each in zip(said, larger(), strict=True))
    assert right / len(said) == pytest.approx(result.metrics["accuracy"])


def test_how_far_two_texts_are_apart_is_learnt(tmp_path: Path) -> None:
    learn = {"sequenceRegression": {"targetColumn": "by", "pairColumn": "b"}}
    job = pairs_job(tmp_path, learn, model__architecture={"type": "llama", "config": TINY["llama"]})
    assert run_rank(job, Ranks(), Recorder()).metrics["pearson"] > 0.9


def test_a_tokenizer_is_trained_on_both_texts_and_keeps_them_apart(tmp_path: Path) -> None:
    rows = ({"text": "aa ab", "other": "xyzxyz " * 9, "label": each} for each in ["no", "yes"] * 20)
    uri = write_rows(tmp_path / "rows.jsonl", rows)
    learn = {"sequenceClassification": {"labels": ["no", "yes"], "pairColumn": "other"}}
    changes: dict[str, Any] = {"tokenizer": {"train": {"vocabSize": 264}}, "data__validation": None}
    result = run_rank(finetune(tmp_path, learn, uri, training__max_steps=1, **changes), Ranks(), Recorder())
    tokenizer = pipeline("text-classification", str(path_of(result))).tokenizer
    assert tokenizer.tokenize("xyz") == ["xyz"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("aa", "xyz")["input_ids"])[0] == "<s>"
    assert tokenizer.convert_ids_to_tokens(tokenizer("aa", "xyz")["input_ids"])[-4:] == ["</s>", "</s>", "xyz", "</s>"]


def test_rows_without_a_second_text_are_counted_and_told(tmp_path: Path) -> None:
    lacking = [{"a": "it is one", "b": second, "label": "no"} for second in (None, " ")]
    uri = write_rows(tmp_path / "rows.jsonl", [*larger(), *lacking])
    learn = {"sequenceClassification": {"labels": ["no", "yes"], "pairColumn": "b"}}
    recorder = Recorder()
    job = pairs_job(tmp_path, learn, training__max_steps=1, data__train=[{"uri": uri, "column": "a"}])
    run_rank(job, Ranks(), recorder)
    told = "2 of 74 rows (2.7%) give nothing to learn from: they are null or blank, or the second text is"
    assert told in [said.text for said in recorder.of(Said)]


def test_rows_that_differ_in_the_second_text_alone_are_no_duplicates(tmp_path: Path) -> None:
    learn = {"sequenceClassification": {"labels": ["no", "yes"], "pairColumn": "b"}}
    uri = write_rows(tmp_path / "rows.jsonl", [*larger(), *[*larger()][:4]])
    changes: dict[str, Any] = {"data__train": [{"uri": uri, "column": "a"}], "data__validation": None}
    job = pairs_job(tmp_path, learn, training__max_steps=1, data__cleaning={"duplicates": "exact"}, **changes)
    card = (path_of(run_rank(job, Ranks(), Recorder())) / "README.md").read_text()
    assert "Of 40 documents 36 were kept; dropped: " in card
