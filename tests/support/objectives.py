"""Jobs of the objectives beside causalLM, on the paragraphs of the language reference, with tiny models."""

from pathlib import Path
from typing import Any

from pretune_api.run_config import RunConfig
from support.jobs import pretrain

_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_SIDES = {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in {"layers": 2, "attention_heads": 2, "ffn_dim": 64}.items()
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {"type": "bert", "config": _ENCODER | _STILL},
    "roberta": {"type": "roberta", "config": _ENCODER | _STILL},
    "modernbert": {"type": "modernbert", "config": _ENCODER},
    "t5": {
        "type": "t5",
        "config": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64, "dropout_rate": 0.0},
    },
    "bart": {"type": "bart", "config": {"d_model": 32, "dropout": 0.0, **_SIDES}},
}
_TOKENIZERS = {"bert": "wordpiece", "modernbert": "wordpiece", "t5": "unigram"}


def masked(folder: Path, kind: str = "bert", spec: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """The run config of an encoder that learns maskedLM."""
    return _learning(folder, kind, {"maskedLM": spec or {}}, changes)


def paired(folder: Path, **changes: Any) -> RunConfig:
    """The run config of a BERT that learns maskedLM and nextSentence."""
    return masked(folder, "bert", {"nextSentence": True}, **changes)


def denoised(folder: Path, kind: str = "t5", **changes: Any) -> RunConfig:
    """The run config of an encoder-decoder that learns denoising, each in its own way."""
    return _learning(folder, kind, {"denoising": {"spanCorruption" if kind == "t5" else "infilling": {}}}, changes)


def _learning(folder: Path, kind: str, objective: dict[str, Any], changes: dict[str, Any]) -> RunConfig:
    tokenizer = {"train": {"algorithm": _TOKENIZERS.get(kind, "bpe"), "vocabSize": 512}}
    fields = {"objective": objective, "model__architecture": ARCHITECTURES[kind], "tokenizer": tokenizer}
    return pretrain(folder, **(fields | changes))
