"""What images are based on where there is no registry: Debian 12, as python:3.11-slim-bookworm is, by debootstrap."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .recipes import ROOT, digest
from .stand_ins import make_stand_ins, replaced_packages


@dataclass(frozen=True)
class Base:
    """An image, and the folder that it is built from."""

    name: str
    dockerfile: str
    fill: Callable[[Path], None]
    """Puts into an empty folder what the Dockerfile adds to the image."""
    version: str
    """What the image changes with, beside its Dockerfile."""

    @property
    def image(self) -> str:
        """The image's name."""
        return f"pretune.test/{self.name}:{digest(self.dockerfile, self.version)}"


_PACKAGES: Final = "ca-certificates,python3,python3-venv"
_UNUSED: Final = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")

_SETTINGS: Final = {
    "etc/pip.conf": "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n",
    "etc/uv/uv.toml": "system-certs = true\n",
}
"""The certificates of this machine are mounted while an image is built: it may trust others than pip and uv do."""


def _debootstrap(folder: Path) -> None:
    root = folder / "root"
    # The mirror is debootstrap's own choice.
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", root], check=True)
    for unused in _UNUSED:
        shutil.rmtree(root / unused)
        (root / unused).mkdir()
    for name, text in _SETTINGS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["tar", "--create", "--file", folder / "root.tar", "--directory", root, "."], check=True)
    shutil.rmtree(root)


DEBIAN: Final = Base(
    "debian",
    "FROM scratch\nADD root.tar /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    _debootstrap,
    version=f"{_PACKAGES} {_UNUSED} {_SETTINGS}",
)


def _stand_ins(folder: Path) -> None:
    torch = importlib.util.find_spec("torch")
    assert torch is not None, "torch is one of requirements/dev.txt"
    assert torch.origin is not None, "torch is no namespace"
    make_stand_ins(Path(torch.origin).parent / "lib", folder)


def _torch_requirements() -> str:
    return (ROOT / "requirements" / "finetune.txt").read_text()


def without_cuda() -> Base:
    """Debian with stand-ins for the CUDA libraries of our torch."""
    return Base(
        "debian-without-cuda",
        f"ARG BASE={DEBIAN.image}\nFROM ${{BASE}}\nCOPY lib*.so.* /usr/local/lib/\nRUN ldconfig\n",
        _stand_ins,
        version=" ".join(line for line in _torch_requirements().splitlines() if line.startswith("torch==")),
    )


def left_out() -> str:
    """The packages that the stand-ins stand for."""
    return " ".join(replaced_packages(_torch_requirements()))
