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


def _without(fields: dict[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in names}


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

_TWO_KINDS = {**_GROUPED, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

PACKED: dict[str, dict[str, object]] = {
    **dict.fromkeys(["apertus", "arcee", "ernie4_5", "olmo", "starcoder2"], _GROUPED),
    **dict.fromkeys(["cohere2", "exaone4", "olmo3"], _TWO_KINDS),
    **dict.fromkeys(["gemma2", "gemma3_text"], _TWO_KINDS | {"head_dim": 16}),
    "cohere": {**_GROUPED, "logit_scale": 0.25},
    "granite": {**_GROUPED, "logits_scaling": 4.0},
    "glm4": _WIDE_HEADS,
    "seed_oss": {**_WIDE_HEADS, "attention_dropout": 0.0},
    "helium": _WIDE_HEADS,
    "hunyuan_v1_dense": _WIDE_HEADS,
    "phi": _LLAMA,
    "granitemoe": _without(_EXPERTS, "num_experts", "moe_intermediate_size"),
    "mixtral": _without(_EXPERTS, "num_experts", "moe_intermediate_size"),
    "olmoe": _without(_EXPERTS, "num_local_experts", "moe_intermediate_size"),
    "qwen2_moe": _without(_EXPERTS, "num_local_experts") | {"shared_expert_intermediate_size": 32},
    "qwen3_moe": _without(_EXPERTS, "num_local_experts"),
    "deepseek_v3": {
        **_LLAMA,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
}
"""Configurations of more types that keep packed documents apart, as small, without dropout in attention."""
