"""What each method learns with how few weights, what is forgotten meanwhile, and how its artifact is loaded."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent, Start
from pretune_trainer.result import RankResult
from support.grammar import WORDS, long_translations
from support.jobs import Recorder, finetune, pretrain, write_rows
from support.measured import Measured
from support.runs import as_parent, before_and_after
from support.words import vocabulary

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
VERBS = ["sees", "likes", "hears", "finds", "paints", "wants"]
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "head alone": ({"freeze": {}}, 0.01),
    "full": ({"full": {}}, 0.003),
    "lora": ({"lora": {"rank": 8, "targets": "linear"}}, 0.003),
    "rsLoRA": ({"lora": {"rank": 8, "targets": "linear", "rankStabilized": True}}, 0.003),
    "DoRA": ({"lora": {"rank": 8, "targets": "linear", "weightDecomposed": True}}, 0.003),
    "ia3": ({"ia3": {}}, 0.03),
    "adapter": ({"adapter": {"channels": 8}}, 0.01),
}
TRAINING = {"examplesPerStep": 32, "weightDecay": 0.0, "warmupSteps": 10, "precision": "fp32", "seed": 1}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A model that knows the sentences of a made-up language's first side."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parent")
    return as_parent(run_rank(reading(folder, ["text"]), Ranks(), Silent()))


@pytest.fixture(scope="module")
def bilingual(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A model that knows the sentences of both sides."""
    torch.set_num_threads(1)
    config = reading(tmp_path_factory.mktemp("bilingual"), ["text", "translation"])
    return as_parent(run_rank(config, Ranks(), Silent()))


def texts(path: Path, sides: list[str], number: int, seed: int) -> str:
    """Sentences of one of the two languages, or of both; their URI."""
    return write_rows(path, ({"text": row[side]} for row in long_translations(number, seed) for side in sides))


def reading(folder: Path, sides: list[str]) -> RunConfig:
    """The run config of a new model that reads sentences."""
    return pretrain(
        folder,
        model__architecture={"type": "llama", "config": LLAMA},
        tokenizer={"from": {"uri": vocabulary(folder / "tokenizer", WORDS)}},
        data__train=[{"uri": texts(folder / "texts.jsonl", sides, 3000, seed=1)}],
        data__sequence_length=40,
        training={**TRAINING, "maxSteps": 150, "learningRate": 4e-3},
        checkpoint={"everySteps": 10_000},
    )


