"""The jobs of examples/, small enough to run here: same objectives, tasks and options, other sizes, made data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pretune_api.run_config import Folder
from support.shrunk_rows import write_source

_SIZES: Final[dict[str, int]] = {
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "projection_dim": 32,
    "intermediate_size": 64,
    "d_ff": 64,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "d_kv": 16,
    "num_attention_heads": 2,
    "num_heads": 2,
    "n_head": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "image_size": 32,
    "patch_size": 8,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 64,
}
"""What says how large a model is, of the types that examples name."""
_BESIDE: Final[dict[str, dict[str, Any]]] = {"wav2vec2": {"conv_dim": [32] * 7}}
"""What examples leave as large as it is by default."""
_LENGTH: Final = 64
_FIELDS: Final[dict[str, Any]] = {
    "maxTargetTokens": 16,
    "imageSize": 32,
    "inContext": {"prompt": "{text}: {label}", "examplesPerClass": 1},
}
_VOCABULARY: Final = 300
"""As many as captions of a few words give, and more than there are bytes or sentinels."""
_CHANGES: Final = {"train": {"vocabSize": _VOCABULARY}, "adapt": {"tokens": 8}}
_KEPT: Final = ("learningRate", "schedule", "seed", "minLearningRateRatio", "activationCheckpointing")


def shrunk(spec: dict[str, Any], parent: Folder | None, folder: Path) -> dict[str, Any]:
    """The spec of an example, two steps long; `parent` is what its model comes from, if it comes from anywhere."""
    role = "objective" if "objective" in spec else "task"
    ((kind, fields),) = spec[role].items()
    fields = {name: _FIELDS.get(name, value) for name, value in fields.items()}
    return {
        **{name: value for name, value in spec.items() if name not in ("checkpoint", "earlyStopping")},
        role: {kind: fields},
        **_model(spec, parent),
        "data": _data(spec, kind, fields, folder),
        "training": _training(spec["training"]),
        "evaluation": {**spec.get("evaluation", {}), "everySteps": 1, "maxBatches": 2},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }


def general(kind: str) -> dict[str, Any]:
    """The spec of a parent that an example takes from elsewhere, for what is learnt from it."""
    return _PARENTS[_PARENT_OF.get(kind, "decoder")]


_BLOCKS: Final = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_BOTH: Final = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}
_STAGES: Final = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def _reader(objective: dict[str, Any], family: str, config: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    return {
        "objective": objective,
        "model": {"architecture": {"type": family, "config": config}},
        "tokenizer": {"train": {"algorithm": algorithm, "vocabSize": _VOCABULARY}},
        "data": {
            "train": [{"uri": "s3://corpora/general/*.parquet"}],
            "validation": {"fraction": 0.1},
            "sequenceLength": _LENGTH,
        },
        "training": {"tokensPerStep": 512, "maxSteps": 2, "learningRate": 1e-3},
    }


_PARENTS: Final[dict[str, dict[str, Any]]] = {
    "decoder": _reader({"causalLM": {}}, "llama", _BLOCKS, "bpe"),
    "encoder": _reader({"maskedLM": {}}, "bert", _BLOCKS, "wordpiece"),
    "both": _reader({"denoising": {"spanCorruption": {}}}, "t5", _BOTH, "unigram"),
    "images": {
        "objective": {"imageClassification": {"labels": ["cat", "dog"], "imageSize": 32}},
        "model": {"architecture": {"type": "resnet", "config": _STAGES}},
        "data": {"train": [{"uri": "s3://corpora/general/"}], "validation": {"fraction": 0.1}},
        "training": {"examplesPerStep": 8, "maxSteps": 2, "learningRate": 1e-3},
    },
}
_PARENT_OF: Final = {
    "maskedLM": "encoder",
    "embedding": "encoder",
    "denoising": "both",
    "summarization": "both",
    "translation": "both",
    "imageClassification": "images",
}


def _model(spec: dict[str, Any], parent: Folder | None) -> dict[str, Any]:
    tokenizer = {name: {**value, **_CHANGES[name]} for name, value in spec.get("tokenizer", {}).items()}
    smaller = {"tokenizer": tokenizer} if tokenizer else {}
    if parent is not None:
        return {"model": {"from": {"uri": parent.uri, "digest": parent.digest}}, **smaller}
    architecture = spec["model"]["architecture"]
    config = _sized(architecture.get("config", {})) | _BESIDE.get(architecture["type"], {})
    return {"model": {"architecture": {**architecture, "config": config}}, **smaller}


def _sized(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration with other sizes, in its towers too."""
    return {
        name: _sized(value) if isinstance(value, dict) else _SIZES.get(name, value) for name, value in config.items()
    }


def _training(training: dict[str, Any]) -> dict[str, Any]:
    batch = {"examplesPerStep": 8} if "examplesPerStep" in training else {"tokensPerStep": 8 * _LENGTH}
    return {
        **{name: training[name] for name in _KEPT if name in training},
        **batch,
        "maxSteps": 2,
        "precision": "fp32",
        "microBatchRows": 8,
    }


def _data(spec: dict[str, Any], kind: str, fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    data = spec["data"]
    also = [
        *spec.get("evaluation", {}).get("slices", []),
        *data.get("cleaning", {}).get("balance", []),
        *[column for column in [data.get("mixture", {}).get("column")] if column],
    ]
    sources = [*data["train"], *data.get("validation", {}).get("sources", [])]
    made = [
        {**_kept(source), "uri": write_source(folder / str(number), source, number, kind, fields, also)}
        for number, source in enumerate(sources)
    ]
    count = len(data["train"])
    validation = {"sources": made[count:]} if len(made) > count else {"fraction": 0.2}
    length = {"sequenceLength": _LENGTH} if "sequenceLength" in data else {}
    return {**data, "train": made[:count], "validation": validation, **length}


def _kept(source: dict[str, Any]) -> dict[str, Any]:
    return {name: source[name] for name in ("column", "weight", "values") if name in source}
