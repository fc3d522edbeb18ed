"""Bottleneck adapters (Houlsby et al., 2019) as a method of peft, which knows none: importing this registers them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

PEFT_TYPE: Final = "BOTTLENECK"
"""What adapter_config.json calls it. peft takes a string where it lists no such type."""
_PREFIX: Final = "bottleneck_"


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]  # peft is not annotated
    """What adapter_config.json says."""

    channels: int = 64
    """Channels of the bottleneck."""
    activation: str = "gelu"
    """Name of the nonlinearity in transformers."""
    target_modules: list[str] | None = None
    """Names of the linear layers that a bottleneck follows."""
    modules_to_save: list[str] | None = None
    """Names of the modules that are trained whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE


class BottleneckLinear(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # likewise
    """A frozen linear layer, and what a bottleneck makes of its output, added to it: at first nothing."""

    adapter_layer_names = (f"{_PREFIX}down", f"{_PREFIX}up")
    # What peft brings, and does not annotate.
    get_base_layer: Callable[[], nn.Module]
    set_adapter: Callable[..., None]
    _move_adapter_to_device_of_base_layer: Callable[[str], None]
    active_adapters: list[str]
    disable_adapters: bool

    def __init__(self, base_layer: nn.Module, name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.activation = ACT2FN[config.activation]
        self.add(name, config)

    def add(self, name: str, config: BottleneckConfig) -> None:
        """Add a bottleneck, and use it."""
        width = _width_of(self.get_base_layer())
        up = nn.Linear(config.channels, width)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_down[name] = nn.Linear(width, config.channels)
        self.bottleneck_up[name] = up
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(name, inference_mode=config.inference_mode)

    def forward(self, inputs: Tensor) -> Tensor:
        """float [..., width of the inputs] -> float [..., width]."""
        output: Tensor = self.base_layer(inputs)
        if self.disable_adapters:
            return output
        for name in self.active_adapters:
            down, up = self.bottleneck_down[name], self.bottleneck_up[name]
            assert isinstance(down, nn.Linear), "add has made it"
            output = output + up(self.activation(down(output.to(down.weight.dtype)))).to(output.dtype)
        return output


class BottleneckModel(BaseTuner):  # type: ignore[misc]  # likewise
    """A model whose linear layers are followed by bottlenecks."""

    prefix = _PREFIX
    tuner_layer_cls = BottleneckLinear

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        assert isinstance(peft_config, BottleneckConfig), "it is registered with this model"
        if isinstance(target, BottleneckLinear):
            target.add(adapter_name, peft_config)
        else:
            self._replace_module(parent, target_name, BottleneckLinear(target, adapter_name, peft_config), target)


def _width_of(layer: nn.Module) -> int:
    """Width of a linear layer's output."""
    assert isinstance(layer, nn.Linear | Conv1D), "only linear layers are targets"
    return layer.out_features if isinstance(layer, nn.Linear) else int(layer.nf)


PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = _PREFIX
PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = BottleneckConfig
PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = BottleneckModel
