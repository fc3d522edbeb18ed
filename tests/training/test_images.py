"""Labels of images: read from tables and files, augmented by the row, learnt the same wherever and whenever."""

import io
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
from transformers.image_utils import load_image

from pretune_api.objectives import ImageClassification
from pretune_trainer.data.augment import augmented, mixed
from pretune_trainer.data.example import Pack
from pretune_trainer.data.images import Images, decode
from pretune_trainer.data.stream import held_out
from pretune_trainer.errors import UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.group import in_ranks
from support.images import LABELS, classified, digits, learning, png, write_images
from support.jobs import classification
from support.runs import as_parent, assert_same_bits, gathered, named, packs_of, path_of, run, run_until, weights_of

AUGMENTED: dict[str, Any] = {"randAugment": {}, "crop": 0.5, "flip": True, "mixup": 0.4, "cutmix": 1.0}


@pytest.mark.parametrize("shape", [(20, 30, 3), (8, 8), (300, 200, 3)])
def test_pixels_are_those_of_the_image_processor_in_the_artifact(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = Images(24, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    images.save(tmp_path)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)).convert("RGB")
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(images.pixels(image), theirs, atol=1e-6)


def test_an_artifact_is_a_pipeline_that_says_what_the_evaluation_saw(tmp_path: Path) -> None:
    config = classified(tmp_path, training__max_steps=3)
    result, _ = run(Ranks(), config)
    said = pipeline("image-classification", model=str(path_of(result)))
    inputs = gathered(config)
    files = [pack.examples[0] for pack in held_out(inputs.cache.validation, inputs.task.layout)]
    guesses = [said(Image.open(io.BytesIO(file["file"].tobytes())))[0]["label"] for file in files]
    right = [guess == LABELS[int(file["label"][0])] for guess, file in zip(guesses, files, strict=True)]
    assert len(right) > 20
    assert np.mean(right) == pytest.approx(result.metrics["accuracy"])


def test_files_in_folders_are_images_with_labels(tmp_path: Path) -> None:
    chosen = digits()[:40]
    for number, (content, label) in enumerate(chosen):
        file = tmp_path / "photos" / label / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (source,) = gathered(learning(tmp_path, (tmp_path / "photos").as_uri(), data__validation=None)).cache.train
    found = [source.example(index) for index in range(len(source))]
    pairs = {(each["file"].tobytes(), LABELS[int(each["label"][0])]) for each in found}
    assert pairs == set(chosen)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_seen_as_its_camera_was_held(tmp_path: Path, orientation: int) -> None:
    exif, file = Image.Exif(), tmp_path / "photo.png"
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)).save(file, exif=exif)
    seen = decode(file.read_bytes())
    assert seen.size == ((12, 8) if orientation < 5 else (8, 12))
    np.testing.assert_array_equal(seen, load_image(str(file)))


