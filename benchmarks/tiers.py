"""Size tiers far past what fits here: the real policy on runs that are only numbers. `python -m benchmarks.tiers`.

Which runs are merged, the engine's own `choose_runs` decides; how long a merge takes is modelled by the measured rate
of one core. Changes with what a merge costs.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import msgspec

from bucketdex.engine import Settings
from bucketdex.engine.policy import choose_runs
from bucketdex.storage import Run, ViewState

MERGE_ROWS_S = 300_000  # of one core; measured by `python -m benchmarks`
BUDGET_S = 600.0  # of one invocation


class Grown(NamedTuple):
    """A view at some size. Averages are over all commits until then."""

    rows: int
    runs: int
    runs_max: int
    runs_mean: float
    rewritten: float  # times that a row was written by merges
    behind: bool  # whether merging took longer than the arrivals


def grow(rows_a_commit: int, rows: int, rows_s: float, settings: Settings = Settings()) -> list[Grown]:
    """A view into which runs of so many rows arrive, sampled at each power of ten.

    One core merges. A merge that outlasts its invocation leaves its output so far and the rests of its inputs, of which
    the policy chooses anew, as the engine does.
    """
    state = ViewState(name="v", kind="index", hash="0", folded=0, runs=[])
    arrived = merged = names = commits = 0
    runs_sum = runs_max = 0
    free_at = 0.0
    out = []
    goal = 10 * rows_a_commit
    while arrived < rows:
        arrived += rows_a_commit
        commits += 1
        now = arrived / rows_s
        names += 1
        state.runs.append(_run(names, rows_a_commit))
        while free_at <= now and (chosen := choose_runs(state, settings, "tiered")):
            total = sum(run.rows for run in chosen)
            done = min(total, int(MERGE_ROWS_S * BUDGET_S))
            kept = [run for run in state.runs if run not in chosen]
            names += 1
            kept.append(_run(names, done))
            if done < total:
                rests = (int(run.rows * (1 - done / total)) for run in chosen)
                for rest in rests:
                    names += 1
                    kept.append(_run(names, max(1, rest)))
            state.runs = kept
            merged += done
            free_at = max(free_at, now) + done / MERGE_ROWS_S
        runs_sum += len(state.runs)
        runs_max = max(runs_max, len(state.runs))
        if arrived >= goal:
            behind = free_at > now + BUDGET_S
            out.append(Grown(arrived, len(state.runs), runs_max, runs_sum / commits, merged / arrived, behind))
            goal *= 10
    return out


def _run(name: int, rows: int) -> Run:
    return Run(id=f"{name:012}", files=[], rows=rows, weight=rows, bytes=19 * rows, added=name)
