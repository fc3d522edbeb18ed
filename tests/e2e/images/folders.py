"""Where images lie, and all that goes into them."""

from pathlib import Path

from e2e.cluster.folders import cache_folder


def images_folder() -> Path:
    """A folder outside the checkout, for what is made once."""
    folder = cache_folder().parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
