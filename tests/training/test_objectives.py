"""Each objective: on one rank or two, stopped or not, the same; its artifact is loaded by its users and by stages."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartForConditionalGeneration,
    BertForMaskedLM,
    BertForPreTraining,
    PreTrainedModel,
    RobertaForMaskedLM,
    T5ForConditionalGeneration,
)

from pretune_api.run_config import RunConfig
from pretune_trainer.parallel import Ranks
from support.group import in_ranks
from support.jobs import classification
from support.objectives import denoised, masked, paired
from support.runs import as_parent, assert_same_bits, gathered, named, path_of, run, run_until, weights_of

Job = Callable[..., RunConfig]


def roberta(folder: Path, **changes: object) -> RunConfig:
    return masked(folder, "roberta", {"wholeWord": True}, **changes)


def infilled(folder: Path, **changes: object) -> RunConfig:
    return denoised(folder, "bart", **changes)


JOBS: dict[str, Job] = {"bert": masked, "pairs": paired, "roberta": roberta, "t5": denoised, "bart": infilled}
CLASSES: dict[str, type[PreTrainedModel]] = {
    "bert": BertForMaskedLM,
    "pairs": BertForPreTraining,
    "roberta": RobertaForMaskedLM,
    "t5": T5ForConditionalGeneration,
    "bart": BartForConditionalGeneration,
}


@pytest.mark.parametrize("name", ["pairs", "t5"])
def test_two_ranks_learn_what_one_learns(tmp_path: Path, name: str) -> None:
    # The same each time, as WordPiece and Unigram are not: of many vocabularies, one in hundreds goes apart by more.
    tokenizer = {"train": {"algorithm": "bpe", "vocabSize": 512}}
    config = JOBS[name](tmp_path, training__max_steps=4, tokenizer=tokenizer)
    _, steps = run(Ranks(), config)
    (_, others), *_ = in_ranks(2, run, named(config, "other"))
    for one, other in zip(steps, others, strict=True):
        assert one.tokens_total == other.tokens_total
        # Sums in another order differ by 1e-7; Adam makes more of that where a gradient is next to nothing.
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


@pytest.mark.parametrize("name", ["pairs", "t5"])
def test_stopped_and_gone_on_training_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    config = JOBS[name](tmp_path)
    whole, _ = run(Ranks(), named(config, "whole"))
    run_until(Ranks(), config, 3)
    again, steps = run(Ranks(), config)
    assert 1 < steps[0].step <= 8
    assert_same_bits(again, whole)


@pytest.mark.parametrize("name", JOBS)
def test_an_artifact_is_of_the_class_that_its_users_load(tmp_path: Path, name: str) -> None:
    config = JOBS[name](tmp_path, training__max_steps=2)
    result, _ = run(Ranks(), config)
    model, loaded = CLASSES[name].from_pretrained(path_of(result), output_loading_info=True)
    assert not loaded["missing_keys"] | loaded["unexpected_keys"] | loaded["mismatched_keys"]
    assert model.config.architectures == [CLASSES[name].__name__]
    tokenizer = AutoTokenizer.from_pretrained(path_of(result))
    ours = gathered(config).build.tokenizer
    assert ("token_type_ids" in tokenizer("a", "b")) == (name == "pairs")
    text = "The value of a name"
    assert tokenizer(text)["input_ids"] == ours(text)["input_ids"]
    frame = {"t5": ("▁The", "</s>"), "roberta": ("<s>", "</s>"), "bart": ("<s>", "</s>")}.get(name, ("[CLS]", "[SEP]"))
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    assert tokens[-1] == frame[1]
    assert tokens[0] == frame[0] or name == "t5"
    if name == "t5":
        assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == 511
        assert tokenizer.convert_tokens_to_ids("<extra_id_99>") == 412
        assert model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)[0, 0] == tokenizer.pad_token_id
    else:
        assert tokenizer.mask_token_id == 4


def test_a_classifier_starts_from_a_maskedlm_parent(tmp_path: Path) -> None:
    parent, _ = run(Ranks(), masked(tmp_path, training__max_steps=2))
    config = classification(tmp_path / "child", as_parent(parent), training__max_steps=2)
    start, before = gathered(config).make_model().model.state_dict(), weights_of(parent)
    body = [name for name in before if name.startswith("bert.")]
    assert len(body) > 20
    for name in body:
        assert torch.equal(start[name], before[name]), name
    child, _ = run(Ranks(), config)
    AutoModelForSequenceClassification.from_pretrained(path_of(child))


@pytest.mark.parametrize("name", ["pairs", "t5"])
def test_pretraining_goes_on_from_a_parent(tmp_path: Path, name: str) -> None:
    first, _ = run(Ranks(), JOBS[name](tmp_path / "first", training__max_steps=2))
    parent = {"from": {"uri": first.artifact_uri}}
    config = JOBS[name](tmp_path / "more", model=parent, tokenizer=parent, training__max_steps=2)
    start, before = gathered(config).make_model().model.state_dict(), weights_of(first)
    assert all(torch.equal(start[parameter], weight) for parameter, weight in before.items())
    more, _ = run(Ranks(), named(config, "domain"))
    assert not all(torch.equal(weight, before[parameter]) for parameter, weight in weights_of(more).items())
