"""Our side: one rank without Ray, driven by a run config as the operator or `pretune run` would write it."""

import shutil
import sys
from pathlib import Path

import setting
from turns import Turns

from pretune_api.data import Data, Source
from pretune_api.methods import Full, Method
from pretune_api.model import Architecture
from pretune_api.objectives import CausalLM, Objective
from pretune_api.run_config import Folder, JobRef, Parent, RunConfig, RunModel, RunTokenizer
from pretune_api.storage import Storage
from pretune_api.tasks import Chat, Task
from pretune_api.training import Checkpointing, Evaluation, Training
from pretune_trainer.report import Event, Step

STORAGE = setting.HOME / "storage"


class TurnsReporter:
    """Takes a turn after each step that is reported."""

    def __init__(self) -> None:
        self._turns = Turns()

    def tell(self, event: Event) -> None:
        if isinstance(event, Step):
            self._turns.step(event.tokens)

    def stop_requested(self) -> bool:
        return False


def pretrain() -> RunConfig:
    """The run config of pretraining on the corpus."""
    return _config(
        kind="PretrainJob",
        objective=Objective(causal_lm=CausalLM()),
        data=Data(train=[Source(uri=setting.CORPUS.as_uri())], sequence_length=setting.LENGTH),
        rows=setting.ROWS,
    )


def finetune() -> RunConfig:
    """The run config of fine-tuning on conversations."""
    source = Source(uri=setting.CHATS.as_uri(), column="messages")
    return _config(
        kind="FinetuneJob",
        task=Task(chat=Chat()),
        data=Data(train=[source], sequence_length=setting.CHAT_LENGTH),
        rows=setting.CHAT_ROWS,
    )


def _config(kind: str, data: Data, rows: int, **learn: Objective | Task) -> RunConfig:
    return RunConfig(
        job=JobRef(namespace="local", kind=kind, name="bench", uid="00000000"),
        **learn,
        method=Method(full=Full()),
        model=RunModel(architecture=Architecture(type="llama", config=setting.MODEL)),
        tokenizer=RunTokenizer(parent=Parent(folder=Folder(uri=setting.TOKENIZER.as_uri()))),
        data=data,
        training=Training(
            examples_per_step=rows,
            micro_batch_rows=rows,
            max_steps=setting.STEPS,
            learning_rate=setting.LEARNING_RATE,
            precision="fp32",
        ),
        evaluation=Evaluation(),
        checkpoint=Checkpointing(every_steps=setting.STEPS),
        storage=Storage(uri=STORAGE.as_uri()),
        ranks=1,
        device="cpu",
    )


def forget_runs() -> None:
    """Remove what earlier runs have left, but for the token cache."""
    shutil.rmtree(Path(STORAGE, "local"), ignore_errors=True)


def main(stage: str) -> None:
    from pretune_trainer.parallel import Ranks
    from pretune_trainer.rank import run_rank

    forget_runs()
    run_rank({"pretrain": pretrain, "finetune": finetune}[stage](), Ranks(), TurnsReporter())


if __name__ == "__main__":
    main(sys.argv[1])
