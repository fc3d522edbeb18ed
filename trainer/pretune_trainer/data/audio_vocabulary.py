"""Tokenizers for transcripts, of the kinds that pipelines for speech know: letters for CTC, Whisper's for Whisper."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import Wav2Vec2CTCTokenizer, WhisperTokenizer

_FIRST: Final = ("<pad>", "<s>", "</s>", "<unk>", "|")
"""The first entries: the blank, begin, end, what is unknown, and what stands between words."""
_END: Final = "<|endoftext|>"
WHISPER: Final = (_END, "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>")
"""The last entries: what follows the very last one is taken for times by those who read transcripts."""


def letters(size: int, texts: Iterator[str], length: int) -> "Wav2Vec2CTCTokenizer":
    """A tokenizer of the characters in `texts`, in the order of their code points; the most frequent ones, if there are
    more than `size` leaves room for. `length` is the longest text that it is for.
    """
    from transformers import Wav2Vec2CTCTokenizer

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(" ".join(text.split()))
    found = sorted(counts.keys() - {" ", *_FIRST}, key=lambda letter: (-counts[letter], letter))
    entries = [*_FIRST, *sorted(found[: max(0, size - len(_FIRST))])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps({entry: number for number, entry in enumerate(entries)}))
        return Wav2Vec2CTCTokenizer(str(file), model_max_length=length)


def whisper(trained: "Tokenizer", length: int) -> "WhisperTokenizer":
    """Whisper's tokenizer with the entries of a byte-level BPE, and Whisper's special tokens after them."""
    from transformers import WhisperTokenizer

    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    special = [token for token in WHISPER if token != _END]
    tokenizer = WhisperTokenizer(
        vocab=model["vocab"], merges=merges, pad_token=_END, model_max_length=length, extra_special_tokens=special
    )
    tokenizer.set_prefix_tokens()
    return tokenizer
