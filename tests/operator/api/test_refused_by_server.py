"""The three lists of bad specs, put before a real API server."""

from typing import Any

import pytest

from e2e.cluster.control_plane import ControlPlane
from pretune_api import FinetuneJob, PretrainJob
from pretune_api.problems import parse
from support.api_server import ApiServer
from support.job_world import PLURALS
from support.kube_api import KubeApi, RefusedError
from support.specs import PRETRAIN, changed, listed

Document = dict[str, Any]

SENTENCES = ApiServer(PretrainJob).rule_messages | ApiServer(FinetuneJob).rule_messages
"""What our rules say."""


def dry_run(api: KubeApi, document: Document) -> Document:
    """What the API server would store; nothing is."""
    path = f"/apis/pretune.dev/v1alpha1/namespaces/default/{PLURALS[document['kind']]}"
    return api.create(f"{path}?dryRun=All&fieldValidation=Strict", document)


def refusal(api: KubeApi, document: Document) -> str:
    with pytest.raises(RefusedError) as refused:
        dry_run(api, document)
    return str(refused.value)


@pytest.mark.parametrize(("document", "says"), listed("refused_by_both"))
def test_the_api_server_refuses_it_where_the_models_do_and_a_rule_in_its_words(
    api: KubeApi, document: Document, says: str
) -> None:
    place, _, sentence = says.partition(": ")
    said = refusal(api, document)
    assert place in said
    assert sentence not in SENTENCES or sentence in said


@pytest.mark.parametrize(("document", "says"), listed("refused_by_decoding"))
def test_strict_decoding_refuses_an_unknown_field(api: KubeApi, document: Document, says: str) -> None:
    assert f'unknown field "{says.partition(": ")[0]}"' in refusal(api, document)


@pytest.mark.parametrize("document", [entry.values[0] for entry in listed("refused_at_preflight")])
def test_what_only_transformers_knows_is_accepted(api: KubeApi, document: Document) -> None:
    assert dry_run(api, document)["kind"] == document["kind"]


def test_volumes_beside_each_other_are_accepted_by_both(api: KubeApi) -> None:
    paths = ["/data", "/database", "/mnt/models.v2", "/mnt/models", "/srv/models/.cache", "/library", "/lustre/fs-1"]
    volumes = [{"claim": f"c{number}", "mountPath": path} for number, path in enumerate(paths)]
    document = changed(PRETRAIN, {"spec.compute.volumes": volumes})
    assert dry_run(api, document)["spec"]["compute"]["volumes"] == volumes
    assert [volume.mount_path for volume in parse(document).spec.compute.volumes] == paths


def test_what_shapes_a_job_cannot_be_changed(plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    path = f"/apis/pretune.dev/v1alpha1/namespaces/{namespace}/pretrainjobs"
    api.create(path, changed(PRETRAIN, {"spec.model.architecture.config.rope": {"full": {"factor": 1}}}))
    deep = {"model": {"architecture": {"config": {"rope": {"full": {"factor": 2}}}}}}
    for spec in ({"training": {"maxSteps": 11}}, deep):
        with pytest.raises(RefusedError, match="cannot be changed"):
            api.merge(f"{path}/general", {"spec": spec})
    assert api.merge(f"{path}/general", {"spec": {"compute": {"workers": 2}}})["spec"]["compute"]["workers"] == 2


def test_kubectl_explains_every_field_and_shows_a_job_in_a_line(
    plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    assert "Optimizer, learning rate schedule" in plane.kubectl("explain", "pretrainjob.spec")
    api.create(f"/apis/pretune.dev/v1alpha1/namespaces/{namespace}/pretrainjobs", PRETRAIN)
    header, line = plane.kubectl("get", "pretrainjobs", "--namespace", namespace).splitlines()
    assert header.split() == ["NAME", "STATE", "STAGE", "PROGRESS", "ATTEMPTS", "AGE"]
    assert line.startswith("general")
