"""The kinds of tokenizers that can be trained: what each is made of, as in the papers and models that made it known."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pretune_api.model import TokenizerTraining
from pretune_api.objectives import Denoising, Objective
from pretune_api.speech import SpeechRecognition
from pretune_api.tasks import SequenceClassification, SequenceRegression, Task
from pretune_trainer.data.audio_vocabulary import WHISPER, letters, whisper
from pretune_trainer.data.long_words import with_few_long_words
from pretune_trainer.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerBase

_WHERE: Final = "spec.tokenizer.train.vocabSize"
_ALGORITHM: Final = "spec.tokenizer.train.algorithm"
_LEAST_SEEN: Final = 2
"""Times that a pair must occur to become a token: what was seen once teaches nothing."""
_LONGEST_WORD: Final = 1_000
"""Characters of a word that WordPiece encodes; what is longer is unknown."""
_PLAIN: Final = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_ROBERTA: Final = {**_PLAIN, "cls_token": "<s>", "sep_token": "</s>"}
_T5: Final = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_BERT: Final = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


SENTINELS: Final = tuple(f"<extra_id_{number}>" for number in range(100))
"""What T5's spans leave behind, in the order of the spans."""


class Form(StrEnum):
    """What stands around a text, and which special tokens there are, as in the models that an objective is known by."""

    BARE = "bare"
    """Nothing, as in GPT-2: what is learnt puts begin and end where it needs them."""
    FRAMED = "framed"
    """Begin and end, as in BERT, RoBERTa and BART."""
    ENDED = "ended"
    """An end, and sentinels to stand for spans, as in T5."""
    TRANSCRIPT = "transcript"
    """What those who write down speech put around it: nothing, letter by letter; or as Whisper."""


_SPECIAL: Final = {Form.BARE: _PLAIN, Form.FRAMED: _ROBERTA, Form.ENDED: _T5, Form.TRANSCRIPT: {}}
"""Special tokens by role; their ids come first. WordPiece always has BERT's."""
_FRAMES: Final = {
    Form.FRAMED: ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    Form.ENDED: ("$A </s>", "$A </s> $B </s>"),
}
"""What stands around a text, and around two."""


def form_for(learn: Objective | Task, *, encoder_decoder: bool) -> Form:
    """The form of the tokenizer that is trained for an objective or task of a model, which may have a decoder beside
    its encoder.
    """
    value = learn.value
    if isinstance(value, Denoising):
        return Form.ENDED if value.span_corruption is not None else Form.FRAMED
    if isinstance(value, SpeechRecognition):
        return Form.TRANSCRIPT
    if isinstance(value, SequenceClassification | SequenceRegression):
        # Nothing else would tell where a second text begins; and BART and T5 judge a text where it ends.
        return Form.FRAMED if value.pair_column is not None or encoder_decoder else Form.BARE
    return Form.FRAMED if learn.kind in ("contrastive", "embedding", "maskedLM", "questionAnswering") else Form.BARE


def train(
    training: TokenizerTraining, texts: Iterator[str], length: int, form: Form = Form.BARE
) -> "PreTrainedTokenizerBase":
    """A tokenizer trained on `texts`; `length` is the longest row that it is for.

    Raises:
        UserError: the vocabulary is too small for the alphabet, or too large for the texts; or the algorithm is not for
            what is learnt.
    """
    return _train(training, texts, length, form, _check_size)


def stand_in(
    training: TokenizerTraining, texts: Iterator[str], length: int, form: Form = Form.BARE
) -> "PreTrainedTokenizerBase":
    """A tokenizer as large as the one that is to be trained, made of a few texts: entries that none has fill it up.

    Raises:
        UserError: as of `train`, but for a vocabulary that is too large: more texts may give it.
    """
    tokenizer = _train(training, texts, length, form, _check_large_enough)
    if training.algorithm != "character":
        tokenizer.add_tokens([f"[unused{number}]" for number in range(training.vocab_size - len(tokenizer))])
    return tokenizer


def _train(
    training: TokenizerTraining, texts: Iterator[str], length: int, form: Form, check: Callable[[int, int], None]
) -> "PreTrainedTokenizerBase":
    """`check` is given the number of entries that is wanted, and the one that the texts give."""
    if (form == Form.TRANSCRIPT) != (training.algorithm == "character"):
        _check_writes(training.algorithm, form)
    if training.algorithm == "character":
        return letters(training.vocab_size, texts, length)
    texts = with_few_long_words(texts)
    if form == Form.TRANSCRIPT:
        trained = _bpe(max(1, training.vocab_size - len(WHISPER)), [], texts)
        check(training.vocab_size, trained.get_vocab_size() + len(WHISPER))
        return whisper(trained, length)
    from transformers import PreTrainedTokenizerFast

    bert = training.algorithm == "wordpiece"
    special = _BERT if bert else _SPECIAL[form]
    sentinels = list(SENTINELS) if form == Form.ENDED else []
    size = max(1, training.vocab_size - len(sentinels))
    tokenizer = _ALGORITHMS[training.algorithm](size, list(dict.fromkeys(special.values())), texts)
    tokenizer.add_special_tokens(sentinels[::-1])  # T5's first sentinel is its last entry
    check(training.vocab_size, tokenizer.get_vocab_size())
    if form in _FRAMES and not bert:
        tokenizer.post_processor = _framing(tokenizer, *_FRAMES[form])
    more: dict[str, Any] = {"extra_special_tokens": sentinels} if sentinels else {}
    if form != Form.BARE and not bert:
        more["model_input_names"] = ["input_ids", "attention_mask"]  # token types are BERT's, and refused by others
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **special, **more)


def _framing(tokenizer: "Tokenizer", single: str, pair: str) -> "TemplateProcessing":
    from tokenizers.processors import TemplateProcessing

    tokens = [token for token in dict.fromkeys(pair.replace(":1", "").split()) if not token.startswith("$")]
    return TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens]
    )


def _check_writes(algorithm: str, form: Form) -> None:
    if form == Form.TRANSCRIPT and algorithm != "bpe":
        raise UserError(_ALGORITHM, f"speech recognition needs character (CTC) or bpe (Whisper), not {algorithm}")
    if form != Form.TRANSCRIPT:
        raise UserError(_ALGORITHM, "character is for speechRecognition only; use bpe, unigram or wordpiece")


def _check_large_enough(wanted: int, size: int) -> None:
    if size > wanted:
        raise UserError(_WHERE, f"{wanted} entries are too few: there are {size} characters and special tokens")


def _check_size(wanted: int, size: int) -> None:
    _check_large_enough(wanted, size)
    if size < wanted:
        raise UserError(
            _WHERE,
            f"{wanted} entries are too many for the training documents: they yield {size}; lower it, or add data",
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
        raise UserError(_WHERE, f"{size} entries are too few for all characters of the documents") from error
    return tokenizer


def _wordpiece(size: int, special: list[str], texts: Iterator[str]) -> "Tokenizer":
    """As in BERT (Devlin et al., 2019), cased; [CLS] before and [SEP] after."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    # By default a word of more than 100 characters is unknown, as clauses in Thai are, which have no spaces.
    tokenizer = Tokenizer(models.WordPiece(unk_token=_BERT["unk_token"], max_input_chars_per_word=_LONGEST_WORD))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=_LEAST_SEEN, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = _framing(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer


_ALGORITHMS: Final[dict[str, Callable[[int, list[str], Iterator[str]], "Tokenizer"]]] = {
    "bpe": _bpe,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
"""(size, special tokens, texts) -> trained; by YAML name."""
