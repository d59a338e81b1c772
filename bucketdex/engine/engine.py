"""The engine as one object: what functions, the client and the tests call to change an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bucketdex.definition import TableDefinition
from bucketdex.engine.apply import Applier
from bucketdex.engine.backfill import Backfilled, Backfiller
from bucketdex.engine.backfill import Progress as BackfillProgress
from bucketdex.engine.backfills import Backfills
from bucketdex.engine.build import Builder
from bucketdex.engine.changes import Means
from bucketdex.engine.collect import Collected, Collector
from bucketdex.engine.compact import Compactor
from bucketdex.engine.define import Definer
from bucketdex.engine.erasure import oldest, sweep_due
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.jobs import Job, JobStore
from bucketdex.engine.policy import Mode, choose_runs, unfolded_debt
from bucketdex.engine.promote import Promoter
from bucketdex.engine.settings import Settings
from bucketdex.engine.successor import Successors
from bucketdex.engine.turn import PageQueue
from bucketdex.engine.verify import SETTLE_SECONDS, Verified, Verifier
from bucketdex.runtime import Runtime, system_runtime
from bucketdex.storage import Manifest, ManifestStore, ObjectStore, Versioned
from bucketdex.views import BlockCache


class Engine:
    """Changes the tables of one index bucket. Holds no state but caches: any number of engines may run at once."""

    def __init__(
        self,
        index: ObjectStore,
        data: ObjectStore,
        runtime: Runtime | None = None,
        *,
        settings: Settings | None = None,
        cache: BlockCache | None = None,
    ) -> None:
        runtime, settings = runtime or system_runtime(), settings or Settings()
        self.settings = settings
        self._runtime = runtime
        means = Means(index, data, runtime, settings, cache or BlockCache(), ManifestStore(index, runtime))
        self._means, self._manifests = means, means.manifests
        self.jobs = JobStore(index, runtime)
        self._applier = Applier(means)
        self._compactor = Compactor(index, runtime, settings)
        self._collector = Collector(index, runtime, settings)
        self._successors = Successors(self._manifests, runtime, settings)
        self._definer = Definer(self._manifests, self._successors, runtime, settings)
        self._promoter = Promoter(self._manifests, self._successors, runtime, settings)
        self._backfiller = Backfiller(means, self._applier, self._fold_due)
        self._builder = Builder(self._manifests, self._backfiller, self._successors, self._promoter, self._build_views)
        self._backfills = Backfills(means, self.jobs, self._successors, self._promoter)
        self._verifier = Verifier(means, self._applier)

    def apply(self, table: str, events: Iterable[Event]) -> ApplyResult:
        """Applies events to a table; see `Applier.apply` for what it guarantees and costs."""
        return self._applier.apply(table, events)

    def create_table(self, definition: TableDefinition, *, managed_by: str | None = None) -> Versioned:
        """Makes the table be as defined, and builds before it returns: views that were added to existing rows, and
        where fields or source were changed, the table's successor, which reads every object.
        """
        self.define(definition, managed_by=managed_by)
        self._build_views(definition.name)
        self.build_successor(definition.name)
        return self.load(definition.name)

    def define(self, definition: TableDefinition, *, managed_by: str | None = None) -> Versioned:
        """A definition commit, or the announcement of a successor; see `Definer.define`. ManagedByStackError when
        another stack manages the table.
        """
        return self._definer.define(definition, managed_by=managed_by)

    def rebuild(self, table: str) -> str:
        """Announces a successor with the table's own definition, or goes on with the one that it has. Its name."""
        return self._definer.rebuild(table)

    def successor(self, table: str) -> str | None:
        """The name of the table that is to take this one's place; None when there is none."""
        return self.load(table).manifest.successor

    def build_successor(
        self, table: str, *, rate: float | None = None, progress: BackfillProgress | None = None
    ) -> None:
        """Reads every object into the table's successor and promotes it; see `Builder.build`. Nothing without one."""
        self._builder.build(table, rate=rate, progress=progress)

    def promote(self, table: str, successor: str) -> bool:
        """Puts a successor that knows every object in its table's place; see `Promoter.promote`."""
        return self._promoter.promote(table, successor)

    def abandon(self, table: str) -> bool:
        """Gives up what is built to take the table's place; see `Backfills.abandon`."""
        return self._backfills.abandon(table)

    def drop_table(self, name: str, *, managed_by: str | None = None) -> None:
        """Drops a table; late events for it do nothing."""
        self._definer.drop(name, managed_by=managed_by)

    def compact(
        self,
        table: str,
        view: str | None = None,
        *,
        mode: Mode = "tidy",
        in_time: Callable[[], bool] = lambda: True,
    ) -> int:
        """Compacts one view or all. `tidy` leaves at most two runs a view, `full` one, `tiered` does what is due.
        Returns the swaps that landed.
        """
        names = [view] if view is not None else list(self.load(table).manifest.views)
        return sum(self._compactor.compact(table, name, mode, in_time=in_time) for name in names)

    def collect(self, table: str) -> Collected:
        """Deletes files past their grace period; sweeps every `sweep_generations`, and four times in `erase_seconds`.
        Two GETs when there is nothing to do.
        """
        collected = self._collector.collect(table)
        manifest = self.load(table).manifest
        crowded = manifest.generation - manifest.floor > self.settings.sweep_generations
        if crowded or sweep_due(manifest, self.settings, self._runtime.now()):
            swept = self.sweep(table)
            collected.deleted += swept.deleted
            collected.orphans += swept.orphans
        return collected

    def sweep(self, table: str) -> Collected:
        """Deletes files that nothing refers to; what is remembered of the keys of a dropped table goes with them."""
        swept = self._collector.sweep(table)
        self._backfills.forget(table)
        return swept

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
        progress: BackfillProgress | None = None,
    ) -> Backfilled:
        """Applies the objects that the index lacks; see `Backfiller.backfill` for what it guarantees and costs."""
        return self._backfiller.backfill(
            table, prefix=prefix, rate=rate, start_after=start_after, force=force, inventory=inventory,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def start_backfill(
        self,
        table: str,
        *,
        prefix: str | None = None,
        rate: float | None = None,
        force: bool = False,
        inventory: str | None = None,
        renew: bool = True,
    ) -> Job:
        """Writes down a backfill for the turns of a deployment to work off; see `Backfills.start`."""
        return self._backfills.start(table, prefix=prefix, rate=rate, force=force, inventory=inventory, renew=renew)

    def start_revived_backfill(self, table: str) -> Job:
        """The backfill of a dropped table, written before it is defined again; see `Backfills.start_revived`."""
        return self._backfills.start_revived(table)

    def estimate_backfill(
        self,
        table: str,
        *,
        prefix: str | None = None,
        rate: float | None = None,
        force: bool = False,
        inventory: str | None = None,
        rebuild: bool = False,
        deployed: bool = True,
        progress: BackfillProgress | None = None,
    ) -> Backfilled:
        """What `start_backfill` would have to do, or a `rebuild`, and what it would cost: of the successor while there
        is one. Writes nothing; see `Backfiller.estimate`. BucketdexError as `start_backfill`.
        """
        target = self._backfills.target(table, prefix)
        return self._backfiller.estimate(
            target, prefix=prefix, rate=rate, force=force or (rebuild and target == table), inventory=inventory,
            deployed=deployed, progress=progress,
        )  # fmt: skip

    def follow_successor(self, table: str) -> Job | None:
        """The backfill that builds the table's successor, if it has one; see `Backfills.follow`."""
        return self._backfills.follow(table)

    def cancel_backfill(self, table: str) -> Job | None:
        """Ends the table's backfill, and a rebuild with it; see `Backfills.cancel`."""
        return self._backfills.cancel(table)

    def continue_backfills(self, queue: PageQueue, *, in_time: Callable[[], bool] = lambda: True) -> list[Job]:
        """One turn of all backfills under way; see `Backfills.turn` for what it costs. Any number of turns may run."""
        return self._backfills.turn(queue, in_time)

    def reindex(
        self, table: str, keys: Iterable[str], *, progress: Callable[[ApplyResult], None] | None = None
    ) -> ApplyResult:
        """Applies keys, whatever their number; see `Backfiller.reindex` for what it guarantees and costs."""
        return self._backfiller.reindex(table, keys, progress=progress)

    def verify(
        self,
        table: str,
        *,
        deep: bool = False,
        sample: float = 1.0,
        views: bool = True,
        repair: bool = False,
        start_after: str | None = None,
        in_time: Callable[[], bool] = lambda: True,
        settle_seconds: float = SETTLE_SECONDS,
        progress: Callable[[Verified], None] | None = None,
    ) -> Verified:
        """Compares the index with the bucket; see `Verifier.verify` for what it finds and costs."""
        return self._verifier.verify(
            table, deep=deep, sample=sample, views=views, repair=repair, start_after=start_after, in_time=in_time,
            settle_seconds=settle_seconds, progress=progress,
        )  # fmt: skip

    def _build_views(self, table: str) -> None:
        for name, state in self.load(table).manifest.views.items():
            if state.state == "building":
                self._compactor.compact(table, name, "tiered")

    def _fold_due(self, table: str) -> None:
        for name in self.debt(self.load(table).manifest):
            self._compactor.compact(table, name, "tiered")

    def load(self, table: str) -> Versioned:
        """The manifest as it is now. TableNotFoundError when there never was such a table."""
        return self._manifests.load(table)

    def manifests(self, table: str) -> list[Manifest]:
        """The table's manifest, and that of its successor where it has one. A GET each."""
        live = self.load(table).manifest
        successor = self._successors.of(live)
        return [live] if successor is None else [live, successor.manifest]

    def debt(self, manifest: Manifest) -> list[str]:
        """The names of the views that are due for compaction; those first that have held deleted values longest."""
        now = self._runtime.now()
        due = [
            state
            for state in manifest.views.values()
            if state.state == "building"
            or unfolded_debt(manifest, state, self.settings, now)
            or choose_runs(state, self.settings, "tiered", now)
        ]
        due.sort(key=lambda state: oldest(run.retracted_at for run in state.runs) or now)
        return [state.name for state in due]
