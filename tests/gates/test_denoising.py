"""What was taken out of a text that says everything twice is written again, to the letter."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from pretune_trainer.data.stream import held_out
from pretune_trainer.inputs import Inputs
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from support.jobs import write_rows
from support.measured import Measured
from support.objectives import denoised
from support.runs import gathered, path_of, run
from support.words import vocabulary

WORDS = list("abcdefghij")
T5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2, "dropout_rate": 0.0}
BART = {
    "d_model": 64,
    "init_std": 0.12,  # one over the root of the width; BART's own 0.02 is for 1024
    "dropout": 0.0,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 128 for side in ("encoder", "decoder")},
}


def copies(random: np.random.Generator) -> Iterator[dict[str, str]]:
    """Texts of 11 to 15 tokens: five to seven different letters, a bar, and the same again."""
    for _ in range(20_000):
        half = " ".join(random.permutation(WORDS)[: random.integers(5, 8)])
        yield {"text": f"{half} | {half}"}


NOISE = {
    "t5": {"spanCorruption": {"meanSpanLength": 2}},
    "bart": {"infilling": {"maskingRate": 0.2}},
}


@pytest.mark.parametrize(("kind", "config", "rate"), [("t5", T5, 3e-3), ("bart", BART, 2e-3)])
def test_a_copy_is_written_to_the_letter(
    tmp_path: Path, measured: Measured, kind: str, config: dict[str, object], rate: float
) -> None:
    rows = copies(np.random.default_rng(5))
    job = denoised(
        tmp_path,
        kind,
        objective={"denoising": NOISE[kind]},
        model__architecture={"type": kind, "config": config},
        tokenizer={"from": {"uri": vocabulary(tmp_path / "tokenizer", [*WORDS, "|"])}},
        data={
            "train": [{"uri": write_rows(tmp_path / "copies.jsonl", rows)}],
            "validation": {"fraction": 0.02},
            "sequenceLength": 20,
        },
        training={
            "examplesPerStep": 64,
            "maxSteps": 700,
            "learningRate": rate,
            "weightDecay": 0.0,
            "beta2": 0.99,
            "warmupSteps": 50,
            "precision": "fp32",
            "seed": 1,
        },
        checkpoint={"everySteps": 10_000},
    )
    result, _ = run(Ranks(), job)
    model = AutoModelForSeq2SeqLM.from_pretrained(path_of(result)).eval()
    exact = list(written_exactly(model, gathered(job)))
    measured({"exact match": float(np.mean(exact)), "texts": len(exact), "loss": result.metrics["loss"]})
    assert len(exact) > 100
    assert np.mean(exact) > 0.98


def written_exactly(model: PreTrainedModel, inputs: Inputs) -> Iterator[bool]:
    """Of the texts that are judged, and of which every letter still stands somewhere: whether all is as it was."""
    packs = list(held_out(inputs.cache.validation, inputs.task.layout, 0, 1))
    for start in range(0, len(packs), 64):
        batch = inputs.task.batch(packs[start : start + 64])
        with torch.no_grad():
            said = model.generate(**batch.inputs, max_new_tokens=24, do_sample=False, num_beams=1)
        for pack, text, right, answer in zip(
            packs[start : start + 64], batch.inputs["input_ids"], batch.targets["lm"], said, strict=True
        ):
            if set(pack.examples[0]["ids"].tolist()) <= set(text.tolist()):
                wanted = right[right != IGNORED].tolist()
                yield answer[1 : len(wanted) + 1].tolist() == wanted
