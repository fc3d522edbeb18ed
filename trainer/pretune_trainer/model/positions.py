"""How far a model reads: as many tokens as it has positions for."""

from typing import Final

from transformers import PretrainedConfig

from pretune_trainer.errors import UserError

_AFTER_PADDING: Final = frozenset(
    {
        "camembert",
        "data2vec-text",
        "ibert",
        "longformer",
        "luke",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Types whose first position is the one after the padding's id: that many positions are never used."""
_PADDING: Final = {"mpnet": 1}
"""The padding's id in the code of a type, whatever its configuration says."""


def check_length(config: PretrainedConfig, sequence_length: int, where: str, virtual_tokens: int = 0) -> None:
    """Refuse rows longer than the model's positions reach; `virtual_tokens` stand before each.

    Raises:
        UserError: they are too long.
    """
    most = reach(config)
    if most is not None and most < sequence_length + virtual_tokens:
        virtual = f", and spec.method {virtual_tokens} more" if virtual_tokens else ""
        raise UserError(
            where, f"the model has {most} positions, but spec.data.sequenceLength requests {sequence_length}{virtual}"
        )


def reach(config: PretrainedConfig) -> int | None:
    """Tokens that a model can read at once; None where its configuration sets no bound."""
    found: int | None = getattr(config, "max_position_embeddings", None)
    return None if found is None else found - unused_positions(config.model_type, config.pad_token_id)


def unused_positions(kind: str, pad: int | None) -> int:
    """Positions that a type of model, with this id of padding, never uses."""
    pad = _PADDING.get(kind, pad)
    return pad + 1 if kind in _AFTER_PADDING and pad is not None else 0
