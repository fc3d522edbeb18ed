"""The picture of a report in README: two small jobs on scikit-learn's digits, and what a browser shows of the second.

`PYTHONPATH=tests .venv/bin/python tests/cli/screenshot.py` takes it anew, in a minute.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from pretune_cli.__main__ import main
from support.browser import DESK, browser
from support.images import ARCHITECTURES, LABELS, digits, write_images

PICTURE: Final = Path(__file__).parents[2] / "docs/report.svg"

# Where it lies on one machine is for nobody else; what follows the confusion matrix is left out.
_SHORTENED: Final = """
document.querySelectorAll("p.quiet code, script").forEach(each => each.remove())
const sections = [...document.querySelectorAll("section")]
const last = sections.findIndex(each => each.textContent.startsWith("Confusion"))
sections.slice(last + 1).forEach(each => each.remove())
sections[last].getBoundingClientRect().bottom + 8"""
_AS_XML: Final = "new XMLSerializer().serializeToString(document.documentElement)"


def job(kind: str, name: str, steps: int, metrics: list[str], **spec: Any) -> dict[str, Any]:
    """A job on the digits that lie beside its file."""
    training = {"examplesPerStep": 64, "maxSteps": steps, "learningRate": 0.003, "warmupSteps": 20, "precision": "fp32"}
    shared = {
        "data": {"train": [{"uri": "digits.parquet", "column": "image"}], "validation": {"fraction": 0.2}},
        "training": training,
        "evaluation": {"everySteps": steps // 10, "metrics": metrics},
        "checkpoint": {"everySteps": steps // 5},
        "storage": {"uri": "storage"},
        "compute": {"gpusPerWorker": 0},
    }
    metadata = {"name": name}
    return {"apiVersion": "pretune.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": shared | spec}


def train(folder: Path) -> Path:
    """A painter of digits, and a classifier that starts from it; the storage with the classifier's folder."""
    write_images(folder / "digits.parquet", digits())
    model = {"architecture": ARCHITECTURES["vit_mae"]}
    painter = job("PretrainJob", "painter", 100, ["loss"], objective={"maskedImage": {}}, model=model)
    task = {"imageClassification": {"labels": LABELS}}
    parent = {"from": {"pretrainJob": "painter"}}
    classifier = job("FinetuneJob", "digits", 600, ["loss", "accuracy", "f1Macro"], task=task, model=parent)
    files = [folder / f"{each['metadata']['name']}.json" for each in (painter, classifier)]
    for file, each in zip(files, (painter, classifier), strict=True):
        file.write_text(json.dumps(each))
    assert main(["run", *map(str, files)]) == 0
    (found,) = folder.glob("storage/local/finetunejob-digits-*")
    return found


def picture(report: Path, profile: Path) -> str:
    """A report as an image that is text: what a browser has made of it, from its title to the confusion matrix."""
    with browser(profile) as seen:
        seen.open(report, dark=False, screen=DESK)
        height = round(seen.value(_SHORTENED))
        page = seen.value(_AS_XML)
    size = f'width="{DESK["width"]}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><foreignObject {size}>{page}</foreignObject></svg>\n'


def take() -> None:
    """Train, report, and keep the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "report.html"
        assert main(["report", str(train(folder)), "--output", str(report)]) == 0
        PICTURE.write_text(picture(report, folder / "profile"))


if __name__ == "__main__":
    take()
