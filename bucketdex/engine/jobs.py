"""What is remembered of a deployed backfill between its turns: one small object a table, beside the tables. Changes
with what a backfill may be asked for and tells of itself.

It is replaced by compare-and-swap only, so of two turns at once one goes on and the other finds out with its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Final, Literal, NamedTuple

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.errors import (
    AccessDeniedError,
    BackfillError,
    BucketdexError,
    KeyMissingError,
    NotModifiedError,
    StorageError,
)
from bucketdex.runtime import Runtime
from bucketdex.storage import GetRequest, ObjectStore, backfill_path, backfill_table, backfills_prefix

PUTS_MAX: Final = 10  # of one change whose outcome isn't known
PAUSE_S: Final = 0.05
CHANGES_MAX: Final = 20  # of one command, while turns save theirs

State = Literal["running", "paused", "cancelled", "done", "failed"]


class Job(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"number": "pass"}):
    """A backfill of `target`: the table, or the successor that is to take its place. Times in seconds since the epoch.

    It goes through the bucket in passes until one finds nothing `left`: due, and there before the job began (later
    uploads are announced). With an `inventory` the first pass goes through that report, and is the last one unless a
    successor is to be proven whole. `cursor`: all keys up to it are dealt with in this pass; `walked`: it is at an end.
    `listed`, `unchanged`, `due` and `left` count this pass, `sent` all of them; `left_last_pass` is None in the first.
    """

    id: str
    table: str
    target: str
    state: State = "running"
    started_at: float
    updated_at: float
    write: str = ""  # random, of each change: equal bytes never recur
    source: str = ""  # what the table's keys are like; with another one it begins anew
    prefix: str | None = None
    rate: float | None = None  # objects a second at most
    force: bool = False  # the first pass sends everything
    inventory: str | None = None
    number: int = 1
    cursor: str | None = None
    walked: bool = False
    listed: int = 0
    unchanged: int = 0
    due: int = 0
    left: int = 0
    left_last_pass: int | None = None
    stalled: int = 0  # passes in a row that found no less left than the one before
    sent: int = 0
    sent_at: float = 0.0
    waiting: int = 0  # messages in the queue, of all jobs, when it was last looked at
    error: str | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether it runs, or rests until somebody resumes it."""
        return self.state in ("running", "paused")

    @property
    def is_over(self) -> bool:
        """Whether no turn will go on with it, unless somebody resumes it."""
        return self.state != "running"

    def anew(self, source: str, now: float) -> Job:
        """The same job at its start, for a table that is of other objects now."""
        return Job(
            id=self.id, table=self.table, target=self.target, started_at=now, updated_at=now, source=source,
            prefix=self.prefix, rate=self.rate, force=self.force, inventory=self.inventory,
        )  # fmt: skip

    def next_pass(self, now: float, *, worked_off: bool = True) -> Job:
        """The same job at the start of its next pass. One that found no less left counts as stalled, unless what was
        sent before isn't `worked_off`.
        """
        no_less = self.left > 0 and self.left_last_pass is not None and self.left >= self.left_last_pass
        stalled = self.stalled + worked_off if no_less else 0
        return msgspec.structs.replace(
            self, number=self.number + 1, cursor=None, walked=False, listed=0, unchanged=0, due=0, left=0,
            left_last_pass=self.left, stalled=stalled, updated_at=now,
        )  # fmt: skip


class SavedJob(NamedTuple):
    """A job and the ETag of the object it was read from."""

    job: Job
    etag: str


class JobChangedError(BucketdexError):
    """Somebody else changed the job first: a command, or another turn."""


