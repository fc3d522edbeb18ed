"""Real text for the jobs of examples/chain.yaml: part of what `make demo` prepares. And these jobs on one machine."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from e2e.world import Document, as_yaml

ROOT = Path(__file__).parents[2]
CHAIN = ROOT / "examples" / "chain.yaml"
SURVIVORS_STEPS = 1_200
SURVIVORS_CHECKPOINTS = 50
"""Steps from one checkpoint to the next."""
_PREPARED = ROOT / "examples" / "demo" / "data"
_ROWS = {"general/modules": 120, "domain/modules": 60, "labels/train": 3_000, "labels/validation": 400}


def write(folder: Path) -> None:
    """Write general/, domain/ and labels/ into `folder`: what s3://corpora/ holds."""
    for name, rows in _ROWS.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(_PREPARED / f"{name}.parquet").slice(0, rows), path)


def chain() -> list[Document]:
    """The jobs of the example."""
    return list(YAML(typ="safe", pure=True).load_all(CHAIN))


def survivor() -> Document:
    """The first job of the chain, longer: what clusters do meanwhile must not show in what it learns."""
    [job, *_] = chain()
    job["metadata"]["name"] = "survivor"
    job["spec"]["training"]["maxSteps"] = SURVIVORS_STEPS
    job["spec"]["checkpoint"] = {"everySteps": SURVIVORS_CHECKPOINTS}
    return job


def endless(name: str) -> Document:
    """The first job of the chain, under a name of its own; it takes longer than all tests."""
    [job, *_] = chain()
    job["metadata"]["name"] = name
    job["spec"]["training"]["maxSteps"] = 100_000
    return job


def in_store(job: Document, endpoint: str) -> Document:
    """The same job, with data and storage in another S3 store."""
    found = copy.deepcopy(job)
    for place in (*found["spec"]["data"]["train"], found["spec"]["storage"]):
        place["endpoint"] = endpoint
    return found


def run_on_this_machine(documents: list[Document], corpora: Path, folder: Path) -> Path:
    """Runs the jobs by `pretune run` with two ranks, in `folder`; returns their storage."""
    storage = folder / "storage"
    jobs = tuple(_on_this_machine(document, corpora, storage) for document in documents)
    (folder / "jobs.yaml").write_text(as_yaml(jobs))
    command: list[str | Path] = [
        Path(sys.executable).with_name("pretune"),
        "run",
        folder / "jobs.yaml",
        "--workers",
        "2",
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return storage


def metrics_of(storage: Path, job: str) -> dict[str, float]:
    """The metrics of the artifact that the job KIND-NAME has in the storage of this machine."""
    [metrics] = storage.glob(f"local/{job}-*/artifact/*/metrics.json")
    found: dict[str, float] = json.loads(metrics.read_text())["metrics"]
    return found


def _on_this_machine(document: Document, corpora: Path, storage: Path) -> Document:
    """The same job, reading and writing folders."""
    local = copy.deepcopy(document)
    data, validation = local["spec"]["data"], local["spec"]["data"].get("validation", {})
    for source in [*data["train"], *validation.get("sources", [])]:
        uri = source["uri"].replace("s3://corpora", corpora.as_uri())
        source.clear()
        source["uri"] = uri
    local["spec"]["storage"] = {"uri": storage.as_uri()}
    return local
