"""Embeddings of tokens that a parent's tokenizer has been given."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_trainer.data.adapt import Added


def embed(model: PreTrainedModel, added: Added) -> None:
    """Begin each added token as the mean of its pieces, where tokens are read and where they are predicted.

    Gee et al., 2022, "Fast Vocabulary Transfer for Language Model Compression".
    """
    size = added.first + len(added.pieces)
    if model.get_input_embeddings().num_embeddings < size:
        model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for table in _tables(model):
            table[added.first : size] = torch.stack([table[list(pieces)].mean(0) for pieces in added.pieces])


def _tables(model: PreTrainedModel) -> Iterator[Tensor]:
    """What has a row, or a number, for each token."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    yield table
    if isinstance(head, nn.Linear):
        if head.weight is not table:
            yield head.weight
        if head.bias is not None:
            yield head.bias
