"""Names: the same for the same attempt, never the same for two, and such that Kubernetes and KubeRay take them."""

import re
from dataclasses import replace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pretune_api.names import Label
from pretune_operator.job import JobView
from pretune_operator.naming import LONGEST, attempt_labels, attempt_metadata, attempt_name
from support.specs import FINETUNE, PRETRAIN
from support.views import view

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
job_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
numbers = st.integers(1, 100_000)


def named(name: str, kind: dict[str, Any] = PRETRAIN, uid: str = "0123abcd-3a55") -> JobView:
    return view(kind | {"metadata": {"name": name}}, uid=uid)


@given(job_names, numbers, st.sampled_from([PRETRAIN, FINETUNE]), st.uuids())
def test_every_name_is_one_that_kuberay_takes(name: str, number: int, kind: dict[str, Any], uid: UUID) -> None:
    made = attempt_name(named(name, kind, str(uid)), number)
    assert DNS_1035.fullmatch(made)
    assert len(made) <= LONGEST


@given(job_names, numbers, numbers)
def test_attempts_of_a_job_have_names_of_their_own(name: str, one: int, other: int) -> None:
    assert (attempt_name(named(name), one) == attempt_name(named(name), other)) == (one == other)


def test_a_name_says_kind_job_and_attempt() -> None:
    assert re.fullmatch(r"ptj-general-[0-9a-f]{8}-1", attempt_name(named("general"), 1))
    assert re.fullmatch(r"ftj-general-[0-9a-f]{8}-12", attempt_name(named("general", FINETUNE), 12))


def test_a_job_that_was_deleted_and_made_anew_gets_other_names() -> None:
    assert attempt_name(named("general", uid="0123abcd-0001"), 1) != attempt_name(
        named("general", uid="0123abcd-0002"), 1
    )


def test_jobs_that_differ_only_in_the_end_of_a_long_name_do_not_share_names() -> None:
    assert attempt_name(named("a" * 62 + "b"), 1) != attempt_name(named("a" * 62 + "c"), 1)


def test_labels_lead_from_an_attempt_back_to_its_job() -> None:
    job = named("general", FINETUNE)
    assert attempt_labels(job, 3) == {
        Label.KIND: "finetunejob",
        Label.NAME: "general",
        Label.UID: job.uid,
        Label.ATTEMPT: "3",
    }


def test_the_job_owns_its_attempts_and_passes_on_no_notes_of_other_tools() -> None:
    job = replace(named("general"), labels={"app.kubernetes.io/managed-by": "Helm"})
    metadata = attempt_metadata(job, 1)
    [owner] = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("PretrainJob", "general", job.uid)
    assert metadata["namespace"] == job.namespace
    assert owner["controller"]
    assert not owner["blockOwnerDeletion"]
    assert set(metadata["labels"]) == {str(label) for label in (Label.KIND, Label.NAME, Label.UID, Label.ATTEMPT)}
    assert "annotations" not in metadata
