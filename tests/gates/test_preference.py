"""A model that writes a translation's words in either order comes to write them in the order that is preferred."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.grammar import WORDS, long_translations
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.runs import as_parent, before_and_after
from support.words import vocabulary

LLAMA = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TRAINING = {"examplesPerStep": 32, "weightDecay": 0.0, "warmupSteps": 10, "precision": "fp32", "seed": 1}


def verb_first(translation: str) -> str:
    """The translation with its verb, the last word, at the front."""
    *others, verb = translation.split()
    return " ".join([verb, *others])


def either_order(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Sentences and translations, every second one with the verb at the front."""
    for place, row in enumerate(long_translations(number, seed)):
        yield row if place % 2 else {**row, "translation": verb_first(row["translation"])}


def preferences(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Prompts as the parent reads them, and both orders: the verb's place is the last one."""
    for row in long_translations(number, seed):
        prompt, chosen = f"{row['text']}\n", row["translation"]
        yield {"prompt": prompt, "chosen": chosen, "rejected": verb_first(chosen)}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parent")
    config = finetune(
        folder,
        {"translation": {"maxTargetTokens": 10}},
        write_rows(folder / "pairs.jsonl", either_order(5000, seed=1)),
        model__architecture={"type": "llama", "config": LLAMA},
        tokenizer={"from": {"uri": vocabulary(folder / "tokenizer", WORDS)}},
        data__sequence_length=40,
        data__validation={"fraction": 0.02},
        training={**TRAINING, "maxSteps": 200, "learningRate": 4e-3},
        evaluation={"metrics": ["loss"]},
        checkpoint={"everySteps": 10_000},
    )
    return as_parent(run_rank(config, Ranks(), Silent()))


def test_what_is_preferred_is_written(tmp_path: Path, parent: Folder, measured: Measured) -> None:
    uri = write_rows(tmp_path / "pairs.jsonl", preferences(1000, seed=2))
    config = finetune(
        tmp_path,
        {"preference": {"beta": 0.1}},
        uri,
        parent,
        data__train=[{"uri": uri, "column": "prompt"}],
        data__sequence_length=40,
        training={**TRAINING, "maxSteps": 40, "learningRate": 3e-4},
        evaluation={"baseline": True},
        checkpoint={"everySteps": 10_000},
    )
    untrained, result = before_and_after(config)
    written = {name: verb_last(uri) for name, uri in {"before": parent.uri, "after": result.artifact_uri}.items()}
    measured({"reward accuracy before": untrained["rewardAccuracy"]})
    measured({"reward accuracy": result.metrics["rewardAccuracy"]})
    measured({f"verbs at the end, {when}": share for when, share in written.items()})
    assert result.metrics["rewardAccuracy"] > 0.98
    assert written["before"] < 0.7
    assert written["after"] > 0.9


def verb_last(uri: str) -> float:
    """Share of the translations, drawn word by word, that end with the verb of the expected translation."""
    folder = uri.removeprefix("file://")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    right = 0
    rows = list(long_translations(100, seed=9))
    for row in rows:
        prompt = tokenizer(f"{tokenizer.bos_token}{row['text']}\n", add_special_tokens=False, return_tensors="pt")
        written = model.generate(prompt["input_ids"], max_new_tokens=10, do_sample=True)
        words = tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).split()
        right += bool(words) and words[-1] == row["translation"].split()[-1]
    return right / len(rows)
