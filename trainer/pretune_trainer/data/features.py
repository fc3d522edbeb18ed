"""What Hugging Face's datasets library says of the columns of Parquet that it writes: names that numbers stand for."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

_KEY: Final = b"huggingface"
"""Of the schema's metadata, in JSON: {info: {features: {column: feature}}}."""
_NO_LABEL: Final = -1
"""Number in a ClassLabel of a row that has none, as in test data whose labels are withheld."""


def features_of(schema: pa.Schema) -> Mapping[str, object]:
    """The feature of each column; none where another program wrote the file."""
    match json.loads((schema.metadata or {}).get(_KEY, b"null")):
        case {"info": {"features": dict() as features}}:
            return features
    return {}


def named(value: object, feature: object) -> object:
    """A value with the names of its ClassLabels, alone, in lists or in objects; None where there is no label."""
    match feature:
        case {"_type": "ClassLabel", "names": [*names]} if isinstance(value, int):
            return _name(value, names)
        case {"feature": inner} | [inner] if isinstance(value, list):
            return [named(each, inner) for each in value]
        case dict() if isinstance(value, dict):
            return {name: named(held, feature.get(name)) for name, held in value.items()}
    return value


def _name(number: int, names: Sequence[object]) -> object:
    if number == _NO_LABEL:
        return None
    return str(names[number]) if 0 <= number < len(names) else number
