"""Storages of jobs whose runs told what a test wants, written as runs write them."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pretune_api.manifest import Manifest
from pretune_api.run_config import RunConfig
from pretune_trainer.drive.reporting import History
from pretune_trainer.report import Evaluated, Event, Exhibited, Start, Step
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.finished import FACTS_NAME, Facts
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store

CONFUSION: dict[str, Any] = {"confusion": {"labels": ["cat", "dog"], "counts": [[8, 2], [1, 9]]}}
SAMPLES = {"samples": [{"wanted": "the <b>cat</b> & dog", "written": "<script>alert(1)</script>"}]}


def folder_of(config: RunConfig) -> Store:
    """The job's folder."""
    return Store.open(config.storage).child(config.job.folder)


def run(config: RunConfig, steps: Iterable[int], *more: Event, total: int = 100) -> None:
    """A run that does `steps`, evaluates the last of them, and tells `more`."""
    job, steps = folder_of(config), list(steps)
    ordinal = claim_run(job, lambda text: None).ordinal
    last = steps[-1]
    history = History(job.put, config.model_dump_json(exclude_none=True).encode())
    start = Start(
        stage=config.stage,
        run=ordinal,
        from_step=steps[0] - 1,
        total_steps=total,
        parameters=1_377_408,
        trainable=1_377_408,
        rows_per_step=8,
        micro_batch_rows=4,
        checkpoint_every=50,
    )
    history.write([start, *(step(number, ordinal) for number in steps), evaluated(last), *more])
    history.close(None)


def step(number: int, run: int = 1) -> Step:
    """A step whose loss falls; the learning rate tells which run it is of."""
    return Step(number, 8 / math.sqrt(number), run * 1e-3, 0.5, 2048, 2048 * number, 0.5, 0.1)


def evaluated(step: int) -> Evaluated:
    """Figures that tell the step."""
    figures = {"loss": 8.5 / math.sqrt(step), "accuracy": step / 1000}
    of_parts = {"recall[cat]": 0.8, "recall[dog]": 0.9, "loss/animal=dog": 0.7}
    return Evaluated(step, figures | of_parts, 1.0)


def exhibited(step: int) -> Exhibited:
    """A confusion matrix and samples, with markup in them."""
    return Exhibited(step, CONFUSION | SAMPLES)


def finish(config: RunConfig, step: int, **files: Any) -> str:
    """Commit an artifact of the weights at `step`, with `files` (name without .json) in it; its URI."""
    folder = folder_of(config).child("artifact/0001")
    facts = Facts(
        metrics=evaluated(step).metrics,
        baseline={"loss": 9.0},
        step=step,
        tokens=2048 * step,
        parameters=1_377_408,
        parent="none",
        data="none",
    )
    contents = {FACTS_NAME: facts.model_dump(mode="json")} | {f"{name}.json": file for name, file in files.items()}
    put = [folder.put(path, json.dumps(content).encode()) for path, content in contents.items()]
    commit(folder, Manifest(content="artifact", files=put), lambda: None)
    return folder.uri


def local(uri: str) -> Path:
    """The folder of a file:// URI."""
    return Path(uri.removeprefix("file://"))
