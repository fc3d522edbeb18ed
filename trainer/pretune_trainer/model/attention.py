"""Attention within the documents of a packed row.

On CPUs transformers makes a dense mask from position ids that start again at 0. On CUDA devices the documents'
boundaries go to FlashAttention's variable-length kernel, which PyTorch carries, and no mask exists.
"""

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AutoConfig

from pretune_api.model import Architecture
from pretune_trainer.model.origin import Source, model_type

VARLEN: Final = "pretune_varlen"

PACKING_FAMILIES: Final = frozenset(
    {
        "apertus",
        "arcee",
        "cohere",
        "cohere2",
        "deepseek_v3",
        "ernie4_5",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm4",
        "gpt2",
        "gpt_neox",
        "granite",
        "granitemoe",
        "helium",
        "hunyuan_v1_dense",
        "llama",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "starcoder2",
    }
)
"""Model types that keep packed documents apart; a test holds each to it. Others get a row per document."""
_MASKED: Final = frozenset({"deepseek_v3", "gemma2"})
"""Those of them that attend as the kernel cannot: with values narrower than keys, or with capped scores."""

_DROPOUT: Final = ("attention_dropout", "attn_pdrop")
"""What these types call the share of attention weights that is left out at random in training."""
_FEWEST_DOCUMENTS: Final = 64
_WIDTH: Final = 8
"""FlashAttention takes heads whose width is a multiple of this."""


def attention_for(device: torch.device, precision: str, *, packs: bool, masked: bool = False) -> str | None:
    """The attention implementation to build a model with; None leaves it to transformers: sdpa, where there is one.

    The kernel computes with 16-bit numbers alone.
    """
    if not packs or masked or device.type != "cuda" or precision != "bf16":
        return None
    _register_varlen()
    return VARLEN


def needs_masks(origin: Architecture | Source) -> bool:
    """Whether the kernel cannot compute a type's attention, or training leaves weights of it out at random, as GPT-2's
    does by default: the kernel knows no dropout."""
    if model_type(origin) in _MASKED:
        return True
    if isinstance(origin, Architecture):
        fields = AutoConfig.for_model(origin.type).to_dict() | origin.config
    else:
        fields = AutoConfig.from_pretrained(origin.name, **origin.arguments).to_dict()
    return any(fields.get(name) for name in _DROPOUT)


def boundaries(position_ids: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Tensor | int]:
    """Keyword arguments that tell the kernel where documents begin.

    The list is filled up with its end to a power of two, so that it comes in few shapes (each may be compiled anew),
    and no further: the kernel's grid and its scratch memory in the backward pass grow with the number of documents,
    empty ones too (FlashAttention's `dq_accum` has 128 more tokens for each).

    Args:
        position_ids: int64 [rows, length]; every document starts at 0.

    Returns:
        Cumulative lengths, int32 [power of two + 1], and the longest length possible.
    """
    starts = np.flatnonzero(position_ids.reshape(-1) == 0)
    room = max(_FEWEST_DOCUMENTS, 1 << (len(starts) - 1).bit_length())
    ends = np.full(room + 1, position_ids.size, dtype=np.int32)
    ends[: len(starts)] = starts
    offsets = torch.from_numpy(ends)
    longest = int(position_ids.shape[1])
    return {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, "max_length_q": longest, "max_length_k": longest}


@cache
def _register_varlen() -> None:
    # No mask is registered: without one transformers makes none, and does not look at the position ids on the device.
    AttentionInterface.register(VARLEN, _varlen_attention)


def _varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention by documents; query [1, heads, tokens, width], the result [1, tokens, heads, width]."""
    from torch.nn.attention.varlen import varlen_attn

    assert not dropout, "a model that drops attention has another implementation"
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    window = (sliding_window - 1 if sliding_window else -1, 0)
    # Rotation and norms leave float32 under autocast, which does not know this kernel; values are as projected.
    query, key, value = (tensor[0].transpose(0, 1).to(value.dtype).contiguous() for tensor in (query, key, value))
    width, ends, longest = query.shape[-1], cu_seq_lens_q, max_length_q
    scale = width**-0.5 if scaling is None else scaling
    if missing := -width % _WIDTH:
        query, key, value = (F.pad(tensor, (0, missing)) for tensor in (query, key, value))
    result = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale, window_size=window)
    assert isinstance(result, Tensor), "no auxiliary output was asked for"
    return result[None, ..., :width], None
