"""One rank of a run: data -> model -> loop -> artifact. Runs under Ray Train, and alone."""

import atexit
import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from pretune_api.run_config import RunConfig
from pretune_trainer.artifact import ARTIFACT_DTYPES, export, publish
from pretune_trainer.baseline import in_context_design, in_context_inputs, save_baseline, saved_baseline
from pretune_trainer.batches import judged, step_batches
from pretune_trainer.data.example import Example
from pretune_trainer.data.prefetch import Prefetch
from pretune_trainer.data.stream import held_out
from pretune_trainer.data.token_cache import SourceExamples, TokenCache
from pretune_trainer.data.truncation import share, truncation_sentence
from pretune_trainer.data.unseen import unseen_labels, unseen_sentence
from pretune_trainer.device_errors import known_error, out_of_memory
from pretune_trainer.errors import OutOfMemoryError, PretuneError
from pretune_trainer.evaluate import Judgement, evaluate
from pretune_trainer.first_example import first_example
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.loop import Loop, Parts, finite
from pretune_trainer.methods import Tuned
from pretune_trainer.metrics.slices import TEST
from pretune_trainer.microbatch import check_whole, choose_rows, most_rows, note_too_many, too_many
from pretune_trainer.model.origin import Source, positions
from pretune_trainer.optim import Stability, optimizer_tensors, schedule
from pretune_trainer.parallel import Ranks
from pretune_trainer.reference import with_reference
from pretune_trainer.report import Evaluated, Reporter, Said, Shown, Start
from pretune_trainer.result import RankResult
from pretune_trainer.resume import Resumable, State, checkpoint_tensors
from pretune_trainer.step import Step, autocast, check_precision, prepare
from pretune_trainer.stopping import Improvement, StopVote
from pretune_trainer.storage.checkpoint import Checkpoints
from pretune_trainer.storage.finished import Facts, finished
from pretune_trainer.storage.runs import Run, claim_run
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks.base import Batch
from pretune_trainer.trainee import Trainee, make_once, make_trainee
from pretune_trainer.training_plan import (
    TrainingPlan,
    early_stopping_sentence,
    plan_training,
    rows_per_step,
    warmup_sentence,
)

_TEXTS_ASKED = 1
"""Texts that a language model is asked about at once: each is as many rows as there are labels."""
_AHEAD = 2
"""Steps whose batches are made while one is computed."""


