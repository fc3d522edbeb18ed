"""Images made by buildah, on a Debian made by debootstrap: for machines without a Docker engine and a registry."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .archive import write_archive
from .base import DEBIAN, Base, left_out, without_cuda
from .recipes import ROOT, Recipe
from .storage import Storage

_CERTIFICATES: Final = "/etc/ssl/certs"
_KEPT: Final = 4
"""Older images kept of each name: those of other checkouts, and those whose layers a node has already."""


@dataclass(frozen=True)
class Buildah:
    """Keeps what it has made in `folder`."""

    folder: Path

    def foundation(self, recipe: Recipe) -> Mapping[str, str]:
        """Debian; below torch with stand-ins for the CUDA libraries, which the image then leaves out."""
        self._make(DEBIAN)
        if not recipe.with_torch:
            return {"BASE": DEBIAN.image}
        base = without_cuda()
        self._make(base)
        return {"BASE": base.image, "WITHOUT": left_out()}

    def has(self, image: str) -> bool:
        """Whether the image has been made."""
        return self._storage.has(image)

    def build(self, image: str, recipe: Recipe, arguments: Mapping[str, str]) -> None:
        """Make an image; layers that an earlier one has already are taken from there."""
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--target={recipe.target}"] if recipe.target else []
        self._bud(image, ROOT / recipe.dockerfile, ROOT / recipe.context, "--layers", *options)
        others = [other for other in self._storage.images(image.rpartition(":")[0]) if other != image]
        for old in others[_KEPT:]:
            subprocess.run(["buildah", *self._options, "rmi", old], stdout=subprocess.DEVNULL, check=True)

    def save(self, image: str, archive: Path, known: set[str]) -> None:
        """Write the image to an archive, without the layers of `known` images."""
        write_archive(image, archive, self._storage, known)

    @property
    def _options(self) -> list[str]:
        return self._storage.options("root", "runroot")

    @property
    def _storage(self) -> Storage:
        return Storage(self.folder / "storage", self.folder / "run")

    def _make(self, base: Base) -> None:
        if self.has(base.image):
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as context:
            base.fill(Path(context))
            dockerfile = Path(context) / "Dockerfile"
            dockerfile.write_text(base.dockerfile)
            self._bud(base.image, dockerfile, Path(context))

    def _bud(self, image: str, dockerfile: Path, context: Path, *options: str) -> None:
        # Its scratch space holds whole layers, and packages that were fetched once: too much for a /tmp in memory.
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        command = ["buildah", *self._options, "bud", "--isolation=chroot", "--pull-never"]
        command += [f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro", *options]
        command += ["--tag", image, "--file", str(dockerfile), str(context)]
        subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, check=True)
