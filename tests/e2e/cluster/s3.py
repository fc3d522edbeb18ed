"""Real S3 endpoints, on this machine, for its pods and for us."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pretune_api.storage import Location
from support.ports import free_port

from .binaries import programs
from .process import Command, accepts, flags, running, wait_until

REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """An endpoint with a credential of its own, which no other server takes; conditional puts hold (versitygw)."""

    folder: Path
    """Where buckets and logs lie."""
    address: str
    port: int
    key: str = field(default_factory=lambda: f"KEY{secrets.token_hex(8).upper()}")
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}"

    def location(self, path: str) -> Location:
        """`path` begins with a bucket."""
        return Location(uri=f"s3://{path}", endpoint=self.endpoint, region=REGION)

    def make_bucket(self, name: str) -> None:
        (self.folder / "buckets" / name).mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        """The credential, as S3 clients read it; also the keys of a Secret."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves until the context ends; may be entered again, and then all is as it was."""
        with running("versitygw", self._command(), self.folder) as server:
            wait_until(lambda: accepts(self.address, self.port), f"{self.endpoint} answers", [server])
            yield

    def _command(self) -> Command:
        for kept in (buckets := self.folder / "buckets", accounts := self.folder / "accounts"):
            kept.mkdir(parents=True, exist_ok=True)
        options = {
            "port": f"{self.address}:{self.port}",
            "access": self.key,
            "secret": self.secret,
            "region": REGION,
            # Without accounts of its own it says "not found" to an unknown key, where S3 says "forbidden".
            "iam-dir": accounts,
            "quiet": "true",
        }
        return [programs("versitygw") / "versitygw", *flags(options), "posix", buckets]


def s3_server(folder: Path, address: str) -> S3Server:
    """An endpoint that will listen on a free port of `address`, once it is `running`; `folder` will be its own."""
    return S3Server(folder, address, free_port(address))
