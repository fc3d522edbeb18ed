"""What EKS Pod Identity gives a pod in place of a Secret: a token, and an agent that hands out credentials for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_TOKEN = "of the service account"


@contextmanager
def pod_identity(folder: Path, key: str, secret: str) -> Iterator[dict[str, str]]:
    """An agent that runs; the variables that a pod would have. The token lies in `folder`, as EKS projects it."""
    given = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": "", "Expiration": "2100-01-01T00:00:00Z"}
    agent = ThreadingHTTPServer(("127.0.0.1", 0), type("Agent", (_Agent,), {"given": json.dumps(given).encode()}))
    thread = threading.Thread(target=agent.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    (folder / "token").write_text(_TOKEN)
    try:
        yield {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{agent.server_port}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
        }
    finally:
        agent.shutdown()
        agent.server_close()
        thread.join()


class _Agent(BaseHTTPRequestHandler):
    given = b""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == _TOKEN
        body = self.given if known else b"{}"
        self.send_response(200 if known else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
