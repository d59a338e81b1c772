"""What became of a view between two generations: the fold of the pieces that only one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter

from bucketdex.views.merge import Entries
from bucketdex.views.snapshot import Entry, Snapshot, Visible, visible


def changes(snapshot: Snapshot, name: str, since: int) -> Iterator[Entry]:
    """Entries that the view has gained since generation `since`, with their weight, and lost, with a negative one; in
    order.

    Reads what was committed since, and runs that were merged since together with what they were merged to. Memory: a
    few blocks a run. SnapshotExpiredError when that generation can't be put together any more.
    """
    before, now = visible(snapshot.manifest, name, since), visible(snapshot.manifest, name, snapshot.generation)
    gained = _weighted(snapshot.merge(name, *_only(now, before)), 1)
    lost = _weighted(snapshot.merge(name, *_only(before, now)), -1)
    for key, entries in groupby(merge(gained, lost, key=itemgetter(0)), key=itemgetter(0)):
        weights: dict[bytes, int] = {}
        for _, line, weight in entries:
            weights[line] = weights.get(line, 0) + weight
        yield from (Entry(key, line, weight) for line, weight in sorted(weights.items()) if weight)


def _only(these: Visible, others: Visible) -> Visible:
    """The pieces of one generation that another doesn't have.

    A run that is merged in part, or grows where a merge goes on, is listed anew: it is another piece.
    """
    runs = {(run.id, run.added) for run in others.runs}
    deltas = {delta.id for delta in others.deltas}
    return Visible(
        [run for run in these.runs if (run.id, run.added) not in runs],
        [delta for delta in these.deltas if delta.id not in deltas],
    )


def _weighted(batches: Iterator[Entries], sign: int) -> Iterator[Entry]:
    for keys, lines, weights in batches:
        for i, key in enumerate(keys):
            yield Entry(key, lines[i], sign * (1 if weights is None else weights[i]))
