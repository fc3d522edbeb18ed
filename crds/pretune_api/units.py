"""Types of single values: names, URIs, digests, counts. Each carries its bounds, so that the CRD has them too."""

from collections import Counter
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field

T = TypeVar("T")

_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_URI: Final = r"^((s3|gs|az)://.|file:///).*$"
_HTTP: Final = r"^https?://[^\s/?#@]+([/?#].*)?$"
"""No user and no password: an address is shown in status, logs and the artifact."""
_DIGEST: Final = r"^sha256:[0-9a-f]{64}$"
_COMMIT: Final = r"^[0-9a-f]{40}$"
_HUB_REPO: Final = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$"
_MODEL_TYPE: Final = r"^[a-z0-9_-]+$"
_METRIC: Final = r"^[a-z][A-Za-z0-9]*$"
_OBJECT: Final = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_FOLDER: Final = r"^(/[.]*[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$"
"""No `.` and no `..`, no colon, which Kubernetes refuses, and nothing that a URI would write in another way."""
_ENV: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
LANGUAGE: Final = r"^[a-z]{2,3}$"
PROMPT: Final = r"\{text\}"
"""Looked for anywhere in a prompt."""
LABEL_PROMPT: Final = r"\{label\}"
"""Looked for anywhere in a prompt of a label."""
ANSWER_PROMPT: Final = r"\{text\}[\s\S]*\{label\}$"
"""Looked for in a prompt that a label ends."""
_LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

LOOKS: Final = {
    _NAME: "lowercase letters, digits and dashes, such as general-v2",
    _URI: "s3://bucket/path, gs://, az:// or file:///path; `pretune run` also takes ./path",
    _HTTP: "https://host or http://host:port, without a user or a password",
    _DIGEST: "sha256: and 64 hex digits",
    _COMMIT: "a commit of 40 hex digits; a branch or a tag can move",
    _HUB_REPO: "ORG/NAME",
    _MODEL_TYPE: "a model type of transformers, such as llama",
    _METRIC: "the name of a metric, such as loss or f1Macro",
    _OBJECT: "lowercase letters, digits, dashes and dots, such as s3-credentials",
    _QUANTITY: "a Kubernetes quantity, such as 500m, 8 or 64Gi; put it in quotes",
    _FOLDER: "an absolute path of letters, digits, dots, dashes and underscores, such as /data/corpora",
    LANGUAGE: "a language code, such as de",
    _ENV: "letters, digits and underscores, such as HF_HOME",
    PROMPT: 'a template that contains {text}, such as "summarize: {text}"',
    LABEL_PROMPT: 'a template that contains {label}, such as "a photo of a {label}"',
    ANSWER_PROMPT: 'a template that contains {text} and ends with {label}, such as "{text} It was {label}"',
    _LABEL_VALUE: "letters, digits, dashes, underscores and dots, at most 63 of them",
}
"""What a value of each pattern looks like, for messages."""

JobName = Annotated[str, Field(min_length=1, max_length=63, pattern=_NAME)]
"""A DNS-1123 label."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_OBJECT)]
"""A DNS-1123 subdomain: the name of a Secret, a ServiceAccount, a PersistentVolumeClaim or a PriorityClass."""

Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=_QUANTITY)]
"""An amount in Kubernetes' notation: 500m, 8, 64Gi."""

FolderPath = Annotated[str, Field(min_length=2, max_length=256, pattern=_FOLDER)]
"""A folder of pods, as an absolute path without a slash at its end."""

EnvName = Annotated[str, Field(min_length=1, max_length=253, pattern=_ENV)]
"""The name of an environment variable."""

LABEL_KEY: Final = r"^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
"""A label's key, with or without a prefix. Structural schemas know no patterns of keys: rules do."""

LabelValue = Annotated[str, Field(max_length=63, pattern=_LABEL_VALUE)]
"""A label's value."""

Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
"""A time in seconds, at most a year."""

URI = Annotated[str, Field(min_length=4, max_length=1024, pattern=_URI)]
"""Where something lies: s3://bucket/path, gs://, az://, or file:///path, on the machine of `pretune run` or on a volume
of the cluster (compute.volumes)."""

Endpoint = Annotated[str, Field(max_length=1024, pattern=_HTTP)]
"""Address of a service that speaks HTTP."""

Digest = Annotated[str, Field(max_length=71, pattern=_DIGEST)]
"""The SHA-256 of a manifest, written `sha256:<64 hex digits>`."""

Commit = Annotated[str, Field(max_length=40, pattern=_COMMIT)]
"""A commit of a repository on a hub."""

HubRepo = Annotated[str, Field(min_length=1, max_length=256, pattern=_HUB_REPO)]
"""A repository on a hub."""

ModelType = Annotated[str, Field(min_length=1, max_length=64, pattern=_MODEL_TYPE)]
"""A model type, as transformers names it."""

Steps = Annotated[int, Field(ge=1, le=100_000_000)]
"""A number of optimizer steps."""

Tokens = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""A number of tokens."""

ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
"""A column of a table, or a key of a JSON object."""

MetricName = Annotated[str, Field(min_length=1, max_length=64, pattern=_METRIC)]
"""The name of a metric: loss, perplexity, accuracy, f1Macro."""

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share between 0 and 1."""


def _no_twins(values: list[T]) -> list[T]:
    twins = [str(value) for value, count in Counter(values).items() if count > 1]
    if twins:
        raise ValueError(f"{', '.join(twins)} {'is' if len(twins) == 1 else 'are'} listed twice")
    return values


UniqueList = Annotated[list[T], AfterValidator(_no_twins), Field(json_schema_extra={"x-kubernetes-list-type": "set"})]
"""A list of values that all differ."""

LabelName = Annotated[str, Field(min_length=1, max_length=256)]
"""The name of a class, or of a kind of entity."""

Labels = Annotated[UniqueList[LabelName], Field(min_length=2, max_length=10_000)]
"""The classes of a classification, in the order of the model's outputs."""
