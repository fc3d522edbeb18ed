"""Jobs that share a quota through Kueue: one waits, one gives way to a more important one and goes on where it was."""

import pytest

from e2e import corpora
from e2e.cluster.cluster import Cluster
from e2e.conftest import Installation
from e2e.world import Document, Namespace, as_yaml, condition

pytestmark = pytest.mark.long

START_SECONDS = 400.0
GROUP = "kueue.x-k8s.io/v1beta2"


def training(name: str, steps: int, priority: str) -> Document:
    """The chain's first job under another name, in the queue."""
    [job, *_] = corpora.chain()
    labels = {"kueue.x-k8s.io/queue-name": "team", "kueue.x-k8s.io/priority-class": priority}
    job["metadata"] = {"name": name, "labels": labels}
    job["spec"]["training"]["maxSteps"] = steps
    return job


@pytest.fixture(scope="module")
def queue(team: Namespace, kueue: Cluster) -> Namespace:
    """A queue with room for one job of three pods."""
    flavor = {"apiVersion": GROUP, "kind": "ResourceFlavor", "metadata": {"name": "any"}}
    resources = [{"name": "cpu", "nominalQuota": "100"}, {"name": "memory", "nominalQuota": "1Ti"}]
    resources += [{"name": "pods", "nominalQuota": "4"}, {"name": "ephemeral-storage", "nominalQuota": "1Ti"}]
    groups = [
        {
            "coveredResources": [resource["name"] for resource in resources],
            "flavors": [{"name": "any", "resources": resources}],
        }
    ]
    cluster_queue = {
        "apiVersion": GROUP,
        "kind": "ClusterQueue",
        "metadata": {"name": "gpus"},
        "spec": {
            "namespaceSelector": {},
            "resourceGroups": groups,
            "preemption": {"withinClusterQueue": "LowerPriority"},
        },
    }
    priorities = [
        {"apiVersion": GROUP, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        for name, value in (("low", 1), ("high", 1_000))
    ]
    kueue.kubectl("apply", "-f", "-", document=as_yaml((flavor, cluster_queue, *priorities)))
    team.apply(
        {"apiVersion": GROUP, "kind": "LocalQueue", "metadata": {"name": "team"}, "spec": {"clusterQueue": "gpus"}}
    )
    return team


def test_a_job_waits_for_quota_is_preempted_and_resumes(queue: Namespace, installation: Installation) -> None:
    queue.apply(training("low", 3_000, "low"))
    queue.wait_for_step("pretrainjob/low", 60, START_SECONDS)
    queue.apply(training("patient", 10, "low"))
    status = queue.wait_for_state("pretrainjob/patient", "Queued", 60.0)
    assert condition(status, "QuotaReserved")["status"] == "False"

    queue.apply(training("high", 10, "high"))
    queue.wait_for_state("pretrainjob/low", "Queued", 180.0)
    drained = installation.last_commit(queue, "pretrainjob/low")
    queue.wait_for_state("pretrainjob/high", "Succeeded", START_SECONDS)

    status = queue.wait(
        "pretrainjob/low", lambda status: status["attempts"][-1]["runs"] == 2, "to run again", START_SECONDS
    )
    assert status["attemptCount"] == 1
    assert status["progress"]["step"] >= drained
    queue.delete("pretrainjob/low")
    queue.wait_for_state("pretrainjob/patient", "Starting", 120.0)
