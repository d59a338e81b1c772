"""One step of a merge: some runs of a view over the next key range, written as (more of) one run."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import msgspec

from bucketdex.engine.erasure import Scope, oldest
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

    def remainder(self, run: Run, generation: int, now: float) -> Run | None:
        """What is left of an input after this step. Its first file still holds keys that are merged elsewhere, where
        they may be retracted without it.
        """
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
            retracted_at=oldest(each.retracted_at for each in self.inputs) or now,
        )


def merge_step(
    snapshot: Snapshot,
    view: View,
    inputs: list[Run],
    previous: Run | None,
    sink: RunSink,
    settings: Settings,
    scope: Scope,
) -> MergeStep:
    """Reads the inputs from where they start until `step_rows` rows were written. Memory: a few blocks a run.

    `scope` is that of the whole merge, as its first step found it.
    """
    settle = _settler(snapshot, view, scope)
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
    output = _joined(previous, run)
    if output is not None:
        retracts = view.kind == "summary" or output.retracted  # a summary's lines don't show it
        output = msgspec.structs.replace(
            output, since=scope.since, through=scope.through, retracted_at=scope.retracted_at if retracts else 0.0
        )
    return MergeStep(inputs, previous, output, end)


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
    """Drops groups without rows, puts what the hidden summary says in place of contested extremes, and forgets what was
    retracted: from the key on from which a run holds all of the view.
    """

    def __init__(self, snapshot: Snapshot, fold: SummaryFold, whole_from: str) -> None:
        self._snapshot, self._fold, self._whole_from = snapshot, fold, whole_from

    def batch(self, entries: Entries) -> Entries:
        start = bisect_left(entries.keys, self._whole_from)
        out = Entries(entries.keys[:start], entries.lines[:start], None)
        for key, line in zip(entries.keys[start:], entries.lines[start:], strict=True):
            group, state = self._fold.decode(line)
            if state[0] == 0:
                continue
            if self._fold.has_retracted(state):
                self._snapshot.settle(self._fold, group, state)
                self._fold.forget_retracted(state)
                line = self._fold.encode(group, state)
            out.keys.append(key)
            out.lines.append(line)
        return out


def _settler(snapshot: Snapshot, view: View, scope: Scope) -> _Settler | None:
    if view.kind != "summary" or scope.whole_from is None:
        return None
    if view.name not in snapshot.manifest.views:
        return None  # dropped since the step before
    return _Settler(snapshot, summary_fold(view, snapshot.definition), scope.whole_from)