@pytest.mark.parametrize("form", ["WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "MPO"])
def test_tables_may_have_images_as_the_web_and_cameras_have_them(form: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (200, 30, 30)).save(file, form)
    assert decode(file.getvalue()).size == (12, 8)


def test_an_image_whose_exif_data_is_damaged_is_still_seen(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 8), (200, 30, 30))
    for number, damaged in enumerate((b"Exif\0\0no TIFF", b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01", b"")):
        image.save(tmp_path / f"{number}.png", exif=damaged)
        np.testing.assert_array_equal(decode((tmp_path / f"{number}.png").read_bytes()), image)


def header_of(image: bytes, side: int) -> bytes:
    """A PNG that says to be so wide and high."""
    header = b"IHDR" + struct.pack(">II", side, side) + image[24:29]
    return image[:12] + header + struct.pack(">I", zlib.crc32(header)) + image[33:]


BAD: dict[str, tuple[bytes, str]] = {
    "text": (b"no image", "the image cannot be decoded; supported formats are PNG and JPEG"),
    "cut": (digits()[0][0][:60], "the image cannot be decoded"),
    "huge": (header_of(png(np.zeros((8, 8), np.uint8)), 60_000), "the image has more than 89478485 pixels; make it"),
    "large": (header_of(png(np.zeros((8, 8), np.uint8)), 10_000), "the image has more than 89478485 pixels; make it"),
    "deep": (png(np.full((8, 8), 40_000, np.uint16)), "the image cannot be decoded (its greys have more than 8"),
    "tiny": (png(np.zeros((7, 90), np.uint8)), "the image has 90 x 7 pixels; smallestSide requires 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_image_that_cannot_be_learnt_from_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    content, says = BAD[name]
    uri = write_images(tmp_path / "bad.parquet", [digits()[0], (content, "1")])
    with pytest.raises(UserError) as caught:
        gathered(learning(tmp_path, uri))
    assert f"bad.parquet row 2: {says}" in str(caught.value)


def test_a_larger_side_is_asked_of_images_that_have_been_read_before(tmp_path: Path) -> None:
    uri = write_images(tmp_path / "digits.parquet", digits()[:9])
    gathered(learning(tmp_path, uri))
    with pytest.raises(UserError, match=r"row 1: the image has 8 x 8 pixels; smallestSide requires 9"):
        gathered(learning(tmp_path, uri, spec={"smallestSide": 9}))


def test_a_label_that_is_not_listed_and_a_column_without_images_are_refused_with_their_place(tmp_path: Path) -> None:
    uri = write_images(tmp_path / "bad.parquet", [digits()[0], (digits()[1][0], "ten")])
    for changes, says in {
        "image": "bad.parquet row 2: label 'ten' is not listed in spec.task.imageClassification.labels; known:",
        "label": "bad.parquet row 1: column 'label' holds str, expected bytes, or an object {bytes}",
    }.items():
        with pytest.raises(UserError) as caught:
            gathered(learning(tmp_path, uri, data__train=[{"uri": uri, "column": changes}]))
        assert says in str(caught.value)


def test_augmentation_belongs_to_the_row_and_spares_what_is_held_out(tmp_path: Path) -> None:
    inputs = gathered(classified(tmp_path, spec=AUGMENTED))
    packs = packs_of(inputs)
    task, plain = inputs.task, gathered(classified(tmp_path)).task
    whole = task.batch(packs).inputs["pixel_values"]
    assert torch.equal(whole, torch.cat([task.batch([pack]).inputs["pixel_values"] for pack in packs]))
    later = [replace(pack, key=(1, *pack.key[1:])) for pack in packs]
    assert not torch.equal(whole, task.batch(later).inputs["pixel_values"])
    held_out = task.batch([replace(pack, held_out=True) for pack in packs]).inputs["pixel_values"]
    assert torch.equal(held_out, plain.batch([Pack(pack.examples[:1]) for pack in packs]).inputs["pixel_values"])


@pytest.mark.parametrize("smallest", [0.08, 0.5, 0.95])
def test_what_is_cut_out_is_never_less_than_the_smallest_part(smallest: float) -> None:
    spec, random = ImageClassification(labels=["a", "b"], crop=smallest), np.random.default_rng(0)
    sizes = [augmented(Image.new("RGB", (300, 200)), spec, random).size for _ in range(200)]
    areas = [width * height / (300 * 200) for width, height in sizes]
    assert smallest - 0.005 < min(areas) < smallest + 0.05, "sides are whole pixels"
    assert max(areas) > 0.95
    ratios = [width / height / 1.5 for width, height in sizes]
    assert 3 / 4 - 0.02 < min(ratios) < 1 < max(ratios) < 4 / 3 + 0.02


def test_decoding_leaves_the_process_s_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, opened = list(warnings.filters), Image.open
    monkeypatch.setattr(Image, "open", lambda file, **how: opened(file, **how) if warnings.filters == before else None)
    assert decode(png(np.zeros((8, 8), np.uint8))).size == (8, 8), "images are decoded in several threads at once"


def test_an_image_that_is_in_colour_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "copy", None)
    assert decode(png(np.zeros((8, 8, 3), np.uint8))).mode == "RGB"


def test_no_program_in_an_image_is_carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    with pytest.raises(ValueError, match="the image cannot be decoded; supported formats are PNG and JPEG"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n")
    assert not (tmp_path / "called").exists()


def test_mixed_labels_have_the_shares_of_their_pixels(tmp_path: Path) -> None:
    images = [(png(np.full((8, 8), 255 * number, np.uint8)), str(number)) for number in (0, 1)] * 20
    uri = write_images(tmp_path / "flat.parquet", images)
    for way in ({"mixup": 1.0}, {"cutmix": 1.0}):
        inputs = gathered(learning(tmp_path, uri, spec=way, data__validation=None))
        batch = inputs.task.batch(packs_of(inputs, 40))
        label, other, share = (batch.targets[name] for name in ("label", "other", "share"))
        white = (batch.inputs["pixel_values"].mean((1, 2, 3)) + 1) / 2
        torch.testing.assert_close(white, share * label + (1 - share) * other, atol=1e-5, rtol=0)
        assert 0.2 < share.mean() < 0.8


def test_blending_and_pasting_by_turns_each_have_their_own_alpha() -> None:
    spec = ImageClassification(labels=["black", "white"], mixup=10.0, cutmix=1e-4)
    black, white = (np.full((3, 8, 8), value, np.float32) for value in (0.0, 1.0))
    random = np.random.default_rng(0)
    found = [mixed(black, white, spec, random) for _ in range(100)]
    blended = [share for pixels, share in found if 0 < pixels.max() < 1]
    pasted = [share for pixels, share in found if set(np.unique(pixels)) <= {0.0, 1.0}]
    assert len(blended) + len(pasted) == len(found)
    assert min(len(blended), len(pasted)) > 30
    assert all(0.1 < share < 0.9 for share in blended), "of an alpha of 10"
    assert all(share == 1 or share <= 0.75 for share in pasted), "of an alpha of nearly 0"


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    config = classified(tmp_path, "resnet", AUGMENTED, training__max_steps=2, training__examples_per_step=31)
    whole, steps = run(Ranks(), config)
    (half, others), *_ = in_ranks(2, run, named(config, "other"))
    for one, other in zip(steps, others, strict=True):
        assert one.tokens_total == other.tokens_total
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert half.metrics["accuracy"] == whole.metrics["accuracy"]
    # One by one they may differ: the sign of a gradient near zero decides about a whole step of AdamW.
    mine, theirs = (torch.cat([each.flatten() for each in weights_of(result).values()]) for result in (whole, half))
    assert (mine - theirs).norm() < 1e-4 * mine.norm()


def test_stopped_and_gone_on_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = classified(tmp_path, "resnet", AUGMENTED, checkpoint__every_steps=2)
    whole, _ = run(Ranks(), named(config, "whole"))
    run_until(Ranks(), config, 3)
    again, steps = run(Ranks(), config)
    assert 1 < steps[0].step <= 6
    assert_same_bits(again, whole)


def test_rows_that_a_batch_normalisation_compares_are_computed_together(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"training__micro_batch_rows": 8, "training__max_steps": 1}
    with pytest.raises(UserError, match=r"microBatchRows: .* of which a rank has 32: they cannot be computed 8 at a"):
        run(Ranks(), classified(tmp_path / "compared", "resnet", **changes))
    run(Ranks(), classified(tmp_path / "alone", "resnet", {"freezeBatchNorm": True}, **changes))


def test_a_new_head_on_a_parent_whose_batch_normalisations_stay(tmp_path: Path) -> None:
    parent, _ = run(Ranks(), classified(tmp_path, "resnet", training__max_steps=2))
    folder = as_parent(parent)
    uri = write_images(tmp_path / "two.parquet", [(content, label) for content, label in digits() if label in "01"])
    spec = {"labels": ["0", "1"], "freezeBatchNorm": True}
    config = learning(tmp_path / "child", uri, "resnet", spec, folder, training__max_steps=2, evaluation__every_steps=1)
    child, _ = run(Ranks(), config)
    before, after = weights_of(parent), weights_of(child)
    kept = [name for name in before if ".normalization." in name]
    assert len(kept) > 10
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(
        before["resnet.embedder.embedder.convolution.weight"], after["resnet.embedder.embedder.convolution.weight"]
    )
    model = AutoModelForImageClassification.from_pretrained(path_of(child))
    assert model.config.id2label == {0: "0", 1: "1"}
    assert AutoImageProcessor.from_pretrained(path_of(child)).size["height"] == 8


def test_a_parent_that_reads_no_images_is_refused(tmp_path: Path) -> None:
    text = run_rank(classification(tmp_path / "text", training__max_steps=1), Ranks(), Silent())
    folder = as_parent(text)
    with pytest.raises(UserError, match=r"spec\.model\.from: llama models do not take images; use a vit or"):
        gathered(learning(tmp_path, write_images(tmp_path / "some.parquet", digits()[:9]), parent=folder))


def test_a_text_task_refuses_a_parent_that_reads_images(tmp_path: Path) -> None:
    seeing, _ = run(Ranks(), classified(tmp_path, training__max_steps=1))
    folder = as_parent(seeing)
    with pytest.raises(UserError, match=r"^spec\.model\.from: vit models read no text; use another parent$"):
        gathered(classification(tmp_path / "text", folder))


def test_a_size_that_the_model_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imageSize: the model takes images of 8 x 8 pixels; remove it"):
        gathered(classified(tmp_path, "vit", {"imageSize": 16}))
