"""Images made by a Docker engine, on the base image that the Dockerfiles name."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .recipes import ROOT, Recipe


class Docker:
    """The engine keeps what it has made."""

    def foundation(self, recipe: Recipe) -> Mapping[str, str]:
        """The Dockerfile's own."""
        return {}

    def has(self, image: str) -> bool:
        """Whether the engine has the image."""
        return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0

    def build(self, image: str, recipe: Recipe, arguments: Mapping[str, str]) -> None:
        """Make an image."""
        command = ["docker", "build", "--tag", image, "--file", str(ROOT / recipe.dockerfile)]
        command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command += ["--target", recipe.target] if recipe.target else []
        # The Dockerfiles mount caches, of which the default builder of an engine as old as Debian 12's knows nothing.
        buildkit = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run([*command, str(ROOT / recipe.context)], env=buildkit, check=True)

    def save(self, image: str, archive: Path, known: set[str]) -> None:
        """Write all of the image to an archive."""
        subprocess.run(["docker", "save", "--output", archive, image], check=True)
