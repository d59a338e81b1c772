"""Compaction of one view: folds deltas into a run, merges runs, builds a new view from `records`. Changes no answer."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.engine.commit import RedoEverythingError, replacement, rewrite_run
from bucketdex.engine.erasure import oldest, scope
from bucketdex.engine.garbage import move_inlined, retire_deltas, retire_runs
from bucketdex.engine.land import land
from bucketdex.engine.merging import MergeStep, merge_step
from bucketdex.engine.policy import Mode, choose_runs, finished_below, fold_end, unfolded_debt
from bucketdex.engine.retire import settle
from bucketdex.engine.runs import RunSink
from bucketdex.engine.settings import Settings
from bucketdex.errors import CommitGaveUpError, SnapshotExpiredError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore, ObjectStore, Run, Versioned, owner_of
from bucketdex.storage.paths import base_generation
from bucketdex.views import RECORDS, BlockCache, Snapshot, View, current_view, values_views
from bucketdex.views.derive import derive, weighted_rows
from bucketdex.views.merge import Entries, cancel, concatenate, fold_rows, sort_entries
from bucketdex.views.summary import summary_fold

STEPS_MAX = 10_000
GIVE_UPS_MAX = 10  # in a row, each after as many lost swaps as a commit would try


class Compactor:
    """Compacts the views of tables. Any number may run at once, by mistake even on one view: only one of them lands."""

    def __init__(self, store: ObjectStore, runtime: Runtime, settings: Settings) -> None:
        self._store, self._runtime, self._settings = store, runtime, settings
        self._manifests = ManifestStore(store, runtime)
        self._cache = BlockCache()

    def compact(self, table: str, view_name: str, mode: Mode, *, in_time: Callable[[], bool] = lambda: True) -> int:
        """Works on a view until it is in good shape or the time is over, each step a swap of its own. Returns the
        swaps that landed.
        """
        landed = 0
        expired, gave_up = -1, 0
        for _ in range(STEPS_MAX):
            if not in_time():
                break
            base = self._manifests.load(table)
            if base.manifest.state == "dropped" or view_name not in base.manifest.views:
                break
            try:
                worked = self._step(base, view_name, mode, in_time)
            except RedoEverythingError:
                continue
            except CommitGaveUpError:  # commits leave little room: whoever compacts can wait
                gave_up += 1
                if gave_up == GIVE_UPS_MAX:
                    raise
                continue
            except SnapshotExpiredError:
                if base.manifest.generation == expired:
                    raise  # a file that is still listed is lost
                expired = base.manifest.generation
                continue  # somebody else's compaction replaced our inputs: look again
            if worked is None:
                break
            gave_up = 0
            landed += worked
        return landed

    def _step(self, base: Versioned, name: str, mode: Mode, in_time: Callable[[], bool]) -> int | None:
        """One piece of work; None when there is none."""
        state = base.manifest.views[name]
        definition = TableDefinition.from_dict(owner_of(base.manifest.table), base.manifest.definition)
        view = current_view(base.manifest, definition, name)
        if state.state == "building":
            return self._build(base, self._first_to_build(base.manifest, view, definition), definition)
        now = self._runtime.now()
        live = [delta for delta in base.manifest.deltas if delta.added > state.folded]
        if live and (mode != "tiered" or unfolded_debt(base.manifest, state, self._settings, now)):
            return self._fold(base, view, definition)
        runs = choose_runs(state, self._settings, mode, now)
        return self._merge(base, view, definition, runs, in_time) if runs else None

    def _first_to_build(self, manifest: Manifest, view: View, definition: TableDefinition) -> View:
        """A summary is ready only after the hidden views that settle it, or a merge would store wrong values."""
        needed = values_views(view) if view.kind == "summary" and not view.hidden else []
        waiting = [name for name in needed if manifest.views[name].state == "building"]
        return current_view(manifest, definition, waiting[0]) if waiting else view

    def _sink(self, base: Manifest, view: View) -> RunSink:
        return RunSink(self._store, self._runtime, self._settings, base.table, view, base.generation)

    def _fold(self, base: Versioned, view: View, definition: TableDefinition) -> int:
        """The live deltas of the view become one run. Costs a GET a delta file and about two PUTs beside the swap."""
        snapshot = Snapshot(self._store, base.manifest, definition, self._cache)
        sink = self._sink(base.manifest, view)
        state = base.manifest.views[view.name]
        folded = fold_end(base.manifest, state, self._settings)
        deltas = [delta for delta in base.manifest.deltas if state.folded < delta.added <= folded]
        inputs = {delta.id for delta in deltas}
        sink.add(self._folded(view, definition, snapshot.delta_entries(view.name, folded)))
        run = sink.finish(base.manifest.generation + 1)
        if run is not None:
            retracts = view.kind == "summary" or run.retracted  # a summary's lines don't show it
            run = msgspec.structs.replace(
                run,
                since=deltas[0].added,
                through=folded,
                retracted_at=oldest(delta.retracted_at for delta in deltas) if retracts else 0.0,
            )
        moved = [move_inlined(self._store, self._runtime, base.manifest, view.name, folded)]

        def change(current: Manifest) -> Manifest | None:
            state = current.views.get(view.name)
            if state is None or state.id != view.id or state.folded != base.manifest.views[view.name].folded:
                return None
            if not inputs <= {delta.id for delta in current.deltas}:  # a rebuilt table took the place of this one
                return None
            new = replacement(current, "compaction", self._runtime, self._settings)
            target = new.views[view.name]
            if run is not None:
                target.runs.append(self._listed(run, current, new, view))
            target.folded = folded
            target.folds.append((new.generation, folded))
            if base.manifest.generation < current.floor:  # a sweep may delete what was based below its floor
                moved[0] = move_inlined(self._store, self._runtime, current, view.name, folded)
            retire_deltas(new, self._runtime.now(), moved[0])
            return new

        return self._land(base, change)

    def _folded(self, view: View, definition: TableDefinition, parts: list[Entries]) -> Entries:
        if view.kind == "summary":
            return summary_fold(view, definition).fold_lines(sort_entries(concatenate(parts)))
        return fold_rows(parts)

    def _merge(
        self, base: Versioned, view: View, definition: TableDefinition, runs: list[Run], in_time: Callable[[], bool]
    ) -> int:
        """Merges runs by key range, each a swap of its own, so that neither memory nor time bounds their size. Goes on
        where one was interrupted; lets go when a fold is due, which every commit and look-up waits for.
        """
        landed = 0
        state = base.manifest.views[view.name]
        output = finished_below(state, runs)
        inputs = runs
        whole = scope(base.manifest, state, runs if output is None else [*runs, output])
        if output is not None:  # its keys aren't merged again, so neither are its retractions
            whole = whole._replace(retracted_at=oldest([whole.retracted_at, output.retracted_at]))
        for _ in range(STEPS_MAX):
            sink = self._sink(base.manifest, view)
            snapshot = Snapshot(self._store, base.manifest, definition, self._cache)
            step = merge_step(snapshot, view, inputs, output, sink, self._settings, whole)
            swapped = self._land_step(base, view, step)
            if swapped is None:
                return landed
            landed += 1
            base, output, inputs = swapped
            if not inputs or not in_time() or self._fold_is_due(base.manifest, view):
                return landed
        return landed

    def _fold_is_due(self, manifest: Manifest, view: View) -> bool:
        state = manifest.views.get(view.name)
        return state is not None and unfolded_debt(manifest, state, self._settings, self._runtime.now())

    def _land_step(
        self, base: Versioned, view: View, step: MergeStep
    ) -> tuple[Versioned, Run | None, list[Run]] | None:
        """Lists the output of a step and takes its inputs off, whole or below the step's end; None when an input is
        gone.
        """
        placed: list[Run | None] = [None]
        rest: list[list[Run]] = [[]]

        def change(current: Manifest) -> Manifest | None:
            state = current.views.get(view.name)
            wanted = [*step.inputs, *([step.previous] if step.previous else [])]
            if state is None or state.id != view.id or not all(run in state.runs for run in wanted):
                return None
            new = replacement(current, "compaction", self._runtime, self._settings)
            target = new.views[view.name]
            target.runs = [run for run in target.runs if run not in wanted]
            remainders = (step.remainder(run, new.generation, new.updated_at) for run in step.inputs)
            rest[0] = [run for run in remainders if run is not None]
            target.runs += rest[0]
            output = None if step.output is None else self._listed(step.output, current, new, view)
            if output is not None:
                target.runs.append(output)
            placed[0] = output
            retire_runs(new, view.id, wanted, self._runtime.now())
            return new

        swapped = land(self._manifests, self._runtime, self._settings, base, change)
        return None if swapped is None else (swapped, placed[0], rest[0])

    def _build(self, base: Versioned, view: View, definition: TableDefinition) -> int:
        """Builds a view that was added to a table with rows, from `records` at the base, in memory-bounded sorted
        runs.
        """
        snapshot = Snapshot(self._store, base.manifest, definition, self._cache)
        runs: list[Run] = []
        pending: list[Entries] = []
        size = 0
        for batch in snapshot.batches(RECORDS, None, None, blocks_first=self._settings.merge_blocks):
            pending.append(batch)
            size += len(batch.keys)
            if size > self._settings.flush_rows:
                runs += self._derived_run(base, view, definition, pending)
                pending, size = [], 0
        runs += self._derived_run(base, view, definition, pending)

        def change(current: Manifest) -> Manifest | None:
            state = current.views.get(view.name)
            begun = base.manifest.views[view.name].folded  # another when the view was dropped and added again meanwhile
            if state is None or state.id != view.id or state.state != "building" or state.folded != begun:
                return None
            new = replacement(current, "compaction", self._runtime, self._settings)
            target = new.views[view.name]
            held = [run for run in target.runs if run.added <= base.manifest.generation]
            target.runs = [run for run in target.runs if run.added > base.manifest.generation]
            target.runs += [self._listed(run, current, new, view) for run in runs]
            retire_runs(new, view.id, held, self._runtime.now())
            target.state = "ready"
            settle(new, view.name, self._runtime.now())
            target.folded = base.manifest.generation
            target.folds = [(new.generation, target.folded)]  # what it was before can't be read
            retire_deltas(new, self._runtime.now(), {})
            return new

        return self._land(base, change)

    def _derived_run(
        self, base: Versioned, view: View, definition: TableDefinition, pending: list[Entries]
    ) -> list[Run]:
        if not pending:
            return []
        lines = [line for part in pending for line in part.lines]
        weights = [weight for part in pending for weight in part.weight_list()]
        entries = derive(view, definition, weighted_rows(definition, lines, weights))
        sink = self._sink(base.manifest, view)
        sink.add(entries if view.kind == "summary" else cancel(entries))
        run = sink.finish(base.manifest.generation + 1)
        return [] if run is None else [msgspec.structs.replace(run, through=base.manifest.generation)]

    def _land(self, base: Versioned, change: Callable[[Manifest], Manifest | None]) -> int:
        return int(land(self._manifests, self._runtime, self._settings, base, change) is not None)

    def _listed(self, run: Run, current: Manifest, new: Manifest, view: View) -> Run:
        """The run as the new manifest lists it, every new file above the floor; those of earlier steps stay."""
        if any(base_generation(file.path) < current.floor for file in run.files):
            listed = {file.path for other in current.views[view.name].runs for file in other.files}
            run = rewrite_run(self._store, self._runtime, run, current, view.id, listed=listed)
        return msgspec.structs.replace(run, added=new.generation)
