"""Models as shapes alone: made whole by rank 0, given to the other ranks without weights, and filled where they train.

Were each rank to make it, a machine with eight of them would hold a model of 70 billion parameters eight times: 2.2 TB.
"""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import parametrize

from pretune_trainer.parallel import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Shapes(Generic[T]):
    """What holds a model, as bytes, the model's weights and buffers left out."""

    content: bytes

    @classmethod
    def of(cls, thing: T, model: nn.Module) -> Self:
        """Of a thing that holds `model`."""
        written = io.BytesIO()
        _Pickler(written, model).dump(thing)
        return cls(written.getvalue())

    def make(self) -> T:
        """It again, its model on torch's meta device; what was tied is tied."""
        thing: T = pickle.loads(self.content)  # noqa: S301  # another rank of this run, or this one, has written it
        return thing


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, model: nn.Module) -> None:
        super().__init__(file)
        self._weights = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}

    def reducer_override(self, thing: Any) -> Any:
        """What to make in its place: of a weight, its shape; of a layer with computed weights, which PyTorch refuses
        to pickle, the layer."""
        if isinstance(thing, nn.Module) and parametrize.is_parametrized(thing):
            kind = parametrize.type_before_parametrizations(thing)
            state = {**vars(thing), "_load_state_dict_pre_hooks": OrderedDict()}  # those read weights of old names
            return kind.__new__, (kind,), state, None, None, _compute_weights
        if id(thing) not in self._weights:
            return NotImplemented
        trained = thing.requires_grad if isinstance(thing, nn.Parameter) else None
        return _empty, (thing.shape, thing.dtype, trained)


def _empty(shape: torch.Size, dtype: torch.dtype, trained: bool | None) -> Tensor:
    """A parameter, or a buffer where `trained` is None."""
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return tensor if trained is None else nn.Parameter(tensor, trained)


def _compute_weights(module: nn.Module, state: dict[str, Any]) -> None:
    """Make a layer one whose weights are computed, such as wav2vec2's convolution with weight normalisation."""
    vars(module).update(state)
    parametrize._inject_new_class(module)
    assert isinstance(module.parametrizations, nn.ModuleDict)
    for name in module.parametrizations:
        parametrize._inject_property(module, name)


def fill(model: nn.Module, ranks: Ranks) -> None:
    """Put rank 0's weights and buffers on every rank's device; what is sharded by now stays as it is. Collective."""
    filled: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and not isinstance(tensor, DTensor):
                if tensor not in filled:
                    filled[tensor] = _filled(tensor, ranks)
                setattr(module, name, filled[tensor])


def _filled(tensor: Tensor, ranks: Ranks) -> Tensor:
    here = tensor.detach().to(ranks.device) if ranks.is_first else torch.empty_like(tensor, device=ranks.device)
    received = ranks.send_tensor(here.contiguous())
    return nn.Parameter(received, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else received
