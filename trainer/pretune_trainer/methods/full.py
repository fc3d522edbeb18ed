"""Every weight is trained."""

from dataclasses import replace
from typing import Final

from transformers import PreTrainedModel

from pretune_api.methods import Full
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned
from pretune_trainer.step import blocks_of

_TOWERS: Final = ("text_model", "vision_model")
"""What transformers calls the two parts of a model that reads texts and images."""


def full(model: PreTrainedModel, spec: Full) -> Tuned:
    """The model as it is, with smaller learning rates further from its head where `spec` says so.

    Raises:
        UserError: the model has no blocks for learning rates to go by.
    """
    rates = {} if spec.layer_decay == 1.0 else _rates(model, spec.layer_decay)
    return replace(Tuned.itself(model), rates=rates)


def _rates(model: PreTrainedModel, decay: float) -> dict[str, float]:
    """Those of each tower by itself where there are two (CLIP), which stand side by side; what joins them is a head."""
    towers = [name for name in _TOWERS if hasattr(model, name)]
    if not towers:
        return _layer_rates(model, decay)
    return {
        f"{tower}.{name}": rate for tower in towers for name, rate in _layer_rates(getattr(model, tower), decay).items()
    }


def _layer_rates(model: PreTrainedModel, decay: float) -> dict[str, float]:
    """1 behind the last block, `decay` in it, and once more for each block below; embeddings stand before the first.

    What stands between two blocks, such as what an encoder ends with, learns as fast as the block behind it.
    """
    blocks = list(blocks_of(model))
    if not blocks:
        raise UserError("spec.method.full.layerDecay", f"{model.config.model_type} models have no blocks")
    depths = {id(parameter): number for number, block in enumerate(blocks) for parameter in block.parameters()}
    rates: dict[str, float] = {}
    behind = -1
    for name, parameter in model.named_parameters():
        depth = depths.get(id(parameter), behind)
        rates[name] = decay ** (len(blocks) - depth)
        if id(parameter) in depths:
            behind = depth + 1
    return rates
