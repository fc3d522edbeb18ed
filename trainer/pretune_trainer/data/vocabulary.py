"""The kinds of tokenizers that can be trained: what each is made of, as in the papers and models that made it known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pretune_api.model import TokenizerTraining
from pretune_trainer.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_WHERE: Final = "spec.tokenizer.train.vocabSize"
_LEAST_SEEN: Final = 2
"""Times that a pair must occur to become a token: what was seen once teaches nothing."""
_PLAIN: Final = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_BERT: Final = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class _Kind:
    """One kind of tokenizer."""

    special: dict[str, str]
    """Its special tokens, by role; their ids come first."""
    train: Callable[[int, list[str], Iterator[str]], "Tokenizer"]
    """Trained to a size, with special tokens, on texts."""


def train(training: TokenizerTraining, texts: Iterator[str], length: int) -> "PreTrainedTokenizerFast":
    """A tokenizer trained on `texts`; `length` is the longest row that it is for.

    Raises:
        UserError: the vocabulary is too small for the alphabet, or too large for the texts.
    """
    from transformers import PreTrainedTokenizerFast

    kind = _KINDS[training.algorithm]
    tokenizer = kind.train(training.vocab_size, list(kind.special.values()), texts)
    _check_size(training.vocab_size, tokenizer.get_vocab_size())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **kind.special)


def _check_size(wanted: int, size: int) -> None:
    if size > wanted:
        raise UserError(_WHERE, f"{wanted} entries are too few: characters and special tokens alone are {size}")
    if size < wanted:
        raise UserError(
            _WHERE, f"{wanted} entries are too many for the training documents: they give {size}; lower it, or add data"
        )


def _bpe(size: int, special: list[str], texts: Iterator[str]) -> "Tokenizer":
    """Byte-level: every text can be encoded, and decodes to itself (Radford et al., 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=_LEAST_SEEN,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(size: int, special: list[str], texts: Iterator[str]) -> "Tokenizer":
    """As in SentencePiece (Kudo, 2018): spaces are characters, NFKC before all."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token=_PLAIN["unk_token"], show_progress=False
    )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers knows no other
        if "not large enough" not in str(error):
            raise
        raise UserError(_WHERE, f"{size} entries are too few to hold every character of the documents") from error
    return tokenizer


def _wordpiece(size: int, special: list[str], texts: Iterator[str]) -> "Tokenizer":
    """As in BERT (Devlin et al., 2019), cased; [CLS] before and [SEP] after."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=_BERT["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=_LEAST_SEEN, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    first, last = _BERT["cls_token"], _BERT["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer


_KINDS: Final = {
    "bpe": _Kind(_PLAIN, _bpe),
    "unigram": _Kind(_PLAIN, _unigram),
    "wordpiece": _Kind(_BERT, _wordpiece),
}
