"""Real text for the jobs of examples/chain.yaml: part of what `make demo` prepares. And these jobs on one machine."""

import copy
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CHAIN = ROOT / "examples" / "chain.yaml"
_PREPARED = ROOT / "examples" / "demo" / "data"
_ROWS = {"general/modules": 120, "domain/modules": 60, "labels/train": 3_000, "labels/validation": 400}

Document = dict[str, Any]


def write(folder: Path) -> None:
    """Write general/, domain/ and labels/ into `folder`: what s3://corpora/ holds."""
    for name, rows in _ROWS.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(_PREPARED / f"{name}.parquet").slice(0, rows), path)


def chain() -> list[Document]:
    """The jobs of the example."""
    return list(YAML(typ="safe", pure=True).load_all(CHAIN))


def on_this_machine(document: Document, corpora: Path, storage: Path) -> Document:
    """The same job, reading and writing folders."""
    local = copy.deepcopy(document)
    data, validation = local["spec"]["data"], local["spec"]["data"].get("validation", {})
    for source in [*data["train"], *validation.get("sources", [])]:
        uri = source["uri"].replace("s3://corpora", corpora.as_uri())
        source.clear()
        source["uri"] = uri
    local["spec"]["storage"] = {"uri": storage.as_uri()}
    return local
