"""The cluster's programs, built from pinned Go modules into a cache that outlives checkouts."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .folders import cache_folder, lock
from .process import Command

MODULES = Path(__file__).parent / "go"
"""One Go module for each tool: they cannot share one, since their dependencies differ."""

_TAGS = "remove_all_sd,enable_kubernetes_sd"
"""Of Prometheus: it looks for its targets in Kubernetes alone, which spares the libraries of a dozen clouds."""


def programs(tool: str) -> Path:
    """The folder with the programs of `tool`, a folder of `go/`; they are built first if need be.

    What `go.sum` does not know, or knows otherwise, ends the build.
    """
    folder = cache_folder() / _key(MODULES / tool)
    with lock(folder.name):
        if not folder.exists():
            _build(MODULES / tool, folder)
    return folder


def build_all() -> None:
    """Builds what is not in the cache yet: half an hour on two cores where nothing has been built before."""
    for module in sorted(MODULES.iterdir()):
        programs(module.name)


def version(tool: str) -> str:
    """The version of the module that the first program of `tool` is in, such as v1.34.4; v0.0.0 for our own."""
    text = (MODULES / tool / "go.mod").read_text()
    program = re.search(r"^tool \(?\s*(\S+)", text, re.MULTILINE)
    assert program, f"tests/e2e/cluster/go/{tool}/go.mod names no tool"
    requirements: list[tuple[str, str]] = re.findall(r"^(?:require)?\s+(\S+) (v\S+)", text, re.MULTILINE)
    return next((version for module, version in requirements if f"{program[1]}/".startswith(f"{module}/")), "v0.0.0")


def _key(module: Path) -> str:
    pins = b"".join(file.read_bytes() for file in sorted(module.iterdir()))
    return f"{module.name}-{version(module.name)}-{hashlib.sha256(pins).hexdigest()[:8]}"


def _build(module: Path, folder: Path) -> None:
    """Builds all programs of `module`; `folder` appears only when they are complete."""
    print(f"Building {module.name} {version(module.name)}", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        out = Path(scratch) / "programs"
        flags = ["-mod=readonly", "-trimpath", "-tags", _TAGS, "-ldflags", _linking(module.name), "-o", f"{out}/"]
        # Static programs can be the only file of an image.
        static = {**os.environ, "CGO_ENABLED": "0"}
        subprocess.run(["nice", _go(), "build", "-C", module, *flags, "tool"], env=static, check=True)
        _copy_manifests(module, out)
        out.rename(folder)


def _go() -> str:
    """This machine's Go, or else the one that `make` puts beside our Python."""
    return shutil.which("go") or str(Path(sys.executable).with_name("go"))


def _copy_manifests(module: Path, folder: Path) -> None:
    """Copies the folder `config` of the module that `module` is about: where operators keep their manifests."""
    listing: Command = [_go(), "list", "-C", module, "-f", "{{with .Module}}{{.Dir}}{{end}}", "tool"]
    sources = subprocess.run(listing, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if (manifests := Path(sources[0]) / "config").is_dir():
        shutil.copytree(manifests, folder / "config", copy_function=shutil.copyfile)


def _linking(tool: str) -> str:
    """Flags of the linker: no symbols, and the version where the program reports it to others."""
    flags = ["-s", "-w"]
    if tool == "kubernetes":
        major, minor, _ = version(tool).removeprefix("v").split(".")
        values = {"gitVersion": version(tool), "gitMajor": major, "gitMinor": minor}
        flags += [f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items()]
    return " ".join(flags)
