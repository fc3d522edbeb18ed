"""What tasks hand to metrics that more than one of them uses."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretune_trainer.metrics.likelihood import Likelihood
from pretune_trainer.model.losses import IGNORED


def likelihood(losses: Tensor, targets: Tensor, tokenizer: PreTrainedTokenizerBase) -> Likelihood:
    """How probable a batch was; `losses` and `targets` (int64, IGNORED where there is none) are of one size.

    Bytes are those of the targets' text: special tokens have none, and a character cut in two counts as U+FFFD.
    """
    rows = [row[row != IGNORED] for row in targets.cpu()]
    texts = (tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in rows)
    size = sum(len(text.encode()) for text in texts)
    return Likelihood(float(losses.detach().double().sum()), sum(map(len, rows)), size)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of each label against all others, of softmax logits: float32 [rows, labels].

    The likeliest label's is taken from the other logits, as 1 - p would be lost to rounding.
    """
    likeliest = logits.argmax(-1, keepdim=True)
    log_p = logits.log_softmax(-1)
    others = logits.scatter(-1, likeliest, -torch.inf).logsumexp(-1, keepdim=True)
    odds = log_p - torch.log1p(-log_p.exp())
    return odds.scatter(-1, likeliest, logits.gather(-1, likeliest) - others)
