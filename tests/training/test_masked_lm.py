"""maskedLM: what is hidden, how often, anew in every epoch; the loss that transformers takes on the same masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune_api.model import Architecture
from pretune_api.objectives import MaskedLM as Spec
from pretune_trainer.data.example import Example, Pack, Place, Row
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.base import Batch
from pretune_trainer.tasks.masked_lm import MaskedLM
from pretune_trainer.tasks.sentence_pairs import pair, sentences
from support.jobs import write_rows
from support.objectives import ARCHITECTURES, masked, paired
from support.runs import assert_refused
from support.words import opened

WORDS = [f"w{number}" for number in range(100)]
LONG = " ".join(WORDS[number % 100] for number in range(60))


def task_for(**spec: Any) -> MaskedLM:
    return MaskedLM(Context(Spec(**spec), opened(WORDS), 64, False, False, seed=1))


def example(task: MaskedLM, text: str = LONG) -> Example:
    ((found,),) = task.examples([Row({"text": text}, Place("file:///a.jsonl", 1), "text")])
    return found


def packs(task: MaskedLM, *texts: str, epoch: int = 0) -> list[Pack]:
    found = [example(task, text) for text in texts]
    others = [*found[1:], found[0]]
    rows = zip(found, others, strict=True) if task.layout.accompanied else ((each,) for each in found)
    return [Pack(row, (epoch, 0, number)) for number, row in enumerate(rows)]


def labels(batch: Batch) -> torch.Tensor:
    """The targets where they stand, as transformers wants them."""
    found = torch.full_like(batch.inputs["input_ids"], IGNORED)
    found.view(-1)[batch.targets["places"]] = batch.targets["mlm"]
    return found


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_the_loss_is_that_of_transformers_on_the_same_masks(kind: str) -> None:
    task = task_for()
    model = task.model(Build(Architecture.model_validate(ARCHITECTURES[kind]), task.tokenizer, 64)).eval()
    batch = task.batch([*packs(task, LONG, "w1 w2 w3 w4 w5 w6"), Pack()])
    ours = task.loss(model, batch)["mlm"] / batch.counts["mlm"]
    torch.testing.assert_close(ours, model(**batch.inputs, labels=labels(batch)).loss)
    (answers,) = task.evaluate(model, batch)
    assert answers.tokens.mean == pytest.approx(float(ours), rel=1e-5)


def test_the_loss_on_pairs_is_that_of_transformers_too() -> None:
    task = task_for(next_sentence=True)
    model = task.model(Build(Architecture.model_validate(ARCHITECTURES["bert"]), task.tokenizer, 64)).eval()
    batch = task.batch(packs(task, "w1 w2.\nw3 w4\nw5", "w6 w7 w8\nw9", "w10\nw11\nw12"))
    expected = model(**batch.inputs, labels=labels(batch), next_sentence_label=batch.targets["nsp"]).loss
    losses = task.loss(model, batch)
    torch.testing.assert_close(losses["mlm"] / batch.counts["mlm"] + losses["nsp"] / batch.counts["nsp"], expected)


def test_of_the_chosen_tokens_80_percent_are_masked_10_random_10_unchanged() -> None:
    task = task_for(masking_rate=0.15)
    batch = task.batch([Pack((example(task),), (0, 0, row)) for row in range(3000)])
    seen = batch.inputs["input_ids"].view(-1)[batch.targets["places"]]
    chosen = len(seen)
    masks, same = int((seen == task.masking.mask).sum()), int((seen == batch.targets["mlm"]).sum())
    assert chosen / (3000 * 60) == pytest.approx(0.15, abs=1e-4)
    assert masks / chosen == pytest.approx(0.8, abs=0.01)
    assert same / chosen == pytest.approx(0.1 + 0.1 / len(WORDS), abs=0.01)
    others = seen[(seen != task.masking.mask) & (seen != batch.targets["mlm"])]
    assert set(task.tokenizer.convert_ids_to_tokens(others.tolist())) == set(WORDS), (
        "random tokens are words, all alike"
    )


def test_special_tokens_are_never_to_be_found() -> None:
    task = task_for(masking_rate=0.99)
    batch = task.batch(packs(task, LONG))
    assert set(batch.targets["mlm"].tolist()) <= set(task.tokenizer.convert_tokens_to_ids(WORDS))
    assert batch.inputs["input_ids"][0, [0, 61]].tolist() == [task.frame.begin, task.frame.end]


def test_masks_belong_to_seed_epoch_and_row_and_differ_between_epochs() -> None:
    task = task_for()
    first, again = (task.batch(packs(task, LONG, LONG)).inputs["input_ids"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1]), "another row"
    assert not torch.equal(first, task.batch(packs(task, LONG, LONG, epoch=1)).inputs["input_ids"])


def test_whole_words_are_hidden_whole() -> None:
    task = task_for(whole_word=True)
    words = np.array([1, 0, 0, 1, 1, 0] * 10, np.uint8)
    ids = np.array(task.tokenizer.convert_tokens_to_ids(WORDS[:60]), np.int64)
    counts = []
    for seed in range(300):
        chosen = np.isin(np.arange(60), task.masking.choose(ids, words.astype(bool), np.random.default_rng(seed)))
        counts.append(chosen.sum())
        for word in np.split(chosen, np.flatnonzero(words)[1:]):
            assert word.all() or not word.any()
    assert np.mean(counts) == pytest.approx(9, rel=0.02)


def test_sentences_end_at_line_ends_and_full_stops() -> None:
    assert sentences("One. Two? Three!\nfour, 5.5 six\n\n") == ["One.", "Two?", "Three!", "four, 5.5 six"]


def test_a_pair_is_two_neighbours_or_two_documents_half_of_the_time_each() -> None:
    task = task_for(next_sentence=True)
    own, other = example(task, "w1 w2\nw3 w4 w5\nw6"), example(task, "w51 w52\nw53\nw54 w55")
    batch = task.batch([Pack((own, other), (0, 0, row)) for row in range(2000)])
    words = {number: task.tokenizer.convert_tokens_to_ids(f"w{number}") for number in range(100)}
    first, second = set(map(words.get, range(1, 7))), set(map(words.get, range(51, 56)))
    # What was hidden is put back.
    batch.inputs["input_ids"].view(-1)[batch.targets["places"]] = batch.targets["mlm"]
    for ids, types, follows in zip(
        batch.inputs["input_ids"].tolist(), batch.inputs["token_type_ids"], batch.targets["nsp"] == 0, strict=True
    ):
        middle = int(types.argmax())
        end = middle + int(types.sum())
        assert (ids[0], ids[middle - 1], ids[end - 1]) == (task.frame.begin, task.frame.end, task.frame.end)
        assert set(ids[1 : middle - 1]) <= first
        assert set(ids[middle : end - 1]) <= (first if follows else second)
    assert float((batch.targets["nsp"] == 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_neither_its_length_nor_a_broken_sentence_gives_a_replacement_away() -> None:
    random = np.random.default_rng(3)
    texts = ["\n".join(" ".join(["w1"] * each) for each in random.integers(4, 14, 40)) for _ in range(30)]
    task = task_for(next_sentence=True)
    made = [run for text in texts for run in next(task.examples([Row({"text": text}, Place("a", 1), "text")]))]
    lengths: dict[bool, list[int]] = {True: [], False: []}
    broken = 0
    for _ in range(3000):
        one, other = (made[random.integers(len(made))] for _ in range(2))
        found = pair(one, other, task.room, random)
        lengths[found.follows].append(len(found.first["ids"]) + len(found.second["ids"]))
        ends = np.append(0, np.cumsum(other["sentences"]))
        broken += not found.follows and len(found.second["ids"]) not in ends[:, None] - ends
    assert np.mean(lengths[True]) == pytest.approx(np.mean(lengths[False]), rel=0.05)
    assert broken < 0.01 * len(lengths[False])


def test_a_long_document_becomes_runs_of_sentences_that_fit() -> None:
    task = task_for(next_sentence=True)
    text = "\n".join([" ".join(WORDS[:80]), *(f"w{number} w1 w2" for number in range(40))])
    (found,) = task.examples([Row({"text": text}, Place("file:///a.jsonl", 1), "text")])
    assert all(len(run["sentences"]) > 1 and run["sentences"].sum() == len(run["ids"]) <= 61 for run in found)
    assert np.concatenate([run["ids"] for run in found]).tolist() == task.tokenizer(text)["input_ids"]


def test_what_cannot_learn_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    causal = {"type": "llama", "config": {"hidden_size": 32, "num_attention_heads": 2}}
    says = "transformers has no MaskedLM model of type 'llama'; supported types include bert"
    assert_refused(masked(tmp_path, model__architecture=causal), f"spec.model.architecture.type: {says}")
    assert_refused(masked(tmp_path, "bart"), "spec.model: a model with a decoder \\(bart\\) cannot learn maskedLM")
    pairs = masked(tmp_path, "roberta", {"nextSentence": True})
    assert_refused(pairs, "spec.model: roberta models have no head for nextSentence; bert models have one")


def test_documents_without_pairs_are_refused(tmp_path: Path) -> None:
    lines = write_rows(tmp_path / "lines.jsonl", ({"text": f"some words of line {number}"} for number in range(400)))
    one = write_rows(tmp_path / "one.jsonl", iter([{"text": "\n".join(f"some words {n} of it" for n in range(400))}]))
    tokenizer = {"train": {"algorithm": "wordpiece", "vocabSize": 64}}
    assert_refused(
        paired(tmp_path, data__train=[{"uri": lines}], tokenizer=tokenizer),
        r"learned from the .* rows of .*lines.jsonl: nextSentence needs documents of two sentences or more",
    )
    assert_refused(
        paired(tmp_path, data={"train": [{"uri": one}], "sequenceLength": 64}, tokenizer=tokenizer),
        "spec.data.train: nextSentence needs pairs of documents, but there is only one",
    )
