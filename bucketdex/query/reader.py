"""One query's look at one generation: its snapshot, what it cost, and reading several ranges in few round trips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from bucketdex.definition import TableDefinition
from bucketdex.query.access import KeyRange, Layout
from bucketdex.query.columns import Columns, table_columns
from bucketdex.query.planner import layouts_of
from bucketdex.storage import CountingStore, GetRequest, Manifest, Versioned, owner_of
from bucketdex.views import BlockCache, Snapshot

WINDOW = 32  # ranges that are looked up at once
PASSES = 2  # footers, then blocks


@dataclass(frozen=True)
class Cost:
    """S3 requests, bytes read, and the depth of the path: round trips that had to wait for each other."""

    requests: int = 0
    bytes: int = 0
    rounds: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.bytes + other.bytes, self.rounds + other.rounds)


def cost_of(store: CountingStore) -> Cost:
    """What has passed through a store so far."""
    return Cost(sum(store.requests.values()), store.bytes_in, store.rounds)


class Known:
    """A manifest and all that follows from it alone; shared between threads."""

    def __init__(self, versioned: Versioned, before: Known | None = None) -> None:
        self.versioned = versioned
        manifest = versioned.manifest
        self.definition: TableDefinition
        self.columns: Columns
        self.layouts: tuple[Layout, ...]
        if before is not None and before.manifest.definition == manifest.definition:
            self.definition, self.columns, self.layouts = before.definition, before.columns, before.layouts
        else:
            self.definition = TableDefinition.from_dict(
                owner_of(manifest.table), manifest.definition, origin="manifest"
            )
            self.columns = table_columns(self.definition)
            self.layouts = layouts_of(self.definition, self.columns)
        self.building = frozenset(name for name, view in manifest.views.items() if view.state != "ready")

    @property
    def manifest(self) -> Manifest:
        """The manifest."""
        return self.versioned.manifest


class Reader:
    """Reads one generation of a table through a store that counts. Used by one thread."""

    def __init__(self, store: CountingStore, known: Known, cache: BlockCache, at: int | None = None) -> None:
        self.store = store
        self.known = known
        self.definition = known.definition
        self.generation = known.manifest.generation if at is None else at
        self._cache = cache
        self._at = at
        self.snapshot = self.fresh()

    @property
    def cost(self) -> Cost:
        """What it has cost so far."""
        return cost_of(self.store)

    def fresh(self) -> Snapshot:
        """The same snapshot, holding on to nothing that was read."""
        return Snapshot(self.store, self.known.manifest, self.definition, self._cache, at=self._at)

    def predict(self, view: str, ranges: Sequence[KeyRange], *, reverse: bool = False) -> list[GetRequest]:
        """What the first round over the first ranges would read that isn't in memory."""
        return _predict(self.snapshot, view, ranges[:WINDOW], reverse)

    def warm(self, view: str, ranges: Sequence[KeyRange], *, reverse: bool) -> None:
        """Reads what the first round over each of these ranges needs, all at once."""
        self._warm(self.snapshot, view, ranges, reverse)

    def predict_count(self, view: str, ranges: Sequence[KeyRange]) -> list[GetRequest]:
        """What counting the first ranges would read next that isn't in memory."""
        return _unique(self.snapshot.predict_count(view, item.low, item.high) for item in ranges[:WINDOW])

    def count(self, view: str, ranges: Sequence[KeyRange]) -> int:
        """The net weight of all ranges, many of them in few round trips."""
        total = 0
        for start in range(0, len(ranges), WINDOW):
            window = ranges[start : start + WINDOW]
            for _ in range(PASSES):
                requests = self.predict_count(view, window)
                if not requests:
                    break
                self.snapshot.warm(requests, self.store.get_many(requests))
            total += sum(self.snapshot.count(view, item.low, item.high) for item in window)
        return total

    def windows(
        self, view: str, ranges: Sequence[KeyRange], *, reverse: bool, width: int = WINDOW
    ) -> Iterator[tuple[KeyRange, Snapshot]]:
        """Each range with a snapshot that has, for many ranges at once, read what their first rounds need."""
        if len(ranges) == 1:
            yield ranges[0], self.snapshot
            return
        width = max(1, min(width, WINDOW))
        for start in range(0, len(ranges), width):
            window = ranges[start : start + width]
            snapshot = self.snapshot if start == 0 else self.fresh()
            self._warm(snapshot, view, window, reverse)
            for item in window:
                yield item, snapshot

    def _warm(self, snapshot: Snapshot, view: str, ranges: Sequence[KeyRange], reverse: bool) -> None:
        for _ in range(PASSES):
            requests = _predict(snapshot, view, ranges, reverse)
            if not requests:
                return
            snapshot.warm(requests, self.store.get_many(requests))


def _predict(snapshot: Snapshot, view: str, ranges: Sequence[KeyRange], reverse: bool) -> list[GetRequest]:
    return _unique(snapshot.predict(view, item.low, item.high, reverse) for item in ranges)


def _unique(requests: Iterable[list[GetRequest]]) -> list[GetRequest]:
    return list(dict.fromkeys(chain.from_iterable(requests)))
