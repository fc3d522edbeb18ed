"""The peer of our data path: datasets, streamed from Parquet, tokenised and grouped into rows on the way.

In one process, with the tokenizer's own threads; two loader processes were tried, and were slower on two cores.
"""

import setting
import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoTokenizer
from turns import Turns


def main() -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(setting.TOKENIZER)

    def tokenise(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[*ids, tokenizer.eos_token_id] for ids in tokenizer(batch["text"])["input_ids"]]}

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        stream = [token for ids in batch["ids"] for token in ids]
        whole = len(stream) // setting.LENGTH * setting.LENGTH
        return {"input_ids": [stream[at : at + setting.LENGTH] for at in range(0, whole, setting.LENGTH)]}

    files = [str(path) for path in sorted(setting.CORPUS.iterdir())]
    turns = Turns(burst=setting.STEPS_PER_PASS)
    while True:
        texts = load_dataset("parquet", data_files=files, split="train", streaming=True)
        rows = texts.shuffle(seed=0, buffer_size=100).map(tokenise, batched=True, batch_size=64, remove_columns="text")
        rows = rows.map(group, batched=True, batch_size=64, remove_columns="ids").with_format("torch")
        for batch in DataLoader(rows, batch_size=setting.ROWS):
            turns.step(batch["input_ids"].numel())


if __name__ == "__main__":
    main()
