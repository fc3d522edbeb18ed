"""YAML as kubectl reads it: 3e-4 is a number, yes is true, a date is text, a key stands once. JSON is YAML, too."""

import math
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from pretune_trainer.errors import UserError, lines_of

_TRUE: Final = {"y", "yes", "on", "true"}
_FALSE: Final = {"n", "no", "off", "false"}
_TAG: Final = "tag:yaml.org,2002:{}"
_ADVICE: Final = {
    "expected <block end>": "indent the line like those around it",
    "mapping values are not allowed": "indent the line like those around it, and put text with a colon in quotes",
    "found character '\\t'": "indent with spaces",
    "found undefined alias": "put text that begins with *, such as a glob, in quotes",
    "found unhashable key": "put text in braces, such as a template, in quotes",
    "found duplicate key": "keep one of them",
}
"""What would be right, by how the parser's sentence begins."""


class _Resolver(VersionedResolver):
    """YAML 1.2, with the words of 1.1 that kubectl still takes for true and false."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:  # ruamel's signature
        if kind is ScalarNode and implicit[0] and value.lower() in _TRUE | _FALSE:
            return Tag(suffix=_TAG.format("bool"))
        return super().resolve(kind, value, implicit)


class _Constructor(SafeConstructor):
    """Only values that JSON has: a date stays text, and there is no infinity."""


def _truth(constructor: SafeConstructor, node: ScalarNode) -> bool:
    return str(constructor.construct_scalar(node)).lower() in _TRUE


def _number(constructor: SafeConstructor, node: ScalarNode) -> float:
    number = float(constructor.construct_yaml_float(node))
    if not math.isfinite(number):
        raise ConstructorError(None, None, f"{node.value} is not a number that JSON can represent", node.start_mark)
    return number


_Constructor.add_constructor(_TAG.format("bool"), _truth)
_Constructor.add_constructor(_TAG.format("float"), _number)
for _name in ("timestamp", "value"):
    _Constructor.add_constructor(_TAG.format(_name), SafeConstructor.construct_yaml_str)


def documents(file: Path) -> list[object]:
    """Every document of a file.

    Raises:
        UserError: the file cannot be read, or is no YAML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(str(file), "is not UTF-8 text") from error
    except IsADirectoryError as error:
        raise UserError(str(file), f"is a folder; name the files in it, such as {file}/*.yaml") from error
    except FileNotFoundError as error:
        raise UserError(str(file), "there is no such file; check its path") from error
    except OSError as error:
        raise UserError(str(file), f"cannot be read: {error.strerror}") from error
    return documents_of(text, str(file))


def value(text: str, where: str) -> object:
    """A single value, such as that of an option.

    Raises:
        UserError: it is no YAML.
    """
    found = documents_of(text, where)
    return found[0] if found else None


def documents_of(text: str, where: str) -> list[object]:
    """Every document of a text; `where` names it in messages.

    Raises:
        UserError: it is no YAML.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Constructor = _Resolver, _Constructor
    try:
        return list(yaml.load_all(text))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line}", f"is not valid YAML: {_advised(str(error.problem))}") from error
    except YAMLError as error:
        raise UserError(where, f"is not valid YAML: {lines_of(error)[0]}") from error
    except RecursionError as error:
        raise UserError(where, "its lists and mappings are nested too deeply to be read; use fewer levels") from error


def _advised(problem: str) -> str:
    advice = next((advice for beginning, advice in _ADVICE.items() if problem.startswith(beginning)), None)
    return f"{problem}; {advice}" if advice else problem
