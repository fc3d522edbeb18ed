"""Images are given labels by the labels' names alone, as in CLIP's paper."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize
from transformers import CLIPTextConfig, CLIPTokenizer

from pretune_trainer.errors import UserError
from pretune_trainer.tasks.contrastive import Contrastive
from support.pairs import SHAPES, matched, rows, write_pairs
from support.runs import gathered, packs_of

PROMPTS = ["a {label}", "look at this {label}, a {label} in red"]


def test_an_image_is_given_the_label_whose_prompts_are_nearest_to_it_on_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretune_trainer.tasks.contrastive._TEXTS", 3)
    zero_shot = {"zeroShot": {"labels": list(SHAPES), "prompts": PROMPTS}}
    inputs = gathered(matched(tmp_path, write_pairs(tmp_path / "pairs.parquet", rows(1, 1)), zero_shot))
    task, model, packs = inputs.task, inputs.make_model().model.eval(), packs_of(inputs, 16)
    assert isinstance(task, Contrastive)
    for _ in range(2):
        task.metrics()
        with torch.no_grad():
            vectors = [[_vector(task, model, prompt.replace("{label}", each)) for each in SHAPES] for prompt in PROMPTS]
            labels = normalize(torch.stack([torch.stack(each) for each in vectors]).mean(0), dim=-1)
            torch.testing.assert_close(task._labels(model), labels)
            judged = task.evaluate(model, task.batch(packs))
            for pack, each in zip(packs, judged, strict=True):
                nearest = int((labels @ torch.from_numpy(each.image)).argmax())
                assert each.right == (nearest == int(pack.examples[0]["label"][0]))
            for parameter in model.text_model.parameters():  # the next evaluation is of a model that has learnt
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


def _vector(task: Contrastive, model: torch.nn.Module, text: str) -> torch.Tensor:
    ids = task.tokenizer(text, return_tensors="pt").input_ids
    vector = model.get_text_features(input_ids=ids).pooler_output[0]  # type: ignore[operator]  # of CLIPModel
    assert isinstance(vector, torch.Tensor)
    return normalize(vector, dim=-1)


def test_equal_captions_have_one_name_and_other_labels_make_other_data(tmp_path: Path) -> None:
    pairs, uri = rows(2, 1), tmp_path / "pairs.parquet"
    inputs, other = (
        gathered(matched(tmp_path, write_pairs(uri, pairs), {"zeroShot": {"labels": labels}}, data__validation=None))
        for labels in ([*SHAPES], [*SHAPES][::-1])
    )
    assert inputs.task.fingerprint != other.task.fingerprint
    with torch.no_grad():
        judged = inputs.task.evaluate(inputs.make_model().model.eval(), inputs.task.batch(packs_of(inputs, 128)))
    assert len({each.text_name for each in judged}) == len({row["text"] for row in pairs}) == 64
    assert len({each.image_name for each in judged}) == len({row["image"]["bytes"] for row in pairs}) > 64


OPENAIS: dict[str, int] = {"a": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}


def test_where_openai_s_models_look_for_the_end_it_is_the_largest_id(tmp_path: Path) -> None:
    task = gathered(matched(tmp_path, write_pairs(tmp_path / "pairs.parquet", rows(1, 1)))).task
    assert isinstance(task, Contrastive)
    task.tokenizer = CLIPTokenizer(vocab=OPENAIS, merges=[])
    for read in (2, 3):  # 2 is what their configurations say
        task._check_end(CLIPTextConfig(eos_token_id=read))
    with pytest.raises(UserError, match="its end token has id 3, but the model looks for id 1"):
        task._check_end(CLIPTextConfig(eos_token_id=1))
    task.tokenizer.add_tokens(["b"])
    with pytest.raises(UserError, match="its end token has id 3, but the model looks for the largest id"):
        task._check_end(CLIPTextConfig(eos_token_id=2))


@pytest.mark.parametrize("unlabelled", [{"label": None}, {}], ids=["null", "no column"])
def test_images_without_a_label_are_not_counted(tmp_path: Path, unlabelled: dict[str, None]) -> None:
    pairs = [{"text": row["text"], "image": row["image"], **unlabelled} for row in rows(1, 1)]
    zero_shot = {"zeroShot": {"labels": list(SHAPES)}}
    inputs = gathered(matched(tmp_path, write_pairs(tmp_path / "pairs.parquet", pairs), zero_shot))
    model, (report,) = inputs.make_model().model.eval(), inputs.task.metrics()
    with torch.no_grad():
        report.update(inputs.task.evaluate(model, inputs.task.batch(packs_of(inputs, 16))))
    assert math.isnan(report.result()["zeroShotAccuracy"])
