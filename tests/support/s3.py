"""A real S3 endpoint for tests: `rclone serve s3` on a folder. It takes every conditional put, whatever exists."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from pretune_api.storage import Location

BUCKET = "tests"


@dataclass(frozen=True)
class S3Server:
    """A running endpoint."""

    endpoint: str
    """Its address."""
    folder: Path
    """Where its buckets lie."""

    def location(self, path: str) -> Location:
        return Location(uri=f"s3://{path}", endpoint=self.endpoint, region="us-east-1")

    def new_folder(self) -> Location:
        """A folder that no other test uses."""
        return self.location(f"{BUCKET}/{secrets.token_hex(4)}")


@contextmanager
def serve(folder: Path) -> Iterator[S3Server]:
    """An endpoint with one bucket, and its credentials in the environment, until the context ends."""
    (folder / BUCKET).mkdir()
    key, secret = "TESTKEYID", secrets.token_hex(8)
    command: list[str | Path] = [Path(sys.executable).with_name("rclone"), "serve", "s3", "--config", ""]
    options: list[str | Path] = ["--addr", "127.0.0.1:0", "--auth-key", f"{key},{secret}", folder]
    with (
        patch.dict(os.environ, _credentials(key, secret)),
        subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield S3Server(_address(process), folder)
        finally:
            process.terminate()


def _credentials(key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        # pyarrow's multipart uploads: rclone asks for a length, newer checksums send none.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }


def _address(process: subprocess.Popen[str]) -> str:
    """What the server says once it listens."""
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"Starting s3 server on \[(http://[\d.:]+)/]", line):
            return match[1]
    raise AssertionError("rclone has ended before it listened")
