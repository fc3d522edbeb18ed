"""The cluster's programs, built from pinned Go modules into a cache that outlives checkouts."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULES = Path(__file__).parent / "go"
"""One Go module for each tool: they cannot share one, since their dependencies differ."""


def cache_folder() -> Path:
    """Where everything lies that is made once: programs, images."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "pretune" / "cluster"


def programs(tool: str) -> Path:
    """The folder with the programs of `tool`, a folder of `go/`; they are built first if need be.

    What `go.sum` does not know, or knows otherwise, ends the build.
    """
    folder = cache_folder() / _key(MODULES / tool)
    with _lock(folder):
        if not folder.exists():
            _build(MODULES / tool, folder)
    return folder


def version(tool: str) -> str:
    """The version of the module that the first program of `tool` is in, such as v1.34.4."""
    text = (MODULES / tool / "go.mod").read_text()
    program = re.search(r"^tool \(?\s*(\S+)", text, re.MULTILINE)
    assert program, f"tests/e2e/cluster/go/{tool}/go.mod names no tool"
    requirements: list[tuple[str, str]] = re.findall(r"^(?:require)?\s+(\S+) (v\S+)", text, re.MULTILINE)
    return next(version for module, version in requirements if f"{program[1]}/".startswith(f"{module}/"))


def _key(module: Path) -> str:
    pins = b"".join((module / name).read_bytes() for name in ("go.mod", "go.sum"))
    return f"{module.name}-{version(module.name)}-{hashlib.sha256(pins).hexdigest()[:8]}"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lets one process at a time make `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: Path, folder: Path) -> None:
    """Builds all programs of `module`; `folder` appears only when they are complete."""
    if shutil.which("go") is None:
        raise SystemExit("The test cluster is built with Go 1.24 or newer, and `go` is not on the PATH: install it.")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        out = Path(scratch) / "programs"
        flags = ["-mod=readonly", "-trimpath", "-ldflags", _linking(module.name), "-o", f"{out}/"]
        # Static programs can be the only file of an image.
        static = {**os.environ, "CGO_ENABLED": "0"}
        subprocess.run(["nice", "go", "build", "-C", module, *flags, "tool"], env=static, check=True)
        out.rename(folder)


def _linking(tool: str) -> str:
    """Flags of the linker: no symbols, and the version where the program reports it to others."""
    flags = ["-s", "-w"]
    if tool == "kubernetes":
        major, minor, _ = version(tool).removeprefix("v").split(".")
        values = {"gitVersion": version(tool), "gitMajor": major, "gitMinor": minor}
        flags += [f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items()]
    return " ".join(flags)
