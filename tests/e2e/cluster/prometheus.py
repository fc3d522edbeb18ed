"""A real Prometheus, which finds pods through the API server as its operator would tell it to."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ports import free_port

from .binaries import programs
from .process import flags, running, wait_until

Config = dict[str, Any]

SCRAPE_SECONDS = 1
_INTERVAL = f"{SCRAPE_SECONDS}s"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `metric`, its labels, and `value`, a time and a number as text."""
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        ) as answer:
            series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return series

    def query_range(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of a query over a range of Unix times: `metric`, its labels, and `values`, four a scrape.

        The last scrape before a target went is seen for one interval only: steps as long as that can pass it by.

        Raises:
            ValueError: Prometheus does not understand the query, or cannot answer it; says why.
        """
        asked = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": SCRAPE_SECONDS / 4})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{asked}") as answer:
                series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {json.load(error)['error']}") from error
        return series

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False


def config_of(scrapes: Sequence[Config]) -> str:
    """The configuration, JSON being YAML, of a Prometheus with these `scrape_configs`."""
    return json.dumps({"global": {"scrape_interval": _INTERVAL}, "scrape_configs": list(scrapes)})


@contextmanager
def prometheus(folder: Path, address: str, scrapes: Sequence[Config]) -> Iterator[Prometheus]:
    """A Prometheus with these `scrape_configs`, which listens on `address` and keeps its data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "prometheus.json"
    config.write_text(config_of(scrapes))
    listen = f"{address}:{free_port(address)}"
    options = {"config.file": config, "storage.tsdb.path": folder / "data", "web.listen-address": listen}
    server = Prometheus(f"http://{listen}")
    with running("prometheus", [programs("prometheus") / "prometheus", *flags(options)], folder) as process:
        wait_until(server.is_ready, f"{server.url} is ready", [process])
        yield server


def scrapes_of(monitor: Config) -> list[Config]:
    """The `scrape_configs` that the Prometheus operator makes of a PodMonitor, as far as ours uses its fields."""
    return [_scrape(monitor, endpoint) for endpoint in monitor["spec"]["podMetricsEndpoints"]]


def _scrape(monitor: Config, endpoint: Config) -> Config:
    namespace, name = monitor["metadata"]["namespace"], monitor["metadata"]["name"]
    return {
        "job_name": f"podMonitor/{namespace}/{name}/{endpoint['port']}",
        "kubernetes_sd_configs": [{"role": "pod", **_found(monitor)}],
        "metrics_path": endpoint.get("path", "/metrics"),
        "scrape_interval": _INTERVAL,
        "honor_labels": endpoint.get("honorLabels", False),
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            *_selected(monitor["spec"]["selector"]),
            _keep("pod_container_port_name", endpoint["port"]),
            _label("namespace", "namespace"),
            _label("pod", "pod_name"),
            _label("container", "pod_container_name"),
            {"target_label": "job", "replacement": f"{namespace}/{name}"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
        ],
        "metric_relabel_configs": [_in_words_of_prometheus(rule) for rule in endpoint.get("metricRelabelings", [])],
    }


def _in_words_of_prometheus(rule: Config) -> Config:
    return {re.sub(r"[A-Z]", lambda upper: f"_{upper[0].lower()}", name): value for name, value in rule.items()}


def _found(monitor: Config) -> Config:
    """Where pods are looked for: the monitor's own namespace, unless it says otherwise."""
    selector = monitor["spec"].get("namespaceSelector", {})
    if selector.get("any"):
        return {}
    return {"namespaces": {"names": selector.get("matchNames", [monitor["metadata"]["namespace"]])}}


def _selected(selector: Config) -> Iterator[Config]:
    """Of a label selector: labels that have a value, and labels that exist."""
    for label, value in selector.get("matchLabels", {}).items():
        yield _keep(f"pod_label_{_word(label)}", value)
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists", f"{expression} is not translated"
        yield _keep(f"pod_labelpresent_{_word(expression['key'])}", "true")


def _word(label: str) -> str:
    """A label's name as Prometheus writes it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _keep(source: str, value: str) -> Config:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "regex": re.escape(value), "action": "keep"}


def _label(target: str, source: str) -> Config:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
