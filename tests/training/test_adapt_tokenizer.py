"""A parent's tokenizer learns the words of a new domain, and its model starts from what it knows of their pieces."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
)

from pretune_api.model import TokenizerTraining
from pretune_api.run_config import Folder
from pretune_trainer.data.adapt import ADDED_NAME, Added, adapt
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import gather_inputs
from pretune_trainer.model.build import Build
from pretune_trainer.model.origin import Source
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import pretrain, write_rows
from support.language import paragraphs
from support.runs import as_parent

DOMAIN = [
    f"Chronic hepatosplenomegaly with thrombocytopenia, stage {number}; Grüße, 世界!\n  hepatosplenomegaly"
    for number in range(40)
]


def parent_of(algorithm: str, form: Form = Form.BARE, size: int = 400) -> PreTrainedTokenizerFast:
    training = TokenizerTraining(algorithm=algorithm, vocab_size=size)
    return train(training, iter([*paragraphs()[:300], "Grüße, 世界! ;"]), 64, form)


def adapted(folder: Path, parent: PreTrainedTokenizerFast, count: int = 12) -> tuple[Any, Added]:
    folder.mkdir(exist_ok=True)
    adapt(parent, iter(DOMAIN), count, folder)
    return AutoTokenizer.from_pretrained(folder), Added.load(folder)


@pytest.mark.parametrize(
    ("algorithm", "form"),
    [("bpe", Form.BARE), ("bpe", Form.FRAMED), ("wordpiece", Form.FRAMED), ("unigram", Form.ENDED)],
)
def test_text_of_the_domain_takes_fewer_tokens_and_reads_the_same(tmp_path: Path, algorithm: str, form: Form) -> None:
    parent = parent_of(algorithm, form, 600)
    tokenizer, added = adapted(tmp_path / "adapted", parent)
    assert len(tokenizer) == len(parent) + 12
    assert tokenizer.convert_tokens_to_ids(list(added.tokens)) == list(range(added.first, added.first + 12))
    assert tokenizer.get_vocab().items() >= parent.get_vocab().items()
    before, after = (each(DOMAIN[0])["input_ids"] for each in (parent, tokenizer))
    assert len(after) < len(before)
    assert tokenizer.decode(after, skip_special_tokens=True) == parent.decode(before, skip_special_tokens=True)
    spelt = [piece for each in after for piece in (added.pieces[each - added.first] if each >= added.first else [each])]
    assert spelt == before or algorithm != "bpe"


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_text_without_new_words_is_encoded_as_before(tmp_path: Path, algorithm: str) -> None:
    parent = parent_of(algorithm)
    tokenizer, added = adapted(tmp_path / "adapted", parent)
    plain = [text for text in paragraphs()[:300] if not any(token.strip("Ġ▁#") in text for token in added.tokens)]
    assert len(plain) > 20
    assert tokenizer(plain)["input_ids"] == parent(plain)["input_ids"]


def test_more_tokens_than_the_domain_gives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^spec\.tokenizer\.adapt\.tokens: 5000 are too many for the training documents"
    ):
        adapted(tmp_path, parent_of("bpe"), 5000)


def domain(folder: Path, parent: Folder, **changes: Any) -> Any:
    """A domain stage of that parent."""
    uri = write_rows(folder / "domain.jsonl", ({"text": text} for text in DOMAIN))
    return pretrain(
        folder,
        model={"from": {"uri": parent.uri, "digest": parent.digest}},
        tokenizer={"adapt": {"tokens": 12}},
        data__train=[{"uri": uri}],
        training__max_steps=2,
        **changes,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_a_domain_stage_starts_from_the_pieces_and_leaves_an_artifact_that_fits(tmp_path: Path, tied: bool) -> None:
    general = pretrain(tmp_path / "general", training__max_steps=2)
    assert general.model.architecture is not None
    general.model.architecture.config["tie_word_embeddings"] = tied
    first = run_rank(general, Ranks(), Silent())
    config = domain(tmp_path, as_parent(first))
    inputs = gather_inputs(config, Ranks(), Silent())
    assert inputs.build.added is not None
    model, pieces = inputs.make_model().model, [list(piece) for piece in inputs.build.added.pieces]
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert table.shape[0] == 512 + 12
        expected = torch.stack([table[piece].mean(0) for piece in pieces])
        assert torch.equal(table[512:], expected)
    artifact = Path(run_rank(config, Ranks(), Silent()).artifact_uri.removeprefix("file://"))
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(artifact), AutoTokenizer.from_pretrained(artifact)
    assert loaded.config.vocab_size == len(tokenizer) == 524
    assert len(json.loads((artifact / ADDED_NAME).read_text())["tokens"]) == 12
    assert f"12 tokens were added to its tokenizer, listed in `{ADDED_NAME}`." in (artifact / "README.md").read_text()


def test_the_head_of_an_encoder_grows_with_its_bias(tmp_path: Path) -> None:
    parent = parent_of("wordpiece", Form.FRAMED)
    tokenizer, added = adapted(tmp_path / "adapted", parent)
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=len(parent), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    )
    torch.nn.init.normal_(bert.get_output_embeddings().bias)
    bert.save_pretrained(tmp_path / "bert")
    build = Build(Source(str(tmp_path / "bert")), tokenizer, 64, added=added)
    model = build.make(AutoModelForMaskedLM)
    assert model(input_ids=torch.tensor([[added.first]])).logits.shape[-1] == len(tokenizer)
    bias = model.get_output_embeddings().bias
    assert bias.shape == (len(tokenizer),)
    assert torch.equal(bias[added.first :], torch.stack([bias[list(piece)].mean(0) for piece in added.pieces]))
