"""A model is made by rank 0 alone; the others are given its shapes, and then their part of its weights."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm
from transformers import PreTrainedModel

from pretune_api.manifest import Manifest
from pretune_api.run_config import Folder, Parent, RunConfig
from pretune_api.storage import Location, Storage
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.methods import Tuned
from pretune_trainer.model.shapes import Shapes, fill
from pretune_trainer.parallel import Ranks
from pretune_trainer.parents import find_parent
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent, Step
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.store import Store
from support.group import in_ranks
from support.jobs import Recorder, classification, pretrain
from support.language import TINY
from support.s3 import S3Server

TIED = {"type": "llama", "config": {**TINY["llama"], "tie_word_embeddings": True}}
TALKATIVE = {"type": "llama", "config": {**TINY["llama"], "output_hidden_states": True}}
"""transformers puts hooks that cannot be pickled into such a model when it is called."""
METHODS = [{"full": {}}, {"lora": {}}, {"adapter": {}}, {"freeze": {}}, {"prefix": {"tokens": 4}}]


def _losses(ranks: Ranks, config: RunConfig) -> list[float]:
    """Of every step; no rank but the first can make a model."""
    recorder = Recorder()
    with patch.object(Inputs, "make_model", Inputs.make_model if ranks.is_first else _refused):
        run_rank(config, ranks, recorder)
    return [step.loss for step in recorder.of(Step)]


def _refused(inputs: Inputs) -> Tuned:
    raise AssertionError("this machine has no memory for it")


@pytest.mark.parametrize("architecture", [TIED, TALKATIVE], ids=["tied", "talkative"])
def test_one_rank_makes_the_model_that_all_train(tmp_path: Path, architecture: dict[str, Any]) -> None:
    alone = _losses(Ranks(), pretrain(tmp_path / "one", model__architecture=architecture))
    first, second = in_ranks(2, _losses, pretrain(tmp_path / "two", model__architecture=architecture))
    assert first == second == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: next(iter(method)))
def test_shapes_are_all_of_a_model_but_its_weights(tmp_path: Path, method: dict[str, object]) -> None:
    config = classification(tmp_path, model={"architecture": TIED}, method=method)
    made = gather_inputs(config, Ranks(), Silent()).make_model()
    again = Shapes.of(made, made.model).make()
    assert _described(again.model) == _described(made.model)
    assert {tensor.device.type for tensor in again.model.state_dict().values()} == {"meta"}
    assert again.rates == made.rates


def _described(model: PreTrainedModel) -> list[tuple[object, ...]]:
    """Parameters by name, those that are tied once, and buffers; and the configuration."""
    parameters = [(name, each.shape, each.dtype, each.requires_grad) for name, each in model.named_parameters()]
    buffers = [(name, each.shape, each.dtype) for name, each in model.named_buffers()]
    return [*parameters, *buffers, (model.config.to_json_string(),)]


def _said(ranks: Ranks) -> list[float]:
    """What a layer whose weights are computed says, and a buffer that is not saved."""
    torch.manual_seed(ranks.rank)
    layer = weight_norm(torch.nn.Linear(2, 1), dim=0)
    layer.register_buffer("number", torch.tensor(7 * (1 - ranks.rank)), persistent=False)
    model = layer if ranks.is_first else Shapes.of(layer, layer).make()
    fill(model, ranks)
    return [*model(torch.ones(1, 2)).flatten().tolist(), *model.state_dict()["bias"].tolist(), int(model.number)]


def test_shapes_are_filled_with_the_weights_of_the_first_rank() -> None:
    first, second = in_ranks(2, _said)
    assert first == second
    assert first[-1] == 7


class Scaled(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.scales = [torch.tensor([0.5, 2.0])]


def test_what_is_no_weight_of_the_model_stays_whole() -> None:
    model = Scaled()
    assert torch.equal(Shapes.of(model, model).make().scales[0], torch.tensor([0.5, 2.0]))


def _brought(ranks: Ranks, parent: Parent, storage: Storage, caches: str) -> set[str]:
    """Names of the files on the machine of a rank that has one of its own."""
    os.environ["PRETUNE_CACHE"] = f"{caches}/{ranks.rank}"
    found = find_parent(parent, storage, ranks, "spec.model.from")
    return {path.name for path in Path(found.source.name).iterdir()}


def _put_artifact(location: Location) -> None:
    store = Store.open(location)
    names = ("config.json", "model.safetensors", "original/consolidated.00.pth", "pytorch_model.bin")
    files = [store.put(name, name.encode()) for name in names]
    commit(store, Manifest(content="artifact", files=files))


def test_weights_are_brought_to_the_machine_of_the_first_rank_alone(tmp_path: Path, s3: S3Server) -> None:
    location = s3.new_folder()
    _put_artifact(location)
    parent, storage = Parent(folder=Folder(uri=location.uri)), Storage(**location.model_dump())
    first, second = in_ranks(2, _brought, parent, storage, str(tmp_path))
    assert first == {"config.json", "model.safetensors"}
    assert second == {"config.json"}


def test_weights_are_not_read_for_a_tokenizer(tmp_path: Path) -> None:
    location = Location(uri=tmp_path.as_uri())
    _put_artifact(location)
    (tmp_path / "model.safetensors").write_bytes(b"model.tensorsafes")
    parent, storage = Parent(folder=Folder(uri=location.uri)), Storage(uri="file:///elsewhere")
    find_parent(parent, storage, Ranks(), "spec.tokenizer", "unread")
    (tmp_path / "config.json").write_bytes(b"config.nosj")
    with pytest.raises(UserError, match=r"config\.json has changed"):
        find_parent(parent, storage, Ranks(), "spec.tokenizer", "unread")
