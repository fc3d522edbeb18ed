"""Texts become vectors, similar where they belong together: queries find their documents (SimCSE, E5, DPR)."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from pretune_api.embedding import Embedding as Spec
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row, kind_of
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import BadRowError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.text_retrieval import Searched, TextRetrieval
from pretune_trainer.model.build import Build
from pretune_trainer.model.gather import gathered
from pretune_trainer.model.matching import matching_loss, own_places, unit
from pretune_trainer.model.origin import check_reads_text
from pretune_trainer.model.pooling import pooled
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.encoding import encode_whole
from pretune_trainer.tasks.language import NOTHING, padded_inputs
from pretune_trainer.tasks.sentence_transformers import save_settings

_QUERY: Final = "query_"
"""Stands before the names of what the model reads of queries."""
_READ: Final = ("input_ids", "attention_mask")


class Embedding(Task[Searched]):
    """Each query finds its document among all of the step, hard negatives included: cross-entropy of similarities.

    Rows are compared over all ranks, so each computes its rows of a step at once.
    """

    couples_rows = True
    nothing_learnt = "they are null or blank, or the document that belongs to them is"

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.seed = context.seed
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.layout = Layout(length=context.sequence_length, packs=False)
        hard = self.spec.hard_negatives
        self.negatives = hard.per_query if hard else 0
        read = (self.spec.positive_column, hard.column if hard else None)
        self.columns = [column for column in read if column is not None]
        # Without dropout each text finds itself: there is nothing to judge but how far apart texts are.
        self.metrics_known = TextRetrieval.known if self.spec.positive_column else TextRetrieval.of_texts
        prefixes = self.spec.query_prefix, self.spec.document_prefix
        self.fingerprint = f"embedding/1/{context.sequence_length}/{read}/{prefixes}"

    def model(self, build: Build) -> PreTrainedModel:
        """A model without a head, nor BERT's pooler, of which vectors are not made."""
        check_reads_text(build.origin, "embedding")
        model = build.make(AutoModel)
        if getattr(model, "pooler", None) is not None:
            model.pooler = nn.Identity()  # SqueezeBERT computes it, be it there or not
        return model

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a row whose query and document are not blank: ids and document int32 [n] and [m], and all
        negatives one behind the other, int32 [k], with lengths int32 [negatives].
        """
        found = [self._texts(row) for row in rows]
        encoded = iter(encode_whole(self.tokenizer, [text for texts in found for text in texts], self.layout.length))
        for texts in found:
            read = [next(encoded) for _ in texts]
            needed, ids = max((count for _, count in read), default=0), (np.asarray(each, np.int32) for each, _ in read)
            yield [fitted(_example(*ids), needed, self.layout.length)] if texts else []

    def _texts(self, row: Row) -> list[str]:
        """The query, its document, and what does not belong to it; nothing where one of the former is blank."""
        query = row.text()
        document = self._document(row, query)
        if not query.strip() or not document.strip():
            return []
        before = self.spec.document_prefix
        return [self.spec.query_prefix + query, before + document, *(before + text for text in self._negatives(row))]

    def _document(self, row: Row, query: str) -> str:
        """What belongs to the query: itself where no column is named; blank where there is none."""
        column = self.spec.positive_column
        if column is None:
            return query
        return "" if row.value(column) is None else row.text(column)

    def _negatives(self, row: Row) -> list[str]:
        if self.spec.hard_negatives is None:
            return []
        column = self.spec.hard_negatives.column
        value = row.value(column)
        found = [] if value is None else value if isinstance(value, list) else [value]
        texts = [each for each in found if isinstance(each, str)]
        if len(texts) < len(found):
            raise BadRowError(str(row.place), f"column '{column}' holds {kind_of(value)}, expected a list of texts")
        return [each for each in texts if each.strip()]

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Documents, then each first negative, and so on, padded on the right: input_ids, attention_mask int64
        [(kinds - 1) * packs, width]; and queries, which are mostly shorter, by themselves: query_input_ids,
        query_attention_mask int64 [packs, their width]. Target "name" int64 [kinds, packs] names each text, 0 where
        there is none.

        Every rank has as many rows, so that they can be gathered.
        """
        drawn = [self._drawn(pack) for pack in packs]
        rows = [each[kind] for kind in range(2 + self.negatives) for each in drawn]
        names = torch.tensor([_name(row) for row in rows]).reshape(-1, len(packs))
        pairs = sum(1 for pack in packs if pack.examples)
        queries, documents = (
            padded_inputs(part, self.pad, self.layout.length) for part in (rows[: len(packs)], rows[len(packs) :])
        )
        inputs = documents | {_QUERY + name: tensor for name, tensor in queries.items()}
        return Batch(inputs, {"name": names}, {"pair": pairs}, sum(map(len, rows)))

    def _drawn(self, pack: Pack) -> list[Array]:
        """A query, its document, and as many negatives as a step has of each query; empty where there are fewer."""
        if not pack.examples:
            return [NOTHING] * (2 + self.negatives)
        example = pack.examples[0]
        lengths = example["lengths"]
        negatives = np.split(example["negatives"], np.cumsum(lengths)[:-1])
        order = range(len(lengths)) if pack.held_out else pack.random(self.seed).permutation(len(lengths))
        chosen = [negatives[number] for number in order[: self.negatives]]
        return [example["ids"], example["document"], *chosen, *[NOTHING] * (self.negatives - len(chosen))]

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over this rank's queries, each compared with the documents of all ranks."""
        names = batch.targets["name"]
        queries, *documents = self._vectors(model, batch)
        pool = torch.cat([gathered(each) for each in documents])
        own = own_places(names[0] != 0)
        loss = matching_loss(queries, pool, own, _hidden(names, own), 1.0 / self.spec.temperature)
        return {"pair": loss}

    def _vectors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Unit vectors: float32 [kinds, packs, width]."""
        kinds = [{name: batch.inputs[before + name] for name in _READ} for before in (_QUERY, "")]
        vectors = torch.cat([unit(pooled(model, inputs, self.spec.pooling)) for inputs in kinds])
        return vectors.reshape(*batch.targets["name"].shape, -1)

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Searched]:
        """Each query's vector, and those of its documents."""
        vectors = self._vectors(model, batch).transpose(0, 1).cpu().numpy()
        scale = 1.0 / self.spec.temperature
        found = zip(vectors, batch.targets["name"].T.cpu().numpy(), strict=True)
        return [
            Searched(each[names != 0], tuple(names[names != 0].tolist()), scale) for each, names in found if names[0]
        ]

    def metrics(self) -> list[Metric[Searched]]:
        """How well queries find their documents."""
        return [TextRetrieval(searches=self.spec.positive_column is not None)]

    def save(self, folder: Path, config: PretrainedConfig) -> None:
        """Write what sentence-transformers needs to load the model."""
        save_settings(folder, self.spec, config.hidden_size, self.layout.length)


def _example(query: Array, document: Array, *negatives: Array) -> Example:
    lengths = np.array([len(each) for each in negatives], np.int32)
    return {
        "ids": query,
        "document": document,
        "negatives": np.concatenate([np.zeros(0, np.int32), *negatives]),
        "lengths": lengths,
    }


def _name(row: Array) -> int:
    """Names a text by its tokens; 0 where there are none."""
    return int.from_bytes(blake2b(row.astype(np.int32).tobytes(), digest_size=7).digest(), "big") + 1 if len(row) else 0


def _hidden(names: Tensor, own: Tensor) -> Tensor:
    """What of all ranks' documents a query is not compared with: blanks, and what belongs to it beside its own.

    Args:
        names: int64 [kinds, n], this rank's queries, documents and negatives.
        own: int64 [n], the place of each query's document.

    Returns:
        bool [n, all documents]
    """
    query, document, *_ = names.unbind()
    every = torch.cat([gathered(each) for each in names[1:]])
    hidden = (every == 0) | (every == document[:, None])
    others = gathered(query)
    hidden[:, : len(others)] |= others == query[:, None]
    return hidden.scatter(1, own.clamp_min(0)[:, None], False)
