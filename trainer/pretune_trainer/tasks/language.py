"""What the tasks on text share: encoding, packing, padding, next-token targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pretune_trainer.data.example import Pack
from pretune_trainer.errors import UserError
from pretune_trainer.model.attention import boundaries
from pretune_trainer.model.losses import IGNORED, head_cross_entropy, token_cross_entropy
from pretune_trainer.tasks.base import Batch

Ids = NDArray[np.int32]


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens, in one parallel call to the tokenizer."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return list(encoded["input_ids"])


def pieces(ids: Sequence[int], length: int) -> list[Ids]:
    """A document's ids, cut into pieces of at most `length`; a last piece of one token has nothing to predict."""
    whole = np.asarray(ids, dtype=np.int32)
    return [part for start in range(0, len(whole), length) if len(part := whole[start : start + length]) > 1]


@dataclass(frozen=True)
class Packer:
    """Lays examples into rows of a fixed length."""

    length: int
    pad: int
    by_boundaries: bool
    """Whether the attention is told the documents' boundaries; otherwise it finds them in the position ids."""

    def next_token(self, packs: Sequence[Pack]) -> Batch:
        """Rows in which every token predicts the next one of its example.

        An example may have a "mask" beside its "ids" (1 where the token is a target); without it all are.

        Returns:
            inputs input_ids and position_ids int64 [packs, length] (or [1, packs * length] with boundaries),
            targets "lm" int64 of the same shape, aligned with the position that predicts.
        """
        shape = (len(packs), self.length)
        ids = np.full(shape, self.pad, dtype=np.int64)
        positions = np.tile(np.arange(self.length, dtype=np.int64), (len(packs), 1))
        targets = np.full(shape, IGNORED, dtype=np.int64)
        for row, pack in enumerate(packs):
            self._fill(ids[row], positions[row], targets[row], pack)
        count = int((targets != IGNORED).sum())
        tokens = sum(len(pack) for pack in packs)
        return Batch(self._inputs(ids, positions), {"lm": torch.from_numpy(targets)}, {"lm": count}, tokens)

    def _fill(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], targets: NDArray[np.int64], pack: Pack
    ) -> None:
        start = 0
        for example in pack.examples:
            tokens = example["ids"]
            end = start + len(tokens)
            ids[start:end] = tokens
            positions[start:end] = np.arange(len(tokens))
            following = tokens[1:]
            targets[start : end - 1] = (
                np.where(example["mask"][1:], following, IGNORED) if "mask" in example else following
            )
            start = end
        positions[start:] = np.arange(self.length - start)

    def _inputs(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> dict[str, Any]:
        inputs: dict[str, Any] = {"use_cache": False}
        if not self.by_boundaries:
            return inputs | {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
        flat = {
            "input_ids": torch.from_numpy(ids.reshape(1, -1)),
            "position_ids": torch.from_numpy(positions.reshape(1, -1)),
        }
        return inputs | flat | boundaries(positions)


def pad_right(packs: Sequence[Pack], pad: int, multiple: int = 8) -> dict[str, Tensor]:
    """Single examples as rows as long as the longest, rounded up: input_ids, attention_mask int64 [packs, width]."""
    longest = max(1, *(len(pack) for pack in packs), 1)
    width = -(-longest // multiple) * multiple
    ids = np.full((len(packs), width), pad, dtype=np.int64)
    mask = np.zeros((len(packs), width), dtype=np.int64)
    for row, pack in enumerate(packs):
        for example in pack.examples:
            ids[row, : len(pack)] = example["ids"]
            mask[row, : len(pack)] = 1
    mask[:, 0] = 1  # a row without tokens must still attend to something, or its softmax is not a number
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def hidden_states(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """The last hidden states below the head, flattened to [tokens, width]."""
    assert isinstance(model, PreTrainedModel)
    hidden = model.base_model(**inputs).last_hidden_state
    assert isinstance(hidden, Tensor)
    return hidden.flatten(0, 1)


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Summed cross-entropy of the batch's next tokens."""
    return head_cross_entropy(hidden_states(model, batch.inputs), _head(model), batch.targets["lm"].flatten())


def next_token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of each position's next token, float32 [positions]; 0 where there is no target."""
    return token_cross_entropy(hidden_states(model, batch.inputs), _head(model), batch.targets["lm"].flatten())


def check_head(model: PreTrainedModel) -> None:
    """Refuse models that do more to the hidden states than their linear head: the loss is computed without them.

    Raises:
        UserError: the model scales, caps or shifts its logits.
    """
    ids = torch.arange(4)[None]
    chosen = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the chosen one may need a GPU, and this is still on the CPU
    with torch.no_grad():
        model.eval()
        expected = model(input_ids=ids, use_cache=False).logits
        actual = _head(model)(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        model.train()
    model.set_attn_implementation(chosen)
    if not torch.allclose(expected, actual, atol=1e-4):
        raise UserError(
            "spec.model",
            f"models of type '{model.config.model_type}' change their logits after the head, which is not supported",
        )


def _head(model: nn.Module) -> nn.Linear:
    assert isinstance(model, PreTrainedModel)
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear), "check_head has seen to it"
    return head
