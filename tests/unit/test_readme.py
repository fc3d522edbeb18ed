"""What README says is what the code does."""

import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from ruamel.yaml import YAML

from pretune_api.methods import Method
from pretune_api.names import Cause
from pretune_api.objectives import Objective
from pretune_api.tasks import Task
from pretune_operator import metrics
from pretune_trainer.drive.prometheus import TrainMetrics

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def jobs(text: str) -> dict[str, object]:
    """The documents of a YAML text, by the names of the jobs."""
    return {job["metadata"]["name"]: job for job in YAML(typ="safe", pure=True).load_all(text)}


def test_the_jobs_of_readme_are_those_of_the_demo() -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    demo = jobs((ROOT / "examples/demo/chain.yaml").read_text())
    assert jobs(shown) == {name: demo[name] for name in ("general", "domain", "classify")}


def test_every_metric_stands_in_readme_with_its_type() -> None:
    described = dict(re.findall(r"^\| `(pretune_train_\w+)` \| (\w+) \|", README, re.MULTILINE))
    exposed = re.findall(r"^# TYPE (\w+) (\w+)", TrainMetrics().to_text().decode(), re.MULTILINE)
    assert described == {name: kind for name, kind in exposed if not name.endswith("_created")}


def test_every_metric_of_the_operator_stands_in_readme_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(pretune_operator_\w+)` \| (\w+) \| ([^|]*)\|", README, re.MULTILINE)
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    ours = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, metric._labelnames)
        for metric in ours
        for family in metric.describe()
    }
    assert described == exposed


def test_every_cause_stands_in_readme() -> None:
    assert set(re.findall(r"`([A-Z]\w+)`", README)) >= set(Cause)


def test_all_that_can_be_trained_stands_in_readme() -> None:
    table = README[README.index("## What can be trained") :]
    for model in (Objective, Task, Method):
        assert all(f"`{model.alias(name)}`" in table for name in model.alternatives())


def test_every_gate_stands_in_readme_with_what_it_wants() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(test_\w+\.py)` ([^|]+) \|", README, re.MULTILINE)
    gates = [
        (file.name, name.replace("_", " "))
        for file in sorted((ROOT / "tests/gates").glob("test_*.py"))
        for name in re.findall(r"^def test_(\w+)\(", file.read_text(), re.MULTILINE)
    ]
    assert sorted(rows) == sorted(gates)
