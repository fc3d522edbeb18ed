"""What a valid job asks for that this cluster does not have: a pool, a store that pods can reach."""

from typing import Any

import pytest

from pretune_operator.errors import UnfitError
from pretune_operator.job import JobView
from pretune_operator.pools import pool_of
from pretune_operator.rayjob import Manifests, manifests
from support.views import planned, settings, view


def made(job: JobView) -> Manifests:
    return manifests(job, planned(job), 1, settings())


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
            {"storage__uri": "file:///models"},
            "spec.storage.uri: file:///models is on a single machine; use a store that all pods can reach",
        ),
        (
            {"storage__uri": "pvc://models/a"},
            "spec.storage.uri: pvc:// is not supported yet; use s3://, gs:// or az://",
        ),
    ],
)
def test_stores_that_pods_cannot_reach_are_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnfitError) as error:
        made(view(**changes))
    assert str(error.value) == sentence


def test_a_source_without_credentials_is_read_with_those_of_the_storage() -> None:
    assert made(view(storage__secretRef={"name": "s3"}))
