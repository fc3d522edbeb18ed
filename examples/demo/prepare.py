"""Makes the demo's data out of the standard library of the Python that runs this; nothing is downloaded.

    data/general/modules.parquet       modules outside PACKAGES: text
    data/domain/modules.parquet        modules of PACKAGES: text
    data/labels/train.parquet          places in those modules where a method is called, and which: text, label
    data/labels/validation.parquet     such places in modules that are in none of the above

Whole modules are held out, so that nothing near a validation place has been trained on.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parent / "data"
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
HELD_OUT = 0.2
"""Share of each package's calls that validation gets."""
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "lib2to3", "__pycache__"}
"""Folders that are not read: tests, tables, and what others have installed."""
METHODS = (
    *("append", "close", "decode", "encode", "extend", "format", "get", "items", "join", "lower"),
    *("pop", "read", "replace", "split", "startswith", "strip", "update", "write"),
)
"""The labels: methods that are called often, on objects of many kinds."""
LINES, CHARACTERS = 5, 300
"""How much of what stands before a call is shown."""


@dataclass(frozen=True)
class Module:
    """A source file of the standard library."""

    path: Path
    """Relative to the library's folder."""
    text: str

    @property
    def package(self) -> str:
        return self.path.parts[0]

    @property
    def order(self) -> bytes:
        """A place in a shuffled order that is the same on every machine."""
        return hashlib.sha256(self.path.as_posix().encode()).digest()

    @cached_property
    def calls(self) -> list[tuple[str, str]]:
        """What stands before each call of one of METHODS, up to the dot, and the method."""
        lines = self.text.split("\n")
        functions = (node.func for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.Call))
        named = (node for node in functions if isinstance(node, ast.Attribute) and node.attr in METHODS)
        return [(before(lines, node), node.attr) for node in named]


def before(lines: list[str], method: ast.Attribute) -> str:
    """The end of the text up to the dot before the method's name."""
    number = (method.end_lineno or 0) - 1
    line = lines[number].encode()[: method.end_col_offset].decode().removesuffix(method.attr)
    return "\n".join([*lines[max(0, number - LINES) : number], line])[-CHARACTERS:]


def main() -> None:
    """Write all files, and say what is in them."""
    modules = sorted(standard_library(), key=lambda module: module.order)
    ours = [module for module in modules if module.package in PACKAGES]
    held_out = [module for package in PACKAGES for module in hold_out([m for m in ours if m.package == package])]
    domain = [module for module in ours if module not in held_out]
    write("general/modules", text=[module.text for module in modules if module.package not in PACKAGES])
    write("domain/modules", text=[module.text for module in domain])
    write("labels/train", **labelled(domain))
    write("labels/validation", **labelled(held_out))


def standard_library() -> Iterator[Module]:
    """Every module of the standard library that can be read as UTF-8."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if LEFT_OUT.isdisjoint(relative.parts):
            text = path.read_text(encoding="utf-8", errors="replace")
            if text.strip():
                yield Module(relative, text)


def hold_out(modules: list[Module]) -> list[Module]:
    """Modules of one package with about HELD_OUT of its calls."""
    sizes = {module.path: len(module.calls) for module in modules}
    room = HELD_OUT * sum(sizes.values())
    chosen = []
    for module in modules:
        if 0 < sizes[module.path] <= room:
            chosen.append(module)
            room -= sizes[module.path]
    return chosen


def labelled(modules: list[Module]) -> dict[str, list[str]]:
    """The calls of all modules, each once, as columns."""
    calls = dict.fromkeys(call for module in modules for call in module.calls)
    return {"text": [text for text, _ in calls], "label": [method for _, method in calls]}


def write(name: str, **columns: list[str]) -> None:
    """Write a Parquet file below DATA."""
    path = DATA / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    characters = sum(map(len, columns["text"]))
    print(f"{path.relative_to(DATA.parent)}: {len(columns['text']):,} rows, {characters / 1e6:.1f} million characters")


if __name__ == "__main__":
    main()
