"""What is wrong with the sizes of a new model, where transformers takes them and then cannot make it, or compute it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PretrainedConfig

from pretune_trainer.errors import UserError, lines_of


def check_signs(fields: Mapping[str, Any], default: PretrainedConfig, where: str) -> None:
    """Refuse fields below zero that the type itself sets above: of -1 layers, transformers makes a model without any.

    Raises:
        UserError: there is one.
    """
    for place in _below(0, fields, default, where):
        raise UserError(place, "is negative; write 1 or more")


def check_groups(config: PretrainedConfig, where: str) -> None:
    """Refuse heads that cannot be shared evenly by queries: nothing but attention itself would notice.

    Raises:
        UserError: the number of heads of keys and values does not divide that of queries.
    """
    heads, groups = getattr(config, "num_attention_heads", None), getattr(config, "num_key_value_heads", None)
    if heads and groups and heads % groups:
        raise UserError(f"{where}.num_key_value_heads", f"{groups} does not divide num_attention_heads, {heads}")


@contextmanager
def refused(fields: Mapping[str, Any], default: PretrainedConfig, where: str) -> Iterator[None]:
    """Turn what a type of model says of `fields` that do not go together into a sentence.

    Raises:
        UserError: it refuses them, or divides by one that is zero.
    """
    try:
        yield
    except (AssertionError, LookupError, TypeError, ValueError, StrictDataclassError) as error:
        raise UserError(where, lines_of(error.__cause__ or error)[0]) from error
    except ArithmeticError as error:
        zero = next(_below(1, fields, default, where), None)
        if zero is not None:
            raise UserError(zero, "is zero; write 1 or more") from error
        raise UserError(where, f"its sizes do not match: {error}") from error


def _below(least: int, fields: Mapping[str, Any], default: PretrainedConfig, where: str) -> Iterator[str]:
    """The places of whole numbers below `least` that are 1 or more in `default`; ids of tokens are no sizes."""
    for name, value in fields.items():
        usual = getattr(default, name, None)
        if isinstance(usual, PretrainedConfig) and isinstance(value, dict):
            yield from _below(least, value, usual, f"{where}.{name}")
        elif type(value) is int and type(usual) is int and value < least and usual >= 1 and not name.endswith("_id"):
            yield f"{where}.{name}"
