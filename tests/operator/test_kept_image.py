"""A job trains with one image from its first run to its end, whatever the operator is upgraded to by then."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pretune_operator.decision import StartPreflight
from pretune_operator.images import image_of
from support.scene import FAST, HEAD, Scene, attempt, failing, progress, running, started, trains
from support.world import End, Fate, World, with_image

OLD, NEW = "pretrain:1", "pretrain:2"


def upgraded(scene: Scene, image: str = NEW) -> Scene:
    return scene.configure(images=with_image(image))


def trained(image: str = OLD, **spec: Any) -> Scene:
    """A job whose first attempt has had a run."""
    scene = trains(Scene(**FAST, **spec))
    scene.sees(running(image=image, progress=progress())).settle()
    return scene


def loses_its_head(scene: Scene, number: int = 1) -> Scene:
    """The attempt ends, and with it goes all that was seen of it."""
    scene.sees(running(number, head=None)).settle()
    scene.sees().settle()
    return scene


def image(scene: Scene) -> str:
    """What the next attempt would be made of."""
    return image_of(scene.view(), scene.settings)


def test_an_attempt_after_an_upgrade_has_the_image_of_the_ones_before() -> None:
    scene = loses_its_head(upgraded(trained()))
    assert (scene.status.attempt_count, image(scene)) == (2, OLD)
    assert scene.status.attempts[0].image == OLD
    scene = loses_its_head(upgraded(scene, "pretrain:3"), number=2)
    assert (scene.status.attempt_count, image(scene)) == (3, OLD)


def test_a_job_that_has_not_begun_to_train_takes_the_image_of_the_upgrade() -> None:
    scene = trains(Scene(**FAST))
    stuck = attempt(image=OLD)
    upgraded(scene).sees(stuck).settle()
    scene.change(suspend=True).settle()
    scene.sees().settle()
    scene.change(suspend=False).settle()
    assert (scene.status.attempt_count, image(scene)) == (2, NEW)


def test_a_raised_retry_takes_the_image_of_the_upgrade_at_once_and_keeps_it() -> None:
    scene = upgraded(trained()).change(retry=1)
    loses_its_head(scene)
    assert (scene.status.attempt_count, image(scene)) == (2, NEW)
    upgraded(scene, "pretrain:3").sees(running(2, image=NEW, progress=progress(run=2))).settle()
    assert image(loses_its_head(scene, number=2)) == NEW


def test_a_retry_that_is_raised_while_an_attempt_starts_holds_also_once_that_attempt_trains() -> None:
    scene = trains(Scene(**FAST))
    scene.sees(attempt(image=OLD)).settle()
    upgraded(scene).change(retry=1).settle()
    scene.sees(running(image=OLD, progress=progress())).settle()
    assert [record.image for record in scene.status.attempts] == [OLD]
    assert image(loses_its_head(scene)) == NEW


def test_a_job_whose_kept_image_is_gone_need_not_fail_before_it_takes_another() -> None:
    """As docs/troubleshooting.md says."""
    scene = upgraded(loses_its_head(trained()))
    pulls = replace(HEAD, phase="Pending", waiting_reason="ImagePullBackOff")
    scene.sees(attempt(2, image=OLD, head=pulls)).settle()
    scene.change(suspend=True, retry=1).settle()
    scene.sees().settle()
    assert scene.status.state == "Suspended"
    assert started(scene.change(suspend=False).settle()) == [3]
    assert image(scene) == NEW


def test_a_failed_job_is_tried_again_with_the_image_of_the_upgrade_by_its_preflight_too() -> None:
    scene = trained()
    scene.sees(failing("UserError", image=OLD)).settle()
    scene.sees()
    actions = upgraded(scene).change(retry=1, preflight=True).settle()
    assert (len(actions), isinstance(actions[0], StartPreflight), image(scene)) == (1, True, NEW)


def test_a_retry_that_a_new_job_was_applied_with_keeps_no_image_before_it_trains() -> None:
    scene = Scene(suspend=True, retry=2)
    scene.settle()
    upgraded(scene).change(suspend=False).settle()
    assert image(scene) == NEW


def test_nothing_is_made_of_an_image_that_status_does_not_know_yet() -> None:
    scene = trained()
    scene.sees(running(head=None)).settle()
    scene.sees()
    upgraded(scene).change(retry=1)
    first = scene.decide()
    assert (first.status.image, first.actions) == (NEW, ())
    assert started(scene.settle()) == [2]


def test_an_image_of_the_jobs_own_has_the_last_word_and_is_not_kept_once_it_is_taken_back() -> None:
    scene = loses_its_head(upgraded(trained("mine:1", compute={"image": "mine:1"})))
    assert (image(scene), scene.status.image) == ("mine:1", None)
    assert image(scene.change(compute={})) == NEW
    other = upgraded(trained()).change(compute={"image": "mine:2"})
    assert image(other) == "mine:2"
    assert image(other.change(compute={})) == OLD


def test_the_image_of_an_attempt_that_an_operator_of_before_has_made_is_kept() -> None:
    scene = trained()
    forgotten = [record.model_copy(update={"image": None}) for record in scene.status.attempts]
    scene.status = scene.status.model_copy(update={"image": None, "attempts": forgotten})
    upgraded(scene).settle()
    assert image(loses_its_head(scene)) == OLD


def test_the_image_of_an_attempt_that_status_does_not_know_is_its_ray_jobs() -> None:
    scene = upgraded(Scene(**FAST)).sees(running(image=OLD, progress=progress()))
    assert started(scene.settle()) == []
    assert image(scene) == OLD


ends = st.sampled_from([End.FAILS, End.HEAD_VANISHES, End.NODE_LOST, End.DELETED, End.EVICTED, End.OUT_OF_MEMORY])
wishes = st.fixed_dictionaries({}, optional={"suspend": st.booleans(), "retry": st.integers(0, 3)})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    changes: dict[int, dict[str, Any]] = draw(st.dictionaries(st.integers(0, 40), wishes, max_size=4))
    return World(
        fates=draw(st.lists(st.builds(Fate, end=ends, starting=st.integers(0, 2)), min_size=2, max_size=8)),
        spec={"failurePolicy": {"backoffSeconds": 0}},
        lag=draw(st.integers(0, 2)),
        crashes=draw(st.lists(st.integers(-1, 2), max_size=30)),
        changes={**changes, 41: {"suspend": False}},
        refusals=draw(st.integers(0, 2)),
        upgrades=draw(st.dictionaries(st.integers(0, 40), st.sampled_from(["a:2", "a:3", "a:4"]), min_size=1)),
    )


@given(worlds())
def test_whatever_the_order_of_upgrades_losses_and_retries_the_image_of_a_run_stays_until_retry_is_raised(
    world: World,
) -> None:
    world.run()
    ran = {record.number for status in world.written for record in status.attempts if record.image}
    for earlier, later in pairwise(world.made):
        if earlier in ran and world.retries[earlier] == world.retries[later]:
            assert world.images[later] == world.images[earlier]
    assert ran, "at least the last attempt has trained"