def verbs(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Sentences and their verbs."""
    for row in long_translations(number, seed):
        yield {"text": row["text"], "label": next(word for word in row["text"].split() if word in VERBS)}


def test_each_method_finds_the_verb_better_than_a_new_head_alone(
    tmp_path: Path, parent: Folder, measured: Measured
) -> None:
    uri = write_rows(tmp_path / "verbs.jsonl", verbs(2000, seed=3))
    majority = Counter(row["label"] for row in verbs(2000, seed=3)).most_common(1)[0][1] / 2000
    found: dict[str, float] = {}
    for name, (method, rate) in METHODS.items():
        config = finetune(
            tmp_path / name,
            {"sequenceClassification": {"labels": VERBS}},
            uri,
            parent,
            method=method,
            data__sequence_length=32,
            training={**TRAINING, "maxSteps": 150, "learningRate": rate},
            checkpoint={"everySteps": 10_000},
        )
        recorder = Recorder()
        found[name] = run_rank(config, Ranks(), recorder).metrics["accuracy"]
        start = recorder.of(Start)[0]
        measured({f"weights of {name}": start.trainable, name: found[name]})
    measured({"commonest verb": majority, "weights": start.parameters})
    assert min(found[name] for name in ("full", "lora", "rsLoRA", "DoRA")) > 0.95
    assert min(found["ia3"], found["adapter"]) > 0.4 > found["head alone"]


@pytest.mark.parametrize(("method", "steps"), [("prefix", 100), ("promptTuning", 200)])
def test_virtual_tokens_say_in_which_of_two_languages_to_write(
    tmp_path: Path, bilingual: Folder, measured: Measured, method: str, steps: int
) -> None:
    # Updates of low rank begin with nothing: what is measured before them is the parent.
    before, _ = evaluated(tmp_path / "parent", bilingual, {"lora": {}}, 0.03, steps=1)
    _, after = evaluated(tmp_path / "learnt", bilingual, {method: {"tokens": 8}}, 0.03, steps)
    words = sum(len(row["translation"].split()) + 1 for row in long_translations(500, seed=4)) / 500
    gained = (before - after) * words
    measured({"nats of the choice": log(2), "nats gained a sentence": gained})
    assert gained > 0.5


def evaluated(folder: Path, parent: Folder, method: dict[str, Any], rate: float, steps: int) -> tuple[float, float]:
    """Losses on translations alone, before and after learning them."""
    config = finetune(
        folder,
        {"causalLM": {}},
        texts(folder / "texts.jsonl", ["translation"], 2000, seed=4),
        parent,
        method=method,
        data__sequence_length=40,
        training={**TRAINING, "maxSteps": steps, "learningRate": rate},
        evaluation={"baseline": True},
        checkpoint={"everySteps": 10_000},
    )
    before, after = before_and_after(config)
    return before["loss"], after.metrics["loss"]


def test_replay_keeps_what_the_parent_knew(tmp_path: Path, parent: Folder, measured: Measured) -> None:
    sides = {
        side: write_rows(tmp_path / f"{side}.jsonl", ({"text": row[side]} for row in long_translations(2000, seed=5)))
        for side in ("text", "translation")
    }
    held_out = {
        side: write_rows(
            tmp_path / f"{side}-held-out.jsonl", ({"text": row[side]} for row in long_translations(300, 6))
        )
        for side in sides
    }
    after: dict[str, dict[str, float]] = {}
    for name, weights in {"no replay": {"translation": 1.0}, "replay": {"translation": 0.8, "text": 0.2}}.items():
        config = finetune(
            tmp_path / name,
            {"causalLM": {}},
            sides["translation"],
            parent,
            data__train=[{"uri": sides[side], "weight": weight} for side, weight in weights.items()],
            data__validation={"sources": [{"uri": uri, "values": {"side": side}} for side, uri in held_out.items()]},
            data__sequence_length=40,
            training={**TRAINING, "maxSteps": 100, "learningRate": 4e-3},
            evaluation={"baseline": True, "slices": ["side"]},
            checkpoint={"everySteps": 10_000},
        )
        before, result = before_and_after(config)
        after[name] = result.metrics
    old, new = "loss/side=text", "loss/side=translation"
    gone = {name: figures[old] - before[old] for name, figures in after.items()}
    learnt = {name: before[new] - figures[new] for name, figures in after.items()}
    measured({f"forgotten with {name}": nats for name, nats in gone.items()})
    measured({f"learnt with {name}": nats for name, nats in learnt.items()})
    assert gone["replay"] < 0.1 * gone["no replay"]
    assert learnt["replay"] > 0.9 * learnt["no replay"]


@pytest.mark.parametrize("method", ["adapter", "prefix", "promptTuning"])
def test_updates_alone_load_in_another_process_as_their_card_says(
    tmp_path: Path, parent: Folder, measured: Measured, method: str
) -> None:
    uri = write_rows(tmp_path / "texts.jsonl", islice(long_translations(200, seed=7), 200))
    config = finetune(
        tmp_path,
        {"translation": {"maxTargetTokens": 12}},
        uri,
        parent,
        method={method: {}},
        data__sequence_length=40,
        training={**TRAINING, "maxSteps": 10, "learningRate": 0.05},
        evaluation={"metrics": ["loss", "exactMatch"]},
    )
    result: RankResult = run_rank(config, Ranks(), Silent())
    folder = result.artifact_uri.removeprefix("file://")
    card = (Path(folder) / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    places = {"PARENT": parent.uri.removeprefix("file://"), "THIS FOLDER": folder}
    code = re.sub("PARENT|THIS FOLDER", lambda found: places[found[0]], code)
    said = f"""{code}
import torch
print(float(model.eval()(input_ids=torch.arange(6, 16)[None]).logits[0, -1].sum()))"""
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", said], check=True, capture_output=True, text=True)
    scope: dict[str, Any] = {}
    exec(code, scope)
    with torch.no_grad():
        here = float(scope["model"].eval()(input_ids=torch.arange(6, 16)[None]).logits[0, -1].sum())
    measured({"sum of logits here": here, "there": float(told.stdout)})
    assert float(told.stdout) == pytest.approx(here, abs=1e-4)
