"""Every weight is trained."""

from transformers import PreTrainedModel

from pretune_api.methods import Full
from pretune_trainer.methods.base import Tuned


def full(model: PreTrainedModel, spec: Full) -> Tuned:
    """The model as it is."""
    return Tuned.itself(model)
