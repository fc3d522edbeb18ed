"""`pretune logs NAME` on a real API server, where no operator is at work."""

from pathlib import Path

from e2e.cluster.control_plane import ControlPlane
from pretune_api.storage import Location
from pretune_trainer.storage.logs import DRIVER, LogWriter, log_folder, of_rank
from pretune_trainer.storage.store import Store
from support.job_world import World, pretrain
from support.kube_api import KubeApi
from support.shell import Shell


def write(job: Store, attempt: int, process: str, said: bytes) -> None:
    """What a process of an attempt has said."""
    writer = LogWriter(log_folder(job, attempt, process))
    writer.add(said)
    writer.flush()


def test_logs_by_name_are_those_of_the_last_attempt_and_are_followed_until_it_has_ended(
    plane: ControlPlane, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    world = World(api, namespace)
    job = pretrain("logged", storage={"uri": (tmp_path / "storage").as_uri()})
    uid = world.apply(job)["metadata"]["uid"]
    folder = f"{namespace}/pretrainjob-logged-{uid[:8]}"
    store = Store.open(Location(uri=(tmp_path / "storage" / folder).as_uri()))
    ended = {"completionTime": "2026-11-21T12:00:00Z", "cause": "Network"}
    attempts = [{"number": number, "rayJob": f"ptj-logged-{number}", **ended} for number in (1, 2)]
    api.merge(f"{world.path(job)}/status", {"status": {"attempts": attempts, "attemptCount": 2}})
    write(store, 1, DRIVER, b"the first attempt\n")
    write(store, 2, DRIVER, b"the second attempt\n")
    write(store, 2, of_rank(1), b"rank 1 of the second attempt\n")
    shell = Shell(plane.kubeconfig, namespace)
    assert shell.pretune("logs", "logged").stdout == "the second attempt\n"
    assert shell.pretune("logs", "logged", "--attempt", "1").stdout == "the first attempt\n"
    assert shell.pretune("logs", "pretrainjob/logged", "--rank", "1").stdout == "rank 1 of the second attempt\n"
    followed = shell.pretune("logs", "logged", "--follow")
    assert (followed.returncode, followed.stdout) == (0, "the second attempt\n")
