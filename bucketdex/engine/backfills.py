"""The deployed backfills of an index: which job a table has, and for what. Changes with what a backfill is started for
and given up with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from bucketdex.engine.changes import Means
from bucketdex.engine.inventory import check_report
from bucketdex.engine.jobs import CHANGES_MAX, Job, JobChangedError, JobStore, require_rate, source_of
from bucketdex.engine.promote import Promoter
from bucketdex.engine.successor import Successors
from bucketdex.engine.turn import PageQueue, continue_jobs
from bucketdex.engine.walk import Walk
from bucketdex.errors import BackfillError, StorageError, TableNotFoundError
from bucketdex.storage import Manifest, is_successor, owner_of
from bucketdex.storage.paths import round_path, tables_prefix


class Backfills:
    """Starts, follows, cancels and continues backfills."""

    def __init__(self, means: Means, jobs: JobStore, successors: Successors, promoter: Promoter) -> None:
        self._means, self._jobs, self._successors, self._promoter = means, jobs, successors, promoter

    def start(
        self,
        table: str,
        *,
        renew: bool,
        prefix: str | None = None,
        rate: float | None = None,
        force: bool = False,
        inventory: str | None = None,
    ) -> Job:
        """Writes down a backfill for the turns of a deployment to work off (see `Job`); it begins with the next turn.

        While a successor is built beside the table, the backfill is that one's, and whole. Where one is under way
        already: BackfillError, or (not `renew`) it is left alone and returned. BucketdexError for a prefix that is none
        of the table's, and for a report that can be read from here and isn't one; TableNotFoundError. Cost: 3 GETs, one
        more of a report, a PUT.

        The job is loaded before the table and saved only if it stands: one that somebody started for a successor that
        the table didn't name yet makes the save fail. So a job is replaced only if it is over or its target outdated.
        """
        require_rate(rate)
        gone: TableNotFoundError | None = None
        for _ in range(CHANGES_MAX):
            found = self._jobs.load(table)
            target = self.target(table, prefix)
            if found is not None and found.job.target == target and found.job.is_under_way:
                if renew:
                    resume = "resume it, or " if found.job.state == "paused" else ""
                    raise BackfillError(f"a backfill of {table} is {found.job.state}: {resume}cancel it first")
                return found.job
            try:
                walk = Walk(self._means, target, prefix, None)
                if inventory is not None:
                    check_report(self._means, walk, inventory, force=force)
                source = source_of(walk.definition)
                now = self._means.runtime.now()
                new = Job(
                    id=self._means.runtime.token(), table=table, target=target, started_at=now, updated_at=now,
                    source=source, prefix=prefix, rate=rate, force=force, inventory=inventory,
                )  # fmt: skip
                return self._jobs.save(found, new).job
            except JobChangedError:
                gone = None
            except TableNotFoundError as error:
                if target == table:
                    raise
                gone = error  # it has taken the table's place, or was given up: look again
        raise gone or StorageError(f"the backfill of {table} changes all the time: try again")

    def start_revived(self, table: str) -> Job:
        """A backfill of a table that was dropped and is about to be defined again: written before that, since a live
        table doesn't tell that it lacks its objects. One under way stays as it is. Cost: a GET, a PUT.
        """
        for _ in range(CHANGES_MAX):
            found = self._jobs.load(table)
            if found is not None and found.job.target == table and found.job.is_under_way:
                return found.job
            now = self._means.runtime.now()
            new = Job(id=self._means.runtime.token(), table=table, target=table, started_at=now, updated_at=now)
            with suppress(JobChangedError):
                return self._jobs.save(found, new).job
        raise StorageError(f"the backfill of {table} changes all the time: try again")

    def target(self, table: str, prefix: str | None) -> str:
        """What a backfill of the table is for: its successor, while there is one, and for that the whole."""
        target = self._live(table).successor or table
        if target != table and prefix is not None:
            raise BackfillError(f"table {table!r} is being rebuilt from all of its objects: start it without a prefix")
        return target

    def follow(self, table: str) -> Job | None:
        """The backfill that builds the table's successor: the one under way, or a new one. None where there is none to
        build; a backfill of one that was given up is cancelled. Cost: 2 to 5 GETs, a PUT.
        """
        found = self._jobs.load(table)
        if self._live(table).successor is not None:
            return self.start(table, renew=False)
        if found is not None and found.job.target != table and found.job.is_under_way:
            with suppress(BackfillError):  # it has ended, or another took its place
                self._jobs.cancel(table, found.job.id)
        return None

    def cancel(self, table: str) -> Job | None:
        """Ends the table's backfill for good, and gives up the rebuild that it was for, or one that has none; None
        where there was only a rebuild. The successor that a stack's changed definition asks for stays.

        BackfillError, with nothing changed, where there is nothing to end, or another backfill was started meanwhile.
        Cost: 4 GETs, a PUT; 3 GETs and 2 PUTs more where something is given up.
        """
        found = self._jobs.load(table)
        live = self._live(table)
        plain = found is not None and found.job.is_under_way and found.job.target == table  # that one is meant alone
        name = live.successor if not plain and self._may_be_given_up(live) else None
        job = None
        if name is None or (found is not None and found.job.state != "done"):
            job = self._jobs.cancel(table, found.job.id if found is not None else None)
        if name is not None:
            self._successors.abandon(table, name)
        return job

    def abandon(self, table: str) -> bool:
        """Gives up what is built to take the table's place; the table stays as it is. False where there is nothing.
        BackfillError for the successor that a stack's changed definition asks for. Cost: 4 GETs, 2 PUTs.
        """
        live = self._live(table)
        if live.successor is None:
            return False
        if not self._may_be_given_up(live):
            raise BackfillError(
                f"stack {live.managed_by} asks for what is built beside table {table!r}: deploy the old definition"
            )
        return self._successors.abandon(table, live.successor)

    def forget(self, table: str) -> None:
        """Of a table that was dropped, ends the backfill for good, so that it keeps no key, and deletes how far its
        verification had come. Nothing for another table. A GET; a dropped one's: another GET, a DELETE, at most a PUT.
        """
        with suppress(TableNotFoundError, JobChangedError, BackfillError):
            if self._live(table).state != "dropped":
                return
            self._means.index.delete_many([round_path(table)])
            found = self._jobs.load(table)
            if found is None or found.job.cursor is None or self._live(table).state != "dropped":
                return
            self._jobs.save(found, msgspec.structs.replace(found.job, state="cancelled"))

    def turn(self, queue: PageQueue, in_time: Callable[[], bool]) -> list[Job]:
        """One turn of all backfills under way; the jobs as it left them. See `continue_jobs`.

        It begins with the successors that nobody fills, because whoever announced one died before it started its job.
        Cost where nothing is to do: two LISTs, a GET a job, and one a table that has had a successor lately.
        What fails unexpectedly of one table keeps no other from its turn; the first such error follows them.
        """
        errors: list[Exception] = []
        for table in self._rebuilt():
            try:
                self._take_up(table)
            except Exception as error:
                errors.append(error)
        continued, unexpected = continue_jobs(self._means, self._jobs, queue, self._finished, in_time)
        errors += unexpected
        if errors:
            errors[0].add_note(f"one of {len(errors)} unexpected errors of this turn of the backfills")
            raise errors[0]
        return continued

    def _rebuilt(self) -> list[str]:
        """The tables that have folders of successors: of one that they name, or of past ones whose files are left."""
        names = self._means.index.folders(tables_prefix())
        return sorted({owner_of(name) for name in names if is_successor(name)})

    def _take_up(self, table: str) -> None:
        """Starts the backfill of a stack's successor that has had none. One that was cancelled stays so."""
        with suppress(TableNotFoundError):
            live = self._live(table)
            if live.managed_by is None or self._successors.of(live) is None:
                return
            found = self._jobs.load(table)
            if found is None or found.job.target != live.successor:
                self.start(table, renew=False)

    def _finished(self, job: Job) -> Job:
        """The job that found nothing left: done, once its successor is in its table's place, whoever put it there;
        itself as long as that has views to build.
        """
        try:
            if job.target == job.table or self._promoter.promote(job.table, job.target):
                return msgspec.structs.replace(job, state="done")
            live = self._live(job.table)
        except TableNotFoundError as error:
            return msgspec.structs.replace(job, state="cancelled", error=str(error))
        if live.successor == job.target:
            return job
        if live.promoted == job.target:
            return msgspec.structs.replace(job, state="done")
        said = f"{job.target} was given up: the table has another successor, or none, or was dropped"
        return msgspec.structs.replace(job, state="cancelled", error=said)

    def _may_be_given_up(self, live: Manifest) -> bool:
        """Whether its successor is nobody's wish but that of whoever gives it up: a rebuild's, or of no stack."""
        found = self._successors.of(live)
        return live.managed_by is None or found is None or found.manifest.definition == live.definition

    def _live(self, table: str) -> Manifest:
        return self._means.manifests.load(table).manifest
