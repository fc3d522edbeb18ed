"""Stand-ins for the CUDA libraries that torch is linked with: they can be loaded, and do nothing.

PyPI has torch for Linux with CUDA only: 6 GB, of which a machine without a GPU calls 2. The rest must just be there.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

REAL: Final = ("nvidia-cuda-cupti", "nvidia-cuda-runtime")
"""Packages that torch calls on every machine: to look for devices, and to profile."""

_REAL_LIBRARIES: Final = ("libcuda.", "libcudart.", "libcupti.")


def replaced_packages(requirements: str) -> list[str]:
    """The packages of a requirement file that nothing calls where there is no GPU."""
    names = re.findall(r"^(nvidia-[\w-]+|triton)==", requirements, re.MULTILINE)
    return [name for name in names if name not in REAL]


def make_stand_ins(torch_libraries: Path, folder: Path) -> None:
    """Write a stand-in to `folder` for each CUDA library that torch's libraries name, with the symbols they want."""
    wanted = _wanted(sorted(torch_libraries.glob("*.so")))
    for library, versions in wanted.items():
        _compile(folder / library, versions)


def _wanted(libraries: list[Path]) -> dict[str, dict[str, set[str]]]:
    """Library to version to symbols; the symbols without a version, under "", are looked up in all libraries alike."""
    symbols: defaultdict[str, set[str]] = defaultdict(set)
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for library in libraries:
        for symbol, version in _undefined(library):
            symbols[version].add(symbol)
        for name, version in _versions(library):
            versions[name].add(version)
        for name in re.findall(r"NEEDED.*\[(lib(?:cu|nv|nccl)[^\]]+)\]", _run("readelf", "--dynamic", library)):
            versions[name].add("")
    cuda = [name for name in versions if re.match("lib(cu|nv|nccl)", name) and not name.startswith(_REAL_LIBRARIES)]
    return {name: {version: symbols[version] for version in versions[name]} for name in cuda}


def _undefined(library: Path) -> Iterator[tuple[str, str]]:
    """Symbol and version of what `library` wants from CUDA's libraries; "" where they have no versions."""
    for symbol, version in re.findall(r" U (\w+)(?:@(\S+))?$", _run("nm", "-D", library), re.MULTILINE):
        if version or re.match("nccl|nvshmem|cusparseLt|cuFile", symbol):
            yield symbol, version


def _versions(library: Path) -> Iterator[tuple[str, str]]:
    """Library and version of each version that `library` asks for."""
    name = ""
    for file, version in re.findall(r"File: (\S+)|Name: (\S+)", _run("readelf", "--version-info", library)):
        name = file or name
        if version:
            yield name, version


def _compile(path: Path, versions: dict[str, set[str]]) -> None:
    source, script = path.with_suffix(".c"), path.with_suffix(".map")
    symbols = sorted(set[str]().union(*versions.values()))
    source.write_text("\n".join(["void abort(void);", *(f"void {symbol}(void) {{ abort(); }}" for symbol in symbols)]))
    script.write_text("".join(_version(name, names) for name, names in sorted(versions.items()) if name))
    command = ["gcc", "-shared", "-s", f"-Wl,-soname,{path.name}", "-o", str(path), str(source)]
    if script.read_text():
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
    source.unlink()
    script.unlink()


def _version(name: str, symbols: set[str]) -> str:
    return f"{name} {{ global: {' '.join(f'{symbol};' for symbol in sorted(symbols))} }};\n"


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
