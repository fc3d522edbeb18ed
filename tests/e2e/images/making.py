"""Making images, and giving them to a node."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from e2e.cluster.folders import lock

from .buildah import Buildah
from .docker import Docker
from .folders import images_folder
from .recipes import RECIPES, Recipe


class Node(Protocol):
    """Where pods run."""

    def images(self) -> set[str]:
        """Names of the images that pods can start from."""
        ...

    def load_image(self, archive: Path) -> None:
        """Take the image of an archive, in which layers may be missing that an image here has."""
        ...

    def remove_image(self, image: str) -> None:
        """Forget an image that nothing starts from any more."""
        ...


class Maker(Protocol):
    """What images are made with. What it has made is kept from one process to the next."""

    def foundation(self, recipe: Recipe) -> Mapping[str, str]:
        """Build arguments that say what an image without a parent is based on; it exists from now on."""
        ...

    def has(self, image: str) -> bool:
        """Whether the image has been made."""
        ...

    def build(self, image: str, recipe: Recipe, arguments: Mapping[str, str]) -> None:
        """Make an image."""
        ...

    def save(self, image: str, archive: Path, known: set[str]) -> None:
        """Write the image to an archive, which may leave out layers of `known` images."""
        ...


def ensure(names: Iterable[str], node: Node) -> dict[str, str]:
    """Make the images of these names unless there are such, and give them to the node; returns what pods call them."""
    with lock("images"):
        maker = _maker()
        images = {name: _make(RECIPES[name], maker) for name in names}
        for image in images.values():
            _load(image, maker, node)
    return images


def make(names: Iterable[str]) -> dict[str, str]:
    """Make the images of these names unless there are such; returns the names with their contents' digest."""
    with lock("images"):
        maker = _maker()
        return {name: _make(RECIPES[name], maker) for name in names}


def _maker() -> Maker:
    engine = shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    return Docker() if engine else Buildah(images_folder())


def _make(recipe: Recipe, maker: Maker) -> str:
    arguments = {"BASE": _make(RECIPES[recipe.parent], maker)} if recipe.parent else maker.foundation(recipe)
    image = recipe.image(arguments)
    if not maker.has(image):
        maker.build(image, recipe, arguments)
    return image


def _load(image: str, maker: Maker, node: Node) -> None:
    known = node.images()
    if image in known:
        return
    with TemporaryDirectory(dir=images_folder()) as folder:
        archive = Path(folder) / "image.tar"
        maker.save(image, archive, known)
        node.load_image(archive)
    name = image.rpartition(":")[0]
    for old in known:
        if old.rpartition(":")[0] == name and not maker.has(old):
            node.remove_image(old)
