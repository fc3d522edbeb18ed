"""Letting a model write during an evaluation, on any number of ranks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from pretune_trainer.data.example import Array
from pretune_trainer.model.attention import VARLEN
from pretune_trainer.model.gather import are_several

PLAINLY: Final[dict[str, Any]] = {
    "do_sample": False,
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "num_beam_groups": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "constraints": None,
    "force_words_ids": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "stop_strings": None,
    "token_healing": False,
    "cache_implementation": None,
    "use_cache": True,
}
"""Asks `generate` for the one text that the model thinks likeliest, whatever a parent's file says: several texts, words
drawn at random, searches that need code of a hub, ends and caches that need more than the model; or no cache at all, as
in files of models that were trained without, so that each token would cost as much as the whole text before it."""


def write(model: PreTrainedModel, prompts: Sequence[Array], pad: int, most: int, beams: int) -> list[list[int]]:
    """What the model writes after each prompt (token ids [n]), greedily or by beam search: at most `most` token ids,
    special ones included.

    Decoders read prompts that end side by side, encoders such that begin side by side. Sharded ranks must compute
    equally often: each writes until the last one has finished, and one without prompts writes to an empty one.
    """
    width = max([1, *map(len, prompts)])
    ids = torch.full((max(1, len(prompts)), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if model.config.is_encoder_decoder else slice(width - len(prompt), width)
        ids[row, place] = torch.from_numpy(prompt.astype("int64"))
        mask[row, place] = 1
    mask[len(prompts) :] = 1
    device = next(model.parameters()).device
    with _attention_to_masks(model):
        written = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=most,
            num_beams=beams,
            synced_gpus=are_several(),
            **PLAINLY,
            **_cache(model),
        )
    start = 0 if model.config.is_encoder_decoder else width
    return list(written[: len(prompts), start:].tolist())


def _cache(model: PreTrainedModel) -> dict[str, EncoderDecoderCache]:
    """One that grows, for a model of T5's kin with the deeper decoder: transformers 5.23 makes one of as many layers as
    the encoder has."""
    layers = getattr(model.config, "num_decoder_layers", None)
    if layers is None or layers <= model.config.num_hidden_layers:
        return {}
    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}


@contextmanager
def _attention_to_masks(model: PreTrainedModel) -> Iterator[None]:
    """The kernel for packed rows knows no masks, and no cache."""
    chosen = model.config._attn_implementation
    if chosen != VARLEN:
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(chosen)
