"""What every model of the API shares: camelCase names, no unknown fields, rules, and objects with exactly one key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

RULE_ERROR = "rule"
"""The type of pydantic's error when a rule does not hold."""


@dataclass(frozen=True)
class Rule:
    """What must hold between the fields of one object: for people, for the API server, and for Python."""

    message: str
    """What would be right, in a sentence."""
    cel: str
    """The rule in CEL, of the object as `self`; what is None in Python is absent there."""
    holds: Callable[[Any], bool]
    """The rule in Python, of an instance of the model."""
    field: str | None = None
    """YAML name of the field that is at fault; the object itself when None."""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Spec(BaseModel):
    """A part of the API. Field names are camelCase in YAML and JSON, snake_case in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        # `model` is a word of our domain.
        protected_namespaces=(),
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields."""

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        """The model's own rules, and those that its form implies."""
        return cls.rules

    @classmethod
    def takes_nothing(cls) -> bool:
        """Whether every field may be left out."""
        return not any(field.is_required() for field in cls.model_fields.values())

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        broken = [str(rule) for rule in _rules_of(type(self)) if not rule.holds(self)]
        if broken:
            raise PydanticCustomError(RULE_ERROR, "{broken}", {"broken": "; ".join(broken)})
        return self

    @classmethod
    def alias(cls, field: str) -> str:
        """The YAML name of the Python attribute `field`."""
        return cls.model_fields[field].alias or field

    def brief(self) -> dict[str, Any]:
        """As JSON, without fields that are absent. A null that stands in place of a default is a choice, and stays."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {
            self.alias(name): _brief(value) for name, value in self if value is not None or defaults[name] is not None
        }


def _brief(value: object) -> object:
    if isinstance(value, Spec):
        return value.brief()
    return [_brief(each) for each in value] if isinstance(value, list) else value


@cache
def _rules_of(model: type[Spec]) -> tuple[Rule, ...]:
    """Every instance is held against them, and they follow from the class alone."""
    return model.all_rules()


class OneOf(Spec):
    """An object of which exactly one field is set; `choices` names the fields that exclude each other."""

    choices: ClassVar[tuple[str, ...]] = ()
    """Python names of the alternatives; empty means every field."""

    @classmethod
    def alternatives(cls) -> tuple[str, ...]:
        """The Python names of the fields of which exactly one is set."""
        return cls.choices or tuple(cls.model_fields)

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        """Exactly one alternative is set, and the model's own rules."""
        names = cls.alternatives()
        known = [cls.alias(name) for name in names]
        which = f"set exactly one of {', '.join(known)}" if len(known) > 1 else f"set {known[0]}"
        exactly_one = Rule(
            message=f"{which}; write {{}} to use its defaults" if any(map(cls._may_be_empty, names)) else which,
            cel=f"[{', '.join(f'has(self.{name})' for name in known)}].exists_one(is_set, is_set)",
            holds=lambda self: sum(getattr(self, name) is not None for name in names) == 1,
        )
        return exactly_one, *cls.rules

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        """Whether {} is enough; worth saying, because what has nothing after its colon in YAML is null: not set."""
        parts = get_args(cls.model_fields[name].annotation)
        models = [part for part in parts if isinstance(part, type) and issubclass(part, Spec)]
        return any(not issubclass(model, OneOf) and model.takes_nothing() for model in models)

    @property
    def kind(self) -> str:
        """The YAML name of the alternative that is set."""
        return self.alias(self._chosen)

    @property
    def value(self) -> object:
        """The value of the alternative that is set."""
        return getattr(self, self._chosen)

    @property
    def _chosen(self) -> str:
        return next(name for name in self.alternatives() if getattr(self, name) is not None)
