"""What pods are made of and told where a job has kept the image of a trainer that is older than the operator."""

from dataclasses import replace
from typing import Any

from pretune_api.status import Status
from pretune_operator.plan import Inputs, plan
from pretune_operator.preflight_job import preflight_job
from pretune_operator.rayjob import manifests
from support.views import settings, view

Json = dict[str, Any]

JOB = replace(view(), status=Status(image="registry.test/pretrain:0"))
CONFIG = plan(JOB.resource, Inputs(JOB.uid, JOB.namespace, ranks=1, device="cuda"))
RAY_JOB: Json = manifests(JOB, CONFIG, 2, settings(drainSeconds=90)).ray_job["spec"]
PREFLIGHT: Json = preflight_job(JOB, CONFIG, 2, settings())["spec"]


def containers() -> dict[str, Json]:
    cluster = RAY_JOB["rayClusterSpec"]
    made = {"head": cluster["headGroupSpec"], "worker": cluster["workerGroupSpecs"][0], "preflight": PREFLIGHT}
    return {name: group["template"]["spec"]["containers"][0] for name, group in made.items()}


def test_all_pods_of_a_job_have_the_image_that_it_has_kept() -> None:
    assert {container["image"] for container in containers().values()} == {"registry.test/pretrain:0"}


def test_older_trainers_are_started_and_stopped_by_the_words_that_they_know() -> None:
    program = ["python", "-m"]
    main = ["pretune_trainer.main", "/etc/pretune/run.json", "--metrics-port", "9464", "--desk-port", "9465"]
    assert RAY_JOB["entrypoint"].split() == [*program, *main]
    assert containers()["preflight"]["command"] == [*program, "pretune_trainer.preflight", "/etc/pretune/run.json"]
    drain = [*program, "pretune_trainer.drive.drain", "--seconds"]
    assert stop(containers()["worker"]) == [*drain, "90"]
    assert stop(containers()["head"]) == [*drain, "105", "--linger", "7"]


def stop(container: Json) -> list[str]:
    command: list[str] = container["lifecycle"]["preStop"]["exec"]["command"]
    return command
