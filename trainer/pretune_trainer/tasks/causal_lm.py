"""Predict each token from those before it: GPT (Radford et al., 2018)."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.likelihood import Likelihood, Perplexity
from pretune_trainer.model.build import Build
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.judging import likelihood
from pretune_trainer.tasks.language import (
    Packer,
    encode,
    language_model,
    next_token_loss,
    next_token_losses,
    pieces,
)


class NextToken(Task[Likelihood]):
    """What all tasks share whose loss is that of the next token."""

    metrics_known: Mapping[str, bool] = Perplexity.known

    def __init__(self, context: Context) -> None:
        self.tokenizer = context.tokenizer
        self.layout = Layout(length=context.sequence_length, packs=context.packs)
        self.packer = Packer(context.sequence_length, context.pad, context.by_boundaries)

    def model(self, build: Build) -> PreTrainedModel:
        """A causal language model."""
        return language_model(build)

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Rows in which every token predicts the next one."""
        return self.packer.next_token(packs)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed cross-entropy of the next tokens."""
        return {"lm": next_token_loss(model, batch)}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Likelihood]:
        """The batch's likelihood."""
        losses = next_token_losses(model, batch)
        return [likelihood(losses, batch.targets["lm"], self.tokenizer)]

    def metrics(self) -> list[Metric[Likelihood]]:
        """Loss and perplexity."""
        return [Perplexity()]


class CausalLM(NextToken):
    """Plain text: each document with its begin and end tokens, cut into pieces of the row's length."""

    fingerprint = "causalLM/1"

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a piece: ids int32 [n <= length]."""
        before = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        after = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        for ids in encode(self.tokenizer, [row.text() for row in rows]):
            document = [*before, *ids, *after] if ids else []
            yield [{"ids": piece} for piece in pieces(document, self.layout.length)]
