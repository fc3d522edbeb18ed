"""Jobs to start from, and the lists of bad ones made from them: a change each, and the sentence that it earns."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pretune_api.problems import InvalidJobError, parse
from pretune_cli.overrides import Override

LISTS = Path(__file__).parents[1] / "api"

PRETRAIN: dict[str, Any] = {
    "apiVersion": "pretune.dev/v1alpha1",
    "kind": "PretrainJob",
    "metadata": {"name": "general"},
    "spec": {
        "objective": {"causalLM": {}},
        "model": {"architecture": {"type": "llama", "config": {"hidden_size": 64}}},
        "tokenizer": {"train": {"vocabSize": 512}},
        "data": {"train": [{"uri": "s3://corpora/general/"}], "validation": {"fraction": 0.01}},
        "training": {"tokensPerStep": 1024, "maxSteps": 10},
        "evaluation": {"everySteps": 5},
        "storage": {"uri": "s3://models/team"},
    },
}

FINETUNE: dict[str, Any] = {
    "apiVersion": "pretune.dev/v1alpha1",
    "kind": "FinetuneJob",
    "metadata": {"name": "classify"},
    "spec": {
        "task": {"sequenceClassification": {"labels": ["science", "web"]}},
        "model": {"from": {"pretrainJob": "general"}},
        "data": {"train": [{"uri": "s3://corpora/labels.parquet"}]},
        "training": {"examplesPerStep": 32, "epochs": 2},
        "storage": {"uri": "s3://models/team"},
    },
}

_BASES = {"pretrain": PRETRAIN, "finetune": FINETUNE}


def changed(job: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `job` with other values at some paths; null takes a field out."""
    document = deepcopy(job)
    for path, value in changes.items():
        Override(path, deepcopy(value)).apply(document)
    return document


def problems(document: object) -> list[str]:
    """What is told of a document that is refused."""
    with pytest.raises(InvalidJobError) as caught:
        parse(document)
    return caught.value.problems


def listed(name: str) -> list[Any]:
    """The documents of a list, each with its sentence, as pytest's parameters."""
    return [
        pytest.param(changed(_BASES[entry["job"]], entry["set"]), entry["says"], id="+".join(entry["set"]))
        for entry in YAML(typ="safe").load(LISTS / f"{name}.yaml")
    ]
