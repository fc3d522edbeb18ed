"""A store whose certificate comes from a private authority."""

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pretune_api.storage import Location
from pretune_trainer.errors import StorageDeniedError
from pretune_trainer.storage.client import Patience
from pretune_trainer.storage.store import Store

READ = """
import sys
from pretune_api.data import Source
from pretune_api.storage import Location
from pretune_trainer.data.sources import OpenedSource
from pretune_trainer.storage.store import Store
location = {"endpoint": sys.argv[1], "region": "us-east-1"}
written = Store.open(Location(uri="s3://models/team", **location)).get("a.txt")
(read,) = OpenedSource(Source(uri="s3://models/team/a.txt", **location), "spec.data.train[0]").files()
print(written.decode(), read.size)
"""


class OneObject(BaseHTTPRequestHandler):
    """A store that has the same object under every name."""

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"content")

    def do_HEAD(self) -> None:
        self.send_response(200)
        for name, value in {
            "Content-Length": "7",
            "ETag": '"1"',
            "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file with its certificate, which is the store's too, at localhost; the key is beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of our own")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ca.key").write_bytes(key.private_bytes(pem, *plain))
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(pem))
    return tmp_path / "ca.pem"


@pytest.fixture
def endpoint(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneObject)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_name("ca.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_storage_and_sources_trust_the_authorities_that_ssl_cert_file_names(endpoint: str, authority: Path) -> None:
    environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
    found = subprocess.run(
        [sys.executable, "-c", READ, endpoint], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout == "content 7\n"


def test_of_an_authority_that_is_not_trusted_people_are_told_at_once(endpoint: str) -> None:
    store = Store.open(
        Location(uri="s3://models/team", endpoint=endpoint, region="us-east-1"), Patience(total_seconds=0)
    )
    with pytest.raises(StorageDeniedError, match=r"/a.txt: cannot read: .* not trusted; .* SSL_CERT_FILE"):
        store.get("a.txt")
