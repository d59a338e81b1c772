"""Which runs of a view a compaction merges. Size-tiered, and it weighs retractions; decided from the manifest alone."""

from __future__ import annotations

from typing import Literal

from bucketdex.engine.erasure import fold_due, runs_to_erase
from bucketdex.engine.settings import Settings
from bucketdex.storage import Manifest, Run, ViewState

Mode = Literal["tiered", "tidy", "full"]


def unfolded_debt(manifest: Manifest, state: ViewState, settings: Settings, now: float) -> bool:
    """Whether the live deltas of a view have passed a bound, in size or in age."""
    live = [delta for delta in manifest.deltas if delta.added > state.folded]
    return (
        len(live) > settings.debt_deltas
        or sum(delta.rows for delta in live) > settings.debt_rows
        or sum(len(delta.inline) for delta in live) > settings.debt_bytes
        or fold_due(manifest, state, settings, now)
    )


def fold_end(manifest: Manifest, state: ViewState, settings: Settings) -> int:
    """The generation that the next fold of a view reaches: the newest, or after a long pause as far as memory goes."""
    end, rows = state.folded, 0
    for delta in manifest.deltas:
        if delta.added > state.folded:
            rows += delta.rows
            if rows > settings.flush_rows and end > state.folded:
                return end
            end = delta.added
    return manifest.generation


def choose_runs(state: ViewState, settings: Settings, mode: Mode, now: float) -> list[Run]:
    """The runs to merge into one; none when the view is in good shape. In any mode those first whose retractions are
    due.

    tiered: four of one size class and all smaller ones, or everything when too many rows are retractions: each row is
    rewritten about once a class.
    tidy: leaves at most two runs, the smaller less than a quarter of the larger. full: leaves one, without retractions.
    """
    due = runs_to_erase(state, settings, now)
    if due:
        return due
    runs = sorted(state.runs, key=lambda run: (run.rows, run.id))
    if len(runs) < 2:
        return [run for run in runs if mode == "full" and run.retracted_at]
    if mode == "tiered" and (rests := [run for run in runs if run.start is not None]):
        return _before_rests(state, runs, rests, settings) or rests
    total = sum(run.rows for run in runs)
    retracted = sum(run.retracted for run in runs)
    if mode == "full" or retracted > settings.retracted_share * total:
        return runs
    if mode == "tidy":
        rest = runs[:-1]
        if sum(run.rows for run in rest) * settings.tier_factor >= runs[-1].rows:
            return runs
        return rest if len(rest) > 1 else []
    return _tiered(runs, settings)


def finished_below(state: ViewState, rests: list[Run]) -> Run | None:
    """The run that an interrupted merge of these has come to, of which the rest of the merge makes more: one that ends
    below where all of them begin. None when one of them was never begun.
    """
    starts = [run.start for run in rests if run.start is not None]
    if len(starts) < len(rests):
        return None
    below = [run for run in state.runs if run.start is None and run.files[-1].last < min(starts)]
    return max(below, key=lambda run: (run.rows, run.id), default=None)


def _before_rests(state: ViewState, runs: list[Run], rests: list[Run], settings: Settings) -> list[Run]:
    """What is merged before an interrupted merge goes on: younger runs, while they are fewer rows. What that merge has
    finished is left alone: were it an input, each turn would write the same keys again and never come further.
    """
    finished = finished_below(state, rests)
    younger = _tiered([run for run in runs if run not in rests and run != finished], settings)
    return younger if sum(run.rows for run in younger) < sum(run.rows for run in rests) else []


def _tiered(runs: list[Run], settings: Settings) -> list[Run]:
    classes: dict[int, int] = {}
    for run in runs:
        size = _class_of(run, settings)
        classes[size] = classes.get(size, 0) + 1
    full = [size for size, count in classes.items() if count >= settings.tier_runs]
    if not full:
        return []
    return [run for run in runs if _class_of(run, settings) <= max(full)]


def _class_of(run: Run, settings: Settings) -> int:
    """The number of times that the factor goes into the run's rows."""
    size, rows = 0, run.rows
    while rows >= settings.tier_factor:
        rows //= settings.tier_factor
        size += 1
    return size
