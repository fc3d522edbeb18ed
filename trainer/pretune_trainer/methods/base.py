"""What a method makes of a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import torch
from transformers import PreTrainedModel

from pretune_trainer.model.body import body_names
from pretune_trainer.model.parent_weights import new_names


@dataclass(frozen=True)
class Tuned:
    """A model that is ready to be trained by a method."""

    model: PreTrainedModel
    """The module to train; what is not trained does not require gradients."""
    save: Callable[[Path, torch.dtype], None]
    """Writes it into a folder in Hugging Face format, with weights of that type; they are whole by then, in float32.
    The model is used up."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rates of parameters by name, as shares of the schedule's; 1 where absent."""
    loading: str = ""
    """How the artifact is loaded, as Python, where it is not a whole model."""
    note: str = ""
    """What people are told as training starts: what they may think is trained, and is not."""

    @classmethod
    def itself(cls, model: PreTrainedModel) -> Self:
        """A model that is saved as it is."""
        return cls(model, partial(save_model, model))


def save_model(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Write a model into a folder, with weights of that type."""
    if model.can_generate():
        # What a parent's file says beside the point, such as a temperature without sampling, may stay there:
        # transformers refuses to save it where anything, such as the padding's id, has been added since.
        model.generation_config._original_object_hash = hash(model.generation_config)
    model.to(dtype=dtype).save_pretrained(folder)


def head_names(model: PreTrainedModel) -> set[str]:
    """Names of the parameters outside the model's body: the head of a task; and of what its parent lacks."""
    names = {name for name, _ in model.named_parameters()}
    return names - body_names(model) | names & new_names(model)
