"""Whatever happens to a job's attempts and to the operator, the job comes to its end, once, and within its budgets."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_api.names import Cause
from pretune_api.status import Status
from pretune_operator.causes import HANDLING
from support.preflights import Trial
from support.world import End, Fate, World

BUDGETS = {"outOfMemory": 1, "unknown": 2, "interrupted": 3}
POLICY = {"backoffSeconds": 7, "startDeadlineSeconds": 60, "retries": BUDGETS}
FIELDS = {"out_of_memory": "outOfMemory", "unknown": "unknown", "interrupted": "interrupted"}

fates = st.builds(
    Fate,
    end=st.sampled_from(End),
    cause=st.sampled_from([cause.value for cause in Cause]),
    queued=st.integers(0, 3),
    starting=st.integers(0, 3),
    running=st.integers(1, 4),
    draining=st.integers(1, 3),
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "suspend": st.booleans(),
        "retry": st.integers(0, 3),
        "compute": st.just({"workers": 2}),
        "preflight": st.booleans(),
    },
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A job with an unquiet life; at its end the user wants it to run."""
    changes: dict[int, dict[str, Any]] = draw(st.dictionaries(st.integers(0, 60), wishes, max_size=4))
    spec: dict[str, Any] = {"failurePolicy": POLICY}
    options = {"activeDeadlineSeconds": st.integers(20, 200), "preflight": st.booleans()}
    spec |= draw(st.fixed_dictionaries({}, optional=options))
    return World(
        fates=draw(st.lists(fates, max_size=8)),
        spec=spec,
        lag=draw(st.integers(0, 3)),
        crashes=draw(st.lists(st.integers(-1, 2), max_size=30)),
        changes={**changes, 61: {"suspend": False}},
        trials=draw(st.lists(st.sampled_from(Trial), max_size=4)),
        refusals=draw(st.integers(0, 2)),
    )


def agree(status: Status) -> None:
    """The state is what the conditions say."""
    true = {condition.type for condition in status.conditions if condition.status == "True"}
    assert (status.state == "Succeeded") == ("Succeeded" in true)
    assert (status.state == "Failed") == ("Failed" in true)
    assert ("Finished" in true) == bool({"Succeeded", "Failed"} & true)
    assert not {"Succeeded", "Failed"} <= true
    assert len({"Finished", "Running", "Suspended"} & true) <= 1
    assert (status.state == "Suspended") == ("Suspended" in true)
    assert ("Running" not in true) or status.state == "Running"
    assert (status.completion_time is not None) == ("Finished" in true)
    assert (status.artifact is not None) == ("Succeeded" in true)


def within_budgets(status: Status) -> None:
    """No cause was tried again more often than it may be."""
    for field, name in FIELDS.items():
        spent = sum(count for cause, count in status.failures.items() if HANDLING[Cause(cause)].budget == field)
        assert spent <= BUDGETS[name] + 1
    assert sum(status.failures.get(cause, 0) for cause, handling in HANDLING.items() if handling.budget is None) <= 1


def grows(earlier: Status, later: Status) -> None:
    """What was counted stays counted, and a condition's time changes with its status alone."""
    assert later.gpu_seconds >= earlier.gpu_seconds
    assert later.attempt_count >= earlier.attempt_count
    known = {(condition.type, condition.status): condition.last_transition_time for condition in earlier.conditions}
    for condition in later.conditions:
        assert known.get((condition.type, condition.status), condition.last_transition_time) == (
            condition.last_transition_time
        )


@settings(max_examples=80)
@given(worlds())
def test_every_job_comes_to_its_end(world: World) -> None:
    world.run()  # fails if an attempt is made twice, or beside another one
    assert world.made == list(range(1, world.status.attempt_count + 1))
    forbidden = {number for number, trial in enumerate(world.trials, 1) if trial is Trial.FORBIDDEN}
    assert world.tried == [number for number in range(1, world.status.preflight_count + 1) if number not in forbidden]
    for earlier, later in pairwise(world.written):
        agree(later)
        within_budgets(later)
        grows(earlier, later)


def test_every_fate_alone_is_overcome() -> None:
    for end in End:
        world = World([Fate(end=end)], {"failurePolicy": POLICY})
        world.run()
        assert world.status.state == ("Failed" if end is End.NEVER_STARTS else "Succeeded"), end
        assert len(world.made) <= 2


@pytest.mark.parametrize("trial", Trial)
def test_a_preflight_keeps_no_job_from_running_but_one_with_a_mistake(trial: Trial) -> None:
    world = World([], {"preflight": True}, trials=[trial])
    world.run()
    assert world.status.state == ("Failed" if trial is Trial.FAILS else "Succeeded")
    assert len(world.made) == (0 if trial is Trial.FAILS else 1)
    assert world.tried == ([] if trial is Trial.FORBIDDEN else [1])


def test_a_crash_after_any_action_of_any_decision_changes_nothing_in_the_end() -> None:
    fates = [Fate(End.HEAD_VANISHES), Fate(End.FAILS), Fate()]
    spec = {"failurePolicy": POLICY, "preflight": True}
    calm = World(fates, spec)
    calm.run()
    for place, decision in enumerate(calm.decisions):
        for actions in range(len(decision.actions) + 1):
            world = World(fates, spec, crashes=[-1] * place + [actions])
            world.run()
            assert (world.made, world.tried) == (calm.made, [1])
            assert world.status.failures == calm.status.failures
            assert world.status.state == "Succeeded"
