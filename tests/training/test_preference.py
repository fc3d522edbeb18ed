"""Preferences: the loss of the paper, against log-probabilities of the model before training."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pretune_api.model import Architecture
from pretune_api.preference import Preference as Spec
from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.data.example import Example, Pack, Place, Row
from pretune_trainer.errors import BadRowError
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent, Step
from pretune_trainer.result import RankResult
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.preference import Preference
from support.group import in_ranks
from support.jobs import Recorder, finetune, pretrain, write_rows
from support.language import TINY, small_tokenizer
from support.runs import as_parent, gathered, run_until

PLAIN = {"text": "Is a list ordered?", "chosen": " Yes, it is.", "rejected": " No."}
TALK = {
    "text": [{"role": "user", "content": "Is a list ordered?"}],
    "chosen": [{"role": "assistant", "content": "Yes, it is."}],
    "rejected": [{"role": "assistant", "content": "No."}],
}


def preference(length: int = 64, **fields: Any) -> Preference:
    return Preference(Context(Spec(**fields), copy.deepcopy(small_tokenizer()), length, False, False, 0))


def row(values: dict[str, Any]) -> Row:
    return Row(values, Place("file:///pairs.jsonl", 7), "text")


def example(task: Preference, values: dict[str, Any]) -> Example:
    ((found,),) = task.examples([row(values)])
    return found


def answers(task: Preference, found: Example) -> list[str]:
    """What each of the two rows is taught to say."""
    targets = task.batch([Pack((found,))]).targets["lm"]
    return [task.tokenizer.decode(each[each != IGNORED]) for each in targets]


def test_answers_in_text_are_learnt_with_their_end() -> None:
    task = preference()
    found = example(task, PLAIN)
    assert task.tokenizer.decode(found["ids"]) == "<s>Is a list ordered? Yes, it is.</s>"
    assert answers(task, found) == [" Yes, it is.</s>", " No.</s>"]


def test_answers_in_messages_are_learnt_as_the_template_ends_them() -> None:
    task = preference()
    found = example(task, TALK)
    opened = "<s><|user|>\nIs a list ordered?</s>\n<|assistant|>\n"
    assert task.tokenizer.decode(found["ids"][: int(found["before"][0])]) == opened
    assert answers(task, found) == ["Yes, it is.</s>\n", "No.</s>\n"]


@pytest.mark.parametrize("alone", [False, True], ids=["lists", "alone"])
@pytest.mark.parametrize("names", [("role", "content"), ("from", "value")])
def test_answers_in_turns_of_sharegpt_or_alone_are_the_same(names: tuple[str, str], alone: bool) -> None:
    speakers = {"user": "human", "assistant": "gpt"} if names[0] == "from" else {}
    told: dict[str, Any] = {
        column: [dict(zip(names, (speakers.get(turn["role"], turn["role"]), turn["content"]), strict=True))]
        for column, (turn,) in TALK.items()
    }
    if alone:
        told |= {column: told[column][0] for column in ("chosen", "rejected")}
    expected, found = example(preference(), TALK), example(preference(), told)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in expected.items()
    }


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_end() -> None:
    task = preference(length=16)
    found = example(task, {**PLAIN, "text": "why? " * 30})
    assert len(found["ids"]) == 16
    assert answers(task, found) == [" Yes, it is.</s>", " No.</s>"]
    found = example(task, {**PLAIN, "chosen": " because" * 30})
    assert len(found["ids"]) == 16
    assert int(found["before"][0]) == 1


def test_pairs_without_a_difference_are_left_out() -> None:
    others = [{"rejected": PLAIN["chosen"]}, {"chosen": ""}, {"rejected": " "}, {"text": "", "chosen": " a"}]
    same, silent, blank, bare = preference().examples([row(PLAIN | other) for other in others])
    assert (same, silent, blank, len(bare)) == ([], [], [], 1)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({**PLAIN, "chosen": 3}, r"row 7: 'text', 'chosen' and 'rejected' must be three texts, or three lists of"),
        ({**TALK, "text": "Is a list ordered?"}, r"row 7: .* they are str, list, list"),
        ({**TALK, "text": TALK["text"][0]}, r"row 7: .* they are dict, list, list"),
        (
            {**TALK, "chosen": {"from": "bot", "value": "Yes."}},
            r"row 7 chosen: from 'bot' is unknown; known: system, human",
        ),
        ({"text": "a", "chosen": "b"}, r"row 7: there is no column 'rejected'; known: chosen, text"),
        (
            {**TALK, "chosen": [{"role": "assistant"}]},
            r"row 7 chosen\[0\]: a message must be an object with role and content",
        ),
        ({**TALK, "chosen": ["Yes."]}, r"row 7 chosen\[0\]: a message must be an object with role and content"),
        ({**TALK, "text": [3]}, r"row 7 text\[0\]: a message must be an object with role and content"),
        ({**TALK, "chosen": [{"role": "gpt", "content": "Yes."}]}, r"row 7 chosen\[0\]: role 'gpt' is unknown; known"),
        (
            {**TALK, "chosen": TALK["text"]},
            r"row 7: the formatted prompt and answer do not begin with the formatted prompt; let an answer begin",
        ),
    ],
)
def test_a_bad_pair_is_named_with_its_row(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRowError, match=f"file:///pairs.jsonl {sentence}"):
        list(preference().examples([row(values)]))


def test_the_loss_is_the_paper_s() -> None:
    task = preference(beta=0.3)
    model = Build(Architecture(type="llama", config=TINY["llama"]), small_tokenizer(), 64).make(AutoModelForCausalLM)
    other = {**PLAIN, "text": "Is a set ordered?", "chosen": " No.", "rejected": " Yes, certainly it is."}
    examples = [example(task, PLAIN), example(task, other)]
    references = np.array([[-20.0, -11.0], [-9.0, -30.0]], np.float32)
    packs = [Pack(({**each, "reference": reference},)) for each, reference in zip(examples, references, strict=True)]
    batch = task.batch([*packs, Pack()])
    expected = 0.0
    for each, (chosen, rejected) in zip(examples, references.tolist(), strict=True):
        gains = [
            _log_probability(model, each[name], int(each["before"][0])) - before
            for name, before in (("ids", chosen), ("rejected", rejected))
        ]
        expected += float(np.logaddexp(0.0, -0.3 * (gains[0] - gains[1])))
    assert batch.counts == {"preference": 2}
    assert float(task.loss(model, batch)["preference"].detach()) == pytest.approx(expected, rel=1e-5)
    outcomes = task.evaluate(model.eval(), batch)
    assert sum(outcome.loss for outcome in outcomes) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "architecture",
    [
        {"type": "gpt2", "config": TINY["gpt2"] | {"embd_pdrop": 0.3, "resid_pdrop": 0.3, "attn_pdrop": 0.3}},
        {"type": "llama", "config": TINY["llama"] | {"attention_dropout": 0.3}},
    ],
    ids=lambda architecture: architecture["type"],
)
def test_nothing_is_gained_before_the_first_step(architecture: dict[str, Any]) -> None:
    task = preference()
    model = task.model(Build(Architecture.model_validate(architecture), task.tokenizer, 64))
    found = example(task, PLAIN)
    (before,) = task.evaluate(model.eval(), task.batch([Pack((found,))]))
    batch = task.batch([Pack(({**found, "reference": task.reference(before)},))])
    torch.testing.assert_close(task.loss(model.train(), batch)["preference"].detach(), torch.tensor(2.0).log())


def _log_probability(model: torch.nn.Module, ids: Any, before: int) -> float:
    """Of what follows the first tokens, one softmax a token."""
    total = 0.0
    with torch.no_grad():
        for place in range(before, len(ids)):
            logits = model(input_ids=torch.tensor([ids[:place].tolist()])).logits[0, -1].double()
            total += float(logits.log_softmax(-1)[int(ids[place])])
    return total


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    config = pretrain(tmp_path_factory.mktemp("parent"), training__max_steps=4)
    return as_parent(run_rank(config, Ranks(), Silent()))


def preferring(folder: Path, parent: Folder, **changes: Any) -> RunConfig:
    """The run config that learns to say yes to everything."""
    pairs = (
        {"prompt": f"Is {number} a number?", "chosen": " Yes, it is.", "rejected": f" No, {number} is none."}
        for number in range(60)
    )
    source = {"uri": write_rows(folder / "pairs.jsonl", pairs), "column": "prompt"}
    fields = {"data__train": [source], "evaluation": {"baseline": True, "everySteps": 4}, "checkpoint__every_steps": 4}
    return finetune(folder, {"preference": {}}, source["uri"], parent, **fields | changes)


def test_answers_are_masked_and_tell_pairs_of_the_same_prompt_apart(tmp_path: Path, parent: Folder) -> None:
    pairs = [{**PLAIN, "chosen": f" Ask {name}@mail.org.", "rejected": f" No {name}."} for name in ("ann", "bob")]
    uri = write_rows(tmp_path / "pairs.jsonl", iter([*pairs, pairs[0]]))
    cleaning = {"duplicates": "exact", "mask": ["emailAddress"]}
    inputs = gathered(
        finetune(tmp_path, {"preference": {}}, uri, parent, data__cleaning=cleaning, data__validation=None)
    )
    assert inputs.clean is not None
    assert inputs.clean.report.dropped == {"duplicate": 1}
    assert isinstance(inputs.task, Preference)
    (source,) = inputs.cache.train
    said = [answers(inputs.task, source.example(index)) for index in range(len(source))]
    assert said == [[" Ask |||EMAIL_ADDRESS|||.</s>", f" No {name}.</s>"] for name in ("ann", "bob")]


def _run(ranks: Ranks, config: RunConfig) -> tuple[RankResult, list[Step], list[Evaluated]]:
    recorder = Recorder()
    result = run_rank(config, ranks, recorder)
    return result, recorder.of(Step), recorder.of(Evaluated)


def test_what_is_preferred_becomes_likelier_than_before(tmp_path: Path, parent: Folder) -> None:
    _, steps, evaluated = _run(Ranks(), preferring(tmp_path, parent))
    before, *_, after = (each.metrics for each in evaluated)
    assert before == pytest.approx({"loss": float(np.log(2)), "rewardAccuracy": 0.0, "rewardMargin": 0.0}, abs=1e-6)
    assert steps[0].loss == pytest.approx(float(np.log(2)), abs=1e-6)
    assert after["rewardAccuracy"] == 1.0
    assert after["loss"] < before["loss"]
    assert after["rewardMargin"] > 0.0


@pytest.mark.parametrize("method", [{"full": {}}, {"lora": {"rank": 4}}], ids=["full", "lora"])
def test_a_run_that_is_stopped_compares_with_the_same_model_afterwards(
    tmp_path: Path, parent: Folder, method: dict[str, Any]
) -> None:
    whole = run_rank(preferring(tmp_path / "whole", parent, method=method), Ranks(), Silent())
    config = preferring(tmp_path / "stopped", parent, method=method)
    run_until(Ranks(), config, 4)
    (kept,) = (tmp_path / "stopped").rglob("reference/*.npy")
    written = kept.stat().st_mtime_ns
    resumed = run_rank(config, Ranks(), Silent())
    assert resumed.metrics == whole.metrics
    assert kept.stat().st_mtime_ns == written


def test_two_ranks_prefer_as_one_does(tmp_path: Path, parent: Folder) -> None:
    _, steps, evaluated = _run(Ranks(), preferring(tmp_path / "one", parent))
    (_, others, judged), *_ = in_ranks(2, _run, preferring(tmp_path / "two", parent))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-5)
    for one, other in zip(evaluated, judged, strict=True):
        assert other.metrics == pytest.approx(one.metrics, abs=1e-5)


def test_one_rank_goes_on_with_what_two_have_committed(tmp_path: Path, parent: Folder) -> None:
    """Their first run computes the reference before it knows what to commit."""
    _, whole, _ = _run(Ranks(), preferring(tmp_path / "whole", parent, evaluation={}))
    config = preferring(tmp_path / "stopped", parent, evaluation={})
    in_ranks(2, run_until, config, 3)
    _, steps, _ = _run(Ranks(), config)
    assert 3 < steps[0].step < len(whole)
    following = whole[steps[0].step - 1 :]
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in following], abs=1e-5)
