"""Models of a hub: one that is away is waited for, a model that is not there is a mistake."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pretune_api.model import Hub
from pretune_api.names import Cause
from pretune_api.run_config import Parent
from pretune_api.storage import Storage
from pretune_trainer.errors import HubError, PretuneError, UserError
from pretune_trainer.model.origin import Source, parent_config
from pretune_trainer.parallel import Ranks
from pretune_trainer.parents import find_parent

REVISION = "0" * 40


class WithoutModels(BaseHTTPRequestHandler):
    """A hub that has none."""

    code = "RepoNotFound"

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", self.code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class WithTokenizers(WithoutModels):
    """A hub whose repositories have no config.json."""

    code = "EntryNotFound"


@contextmanager
def empty_hub(answers: type[WithoutModels] = WithoutModels) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), answers) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def no_hub() -> Iterator[int]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def reach(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    ("hub", "error", "cause", "sentence"),
    [
        (no_hub, HubError, Cause.NETWORK, "spec.model.from: the hub does not respond, and org/model is not cached"),
        (empty_hub, UserError, Cause.USER_ERROR, "spec.model.from: the hub has no org/model at revision 0"),
    ],
)
def test_a_hub_that_is_away_is_told_from_a_model_that_there_is_not(
    hub: Callable[[], AbstractContextManager[int]],
    error: type[PretuneError],
    cause: Cause,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # its client waits half a minute
    parent = Parent(hub=Hub(repo="org/model", revision=REVISION))
    with hub() as port:
        reach(port, monkeypatch)
        with pytest.raises(error, match=sentence) as caught:
            find_parent(parent, Storage(uri="file:///nowhere"), Ranks(), "spec.model.from")
    assert caught.value.cause == cause


def test_a_repository_of_a_hub_may_have_a_tokenizer_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    parent = Parent(hub=Hub(repo="org/words", revision=REVISION))
    with empty_hub(WithTokenizers) as port:
        reach(port, monkeypatch)
        found = find_parent(parent, Storage(uri="file:///nowhere"), Ranks(), "spec.tokenizer.from")
    assert found.source == Source("org/words", REVISION)


def test_a_model_of_a_hub_is_that_of_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    digests = set()
    for revision, width in (("a" * 40, 64), ("b" * 40, 128)):
        snapshot = tmp_path / "models--org--model" / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": width}))
        parent = Parent(hub=Hub(repo="org/model", revision=revision))
        found = find_parent(parent, Storage(uri="file:///nowhere"), Ranks(), "spec.model.from")
        assert parent_config(found.source).hidden_size == width
        digests.add(found.digest)
    assert len(digests) == 2
