"""What bounds how long a deleted value stays in files. Changes with the proof in docs/protocol.md, "Erasure".

Of `Settings.erase_seconds`, a retraction waits a quarter for its fold into a run and half for the merge that takes it
together with what it retracts. The rest is for grace periods, sweeps and schedules that come late.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bucketdex.engine.settings import Settings
from bucketdex.storage import Delta, Manifest, Run, ViewState


def oldest(times: Iterable[float]) -> float:
    """The least of them that isn't 0; 0 when all are."""
    return min((time for time in times if time), default=0.0)


def sweep_due(manifest: Manifest, settings: Settings, now: float) -> bool:
    """Whether files that no manifest lists have had their time."""
    return now - manifest.floor_at > settings.erase_seconds / 4


def fold_due(manifest: Manifest, state: ViewState, settings: Settings, now: float) -> bool:
    """Whether a retraction has waited long enough among the deltas, or a merge that is due has to wait for one."""
    live = [delta for delta in manifest.deltas if delta.added > state.folded]
    if any(delta.retracted_at and now - delta.retracted_at > settings.erase_seconds / 4 for delta in live):
        return True
    return bool(live) and _folded_too_little(live, runs_to_erase(state, settings, now))


def _folded_too_little(live: Iterable[Delta], runs: list[Run]) -> bool:
    return any(delta.added <= run.through for delta in live for run in runs)


def runs_to_erase(state: ViewState, settings: Settings, now: float) -> list[Run]:
    """The runs whose retractions are due, with every other one that reaches as far up in keys and back in history; none
    when nothing is due.

    What a merge that ran out of time has finished lies below the rest of its inputs and isn't merged again, so a view
    of any size gets done.
    """
    due = [run for run in state.runs if run.retracted_at and now - run.retracted_at > settings.erase_seconds / 2]
    if not due:
        return []
    low, through = min(map(_lowest, due)), max(run.through for run in due)
    while True:  # at most once a run
        chosen = [run for run in state.runs if run.since <= through and run.files[-1].last >= low]
        reach = max(run.through for run in chosen)
        if reach == through:
            return chosen
        through = reach


class Scope(NamedTuple):
    """Which part of a view's history a merge holds.

    `since`, `through`, `retracted_at`: as its output has them. From the sort key `whole_from` on (None: nowhere) its
    inputs add up to the view as it was at generation `through`, and all else of the view is later.
    """

    since: int
    through: int
    retracted_at: float
    whole_from: str | None


def scope(manifest: Manifest, state: ViewState, inputs: list[Run]) -> Scope:
    """The scope of a merge of these runs of a view. What is committed while it goes on is later, so it stays true."""
    since, through = min(run.since for run in inputs), max(run.through for run in inputs)
    whole_from = _whole_from(manifest, state, inputs, through)
    partial = [run for run in inputs if whole_from is None or _lowest(run) < whole_from]
    return Scope(since, through, oldest(run.retracted_at for run in partial), whole_from)


def _whole_from(manifest: Manifest, state: ViewState, inputs: list[Run], through: int) -> str | None:
    if _folded_too_little((delta for delta in manifest.deltas if delta.added > state.folded), inputs):
        return None
    merged = {run.id for run in inputs}
    others = [run.files[-1].last for run in state.runs if run.id not in merged and run.since <= through]
    return max(others) + "\x00" if others else ""


def _lowest(run: Run) -> str:
    """No key of the run that isn't merged elsewhere is below it."""
    return run.files[0].first if run.start is None else max(run.start, run.files[0].first)
