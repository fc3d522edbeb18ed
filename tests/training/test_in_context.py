"""A language model is asked for labels before it is trained: by its prompt alone, with or without examples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.baseline import in_context_design, in_context_inputs
from pretune_trainer.errors import StopRequestedError, UserError
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent
from pretune_trainer.tasks.in_context import InContext
from support.group import in_ranks
from support.jobs import Recorder, classification, finetune, pretrain, write_rows
from support.language import paragraphs
from support.runs import as_parent

LABELS = ["short", "long"]
PROMPT = "text: {text}\nlength: {label}"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A language model of four steps, with positions for some short texts."""
    config = pretrain(tmp_path_factory.mktemp("parent"), data__sequence_length=256, training__max_steps=4)
    return as_parent(run_rank(config, Ranks(), Silent()))


def asking(folder: Path, parent: Folder, shown: int = 0, word_for: str = "long", **changes: Any) -> RunConfig:
    """The run config of a fine-tuning whose parent is asked how long short texts are."""
    rows = ({"text": text[:60], "label": LABELS[len(text) > 40]} for text in paragraphs()[:120])
    task = {"labels": LABELS, "inContext": {"prompt": PROMPT, "examplesPerClass": shown, "words": {word_for: "big"}}}
    uri = write_rows(folder / "rows.jsonl", rows)
    fields = {"evaluation": {"baseline": True}, "training__max_steps": 4, "checkpoint": {"everySteps": 2}}
    return finetune(folder, {"sequenceClassification": task}, uri, parent, **fields | changes)


def first(recorder: Recorder) -> dict[str, float]:
    """Figures of the evaluation before the first step."""
    [before, _] = recorder.of(Evaluated)
    assert before.step == 0
    found: dict[str, float] = before.metrics
    return found


def asked(config: RunConfig) -> Inputs:
    """What the parent is asked."""
    inputs = gather_inputs(config, Ranks(), Silent())
    design = in_context_design(inputs)
    assert design is not None
    return in_context_inputs(design, inputs, Ranks(), Silent())


def prompted(config: RunConfig) -> InContext:
    task = asked(config).task
    assert isinstance(task, InContext)
    return task


def log_likelihoods(parent: Folder, texts: Iterator[str]) -> torch.Tensor:
    """Of each label behind each text, as transformers finds it: [texts, labels]."""
    folder = parent.uri.removeprefix("file://")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    found = []
    for text in texts:
        before = tokenizer(f"text: {text}", add_special_tokens=False)["input_ids"]
        for word in ("short", "big"):
            answer = tokenizer(f"\nlength: {word}", add_special_tokens=False)["input_ids"]
            ids = torch.tensor([*begin, *before, *answer])
            with torch.no_grad():
                scores = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            found.append(scores[-len(answer) - 1 : -1].gather(1, ids[-len(answer) :, None]).sum())
    return torch.stack(found).reshape(-1, 2)


def test_figures_are_those_of_the_parents_own_likelihoods(tmp_path: Path, parent: Folder) -> None:
    held_out = [{"text": text[:60], "label": LABELS[len(text) > 40]} for text in paragraphs()[200:230]]
    sources = {"sources": [{"uri": write_rows(tmp_path / "held-out.jsonl", iter(held_out))}]}
    recorder = Recorder()
    result = run_rank(asking(tmp_path, parent, data__validation=sources), Ranks(), recorder)
    scores = log_likelihoods(parent, (row["text"] for row in held_out))
    right = torch.tensor([LABELS.index(row["label"]) for row in held_out])
    found = first(recorder)
    assert found["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(scores, right)), abs=1e-4)
    assert found["accuracy"] == pytest.approx(float((scores.argmax(1) == right).float().mean()))
    card = Path(result.artifact_uri.removeprefix("file://"), "README.md").read_text()
    assert f"| loss | {found['loss']:.4f} |" in card
    says = "Before training, the parent was evaluated with its prompt, which contained no examples of each label."
    assert says in card


def test_examples_stand_before_each_text_as_often_for_each_label(tmp_path: Path, parent: Folder) -> None:
    task = prompted(asking(tmp_path, parent, shown=2))
    shown = task.tokenizer.decode(task.shown)
    assert [shown.count(f"\nlength: {word}\n\n") for word in ("short", "big")] == [2, 2]
    assert shown.count("text: ") == 4
    again = prompted(asking(tmp_path, parent, shown=2))
    other = prompted(asking(tmp_path, parent, shown=2, training__seed=2))
    assert again.shown.tolist() == task.shown.tolist() != other.shown.tolist()


def test_the_parent_is_not_tested(tmp_path: Path, parent: Folder) -> None:
    test = [{"uri": write_rows(tmp_path / "test.jsonl", [{"text": "a text", "label": "short"}])}]
    cleaning = {"duplicates": "exact"}
    plain, tested = (
        asked(asking(tmp_path, parent, data__cleaning=cleaning, data__test=found)).cache for found in (None, test)
    )
    assert tested.test == []
    assert sum(map(len, tested.train)) == sum(map(len, plain.train))
    assert sum(map(len, tested.validation)) == sum(map(len, plain.validation)) > 0


def _figures(ranks: Ranks, config: RunConfig) -> dict[str, float]:
    recorder = Recorder()
    run_rank(config, ranks, recorder)
    return first(recorder)


def test_two_ranks_find_what_one_finds(tmp_path: Path, parent: Folder) -> None:
    alone = _figures(Ranks(), asking(tmp_path / "one", parent, shown=1))
    together, _ = in_ranks(2, _figures, asking(tmp_path / "two", parent, shown=1))
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_run_that_is_resumed_asks_no_more(tmp_path: Path, parent: Folder) -> None:
    config, told, silent = asking(tmp_path, parent, shown=1), Recorder(stop_at=2), Recorder()
    with pytest.raises(StopRequestedError):
        run_rank(config, Ranks(), told)
    result = run_rank(config, Ranks(), silent)
    [before] = told.of(Evaluated)
    assert [each.step for each in silent.of(Evaluated)] == [4]
    card = Path(result.artifact_uri.removeprefix("file://"), "README.md").read_text()
    assert f"| loss | {before.metrics['loss']:.4f} | {result.metrics['loss']:.4f} |" in card


def test_what_does_not_fit_or_is_no_label_is_refused(tmp_path: Path, parent: Folder) -> None:
    with pytest.raises(UserError, match=r"inContext.examplesPerClass: 40 examples and a text have -?\d+ tokens each"):
        prompted(asking(tmp_path, parent, shown=20))
    with pytest.raises(UserError, match=r"inContext.words: 'lng' is not a label; did you mean long\?"):
        prompted(asking(tmp_path, parent, word_for="lng"))


def test_a_parent_that_writes_no_text_is_refused(tmp_path: Path, parent: Folder) -> None:
    config = classification(tmp_path / "parent", parent, training__max_steps=1)
    classifier = as_parent(run_rank(config, Ranks(), Silent()))
    says = "inContext: it needs a causal language model, but the parent is a LlamaForSequenceClassification; remove it"
    with pytest.raises(UserError, match=says):
        prompted(asking(tmp_path, classifier))
