"""The finished model, in Hugging Face format: it loads with transformers alone, where Pretune is not installed.

Updates that are not merged need peft; method `adapter` needs Pretune too, and its card says so.
"""

import json
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.tensor import DTensor

from pretune_api.manifest import Manifest
from pretune_api.run_config import RunConfig
from pretune_api.tasks import in_context_of
from pretune_trainer.data.adapt import ADDED_NAME
from pretune_trainer.data.cleaning.report import REPORT_NAME, DataReport
from pretune_trainer.errors import StorageError, lines_of
from pretune_trainer.methods import Tuned
from pretune_trainer.model.shapes import Shapes
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.commit import Commit, commit, remove_unfinished
from pretune_trainer.storage.finished import FACTS_NAME, Facts
from pretune_trainer.storage.runs import Run

ARTIFACT_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Type of an artifact's weights, by the precision it was trained with."""


def export(tuned: Tuned, shapes: Shapes[Tuned] | None, dtype: torch.dtype, ranks: Ranks, folder: Path) -> int:
    """Write the model into `folder`, on rank 0. Collective.

    `shapes` are those of a model before it was sharded; None of one that is whole.

    Returns:
        the parameters of what is written, without updates that were merged; 0 on other ranks.

    Raises:
        StorageError: the folder has no room for it.
    """
    whole = _whole(tuned, shapes, ranks)
    if whole is None:
        return 0
    try:
        whole.save(folder, dtype)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{folder}: the model cannot be written ({lines_of(error)[-1]}); let TMPDIR name a folder with room for it"
        ) from error
    return sum(parameter.numel() for parameter in whole.model.parameters())


def _whole(tuned: Tuned, shapes: Shapes[Tuned] | None, ranks: Ranks) -> Tuned | None:
    """The model with all of its weights, on rank 0's CPU; None elsewhere. Collective.

    A sharded model cannot be saved by transformers, nor merged by peft: its weights go into a new one, which alone
    holds them then, for they take less in the type that they are saved in.
    """
    if shapes is None:
        tuned.model.to(device="cpu")
        return tuned
    weights = _whole_weights(tuned.model, ranks)
    if not ranks.is_first:
        return None
    whole = shapes.make()
    made = whole.model.state_dict()
    weights = {name: tensor.reshape(made[name].shape) for name, tensor in weights.items()}  # scalars were widened
    whole.model.load_state_dict(weights, assign=True)
    whole.model.tie_weights()
    return whole


def _whole_weights(model: torch.nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """Every parameter and buffer, whole and on the CPU, on rank 0; empty elsewhere. Collective."""
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.is_first:
            weights[name] = whole.detach().cpu()
    return weights


def publish(
    folder: Path,
    run: Run,
    config: RunConfig,
    facts: Facts,
    cleaned: DataReport | None = None,
    loading: str = "",
    truncated: str = "",
) -> tuple[str, str]:
    """Add model card, metrics and what cleaning did to the exported files, and commit all to storage; URI, digest.

    `loading` is Python that loads the artifact, where it is not a whole model; `truncated` is what is to be said of
    rows that were too long.
    """
    if cleaned is not None:
        (folder / REPORT_NAME).write_text(cleaned.model_dump_json(indent=2), encoding="utf-8")
    (folder / FACTS_NAME).write_text(facts.model_dump_json(indent=2), encoding="utf-8")
    card = model_card(config, facts, cleaned, loading, truncated)
    (folder / "README.md").write_text(card, encoding="utf-8")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    store = run.store.child(Commit(run.ordinal, 0, "artifact").path)
    files = [store.put(path.relative_to(folder).as_posix(), path) for path in paths]
    manifest = Manifest(content="artifact", files=files, parent=facts.parent)
    commit(store, manifest, run.check)
    remove_unfinished(run.store, "artifact", run.ordinal)
    return store.uri, manifest.digest


def model_card(
    config: RunConfig, facts: Facts, cleaned: DataReport | None = None, loading: str = "", truncated: str = ""
) -> str:
    """A model card as hubs read it: https://huggingface.co/docs/hub/model-cards."""
    training = json.dumps(config.training.brief(), indent=2)
    sources = "\n".join(f"- `{source.uri}`" for source in config.data.train)
    return _CARD.format(
        library="peft" if loading else "transformers",
        name=config.job.name,
        kind=config.job.kind,
        stage=config.stage,
        method=config.method.kind,
        loading=_LOADING.format(code=loading) if loading else "",
        lineage=_lineage(config, facts),
        sources=sources,
        data=facts.data,
        cleaned=cleaned.sentence() if cleaned else "The data was not cleaned.",
        truncated=f"\n\n{truncated}." if truncated else "",
        metrics=_metrics(facts),
        asked=_asked(config),
        training=training,
        step=facts.step,
        tokens=facts.tokens,
        parameters=facts.parameters,
    )


def _metrics(facts: Facts) -> str:
    """A table; with what was measured before training beside it, where that is known."""
    heads = ["metric", "before training", "value"] if facts.baseline else ["metric", "value"]
    rows = [heads, ["---"] * len(heads)]
    for name, value in sorted(facts.metrics.items()):
        before = facts.baseline.get(name)
        rows.append([name, *(["" if before is None else f"{before:.4f}"] if facts.baseline else []), f"{value:.4f}"])
    if not facts.metrics:
        rows.append(["none", *[""] * (len(heads) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _asked(config: RunConfig) -> str:
    """How the figures before training came about, where that needs a word."""
    asks = in_context_of(config.learn)
    if asks is None:
        return ""
    shown = f"{asks.examples_per_class or 'no'} examples of each label"
    return f"\n\nBefore training, the parent was evaluated with its prompt, which contained {shown}."


def _lineage(config: RunConfig, facts: Facts) -> str:
    parent = config.model.parent
    if parent is None:
        return "Trained from random weights."
    if parent.hub is not None:
        said = f"Trained from `{parent.hub.repo}` at revision `{parent.hub.revision}`."
        return f"{said} {_adaptation(config)}".rstrip()
    assert parent.folder is not None, "a parent is a folder or on a hub"
    said = f"Trained from {parent.folder.job or parent.folder.uri}, digest `{facts.parent}`."
    return f"{said} {_adaptation(config)}".rstrip()


def _adaptation(config: RunConfig) -> str:
    if config.tokenizer is None or config.tokenizer.adapt is None:
        return ""
    return f"{config.tokenizer.adapt.tokens:,} tokens were added to its tokenizer, listed in `{ADDED_NAME}`."


_LOADING = """
## Loading
These are updates of another model alone; PARENT is the one below Lineage.
```python
{code}
```
"""
_CARD = """---
library_name: {library}
tags: [pretune, {stage}]
---
# {name}

Made by the Pretune {kind} `{name}` ({stage}, method {method}): {parameters:,} parameters, {step:,} steps,
{tokens:,} tokens.
{loading}
## Lineage
{lineage}

## Data
{sources}

Token cache `{data}`.

{cleaned}{truncated}

## Evaluation
{metrics}{asked}

## Hyperparameters
```json
{training}
```
"""
