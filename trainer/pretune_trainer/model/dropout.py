"""Dropout, which is left out where a model is compared with itself."""

from typing import Final

from torch import nn

_SHARES: Final = ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout")
"""What modules of transformers call the share that they leave out themselves."""


def drop_nothing(model: nn.Module) -> None:
    """Compute with everything in training, too. The model's configuration stays as it is."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _SHARES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
