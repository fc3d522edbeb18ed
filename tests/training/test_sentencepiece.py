"""Tokenizers that are files of SentencePiece, as hubs hold those of DeBERTa, T5 and of models that translate."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from pretune_api.run_config import RunConfig
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import load_tokenizer
from pretune_trainer.model.origin import Source
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import finetune, write_rows
from support.language import paragraphs
from support.runs import gathered, path_of

TEXTS = [" ".join(text.split())[:80] for text in paragraphs()[:80]]
WRITTEN = [text[::-1] for text in TEXTS]
_SIDES = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
SHAPE = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128, **_SIDES}
CLASSES = {"marian": "MarianTokenizer", "m2m_100": "M2M100Tokenizer"}


def _pieces(path: Path, texts: list[str]) -> list[str]:
    """Train a model of some pieces into a file; its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=150, hard_vocab_limit=False, minloglevel=2
    )
    path.write_bytes(model.getvalue())
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [trained.id_to_piece(number) for number in range(trained.get_piece_size())]


def translator(folder: Path, kind: str, **settings: str) -> Path:
    """A folder with a model that translates, and its tokenizer."""
    model = AutoModelForSeq2SeqLM.from_config(
        AutoConfig.for_model(
            kind, vocab_size=512, pad_token_id=1, eos_token_id=0, bos_token_id=0, decoder_start_token_id=1, **SHAPE
        )
    )
    model.save_pretrained(folder)
    if kind == "marian":
        pieces = _pieces(folder / "source.spm", TEXTS) + _pieces(folder / "target.spm", WRITTEN)
    else:
        pieces = _pieces(folder / "sentencepiece.bpe.model", TEXTS + WRITTEN)
    names = dict.fromkeys(["</s>", "<pad>", "<unk>", *pieces])
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": CLASSES[kind], **settings}))
    return folder


def translation(folder: Path, parent: Path) -> RunConfig:
    rows = ({"text": text, "translation": written} for text, written in zip(TEXTS, WRITTEN, strict=True))
    uri = write_rows(folder / "pairs.jsonl", rows)
    fields: dict[str, Any] = {"model": {"from": {"uri": parent.as_uri()}}, "tokenizer": None, "training__max_steps": 1}
    task = {"translation": {"maxTargetTokens": 128}}
    return finetune(folder, task, uri, data__sequence_length=128, evaluation__metrics=["loss"], **fields)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_written_has_the_pieces_and_the_language_of_what_is_written(tmp_path: Path, kind: str) -> None:
    config = translation(tmp_path, translator(tmp_path / "parent", kind, src_lang="en", tgt_lang="de"))
    inputs = gathered(config)
    tokenizer = inputs.build.tokenizer
    (source,) = inputs.cache.train
    found = {example["reference"].tobytes().decode(): example for example in map(source.example, range(len(source)))}
    assert len(found) > 50
    for text, written in zip(TEXTS, WRITTEN, strict=True):
        if written in found:
            assert found[written]["ids"].tolist() == tokenizer(text)["input_ids"]
            assert found[written]["answer"].tolist() == tokenizer(text_target=written)["input_ids"]
    differ = [tokenizer(text)["input_ids"] != tokenizer(text_target=text)["input_ids"] for text in TEXTS]
    assert any(differ)
    folder = path_of(run_rank(config, Ranks(), Silent()))
    assert _same(AutoTokenizer.from_pretrained(folder), tokenizer)


def _same(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    return bool(one(text_target=WRITTEN)["input_ids"] == other(text_target=WRITTEN)["input_ids"])


def test_a_language_that_is_not_named_is_asked_for(tmp_path: Path) -> None:
    config = translation(tmp_path, translator(tmp_path / "parent", "m2m_100", src_lang="en"))
    with pytest.raises(UserError, match=r"^spec.tokenizer: it does not say which language is written; set src_lang"):
        gathered(config)


@pytest.mark.parametrize(
    ("kind", "file"), [("deberta-v2", "spm.model"), ("t5", "spiece.model"), ("xlm-roberta", "sentencepiece.bpe.model")]
)
def test_a_file_of_sentencepiece_is_a_tokenizer(tmp_path: Path, kind: str, file: str) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    _pieces(tmp_path / file, TEXTS)
    tokenizer = load_tokenizer(Source(str(tmp_path)))
    for text in TEXTS[:10]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
