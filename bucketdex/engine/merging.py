"""One step of a merge: some runs of a view over the next key range, written as (more of) one run."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from bucketdex.engine.runs import RunSink
from bucketdex.engine.settings import Settings
from bucketdex.storage import Run
from bucketdex.views import Snapshot, View
from bucketdex.views.merge import Entries
from bucketdex.views.summary import SummaryFold, summary_fold


class MergeStep(NamedTuple):
    """`inputs` are merged below `end` (None: to their ends) into `output`, which takes the place of `previous` and
    starts with its files.
    """

    inputs: list[Run]
    previous: Run | None
    output: Run | None
    end: str | None

    def remainder(self, run: Run, generation: int) -> Run | None:
        """What is left of an input after this step."""
        if self.end is None:
            return None
        files = [file for file in run.files if file.last >= self.end]
        if not files:
            return None
        rows = sum(file.rows for file in files)
        return msgspec.structs.replace(
            run,
            files=files,
            # An interrupted merge may have taken this input further than this one has come.
            start=self.end if run.start is None else max(run.start, self.end),
            added=generation,
            rows=rows,
            weight=sum(file.weight for file in files),
            bytes=sum(file.bytes for file in files),
            retracted=min(run.retracted, rows),
        )


def merge_step(
    snapshot: Snapshot, view: View, inputs: list[Run], previous: Run | None, sink: RunSink, settings: Settings
) -> MergeStep:
    """Reads the inputs from where they start until `step_rows` rows were written. Memory: a few blocks a run."""
    settle = _settler(snapshot, view, inputs, previous)
    written = 0
    end: str | None = None
    for batch in snapshot.merge(view.name, inputs, blocks_first=settings.merge_blocks):
        if written >= settings.step_rows:
            end = batch.keys[0]
            break
        kept = batch if settle is None else settle.batch(batch)
        written += len(batch.keys)
        if kept.keys:
            sink.add(kept)
    run = sink.finish(snapshot.manifest.generation + 1)
    return MergeStep(inputs, previous, _joined(previous, run), end)


def _joined(previous: Run | None, run: Run | None) -> Run | None:
    if previous is None or run is None:
        return previous or run
    return msgspec.structs.replace(
        previous,
        files=[*previous.files, *run.files],
        rows=previous.rows + run.rows,
        weight=previous.weight + run.weight,
        bytes=previous.bytes + run.bytes,
        retracted=previous.retracted + run.retracted,
        added_at=min(previous.added_at, run.added_at),
    )


class _Settler:
    """Replaces contested extremes by what the hidden summary says, and drops groups without rows: only where a run
    holds all of the view.
    """

    def __init__(self, snapshot: Snapshot, fold: SummaryFold) -> None:
        self._snapshot, self._fold = snapshot, fold

    def batch(self, entries: Entries) -> Entries:
        out = Entries([], [], None)
        for key, line in zip(entries.keys, entries.lines, strict=True):
            group, state = self._fold.decode(line)
            if state[0] == 0:
                continue
            if self._fold.contested(state):
                self._snapshot.settle(self._fold, group, state)
                line = self._fold.encode(group, state)
            out.keys.append(key)
            out.lines.append(line)
        return out


def _settler(snapshot: Snapshot, view: View, inputs: list[Run], previous: Run | None) -> _Settler | None:
    if view.kind != "summary":
        return None
    state = snapshot.manifest.views.get(view.name)
    if state is None:
        return None  # dropped since the step before
    merged = {run.id for run in inputs} | ({previous.id} if previous else set())
    unfolded = any(delta.added > state.folded for delta in snapshot.manifest.deltas)
    if unfolded or {run.id for run in state.runs} != merged:
        return None
    return _Settler(snapshot, summary_fold(view, snapshot.definition))
