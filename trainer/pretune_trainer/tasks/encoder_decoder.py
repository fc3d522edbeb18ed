"""What the tasks of encoder-decoders share: answers are judged, each token from the right ones before it."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_trainer.errors import UserError
from pretune_trainer.model.losses import IGNORED, cross_entropies
from pretune_trainer.tasks.base import Batch
from pretune_trainer.tasks.logits import fitting


def judge_answers(model: nn.Module, batch: Batch, pad: int) -> tuple[Tensor, Tensor]:
    """The loss of each token of the targets "lm", and whether it was the likeliest: float32, bool [packs * width]."""
    logits, targets = _logits(model, batch, pad), batch.targets["lm"].flatten()
    return cross_entropies(logits, targets), logits.argmax(-1) == targets


def answer_losses(model: nn.Module, batch: Batch, pad: int) -> Tensor:
    """The loss of each token of the targets "lm", float32 [packs * width]; the likeliest ones are not looked for."""
    return cross_entropies(_logits(model, batch, pad), batch.targets["lm"].flatten())


def _logits(model: nn.Module, batch: Batch, pad: int) -> Tensor:
    """Of each token from the right ones before it: float32 [packs * width, vocabulary]."""
    assert isinstance(model, PreTrainedModel)
    targets = batch.targets["lm"]
    before = torch.full_like(targets, _first_token(model))
    before[:, 1:] = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORED, pad)
    logits = model(**fitting(batch.inputs, model), decoder_input_ids=before, use_cache=False).logits
    assert isinstance(logits, Tensor)
    return logits.flatten(0, 1).float()


def _first_token(model: PreTrainedModel) -> int:
    """What the decoder begins with.

    Raises:
        UserError: its parent does not say.
    """
    start = getattr(model.config, "decoder_start_token_id", None)
    start = model.generation_config.decoder_start_token_id if start is None else start
    if start is None:
        raise UserError(
            "spec.model.from", "its config.json has no decoder_start_token_id, with which it begins to write"
        )
    return int(start)
