"""What a test cluster is, whoever makes it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from .access import Api


@dataclass(frozen=True)
class Cluster(Api, ABC):
    """A Kubernetes with one node, to which `nvidia.com/gpu` is but a number."""

    folder: Path
    """What it writes: kubeconfigs, logs; made by `start`, removed by `stop`."""

    @property
    @abstractmethod
    def host(self) -> str:
        """This machine's address as pods know it; a server that listens there is reached by pods and by us."""

    @property
    @abstractmethod
    def node(self) -> str:
        """The node's name."""

    @abstractmethod
    def start(self) -> None:
        """Starts it, and returns when pods can be made."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, and removes everything that it made except for what the cache keeps."""

    @abstractmethod
    def runs(self) -> bool:
        """Whether it has been started, and still runs."""

    @abstractmethod
    def images(self) -> set[str]:
        """Names of the images that pods can start from, such as pretune.test/pause:1."""

    @abstractmethod
    def load_image(self, archive: Path) -> None:
        """Gives the node the images of an archive, as `docker save` and `buildah push docker-archive:` write it."""

    @abstractmethod
    def remove_image(self, image: str) -> None:
        """Makes the node forget an image; no pod starts from it any more."""

    @abstractmethod
    def bring(self, folder: Path) -> None:
        """Has the node know a folder of this machine, under the same path."""
