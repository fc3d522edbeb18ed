"""What stands in examples/ runs: each job, from its parents on, at a tiny size and on data made or found here."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import run_config
from support.measured import Measured
from support.runs import as_parent
from support.shrunk import general, shrunk

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_an_example_runs(tmp_path: Path, measured: Measured, name: str) -> None:
    torch.set_num_threads(1)
    made: dict[str, Folder] = {}
    for job in YAML(typ="safe", pure=True).load_all(EXAMPLES / f"{name}.yaml"):
        spec, folder = job["spec"], tmp_path / job["metadata"]["name"]
        learnt, metrics = run(job["kind"], shrunk(spec, parent_of(spec, made, tmp_path), folder))
        made[job["metadata"]["name"]] = learnt
        assert metrics
        assert all(map(math.isfinite, metrics.values()))
    measured({"jobs": len(made)})


def parent_of(spec: dict[str, Any], made: dict[str, Folder], folder: Path) -> Folder | None:
    """What the model of a job comes from: an earlier job of the example, or one that is made to stand for another's."""
    start = spec["model"].get("from")
    if start is None:
        return None
    for kind in ("pretrainJob", "finetuneJob"):
        if kind in start:
            return made[start[kind]]
    (learns,) = spec.get("objective") or spec["task"]
    learnt, _ = run("PretrainJob", shrunk(general(learns), None, folder / "general"))
    return learnt


def run(kind: str, spec: dict[str, Any]) -> tuple[Folder, dict[str, float]]:
    result = run_rank(run_config(kind, "example", spec, {}), Ranks(), Silent())
    return as_parent(result), result.metrics
