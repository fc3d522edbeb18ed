"""The jobs of examples/, small enough to run here: same objectives, tasks and options, other sizes, made data."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pretune_api.run_config import Folder
from support.jobs import write_rows
from support.language import paragraphs

_SIZES: Final[dict[str, int]] = {
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
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
}
"""What says how large a model is, of the types that examples name."""
_LENGTH: Final = 64
_DOCUMENTS: Final = 150
_ANSWER: Final = 16


def shrunk(spec: dict[str, Any], parent: Folder | None, folder: Path) -> dict[str, Any]:
    """The spec of an example, two steps long; `parent` is what its model comes from, if it comes from anywhere."""
    learn = spec.get("objective") or spec["task"]
    ((kind, fields),) = learn.items()
    if kind in ("summarization", "translation"):
        fields = {**fields, "maxTargetTokens": _ANSWER}
    return {
        **{name: value for name, value in spec.items() if name not in ("checkpoint", "earlyStopping")},
        "objective" if "objective" in spec else "task": {kind: fields},
        **_model(spec, parent),
        "data": _data(spec, kind, fields, folder),
        "training": _training(spec["training"]),
        "evaluation": {**spec.get("evaluation", {}), "everySteps": 1, "maxBatches": 2},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }


def general(kind: str) -> dict[str, Any]:
    """The objective and model of a parent that an example takes from elsewhere, for what is learnt from it."""
    family, config, algorithm, objective = _FAMILIES[_FAMILY_OF.get(kind, "decoder")]
    return {
        "objective": objective,
        "model": {"architecture": {"type": family, "config": config}},
        "tokenizer": {"train": {"algorithm": algorithm, "vocabSize": 512}},
        "data": {"train": [{"uri": "s3://corpora/general/"}], "validation": {"fraction": 0.1}},
        "training": {"tokensPerStep": 512, "maxSteps": 2, "learningRate": 1e-3},
    }


_FAMILIES: Final[dict[str, tuple[str, dict[str, int], str, dict[str, Any]]]] = {
    "decoder": (
        "llama",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "bpe",
        {"causalLM": {}},
    ),
    "encoder": (
        "bert",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "wordpiece",
        {"maskedLM": {}},
    ),
    "both": (
        "t5",
        {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2},
        "unigram",
        {"denoising": {"spanCorruption": {}}},
    ),
}
_FAMILY_OF: Final = {
    "maskedLM": "encoder",
    "denoising": "both",
    "summarization": "both",
    "translation": "both",
}


def _model(spec: dict[str, Any], parent: Folder | None) -> dict[str, Any]:
    tokenizer = spec.get("tokenizer") or {}
    changes = {"train": {"vocabSize": 512}, "adapt": {"tokens": 8}}
    smaller = (
        {"tokenizer": {name: {**value, **changes[name]} for name, value in tokenizer.items()}} if tokenizer else {}
    )
    if parent is not None:
        return {"model": {"from": {"uri": parent.uri, "digest": parent.digest}}, **smaller}
    architecture = spec["model"]["architecture"]
    config = {name: _SIZES.get(name, value) for name, value in architecture.get("config", {}).items()}
    return {"model": {"architecture": {**architecture, "config": config}}, **smaller}


def _training(training: dict[str, Any]) -> dict[str, Any]:
    batch = {"examplesPerStep": 8} if "examplesPerStep" in training else {"tokensPerStep": 8 * _LENGTH}
    left = ("learningRate", "schedule", "seed", "minLearningRateRatio")
    return {
        **{name: training[name] for name in left if name in training},
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
        {**_kept(source), "uri": _write(source, number, kind, fields, also, folder)}
        for number, source in enumerate(sources)
    ]
    count = len(data["train"])
    validation = {"sources": made[count:]} if len(made) > count else data.get("validation", {"fraction": 0.1})
    validation = {"fraction": 0.2} if "fraction" in validation else validation
    return {**data, "train": made[:count], "validation": validation, "sequenceLength": _LENGTH}


def _kept(source: dict[str, Any]) -> dict[str, Any]:
    return {name: source[name] for name in ("column", "weight", "values") if name in source}


def _write(
    source: dict[str, Any], number: int, kind: str, fields: Mapping[str, Any], also: list[str], folder: Path
) -> str:
    found = (
        {**dict.fromkeys(also, f"group {place % 2}"), **row}
        for place, row in enumerate(islice(_rows(kind, fields, source.get("column", "text"), number), _DOCUMENTS))
    )
    return write_rows(folder / f"{number}.jsonl", found)


def _rows(kind: str, fields: Mapping[str, Any], column: str, number: int) -> Iterator[dict[str, object]]:
    """Rows of real text, with what the task reads beside it; those of another source are others."""
    texts = paragraphs()
    for place in range(number * 600, len(texts) - 4, 4):
        text = "\n".join(texts[place : place + 4])
        yield {column: _document(kind, text), **_beside(kind, fields, text, place // 4)}


def _document(kind: str, text: str) -> object:
    if kind == "chat":
        return [{"role": "user", "content": text[:60]}, {"role": "assistant", "content": text[60:120] or "yes"}]
    return text[:40].strip() if kind == "translation" else text


def _beside(kind: str, fields: Mapping[str, Any], text: str, place: int) -> dict[str, object]:
    labels = fields.get("labels", [])
    match kind:
        case "sequenceClassification":
            label = labels[place % len(labels)]
            return {fields.get("labelColumn", "label"): [label] if fields.get("multiLabel") else label}
        case "summarization":
            return {fields.get("targetColumn", "summary"): text[:10].strip()}
        case "translation":
            language = fields.get("languageColumn")
            return {
                fields.get("targetColumn", "translation"): text[:10].strip(),
                **({language: "de"} if language else {}),
            }
    return {}
