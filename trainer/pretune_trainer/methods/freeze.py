"""Some weights are trained, all others stay: feature extraction, the last blocks, or what patterns name."""

from fnmatch import fnmatchcase

from transformers import PreTrainedModel

from pretune_api.methods import Freeze
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned, head_names
from pretune_trainer.step import blocks_of

_WHERE = "spec.method.freeze"


def freeze(model: PreTrainedModel, spec: Freeze) -> Tuned:
    """The model, with gradients for the head and for what `spec` names.

    Raises:
        UserError: there are not that many blocks, a pattern matches nothing, or nothing is left to train.
    """
    if spec.last_blocks is not None:
        chosen = _last_blocks(model, spec.last_blocks)
    elif spec.patterns is not None:
        chosen = _matching(model, spec.patterns)
    else:
        chosen = set()
    trained = chosen | head_names(model)
    if not trained:
        raise UserError(_WHERE, "this model has no head of its own to train; set lastBlocks or patterns")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return Tuned.itself(model)


def _last_blocks(model: PreTrainedModel, count: int) -> set[str]:
    blocks = list(blocks_of(model))
    if count > len(blocks):
        raise UserError(f"{_WHERE}.lastBlocks", f"{count} blocks are requested, but the model has {len(blocks)}")
    chosen = {id(parameter) for block in blocks[-count:] for parameter in block.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def _matching(model: PreTrainedModel, patterns: list[str]) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for number, pattern in enumerate(patterns):
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            where = f"{_WHERE}.patterns[{number}]"
            raise UserError(where, f"'{pattern}' matches no parameter; one is named {names[0]}")
        found |= matches
    return found
