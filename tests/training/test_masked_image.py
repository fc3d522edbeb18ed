"""What is hidden of images is painted as in the paper, the same at any number of ranks; the encoder becomes a ViT."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification, ViTMAEForPreTraining

from pretune_api.run_config import RunConfig
from pretune_trainer.data.example import Pack
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Silent
from support.group import in_ranks
from support.images import ARCHITECTURES, digits, learning, painted, write_images
from support.runs import as_parent, named, packs_of, path_of, run, weights_of


def some_digits(folder: Path, count: int = 100) -> str:
    return write_images(folder / "digits.parquet", digits()[:count])


def made(config: RunConfig) -> tuple[Inputs, torch.nn.Module, list[Pack]]:
    inputs = gather_inputs(config, Ranks(), Silent())
    packs = packs_of(inputs, 16)
    return inputs, inputs.make_model().model, packs


@pytest.mark.parametrize("normalized", [True, False])
def test_the_loss_is_that_of_transformers_on_the_same_masks(tmp_path: Path, normalized: bool) -> None:
    inputs, model, packs = made(painted(tmp_path, some_digits(tmp_path), {"normalizePixels": normalized}))
    batch = inputs.task.batch(packs)
    ours = inputs.task.loss(model, batch)["image"] / len(packs)
    torch.testing.assert_close(ours, model(**batch.inputs).loss)


def test_hidden_patches_belong_to_the_row_and_are_the_share_that_is_asked_for(tmp_path: Path) -> None:
    spec = {"maskRatio": 0.5, "flip": True, "crop": 0.5}
    inputs, model, packs = made(painted(tmp_path, some_digits(tmp_path), spec))
    whole = inputs.task.batch(packs).inputs
    for name, value in whole.items():
        assert torch.equal(value, torch.cat([inputs.task.batch([pack]).inputs[name] for pack in packs]))
    mask = model(**whole).mask
    assert (mask.sum(-1) == 8).all()
    assert len({tuple(row) for row in mask.tolist()}) > 12


def test_rows_without_an_image_change_nothing(tmp_path: Path) -> None:
    inputs, model, packs = made(painted(tmp_path, some_digits(tmp_path)))
    whole, filled, nothing = (inputs.task.batch(each) for each in (packs, [*packs, Pack()], [Pack()]))
    losses = [inputs.task.loss(model, batch)["image"].item() for batch in (whole, filled, nothing)]
    assert losses[0] == losses[1] > losses[2] == 0.0
    assert [len(inputs.task.evaluate(model, batch)) for batch in (filled, nothing)] == [16, 0]


def test_positions_tell_the_patches_of_a_new_model_apart(tmp_path: Path) -> None:
    _, model, _ = made(painted(tmp_path, some_digits(tmp_path)))
    assert isinstance(model, ViTMAEForPreTraining)
    for positions in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        apart = torch.cdist(positions[0], positions[0]) + torch.eye(17)
        assert apart.min() > 0.1


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    config = painted(tmp_path, some_digits(tmp_path), training__examples_per_step=15)
    whole, steps = run(Ranks(), config)
    (half, others), *_ = in_ranks(2, run, named(config, "other"))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-6)
    assert half.metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-5)
    assert ViTMAEForPreTraining.from_pretrained(path_of(half)).config.mask_ratio == 0.75


def test_an_image_classification_starts_from_the_encoder(tmp_path: Path) -> None:
    uri = some_digits(tmp_path)
    parent, _ = run(Ranks(), painted(tmp_path, uri, training__max_steps=2))
    child, _ = run(Ranks(), learning(tmp_path / "child", uri, parent=as_parent(parent), method={"freeze": {}}))
    before, after = map(weights_of, (parent, child))
    encoder = {name for name in after if name.startswith("vit.")}
    assert {"classifier.weight", "classifier.bias"} == after.keys() - encoder
    assert {name for name in before if name.startswith("vit.")} == encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    model = AutoModelForImageClassification.from_pretrained(path_of(child))
    assert model.config.model_type == "vit"
    assert "mask_ratio" not in model.config.to_dict()


def test_what_is_no_masked_autoencoder_or_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    uri = some_digits(tmp_path)
    with pytest.raises(UserError, match=r"architecture\.type: maskedImage trains models of type vit_mae, not 'vit'"):
        made(painted(tmp_path, uri, model={"architecture": ARCHITECTURES["vit"]}))
    uneven = {"type": "vit_mae", "config": ARCHITECTURES["vit_mae"]["config"] | {"patch_size": 3}}
    with pytest.raises(UserError, match=r"image_size: 8 x 8 pixels cannot be cut into patches \(patch_size 3\)"):
        made(painted(tmp_path, uri, model={"architecture": uneven}))
