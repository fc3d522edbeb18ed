"""What does not fit together is refused before anything is trained, in a sentence with its field."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from pretune_api.model import Architecture
from pretune_api.run_config import Folder
from pretune_trainer.errors import UserError
from pretune_trainer.model.configuration import make_config
from pretune_trainer.model.positions import reach
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import classification, finetune, pretrain, write_corpus
from support.language import TINY, small_tokenizer
from support.runs import as_parent, assert_refused, path_of


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A language model with 512 entries and 64 positions."""
    config = pretrain(tmp_path_factory.mktemp("parent"), training__max_steps=1)
    return as_parent(run_rank(config, Ranks(), Silent()))


def llama(**fields: Any) -> dict[str, Any]:
    return {"type": "llama", "config": TINY["llama"] | fields}


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        (llama(hiden_size=32), r"config.hiden_size: llama models have no such field; did you mean hidden_size\?"),
        ({"type": "lama"}, r"type: 'lama' is unknown; did you mean \w*llama\w*\?"),
        (llama(vocab_size=500), r"config.vocab_size: 500 differs from the tokenizer's 512 entries; remove it to"),
        (llama(vocab_size=600), r"config.vocab_size: 600 differs from the tokenizer's 512 entries; remove it to"),
        (llama(max_position_embeddings=32), r"the model has 32 positions, but spec.data.sequenceLength requests 64"),
        (llama(hidden_size="wide"), r"config: Field 'hidden_size' expected int, got str"),
        (llama(hidden_size=33), r"config: The hidden size \(33\) is not a multiple of the number of attention heads"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(
    tmp_path: Path, architecture: dict[str, Any], sentence: str
) -> None:
    assert_refused(pretrain(tmp_path, model__architecture=architecture), rf"^spec.model.architecture.*{sentence}")


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("kind", ["bert", "roberta", "camembert", "xlm-roberta", "mpnet", "data2vec-text"])
def test_a_new_model_has_as_many_positions_as_rows_have_tokens(kind: str, pad: int) -> None:
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = make_config(Architecture(type=kind, config=fields), 512, 24, {"pad_token_id": pad})
    assert reach(config) == 24
    model = AutoModel.from_config(config).eval()
    assert model(input_ids=torch.arange(4, 28)[None]).last_hidden_state.shape == (1, 24, 16)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.arange(4, 29)[None])


def test_positions_are_made_whatever_a_type_calls_them() -> None:
    assert make_config(Architecture(type="gpt2"), 512, 2048, {}).n_positions == 2048


def test_of_two_towers_the_one_that_reads_text_has_too_few_positions() -> None:
    fields = {"text_config": {"max_position_embeddings": 16}}
    with pytest.raises(
        UserError, match=r"config\.text_config\.max_position_embeddings: the model has 16 positions, but"
    ):
        make_config(Architecture(type="clip", config=fields), 512, 32, {})


def test_a_whole_number_may_stand_where_transformers_wants_another() -> None:
    config = make_config(Architecture.model_validate(llama(initializer_range=1)), 512, 64, {})
    assert type(config.initializer_range) is float


def test_what_a_job_says_of_special_tokens_stays() -> None:
    config = make_config(Architecture.model_validate(llama(pad_token_id=7)), 512, 64, {"pad_token_id": 3})
    assert config.pad_token_id == 7
    kept = make_config(Architecture(type="roberta", config={"pad_token_id": 7}), 512, 64, {"pad_token_id": 3})
    assert (kept.pad_token_id, reach(kept)) == (7, 64)


def test_a_model_without_positions_reads_rows_of_any_length() -> None:
    assert reach(make_config(Architecture(type="mamba"), 512, 64, {})) is None


def test_a_type_that_reads_other_rows_is_refused(tmp_path: Path) -> None:
    architecture = {"type": "xlnet", "config": {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}}
    sentence = r"^spec.model.architecture.type: models of type 'xlnet' need rows that are padded on the left; use bert"
    assert_refused(classification(tmp_path, model__architecture=architecture), sentence)


def test_a_tokenizer_that_does_not_fit_the_parent_is_refused(tmp_path: Path, parent: Folder) -> None:
    small_tokenizer(600).save_pretrained(tmp_path / "tokenizer")
    tokenizer = {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    config = finetune(tmp_path, {"causalLM": {}}, write_corpus(tmp_path), parent, tokenizer=tokenizer)
    assert_refused(
        config,
        r"^spec.tokenizer: it has 600 entries, but the model from spec.model.from has embeddings for 512; remove",
    )


def test_rows_longer_than_the_parent_reaches_are_refused(tmp_path: Path, parent: Folder) -> None:
    assert_refused(
        classification(tmp_path, parent, data__sequence_length=128),
        r"^spec.data.sequenceLength: the model has 64 positions, but spec.data.sequenceLength requests 128",
    )


def test_a_metric_that_the_task_does_not_measure_is_refused(tmp_path: Path, parent: Folder) -> None:
    assert_refused(
        classification(tmp_path, parent, evaluation__metrics=["loss", "perplexity"]),
        r"^spec.evaluation.metrics\[1\]: sequenceClassification does not measure 'perplexity'; it measures loss, acc",
    )


def test_early_stopping_on_an_unknown_metric_is_refused(tmp_path: Path) -> None:
    assert_refused(
        pretrain(tmp_path, early_stopping={"metric": "accuracy"}, evaluation__every_steps=2),
        r"^spec.earlyStopping.metric: causalLM does not measure 'accuracy'; it measures loss, perplexity",
    )


def test_an_unlisted_label_is_named_with_its_file_and_row(tmp_path: Path, parent: Folder) -> None:
    assert_refused(
        classification(tmp_path, parent, task__sequence_classification__labels=["short", "lang"]),
        r"labels.jsonl row \d+: label 'long' is not listed in spec.task.sequenceClassification.labels; did you mean",
    )


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer().backend_tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    plain.save_pretrained(tmp_path / "tokenizer")
    config = classification(tmp_path, tokenizer={"from": {"uri": (tmp_path / "tokenizer").as_uri()}})
    result = run_rank(config, Ranks(), Silent())
    assert '"pad_token_id": 2' in (path_of(result) / "config.json").read_text()
