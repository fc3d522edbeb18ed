"""Tokenizers whose tokens are given words."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pretune_trainer.data.vocabulary import SENTINELS

SPECIALS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
}


def opened(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of words between spaces, with every special token and ten sentinels."""
    tokens = [*dict.fromkeys(SPECIALS.values()), *words, *SENTINELS[:10]]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=list(SENTINELS[:10]), **SPECIALS)


def vocabulary(folder: Path, words: Sequence[str]) -> str:
    """That tokenizer in a folder; its URI."""
    opened(words).save_pretrained(folder)
    return folder.as_uri()
