"""Keys, values and inner activations rescaled by trained vectors (Liu et al., 2022), through peft."""

from transformers import PreTrainedModel

from pretune_api.methods import Ia3
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned
from pretune_trainer.methods.updates import new_heads, updated


def ia3(model: PreTrainedModel, spec: Ia3) -> Tuned:
    """The model with vectors in its layers; a head of its own is trained whole.

    Raises:
        UserError: it is not known which layers of such a model are keys, values and inner activations.
    """
    # The image for pre-training has no peft.
    from peft import IA3Config, get_peft_model
    from peft.utils import constants

    kind = model.config.model_type
    targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind)
    inner = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind)
    if targets is None or inner is None:
        raise UserError("spec.method.ia3", f"it does not support {kind} models; use lora, which supports any")
    config = IA3Config(target_modules=targets, feedforward_modules=inner, modules_to_save=new_heads(model) or None)
    return updated(get_peft_model(model, config), merge=spec.merge)
