"""Where buildah keeps images: the layers and documents of each."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Storage:
    """A store of images, read through the command `containers-storage`."""

    root: Path
    run: Path
    """Where it notes what is mounted."""

    def options(self, root: str, run: str) -> list[str]:
        """What tells a command which storage it works on; `root` and `run` are the names of its options."""
        return [f"--{root}={self.root}", f"--{run}={self.run}", "--storage-driver=overlay"]

    def has(self, image: str) -> bool:
        """Whether there is such an image."""
        return subprocess.run(self._command("exists", "--image", image), capture_output=True).returncode == 0

    def images(self, name: str) -> list[str]:
        """The images of this name, newest first."""
        listing = subprocess.run(self._command("images", "--json"), stdout=subprocess.PIPE, check=True).stdout
        images = sorted(json.loads(listing), key=lambda image: str(image["created"]), reverse=True)
        return [full for image in images for full in image.get("names", []) if full.startswith(f"{name}:")]

    def document(self, image: str, name: str) -> bytes:
        """The image's `manifest`, or the document of a digest that it names."""
        command = self._command("get-image-data", image, name)
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout

    def manifest(self, image: str) -> dict[str, Any]:
        """What the image consists of."""
        manifest: dict[str, Any] = json.loads(self.document(image, "manifest"))
        return manifest

    @contextmanager
    def layer(self, digest: str) -> Iterator[IO[bytes]]:
        """The layer of this digest, as the tar file that it was made of."""
        command = self._command("diff", "--uncompressed", self._layers()[digest])
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield process.stdout
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} has ended with code {process.returncode}")

    def _layers(self) -> dict[str, str]:
        """Digests of layers, and what the storage calls them."""
        listing = subprocess.run(self._command("layers", "--json"), stdout=subprocess.PIPE, check=True).stdout
        return {layer["diff-digest"]: layer["id"] for layer in json.loads(listing) if "diff-digest" in layer}

    def _command(self, verb: str, *arguments: str) -> list[str]:
        return ["containers-storage", *self.options("graph", "run"), verb, *arguments]
