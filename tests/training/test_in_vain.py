"""Nothing is computed that nobody looks at, and what can be done at once is."""

import copy
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pretune_api.model import Architecture
from pretune_api.preference import Preference
from pretune_api.tasks import Chat, Summarization
from pretune_trainer.data import augment, images
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.model.build import Build
from pretune_trainer.model.flops import Utilization
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Step
from pretune_trainer.tasks import TASKS, Context
from pretune_trainer.tasks.generation import write
from pretune_trainer.trainee import make_trainee
from support.images import classified
from support.jobs import Recorder, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer
from support.objectives import denoised, masked
from support.runs import gathered, packs_of
from support.searching import embedding

TALK = [{"role": "user", "content": "Is a list ordered? " * 5}, {"role": "assistant", "content": "Yes, it is."}]
ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (Chat(), {"text": TALK}),
    "summarization": (Summarization(max_target_tokens=16), {"text": "Rain all day long.", "summary": "Rain."}),
    "preference": (Preference(), {"text": "Is it? " * 5, "chosen": "Yes.", "rejected": "No."}),
}


@pytest.mark.parametrize("kind", ROWS)
def test_the_words_of_a_prompt_are_not_predicted_since_nobody_learns_them(kind: str) -> None:
    spec, values = ROWS[kind]
    task = TASKS[kind](Context(spec, copy.deepcopy(small_tokenizer()), 128, False, False, 0))
    model = task.model(Build(Architecture(type="llama", config=TINY["llama"]), small_tokenizer(), 128))
    found = [example for (example,) in task.examples([Row(values, Place("file:///rows.jsonl", 1), "text")])]
    batch = task.batch([Pack(tuple(found)), Pack()])
    predicted: list[int] = []
    model.lm_head.register_forward_hook(lambda _, given, logits: predicted.append(len(given[0])))
    task.loss(model, batch)
    wanted = int((batch.targets["lm"] != -100).sum())
    assert 0 < wanted < batch.inputs["input_ids"].numel() / 2
    assert set(predicted) == {wanted}
    assert batch.predicted == wanted < batch.tokens


def test_memory_is_tried_with_rows_of_which_all_is_learnt(tmp_path: Path) -> None:
    rows = ({"text": text[:80], "summary": "Yes."} for text in paragraphs()[:50])
    task = {"summarization": {"maxTargetTokens": 16}}
    inputs = gathered(finetune(tmp_path, task, write_rows(tmp_path / "texts.jsonl", rows)))
    trainee, longest = make_trainee(inputs, Ranks()), inputs.cache.train[0].example(0)
    predicted: list[int] = []
    head = trainee.tuned.model.get_output_embeddings()
    head.register_forward_hook(lambda _, given, logits: predicted.append(len(given[0])))
    trainee.probe(longest, inputs.config.training, Ranks(), most=1, rows=1)
    assert predicted == [len(longest["ids"]) - 1]


def test_logits_that_are_not_computed_are_no_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pretune_trainer.trainee.utilization", lambda *_: Utilization(0.0, flops_per_logits=1.0, peak=1.0)
    )
    rows = ({"text": text[:80], "summary": "Yes."} for text in paragraphs()[:50])
    task = {"summarization": {"maxTargetTokens": 16}}
    recorder = Recorder()
    run_rank(finetune(tmp_path, task, write_rows(tmp_path / "texts.jsonl", rows)), Ranks(), recorder)
    steps = recorder.of(Step)
    assert steps
    assert all(0 < step.mfu * step.seconds < step.tokens / 2 for step in steps)


@pytest.mark.parametrize("config", [masked, denoised])
def test_training_does_not_look_for_the_likeliest_token(
    config: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = gathered(config(tmp_path))
    model, batch = inputs.make_model().model, inputs.task.batch(packs_of(inputs))
    monkeypatch.setattr(torch.Tensor, "argmax", None)
    assert all(loss > 0 for loss in inputs.task.loss(model, batch).values())


def test_short_queries_are_not_filled_up_to_the_length_of_documents(tmp_path: Path) -> None:
    inputs = gathered(embedding(tmp_path))
    model = inputs.make_model().model
    read: list[tuple[int, ...]] = []
    model.embeddings.register_forward_hook(lambda _, given, found: read.append(tuple(found.shape[:2])))
    ids = [np.arange(4, 4 + count, dtype=np.int32) for count in (8, 40, 40)]
    example = {"ids": ids[0], "document": ids[1], "negatives": ids[2], "lengths": np.array([40], np.int32)}
    inputs.task.loss(model, inputs.task.batch([Pack((example,))] * 3))
    assert read == [(3, 8), (9, 40)]


def test_a_model_writes_with_a_cache_though_its_parent_was_trained_without() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY["llama"], vocab_size=512)).eval()
    model.generation_config.use_cache = model.config.use_cache = False
    read: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda _, given, found: read.append(found.shape[1]))
    write(model, [np.arange(4, 12)], pad=3, most=5, beams=1)
    assert read[0] == 8
    assert set(read[1:]) == {1}


def test_the_threads_that_decode_images_serve_all_batches_and_end_with_their_task(tmp_path: Path) -> None:
    inputs = gathered(classified(tmp_path, count=64, data__validation=None))
    packs, before = packs_of(inputs, 40), set(threading.enumerate())
    for _ in range(3):
        inputs.task.batch(packs)
    begun = set(threading.enumerate()) - before
    assert 1 <= len(begun) <= images.DECODED_AT_ONCE
    del inputs
    gc.collect()
    for thread in begun:
        thread.join(60)
    assert not any(thread.is_alive() for thread in begun)


def test_images_are_decoded_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the token cache, and again in each step."""
    both, decode = threading.Barrier(2, timeout=60), images.decode

    def waiting(content: bytes) -> Any:
        both.wait()
        return decode(content)

    monkeypatch.setattr(images, "decode", waiting)
    monkeypatch.setattr(augment, "decode", waiting)
    inputs = gathered(classified(tmp_path, count=16, data__validation=None))
    batch = inputs.task.batch(packs_of(inputs))
    assert batch.inputs["pixel_values"].shape[0] == 8
