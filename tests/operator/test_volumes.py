"""Claims with data and models: mounted where these are read, and nowhere else."""

from typing import Any

from pretune_operator.pods import preflight_pod
from pretune_operator.rayjob import manifests
from support.views import planned, settings, view

VOLUMES = [{"claim": "corpora", "mountPath": "/data"}, {"claim": "models.v2", "mountPath": "/mnt/models"}]


def pods(**changes: Any) -> dict[str, dict[str, Any]]:
    """The specs of a job's pods, by what they do."""
    job = view(**changes)
    cluster = manifests(job, planned(job), 1, settings()).ray_job["spec"]["rayClusterSpec"]
    templates = {
        "head": cluster["headGroupSpec"]["template"],
        "worker": cluster["workerGroupSpecs"][0]["template"],
        "preflight": preflight_pod(job, 1, planned(job), settings()),
    }
    return {name: template["spec"] for name, template in templates.items()}


def claims(pod: dict[str, Any]) -> dict[str, str]:
    """The claims that a pod mounts, by where; all of them so that nothing can be written."""
    [container] = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert len(mounts) == len(container["volumeMounts"]) == len(pod["volumes"])
    found = {}
    for volume in pod["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            mount = mounts[volume["name"]]
            assert claim["readOnly"] is mount["readOnly"] is True
            found[mount["mountPath"]] = claim["claimName"]
    return found


def test_workers_and_preflights_mount_the_volumes_and_the_head_does_not() -> None:
    made = pods(compute__volumes=VOLUMES, data__train=[{"uri": "file:///data/general/*.parquet"}])
    assert claims(made["worker"]) == claims(made["preflight"]) == {"/data": "corpora", "/mnt/models": "models.v2"}
    assert claims(made["head"]) == {}


def test_no_kubelet_changes_the_owners_of_what_is_on_a_volume() -> None:
    made = pods(compute__volumes=VOLUMES)
    assert not any("fsGroup" in pod["securityContext"] for pod in made.values())


def test_a_job_without_volumes_has_none() -> None:
    assert all(claims(pod) == {} for pod in pods().values())


def test_a_run_is_told_nothing_of_volumes() -> None:
    assert planned(view(compute__volumes=VOLUMES)) == planned(view())
