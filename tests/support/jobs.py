"""Jobs that are small enough to run in a test, on real text."""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pretune_api import Job
from pretune_api.run_config import Folder, RunConfig
from pretune_operator.plan import Inputs, plan
from pretune_trainer.report import Event
from support.language import TINY, paragraphs


class Recorder:
    """A reporter that remembers, and asks to stop when it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list[Event] = []
        self.stop_at = stop_at

    def tell(self, event: Event) -> None:
        """Remember the event."""
        self.events.append(event)

    def stop_requested(self) -> bool:
        """Whether the step to stop at has been reported."""
        return self.stop_at is not None and any(getattr(event, "step", 0) >= self.stop_at for event in self.events)

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def write_corpus(folder: Path, documents: int = 300) -> str:
    """Paragraphs of the language reference as JSON lines; their URI."""
    return write_rows(folder / "corpus.jsonl", ({"text": text} for text in paragraphs()[:documents]))


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as JSON lines; their URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path.as_uri()


def pretrain(folder: Path, **changes: Any) -> RunConfig:
    """The run config of a causal language model of 50,000 parameters on 300 paragraphs.

    `changes` replace fields of the spec: training__max_steps=3 sets training.maxSteps.
    """
    spec = {
        "objective": {"causalLM": {}},
        "model": {"architecture": {"type": "llama", "config": TINY["llama"]}},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "data": {"train": [{"uri": write_corpus(folder)}], "validation": {"fraction": 0.1}, "sequenceLength": 64},
        "training": {"tokensPerStep": 512, "maxSteps": 8, "learningRate": 0.01, "precision": "fp32", "seed": 1},
        "checkpoint": {"everySteps": 4},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    return run_config("PretrainJob", "general", spec, changes)


def finetune(folder: Path, task: dict[str, Any], uri: str, parent: Folder | None = None, **changes: Any) -> RunConfig:
    """The run config of a fine-tuning of the artifact `parent` (or of a new model) on the rows at `uri`."""
    spec = {
        "task": task,
        "model": {"from": {"uri": parent.uri, "digest": parent.digest}}
        if parent
        else {"architecture": {"type": "llama", "config": TINY["llama"]}},
        "data": {"train": [{"uri": uri}], "validation": {"fraction": 0.2}, "sequenceLength": 64},
        "training": {"examplesPerStep": 16, "maxSteps": 8, "learningRate": 0.01, "precision": "fp32", "seed": 1},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    if parent is None:
        spec["tokenizer"] = {"train": {"algorithm": "bpe", "vocabSize": 512}}
    return run_config("FinetuneJob", "task", spec, changes)


def classification(folder: Path, parent: Folder | None = None, **changes: Any) -> RunConfig:
    """Texts of very unequal lengths, and whether they are longer than 100 characters."""
    rows = ({"text": text[:400], "label": "long" if len(text) > 100 else "short"} for text in paragraphs()[:200])
    uri = write_rows(folder / "labels.jsonl", rows)
    return finetune(folder, {"sequenceClassification": {"labels": ["short", "long"]}}, uri, parent, **changes)


def run_config(kind: str, name: str, spec: dict[str, Any], changes: Mapping[str, Any], ranks: int = 1) -> RunConfig:
    """The run config of a job with that spec."""
    spec = deepcopy(spec)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = spec
        for key in parents:
            part = part.setdefault(_camel(key), {})
        part[_camel(last)] = value
    document = {"apiVersion": "pretune.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    job = TypeAdapter(Job).validate_json(json.dumps(document))
    return plan(job, Inputs(uid="00000000", namespace="local", ranks=ranks, device="cpu"))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)
