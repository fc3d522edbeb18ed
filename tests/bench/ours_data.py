"""Our data path alone: from Parquet, or from the token cache, to the batches that the loop takes."""

import shutil
import sys
from itertools import islice

import ours
import setting
from turns import Turns

from pretune_trainer.batches import step_batches
from pretune_trainer.data.example import Cursor
from pretune_trainer.data.stream import Stream
from pretune_trainer.inputs import gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Silent


def main(cache: str) -> None:
    config, ranks = ours.pretrain(), Ranks()
    turns = Turns(burst=setting.STEPS_PER_PASS)
    while True:
        if cache == "cold":
            shutil.rmtree(ours.STORAGE / "cache", ignore_errors=True)
        inputs = gather_inputs(config, ranks, Silent())
        stream = Stream(inputs.cache, inputs.task.layout, seed=0, rows_per_step=setting.ROWS)
        steps = step_batches(stream.steps(Cursor()), inputs.task, setting.ROWS, ranks)
        for batches in islice(steps, setting.STEPS_PER_PASS):
            turns.step(batches.tokens)


if __name__ == "__main__":
    main(sys.argv[1])
