"""Which documents say what another one says: the same for any order of the work, and any number of ranks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.data.cleaning.minhash import BANDS, band
from pretune_trainer.data.cleaning.reasons import KEPT, Reason, verdict

_SIMILAR: Final = 0.7
"""Estimated Jaccard similarity of near duplicates, at least."""
_PAIRS: Final = 2**16
"""Pairs compared at once."""


@dataclass(frozen=True)
class Documents:
    """What is known of documents, in their order."""

    verdicts: NDArray[np.uint8]
    """Verdicts so far [n]: who is dropped already is compared with nobody."""
    digests: NDArray[np.uint64]
    """Digests of the texts [n, 2]."""
    signatures: NDArray[np.uint16]
    """MinHash signatures [n, PLACES], or [n, 0] where only equal documents are looked for."""
    held_out: NDArray[np.bool_]
    """Whether a document is in the validation [n]."""
    protected: NDArray[np.bool_]
    """Whether a document of the validation stays whatever it equals [n]."""


def decide(documents: Documents) -> NDArray[np.uint8]:
    """The verdicts with those on duplicates [n]: of each group the first in the validation stays, or else the first."""
    verdicts = documents.verdicts.copy()
    among = np.flatnonzero(verdicts == KEPT)
    _drop(verdicts, documents, among, _equal(documents, among), (Reason.DUPLICATE, Reason.CONTAMINATION))
    if documents.signatures.shape[1]:
        among = np.flatnonzero(verdicts == KEPT)
        near = _near(documents, among)
        _drop(verdicts, documents, among, near, (Reason.NEAR_DUPLICATE, Reason.NEAR_CONTAMINATION))
    return verdicts


def _drop(
    verdicts: NDArray[np.uint8],
    documents: Documents,
    among: NDArray[np.intp],
    groups: NDArray[np.intp],
    reasons: tuple[Reason, Reason],
) -> None:
    """Leave the first document of each group; `reasons` are for copies of what is on the same side, or held out."""
    held_out = documents.held_out[among]
    order = np.lexsort((~held_out, groups))
    first = _first_of_group(groups[order])
    contaminates = held_out[order][first] & ~held_out[order]
    dropped = (first != np.arange(len(order))) & ~documents.protected[among][order]
    copy, contamination = map(verdict, reasons)
    verdicts[among[order][dropped]] = np.where(contaminates, contamination, copy)[dropped]


def _first_of_group(ordered: NDArray[np.generic]) -> NDArray[np.intp]:
    """Of each element of a sorted array, the index of the first that equals it [n]."""
    starts = np.ones(len(ordered), np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    return np.maximum.accumulate(np.where(starts, np.arange(len(ordered)), 0))


def _equal(documents: Documents, among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Groups of documents with the same digest, by number [n]."""
    _, groups = np.unique(documents.digests[among], axis=0, return_inverse=True)
    return groups.reshape(-1)


def _near(documents: Documents, among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Groups of documents that are linked by near duplicates, by number [n]."""
    parents = np.arange(len(among))
    by_content = np.lexsort(documents.digests[among].T)
    signatures = documents.signatures[among]
    for pairs in _candidates(signatures, by_content):
        alike = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1) >= _SIMILAR
        for one, other in pairs[alike].tolist():
            _link(parents, one, other)
    return np.array([_root(parents, number) for number in range(len(parents))], np.intp)


def _candidates(signatures: NDArray[np.uint16], by_content: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Pairs that share a band [at most _PAIRS, 2]: each with its neighbour, and with the first that has the band.

    Neighbours by content, so that the order of the documents does not matter; all pairs would be quadratic.
    """
    for number in range(BANDS):
        keys = band(signatures, number)[by_content]
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(np.diff(keys[order]) == 0)
        found, first = by_content[order], _first_of_group(keys[order])
        ones, others = np.concatenate([same, first[same]]), np.concatenate([same, same]) + 1
        pairs = np.stack([found[ones], found[others]], axis=1)
        for start in range(0, len(pairs), _PAIRS):
            yield pairs[start : start + _PAIRS]


def _link(parents: NDArray[np.intp], one: int, other: int) -> None:
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first


def _root(parents: NDArray[np.intp], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = int(parents[number])
    return number
