"""To which of two texts a token belongs, as BERT is told it."""

from typing import Final

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_NAMES: Final = ("input_ids", "token_type_ids", "attention_mask")
"""What BERT's own tokenizer gives."""


def tell_segments(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Let a tokenizer that can tell two texts apart say so from now on, also to those who use what is saved of it.

    transformers 5 wants that written in a tokenizer's file. Of those that are of no model's own class, the ones trained
    here and older ones leave it open; what others say stands.

    Returns:
        whether it was open.
    """
    if type(tokenizer) is not PreTrainedTokenizerFast or "model_input_names" in tokenizer.init_kwargs:
        return False
    if 1 not in tokenizer("a", "a", return_token_type_ids=True)["token_type_ids"]:
        return False
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = [*_NAMES]
    return True
