"""What a driver's board says of a run, for tests of those who read it."""

from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.wire import Order
from pretune_trainer.report import Evaluated, Start

DIGEST = f"sha256:{'0' * 64}"
START = Start(
    "causalLM",
    run=2,
    from_step=100,
    total_steps=400,
    parameters=9,
    trainable=9,
    rows_per_step=8,
    micro_batch_rows=8,
    checkpoint_every=50,
)


def going_on() -> Progress:
    """A run that goes on from step 100 of 400."""
    progress = Progress(Order(1, {}, "causalLM", {}))
    progress.take(START)
    progress.take(Evaluated(100, {"loss": 2.5}, 1.0))
    return progress
