"""Computing with a model once, to find out what it does, before it is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from transformers import PreTrainedModel

_HOOKED: Final = "_output_capturing_hooks_installed"
"""By what transformers knows that it has put hooks into a model, as it does when a model is first called whose
configuration asks for more than its output, such as output_hidden_states."""


@contextmanager
def trial(model: PreTrainedModel) -> Iterator[None]:
    """Without gradients and dropout. Afterwards the model is as it was: hooks could not be sent to other ranks."""
    hooks = {module: module._forward_hooks.copy() for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, before in hooks.items():
            module._forward_hooks = before
            vars(module).pop(_HOOKED, None)
        model.train()