def run_rank(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    """Carry out a run config, or go on with what an earlier run has left. Collective over `ranks`.

    Raises:
        StopRequestedError: asked to stop; a checkpoint is committed where training had begun.
        PretuneError: one of errors.py, the same on every rank wherever that is known.
    """
    disable_progress_bar()
    job = Store.open(config.storage).child(config.job.folder)
    done = ranks.once(lambda: finished(job))
    if done is not None:
        return RankResult(done.uri, done.digest, done.facts.metrics, done.facts.step, skipped_because_done=True)
    run = Run(job, ranks.once(lambda: claim_run(job, lambda text: reporter.tell(Said(text))).record))
    _set_aside_what_stays()
    session = _Session(config, ranks, reporter, run, StopVote(ranks, reporter))
    try:
        return session.carry_out()
    except RuntimeError as error:
        if (meaning := known_error(error)) is None:
            raise
        raise meaning from error


def _set_aside_what_stays() -> None:
    """Free what an earlier run has left, and spare later collections what was imported.

    torch and transformers are half a million objects: a collection, for which a checkpoint waits, took 0.3 s over them.
    """
    gc.collect()
    gc.freeze()
    _unfreeze_at_exit()


@cache
def _unfreeze_at_exit() -> None:
    """Once, however many runs a process has: at its end it complains, by nanobind, of what is never freed."""
    atexit.register(gc.unfreeze)


@dataclass(frozen=True)
class _Session:
    """A run on one rank."""

    config: RunConfig
    ranks: Ranks
    reporter: Reporter
    run: Run
    vote: StopVote

    def carry_out(self) -> RankResult:
        """Train from the newest checkpoint, or from the beginning, and publish the artifact. Collective."""
        check_precision(self.config.training, self.ranks.device)
        inputs = gather_inputs(self.config, self.ranks, self.reporter)
        self.ranks.once(lambda: self._tell_of_data(inputs))
        found = self._baseline(inputs)
        trainee = make_trainee(inputs, self.ranks)
        inputs = with_reference(inputs, trainee.step, self.ranks, self.run, self.vote)
        resumable = self._resumable(inputs, trainee)
        state = resumable.restore()
        plan = plan_training(inputs, self.ranks)
        rows = self._micro_batch(trainee, inputs, plan, state.micro_batch_rows)
        state.micro_batch_rows = self._within_memory(rows, inputs)
        self.reporter.tell(self._start(trainee, state, plan))
        warmup = warmup_sentence(self.config.training, plan.total_steps)
        for note in (trainee.tuned.note, warmup, early_stopping_sentence(self.config, plan.total_steps)):
            if note:
                self.reporter.tell(Said(note))
        if not state.step:
            self.ranks.once(lambda: self._show(inputs, trainee))
        self._train(inputs, trainee, resumable, state, plan, found)
        best = self._tested(inputs, trainee, resumable.restore_best(state), state.micro_batch_rows)
        return self._publish(inputs, trainee, best)

    def _tell_of_data(self, inputs: Inputs) -> None:
        cache = inputs.cache
        if cache.dropped:
            lost = f"{cache.dropped:,} of {cache.documents:,} rows ({share(cache.dropped, cache.documents)})"
            self.reporter.tell(Said(f"{lost} give nothing to learn from: {inputs.task.nothing_learnt}"))
        if truncated := _truncation(inputs):
            self.reporter.tell(Said(truncated))
        if labels := unseen_labels(inputs.cache, inputs.task):
            self.reporter.tell(Said(unseen_sentence(labels, f"spec.{self.config.part}.{self.config.stage}.labels")))

    def _show(self, inputs: Inputs, trainee: Trainee) -> None:
        if example := first_example(inputs, trainee.tuned.model.config.id2label):
            self.reporter.tell(Shown(example))

    def _baseline(self, inputs: Inputs) -> Judgement | None:
        """What the parent says in its prompt, before it is trained; None where it is not asked. Collective."""
        made = in_context_design(inputs)
        if made is None:
            return None
        found = saved_baseline(self.run, self.ranks)
        if found is None:
            found = self._ask(in_context_inputs(made, inputs, self.ranks, self.reporter))
            save_baseline(self.run, self.ranks, found)
            gc.collect()  # a model that was sharded refers to itself
        return found

    def _ask(self, inputs: Inputs) -> Judgement:
        batches = self._validation(inputs, _TEXTS_ASKED, rows_per_step(self.config))
        assert batches is not None, "the spec asks for validation data"
        tuned, _ = make_once(lambda: Tuned.itself(inputs.task.model(inputs.build)), self.ranks)
        step = Step(tuned.model, inputs.task)
        prepare(step, self.config.training, self.ranks)
        with autocast(self.config.training, self.ranks):
            return evaluate(step, batches(), self.ranks, self.vote)

    def _resumable(self, inputs: Inputs, trainee: Trainee) -> Resumable:
        return Resumable(
            checkpoints=Checkpoints(self.run.store, self.run, self.ranks, self.config.checkpoint.keep, self.reporter),
            tensors=checkpoint_tensors(trainee.step, optimizer_tensors(trainee.step, trainee.optimizer)),
            stability=Stability(self.config.training.instability, trainee.optimizer, self.ranks.device),
            improvement=_improvement(self.config, inputs),
            model_digest=inputs.model_digest,
            data_digest=inputs.cache.digest,
            ranks=self.ranks.size,
            reporter=self.reporter,
        )

    def _micro_batch(self, trainee: Trainee, inputs: Inputs, plan: TrainingPlan, before: int) -> int:
        """Rows that a rank computes at once; `before` is what was chosen before the checkpoint, 0 without one.

        Rows that are compared with each other are all of a rank's, which are more where a run goes on with fewer ranks.
        """
        most = -(-plan.rows_per_step // self.ranks.size)
        asked = self.config.training.micro_batch_rows
        if inputs.task.couples_rows:
            check_whole(asked, most)
            return most
        if before:
            return before
        if asked is not None:
            return min(asked, most)
        longest = _longest(inputs.cache)
        probe = partial(trainee.probe, longest, self.config.training, self.ranks, most)
        return choose_rows(most, inputs.task.layout.length, self.ranks, probe)

    def _within_memory(self, rows: int, inputs: Inputs) -> int:
        """`rows`, or half of what an earlier run ran out of memory with. Collective."""
        most = self.ranks.once(lambda: most_rows(self.run.store))
        return rows if most is None or inputs.task.couples_rows else min(rows, most)

    def _start(self, trainee: Trainee, state: State, plan: TrainingPlan) -> Start:
        return Start(
            stage=self.config.stage,
            run=self.run.ordinal,
            from_step=state.step,
            total_steps=plan.total_steps,
            parameters=trainee.parameters,
            trainable=trainee.trainable,
            rows_per_step=plan.rows_per_step,
            micro_batch_rows=state.micro_batch_rows,
            checkpoint_every=self.config.checkpoint.every_steps,
        )

    def _train(
        self,
        inputs: Inputs,
        trainee: Trainee,
        resumable: Resumable,
        state: State,
        plan: TrainingPlan,
        found: Judgement | None,
    ) -> None:
        parts = Parts(
            config=self.config,
            ranks=self.ranks,
            reporter=self.reporter,
            step=trainee.step,
            optimizer=trainee.optimizer,
            rate=schedule(self.config.training, plan.total_steps),
            resumable=resumable,
            vote=self.vote,
            validation=self._validation(inputs, state.micro_batch_rows, plan.rows_per_step),
            baseline=found,
            total_steps=plan.total_steps,
            utilization=trainee.utilization,
        )
        steps = plan.stream.steps(state.cursor)
        batches = step_batches(steps, inputs.task, state.micro_batch_rows, self.ranks.fork())
        try:
            with self._noting_too_many(inputs, state.micro_batch_rows), Prefetch(batches, _AHEAD) as ahead:
                Loop(parts, state).train(ahead)
        except PretuneError:
            resumable.checkpoints.wait()
            raise
        resumable.checkpoints.wait()

    @contextmanager
    def _noting_too_many(self, inputs: Inputs, rows: int) -> Iterator[None]:
        """Leave word for the next run where a device runs out of memory with so many rows at once.

        Raises:
            OutOfMemoryError: it has.
        """
        try:
            yield
        except RuntimeError as error:
            if (said := out_of_memory(error)) is None:
                raise
            note_too_many(self.run, rows)
            raise OutOfMemoryError(too_many(rows, said, coupled=inputs.task.couples_rows)) from error

    def _validation(self, inputs: Inputs, rows: int, rows_per_step: int) -> Callable[[], Iterator[Batch]] | None:
        if self.config.data.validation is None:
            return None
        limit = self.config.evaluation.max_batches
        most = None if limit is None else limit * rows_per_step
        return lambda: self._judged(inputs, inputs.cache.validation, rows, most)

    def _judged(
        self, inputs: Inputs, sources: Sequence[SourceExamples], rows: int, most: int | None = None
    ) -> Iterator[Batch]:
        packs = list(held_out(sources, inputs.task.layout, self.ranks.rank, self.ranks.size, most))
        return judged(packs, inputs.task, rows, self.ranks)

    def _tested(self, inputs: Inputs, trainee: Trainee, best: State, rows: int) -> State:
        """The state that will be published, with its figures on data by which nothing was chosen. Collective."""
        if not inputs.cache.test:
            return best
        with self._noting_too_many(inputs, rows), autocast(self.config.training, self.ranks):
            found = evaluate(trainee.step, self._judged(inputs, inputs.cache.test, rows), self.ranks, self.vote)
        figures = {f"{TEST}{name}": value for name, value in found.asked(self.config.evaluation.metrics).items()}
        metrics = best.metrics | finite(figures)
        self.reporter.tell(Evaluated(best.step, metrics, found.seconds))
        return replace(best, metrics=metrics)

    def _publish(self, inputs: Inputs, trainee: Trainee, state: State) -> RankResult:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            dtype = ARTIFACT_DTYPES[self.config.training.precision]
            facts = Facts(
                metrics=state.metrics,
                baseline=state.baseline,
                step=state.step,
                tokens=state.tokens,
                parameters=export(trainee.tuned, trainee.shapes, dtype, self.ranks, folder),
                parent=inputs.model_digest,
                data=inputs.cache.digest,
            )
            uri, digest = self.ranks.once(lambda: self._upload(inputs, folder, facts, trainee.tuned))
        return RankResult(uri, digest, state.metrics, state.step)

    def _upload(self, inputs: Inputs, folder: Path, facts: Facts, tuned: Tuned) -> tuple[str, str]:
        inputs.build.save_inputs(folder)
        inputs.task.save(folder, tuned.model.config)
        cleaned = inputs.clean.report if inputs.clean else None
        return publish(folder, self.run, self.config, facts, cleaned, tuned.loading, _truncation(inputs))


def _truncation(inputs: Inputs) -> str:
    """How many rows were truncated, and what would be right; empty where none was."""
    cache, origin = inputs.cache, inputs.build.origin
    if not cache.truncated:
        return ""  # nothing is to be advised, for which the parent's configuration would be read
    reach = positions(origin) if isinstance(origin, Source) else None
    most = None if reach is None else reach - inputs.build.virtual_tokens
    return truncation_sentence(cache.truncated, cache.documents - cache.dropped, inputs.task.layout.length, most)


def _longest(cache: TokenCache) -> Example:
    """The longest example of the training data."""
    source = max(cache.train, key=lambda source: int(source.lengths.max(initial=0)))
    return source.example(int(source.lengths.argmax()))


def _improvement(config: RunConfig, inputs: Inputs) -> Improvement | None:
    spec = config.early_stopping
    return None if spec is None else Improvement(spec, inputs.task.metrics_known[spec.metric])
