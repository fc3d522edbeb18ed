"""LayerDrop (Fan et al., 2020), which leaves out whole layers at random: not here.

Each rank would leave out others, and ranks wait for each other's layers: they would wait for ever.
"""

from collections.abc import Mapping
from typing import Any, Final

from transformers import PretrainedConfig, PreTrainedModel

from pretune_trainer.errors import UserError

_NAME: Final = "layerdrop"
"""What transformers calls the share of layers that is left out, in modules; in configurations, such names end so."""


def refuse_layer_drop(fields: Mapping[str, Any], where: str) -> None:
    """Refuse to be asked for it in the fields of a configuration.

    Raises:
        UserError: it is asked for.
    """
    for name, share in fields.items():
        if name.endswith(_NAME) and share:
            raise UserError(f"{where}.{name}", "layers cannot be dropped, since ranks wait for each other; write 0")


def keep_layers(model: PreTrainedModel) -> None:
    """Compute every layer in every step, whatever the type's defaults, or the parent's configuration, say."""
    for module in model.modules():
        if hasattr(module, _NAME):
            module.layerdrop = 0.0  # most models ask the configuration only once
        if isinstance(config := getattr(module, "config", None), PretrainedConfig):
            for name in [name for name in vars(config) if name.endswith(_NAME)]:
                setattr(config, name, 0.0)
