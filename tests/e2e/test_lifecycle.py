"""Jobs end when they are told to, and leave nothing behind but themselves and what they made."""

from e2e import corpora
from e2e.world import Document, Namespace, condition

SECONDS = 180.0


def job(name: str, **spec: object) -> Document:
    """The chain's first job, on one worker."""
    [found, *_] = corpora.chain()
    found["metadata"]["name"] = name
    found["spec"] |= {"compute": {"workers": 1, "gpusPerWorker": 0}} | spec
    return found


RUNS = ("rayjobs", "rayclusters", "pods")
"""What holds machines, or tells how it went."""
SETTINGS = ("configmaps", "networkpolicies")
"""What else is made for a job."""


def wait_until_gone(team: Namespace, name: str) -> None:
    """Returns when nothing is left of what a job consisted of."""
    for kind in RUNS + SETTINGS:
        selector = ("-l", f"pretune.dev/name={name}")
        team.kubectl("wait", "--for=delete", f"--timeout={SECONDS:.0f}s", kind, *selector)
        assert team.items(kind, *selector) == []


def test_a_deadline_ends_a_job_and_a_time_to_live_removes_its_children(team: Namespace) -> None:
    team.apply(job("brief", activeDeadlineSeconds=15, ttlSecondsAfterFinished=1))
    status = team.wait_for_state("pretrainjob/brief", "Failed", SECONDS)
    assert condition(status, "Failed")["reason"] == "DeadlineExceeded"
    assert "15 s" in condition(status, "Failed")["message"]
    wait_until_gone(team, "brief")
    assert team.status("pretrainjob/brief")["state"] == "Failed"


def test_a_job_that_waits_for_its_parent_says_so_and_can_be_deleted(team: Namespace) -> None:
    team.apply(job("child", model={"from": {"pretrainJob": "nobody"}}, tokenizer=None))
    status = team.wait_for_state("pretrainjob/child", "Waiting", SECONDS)
    assert condition(status, "InputsResolved")["reason"] == "ParentMissing"
    assert "PretrainJob/nobody" in condition(status, "InputsResolved")["message"]
    team.delete("pretrainjob/child", "--timeout=30s")
    wait_until_gone(team, "child")


def test_a_job_that_cannot_be_scheduled_is_deleted_with_all_that_it_holds(team: Namespace) -> None:
    pending = job("pending", compute={"pool": "gpu", "workers": 2, "gpusPerWorker": 8})
    team.apply(pending)
    team.wait(
        "pretrainjob/pending",
        lambda status: condition(status, "Running").get("reason") == "Unschedulable",
        "to say that it is Unschedulable",
        SECONDS,
    )
    assert team.items("pods", "-l", "pretune.dev/name=pending") != [], "there is something to go"
    team.delete("pretrainjob/pending", "--timeout=30s")
    wait_until_gone(team, "pending")


def test_a_job_that_starts_is_deleted_with_its_pods(team: Namespace) -> None:
    team.apply(job("started"))
    team.wait_for_state("pretrainjob/started", "Starting", SECONDS)
    team.kubectl("wait", "--for=create", "--timeout=60s", "pods", "-l", "pretune.dev/name=started")
    team.delete("pretrainjob/started", "--timeout=30s")
    wait_until_gone(team, "started")
