"""How often the cluster is counted."""

from hypothesis import given
from hypothesis import strategies as st

from pretune_operator.health import RESYNC_SECONDS
from pretune_operator.resync import LONGEST_SECONDS, PERIOD_SECONDS, SHARE, period_after


@given(spent=st.floats(0, PERIOD_SECONDS * SHARE))
def test_a_cluster_that_is_counted_quickly_is_counted_every_minute(spent: float) -> None:
    assert period_after(spent) == PERIOD_SECONDS


@given(spent=st.floats(PERIOD_SECONDS * SHARE, LONGEST_SECONDS * SHARE))
def test_a_large_cluster_is_counted_as_often_as_a_hundredth_of_a_core_can(spent: float) -> None:
    assert spent / period_after(spent) <= SHARE * 1.001


@given(spent=st.floats(0, 1e6))
def test_no_cluster_is_so_large_that_the_operator_counts_as_unhealthy_before_it_counts_again(spent: float) -> None:
    assert PERIOD_SECONDS <= period_after(spent) <= RESYNC_SECONDS / 2
