"""The peer that most people use: transformers.Trainer, on packed rows (pretrain) or padded conversations (finetune)."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import setting
import torch
from torch import nn
from torch.utils.data import IterableDataset
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from turns import Turns


class Rows(IterableDataset[dict[str, object]]):
    """Packed rows, without end."""

    def __iter__(self) -> Iterator[dict[str, object]]:
        for [row] in setting.batches(1):
            yield {"input_ids": row, "labels": row}


class Chats(IterableDataset[dict[str, list[int]]]):
    """Conversations, without end, tokenised beforehand; the loss is taken on what the assistant says."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        chats = [json.loads(line)["messages"] for line in setting.CHATS.open()]
        encoded = tokenizer.apply_chat_template(
            chats, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        self._examples = [
            {"input_ids": ids, "labels": [token if mine else -100 for token, mine in zip(ids, mask, strict=True)]}
            for ids, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        ]

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        while True:
            yield from self._examples


class TimedTrainer(Trainer):  # type: ignore[misc]  # transformers is not looked into
    """A Trainer that takes turns."""

    def training_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self.turns.step(tokens)
        return loss


def main(stage: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(setting.TOKENIZER)
    model = LlamaForCausalLM(LlamaConfig(**setting.MODEL, vocab_size=setting.VOCABULARY))
    pretrain = stage == "pretrain"
    arguments = TrainingArguments(
        output_dir=str(setting.HOME / "hf"),
        per_device_train_batch_size=setting.ROWS if pretrain else setting.CHATS_PER_STEP,
        max_steps=setting.STEPS,
        learning_rate=setting.LEARNING_RATE,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_steps=100,
        disable_tqdm=True,
    )
    trainer = TimedTrainer(
        model,
        arguments,
        train_dataset=Rows() if pretrain else Chats(tokenizer),
        data_collator=default_data_collator if pretrain else DataCollatorForSeq2Seq(tokenizer),
    )
    trainer.turns = Turns()
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1])
