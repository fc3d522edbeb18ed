"""Tones are spelled to the letter, and words that a synthesiser says are written down in three accents."""

from pathlib import Path
from typing import Any

import torch

from pretune_api.run_config import RunConfig
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.accents import ACCENTS, needs_espeak, utterances
from support.measured import Measured
from support.speech import ARCHITECTURES, listening, spoken, write_clips

WHISPER: dict[str, Any] = {
    "type": "whisper",
    "config": ARCHITECTURES["whisper"]["config"]
    | {"num_mel_bins": 40, "d_model": 64, "init_std": 0.05}
    | {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    | {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
    | {f"{side}_ffn_dim": 128 for side in ("encoder", "decoder")},
}


def training(steps: int, rate: float) -> dict[str, Any]:
    pace = {"examplesPerStep": 16, "maxSteps": steps, "warmupSteps": steps // 10, "learningRate": rate}
    return {**pace, "weightDecay": 0.0, "precision": "fp32", "seed": 1}


def learnt(config: RunConfig) -> dict[str, float]:
    torch.set_num_threads(1)
    return run_rank(config, Ranks(), Silent()).metrics


def test_letters_that_are_tones_are_spelled(tmp_path: Path, measured: Measured) -> None:
    uri = write_clips(tmp_path / "tones.parquet", spoken(600))
    figures = learnt(listening(tmp_path, uri, training=training(220, 0.005), checkpoint={"everySteps": 10_000}))
    measured({"nothing written": 1.0, "WER": figures["wer"], "CER": figures["cer"]})
    assert figures["wer"] < 0.05


@needs_espeak
def test_words_are_written_down_in_three_accents(tmp_path: Path, measured: Measured) -> None:
    heard, unheard = ([source(tmp_path, name, count, seed) for name in ACCENTS] for count, seed in ((150, 1), (40, 2)))
    config = listening(
        tmp_path,
        "",
        "whisper",
        model__architecture=WHISPER,
        tokenizer={"train": {"algorithm": "bpe", "vocabSize": 280}},
        data={"train": heard, "validation": {"sources": unheard}},
        training=training(240, 0.003),
        evaluation={"slices": ["accent"], "metrics": ["loss", "wer", "cer"]},
        checkpoint={"everySteps": 10_000},
    )
    figures = learnt(config)
    by_accent = {name: figures[f"wer/accent={name}"] for name in ACCENTS}
    measured({"nothing written": 1.0, "WER": figures["wer"], **by_accent})
    assert max(figures["wer"], *by_accent.values()) < 0.2


def source(folder: Path, accent: str, count: int, seed: int) -> dict[str, Any]:
    """A source of that many clips, whose rows name their accent."""
    uri = write_clips(folder / f"{accent}-{seed}.parquet", utterances(accent, count, seed))
    return {"uri": uri, "column": "audio", "values": {"accent": accent}}
