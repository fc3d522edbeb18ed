"""What a valid job asks for that this cluster does not have: a pool, a store that pods can reach."""

from typing import Any

import pytest

from pretune_operator.errors import UnfitError
from pretune_operator.job import JobView
from pretune_operator.pools import pool_of
from pretune_operator.rayjob import Manifests, manifests
from support.specs import FINETUNE, PRETRAIN
from support.views import planned, settings, view

CORPORA = [{"claim": "corpora", "mountPath": "/data"}]


def made(job: JobView) -> Manifests:
    return manifests(job, planned(job), 1, settings())


def reading(field: str, uri: str) -> dict[str, Any]:
    """The change of a job that makes it read `uri` by that field."""
    within = {
        "data.train[0].uri": ("data__train", [{"uri": uri}]),
        "data.validation.sources[0].uri": ("data__validation", {"sources": [{"uri": uri}]}),
        "tokenizer.from.uri": ("tokenizer", {"from": {"uri": uri}}),
        "model.from.uri": ("model", {"from": {"uri": uri}}),
    }
    return dict([within[field]])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compute__pool": "h100"}, "spec.compute.pool: there is no pool h100; known pools: a100"),
        ({"compute__pool": "small"}, "spec.compute.pool: small is closed to namespace team; known pools: a100"),
        (
            {"compute__gpusPerWorker": 16},
            (
                "spec.compute.gpusPerWorker: 16 is more than a node of pool a100 has (8);"
                " request at most as many, and more workers"
            ),
        ),
    ],
)
def test_a_pool_that_a_job_cannot_have_is_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnfitError) as error:
        pool_of(view(**changes).spec.compute, "team", settings())
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {
                "data__train": [{"uri": "s3://corpora/", "secretRef": {"name": "other"}}],
                "storage__secretRef": {"name": "s3"},
            },
            (
                "spec.data.train[0].secretRef: differs from spec.storage.secretRef, but pods have one set of"
                " credentials; use one that can read the sources and write to the storage"
            ),
        ),
        (
            {"storage__uri": "file:///data/models", "compute__volumes": CORPORA},
            "spec.storage.uri: file:///data/models is not in an object store; use s3://, gs:// or az://",
        ),
    ],
)
def test_stores_that_pods_cannot_reach_are_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnfitError) as error:
        made(view(**changes))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "uri", ["file:///srv/corpora/a.parquet", "file:///database/a.parquet", "file:///data/../a.parquet"]
)
@pytest.mark.parametrize(
    ("document", "field"),
    [
        (PRETRAIN, "data.train[0].uri"),
        (PRETRAIN, "data.validation.sources[0].uri"),
        (PRETRAIN, "tokenizer.from.uri"),
        (FINETUNE, "model.from.uri"),
    ],
)
def test_a_local_folder_outside_of_all_volumes_is_said(document: dict[str, Any], field: str, uri: str) -> None:
    with pytest.raises(UnfitError) as error:
        made(view(document, compute__volumes=CORPORA, **reading(field, uri)))
    assert str(error.value) == (
        f"spec.{field}: {uri} is on a single machine; use a store that all pods can reach, or mount the"
        " PersistentVolumeClaim that holds it with spec.compute.volumes"
    )


@pytest.mark.parametrize("uri", ["file:///data", "file:///data/general/", "file:///data/a%20b/*.parquet"])
@pytest.mark.parametrize("field", ["data.train[0].uri", "data.validation.sources[0].uri", "tokenizer.from.uri"])
def test_what_lies_on_a_volume_can_be_read(field: str, uri: str) -> None:
    assert made(view(compute__volumes=CORPORA, **reading(field, uri)))


@pytest.mark.parametrize("field", ["data.train[0].uri", "tokenizer.from.uri"])
def test_an_image_of_the_jobs_own_may_hold_models_and_data(field: str) -> None:
    assert made(view(compute__image="registry.example/ours:1", **reading(field, "file:///opt/models/bert")))


def test_a_source_without_credentials_is_read_with_those_of_the_storage() -> None:
    assert made(view(storage__secretRef={"name": "s3"}))
