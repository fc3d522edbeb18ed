"""Images and captions are matched over all ranks, as transformers' CLIP would match the whole step."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, pipeline

from pretune_trainer.data.example import Pack
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs
from pretune_trainer.parallel import Ranks
from support.group import in_ranks
from support.images import ARCHITECTURES
from support.pairs import CLIP, SHAPES, matched, rows, write_pairs
from support.runs import as_parent, gathered, named, packs_of, path_of, run, run_until, weights_of

LABELS = {"zeroShot": {"labels": list(SHAPES)}}


def some_pairs(folder: Path, count: int = 100) -> str:
    return write_pairs(folder / "pairs.parquet", rows(2, 1)[:count])


def test_the_loss_is_that_of_transformers_and_rows_without_a_pair_change_nothing(tmp_path: Path) -> None:
    inputs = gathered(matched(tmp_path, some_pairs(tmp_path)))
    model = inputs.make_model().model
    batch = inputs.task.batch(packs_of(inputs, 16))
    theirs = model(**batch.inputs, return_loss=True).loss
    padded = inputs.task.batch([*packs_of(inputs, 16), Pack(), Pack()])
    for each in (batch, padded):
        assert each.counts == {"pair": 16}
        torch.testing.assert_close(inputs.task.loss(model, each)["pair"] / 16, theirs)


def test_all_captions_of_an_image_are_on_one_side(tmp_path: Path) -> None:
    pairs = [{**row, "text": f"{said} {row['text']}"} for row in rows(1, 1) for said in ("here is", "look at", "see")]
    cleaning: dict[str, Any] = {"data__cleaning": {"duplicates": "exact"}}
    for name, rules in (("plain", {}), ("cleaned", cleaning)):
        cache = gathered(matched(tmp_path / name, write_pairs(tmp_path / "pairs.parquet", pairs), **rules)).cache
        learnt, judged = (
            [source.example(number)["file"].tobytes() for source in side for number in range(len(source))]
            for side in (cache.train, cache.validation)
        )
        assert len(learnt) + len(judged) == len(pairs)
        assert judged
        assert not {*learnt} & {*judged}


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    config = matched(tmp_path, some_pairs(tmp_path), LABELS, training__examples_per_step=15)
    whole, steps = run(Ranks(), config)
    (half, others), *_ = in_ranks(2, run, named(config, "other"))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-6)
    assert half.metrics == pytest.approx(whole.metrics, abs=1e-6)
    weights, same = map(weights_of, (whole, half))
    assert same["logit_scale"].shape == ()
    for name, weight in weights.items():
        if name.endswith("k_proj.bias"):
            continue  # adds the same to all scores of a softmax: its gradient is rounding alone, which AdamW scales up
        torch.testing.assert_close(same[name], weight, atol=1e-4, rtol=0)


def test_one_rank_goes_on_where_two_stopped(tmp_path: Path) -> None:
    config = matched(tmp_path, some_pairs(tmp_path))
    whole, undisturbed = run(Ranks(), named(config, "whole"))
    in_ranks(2, run_until, config, 1)
    again, steps = run(Ranks(), config)
    assert 1 < steps[0].step <= 4
    # Half as many pairs to tell apart would be a loss that is smaller by ln 2.
    losses = {step.step: step.loss for step in undisturbed}
    assert [step.loss for step in steps] == pytest.approx([losses[step.step] for step in steps], abs=1e-4)
    assert again.metrics == pytest.approx(whole.metrics, abs=1e-4)


def test_the_scale_of_similarities_never_passes_100(tmp_path: Path) -> None:
    hot = {"type": "clip", "config": CLIP["config"] | {"logit_scale_init_value": math.log(100) + 0.5}}
    result, _ = run(Ranks(), matched(tmp_path, some_pairs(tmp_path), model={"architecture": hot}))
    scale = weights_of(result)["logit_scale"].exp()
    assert 0 < scale <= 100.001


def test_an_artifact_is_a_zero_shot_pipeline_and_a_parent(tmp_path: Path) -> None:
    uri = some_pairs(tmp_path)
    result, _ = run(Ranks(), matched(tmp_path, uri, training__max_steps=2))
    inputs = gathered(matched(tmp_path, uri))
    text = "a red circle top left"
    assert AutoTokenizer.from_pretrained(path_of(result))(text).input_ids == inputs.build.tokenizer(text).input_ids
    model = CLIPModel.from_pretrained(path_of(result)).eval()
    pack = packs_of(inputs, 1)[0]
    with torch.no_grad():
        (ours,) = inputs.task.evaluate(model, inputs.task.batch([pack]))
    judge = pipeline("zero-shot-image-classification", model=str(path_of(result)))
    file = Image.open(io.BytesIO(pack.examples[0]["file"].tobytes()))
    said = judge(file, candidate_labels=list(SHAPES), hypothesis_template="a photo of a {}")
    assert said[0]["label"] == guessed(inputs, model, ours.image)
    config = matched(tmp_path / "child", uri, LABELS, as_parent(result), evaluation={"baseline": True})
    child, steps = run(Ranks(), config)
    assert len(steps) == 4
    assert 0 <= child.metrics["zeroShotAccuracy"] <= 1
    read = CLIPModel.from_pretrained(path_of(child)).config.text_config
    assert read.eos_token_id == inputs.build.tokenizer.eos_token_id


def guessed(inputs: Inputs, model: CLIPModel, image: Any) -> str:
    """The label whose prompt is most like the image, by hand."""
    tokenizer = inputs.build.tokenizer
    ids = tokenizer([f"a photo of a {label}" for label in SHAPES], padding=True, return_tensors="pt").input_ids
    with torch.no_grad():
        texts = model.get_text_features(input_ids=ids).pooler_output
    return SHAPES[int((torch.nn.functional.normalize(texts, dim=-1) @ torch.from_numpy(image)).argmax())]


GOOD = rows(1, 1)[0]
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no caption": ({"text": "  "}, "column 'text' holds no caption; every image needs one"),
    "no image": (
        {"image": {"bytes": b"text", "path": None}},
        "the image cannot be decoded; supported formats are PNG and JPEG",
    ),
    "label": ({"label": "star"}, "label 'star' is not listed in spec.objective.contrastive.zeroShot.labels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_pair_that_cannot_be_learnt_from_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    changes, says = BAD[name]
    uri = write_pairs(tmp_path / "bad.parquet", [*rows(6, 1), GOOD | changes])
    with pytest.raises(UserError) as caught:
        gathered(matched(tmp_path, uri, LABELS))
    assert f"bad.parquet row 385: {says}" in str(caught.value)


def test_a_job_that_cannot_match_is_refused(tmp_path: Path) -> None:
    uri = some_pairs(tmp_path)
    with pytest.raises(UserError, match=r"architecture\.type: contrastive trains models of type clip, not 'vit'"):
        gathered(matched(tmp_path, uri, model={"architecture": ARCHITECTURES["vit"]})).make_model()
    towers = {"type": "clip", "config": {"text_config": {"hiden_size": 8}}}
    with pytest.raises(UserError, match="clip_text_model models have no such field; did you mean hidden_size"):
        gathered(matched(tmp_path, uri, model={"architecture": towers}))
    with pytest.raises(UserError, match=r"microBatchRows: .* of which a rank has 32: they cannot be computed 8 at a"):
        run(Ranks(), matched(tmp_path, uri, training__micro_batch_rows=8))
    inputs = gathered(matched(tmp_path, uri, tokenizer={"train": {"algorithm": "wordpiece", "vocabSize": 64}}))
    with pytest.raises(UserError, match=r"spec\.tokenizer: it adds no end token to a text"):
        inputs.make_model()
