"""Jobs run after those whose models they take, and a chain without a beginning is refused."""

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_api.jobs import Job
from pretune_api.problems import parse
from pretune_cli import yaml
from pretune_cli.chain import order, parents_first
from pretune_cli.documents import load
from pretune_trainer.errors import UserError
from support.job_files import continued, finetune, pretrain


def job(text: str) -> Job:
    document = yaml.value(text.replace("./corpus", "s3://corpus").replace("../out/", "s3://out"), "job.yaml")
    return parse(document)


def names(jobs: list[Job]) -> list[str]:
    return [job.metadata.name for job in jobs]


def test_parents_come_first_whatever_the_order_of_the_files() -> None:
    chain = [job(pretrain("general")), job(continued("domain", "general")), job(finetune("chat", "domain"))]
    for shuffled in permutations(chain):
        assert names(order(shuffled)) == ["general", "domain", "chat"]


def test_an_order_that_works_is_kept() -> None:
    jobs = [job(pretrain("a")), job(finetune("b", "a")), job(pretrain("c")), job(finetune("d", "a"))]
    assert names(order(jobs)) == ["a", "b", "c", "d"]


def test_a_tokenizer_makes_its_job_a_parent_too() -> None:
    borrowed = pretrain("own", "  model: {architecture: {type: llama}}\n  tokenizer: {from: {pretrainJob: general}}")
    assert names(order([job(borrowed), job(pretrain("general"))])) == ["general", "own"]


def test_jobs_of_two_kinds_may_share_a_name() -> None:
    assert [job.kind for job in order([job(finetune("x", "x")), job(pretrain("x"))])] == ["PretrainJob", "FinetuneJob"]


def test_a_parent_that_is_in_no_file_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UserError) as caught:
        order([job(pretrain("general")), job(finetune("chat", "genral"))])
    assert str(caught.value) == (
        "FinetuneJob/chat spec.model.from: PretrainJob/genral is not defined in any of the files; "
        "did you mean PretrainJob/general?"
    )


def test_a_job_alone_whose_parent_is_in_no_file_is_told_to_add_it() -> None:
    told = "PretrainJob/x is not defined in any of the files; add the file that defines it"
    with pytest.raises(UserError, match=told):
        order([job(finetune("chat", "x"))])


def test_a_circle_is_told_by_its_members() -> None:
    jobs = [job(finetune("z", "a")), job(continued("a", "b")), job(continued("b", "c")), job(continued("c", "a"))]
    for check in (order, parents_first):
        with pytest.raises(UserError) as caught:
            check(jobs)
        assert str(caught.value) == (
            "PretrainJob/a spec: takes its model or tokenizer from itself: "
            "PretrainJob/a <- PretrainJob/b <- PretrainJob/c <- PretrainJob/a"
        )


def test_a_job_that_is_its_own_parent_is_a_circle() -> None:
    with pytest.raises(UserError, match="from itself: PretrainJob/a <- PretrainJob/a"):
        order([job(continued("a", "a"))])


def test_a_parent_elsewhere_is_no_circle() -> None:
    assert names(parents_first([job(finetune("chat", "in-the-cluster"))])) == ["chat"]


@settings(max_examples=40)
@given(st.data(), st.integers(1, 8))
def test_in_any_forest_every_job_comes_after_its_parent(data: st.DataObject, size: int) -> None:
    parents = [data.draw(st.integers(-1, index - 1)) for index in range(size)]
    texts = [pretrain(f"j{i}") if parent < 0 else continued(f"j{i}", f"j{parent}") for i, parent in enumerate(parents)]
    jobs = data.draw(st.permutations([job(text) for text in texts]))
    place = {name: index for index, name in enumerate(names(order(jobs)))}
    assert all(parent < 0 or place[f"j{parent}"] < place[f"j{index}"] for index, parent in enumerate(parents))
    assert len(place) == size


def test_the_demo_is_a_chain() -> None:
    demo = load([Path(__file__).parents[2] / "examples" / "demo" / "chain.yaml"])
    assert order([document.job for document in demo])[0].metadata.name == "general"
