"""The peer that has nothing to lose time with: PyTorch, a transformers model, packed rows in memory, one loop.

bare_loop.py               attends over whole rows, as nanoGPT does
bare_loop.py documents     keeps the documents of a row apart, as we do
"""

import math
import sys

import setting
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from turns import Turns


def main(documents: bool) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**setting.MODEL, vocab_size=setting.VOCABULARY)).train()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=setting.LEARNING_RATE, betas=(0.9, 0.95), fused=True)
    turns = Turns()
    for step, rows in enumerate(setting.batches(setting.ROWS)):
        ids = torch.from_numpy(rows)
        for group in optimizer.param_groups:
            group["lr"] = setting.LEARNING_RATE * (1 + math.cos(math.pi * step / setting.STEPS)) / 2
        places = {"position_ids": torch.from_numpy(setting.places(rows))} if documents else {}
        loss = model(input_ids=ids, labels=ids, use_cache=False, **places).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        turns.step(ids.numel())


if __name__ == "__main__":
    main(documents=sys.argv[1:] == ["documents"])
