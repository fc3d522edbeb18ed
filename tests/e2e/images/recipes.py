"""Which images there are, and what each is made from."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
"""The checkout."""


@dataclass(frozen=True)
class Recipe:
    """An image, and what it is made from."""

    name: str
    dockerfile: str
    """Path in the checkout."""
    sources: tuple[str, ...]
    """Files and folders of the checkout that go into it."""
    context: str = "."
    """Folder of the checkout that the Dockerfile copies from."""
    target: str = ""
    """Stage of the Dockerfile; the last one if empty."""
    parent: str = ""
    """Name of the image of ours that it is based on, if it is."""
    with_torch: bool = False
    """Whether torch is installed when it is made."""

    def image(self, arguments: Mapping[str, str]) -> str:
        """The image's name when it is built with `arguments`: it changes with everything that it is made from."""
        return f"pretune.test/{self.name}:{digest(self.target, sorted(arguments.items()), *self._contents())}"

    def _contents(self) -> Iterator[object]:
        for path in _files(self.dockerfile, *self.sources):
            yield from (path.relative_to(ROOT), path.stat().st_mode, path.read_bytes())


def digest(*parts: object) -> str:
    """Twelve hex digits that stand for `parts`."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part if isinstance(part, bytes) else str(part).encode()).digest())
    return whole.hexdigest()[:12]


def _files(*sources: str) -> Iterator[Path]:
    for path in (ROOT / source for source in sources):
        yield from filter(_is_source, sorted(path.rglob("*"))) if path.is_dir() else [path]


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


_INSTALLED: Final = ("images/install.sh", "requirements/bootstrap.txt", "crds/pretune_api")
_OPERATOR: Final = (*_INSTALLED, "requirements/operator.txt", "operator/pretune_operator")
_PRETRAIN: Final = (*_INSTALLED, "requirements/trainer.txt", "requirements/mlflow.txt", "trainer/pretune_trainer")
_FINETUNE: Final = (*_PRETRAIN, "requirements/finetune.txt")
_TRAINER: Final = "images/trainer.Dockerfile"
_OBEDIENT: Final = "tests/e2e/obedient"

RECIPES: Final = {
    recipe.name: recipe
    for recipe in [
        Recipe("operator", "images/operator.Dockerfile", _OPERATOR),
        Recipe("pretrain", _TRAINER, _PRETRAIN, target="pretrain", with_torch=True),
        Recipe("finetune", _TRAINER, _FINETUNE, target="finetune", with_torch=True),
        Recipe("obedient", f"{_OBEDIENT}/Dockerfile", (f"{_OBEDIENT}/main.py",), context=_OBEDIENT, parent="finetune"),
    ]
}
"""The images by name."""
