"""--set: a field's path and its new value."""

import re
from dataclasses import dataclass
from typing import Any, Final, Self

from pretune_api.base import OneOf, Spec
from pretune_api.fields import field_model, python_names, suggestion
from pretune_cli import yaml
from pretune_trainer.errors import UserError

_STEP: Final = re.compile(r"\.?([^.\[\]=]+)|\[(\d+)\]")
_EXAMPLE: Final = "such as spec.training.maxSteps=100"


@dataclass(frozen=True)
class Override:
    """A field of a job, and what it shall hold."""

    path: str
    """The field, such as spec.data.train[0].uri."""
    value: object
    """Its new value, raw."""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """The override that `path=value` describes; the value is YAML.

        Raises:
            UserError: it is written in another way.
        """
        path, equals, value = text.partition("=")
        if not equals or not re.fullmatch(f"(?:{_STEP.pattern})+", path):
            raise UserError(f"--set {text}", f"is not of the form path=value, {_EXAMPLE}")
        return cls(path, yaml.value(value, f"--set {path}"))

    def check(self, model: type[Spec]) -> None:
        """Whether documents of `model` have the field.

        Raises:
            UserError: they have not; names the nearest field that they have.
        """
        found: type[Spec] | None = model
        for step in self._steps:
            if found is None:  # inside a plain value, such as an architecture's free-form configuration
                return
            if isinstance(step, int):
                continue
            names = python_names(found)
            if step not in names:
                advice = suggestion(names, step) if found is not model else f"a path begins with spec, {_EXAMPLE}"
                raise UserError(f"--set {self.path}", f"unknown field '{step}'; {advice}")
            found = field_model(found, step)

    def is_chosen(self, model: type[Spec], document: object) -> bool:
        """Whether a document of `model` has chosen what the field is a part of, such as lora of the methods."""
        found: type[Spec] | None = model
        value = document
        for step in self._steps[:-1]:
            if isinstance(step, int):
                value = value[step] if isinstance(value, list) and step < len(value) else None
                continue
            value = value.get(step) if isinstance(value, dict) else None
            if found is not None and issubclass(found, OneOf) and value is None:
                return False
            found = field_model(found, step) if found is not None else None
        return True

    def apply(self, document: dict[str, Any]) -> None:
        """Change a raw document; objects on the way are made where they are missing.

        Raises:
            UserError: the path names an item of a list that is not there, or a field of what has none.
        """
        *above, last = self._steps
        holder: Any = document
        for step in above:
            holder = self._child(holder, step)
        self._refuse_missing(holder, last)
        holder[last] = self.value

    def _child(self, holder: Any, step: str | int) -> Any:
        self._refuse_missing(holder, step)
        if isinstance(step, str) and holder.get(step) is None:
            holder[step] = {}
        return holder[step]

    def _refuse_missing(self, holder: object, step: str | int) -> None:
        if isinstance(step, int) and not (isinstance(holder, list) and step < len(holder)):
            raise UserError(f"--set {self.path}", f"there is no item [{step}]")
        if isinstance(step, str) and not isinstance(holder, dict):
            raise UserError(f"--set {self.path}", f"the value before '{step}' has no fields")

    @property
    def _steps(self) -> list[str | int]:
        return [name or int(index) for name, index in _STEP.findall(self.path)]
