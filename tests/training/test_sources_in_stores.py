"""Where sources lie: stores and volumes that refuse, are away, or are asked, told from damaged files."""

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from pretune_trainer.data.sources import explained
from pretune_trainer.errors import PretuneError, StorageDeniedError, StorageError
from pretune_trainer.storage.store import Store
from support.faulty_proxy import proxy
from support.letters import write_jsonl
from support.s3 import S3Server
from support.sources import WHERE, opened, texts

GOOD = b'{"text": "a"}\n'


def test_s3_gives_the_same_rows_as_a_folder(s3: S3Server, tmp_path: Path) -> None:
    location = s3.new_folder()
    store = Store.open(location)
    store.put("b.jsonl", write_jsonl(tmp_path / "b.jsonl", ["three"]))
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    store.put("a.parquet", tmp_path / "a.parquet")
    reached = {"endpoint": location.endpoint, "region": location.region}
    assert texts(f"{location.uri}/", **reached) == ["one", "two", "three"]
    assert texts(f"{location.uri}/*.jsonl", **reached) == ["three"]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_the_environment_says_where_s3_is_unless_the_source_does(
    variable: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = s3.new_folder()
    Store.open(location).put("a.jsonl", GOOD)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(variable, f"{location.endpoint}/")
    assert texts(f"{location.uri}/a.jsonl") == ["a"]
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert texts(f"{location.uri}/a.jsonl", endpoint=location.endpoint) == ["a"]


def test_the_environment_says_which_region_s3_is_in_unless_the_source_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.delenv("AWS_REGION", raising=False)
    for variable, region in (("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_REGION", "eu-north-1")):
        monkeypatch.setenv(variable, region)
        filesystem = opened("s3://corpora/a.jsonl").filesystem
        assert isinstance(filesystem, fs.S3FileSystem)
        assert filesystem.region == region
    filesystem = opened("s3://corpora/a.jsonl", region="ap-south-1").filesystem
    assert isinstance(filesystem, fs.S3FileSystem)
    assert filesystem.region == "ap-south-1"


def failure(uri: str, **fields: Any) -> PretuneError:
    with pytest.raises(PretuneError) as caught:
        texts(uri, **fields)
    return caught.value


def test_a_store_that_refuses_or_does_not_answer_is_told_from_a_damaged_file(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = s3.new_folder()
    monkeypatch.setattr("pretune_trainer.data.sources._ATTEMPTS", 1)
    unreachable = failure(location.uri, endpoint="http://127.0.0.1:1", region="us-east-1")
    assert type(unreachable) is StorageError
    assert "cannot be reached, check its endpoint and the network" in str(unreachable)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    denied = failure(location.uri, endpoint=location.endpoint, region="us-east-1")
    assert type(denied) is StorageDeniedError
    assert str(denied).startswith("spec.data.train[0].uri: reading ")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    nobody = failure(location.uri, endpoint=location.endpoint, region="us-east-1")
    assert type(nobody) is StorageDeniedError


def test_a_store_that_fails_for_some_seconds_is_asked_again(s3: S3Server) -> None:
    location = s3.new_folder()
    Store.open(location).put("a.jsonl", GOOD)
    with proxy(s3.endpoint) as between:
        between.faults = ["503"] * 3
        assert texts(f"{location.uri}/a.jsonl", endpoint=between.endpoint, region="us-east-1") == ["a"]
        assert not between.faults


def test_a_store_that_is_asked_too_often_is_no_damaged_file(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    location = s3.new_folder()
    monkeypatch.setattr("pretune_trainer.data.sources._ATTEMPTS", 1)
    with proxy(s3.endpoint) as between:
        between.refuses = 429
        throttled = failure(f"{location.uri}/a.jsonl", endpoint=between.endpoint, region="us-east-1")
    assert type(throttled) is StorageError


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_file_of_some_mib_is_read_with_few_requests(s3: S3Server, form: str) -> None:
    wanted = [Random(number).randbytes(2**18).hex() for number in range(10)]
    content = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in wanted)
    kinds = {"jsonl.gz": gzip.compress, "jsonl.zst": lambda text: pa.compress(text, "zstd", asbytes=True)}
    location = s3.new_folder()
    Store.open(location).put(f"a.{form}", kinds.get(form, bytes)(content))
    with proxy(s3.endpoint) as between:
        assert texts(f"{location.uri}/a.{form}", endpoint=between.endpoint, region="us-east-1") == wanted
        assert between.requests.count("GET") <= 3


def test_a_bucket_in_another_region_is_told_from_a_damaged_file(s3: S3Server) -> None:
    location = s3.new_folder()
    with proxy(s3.endpoint) as between:
        between.refuses = 301
        elsewhere = failure(f"{location.uri}/a.jsonl", endpoint=between.endpoint, region="us-east-1")
    assert type(elsewhere) is StorageDeniedError
    assert str(elsewhere).endswith("/a.jsonl is in another region; set the source's region, or AWS_REGION")


ASKS = """
import http.server, os, threading
from pretune_api.data import Source
from pretune_trainer.data.sources import OpenedSource

class Metadata(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        print("asked", flush=True)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
source = Source.model_validate({"uri": "s3://bucket/x.jsonl", "endpoint": "http://127.0.0.1:1"})
for number in range(2):  # the SDK's first question goes to an address that is not to be had here
    OpenedSource(source, f"spec.data.train[{number}]").filesystem
"""


def test_no_metadata_service_is_asked_where_keys_and_an_endpoint_are_given() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run([sys.executable, "-c", ASKS], env=environment | keys, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ESTALE])
def test_a_volume_whose_server_is_away_is_no_damaged_file(number: int) -> None:
    with pytest.raises(StorageError, match="file:///corpora cannot be reached"), explained("file:///corpora", WHERE):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_volume_that_refuses_is_no_damaged_file(number: int) -> None:
    with (
        pytest.raises(
            StorageDeniedError, match=f"file:///corpora is denied to user {os.getuid()} of group {os.getgid()};"
        ),
        explained("file:///corpora", WHERE),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "said",
    [
        "UNAVAILABLE: Retry policy exhausted, with a last message of Could not create a OAuth2 access token",
        "DEADLINE_EXCEEDED: Retry policy exhausted, with a last message of CURL error [28]=Timeout was reached",
        "INTERNAL: Retry policy exhausted",
    ],
)
def test_google_s_store_out_of_reach_is_no_damaged_file(said: str) -> None:
    with pytest.raises(StorageError, match="gs://corpora cannot be reached"), explained("gs://corpora", WHERE):
        raise OSError(f"google::cloud::Status({said}")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "Could not create a OAuth2 access token. The underlying error message was: Cannot open /k.json error_info=",
            r"no credentials for gs://corpora; check GOOGLE_APPLICATION_CREDENTIALS, .* \(Cannot open .*/k.json\)",
        ),
        ("Status(UNKNOWN: with a last message of CURL error [60]=SSL peer certificate", "authority .* is not trusted"),
    ],
)
def test_what_google_s_client_lacks_is_no_damaged_file(said: str, sentence: str) -> None:
    with pytest.raises(StorageDeniedError, match=sentence), explained("gs://corpora", WHERE):
        raise pa.ArrowException(said)
