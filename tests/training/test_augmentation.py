"""What images are changed into at random, and how much is learnt of what they then show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from pretune_api.objectives import ImageClassification
from pretune_trainer.data.augment import augmented
from support.images import classified, digits, painted, write_images
from support.pairs import matched, rows, write_pairs
from support.runs import gathered, packs_of

WIDTH, HEIGHT = 40, 20
GREY = (128, 128, 128)
PICTURE = np.random.default_rng(1).integers(20, 200, (HEIGHT, WIDTH, 3), np.uint8)
"""Neither black nor white, and the same in no two places."""


def drawn(image: NDArray[np.uint8], count: int, **spec: Any) -> list[NDArray[np.uint8]]:
    """What an image is shown as, so many times."""
    asked, random = ImageClassification(labels=["a", "b"], **spec), np.random.default_rng(0)
    return [np.asarray(augmented(Image.fromarray(image), asked, random)) for _ in range(count)]


def moved(right: int, down: int) -> Image.Image:
    """The picture, moved by so many pixels."""
    shown = np.full_like(PICTURE, 128)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        if 0 <= y - down < HEIGHT and 0 <= x - right < WIDTH:
            shown[y, x] = PICTURE[y - down, x - right]
    return Image.fromarray(shown)


def sheared(matrix: tuple[float, ...]) -> Image.Image:
    """The picture, each row or column of it moved further than the one before."""
    image = Image.fromarray(PICTURE)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GREY)


def changes(share: float, bits: int, threshold: int) -> list[Image.Image]:
    """The changes of RandAugment, at a share of the ranges that its paper takes from AutoAugment's (table 6)."""
    image = Image.fromarray(PICTURE)
    colours = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
    return [
        image,
        ImageOps.autocontrast(image),
        ImageOps.equalize(image),
        ImageOps.posterize(image, bits),
        ImageOps.solarize(image, threshold),
        *(kind(image).enhance(1 + sign * 0.9 * share) for kind in colours for sign in (1, -1)),
        *(image.rotate(sign * 30 * share, Image.Resampling.BILINEAR, fillcolor=GREY) for sign in (1, -1)),
        *(sheared((1, sign * 0.3 * share, 0, 0, 1, 0)) for sign in (1, -1)),
        *(sheared((1, 0, 0, sign * 0.3 * share, 1, 0)) for sign in (1, -1)),
        *(moved(sign * round(WIDTH * 0.3 * share), 0) for sign in (1, -1)),
        *(moved(0, sign * round(HEIGHT * 0.3 * share)) for sign in (1, -1)),
    ]


@pytest.mark.parametrize(("magnitude", "bits", "threshold"), [(10, 4, 0), (5, 6, 128)])
def test_an_image_is_changed_in_every_way_of_the_paper_as_far_as_the_magnitude_says(
    magnitude: int, bits: int, threshold: int
) -> None:
    found = drawn(PICTURE, 1000, rand_augment={"operations": 1, "magnitude": magnitude})
    expected = {image.tobytes() for image in changes(magnitude / 10, bits, threshold)}
    assert {image.tobytes() for image in found} == expected


def test_several_changes_come_one_upon_another() -> None:
    one, three = (
        {image.tobytes() for image in drawn(PICTURE, 300, rand_augment={"operations": number})} for number in (1, 3)
    )
    assert len(three) > 5 * len(one)


def test_half_of_the_images_are_seen_in_a_mirror() -> None:
    found, mirrored = [image.tobytes() for image in drawn(PICTURE, 400, flip=True)], PICTURE[:, ::-1].tobytes()
    assert {*found} == {PICTURE.tobytes(), mirrored}
    assert 160 < found.count(mirrored) < 240


def test_what_is_cut_out_may_lie_anywhere() -> None:
    down, right = np.indices((HEIGHT, WIDTH), np.uint8)
    found = drawn(np.stack([down, right, right], axis=-1), 400, crop=0.25)
    for channel, length in enumerate((HEIGHT, WIDTH)):
        firsts, lasts = (np.array([int(image[at, at, channel]) for image in found]) for at in (0, -1))
        assert (firsts.min(), lasts.max()) == (0, length - 1)
        room = length - 1 - (lasts - firsts)
        assert 0.4 < firsts.sum() / room.sum() < 0.6, "at one end as often as at the other"


@pytest.mark.parametrize("objective", ["captions", "masks"])
def test_what_is_held_out_is_judged_as_it_is(tmp_path: Path, objective: str) -> None:
    found = []
    for name, spec in {"plain": {}, "changed": {"crop": 0.2, "flip": True}}.items():
        folder = tmp_path / name
        if objective == "captions":
            config = matched(folder, write_pairs(folder / "pairs.parquet", rows(1, 1)), spec)
        else:
            config = painted(folder, write_images(folder / "digits.parquet", digits()[:40]), spec)
        inputs = gathered(config)
        inputs.task.observe(inputs.make_model().model)
        packs = [replace(pack, held_out=True) for pack in packs_of(inputs)]
        found.append(inputs.task.batch(packs).inputs["pixel_values"])
    assert torch.equal(*found)


def test_labels_are_smoothed_and_mixed_to_learn_from_and_neither_to_judge_by(tmp_path: Path) -> None:
    inputs = gathered(classified(tmp_path, spec={"labelSmoothing": 0.3, "mixup": 1.0}))
    model, batch = inputs.make_model().model.eval(), inputs.task.batch(packs_of(inputs, 16))
    with torch.no_grad():
        likely = model(pixel_values=batch.inputs["pixel_values"]).logits.log_softmax(-1)
        losses = {
            name: -(0.7 * likely.gather(-1, batch.targets[name][:, None])[:, 0] + 0.3 * likely.mean(-1))
            for name in ("label", "other")
        }
        share = batch.targets["share"]
        expected = (share * losses["label"] + (1 - share) * losses["other"]).sum()
        torch.testing.assert_close(inputs.task.loss(model, batch)["label"], expected)
        judged = [each.loss for each in inputs.task.evaluate(model, batch)]
    alone = -likely.gather(-1, batch.targets["label"][:, None])[:, 0]
    assert judged == pytest.approx(alone.tolist(), abs=1e-5)
