"""A table as the user holds it: look-ups, queries, its state, and changes made in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bucketdex.client.backfill import BackfillJob
from bucketdex.client.changes import Changes, table_changes
from bucketdex.client.context import Context
from bucketdex.client.grouped import GroupedQuery
from bucketdex.client.objects import encode_records, key_for
from bucketdex.client.query import Query
from bucketdex.client.state import object_state, reject_rows, table_status
from bucketdex.client.summary import SummaryQuery
from bucketdex.definition import TableDefinition
from bucketdex.engine import ApplyResult, Backfilled, Verified
from bucketdex.engine.jobs import require_rate
from bucketdex.engine.verify import SETTLE_SECONDS
from bucketdex.errors import BucketdexError, MultipleRecordsError, QueryError
from bucketdex.query.columns import unknown
from bucketdex.query.expression import Column, Expression, Ordering
from bucketdex.query.reader import Reader
from bucketdex.storage import GetRequest

POLL_SECONDS = 0.2


class Table:
    """One table of a Database. Safe between threads; every question is answered from the newest snapshot."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self.name = name

    @property
    def definition(self) -> TableDefinition:
        """The definition that the index was made by, as of the last look at it. No request."""
        return self._context.session.known(self.name).definition.settled()

    def query(self) -> Query:
        """All rows, to be narrowed: iterating over it lists the table by key."""
        return Query(self._context, self.name)

    def where(self, /, *conditions: Expression, **equals: object) -> Query:
        """The rows that meet all conditions: `where(col.amount >= 100, country="DE")`."""
        return self.query().where(*conditions, **equals)

    def order_by(self, *columns: str | Column | Ordering) -> Query:
        """All rows in this order."""
        return self.query().order_by(*columns)

    def select(self, *columns: str | Column) -> Query:
        """All rows, with these columns only."""
        return self.query().select(*columns)

    def limit(self, count: int) -> Query:
        """The first rows by key."""
        return self.query().limit(count)

    def allow_scan(self) -> Query:
        """All rows; what is asked of them may read the whole table."""
        return self.query().allow_scan()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All rows by key."""
        return iter(self.query())

    def rows(self) -> list[dict[str, Any]]:
        """All rows by key."""
        return self.query().rows()

    def keys(self) -> list[str]:
        """The keys of all objects that have rows."""
        return self.query().keys()

    def count(self) -> int:
        """The number of rows, from the recorded counts."""
        return self.query().count()

    def group_by(self, *terms: str | Column) -> GroupedQuery:
        """Groups of all rows; see `Query.group_by`."""
        return self.query().group_by(*terms)

    def aggregate(self, /, **measures: str) -> dict[str, Any]:
        """Measures of all rows; see `Query.aggregate`."""
        return self.query().aggregate(**measures)

    def distinct(self, column: str | Column) -> list[Any]:
        """The distinct values of a column in order; see `Query.distinct`."""
        return self.query().distinct(column)

    def get(self, key: str, default: Any = None) -> Any:
        """The row of an object that holds one record, or `default`. One round trip when warm, three cold.

        MultipleRecordsError when it holds several: use `records`.
        """
        found = self.where(_key=key).limit(2).rows()
        if len(found) > 1:
            raise MultipleRecordsError(f"{key!r} holds several records: use records({key!r})")
        return found[0] if found else default

    def records(self, key: str) -> list[dict[str, Any]]:
        """The rows of all records of an object, in their order; none for a key that isn't indexed."""
        return self.where(_key=key).order_by("_at").rows()

    def summary(self, name: str) -> SummaryQuery:
        """A stored summary. Asking it raises QueryError where there is none of that name."""
        return SummaryQuery(self._context, self.name, name)

    def rejects(self, key: str | None = None) -> list[dict[str, Any]]:
        """What could not be indexed, of one object or of all, by key: `_key`, `_at`, `kind`, `line`, `field`, `value`
        (cut; None of sensitive fields) and `reason`. Of one object as many as the index keeps.
        """
        return list(reject_rows(self._context, self.name, key))

    def status(self) -> dict[str, Any]:
        """The generation and how many objects, rows and rejects it has; what waits for compaction, view by view;
        while the table is being rebuilt, the name and objects so far of the `successor` that takes its place.
        """
        return table_status(self._context, self.name)

    def changes(self, since: int) -> Changes:
        """The rows added and removed since a generation, which `status()` or the changes before told: `.added`,
        `.removed`, and `.generation` to ask from next time.

        Reads what was committed since, and what was compacted meanwhile. All of it is held in memory.
        SnapshotExpiredError when the generation is older than the index keeps replaced files, an hour by default.
        """
        return table_changes(self._context, self.name, since)

    def put(self, record: Mapping[str, Any], key: str | None = None) -> str:
        """Writes a record as an object of its own and returns its key: the one given, the one that its key template
        makes of the record, or a new one under its prefix. One PUT.

        The index follows by the object's event, a second or two later (`wait_for`); where no stack manages the table,
        at once.
        """
        return self.put_many([record], key)

    def put_many(self, records: Iterable[Mapping[str, Any]], key: str | None = None) -> str:
        """Writes records as one object and returns its key. One PUT. Several need a table of NDJSON."""
        listed = list(records)
        definition = self.definition
        key = key_for(definition, listed, self._context.runtime) if key is None else key
        self._owned(key)
        self._context.data.put(key, encode_records(definition, listed))
        self._index_here([key])
        return key

    def delete(self, key: str) -> None:
        """Deletes the object. Its rows go as `put` says. BucketdexError for a key that is none of this table."""
        self._owned(key)
        self._context.data.delete_many([key])
        self._index_here([key])

    def wait_for(self, key: str, timeout: float = 60.0, etag: str | None = None) -> dict[str, Any]:
        """Waits until an object is indexed (as of `etag`, where given) and returns what the index says of it: `etag`,
        `records`, `rejects`, ...

        Asks every 0.2 s; `timeout` in seconds. BucketdexError when it runs out.
        """
        runtime = self._context.runtime
        deadline = runtime.now() + timeout
        while True:
            state = object_state(self._context, self.name, key)
            if state is not None and etag in (None, state["etag"]):
                return state
            if runtime.now() >= deadline:
                raise BucketdexError(
                    f"{key!r} was not indexed within {timeout:g} s: see status() and the dead letter queue"
                )
            runtime.sleep(POLL_SECONDS)

    def reindex(self, keys: Iterable[str], *, progress: Callable[[ApplyResult], None] | None = None) -> ApplyResult:
        """Applies these objects now, in this process, as a function does with events. Returns what became of them; keys
        without an object lose their rows and are in `gone`.

        `keys` may be any number, also of an iterator: 256 make a commit. `progress` is told of all so far after each.
        One GET an object, two PUTs a commit. BucketdexError names the first object that failed, once all are done.
        """
        _ = self._context.data
        listed = [keys] if isinstance(keys, str) else keys
        result = self._context.engine.reindex(self.name, listed, progress=progress)
        for key, error in result.failed.items():
            raise BucketdexError(f"{len(result.failed)} objects were not indexed, {key!r} first: {error}") from error
        return result

    def backfill(
        self,
        prefix: str | None = None,
        *,
        rate: float | None = None,
        start_after: str | None = None,
        force: bool = False,
        inventory: str | None = None,
        dry_run: bool = False,
        progress: Callable[[Backfilled], None] | None = None,
    ) -> Backfilled:
        """Indexes the objects that were there before: lists the table's keys (below `prefix`, behind `start_after`) and
        applies those that the index lacks or knows by another ETag or time; with `force` all of them.

        `inventory`, the URL of a report's manifest.json of S3 Inventory in CSV, is gone through instead of the listing.
        It may run at any time, beside uploads, on a table that a stack manages too (it has to write its index), twice,
        or be stopped and run again: what is indexed already is skipped, and nothing is counted twice. `rate` is in
        objects a second. A `dry_run` only counts, and estimates requests and dollars. Deleted objects are `verify`'s.
        Cost: a LIST and a few GETs for each 1,000 keys; a GET an object that is due, two PUTs for each 256 of them.
        Objects that couldn't be read are in `failed`. BucketdexError for a prefix that holds no key of the table, and
        when the table is defined anew meanwhile; what was done stays.
        """
        _ = self._context.data
        return self._context.engine.backfill(
            self.name, prefix=prefix, rate=rate, start_after=start_after, force=force, inventory=inventory,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def backfill_job(self) -> BackfillJob:
        """The backfill that this table's deployment works off by itself: to start, look at, pause, resume, cancel. No
        request.
        """
        return BackfillJob(self._context, self.name)

    def rebuild(self, *, rate: float | None = None, progress: Callable[[Backfilled], None] | None = None) -> None:
        """Builds the table anew from its objects, in this process, beside itself, and swaps it in: nothing is answered
        from the half of it. Goes on with a rebuild that is under way, such as one for a changed field.

        It may run beside uploads, on a table that a stack manages too, and be stopped and run again. `rate` is in
        objects a second. Pages and `changes(since)` from before the swap are expired after it.
        Cost: as `backfill` of all objects; while it runs, each upload is indexed twice. BucketdexError, with the table
        as it was, where objects can't be read: mend them and run it again, or `abandon_rebuild`.
        """
        require_rate(rate)
        _ = self._context.data
        self._context.engine.rebuild(self.name)
        self._context.engine.build_successor(self.name, rate=rate, progress=progress)
        self._context.session.forget(self.name)

    def abandon_rebuild(self) -> bool:
        """Gives up a rebuild that is under way, such as one that objects keep from its end; the table stays as it is.
        False where there is none. BackfillError for what a stack's changed definition asks for: deploying the old
        definition gives that up. Four GETs, two PUTs.
        """
        return self._context.engine.abandon(self.name)

    def verify(
        self,
        *,
        deep: bool = False,
        sample: float = 1.0,
        repair: bool = False,
        settle_seconds: float = SETTLE_SECONDS,
        progress: Callable[[Verified], None] | None = None,
    ) -> Verified:
        """Compares the index with the bucket: `missing`, `stale` and `extra` objects, by a listing. `deep` also reads
        the objects, or a random `sample` of them (0.01: one in a hundred), for rows and rejects that are `wrong`, and
        compares every index and summary with the rows. `repair` applies the keys that differ.

        What looks wrong is looked at again after `settle_seconds`, and reported only if neither object nor index has
        moved, so uploads meanwhile are no errors. An index or summary in `views` is mended by taking it out of the
        definition and putting it back.
        Cost: a LIST and a few GETs for each 1,000 keys; `deep` a GET an object and all of the index. Writes only with
        `repair`. BucketdexError for a `sample` without `deep`, and when the table is defined anew meanwhile.
        """
        _ = self._context.data
        return self._context.engine.verify(
            self.name, deep=deep, sample=sample, repair=repair, settle_seconds=settle_seconds, progress=progress
        )

    def compact(self, view: str | None = None, *, full: bool = False) -> None:
        """Folds a view's commits and runs, or all views': at most two runs each are left, with `full` one. Changes no
        answer. With `full`, nothing that was deleted is left in the files that are read from now on. QueryError where
        there is no view of that name.
        """
        views = self._context.engine.load(self.name).manifest.views
        if view is not None and view not in views:
            raise QueryError(unknown("view", view, views, f"table {self.name!r}"))
        self._context.engine.compact(self.name, view, mode="full" if full else "tidy")

    def __repr__(self) -> str:
        return f"<Table {self.name!r} of {self._context.index.url}>"

    def _owned(self, key: str) -> None:
        if self.definition.match(key) is None:
            raise BucketdexError(f"{key!r} is no key of table {self.name!r}, so its index doesn't follow it")

    def _index_here(self, keys: list[str]) -> None:
        def managed(reader: Reader, _: None) -> bool:
            return reader.known.manifest.managed_by is not None

        if not self._context.session.read(self.name, _nothing, managed):
            self.reindex(keys)


def _nothing(_: Reader) -> tuple[None, list[GetRequest]]:
    return None, []
