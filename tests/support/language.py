"""Real text that every Python brings, a tokenizer made from it, and models that are small enough to test."""

from functools import cache
from pydoc_data import topics

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]


@cache
def paragraphs() -> list[str]:
    """Some 6,000 paragraphs of the language reference."""
    return [part.strip() for text in topics.topics.values() for part in text.split("\n\n") if part.strip()]


@cache
def small_tokenizer(vocabulary: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the language reference."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(paragraphs()[:1000], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


_LLAMA: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_GROUPED = {**_LLAMA, "num_key_value_heads": 1}
_WIDE_HEADS = {**_GROUPED, "head_dim": 16}

TINY: dict[str, dict[str, object]] = {
    "llama": _LLAMA,
    "mistral": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": _WIDE_HEADS,
    "gemma": _WIDE_HEADS,
    "olmo2": _GROUPED,
    "phi3": _GROUPED,
    "smollm3": _GROUPED,
    "gpt_neox": _LLAMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}
"""Configurations of about 50,000 parameters, by model type, without dropout."""
