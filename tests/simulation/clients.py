"""Who asks: the client that users have, over the same bad network, each answer compared with the generation it is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from checks import contents, definition_of
from place import Place
from toxics import StillStore

from bucketdex.client.context import Context
from bucketdex.client.table import Table
from bucketdex.definition import row_codec
from bucketdex.errors import QueryError, SnapshotExpiredError, TableNotFoundError
from bucketdex.query.expression import col
from bucketdex.storage import Manifest
from bucketdex.views import RECORDS, Snapshot

PAGES_MAX = 12

Rows = Counter[str]


class Client:
    """A process that keeps a `Database` for several questions, so that it has manifests and blocks of earlier ones."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._questions: list[Callable[[Table], int]] = [
            self._rows, self._rows, self._count, self._pages, self._summary, self._changes, self._of_object,
        ]  # fmt: skip
        self._seen: tuple[int, Rows] | None = None  # a generation, and the rows that it had
        self._truth_known: tuple[Manifest, Truth] | None = None  # what was compared with last

    def run(self) -> None:
        self._place.processes(self._ask, self._open)

    def _open(self) -> Table:
        place = self._place
        return Table(Context(place.way_to_index(), None, place.runtime, 1_000_000), "t")

    def _ask(self, table: Table) -> float:
        place, r = self._place, self._place.random
        asked_at = place.witness.generation("t")
        try:
            generation = r.choice(self._questions)(table)
        except SnapshotExpiredError:
            place.counts["questions expired"] += 1
        except TableNotFoundError:
            assert asked_at == 0 or place.witness.dropped, "the table is gone"
        except QueryError:  # of a summary that isn't there, or is still built
            assert len(place.shape.definitions) > 1
            place.counts["questions without a view"] += 1
        else:
            assert generation >= asked_at, f"an answer of generation {generation}, asked at {asked_at}"
            place.counts["questions answered"] += 1
        pause_s = r.choice([0.1, 1.0, 100.0, 1_000.0])
        place.scheduler.wait(place.queue.bell, place.scheduler.now + pause_s)
        return r.random() * min(pause_s, 30.0)

    def _rows(self, table: Table) -> int:
        group = self._place.random.choice(["x", "y", None])
        query = table.where(g=group).allow_scan()
        rows = []
        chance = 0.4 if self._place.shape.settings.grace_seconds < 100.0 else 0.1
        for row in query:  # whoever works with one row after the other reads for a long time
            rows.append(row)
            if self._place.random.random() < chance:
                self._place.scheduler.pause(self._place.random.choice([1.0, 30.0, 1_000.0]))
        found = _counted(rows)
        return self._compare(query, lambda truth: found == _counted(r for r in truth.rows if r["g"] == group))

    def _count(self, table: Table) -> int:
        group = self._place.random.choice(["x", "y"])
        query = table.where(g=group).allow_scan()
        found = query.count()
        return self._compare(query, lambda truth: found == sum(r["g"] == group for r in truth.rows))

    def _of_object(self, table: Table) -> int:
        key = self._place.random.choice(self._place.shape.keys)
        query = table.where(_key=key).order_by("_at")
        found = query.rows()
        return self._compare(query, lambda truth: found == [r for r in truth.rows if r["_key"] == key])

    def _pages(self, table: Table) -> int:
        """All pages are of the generation of the first."""
        query = table.where(col("a").is_not_null()).order_by("-a").allow_scan()
        first: int | None = None
        token, found = None, []
        for _ in range(PAGES_MAX):
            page = query.page(size=3, token=token)
            assert query._reader is not None
            first = query._reader.generation if first is None else first
            assert query._reader.generation == first, "pages of two generations"
            found += page.rows
            token = page.next_token
            if token is None:
                break
            self._place.scheduler.pause(self._place.random.choice([0.0, 1.0, 100.0]))
        amounts = [row["a"] for row in found]
        assert amounts == sorted(amounts, reverse=True), "pages out of order"

        def right(truth: Truth) -> bool:
            expected = _counted(r for r in truth.rows if r["a"] is not None)
            return _counted(found) == expected if token is None else _counted(found) <= expected

        self._compare(query, right)
        return self._place.witness.generation("t")  # later pages are older than their question, and are to be

    def _summary(self, table: Table) -> int:
        query = table.summary("s")
        found = query.rows()
        return self._compare(query, lambda truth: found == truth.summary)

    def _changes(self, table: Table) -> int:
        """What was seen earlier, with what came and without what went, is what is there now."""
        if self._seen is None:
            query = table.query()
            self._seen = 0, _counted(query.rows())
            assert query._reader is not None
            self._seen = query._reader.generation, self._seen[1]
            return self._seen[0]
        (since, rows), self._seen = self._seen, None
        changes = table.changes(since)
        now = rows.copy()
        now.update(_counted(changes.added))
        now.subtract(_counted(changes.removed))
        truth = self._truth(changes.generation)
        assert truth is None or +now == _counted(truth.rows), f"changes from {since} to {changes.generation}"
        assert min(now.values(), default=0) >= 0, "rows went that weren't there"
        return changes.generation

    def _compare(self, query: Any, right: Callable[[Truth], bool]) -> int:
        """Asserts that an answer is right for its generation, and gives that."""
        generation: int = query._reader.generation
        truth = self._truth(generation)
        assert truth is None or right(truth), f"{query}: another answer than generation {generation} has"
        return generation

    def _truth(self, generation: int) -> Truth | None:
        """What a generation holds; None where that can't be told any more."""
        manifest = self._place.witness.past.get(generation)
        if manifest is None:
            return None
        if self._truth_known is None or self._truth_known[0] is not manifest:
            try:
                self._truth_known = manifest, Truth(self._place, manifest)
            except SnapshotExpiredError:
                return None
        self._place.counts["answers compared"] += 1
        return self._truth_known[1]


class Truth:
    """All rows of a generation by key, and its summary, by a snapshot that nothing disturbs."""

    def __init__(self, place: Place, manifest: Manifest) -> None:
        definition = definition_of(manifest)
        found = contents(Snapshot(StillStore(place.index), manifest, definition, place.cache))
        codec = row_codec(definition)
        self.rows = [codec.to_python(codec.decode(line)) for line in found[RECORDS]]
        named = [name for name in found if name == "s" or name.startswith("s@")]
        self.summary = found[min(named)] if named else None


def _counted(rows: Any) -> Rows:
    return Counter(map(repr, rows))
