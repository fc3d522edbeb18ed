"""Prefer one answer to another: direct preference optimization (DPO, Rafailov et al., 2023)."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune_api.preference import Preference as Spec
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row, kind_of
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import BadRowError, lines_of
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.preference import Preferred, Rewards
from pretune_trainer.model.build import Build
from pretune_trainer.model.dropout import drop_nothing
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import PLACES, Batch, Context, Task
from pretune_trainer.tasks.chat import PLAIN_TEMPLATE, TEMPLATE_ERRORS
from pretune_trainer.tasks.language import (
    NOTHING,
    encode,
    following,
    language_model,
    log_probabilities,
    padded,
    padded_inputs,
    places_of,
)
from pretune_trainer.tasks.messages import messages_of


class _Texts(NamedTuple):
    """A row: what stands before the answers, and each with its end."""

    prompt: str
    chosen: str
    rejected: str


class Preference(Task[Preferred]):
    """-log sigmoid(beta x (how much more the chosen answer has gained than the rejected one)), in log-probabilities of
    whole answers, since training began."""

    metrics_known: Mapping[str, bool] = Rewards.known
    compares = True
    nothing_learnt = "they are null, an answer is blank, or both are the same"

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.layout = Layout(length=context.sequence_length, packs=False)
        self.columns = (self.spec.chosen_column, self.spec.rejected_column)
        self.tokenizer.chat_template = self.spec.template or self.tokenizer.chat_template or PLAIN_TEMPLATE
        template = hashlib.sha256(self.tokenizer.chat_template.encode()).hexdigest()
        self.fingerprint = f"preference/3/{context.sequence_length}/{self.columns}/{template}"

    def model(self, build: Build) -> PreTrainedModel:
        """A causal language model without dropout, as in the paper's code: else answers gain and lose by chance."""
        model = language_model(build)
        drop_nothing(model)
        return model

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a row: prompt and chosen answer as ids int32 [n], prompt and rejected answer int32 [m].

        The first tokens of a prompt are left out where both do not fit in a row, and the last ones of an answer that
        does not even alone; before, int32 [1], is how many tokens of the prompt are left.
        """
        texts = [text for row in rows for text in self._texts(row)]
        ids = [np.asarray(each, np.int32) for each in encode(self.tokenizer, texts)]
        for number in range(len(rows)):
            prompt, chosen, rejected = ids[3 * number : 3 * number + 3]
            if len(prompt) == 0 or min(len(chosen), len(rejected)) == 0 or np.array_equal(chosen, rejected):
                yield []
                continue
            length, answer = self.layout.length, max(len(chosen), len(rejected))
            needed = len(prompt) + answer
            prompt = prompt[-max(1, length - answer) :]
            both = [np.concatenate([prompt, each])[:length] for each in (chosen, rejected)]
            example = {"ids": both[0], "rejected": both[1], "before": np.asarray([len(prompt)], np.int32)}
            yield [fitted(example, needed, length)]

    def _texts(self, row: Row) -> _Texts:
        values = [row.value(column) for column in (row.column, *self.columns)]
        if all(isinstance(value, str) for value in values):
            prompt, chosen, rejected = map(str, values)
            end = self.tokenizer.eos_token or ""
            answers = (answer + end if answer.strip() else "" for answer in (chosen, rejected))
            return _Texts((self.tokenizer.bos_token or "") + prompt, *answers)
        if all(values) and isinstance(values[0], list) and all(isinstance(each, list | dict) for each in values[1:]):
            return self._rendered(row)
        raise BadRowError(
            str(row.place),
            f"'{row.column}', '{self.columns[0]}' and '{self.columns[1]}' must be three texts, or three lists of "
            f"messages {{role, content}}; they are {', '.join(map(kind_of, values))}",
        )

    def _rendered(self, row: Row) -> _Texts:
        prompt = messages_of(row, row.column)
        answers = [messages_of(row, column, may_be_single=True) for column in self.columns]
        try:
            before = self._render(prompt, open_turn=True)
            both = [self._render(prompt + answer, open_turn=False) for answer in answers]
        except TEMPLATE_ERRORS as error:
            raise BadRowError(str(row.place), f"the chat template rejects it: {lines_of(error)[0]}") from error
        if not all(text.startswith(before) for text in both):
            raise BadRowError(
                str(row.place),
                "the formatted prompt and answer do not begin with the formatted prompt; let an answer begin "
                "with what the assistant says, without the prompt",
            )
        return _Texts(before, *(text.removeprefix(before) for text in both))

    def _render(self, messages: list[Any], *, open_turn: bool) -> str:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn)
        return str(text)

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Two rows a pack, first all chosen, then all rejected: input_ids, attention_mask int64 [2 packs, width].

        Targets: "lm" int64 [2 packs, width], the answers' tokens, aligned with the position that predicts, and their
        "places"; "reference" float32 [packs, 2], log-probabilities before training; "kept" bool [packs].
        """
        examples = [pack.examples[0] if pack.examples else None for pack in packs]
        rows = [NOTHING if each is None else each[name] for name in ("ids", "rejected") for each in examples]
        before = [0 if each is None else int(each["before"][0]) for each in examples] * 2
        targets = [following(row, skipped) for row, skipped in zip(rows, before, strict=True)]
        most = self.layout.length
        inputs = {**padded_inputs(rows, self.pad, most), "use_cache": False}
        nothing = np.zeros(2, np.float32)
        reference = [nothing if each is None else each.get("reference", nothing) for each in examples]
        kept = torch.tensor([each is not None for each in examples])
        wanted = padded(targets, IGNORED, most)
        found = {
            "lm": wanted,
            PLACES: places_of(wanted),
            "reference": torch.from_numpy(np.stack(reference).astype(np.float32)),
            "kept": kept,
        }
        return Batch(inputs, found, {"preference": int(kept.sum())}, sum(map(len, rows)))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over pairs."""
        margins = self._margins(_log_probabilities(model, batch), batch)
        return {"preference": (-F.logsigmoid(margins) * batch.targets["kept"]).sum()}

    def _margins(self, log_probabilities: Tensor, batch: Batch) -> Tensor:
        """Difference of the rewards of each pair (equation 7 of the paper), float32 [packs]."""
        gained = log_probabilities - batch.targets["reference"]
        return self.spec.beta * (gained[:, 0] - gained[:, 1])

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Preferred]:
        """Log-probabilities and margin of each pair."""
        found = _log_probabilities(model, batch)
        margins = self._margins(found, batch)
        figures = torch.cat([found, margins[:, None], -F.logsigmoid(margins)[:, None]], dim=1)
        return [
            Preferred(*row) for row, kept in zip(figures.tolist(), batch.targets["kept"].tolist(), strict=True) if kept
        ]

    def reference(self, outcome: Preferred) -> Array:
        """Log-probabilities of both answers, float32 [2]."""
        return np.array([outcome.chosen, outcome.rejected], np.float32)

    def metrics(self) -> list[Metric[Preferred]]:
        """Loss, accuracy and margin of the rewards."""
        return [Rewards()]


def _log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Of the answers: chosen and rejected, float32 [packs, 2]."""
    return log_probabilities(model, batch).reshape(2, -1).T
