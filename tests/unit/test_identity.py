"""Without a Secret both clients of S3 take the identity of their pod: the one that writes, and the one that reads."""

import os
from pathlib import Path

import pytest

from pretune_api.data import Source
from pretune_trainer.data.sources import OpenedSource
from pretune_trainer.storage.store import Store
from support.pod_identity import pod_identity
from support.s3 import S3Server


def test_storage_and_sources_take_the_credentials_that_eks_gives_a_pod(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = s3.new_folder()
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    with pod_identity(tmp_path, key, secret) as variables:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        Store.open(folder).put("rows.jsonl", b'{"text": "a"}\n')
        source = Source(uri=f"{folder.uri}/*.jsonl", endpoint=folder.endpoint, region=folder.region)
        [file] = OpenedSource(source, "spec.data.train[0]").files()
        assert file.size == 14
