"""What the methods share that train updates beside frozen weights, through peft."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned, head_names, save_model
from pretune_trainer.model.body import token_embedding
from pretune_trainer.model.parent_weights import new_names

if TYPE_CHECKING:
    from peft import PeftModel

_ADAPTER_FOLDER = "adapter"
"""Where an artifact keeps the updates when they are merged into the model."""


def new_heads(model: PreTrainedModel) -> list[str]:
    """Names of the modules of a task's own head, which is trained whole beside the updates.

    The head of a model that writes comes with its parent, and may be tied to its embeddings.

    Raises:
        UserError: the parent of a model that writes has none: what it says would stay random.
    """
    if model.can_generate():
        _check_writes(new_names(model))
        return []
    return sorted({name.rsplit(".", 1)[0] for name in head_names(model)})


def _check_writes(new: Collection[str]) -> None:
    if new:
        raise UserError(
            "spec.method",
            f"the parent has no {min(new)}, as it was not trained to write, and beside updates it would stay random; "
            "train all weights first, with full",
        )


def updated(adapted: "PeftModel", *, merge: bool, package: str = "") -> Tuned:
    """A model with updates, which peft has put in; `package` is what must be imported before peft knows them."""
    loading = "" if merge else _loading(adapted, package)
    return Tuned(adapted.get_base_model(), partial(_save_updates, adapted, merge), loading=loading)


def _loading(adapted: "PeftModel", package: str) -> str:
    """Python that puts updates alone into their parent."""
    kind, head = type(adapted.get_base_model()).__name__, _head_size(adapted)
    needed = f"import {package}  # Pretune: peft does not know this method\n" if package else ""
    return f"""{needed}from peft import PeftModel
from transformers import {kind}

parent = {kind}.from_pretrained("PARENT"{head})
model = PeftModel.from_pretrained(parent, "THIS FOLDER")"""


def _head_size(adapted: "PeftModel") -> str:
    """Arguments that give a parent a head of the size of the task's own, if there is one: of labels, or of letters."""
    if not adapted.modules_to_save:
        return ""
    name = "vocab_size" if "lm_head" in adapted.modules_to_save else "num_labels"
    return f", {name}={getattr(adapted.get_base_model().config, name)}, ignore_mismatched_sizes=True"


def _save_updates(adapted: "PeftModel", merge: bool, folder: Path, dtype: torch.dtype) -> None:
    """The merged model with the updates beside it, or the updates alone; these stay in float32."""
    updates = folder / _ADAPTER_FOLDER if merge else folder
    # Of another vocabulary than the parent's, peft saves embeddings too; letters that are only written have none.
    embeds = token_embedding(adapted.get_base_model()) is not None
    adapted.save_pretrained(updates, save_embedding_layers="auto" if embeds else False)
    (updates / "README.md").unlink()  # peft's card is a form to fill in; the artifact brings its own
    if merge:
        save_model(adapted.merge_and_unload(), folder, dtype)
