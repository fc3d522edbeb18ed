"""What the tasks of encoder-decoders share: answers are judged, each token from the right ones before it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune_trainer.errors import UserError
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch
from pretune_trainer.tasks.logits import fitting


def judge_answers(model: nn.Module, batch: Batch, pad: int) -> tuple[Tensor, Tensor]:
    """The loss of each token of the targets "lm", and whether it was the likeliest: float32, bool [packs * width]."""
    assert isinstance(model, PreTrainedModel)
    targets = batch.targets["lm"]
    before = torch.full_like(targets, _first_token(model))
    before[:, 1:] = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORED, pad)
    given = fitting(batch.inputs, model)
    logits = model(**given, decoder_input_ids=before, use_cache=False).logits.flatten(0, 1).float()
    losses = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses, logits.argmax(-1) == targets.flatten()


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
