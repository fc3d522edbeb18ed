"""What a kopf operator without any of our machinery does: each new job gets our ConfigMap and RayJob, and a status.

The most that can be had with kopf: handlers that hand blocking calls to a pool of threads, and remember nothing.
MANIFESTS names a file with what to make, PORT is where it says that it is ready.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kopf
from kubernetes import client
from kubernetes.config import load_kube_config
from ruamel.yaml import YAML

POOL = ThreadPoolExecutor(16)
MADE = {found["kind"]: found for found in YAML(typ="safe", pure=True).load_all(Path(os.environ["MANIFESTS"]))}


@kopf.on.startup()
def set_up(settings: kopf.OperatorSettings, **_: Any) -> None:
    load_kube_config()
    client.CoreV1Api().list_namespace()  # what is imported at the first call is no part of the measure
    settings.posting.enabled = False


@kopf.on.event("pretune.dev", "v1alpha1", "pretrainjobs")
async def seen(event: kopf.RawEvent, name: str, namespace: str | None, uid: str, **_: Any) -> None:
    assert namespace is not None
    if event["type"] in (None, "ADDED"):
        await asyncio.get_running_loop().run_in_executor(POOL, make, name, namespace, uid)


def make(name: str, namespace: str, uid: str) -> None:
    owner = {"apiVersion": "pretune.dev/v1alpha1", "kind": "PretrainJob", "name": name, "uid": uid, "controller": True}
    jobs = client.CustomObjectsApi()

    def owned(kind: str) -> Any:  # as quick as it gets: not an object of the client's
        named = {"name": f"ptj-{name}", "namespace": namespace, "ownerReferences": [owner]}
        return MADE[kind] | {"metadata": MADE[kind]["metadata"] | named}

    client.CoreV1Api().create_namespaced_config_map(namespace, owned("ConfigMap"))
    jobs.create_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs", owned("RayJob"))
    jobs.patch_namespaced_custom_object_status(
        "pretune.dev", "v1alpha1", namespace, "pretrainjobs", name, {"status": {"state": "Starting"}}
    )


def serve(port: int) -> None:
    """Says that it is ready, as ours does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()


if __name__ == "__main__":
    serve(int(os.environ["PORT"]))
    kopf.configure()
    kopf.run(standalone=True, clusterwide=True)
