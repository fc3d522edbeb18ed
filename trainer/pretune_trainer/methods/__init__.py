"""How weights change: one file a method, one line in `METHODS`."""

from collections.abc import Callable
from typing import Final

from pretune_trainer.methods.adapter import adapter
from pretune_trainer.methods.base import Tuned
from pretune_trainer.methods.freeze import freeze
from pretune_trainer.methods.full import full
from pretune_trainer.methods.ia3 import ia3
from pretune_trainer.methods.lora import lora
from pretune_trainer.methods.virtual_tokens import prefix, prompt_tuning

METHODS: Final[dict[str, Callable[..., Tuned]]] = {
    "full": full,
    "lora": lora,
    "ia3": ia3,
    "adapter": adapter,
    "prefix": prefix,
    "promptTuning": prompt_tuning,
    "freeze": freeze,
}
"""(model, the method's spec) -> the model, prepared; by the method's YAML name."""

__all__ = ["METHODS", "Tuned"]
