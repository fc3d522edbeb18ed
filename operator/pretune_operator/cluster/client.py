"""Calls of the Kubernetes API in raw JSON: the client library's objects would cost more than the call itself."""

import json
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_config
from pydantic import ValidationError
from pydantic_core import from_json

from pretune_operator.cluster.kinds import Resource
from pretune_operator.cluster.pages import Counted, Item, Page
from pretune_operator.metrics import API_CALLS

MANAGER: Final = "pretune"
"""Field manager of everything that the operator writes."""
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
"""Of HTTP, by the API's verb."""
_REFUSALS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
_CHUNK: Final = 100
"""Resources per answer of a list: bounds what is in memory at once."""
_TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)
_LOGIN_SECONDS: Final = 10.0
"""How long credentials are used before they are asked for again: the token of a pod is renewed every hour."""

Json = dict[str, Any]


class ApiError(Exception):
    """The API server refused a call, or could not be reached."""

    def __init__(self, code: int, reason: str, message: str, pause: float = 0.0) -> None:
        """`code` is that of HTTP, 0 without an answer; `reason` one CamelCase word; `message` a sentence.

        `pause` is how many seconds the API server asks to be left alone.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.pause = pause

    @property
    def not_found(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.code == HTTPStatus.NOT_FOUND

    @property
    def already_exists(self) -> bool:
        """Whether what was to be created exists already."""
        return self.reason == "AlreadyExists"

    @property
    def refused(self) -> bool:
        """Whether the API server understood the call and will refuse it again as long as nothing changes."""
        return self.code in _REFUSALS

    @property
    def webhook_failed(self) -> bool:
        """Whether the API server has to ask somebody who does not answer, such as Kueue."""
        return "failed calling webhook" in str(self)


class Client:
    """One connection pool; used by many threads at once."""

    def __init__(self, connections: int) -> None:
        """Credentials are those of the pod, or of the kubeconfig that the environment names."""
        load_config()
        self._configuration = Configuration.get_default_copy()
        self._configuration.connection_pool_maxsize = connections
        # Only a connection that could not be made is tried again here; the work queue tries everything else again.
        self._configuration.retries = urllib3.Retry(
            connect=2, read=0, redirect=0, status=0, other=0, respect_retry_after_header=False
        )
        # All calls go to one host: its pool spares each the search for it, which is a tenth of what a call costs.
        self._pool = RESTClientObject(self._configuration).pool_manager.connection_from_url(self._configuration.host)
        self._root = urlsplit(self._configuration.host).path.rstrip("/")
        self._login: tuple[float, dict[str, str]] = (float("-inf"), {})

    def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        """One resource. Raises ApiError."""
        return _json(self._call("get", resource, resource.path(namespace, name)))

    def list_all(self, resource: Resource, namespace: str | None, selector: str | None) -> Iterator[Page[Json]]:
        """All resources of a namespace (of all, when None).

        Raises:
            ApiError: the API server refuses, or cannot be reached.
        """
        return self._list(_whole, resource, namespace, selector, _CHUNK, _JSON)

    def census(self, resource: Resource, namespace: str | None, selector: str | None) -> Iterator[Page[Counted]]:
        """As `list_all`, but of each resource only which one it is: nothing else is parsed, which takes a fourth."""
        return self._list(_counted, resource, namespace, selector, 5 * _CHUNK, _METADATA)

    def _list(
        self,
        read: Callable[[bytes], Page[Item]],
        resource: Resource,
        namespace: str | None,
        selector: str | None,
        size: int,
        accept: str,
    ) -> Iterator[Page[Item]]:
        query = {"limit": str(size)} | ({"labelSelector": selector} if selector else {})
        while True:
            said = self._call("list", resource, resource.path(namespace), query=query, accept=accept)
            yield (found := read(said))
            if not found.metadata.rest:
                return
            query["continue"] = found.metadata.rest

    def create(self, resource: Resource, body: Json) -> Json:
        """Makes a resource; returns it as it was stored. Raises ApiError."""
        path = resource.path(body["metadata"]["namespace"])
        return _json(self._call("create", resource, path, body, {"fieldManager": MANAGER}))

    def replace_status(self, resource: Resource, body: Json) -> Json:
        """Replaces the status of a resource, if it is still of the version in `body`. Raises ApiError."""
        meta = body["metadata"]
        path = resource.path(meta["namespace"], meta["name"], "status")
        return _json(self._call("update", resource, path, body, {"fieldManager": MANAGER}))

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        """Deletes a resource in the foreground: it is seen until everything that it owns is gone. Raises ApiError."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        return _json(self._call("delete", resource, resource.path(namespace, name), options))

    def delete_all(self, resource: Resource, namespace: str, selector: str) -> None:
        """Deletes what carries these labels, which owns nothing. Raises ApiError."""
        self._call("deletecollection", resource, resource.path(namespace), query={"labelSelector": selector})

    def get_raw(self, path: str) -> bytes:
        """What the API server says at a path that is no resource. Raises ApiError."""
        return self._send("GET", path, None)

    def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        body: Json | None = None,
        query: dict[str, str] | None = None,
        accept: str = _JSON,
    ) -> bytes:
        url = f"{quote(path)}?{urlencode(query)}" if query else quote(path)
        code: int = HTTPStatus.OK
        try:
            return self._send(_METHODS[verb], url, body, accept)
        except ApiError as error:
            code = error.code
            raise
        finally:
            API_CALLS.labels(verb, resource.plural, code).inc()

    def _send(self, method: str, url: str, body: Json | None, accept: str = _JSON) -> bytes:
        headers = {"Accept": accept, "Content-Type": _JSON, "User-Agent": MANAGER} | self._credentials()
        content = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        try:
            answer = self._pool.urlopen(method, self._root + url, body=content, headers=headers, timeout=_TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, "Unreachable", f"the API server cannot be reached: {error}") from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _error(answer.status, answer.data, answer.headers.get("Retry-After", ""))
        return answer.data

    def _credentials(self) -> dict[str, str]:
        """Headers that say who asks. Finding them takes longer than a call, so they are kept for a while."""
        asked, headers = self._login
        if time.monotonic() - asked > _LOGIN_SECONDS:
            settings: Any = self._configuration.auth_settings()
            headers = {auth["key"]: auth["value"] for auth in settings.values()}
            self._login = (time.monotonic(), headers)
        return headers


def _json(said: bytes) -> Json:
    """An answer, read in a fourth of json.loads' time, in which nobody else runs. That also reads what is nested very
    deeply: whoever may write a job may write that, and it must not hide all others."""
    answer: Json
    try:
        answer = from_json(said)
    except ValueError:
        answer = json.loads(said)
    return answer


def _whole(said: bytes) -> Page[Json]:
    return Page[Json].model_validate(_json(said))


def _counted(said: bytes) -> Page[Counted]:
    try:
        return Page[Counted].model_validate_json(said)
    except ValidationError:  # nested very deeply
        return Page[Counted].model_validate(json.loads(said))


def _error(code: int, answer: bytes, retry_after: str) -> ApiError:
    pause = float(retry_after) if retry_after.isdecimal() else 0.0  # a proxy may give a date: then we pause as we like
    try:
        status = json.loads(answer)
        return ApiError(code, status.get("reason") or "", status.get("message") or f"HTTP {code}", pause)
    except (ValueError, AttributeError):
        return ApiError(code, "", f"HTTP {code}: {answer[:200].decode(errors='replace')}", pause)
