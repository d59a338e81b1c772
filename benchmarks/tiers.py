"""Size tiers far past what fits here: `python -m benchmarks tiers`. Changes with what a merge costs.

The engine's own policy decides, on runs that are only numbers: how often a row is rewritten is counted. Hours and
dollars are modelled by the rates and prices below.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.cost import GET, LAMBDA_GB, LAMBDA_GB_SECOND, PUT, STORED_GB_MONTH
from benchmarks.figures import Figure
from bucketdex.engine import Settings
from bucketdex.engine.policy import choose_runs
from bucketdex.storage import Run, ViewState

CORE_ROWS_S = 300_000  # that one core merges; measured by `python -m benchmarks`
ROWS_A_GET = 200  # of a merge: a block; counted
ROUND_S = 0.030  # of 32 GETs at once, the slowest of which takes so long; a merge reads, then works
MERGE_ROWS_S = 1 / (1 / CORE_ROWS_S + ROUND_S / (32 * ROWS_A_GET))
BYTES_A_ROW = 27  # of an index of the benchmark's orders, compressed; measured
FILE_BYTES = 16 * 2**20
VIEWS = 5  # with a line a row, of objects of one row: objects, records, three indexes
COMMITS = ((8_000, 6), (8_000, 7), (8_000, 8), (100_000, 9), (1_000_000, 10), (10_000_000, 11))


class Grown(NamedTuple):
    """A view at some size. `runs`: the average over its history; `rewritten`: how often merges wrote a row."""

    rows: int
    runs: float
    runs_max: int
    rewritten: float


def grow(commit_rows: int, rows: int) -> Grown:
    """A view into which runs of so many rows come one after the other, merged as soon as they are due."""
    settings = Settings()
    state = ViewState(name="v", kind="index", hash="0", folded=0, runs=[])
    merged = names = runs_sum = runs_max = 0
    commits = rows // commit_rows
    for _ in range(commits):
        names += 1
        state.runs.append(_run(names, commit_rows))
        runs_max = max(runs_max, len(state.runs))
        while chosen := choose_runs(state, settings, "tiered", 0.0):
            names += 1
            taken = {run.id for run in chosen}
            output = _run(names, sum(run.rows for run in chosen))
            state.runs = [run for run in state.runs if run.id not in taken] + [output]
            merged += output.rows
        runs_sum += len(state.runs)
    return Grown(commits * commit_rows, runs_sum / commits, runs_max, merged / (commits * commit_rows))


def _run(name: int, rows: int) -> Run:
    return Run(id=f"{name:012}", files=[], rows=rows, weight=rows, bytes=BYTES_A_ROW * rows, added=name)


def figures() -> Iterator[Figure]:
    """One of them, in a second."""
    it = grow(8_000, 10**8)
    yield Figure(
        "times that merges write a row, 10^8 rows", "", f"{it.rewritten:.1f}; runs of a view: {it.runs:.1f} (mean)"
    )


def lines() -> Iterator[str]:
    """The table, line by line."""
    heads = (
        "rows",
        "rows a run",
        "runs, mean",
        "runs, most",
        "rewritten",
        "core hours",
        "rows/s",
        "compacting",
        "of it GETs",
        "stored a month",
    )
    yield "".join(head.rjust(15) for head in heads)
    for commit_rows, power in COMMITS:
        it = grow(commit_rows, 10**power)
        hours = it.rows * it.rewritten * VIEWS / MERGE_ROWS_S / 3600
        written = it.rows * it.rewritten * VIEWS * BYTES_A_ROW
        requests = written / FILE_BYTES * PUT + written / BYTES_A_ROW / ROWS_A_GET * GET
        dollars = hours * 3600 * LAMBDA_GB * LAMBDA_GB_SECOND + requests
        stored = it.rows * BYTES_A_ROW * VIEWS / 1e9 * STORED_GB_MONTH
        cells = (
            f"10^{power}", f"{commit_rows:,}", f"{it.runs:.1f}", f"{it.runs_max}", f"{it.rewritten:.1f}",
            f"{hours:,.1f}", f"{MERGE_ROWS_S / it.rewritten:,.0f}", f"${dollars:,.2f}",
            f"{requests / dollars:.0%}", f"${stored:,.2f}",
        )  # fmt: skip
        yield "".join(cell.rjust(15) for cell in cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks tiers", description=__doc__).parse_args(arguments)
    for text in lines():
        print(text, flush=True)


if __name__ == "__main__":
    main()