class JobStore:
    """Loads and replaces the backfill jobs of an index."""

    def __init__(self, store: ObjectStore, runtime: Runtime) -> None:
        self._store, self._once, self._runtime = store, store.with_retries(False), runtime

    def tables(self) -> Iterator[str]:
        """The tables that have a job, whatever its state. One LIST."""
        return (backfill_table(listed.key) for listed in self._store.list(backfills_prefix()))

    def load(self, table: str, cached: SavedJob | None = None) -> SavedJob | None:
        """The table's newest job, None where there never was one. One GET; `cached` itself while it still stands.
        BackfillError for an object that is no job.
        """
        try:
            got = self._store.get(GetRequest(backfill_path(table), if_none_match=cached.etag if cached else None))
        except NotModifiedError:
            return cached
        except KeyMissingError:
            return None
        try:
            return SavedJob(msgspec.json.decode(got.body, type=Job), got.etag)
        except msgspec.DecodeError as error:
            raise BackfillError(
                f"{backfill_path(table)} holds no backfill ({error}): delete it, then start one anew"
            ) from error

    def save(self, base: SavedJob | None, new: Job) -> SavedJob:
        """Replaces `base`, or makes the table's first job. JobChangedError, with nothing changed, when somebody else
        was faster; StorageError when it isn't known whether it was saved. One PUT when all goes well.

        An error of the PUT proves nothing: the object is read, and as long as the base stands the same bytes go again.
        The cursor is a key of somebody's object: one that has ended for good keeps none.
        """
        cursor = None if new.state in ("done", "cancelled") else new.cursor
        new = msgspec.structs.replace(new, cursor=cursor, write=self._runtime.token())
        path, body = backfill_path(new.table), msgspec.json.encode(new)
        failure: StorageError | None = None
        for attempt in range(PUTS_MAX):
            if attempt:
                self._runtime.sleep(self._runtime.uniform(0, PAUSE_S * 2**attempt))
            try:
                if base is None:
                    return SavedJob(new, self._once.put(path, body, if_absent=True))
                return SavedJob(new, self._once.put(path, body, if_match=base.etag))
            except StorageError as error:
                failure = error
            try:
                current = self.load(new.table, base)
            except StorageError:
                continue
            if current is not None and current.job.write == new.write:
                return current
            if current is not base:
                raise JobChangedError(f"the backfill of {new.table} was changed meanwhile: try again") from failure
            if isinstance(failure, AccessDeniedError):
                raise failure
        raise StorageError(f"{path}: whether the change was saved is unknown; see the job's status") from failure

    def change(self, table: str, change: Callable[[Job], Job]) -> Job:
        """Saves what `change` makes of the job, whatever turns save meanwhile. BackfillError where there is none."""
        for _ in range(CHANGES_MAX):
            found = self.load(table)
            if found is None:
                raise BackfillError(f"table {table!r} has no backfill: start one")
            new = change(found.job)
            if new is found.job:
                return new
            try:
                return self.save(found, msgspec.structs.replace(new, updated_at=self._runtime.now())).job
            except JobChangedError:
                continue
        raise StorageError(f"the backfill of {table} changes all the time: try again")

    def pause(self, table: str) -> Job:
        """Lets it rest: no more is sent; what was sent goes on. BackfillError unless it runs."""
        return self.change(table, lambda job: _became(job, "paused", ("running",)))

    def resume(self, table: str) -> Job:
        """Lets a paused or failed one go on where it stopped."""
        return self.change(table, lambda job: _became(job, "running", ("paused", "failed")))

    def cancel(self, table: str, job_id: str | None = None) -> Job:
        """Ends it for good; what was sent goes on. BackfillError when it is another one than that of `job_id`."""

        def ended(job: Job) -> Job:
            if job_id not in (None, job.id):
                raise BackfillError(f"another backfill of {table} was started meanwhile: see its status")
            return _became(job, "cancelled", ("running", "paused", "failed"))

        return self.change(table, ended)


def source_of(definition: TableDefinition) -> str:
    """Which keys are a table's, as a job remembers it."""
    source = definition.source
    return f"prefix {source.prefix}" if source.key is None else f"key {source.key}"


def require_rate(rate: float | None) -> None:
    """BackfillError for a rate that nothing can keep."""
    if rate is not None and not (isfinite(rate) and rate > 0):
        raise BackfillError(f"a rate of {rate} objects a second: it has to be positive")


def _became(job: Job, state: State, states: tuple[State, ...]) -> Job:
    if job.state == state:
        return job
    if job.state not in states:
        remedy = "resume it first" if job.state == "failed" else "start another, where one is needed"
        raise BackfillError(f"the backfill of {job.table} is {job.state}, so it can't become {state}: {remedy}")
    return msgspec.structs.replace(job, state=state, stalled=0, error=None)
