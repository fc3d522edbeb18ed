"""What `pretune status` says of a job that does not run: why, in the word and the sentence of the operator."""

import io
from dataclasses import replace

from rich.console import Console

from pretune_api.run_config import JobRef
from pretune_api.storage import Storage
from pretune_cli.cluster import SeenJob
from pretune_cli.watching import overview, why
from pretune_operator.observed import ParentState, SeenPreflight
from support.preflights import POD
from support.scene import Scene, complete, failing, parent, running
from support.specs import FINETUNE


def seen(scene: Scene) -> SeenJob:
    """The job of a scene, as a user sees it."""
    kind, name = scene.document["kind"], scene.document["metadata"]["name"]
    ref = JobRef(namespace="team", kind=kind, name=name, uid="0123-4567")
    return SeenJob(ref, scene.generation, Storage(uri="s3://models/team"), scene.status)


def told(scene: Scene) -> str:
    """What is shown below the job's line."""
    output = io.StringIO()
    Console(file=output, width=400).print(overview([seen(scene)]))
    return "".join(output.getvalue().splitlines()[1:]).strip()


def test_while_its_preflight_runs_a_job_is_being_checked() -> None:
    scene = Scene(preflight=True)
    scene.settle()
    assert scene.status.state == "Waiting"
    assert told(scene).startswith("Checking: Job ptj-general-")
    assert told(scene).endswith("-preflight-1 is checking storage, data and model before the next attempt.")


def test_what_keeps_a_preflight_from_starting_is_told() -> None:
    scene = Scene(preflight=True)
    scene.settle()
    pod = replace(POD, phase="Pending", unschedulable="0/3 nodes are available")
    scene.sees(preflights={1: SeenPreflight(1, "preflight-1", pod=pod)}).settle()
    assert told(scene) == f"Checking: {POD.name} cannot be scheduled: 0/3 nodes are available"


def test_a_parent_that_runs_and_a_pause_are_told() -> None:
    child = Scene(FINETUNE).sees(parents={"PretrainJob/general": parent(ParentState.RUNNING)})
    child.settle()
    assert told(child).startswith("ParentRunning: ")
    failed = Scene()
    failed.settle()
    failed.sees(failing("Network", "no route")).settle()
    assert told(failed).startswith("BackingOff: no route; the next attempt starts at ")


def test_the_cause_of_a_failure_is_told() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(failing("UserError", "row 7 is empty")).settle()
    assert told(scene).startswith("UserError: row 7 is empty. To continue: ")


def test_what_a_pod_has_said_does_nothing_to_the_terminal_of_who_reads_it() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(failing("UserError", "row 7 \x1b]52;c;cm0gLXJm\x07 is empty")).settle()
    assert told(scene).startswith("UserError: row 7 \\x1b]52;c;cm0gLXJm\\x07 is empty")


def test_nothing_has_to_be_explained_of_a_job_that_runs_or_has_succeeded() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    assert why(seen(scene)) is None
    scene.sees(complete()).settle()
    assert scene.status.state == "Succeeded"
    assert why(seen(scene)) is None
