"""Indexes objects that were there before: lists a table's keys and applies those that the index doesn't know as they
are. Changes with what a backfill may be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from bucketdex.engine import estimate
from bucketdex.engine.apply import Applier
from bucketdex.engine.changes import Means
from bucketdex.engine.estimate import Estimate, messages_of
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.jobs import require_rate
from bucketdex.engine.lister import Lister, Page
from bucketdex.engine.walk import PAGE_KEYS
from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from bucketdex.storage import Listed, is_successor

BATCH_KEYS = 256  # in one commit: few commits, yet so few keys that the commit log of live writers reaches far back
BATCH_BYTES = 32 * 2**20
GIVE_UPS_MAX = 5  # batches in a row that lost to live traffic, each after its own attempts
GIVE_UP_SECONDS = 5.0
FAILED_MAX = 1_000  # failed keys that are named


class Backfilled(msgspec.Struct):
    """What a backfill did, or (a dry run) would do. `due` objects were missing or stale, `unchanged` ones were left
    alone; `failed` names up to 1,000 keys with their errors, `failures` counts all.
    """

    listed: int = 0
    unchanged: int = 0
    due: int = 0
    due_bytes: int = 0
    applied: int = 0
    rows: int = 0
    rejects: int = 0
    commits: int = 0
    failures: int = 0
    failed: dict[str, Exception] = msgspec.field(default_factory=dict)
    last_key: str | None = None  # all keys (of a report: lines) up to it are done: a later `start_after`
    reads_estimated: int = 0  # GETs, of a dry run
    writes_estimated: int = 0  # PUTs and LISTs
    queue_requests_estimated: int = 0  # of SQS, where a deployment does it
    dollars_estimated: float = 0.0
    dollars_by_service: dict[str, float] = msgspec.field(default_factory=dict)

    def count(self, page: Page) -> None:
        """Takes in what is due of a page."""
        self.listed += page.listed
        self.unchanged += page.unchanged
        self.due += len(page.due)
        self.due_bytes += sum(listed.size for listed in page.due)

    def estimate(self, made: Estimate) -> None:
        """Takes in what it would cost, beside the requests that the dry run has made itself."""
        self.reads_estimated, self.writes_estimated = made.reads, made.writes
        self.queue_requests_estimated, self.dollars_by_service = made.queue_requests, made.dollars
        self.dollars_estimated = sum(made.dollars.values())

    def add(self, result: ApplyResult) -> None:
        """Takes in what became of a batch."""
        self.applied += len(result.applied)
        self.rows += result.rows
        self.rejects += result.rejects
        self.commits += result.commits
        self.failures += len(result.failed)
        for key, error in result.failed.items():
            if len(self.failed) < FAILED_MAX:
                self.failed[key] = error


Progress = Callable[[Backfilled], None]


def send(applier: Applier, runtime: Runtime, table: str, events: Iterable[Event]) -> ApplyResult:
    """Applies a batch, and again where live traffic came first too often: whoever repairs can wait."""
    batch = list(events)
    for give_up in range(GIVE_UPS_MAX):
        try:
            return applier.apply(table, batch)
        except CommitGaveUpError:
            if give_up == GIVE_UPS_MAX - 1:
                raise
            runtime.sleep(runtime.uniform(0, GIVE_UP_SECONDS))
    raise AssertionError("unreachable")


class Backfiller:
    """Backfills one table. `compact` is called after each page, to fold what is due."""

    def __init__(self, means: Means, applier: Applier, compact: Callable[[str], object]) -> None:
        self._means, self._applier, self._compact = means, applier, compact

    def backfill(
        self,
        table: str,
        *,
        prefix: str | None = None,
        rate: float | None = None,
        start_after: str | None = None,
        force: bool = False,
        inventory: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Backfilled:
        """Applies every listed object of the table that the index lacks or holds by another ETag or time.

        Guarantee: it goes through `apply`, so it may run at any time, beside live traffic, twice, or be stopped and run
        again: nothing is lost or counted twice. What it skips is a saving, never an answer: an object whose ETag and
        time (in whole seconds) are those of its row. That misses what changes neither, such as tags, or metadata
        copied twice within a second while events were lost; `force` applies every key. Deleted objects are
        `verify`'s to find.
        `inventory`: the URL of a report of S3 Inventory to go through instead of the listing (see `Inventory`).
        `prefix`: only the keys below it. `rate`: objects a second at most. `start_after`: go on behind this key.
        `progress` is called after each page and batch.
        Cost: a LIST and a few GETs for each 1,000 keys; for what is due one GET an object and two PUTs for each 256.
        Raises BucketdexError (a prefix that is none of the table's, a rate that isn't positive, a definition that
        changes meanwhile), StorageError, CommitGaveUpError; what was committed stays.
        """
        if dry_run:
            return self.estimate(
                table, prefix=prefix, rate=rate, start_after=start_after, force=force, inventory=inventory,
                progress=progress,
            )  # fmt: skip
        require_rate(rate)
        lister = Lister(self._means, table, prefix=prefix, after=start_after, force=force, inventory=inventory)
        done = Backfilled()
        tell = progress or _nobody
        pacer = _Pacer(self._means.runtime, rate)
        batch: list[Listed] = []
        batch_bytes = 0
        for page in lister.pages():
            done.count(page)
            for listed in page.due:
                if batch and (len(batch) >= pacer.batch_keys or batch_bytes + listed.size > BATCH_BYTES):
                    self._send(table, batch, done, pacer, tell, ordered=inventory is None)
                    batch, batch_bytes = [], 0
                batch.append(listed)
                batch_bytes += listed.size
            if batch:
                self._send(table, batch, done, pacer, tell, ordered=inventory is None)
                batch, batch_bytes = [], 0
                self._compact(table)
            done.last_key = page.cursor
            tell(done)
        return done

    def estimate(
        self,
        table: str,
        *,
        prefix: str | None = None,
        rate: float | None = None,
        start_after: str | None = None,
        force: bool = False,
        inventory: str | None = None,
        deployed: bool = False,
        progress: Progress | None = None,
    ) -> Backfilled:
        """Counts what is due, and estimates what applying it costs: in this process, or where `deployed` by the
        deployment, from the start of its job to the end. Writes nothing. Cost: a LIST and a few GETs for each 1,000
        keys. Raises as `backfill` does.
        """
        require_rate(rate)
        lister = Lister(self._means, table, prefix=prefix, after=start_after, force=force, inventory=inventory)
        done, messages = Backfilled(), 0
        tell = progress or _nobody
        for page in lister.pages():
            done.count(page)
            messages += messages_of(page.due, rate)
            done.last_key = page.cursor
            tell(done)
        tags = any(field.source == "tag" for field in lister.walk.definition.fields)
        shape = estimate.Shape(len(lister.walk.snapshot().manifest.views), tags)
        found = estimate.Pages(done.listed, done.due, messages)
        if deployed:
            # One pass more proves that the first was enough; by a report, its messages do, but of a successor.
            passes = 1 if not done.due or (inventory and not is_successor(table)) else 2
            lists = passes - bool(inventory)
            done.estimate(estimate.deployed(found, shape, rate=rate, passes=passes, lists=lists))
        else:
            done.estimate(estimate.in_process(found, shape, batch_keys=BATCH_KEYS))
        return done

    def reindex(
        self, table: str, keys: Iterable[str], *, progress: Callable[[ApplyResult], None] | None = None
    ) -> ApplyResult:
        """Applies these keys now, 256 in a commit, and folds what is due after every 1,000.

        Guarantee: that of `apply`; a batch that lost to live traffic is sent again. `progress` is told after each batch
        of all so far. Keys are taken one batch at a time; what was committed stays when one raises.
        Cost: a GET an object, a few GETs and two PUTs for each 256.
        """
        result = ApplyResult(generation=0)
        rest, since = iter(keys), 0
        while batch := list(islice(rest, BATCH_KEYS)):
            result.add(send(self._applier, self._means.runtime, table, map(Event, batch)))
            since += len(batch)
            if since >= PAGE_KEYS:
                self._compact(table)
                since = 0
            if progress is not None:
                progress(result)
        return result

    def _send(
        self, table: str, batch: list[Listed], done: Backfilled, pacer: _Pacer, tell: Progress, *, ordered: bool
    ) -> None:
        pacer.wait(len(batch))
        events = [Event(listed.key, size=listed.size) for listed in batch]
        done.add(send(self._applier, self._means.runtime, table, events))
        if ordered:
            done.last_key = batch[-1].key
        tell(done)


class _Pacer:
    """Keeps the objects sent at or below a rate; a batch is then at most a second's worth."""

    def __init__(self, runtime: Runtime, rate: float | None) -> None:
        self._runtime, self._rate = runtime, rate
        self._due, self._interval = runtime.now(), 0.0
        self.batch_keys = BATCH_KEYS if rate is None else max(1, min(BATCH_KEYS, int(rate)))

    def wait(self, keys: int) -> None:
        """Waits until this many may be sent."""
        if self._rate is None:
            return
        now = self._runtime.now()
        if now < self._due:
            self._runtime.sleep(min(self._due - now, self._interval))  # the clock may have been put back
            self._due = min(self._due, now + self._interval)
        self._interval = keys / self._rate
        self._due = max(now, self._due) + self._interval


def _nobody(_: Backfilled) -> None:
    """Nobody wants to know."""
