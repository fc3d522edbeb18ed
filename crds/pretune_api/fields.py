"""Finding one's way through raw documents by the models: which model an object has, which names it knows."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, get_args

from pretune_api.base import Spec

_MOST_NAMED: Final = 20
"""Names, in a sentence."""


class Place(NamedTuple):
    """An object of a raw document that has a model."""

    model: type[Spec]
    """The object's model."""
    value: dict[str, Any]
    """The object."""
    path: str
    """Its path, such as spec.data.train[0]; empty for the document itself."""

    def at(self, name: str) -> str:
        """The path of one of its fields."""
        return f"{self.path}.{name}" if self.path else name


def python_names(model: type[Spec]) -> dict[str, str]:
    """Python names of a model's fields, by their YAML names."""
    return {model.alias(name): name for name in model.model_fields}


def field_model(model: type[Spec], name: str) -> type[Spec] | None:
    """The model of the field with the YAML name `name`, or of its items; None for plain values."""
    field = python_names(model).get(name)
    return None if field is None else _model_in(model.model_fields[field].annotation)


def places(model: type[Spec], value: object, path: str = "") -> Iterator[Place]:
    """`value` and every object in it that has a model, from the outside in. Values of a wrong type are passed by."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(model, item, f"{path}[{index}]")
    if isinstance(value, dict):
        place = Place(model, value, path)
        yield place
        for name, item in value.items():
            if inner := field_model(model, name):
                yield from places(inner, item, place.at(name))


def suggestion(known: Iterable[str], wrong: str) -> str:
    """The end of a sentence about a name that does not exist: the nearest that does, or else the first ones."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    if near := get_close_matches(wrong.lower(), by_lower, n=1):
        return f"did you mean {by_lower[near[0]]}?"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"known: {', '.join(names[:_MOST_NAMED]) or 'none'}{more}"


def _model_in(annotation: object) -> type[Spec] | None:
    """The model in an annotation such as `Annotated[list[Source], …] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
